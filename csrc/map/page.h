/* page.h - descriptors of 64 KiB pages, and how an address finds its own.
 *
 * Why:   blocks carry no header, so that 56 bytes cost 56 bytes and a stray write past a block
 *        cannot corrupt the allocator's structure of its neighbour page.
 * Owns:  struct page, struct chunk, the region directory (read side).
 * Not:   who takes pages (chunk.c), what is in them (pool/).
 * Locks: look-up takes none: a region is published once, complete, and never moves or goes away.
 *        A page's fields belong to its owner; those that others read are relaxed atomics.
 * Start: haki_page_of().
 *
 *   region  |<------------------------- 256 GiB of address space ------------------------->|
 *   chunk   |  4 MiB   |  4 MiB   | ...                                 one struct chunk each
 *   page    |64K|64K|..|                                                one struct page each
 *
 * address -> page is a subtraction, a range check, a shift and an addition; the descriptor array
 * lies outside of the region. */
#ifndef HAK_PAGE_H
#define HAK_PAGE_H

#include "base/debug.h"
#include "base/list.h"

enum {
  HAK_PAGE_SHIFT = 16,
  HAK_PAGE_SIZE = 1 << HAK_PAGE_SHIFT,
  HAK_CHUNK_SHIFT = 22,
  HAK_CHUNK_SIZE = 1 << HAK_CHUNK_SHIFT,
  HAK_CHUNK_PAGES = HAK_CHUNK_SIZE / HAK_PAGE_SIZE,
  HAK_UNIT = 4096, /* commit and charge are counted in these */
  HAK_UNITS_PER_PAGE = HAK_PAGE_SIZE / HAK_UNIT,
  HAK_CHUNK_UNITS = HAK_CHUNK_SIZE / HAK_UNIT,
  HAK_REGIONS_MAX = 64,
};

struct haki_heap;
struct haki_l25_cache;

enum page_kind {
  HAK_PAGE_FREE = 0, /* in no use; `was_large` remembers a freed large block's start */
  HAK_PAGE_SLAB,     /* first page of a slab */
  HAK_PAGE_INNER,    /* further page of a slab; `back` pages after the first */
  HAK_PAGE_NURSERY,  /* shared by young Lua arenas */
  HAK_PAGE_RUN,      /* first page of a large block inside one chunk */
  HAK_PAGE_HUGE,     /* first page of a large block made of whole chunks */
  HAK_PAGE_POOLED,   /* first page of a large block that waits in a pool */
  HAK_PAGE_CACHED,   /* first page of a huge block that waits in the cache of big blocks */
  HAK_PAGE_RETAINED, /* empty, kept by an arena after a reset */
};

enum { HAK_OWNER_BINNED = 1 }; /* in page->owner: what the owner frees here goes into its bin */

enum page_flag {
  HAK_PAGE_LISTED = 1,    /* in its heap's list of available slabs of the class */
  HAK_PAGE_KEPT = 4,      /* empty, counted among the slabs kept so */
  HAK_PAGE_WAS_LARGE = 2, /* on a free page: a large block started here and was freed */
  HAK_PAGE_IMAGE = 8,     /* in its arena's image: stays the arena's, whatever is freed in it */
  HAK_PAGE_GONE = 16,     /* large, in the image: freed, and there again after a restore */
};

/* One cache line; the upper half is what a free touches.
 * INV page-1: live + held == carved - length(free) - length(remote list), blocks in bins are live.
 * INV page-2: held != 0 only on a full page, which is then not listed. */
struct page {
  union {
    _Atomic(struct haki_heap *) owner; /* slab; NULL for others but runs. The low bit is a mark */
    _Atomic(struct haki_l25_cache *) home; /* run: the cache it comes back to; NULL: none */
  };
  union {
    void *free;     /* slab: blocks freed by the owner */
    size_t size;    /* run, huge: bytes asked for, rounded to HAK_UNIT */
    uintptr_t site; /* second page of a cached huge block: who freed it */
  };
  union {
    struct {
      hak_live_t live; /* blocks handed out; 0 or below calls for the slow path */
      union {
        _Atomic(uint32_t) held; /* full: the part of the count that `live` does not show */
        uint32_t hash;          /* cached huge block: of class and site */
      };
    };
    struct page **before; /* second page of a cached huge block: what points to it in the bucket */
  };
  union {
    _Atomic(uintptr_t) remote;          /* slab: blocks freed by others | HAK_REMOTE_QUEUED */
    _Atomic(struct haki_large *) large; /* run, huge: whose block */
    uint64_t since;                     /* second page of a cached huge block: when it came */
  };
  _Atomic(uint8_t) kind, cls;
  uint8_t back; /* pages from the slab's first one */
  _Atomic(uint8_t) flags;
  _Atomic(uint16_t) touched; /* units from the start that may hold memory, used or not; in a huge
                              * block the first page of each chunk speaks for the chunk */
  _Atomic(uint16_t) carved;  /* slab: blocks carved so far */
  hak_list link;             /* slab: available or full list; large, retained: the arena's list;
                              * cached: class list, on the second page age list */
  union {
    struct page *inbound_next;   /* slab: link in the owner's inbound stack */
    struct nursery_units *units; /* nursery: who has which piece */
    size_t length;               /* run: pages, huge: chunks */
    struct page *chain;          /* second page of a cached huge block: next in the bucket */
  };
};
_Static_assert(sizeof(struct page) == 64, "a page descriptor is one cache line");

enum chunk_kind {
  HAK_CHUNK_NONE = 0, /* in no use */
  HAK_CHUNK_SPLIT,    /* split into pages */
  HAK_CHUNK_HUGE,     /* first chunk of a huge block */
  HAK_CHUNK_BODY,     /* further chunk of a huge block */
  HAK_CHUNK_SPARE,    /* in no use, but still holds memory of a huge block that was freed */
};

/* Guarded by the CHUNK lock.
 * INV chunk-1: dirty is a subset of free; a page that is free and not dirty reads as zero, but
 *              where `lazy`: then as far as `touched` says it may not.
 * INV chunk-2: a SPLIT chunk is in exactly one bucket, that of its longest free run.
 * INV chunk-3: a SPLIT chunk with dirty pages, and a SPARE one, is queued. */
struct chunk {
  _Alignas(HAK_CACHE_LINE) hak_list link;
  uint64_t free;            /* bit i: page i is free */
  uint64_t dirty;           /* of those: holds memory */
  uint64_t touched;         /* pages that were ever in use: tells purged from never committed */
  uint64_t since;           /* coarse time at which it came to hold free memory */
  struct chunk *next_dirty; /* in the queue of chunks that may be purged */
  uint16_t spare;           /* SPARE: units from the start that hold memory */
  uint8_t bucket;
  bool queued;     /* in that queue */
  bool committed;  /* readable and writable */
  bool moved;      /* its mapping was moved here: made fresh when purged */
  bool huge_asked; /* huge pages asked for */
  bool lazy;       /* MADV_FREE may have left memory in pages that are not dirty */
};
_Static_assert(sizeof(struct chunk) == 64, "chunk descriptors do not straddle cache lines");

/* Published complete, then counted; never changed or removed after that, but for what the CHUNK
 * lock guards. */
struct haki_region {
  uintptr_t base;
  size_t span;
  struct page *pages;
  struct chunk *chunks;
  _Atomic(uint8_t) *kind; /* enum chunk_kind, per chunk */
  uint32_t chunk_count;
  _Atomic(uint32_t) fresh; /* chunks from here on were never used */
  uint32_t described;      /* descriptors of pages from here on are zero and read-only; CHUNK */
  uint64_t *used;          /* bit per chunk; CHUNK. The last word is full: a sentinel */
  uint32_t lowest;         /* no unused chunk below this one */
#if HAK_HARDENED
  _Atomic(uint8_t) *out; /* hardened.h: one bit per 8 bytes */
#endif
};

HAK_HIDDEN extern struct haki_region haki_regions[HAK_REGIONS_MAX];
HAK_HIDDEN extern _Atomic(uint32_t) haki_region_count; /* release: pairs with haki_region_of() */

HAK_INLINE struct haki_region *haki_region_of(const void *p) {
  uint32_t n = atomic_load_explicit(&haki_region_count, memory_order_acquire);
  for (uint32_t i = 0; i < n; i++)
    if ((uintptr_t)p - haki_regions[i].base < haki_regions[i].span) return &haki_regions[i];
  return NULL;
}

/* The descriptor of the page that holds p; NULL: outside of all regions. Any address may be asked. */
HAK_INLINE struct page *haki_page_of(const void *p) {
  struct haki_region *r = haki_region_of(p);
  return r ? &r->pages[((uintptr_t)p - r->base) >> HAK_PAGE_SHIFT] : NULL;
}

HAK_INLINE struct haki_region *haki_page_region(const struct page *page) {
  struct haki_region *r = haki_regions;
  while ((size_t)((const char *)page - (const char *)r->pages) >=
         (r->span >> HAK_PAGE_SHIFT) * sizeof(struct page))
    r++;
  return r;
}

HAK_INLINE void *haki_page_start(const struct page *page) {
  struct haki_region *r = haki_page_region(page);
  return (void *)(r->base + ((uintptr_t)(page - r->pages) << HAK_PAGE_SHIFT));
}

HAK_INLINE unsigned haki_page_kind(const struct page *p) {
  return atomic_load_explicit(&((struct page *)p)->kind, memory_order_relaxed);
}
/* The owner with its mark: what fast paths compare. */
HAK_INLINE uintptr_t haki_page_tag(const struct page *p) {
  return (uintptr_t)atomic_load_explicit(&((struct page *)p)->owner, memory_order_relaxed);
}
HAK_INLINE struct haki_heap *haki_page_owner(const struct page *p) {
  return (struct haki_heap *)(haki_page_tag(p) & ~(uintptr_t)HAK_OWNER_BINNED);
}
/* For those who look into the heap: acquire, pairs with move_slab(), which may hand a slab to a heap
 * that the reader has never seen. */
HAK_INLINE struct haki_heap *haki_page_owner_acquire(const struct page *p) {
  uintptr_t tag = (uintptr_t)atomic_load_explicit(&((struct page *)p)->owner, memory_order_acquire);
  return (struct haki_heap *)(tag & ~(uintptr_t)HAK_OWNER_BINNED);
}
HAK_INLINE unsigned haki_page_class(const struct page *p) {
  return atomic_load_explicit(&((struct page *)p)->cls, memory_order_relaxed);
}
/* Sets a field that others may read meanwhile. */
#define HAK_PAGE_SET(page, field, value) \
  atomic_store_explicit(&(page)->field, (value), memory_order_relaxed)
#define HAK_PAGE_GET(page, field) atomic_load_explicit(&(page)->field, memory_order_relaxed)

#endif

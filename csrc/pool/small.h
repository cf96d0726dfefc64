/* small.h - slabs: blocks up to 32 KiB, by size class, for one owner at a time.
 *
 * Why:   the fast path pops a list and touches nothing but the block. Blocks of one bin come from
 *        one page, so that what is allocated together lies together (a global free list scatters,
 *        and a collector's sweep pays for it).
 * Owns:  a heap's bins, slabs and inbound stack.   Not: which thread has which heap (heap/).
 * Locks: none. Everything in a heap belongs to its owner, but `inbound` and page->remote.
 * Start: haki_heap_pop(), haki_heap_push().
 *
 *   bin[c] -> block -> block -> NULL       popped by allocations; counted as live in their page. In
 *                                          threads' heaps blocks above 1 KiB come back here, a few
 *   slabs->available[c] <-> page <-> page  have blocks freed by the owner, or room to carve
 *   slabs->full <-> page <-> page          nothing to take: wait until enough has been freed
 *   inbound -> page -> page                have blocks freed by other threads
 *
 * A refill moves a page's whole free list into the bin. A free pushes onto the page and counts
 * `live` down; reaching zero is the one test that leads to the rare cases: the page is empty, or
 * it was full and is worth listing again, or a block was freed twice. */
#ifndef HAK_SMALL_H
#define HAK_SMALL_H

#include "map/page.h"
#include "map/quota.h"
#include "map/sizeclass.h"

enum { HAK_REMOTE_QUEUED = 1 }; /* in page->remote: somebody has queued, or will queue, the page */

/* Pages that a private arena keeps for itself after a reset; charged by what they hold. */
struct haki_retained {
  hak_list pages;
  hak_cell bytes;
};

struct haki_slabs {
  hak_list available[HAK_CLASSES];
  hak_list full;
  uint32_t empty; /* slabs without live blocks that are kept */
};

#define HAK_NO_PIECE UINT32_MAX

struct haki_nursery {
  char *cur, *end; /* bump range */
  uint32_t pieces; /* newest piece, named as nursery.c does; HAK_NO_PIECE: none */
  uint32_t slot;   /* whose pieces these are */
  uint32_t limit;  /* bytes that may be taken */
  bool grown;      /* the heap has slabs: the nursery is not reused any more */
  hak_cell bytes;  /* in pieces, charged */
  hak_cell used;   /* bytes and blocks handed out of them, those in bins included */
  hak_cell blocks;
};

/* The first fields are all that the fast paths read. */
struct haki_heap {
  void *bin[HAK_CLASSES];
  uintptr_t base; /* of the first region, copied: no global to load, and none to race with */
  size_t span;    /* 0 in the empty heap: every look-up misses */
  struct page *pages;
  /* What a free that counts to zero calls: a function of the copy of hakmem that owns the state,
   * whichever copy frees. */
  void (*low)(struct haki_heap *h, struct page *page);
  struct haki_slabs *slabs; /* NULL until the first slab */
  struct haki_quota *quota;
  _Atomic(struct hak_arena *) arena; /* NULL once the arena is destroyed */
  _Atomic(uint64_t) epoch;           /* raised after each change of arena */
  struct haki_retained *retained;    /* private arenas: empty pages kept by a reset */
  struct haki_nursery nursery;
  _Atomic(uintptr_t) thread; /* who was last seen in a slow path */
  hak_cell refills, fresh, retired, remote_frees, adopted;
  int16_t room[HAK_CLASSES - HAK_CLASS_MEDIUM]; /* how many more frees the bins of threads take */
  hak_cell lowest, highest; /* page descriptors of its slabs lie between: where statistics look */
  _Alignas(HAK_CACHE_LINE) _Atomic(struct page *) inbound; /* written by other threads */
  /* of heap/: */
  hak_list link;                    /* the arena's heaps or orphans; guarded by ARENA */
  struct haki_heap *next_of_thread; /* the thread's own */
  struct haki_l25_cache *l25;       /* large blocks; NULL until the first */
  bool is_private;                  /* frees need no look at who the thread is */
};

HAK_INLINE struct hak_arena *haki_heap_arena(const struct haki_heap *h) {
  return atomic_load_explicit(&((struct haki_heap *)h)->arena, memory_order_relaxed);
}

/* Owner and arena of a slab that any thread may look at. Meanwhile the slab may be adopted and its
 * former heap's descriptor be pooled, or serve another arena: then the owner has changed too. It may
 * even have come back and adopted the slab: then the epoch has changed. spec/models/owner.pml. */
HAK_INLINE struct haki_heap *haki_slab_owner(const struct page *page, struct hak_arena **arena) {
  for (;;) {
    struct haki_heap *h = haki_page_owner_acquire(page);
    *arena = NULL;
    if (HAK_UNLIKELY(h == NULL)) return NULL;
    uint64_t epoch = atomic_load_explicit(&h->epoch, memory_order_acquire);
    /* acquire: pairs with haki_heap_set_arena(), so that the second look sees the new owner */
    *arena = atomic_load_explicit(&h->arena, memory_order_acquire);
    if (HAK_LIKELY(h == haki_page_owner_acquire(page) &&
                   atomic_load_explicit(&h->epoch, memory_order_relaxed) == epoch))
      return h;
  }
}
/* release: pairs with haki_slab_owner(). pre: h has no slab, or the arena none that is in use. */
HAK_INLINE void haki_heap_set_arena(struct haki_heap *h, struct hak_arena *a) {
  uint64_t epoch = atomic_load_explicit(&h->epoch, memory_order_relaxed);
  atomic_store_explicit(&h->arena, a, memory_order_release);
  atomic_store_explicit(&h->epoch, epoch + 1, memory_order_release);
}

/* Pops a block of class c, or NULL: refill. */
HAK_INLINE void *haki_heap_pop(struct haki_heap *h, unsigned c) {
  void **b = h->bin[c];
  if (HAK_UNLIKELY(b == NULL)) return NULL;
  h->bin[c] = *b;
  return b;
}

/* The same for classes above HAK_TABLE_MAX, whose bins take frees. */
HAK_INLINE void *haki_heap_pop_medium(struct haki_heap *h, unsigned c) {
  void **b = h->bin[c];
  if (HAK_UNLIKELY(b == NULL)) return NULL;
  h->bin[c] = *b;
  h->room[c - HAK_CLASS_MEDIUM]++;
  return b;
}
HAK_INLINE void *haki_heap_pop_any(struct haki_heap *h, unsigned c) {
  return c < HAK_CLASS_MEDIUM ? haki_heap_pop(h, c) : haki_heap_pop_medium(h, c);
}

/* Puts a block that no page counts as free in front of the bin. */
HAK_INLINE void haki_heap_unpop(struct haki_heap *h, unsigned c, void *p) {
  *(void **)p = h->bin[c];
  h->bin[c] = p;
}

/* The descriptor of p if it lies in the first region, else NULL. */
HAK_INLINE struct page *haki_heap_page_of(const struct haki_heap *h, const void *p) {
  uintptr_t offset = (uintptr_t)p - h->base;
  if (HAK_UNLIKELY(offset >= h->span)) return NULL;
  return (struct page *)((char *)h->pages + ((offset >> (HAK_PAGE_SHIFT - 6)) & ~(uintptr_t)63));
}

/* Frees a block of the owner's own page. */
HAK_INLINE void haki_heap_push(struct haki_heap *h, struct page *page, void *p) {
  *(void **)p = page->free;
  page->free = p;
  if (HAK_UNLIKELY(haki_live_drop(&page->live))) h->low(h, page);
}

/* Are the blocks of this class that a heap frees put into its bin? A private heap's are not: what a
 * collector frees should lie together, and count at once. */
HAK_INLINE bool haki_heap_bins(const struct haki_heap *h, unsigned c) {
  return c >= HAK_CLASS_MEDIUM && !h->is_private;
}

/* Frees a block of a binned slab of the owner's. False: an odd one, nothing was done. */
HAK_INLINE bool haki_heap_put(struct haki_heap *h, struct page *page, void *p) {
  unsigned c = haki_page_class(page);
  int16_t *room = &h->room[c - HAK_CLASS_MEDIUM];
  if (HAK_UNLIKELY(p == h->bin[c])) return false;
  if (HAK_LIKELY(*room > 0)) {
    --*room;
    *(void **)p = h->bin[c];
    h->bin[c] = p;
    return true;
  }
  page -= page->back;
  if (HAK_UNLIKELY(p == page->free)) return false;
  haki_heap_push(h, page, p);
  return true;
}

/* First page of the slab that `page` is part of. */
HAK_INLINE struct page *haki_slab_head(struct page *page) {
  return haki_page_kind(page) == HAK_PAGE_INNER ? page - page->back : page;
}
HAK_INLINE size_t haki_slab_pages(unsigned c) { return haki_class_size(c) <= 8192 ? 1 : 4; }
/* Bytes committed, and charged, in a slab. */
HAK_INLINE size_t haki_slab_commit(const struct page *p) {
  return haki_align_up(HAK_PAGE_GET((struct page *)p, carved) * haki_class_size(haki_page_class(p)),
                       HAK_UNIT);
}
HAK_INLINE size_t haki_slab_live(const struct page *p) {
  return (size_t)HAK_PAGE_GET((struct page *)p, live) + HAK_PAGE_GET((struct page *)p, held);
}

void haki_heap_init(struct haki_heap *h, struct hak_arena *arena, struct haki_quota *quota);
void haki_heap_empty_bins(struct haki_heap *h); /* forgets what is in them */
int16_t haki_heap_bin_room(unsigned c);         /* what `room` begins with */
/* A block of class c; fills the bin on the way. NULL: the quota or the system has no more. */
void *haki_heap_refill(struct haki_heap *h, unsigned c);
/* Called before a fresh slab is taken: may hand over slabs of exited threads. True: try again.
 * Set once by heap/, which knows the arena. */
extern bool (*haki_heap_adopt)(struct haki_heap *h);
/* Frees p from a thread that does not own its page: one CAS. */
void haki_page_push_remote(struct page *page, void *p);
/* Takes what other threads have freed. False: nothing was there. */
bool haki_heap_drain(struct haki_heap *h);
/* Puts the blocks in the bins back into their pages. */
void haki_heap_flush(struct haki_heap *h);
/* Flushes, drains, gives empty slabs back. Returns the bytes uncharged. */
size_t haki_heap_trim(struct haki_heap *h);
/* Moves up to `most` slabs of a heap without a thread. pre: the caller owns both. */
size_t haki_heap_move_slabs(struct haki_heap *from, struct haki_heap *to, size_t most);
/* True when no slab is left. */
bool haki_heap_is_empty(const struct haki_heap *h);
/* Every block dies. One-page slabs are retained up to `most` bytes in all, the rest goes back to
 * the chunks. */
void haki_heap_drop(struct haki_heap *h, size_t most);
struct page *haki_retained_take(struct haki_retained *r, struct haki_quota *quota);
void haki_retained_release(struct haki_retained *r, struct haki_quota *quota);
void haki_slabs_free(struct haki_heap *h); /* the table itself; pre: empty */

/* Between small.c and slabs.c. */
bool haki_slabs_ensure(struct haki_heap *h);
void haki_heap_note_slab(struct haki_heap *h, const struct page *p); /* for `lowest`, `highest` */
void haki_slab_set_owner(struct page *p, struct haki_heap *h);
void haki_slab_list_available(struct haki_heap *h, struct page *p);
void haki_slab_unkeep(struct haki_heap *h, struct page *p);
void haki_slab_retire(struct haki_heap *h, struct page *p);
void haki_slab_release(struct page *page);      /* a slab or retained page back to the chunks */
void haki_slab_note_touched(struct page *page); /* as much as is carved may hold old data */
/* A slab without its list dies, as haki_heap_drop() has it. */
void haki_slab_drop(struct haki_heap *h, struct page *p, size_t most);
HAK_INLINE bool haki_slab_is_listed(struct page *p) {
  return (HAK_PAGE_GET(p, flags) & HAK_PAGE_LISTED) != 0;
}
HAK_INLINE bool haki_slab_is_empty(struct page *p) {
  return haki_slab_live(p) == 0 && HAK_PAGE_GET(p, remote) == 0;
}

/* Blocks and bytes that sit in the bins of h, for statistics by its owner. */
void haki_heap_count_bins(struct haki_heap *h, size_t blocks[HAK_CLASSES], size_t *nursery_blocks,
                          size_t *nursery_bytes);
bool haki_heap_ok(struct haki_heap *h); /* INV page-1, page-2, list-1; audit */

#endif

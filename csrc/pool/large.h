/* large.h - blocks above the slab range: runs of pages in a chunk, or whole chunks.
 *
 * Why:   a large block is charged, found, grown and freed as one thing, whatever it is made of.
 *        Up to 1 MiB it comes from a pool (l25.h) when the thread has a cache there, above from the
 *        cache of big blocks (bigcache.h), else from the chunks.
 * Owns:  blocks in use: their charge, their counts, a private arena's list of them.
 * Locks: none.
 * Start: haki_large_alloc(). */
#ifndef HAK_LARGE_H
#define HAK_LARGE_H

#include "pool/l25.h"

struct haki_large {
  hak_list blocks; /* private arenas only: a shared one finds its blocks by their descriptors */
  struct haki_quota *quota;
  struct haki_large_cells cells; /* private; shared: of threads without a cache, atomic */
  bool shared;
  struct haki_large *lender;      /* private: whose cache of big blocks it may take from */
  _Atomic(struct haki_big *) big; /* shared: NULL until the first big block is freed */
  _Atomic(bool) making;           /* one thread makes it */
  struct haki_big_limits limits;
};

/* `lender`: NULL for a shared arena; a private one takes big blocks that wait there. */
void haki_large_init(struct haki_large *l, struct haki_quota *quota, struct haki_large *lender);

/* The hot way to a block of a shared arena; NULL: take haki_large_alloc(). `size`: above the slab
 * range, at most 1 MiB. */
void *haki_large_alloc_warm(struct haki_l25_cache *cache, size_t size);
/* The hot way back for one that came from this very cache; false: take haki_large_free(). */
bool haki_large_free_warm(struct haki_l25_cache *cache, struct page *p);

struct haki_large_request {
  size_t size, align; /* align: power of two, at most HAK_CHUNK_SIZE * 64 */
  uintptr_t site;     /* call site, 0: not known */
  bool zero;
};
/* A block; `cache` is the caller's in the pool of a shared arena, NULL: it has none. NULL: quota or
 * system. */
void *haki_large_alloc(struct haki_large *l, struct haki_l25_cache *cache,
                       const struct haki_large_request *r);
/* The large block's first page; aborts when p is not the start of one. `page` is p's own. */
struct page *haki_large_check(struct page *page, const void *p);
void haki_large_free(struct page *page, struct haki_l25_cache *cache);
/* The block at p with another size, contents kept: in place, or by moving page tables. NULL: cannot
 * without copying (or no memory); the block is as it was. A shrink never fails. */
void *haki_large_resize(struct page *page, void *p, size_t size, struct haki_l25_cache *cache);
/* One reallocation that had to copy: for the statistics. */
void haki_large_note_copy(struct haki_large *l, struct haki_l25_cache *cache);
/* Frees all blocks; `any`: a shared arena may have some. cost: then all descriptors of the process.
 * pre: nobody else uses the arena; its pool has forgotten its own. */
void haki_large_drop(struct haki_large *l, bool any);
/* An image has been taken: each block of a private arena in it stays where it is until it is dropped,
 * freed or not. What an earlier image has kept for its own sake goes. */
void haki_large_keep(struct haki_large *l);
bool haki_large_is_gone(const struct page *p); /* freed, and kept for the image's sake */
/* What came since is freed; what was freed since is there again. Contents are the caller's. */
void haki_large_restore(struct haki_large *l);
/* Big blocks that wait go to the chunks; bytes uncharged. */
size_t haki_large_trim(struct haki_large *l, struct haki_l25_cache *cache);
/* A limit of its cache of big blocks has changed. */
void haki_large_configure(struct haki_large *l);
/* Frees the cache of big blocks. pre: dropped. */
void haki_large_destroy(struct haki_large *l);
bool haki_large_ok(struct haki_large *l);

/* In a forked child: who was making the cache of big blocks is not here. */
HAK_INLINE void haki_large_after_fork(struct haki_large *l) {
  atomic_store_explicit(&l->making, false, memory_order_relaxed);
}

HAK_INLINE bool haki_page_is_large(const struct page *p) {
  unsigned kind = haki_page_kind(p);
  return kind == HAK_PAGE_RUN || kind == HAK_PAGE_HUGE;
}

#endif

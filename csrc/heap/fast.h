/* fast.h - the fast paths of malloc, free and realloc, for every door.
 * Why:   each door inlines them: no call, no jump between the user and the pop.
 * Owns:  nothing.
 * Locks: none.
 * Start: haki_fast_alloc(), haki_fast_free(), haki_fast_realloc(). */
#ifndef HAK_FAST_H
#define HAK_FAST_H

#include <string.h>

#include "map/hardened.h"
#include "pool/small.h"

/* A block of 16-byte classes from a bin of h; NULL: take the slow path. */
HAK_INLINE void *haki_fast_alloc(struct haki_heap *h, size_t size) {
  if (HAK_LIKELY(size <= HAK_TABLE_MAX))
    return haki_hardened_out(haki_heap_pop(h, haki_class_of_pairs[(size + 15) >> 4]));
  if (size <= HAK_SMALL_MAX)
    return haki_hardened_out(haki_heap_pop_medium(h, haki_class_of_large(size)));
  return NULL;
}

/* Frees a block of h's own slabs. False: it is none, or an odd one. */
HAK_INLINE bool haki_fast_free(struct haki_heap *h, void *p) {
  struct page *page = haki_heap_page_of(h, p);
  if (HAK_UNLIKELY(page == NULL)) return false;
  if (HAK_LIKELY(haki_page_tag(page) == (uintptr_t)h && p != page->free)) {
    haki_hardened_in(p);
    haki_heap_push(h, page, p);
    return true;
  }
  if (haki_page_tag(page) != ((uintptr_t)h | HAK_OWNER_BINNED) || HAK_HARDENED) return false;
  return haki_heap_put(h, page, p);
}

/* A slab's block of `has` bytes stays when at most half of it would lie idle. */
HAK_INLINE bool haki_fits(size_t has, size_t size) {
  return size <= has && (size >= has / 2 || has <= 16);
}

/* A block of h's own slabs with another size, in h. NULL: take the slow path, nothing has happened. */
HAK_INLINE void *haki_fast_realloc(struct haki_heap *h, void *p, size_t size) {
  struct page *page = haki_heap_page_of(h, p);
  if (HAK_HARDENED || page == NULL || haki_page_owner(page) != h || p == page->free) return NULL;
  size_t has = haki_class_size(haki_page_class(page));
  if (haki_fits(has, size)) return p;
  void *q = haki_fast_alloc(h, size);
  if (HAK_UNLIKELY(q == NULL)) return NULL;
  memcpy(q, p, has < size ? has : size);
  bool freed = haki_fast_free(h, p);
  HAK_CHECK(freed, "double free", p);
  return q;
}

#endif

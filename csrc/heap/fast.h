/* fast.h - the fast paths of malloc and free, for every door.
 * Why:   each door inlines them: no call, no jump between the user and the pop.
 * Owns:  nothing.
 * Locks: none.
 * Start: haki_fast_alloc(), haki_fast_free(). */
#ifndef HAK_FAST_H
#define HAK_FAST_H

#include "map/hardened.h"
#include "pool/small.h"

/* A block of 16-byte classes from a bin of h; NULL: take the slow path. */
HAK_INLINE void *haki_fast_alloc(struct haki_heap *h, size_t size) {
  if (HAK_LIKELY(size <= HAK_TABLE_MAX))
    return haki_hardened_out(haki_heap_pop(h, haki_class_of_pairs[(size + 15) >> 4]));
  if (size <= HAK_SMALL_MAX) return haki_hardened_out(haki_heap_pop(h, haki_class_of_large(size)));
  return NULL;
}

/* Frees a block of h's own slabs. False: it is none, or an odd one. */
HAK_INLINE bool haki_fast_free(struct haki_heap *h, void *p) {
  struct page *page = haki_heap_page_of(h, p);
  if (HAK_UNLIKELY(page == NULL || haki_page_owner(page) != h || p == page->free)) return false;
  haki_hardened_in(p);
  haki_heap_push(h, page, p);
  return true;
}

#endif

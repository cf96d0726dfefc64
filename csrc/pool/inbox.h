/* inbox.h - stack of large blocks with many writers and one taker at a time.
 * Why:   a block freed by another thread goes back to the cache it came from, or to a shard, with
 *        one CAS and no lock.
 * Owns:  the head; blocks are chained through page->link.next.
 * Not:   who may take (l25.c: the cache's thread, or who ages or trims; shard.c: the holder of the lock).
 * Locks: none. A taker takes everything with one exchange: no ABA.
 * Start: haki_inbox_push(), haki_inbox_take(). */
#ifndef HAK_INBOX_H
#define HAK_INBOX_H

#include "map/page.h"

typedef _Atomic(struct page *) haki_inbox;

HAK_INLINE struct page *haki_page_next(const struct page *p) {
  return p->link.next != NULL ? HAK_LIST_OF(p->link.next, struct page, link) : NULL;
}
HAK_INLINE void haki_page_set_next(struct page *p, struct page *next) {
  p->link.next = next != NULL ? &next->link : NULL;
}

/* True: it was empty. */
HAK_INLINE bool haki_inbox_push(haki_inbox *box, struct page *p) {
  struct page *top = atomic_load_explicit(box, memory_order_relaxed);
  do {
    haki_page_set_next(p, top);
    HAK_SCHED_POINT("inbox push");
    /* release: pairs with haki_inbox_take(); seq_cst: INV bell-1 */
  } while (!atomic_compare_exchange_weak_explicit(box, &top, p, memory_order_seq_cst,
                                                  memory_order_relaxed));
  return top == NULL;
}

/* The whole chain, newest first; NULL: empty. */
HAK_INLINE struct page *haki_inbox_take(haki_inbox *box) {
  if (atomic_load_explicit(box, memory_order_relaxed) == NULL) return NULL;
  return atomic_exchange_explicit(box, NULL, memory_order_acquire);
}

#endif

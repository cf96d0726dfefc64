/* ring.h - the hot tier of a thread's cache of large blocks.
 * Why:   what was freed last is warm: a few blocks per class come and go here without a list.
 * Owns:  its slots.   Not: the LIFO behind it (l25.c).
 * Locks: none; one thread.
 * Start: haki_ring_push(), haki_ring_pop(). */
#ifndef HAK_RING_H
#define HAK_RING_H

#include "map/page.h"

enum {
#if HAK_AUDIT_BUILD
  HAK_RING_SLOTS = 2,
#else
  HAK_RING_SLOTS = 4, /* power of two */
#endif
};

/* INV ring-1: the `n` newest blocks lie at newest, newest - 1, ... */
struct haki_ring {
  struct page *slot[HAK_RING_SLOTS];
  uint32_t newest, n;
};

HAK_INLINE bool haki_ring_is_full(const struct haki_ring *r) { return r->n == HAK_RING_SLOTS; }

/* pre: not full. */
HAK_INLINE void haki_ring_add(struct haki_ring *r, struct page *p) {
  r->newest = (r->newest + 1) & (HAK_RING_SLOTS - 1);
  r->slot[r->newest] = p;
  r->n++;
}

/* Takes the oldest. pre: not empty. */
HAK_INLINE struct page *haki_ring_oldest(struct haki_ring *r) {
  return r->slot[(r->newest - --r->n) & (HAK_RING_SLOTS - 1)];
}

/* Keeps p; what it pushes out, the oldest, or NULL. */
HAK_INLINE struct page *haki_ring_push(struct haki_ring *r, struct page *p) {
  struct page *oldest = haki_ring_is_full(r) ? haki_ring_oldest(r) : NULL;
  haki_ring_add(r, p);
  return oldest;
}

/* The newest block, which stays, or NULL. */
HAK_INLINE struct page *haki_ring_newest(const struct haki_ring *r) {
  return r->n != 0 ? r->slot[r->newest] : NULL;
}
/* pre: not empty. */
HAK_INLINE void haki_ring_drop(struct haki_ring *r) {
  r->newest = (r->newest - 1) & (HAK_RING_SLOTS - 1);
  r->n--;
}

/* The newest block, or NULL. */
HAK_INLINE struct page *haki_ring_pop(struct haki_ring *r) {
  struct page *p = haki_ring_newest(r);
  if (p != NULL) haki_ring_drop(r);
  return p;
}

#endif

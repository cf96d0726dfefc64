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

/* Keeps p; what it pushes out, the oldest, or NULL. */
HAK_INLINE struct page *haki_ring_push(struct haki_ring *r, struct page *p) {
  r->newest = (r->newest + 1) & (HAK_RING_SLOTS - 1);
  struct page *oldest = r->n == HAK_RING_SLOTS ? r->slot[r->newest] : NULL;
  r->n += r->n < HAK_RING_SLOTS;
  r->slot[r->newest] = p;
  return oldest;
}

/* The newest block, or NULL. */
HAK_INLINE struct page *haki_ring_pop(struct haki_ring *r) {
  if (r->n == 0) return NULL;
  struct page *p = r->slot[r->newest];
  r->newest = (r->newest - 1) & (HAK_RING_SLOTS - 1);
  r->n--;
  return p;
}

#endif

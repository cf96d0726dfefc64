/* bigrest.h - warm memory that lies behind what a big block in use was asked for.
 *
 * Why:   a cached block serves requests that are smaller than what it holds. When it is freed soon,
 *        what lies behind is warm for the next one; when it lives, that is memory nobody needs.
 * Owns:  the rest of each block in use: in the block's second descriptor, where cached blocks have
 *        nothing and slabs their `carved`.
 * Not:   its charge while the block is in use: the arena's, as for the block itself.
 * Locks: none for the owner. Who purges holds PURGE, so that no fork meets a rest half-way, and CHUNK
 *        for the moment in which it takes a rest: a chunk stays a huge block's under it.
 * Start: haki_rest_set(), haki_rest_age().
 *
 *   none --set, by the owner--> n units --claim, by the owner: realloc, free--> none
 *                                  |  ^
 *                     purger takes |  | not due, or cannot be purged
 *                                  v  |
 *                                 BUSY --purged--> none        an owner that meets BUSY waits
 */
#ifndef HAK_BIGREST_H
#define HAK_BIGREST_H

#include "pool/l25.h"

enum { HAK_REST_BUSY = UINT16_MAX, HAK_REST_SHARE = 16 };

/* Blocks of up to 64 MiB have one. */
#define HAK_BIG_REST(p) ((p)[1].carved)

/* A block becomes one in use: nothing of an earlier life of its descriptors is a rest. Before its kind
 * says HUGE, after its size was set. */
HAK_INLINE void haki_rest_set(struct page *p, size_t bytes) {
  if (bytes != 0) HAK_BIG_SINCE(p) = 0; /* dated by who ages it: no clock here */
  /* release: pairs with try_take() bigrest.c */
  atomic_store_explicit(&HAK_BIG_REST(p), (uint16_t)(bytes / HAK_UNIT), memory_order_release);
}
/* Bytes of the rest, which is the owner's now. pre: HUGE, the caller's. */
size_t haki_rest_claim(struct page *p);
/* What a block of `had` bytes should leave behind `size`: little is not worth the trouble. */
HAK_INLINE size_t haki_rest_of(size_t had, size_t size) {
  return had > size + size / HAK_REST_SHARE ? had - size : 0;
}

/* Purges the rests that were there a bigcache.decay ago, some 64 MiB at most; with `all`, all. Looks
 * four times in that time, at all chunks of the process, if there is any rest. Returns bytes. */
size_t haki_rest_age(struct haki_l25 *pool, bool all);
/* Is there any that ageing could purge? cost: visits the pool's caches. */
bool haki_rest_left(struct haki_l25 *pool);
uint64_t haki_rest_bytes(struct haki_l25 *pool);

#endif

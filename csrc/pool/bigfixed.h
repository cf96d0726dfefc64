/* bigfixed.h - the earlier cache of big blocks: 256 sites times 8 classes, one slot each.
 *
 * Why:   the baseline that the growing table is measured against (bigcache.mode=fixed).
 * Owns:  its slots.   Not: budget and ageing policy (bigcache.c).
 * Locks: one spin lock per site row, a leaf.
 * Start: haki_bigfixed_put(), haki_bigfixed_take().
 *
 * Sites that hash to the same row share it. A class is a doubling of sizes here, so that a block in
 * the slot may be too small for a request of its class: that is a miss. */
#ifndef HAK_BIGFIXED_H
#define HAK_BIGFIXED_H

#include "pool/bigtable.h"

enum { HAK_FIXED_ROWS = 256, HAK_FIXED_CLASSES = 8 };

struct haki_fixed_row {
  haki_spin lock;
  struct page *slot[HAK_FIXED_CLASSES];
  uint32_t uses[HAK_FIXED_CLASSES]; /* how often the slot was asked for */
};

struct haki_bigfixed {
  struct haki_fixed_row row[HAK_FIXED_ROWS];
  _Atomic(uint64_t) entries;
  _Atomic(uint32_t) hand; /* row at which the next eviction starts */
};

/* Keeps p; what it pushed out of its slot, or NULL. */
struct page *haki_bigfixed_put(struct haki_bigfixed *f, struct page *p);
/* The block in the slot of site and class, if it has room for `chunks` and its memory. */
struct page *haki_bigfixed_take(struct haki_bigfixed *f, size_t size, size_t chunks,
                                uintptr_t site);
/* Of the first row that has any block that came no later than `until`: that of the slot used
 * least. */
struct page *haki_bigfixed_take_rarest(struct haki_bigfixed *f, uint64_t until);
/* pre: all locks are held. */
void haki_bigfixed_walk(struct haki_bigfixed *f, void (*visit)(struct page *p, void *ud), void *ud);
void haki_bigfixed_lock_all(struct haki_bigfixed *f);
void haki_bigfixed_unlock_all(struct haki_bigfixed *f);

#endif

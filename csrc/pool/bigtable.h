/* bigtable.h - the hash table of cached big blocks: by call site and size class, and it grows.
 *
 * Why:   a program asks for big blocks at few places, again and again for the same sizes: what one
 *        place has freed fits its next request. How many blocks wait is known only when they do.
 * Owns:  entries: buckets, class lists, age lists; when the table doubles.
 * Not:   how much may wait and for how long (bigcache.c), memory (map/).
 * Locks: one spin lock per stripe, a leaf: nothing is taken under it. Stripes never wait for each
 *        other. The table grows under `growing`, one thread at a time, tried and not waited for.
 * Start: haki_bigtable_insert(), haki_bigtable_take_site().
 *
 *   hash  | .... bucket .... | stripe |      bucket = hash & (count - 1), stripe = hash & (STRIPES - 1)
 *
 *   segment[0]: buckets 0 .. first-1     segment[k]: as many as all before
 *
 * A bucket and the one that it will be split from lie in one stripe. Doubling publishes a segment of
 * empty buckets and the count, nothing else; each new bucket takes its entries from its parent at
 * its first use. So nobody waits for a rehash, and no entry is out of reach at any time.
 *
 * An entry costs no memory: it lies in the first two descriptors of its block, which has at least
 * 64 of them. There is no node to be had, and none that could be lacking. */
#ifndef HAK_BIGTABLE_H
#define HAK_BIGTABLE_H

#include "base/spin.h"
#include "map/page.h"

enum {
  HAK_BIG_CLASS_SHIFT = 19,         /* the first class starts above 512 KiB */
  HAK_BIG_CLASSES = 56,             /* eight per doubling, to 64 MiB */
  HAK_BIG_LEVELS = 8,               /* of use: by the logarithm of how often a site asks */
  HAK_BIG_COOLING = HAK_BIG_LEVELS, /* level of entries over the budget: purged soon */
  HAK_BIG_PURGED,                   /* and of those whose memory was given back */
  HAK_BIG_LISTS,
  HAK_BIG_SEGMENTS = 16,
  HAK_BIG_BUCKETS_MAX = 65536,
#if HAK_AUDIT_BUILD
  HAK_BIG_STRIPES = 4,
#else
  HAK_BIG_STRIPES = 32,
#endif
};

/* The class whose sizes are above 2^k + i * 2^(k-3), up to 2^k + (i+1) * 2^(k-3). All sizes of one
 * class take equally many chunks: each of its blocks fits each of its requests. */
HAK_INLINE unsigned haki_big_class(size_t size) {
  unsigned k = 63u - (unsigned)__builtin_clzll((unsigned long long)size - 1);
  return (k - HAK_BIG_CLASS_SHIFT) * 8 + (unsigned)((size - 1) >> (k - 3) & 7);
}
HAK_INLINE size_t haki_big_class_bytes(unsigned c) {
  size_t base = (size_t)1 << (c / 8 + HAK_BIG_CLASS_SHIFT);
  return base + (c % 8 + 1) * (base / 8);
}

/* The fields of an entry, most of them in the second descriptor of the block p. */
#define HAK_BIG_SITE(p) ((p)[1].site)
#define HAK_BIG_SINCE(p) ((p)[1].since) /* coarse time at which it came, or was purged */
#define HAK_BIG_CHAIN(p) ((p)[1].chain)
#define HAK_BIG_BEFORE(p) ((p)[1].before)
#define HAK_BIG_HASH(p) ((p)->hash) /* of class and site */
HAK_INLINE unsigned haki_big_level(struct page *p) { return HAK_PAGE_GET(&p[1], cls); }
HAK_INLINE void haki_big_set_level(struct page *p, unsigned level) {
  HAK_PAGE_SET(&p[1], cls, (uint8_t)level);
}
HAK_INLINE bool haki_big_purged(struct page *p) { return haki_big_level(p) == HAK_BIG_PURGED; }
HAK_INLINE unsigned haki_big_class_of(struct page *p) { return HAK_PAGE_GET(p, cls); }

struct haki_big_stripe {
  _Alignas(2 * HAK_CACHE_LINE) haki_spin lock;
  hak_list by_class[2][HAK_BIG_CLASSES]; /* p->link; newest first. [1]: the purged ones */
  hak_list by_level[HAK_BIG_LISTS];      /* p[1].link; oldest first */
};

struct haki_bigtable {
  _Atomic(struct page **) segment[HAK_BIG_SEGMENTS]; /* heads of chains; a head under its stripe */
  _Atomic(uint32_t) count; /* buckets, a power of two; release: pairs with haki_bigtable_count() */
  uint32_t first;
  bool mix64; /* bigcache.hash, as it was when the table was made */
  _Atomic(uint32_t) growing;
  _Atomic(uint64_t) entries, grow_at;         /* more entries than this: double */
  _Atomic(uint64_t) resizes, failures, worst; /* worst: ns that one growth or split took */
  _Atomic(uint32_t) by_class[2][HAK_BIG_CLASSES], by_level[HAK_BIG_LISTS]; /* bit: that stripe */
  struct haki_big_stripe stripe[HAK_BIG_STRIPES];
};

/* False: no memory. */
bool haki_bigtable_init(struct haki_bigtable *t, uint32_t first, uint32_t load_percent);
void haki_bigtable_destroy(struct haki_bigtable *t); /* pre: nobody else uses it */
HAK_INLINE uint32_t haki_bigtable_count(const struct haki_bigtable *t) {
  return atomic_load_explicit(&((struct haki_bigtable *)t)->count, memory_order_acquire);
}
/* Knobs have changed: when to double next. */
void haki_bigtable_set_load(struct haki_bigtable *t, uint32_t load_percent);
/* Doubles when there are too many entries for that; true: it did. Buckets stay at or below `most`. */
bool haki_bigtable_grow(struct haki_bigtable *t, uint32_t most, uint32_t load_percent);

/* p's class, site, hash, level and time are set. */
void haki_bigtable_insert(struct haki_bigtable *t, struct page *p);
/* The newest block that `site` freed and that still has its memory, and of that class. */
struct page *haki_bigtable_take_site(struct haki_bigtable *t, unsigned c, uintptr_t site,
                                     uint32_t hash);
/* A block of that class from any site, looked for from the stripe of `hash` on; `purged`: one that
 * has to be given memory again, else one that has it. */
struct page *haki_bigtable_take_class(struct haki_bigtable *t, unsigned c, uint32_t hash,
                                      bool purged);
/* The oldest entry of a level in a stripe, if it came no later than `until`. */
struct page *haki_bigtable_take_oldest(struct haki_bigtable *t, uint32_t stripe, unsigned level,
                                       uint64_t until);
/* How many chains have 1, 2, 3, more entries; the longest in [0]. */
void haki_bigtable_chains(struct haki_bigtable *t, uint64_t histogram[5]);
uint32_t haki_bigtable_hash(const struct haki_bigtable *t, unsigned c, uintptr_t site);
/* pre: all locks are held. */
void haki_bigtable_walk(struct haki_bigtable *t, void (*visit)(struct page *p, void *ud), void *ud);
bool haki_bigtable_ok(struct haki_bigtable *t);
void haki_bigtable_lock_all(struct haki_bigtable *t);
void haki_bigtable_unlock_all(struct haki_bigtable *t);

#endif

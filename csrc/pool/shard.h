/* shard.h - the shared part of a pool of large blocks: shards, and the registry that grows.
 *
 * Why:   threads that miss their caches at once must not wait for one lock; how many locks that
 *        takes is known only when it happens.
 * Owns:  free blocks by shard and class, the non-empty bitmaps, load and wait counts.
 * Not:   who asks (l25.c), which chunk a block is from (map/).
 * Locks: one spin lock per shard and class, a leaf: nothing is taken under it. The registry grows
 *        under `growing`, one thread at a time, tried and not waited for.
 * Start: haki_shards_take(), haki_shards_put(), haki_shards_check().
 *
 *   segment[0]: shards 0 .. first-1     segment[1]: as many again     segment[k]: doubles all before
 *
 * Segments are appended and never moved; `count` is published last. Whoever read the old count
 * works with the old shards, which are still there. */
#ifndef HAK_SHARD_H
#define HAK_SHARD_H

#include "base/spin.h"
#include "pool/inbox.h"

enum {
  HAK_L25_CLASSES = 12,
  HAK_L25_PAGES_MAX = 16, /* 1 MiB */
  HAK_L25_MAX = HAK_L25_PAGES_MAX * HAK_PAGE_SIZE,
  HAK_SHARDS_MAX = 1024,
  HAK_SHARD_SEGMENTS = 11,
  HAK_SHARD_WORDS = HAK_SHARDS_MAX / 64,
};

/* Classes: 1 to 8 pages of 64 KiB in steps of one, to 16 in steps of two. */
HAK_INLINE unsigned haki_l25_class(size_t pages) {
  return pages <= 8 ? (unsigned)pages - 1 : 7 + (unsigned)(pages - 7) / 2;
}
HAK_INLINE size_t haki_l25_pages(unsigned c) { return c < 8 ? c + 1 : 2 * (size_t)c - 6; }

/* One class of one shard, on cache lines of its own. */
struct haki_shard_list {
  _Alignas(2 * HAK_CACHE_LINE) haki_spin lock;
  uint32_t count;    /* in `free`; under the lock */
  struct page *free; /* under the lock */
  haki_inbox remote; /* freed without the lock */
  _Atomic(uint32_t) remote_count;
  _Atomic(uint32_t) load;  /* blocks asked for since the last check */
  hak_cell held;           /* times the lock was got; under it */
  _Atomic(uint64_t) waits; /* times it was found held: by who tries the next one, by who waits */
};

struct haki_shard {
  struct haki_shard_list list[HAK_L25_CLASSES];
};

struct haki_shards {
  _Atomic(struct haki_shard *) segment[HAK_SHARD_SEGMENTS];
  _Atomic(uint32_t) count; /* power of two; release: pairs with haki_shards_count() */
  uint32_t first;          /* shards in segment 0 */
  _Atomic(uint32_t) most;  /* l25.max_shards */
  haki_spin growing;
  _Atomic(uint64_t) nonempty[HAK_L25_CLASSES][HAK_SHARD_WORDS];
  _Atomic(uintptr_t) last_user;  /* a thread */
  _Atomic(uint32_t) several;     /* another one came since the last check */
  _Atomic(uint64_t) checked;     /* coarse time of the last check */
  uint64_t seen_ops, seen_waits; /* of all lists at the last check; under `growing` */
  _Atomic(uint64_t) steals, remote, expansions, failures; /* for statistics */
};

/* False: no memory; nothing has been taken. */
bool haki_shards_init(struct haki_shards *s, uint32_t first, uint32_t most);
HAK_INLINE uint32_t haki_shards_count(const struct haki_shards *s) {
  return atomic_load_explicit(&((struct haki_shards *)s)->count, memory_order_acquire);
}

/* Up to n blocks of class c into out[], from the shard that `key` hashes to, from the next where
 * its lock is held, else from any that the bitmap names. Returns how many. */
size_t haki_shards_take(struct haki_shards *s, unsigned c, uint64_t key, struct page **out,
                        size_t n);
/* n blocks of class c, chained, into the shard of `key` or the next free one. */
void haki_shards_put(struct haki_shards *s, unsigned c, uint64_t key, struct page *chain, size_t n);
/* One block, without a lock. */
void haki_shards_put_remote(struct haki_shards *s, unsigned c, uint64_t key, struct page *p);
/* Half of the free blocks of class c of shard i, rounded up, or all: chained, remote ones too. */
struct page *haki_shards_shed(struct haki_shards *s, unsigned c, uint32_t i, bool all);

/* Looks at load and waits since the last check, at most every l25.check_interval; grows when one
 * says so. True: grown. */
bool haki_shards_check(struct haki_shards *s);
/* How often a shard's lock was wanted, by whoever it was but a fork, and found held, since the pool was
 * made. Who waits for it has wanted it twice: once in vain. */
void haki_shards_waits(struct haki_shards *s, uint64_t *ops, uint64_t *waits);
bool haki_shards_have(struct haki_shards *s, unsigned c); /* some shard has blocks of class c */
bool haki_shards_any(struct haki_shards *s);              /* of any class */
/* All locks, so that a fork meets no list half-way. */
void haki_shards_lock_all(struct haki_shards *s);
void haki_shards_unlock_all(struct haki_shards *s);
/* Frees the segments. pre: no blocks, no users. */
void haki_shards_destroy(struct haki_shards *s);

#endif

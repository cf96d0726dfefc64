/* bigcache.h - freed big blocks, kept for the next request of the same call site and class.
 *
 * Why:   a block above 1 MiB that is unmapped and mapped again costs a fault per page; one that is
 *        kept costs 50 ns. What is kept must be bounded, and must not be kept for long.
 * Owns:  the budget, how often sites ask, who goes first, ageing; front slots of threads.
 * Not:   blocks in use and their charge (large.c); the table itself (bigtable.c, bigfixed.c).
 * Locks: those of the tables. A front belongs to its thread.
 * Start: haki_big_take(), haki_big_give().
 *
 *   take: front slot -> same site -> same class -> a class near by -> larger, cut -> purged -> (chunks)
 *   give: front slot -> table; over the budget the least frequently used has to cool
 *
 *   one entry's life: resident --decay--> purged, its address kept --decay--> back to the chunks
 *                        over the budget: cooling --purge.decay--> purged; what is less than a
 *                        quarter of what is in use: cooling --bigcache.decay--> back to the chunks
 *
 * Charged to the arena whose cache it is: what is in the budget, by its bytes. What cools is nobody's,
 * like the memory of free chunks; what was purged is none. */
#ifndef HAK_BIGCACHE_H
#define HAK_BIGCACHE_H

#include "map/quota.h"
#include "pool/bigfixed.h"
#include "pool/bigtable.h"

enum {
  HAK_BIG_COUNTERS = 4096,
  HAK_BIG_FILLED = 8,
  HAK_BIG_TICK_BYTES = 64 << 20 /* what one occasion purges: no request waits for gigabytes */
};

/* Limits of one arena's cache: knobs bigcache.*, scope arena. */
struct haki_big_limits {
  _Atomic(uint64_t) max_bytes, max_mapped;
  _Atomic(uint32_t) initial_buckets, max_buckets, load_percent;
};

/* A thread's own slot per class. What a block leaves of the budget when it is taken out stays with
 * the thread as credit, for the next that comes in: a thread that frees and allocates in turn writes
 * nothing that others read. */
struct haki_front {
  struct haki_big *big; /* where the slots' blocks belong; NULL: nothing here yet */
  struct page *slot[HAK_BIG_CLASSES];
  uint32_t held;                /* slots in use */
  size_t bytes;                 /* in the slots */
  uint64_t aged;                /* coarse time */
  hak_cell credit, credit_room; /* of haki_big.bytes and .mapped */
  hak_cell hits, inserts;
};

struct haki_big {
  struct haki_quota *quota;
  struct haki_large *large;
  struct haki_big_limits *limits;
  struct haki_bigfixed *fixed; /* bigcache.mode=fixed: instead of the table */
  _Atomic(uint64_t) bytes;     /* resident, and credits; never above max_bytes */
  _Atomic(uint64_t) cooling;   /* resident, over the budget */
  _Atomic(uint64_t) purged;    /* bytes that purged entries had */
  _Atomic(uint64_t) mapped;    /* address space of all, and credits; never above max_mapped */
  _Atomic(uint64_t) peak;      /* highest `bytes` */
  _Atomic(uint32_t) probes;    /* blocks of which it was asked whether their users fill them */
  _Atomic(uint32_t) filled;    /* 0 to HAK_BIG_FILLED: mostly, as the last probes say */
  _Atomic(uint64_t) aged;      /* coarse time of the last ageing */
  _Atomic(uint64_t) hits_site, hits_class, hits_larger, hits_gathered, hits_purged, misses, inserts;
  _Atomic(uint64_t) evicted_bytes, evicted_mapped, evicted_rare, evicted_age, purges;
  _Atomic(uint8_t) asked[HAK_BIG_COUNTERS]; /* how often sites asked lately, by hash */
  struct haki_bigtable table;
};

/* A cache without entries; NULL: no memory. */
struct haki_big *haki_big_new(struct haki_quota *quota, struct haki_large *large,
                              struct haki_big_limits *limits);
void haki_big_destroy(struct haki_big *b); /* pre: forgotten, nobody else uses it */
/* The limits have changed: what is too much goes at once, from fronts when their threads come by. */
void haki_big_configure(struct haki_big *b);

HAK_INLINE bool haki_big_fits(size_t size) {
  return size > (size_t)1 << HAK_BIG_CLASS_SHIFT &&
         size <= haki_big_class_bytes(HAK_BIG_CLASSES - 1);
}

/* A block whose chunks hold `size` bytes (haki_big_fits()); p->size says what of it is resident and
 * charged, 0: it was purged and reads as zero. `front` is the caller's or NULL. NULL: none. */
struct page *haki_big_take(struct haki_big *b, struct haki_front *front, size_t size,
                           uintptr_t site);
/* Keeps a block and its charge; false: it may not, nothing has changed. pre: not linked,
 * HAK_BIG_SITE(p) says who had asked for it. */
bool haki_big_give(struct haki_big *b, struct haki_front *front, struct page *p);
/* The front's entries that came no later than `until` go to the table, its credit ends. */
void haki_big_flush(struct haki_front *front, uint64_t until);
/* The front's thread comes by: what is too old, or too much, goes to the table. */
void haki_big_tick(struct haki_front *front, uint64_t now);
/* Purges and releases what is due, some 64 MiB at most unless `all`. Returns bytes purged. */
size_t haki_big_age(struct haki_big *b, bool all);
/* Is there anything that ageing will have to do? */
bool haki_big_idle(struct haki_big *b);
/* Everything goes to the chunks; bytes uncharged. */
size_t haki_big_trim(struct haki_big *b);
/* All entries are forgotten: their chunks go back by their descriptors. pre: nobody else uses the
 * arena, its threads' fronts are forgotten. */
void haki_big_forget(struct haki_big *b);
bool haki_big_ok(struct haki_big *b);
/* So that a fork meets no list half-way. No cache is published meanwhile. */
void haki_big_lock_all(struct haki_big *b);
void haki_big_unlock_all(struct haki_big *b);
/* In a forked child: only what is in the table and in the front of the thread that is left counts.
 * pre: all locks are held. */
void haki_big_after_fork(struct haki_big *b, struct haki_front *mine);
/* Says what there will be, before there is any. */
void haki_big_log(const struct haki_big_limits *limits);

/* ---- an entry out of all lists; between bigcache.c and bigcut.c ---- */

HAK_INLINE size_t haki_big_chunks(size_t size) {
  return haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
}
/* Its chunks go back, its charge ends. */
void haki_big_release(struct haki_big *b, struct page *p);
/* What it holds of the budget is free for others. */
void haki_big_leave(struct haki_big *b, struct page *p);
/* It is out of the table and goes to its user, counted and charged. NULL: the charge was refused, or
 * p was NULL. */
struct page *haki_big_taken(struct haki_big *b, struct page *p, _Atomic(uint64_t) *count);
/* Class and hash by its size and site. */
void haki_big_classify(struct haki_big *b, struct page *p);
/* Into the table. pre: classified; in the budget. */
void haki_big_put(struct haki_big *b, struct page *p);
/* The entry to go: one of those used least, if not above `level`. NULL: all others are asked for more
 * often. `room`: it is address space that lacks, which purged ones have as well. */
struct page *haki_big_victim(struct haki_big *b, unsigned level, bool room);
/* An entry that has its memory, what cools first. NULL: there is none. */
struct page *haki_big_warm(struct haki_big *b);
/* What of its bytes is charged. */
HAK_INLINE size_t haki_big_charge(struct page *p) {
  return haki_big_level(p) == HAK_BIG_COOLING ? 0 : p->size;
}
/* bigcut.c: the head of a block of class k or above; a block made of several. NULL: none, or not
 * worth the trouble. */
struct page *haki_big_take_larger(struct haki_big *b, unsigned k, size_t size, uint32_t hash);
struct page *haki_big_take_gathered(struct haki_big *b, size_t size);

#endif

/* l25.h - the pool of large blocks, 32 KiB to 1 MiB: thread caches in front of shards.
 *
 * Why:   a block of this size is worth keeping warm, and a lock per block would be what threads
 *        wait for.
 * Owns:  free blocks of a shared arena: in caches, shards, runs.
 * Not:   blocks in use and their charge (large.c); which thread has which cache (heap/).
 * Locks: those of shard.h; a cache belongs to its thread, which holds its biased lock (bias.h) while
 *        it is in there; its inbound stack to everybody.
 * Start: haki_l25_take(), haki_l25_give().
 *
 *   take: ring -> LIFO -> inbound -> transfer -> own shard -> another shard -> the same of classes
 *         up to half as large again -> run -> chunk
 *   give: ring -> LIFO -> (batch) -> shard;  another thread's block: its cache's inbound stack, or
 *         a shard's remote stack when that thread has gone */
#ifndef HAK_L25_H
#define HAK_L25_H

#include "pool/bell.h"
#include "pool/bias.h"
#include "pool/bigcache.h"
#include "pool/ring.h"
#include "pool/run.h"
#include "pool/shard.h"

enum {
#if HAK_AUDIT_BUILD
  HAK_BATCH = 2,
#else
  HAK_BATCH = 8, /* blocks that move between a thread and a shard at once */
#endif
};

/* What a thread does with large blocks of a shared arena; one writer each. `count` and `allocs` are
 * of blocks that no pool knows; the others are counted there, by class. */
struct haki_large_cells {
  hak_cell count, bytes, allocs, in_place, remaps, copies;
  hak_cell rest; /* bytes behind big blocks in use */
};

struct haki_l25_class {
  _Alignas(HAK_CACHE_LINE) struct haki_ring ring;
  struct page *lifo;             /* behind the ring */
  hak_cell takes, gives;         /* of this thread; gives: of blocks of any home */
  struct page *batch[HAK_BATCH]; /* the transfer cache: came from a shard together */
  uint16_t lifo_count, batched;
  uint16_t low;        /* least blocks behind the ring since the last ageing */
  uint16_t larger;     /* times since the last fresh block that a larger one had to do */
  uint64_t seen_takes; /* at the last ageing */
  uintptr_t site;      /* that asked the shards last: what goes back is put where it will look */
};

/* INV l25-2: a cache that is `clean` is empty and its thread ticks at its next operation, unless
 *            haki_os_barrier() is not to be had. */
struct haki_l25_cache {
  struct haki_bias bias; /* guards all down to `remote_frees` */
  hak_cell ops;          /* blocks asked for and own blocks given back */
  uint64_t tick_at;      /* the operation that looks after the pool */
  uint64_t ticked;       /* the last that did */
  uint64_t aged;         /* coarse time */
  size_t bytes;          /* in the LIFO and the transfer cache */
  struct haki_l25 *pool;
  struct haki_run run;
  struct haki_front front; /* big blocks */
  struct haki_l25_class cls[HAK_L25_CLASSES];
  hak_cell misses, transfers, remote_frees;
  struct haki_large_cells large; /* the thread's, without the lock */
  struct haki_l25_cache *next;   /* in pool->caches */
  /* What haki_l25_drain() saw last. */
  uint64_t seen_ops, idle_since;
  bool clean;
  _Alignas(HAK_CACHE_LINE) haki_inbox inbound;
  _Atomic(uint32_t) alive; /* enum haki_l25_life */
};

enum haki_l25_life {
  HAK_L25_FREE,  /* the next thread that joins takes it */
  HAK_L25_ALIVE, /* a thread has it */
  HAK_L25_LOST,  /* in a forked child: its thread is not there, and was perhaps half-way through */
};

/* What no thread counts by class; atomic. `total`: blocks of the class that the pool has, in use or
 * not. `moved`: live blocks that have come to the class, or left it, by a change of size. `gives`: by
 * threads without a cache.
 * INV l25-3, while nobody uses the pool: live = takes + moved - gives, cached = total - live. */
struct haki_l25_count {
  _Atomic(uint64_t) total, moved, gives;
};

struct haki_l25 {
  struct haki_shards shards;
  struct haki_l25_count count[HAK_L25_CLASSES];
  struct haki_quota *quota;                /* what lies here is charged to it */
  struct haki_large *large;                /* of the arena: marks its blocks */
  _Atomic(struct haki_l25_cache *) caches; /* all there ever were; grows only */
  _Atomic(uint64_t) ops;                   /* of all threads, in steps */
  _Atomic(uint64_t) aged;                  /* shards: coarse time */
  _Atomic(uint64_t) drained;               /* blocks that ageing gave back */
  _Atomic(uint64_t) rests_aged;            /* coarse time */
  _Atomic(uint64_t) rests_purged;          /* bytes */
  _Atomic(bool) rests_stuck;               /* those that are due cannot be purged: locked */
};

/* A pool with its first shards; NULL: no memory. */
struct haki_l25 *haki_l25_new(struct haki_quota *quota, struct haki_large *large, uint32_t first,
                              uint32_t most);
/* A cache for the calling thread, perhaps that of an exited one. NULL: no memory. */
struct haki_l25_cache *haki_l25_join(struct haki_l25 *pool);
/* Everything in the cache goes to the shards; somebody else may have it then. */
void haki_l25_leave(struct haki_l25_cache *cache);

/* The hot way: what was freed last, if `size` bytes of it are charged already. NULL: not so, or the
 * thread has to look after the pool; haki_l25_take() does all that. */
HAK_INLINE struct page *haki_l25_take_warm(struct haki_l25_cache *cache, size_t size);
/* The same for a block of the cache's own: true when it is back. */
HAK_INLINE bool haki_l25_give_warm(struct haki_l25_cache *cache, struct page *p);
/* A block of at least `size` bytes, at most 1 MiB. p->size says what is charged for it. NULL: no
 * memory. */
struct page *haki_l25_take(struct haki_l25_cache *cache, size_t size, uintptr_t site);
/* A block comes back; `cache` is the caller's, NULL when it has none. */
void haki_l25_give(struct haki_l25_cache *cache, struct page *p);
/* The same, but to the chunks. */
void haki_l25_give_up(struct haki_l25_cache *cache, struct page *p);
/* A block taken just now comes back unused: as if it had not been asked for. */
void haki_l25_untake(struct haki_l25_cache *cache, struct page *p);
/* A block in use has another length than before. */
void haki_l25_resized(struct page *p, size_t was);

struct haki_l25_class_sum {
  uint64_t live, cached, takes;
};
/* By class; exact while nobody uses the pool. */
void haki_l25_sums(struct haki_l25 *pool, struct haki_l25_class_sum sums[HAK_L25_CLASSES]);
/* Gives back everything that no thread has in its cache, and the caller's too. */
size_t haki_l25_trim(struct haki_l25 *pool, struct haki_l25_cache *cache);
/* Ages the shards and the caches of exited threads when their time has come. Returns the bytes that
 * went back to the chunks. */
size_t haki_l25_age(struct haki_l25 *pool);

struct haki_l25_drained {
  size_t blocks; /* from idle caches and inbound stacks to the shards */
  size_t bytes;  /* to the chunks */
  size_t caches; /* emptied */
};
/* One round of the background thread: idle threads' caches and inbound stacks, ageing, the check for
 * contention; adds to *done. True: there will be something to do in the next round.
 * pre: REGISTRY held. */
bool haki_l25_drain(struct haki_l25 *pool, struct haki_l25_drained *done);
/* In a forked child, where `mine` is the only cache with a thread. */
void haki_l25_after_fork(struct haki_l25 *pool, struct haki_l25_cache *mine);
/* Forgets all blocks, whose pages somebody else gives back; the caches are for whoever joins next.
 * pre: no other user, nobody has a cache. */
void haki_l25_forget(struct haki_l25 *pool);
/* After forget: gives the memory of pool and caches back. */
void haki_l25_destroy(struct haki_l25 *pool);
/* A free block of the pool goes back to its chunk. */
void haki_l25_release(struct haki_l25 *pool, struct page *p);

/* Ages the cache and what is behind it; looks for contention, or calls who does.
 * pre: the cache's lock is held; it is let go meanwhile. */
void haki_l25_tick(struct haki_l25_cache *cache, bool taking);
/* An operation on the cache, or on a big block. pre: the cache's lock is held. */
HAK_INLINE void haki_l25_count_op(struct haki_l25_cache *cache, bool taking) {
  uint64_t ops = haki_cell_get(&cache->ops) + 1;
  haki_cell_set(&cache->ops, ops);
  if (HAK_UNLIKELY(ops == cache->tick_at)) haki_l25_tick(cache, taking);
}

HAK_INLINE unsigned haki_l25_class_of(size_t size) {
  return haki_l25_class(haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT);
}

HAK_INLINE struct page *haki_l25_take_warm(struct haki_l25_cache *cache, size_t size) {
  struct haki_l25_class *k = &cache->cls[haki_l25_class_of(size)];
  if (HAK_UNLIKELY(!haki_bias_try_enter(&cache->bias))) return NULL;
  struct page *p = haki_ring_newest(&k->ring);
  uint64_t ops = haki_cell_get(&cache->ops) + 1;
  if (HAK_LIKELY(p != NULL && size <= p->size && ops != cache->tick_at)) {
    haki_ring_drop(&k->ring);
    haki_cell_set(&cache->ops, ops);
    haki_cell_add(&k->takes, 1);
    HAK_PAGE_SET(p, kind, HAK_PAGE_RUN);
  } else {
    p = NULL;
  }
  haki_bias_leave(&cache->bias);
  return p;
}

HAK_INLINE bool haki_l25_give_warm(struct haki_l25_cache *cache, struct page *p) {
  struct haki_l25_class *k = &cache->cls[haki_l25_class(p->length)];
  if (HAK_UNLIKELY(!haki_bias_try_enter(&cache->bias))) return false;
  uint64_t ops = haki_cell_get(&cache->ops) + 1;
  bool fits = !haki_ring_is_full(&k->ring) && ops != cache->tick_at;
  if (HAK_LIKELY(fits)) {
    HAK_PAGE_SET(p, kind, HAK_PAGE_POOLED);
    haki_ring_add(&k->ring, p);
    haki_cell_set(&cache->ops, ops);
    haki_cell_add(&k->gives, 1);
  }
  haki_bias_leave(&cache->bias);
  return fits;
}

#endif

/* blocks.h - what the driver and the patterns of the block benchmark share.
 * Why:   patterns for one thread stand apart from those that hand blocks over.
 * Owns:  struct worker.   Locks: none.
 * Start: struct pattern. */
#ifndef HAK_BENCH_BLOCKS_H
#define HAK_BENCH_BLOCKS_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/bench.h"

struct blocks_settings {
  uint64_t smallest, largest, live, threads, ms, ops, seed, sites;
  bool touch_all, stats;
};

struct worker {
  /* Written by its thread alone, read by the driver. */
  _Alignas(64) atomic_uint_fast64_t done; /* pairs of an allocation and a free */
  uint64_t most;                          /* where it stops by itself */
  size_t number;
  struct maker maker;
  struct block *slot; /* `live` of them */
  size_t at;
  uint64_t random;
  void *shared; /* of the pattern */
};

struct pattern {
  const char *name;
  const char *help;
  bool crew; /* runs in threads, an even number of them */
  void (*prepare)(struct worker *all, const struct blocks_settings *s); /* before; may be NULL */
  void (*fill)(struct worker *w);  /* in the worker's thread, untimed; may be NULL */
  void (*run)(struct worker *w);   /* until blocks_stopped(); again after that goes on */
  void (*end)(struct worker *all); /* frees what is left; may be NULL */
};

extern struct blocks_settings blocks_given;
extern atomic_bool blocks_stop; /* relaxed: says when, publishes nothing */

extern const struct pattern blocks_solo[], blocks_crew[]; /* up to one without a name */

static inline bool blocks_stopped(struct worker *w) {
  return atomic_load_explicit(&blocks_stop, memory_order_relaxed) ||
         atomic_load_explicit(&w->done, memory_order_relaxed) >= w->most;
}

static inline void blocks_count(struct worker *w, uint64_t pairs) {
  uint64_t done = atomic_load_explicit(&w->done, memory_order_relaxed);
  atomic_store_explicit(&w->done, done + pairs, memory_order_relaxed);
}

/* In every slot a block. */
static inline void blocks_fill(struct worker *w) {
  for (size_t i = 0; i < blocks_given.live; i++) w->slot[i] = block_make(&w->maker);
}

#endif

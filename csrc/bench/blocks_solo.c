/* blocks_solo.c - patterns in which a block is freed by the thread that allocated it.
 * Why:   what an allocation costs when nobody else wants anything.
 * Owns:  nothing.   Not: time and threads (blocks.c).   Locks: none.
 * Start: blocks_solo[]. */
#include "bench/blocks.h"

static void pair(struct worker *w) {
  while (!blocks_stopped(w)) {
    block_drop(block_make(&w->maker));
    blocks_count(w, 1);
  }
}

enum { BATCH = 64 };

static void batch(struct worker *w) {
  struct block b[BATCH];
  while (!blocks_stopped(w)) {
    for (size_t i = 0; i < BATCH; i++) b[i] = block_make(&w->maker);
    for (size_t i = 0; i < BATCH; i++) block_drop(b[i]);
    blocks_count(w, BATCH);
  }
}

static void replace(struct worker *w, size_t at) {
  block_drop(w->slot[at]);
  w->slot[at] = block_make(&w->maker);
  blocks_count(w, 1);
}

static void random_lifetime(struct worker *w) {
  while (!blocks_stopped(w)) replace(w, bench_below(&w->random, blocks_given.live));
}

static void churn(struct worker *w) {
  while (!blocks_stopped(w)) {
    replace(w, w->at);
    w->at = w->at + 1 < blocks_given.live ? w->at + 1 : 0;
  }
}

const struct pattern blocks_solo[] = {
    {"pair", "an allocation, a free", false, NULL, NULL, pair, NULL},
    {"batch", "64 allocations, 64 frees in the same order", false, NULL, NULL, batch, NULL},
    {"random", "LIVE blocks, one at random replaced", false, NULL, blocks_fill, random_lifetime,
     NULL},
    {"churn", "LIVE blocks, the oldest replaced", false, NULL, blocks_fill, churn, NULL},
    {NULL, NULL, false, NULL, NULL, NULL, NULL},
};

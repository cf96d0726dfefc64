/* traces_draw.c - the three traces.
 * Why:   a cache of freed blocks is as good as its hit rate, and that depends on who asks for what.
 * Owns:  the seed, the sizes of the sites.
 * Not:   time, threads, counting (traces.c).
 * Locks: none; drawn before the threads start.
 * Start: traces[]. */
#include "bench/traces.h"

#include <math.h>

enum { SEED = 20261124, ZIPF_SITES = 1000, FEW_SITES = 40, TABLE_STREAM = 1000 };

static const uint64_t MIB = 1 << 20;

/* From 0 to below 1. */
static double draw_unit(uint64_t *random) { return (double)(bench_random(random) >> 11) * 0x1p-53; }

/* Above 1 MiB, up to 16 MiB, each doubling as often as the others. */
static uint32_t draw_size(uint64_t *random) {
  return (uint32_t)((double)MIB * pow(16, draw_unit(random))) + 1;
}

/* ---- sites: many of them, some busy, each with its size ---------------------------------------- */

static double zipf_up_to[ZIPF_SITES]; /* part of the requests that come from this site or before */
static uint32_t zipf_size[ZIPF_SITES];

static void prepare_zipf(void) {
  uint64_t random = bench_seed(SEED, TABLE_STREAM);
  double sum = 0;
  for (size_t i = 0; i < ZIPF_SITES; i++) {
    zipf_size[i] = draw_size(&random);
    zipf_up_to[i] = sum += pow((double)(i + 1), -0.9);
  }
  for (size_t i = 0; i < ZIPF_SITES; i++) zipf_up_to[i] /= sum;
}

static uint32_t draw_zipf(uint64_t *random) {
  double u = draw_unit(random);
  uint32_t low = 0, high = ZIPF_SITES - 1;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (u < zipf_up_to[middle]) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

static void draw_sites(struct request *all, size_t count, size_t slots, uint64_t *random) {
  prepare_zipf();
  for (size_t i = 0; i < count; i++) {
    uint32_t site = draw_zipf(random);
    all[i] = (struct request){zipf_size[site], site, (uint32_t)bench_below(random, slots)};
  }
}

/* ---- random: few sites, every size from each --------------------------------------------------- */

static void draw_random(struct request *all, size_t count, size_t slots, uint64_t *random) {
  for (size_t i = 0; i < count; i++) {
    uint32_t site = (uint32_t)bench_below(random, FEW_SITES);
    all[i] = (struct request){draw_size(random), site, (uint32_t)bench_below(random, slots)};
  }
}

/* ---- burst: all at once, all gone, again ------------------------------------------------------- */

/* 2,000 blocks that are too large for the pool cannot be held within a budget of 1 GiB: the
 * smallest such blocks are twice that. So they are as small as can be, 1 to 1.25 MiB, each site one
 * size, 2.2 GiB in all: what the budget does not hold can hit only where the address space of a
 * purged block is kept. `--requests=800` is a burst that fits (0.9 GiB). */
static void draw_burst(struct request *all, size_t count, size_t slots, uint64_t *random) {
  uint64_t table = bench_seed(SEED, TABLE_STREAM + 1);
  uint32_t size[FEW_SITES];
  for (size_t i = 0; i < FEW_SITES; i++) {
    size[i] = (uint32_t)(MIB + 1 + bench_below(&table, MIB / 4));
  }
  for (size_t i = 0; i < count; i++) {
    uint32_t site = (uint32_t)bench_below(random, FEW_SITES);
    all[i] = (struct request){size[site], site, (uint32_t)(i % slots)};
  }
}

/* ------------------------------------------------------------------------------------------------ */

const struct trace traces[] = {
    {"sites", "1,000 sites, Zipf 0.9, each with one size of 1 to 16 MiB; 64 live, one replaced",
     20000, 64, 1, 0, draw_sites},
    {"random", "40 sites, a new size of 1 to 16 MiB each time; 64 live, one replaced", 20000, 64, 1,
     0, draw_random},
    {"burst", "2,000 allocations of 1 to 1.25 MiB, 2,000 frees, a pause of 500 ms, again", 2000, 0,
     2, 500000000, draw_burst},
    {NULL, NULL, 0, 0, 0, 0, NULL},
};

void traces_draw(const struct trace *t, size_t thread, size_t slots, struct request *all,
                 size_t count) {
  uint64_t random = bench_seed(SEED, thread);
  t->draw(all, count, slots, &random);
}

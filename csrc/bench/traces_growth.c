/* traces_growth.c - the longest single call while the table of cached blocks grows.
 * Why:   a table that is rehashed at once makes one unlucky request wait for it.
 * Owns:  the histograms.
 * Not:   the traces (traces.c). Knobs: whoever starts it chooses them so that nothing is evicted,
 *        aged or purged meanwhile; what is timed is the table, not the kernel.
 * Locks: none; a barrier lets the threads go at once.
 * Start: traces_growth().
 *
 * Each thread allocates its share, every block from a call site of its own, then frees them one by
 * one: an insert each. After every eighth it asks for one that it has freed before, by its site: a
 * look-up; and frees that again. Each call is timed by its thread's processor time. */
#define _GNU_SOURCE
#include "bench/traces.h"

enum { TIMES = 24, LOOKUP_EVERY = 8 };

struct histogram {
  uint64_t below[TIMES]; /* calls of less than 2^i microseconds, and not in one before */
  uint64_t worst, calls;
};

struct grower {
  _Alignas(64) struct histogram insert, lookup;
  struct block *block;
  size_t count, first; /* blocks, the number of the first */
  uint64_t random;
};

static pthread_barrier_t ready;

static void note(struct histogram *h, uint64_t ns) {
  size_t i = 0;
  while (i + 1 < TIMES && ns >= (uint64_t)1000 << i) i++;
  h->below[i]++;
  h->calls++;
  if (ns > h->worst) h->worst = ns;
}

static void add(struct histogram *sum, const struct histogram *h) {
  for (size_t i = 0; i < TIMES; i++) sum->below[i] += h->below[i];
  sum->calls += h->calls;
  if (h->worst > sum->worst) sum->worst = h->worst;
}

/* Above 1 MiB: above what the pool takes. */
static size_t size_of(size_t number) { return ((size_t)1 << 20) + 1 + number % 8 * 65536; }

static struct block make(const struct grower *g, size_t i, struct histogram *h) {
  size_t number = g->first + i, size = size_of(number);
  uint64_t from = bench_thread_now();
  char *p = bench_malloc_site(size, bench_site(number));
  uint64_t ns = bench_thread_now() - from;
  if (h != NULL) note(h, ns);
  return block_touch(p, size, number, false);
}

static void drop(struct block b, struct histogram *h) {
  uint64_t from = bench_thread_now();
  block_drop(b);
  note(h, bench_thread_now() - from);
}

static void *grower_thread(void *ud) {
  struct grower *g = ud;
  for (size_t i = 0; i < g->count; i++) g->block[i] = make(g, i, NULL);
  pthread_barrier_wait(&ready);
  for (size_t i = 0; i < g->count; i++) {
    drop(g->block[i], &g->insert);
    if (i % LOOKUP_EVERY != 0) continue;
    drop(make(g, bench_below(&g->random, i + 1), &g->lookup), &g->insert);
  }
  return NULL;
}

static void print_histogram(const char *name, const struct histogram *h) {
  printf("%s_calls %" PRIu64 "\n%s_worst_us %.1f\n", name, h->calls, name, (double)h->worst / 1000);
  for (size_t i = 0; i < TIMES; i++) {
    if (h->below[i] != 0) {
      printf("%s_below_%" PRIu64 " %" PRIu64 "\n", name, (uint64_t)1 << i, h->below[i]);
    }
  }
}

static void print_stat(const char *key, const char *name) {
  uint64_t value;
  if (bench_stat(name, &value)) {
    printf("%s %" PRIu64 "\n", key, value);
  } else {
    printf("%s -\n", key);
  }
}

void traces_growth(size_t blocks, size_t threads) {
  struct grower *all = bench_map(threads * sizeof *all);
  pthread_t *thread = bench_map(threads * sizeof *thread);
  struct histogram insert = {.worst = 0}, lookup = {.worst = 0};
  pthread_barrier_init(&ready, NULL, (unsigned)threads);
  for (size_t i = 0; i < threads; i++) {
    all[i].count = blocks / threads;
    all[i].first = i * all[i].count;
    all[i].block = bench_map((all[i].count + 1) * sizeof *all[i].block);
    all[i].random = bench_seed(1, i);
    if (pthread_create(&thread[i], NULL, grower_thread, &all[i]) != 0) {
      bench_die("cannot start a thread");
    }
  }
  for (size_t i = 0; i < threads; i++) {
    pthread_join(thread[i], NULL);
    add(&insert, &all[i].insert);
    add(&lookup, &all[i].lookup);
  }
  print_histogram("insert", &insert);
  print_histogram("lookup", &lookup);
  print_stat("buckets", "bigcache.buckets");
  print_stat("entries", "bigcache.entries");
  print_stat("resizes", "bigcache.resizes");
  print_stat("evictions", "bigcache.evictions");
  print_stat("hits", "bigcache.hits");
  print_stat("os_purges", "os.purges");
  printf("peak_kib %ld\n", bench_peak_kib());
}

/* blocks.c - patterns of allocation, timed.
 * Why:   malloc-like calls are compared by what programs do with them, one pattern at a time.
 * Owns:  the workers and the clock.
 * Not:   patterns (blocks_solo.c, blocks_crew.c), comparisons (csrc/bench/run --blocks).
 * Locks: none; a barrier lets the workers go at once.
 * Start: main(), run_alone(), run_threads().
 *
 * Built on hakmem (build/bench/blocks-hakmem) and, with -DUSE_MALLOC, on malloc for others. */
#define _GNU_SOURCE
#include "bench/blocks.h"

#include <signal.h>
#include <sys/time.h>

struct blocks_settings blocks_given = {
    .smallest = 8, .largest = 128, .live = 256, .threads = 1, .ms = 1000, .seed = 1};
atomic_bool blocks_stop;

static const struct pattern *pattern;
static uint32_t sizes[BENCH_SIZES];
static pthread_barrier_t ready;

/* ---- measuring ------------------------------------------------------------------------------ */

struct result {
  uint64_t pairs, ns;
};

static uint64_t done_of(struct worker *all) {
  uint64_t sum = 0;
  for (size_t i = 0; i < blocks_given.threads; i++) {
    sum += atomic_load_explicit(&all[i].done, memory_order_relaxed);
  }
  return sum;
}

/* The first fifth is not counted. */
static uint64_t warm_up(uint64_t whole) { return whole / 5; }

static void time_is_up(int signal) {
  (void)signal;
  atomic_store_explicit(&blocks_stop, true, memory_order_relaxed);
}

static void run_for(struct worker *w, uint64_t ns, uint64_t pairs) {
  struct itimerval timer = {.it_value = {(time_t)(ns / 1000000000u), ns % 1000000000u / 1000}};
  w->most = pairs == 0 ? UINT64_MAX : atomic_load(&w->done) + pairs;
  atomic_store(&blocks_stop, false);
  setitimer(ITIMER_REAL, &timer, NULL);
  pattern->run(w);
  timer.it_value = (struct timeval){0, 0};
  setitimer(ITIMER_REAL, &timer, NULL);
}

/* A program of one thread stays one: allocators notice the second. */
static struct result run_alone(struct worker *w) {
  uint64_t ns = blocks_given.ms * 1000000u;
  signal(SIGALRM, time_is_up);
  if (pattern->fill != NULL) pattern->fill(w);
  run_for(w, warm_up(ns), warm_up(blocks_given.ops));
  struct result r = {atomic_load(&w->done), bench_cpu_now()};
  run_for(w, ns, blocks_given.ops);
  return (struct result){atomic_load(&w->done) - r.pairs, bench_cpu_now() - r.ns};
}

static void *worker_thread(void *ud) {
  struct worker *w = ud;
  if (pattern->fill != NULL) pattern->fill(w);
  pthread_barrier_wait(&ready);
  pattern->run(w);
  return NULL;
}

/* Sleeps until the time is over or the workers have done `pairs`. */
static void await(struct worker *all, uint64_t ns, uint64_t pairs) {
  uint64_t end = bench_now() + ns, from = done_of(all), now;
  while ((now = bench_now()) < end && (pairs == 0 || done_of(all) - from < pairs)) {
    bench_sleep(end - now < 1000000 ? end - now : 1000000);
  }
}

static struct result run_threads(struct worker *all) {
  pthread_t *thread = bench_map(blocks_given.threads * sizeof *thread);
  uint64_t ns = blocks_given.ms * 1000000u;
  pthread_barrier_init(&ready, NULL, (unsigned)blocks_given.threads + 1);
  for (size_t i = 0; i < blocks_given.threads; i++) {
    all[i].most = UINT64_MAX;
    if (pthread_create(&thread[i], NULL, worker_thread, &all[i]) != 0) {
      bench_die("cannot start a thread");
    }
  }
  pthread_barrier_wait(&ready);
  await(all, warm_up(ns), warm_up(blocks_given.ops));
  struct result r = {done_of(all), bench_now()};
  await(all, ns, blocks_given.ops);
  r = (struct result){done_of(all) - r.pairs, bench_now() - r.ns};
  atomic_store(&blocks_stop, true);
  for (size_t i = 0; i < blocks_given.threads; i++) pthread_join(thread[i], NULL);
  return r;
}

static void run(void) {
  struct worker *all = bench_map(blocks_given.threads * sizeof *all);
  bench_draw_sizes(sizes, blocks_given.seed, blocks_given.smallest, blocks_given.largest);
  for (size_t i = 0; i < blocks_given.threads; i++) {
    all[i].number = i;
    all[i].maker = bench_maker(sizes, i, blocks_given.sites, blocks_given.touch_all);
    all[i].random = bench_seed(blocks_given.seed, i + 1);
    all[i].slot = bench_map(blocks_given.live * sizeof *all[i].slot);
  }
  if (pattern->prepare != NULL) pattern->prepare(all, &blocks_given);
  struct result r = blocks_given.threads == 1 ? run_alone(all) : run_threads(all);
  printf("ns_per_pair %.3f\npairs %" PRIu64 "\npeak_kib %ld\n",
         (double)r.ns / (double)(r.pairs != 0 ? r.pairs : 1), r.pairs, bench_peak_kib());
  if (blocks_given.stats) bench_print_stats();
  if (pattern->end != NULL) pattern->end(all);
  if (pattern->fill != NULL) {
    for (size_t i = 0; i < blocks_given.threads; i++) {
      for (size_t j = 0; j < blocks_given.live; j++) block_drop(all[i].slot[j]);
    }
  }
}

/* ---- command line --------------------------------------------------------------------------- */

static void list(const struct pattern *p) {
  for (; p->name != NULL; p++) fprintf(stderr, "  %-10s  %s\n", p->name, p->help);
}

static void usage(void) {
  fprintf(stderr,
          "usage: blocks PATTERN [--sizes=MIN-MAX] [--live=N] [--threads=N] [--touch=first|all] "
          "[--ms=N] [--ops=N] [--seed=N] [--sites=N] [--stats]\n"
          "       blocks touch MIB\n");
  list(blocks_solo);
  list(blocks_crew);
  exit(2);
}

static const struct pattern *find(const struct pattern *p, const char *name) {
  while (p->name != NULL && strcmp(p->name, name) != 0) p++;
  return p->name != NULL ? p : NULL;
}

static bool set_sizes(const char *text) {
  const char *end;
  return bench_number(text, &end, sizeof(uint64_t), UINT32_C(1) << 31, &blocks_given.smallest) &&
         *end == '-' &&
         bench_count(end + 1, blocks_given.smallest, UINT32_C(1) << 31, &blocks_given.largest);
}

static bool set_option(const char *argument) {
  struct blocks_settings *s = &blocks_given;
  const char *v;
  if (strcmp(argument, "--stats") == 0) return s->stats = true;
  if ((v = bench_value(argument, "--sizes=")) != NULL) return set_sizes(v);
  if ((v = bench_value(argument, "--live=")) != NULL) return bench_count(v, 1, 1 << 28, &s->live);
  if ((v = bench_value(argument, "--threads=")) != NULL)
    return bench_count(v, 1, 1024, &s->threads);
  if ((v = bench_value(argument, "--ms=")) != NULL) return bench_count(v, 5, 86400000, &s->ms);
  if ((v = bench_value(argument, "--ops=")) != NULL) return bench_count(v, 0, UINT64_MAX, &s->ops);
  if ((v = bench_value(argument, "--seed=")) != NULL)
    return bench_count(v, 0, UINT64_MAX, &s->seed);
  if ((v = bench_value(argument, "--sites=")) != NULL) return bench_count(v, 0, 1 << 20, &s->sites);
  if ((v = bench_value(argument, "--touch=")) != NULL) {
    s->touch_all = strcmp(v, "all") == 0;
    return s->touch_all || strcmp(v, "first") == 0;
  }
  return false;
}

int main(int argc, char **argv) {
  uint64_t mib;
  if (argc == 3 && strcmp(argv[1], "touch") == 0) {
    if (!bench_count(argv[2], 1, 1 << 20, &mib)) usage();
    bench_touch(mib << 20);
    return 0;
  }
  if (argc < 2) usage();
  pattern = find(blocks_solo, argv[1]);
  if (pattern == NULL) pattern = find(blocks_crew, argv[1]);
  if (pattern == NULL) usage();
  if (pattern->crew) blocks_given.threads = 2;
  for (int i = 2; i < argc; i++) {
    if (!set_option(argv[i])) usage();
  }
  if (pattern->crew && blocks_given.threads % 2 != 0) usage();
  run();
  return 0;
}

/* traces.c - fixed sequences of requests for big blocks, replayed and counted.
 * Why:   the cache of big blocks is judged by its hit rate and by what it holds, not by time alone.
 * Owns:  the threads, the clock, the figures read from statistics.
 * Not:   the sequences (traces_draw.c), the growth of the table (traces_growth.c), comparisons
 *        (csrc/bench/run --traces).
 * Locks: none; barriers part the rounds.
 * Start: main(), run().
 *
 * Built on hakmem (build/bench/traces-hakmem) and, with -DUSE_MALLOC, on malloc for others. A
 * statistic that this build of hakmem does not have, and all of them with malloc, are shown as "-". */
#define _GNU_SOURCE
#include "bench/traces.h"

#include <signal.h>
#include <sys/time.h>

struct replayer {
  _Alignas(64) struct request *request;
  struct block *slot;
  uint32_t *size;   /* of the block in each slot */
  uint64_t done;    /* requests */
  size_t next;      /* request of the round that comes */
  size_t from, end; /* the round: these requests */
  uint64_t tag;
};

struct settings {
  uint64_t threads, ms, requests;
  bool touch_all, sample, settle;
};

static struct settings given = {.threads = 1, .ms = 60000};
static const struct trace *trace;
static struct replayer *all;
static size_t requests_each, slots_each;
static bool ended; /* written before, read after `start` */
static pthread_barrier_t start, finish;
static atomic_bool stop; /* relaxed: says when, publishes nothing */

/* ---- replaying ------------------------------------------------------------------------------ */

static bool stopped(void) { return atomic_load_explicit(&stop, memory_order_relaxed); }

static void drop(struct replayer *r, size_t slot) {
  if (r->slot[slot].p == NULL) return;
  block_drop(r->slot[slot]);
  r->slot[slot].p = NULL;
}

static void replay(struct replayer *r, const struct request *q) {
  drop(r, q->slot);
  char *p = bench_malloc_site(q->size, bench_site(q->site));
  r->slot[q->slot] = block_touch(p, q->size, ++r->tag, given.touch_all);
  r->size[q->slot] = q->size;
  r->done++;
}

static void replay_round(struct replayer *r) {
  for (size_t i = r->from; i < r->end && !stopped(); i++) replay(r, &r->request[i]);
}

static void drop_all(struct replayer *r) {
  for (size_t i = 0; i < slots_each; i++) drop(r, i);
}

/* Bursts: nobody frees before all have allocated. */
static void one_round(struct replayer *r) {
  replay_round(r);
  if (trace->live != 0) return;
  if (given.threads > 1) pthread_barrier_wait(&finish);
  drop_all(r);
}

static void *replayer_thread(void *ud) {
  for (;;) {
    pthread_barrier_wait(&start);
    if (ended) return NULL;
    one_round(ud);
    pthread_barrier_wait(&finish);
  }
}

/* One round by all threads: how long it took. A program of one thread stays one, and is timed by
 * what it used. */
static uint64_t round_ns(void) {
  if (given.threads == 1) {
    uint64_t from = bench_cpu_now();
    one_round(&all[0]);
    return bench_cpu_now() - from;
  }
  uint64_t from = bench_now();
  pthread_barrier_wait(&start);
  if (trace->live == 0) pthread_barrier_wait(&finish);
  pthread_barrier_wait(&finish);
  return bench_now() - from;
}

static void time_is_up(int signal) {
  (void)signal;
  atomic_store_explicit(&stop, true, memory_order_relaxed);
}

/* ---- counting ------------------------------------------------------------------------------- */

static const char *const counters[] = {"hits",       "hits_front",  "hits_site",
                                       "hits_class", "hits_purged", "misses"};
static const char *const gauges[] = {"buckets", "entries", "bytes",    "cooling",
                                     "inserts", "resizes", "evictions"};
enum { COUNTERS = sizeof counters / sizeof *counters, GAUGES = sizeof gauges / sizeof *gauges };

/* Absent: as many as there can be. */
static uint64_t bigcache(const char *name) {
  char text[64];
  uint64_t value;
  snprintf(text, sizeof text, "bigcache.%s", name);
  return bench_stat(text, &value) ? value : UINT64_MAX;
}

static void print_count(const char *name, uint64_t value) {
  if (value == UINT64_MAX) {
    printf("%s -\n", name);
  } else {
    printf("%s %" PRIu64 "\n", name, value);
  }
}

static void read_counters(uint64_t *values) {
  for (size_t i = 0; i < COUNTERS; i++) values[i] = bigcache(counters[i]);
}

static void print_counters(const uint64_t *before, const uint64_t *after) {
  uint64_t hits = after[0] - before[0], misses = after[COUNTERS - 1] - before[COUNTERS - 1];
  bool there = after[0] != UINT64_MAX && after[COUNTERS - 1] != UINT64_MAX;
  for (size_t i = 0; i < COUNTERS; i++) {
    print_count(counters[i], after[i] == UINT64_MAX ? UINT64_MAX : after[i] - before[i]);
  }
  if (there && hits + misses != 0) {
    printf("hit_rate %.6f\n", (double)hits / (double)(hits + misses));
    uint64_t purged = after[COUNTERS - 2] - before[COUNTERS - 2];
    printf("warm_rate %.6f\n", (double)(hits - purged) / (double)(hits + misses));
  } else {
    printf("hit_rate -\nwarm_rate -\n");
  }
  for (size_t i = 0; i < GAUGES; i++) print_count(gauges[i], bigcache(gauges[i]));
}

/* ---- the most that was cached --------------------------------------------------------------- */

static atomic_bool sampler_stop;
static uint64_t most_cached; /* of the sampler until it is joined */

static void *sampler_thread(void *ud) {
  (void)ud;
  while (!atomic_load_explicit(&sampler_stop, memory_order_relaxed)) {
    uint64_t now = bigcache("bytes");
    if (now == UINT64_MAX) break;
    if (now > most_cached) most_cached = now;
    bench_sleep(500000);
  }
  return NULL;
}

/* What the allocator itself counted as its peak, when it does, is more than any sample. */
static void print_most_cached(void) {
  uint64_t now = bigcache("bytes"), peak = bigcache("peak");
  if (peak != UINT64_MAX && peak > most_cached) most_cached = peak;
  print_count("most_cached", now == UINT64_MAX ? UINT64_MAX : most_cached);
}

/* ---- what stays after the load --------------------------------------------------------------- */

static void print_settled(void) {
  uint64_t live = 0;
  for (size_t i = 0; i < given.threads; i++) {
    for (size_t j = 0; j < slots_each; j++) {
      if (all[i].slot[j].p == NULL) continue;
      live += given.touch_all ? all[i].size[j] : BENCH_PAGE;
    }
  }
  printf("live_kib %" PRIu64 "\nrss_at_end_kib %ld\n", live / 1024, bench_resident_kib());
  bench_sleep(2000000000);
  printf("rss_after_kib %ld\n", bench_resident_kib());
}

/* ---- all of it ------------------------------------------------------------------------------ */

static void prepare(void) {
  uint64_t requests = given.requests != 0 ? given.requests : trace->requests;
  requests_each = (size_t)(requests / given.threads);
  slots_each = trace->live != 0 ? (size_t)(trace->live / given.threads) : requests_each;
  if (requests_each == 0 || slots_each == 0) bench_die("too few requests for the threads");
  all = bench_map(given.threads * sizeof *all);
  for (size_t i = 0; i < given.threads; i++) {
    all[i].request = bench_map(requests_each * sizeof(struct request));
    all[i].slot = bench_map(slots_each * sizeof(struct block));
    all[i].size = bench_map(slots_each * sizeof(uint32_t));
    all[i].tag = (uint64_t)(i + 1) << 40;
    traces_draw(trace, i, slots_each, all[i].request, requests_each);
  }
}

/* Round 0 is not counted: a fifth of the requests, or a whole burst. */
static void set_round(uint64_t round) {
  size_t warm = trace->live != 0 ? requests_each / 5 : 0;
  for (size_t i = 0; i < given.threads; i++) {
    all[i].from = round == 0 ? 0 : warm;
    all[i].end = round == 0 && warm != 0 ? warm : requests_each;
  }
}

static uint64_t done_by_all(void) {
  uint64_t sum = 0;
  for (size_t i = 0; i < given.threads; i++) sum += all[i].done;
  return sum;
}

/* Blocks that are replaced stop when the time is over; a burst that has begun is finished, for half
 * a burst would be another load. */
static void limit_time(uint64_t ms) {
  struct itimerval timer = {.it_value = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)}};
  if (trace->live != 0) setitimer(ITIMER_REAL, &timer, NULL);
}

static void replay_trace(void) {
  uint64_t before[COUNTERS], after[COUNTERS], ns = 0, done;
  signal(SIGALRM, time_is_up);
  set_round(0);
  round_ns();
  read_counters(before);
  done = done_by_all();
  for (uint64_t round = 1; round <= trace->rounds && ns < given.ms * 1000000; round++) {
    set_round(round);
    bench_sleep(trace->pause_ns);
    limit_time(given.ms);
    ns += round_ns();
    limit_time(0);
  }
  read_counters(after);
  done = done_by_all() - done;
  if (done == 0) bench_die("nothing was counted");
  printf("ns_per_pair %.3f\npairs %" PRIu64 "\n", (double)ns / (double)done, done);
  print_counters(before, after);
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *ud) {
  if (pthread_create(thread, NULL, run, ud) != 0) bench_die("cannot start a thread");
}

static void run(void) {
  pthread_t *thread = bench_map(given.threads * sizeof *thread), sampler;
  prepare();
  if (given.threads > 1) {
    pthread_barrier_init(&start, NULL, (unsigned)given.threads + 1);
    pthread_barrier_init(&finish, NULL, (unsigned)given.threads + 1);
    for (size_t i = 0; i < given.threads; i++) start_thread(&thread[i], replayer_thread, &all[i]);
  }
  if (given.sample) start_thread(&sampler, sampler_thread, NULL);
  replay_trace();
  if (given.sample) {
    atomic_store_explicit(&sampler_stop, true, memory_order_relaxed);
    pthread_join(sampler, NULL);
    print_most_cached();
  }
  if (given.threads > 1) {
    ended = true;
    pthread_barrier_wait(&start);
    for (size_t i = 0; i < given.threads; i++) pthread_join(thread[i], NULL);
  }
  printf("peak_kib %ld\n", bench_peak_kib());
  if (given.settle) print_settled();
  for (size_t i = 0; i < given.threads; i++) drop_all(&all[i]);
}

/* ---- command line --------------------------------------------------------------------------- */

static void usage(void) {
  fprintf(stderr,
          "usage: traces TRACE [--threads=N] [--touch=first|all] [--ms=N] [--requests=N] "
          "[--sample] [--settle]\n"
          "       traces growth [--threads=N] [--requests=N]\n");
  for (const struct trace *t = traces; t->name != NULL; t++) {
    fprintf(stderr, "  %-7s %s\n", t->name, t->help);
  }
  fprintf(stderr, "  %-7s threads free blocks of as many call sites; the worst single call\n",
          "growth");
  exit(2);
}

static bool set_option(const char *argument) {
  const char *v;
  if (strcmp(argument, "--sample") == 0) return given.sample = true;
  if (strcmp(argument, "--settle") == 0) return given.settle = true;
  if ((v = bench_value(argument, "--threads=")) != NULL) {
    return bench_count(v, 1, 64, &given.threads);
  }
  if ((v = bench_value(argument, "--ms=")) != NULL) return bench_count(v, 5, 86400000, &given.ms);
  if ((v = bench_value(argument, "--requests=")) != NULL) {
    return bench_count(v, 1, 10000000, &given.requests);
  }
  if ((v = bench_value(argument, "--touch=")) != NULL) {
    given.touch_all = strcmp(v, "all") == 0;
    return given.touch_all || strcmp(v, "first") == 0;
  }
  return false;
}

int main(int argc, char **argv) {
  if (argc < 2) usage();
  for (int i = 2; i < argc; i++) {
    if (!set_option(argv[i])) usage();
  }
  if (strcmp(argv[1], "growth") == 0) {
    traces_growth(given.requests != 0 ? given.requests : 30000, given.threads);
    return 0;
  }
  for (trace = traces; trace->name != NULL && strcmp(trace->name, argv[1]) != 0;) trace++;
  if (trace->name == NULL) usage();
  run();
  return 0;
}

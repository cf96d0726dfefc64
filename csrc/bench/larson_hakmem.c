/* larson_hakmem.c - blocks that outlive the threads that allocated them.
 * Why:   servers hand work on: what one thread allocates another frees, and threads come and go.
 * Owns:  the lanes: one array of chunks each, worked on by one thread after the other.
 * Not:   comparisons (csrc/bench/run --blocks).
 * Locks: finish_mu, around the number of lanes that are done.
 * Start: main(), lane_thread().
 *
 * Usual mode: a thread replaces chunks at random places of its lane's array; when it has replaced
 * as many as the array has, `rounds` times over, it starts a fresh thread on the lane and ends.
 * With --burst N a round is N allocations and then N frees; again a thread lives `rounds` rounds.
 * With --sites N the calls name N call sites in turn; without, all come from where the code is.
 *
 * Built on hakmem (build/larson_hakmem) and, with -DUSE_MALLOC, on malloc for other allocators. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "bench/bench.h"

struct settings {
  double seconds;
  uint64_t smallest, largest, chunks, rounds, seed, threads, burst, sites;
};

struct lane {
  _Alignas(64) struct maker maker;
  struct block *chunk;
  uint64_t random, done, generations;
};

static struct settings given;
static uint32_t sizes[BENCH_SIZES];
static atomic_bool stop; /* relaxed: says when, publishes nothing */

static pthread_mutex_t finish_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finish_cv = PTHREAD_COND_INITIALIZER;
static size_t finished;

static bool stopped(void) { return atomic_load_explicit(&stop, memory_order_relaxed); }

static void replace(struct lane *lane) {
  for (uint64_t left = given.rounds * given.chunks; left > 0 && !stopped(); left--) {
    struct block *at = &lane->chunk[bench_below(&lane->random, given.chunks)];
    block_drop(*at);
    *at = block_make(&lane->maker);
    lane->done++;
  }
}

static void burst(struct lane *lane) {
  for (uint64_t left = given.rounds; left > 0 && !stopped(); left--) {
    size_t made = 0;
    while (made < given.burst && !stopped()) lane->chunk[made++] = block_make(&lane->maker);
    for (size_t i = 0; i < made; i++) block_drop(lane->chunk[i]);
    lane->done += made;
  }
}

static void start_thread(struct lane *lane);

static void *lane_thread(void *ud) {
  struct lane *lane = ud;
  lane->generations++;
  if (given.burst != 0) {
    burst(lane);
  } else {
    replace(lane);
  }
  if (!stopped()) {
    start_thread(lane); /* which sees everything written so far */
    return NULL;
  }
  pthread_mutex_lock(&finish_mu);
  finished++;
  pthread_cond_signal(&finish_cv);
  pthread_mutex_unlock(&finish_mu);
  return NULL;
}

static void start_thread(struct lane *lane) {
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&thread, &attr, lane_thread, lane) != 0) bench_die("cannot start a thread");
  pthread_attr_destroy(&attr);
}

static void fill(struct lane *lane, size_t number) {
  uint64_t count = given.burst != 0 ? given.burst : given.chunks;
  lane->maker = bench_maker(sizes, number, given.sites, false);
  lane->random = bench_seed(given.seed, number + 1);
  lane->chunk = bench_map(count * sizeof *lane->chunk);
  if (given.burst != 0) return;
  for (size_t i = 0; i < count; i++) lane->chunk[i] = block_make(&lane->maker);
}

static void run(void) {
  struct lane *lanes = bench_map(given.threads * sizeof *lanes);
  bench_draw_sizes(sizes, given.seed, given.smallest, given.largest);
  for (size_t i = 0; i < given.threads; i++) fill(&lanes[i], i);

  uint64_t start = bench_now();
  for (size_t i = 0; i < given.threads; i++) start_thread(&lanes[i]);
  bench_sleep((uint64_t)(given.seconds * 1e9));
  atomic_store_explicit(&stop, true, memory_order_relaxed);
  pthread_mutex_lock(&finish_mu); /* what the lanes counted is read after their last unlock */
  while (finished < given.threads) pthread_cond_wait(&finish_cv, &finish_mu);
  pthread_mutex_unlock(&finish_mu);
  double seconds = (double)(bench_now() - start) / 1e9;

  uint64_t done = 0, generations = 0;
  for (size_t i = 0; i < given.threads; i++) {
    done += lanes[i].done;
    generations += lanes[i].generations;
  }
  printf("larson on %s: %" PRIu64 " threads, blocks of %" PRIu64 " to %" PRIu64 " bytes\n",
         BENCH_ALLOCATOR, given.threads, given.smallest, given.largest);
  printf("  mops %.6f Mops/s (a free and an allocation are one operation)\n",
         (double)done / seconds / 1e6);
  printf("  operations %" PRIu64 " in %.3f s by %" PRIu64 " threads, one after the other\n", done,
         seconds, generations);
  printf("  peak_kib %ld KiB resident at most\n", bench_peak_kib());
  bench_print_stats(); /* while the chunks are still live */
  if (given.burst != 0) return;
  for (size_t i = 0; i < given.threads; i++) {
    for (size_t j = 0; j < given.chunks; j++) block_drop(lanes[i].chunk[j]);
  }
}

/* ---- command line --------------------------------------------------------------------------- */

static void usage(void) {
  fprintf(stderr,
          "usage: larson_hakmem seconds smallest largest chunks-per-thread rounds seed threads "
          "[--burst N] [--sites N]\n");
  exit(2);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max) {
  uint64_t n;
  if (!bench_count(text, min, max, &n)) usage();
  return n;
}

static double parse_seconds(const char *text) {
  char *end;
  double s = strtod(text, &end);
  if (!isdigit((unsigned char)*text) || *end != '\0' || !(s > 0 && s <= 86400)) usage();
  return s;
}

int main(int argc, char **argv) {
  if (argc < 8 || argc % 2 != 0) usage();
  given.seconds = parse_seconds(argv[1]);
  given.smallest = number(argv[2], sizeof(uint64_t), UINT32_C(1) << 31);
  given.largest = number(argv[3], given.smallest, UINT32_C(1) << 31);
  given.chunks = number(argv[4], 1, 100000000);
  given.rounds = number(argv[5], 1, 100000000);
  given.seed = number(argv[6], 0, UINT64_MAX);
  given.threads = number(argv[7], 1, 1024);
  for (int i = 8; i < argc; i += 2) {
    if (strcmp(argv[i], "--burst") == 0) {
      given.burst = number(argv[i + 1], 1, 100000000);
    } else if (strcmp(argv[i], "--sites") == 0) {
      given.sites = number(argv[i + 1], 0, 1 << 20);
    } else {
      usage();
    }
  }
  run();
  return 0;
}

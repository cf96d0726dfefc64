/* bench.h - what the block benchmarks share.
 * Why:   one source runs on hakmem (linked) and on malloc (glibc's, or what LD_PRELOAD names).
 * Owns:  the choice of allocator, sizes, clock, peak RSS, statistics.
 * Not:   any pattern of use.   Locks: none.
 * Start: block_make(). */
#ifndef HAK_BENCH_H
#define HAK_BENCH_H

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef USE_MALLOC
#define BENCH_ALLOCATOR "malloc"
#define bench_malloc(n) malloc(n)
#define bench_malloc_site(n, site) ((void)(site), malloc(n))
#define bench_free(p) free(p)
#else
#include "include/hakmem.h"
#define BENCH_ALLOCATOR "hakmem"
#define bench_malloc(n) hak_malloc(n)
#define bench_malloc_site(n, site) hak_malloc_site(n, site)
#define bench_free(p) hak_free(p)
#endif

#define BENCH_PAGE 4096
#define BENCH_SIZES 4096 /* drawn once, so that drawing costs nothing later */

static inline void bench_die(const char *what) {
  fprintf(stderr, "benchmark: %s\n", what);
  exit(1);
}

/* ---- numbers -------------------------------------------------------------------------------- */

static inline uint64_t bench_random(uint64_t *state) { /* xorshift64 */
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

/* Spreads small seeds; never 0, where xorshift would stay. */
static inline uint64_t bench_seed(uint64_t seed, uint64_t stream) {
  uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + stream * 0xbf58476d1ce4e5b9u;
  x ^= x >> 31;
  return x != 0 ? x : 1;
}

/* A number below `n`, at most 2^32. */
static inline size_t bench_below(uint64_t *state, size_t n) {
  return (size_t)(((bench_random(state) >> 32) * (uint64_t)n) >> 32);
}

/* A decimal number within [min, max], with K, M or G behind it; *end is where it stops.
 * Returns whether there is one. */
static inline bool bench_number(const char *text, const char **end, uint64_t min, uint64_t max,
                                uint64_t *out) {
  char *stop;
  if (!isdigit((unsigned char)*text)) return false;
  errno = 0;
  uint64_t n = strtoull(text, &stop, 10);
  if (errno != 0) return false;
  int shift = *stop == 'K' ? 10 : *stop == 'M' ? 20 : *stop == 'G' ? 30 : 0;
  if (shift != 0) stop++;
  if (n > UINT64_MAX >> shift) return false;
  n <<= shift;
  *end = stop;
  *out = n;
  return n >= min && n <= max;
}

/* The same when nothing may follow. */
static inline bool bench_count(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
  const char *end;
  return bench_number(text, &end, min, max, out) && *end == '\0';
}

static inline uint64_t bench_clock(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t bench_now(void) { return bench_clock(CLOCK_MONOTONIC); }
/* What the process itself used: one thread is timed by this where other work disturbs. */
static inline uint64_t bench_cpu_now(void) { return bench_clock(CLOCK_PROCESS_CPUTIME_ID); }
static inline uint64_t bench_thread_now(void) { return bench_clock(CLOCK_THREAD_CPUTIME_ID); }

static inline void bench_sleep(uint64_t ns) {
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Zeroed memory for the benchmark itself: not from the allocator that is measured. */
static inline void *bench_map(size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) bench_die("no memory for the benchmark's own tables");
  return p;
}

/* A line of /proc/self/status, in KiB. */
static inline long bench_status_kib(const char *name) {
  char line[256];
  size_t length = strlen(name);
  long kib = 0;
  FILE *f = fopen("/proc/self/status", "r");
  if (f == NULL) return 0;
  while (fgets(line, sizeof line, f) != NULL) {
    if (strncmp(line, name, length) == 0) kib = strtol(line + length, NULL, 10);
  }
  fclose(f);
  return kib;
}

/* The most memory that was resident at once: getrusage() would count what ran before exec(). */
static inline long bench_peak_kib(void) { return bench_status_kib("VmHWM:"); }
static inline long bench_resident_kib(void) { return bench_status_kib("VmRSS:"); }

/* Some virtual machines take idle memory back and are slow to return it: whoever measures next
 * finds these pages warm in the kernel's free lists. */
static inline void bench_touch(size_t size) {
  volatile char *p = bench_map(size);
  for (size_t i = 0; i < size; i += BENCH_PAGE) p[i] = 1;
  munmap((void *)p, size);
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* A block and the word that was written to its start: two owners of one address notice. */
struct block {
  char *p;
  uint64_t tag;
};

/* One thread's source of blocks. */
struct maker {
  const uint32_t *sizes; /* BENCH_SIZES of them */
  size_t next;
  uint64_t tag; /* the thread's number in the upper bits */
  size_t sites; /* 0: where it calls from; else it names one of so many call sites, in turn */
  bool touch_all;
};

static inline void bench_draw_sizes(uint32_t *sizes, uint64_t seed, size_t min, size_t max) {
  uint64_t state = bench_seed(seed, 0);
  for (size_t i = 0; i < BENCH_SIZES; i++) {
    sizes[i] = (uint32_t)(min + bench_below(&state, max - min + 1));
  }
}

static inline struct maker bench_maker(const uint32_t *sizes, size_t thread, size_t sites,
                                       bool touch_all) {
  return (struct maker){sizes, thread * 997, (uint64_t)(thread + 1) << 40, sites, touch_all};
}

/* What might be the address of a call. */
static inline uintptr_t bench_site(size_t number) { return 0x400000 + 16 * (uintptr_t)number; }

/* What was just allocated at `p`, touched. */
static inline struct block block_touch(char *p, size_t size, uint64_t tag, bool touch_all) {
  if (p == NULL) bench_die("out of memory");
  if (touch_all) {
    for (size_t i = BENCH_PAGE; i < size; i += BENCH_PAGE) p[i] = 1;
  }
  memcpy(p, &tag, sizeof tag);
  return (struct block){p, tag};
}

static inline struct block block_make(struct maker *m) {
  size_t size = m->sizes[m->next++ % BENCH_SIZES];
  char *p =
      m->sites == 0 ? bench_malloc(size) : bench_malloc_site(size, bench_site(m->next % m->sites));
  return block_touch(p, size, ++m->tag, m->touch_all);
}

static inline void block_drop(struct block b) {
  uint64_t found;
  memcpy(&found, b.p, sizeof found);
  if (found != b.tag) bench_die("a block's payload has changed");
  bench_free(b.p);
}

/* ---- command line --------------------------------------------------------------------------- */

/* The value behind `name` in `argument`, or NULL. */
static inline const char *bench_value(const char *argument, const char *name) {
  size_t length = strlen(name);
  return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

/* ---- statistics ----------------------------------------------------------------------------- */

enum { BENCH_STATS = 512 };

/* One statistic by name into *value; false: there is none of that name. */
static inline bool bench_stat(const char *name, uint64_t *value) {
#ifndef USE_MALLOC
  uint64_t values[BENCH_STATS];
  int i = hak_stat_find(name);
  if (i < 0 || i >= BENCH_STATS || hak_stats_read(NULL, values, BENCH_STATS) == 0) return false;
  *value = values[i];
  return true;
#else
  (void)name, (void)value;
  return false;
#endif
}

/* Every statistic of hakmem that is not zero; with malloc nothing. */
static inline void bench_print_stats(void) {
#ifndef USE_MALLOC
  static uint64_t values[BENCH_STATS];
  size_t count = hak_stats_read(NULL, values, BENCH_STATS), column = 0;
  for (size_t i = 0; i < count && i < BENCH_STATS; i++) {
    const hak_stat_info *info = hak_stat_info_at(i);
    if (!info->process || values[i] == 0) continue;
    char text[32];
    if (strcmp(info->kind, "ratio") == 0) {
      snprintf(text, sizeof text, "%.4f", (double)values[i] / 1e9);
    } else {
      snprintf(text, sizeof text, "%" PRIu64, values[i]);
    }
    printf("  %-22s %14s%s", info->name, text, ++column % 2 == 0 ? "\n" : "    ");
  }
  if (column % 2 != 0) printf("\n");
#endif
}

#endif

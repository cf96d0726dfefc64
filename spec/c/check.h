/* check.h - the test harness of the C specs: one program is one include and some TESTs.
 * Why:   each case runs in a process of its own, so that it may crash, hang, fork, or want a
 *        hakmem that has not started yet; the others still run and the line still comes.
 * Owns:  main(), the lines `ok name`, `not ok name - file:line expr`, `skip name - reason`.
 * Args:  --short (fewer rounds, as in slow builds), --full (all rounds there too), --list; words:
 *        only cases whose name holds one of them.
 * Start: TEST, CHECK. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/port.h"
#include "include/hakmem.h"
/* CHECK_BARE: a program into which nothing of hakmem is linked. */
#if HAK_AUDIT_BUILD && !defined(CHECK_BARE)
#define CHECK_AUDIT 1
#include "heap/heap.h"
#else
#define CHECK_AUDIT 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHECK_SANITIZED 1
#else
#define CHECK_SANITIZED 0
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

struct check_case {
  const char *name;
  void (*run)(void);
};
enum { CHECK_MOST = 128, CHECK_RUNNING = 0, CHECK_FAILED = 1, CHECK_SKIPPED = 2 };
static struct check_case check_cases[CHECK_MOST];
static size_t check_count;
static bool check_short; /* --short, or a build that is slow by itself */

/* Shared with the forked case and with whatever it forks: the first word wins. */
static struct check_verdict {
  _Atomic(int) state;
  char text[480];
} * check_verdict;

#define TEST(id)                                                 \
  static void id(void);                                          \
  __attribute__((constructor)) static void id##_register(void) { \
    check_cases[check_count++] = (struct check_case){#id, id};   \
  }                                                              \
  static void id(void)

__attribute__((format(printf, 2, 3), noreturn)) static void check_end(int state, const char *fmt,
                                                                      ...) {
  int running = CHECK_RUNNING;
  if (atomic_compare_exchange_strong(&check_verdict->state, &running, state)) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(check_verdict->text, sizeof check_verdict->text, fmt, args);
    va_end(args);
  }
  _exit(state);
}

#define CHECK(expr) \
  ((expr) ? (void)0 : check_end(CHECK_FAILED, "%s:%d %s", __FILE__, __LINE__, #expr))
#define CHECK_CMP(a, op, b)                                                                   \
  do {                                                                                        \
    long long check_a = (long long)(a), check_b = (long long)(b);                             \
    if (!(check_a op check_b))                                                                \
      check_end(CHECK_FAILED, "%s:%d %s %s %s (%lld, %lld)", __FILE__, __LINE__, #a, #op, #b, \
                check_a, check_b);                                                            \
  } while (0)
#define CHECK_EQ(a, b) CHECK_CMP(a, ==, b)
#define CHECK_STR(a, b)                                                                      \
  do {                                                                                       \
    const char *check_a = (a), *check_b = (b);                                               \
    if (strcmp(check_a, check_b) != 0)                                                       \
      check_end(CHECK_FAILED, "%s:%d %s is '%s', not '%s'", __FILE__, __LINE__, #a, check_a, \
                check_b);                                                                    \
  } while (0)
#define SKIP(reason) check_end(CHECK_SKIPPED, "%s", reason)

/* ---- tools that most cases want -------------------------------------------------------------- */

#define UNUSED __attribute__((unused)) static

/* Pointers of malloc-like functions may be compared at compile time; these are not. */
UNUSED void *opaque(void *p) {
  __asm__ volatile("" : "+r"(p) : : "memory");
  return p;
}

UNUSED size_t rounds(size_t full, size_t brief) { return check_short ? brief : full; }

UNUSED uint64_t rnd(uint64_t *seed) { /* splitmix64 */
  uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
UNUSED size_t below(uint64_t *seed, size_t n) { return (size_t)(rnd(seed) % n); }

/* Sizes as programs ask for them: every magnitude from 1 byte to `most` alike. */
UNUSED size_t log_size(uint64_t *seed, size_t most) {
  unsigned bits = 1;
  while (((size_t)1 << bits) < most) bits++;
  size_t n = (size_t)1 << below(seed, bits);
  n += below(seed, n);
  return n > most ? most : n;
}

/* A payload is recognised at both ends and once in each page between them. */
UNUSED unsigned char payload_byte(uint64_t tag, size_t at) {
  return (unsigned char)((tag + at) * 0x9e3779b97f4a7c15u >> 56);
}
UNUSED size_t payload_next(size_t at, size_t n) {
  if (at + 1 < 256 || at + 257 > n) return at + 1;
  size_t page = (at | 4095) + 1;
  return page + 256 < n ? page : n - 256 > at ? n - 256 : at + 1;
}
UNUSED void fill(void *p, size_t n, uint64_t tag) {
  unsigned char *b = p;
  for (size_t i = 0; i < n; i = payload_next(i, n)) b[i] = payload_byte(tag, i);
}
/* `n` bytes of a payload that was written as `whole` bytes. */
UNUSED bool intact_part(const void *p, size_t n, size_t whole, uint64_t tag) {
  const unsigned char *b = p;
  for (size_t i = 0; i < n; i = payload_next(i, whole))
    if (b[i] != payload_byte(tag, i)) return false;
  return true;
}
UNUSED bool intact(const void *p, size_t n, uint64_t tag) { return intact_part(p, n, n, tag); }
UNUSED bool all_zero(const void *p, size_t n) {
  const unsigned char *b = p;
  return n == 0 || (b[0] == 0 && memcmp(b, b + 1, n - 1) == 0);
}

UNUSED uint64_t stat_of(hak_arena *arena, const char *name) {
  uint64_t values[256] = {0};
  int index = hak_stat_find(name);
  if (index < 0) check_end(CHECK_FAILED, "no statistic '%s'", name);
  CHECK_CMP(hak_stats_read(arena, values, 256), >, index);
  return values[index];
}

/* INV stat-1, one snapshot: active + cached + purged + reserved + metadata == mapped. */
UNUSED void balanced(hak_arena *arena) {
  uint64_t v[256] = {0};
  CHECK_CMP(hak_stats_read(arena, v, 256), >, 0);
#define AT(name) v[hak_stat_find(name)]
  CHECK_EQ(AT("active") + AT("cached") + AT("purged") + AT("reserved") + AT("metadata"),
           AT("mapped"));
  CHECK_CMP(AT("allocated"), <=, AT("active"));
  CHECK_EQ(AT("waste"), AT("active") - AT("allocated"));
  CHECK_CMP(AT("charged"), <=, AT("peak"));
#undef AT
}

UNUSED size_t resident(void) {
  FILE *f = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1) CHECK(!"/proc/self/statm");
  fclose(f);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

UNUSED hak_arena *arena_of_kind(int kind, size_t hard) {
  hak_arena_config config = {.kind = kind, .hard = hard};
  hak_arena *a = hak_arena_create(&config);
  CHECK(a != NULL);
  return a;
}

UNUSED int set_knob(const char *name, const char *value) {
  return hak_configure(&name, &value, 1, NULL, 0);
}

UNUSED void nap(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

UNUSED pthread_t start(void *(*run)(void *), void *arg) {
  pthread_t t;
  CHECK_EQ(pthread_create(&t, NULL, run, arg), 0);
  return t;
}
UNUSED void *finish(pthread_t t) {
  void *result;
  CHECK_EQ(pthread_join(t, &result), 0);
  return result;
}

/* Waits for a child that must end by itself with status 0. */
UNUSED void reap(pid_t child) {
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

/* ---- running --------------------------------------------------------------------------------- */

static void check_run_child(const struct check_case *c) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  alarm(CHECK_SANITIZED ? 500 : 240);
  c->run();
#if CHECK_AUDIT
  CHECK(haki_audit());
#endif
  exit(0); /* not _exit: leak checkers and coverage work at exit */
}

static bool check_run(const struct check_case *c) {
  atomic_store(&check_verdict->state, CHECK_RUNNING);
  check_verdict->text[0] = 0;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) check_run_child(c);
  int status = 0;
  bool waited = child > 0 && waitpid(child, &status, 0) == child;
  if (child > 0) kill(-child, SIGKILL); /* what the case left behind */
  int state = atomic_load(&check_verdict->state);
  if (state == CHECK_SKIPPED) {
    printf("skip %s - %s\n", c->name, check_verdict->text);
    return true;
  }
  if (waited && status == 0 && state == CHECK_RUNNING) {
    printf("ok %s\n", c->name);
    return true;
  }
  if (state == CHECK_FAILED)
    printf("not ok %s - %s\n", c->name, check_verdict->text);
  else if (waited && WIFSIGNALED(status))
    printf("not ok %s - ended by %s\n", c->name,
           WTERMSIG(status) == SIGALRM ? "time out" : strsignal(WTERMSIG(status)));
  else
    printf("not ok %s - exit status %d\n", c->name, waited ? WEXITSTATUS(status) : -1);
  return false;
}

static bool check_wanted(const char *name, int argc, char **argv) {
  bool any = false;
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] == '-') continue;
    if (strstr(name, argv[i]) != NULL) return true;
    any = true;
  }
  return !any;
}

/* A program may be started again by one of its own cases, as `program child <what>`. */
#ifdef CHECK_CHILD
static int CHECK_CHILD(const char *what);
#endif

int main(int argc, char **argv) {
#ifdef CHECK_CHILD
  if (argc == 3 && strcmp(argv[1], "child") == 0) return CHECK_CHILD(argv[2]);
#endif
  check_short = CHECK_SANITIZED || HAK_AUDIT_BUILD;
  bool list = false, good = true;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--short") == 0) check_short = true;
    if (strcmp(argv[i], "--full") == 0) check_short = false;
    if (strcmp(argv[i], "--list") == 0) list = true;
  }
  check_verdict =
      mmap(NULL, sizeof *check_verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (check_verdict == MAP_FAILED) return 2;
  for (size_t i = 0; i < check_count; i++) {
    if (!check_wanted(check_cases[i].name, argc, argv)) continue;
    if (list)
      printf("%s\n", check_cases[i].name);
    else
      good &= check_run(&check_cases[i]);
    fflush(stdout);
  }
  return good ? 0 : 1;
}

#endif

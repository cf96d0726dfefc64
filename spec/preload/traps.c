/* traps.c - where drop-in allocators were caught before: forks under load, threads at once after the
 * start, exits in every order, libraries that come and go, limits.
 * How:   run with LD_PRELOAD; nothing of hakmem is linked.
 * Start: TEST(forks_under_load). */
#define _GNU_SOURCE
#define CHECK_BARE 1
#define CHECK_CHILD child
#include "../c/check.h"

#include <dlfcn.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>

extern char **environ;

/* A few blocks of every kind, some of them kept. */
enum { KEPT = 64 };
static void churn(char *kept[KEPT], uint64_t *seed, size_t n) {
  for (size_t i = 0; i < n; i++) {
    size_t k = below(seed, KEPT), size = log_size(seed, below(seed, 40) ? 4000 : 2 * MIB);
    if (kept[k] != NULL) CHECK_EQ(kept[k][0], (char)k);
    free(kept[k]);
    kept[k] = malloc(size);
    CHECK(kept[k] != NULL);
    kept[k][0] = (char)k;
  }
}
static void churn_all(uint64_t seed, size_t n) {
  char *kept[KEPT] = {NULL};
  churn(kept, &seed, n);
  for (size_t k = 0; k < KEPT; k++) free(kept[k]);
}

/* ---- forks ---- */

static _Atomic(bool) stop;
static void *churner(void *seed) {
  char *kept[KEPT] = {NULL};
  uint64_t s = (uintptr_t)seed;
  while (!atomic_load(&stop)) {
    churn(kept, &s, 200);
    nap(1); /* or the forks wait for the processors */
  }
  for (size_t k = 0; k < KEPT; k++) free(kept[k]);
  return NULL;
}

TEST(forks_under_load) {
  pthread_t t[2];
  for (uintptr_t i = 0; i < 2; i++) t[i] = start(churner, (void *)(i + 1));
  char *mine[KEPT] = {NULL};
  uint64_t seed = 3;
  for (size_t i = 0; i < rounds(10000, 500); i++) {
    churn(mine, &seed, 10);
    pid_t pid = fork();
    CHECK_CMP(pid, >=, 0);
    if (pid == 0) {
      churn(mine, &seed, 20); /* the parent's blocks, and new ones */
      if (i % 50 == 0) finish(start(churner, (atomic_store(&stop, true), NULL)));
      _exit(0);
    }
    reap(pid);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 2; i++) finish(t[i]);
}

TEST(forks_of_forks) {
  for (size_t depth = 0; depth < rounds(200, 30); depth++) {
    churn_all(depth, 200);
    pid_t pid = fork();
    CHECK_CMP(pid, >=, 0);
    if (pid == 0) continue; /* the child goes on */
    reap(pid);
    _exit(0);
  }
  _exit(0);
}

/* ---- fresh starts ---- */

static pid_t again(const char *what) {
  pid_t pid;
  char *args[] = {"traps", "child", (char *)what, NULL};
  CHECK_EQ(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, args, environ), 0);
  return pid;
}

static pthread_barrier_t gate;
static void *at_the_gate(void *seed) {
  pthread_barrier_wait(&gate);
  churn_all((uintptr_t)seed, 30);
  return strdup("left to main");
}
static void start_at_once(void) {
  enum { N = 4 };
  pthread_t t[N];
  pthread_barrier_init(&gate, NULL, N);
  for (uintptr_t i = 0; i < N; i++) t[i] = start(at_the_gate, (void *)i);
  for (int i = 0; i < N; i++) free(finish(t[i]));
}

TEST(fresh_starts_with_threads_at_once) {
  for (size_t i = 0; i < rounds(5000, 200); i++) reap(again("threads"));
}

/* ---- ends of threads ---- */

static pthread_key_t keys[3];
/* What the C library, C++ and libraries do in destructors: free, allocate, hand on to the next round. */
static void end_of_thread(void *value) {
  char *p = value;
  char again_and_again = p[0];
  free(p);
  churn_all(7, 20);
  void *large = malloc(300000);
  CHECK(large != NULL);
  free(large);
  if (again_and_again == 0) return;
  p = malloc(40);
  p[0] = (char)(again_and_again - 1);
  for (size_t i = 0; i < HAK_COUNT_OF(keys); i++)
    if (pthread_getspecific(keys[i]) == NULL) {
      pthread_setspecific(keys[i], p); /* another round of destructors */
      return;
    }
  free(p);
}

extern int __cxa_thread_atexit_impl(void (*run)(void *), void *object, void *dso);
extern void *__dso_handle;

static void end_of_object(void *p) {
  free(p);
  churn_all(8, 20);
}

static void *thread_with_ends(void *how) {
  uintptr_t bits = (uintptr_t)how;
  for (size_t i = 0; i < HAK_COUNT_OF(keys); i++) {
    char *p = malloc(100);
    p[0] = (char)(bits & 3);
    pthread_setspecific(keys[(i + bits) % HAK_COUNT_OF(keys)], p);
  }
  if (bits & 4) __cxa_thread_atexit_impl(end_of_object, malloc(50), &__dso_handle);
  if (bits & 8) churn_all(bits, 50);
  if (bits & 16) pthread_exit(strdup("x"));
  return strdup("x");
}

TEST(threads_end_in_every_order) {
  for (size_t i = 0; i < HAK_COUNT_OF(keys); i++)
    CHECK_EQ(pthread_key_create(&keys[i], end_of_thread), 0);
  for (uintptr_t round = 0; round < rounds(1000, 100); round++) {
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++) t[i] = start(thread_with_ends, (void *)(round + i * 9));
    for (int i = 0; i < 4; i++) free(finish(t[(i * 3 + (int)round) % 4]));
  }
}

/* Many keys: the C library allocates for those beyond the first 32. */
TEST(many_keys) {
  pthread_key_t more[100];
  for (size_t i = 0; i < HAK_COUNT_OF(more); i++) CHECK_EQ(pthread_key_create(&more[i], free), 0);
  for (int i = 0; i < 100; i++)
    for (size_t k = 0; k < HAK_COUNT_OF(more); k += 7) {
      free(pthread_getspecific(more[k]));
      CHECK_EQ(pthread_setspecific(more[k], malloc(k + 1)), 0);
    }
  start_at_once();
}

static void *busy(void *times) { /* NULL: for ever */
  for (uintptr_t i = 0; times == NULL || i < (uintptr_t)times; i++) churn_all(i, 100);
  return NULL;
}
TEST(main_ends_while_others_work) {
  for (size_t i = 0; i < rounds(300, 50); i++) {
    reap(again("exit")); /* exit() with threads at work */
    reap(again("main")); /* main leaves by pthread_exit(), the last thread ends the process */
  }
}

/* Detached threads come and go; their blocks are freed by others. */
static _Atomic(void *) letter;
static _Atomic(int) running;
static void *writer(void *unused) {
  free(atomic_exchange(&letter, malloc(1000)));
  atomic_fetch_sub(&running, 1);
  return unused;
}
TEST(detached_threads_stay_flat) {
  size_t middle = 0, n = rounds(20000, 2000);
  for (size_t i = 0; i < n; i++) {
    while (atomic_load(&running) > 8) sched_yield();
    atomic_fetch_add(&running, 1);
    pthread_detach(start(writer, NULL));
    if (i == n / 2) middle = resident();
  }
  CHECK_CMP(resident(), <, middle + 8 * MIB);
}

/* ---- libraries that come and go ---- */

static void *load_and_close(void *times) {
  static const char *const names[] = {"libm.so.6",    "libresolv.so.2",    "libanl.so.1",
                                      "libutil.so.1", "libnss_files.so.2", "libthread_db.so.1",
                                      "libmvec.so.1"};
  int seen = 0;
  for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
    void *l = dlopen(names[i % HAK_COUNT_OF(names)], i & 1 ? RTLD_NOW : RTLD_LAZY | RTLD_GLOBAL);
    if (l == NULL) {
      CHECK(dlerror() != NULL); /* allocated text */
      continue;
    }
    seen++;
    dlsym(l, "no_such_symbol");
    churn_all(i, 5);
    dlclose(l);
  }
  CHECK_CMP(seen, >, 0);
  return NULL;
}
TEST(libraries_come_and_go) {
  uintptr_t times = rounds(2000, 200);
  load_and_close((void *)times);
  size_t before = resident();
  pthread_t t[2];
  for (int i = 0; i < 2; i++) t[i] = start(load_and_close, (void *)times);
  for (int i = 0; i < 2; i++) finish(t[i]);
  CHECK_CMP(resident(), <, before + 8 * MIB);
}

/* ---- no memory ---- */

/* Takes all there is, twice; what was there stays whole. */
static void exhaust(size_t size) {
  for (int round = 0; round < 2; round++) {
    void **list = NULL, **p;
    char *kept = malloc(100);
    size_t n = 0;
    CHECK(kept != NULL);
    fill(kept, 100, 5);
    errno = 0;
    for (; (p = malloc(size)) != NULL; list = p, n++) *p = list;
    CHECK_EQ(errno, ENOMEM);
    CHECK_CMP(n, >, 0);
    errno = 0;
    CHECK(opaque(calloc(1, 2000 * MIB)) == NULL && errno == ENOMEM);
    CHECK(opaque(realloc(opaque(kept), 2000 * MIB)) == NULL && intact(kept, 100, 5));
    for (; list != NULL; list = p) {
      p = *list;
      free(list);
    }
    free(kept);
    churn_all(1, 500);
  }
}

static void limit_space(size_t bytes) {
  CHECK_EQ(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}), 0);
}

TEST(a_limit_before_the_start) {
  static const size_t limits[] = {64 * MIB, 200 * MIB, 500 * MIB};
  for (size_t i = 0; i < HAK_COUNT_OF(limits); i++) {
    for (int threads = 0; threads < 2; threads++) {
      pid_t pid = fork();
      if (pid == 0) {
        limit_space(limits[i]);
        execl("/proc/self/exe", "traps", "child", threads ? "threads" : "exhaust", (char *)NULL);
        _exit(99);
      }
      reap(pid);
    }
  }
}

TEST(a_limit_after_the_start) {
  churn_all(1, 1000);
  limit_space(300 * MIB); /* below what is reserved already */
  exhaust(3000);
  exhaust(100000);
  exhaust(2 * MIB);
}

static int child(const char *what) {
  if (strcmp(what, "exhaust") == 0) {
    check_verdict = mmap(NULL, sizeof *check_verdict, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    exhaust(500);
    exhaust(50000);
    exhaust(1500000);
  } else if (strcmp(what, "threads") == 0) {
    start_at_once();
  } else {
    bool leave = strcmp(what, "main") == 0;
    for (int i = 0; i < 3; i++) start(busy, leave ? (void *)5 : NULL);
    churn_all(1, 100);
    if (leave) pthread_exit(NULL);
    exit(0);
  }
  return 0;
}

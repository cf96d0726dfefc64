/* fork.c - forks under load: the child has one thread, whole state, and may do everything.
 * Why:   locks held by threads that are not copied are the classic deadlock; a hang ends by alarm.
 * Not:   children of children of Lua states (the Lua specs).
 * Start: forks_under_load. */
#include "check.h"

static _Atomic(bool) stop;
static hak_arena *shared;
static _Atomic(size_t) turns;

static void churn_once(uint64_t *seed, void **held, size_t n) {
  size_t k = below(seed, n);
  hak_free(held[k]);
  size_t size = log_size(seed, below(seed, 50) ? 4000 : 2 * MIB);
  held[k] = below(seed, 2) ? hak_malloc(size) : hak_arena_alloc(shared, size);
  CHECK(held[k] != NULL);
  *(char *)held[k] = 1;
}

static void *loader(void *seed_word) { /* every lock of hakmem is held by someone at any time */
  uint64_t seed = (uintptr_t)seed_word;
  void *held[64] = {0};
  hak_arena *own = NULL;
  while (!stop) {
    churn_once(&seed, held, 64);
    if (below(&seed, 32) == 0) {
      if (own != NULL) CHECK_EQ(hak_arena_destroy(own), 0);
      own = arena_of_kind((int)below(&seed, 2), 0);
      CHECK(hak_lua_alloc(own, NULL, 0, 1000) != NULL);
    }
    if (below(&seed, 64) == 0) hak_trim();
    if (below(&seed, 64) == 0) CHECK_EQ(set_knob("small.keep", below(&seed, 2) ? "1" : "2"), 0);
    if (below(&seed, 64) == 0) CHECK_CMP(stat_of(NULL, "mapped"), >, 0);
    turns++;
  }
  if (own != NULL) CHECK_EQ(hak_arena_destroy(own), 0);
  for (int i = 0; i < 64; i++) hak_free(held[i]);
  return NULL;
}

static void *child_thread(void *unused) {
  uint64_t seed = 4;
  void *held[16] = {0};
  for (int i = 0; i < 100; i++) churn_once(&seed, held, 16);
  for (int i = 0; i < 16; i++) hak_free(held[i]);
  return unused;
}

static void child_life(uint64_t seed, void **inherited, int depth) {
  alarm(CHECK_SANITIZED ? 120 : 60);
  for (size_t i = 0; i < 32; i++) {
    CHECK(intact(inherited[i], 500, i)); /* blocks of the parent, ours now */
    if (i % 2) hak_free(inherited[i]);
  }
  void *held[32] = {0};
  for (int i = 0; i < 200; i++) churn_once(&seed, held, 32);
  hak_arena *a = arena_of_kind((int)(seed & 1), MIB);
  char *p = hak_lua_alloc(a, NULL, 0, 777), *q = hak_arena_alloc(a, 100000);
  CHECK(p != NULL && q != NULL);
  fill(p, 777, 1);
  CHECK_CMP(stat_of(NULL, "forks.children"), ==, (uint64_t)depth);
  if (seed % 4 == 0 && !CHECK_SANITIZED) finish(start(child_thread, NULL));
  if (depth < 2 && seed % 8 == 0) {
    pid_t grandchild = fork();
    CHECK_CMP(grandchild, >=, 0);
    if (grandchild == 0) {
      void *mine[32];
      for (size_t i = 0; i < 32; i++) fill(mine[i] = hak_malloc(500), 500, i);
      child_life(seed + 1, mine, depth + 1);
      _exit(0);
    }
    reap(grandchild);
  }
  CHECK(intact(p, 777, 1));
  CHECK_EQ(hak_arena_destroy(a), 0);
  for (int i = 0; i < 32; i++) hak_free(held[i]);
  hak_trim();
  if (seed % 3 == 0) hak_shutdown();
}

TEST(forks_under_load) {
  enum { LOADERS = 5 };
  shared = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t[LOADERS];
  for (uintptr_t i = 0; i < LOADERS; i++) t[i] = start(loader, (void *)(i + 1));
  void *inherited[32];
  for (size_t i = 0; i < 32; i++) fill(inherited[i] = hak_malloc(500), 500, i);
  for (uint64_t i = 0; i < rounds(1000, 100); i++) {
    size_t seen = turns;
    pid_t child = fork();
    CHECK_CMP(child, >=, 0);
    if (child == 0) {
      child_life(i, inherited, 1);
      _exit(0);
    }
    reap(child);
    for (size_t k = 0; k < 32; k++) CHECK(intact(inherited[k], 500, k));
    while (turns == seen) sched_yield(); /* the parent's threads still run */
  }
  stop = true;
  for (int i = 0; i < LOADERS; i++) finish(t[i]);
  for (int i = 0; i < 32; i++) hak_free(inherited[i]);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "forks.children"), 0);
  CHECK_EQ(hak_arena_destroy(shared), 0);
}

/* The heap of a thread that was not copied: its blocks are whole and can be freed. */
static void *filled[20000];
static _Atomic(int) ready;
static void *filler(void *arena) {
  for (size_t i = 0; i < 20000; i++) fill(filled[i] = hak_arena_alloc(arena, 600), 600, i);
  for (int i = 0; i < 20000; i += 2) hak_arena_free(arena, filled[i]);
  ready = 1;
  while (!stop) nap(1);
  return NULL;
}

TEST(blocks_of_lost_threads) {
  shared = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t = start(filler, shared);
  while (!ready) nap(1);
  pid_t child = fork();
  CHECK_CMP(child, >=, 0);
  if (child == 0) {
    for (size_t i = 1; i < 20000; i += 2) {
      CHECK(intact(filled[i], 600, i));
      filled[i - 1] = hak_arena_alloc(shared, 600);
      CHECK(filled[i - 1] != NULL);
      fill(filled[i - 1], 600, i);
    }
    for (size_t i = 1; i < 20000; i += 2) {
      CHECK(intact(filled[i], 600, i) && intact(filled[i - 1], 600, i));
      hak_arena_free(shared, filled[i]);
      hak_arena_free(shared, filled[i - 1]);
    }
    hak_arena_trim(shared);
    CHECK_EQ(hak_arena_destroy(shared), 0); /* that thread was idle: all of it goes */
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
    balanced(NULL);
    exit(0);
  }
  reap(child);
  stop = true;
  finish(t);
  CHECK_EQ(hak_arena_destroy(shared), 0);
}

TEST(forks_before_the_first_use) {
  for (int depth = 1; depth <= 3; depth++) { /* nothing has started: each child starts it */
    pid_t child = fork();
    CHECK_CMP(child, >=, 0);
    if (child > 0) {
      reap(child);
      return;
    }
    alarm(60);
  }
  void *p = hak_malloc(100);
  CHECK(p != NULL);
  hak_free(p);
}

/* A start that takes its time: it warns about each of these settings, and is not read quickly. */
static _Atomic(bool) has_warned, has_forked;
static void *use_first(void *unused) {
  hak_free(hak_malloc(100));
  while (!atomic_load(&has_forked)) nap(1);
  return unused;
}
static void *read_slowly(void *fd) {
  char text[4096];
  while (read(*(int *)fd, text, sizeof text) > 0) {
    atomic_store(&has_warned, true);
    nap(2);
  }
  return NULL;
}
TEST(forks_during_the_first_use) {
  static char conf[30000];
  for (size_t n = 0; n + 8 < sizeof conf; n += 6) memcpy(conf + n, "bad:1,", 7);
  setenv("HAKMEM_CONF", conf, 1);
  int fd[2], old = dup(2);
  CHECK_EQ(pipe(fd), 0);
  dup2(fd[1], 2);
  close(fd[1]);
  pthread_t reader = start(read_slowly, &fd[0]), user = start(use_first, NULL);
  while (!atomic_load(&has_warned)) nap(1);
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    hak_free(hak_malloc(100));
    _exit(0);
  }
  atomic_store(&has_forked, true);
  reap(child);
  finish(user);
  dup2(old, 2);
  finish(reader);
}

static void *forker(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  void *held[16] = {0};
  for (size_t i = 0; i < rounds(60, 10); i++) {
    for (int k = 0; k < 50; k++) churn_once(&seed, held, 16);
    pid_t child = fork();
    CHECK_CMP(child, >=, 0);
    if (child == 0) {
      alarm(60);
      for (int k = 0; k < 50; k++) churn_once(&seed, held, 16);
      _exit(0);
    }
    reap(child);
  }
  for (int i = 0; i < 16; i++) hak_free(held[i]);
  return NULL;
}

TEST(several_threads_fork_at_once) {
  shared = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t[4];
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(forker, (void *)(i + 1));
  for (int i = 0; i < 4; i++) finish(t[i]);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(hak_arena_destroy(shared), 0);
}

TEST(memory_is_not_shared_after_fork) {
  char *p = hak_malloc(100), *q = hak_malloc(MIB);
  fill(p, 100, 1);
  fill(q, MIB, 2);
  pid_t child = fork();
  CHECK_CMP(child, >=, 0);
  if (child == 0) {
    q = hak_realloc(q, 20 * MIB); /* may move page tables: only ours */
    memset(q, 0xff, 20 * MIB);
    memset(p, 0xff, 100);
    hak_free(p);
    hak_free(q);
    hak_trim();
    exit(0);
  }
  reap(child);
  CHECK(intact(p, 100, 1) && intact(q, MIB, 2));
  hak_free(p);
  hak_free(q);
}

/* drain.c - the background thread: when it comes, what it does, how it sleeps, ends and is lost.
 * Why:   it works on caches of threads that know nothing of it, and nobody sees it fail.
 * Not:   the pool without it (l25.c). The biased lock by itself stands at the end.
 * Start: it_comes_with_use. */
#include "check.h"

#include <dirent.h>
#include <sys/resource.h>

#include "heap/arena.h"
#include "os/os.h"
#include "pool/l25.h"

enum { BLOCK = 200000, WAVE = 20 };

static void knob(const char *name, const char *value) { CHECK_EQ(set_knob(name, value), 0); }

/* Nothing here says how long something takes: only that it comes, before the case's alarm. */
#define EVENTUALLY(expr) \
  while (!(expr)) nap(2)

static bool running(void) { return stat_of(NULL, "drain.running") != 0; }
static uint64_t cached(void) { return stat_of(NULL, "l25.cached"); }

static void wave(hak_arena *a, size_t n, size_t size) {
  void *p[64];
  for (size_t i = 0; i < n; i++) {
    CHECK((p[i] = hak_arena_alloc(a, size)) != NULL);
    memset(p[i], 1, size);
  }
  for (size_t i = 0; i < n; i++) hak_free(p[i]);
}

/* Ticks are not at every operation, less so while the thread is there. */
static void use_until_it_runs(hak_arena *a) { EVENTUALLY((wave(a, WAVE, BLOCK), running())); }

static void lively(void) {
  knob("drain.interval", "1ms");
  knob("l25.decay", "10ms");
}

/* The fields of a thread called hakmem-drain in /proc; false: there is none. */
static bool find_thread(uint64_t *blocked) {
  bool found = false;
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
    char path[300], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
    FILE *f = e->d_name[0] != '.' ? fopen(path, "r") : NULL;
    if (f == NULL) continue;
    bool its = false;
    while (fgets(line, sizeof line, f) != NULL) {
      its |= strcmp(line, "Name:\thakmem-drain\n") == 0;
      unsigned long long mask;
      if (its && sscanf(line, "SigBlk: %llx", &mask) == 1) *blocked = mask;
    }
    fclose(f);
    found |= its;
  }
  closedir(tasks);
  return found;
}
static bool there(void) { return find_thread(&(uint64_t){0}); }
/* It was joined; the kernel wakes who waits for that before it takes the thread out of /proc. */
static bool has_ended(void) {
  EVENTUALLY(running() || !there());
  return !running();
}

/* ---- it comes ------------------------------------------------------------------------------- */

TEST(it_comes_with_use) {
  uint64_t blocked = 0;
  hak_free(hak_malloc(100));
  wave(hak_arena_default(), 2, BLOCK);
  CHECK(!running()); /* not for a block or two */
  wave(hak_arena_default(), WAVE, BLOCK);
  CHECK(running());
  CHECK_EQ(stat_of(NULL, "drain.starts"), 1);
  EVENTUALLY(there());
  CHECK(find_thread(&blocked));
  for (int s = 1; s < 32; s++)
    if (s != SIGKILL && s != SIGSTOP) CHECK((blocked >> (s - 1) & 1) != 0);
  sigset_t mine;
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
  CHECK(!sigismember(&mine, SIGTERM)); /* who made it has its own mask back */
  wave(hak_arena_default(), WAVE, BLOCK);
  CHECK_EQ(stat_of(NULL, "drain.starts"), 1);
  CHECK_EQ(stat_of(NULL, "heaps.live"), 1); /* it has none */
}

static void *many_small(void *arena) {
  static _Atomic(void *) p[20000];
  for (int i = 0; i < 20000; i++) p[i] = hak_arena_alloc(arena, 1000);
  for (int i = 0; i < 20000; i++) hak_free(p[i]);
  return NULL;
}

TEST(it_does_not_come_for_others) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  for (int i = 0; i < 20; i++) wave(a, WAVE, BLOCK);
  for (int i = 0; i < 400; i++) hak_lua_alloc(a, hak_lua_alloc(a, NULL, 0, BLOCK), BLOCK, 0);
  finish(start(many_small, hak_arena_default()));
  for (int i = 0; i < 5; i++) hak_free(hak_malloc(3 * MIB)); /* nor for a block or two */
  CHECK_EQ(hak_arena_destroy(a), 0);
  hak_trim();
  CHECK(!running() && !there());
  CHECK_EQ(stat_of(NULL, "drain.starts"), 0);
  for (int i = 0; i < 50; i++) hak_free(hak_malloc(3 * MIB));
  CHECK(running());
}

static void refuse_threads(bool refuse) {
#if HAK_FAULT
  if (refuse)
    haki_fault_arm(HAK_FAULT_THREAD, 1, true);
  else
    haki_fault_disarm();
#else
  static struct rlimit before; /* no address space for a stack */
  if (refuse) CHECK_EQ(getrlimit(RLIMIT_AS, &before), 0);
  CHECK_EQ(setrlimit(RLIMIT_AS, refuse ? &(struct rlimit){MIB, before.rlim_max} : &before), 0);
#endif
}

static char heard[8][120];
static _Atomic(int) lines;
static void hear(int level, const char *line, void *ud) {
  (void)ud;
  if (level == 1 && lines < 8) snprintf(heard[lines++], sizeof heard[0], "%s", line);
}

TEST(it_cannot_be_made) {
  if (CHECK_SANITIZED && !HAK_FAULT) SKIP("address space cannot be limited");
  hak_arena *a = hak_arena_default();
  knob("drain.enabled", "off"); /* a thread that was there leaves its stack to the next */
  wave(a, 64, BLOCK);           /* address space enough, before the limit */
  refuse_threads(true);
  knob("drain.enabled", "on");
  knob("log.level", "1");
  hak_log_set_sink(hear, NULL);
  uint64_t failures = stat_of(NULL, "drain.failures");
  for (int i = 0; i < 50; i++) wave(a, WAVE, BLOCK);
  CHECK(!running() && !there());
  CHECK_EQ(lines, 1); /* not one for each tick */
  CHECK(strstr(heard[0], "No background thread") != NULL);
  CHECK_EQ(stat_of(NULL, "drain.failures"), failures + 1);
  CHECK_CMP(stat_of(NULL, "os.failures"), >, 0);
  refuse_threads(false);
  EVENTUALLY((wave(a, WAVE, BLOCK), running())); /* tried again, a second later */
  EVENTUALLY(there());
}

/* ---- it works ------------------------------------------------------------------------------- */

static pthread_barrier_t gate;
static void meet(void) { pthread_barrier_wait(&gate); }

static void *uses_and_sleeps(void *arena) {
  for (int i = 0; i < 2; i++) {
    wave(arena, WAVE, BLOCK);
    wave(arena, 10, 900 * KIB);
    meet();
    meet();
  }
  wave(arena, WAVE, BLOCK); /* its cache is as good as before */
  return NULL;
}

/* Ring, LIFO, transfer batch, bump run: all of it comes back while the thread sleeps. */
TEST(an_idle_thread_keeps_nothing) {
  lively();
  pthread_barrier_init(&gate, NULL, 2);
  hak_arena *places[2] = {hak_arena_default(), arena_of_kind(HAK_ARENA_SHARED, 0)};
  for (int i = 0; i < 2; i++) {
    pthread_t t = start(uses_and_sleeps, places[i]);
    for (int k = 0; k < 2; k++) {
      meet();
      EVENTUALLY(stat_of(places[i], "l25.cached") == 0);
      CHECK_EQ(stat_of(places[i], "charged"), 0);
      meet();
    }
    finish(t);
  }
  CHECK_CMP(stat_of(NULL, "drain.caches"), >=, 4);
  CHECK_CMP(stat_of(NULL, "drain.blocks"), >, 0);
  CHECK_CMP(stat_of(NULL, "drain.bytes"), >, 20 * 900 * KIB);
  EVENTUALLY(cached() == 0);
  if (!CHECK_SANITIZED) EVENTUALLY(stat_of(NULL, "cached") < 4 * MIB); /* purged, too */
  CHECK_EQ(hak_arena_destroy(places[1]), 0);
}

TEST(resident_memory_comes_back) {
  if (CHECK_SANITIZED) SKIP("residence is the sanitizer's");
  lively();
  knob("l25.cache_bytes", "1G");
  size_t before = resident();
  void *p[64];
  for (int i = 0; i < 64; i++) memset(p[i] = hak_malloc(MIB), 1, MIB);
  for (int i = 0; i < 64; i++) hak_free(p[i]);
  EVENTUALLY(resident() < before + 16 * MIB);
}

static void *held[64];
static void *takes_and_sleeps(void *unused) {
  for (int i = 0; i < 64; i++) held[i] = hak_malloc(BLOCK);
  meet();
  meet();
  void *p = hak_malloc(BLOCK); /* the cache is still its own */
  hak_free(p);
  return unused;
}

TEST(what_others_free_for_an_idle_thread_comes_back) {
  lively();
  pthread_barrier_init(&gate, NULL, 2);
  pthread_t t = start(takes_and_sleeps, NULL);
  meet();
  CHECK(running());
  for (int i = 0; i < 32; i++) hak_free(held[i]);
  EVENTUALLY(cached() == 0);
  CHECK_EQ(stat_of(NULL, "large.blocks"), 32);
  EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP);
  for (int i = 32; i < 64; i++) hak_free(held[i]); /* and wakes it: this thread has no cache */
  EVENTUALLY(cached() == 0);
  CHECK_CMP(stat_of(NULL, "l25.remote_frees"), >=, 64);
  meet();
  finish(t);
  CHECK_EQ(stat_of(NULL, "large.blocks"), 0);
}

TEST(what_others_free_for_a_dead_thread_comes_back) {
  lively();
  pthread_barrier_init(&gate, NULL, 2);
  pthread_t t = start(takes_and_sleeps, NULL);
  meet();
  meet();
  finish(t);
  EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP);
  for (int i = 0; i < 64; i++) hak_free(held[i]);
  EVENTUALLY(cached() == 0);
}

TEST(it_sleeps_when_nothing_is_left) {
  lively();
  wave(hak_arena_default(), 64, BLOCK);
  for (int k = 0; k < 3; k++) {
    EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP && stat_of(NULL, "cached") < 4 * MIB);
    CHECK_EQ(cached(), 0);
    uint64_t rounds_done = 0, wakeups = stat_of(NULL, "drain.wakeups");
    EVENTUALLY(rounds_done == stat_of(NULL, "drain.rounds") ||
               (rounds_done = stat_of(NULL, "drain.rounds"), nap(30), false));
    nap(100);
    CHECK_EQ(stat_of(NULL, "drain.rounds"), rounds_done); /* a sleeper does nothing */
    void *p = hak_malloc(BLOCK); /* one operation wakes it, whatever was done before */
    CHECK_CMP(stat_of(NULL, "drain.wakeups"), >, wakeups);
    hak_free(p);
    EVENTUALLY(cached() == 0);
  }
}

static _Atomic(bool) stop;
static void *asker(void *arena) {
  while (!stop) wave(arena, 40, 40000);
  return NULL;
}

/* Rounds find what ticks would find without it. */
TEST(its_check_makes_pools_grow) {
  lively();
  knob("l25.check_interval", "0");
  knob("l25.contention_threshold", "1");
  knob("l25.max_shards", "8");
  knob("l25.initial_shards", "1");
  knob("l25.cache_bytes", "0");
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t[2];
  for (int i = 0; i < 2; i++) t[i] = start(asker, a);
  EVENTUALLY(stat_of(a, "l25.shards") == 8);
  stop = true;
  for (int i = 0; i < 2; i++) finish(t[i]);
  CHECK(running());
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(private_arenas_are_left_alone) {
  lively();
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  for (int i = 0; i < 20000; i++) hak_lua_alloc(a, NULL, 0, 100);
  CHECK_EQ(hak_arena_reset(a), 0);
  uint64_t retained = stat_of(a, "charged"), rounds_done = stat_of(NULL, "drain.rounds");
  CHECK_CMP(retained, >, 0);
  wave(hak_arena_default(), WAVE, BLOCK);
  EVENTUALLY(stat_of(NULL, "drain.rounds") > rounds_done + 20 || haki_bell_state == 2);
  CHECK_EQ(stat_of(a, "charged"), retained);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- knobs ---------------------------------------------------------------------------------- */

TEST(drain_enabled_effect) {
  knob("drain.enabled", "off");
  for (int i = 0; i < 20; i++) wave(hak_arena_default(), WAVE, BLOCK);
  CHECK(!running() && !there());
  CHECK_CMP(cached(), >, 0);
  for (int k = 0; k < 5; k++) {
    knob("drain.enabled", "on");
    CHECK(!running()); /* not before it is needed */
    use_until_it_runs(hak_arena_default());
    knob("drain.enabled", "off"); /* also while it sleeps or works */
    CHECK(has_ended());
    for (int i = 0; i < 20; i++) wave(hak_arena_default(), WAVE, BLOCK);
    CHECK(!running());
  }
  CHECK_EQ(stat_of(NULL, "drain.starts"), 5);
}

TEST(drain_interval_effect) {
  knob("drain.interval", "1h");
  knob("l25.decay", "10ms");
  wave(hak_arena_default(), WAVE, BLOCK);
  CHECK(running());
  EVENTUALLY(stat_of(NULL, "drain.rounds") == 1);
  nap(100);
  CHECK_EQ(stat_of(NULL, "drain.rounds"), 1); /* there is work, but the next round is far */
  CHECK_CMP(cached(), >, 0);
  knob("drain.interval", "1ms"); /* at once, not after the hour */
  EVENTUALLY(stat_of(NULL, "drain.rounds") > 10);
  EVENTUALLY(cached() == 0);
}

/* ---- it ends -------------------------------------------------------------------------------- */

TEST(shutdown_ends_it_for_good) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  hak_shutdown(); /* before the first use, too */
  knob("drain.enabled", "on");
  void *kept = hak_malloc(BLOCK);
  fill(kept, BLOCK, 3);
  wave(a, WAVE, BLOCK);
  use_until_it_runs(hak_arena_default());
  hak_shutdown();
  hak_shutdown();
  CHECK(has_ended());
  CHECK_EQ(stat_of(a, "l25.cached") + stat_of(NULL, "l25.cached"), 0);
  for (int i = 0; i < 20; i++) wave(a, WAVE, BLOCK); /* everything works */
  CHECK(!running());
  CHECK(intact(kept, BLOCK, 3));
  hak_free(kept);
  knob("drain.interval", "2ms");
  for (int i = 0; i < 20; i++) wave(a, WAVE, BLOCK);
  CHECK(!running());
  knob("drain.enabled", "on"); /* until it is asked for again */
  use_until_it_runs(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

static int shut_inside(hak_arena *arena, void *ud) {
  (void)ud;
  wave(arena, WAVE, BLOCK);
  hak_shutdown(); /* the walk's lock is held, which a round wants */
  return 0;
}

TEST(shutdown_inside_a_walk) {
  lively();
  wave(hak_arena_default(), WAVE, BLOCK);
  CHECK(running());
  CHECK_EQ(hak_arena_walk(shut_inside, NULL), 0);
  EVENTUALLY(!running());
  for (int i = 0; i < 3; i++) { /* joined by whoever starts or stops it next */
    knob("drain.enabled", "on");
    use_until_it_runs(hak_arena_default());
    if (i == 1) CHECK_EQ(hak_arena_walk(shut_inside, NULL), 0);
    hak_shutdown();
    CHECK(has_ended());
  }
}

static void *switcher(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t i = 0; i < rounds(2000, 200); i++) switch (below(&seed, 4)) {
      case 0: knob("drain.enabled", "off"); break;
      case 1: hak_shutdown(); break;
      default: knob("drain.enabled", "on"); wave(hak_arena_default(), WAVE, BLOCK);
    }
  return NULL;
}

TEST(starts_and_stops_among_threads) {
  lively();
  pthread_t t[4];
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(switcher, (void *)(i + 1));
  for (int i = 0; i < 4; i++) finish(t[i]);
  knob("drain.enabled", "off");
  CHECK(has_ended());
  CHECK_CMP(stat_of(NULL, "drain.starts"), >, 1);
}

/* ---- fork ----------------------------------------------------------------------------------- */

static void life_of_a_child(bool alone) {
  alarm(60);
  CHECK(!running() && !there());
  if (CHECK_SANITIZED) { /* those allow no new threads there */
    wave(hak_arena_default(), 5, BLOCK);
    return;
  }
  knob("drain.enabled", "on");
  knob("l25.decay", "1ms");
  use_until_it_runs(hak_arena_default());
  if (alone) EVENTUALLY(cached() == 0); /* lost threads' caches are left alone */
  EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP);
}

static void fork_now(bool alone, bool shut) {
  pid_t child = fork();
  CHECK_CMP(child, >=, 0);
  if (child == 0) {
    life_of_a_child(alone);
    if (shut) hak_shutdown();
    _exit(0);
  }
  reap(child);
}

TEST(children_have_their_own) {
  lively();
  wave(hak_arena_default(), WAVE, BLOCK);
  for (size_t i = 0; i < rounds(40, 10); i++) { /* while it works */
    wave(hak_arena_default(), WAVE, BLOCK);
    fork_now(true, i % 2);
    CHECK(running());
  }
  EVENTUALLY(cached() == 0);
  EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP); /* asleep */
  fork_now(true, false);
  wave(hak_arena_default(), WAVE, BLOCK);
  EVENTUALLY(cached() == 0); /* the parent's goes on */
  CHECK_EQ(stat_of(NULL, "drain.starts"), 1);
  hak_shutdown();
  fork_now(true, true);
}

TEST(forks_while_it_starts_and_stops) {
  lively();
  pthread_t t[2];
  for (uintptr_t i = 0; i < 2; i++) t[i] = start(switcher, (void *)(i + 7));
  for (size_t i = 0; i < rounds(60, 15); i++) fork_now(false, i % 2);
  for (int i = 0; i < 2; i++) finish(t[i]);
  knob("drain.enabled", "off");
  CHECK(has_ended());
}

/* ---- among threads -------------------------------------------------------------------------- */

enum { SLOTS = 64 };
static _Atomic(void *) slot[SLOTS];
static hak_arena *places[2];

static void drop(void *p) {
  if (p == NULL) return;
  uint64_t head[2];
  memcpy(head, p, sizeof head);
  CHECK(intact((char *)p + 16, head[0] - 16, head[1]));
  hak_free(p);
}

/* Uses, idles, uses again: its cache is taken from it between any two operations. */
static void *exchanger(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t i = 0; i < rounds(8000, 1500); i++) {
    uint64_t head[2] = {32 * KIB + below(&seed, 500 * KIB), rnd(&seed)};
    char *p = hak_arena_alloc(places[below(&seed, 2)], head[0]);
    CHECK(p != NULL);
    memcpy(p, head, sizeof head);
    fill(p + 16, head[0] - 16, head[1]);
    drop(atomic_exchange(&slot[below(&seed, SLOTS)], p));
    if (below(&seed, 64) == 0) nap((long)below(&seed, 4));
    if (below(&seed, 500) == 0) hak_trim();
  }
  return NULL;
}

static void exchange_with_decay(const char *decay) {
  knob("drain.interval", "1ms");
  knob("l25.decay", decay);
  knob("l25.cache_bytes", "512K");
  places[0] = hak_arena_default();
  places[1] = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t[6];
  for (int turn = 0; turn < 2; turn++) { /* caches change hands in between */
    for (uintptr_t i = 0; i < 6; i++) t[i] = start(exchanger, (void *)(i + 1));
    for (size_t lives = 0; lives < rounds(60, 20); lives++) { /* arenas come, go and are reset */
      hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
      for (int k = 0; k < 3; k++) {
        wave(a, 30, BLOCK);
        nap((long)lives % 3);
        CHECK(hak_arena_alloc(a, BLOCK) != NULL);
        CHECK_EQ(hak_arena_reset(a), 0);
        CHECK_EQ(stat_of(a, "charged"), 0);
      }
      wave(a, 30, BLOCK);
      CHECK_EQ(hak_arena_destroy(a), 0);
    }
    for (int i = 0; i < 6; i++) finish(t[i]);
  }
  for (int i = 0; i < SLOTS; i++) drop(atomic_exchange(&slot[i], NULL));
  CHECK_EQ(stat_of(NULL, "large.blocks"), 0);
  balanced(NULL);
  EVENTUALLY(cached() == 0);
  CHECK_CMP(stat_of(NULL, "drain.caches"), >, 0);
  CHECK_EQ(hak_arena_destroy(places[1]), 0);
}

TEST(blocks_survive_it) { exchange_with_decay("2ms"); }

TEST(blocks_survive_it_at_every_turn) {
#if HAK_FAULT
  haki_sched_seed(41);
#endif
  exchange_with_decay("0");
}

/* ---- the biased lock ------------------------------------------------------------------------ */

static struct haki_bias bias;
static uint64_t guarded[2]; /* the same number, but while somebody is inside */
static uint64_t taken[3];   /* by enum haki_bias_result */

static void touch(void) {
  CHECK_EQ(guarded[0], guarded[1]);
  guarded[0]++;
  guarded[1]++;
}

static void *owner(void *unused) {
  for (size_t i = 0; i < rounds(1000000, 50000); i++) {
    haki_bias_enter(&bias);
    touch();
    haki_bias_leave(&bias);
    if (i % 1024 == 0) sched_yield();
  }
  stop = true;
  return unused;
}

TEST(one_side_at_a_time_is_inside) {
#if HAK_FAULT
  haki_sched_seed(5);
#endif
  pthread_t t = start(owner, NULL);
  uint64_t mine = 0, seed = 3;
  while (!stop || taken[HAK_BIAS_OURS] == 0) {
    enum haki_bias_result result = haki_bias_revoke(&bias);
    taken[result]++;
    if (result != HAK_BIAS_OURS) {
      sched_yield();
      continue;
    }
    touch();
    mine++;
    haki_bias_restore(&bias);
    for (size_t i = below(&seed, 1000); i != 0; i--) haki_pause(); /* the owner gets its turn */
    if (below(&seed, 4) == 0) sched_yield();
  }
  finish(t);
  CHECK_EQ(guarded[0], rounds(1000000, 50000) + mine);
  CHECK_EQ(taken[HAK_BIAS_NEVER], 0);
  CHECK_EQ(haki_bias_revoke(&bias), HAK_BIAS_OURS);
  haki_bias_restore(&bias);
  haki_bias_enter(&bias);
  CHECK_EQ(haki_bias_revoke(&bias), HAK_BIAS_BUSY);
  haki_bias_leave(&bias);
}

#if HAK_FAULT
/* An old kernel: the idle thread keeps its cache, all else is as ever, and it still sleeps. */
TEST(without_the_barrier_caches_stay) {
  lively();
  haki_fault_arm(HAK_FAULT_BARRIER, 1, true);
  pthread_barrier_init(&gate, NULL, 2);
  CHECK_EQ(haki_bias_revoke(&bias), HAK_BIAS_NEVER);
  pthread_t t = start(uses_and_sleeps, hak_arena_default());
  meet();
  uint64_t failures = stat_of(NULL, "os.failures");
  EVENTUALLY(haki_bell_state == HAK_BELL_ASLEEP);
  CHECK_CMP(stat_of(NULL, "os.failures"), >, failures);
  CHECK_CMP(cached(), >, 0);
  CHECK_EQ(stat_of(NULL, "drain.caches"), 0);
  haki_fault_disarm();
  meet();
  meet();
  EVENTUALLY(cached() == 0); /* it is tried again after the next use */
  meet();
  finish(t);
}
#endif

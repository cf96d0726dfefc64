/* fault.c - every system call and every metadata allocation fails: once, and from then on.
 * Why:   a fall-back that never ran is a crash that waits. Each work is repeated with its first,
 *        second, third ... call failing, until one run meets no failure any more.
 * Owns:  nothing is lost (payloads), nothing leaks (statistics), calloc is still zero.
 * Start: step_through(). */
#include "../big.h"

#include "base/debug.h"
#include "os/os.h"

/* ---- works: may get NULL anywhere, must cope, and must clean up ------------------------------ */

static void work_small(void) {
  enum { N = 600 };
  char *p[N];
  for (size_t i = 0; i < N; i++) {
    p[i] = i % 3 ? hak_malloc(i * 7) : hak_calloc(1, i * 7 + 1);
    if (p[i] == NULL) continue;
    if (i % 3 == 0) CHECK(all_zero(p[i], i * 7 + 1));
    fill(p[i], i * 7, i);
  }
  for (size_t i = 0; i < N; i++) {
    if (p[i] == NULL) continue;
    CHECK(intact(p[i], i * 7, i));
    char *q = hak_realloc(p[i], i * 9 + 1);
    CHECK(intact(q ? q : p[i], i * 7, i));
    hak_free(q ? q : p[i]);
  }
}

static void work_large(void) {
  static const size_t sizes[] = {40000, 70000, 200000, 1 * MIB, 3 * MIB, 9 * MIB, 20 * MIB};
  enum { N = HAK_COUNT_OF(sizes) };
  char *p[N], *zero;
  size_t size[N];
  for (size_t i = 0; i < N; i++) {
    p[i] = hak_malloc(size[i] = sizes[i]);
    if (p[i] != NULL) fill(p[i], size[i], i);
  }
  for (size_t i = 0; i < N; i++) { /* grow, in place or moved, and shrink again */
    if (p[i] == NULL) continue;
    char *q = hak_realloc(p[i], size[i] * 3);
    CHECK(intact(q ? q : p[i], size[i], i));
    if (q == NULL) continue;
    p[i] = hak_realloc(q, size[i] / 2); /* a shrink never fails */
    CHECK(p[i] != NULL && intact_part(p[i], size[i] / 2, size[i], i));
    size[i] /= 2;
    fill(p[i], size[i], i);
  }
  for (size_t i = 0; i < N; i++) {
    if (p[i] == NULL) continue;
    CHECK(intact(p[i], size[i], i));
    memset(p[i], 0xff, size[i]);
    hak_free(p[i]);
    zero = hak_calloc(1, sizes[i]); /* memory that was just used */
    CHECK(zero == NULL || all_zero(zero, sizes[i]));
    hak_free(zero);
  }
  void *aligned = hak_aligned_alloc(4 * MIB, 5 * MIB);
  CHECK((uintptr_t)aligned % (4 * MIB) == 0);
  hak_free(aligned);
}

/* A word to every page of a big block: whose it is. Returns whether it said so before. */
static bool stamp(char *p, size_t size, uint64_t was, uint64_t tag) {
  bool same = true;
  for (size_t i = 0; i + 8 <= size; i += 4096) {
    uint64_t *word = (uint64_t *)(p + i);
    same = same && *word == (was != 0 ? was + i : 0);
    *word = tag + i;
  }
  return same;
}

/* Big blocks that come and go by call site: the table grows, blocks are cut, put together, moved to
 * grow, pushed out, purged, given up. */
static void work_big(void) {
  enum { N = 14 };
  struct haki_big *big;
  char *p[N];
  size_t size[N], most[] = {40 * MIB, 8 * MIB, 0};
  knob("bigcache.decay", "1h");
  for (size_t round = 0; round < 3; round++) {
    hak_arena *a = hak_arena_create(NULL);
    if (a == NULL) continue;
    char text[24];
    snprintf(text, sizeof text, "%zu", most[round]);
    arena_knob(a, "bigcache.max_bytes", text);
    for (size_t k = 0; k < 3 * N; k++) { /* sizes go up, then down */
      size_t i = k % N, step = k < 2 * N ? k : 3 * N - k;
      uint64_t tag = (uint64_t)(k + 1) << 32;
      bool zero = k % 3 == 0;
      size[i] = 530 * KIB + step * (97 * KIB);
      p[i] = haki_alloc_on(a, &(struct haki_request){size[i], 16, zero, 64 + k % 9 * 64});
      if (p[i] != NULL) {
        CHECK(stamp(p[i], size[i], 0, tag) || !zero);
        size_t more = size[i] + (k % 5) * MIB;
        char *q = k % 4 == 0 ? hak_realloc(p[i], more) : NULL;
        if (q != NULL) CHECK(stamp(q, size[i], tag, tag));
        if (q != NULL) p[i] = q;
      }
      if (i + 1 < N) continue;
      for (size_t j = 0; j < N; j++) { /* none was handed out twice */
        size_t at = k - i + j;
        if (p[j] != NULL) CHECK(stamp(p[j], size[j], (uint64_t)(at + 1) << 32, 7));
        hak_free(p[j]);
      }
      big = atomic_load(&a->large.big);
      if (big != NULL) CHECK(haki_big_ok(big));
      balanced(a);
    }
    knob("bigcache.decay", "0"); /* purged, then given up */
    for (int k = 0; k < 2 && (big = atomic_load(&a->large.big)) != NULL; k++)
      haki_big_age(big, true);
    knob("bigcache.decay", "1h");
    CHECK_EQ(stat_of(a, "allocated"), 0);
    balanced(a);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

static void work_arenas(void) {
  for (int i = 0; i < 6; i++) {
    hak_arena_config config = {.kind = i & 1, .hard = i & 2 ? 4 * MIB : 0};
    hak_arena *a = hak_arena_create(&config);
    if (a == NULL) {
      CHECK_EQ(errno, ENOMEM);
      continue;
    }
    char *p[60];
    for (size_t k = 0; k < 60; k++) {
      p[k] = hak_arena_alloc(a, 40 << (k % 15));
      if (p[k] != NULL) fill(p[k], 40 << (k % 15), k);
    }
    CHECK_EQ(hak_arena_trim(a), 0);
    for (size_t k = 0; k < 60; k++) {
      if (p[k] == NULL) continue;
      CHECK(intact(p[k], 40 << (k % 15), k));
      if (k % 3) hak_arena_free(a, p[k]);
    }
    if (i % 3 == 0) {
      CHECK_EQ(hak_arena_reset(a), 0);
      CHECK_EQ(stat_of(a, "blocks"), 0);
      void *again = hak_arena_alloc(a, 1000);
      if (again != NULL) fill(again, 1000, 1);
    }
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

static void work_lua(void) { /* tables, strings and arrays that double, as a VM has them */
  enum { N = 400 };
  for (int kind = 0; kind < 2; kind++) {
    hak_arena_config config = {.kind = kind};
    hak_arena *a = hak_arena_create(&config);
    if (a == NULL) continue;
    char *p[N] = {0};
    size_t size[N] = {0};
    uint64_t seed = 7;
    for (size_t i = 0; i < 4000; i++) {
      size_t k = below(&seed, N), want = below(&seed, 3) ? 1 + below(&seed, 200) : size[k] * 2;
      if (want > 600000 || below(&seed, 4) == 0) want = size[k] / 3;
      char *q = hak_lua_alloc(a, p[k], size[k], want);
      if (q == NULL && want != 0) {
        CHECK(p[k] == NULL || want > size[k]); /* a shrink never fails */
        CHECK(p[k] == NULL || intact(p[k], size[k], k));
        continue;
      }
      CHECK(intact_part(q, want < size[k] ? want : size[k], size[k], k));
      p[k] = want ? q : NULL;
      size[k] = want;
      fill(q, want, k);
    }
    for (size_t k = 0; k < N; k++) {
      CHECK(p[k] == NULL || intact(p[k], size[k], k));
      if (p[k] != NULL) hak_lua_alloc(a, p[k], size[k], 0);
    }
    CHECK_EQ(stat_of(a, "blocks"), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

static void work_snapshot(void) { /* all comes back, or nothing has changed */
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  if (a == NULL) return;
  char *p[40], *q[40];
  for (size_t i = 0; i < 40; i++) {
    p[i] = hak_lua_alloc(a, NULL, 0, 30 << (i % 14));
    if (p[i] != NULL) fill(p[i], 30 << (i % 14), i);
  }
  uint64_t blocks = stat_of(a, "blocks");
  int failed = hak_arena_snapshot(a);
  CHECK(failed == 0 || failed == ENOMEM);
  for (size_t i = 0; i < 40; i++) {
    q[i] = hak_lua_alloc(a, NULL, 0, 50 << (i % 14));
    if (q[i] != NULL) fill(q[i], 50 << (i % 14), 99);
    if (failed == 0 && p[i] != NULL) hak_lua_alloc(a, p[i], 30 << (i % 14), 0);
  }
  CHECK_EQ(hak_arena_restore(a), failed == 0 ? 0 : EINVAL);
  if (failed == 0) CHECK_EQ(stat_of(a, "blocks"), blocks);
  for (size_t i = 0; i < 40; i++) CHECK(p[i] == NULL || intact(p[i], 30 << (i % 14), i));
  CHECK_EQ(hak_arena_destroy(a), 0);
}

static void work_purge(void) {
  char *p[40];
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < 40; i++) {
      size_t size = i & 1 ? 300000 : 20000;
      p[i] = hak_calloc(1, size);
      if (p[i] == NULL) continue;
      CHECK(all_zero(p[i], size)); /* also when the purge before it failed */
      memset(p[i], 0xdd, size);
    }
    for (size_t i = 0; i < 40; i++) hak_free(p[i]);
    hak_trim();
  }
  hak_shutdown();
}

static char *posted[200];
static void *poster(void *unused) {
  for (size_t i = 0; i < 200; i++) {
    posted[i] = hak_malloc(10 + i * 50);
    if (posted[i] != NULL) fill(posted[i], 10 + i * 50, i);
  }
  return unused;
}
static void *receiver(void *unused) {
  for (size_t i = 0; i < 200; i++) {
    if (posted[i] == NULL) continue;
    CHECK(intact(posted[i], 10 + i * 50, i));
    hak_free(posted[i]);
  }
  return unused;
}
static void work_threads(void) { /* heaps of threads need descriptors too */
  for (int i = 0; i < 3; i++) {
    finish(start(poster, NULL));
    finish(start(receiver, NULL));
  }
}

/* ---- stepping -------------------------------------------------------------------------------- */

/* Comes back to what it was when every block is gone: no memory may be left behind. */
static void settle(void) {
  hak_trim();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "allocated"), 0);
  CHECK_EQ(stat_of(NULL, "arena.live"), 1);
  balanced(NULL);
  CHECK(haki_audit());
}

static void step_through(unsigned kinds, void (*work)(void)) {
  CHECK_EQ(set_knob("purge.decay", "0") | set_knob("small.keep", "0"), 0);
  work(); /* once in peace: what stays is the ground level */
  work();
  settle();
  uint64_t active = stat_of(NULL, "active"), mapped = stat_of(NULL, "mapped"), hits = 0;
  for (int sticky = 0; sticky < 2; sticky++) {
    for (uint64_t at = 1;; at += 1 + at / 24) { /* each of the first, then wider steps */
      haki_fault_arm(kinds, at, sticky != 0);
      work();
      haki_fault_disarm();
      hits += haki_fault_hits();
      settle();
      CHECK_CMP(stat_of(NULL, "active"), <=, active);
      CHECK_CMP(stat_of(NULL, "mapped"), <=, mapped + 32 * MIB);
      if (haki_fault_hits() == 0) break; /* the work has fewer calls than that */
      CHECK_CMP(at, <, 1000000);
    }
  }
  CHECK_CMP(hits, >, 0);
  if (kinds != HAK_FAULT_META) CHECK_CMP(stat_of(NULL, "os.failures"), >, 0);
  work(); /* and all is well again */
  settle();
}

/* The very first calls: hakmem cannot start, says NULL, and starts when it can. */
static void step_through_start(unsigned kinds) {
  for (int sticky = 0; sticky < 2; sticky++) {
    for (uint64_t at = 1;; at++) {
      pid_t child = fork(); /* a hakmem that has not started */
      CHECK_CMP(child, >=, 0);
      if (child == 0) {
        haki_fault_arm(kinds, at, sticky != 0);
        char *p = hak_malloc(100);
        if (p == NULL) CHECK_EQ(errno, ENOMEM);
        if (p != NULL) fill(p, 100, 1);
        hak_arena *a = hak_arena_create(NULL);
        char *q = a ? hak_lua_alloc(a, NULL, 0, 1000) : NULL;
        if (q != NULL) fill(q, 1000, 2);
        haki_fault_disarm();
        char *r = hak_malloc(5000);
        CHECK(r != NULL);
        fill(r, 5000, 3);
        CHECK(p == NULL || intact(p, 100, 1));
        CHECK(q == NULL || intact(q, 1000, 2));
        if (a != NULL) CHECK_EQ(hak_arena_destroy(a), 0);
        hak_free(p);
        hak_free(r);
        settle();
        _exit(haki_fault_hits() == 0 ? 7 : 0);
      }
      int status = -1;
      CHECK_EQ(waitpid(child, &status, 0), child);
      CHECK(WIFEXITED(status));
      if (WEXITSTATUS(status) == 7) break;
      CHECK_EQ(WEXITSTATUS(status), 0);
      CHECK_CMP(at, <, 1000);
    }
  }
}

static const unsigned kinds[] = {HAK_FAULT_RESERVE, HAK_FAULT_COMMIT,  HAK_FAULT_PURGE,
                                 HAK_FAULT_MOVE,    HAK_FAULT_REFRESH, HAK_FAULT_HUGE,
                                 HAK_FAULT_META};

TEST(start_with_any_call_failing) { step_through_start(HAK_FAULT_ALL); }
TEST(start_with_reserve_failing) { step_through_start(HAK_FAULT_RESERVE); }
TEST(start_with_commit_failing) { step_through_start(HAK_FAULT_COMMIT); }
TEST(start_with_metadata_failing) { step_through_start(HAK_FAULT_META); }

TEST(small_blocks_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_small); }
TEST(large_blocks_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_large); }
TEST(arenas_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_arenas); }
TEST(lua_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_lua); }
TEST(snapshots_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_snapshot); }
TEST(snapshots_with_metadata_failing) { step_through(HAK_FAULT_META, work_snapshot); }
TEST(purges_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_purge); }
TEST(threads_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_threads); }
TEST(big_blocks_with_any_call_failing) { step_through(HAK_FAULT_ALL, work_big); }
TEST(big_blocks_with_metadata_failing) { step_through(HAK_FAULT_META, work_big); }
TEST(big_blocks_with_moves_failing) { step_through(HAK_FAULT_MOVE, work_big); }
TEST(big_blocks_with_purges_failing) { step_through(HAK_FAULT_PURGE, work_big); }
TEST(big_blocks_whose_pages_are_not_known) { step_through(HAK_FAULT_RESIDES, work_big); }
TEST(purge_alone_failing) { step_through(HAK_FAULT_PURGE, work_purge); }
TEST(page_moves_failing) { step_through(HAK_FAULT_MOVE | HAK_FAULT_REFRESH, work_large); }
TEST(arenas_with_metadata_failing) { step_through(HAK_FAULT_META, work_arenas); }

/* Everything at once, by a seed: kinds in turn, one call in a few. */
TEST(random_failures) {
  void (*const works[])(void) = {work_small, work_large,   work_arenas, work_lua,
                                 work_purge, work_threads, work_big};
  uint64_t hits = 0;
  CHECK_EQ(set_knob("purge.decay", "0"), 0); /* nothing is kept: each work calls the system */
  for (uint32_t seed = 1; seed <= 60; seed++) {
    haki_fault_random(seed % 3 ? HAK_FAULT_ALL : kinds[seed / 3 % HAK_COUNT_OF(kinds)], seed,
                      2 + seed % 20);
    works[seed % HAK_COUNT_OF(works)]();
    haki_fault_disarm();
    hits += haki_fault_hits();
    settle();
  }
  CHECK_CMP(hits, >, 100);
}

/* Failures while several threads work: nobody's block suffers. */
static void *stormy(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  char *p[100] = {0};
  size_t size[100] = {0};
  for (int i = 0; i < 6000; i++) {
    size_t k = below(&seed, 100), want = log_size(&seed, below(&seed, 20) ? 5000 : 2 * MIB);
    char *q = below(&seed, 2) ? hak_realloc(p[k], want) : NULL;
    if (q == NULL) {
      CHECK(p[k] == NULL || intact(p[k], size[k], k));
      hak_free(p[k]);
      want = 0;
    } else {
      CHECK(intact_part(q, want < size[k] ? want : size[k], size[k], k));
      fill(q, want, k);
    }
    p[k] = q;
    size[k] = want;
  }
  for (size_t k = 0; k < 100; k++) hak_free(p[k]);
  return NULL;
}
TEST(failures_among_threads) {
  CHECK_EQ(set_knob("purge.decay", "0"), 0);
  for (uint32_t one_in = 2; one_in <= 32; one_in *= 4) {
    haki_fault_random(HAK_FAULT_ALL, one_in, one_in);
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++) t[i] = start(stormy, (void *)(i + 1));
    for (int i = 0; i < 4; i++) finish(t[i]);
    haki_fault_disarm();
    CHECK_CMP(haki_fault_hits(), >, 0);
    settle();
  }
}

/* Seeded yields at the schedule points: other orders than the scheduler's own. */
TEST(seeded_schedules) {
  for (uint32_t seed = 1; seed <= 20; seed++) {
    haki_sched_seed(seed);
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++) t[i] = start(i ? stormy : poster, (void *)(i + seed));
    for (int i = 0; i < 4; i++) finish(t[i]);
    for (int i = 0; i < 3; i++) hak_trim();
    haki_sched_seed(0);
    receiver(NULL);
  }
}

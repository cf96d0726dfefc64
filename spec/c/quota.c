/* quota.c - soft and hard limits: what is charged, who is refused, who is told.
 * Why:   a hard limit is a promise about every moment, so other threads watch while it is kept.
 * Start: hard_holds_at_every_moment. */
#include "check.h"

/* ---- hard ------------------------------------------------------------------------------------ */

struct watch {
  hak_arena *arena;
  size_t hard;
  _Atomic(bool) stop;
  _Atomic(size_t) samples, highest;
};
static void *watcher(void *ud) {
  struct watch *w = ud;
  while (!atomic_load(&w->stop)) {
    size_t charged = stat_of(w->arena, "charged");
    CHECK_CMP(charged, <=, w->hard);
    CHECK_CMP(stat_of(w->arena, "peak"), <=, w->hard);
    if (charged > w->highest) w->highest = charged;
    w->samples++;
  }
  return NULL;
}

enum { HELD = 400 };
static void press(hak_arena *a, uint64_t seed, size_t ops, size_t *refused) {
  char *p[HELD] = {0};
  size_t size[HELD] = {0};
  for (size_t i = 0; i < ops; i++) {
    size_t k = below(&seed, HELD), want = log_size(&seed, i % 8 ? 20000 : MIB);
    char *q = below(&seed, 3) ? hak_arena_realloc(a, p[k], want) : NULL;
    if (q == NULL) { /* refused, or time to free: the old block is as it was */
      if (p[k] != NULL) CHECK(intact(p[k], size[k], k));
      hak_arena_free(a, p[k]);
      size[k] = 0;
      (*refused)++;
    } else {
      CHECK(intact_part(q, want < size[k] ? want : size[k], size[k], k));
      size[k] = want;
      fill(q, want, k);
    }
    p[k] = q;
  }
  for (int k = 0; k < HELD; k++) {
    if (p[k] != NULL) CHECK(intact(p[k], size[k], k));
    hak_arena_free(a, p[k]);
  }
}

TEST(hard_holds_at_every_moment) {
  for (int kind = 0; kind < 2; kind++) {
    struct watch w = {.hard = 4 * MIB};
    w.arena = arena_of_kind(kind, w.hard);
    pthread_t t = start(watcher, &w);
    size_t refused = 0;
    press(w.arena, 1, rounds(60000, 6000), &refused);
    while (w.samples < 10) nap(1);
    atomic_store(&w.stop, true);
    finish(t);
    CHECK_CMP(stat_of(w.arena, "refusals"), >, 0);
    CHECK_CMP(stat_of(w.arena, "peak"), >, 2 * MIB);
    CHECK_EQ(stat_of(w.arena, "hard"), w.hard);
    CHECK_EQ(stat_of(w.arena, "blocks"), 0);
    balanced(w.arena);
    CHECK_EQ(hak_arena_destroy(w.arena), 0);
  }
}

static hak_arena *pressed;
static void *presser(void *seed) {
  size_t refused = 0;
  press(pressed, (uintptr_t)seed, rounds(20000, 2500), &refused);
  return NULL;
}

TEST(hard_holds_for_many_threads) {
  struct watch w = {.hard = 6 * MIB};
  w.arena = pressed = arena_of_kind(HAK_ARENA_SHARED, w.hard);
  pthread_t t = start(watcher, &w), worker[6];
  for (uintptr_t i = 0; i < 6; i++) worker[i] = start(presser, (void *)(i + 1));
  for (int i = 0; i < 6; i++) finish(worker[i]);
  atomic_store(&w.stop, true);
  finish(t);
  CHECK_EQ(stat_of(pressed, "blocks"), 0);
  CHECK_EQ(stat_of(pressed, "allocated"), 0);
  balanced(pressed);
  CHECK_EQ(hak_arena_destroy(pressed), 0);
}

TEST(refusals_change_nothing) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 2 * MIB);
    char *p = hak_arena_alloc(a, 100000), *q = hak_lua_alloc(a, NULL, 0, 5000);
    CHECK(p != NULL && q != NULL);
    fill(p, 100000, 1);
    fill(q, 5000, 2);
    uint64_t blocks = stat_of(a, "blocks"), allocated = stat_of(a, "allocated");
    static const size_t sizes[] = {2 * MIB, 2 * MIB + 1, 3 * MIB, 64 * MIB, (size_t)1 << 40};
    for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
      uint64_t refusals = stat_of(a, "refusals");
      errno = 0;
      CHECK(hak_arena_alloc(a, sizes[i]) == NULL);
      CHECK_EQ(errno, ENOMEM);
      errno = 0;
      CHECK(hak_arena_realloc(a, p, sizes[i]) == NULL);
      CHECK_EQ(errno, ENOMEM);
      CHECK(hak_lua_alloc(a, q, 5000, sizes[i]) == NULL);
      CHECK(hak_arena_calloc(a, 1, sizes[i]) == NULL);
      CHECK(hak_arena_aligned_alloc(a, 4096, sizes[i]) == NULL);
      if (i < 4) /* the last one no machine has: not the limit's matter */
        CHECK_CMP(stat_of(a, "refusals"), >=, refusals + 5);
      CHECK(intact(p, 100000, 1) && intact(q, 5000, 2));
    }
    CHECK_EQ(hak_arena_refusals(a), stat_of(a, "refusals"));
    CHECK_EQ(stat_of(a, "blocks"), blocks);
    CHECK_EQ(stat_of(a, "allocated"), allocated);
    CHECK_CMP(stat_of(a, "peak"), <=, 2 * MIB);
    balanced(a);
    void *more = hak_arena_alloc(a, 500000);
    CHECK(more != NULL);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

/* Freed memory of one size must not stand in the way of another size. */
TEST(caches_are_released_before_refusing) {
  enum { MOST = 100000 };
  static void *p[MOST];
  static const size_t sizes[] = {64, 30000, 700, 200000, 16, 5 * MIB, 4000, 900000, 32, 6 * MIB};
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 8 * MIB);
    for (size_t s = 0; s < HAK_COUNT_OF(sizes); s++) {
      size_t n = 0, want = 5 * MIB / sizes[s];
      if (want == 0) want = 1;
      if (want > MOST) want = MOST;
      while (n < want && (p[n] = hak_arena_alloc(a, sizes[s])) != NULL) n++;
      CHECK_EQ(n, want);
      while (n > 0) hak_arena_free(a, p[--n]);
    }
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(limits_are_checked) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  size_t soft = 1, hard = 1;
  hak_arena_limit(a, &soft, &hard);
  CHECK(soft == 0 && hard == 0);
  CHECK_EQ(hak_arena_set_limit(a, MIB, 2 * MIB), 0);
  CHECK_EQ(hak_arena_set_limit(a, 2 * MIB + 1, 2 * MIB), EINVAL);
  hak_arena_limit(a, &soft, &hard);
  CHECK(soft == MIB && hard == 2 * MIB); /* a refused change changes nothing */
  CHECK_EQ(hak_arena_set_limit(a, 5 * MIB, 0), 0);
  CHECK_EQ(hak_arena_set_limit(a, 0, SIZE_MAX), 0);
  hak_arena_limit(a, NULL, &hard);
  CHECK_EQ(hard, SIZE_MAX);
  CHECK_EQ(stat_of(a, "soft"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(a_limit_below_the_charge_is_accepted) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  char *p[100];
  for (int i = 0; i < 100; i++) {
    p[i] = hak_arena_alloc(a, 50000);
    fill(p[i], 50000, i);
  }
  CHECK_EQ(hak_arena_set_limit(a, 0, MIB), 0);
  CHECK_CMP(stat_of(a, "charged"), >, MIB);
  void *more = hak_arena_alloc(a, 50000);
  CHECK(more == NULL);
  for (int i = 0; i < 100; i++) {
    CHECK(intact(p[i], 50000, i));
    hak_arena_free(a, p[i]);
  }
  more = hak_arena_alloc(a, 50000);
  CHECK(more != NULL);
  CHECK_CMP(stat_of(a, "charged"), <=, MIB);
  CHECK_EQ(hak_arena_set_limit(a, 0, 0), 0);
  more = hak_arena_alloc(a, 50 * MIB);
  CHECK(more != NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* A hard limit of one arena is nothing to the others. */
TEST(arenas_do_not_share_limits) {
  hak_arena *small = arena_of_kind(HAK_ARENA_PRIVATE, MIB), *free_one = arena_of_kind(0, 0);
  size_t n = 0;
  while (n < 10000 && hak_arena_alloc(small, 1000) != NULL) n++;
  CHECK_CMP(n, <, MIB / 1000);
  void *p = hak_arena_alloc(free_one, 10 * MIB), *q = hak_malloc(1000), *r = hak_malloc(9 * MIB);
  CHECK(p != NULL && q != NULL && r != NULL);
  hak_free(q);
  hak_free(r);
  CHECK_EQ(hak_arena_destroy(small) | hak_arena_destroy(free_one), 0);
}

TEST(the_default_arena_can_be_limited) {
  hak_arena *d = hak_arena_default();
  CHECK_EQ(hak_arena_set_limit(d, 0, 4 * MIB), 0);
  errno = 0;
  void *p = hak_malloc(5 * MIB), *q = hak_malloc(MIB);
  CHECK(p == NULL && q != NULL);
  CHECK_EQ(hak_arena_set_limit(d, 0, 0), 0);
  p = hak_malloc(5 * MIB);
  CHECK(p != NULL);
  hak_free(p);
  hak_free(q);
}

/* ---- soft ------------------------------------------------------------------------------------ */

struct told {
  hak_arena *arena;
  int calls;
  size_t charged[1000];
};
static void tell(hak_arena *arena, size_t charged, void *ud) {
  struct told *t = ud;
  CHECK(arena == t->arena || t->arena == NULL);
  CHECK_CMP(t->calls, <, 1000);
  t->charged[t->calls++] = charged;
}

static hak_arena *soft_arena(struct told *t, int kind, size_t soft, size_t hard) {
  hak_arena_config config = {.kind = kind, .soft = soft, .hard = hard, .on_soft = tell, .ud = t};
  t->arena = NULL;
  hak_arena *a = hak_arena_create(&config);
  CHECK(a != NULL);
  t->arena = a;
  return a;
}

TEST(soft_is_told_geometrically) {
  for (int kind = 0; kind < 2; kind++) {
    struct told t = {0};
    hak_arena *a = soft_arena(&t, kind, 2 * MIB, 0);
    char *p[4000];
    size_t n = 0;
    for (; n < 1500 && stat_of(a, "charged") + 512 * KIB < 2 * MIB; n++)
      p[n] = hak_arena_alloc(a, 1000);
    CHECK_EQ(t.calls, 0);                                   /* not before the limit */
    for (; n < 4000; n++) p[n] = hak_arena_alloc(a, 16000); /* to 30 times the limit */
    CHECK_CMP(stat_of(a, "charged"), >, 40 * MIB);
    CHECK_CMP(t.calls, >=, 2);
    CHECK_CMP(t.calls, <=, 60);
    for (int i = 0; i < t.calls; i++) {
      CHECK_CMP(t.charged[i], >=, 2 * MIB);
      if (i > 0) CHECK_CMP(t.charged[i], >, t.charged[i - 1]);
    }
    if (t.calls > 4) /* steps grow with the charge */
      CHECK_CMP(t.charged[t.calls - 1] - t.charged[t.calls - 2], >, t.charged[1] - t.charged[0]);
    CHECK_EQ(stat_of(a, "soft_crossings"), (uint64_t)t.calls);
    /* well below, and across again: told again */
    for (size_t i = 0; i < n; i++) hak_arena_free(a, p[i]);
    hak_arena_trim(a);
    CHECK_CMP(stat_of(a, "charged"), <, MIB);
    int before = t.calls;
    for (n = 0; n < 300; n++) p[n] = hak_arena_alloc(a, 16000);
    CHECK_CMP(t.calls, >, before);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(soft_acts_when_set_below_the_charge) {
  struct told t = {0};
  hak_arena *a = soft_arena(&t, HAK_ARENA_PRIVATE, 0, 0);
  void *p = hak_arena_alloc(a, 3 * MIB);
  CHECK(p != NULL);
  CHECK_EQ(t.calls, 0);
  CHECK_EQ(hak_arena_set_limit(a, MIB, 0), 0);
  CHECK_EQ(t.calls, 1);
  CHECK_CMP(t.charged[0], >=, 3 * MIB);
  CHECK_EQ(hak_arena_set_limit(a, 8 * MIB, 0), 0);
  CHECK_EQ(t.calls, 1);
  p = hak_arena_alloc(a, 6 * MIB);
  CHECK(p != NULL);
  CHECK_EQ(t.calls, 2);
  p = hak_arena_realloc(a, p, 40 * MIB); /* growth counts like a request, by each door */
  CHECK(p != NULL);
  CHECK_EQ(t.calls, 3);
  void *q = hak_lua_alloc(a, NULL, 0, 20 * MIB);
  CHECK_EQ(t.calls, 4);
  q = hak_lua_alloc(a, q, 20 * MIB, 80 * MIB);
  CHECK(q != NULL);
  CHECK_EQ(t.calls, 5);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(soft_comes_before_hard) {
  struct told t = {0};
  hak_arena *a = soft_arena(&t, HAK_ARENA_PRIVATE, 3 * MIB, 4 * MIB);
  size_t n = 0;
  while (n < 10000 && hak_lua_alloc(a, NULL, 0, 2000) != NULL) n++;
  CHECK_CMP(n, <, 4 * MIB / 2000);
  CHECK_CMP(t.calls, >=, 1);
  CHECK_CMP(t.calls, <=, 20);
  for (int i = 0; i < t.calls; i++) CHECK_CMP(t.charged[i], <=, 4 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* What a soft limit is for: a cache gives way. */
static struct evicting {
  void *cached[2000];
  size_t n, calls;
} evicting;
static void evict(hak_arena *arena, size_t charged, void *ud) {
  CHECK(ud == &evicting);
  CHECK_CMP(charged, >, MIB);
  evicting.calls++;
  while (evicting.n > 0) hak_arena_free(arena, evicting.cached[--evicting.n]);
  CHECK_EQ(hak_arena_trim(arena), 0);
}
TEST(soft_may_free) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena_config config = {
        .kind = kind, .soft = 2 * MIB, .hard = 3 * MIB, .on_soft = evict, .ud = &evicting};
    hak_arena *a = hak_arena_create(&config);
    evicting.n = evicting.calls = 0;
    for (int i = 0; i < 20000; i++) { /* 40 times the limit, and never refused */
      void *p = i % 2 ? hak_arena_alloc(a, 6000) : hak_arena_alloc(a, 5000);
      CHECK(p != NULL);
      evicting.cached[evicting.n++] = p;
      CHECK_CMP(evicting.n, <, 2000);
    }
    CHECK_CMP(evicting.calls, >, 10);
    CHECK_EQ(stat_of(a, "refusals"), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

static struct told race_told;
static _Atomic(int) race_calls;
static void race_tell(hak_arena *arena, size_t charged, void *ud) {
  CHECK(ud == &race_told && arena == race_told.arena);
  CHECK_CMP(charged, >=, MIB);
  race_calls++;
}

TEST(soft_among_threads) {
  hak_arena_config config = {
      .kind = HAK_ARENA_SHARED, .soft = MIB, .on_soft = race_tell, .ud = &race_told};
  race_told.arena = pressed = hak_arena_create(&config);
  pthread_t worker[4];
  for (uintptr_t i = 0; i < 4; i++) worker[i] = start(presser, (void *)(i + 1));
  for (int i = 0; i < 4; i++) finish(worker[i]);
  CHECK_CMP(race_calls, >=, 1);
  CHECK_EQ(stat_of(pressed, "soft_crossings"), (uint64_t)race_calls);
  CHECK_EQ(hak_arena_destroy(pressed), 0);
}

/* arena.c - the life of an arena: creation, identity, reset, destroy, pins, owners, its statistics.
 * Not:   limits (limits.c), threads (threads.c).
 * Start: configs_are_checked. */
#include "check.h"

#include <limits.h>

TEST(configs_are_checked) {
  uint64_t live = stat_of(NULL, "arena.live");
  hak_arena_config good = {0};
  hak_arena *a = hak_arena_create(&good), *b = hak_arena_create(NULL);
  CHECK(a != NULL && b != NULL && a != b);
  CHECK_EQ(hak_arena_kind_of(a), HAK_ARENA_SHARED);
  CHECK_EQ(hak_arena_kind_of(b), HAK_ARENA_SHARED);
  CHECK_EQ(stat_of(NULL, "arena.live"), live + 2);
  static const int kinds[] = {-1, 2, 77, INT_MAX, INT_MIN};
  for (size_t i = 0; i < HAK_COUNT_OF(kinds); i++) {
    hak_arena_config bad = {.kind = kinds[i]};
    errno = 0;
    CHECK(hak_arena_create(&bad) == NULL);
    CHECK_EQ(errno, EINVAL);
  }
  hak_arena_config crossed = {.soft = 2 * MIB, .hard = MIB};
  errno = 0;
  CHECK(hak_arena_create(&crossed) == NULL);
  CHECK_EQ(errno, EINVAL);
  for (size_t i = 0; i < HAK_COUNT_OF(good.reserved); i++) {
    hak_arena_config bad = {0};
    bad.reserved[i] = 1;
    errno = 0;
    CHECK(hak_arena_create(&bad) == NULL);
    CHECK_EQ(errno, EINVAL);
  }
  CHECK_EQ(stat_of(NULL, "arena.live"), live + 2);
  hak_arena_config same = {.soft = MIB, .hard = MIB};
  hak_arena *c = hak_arena_create(&same);
  CHECK(c != NULL);
  CHECK_EQ(hak_arena_destroy(a) | hak_arena_destroy(b) | hak_arena_destroy(c), 0);
  CHECK_EQ(stat_of(NULL, "arena.live"), live);
}

TEST(names_are_copied_and_cut) {
  char name[] = "upload";
  hak_arena_config config = {.name = name};
  hak_arena *a = hak_arena_create(&config);
  name[0] = 'X';
  CHECK_STR(hak_arena_name(a), "upload");
  config.name = "0123456789012345678901234567890123456789";
  hak_arena *b = hak_arena_create(&config);
  CHECK_STR(hak_arena_name(b), "0123456789012345678901234567890");
  hak_arena *c = hak_arena_create(NULL);
  CHECK(strncmp(hak_arena_name(c), "arena-", 6) == 0 && hak_arena_name(c)[6] != 0);
  CHECK(hak_arena_name(hak_arena_default())[0] != 0);
  CHECK_EQ(hak_arena_destroy(a) | hak_arena_destroy(b) | hak_arena_destroy(c), 0);
}

TEST(ids_detect_staleness) {
  hak_arena_id seen[2000];
  for (size_t i = 0; i < HAK_COUNT_OF(seen); i++) {
    hak_arena *a = arena_of_kind((int)(i & 1), 0);
    seen[i] = hak_arena_get_id(a);
    CHECK(seen[i] != 0);
    CHECK(hak_arena_from_id(seen[i]) == a);
    for (size_t j = 0; j < i; j += 1 + i / 50) CHECK(seen[j] != seen[i]);
    CHECK_EQ(hak_arena_destroy(a), 0);
    errno = 0;
    CHECK(hak_arena_from_id(seen[i]) == NULL);
    CHECK_EQ(errno, EINVAL);
    CHECK(hak_arena_from_id(seen[i / 2]) == NULL); /* whoever has that slot now */
  }
  static const hak_arena_id wild[] = {0, 1u << 20, UINT64_MAX, (hak_arena_id)1 << 63, 0xdeadbeef};
  for (size_t i = 0; i < HAK_COUNT_OF(wild); i++) {
    errno = 0;
    CHECK(hak_arena_from_id(wild[i]) == NULL);
    CHECK_EQ(errno, EINVAL);
  }
  hak_arena *d = hak_arena_default();
  CHECK(hak_arena_from_id(hak_arena_get_id(d)) == d);
}

static void never(const hak_class_stat *c, void *ud) {
  (void)c, (void)ud;
  CHECK(!"a dead arena has no classes");
}

TEST(dead_arenas_are_einval) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    void *p = hak_arena_alloc(a, 1000);
    CHECK(p != NULL);
    CHECK_EQ(hak_arena_destroy(a), 0);
    CHECK_EQ(hak_arena_destroy(a), EINVAL);
    CHECK_EQ(hak_arena_destroy(a), EINVAL);
    CHECK_EQ(hak_arena_reset(a), EINVAL);
    CHECK_EQ(hak_arena_trim(a), EINVAL);
    CHECK_EQ(hak_arena_set_limit(a, 0, MIB), EINVAL);
    CHECK_EQ(hak_arena_pin(a), EINVAL);
    CHECK_EQ(hak_arena_handover(a), EINVAL);
    CHECK_EQ(hak_arena_unpin(a), EINVAL);
    CHECK_EQ(hak_arena_get_id(a), 0);
    CHECK_EQ(hak_arena_kind_of(a), -1);
    CHECK_EQ(hak_arena_refusals(a), 0);
    size_t soft = 1, hard = 1;
    hak_arena_limit(a, &soft, &hard);
    CHECK(soft == 0 && hard == 0);
    errno = 0;
    CHECK(hak_arena_alloc(a, 100) == NULL);
    CHECK_EQ(errno, EINVAL);
    errno = 0;
    CHECK(hak_arena_calloc(a, 1, 100) == NULL && hak_arena_aligned_alloc(a, 64, 10) == NULL);
    CHECK(hak_arena_realloc(a, NULL, 100) == NULL && hak_lua_alloc(a, NULL, 0, 100) == NULL);
    CHECK_EQ(errno, EINVAL);
    CHECK(hak_arena_name(a) == NULL);
    hak_class_stats(a, never, NULL);
    uint64_t v[4];
    CHECK_EQ(hak_stats_read(a, v, 4), 0);
    CHECK(!hak_owns(p) || hak_arena_of(p) == NULL);
  }
}

/* As dead ones, wherever it costs nothing to look. */
TEST(no_arena_is_einval) {
  hak_arena *none = NULL;
  size_t soft = 1, hard = 1;
  CHECK_EQ(hak_arena_destroy(none), EINVAL);
  CHECK_EQ(hak_arena_reset(none), EINVAL);
  CHECK_EQ(hak_arena_trim(none), EINVAL);
  CHECK_EQ(hak_arena_set_limit(none, 0, MIB), EINVAL);
  CHECK_EQ(hak_arena_handover(none), EINVAL);
  CHECK_EQ(hak_arena_pin(none), EINVAL);
  CHECK_EQ(hak_arena_unpin(none), EINVAL);
  CHECK_EQ(hak_arena_configure(none, NULL, NULL, 0, NULL, 0), EINVAL);
  CHECK_EQ(hak_arena_get_id(none), 0);
  CHECK_EQ(hak_arena_kind_of(none), -1);
  CHECK_EQ(hak_arena_refusals(none), 0);
  CHECK(hak_arena_name(none) == NULL);
  hak_arena_limit(none, &soft, &hard);
  CHECK(soft == 0 && hard == 0);
  hak_arena_limit(none, NULL, NULL);
  for (int i = 0; i < 3; i++) {
    errno = 0;
    void *p = i == 0   ? hak_arena_calloc(none, 1, 100)
              : i == 1 ? hak_arena_aligned_alloc(none, 64, 10)
                       : hak_arena_realloc(none, NULL, 100);
    CHECK(p == NULL);
    CHECK_EQ(errno, EINVAL);
  }
  hak_arena_free_sized(none, NULL, 10);
}

TEST(the_default_arena_stays) {
  hak_arena *d = hak_arena_default();
  CHECK(d != NULL && d == hak_arena_default());
  CHECK_EQ(hak_arena_destroy(d), EINVAL);
  CHECK_EQ(hak_arena_reset(d), EINVAL);
  CHECK_EQ(hak_arena_handover(d), EINVAL);
  CHECK_EQ(hak_arena_kind_of(d), HAK_ARENA_SHARED);
  void *p = hak_arena_alloc(d, 100);
  CHECK(hak_arena_of(p) == d);
  hak_free(p);
  p = hak_malloc(100000);
  CHECK(hak_arena_of(p) == d);
  hak_arena_free(d, p);
}

TEST(shared_arenas_have_no_owner) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  CHECK_EQ(hak_arena_handover(a), EINVAL);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(pins_keep_an_arena) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  char *p = hak_arena_alloc(a, 50);
  fill(p, 50, 1);
  CHECK_EQ(hak_arena_pin(a), 0);
  CHECK_EQ(hak_arena_pin(a), 0); /* pins count */
  for (int pins = 2; pins > 0; pins--) {
    CHECK_EQ(hak_arena_reset(a), EBUSY);
    CHECK_EQ(hak_arena_destroy(a), EBUSY);
    CHECK(intact(p, 50, 1));
    CHECK_EQ(hak_arena_unpin(a), 0);
  }
  CHECK_EQ(hak_arena_unpin(a), EINVAL);
  CHECK_EQ(hak_arena_reset(a), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- walking --------------------------------------------------------------------------------- */

struct seen {
  hak_arena *arena[64];
  size_t n, stop_at;
};
static int see(hak_arena *arena, void *ud) {
  struct seen *s = ud;
  s->arena[s->n++] = arena;
  return s->n == s->stop_at ? 42 : 0;
}

TEST(walk_visits_each_live_arena) {
  hak_arena *a[8];
  for (int i = 0; i < 8; i++) a[i] = arena_of_kind(i & 1, 0);
  CHECK_EQ(hak_arena_destroy(a[3]), 0);
  struct seen s = {.stop_at = 1000};
  CHECK_EQ(hak_arena_walk(see, &s), 0);
  CHECK_EQ(s.n, 8); /* seven and the default one */
  CHECK(s.arena[0] == hak_arena_default());
  for (int i = 0; i < 8; i++) {
    size_t times = 0;
    for (size_t k = 0; k < s.n; k++) times += s.arena[k] == a[i];
    CHECK_EQ(times, i != 3);
  }
  struct seen brief = {.stop_at = 3};
  CHECK_EQ(hak_arena_walk(see, &brief), 42);
  CHECK_EQ(brief.n, 3);
  for (int i = 0; i < 8; i++)
    if (i != 3) CHECK_EQ(hak_arena_destroy(a[i]), 0);
}

/* A visitor may do all but create and destroy arenas. */
static int look_around(hak_arena *arena, void *lua_block) {
  CHECK(hak_arena_from_id(hak_arena_get_id(arena)) == arena);
  CHECK(hak_arena_of(lua_block) != NULL);
  CHECK_CMP(stat_of(NULL, "blocks"), >=, stat_of(arena, "blocks"));
  struct seen inner = {.stop_at = 2};
  CHECK_EQ(hak_arena_walk(see, &inner), 42);
  uint64_t seed = 1;
  for (int i = 0; i < 500; i++) hak_free(hak_malloc(log_size(&seed, 200000)));
  CHECK_EQ(hak_arena_set_limit(arena, 0, 0) | hak_arena_trim(arena), 0);
  hak_trim();
  return 0;
}
TEST(visitors_may_look_around) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0), *b = arena_of_kind(HAK_ARENA_SHARED, 0);
  void *p = hak_lua_alloc(a, NULL, 0, 50);
  alarm(30);
  CHECK_EQ(hak_arena_walk(look_around, p), 0);
  CHECK_EQ(hak_arena_destroy(a) | hak_arena_destroy(b), 0); /* the registry is free again */
}

/* ---- reset and destroy ----------------------------------------------------------------------- */

static void populate(hak_arena *a, uint64_t seed, size_t n) {
  for (size_t i = 0; i < n; i++) {
    size_t size = log_size(&seed, i % 200 ? 3000 : 3 * MIB);
    char *p = i & 1 ? hak_lua_alloc(a, NULL, 0, size) : hak_arena_alloc(a, size);
    CHECK(p != NULL);
    fill(p, size, i);
  }
}

TEST(reset_frees_every_block_and_keeps_memory) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    uint64_t mapped = 0;
    for (int round = 0; round < 12; round++) {
      populate(a, 1, rounds(20000, 3000));
      CHECK_CMP(stat_of(a, "blocks"), >, 0);
      balanced(a);
      if (round == 1) mapped = stat_of(a, "mapped");
      if (round > 1) CHECK_CMP(stat_of(a, "mapped"), <=, mapped + 8 * MIB); /* reused */
      CHECK_EQ(hak_arena_reset(a), 0);
      CHECK_EQ(stat_of(a, "blocks"), 0);
      CHECK_EQ(stat_of(a, "allocated"), 0);
      CHECK_EQ(stat_of(a, "large.blocks"), 0);
      balanced(a);
      CHECK_EQ(stat_of(a, "arena.resets"), (uint64_t)round + 1);
    }
    CHECK_EQ(hak_arena_destroy(a), 0);
    balanced(NULL);
  }
}

TEST(arena_retain_effect) {
  static const char *const kept[] = {"0", "1M", "16M"};
  static const size_t bytes[] = {0, MIB, 16 * MIB};
  for (int i = 0; i < 3; i++) {
    hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
    const char *name = "arena.retain";
    CHECK_EQ(hak_arena_configure(a, &name, &kept[i], 1, NULL, 0), 0);
    for (int k = 0; k < 10000; k++) fill(hak_lua_alloc(a, NULL, 0, 3000), 3000, k);
    CHECK_CMP(stat_of(a, "charged"), >=, 28 * MIB);
    CHECK_EQ(hak_arena_reset(a), 0);
    CHECK_CMP(stat_of(a, "charged"), <=, bytes[i] + 512 * KIB);
    if (i == 2) CHECK_CMP(stat_of(a, "charged"), >=, MIB);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(destroy_returns_everything) {
  void *anchor = hak_malloc(100); /* hakmem has started, and its heap stands */
  for (int kind = 0; kind < 2; kind++) {
    CHECK_EQ(hak_arena_destroy(arena_of_kind(kind, 0)), 0);
    hak_trim();
    uint64_t active = stat_of(NULL, "active"), charged = stat_of(NULL, "charged");
    uint64_t metadata = stat_of(NULL, "metadata"), blocks = stat_of(NULL, "blocks");
    hak_arena *a = arena_of_kind(kind, 0);
    populate(a, 2, 20000);
    CHECK_CMP(stat_of(NULL, "blocks"), ==, blocks + 20000);
    CHECK_EQ(hak_arena_destroy(a), 0);
    CHECK_EQ(stat_of(NULL, "active"), active);
    CHECK_EQ(stat_of(NULL, "blocks"), blocks);
    CHECK_CMP(stat_of(NULL, "metadata"), <=, metadata + MIB);
    hak_trim();
    CHECK_EQ(stat_of(NULL, "cached"), 0);
    CHECK_CMP(stat_of(NULL, "charged"), <=, charged + MIB);
    balanced(NULL);
  }
  hak_free(anchor);
}

TEST(trim_returns_cached_memory) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  char *keep = hak_lua_alloc(a, NULL, 0, 100);
  fill(keep, 100, 1);
  static char *p[2000];
  for (int i = 0; i < 2000; i++) p[i] = hak_lua_alloc(a, NULL, 0, 20000);
  for (int i = 0; i < 2000; i++) hak_lua_alloc(a, p[i], 20000, 0);
  CHECK_EQ(hak_arena_trim(a), 0);
  CHECK_CMP(stat_of(a, "charged"), <=, 512 * KIB);
  CHECK_EQ(stat_of(a, "blocks"), 1);
  CHECK(intact(keep, 100, 1));
  balanced(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(a_thousand_fresh_arenas_are_cheap) {
  enum { N = 1000 };
  static hak_arena *a[N];
  hak_free(hak_malloc(1));
  uint64_t charged = stat_of(NULL, "charged");
  size_t rss = resident();
  for (int i = 0; i < N; i++) a[i] = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK_CMP(stat_of(NULL, "charged") - charged, <=, N * 8 * KIB);
  if (!CHECK_SANITIZED) CHECK_CMP(resident() - rss, <=, N * 8 * KIB);
  CHECK_EQ(stat_of(NULL, "arena.live"), N + 1);
  for (int i = 0; i < N; i++) CHECK_EQ(hak_arena_destroy(a[i]), 0);
  CHECK_EQ(stat_of(NULL, "arena.live"), 1);
}

TEST(a_hundred_thousand_cycles_are_flat) {
  uint64_t mapped = 0;
  size_t rss = 0, n = rounds(100000, 10000);
  for (size_t i = 0; i < n; i++) {
    hak_arena *a = arena_of_kind((int)(i & 1), 0);
    char *p = hak_lua_alloc(a, NULL, 0, 100), *q = hak_arena_alloc(a, i % 64 ? 3000 : 300000);
    CHECK(p != NULL && q != NULL);
    p[0] = q[0] = 1;
    if (i % 3 == 0) hak_arena_free(a, q);
    CHECK_EQ(hak_arena_destroy(a), 0);
    if (i == n / 10) mapped = stat_of(NULL, "mapped"), rss = resident();
  }
  CHECK_CMP(stat_of(NULL, "mapped"), <=, mapped + 4 * MIB);
  if (!CHECK_SANITIZED) CHECK_CMP(resident(), <=, rss + 4 * MIB);
  balanced(NULL);
}

/* ---- owners ---------------------------------------------------------------------------------- */

static void *strangers; /* a block that is not theirs to free */
static void *stranger(void *arena) {
  hak_arena *a = arena;
  errno = 0;
  CHECK(hak_arena_alloc(a, 10) == NULL);
  CHECK_EQ(errno, EPERM);
  errno = 0;
  CHECK(hak_arena_calloc(a, 1, 10) == NULL);
  CHECK_EQ(errno, EPERM);
  errno = 0;
  CHECK(hak_arena_aligned_alloc(a, 64, 10) == NULL);
  CHECK_EQ(errno, EPERM);
  errno = 0;
  CHECK(hak_arena_realloc(a, NULL, 10) == NULL);
  CHECK_EQ(errno, EPERM);
  errno = 0;
  hak_arena_free(a, strangers);
  CHECK_EQ(errno, EPERM);
  CHECK_EQ(hak_arena_reset(a), EPERM);
  CHECK_EQ(hak_arena_trim(a), EPERM);
  CHECK_EQ(hak_arena_destroy(a), EPERM);
  return NULL;
}
static void *new_owner(void *arena) {
  CHECK_EQ(hak_arena_handover(arena), 0);
  void *p = hak_arena_alloc(arena, 10);
  CHECK(p != NULL);
  hak_arena_free(arena, p);
  return NULL;
}
static void *anyone(void *arena) {
  void *p = hak_arena_alloc(arena, 10), *q = hak_lua_alloc(arena, NULL, 0, 100);
  CHECK(p != NULL && q != NULL);
  hak_arena_free(arena, p);
  hak_lua_alloc(arena, q, 100, 0);
  return NULL;
}

TEST(arena_owner_check_effect) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  finish(start(anyone, a)); /* unchecked: a happens-before edge is enough */
  const char *name = "arena.owner_check", *value = "on";
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, 0), 0);
  CHECK_EQ(hak_arena_handover(a), 0);
  void *p = hak_arena_alloc(a, 10);
  CHECK(p != NULL);
  strangers = hak_arena_alloc(a, 20);
  finish(start(stranger, a));
  CHECK_EQ(stat_of(a, "blocks"), 2);
  hak_arena_free(a, p);
  finish(start(new_owner, a));
  stranger(a);                   /* we are one now */
  CHECK_EQ(hak_arena_pin(a), 0); /* a Lua state lives in it: exempt */
  finish(start(anyone, a));
  anyone(a);
  CHECK_EQ(hak_arena_unpin(a), 0);
  CHECK_EQ(hak_arena_handover(a), 0);
  anyone(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* blocks and allocated against an oracle, after each of many operations. */
TEST(statistics_are_exact_for_the_owner) {
  enum { N = 300 };
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    char *p[N] = {0};
    size_t usable[N] = {0}, allocated = 0, blocks = 0;
    uint64_t seed = 5;
    for (size_t i = 0; i < rounds(6000, 1500); i++) {
      size_t k = below(&seed, N), size = log_size(&seed, i % 20 ? 8000 : 5 * MIB);
      if (p[k] != NULL && below(&seed, 3) != 0) {
        hak_arena_free(a, p[k]);
        p[k] = NULL;
        blocks--;
      } else {
        blocks += p[k] == NULL;
        p[k] = hak_arena_realloc(a, p[k], size);
        CHECK(p[k] != NULL);
      }
      allocated -= usable[k];
      usable[k] = p[k] == NULL ? 0 : hak_usable_size(p[k]);
      allocated += usable[k];
      CHECK_EQ(stat_of(a, "blocks"), blocks);
      CHECK_EQ(stat_of(a, "allocated"), allocated);
      if (i % 16 == 0) {
        balanced(a);
        balanced(NULL);
      }
    }
    CHECK_EQ(hak_arena_reset(a), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(process_statistics_sum_the_arenas) {
  hak_arena *a[6];
  for (int i = 0; i < 6; i++) {
    a[i] = arena_of_kind(i & 1, 0);
    populate(a[i], (uint64_t)i, 500);
  }
  void *p = hak_malloc(5000);
  static const char *const sums[] = {"allocated",    "active",      "blocks",
                                     "large.blocks", "large.bytes", "small.slabs"};
  for (size_t s = 0; s < HAK_COUNT_OF(sums); s++) {
    uint64_t sum = stat_of(hak_arena_default(), sums[s]);
    for (int i = 0; i < 6; i++) sum += stat_of(a[i], sums[s]);
    CHECK_EQ(stat_of(NULL, sums[s]), sum);
  }
  hak_free(p);
  for (int i = 0; i < 6; i++) CHECK_EQ(hak_arena_destroy(a[i]), 0);
}

struct classes {
  size_t allocated, blocks, active, last;
};
static void add_class(const hak_class_stat *c, void *ud) {
  struct classes *s = ud;
  CHECK_CMP(c->size, >, s->last); /* each class once, rising */
  CHECK_CMP(c->size * c->blocks, <=, c->active);
  CHECK_CMP(c->slabs, >, 0);
  s->last = c->size;
  s->allocated += c->size * c->blocks;
  s->blocks += c->blocks;
  s->active += c->active;
}

TEST(class_statistics_add_up) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  for (size_t size = 1; size <= 30000; size += 13) CHECK(hak_arena_alloc(a, size) != NULL);
  struct classes s = {0};
  hak_class_stats(a, add_class, &s);
  CHECK_EQ(s.blocks, stat_of(a, "blocks"));
  CHECK_EQ(s.allocated, stat_of(a, "allocated"));
  CHECK_CMP(s.active, <=, stat_of(a, "mapped"));
  struct classes all = {0};
  hak_class_stats(NULL, add_class, &all);
  CHECK_CMP(all.blocks, >=, s.blocks);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(configuration_words) {
  hak_arena_config config = {.l25_initial_shards = 4, .l25_max_shards = 8};
  config.bigcache_initial_buckets = 64, config.bigcache_max_buckets = 128;
  config.bigcache_max_bytes = 3 * MIB;
  hak_arena *a = hak_arena_create(&config);
  hak_arena_free(a, hak_arena_alloc(a, 100 * KIB));
  hak_arena_free(a, hak_arena_alloc(a, 2 * MIB));
  CHECK_EQ(stat_of(a, "l25.shards"), 4);
  CHECK_EQ(stat_of(a, "l25.max_shards"), 8);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 64);
  CHECK_EQ(stat_of(a, "bigcache.max_buckets"), 128);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 2 * MIB);
  hak_arena_free(a, hak_arena_alloc(a, 4 * MIB)); /* above the limit: not kept */
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 2 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
  config.l25_max_shards = 2000;
  errno = 0;
  CHECK(hak_arena_create(&config) == NULL);
  CHECK_EQ(errno, EINVAL);
}

TEST(arena_calloc_site) {
  hak_arena *a = hak_arena_create(NULL);
  void *p = hak_arena_calloc_site(a, 2, MIB, 7), *q = hak_arena_calloc_site(a, 2, MIB, 8);
  CHECK(p != NULL && q != NULL);
  hak_configure((const char *[]){"bigcache.front_bytes"}, (const char *[]){"0"}, 1, NULL, 0);
  memset(p, 1, 2 * MIB);
  hak_arena_free(a, p);
  hak_arena_free(a, q);
  char *r = hak_arena_calloc_site(a, 2, MIB, 7); /* the one that the same site had */
  CHECK(r == p);
  CHECK(r[0] == 0 && r[2 * MIB - 1] == 0);
  CHECK_EQ(stat_of(a, "bigcache.hits_site"), 1);
  CHECK(hak_arena_calloc_site(a, SIZE_MAX, 2, 7) == NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* A state's arena is pinned; who asks whether a pointer is an arena need not know. */
TEST(arena_binds_one_state) {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  int state;
  CHECK(hak_lua_bound(a) == NULL);
  CHECK_EQ(hak_lua_bind(a, &(hak_lua_binding){.id = &state}), 0);
  CHECK(hak_lua_bound(a) != NULL && hak_lua_bound(a)->id == &state);
  CHECK_EQ(hak_lua_bind(a, &(hak_lua_binding){0}), EBUSY);
  CHECK_EQ(hak_arena_destroy(a), EBUSY);
  CHECK(hak_arena_is_live(a) && !hak_arena_is_live(&state) && !hak_arena_is_live(NULL));
  CHECK_EQ(hak_lua_unbind(a), 0);
  CHECK_EQ(hak_lua_unbind(a), EINVAL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK(hak_lua_bound(a) == NULL && !hak_arena_is_live(a));
}

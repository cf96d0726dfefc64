/* stats.c - the statistics table, its snapshots, and what counters count.
 * Not:   the figures of one arena (arena.c), reports (report.c).
 * Start: table_is_sound. */
#include "check.h"

TEST(table_is_sound) {
  size_t n = hak_stat_count();
  CHECK_CMP(n, >=, 40);
  for (size_t i = 0; i < n; i++) {
    const hak_stat_info *s = hak_stat_info_at(i);
    CHECK(s != NULL);
    CHECK_EQ(hak_stat_find(s->name), (int)i);
    CHECK(s->process || s->per_arena);
    CHECK(strncmp(s->name, "top.", 4) != 0);
    CHECK(strstr("counter gauge peak ratio", s->kind) != NULL);
    CHECK(strstr("bytes blocks count ns ratio", s->unit) != NULL);
    CHECK(strlen(s->help) > 5);
  }
  CHECK(hak_stat_info_at(n) == NULL && hak_stat_info_at(SIZE_MAX) == NULL);
  CHECK_EQ(hak_stat_find("top.allocated"), -1);
  CHECK_EQ(hak_stat_find(""), -1);
  CHECK_EQ(hak_stat_find(NULL), -1);
}

/* The time begins anew with each use, also where the last one has been waited for already. */
TEST(huge_blocks_in_use_stay_warm) {
  CHECK_EQ(set_knob("purge.decay", "1s"), 0);
  for (int i = 0; i < 5; i++) {
    char *p = hak_malloc(12 * MIB);
    CHECK(p != NULL);
    memset(p, 1, 12 * MIB);
    hak_free(p);
    hak_free(hak_malloc(100000)); /* an occasion to purge */
    CHECK_CMP(stat_of(NULL, "cached"), >=, 12 * MIB - 128 * KIB);
    if (i < 4) nap(350);
  }
}

TEST(short_buffers_are_respected) {
  uint64_t v[4] = {7, 7, 7, 7};
  CHECK_EQ(hak_stats_read(NULL, v, 2), hak_stat_count());
  CHECK(v[2] == 7 && v[3] == 7);
  CHECK_EQ(hak_stats_read(NULL, NULL, 0), hak_stat_count());
  uint64_t many[512];
  memset(many, 0xff, sizeof many);
  size_t n = hak_stats_read(hak_arena_default(), many, 512);
  CHECK_EQ(n, hak_stat_count());
  CHECK(many[n] == 0 || many[n] == UINT64_MAX); /* past the end: zeroed or left alone */
}

TEST(names_absent_in_a_scope_are_zero) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 4 * MIB);
  hak_free(hak_malloc(100));
  uint64_t process[256], arena[256];
  size_t n = hak_stats_read(NULL, process, 256);
  CHECK_EQ(hak_stats_read(a, arena, 256), n);
  for (size_t i = 0; i < n; i++) {
    if (!hak_stat_info_at(i)->process) CHECK_EQ(process[i], 0);
    if (!hak_stat_info_at(i)->per_arena) CHECK_EQ(arena[i], 0);
  }
  CHECK_EQ(arena[hak_stat_find("hard")], 4 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

static void counters_grew(uint64_t before[256]) {
  uint64_t after[256];
  size_t n = hak_stats_read(NULL, after, 256);
  for (size_t i = 0; i < n; i++) {
    const char *kind = hak_stat_info_at(i)->kind;
    if (strcmp(kind, "gauge") == 0 || strcmp(kind, "ratio") == 0) continue;
    if (after[i] < before[i]) CHECK_STR(hak_stat_info_at(i)->name, "to only grow");
  }
  memcpy(before, after, sizeof after);
}

TEST(counters_only_grow) {
  uint64_t before[256], seed = 1;
  hak_stats_read(NULL, before, 256);
  for (int round = 0; round < 30; round++) {
    hak_arena *a = arena_of_kind(round & 1, 3 * MIB);
    for (int i = 0; i < 500; i++) {
      void *p = hak_arena_alloc(a, log_size(&seed, MIB)), *q = hak_malloc(log_size(&seed, MIB));
      hak_free(hak_realloc(q, log_size(&seed, 9 * MIB)));
      if (i & 1) hak_arena_free(a, p);
    }
    if (round % 3 == 0) hak_arena_reset(a), hak_trim();
    counters_grew(before);
    CHECK_EQ(hak_arena_destroy(a), 0); /* an arena's counts stay with the process */
    counters_grew(before);
  }
}

TEST(counters_count) {
  uint64_t created = stat_of(NULL, "arena.created");
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  CHECK_EQ(stat_of(NULL, "arena.created"), created + 1);
  CHECK_EQ(hak_arena_reset(a), 0);
  CHECK_EQ(stat_of(a, "arena.resets"), 1);
  for (int i = 1; i <= 5; i++) {
    void *p = hak_arena_alloc(a, 100000);
    CHECK_EQ(stat_of(a, "large.allocs"), (uint64_t)i);
    CHECK_EQ(stat_of(a, "large.blocks"), 1);
    CHECK_CMP(stat_of(a, "large.bytes"), >=, 100000);
    hak_arena_free(a, p);
  }
  CHECK_EQ(stat_of(a, "large.blocks"), 0);
  CHECK_EQ(stat_of(a, "large.bytes"), 0);
  CHECK_EQ(stat_of(a, "small.slabs"), 0);
  void *p = hak_arena_alloc(a, 100);
  CHECK_EQ(stat_of(a, "small.slabs"), 1);
  CHECK_CMP(stat_of(a, "small.refills"), >=, 1);
  CHECK_CMP(stat_of(a, "small.fresh"), >=, 1);
  CHECK_EQ(stat_of(a, "heaps.live"), 1);
  hak_arena_free(a, p);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_CMP(stat_of(NULL, "os.region"), >, 0);
  CHECK_CMP(stat_of(NULL, "os.reserves"), >, 0);
  CHECK_CMP(stat_of(NULL, "os.commits"), >, 0);
  CHECK_CMP(stat_of(NULL, "metadata"), >, 0);
}

TEST(peak_remembers) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  void *p = hak_arena_alloc(a, 20 * MIB);
  uint64_t charged = stat_of(a, "charged");
  CHECK_CMP(charged, >=, 20 * MIB);
  CHECK_CMP(stat_of(a, "peak"), >=, charged);
  hak_arena_free(a, p);
  hak_arena_trim(a);
  CHECK_CMP(stat_of(a, "charged"), <, MIB);
  CHECK_CMP(stat_of(a, "peak"), >=, 20 * MIB);
  CHECK_CMP(stat_of(a, "peak"), <, 25 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(refused_requests_leave_no_peak) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    void *p = hak_arena_alloc(a, (size_t)1 << 50);
    CHECK(p == NULL);
    p = hak_arena_alloc(a, MIB);
    CHECK(p != NULL && hak_arena_realloc(a, p, (size_t)1 << 50) == NULL);
    CHECK_CMP(stat_of(a, "peak"), <, 4 * MIB);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(resident_is_the_kernels_figure) {
  uint64_t shown = stat_of(NULL, "resident");
  size_t true_one = resident();
  CHECK_CMP(shown, >, true_one / 2);
  CHECK_CMP(shown, <, true_one * 2);
  char *p = hak_malloc(64 * MIB);
  memset(p, 1, 64 * MIB);
  CHECK_CMP(stat_of(NULL, "resident"), >=, shown + 60 * MIB);
  hak_free(p);
  hak_trim();
  if (!CHECK_SANITIZED) CHECK_CMP(stat_of(NULL, "resident"), <, shown + 8 * MIB);
}

TEST(purged_memory_is_accounted) {
  CHECK_EQ(set_knob("purge.decay", "3600s"), 0);
  char *p[8];
  for (int i = 0; i < 8; i++) memset(p[i] = hak_malloc(200000), 1, 200000);
  for (int i = 0; i < 8; i++) hak_free(p[i]);
  CHECK_CMP(stat_of(NULL, "cached"), >=, MIB);
  uint64_t mapped = stat_of(NULL, "mapped");
  CHECK_CMP(hak_trim(), >=, MIB);
  CHECK_EQ(stat_of(NULL, "cached"), 0);
  CHECK_CMP(stat_of(NULL, "mapped"), <=, mapped);
  balanced(NULL);
  hak_trim();
  CHECK_CMP(hak_trim(), <, MIB); /* nothing left to return */
}

/* ---- each statistic of stats.def moves ------------------------------------------------------- */

/* A scope and its figures at first. What differs later has moved, in this scope. */
struct watch {
  hak_arena *arena;
  uint64_t first[256];
};
static bool moved[2][256]; /* process, arena */
static struct watch process, owned, common;

static void watch(struct watch *w, hak_arena *a) {
  w->arena = a;
  CHECK_CMP(hak_stats_read(a, w->first, 256), >, 0);
}
static void look(void) {
  struct watch *all[] = {&process, &owned, &common};
  for (int k = 0; k < 3; k++) {
    uint64_t now[256] = {0};
    hak_stats_read(all[k]->arena, now, 256);
    for (size_t i = 0; i < hak_stat_count(); i++) moved[k != 0][i] |= now[i] != all[k]->first[i];
  }
}

static void *theirs[3000];
static void *leave_blocks(void *unused) { /* and exit: an orphan, whose slabs have room */
  for (int i = 0; i < 3000; i++) theirs[i] = hak_arena_alloc(common.arena, 1000);
  for (int i = 0; i < 3000; i += 2) hak_arena_free(common.arena, theirs[i]);
  return unused;
}
static void *free_ours(void *unused) {
  for (int i = 0; i < 3000; i++) hak_arena_free(common.arena, theirs[i]);
  return unused;
}

static void move_small_blocks(void) {
  CHECK(hak_arena_alloc(common.arena, 16) != NULL); /* a heap for this thread */
  finish(start(leave_blocks, NULL));
  look();
  for (int i = 0; i < 3000; i++) CHECK(hak_arena_alloc(common.arena, 1000) != NULL);
  look(); /* adopted */
  for (int i = 0; i < 3000; i++) theirs[i] = hak_arena_alloc(common.arena, 100);
  finish(start(free_ours, NULL));
  look(); /* remote frees */
  CHECK(hak_lua_alloc(owned.arena, NULL, 0, 100) != NULL);
  look(); /* nursery */
  CHECK_EQ(hak_lua_bind(owned.arena, &(hak_lua_binding){0}), 0);
  hak_lua_note_foreign(owned.arena, 1000);
  look();
  CHECK_EQ(hak_lua_unbind(owned.arena), 0);
}

static void move_large_blocks(hak_arena *a) {
  char *p = hak_arena_alloc(a, 6 * MIB), *wall = hak_arena_alloc(a, 6 * MIB);
  CHECK(p != NULL && wall != NULL);
  p = hak_arena_realloc(a, p, 5 * MIB);  /* in place */
  p = hak_arena_realloc(a, p, 30 * MIB); /* page tables */
  char *q = hak_arena_alloc(a, 100000), *fence = hak_arena_alloc(a, 100000);
  CHECK(p != NULL && q != NULL && fence != NULL);
  q = hak_arena_realloc(a, q, MIB); /* copied */
  CHECK(q != NULL);
  memset(q, 1, MIB);
  look();
  hak_arena_free(a, q);
  look(); /* cached */
}

static void note(hak_arena *arena, size_t charged, void *ud) {
  (void)arena, (void)charged, (void)ud;
}

TEST(every_statistic_moves) {
  CHECK_EQ(set_knob("os.hugepages", "on") | set_knob("purge.decay", "3600s"), 0);
  watch(&process, NULL);
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE, .on_soft = note};
  watch(&owned, hak_arena_create(&config));
  watch(&common, arena_of_kind(HAK_ARENA_SHARED, 0));
  move_small_blocks();
  move_large_blocks(common.arena);
  move_large_blocks(owned.arena);
  static void *p[400];
  for (int i = 0; i < 400; i++) p[i] = hak_arena_alloc(owned.arena, 8000);
  for (int i = 0; i < 400; i++) hak_arena_free(owned.arena, p[i]); /* retired */
  for (int i = 0; i < 400; i++) p[i] = hak_arena_alloc(owned.arena, 1000);
  CHECK_EQ(hak_arena_set_limit(owned.arena, 64 * KIB, stat_of(owned.arena, "charged") + MIB), 0);
  void *refused = hak_arena_alloc(owned.arena, 5 * MIB);
  CHECK(refused == NULL);
  look();
  CHECK_EQ(hak_arena_snapshot(owned.arena) | hak_arena_restore(owned.arena), 0);
  look();
  CHECK_EQ(hak_arena_reset(owned.arena), 0); /* cached: retained */
  look();
  char *locked = hak_malloc(MIB);
  bool fails = !CHECK_SANITIZED && mlock(locked, MIB) == 0; /* then it cannot be purged */
  memset(locked, 1, MIB);
  hak_free(locked);
  hak_trim();
  look();
  pid_t child = fork();
  if (child == 0) {
    look();
    _exit(moved[0][hak_stat_find("forks.children")] ? 0 : 1);
  }
  reap(child);
  moved[0][hak_stat_find("forks.children")] = true;
  moved[0][hak_stat_find("os.failures")] |= !fails;
  if (fails) moved[0][hak_stat_find("os.hugepages")] |= moved[0][hak_stat_find("os.failures")];
  /* free pages belong to no arena */
  moved[1][hak_stat_find("purged")] = moved[1][hak_stat_find("reserved")] = true;
  for (size_t i = 0; i < hak_stat_count(); i++) {
    const hak_stat_info *s = hak_stat_info_at(i);
    if (strncmp(s->name, "l25.", 4) == 0) continue;      /* l25.c moves these, */
    if (strncmp(s->name, "drain.", 6) == 0) continue;    /* drain.c these, */
    if (strncmp(s->name, "bigcache.", 9) == 0) continue; /* bigcache.c these, */
    if (strncmp(s->name, "lua.", 4) == 0) continue;      /* lua_install_spec.lua these */
    if (s->process && !moved[0][i]) CHECK_STR(s->name, "moving for the process");
    if (s->per_arena && !moved[1][i]) CHECK_STR(s->name, "moving for an arena");
  }
}

/* Cells are read one by one, yet the sum holds in each snapshot, whoever reads it. */
static hak_arena *busy;
static _Atomic(bool) stop;
static void sums_up(hak_arena *a) {
  uint64_t v[256];
  CHECK_CMP(hak_stats_read(a, v, 256), >, 0);
  CHECK_EQ(v[hak_stat_find("active")] + v[hak_stat_find("cached")] + v[hak_stat_find("purged")] +
               v[hak_stat_find("reserved")] + v[hak_stat_find("metadata")],
           v[hak_stat_find("mapped")]);
  CHECK_CMP(v[hak_stat_find("waste")], <=, v[hak_stat_find("active")]);
}
static void *reader(void *unused) {
  while (!stop) {
    sums_up(NULL);
    sums_up(busy);
  }
  return unused;
}
TEST(snapshots_balance_under_load) {
  for (int kind = 0; kind < 2; kind++) {
    busy = arena_of_kind(kind, 0);
    stop = false;
    pthread_t t = start(reader, NULL);
    enum { N = 200 };
    void *p[N] = {0};
    uint64_t seed = 2;
    for (size_t i = 0; i < rounds(60000, 4000); i++) {
      size_t k = below(&seed, N);
      hak_arena_free(busy, p[k]);
      p[k] = hak_arena_alloc(busy, log_size(&seed, i % 50 ? 20000 : 3 * MIB));
    }
    stop = true;
    finish(t);
    CHECK_EQ(hak_arena_destroy(busy), 0);
  }
}

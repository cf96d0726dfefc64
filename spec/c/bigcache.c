/* bigcache.c - the cache of big blocks: each knob, each statistic, the budget, who goes, log lines.
 * Why:   what is kept must be found again, and must not be more than was allowed.
 * Not:   what becomes of contents and charges (bigblocks.c), the table by itself (bigtable.c).
 * Start: bigcache_mode_effect. */
#include "big.h"

#include "os/os.h"

/* ---- knobs ----------------------------------------------------------------------------------- */

static void two_from_one_site(hak_arena *a) {
  char *p = at_site(a, 3 * MIB, 64), *q = at_site(a, 3 * MIB, 64);
  hak_free(p);
  hak_free(q);
}

TEST(bigcache_mode_effect) {
  still();
  for (int fixed = 0; fixed < 2; fixed++) {
    knob("bigcache.mode", fixed ? "fixed" : "dynamic");
    hak_arena *a = shared();
    two_from_one_site(a);
    CHECK_EQ(stat_of(a, "bigcache.entries"), fixed ? 1 : 2); /* one slot per site and class */
    CHECK_EQ(stat_of(a, "bigcache.evicted_rare"), fixed);
    knob("bigcache.mode", fixed ? "dynamic" : "fixed"); /* for the next arena */
    two_from_one_site(a);
    CHECK_EQ(stat_of(a, "bigcache.entries"), fixed ? 1 : 2);
    all_came_back(a);
  }
}

TEST(bigcache_initial_buckets_effect) {
  still();
  const char *text[] = {"32", "64", "100", "1024"}, *name = "bigcache.initial_buckets";
  unsigned want[] = {32, 64, 64, 1024};
  for (int i = 0; i < 4; i++) {
    if (i < 2) knob(name, text[i]);
    hak_arena *a = shared();
    if (i >= 2) arena_knob(a, name, text[i]);
    CHECK_EQ(stat_of(a, "bigcache.buckets"), 0);
    hak_free(at_site(a, 2 * MIB, 1));
    CHECK_EQ(stat_of(a, "bigcache.buckets"), want[i]);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
  CHECK_EQ(set_knob(name, "3"), EINVAL);
  CHECK_EQ(set_knob(name, "65537"), EINVAL);
}

TEST(bigcache_max_buckets_effect) {
  still();
  knob("bigcache.initial_buckets", "32");
  knob("bigcache.max_buckets", "64");
  hak_arena *a = shared();
  knob("bigcache.max_buckets", "100");
  hak_arena *b = shared();
  leave_at_sites(a, 120, 1100 * KIB, 64);
  leave_at_sites(b, 120, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 64);
  CHECK_EQ(stat_of(a, "bigcache.max_buckets"), 64);
  CHECK_EQ(stat_of(b, "bigcache.buckets"), 64); /* 128 would be above 100 */
  arena_knob(a, "bigcache.max_buckets", "128"); /* live */
  leave_at_sites(a, 121, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 128);
  arena_knob(a, "bigcache.max_buckets", "32"); /* removes none */
  leave_at_sites(a, 130, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 128);
  knob("bigcache.initial_buckets", "1024");
  knob("bigcache.max_buckets", "64");
  hak_arena *c = shared();
  hak_free(at_site(c, 2 * MIB, 1));
  CHECK_EQ(stat_of(c, "bigcache.buckets"), 64);
}

TEST(bigcache_load_percent_effect) {
  still();
  knob("bigcache.initial_buckets", "32");
  knob("bigcache.load_percent", "25");
  hak_arena *a = shared();
  leave_at_sites(a, 7, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 32);
  leave_at_sites(a, 8, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.buckets"), 64);
  knob("bigcache.load_percent", "300");
  hak_arena *b = shared();
  leave_at_sites(b, 95, 1100 * KIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.buckets"), 32);
  arena_knob(b, "bigcache.load_percent", "100"); /* at the next one that comes in */
  leave_at_sites(b, 96, 1100 * KIB, 64);
  CHECK_CMP(stat_of(b, "bigcache.buckets"), >=, 64);
}

TEST(bigcache_hash_effect) {
  for (int mixed = 0; mixed < 2; mixed++) {
    knob("bigcache.hash", mixed ? "mix64" : "mul32");
    hak_arena *a = shared();
    hak_free(at_site(a, 2 * MIB, 1));
    knob("bigcache.hash", mixed ? "mul32" : "mix64"); /* the table keeps what it was made with */
    struct haki_bigtable *t = &a->large.big->table;
    uint32_t x = 0x1234567u ^ (uint32_t)haki_big_class_bytes(9);
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    CHECK_EQ(haki_bigtable_hash(t, 9, 0x1234567) == (x ^ x >> 16), !mixed);
    char *p = at_site(a, 3 * MIB, 0x1234567);
    hak_free(p);
    CHECK(at_site(a, 3 * MIB, 0x1234567) == p);
  }
}

TEST(bigcache_max_bytes_effect) {
  still();
  hak_arena *a = shared();
  knob("bigcache.max_bytes", "8MiB");
  hak_arena *b = shared();
  leave_at_sites(a, 6, 3 * MIB, 64);
  leave_at_sites(b, 6, 3 * MIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 18 * MIB);
  CHECK_EQ(stat_of(b, "bigcache.bytes"), 6 * MIB);
  CHECK_EQ(stat_of(b, "bigcache.evicted_bytes"), 4);
  CHECK_EQ(stat_of(b, "bigcache.entries"), 6); /* four of them have to cool */
  CHECK_EQ(stat_of(b, "bigcache.peak"), 6 * MIB);
  arena_knob(b, "bigcache.max_bytes", "16MiB");
  leave_at_sites(b, 6, 3 * MIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.bytes"), 15 * MIB);
  arena_knob(b, "bigcache.max_bytes", "7MiB"); /* at once */
  CHECK_EQ(stat_of(b, "bigcache.bytes"), 6 * MIB);
  CHECK_EQ(stat_of(b, "charged"), 6 * MIB);
  leave_at_sites(b, 6, 3 * MIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.bytes"), 6 * MIB);
  arena_knob(b, "bigcache.max_bytes", "0");
  CHECK_EQ(stat_of(b, "bigcache.entries"), 0);
  CHECK_EQ(stat_of(b, "charged"), 0);
  leave_at_sites(b, 6, 3 * MIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.entries"), 0);
  CHECK_EQ(stat_of(b, "bigcache.peak"), 15 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 18 * MIB); /* another arena's */
}

TEST(a_lower_budget_reaches_the_front_of_a_thread) {
  knob("bigcache.decay", "1h");
  hak_arena *a = shared();
  leave_at_sites(a, 3, 3 * MIB, 64); /* one in the front, two in the table */
  CHECK_EQ(stat_of(a, "bigcache.entries"), 2);
  for (int step = 0; step < 2; step++) {
    arena_knob(a, "bigcache.max_bytes", step ? "0" : "4MiB");
    for (int i = 0; i < 40; i++) hak_free(at_site(a, 600 * KIB, 1)); /* its thread comes by */
    CHECK_EQ(stat_of(a, "bigcache.bytes"), step ? 0 : 3 * MIB);
    CHECK_EQ(a->large.big->bytes, step ? 0 : 3 * MIB); /* and no credit is left */
  }
}

TEST(bigcache_max_mapped_effect) {
  still();
  hak_arena *a = shared();
  knob("bigcache.max_mapped", "16MiB");
  hak_arena *b = shared();
  leave_at_sites(a, 7, 1100 * KIB, 64); /* a chunk of address space each */
  leave_at_sites(b, 7, 1100 * KIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.mapped"), 28 * MIB);
  CHECK_EQ(stat_of(b, "bigcache.mapped"), 16 * MIB);
  CHECK_EQ(stat_of(b, "bigcache.entries"), 4);
  CHECK_EQ(stat_of(b, "bigcache.evicted_mapped"), 3);
  arena_knob(b, "bigcache.max_mapped", "11MiB");
  CHECK_EQ(stat_of(b, "bigcache.mapped"), 8 * MIB);
  arena_knob(b, "bigcache.max_mapped", "1GiB");
  leave_at_sites(b, 7, 1100 * KIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.mapped"), 28 * MIB);
  arena_knob(b, "bigcache.max_mapped", "3MiB"); /* not even one */
  CHECK_EQ(stat_of(b, "bigcache.mapped"), 0);
  leave_at_sites(b, 1, 1100 * KIB, 64);
  CHECK_EQ(stat_of(b, "bigcache.entries"), 0);
}

TEST(bigcache_max_block_effect) {
  still();
  hak_arena *a = shared();
  const size_t sizes[] = {2 * MIB, 2 * MIB + 1, 64 * MIB, 64 * MIB + 1};
  for (int i = 0; i < 4; i++) {
    hak_free(at_site(a, sizes[i], 64));
    CHECK_EQ(stat_of(a, "bigcache.inserts"), i < 3 ? i + 1 : 3);
    CHECK_EQ(hak_arena_trim(a), 0);
  }
  knob("bigcache.max_block", "2MiB");
  for (int i = 4; i-- > 0;) hak_free(at_site(a, sizes[i], 64));
  CHECK_EQ(stat_of(a, "bigcache.inserts"), 4);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 2 * MIB);
  CHECK_EQ(set_knob("bigcache.max_block", "65MiB"), EINVAL);
}

TEST(bigcache_decay_effect) {
  knob("bigcache.decay", "1h");
  knob("l25.decay", "1h"); /* has nothing to do with it */
  hak_arena *a = shared();
  char *p[5];
  for (int i = 0; i < 5; i++) p[i] = filled(a, 3 * MIB, 64);
  for (int i = 0; i < 5; i++) hak_free(p[i]);
  nap(60);
  for (int i = 0; i < 100; i++) hak_free(at_site(a, 600 * KIB, 1));
  CHECK_EQ(stat_of(a, "bigcache.purges"), 0);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 15 * MIB); /* one of them in the front */
  CHECK_EQ(stat_of(a, "bigcache.entries"), 4);
  uint64_t charged = stat_of(a, "charged");
  knob("bigcache.decay", "10ms");
  POLL(a, "bigcache.purges", ==, 5); /* first the memory, then the address space */
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 0);
  CHECK_EQ(stat_of(a, "charged"), charged - 15 * MIB);
  POLL(a, "bigcache.evicted_age", ==, 5);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 0);
  CHECK_EQ(stat_of(a, "bigcache.mapped"), 0);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 0);
  balanced(a);
}

TEST(bigcache_front_bytes_effect) {
  knob("bigcache.decay", "1h");
  const char *most[] = {"0", "4MiB", "32MiB"};
  for (int i = 0; i < 3; i++) {
    knob("bigcache.front_bytes", most[i]);
    hak_arena *a = shared();
    char *p = at_site(a, 3 * MIB, 64), *q = at_site(a, 2 * MIB, 64);
    hak_free(p);
    hak_free(q);
    CHECK_EQ(stat_of(a, "bigcache.entries"), 2 - i); /* of two, so many are in the table */
    CHECK_EQ(stat_of(a, "bigcache.bytes"), 5 * MIB);
    CHECK(at_site(a, 3 * MIB, 64) == p);
    CHECK(at_site(a, 2 * MIB, 64) == q);
    CHECK_EQ(stat_of(a, "bigcache.hits_front"), i);
    CHECK_EQ(stat_of(a, "bigcache.hits_site"), 2 - i);
    CHECK_EQ(stat_of(a, "bigcache.bytes"), 0);
  }
}

TEST(bigcache_near_effect) {
  still();
  const size_t step = 256 * KIB; /* from 2 to 4 MiB */
  for (int near = 0; near <= 3; near++) {
    knob("bigcache.near", (char[]){(char)('0' + near), 0});
    hak_arena *a = shared();
    hak_free(filled(a, 2 * MIB + 3 * step, 64));
    for (size_t k = 1; k <= 3; k++) { /* down to three classes smaller */
      char *p = at_site(a, 2 * MIB + (3 - k) * step, 6400);
      CHECK_EQ(stat_of(a, "bigcache.hits_class"), k <= (size_t)near ? k : (size_t)near);
      CHECK_EQ(stat_of(a, "bigcache.hits_larger"), k <= (size_t)near ? 0 : k - (size_t)near);
      hak_free(p);
    }
    CHECK_EQ(stat_of(a, "bigcache.misses"), 0);
  }
}

/* ---- statistics ------------------------------------------------------------------------------ */

static uint64_t first_values[256];
static bool has_moved[256];
static void look(hak_arena *a) {
  uint64_t v[256] = {0};
  size_t n = hak_stats_read(a, v, 256);
  for (size_t i = 0; i < n; i++) has_moved[i] = has_moved[i] || v[i] != first_values[i];
  balanced(a);
}

/* One round of ageing: all that waits gives its memory back. */
static void purge_all(hak_arena *a) {
  uint64_t purges = stat_of(a, "bigcache.purges");
  knob("bigcache.decay", "10ms");
  do {
    nap(30);
    haki_big_age(a->large.big, true);
  } while (stat_of(a, "bigcache.purges") == purges);
  knob("bigcache.decay", "1h");
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 0);
}

TEST(every_statistic_moves) {
  still();
  knob("bigcache.initial_buckets", "32");
  hak_arena *a = shared();
  hak_stats_read(a, first_values, 256);
  arena_knob(a, "bigcache.max_buckets", "4096");
  const char *chains[] = {"chains_1", "chains_2", "chains_3", "chains_more"};
  for (size_t n = 1; n <= 5; n++) { /* one chain: the same site and class */
    char name[40];
    snprintf(name, sizeof name, "bigcache.%s", chains[n < 4 ? n - 1 : 3]);
    char *p[5];
    for (size_t i = 0; i < n; i++) p[i] = at_site(a, 3 * MIB, 64);
    for (size_t i = 0; i < n; i++) hak_free(p[i]);
    CHECK_EQ(stat_of(a, name), 1);
    CHECK_EQ(stat_of(a, "bigcache.longest"), n);
    look(a);
  }
  CHECK_EQ(stat_of(a, "bigcache.misses"), 4); /* the first one came before there was a cache */
  CHECK_EQ(stat_of(a, "bigcache.hits_site"), 10);
  CHECK_EQ(stat_of(a, "bigcache.hit_rate"), 714285714);
  hak_free(at_site(a, 3 * MIB, 6400));
  CHECK_EQ(stat_of(a, "bigcache.hits_class"), 1);
  hak_free(filled(a, 30 * MIB, 64));
  CHECK_EQ(hak_arena_trim(a), 0);
  hak_free(filled(a, 30 * MIB, 64));
  void *head = at_site(a, 5 * MIB, 6400);
  look(a);
  CHECK_EQ(haki_rest_age(a->pool, true), 3 * MIB);
  hak_free(head);
  CHECK_EQ(stat_of(a, "bigcache.hits_larger"), 1);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 2);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 27 * MIB);
  CHECK_EQ(hak_arena_trim(a), 0);
  char *p = filled(a, 8 * MIB, 64), *q = filled(a, 8 * MIB, 6400);
  hak_free(p);
  hak_free(q);
  hak_free(at_site(a, 15 * MIB, 640));
  CHECK_EQ(stat_of(a, "bigcache.hits_gathered"), 1);
  look(a);
  purge_all(a);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 16 * MIB);
  look(a);
  hak_free(at_site(a, 16 * MIB, 640));
  CHECK_EQ(stat_of(a, "bigcache.hits_purged"), 1);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 0);
  CHECK_EQ(hak_arena_trim(a), 0);
  knob("bigcache.front_bytes", "32MiB");
  for (int i = 0; i < 2; i++) hak_free(at_site(a, 2 * MIB, 640));
  CHECK_EQ(stat_of(a, "bigcache.hits_front"), 1);
  knob("bigcache.front_bytes", "0");
  CHECK_EQ(hak_arena_trim(a), 0);
#if HAK_FAULT
  haki_fault_arm(HAK_FAULT_META, 1, true);
#endif
  leave_at_sites(a, 60, 1100 * KIB, 64);
#if HAK_FAULT
  CHECK_CMP(stat_of(a, "bigcache.failures"), >, 0);
  haki_fault_disarm();
  leave_at_sites(a, 80, 1100 * KIB, 64);
#endif
  CHECK_CMP(stat_of(a, "bigcache.resizes"), >, 0);
  CHECK_CMP(stat_of(a, "bigcache.worst"), >, 0);
  arena_knob(a, "bigcache.max_bytes", "40MiB");
  look(a);
  arena_knob(a, "bigcache.max_mapped", "40MiB");
  CHECK_CMP(stat_of(a, "bigcache.evicted_bytes"), >, 0);
  CHECK_CMP(stat_of(a, "bigcache.evicted_mapped"), >, 0);
  hak_free(at_site(a, 50 * MIB, 64)); /* more than there may be */
  CHECK_EQ(stat_of(a, "bigcache.evicted_rare"), 1);
  purge_all(a);
  knob("bigcache.decay", "10ms");
  while (stat_of(a, "bigcache.evicted_age") == 0) { /* what was purged goes in a later round */
    nap(30);
    haki_big_age(a->large.big, true);
  }
  knob("bigcache.decay", "1h");
  look(a);
  uint64_t parts = stat_of(a, "bigcache.evicted_bytes") + stat_of(a, "bigcache.evicted_mapped") +
                   stat_of(a, "bigcache.evicted_rare") + stat_of(a, "bigcache.evicted_age");
  CHECK_EQ(stat_of(a, "bigcache.evictions"), parts);
  for (size_t i = 0; i < hak_stat_count(); i++) {
    const char *name = hak_stat_info_at(i)->name;
    if (strncmp(name, "bigcache.", 9) != 0) continue;
    if (!HAK_FAULT && strcmp(name, "bigcache.failures") == 0) continue;
    if (!has_moved[i]) check_end(CHECK_FAILED, "%s did not move", name);
  }
  uint64_t hits = stat_of(NULL, "bigcache.hits"), peak = stat_of(NULL, "bigcache.peak");
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(stat_of(NULL, "bigcache.hits"), hits); /* counters and peaks outlive their arena */
  CHECK_EQ(stat_of(NULL, "bigcache.peak"), peak);
  CHECK_EQ(stat_of(NULL, "bigcache.entries"), 0);
  balanced(NULL);
}

/* ---- who is served, who goes ----------------------------------------------------------------- */

TEST(the_same_site_comes_first_then_others_of_the_class) {
  still();
  hak_arena *a = shared();
  char *x = at_site(a, 3 * MIB, 64), *y = at_site(a, 3 * MIB, 640), *z = at_site(a, 2 * MIB, 640);
  hak_free(x);
  hak_free(y);
  hak_free(z);
  CHECK(at_site(a, 3 * MIB - 5000, 64) == x);
  CHECK(at_site(a, 3 * MIB - 6000, 64) == y);
  CHECK(at_site(a, 2 * MIB, 64) == z);
  CHECK_EQ(stat_of(a, "bigcache.hits_site"), 1);
  CHECK_EQ(stat_of(a, "bigcache.hits_class"), 2);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(what_is_asked_for_least_goes_first) {
  still();
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "20MiB");
  ask(a, 2 * MIB, 64, 40);
  for (uintptr_t i = 1; i <= 20; i++) { /* each asks once: they push each other out */
    leave_at_sites(a, 12, 3 * MIB, i * 640000);
    CHECK_CMP(stat_of(a, "bigcache.bytes"), <=, 20 * MIB);
    CHECK_CMP(stat_of(a, "bigcache.evicted_bytes"), >=, i * 6);
    uint64_t hits = stat_of(a, "bigcache.hits_site");
    if (i % 5 == 0) hak_free(at_site(a, 2 * MIB, 64)); /* what is used often has survived */
    CHECK_EQ(stat_of(a, "bigcache.hits_site"), hits + (i % 5 == 0));
  }
  CHECK_CMP(stat_of(a, "bigcache.peak"), <=, 20 * MIB);
  all_came_back(a);
}

TEST(a_rare_block_does_not_push_out_what_is_used_often) {
  still();
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "4MiB");
  char *r = at_site(a, 2 * MIB, 640);
  ask(a, 3 * MIB, 64, 40);
  hak_free(r);
  CHECK_EQ(stat_of(a, "bigcache.evicted_rare"), 1);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 3 * MIB);
  knob("bigcache.near", "0");
  arena_knob(a, "bigcache.max_bytes", "6MiB");
  char *p = at_site(a, 2 * MIB, 6400), *q = at_site(a, 2 * MIB, 640);
  hak_free(p);                   /* rare, but there is room for one */
  for (int i = 0; i < 60; i++) { /* by now this site is used as often as the first */
    hak_free(q);
    q = at_site(a, 2 * MIB, 640);
  }
  hak_free(q);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 5 * MIB);
  all_came_back(a);
}

TEST(what_is_over_the_budget_cools_and_waits_without_memory) {
  still();
  knob("purge.decay", "1h");
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "8MiB");
  char *p[6];
  for (uintptr_t i = 0; i < 6; i++) p[i] = filled(a, 3 * MIB, i * 64);
  for (int i = 0; i < 6; i++) hak_free(p[i]);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 6 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 12 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 6 * MIB);
  CHECK_EQ(stat_of(NULL, "cached"), 18 * MIB);
  balanced(NULL);
  char *q = at_site(a, 3 * MIB, 2 * 64); /* warm, and charged again */
  CHECK(q == p[2] && q[0] == (char)0xa5 && q[2 * MIB] == (char)0xa5);
  CHECK_EQ(stat_of(a, "bigcache.hits_site"), 1);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 9 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 9 * MIB);
  knob("purge.decay", "0");
  knob("purge.mode", "off");
  haki_big_age(a->large.big, true);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 9 * MIB);
  knob("purge.mode", "dontneed");
  haki_big_age(a->large.big, true);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 0);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 9 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 5);
  balanced(a);
  for (int i = 0; i < 5; i++) { /* two have their memory, three their address */
    void *r = at_site(a, 3 * MIB, 77);
    CHECK(i < 2 || all_zero(r, 3 * MIB));
    CHECK_EQ(stat_of(a, "bigcache.hits_purged"), i < 2 ? 0 : i - 1);
  }
  CHECK_EQ(stat_of(a, "bigcache.misses"), 0);
  CHECK_EQ(stat_of(a, "bigcache.hit_rate"), 1000000000);
  CHECK_EQ(stat_of(a, "charged"), 18 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(what_cools_stays_while_much_more_is_in_use) {
  still();
  knob("purge.decay", "0");
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "8MiB");
  void *large = at_site(a, 80 * MIB, 640); /* never kept */
  char *p[8];
  for (uintptr_t i = 0; i < 8; i++) p[i] = filled(a, 3 * MIB, i * 64);
  for (int i = 0; i < 8; i++) hak_free(p[i]);
  haki_big_age(a->large.big, true);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 6 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 18 * MIB); /* less than a quarter of 80 */
  CHECK_EQ(stat_of(a, "charged"), 86 * MIB);
  hak_free(large);
  haki_big_age(a->large.big, true);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 0);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 18 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 6 * MIB);
  balanced(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(what_cools_is_gathered_and_charged) {
  still();
  knob("purge.decay", "1h");
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "1MiB");
  for (int limited = 0; limited < 2; limited++) {
    char *p = filled(a, 8 * MIB, 64), *q = filled(a, 8 * MIB, 6400);
    hak_free(p);
    hak_free(q);
    CHECK_EQ(stat_of(a, "bigcache.cooling"), 16 * MIB);
    CHECK_EQ(stat_of(a, "charged"), 0);
    CHECK_EQ(hak_arena_set_limit(a, 0, limited ? 12 * MIB : 0), 0);
    char *r = try_at_site(a, 15 * MIB, 640);
    CHECK_EQ(stat_of(a, "charged"), limited ? 0 : 16 * MIB); /* and what lies behind it */
    if (limited) {
      CHECK(r == NULL);
      continue;
    }
    CHECK_EQ(stat_of(a, "bigcache.hits_gathered"), 1);
    CHECK_EQ(stat_of(a, "bigcache.cooling"), 0);
    CHECK(r[0] == (char)0xa5 && r[14 * MIB] == (char)0xa5);
    hak_free(r);
    CHECK_EQ(hak_arena_trim(a), 0);
  }
  balanced(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(a_limit_holds_for_blocks_that_cool) {
  still();
  knob("purge.decay", "1h");
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "1MiB");
  hak_free(filled(a, 6 * MIB, 64));
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 6 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(hak_arena_set_limit(a, 0, 5 * MIB), 0);
  CHECK(try_at_site(a, 6 * MIB, 64) == NULL);
  CHECK_EQ(errno, ENOMEM);
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(hak_arena_set_limit(a, 0, 20 * MIB), 0);
  CHECK(try_at_site(a, 6 * MIB, 64) != NULL);
  CHECK_CMP(stat_of(a, "peak"), <=, 6 * MIB);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(memory_of_evicted_blocks_goes_back) {
  still();
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", "4MiB");
  char *p[12];
  for (uintptr_t i = 0; i < 12; i++) p[i] = filled(a, 3 * MIB, i * 64);
  for (int i = 0; i < 12; i++) hak_free(p[i]);
  CHECK_EQ(stat_of(a, "bigcache.evicted_bytes"), 11);
  while (stat_of(NULL, "cached") > 8 * MIB) { /* nobody does anything but free big blocks */
    nap(5);
    for (int i = 0; i < 20; i++) hak_free(at_site(a, 3 * MIB, 64));
  }
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- log lines ------------------------------------------------------------------------------- */

static void in_the_log(const char *mode, const char *const *want, size_t n) {
  int fd[2];
  CHECK_EQ(pipe(fd), 0);
  int old = dup(2);
  dup2(fd[1], 2);
  setenv("HAKMEM_LOG", "1", 1);
  setenv("HAKMEM_BIGCACHE_MODE", mode, 1);
  setenv("HAKMEM_BIGCACHE_FRONT_BYTES", "0", 1);
  hak_free(hak_malloc(10));
  leave_at_sites(hak_arena_default(), HAK_AUDIT_BUILD ? 3 : 192, 1100 * KIB, 64);
  dup2(old, 2);
  char text[4096] = {0};
  CHECK_CMP(read(fd[0], text, sizeof text - 1), >, 0);
  for (size_t i = 0; i < n; i++)
    if (strstr(text, want[i]) == NULL)
      check_end(CHECK_FAILED, "'%s' is not in '%s'", want[i], text);
  CHECK((strstr(text, "Resized") != NULL) == (n > 1));
}

TEST(first_use_and_growth_are_logged) {
  static const char *const big[] = {
      "[BigCache] Initialized (Phase 2c: Dynamic hash table)\n"
      "[BigCache] Initial capacity: 256 buckets, max: 65536 buckets\n",
      "[BigCache] Resized: 256 \xe2\x86\x92 512 buckets (192 entries)\n"};
  static const char *const small[] = {
      "[BigCache] Initialized (Phase 2c: Dynamic hash table)\n"
      "[BigCache] Initial capacity: 4 buckets, max: 65536 buckets\n",
      "[BigCache] Resized: 4 \xe2\x86\x92 8 buckets (3 entries)\n"};
  in_the_log("dynamic", HAK_AUDIT_BUILD ? small : big, 2);
}

TEST(a_fixed_table_says_so) {
  static const char *const line = "[BigCache] Initialized (fixed table: 256 sites, 8 classes)\n";
  in_the_log("fixed", &line, 1);
}

/* bigfixed.c - the fixed table of big blocks, against which the growing one is measured: it keeps to its
 * budget, its entries age, a forked child counts them anew.
 * Not:   one slot per site and class (bigcache.c).
 * Start: the_fixed_table_keeps_to_its_budget. */
#include "big.h"

static hak_arena *fixed_arena(const char *budget) {
  still();
  knob("bigcache.mode", "fixed");
  hak_arena *a = shared();
  arena_knob(a, "bigcache.max_bytes", budget);
  return a;
}

TEST(the_fixed_table_keeps_to_its_budget) {
  hak_arena *a = fixed_arena("8MiB");
  leave_at_sites(a, 40, 2 * MIB, 64);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 4);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 8 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.peak"), 8 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.evicted_bytes"), 36);
  CHECK_EQ(stat_of(a, "bigcache.cooling"), 0); /* what goes, goes at once */
  uint64_t hits = stat_of(a, "bigcache.hits");
  for (uintptr_t i = 0; i < 40; i++) ask(a, 2 * MIB, 64 + i * 64, 3);
  CHECK_CMP(stat_of(a, "bigcache.hits"), >, hits);
  CHECK_CMP(stat_of(a, "bigcache.bytes"), <=, 8 * MIB);
  all_came_back(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(what_is_old_leaves_the_fixed_table) {
  hak_arena *a = fixed_arena("64MiB");
  leave_at_sites(a, 10, 2 * MIB, 64);
  CHECK_CMP(stat_of(a, "bigcache.entries"), >, 4);
  haki_big_age(a->large.big, false); /* an hour has not gone by */
  CHECK_CMP(stat_of(a, "bigcache.entries"), >, 4);
  uint64_t entries = stat_of(a, "bigcache.entries");
  knob("bigcache.decay", "0");
  haki_big_age(a->large.big, true);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 0);
  CHECK_EQ(stat_of(a, "bigcache.evicted_age"), entries);
  CHECK_EQ(stat_of(a, "charged"), 0);
  balanced(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(a_forked_child_has_the_fixed_table) {
  hak_arena *a = fixed_arena("64MiB");
  leave_at_sites(a, 6, 2 * MIB, 64);
  uint64_t entries = stat_of(a, "bigcache.entries"), bytes = stat_of(a, "bigcache.bytes");
  CHECK_CMP(entries, >, 2);
  pid_t child = fork();
  if (child == 0) {
    CHECK_EQ(stat_of(a, "bigcache.entries"), entries);
    CHECK_EQ(stat_of(a, "bigcache.bytes"), bytes);
    uint64_t hits = stat_of(a, "bigcache.hits_site");
    for (uintptr_t i = 0; i < 6; i++) hak_free(at_site(a, 2 * MIB, 64 + i * 64));
    CHECK_CMP(stat_of(a, "bigcache.hits_site"), >, hits);
    all_came_back(a);
    exit(0);
  }
  reap(child);
  all_came_back(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* bigrest.c - warm memory behind big blocks in use: it is counted, goes after a while, comes back with its
 * block; never is it taken from a block that wants it.
 * Start: what_lies_behind_a_block_goes. */
#include "big.h"

/* 5 MiB in use in front of 3 MiB that are warm, from a block of 8 MiB. */
static char *with_rest(hak_arena *a) {
  hak_free(filled(a, 8 * MIB, 64));
  char *p = at_site(a, 5 * MIB, 6400);
  memset(p, 0x5a, 5 * MIB);
  return p;
}

static size_t age(hak_arena *a) { return haki_rest_age(a->pool, false); }

/* Looks until what was there before has been there for a decay. */
static void grow_old(hak_arena *a) {
  knob("bigcache.decay", "1ms");
  for (int i = 0; i < 3; i++) {
    age(a);
    nap(10);
  }
}

static void is_whole(const char *p, size_t size) {
  for (size_t i = 0; i < size; i += 1000) CHECK_EQ(p[i], 0x5a);
}

TEST(what_lies_behind_a_block_goes) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  CHECK_EQ(hak_usable_size(p), 5 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 3 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 8 * MIB);
  CHECK_EQ(stat_of(a, "large.bytes"), 5 * MIB);
  balanced(a);
  CHECK_EQ(age(a), 0); /* an hour has not gone by */
  size_t before = resident();
  grow_old(a);
  if (!CHECK_SANITIZED) CHECK_CMP(resident(), <, before - 2 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  CHECK_EQ(stat_of(a, "bigcache.rests_purged"), 3 * MIB);
  CHECK_EQ(stat_of(a, "charged"), 5 * MIB);
  is_whole(p, 5 * MIB);
  CHECK(!haki_rest_left(a->pool));
  hak_free(p);
  all_came_back(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(it_comes_back_with_its_block) {
  still();
  hak_arena *a = shared();
  hak_free(with_rest(a));
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 8 * MIB);
  char *p = at_site(a, 8 * MIB - 4096, 64);
  CHECK(p[7 * MIB] == (char)0xa5); /* warm */
  hak_free(p);
  all_came_back(a);
}

TEST(a_block_grows_into_it) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  char *q = hak_realloc(p, 7 * MIB);
  CHECK(q == p);
  is_whole(q, 5 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  CHECK_EQ(stat_of(a, "charged"), 7 * MIB);
  CHECK_EQ(stat_of(a, "large.bytes"), 7 * MIB);
  memset(q, 0x5a, 7 * MIB);
  grow_old(a);
  CHECK_EQ(stat_of(a, "bigcache.rests_purged"), 0);
  is_whole(q, 7 * MIB);
  q = hak_realloc(q, 20 * MIB);
  is_whole(q, 7 * MIB);
  hak_free(q);
  all_came_back(a);
}

TEST(little_is_left_alone) {
  still();
  hak_arena *a = shared();
  hak_free(filled(a, 8 * MIB, 64));
  char *p = at_site(a, 8 * MIB - 64 * KIB, 64);
  CHECK_EQ(hak_usable_size(p), 8 * MIB);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  hak_free(p);
  all_came_back(a);
}

TEST(a_limit_is_not_reached_for_it) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  CHECK_EQ(hak_arena_set_limit(a, 0, 8 * MIB), 0);
  char *q = hak_arena_alloc(a, 2 * MIB);
  CHECK(q != NULL);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  is_whole(p, 5 * MIB);
  hak_free(q);
  hak_free(p);
}

TEST(a_trim_takes_it) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  CHECK_EQ(hak_arena_trim(a), 0);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  CHECK_EQ(stat_of(a, "charged"), 5 * MIB);
  CHECK_EQ(hak_arena_reset(a), 0); /* with one in use */
  p = with_rest(a);
  CHECK_EQ(hak_arena_reset(a), 0);
  CHECK_EQ(stat_of(a, "bigcache.rests"), 0);
  CHECK_EQ(stat_of(a, "charged"), 0);
  p = with_rest(a);
  CHECK(p != NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  balanced(NULL);
}

TEST(purge_mode_off_leaves_it) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  knob("purge.mode", "off");
  CHECK_EQ(haki_rest_age(a->pool, true), 0);
  CHECK(!haki_rest_left(a->pool));
  CHECK_EQ(stat_of(a, "bigcache.rests"), 3 * MIB);
  hak_free(p);
}

/* What is locked stays, is no work, and is not taken for zero later. */
TEST(locked_memory_stays) {
  still();
  hak_arena *a = shared();
  char *p = with_rest(a);
  if (CHECK_SANITIZED) SKIP("a sanitizer locks nothing");
  if (mlock(p + 5 * MIB, 64 * KIB) != 0) SKIP("memory cannot be locked");
  CHECK(haki_rest_left(a->pool));
  CHECK_EQ(haki_rest_age(a->pool, true), 0);
  CHECK(!haki_rest_left(a->pool));
  CHECK_EQ(stat_of(a, "bigcache.rests"), 3 * MIB);
  is_whole(p, 5 * MIB);
  hak_free(p);
  char *z = hak_arena_calloc(a, 1, 8 * MIB - 4096);
  for (size_t i = 0; i < 8 * MIB - 4096; i += 512) CHECK_EQ(z[i], 0);
  munlock(p + 5 * MIB, 64 * KIB);
  hak_free(z);
}

/* The background thread does it, and then sleeps. */
TEST(nobody_has_to_come_by) {
  knob("bigcache.decay", "20ms");
  knob("drain.interval", "5ms");
  knob("bigcache.front_bytes", "0");
  char *p = with_rest(hak_arena_default());
  for (int i = 0; i < 200; i++) hak_free(hak_malloc(600 * KIB)); /* starts it */
  while (stat_of(NULL, "bigcache.rests") != 0) nap(5);
  is_whole(p, 5 * MIB);
  hak_free(p);
}

/* ---- with somebody who purges all the time -------------------------------------------------------- */

static atomic_bool done;
static hak_arena *arena;

static void *purger(void *ud) {
  while (!atomic_load(&done)) haki_rest_age(arena->pool, true);
  return ud;
}

/* Sizes vary, so that blocks have rests, grow into them, and come back with them. */
static void *user(void *ud) {
  enum { LIVE = 6 };
  unsigned char mark = (unsigned char)(uintptr_t)ud;
  unsigned char *p[LIVE] = {0};
  size_t size[LIVE] = {0};
  uint32_t x = mark * 2654435761u + 1;
  for (size_t n = rounds(3000, 600); n > 0; n--) {
    x = x * 1664525u + 1013904223u;
    unsigned i = (x >> 8) % LIVE;
    size_t want = MIB + (x >> 12) % (9 * MIB);
    if (p[i] != NULL)
      for (size_t at = 0; at < size[i]; at += 64 * KIB) CHECK_EQ(p[i][at], mark);
    if (p[i] != NULL && (x >> 30) == 0) {
      p[i] = hak_realloc(p[i], want);
    } else {
      hak_free(p[i]);
      p[i] = hak_arena_alloc(arena, want);
    }
    CHECK(p[i] != NULL);
    size[i] = want;
    for (size_t at = 0; at < want; at += 64 * KIB) p[i][at] = mark;
    p[i][hak_usable_size(p[i]) - 1] = mark;
  }
  for (int i = 0; i < LIVE; i++) hak_free(p[i]);
  return NULL;
}

TEST(nothing_in_use_is_purged) {
  still();
  arena = shared();
  hak_free(at_site(arena, 2 * MIB, 64)); /* there is a pool */
  pthread_t t[4], by = start(purger, NULL);
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(user, (void *)(i + 1));
  for (int i = 0; i < 4; i++) finish(t[i]);
  atomic_store(&done, true);
  finish(by);
  CHECK_EQ(stat_of(arena, "bigcache.rests"), 0);
  CHECK_CMP(stat_of(arena, "bigcache.rests_purged"), >, 0);
  all_came_back(arena);
  CHECK_EQ(hak_arena_destroy(arena), 0);
}

TEST(forks_meet_no_rest_half_way) {
  still();
  arena = shared();
  char *p = with_rest(arena);
  pthread_t by = start(purger, NULL);
  for (size_t i = rounds(300, 60); i > 0; i--) {
    pid_t child = fork();
    if (child == 0) {
      is_whole(p, 5 * MIB);
      hak_free(p); /* waits for ever if somebody held its rest */
      _exit(0);
    }
    reap(child);
    hak_free(p);
    p = with_rest(arena);
  }
  atomic_store(&done, true);
  finish(by);
  hak_free(p);
}

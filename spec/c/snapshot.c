/* snapshot.c - arenas go back to what they were: contents, statistics, charge, lists.
 * Why:   a template of a Lua state is only as exact as this.
 * Start: every TEST. */
#include "check.h"
#include "include/hakmem_lua.h"

#include <lauxlib.h>
#include <lualib.h>

enum { LIVE = 600 };

struct block {
  unsigned char *p;
  size_t size;
  uint64_t tag;
};

static const char *const same[] = {"allocated",    "blocks",      "active",        "charged",
                                   "large.blocks", "large.bytes", "nursery.bytes", "small.slabs"};
enum { SAME = sizeof same / sizeof *same };

static void note(hak_arena *a, uint64_t values[SAME]) {
  for (int i = 0; i < SAME; i++) values[i] = stat_of(a, same[i]);
}
static void check_noted(hak_arena *a, const uint64_t values[SAME]) {
  for (int i = 0; i < SAME; i++)
    if (stat_of(a, same[i]) != values[i])
      check_end(CHECK_FAILED, "%s is %llu, was %llu", same[i],
                (unsigned long long)stat_of(a, same[i]), (unsigned long long)values[i]);
}

static hak_arena *bare(size_t hard) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, hard);
  const char *name = "arena.retain", *value = "0"; /* so that charges can be compared */
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, 0), 0);
  return a;
}

static void *take(hak_arena *a, bool lua, size_t n) {
  return lua ? hak_lua_alloc(a, NULL, 0, n) : hak_arena_alloc(a, n);
}
static void give(hak_arena *a, bool lua, struct block *b) {
  if (lua)
    hak_lua_alloc(a, b->p, b->size, 0);
  else
    hak_arena_free(a, b->p);
  b->p = NULL;
}
static void resize(hak_arena *a, bool lua, struct block *b, size_t n) {
  unsigned char *p = lua ? hak_lua_alloc(a, b->p, b->size, n) : hak_arena_realloc(a, b->p, n);
  CHECK(p != NULL);
  b->p = p;
  b->size = n;
}

static void make(hak_arena *a, bool lua, struct block *b, size_t n, uint64_t tag) {
  *b = (struct block){take(a, lua, n), n, tag};
  CHECK(b->p != NULL);
  fill(b->p, n, tag);
}

/* Frees, grows, shrinks, overwrites and makes blocks at random. */
static void churn(hak_arena *a, bool lua, struct block *list, size_t n, size_t most,
                  uint64_t *seed) {
  for (size_t k = 0; k < 4 * n; k++) {
    struct block *b = &list[below(seed, n)];
    switch (below(seed, 4)) {
      case 0:
        if (b->p != NULL) give(a, lua, b);
        break;
      case 1:
        if (b->p != NULL) {
          resize(a, lua, b, log_size(seed, most));
          fill(b->p, b->size, k);
        }
        break;
      default:
        if (b->p == NULL)
          make(a, lua, b, log_size(seed, most), k);
        else
          fill(b->p, b->size, rnd(seed));
    }
  }
}

static void check_list(const struct block *list, size_t n) {
  for (size_t i = 0; i < n; i++)
    CHECK(list[i].p == NULL || intact(list[i].p, list[i].size, list[i].tag));
}

/* `most`: the largest block. Takes an image of n blocks, does as it likes, goes back, many times. */
static void go_back(bool lua, size_t n, size_t most, uint64_t seed) {
  static struct block kept[LIVE], list[LIVE];
  uint64_t noted[SAME];
  hak_arena *a = bare(0);
  memset(kept, 0, sizeof kept);
  for (size_t i = 0; i < n; i++) make(a, lua, &kept[i], log_size(&seed, most), i);
  for (size_t i = 0; i < n; i += 3) give(a, lua, &kept[i]);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  note(a, noted);
  CHECK_CMP(stat_of(a, "arena.image"), >, 0);
  size_t times = rounds(12, 3);
  for (size_t k = 0; k < times; k++) {
    memcpy(list, kept, sizeof list);
    churn(a, lua, list, n, most, &seed);
    balanced(a);
    CHECK_EQ(hak_arena_restore(a), 0);
    check_list(kept, n);
    check_noted(a, noted);
    balanced(a);
    balanced(NULL);
#if CHECK_AUDIT
    CHECK(haki_audit());
#endif
  }
  CHECK_EQ(stat_of(a, "arena.restores"), times);
  for (size_t i = 0; i < n; i++) /* all are blocks as before, to be freed one by one */
    if (kept[i].p != NULL) give(a, lua, &kept[i]);
  CHECK_EQ(stat_of(a, "allocated") - stat_of(a, "large.bytes"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(small_blocks_of_a_state) { go_back(true, LIVE, 4000, 1); }
TEST(few_blocks_in_the_nursery) { go_back(true, 30, 200, 2); }
TEST(all_sizes_of_a_state) { go_back(true, 200, 3 * MIB, 3); }
TEST(small_blocks_by_malloc) { go_back(false, LIVE, 4000, 4); }
TEST(all_sizes_by_malloc) { go_back(false, 200, 3 * MIB, 5); }

TEST(an_empty_arena) {
  uint64_t noted[SAME], seed = 6;
  struct block list[LIVE] = {{0}};
  hak_arena *a = bare(0);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  note(a, noted);
  for (int k = 0; k < 3; k++) {
    memset(list, 0, sizeof list);
    churn(a, k % 2 == 0, list, LIVE, 100000, &seed);
    CHECK_EQ(hak_arena_restore(a), 0);
    check_noted(a, noted);
  }
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(retained_slabs_are_used_again) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK(hak_lua_alloc(a, NULL, 0, 100) != NULL);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  uint64_t fresh = 0;
  for (int k = 0; k < 5; k++) {
    for (int i = 0; i < 20000; i++) CHECK(hak_lua_alloc(a, NULL, 0, 100) != NULL);
    uint64_t pages = stat_of(NULL, "chunk.page_ops");
    CHECK_EQ(hak_arena_restore(a), 0);
    if (k > 0) CHECK_EQ(stat_of(NULL, "chunk.page_ops"), pages);
    if (k == 1) fresh = stat_of(NULL, "chunk.page_ops");
  }
  CHECK_EQ(stat_of(NULL, "chunk.page_ops"), fresh);
  CHECK_CMP(stat_of(a, "charged"), >, 20000 * 100);
  CHECK_EQ(hak_arena_trim(a), 0);
  CHECK_CMP(stat_of(a, "charged"), <, 100 * KIB);
  CHECK_EQ(hak_arena_restore(a), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(a_second_snapshot_takes_its_place) {
  struct block a_list[3], b_list[3];
  uint64_t noted[SAME];
  hak_arena *a = bare(0);
  for (size_t i = 0; i < 3; i++) make(a, true, &a_list[i], 40 + i * 50000, i);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  for (size_t i = 0; i < 3; i++) make(a, true, &b_list[i], 60 + i * 70000, 10 + i);
  give(a, true, &a_list[2]); /* large: kept for the first one's sake only */
  CHECK_EQ(hak_arena_snapshot(a), 0);
  CHECK_EQ(stat_of(a, "large.blocks"), 3);
  note(a, noted);
  for (size_t i = 0; i < 3; i++) memset(b_list[i].p, 0, b_list[i].size);
  CHECK_EQ(hak_arena_restore(a), 0);
  check_list(a_list, 2);
  check_list(b_list, 3);
  check_noted(a, noted);
  for (size_t i = 0; i < 3; i++) give(a, true, &b_list[i]);
  CHECK_EQ(hak_arena_reset(a), 0); /* forgets it */
  CHECK_EQ(hak_arena_restore(a), EINVAL);
  CHECK_EQ(stat_of(a, "arena.image"), 0);
  CHECK_EQ(stat_of(a, "charged"), 0);
  make(a, true, &a_list[0], 100000, 5);
  give(a, true, &a_list[0]); /* no mark is left on anybody's page */
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(the_limit_holds_with_an_image) {
  hak_arena *a = bare(1 * MIB);
  struct block keep;
  make(a, true, &keep, 30000, 1);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  for (int k = 0; k < 20; k++) {
    size_t n = 0;
    for (size_t size = 16; hak_lua_alloc(a, NULL, 0, size) != NULL; size = size * 7 % 9001 + 8) n++;
    CHECK_CMP(n, >, 50);
    CHECK_CMP(stat_of(a, "peak"), <=, MIB);
    CHECK_EQ(hak_arena_restore(a), 0);
    CHECK(intact(keep.p, keep.size, 1));
  }
  /* what is freed in it is used again by whoever fits; the rest stays charged */
  give(a, true, &keep);
  void *again = hak_lua_alloc(a, NULL, 0, 30000);
  CHECK(again != NULL);
  CHECK_EQ(hak_arena_restore(a), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(refuses_what_it_cannot) {
  hak_arena *shared = arena_of_kind(HAK_ARENA_SHARED, 0), *a = bare(0);
  CHECK_EQ(hak_arena_snapshot(shared), EINVAL);
  CHECK_EQ(hak_arena_restore(shared), EINVAL);
  CHECK_EQ(hak_arena_snapshot(hak_arena_default()), EINVAL);
  CHECK_EQ(hak_arena_restore(a), EINVAL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(hak_arena_snapshot(a), EINVAL);
  CHECK_EQ(hak_arena_restore(a), EINVAL);
  CHECK_EQ(hak_arena_snapshot(NULL), EINVAL);
  CHECK_EQ(hak_arena_destroy(shared), 0);
}

/* ---- a Lua state in it ----------------------------------------------------------------------- */

static void run(lua_State *L, const char *code, const char *result) {
  if (luaL_loadstring(L, code) != 0 || lua_pcall(L, 0, 1, 0) != 0)
    check_end(CHECK_FAILED, "%s: %s", code, lua_tostring(L, -1));
  if (result != NULL) CHECK_STR(luaL_tolstring(L, -1, NULL), result);
  lua_settop(L, 0);
}

TEST(a_state_goes_back) {
  uint64_t noted[SAME];
  hak_arena *a = bare(0);
  lua_State *L = hak_lua_newstate(a);
  CHECK(L != NULL);
  luaL_openlibs(L);
  run(L, "words, n = {}, 0 for i = 1, 5000 do words[i] = 'word ' .. i end", NULL);
  run(L, "co = coroutine.wrap(function() for i = 1, 100 do coroutine.yield(i) end end) co()", NULL);
  CHECK_EQ(hak_arena_snapshot(a), 0);
  note(a, noted);
  size_t times = rounds(200, 20);
  for (size_t k = 0; k < times; k++) {
    run(L, "n = n + 1 return n", "1");
    run(L, "return co()", "2");
    run(L, "for i = 1, 5000 do words[i] = nil end collectgarbage() collectgarbage()", NULL);
    run(L, "for i = 1, 30000 do words[i] = {i} end string.upper = nil big = ('x'):rep(1e6)", NULL);
    CHECK_EQ(hak_arena_restore(a), 0);
    check_noted(a, noted);
    run(L, "return #words .. words[5000] .. ('a'):upper() .. type(big)", "5000word 5000Anil");
    CHECK_EQ(hak_arena_restore(a), 0);
  }
  hak_lua_close(L, HAK_LUA_CLOSE);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

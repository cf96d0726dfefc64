/* meter.c - a lua_Alloc that looks at what is asked for, driven without a Lua: scopes, types.
 * Why:   spec/lua_limit_spec.lua shows what programs see of it; here are the numbers.
 * Start: struct state. */
#include "check.h"
#include "heap/arena.h"

enum { HARD = 4 * MIB, LINE = HARD - HARD / 16, BLOCK = 10000, MOST = 1000 };
static struct state {
  hak_arena *arena;
  struct haki_scope scope;
  void *held[MOST];
  size_t n;
  int collected, relaxed, raised[3]; /* by error: -1, 0, 1 */
} state;

static void pace(hak_lua_binding *b, int percent) {
  CHECK(b->L == &state);
  percent != 0 ? state.collected++ : state.relaxed++;
}
static void raise_error(hak_lua_binding *b, int error) {
  CHECK(b->L == &state);
  state.raised[error + 1]++;
}

static void begin(bool paces, bool raises) {
  hak_lua_binding b = {.L = &state,
                       .collects = !paces,
                       .pace = paces ? pace : NULL,
                       .raise = raises ? raise_error : NULL};
  state.arena = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK_EQ(hak_lua_bind(state.arena, &b), 0);
  haki_scope_init(&state.scope, HARD);
  state.arena->meter.scope = &state.scope;
}

static bool take(size_t n) {
  void *p = haki_lua_metered(state.arena, NULL, 0, n);
  CHECK_CMP(state.scope.used, <=, state.scope.hard);
  CHECK_CMP(state.scope.used, <=, state.scope.peak);
  if (p == NULL) return false;
  if (n != BLOCK) {
    CHECK(haki_lua_metered(state.arena, p, n, 0) == NULL);
    return true;
  }
  CHECK_CMP(state.n, <, MOST);
  state.held[state.n++] = p;
  return true;
}
static void take_to(size_t used) {
  while (state.scope.used + BLOCK <= used) CHECK(take(BLOCK));
}
static void refused_at(size_t used) {
  take_to(used);
  CHECK(!take(BLOCK));
  CHECK_CMP(state.scope.used, <=, used);
  CHECK_CMP(state.scope.used, >, used - BLOCK);
}
static void give(size_t used) {
  while (state.n > 0 && state.scope.used > used)
    haki_lua_metered(state.arena, state.held[--state.n], BLOCK, 0);
}
static void end(void) {
  give(0);
  CHECK_EQ(state.scope.used, 0);
  state.arena->meter.scope = NULL;
  CHECK_EQ(hak_lua_unbind(state.arena), 0);
  CHECK_EQ(hak_arena_destroy(state.arena), 0);
}

TEST(every_byte_counts) {
  begin(false, false);
  char *p = haki_lua_metered(state.arena, NULL, 0, 100);
  CHECK_EQ(state.scope.used, 100);
  p = haki_lua_metered(state.arena, p, 100, 1000);
  CHECK_EQ(state.scope.used, 1000);
  p = haki_lua_metered(state.arena, p, 1000, 70);
  CHECK_EQ(state.scope.used, 70);
  CHECK_EQ(state.scope.peak, 1000);
  CHECK(haki_lua_metered(state.arena, p, 70, 70) == p);
  CHECK_EQ(state.scope.used, 70);
  CHECK(haki_lua_metered(state.arena, NULL, 8, 0) == NULL); /* Lua frees NULL */
  CHECK(haki_lua_metered(state.arena, p, 70, HARD + 70) == NULL);
  CHECK_EQ(state.scope.used, 70);
  haki_lua_metered(state.arena, p, 70, 0);
  CHECK_EQ(state.scope.used, 0);
  end();
}

/* What the arena refuses is not used; what was there before the scope is no credit. */
TEST(neither_debt_nor_credit) {
  begin(false, false);
  void *before = hak_lua_alloc(state.arena, NULL, 0, 50000);
  CHECK_EQ(hak_arena_set_limit(state.arena, 0, MIB), 0);
  CHECK(haki_lua_metered(state.arena, NULL, 0, 2 * MIB) == NULL);
  CHECK_EQ(state.scope.used, 0);
  CHECK(take(BLOCK));
  haki_lua_metered(state.arena, before, 50000, 0);
  CHECK_EQ(state.scope.used, 0);
  haki_lua_metered(state.arena, state.held[--state.n], BLOCK, 0);
  end();
}

/* Lua from 5.2 on collects and asks again: then it may have the rest, until there is room again. */
TEST(rest_is_for_who_was_refused_twice) {
  begin(false, false);
  for (int again = 0; again < 2; again++) {
    refused_at(LINE);
    CHECK(!take(BLOCK + 1)); /* another request: has not collected */
    CHECK(!take(BLOCK));
    CHECK(!take(BLOCK));
    CHECK(take(BLOCK));
    refused_at(HARD);
    give(HARD - HARD / 8 - BLOCK);
  }
  CHECK_EQ(state.scope.refusals, 2 * 5);
  CHECK_EQ(state.collected + state.relaxed, 0);
  end();
}

/* 5.1 is told before, and each error leaves room for the next. */
TEST(collector_is_told_before) {
  begin(true, false);
  take_to(HARD / 2);
  CHECK_EQ(state.collected, 0);
  refused_at(LINE);
  CHECK_CMP(state.collected, >=, 5);
  refused_at(HARD - HARD / 32);
  refused_at(HARD - HARD / 64);
  CHECK_EQ(state.scope.refusals, 3);
  CHECK_EQ(state.relaxed, 0);
  give(HARD / 4);
  CHECK_CMP(state.relaxed, >, 0);
  int before = state.collected;
  take_to(HARD / 2);
  CHECK_EQ(state.collected, before);
  refused_at(LINE);
  CHECK_CMP(state.collected, >, before);
  end();
}

/* LuaJIT gets the memory, collects, and raises when that has not helped; nothing passes the limit. */
TEST(compiled_code_is_asked_not_refused) {
  begin(true, true);
  for (int again = 1; again <= 2; again++) {
    take_to(LINE);
    int before = state.collected;
    CHECK(take(BLOCK));
    CHECK_CMP(state.scope.used, >, LINE);
    CHECK_CMP(state.collected, >, before);
    CHECK_EQ(state.raised[2], again - 1);
    while (state.raised[2] < again) CHECK(take(BLOCK));
    CHECK_CMP(state.scope.used, <=, HARD - HARD / 32 + BLOCK);
    CHECK_EQ(state.scope.refusals, (uint64_t)again);
    give(HARD / 2);
  }
  CHECK_EQ(state.raised[1], 0);
  while (take(BLOCK)) {
  }
  CHECK_CMP(state.scope.used, >, HARD - BLOCK);
  CHECK_EQ(state.raised[1], 1);
  end();
}

TEST(blocks_are_counted_by_type) {
  begin(false, false);
  static const size_t tags[HAK_TYPE_COUNT] = {0, 4, 5, 6, 7, 8};
  state.arena->meter.types = true;
  for (int scoped = 0; scoped < 2; scoped++) {
    state.arena->meter.scope = scoped ? &state.scope : NULL;
    for (int type = 0; type < HAK_TYPE_COUNT; type++) {
      for (int i = 0; i <= type; i++) {
        size_t variant = type == HAK_TYPE_STRING && i % 2 ? 0x10 : 0; /* 5.2: long strings */
        void *p = haki_lua_metered(state.arena, NULL, tags[type] | variant, 40);
        p = haki_lua_metered(state.arena, p, 40, 80); /* the same block */
        haki_lua_metered(state.arena, p, 80, 0);
      }
      CHECK_EQ(haki_cell_get(&state.arena->meter.allocs[type]), (type + 1) * (scoped + 1));
    }
  }
  haki_lua_metered(state.arena, NULL, 0x0f, 0); /* no block, no count */
  haki_lua_metered(state.arena, haki_lua_metered(state.arena, NULL, 0x0f, 8), 8, 0);
  CHECK_EQ(haki_cell_get(&state.arena->meter.allocs[HAK_TYPE_OTHER]), 3);
  end();
}

/* install.c - a running state moves onto an arena, and everything is released at its end.
 * Start: moves_and_ends. */
#include "embed.h"

static const char *const before = "kept = {} for i = 1, 2000 do kept[i] = { i, tostring(i) } end";
static const char *const after =
    "for i = 1, 2000 do kept[i][3] = tostring(i) .. 'x' end\n"
    "local co = coroutine.wrap(function() for i = 1, 100 do coroutine.yield({}) end end)\n"
    "for i = 1, 100 do kept[i] = co() end\n"
    "text = ('abc'):rep(20000) collectgarbage()";

static void ended(void *count) { ++*(int *)count; }

/* The former allocator has everything back, the arena nothing left. */
static void moves(bool in_coroutine, bool collected) {
  struct host_alloc host = {0};
  lua_State *L = lua_newstate(host_alloc, &host), *inside = L;
  CHECK(L != NULL);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  must_run(L, before);
  int ends = 0;
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  if (in_coroutine) inside = lua_newthread(L);
  CHECK(hak_lua_arena(inside) == NULL);
  CHECK_EQ(hak_lua_install_with(inside, a, ended, &ends), 0);
  CHECK(hak_lua_arena(L) == a);
  size_t foreign = stat_of(a, "foreign");
  CHECK_CMP(foreign, >, 50000);
  CHECK_CMP(foreign, <=, host.used);
  lua_settop(L, 0); /* the coroutine is garbage now */
  if (collected) lua_gc(L, LUA_GCCOLLECT, 0);
  must_run(L, after);
  CHECK_CMP(stat_of(a, "allocated"), >, 60000);
  CHECK_CMP(stat_of(a, "foreign"), <, foreign);
  CHECK_EQ(hak_arena_destroy(a), EBUSY);
  CHECK_EQ(ends, 0);
  lua_close(L);
  CHECK_EQ(ends, 1);
  CHECK_EQ(host.used, 0);
  CHECK_EQ(stat_of(a, "blocks"), 0);
  CHECK_EQ(stat_of(a, "foreign"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(moves_and_ends) { moves(false, true); }
TEST(moves_from_a_coroutine) { moves(true, true); }
TEST(moves_from_a_coroutine_that_is_not_collected) { moves(true, false); }

TEST(an_arena_of_its_own_goes_with_the_state) {
  lua_State *L = new_state();
  CHECK_EQ(hak_lua_install(L, NULL), 0);
  hak_arena *a = hak_lua_arena(L);
  CHECK(a != NULL);
  hak_arena_id id = hak_arena_get_id(a);
  CHECK_STR(hak_arena_name(a), "lua");
  must_run(L, before);
  lua_close(L);
  CHECK(hak_arena_from_id(id) == NULL);
}

TEST(closed_by_hak_lua_close) {
  for (int how = HAK_LUA_CLOSE; how <= HAK_LUA_DROP; how++) { /* foreign blocks: never dropped */
    struct host_alloc host = {0};
    lua_State *L = lua_newstate(host_alloc, &host);
    CHECK_EQ(protect(L, open_libraries, NULL), 0);
    CHECK_EQ(hak_lua_install(L, NULL), 0);
    must_run(L, before);
    CHECK(hak_lua_close(L, how) == NULL);
    CHECK_EQ(host.used, 0);
  }
}

TEST(declines) {
  lua_State *L = new_state(), *other = new_state();
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0), *dead = arena_of_kind(0, 0);
  CHECK_EQ(hak_arena_destroy(dead), 0);
  CHECK_EQ(hak_lua_install(L, dead), EINVAL);
  CHECK_EQ(hak_lua_install(L, a), 0);
  CHECK_EQ(hak_lua_install(L, a), EEXIST);
  CHECK_EQ(hak_lua_install(L, NULL), EEXIST);
  CHECK_EQ(hak_lua_install(other, a), EBUSY);
  CHECK_EQ(hak_lua_install(other, NULL), 0);
  lua_close(other);
  lua_close(L);
  CHECK_EQ(hak_arena_destroy(a), 0);
  L = hak_lua_newstate(NULL);
  CHECK(hak_lua_arena(L) == hak_arena_default());
  CHECK_EQ(hak_lua_install(L, NULL), EEXIST);
  hak_lua_close(L, HAK_LUA_CLOSE);
}

/* Objects whose finalizers allocate, before and after the anchor's own. */
TEST(finalizers_run_at_the_end) {
  struct host_alloc host = {0};
  lua_State *L = lua_newstate(host_alloc, &host);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  static const char *const objects =
      "local function object() local f = newproxy and newproxy(true) or setmetatable({}, {})\n"
      "  local mt = getmetatable(f)\n"
      "  mt.__gc = function() trash = {} for i = 1, 500 do trash[i] = { tostring(i) } end end\n"
      "  if not newproxy then setmetatable(f, mt) end return f end\n"
      "objects = objects or {} for i = 1, 50 do objects[#objects + 1] = object() end";
  must_run(L, objects);
  CHECK_EQ(hak_lua_install(L, NULL), 0);
  hak_arena_id id = hak_arena_get_id(hak_lua_arena(L));
  must_run(L, objects);
  lua_close(L);
  CHECK_EQ(host.used, 0);
  CHECK(hak_arena_from_id(id) == NULL);
}

/* PUC 5.1 runs no finalizer of what is made while it closes: not the anchor's either. */
static hak_arena_id closing_id;
static int install_at_the_end(lua_State *L) {
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE, .hard = 64 * MIB};
  hak_arena *a = hak_arena_create(&config);
  int error = hak_lua_install_with(L, a, hak_lua_destroy, a);
  closing_id = error == 0 ? hak_arena_get_id(a) : 0;
  if (error != 0) hak_arena_destroy(a);
  return luaL_loadstring(L, "t = {} for i = 1, 5000 do t[i] = { tostring(i) } end") == 0
             ? (lua_call(L, 0, 0), 0)
             : lua_error(L);
}
TEST(installed_by_the_last_finalizers) {
  struct host_alloc host = {0};
  uint64_t live = stat_of(NULL, "arena.live");
  lua_State *L = lua_newstate(host_alloc, &host);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  lua_newuserdata(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, install_at_the_end);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  closing_id = 0;
  lua_close(L);
#if LUA_VERSION_NUM == 501
  if (luaJIT_setmode == NULL)
#endif
    CHECK(closing_id != 0);
  CHECK_EQ(host.used, 0);
  CHECK(closing_id == 0 || hak_arena_from_id(closing_id) == NULL);
  CHECK_EQ(stat_of(NULL, "arena.live"), live);
}

#if LUA_VERSION_NUM == 501
TEST(a_cleared_registry_is_not_the_end) {
  for (int in_coroutine = 0; in_coroutine < 2; in_coroutine++) {
    struct host_alloc host = {0};
    lua_State *L = lua_newstate(host_alloc, &host);
    CHECK_EQ(protect(L, open_libraries, NULL), 0);
    CHECK_EQ(hak_lua_install(L, NULL), 0);
    hak_arena_id id = hak_arena_get_id(hak_lua_arena(L));
    must_run(L,
             in_coroutine
                 ? "debug.getregistry()['hakmem.anchor'] = nil\n"
                   "coroutine.wrap(function() collectgarbage() collectgarbage() end)()"
                 : "debug.getregistry()['hakmem.anchor'] = nil collectgarbage() collectgarbage()");
    CHECK(hak_lua_arena(L) == hak_arena_from_id(id));
    must_run(L, "t = {} for i = 1, 5000 do t[i] = { i } end collectgarbage()");
    lua_close(L);
    CHECK_EQ(host.used, 0);
    CHECK(hak_arena_from_id(id) == NULL);
  }
}
#endif

/* Something else than the collector takes memory by the state's lua_Alloc, as some libraries do. */
TEST(blocks_beside_the_collector) {
  lua_State *L = new_state();
  void *ud;
  lua_Alloc f = lua_getallocf(L, &ud);
  char *p = f(ud, NULL, 0, 1000);
  memset(p, 1, 1000);
  CHECK_EQ(hak_lua_install(L, NULL), 0);
  f = lua_getallocf(L, &ud);
  p = f(ud, p, 1000, 2000); /* moves over */
  CHECK(p != NULL && p[999] == 1);
  char *q = f(ud, NULL, 0, 3000);
  must_run(L, before);
  CHECK(f(ud, p, 2000, 0) == NULL && f(ud, q, 3000, 0) == NULL);
  lua_close(L);
}

/* The former allocator fails at each step of the move: it has not happened, the state lives. */
TEST(failures_change_nothing) {
  for (int for_good = 0; for_good < 2; for_good++) {
    size_t done = 0;
    for (size_t step = 1; done == 0; step++) {
      struct host_alloc host = {.for_good = for_good != 0};
      lua_State *L = lua_newstate(host_alloc, &host);
      CHECK_EQ(protect(L, open_libraries, NULL), 0);
      hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
      host.fail_at = host.calls + step;
      int error = hak_lua_install(L, a);
      host.fail_at = 0;
      CHECK(error == 0 || error == ENOMEM);
      if (error == 0) done = step;
      CHECK((hak_lua_arena(L) == a) == (error == 0));
      must_run(L, "t = {} for i = 1, 100 do t[i] = {} end");
      lua_close(L);
      CHECK_EQ(host.used, 0);
      CHECK_EQ(hak_arena_destroy(a), 0);
      CHECK_CMP(step, <, 1000);
    }
  }
}

/* Foreign blocks shrink where they are, whatever the limit. */
TEST(foreign_blocks_shrink_under_a_limit) {
  lua_State *L = new_state();
  void *ud;
  lua_Alloc f = lua_getallocf(L, &ud);
  char *p = f(ud, NULL, 0, 100000);
  memset(p, 3, 100000);
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 8192);
  CHECK_EQ(hak_lua_install(L, a), 0);
  CHECK(hak_lua_alloc(a, p, 100000, 200000) == NULL);
  p = hak_lua_alloc(a, p, 100000, 50000);
  CHECK(p != NULL && p[49999] == 3);
  CHECK(hak_lua_alloc(a, p, 50000, 0) == NULL);
  CHECK_CMP(stat_of(a, "peak"), <=, 8192);
  lua_close(L);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(ten_thousand_cycles_leave_nothing) {
  size_t cycles = rounds(10000, 600), first = 0;
  uint64_t arenas = stat_of(NULL, "arena.live");
  for (size_t i = 0; i < cycles; i++) {
    lua_State *L = new_state();
    CHECK_EQ(hak_lua_install(L, NULL), 0);
    CHECK_EQ(
        luaL_loadstring(L, "t = {} for i = 1, 50 do t[i] = { i } end") || lua_pcall(L, 0, 0, 0), 0);
    lua_close(L);
    if (i == cycles / 5) first = resident();
  }
  CHECK_EQ(stat_of(NULL, "arena.live"), arenas);
  if (!CHECK_SANITIZED) CHECK_CMP(resident(), <, first + MIB);
}

/* lua_guard.c - what a child with a budget has instead of what would run scripts without hooks.
 * Why:   Lua switches hooks off while a hook runs. An error that the hook raises calls the handler of
 *        xpcall() at once, inside of it, and a coroutine that dies of it keeps its hooks off: what
 *        runs there could run for ever.
 * Owns:  the stand-ins.   Not: the hook (lua_budget.c).
 * Locks: none.
 * Start: haki_guard_budget().
 *
 * xpcall()   its handler is not called any more once the budget has expired, nor for want of memory
 * coroutine  create() and wrap() charge for each (lua_budget.c). 5.4: close() leaves a coroutine
 *            alone that died of the hook, and so does what wrap() returns: its variables to be closed
 *            are not
 * debug      has nothing that takes the hook off, or reaches what would
 * Finalizers, compiler: lua_libs.c. */
#include <string.h>

#include "edge/lua_vm.h"

static bool has_expired(void) {
  return haki_vm_running != NULL && haki_vm_running->budget.why != NULL;
}

/* ---- xpcall --------------------------------------------------------------------------------- */

/* LuaJIT may have raised for want of memory inside of a hook, too; Lua itself calls no handler then. */
static bool is_memory(lua_State *L) {
  return lua_type(L, 1) == LUA_TSTRING && strcmp(lua_tostring(L, 1), "not enough memory") == 0;
}

static int handle(lua_State *L) {
  if (has_expired() || is_memory(L)) return 1;
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int guard_handler(lua_State *L) {
  lua_settop(L, 1);
  if (lua_isfunction(L, 1)) lua_pushcclosure(L, handle, 1);
  return 1;
}

/* In Lua, so that what it calls can yield, whichever Lua it is. */
static const char guarded_xpcall[] =
    "local xpcall, guard = ... "
    "return function(f, handler, ...) return xpcall(f, guard(handler), ...) end";

/* ---- coroutines ----------------------------------------------------------------------------- */

/* The new coroutine is what the original returns, or what the first upvalue of that is. */
static int new_coroutine(lua_State *L) {
  int n = haki_libs_forward(L);
  lua_State *co = lua_tothread(L, -1);
  if (co == NULL && lua_getupvalue(L, -1, 1) != NULL) {
    co = lua_tothread(L, -1);
    lua_pop(L, 1);
  }
  if (co != NULL) haki_budget_adopt(co);
  return n;
}

#if LUA_VERSION_NUM >= 504
static int close_coroutine(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  if (co != NULL && haki_budget_has_killed(co))
    return luaL_error(L, "cannot close a coroutine that a budget has ended");
  return haki_libs_forward(L);
}

/* fail(co, error): as the library's, what resume() has returned is raised with a position. */
static int fail(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  lua_settop(L, 2);
  if (co != NULL && !haki_budget_has_killed(co)) {
    lua_pushvalue(L, lua_upvalueindex(1)); /* the library's close() */
    lua_pushvalue(L, 1);
    lua_call(L, 1, 2);
    if (lua_toboolean(L, -2)) lua_pop(L, 2); /* else another error, from a variable's end */
  }
  if (lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 2);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static const char guarded_wrap[] =
    "local create, resume, fail = ... "
    "local function pass(co, ok, ...) if ok then return ... end return (fail(co, (...))) end "
    "return function(f) "
    "  local co = create(f) "
    "  return function(...) return pass(co, resume(co, ...)) end "
    "end";
#endif

/* Calls the chunk with the n values on top of the stack, which its one result replaces. */
static void build(lua_State *L, const char *chunk, int n) {
  if (luaL_loadbuffer(L, chunk, strlen(chunk), "=hakmem") != LUA_OK) lua_error(L);
  lua_insert(L, -n - 1);
  lua_call(L, n, 1);
}

static void guard_coroutines(lua_State *L) {
  lua_getglobal(L, "coroutine");
  if (lua_istable(L, -1)) {
    haki_libs_stand_in(L, "create", new_coroutine);
#if LUA_VERSION_NUM >= 504
    lua_getfield(L, -1, "create");
    lua_getfield(L, -2, "resume");
    lua_getfield(L, -3, "close");
    lua_pushcclosure(L, fail, 1);
    build(L, guarded_wrap, 3);
    lua_setfield(L, -2, "wrap");
    haki_libs_stand_in(L, "close", close_coroutine);
#else
    haki_libs_stand_in(L, "wrap", new_coroutine);
#endif
  }
  lua_pop(L, 1);
}

void haki_guard_budget(lua_State *L, bool per_coroutine) {
  static const char *const reach[] = {"sethook",    "setmetatable",  "getmetatable", "getregistry",
                                      "setupvalue", "upvaluejoin",   "setuservalue", "setfenv",
                                      "debug",      "setcstacklimit"};
  lua_getglobal(L, "debug");
  if (lua_istable(L, -1))
    for (size_t i = 0; i < HAK_COUNT_OF(reach); i++) haki_libs_stand_in(L, reach[i], NULL);
  lua_pop(L, 1);
  lua_getglobal(L, "xpcall");
  if (lua_isfunction(L, -1)) {
    lua_pushcfunction(L, guard_handler);
    build(L, guarded_xpcall, 2);
    lua_setglobal(L, "xpcall");
  } else {
    lua_pop(L, 1);
  }
  if (per_coroutine) guard_coroutines(L);
}

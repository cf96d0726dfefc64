/* lua_scope.c - a limit on one function inside a VM that others share: what lua/hakmem/limit.lua calls.
 * Why:   a request, a plugin, a template: one function may not take all of the VM's memory.
 * Owns:  which scope is in force: during enter() and never when it has returned, so that what runs
 *        between a yield and its resume is not charged.
 * Not:   the counting (lua_alloc_meter.c).
 * Locks: none: a VM has one thread at a time.
 * Start: haki_lua_scope_enter(). */
#include <errno.h>
#include <string.h>

#include "edge/lua_arena.h"
#include "heap/arena.h"
#include "include/hakmem_lua.h"

struct scope {
  struct haki_scope scope;
  bool begun;
};

/* The arena whose meter is this state's; NULL: it lives on none, or not alone. */
static struct hak_arena *metered_arena(lua_State *L) {
  hak_arena *arena = hak_lua_arena(L);
  hak_lua_binding *b = arena != NULL ? hak_lua_bound(arena) : NULL;
  return b != NULL && b->id == lua_topointer(L, LUA_REGISTRYINDEX) ? arena : NULL;
}

/* new(hard) -> scope | nil, message, code | false, what is wrong with the argument */
int haki_lua_scope(lua_State *L) {
  size_t hard = 0;
  const char *why = haki_lua_tosize(L, 1, &hard);
  if (why != NULL || hard == 0) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, why != NULL ? why : "size out of range");
    return 2;
  }
  struct hak_arena *a = metered_arena(L);
  if (a == NULL) return haki_lua_failure(L, ENXIO);
  if (haki_cell_get(&a->meter.scopes) == 0)
    hak_lua_restrain(L); /* after that, jit.on() is obeyed */
  struct scope *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  haki_scope_init(&s->scope, hard);
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_SCOPE));
  lua_setmetatable(L, -2);
  return 1;
}

static int resume(lua_State *co, lua_State *from, int n, int *results) {
#if LUA_VERSION_NUM >= 504
  return lua_resume(co, from, n, results);
#elif LUA_VERSION_NUM >= 502
  int status = lua_resume(co, from, n);
  *results = lua_gettop(co);
  return status;
#else
  (void)from;
  int status = lua_resume(co, n);
  *results = lua_gettop(co);
  return status;
#endif
}

/* NULL, or why lua_resume() must not have it: it looks at less itself. */
static const char *unready(lua_State *L, lua_State *co) {
  lua_Debug ar;
  if (lua_status(co) == LUA_YIELD) return NULL;
  if (co == L || lua_getstack(co, 0, &ar)) return "cannot resume non-suspended coroutine";
  return lua_status(co) == LUA_OK && lua_gettop(co) > 0 ? NULL : "cannot resume dead coroutine";
}

/* An inner scope has what the outer one has left, at most; what it used is the outer one's at its end. */
static void begin(struct scope *s, struct haki_scope *outer) {
  s->begun = true;
  if (outer == NULL) return;
  uint64_t left = outer->hard > outer->used ? outer->hard - outer->used : 1;
  if (s->scope.hard > left) haki_scope_init(&s->scope, left);
}
static void finish(struct scope *s, struct haki_scope *outer) {
  if (outer == NULL) return;
  outer->used += s->scope.used;
  if (outer->used > outer->hard) outer->used = outer->hard;
}

/* enter(scope, co, ...): resumes co inside the scope. -> nil, ... when it yields; true, ... at its end;
 * false, message on an error; false, nil, message, code when that was the scope's. */
int haki_lua_scope_enter(lua_State *L) {
  struct scope *s = haki_lua_test(L, 1, HAK_LUA_SCOPE);
  lua_State *co = lua_tothread(L, 2);
  struct hak_arena *a = metered_arena(L);
  if (s == NULL || co == NULL || a == NULL)
    return luaL_error(L, "no scope, no coroutine or no arena");
  const char *why = unready(L, co);
  if (why != NULL) return lua_pushstring(L, why), lua_error(L);
  int n = lua_gettop(L) - 2, results = 0;
  if (!lua_checkstack(co, n)) return luaL_error(L, "too many arguments");
  lua_xmove(L, co, n);
  void *ud;
  lua_Alloc former = lua_getallocf(L, &ud);
  struct haki_scope *outer = a->meter.scope;
  if (!s->begun) {
    begin(s, outer);
    haki_cell_add(&a->meter.scopes, 1);
  }
  a->meter.scope = &s->scope;
  lua_setallocf(L, haki_lua_metered, a);
  int status = resume(co, L, n, &results);
  a->meter.scope = outer;
  lua_setallocf(L, former, ud);
  haki_limits_relax(a);
  if (a->binding.raise != NULL) a->binding.raise(&a->binding, -1); /* what it was for is over */
  if (status == LUA_OK || status == LUA_YIELD) {
    if (status == LUA_OK) finish(s, outer);
    if (!lua_checkstack(L, results + 1)) return luaL_error(L, "too many results");
    status == LUA_OK ? lua_pushboolean(L, 1) : lua_pushnil(L);
    lua_xmove(co, L, results);
    return results + 1;
  }
  finish(s, outer);
  lua_settop(L, 2);
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
#if LUA_VERSION_NUM >= 504
  lua_resetthread(co); /* to-be-closed variables */
#endif
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (s->scope.refusals == 0 || strstr(text, "not enough memory") == NULL) return 2;
  haki_cell_add(&a->meter.overruns, 1);
  lua_pop(L, 1);
  return 1 + haki_lua_failure(L, EDQUOT);
}

int haki_lua_scope_yield(lua_State *L) { return lua_yield(L, lua_gettop(L)); }

/* thread(f): a coroutine, whatever the host has made of the coroutine library. */
int haki_lua_scope_thread(lua_State *L) {
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

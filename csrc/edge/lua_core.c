/* lua_core.c - the module hakmem.core: one C source for Lua 5.1 to 5.4 and LuaJIT.
 * Why:   the door from Lua to the library; lua/hakmem/init.lua puts the public table together.
 * Owns:  the module's table. Not: arenas, buffers, child VMs (files of their own).
 * Locks: none.
 * Start: luaopen_hakmem_core(). */
#include "edge/lua_arena.h"
#include "edge/lua_info.h"

static int core_stats(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    haki_lua_pushstat(L, NULL, 1);
    return 1;
  }
  haki_lua_pushstats(L, NULL);
  haki_lua_pusharenas(L);
  lua_setfield(L, -2, "arenas");
  return 1;
}

static int core_arenas(lua_State *L) {
  haki_lua_pusharenas(L);
  return 1;
}

static int core_classes(lua_State *L) {
  haki_lua_pushclasses(L, NULL);
  return 1;
}

static int core_configure(lua_State *L) {
  if (!lua_istable(L, 1)) haki_lua_typeerror(L, 1, 1, "configure", "table");
  haki_lua_configure(L, 1, NULL, NULL, "configure");
  return 0;
}

static int core_report(lua_State *L) {
  lua_settop(L, 1);
  if (lua_isnil(L, 1)) {
    lua_pushliteral(L, "text");
    lua_replace(L, 1);
  }
  if (lua_type(L, 1) != LUA_TSTRING) haki_lua_typeerror(L, 1, 1, "report", "string");
  if (!haki_lua_pushreport(L, lua_tostring(L, 1)))
    haki_lua_argerror(L, 1, "report", "unknown format '%s'", lua_tostring(L, 1));
  return 1;
}

static int trim_shared(hak_arena *arena, void *ud) {
  if (arena != hak_arena_default() && hak_arena_kind_of(arena) == HAK_ARENA_SHARED)
    hak_arena_trim(arena);
  return 0;
}

static int core_trim(lua_State *L) {
  haki_lua_pushcount(L, hak_trim());
  hak_arena_walk(trim_shared, NULL);
  return 1;
}

/* ---- hakmem.config -------------------------------------------------------------------------- */

static int config_index(lua_State *L) {
  haki_lua_pushknob(L, 2);
  return 1;
}

static int config_newindex(lua_State *L) {
  haki_lua_setknob(L, 2, 3);
  return 0;
}

static int config_next(lua_State *L) {
  size_t i = 0;
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) {
    int found = lua_type(L, 2) == LUA_TSTRING ? hak_knob_find(lua_tostring(L, 2)) : -1;
    if (found < 0) return luaL_error(L, "invalid key to 'next'");
    i = (size_t)found + 1;
  }
  const hak_knob_info *info = hak_knob_info_at(i);
  if (info == NULL) return 0;
  lua_pushstring(L, info->name);
  haki_lua_pushknob(L, lua_gettop(L));
  return 2;
}

static int config_pairs(lua_State *L) {
  lua_settop(L, 1);
  lua_pushcfunction(L, config_next);
  lua_insert(L, 1);
  lua_pushnil(L);
  return 3;
}

static int config_call(lua_State *L) { /* as an iterator: self, state, name */
  lua_settop(L, 3);
  lua_remove(L, 2);
  return config_next(L);
}

static int config_tostring(lua_State *L) {
  lua_pushliteral(L, "hakmem.config");
  return 1;
}

/* pairs() heeds __pairs from 5.2 on; `for name, value in hakmem.config do` works everywhere. */
static void push_config(lua_State *L, int first) {
  static const luaL_Reg meta[] = {{"__index", config_index},       {"__newindex", config_newindex},
                                  {"__pairs", config_pairs},       {"__call", config_call},
                                  {"__tostring", config_tostring}, {NULL, NULL}};
  lua_newtable(L);
  lua_newtable(L);
  haki_lua_register(L, meta, first);
  lua_setmetatable(L, -2);
}

/* ---- the module ----------------------------------------------------------------------------- */

/* Functions that lua/hakmem/ffi.lua calls. It gets these very addresses: a copy of the library
 * that it found by itself might be another one. */
static void push_symbols(lua_State *L) {
  lua_newtable(L);
#define SYMBOL(f) (lua_pushlightuserdata(L, (void *)(uintptr_t)(f)), lua_setfield(L, -2, #f))
  SYMBOL(hak_abi_version);
  SYMBOL(hak_stats_read);
  SYMBOL(hak_stat_count);
  SYMBOL(hak_stat_info_at);
#undef SYMBOL
}

/* What lua/hakmem/limit.lua is made of. */
static void push_scopes(lua_State *L, int first) {
  static const luaL_Reg functions[] = {{"new", haki_lua_scope},
                                       {"thread", haki_lua_scope_thread},
                                       {"enter", haki_lua_scope_enter},
                                       {"yield", haki_lua_scope_yield},
                                       {NULL, NULL}};
  lua_newtable(L);
  haki_lua_register(L, functions, first);
}

static void push_internals(lua_State *L, int first) {
  lua_newtable(L);
  lua_pushvalue(L, first + HAK_LUA_ARENA - 1);
  lua_setfield(L, -2, "arena");
  lua_pushvalue(L, first + HAK_LUA_BUFFER - 1);
  lua_setfield(L, -2, "buffer");
  lua_pushvalue(L, first + HAK_LUA_VM - 1);
  lua_setfield(L, -2, "vm");
  lua_pushcfunction(L, haki_lua_vm_ends);
  lua_setfield(L, -2, "vm_ends");
  lua_pushvalue(L, first + HAK_LUA_POOL - 1);
  lua_setfield(L, -2, "vm_pool");
  push_symbols(L);
  lua_setfield(L, -2, "symbols");
  push_scopes(L, first);
  lua_setfield(L, -2, "scopes");
}

HAK_API int luaopen_hakmem_core(lua_State *L);
HAK_API int luaopen_hakmem_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"arena", haki_lua_arena_make},
                                       {"vm", haki_lua_vm_make},
                                       {"vm_pool", haki_lua_pool_make},
                                       {"install", haki_lua_install},
                                       {"current", haki_lua_current},
                                       {"stats", core_stats},
                                       {"arenas", core_arenas},
                                       {"classes", core_classes},
                                       {"configure", core_configure},
                                       {"report", core_report},
                                       {"trim", core_trim},
                                       {"log", haki_lua_log},
                                       {NULL, NULL}};
  if (hak_abi_version() != HAK_ABI_VERSION)
    return luaL_error(L, "hakmem.core has ABI %d, the hakmem that runs has %d",
                      (int)HAK_ABI_VERSION, (int)hak_abi_version());
  lua_settop(L, 0);
  for (int i = 0; i < HAK_LUA_CLASSES; i++) lua_newtable(L);
  lua_pushvalue(L, HAK_LUA_ARENA);
  haki_lua_arena_open(L, 1);
  lua_pushvalue(L, HAK_LUA_BUFFER);
  haki_lua_buffer_open(L, 1);
  lua_pushvalue(L, HAK_LUA_VM);
  haki_lua_vm_open(L, 1);
  lua_pushvalue(L, HAK_LUA_POOL);
  haki_lua_pool_open(L, 1);
  lua_newtable(L);
  haki_lua_register(L, functions, 1);
  push_config(L, 1);
  lua_setfield(L, -2, "config");
  lua_pushfstring(L, "hakmem %s", hak_version());
  lua_setfield(L, -2, "_VERSION");
  push_internals(L, 1);
  lua_setfield(L, -2, "internals");
  return 1;
}

/* lua_jit.c - see lua_jit.h.
 * Why:   see there.
 * Owns:  nothing.
 * Locks: none.
 * Start: haki_lua_restrain_compiler(). */
#include "edge/lua_jit.h"

#if LUA_VERSION_NUM == 501
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));

enum { FIXED = 20199, ENGINE_OFF = 0 };

bool haki_lua_on_luajit(void) { return luaJIT_setmode != NULL; }

void haki_lua_restrain_compiler(lua_State *L) {
  if (!haki_lua_on_luajit()) return;
  int top = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED"); /* a sandbox may hide the global */
  if (lua_istable(L, -1)) lua_getfield(L, -1, "jit");
  if (lua_istable(L, -1)) lua_getfield(L, -1, "version_num");
  if (lua_tonumber(L, -1) < FIXED) luaJIT_setmode(L, 0, ENGINE_OFF);
  lua_settop(L, top);
}
#else
bool haki_lua_on_luajit(void) { return false; }
void haki_lua_restrain_compiler(lua_State *L) { (void)L; }
#endif

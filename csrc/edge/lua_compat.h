/* lua_compat.h - one source for Lua 5.1 to 5.4 and LuaJIT.
 * Why:   the 5.1 build also runs on LuaJIT and the other way round, so nothing here may need a
 *        function that only one of them exports.
 * Owns:  nothing.
 * Start: the macros; each steps back when the headers have it. */
#ifndef HAK_LUA_COMPAT_H
#define HAK_LUA_COMPAT_H

#include <lua.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/port.h"

#ifndef LUA_OK
#define LUA_OK 0
#endif
#if LUA_VERSION_NUM < 502
#ifndef lua_rawlen
#define lua_rawlen(L, i) lua_objlen(L, (i))
#endif
#endif
#if LUA_VERSION_NUM < 503
#ifndef lua_isinteger
#define lua_isinteger(L, i) ((void)(L), (void)(i), 0)
#endif
#endif
#if LUA_VERSION_NUM < 504
#ifndef lua_newuserdatauv
#define lua_newuserdatauv(L, size, values) lua_newuserdata(L, (size))
#endif
#endif

/* An unsigned 64-bit number: an integer where Lua has them and it fits, else a float. */
HAK_INLINE void haki_lua_pushcount(lua_State *L, uint64_t n) {
#if LUA_VERSION_NUM >= 503
  if (n <= (uint64_t)LUA_MAXINTEGER) {
    lua_pushinteger(L, (lua_Integer)n);
    return;
  }
#endif
  lua_pushnumber(L, (lua_Number)n);
}

/* Calls f(ud) on a bare state such that no error can escape, not even for want of memory while
 * the call is set up. Returns a status; an error message is on the stack. */
HAK_INLINE int haki_lua_protected(lua_State *L, lua_CFunction f, void *ud) {
#if LUA_VERSION_NUM >= 502
  lua_pushcfunction(L, f); /* a light C function: allocates nothing */
  lua_pushlightuserdata(L, ud);
  return lua_pcall(L, 1, 0, 0);
#else
  return lua_cpcall(L, f, ud);
#endif
}

#endif

/* lua_jit.h - what only LuaJIT has, from a module that also runs on Lua 5.1.
 * Why:   one module serves both: what only LuaJIT exports is weak, and NULL elsewhere.
 * Owns:  nothing.
 * Start: haki_lua_on_luajit(). */
#ifndef HAK_LUA_JIT_H
#define HAK_LUA_JIT_H

#include "edge/lua_compat.h"

bool haki_lua_on_luajit(void);
/* When memory ends inside compiled code, LuaJIT up to 2.1.0-beta3 takes a stale stack slot for the
 * running function and may crash, host and all. So in a state with a limit the compiler is switched
 * off; jit.on() takes the risk. The rolling releases since, which call themselves 20199, do not
 * need it: there, and on other Luas, nothing happens. */
void haki_lua_restrain_compiler(lua_State *L);

#endif

/* lua_faults_luajit.c - lua_faults.c for LuaJIT: see there. */
#include "lua_faults.c"

/* lua_check.h - arguments of the Lua module, and the errors about them.
 * Why:   PUC and LuaJIT word their argument errors differently and count the receiver when a
 *        method is called through pcall: so hakmem formats its own, the same everywhere.
 * Owns:  the wording. Not: what a value means to its function.
 * Start: haki_lua_argerror(), haki_lua_size(). */
#ifndef HAK_LUA_CHECK_H
#define HAK_LUA_CHECK_H

#include "edge/lua_compat.h"

/* Every function of the module is a closure over the metatables, in this order. */
enum haki_lua_class {
  HAK_LUA_ARENA = 1,
  HAK_LUA_BUFFER,
  HAK_LUA_VM,
  HAK_LUA_POOL,
  HAK_LUA_COPY,  /* values on their way between states (lua_copy.h): nobody sees one */
  HAK_LUA_SCOPE, /* lua_scope.c: nobody sees one, either */
  HAK_LUA_CLASSES = HAK_LUA_SCOPE
};

/* Sets the functions in the table on top of the stack; the metatables are at first, first+1, .. */
void haki_lua_register(lua_State *L, const luaL_Reg *functions, int first);

/* `bad argument #arg to 'func' (why)`; arg does not count the receiver. */
HAK_COLD int haki_lua_argerror(lua_State *L, int arg, const char *func, const char *why, ...)
    HAK_PRINTF(4, 5);
/* `bad argument #arg to 'func' (<what> expected, got <type>)` for the value at index. */
HAK_COLD int haki_lua_typeerror(lua_State *L, int index, int arg, const char *func,
                                const char *what);

/* The userdata at index when it is of that class, else NULL. */
void *haki_lua_test(lua_State *L, int index, enum haki_lua_class class);
/* The receiver, at index 1; raises `calling 'func' on bad self (...)`. */
void *haki_lua_self(lua_State *L, enum haki_lua_class class, const char *func);

enum haki_lua_number { HAK_LUA_IS_INTEGER, HAK_LUA_NO_NUMBER, HAK_LUA_FRACTION, HAK_LUA_RANGE };
/* The number at index as a 64-bit integer; strings are not numbers here. */
enum haki_lua_number haki_lua_toint64(lua_State *L, int index, int64_t *out);

/* A size: a number, or text such as "64K" and "1.5GiB". Returns NULL, or what is wrong with it
 * (a string on top of the stack keeps it alive). */
const char *haki_lua_tosize(lua_State *L, int index, size_t *out);
/* A duration in nanoseconds: seconds as a number, or text such as "250ms" and "1.5s". Likewise. */
const char *haki_lua_toduration(lua_State *L, int index, uint64_t *out);
size_t haki_lua_checksize(lua_State *L, int index, int arg, const char *func);

/* A position in `size` bytes as in string.sub, from the end when negative, with at least `need`
 * bytes from there on. Returns the offset. */
size_t haki_lua_checkpos(lua_State *L, int index, int arg, const char *func, size_t size,
                         size_t need);
/* A count of bytes from 0 to `max`; absent: `max`. */
size_t haki_lua_checkcount(lua_State *L, int index, int arg, const char *func, size_t max);

/* nil, message, code for an errno value; returns 3. */
int haki_lua_failure(lua_State *L, int error);

#endif

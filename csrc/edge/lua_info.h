/* lua_info.h - statistics, knobs and reports as Lua values.
 * Why:   the module, an arena and a child VM show the same tables.
 * Owns:  nothing. Not: names and meaning (base/stats.def, base/knobs.def).
 * Start: haki_lua_pushstats(), haki_lua_configure(). */
#ifndef HAK_LUA_INFO_H
#define HAK_LUA_INFO_H

#include "edge/lua_compat.h"
#include "include/hakmem.h"

/* Pushes a fresh nested table: process-wide (arena NULL) or of one arena. */
void haki_lua_pushstats(lua_State *L, hak_arena *arena);
/* Pushes the list at l25.classes in there by itself. */
void haki_lua_pushclasses(lua_State *L, hak_arena *arena);
/* Pushes the list of all live arenas' tables. */
void haki_lua_pusharenas(lua_State *L);
/* Pushes the one statistic that the string at index names, or raises as argument #1 of stats. */
void haki_lua_pushstat(lua_State *L, hak_arena *arena, int index);
/* The value of one statistic, 0 when there is none of that name. */
uint64_t haki_lua_stat(hak_arena *arena, const char *name);

/* Sets the knobs in the table at index, nested by group or under dotted names, all or none;
 * process-wide (arena NULL) or of one arena. `skip`: names at the top level that are no knobs,
 * NULL-terminated, or NULL. Raises the library's sentence. */
void haki_lua_configure(lua_State *L, int index, hak_arena *arena, const char *const *skip,
                        const char *func);
/* Pushes the value of the knob that the value at index names, or raises. */
void haki_lua_pushknob(lua_State *L, int index);
/* Sets the knob named at `name` to the value at `value`, or raises. */
void haki_lua_setknob(lua_State *L, int name, int value);
/* Pushes the report in that format; false (nothing pushed): there is no such format. */
bool haki_lua_pushreport(lua_State *L, const char *format);

#endif

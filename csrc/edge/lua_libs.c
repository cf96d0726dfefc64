/* lua_libs.c - the libraries of a child, and what they must not leave behind.
 * Why:   a state can be thrown away with its arena, without a walk over its objects, exactly when
 *        no finalizer is waiting that would do something outside of the arena.
 * Owns:  the table of libraries, the functions that stand before some of theirs.
 * Locks: none.
 * Start: haki_libs_open(), haki_libs_can_drop().
 *
 * A child is `loose` from the first moment on at which such a finalizer may exist:
 *   - debug or ffi are open: they reach everything
 *   - it opened a file, or tried to: io.open, io.popen, io.tmpfile, io.lines, io.input, io.output
 *   - it loaded a C library, or tried to: package.loadlib, and the searchers behind require
 *   - setmetatable() met a metatable with __gc (5.2 to 5.4; before, tables have no finalizers)
 *   - newproxy() was called (5.1)
 *   - LuaJIT: the compiler may have run (its machine code lies outside), or the profiler
 * and when the __gc of files, which scripts can reach, is not the library's any more. What else C code
 * finalizes in these libraries frees memory of the arena, or nothing: the standard files stay open.
 * Scripts reach the functions that are watched by their names only, put in their place before the
 * first script runs.
 *
 * No hook runs in a finalizer, so a child with a budget has none but those of files: what would
 * make one raises or is not there. What else runs scripts without hooks: lua_guard.c. */
#include <string.h>

#include "edge/lua_vm.h"
#include "include/hakmem_lua.h"

/* ---- libraries ------------------------------------------------------------------------------ */

/* The table below takes their addresses, and addresses do not resolve late: weak, so that the
 * module can be loaded where there is no Lua, or another one (LuaJIT's ffi.load). */
#pragma weak luaopen_base
#pragma weak luaopen_package
#pragma weak luaopen_table
#pragma weak luaopen_io
#pragma weak luaopen_os
#pragma weak luaopen_string
#pragma weak luaopen_math
#pragma weak luaopen_debug
#if LUA_VERSION_NUM > 501
#pragma weak luaopen_coroutine
#endif
#if LUA_VERSION_NUM == 502
#pragma weak luaopen_bit32
#elif LUA_VERSION_NUM > 502
#pragma weak luaopen_utf8
#endif

#if LUA_VERSION_NUM == 501
/* One module serves 5.1 and LuaJIT: what only LuaJIT has is NULL elsewhere. */
extern int luaopen_bit(lua_State *L) __attribute__((weak));
extern int luaopen_jit(lua_State *L) __attribute__((weak));
extern int luaopen_ffi(lua_State *L) __attribute__((weak));
static bool on_luajit(void) { return luaopen_jit != NULL; }

#else
static bool on_luajit(void) { return false; }
#endif

struct library {
  const char *name, *global;
  lua_CFunction open;
  bool unasked; /* opened when `libs` is absent: all that cannot reach beyond the child's values */
};

static const struct library *libraries(size_t *n) {
  static struct library table[16];
  size_t i = 0;
#define LIBRARY(...) table[i++] = (struct library){__VA_ARGS__}
#if LUA_VERSION_NUM == 501
  LIBRARY("base", "", luaopen_base, true);
  LIBRARY("package", "package", luaopen_package, true);
  LIBRARY("coroutine", NULL, NULL, true); /* part of base */
#else
  LIBRARY("base", "_G", luaopen_base, true);
  LIBRARY("package", "package", luaopen_package, true);
  LIBRARY("coroutine", "coroutine", luaopen_coroutine, true);
#endif
  LIBRARY("table", "table", luaopen_table, true);
  LIBRARY("io", "io", luaopen_io, true);
  LIBRARY("os", "os", luaopen_os, true);
  LIBRARY("string", "string", luaopen_string, true);
  LIBRARY("math", "math", luaopen_math, true);
  LIBRARY("debug", "debug", luaopen_debug, false);
#if LUA_VERSION_NUM == 501
  if (on_luajit()) {
    LIBRARY("bit", "bit", luaopen_bit, true);
    LIBRARY("jit", "jit", luaopen_jit, true);
    LIBRARY("ffi", "ffi", luaopen_ffi, false);
  }
#elif LUA_VERSION_NUM == 502
  LIBRARY("bit32", "bit32", luaopen_bit32, true);
#else
  LIBRARY("utf8", "utf8", luaopen_utf8, true);
#endif
#undef LIBRARY
  *n = i;
  return table;
}

static void open_all(lua_State *L, uint64_t wanted) {
  size_t n;
  const struct library *lib = libraries(&n);
  for (size_t i = 0; i < n; i++) {
    if ((wanted >> i & 1) == 0 || lib[i].open == NULL) continue;
#if LUA_VERSION_NUM == 501
    lua_pushcfunction(L, lib[i].open);
    lua_pushstring(L, lib[i].global);
    lua_call(L, 1, 1);
    if (strcmp(lib[i].name, "ffi") == 0) { /* registers itself nowhere; `require` looks here */
      lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
      lua_pushvalue(L, -2);
      lua_setfield(L, -2, "ffi");
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
#else
    luaL_requiref(L, lib[i].global, lib[i].open, 1);
    lua_pop(L, 1);
#endif
  }
}

uint64_t haki_libs_check(lua_State *L, int index, const char *func) {
  size_t n;
  const struct library *lib = libraries(&n);
  uint64_t set = 0;
  if (lua_isnil(L, index)) {
    for (size_t i = 0; i < n; i++) set |= (uint64_t)lib[i].unasked << i;
    return set;
  }
  if (!lua_istable(L, index))
    haki_lua_argerror(L, 1, func, "libs: table expected, got %s", luaL_typename(L, index));
  for (int at = 1;; at++) {
    lua_rawgeti(L, index, at);
    if (lua_isnil(L, -1)) break;
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    size_t i = 0;
    while (i < n && strcmp(lib[i].name, name) != 0) i++;
    if (i == n) haki_lua_argerror(L, 1, func, "libs: unknown library '%s'", name);
    set |= (uint64_t)1 << i;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return set;
}

/* ---- what is watched ------------------------------------------------------------------------ */

int haki_libs_forward(lua_State *L) {
#if LUA_VERSION_NUM > 501
  if (lua_getupvalue(L, lua_upvalueindex(1), 1) == NULL)
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
  lua_pop(L, 1);
#endif
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int noted(lua_State *L) {
  if (haki_vm_running != NULL) haki_vm_running->loose = true;
  return haki_libs_forward(L);
}

void haki_libs_stand_in(lua_State *L, const char *name, lua_CFunction f) {
  lua_getfield(L, -1, name);
  bool there = lua_isfunction(L, -1);
  if (f != NULL)
    lua_pushcclosure(L, f, 1);
  else
    lua_pop(L, 1), lua_pushnil(L);
  if (there)
    lua_setfield(L, -2, name);
  else
    lua_pop(L, 1);
}

/* Pushes a global, or a field of the registry: a table. False: there is none, nothing pushed. */
static bool push_table(lua_State *L, const char *global, const char *registered) {
  if (registered != NULL)
    lua_getfield(L, LUA_REGISTRYINDEX, registered);
  else
    lua_getglobal(L, global);
  if (lua_istable(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

static void watch_io(lua_State *L, struct lua_vm *vm) {
  static const char *const names[] = {"open", "popen", "tmpfile", "lines", "input", "output"};
  if (!push_table(L, "io", NULL)) return;
  for (size_t i = 0; i < HAK_COUNT_OF(names); i++) haki_libs_stand_in(L, names[i], noted);
  lua_pop(L, 1);
  if (!push_table(L, NULL, LUA_FILEHANDLE)) {
    vm->loose = true;
    return;
  }
  lua_getfield(L, -1, "__gc");
  vm->file_gc = lua_tocfunction(L, -1);
  lua_pop(L, 1);
  if (vm->budget.on) { /* a script could give it a __gc of its own */
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  vm->files = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushliteral(L, "__gc");
  vm->gc_name = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The searchers for Lua files keep; those for C libraries are the third and the fourth. */
static void watch_package(lua_State *L) {
  if (!push_table(L, "package", NULL)) return;
  haki_libs_stand_in(L, "loadlib", noted);
  lua_getfield(L, -1, LUA_VERSION_NUM == 501 ? "loaders" : "searchers");
  for (int i = 3; i <= 4; i++) {
    lua_rawgeti(L, -1, i);
    lua_pushcclosure(L, noted, 1);
    lua_rawseti(L, -2, i);
  }
  lua_pop(L, 2);
}

#if LUA_VERSION_NUM > 501
/* As the library's, but that it looks for __gc, upvalue 2; what is wrong is left to the original. */
static int set_metatable(lua_State *L) {
  if (lua_type(L, 1) != LUA_TTABLE || lua_type(L, 2) != LUA_TTABLE ||
      luaL_getmetafield(L, 1, "__metatable"))
    return lua_settop(L, 2), haki_libs_forward(L);
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_rawget(L, 2);
  if (!lua_isnil(L, 3) && haki_vm_running != NULL) {
    if (haki_vm_running->budget.on) return luaL_error(L, "no finalizers in a VM with a budget");
    haki_vm_running->loose = true;
  }
  lua_settop(L, 2);
  lua_setmetatable(L, 1);
  return 1;
}

static void watch_finalizers(lua_State *L, struct lua_vm *vm) {
  (void)vm;
  lua_pushglobaltable(L);
  lua_getfield(L, -1, "setmetatable");
  if (lua_isfunction(L, -1)) {
    lua_pushliteral(L, "__gc");
    lua_pushcclosure(L, set_metatable, 2);
    lua_setfield(L, -2, "setmetatable");
  } else {
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}
#else
static void watch_finalizers(lua_State *L, struct lua_vm *vm) {
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  haki_libs_stand_in(L, "newproxy", vm->budget.on ? NULL : noted);
  lua_pop(L, 1);
}
#endif

#if LUA_VERSION_NUM == 501
static int no_effect(lua_State *L) {
  (void)L;
  return 0;
}

/* Hooks do not reach compiled code, nor the functions that jit.attach() and the profiler call. */
static void watch_compiler(lua_State *L, struct lua_vm *vm) {
  if (!on_luajit()) return;
  bool forbidden = vm->budget.on || vm->throw_away;
  if (forbidden)
    luaJIT_setmode(L, 0, 0 /* engine, off */);
  else
    vm->loose = true;
  if (vm->limited) hak_lua_restrain(L);
  if (push_table(L, "jit", NULL)) {
    haki_libs_stand_in(L, "on", forbidden ? no_effect : noted);
    if (vm->budget.on) haki_libs_stand_in(L, "attach", NULL);
    lua_pop(L, 1);
  }
  if (push_table(L, NULL, "_PRELOAD")) {
    haki_libs_stand_in(L, "jit.profile", vm->budget.on ? NULL : noted);
    lua_pop(L, 1);
  }
}
#else
static void watch_compiler(lua_State *L, struct lua_vm *vm) { (void)L, (void)vm; }
#endif

void haki_libs_open(lua_State *L, struct lua_vm *vm) {
  size_t n;
  const struct library *lib = libraries(&n);
  open_all(L, vm->libs);
  for (size_t i = 0; i < n; i++)
    if ((vm->libs >> i & 1) != 0 && !lib[i].unasked) vm->loose = true;
  watch_io(L, vm);
  watch_package(L);
  watch_finalizers(L, vm);
  watch_compiler(L, vm);
  if (vm->budget.on) haki_guard_budget(L, !on_luajit());
}

bool haki_libs_can_drop(struct lua_vm *vm) {
  if (vm->loose) return false;
  if (vm->files == 0) return true;
  lua_State *L = vm->L;
  lua_settop(L, 0); /* from here on: nothing that allocates */
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->files);
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->gc_name);
  lua_rawget(L, 1);
  bool same = lua_tocfunction(L, -1) == vm->file_gc && vm->file_gc != NULL;
  lua_settop(L, 0);
  return same;
}

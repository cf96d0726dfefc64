/* lua_vm.c - hakmem.vm{...}: a Lua state of its own in an arena of its own.
 * Why:   a script that may use 16 MiB and not a byte more, and whose memory goes away at once.
 * Owns:  the child state. Host and child never meet inside one protected call: what crosses is
 *        packed on one side and unpacked on the other (lua_copy.h), and everything that the child
 *        does, also its set-up, runs protected, so that no failure of its memory is a panic.
 * Not:   budgets of instructions and time.
 * Locks: none: a child belongs to the host's state.
 * Start: haki_lua_vm_make(), vm_call(). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/lua_arena.h"
#include "edge/lua_copy.h"
#include "edge/lua_info.h"
#include "include/hakmem_lua.h"

struct lua_vm {
  lua_State *L; /* NULL: closed */
  struct lua_arena *arena;
  bool own_arena;
  bool limited;
  bool quiet;           /* the error that is raised wants no traceback */
  int handler, run, gc; /* references to the child's three functions */
  uint64_t libs;        /* bit per entry of the table below */
  const char *code;     /* of the call that runs */
  size_t code_size;
  struct haki_copy *copy; /* likewise */
  char chunk[40];         /* "=name" */
};

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
  if (luaopen_jit != NULL) { /* on LuaJIT */
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

static void open_libraries(lua_State *L, uint64_t wanted) {
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

static uint64_t check_libs(lua_State *L, int index) {
  size_t n;
  const struct library *lib = libraries(&n);
  uint64_t set = 0;
  if (lua_isnil(L, index)) {
    for (size_t i = 0; i < n; i++) set |= (uint64_t)lib[i].unasked << i;
    return set;
  }
  if (!lua_istable(L, index))
    haki_lua_argerror(L, 1, "vm", "libs: table expected, got %s", luaL_typename(L, index));
  for (int at = 1;; at++) {
    lua_rawgeti(L, index, at);
    if (lua_isnil(L, -1)) break;
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    size_t i = 0;
    while (i < n && strcmp(lib[i].name, name) != 0) i++;
    if (i == n) haki_lua_argerror(L, 1, "vm", "libs: unknown library '%s'", name);
    set |= (uint64_t)1 << i;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return set;
}

/* ---- inside the child ----------------------------------------------------------------------- */

enum { TRACE_MAX = 20 };

static void add_level(lua_State *L, lua_Debug *ar) {
  lua_getinfo(L, "Snl", ar);
  if (ar->currentline > 0)
    lua_pushfstring(L, "\n\t%s:%d: in ", ar->short_src, ar->currentline);
  else
    lua_pushfstring(L, "\n\t%s: in ", ar->short_src);
  if (ar->name != NULL)
    lua_pushfstring(L, "function '%s'", ar->name);
  else if (*ar->what == 'm')
    lua_pushliteral(L, "main chunk");
  else
    lua_pushfstring(L, "function <%s:%d>", ar->short_src, ar->linedefined);
  lua_concat(L, 3);
}

/* luaL_traceback() is not in 5.1, and words it differently elsewhere. The last level is run(). */
static int handler(lua_State *L) {
  struct lua_vm *vm = lua_touserdata(L, lua_upvalueindex(1));
  lua_Debug ar, above;
  if (lua_type(L, 1) != LUA_TSTRING) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      lua_replace(L, 1);
    else
      lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1)), lua_replace(L, 1);
  }
  lua_settop(L, 1);
  if (vm->quiet) return 1;
  lua_pushliteral(L, "\nstack traceback:");
  lua_concat(L, 2);
  for (int level = 1; lua_getstack(L, level, &ar) && lua_getstack(L, level + 1, &above); level++) {
    if (level > TRACE_MAX) {
      lua_pushliteral(L, "\n\t...");
      lua_concat(L, 2);
      break;
    }
    add_level(L, &ar);
  }
  return 1;
}

static int run(lua_State *L) {
  struct lua_vm *vm = lua_touserdata(L, lua_upvalueindex(1));
  vm->quiet = true; /* until the script runs, a traceback would show only us */
  if (vm->code_size > 0 && vm->code[0] == LUA_SIGNATURE[0])
    return lua_pushliteral(L, "attempt to load a binary chunk"), lua_error(L);
  if (luaL_loadbuffer(L, vm->code, vm->code_size, vm->chunk) != LUA_OK) return lua_error(L);
  int n = haki_copy_unpack(L, vm->copy);
  vm->quiet = false;
  lua_call(L, n, LUA_MULTRET);
  vm->quiet = true;
  if (!haki_copy_pack(L, vm->copy, 1)) {
    lua_pushstring(L, vm->copy->why);
    return lua_error(L);
  }
  return 0;
}

static int collect(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

static int reference(lua_State *L, lua_CFunction f, struct lua_vm *vm) {
  lua_pushlightuserdata(L, vm);
  lua_pushcclosure(L, f, 1);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

static int set_up(lua_State *L) {
  struct lua_vm *vm = lua_touserdata(L, 1);
  open_libraries(L, vm->libs);
  if (vm->limited) hak_lua_restrain(L);
  vm->handler = reference(L, handler, vm);
  vm->run = reference(L, run, vm);
  vm->gc = reference(L, collect, vm);
  return 0;
}

/* ---- hakmem.vm ------------------------------------------------------------------------------ */

static void end(struct lua_vm *vm) {
  if (vm->L != NULL) hak_lua_close(vm->L, HAK_LUA_CLOSE);
  vm->L = NULL;
  if (vm->own_arena && vm->arena != NULL) haki_lua_arena_close(vm->arena);
  haki_lua_arena_drop(vm->arena);
  vm->arena = NULL;
}

static void check_options(lua_State *L) {
  static const char *const keys[] = {"limit", "libs", "name", "arena", NULL};
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *k = keys;
    while (*k != NULL && strcmp(*k, key) != 0) k++;
    if (*k == NULL) haki_lua_argerror(L, 1, "vm", "unknown key '%s'", key);
  }
}

static void read_options(lua_State *L, struct lua_vm *vm, hak_arena_config *config) {
  check_options(L);
  lua_getfield(L, 1, "libs");
  vm->libs = check_libs(L, lua_gettop(L));
  lua_getfield(L, 1, "limit");
  if (!lua_isnil(L, -1)) {
    const char *why = haki_lua_tosize(L, lua_gettop(L), &config->hard);
    if (why != NULL) haki_lua_argerror(L, 1, "vm", "limit: %s", why);
  }
  lua_getfield(L, 1, "name");
  if (!lua_isnil(L, -1)) {
    if (lua_type(L, -1) != LUA_TSTRING)
      haki_lua_argerror(L, 1, "vm", "name: string expected, got %s", luaL_typename(L, -1));
    config->name = lua_tostring(L, -1); /* the argument keeps it alive */
  }
  lua_getfield(L, 1, "arena");
  if (lua_isnil(L, -1)) return;
  if (config->hard != 0) haki_lua_argerror(L, 1, "vm", "limit and arena exclude each other");
  vm->arena = haki_lua_checkarena(L, lua_gettop(L), 1, "vm", "arena: ");
  vm->arena->refs++;
  vm->own_arena = false;
}

/* nil, message, code; why the child could not be had. */
static int refuse(lua_State *L, struct lua_vm *vm, uint64_t refusals) {
  bool limit = haki_lua_stat(vm->arena->arena, "refusals") > refusals;
  end(vm);
  return haki_lua_failure(L, limit ? EDQUOT : ENOMEM);
}

int haki_lua_vm_make(lua_State *L) {
  hak_arena_config config = {.name = "vm", .kind = HAK_ARENA_PRIVATE};
  lua_settop(L, 1);
  if (lua_isnil(L, 1)) {
    lua_newtable(L);
    lua_replace(L, 1);
  }
  if (!lua_istable(L, 1)) haki_lua_typeerror(L, 1, 1, "vm", "table");
  struct lua_vm *vm = lua_newuserdatauv(L, sizeof *vm, 0);
  int self = lua_gettop(L);
  memset(vm, 0, sizeof *vm);
  vm->own_arena = true;
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_VM));
  lua_setmetatable(L, -2);
  read_options(L, vm, &config);
  if (vm->arena == NULL) vm->arena = haki_lua_arena_new(&config);
  if (vm->arena == NULL) return haki_lua_failure(L, errno);
  if (vm->arena->arena == NULL) luaL_error(L, "attempt to use a closed arena"); /* by a finalizer */
  snprintf(vm->chunk, sizeof vm->chunk, "=%s", config.name);
  uint64_t refusals = haki_lua_stat(vm->arena->arena, "refusals");
  size_t soft, hard;
  hak_arena_limit(vm->arena->arena, &soft, &hard);
  vm->limited = hard != 0;
  vm->L = hak_lua_newstate(vm->arena->arena);
  if (vm->L == NULL || haki_lua_protected(vm->L, set_up, vm) != LUA_OK)
    return refuse(L, vm, refusals);
  lua_settop(vm->L, 0);
  lua_settop(L, self);
  return 1;
}

static struct lua_vm *check_open(lua_State *L, const char *func) {
  struct lua_vm *vm = haki_lua_self(L, HAK_LUA_VM, func);
  if (vm->L == NULL) luaL_error(L, "attempt to use a closed vm");
  return vm;
}

/* After a failure the child gets rid of its garbage: on 5.1 its next call would fail, too. PUC
 * frees the records of a deep recursion by halves, one half a collection, scattered over slabs: so
 * again while the arena is as good as full. */
static void recover(struct lua_vm *vm) {
  size_t soft, hard;
  hak_arena_limit(vm->arena->arena, &soft, &hard);
  for (int i = 0; i < 16; i++) {
    lua_settop(vm->L, 0);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->gc);
    lua_pcall(vm->L, 0, 0, 0);
    if (hard == 0 || haki_lua_stat(vm->arena->arena, "charged") < hard - hard / 8) break;
  }
  lua_settop(vm->L, 0);
}

static int copy_collect(lua_State *L) {
  haki_copy_free(haki_lua_self(L, HAK_LUA_COPY, "__gc"));
  return 0;
}

/* Every call has a copy of its own: whatever allocates in the host may run a finalizer of the
 * host's, and that may call the same child. */
static struct haki_copy *push_copy(lua_State *L) {
  struct haki_copy *copy = lua_newuserdatauv(L, sizeof *copy, 0);
  memset(copy, 0, sizeof *copy);
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_COPY));
  lua_setmetatable(L, -2);
  return copy;
}

/* Runs the child; nothing of the host's runs meanwhile. The results are in vm->copy, or false and
 * the message is. */
static bool enter(struct lua_vm *vm) {
  lua_State *child = vm->L;
  lua_settop(child, 0);
  lua_rawgeti(child, LUA_REGISTRYINDEX, vm->handler); /* neither of these allocates */
  lua_rawgeti(child, LUA_REGISTRYINDEX, vm->run);
  int failed = lua_pcall(child, 0, 0, 1);
  if (failed == LUA_OK) return true;
  size_t n = 0;
  const char *message = lua_type(child, -1) == LUA_TSTRING ? lua_tolstring(child, -1, &n) : NULL;
  haki_copy_text(vm->copy, message != NULL ? message : "error in error handling",
                 message != NULL ? n : strlen("error in error handling"));
  recover(vm);
  return false;
}

static int vm_call(lua_State *L) {
  check_open(L, "call");
  if (lua_type(L, 2) != LUA_TSTRING) haki_lua_typeerror(L, 2, 1, "call", "string");
  struct haki_copy *copy = push_copy(L);
  lua_insert(L, 3);
  if (!haki_copy_pack(L, copy, 4)) {
    haki_copy_free(copy);
    haki_lua_argerror(L, 1 + copy->culprit, "call", "%s", copy->why);
  }
  struct lua_vm *vm = check_open(L, "call");
  vm->code = lua_tolstring(L, 2, &vm->code_size);
  vm->copy = copy;
  bool good = enter(vm);
  vm->copy = NULL;
  lua_settop(L, 3);
  lua_pushboolean(L, good);
  int results = 1;
  if (good)
    results = haki_copy_unpack(L, copy);
  else
    haki_copy_pushtext(L, copy);
  haki_copy_free(copy);
  return 1 + results;
}

static int vm_stats(lua_State *L) {
  struct lua_vm *vm = check_open(L, "stats");
  if (lua_isnoneornil(L, 2))
    haki_lua_pushstats(L, vm->arena->arena);
  else
    haki_lua_pushstat(L, vm->arena->arena, 2);
  return 1;
}

static int vm_close(lua_State *L) {
  end(check_open(L, "close"));
  return 0;
}

static int vm_scope_end(lua_State *L) { /* also __gc: closed already is fine */
  end(haki_lua_self(L, HAK_LUA_VM, "close"));
  return 0;
}

static int vm_tostring(lua_State *L) {
  struct lua_vm *vm = haki_lua_self(L, HAK_LUA_VM, "tostring");
  lua_pushfstring(L, "hakmem.vm (%s)", vm->L == NULL ? "closed" : vm->chunk + 1);
  return 1;
}

void haki_lua_vm_open(lua_State *L, int first) {
  static const luaL_Reg methods[] = {
      {"call", vm_call}, {"stats", vm_stats}, {"close", vm_close}, {NULL, NULL}};
  static const luaL_Reg copy_meta[] = {{"__gc", copy_collect}, {NULL, NULL}};
  static const luaL_Reg meta[] = {
      {"__gc", vm_scope_end}, {"__close", vm_scope_end}, {"__tostring", vm_tostring}, {NULL, NULL}};
  haki_lua_register(L, meta, first);
  lua_newtable(L);
  haki_lua_register(L, methods, first);
  lua_setfield(L, -2, "__index");
  lua_pushvalue(L, first + HAK_LUA_COPY - 1);
  haki_lua_register(L, copy_meta, first);
  lua_pop(L, 1);
}

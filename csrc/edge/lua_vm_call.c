/* lua_vm_call.c - running a child: what happens inside of it, and what comes out.
 * Why:   host and child never meet inside one protected call: what crosses is packed on one side
 *        and unpacked on the other (lua_copy.h), and everything that the child does, also its set-up,
 *        runs protected, so that no failure of its memory is a panic.
 * Owns:  the functions that run in the child.   Not: budgets (lua_budget.c), ends (lua_vm.c).
 * Locks: none.
 * Start: haki_vm_run(). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/lua_info.h"
#include "edge/lua_vm.h"
#include "os/os.h"

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
  lua_Debug ar, above;
  if (lua_type(L, 1) != LUA_TSTRING) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      lua_replace(L, 1);
    else
      lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1)), lua_replace(L, 1);
  }
  lua_settop(L, 1);
  if (haki_vm_running->quiet) return 1;
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
  struct lua_vm *vm = haki_vm_running;
  vm->quiet = true; /* until the script runs, a traceback would show only us */
  if (vm->code_size > 0 && vm->code[0] == LUA_SIGNATURE[0])
    return lua_pushliteral(L, "attempt to load a binary chunk"), lua_error(L);
  if (luaL_loadbuffer(L, vm->code, vm->code_size, vm->chunk) != LUA_OK) return lua_error(L);
  int n = haki_copy_unpack(L, vm->copy);
  vm->quiet = false;
  lua_call(L, n, vm->mute ? 0 : LUA_MULTRET);
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

static int reference(lua_State *L, lua_CFunction f) {
  lua_pushcfunction(L, f);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

#if LUA_VERSION_NUM >= 504
void haki_vm_reseed(struct lua_vm *vm) {
  if (vm->randomseed == 0) return;
  lua_settop(vm->L, 0); /* nothing here allocates */
  lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->randomseed);
  lua_pushinteger(vm->L, (lua_Integer)haki_os_now());
  lua_pushinteger(vm->L, (lua_Integer)(uintptr_t)vm);
  lua_pcall(vm->L, 2, 0, 0);
  lua_settop(vm->L, 0);
}

static int find_randomseed(lua_State *L) {
  lua_getglobal(L, "math");
  if (!lua_istable(L, -1)) return 0;
  lua_getfield(L, -1, "randomseed");
  return lua_isfunction(L, -1) ? luaL_ref(L, LUA_REGISTRYINDEX) : 0;
}
#else
void haki_vm_reseed(struct lua_vm *vm) { (void)vm; }
static int find_randomseed(lua_State *L) { return (void)L, 0; }
#endif

static int set_up(lua_State *L) {
  struct lua_vm *vm = lua_touserdata(L, 1);
  haki_libs_open(L, vm);
  vm->handler = reference(L, handler);
  vm->run = reference(L, run);
  vm->gc = reference(L, collect);
  vm->randomseed = find_randomseed(L);
  return 0;
}

bool haki_vm_set_up(struct lua_vm *vm) {
  struct lua_vm *outer = haki_vm_running;
  haki_vm_running = vm;
  bool good = haki_lua_protected(vm->L, set_up, vm) == LUA_OK;
  haki_vm_running = outer;
  if (good) lua_settop(vm->L, 0);
  return good;
}

void haki_vm_collect(struct lua_vm *vm) {
  lua_settop(vm->L, 0);
  lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->gc);
  lua_pcall(vm->L, 0, 0, 0);
  lua_settop(vm->L, 0);
}

/* After a failure the child gets rid of its garbage: on 5.1 its next call would fail, too. PUC
 * frees the records of a deep recursion by halves, one half a collection, scattered over slabs: so
 * again while the arena is as good as full. */
static void recover(struct lua_vm *vm) {
  size_t soft, hard;
  hak_arena_limit(vm->arena->arena, &soft, &hard);
  for (int i = 0; i < 16; i++) {
    haki_vm_collect(vm);
    if (hard == 0 || haki_lua_stat(vm->arena->arena, "charged") < hard - hard / 8) break;
  }
}

/* What went wrong, and its short name, if it has one. A budget that has expired is always what went
 * wrong, whatever the script made of it. */
static const char *explain(struct lua_vm *vm, int status, uint64_t refusals) {
  lua_State *child = vm->L;
  const struct haki_budget *b = &vm->budget;
  size_t n = 0;
  char text[sizeof b->where + 40];
  const char *message =
      status != LUA_OK && lua_type(child, -1) == LUA_TSTRING ? lua_tolstring(child, -1, &n) : NULL;
  if (b->why != NULL && (message == NULL || strstr(message, b->why) == NULL)) {
    snprintf(text, sizeof text, "%s%s", b->where, b->why);
    message = text;
    n = strlen(text);
  } else if (message == NULL) {
    message = "error in error handling";
    n = strlen(message);
  }
  haki_copy_text(vm->copy, message, n);
  if (b->why != NULL) return hak_errname(ETIME);
  if (status != LUA_ERRMEM && strstr(message, "not enough memory") == NULL) return NULL;
  return hak_errname(hak_arena_refusals(vm->arena->arena) > refusals ? EDQUOT : ENOMEM);
}

/* Runs the child; nothing of the host's runs meanwhile. The results are in vm->copy, or false and
 * the message is; *code is its short name. */
static bool enter(struct lua_vm *vm, lua_State *host, const char **code) {
  lua_State *child = vm->L;
  uint64_t refusals = hak_arena_refusals(vm->arena->arena);
  lua_settop(child, 0);
  lua_rawgeti(child, LUA_REGISTRYINDEX, vm->handler); /* neither of these allocates */
  lua_rawgeti(child, LUA_REGISTRYINDEX, vm->run);
  haki_budget_start(vm);
  int status = lua_pcall(child, 0, 0, 1);
  haki_budget_end(vm, host);
  if (status == LUA_OK && vm->budget.why == NULL) return true;
  *code = explain(vm, status, refusals);
  recover(vm);
  return false;
}

bool haki_vm_run(lua_State *host, struct lua_vm *vm, struct haki_code code, struct haki_copy *copy,
                 const char **short_name) {
  *short_name = NULL;
  vm->code = code.text;
  vm->code_size = code.size;
  vm->copy = copy;
  bool good = enter(vm, host, short_name);
  vm->copy = NULL;
  return good;
}

int haki_vm_push_results(lua_State *L, bool good, struct haki_copy *copy, const char *short_name) {
  int results = 1;
  lua_settop(L, 3);
  lua_pushboolean(L, good);
  if (good)
    results = haki_copy_unpack(L, copy);
  else
    haki_copy_pushtext(L, copy);
  haki_copy_free(copy);
  if (short_name != NULL) lua_pushstring(L, short_name);
  return 1 + results + (short_name != NULL);
}

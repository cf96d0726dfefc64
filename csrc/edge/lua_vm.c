/* lua_vm.c - hakmem.vm{...}: a Lua state of its own in an arena of its own.
 * Why:   a script that may use 16 MiB and not a byte more, and whose memory goes away at once.
 * Owns:  children: their birth, their end, the userdata that scripts hold.
 * Not:   what runs in them (lua_vm_call.c), their libraries (lua_libs.c), budgets (lua_budget.c).
 * Locks: none: a child belongs to the host's state.
 * Start: haki_lua_vm_make(), haki_vm_new().
 *
 * A child is a record outside of the host's heap, and the userdata points to it: it has to stay where
 * it is while the arena knows it. It ends by lua_close() when a finalizer may be waiting or when its
 * arena is shared with others; else the state is dropped where it is, and the arena goes. */
#include "edge/lua_vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/lua_info.h"
#include "include/hakmem_lua.h"

/* ---- options -------------------------------------------------------------------------------- */

static void check_keys(lua_State *L, const char *func, const char *const *more) {
  static const char *const keys[] = {"limit", "libs", "name", "instructions", "seconds", NULL};
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *k = keys;
    while (*k != NULL && strcmp(*k, key) != 0) k++;
    if (*k == NULL)
      for (k = more; *k != NULL && strcmp(*k, key) != 0;) k++;
    if (*k == NULL) haki_lua_argerror(L, 1, func, "unknown key '%s'", key);
  }
}

/* Pushes the option; false: it is absent. */
static bool option(lua_State *L, const char *key) {
  lua_getfield(L, 1, key);
  return !lua_isnil(L, -1);
}

static void read_budget(lua_State *L, const char *func, struct haki_budget *b) {
  if (option(L, "instructions")) {
    int64_t n = 0;
    enum haki_lua_number kind = haki_lua_toint64(L, -1, &n);
    if (kind == HAK_LUA_NO_NUMBER)
      haki_lua_argerror(L, 1, func, "instructions: number expected, got %s", luaL_typename(L, -1));
    if (kind != HAK_LUA_IS_INTEGER || n <= 0)
      haki_lua_argerror(L, 1, func, "instructions: a whole number above 0 expected");
    b->instructions = (uint64_t)n;
  }
  if (option(L, "seconds")) {
    const char *why = haki_lua_toduration(L, lua_gettop(L), &b->nanoseconds);
    if (why != NULL) haki_lua_argerror(L, 1, func, "seconds: %s", why);
    if (b->nanoseconds == 0) haki_lua_argerror(L, 1, func, "seconds: more than 0 expected");
  }
  bool inside = haki_vm_running != NULL && haki_vm_running->budget.on;
  b->on = inside || b->instructions != 0 || b->nanoseconds != 0;
}

void haki_vm_options(lua_State *L, const char *func, const char *const *more,
                     struct haki_vm_options *o) {
  memset(o, 0, sizeof *o);
  o->config = (hak_arena_config){.name = "vm", .kind = HAK_ARENA_PRIVATE};
  check_keys(L, func, more);
  lua_getfield(L, 1, "libs");
  o->libs = haki_libs_check(L, lua_gettop(L), func);
  if (option(L, "limit")) {
    const char *why = haki_lua_tosize(L, lua_gettop(L), &o->config.hard);
    if (why != NULL) haki_lua_argerror(L, 1, func, "limit: %s", why);
  }
  if (option(L, "name")) {
    if (lua_type(L, -1) != LUA_TSTRING)
      haki_lua_argerror(L, 1, func, "name: string expected, got %s", luaL_typename(L, -1));
    o->config.name = lua_tostring(L, -1); /* the argument keeps it alive */
  }
  read_budget(L, func, &o->budget);
}

/* ---- birth and end -------------------------------------------------------------------------- */

static void close_state(struct lua_vm *vm, int how) {
  struct lua_vm *outer = haki_vm_running;
  haki_vm_running = vm; /* finalizers run */
  hak_lua_close(vm->L, how);
  haki_vm_running = outer;
  vm->L = NULL;
}

static _Atomic(uint64_t) dropped, closed; /* states, in this process */

void haki_vm_end(struct lua_vm *vm) {
  if (vm->L != NULL) {
    bool drop = vm->own_arena && haki_libs_can_drop(vm);
    atomic_fetch_add_explicit(drop ? &dropped : &closed, 1, memory_order_relaxed);
    close_state(vm, drop ? HAK_LUA_DROP : HAK_LUA_CLOSE);
  }
  if (vm->own_arena && vm->arena != NULL) haki_lua_arena_close(vm->arena);
  haki_lua_arena_drop(vm->arena);
  hak_free(vm);
}

int haki_lua_vm_ends(lua_State *L) {
  haki_lua_pushcount(L, atomic_load_explicit(&dropped, memory_order_relaxed));
  haki_lua_pushcount(L, atomic_load_explicit(&closed, memory_order_relaxed));
  return 2;
}

/* A state in the arena that vm has. fails: the error, an errno value. */
static int start(struct lua_vm *vm) {
  hak_arena *arena = vm->arena->arena;
  uint64_t refusals = hak_arena_refusals(arena);
  vm->L = hak_lua_newstate(arena);
  if (vm->L != NULL && vm->budget.on) haki_budget_bind(vm);
  if (vm->L != NULL && haki_vm_set_up(vm)) return 0;
  return hak_arena_refusals(arena) > refusals ? EDQUOT : ENOMEM;
}

struct lua_vm *haki_vm_new(const struct haki_vm_options *o, struct lua_arena *arena, int *error) {
  struct lua_vm *vm = hak_calloc(1, sizeof *vm);
  *error = ENOMEM;
  if (vm == NULL) return NULL;
  hak_arena_config config = o->config;
  vm->own_arena = arena == NULL;
  vm->arena = arena != NULL ? arena : haki_lua_arena_new(&config);
  if (vm->arena == NULL) {
    *error = errno;
    hak_free(vm);
    return NULL;
  }
  if (arena != NULL) arena->refs++;
  vm->libs = o->libs;
  vm->budget = o->budget;
  vm->throw_away = o->throw_away;
  snprintf(vm->chunk, sizeof vm->chunk, "=%s", config.name);
  size_t soft, hard;
  hak_arena_limit(vm->arena->arena, &soft, &hard);
  vm->limited = hard != 0;
  *error = start(vm);
  if (*error == 0) return vm;
  haki_vm_end(vm);
  return NULL;
}

/* ---- hakmem.vm ------------------------------------------------------------------------------ */

struct lua_vm **haki_vm_push_handle(lua_State *L) {
  struct lua_vm **self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = NULL;
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_VM));
  lua_setmetatable(L, -2);
  return self;
}

int haki_lua_vm_make(lua_State *L) {
  static const char *const more[] = {"arena", NULL};
  struct haki_vm_options options;
  struct lua_arena *arena = NULL;
  int error;
  lua_settop(L, 1);
  if (lua_isnil(L, 1)) {
    lua_newtable(L);
    lua_replace(L, 1);
  }
  if (!lua_istable(L, 1)) haki_lua_typeerror(L, 1, 1, "vm", "table");
  haki_vm_options(L, "vm", more, &options);
  struct lua_vm **self = haki_vm_push_handle(L);
  if (option(L, "arena")) { /* looked at last: no finalizer closes it meanwhile */
    if (options.config.hard != 0)
      haki_lua_argerror(L, 1, "vm", "limit and arena exclude each other");
    arena = haki_lua_checkarena(L, lua_gettop(L), 1, "vm", "arena: ");
  }
  lua_pop(L, 1);
  *self = haki_vm_new(&options, arena, &error);
  return *self != NULL ? 1 : haki_lua_failure(L, error);
}

/* ---- methods -------------------------------------------------------------------------------- */

static struct lua_vm *check_open(lua_State *L, const char *func) {
  struct lua_vm **self = haki_lua_self(L, HAK_LUA_VM, func);
  if (*self == NULL) luaL_error(L, "attempt to use a closed vm");
  return *self;
}

static int copy_collect(lua_State *L) {
  haki_copy_free(haki_lua_self(L, HAK_LUA_COPY, "__gc"));
  return 0;
}

/* Every call has a copy of its own: whatever allocates in the host may run a finalizer of the
 * host's, and that may call the same child. */
struct haki_copy *haki_vm_push_copy(lua_State *L) {
  struct haki_copy *copy = lua_newuserdatauv(L, sizeof *copy, 0);
  memset(copy, 0, sizeof *copy);
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_COPY));
  lua_setmetatable(L, -2);
  return copy;
}

struct haki_copy *haki_vm_pack(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) haki_lua_typeerror(L, 2, 1, "call", "string");
  struct haki_copy *copy = haki_vm_push_copy(L);
  lua_insert(L, 3);
  if (!haki_copy_pack(L, copy, 4)) {
    haki_copy_free(copy);
    haki_lua_argerror(L, 1 + copy->culprit, "call", "%s", copy->why);
  }
  return copy;
}

static int vm_call(lua_State *L) {
  check_open(L, "call");
  struct haki_copy *copy = haki_vm_pack(L);
  struct lua_vm *vm = check_open(L, "call");
  struct haki_code code = {.text = NULL};
  const char *short_name;
  code.text = lua_tolstring(L, 2, &code.size);
  bool good = haki_vm_run(L, vm, code, copy, &short_name);
  return haki_vm_push_results(L, good, copy, short_name);
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
  struct lua_vm *vm = check_open(L, "close");
  *(struct lua_vm **)lua_touserdata(L, 1) = NULL;
  if (vm->pool != NULL)
    haki_pool_give(vm);
  else
    haki_vm_end(vm);
  return 0;
}

static int vm_scope_end(lua_State *L) { /* also __gc: closed already is fine */
  struct lua_vm **self = haki_lua_self(L, HAK_LUA_VM, "close");
  return *self == NULL ? 0 : vm_close(L);
}

static int vm_tostring(lua_State *L) {
  struct lua_vm **self = haki_lua_self(L, HAK_LUA_VM, "tostring");
  lua_pushfstring(L, "hakmem.vm (%s)", *self == NULL ? "closed" : (*self)->chunk + 1);
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

/* lua_pool.c - hakmem.vm_pool{...}: children that are as new for each use.
 * Why:   a state per request keeps requests apart; making one costs more than most requests do. So a
 *        child is made once, with what all requests need (its template), and brought back to that
 *        moment after each use: its arena is restored from a snapshot.
 * Owns:  pools: idle children, counts.   Not: images (pool/image.c), when dropping is safe (lua_libs.c).
 * Locks: none: a pool belongs to the host's state.
 * Start: haki_lua_pool_make(), take(), haki_pool_give().
 *
 *   take:  idle -> busy, or: made, template run, snapshot taken -> busy
 *   give:  busy -> restored -> idle, while fewer than `size` are; else to its end
 *
 * A restore runs no finalizer and cannot take back what lies outside of the arena. So what makes a
 * child loose (lua_libs.c) decides here, too: one that became loose in its use is closed, with all its
 * finalizers, and another is made for the next use; one that was loose when its template had run has no
 * image at all. On LuaJIT the compiler of these children is off: machine code lies outside.
 * The userdata that a script holds of a child goes back to closed when the child is given back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/lua_info.h"
#include "edge/lua_vm.h"

enum { SIZE_USUAL = 8, SIZE_MOST = 65536 };

struct vm_pool {
  size_t refs; /* its userdata, children that are busy */
  bool closed;
  struct haki_vm_options options;
  struct haki_code template; /* .text NULL: none */
  char name[32];
  struct lua_vm *idle;
  size_t size, idle_count, busy;
  uint64_t uses, created, restored;
};

static void drop(struct vm_pool *pool) {
  if (--pool->refs > 0) return;
  hak_free((char *)pool->template.text);
  hak_free(pool);
}

/* ---- children come and go ------------------------------------------------------------------- */

static struct lua_vm *make(struct vm_pool *pool, lua_State *host, struct haki_copy *why,
                           const char **short_name) {
  int error;
  struct lua_vm *vm = haki_vm_new(&pool->options, NULL, &error);
  if (vm == NULL) {
    const char *text = hak_strerror(error);
    haki_copy_text(why, text, strlen(text));
    *short_name = hak_errname(error);
    return NULL;
  }
  if (pool->template.text != NULL) {
    vm->mute = true;
    bool good = haki_vm_run(host, vm, pool->template, why, short_name);
    vm->mute = false;
    if (!good) {
      haki_vm_end(vm);
      return NULL;
    }
  }
  pool->created++;
  vm->pool = pool;
  haki_vm_collect(vm);                                /* the image is as small as it can be */
  if (!vm->budget.on) lua_sethook(vm->L, NULL, 0, 0); /* LuaJIT: none of a limit's is left in it */
  vm->imaged = haki_libs_can_drop(vm) && hak_arena_snapshot(vm->arena->arena) == 0;
  return vm;
}

/* NULL: the reason is in *why, its short name in *short_name. Raises nothing. */
static struct lua_vm *take(struct vm_pool *pool, lua_State *host, struct haki_copy *why,
                           const char **short_name) {
  struct lua_vm *vm = pool->idle;
  if (vm != NULL) {
    pool->idle = vm->next;
    pool->idle_count--;
  } else {
    vm = make(pool, host, why, short_name);
  }
  if (vm == NULL) return NULL;
  haki_vm_reseed(vm);
  pool->uses++;
  pool->busy++;
  pool->refs++;
  return vm;
}

/* False: it cannot be as new. */
static bool restore(struct lua_vm *vm) {
  if (!vm->imaged || !haki_libs_can_drop(vm)) return false;
  return hak_arena_restore(vm->arena->arena) == 0;
}

void haki_pool_give(struct lua_vm *vm) {
  struct vm_pool *pool = vm->pool;
  pool->busy--;
  if (!pool->closed && pool->idle_count < pool->size && restore(vm)) {
    pool->restored++;
    pool->idle_count++;
    vm->next = pool->idle;
    pool->idle = vm;
  } else {
    haki_vm_end(vm);
  }
  drop(pool);
}

static void end_idle(struct vm_pool *pool) {
  struct lua_vm *vm;
  while ((vm = pool->idle) != NULL) {
    pool->idle = vm->next;
    pool->idle_count--;
    haki_vm_end(vm);
  }
}

/* ---- hakmem.vm_pool ------------------------------------------------------------------------- */

static size_t check_size(lua_State *L) {
  int64_t n = 0;
  lua_getfield(L, 1, "size");
  if (lua_isnil(L, -1)) return SIZE_USUAL;
  enum haki_lua_number kind = haki_lua_toint64(L, -1, &n);
  if (kind == HAK_LUA_NO_NUMBER)
    haki_lua_argerror(L, 1, "vm_pool", "size: number expected, got %s", luaL_typename(L, -1));
  if (kind != HAK_LUA_IS_INTEGER || n < 0 || n > SIZE_MOST)
    haki_lua_argerror(L, 1, "vm_pool", "size: a whole number from 0 to %d expected", SIZE_MOST);
  return (size_t)n;
}

/* The code at index, copied; .text NULL: absent. False: no memory. */
static bool copy_template(lua_State *L, int index, struct haki_code *out) {
  const char *text = lua_tolstring(L, index, &out->size);
  if (text == NULL) return true;
  char *copy = hak_malloc(out->size);
  if (copy == NULL) return false;
  memcpy(copy, text, out->size);
  out->text = copy;
  return true;
}

int haki_lua_pool_make(lua_State *L) {
  static const char *const more[] = {"size", "template", NULL};
  struct haki_vm_options options;
  lua_settop(L, 1);
  if (!lua_istable(L, 1)) haki_lua_typeerror(L, 1, 1, "vm_pool", "table");
  haki_vm_options(L, "vm_pool", more, &options);
  options.throw_away = true;
  size_t size = check_size(L);
  lua_getfield(L, 1, "template");
  int template = lua_gettop(L);
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
    haki_lua_argerror(L, 1, "vm_pool", "template: string expected, got %s", luaL_typename(L, -1));
  struct vm_pool **self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = NULL;
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_POOL));
  lua_setmetatable(L, -2);
  struct vm_pool *pool = hak_calloc(1, sizeof *pool);
  if (pool == NULL) return haki_lua_failure(L, ENOMEM);
  *self = pool;
  pool->refs = 1;
  pool->options = options;
  pool->size = size;
  snprintf(pool->name, sizeof pool->name, "%s", options.config.name);
  pool->options.config.name = pool->name;
  if (!copy_template(L, template, &pool->template)) return haki_lua_failure(L, ENOMEM);
  return 1;
}

static struct vm_pool *check_open(lua_State *L, const char *func) {
  struct vm_pool **self = haki_lua_self(L, HAK_LUA_POOL, func);
  if (*self == NULL || (*self)->closed) luaL_error(L, "attempt to use a closed vm_pool");
  return *self;
}

/* The child's results, as vm:call() has them. It is back in the pool before they are unpacked. */
static int pool_call(lua_State *L) {
  check_open(L, "call");
  struct haki_copy *copy = haki_vm_pack(L), *why = haki_vm_push_copy(L);
  lua_insert(L, 4); /* behind code and copy */
  struct vm_pool *pool = check_open(L, "call");
  const char *short_name = NULL;
  struct haki_code code = {.text = NULL};
  struct lua_vm *vm = take(pool, L, why, &short_name);
  if (vm == NULL) {
    lua_pushboolean(L, 0);
    haki_copy_pushtext(L, why);
    lua_pushstring(L, short_name);
    return 3;
  }
  code.text = lua_tolstring(L, 2, &code.size);
  bool good = haki_vm_run(L, vm, code, copy, &short_name);
  haki_pool_give(vm);
  return haki_vm_push_results(L, good, copy, short_name);
}

static int pool_take(lua_State *L) {
  check_open(L, "take");
  struct lua_vm **handle = haki_vm_push_handle(L);
  struct haki_copy *why = haki_vm_push_copy(L);
  const char *short_name = NULL;
  *handle = take(check_open(L, "take"), L, why, &short_name);
  if (*handle != NULL) {
    lua_pop(L, 1);
    return 1;
  }
  lua_pushnil(L);
  haki_copy_pushtext(L, why);
  lua_pushstring(L, short_name);
  return 3;
}

static int pool_stats(lua_State *L) {
  const struct vm_pool *pool = check_open(L, "stats");
  const struct {
    const char *name;
    uint64_t value;
  } stats[] = {
      {"size", pool->size}, {"idle", pool->idle_count}, {"busy", pool->busy},
      {"uses", pool->uses}, {"created", pool->created}, {"restored", pool->restored},
  };
  lua_createtable(L, 0, (int)HAK_COUNT_OF(stats));
  for (size_t i = 0; i < HAK_COUNT_OF(stats); i++) {
    haki_lua_pushcount(L, stats[i].value);
    lua_setfield(L, -2, stats[i].name);
  }
  return 1;
}

static int pool_close(lua_State *L) {
  struct vm_pool *pool = check_open(L, "close");
  pool->closed = true;
  end_idle(pool);
  return 0;
}

static int pool_scope_end(lua_State *L) {
  struct vm_pool **self = haki_lua_self(L, HAK_LUA_POOL, "close");
  return *self == NULL || (*self)->closed ? 0 : pool_close(L);
}

static int pool_collect(lua_State *L) {
  struct vm_pool **self = haki_lua_self(L, HAK_LUA_POOL, "__gc"), *pool = *self;
  if (pool == NULL) return 0;
  *self = NULL;
  pool->closed = true;
  end_idle(pool);
  drop(pool);
  return 0;
}

static int pool_tostring(lua_State *L) {
  struct vm_pool **self = haki_lua_self(L, HAK_LUA_POOL, "tostring");
  bool open = *self != NULL && !(*self)->closed;
  lua_pushfstring(L, "hakmem.vm_pool (%s)", open ? (*self)->name : "closed");
  return 1;
}

void haki_lua_pool_open(lua_State *L, int first) {
  static const luaL_Reg methods[] = {{"call", pool_call},
                                     {"take", pool_take},
                                     {"stats", pool_stats},
                                     {"close", pool_close},
                                     {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", pool_collect},
                                  {"__close", pool_scope_end},
                                  {"__tostring", pool_tostring},
                                  {NULL, NULL}};
  haki_lua_register(L, meta, first);
  lua_newtable(L);
  haki_lua_register(L, methods, first);
  lua_setfield(L, -2, "__index");
}

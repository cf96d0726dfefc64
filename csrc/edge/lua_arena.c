/* lua_arena.c - hakmem.arena{...} and the methods of arenas.
 * Why:   see lua_arena.h.
 * Owns:  the userdata of arenas.   Not: buffers, child VMs.
 * Locks: none.
 * Start: haki_lua_arena_make(). */
#include "edge/lua_arena.h"

#include <errno.h>
#include <string.h>

#include "edge/lua_info.h"
#include "include/hakmem_lua.h"

#define CLOSED "attempt to use a closed arena"

static struct lua_arena *new_record(hak_arena *arena) {
  struct lua_arena *ref = arena != NULL ? hak_malloc(sizeof *ref) : NULL;
  if (ref == NULL) return NULL;
  *ref = (struct lua_arena){.arena = arena, .refs = 1};
  haki_list_init(&ref->buffers);
  return ref;
}

struct lua_arena *haki_lua_arena_new(const hak_arena_config *config) {
  hak_arena *arena = hak_arena_create(config);
  struct lua_arena *ref = new_record(arena);
  if (arena != NULL && ref == NULL) hak_arena_destroy(arena);
  return ref;
}

void haki_lua_arena_drop(struct lua_arena *ref) {
  if (ref == NULL || --ref->refs > 0) return;
  if (ref->arena != NULL && !ref->borrowed) hak_arena_destroy(ref->arena);
  hak_free(ref);
}

int haki_lua_arena_close(struct lua_arena *ref) {
  int failed = hak_arena_destroy(ref->arena);
  if (failed != 0) return failed;
  ref->arena = NULL;
  haki_lua_buffers_forget(ref);
  return 0;
}

void *haki_lua_obtain(hak_arena *arena, void *old, size_t size, uintptr_t site, int *error) {
  uint64_t refusals = hak_arena_refusals(arena);
  void *p = old != NULL ? hak_arena_realloc(arena, old, size)
                        : hak_arena_calloc_site(arena, 1, size, site);
  if (HAK_LIKELY(p != NULL)) return p;
  *error = errno == ENOMEM && hak_arena_refusals(arena) != refusals ? EDQUOT : errno;
  return NULL;
}

/* ---- creation ------------------------------------------------------------------------------- */

static void check_string(lua_State *L, int index, const char *func, const char *key) {
  if (lua_type(L, index) != LUA_TSTRING)
    haki_lua_argerror(L, 1, func, "%s: string expected, got %s", key, luaL_typename(L, index));
}

/* The limit under `key` of the table at index into *out, unless absent. */
static bool limit_field(lua_State *L, int index, const char *func, const char *key, size_t *out) {
  lua_getfield(L, index, key);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  int at = lua_gettop(L);
  const char *why = haki_lua_tosize(L, at, out);
  if (why != NULL) haki_lua_argerror(L, 1, func, "%s: %s", key, why);
  lua_settop(L, at - 1);
  return true;
}

static void limit_fields(lua_State *L, int index, const char *func, size_t *soft, size_t *hard) {
  size_t limit = 0;
  bool has_hard = limit_field(L, index, func, "hard", hard);
  if (limit_field(L, index, func, "limit", &limit)) {
    if (has_hard && limit != *hard)
      haki_lua_argerror(L, 1, func, "limit and hard are the same and differ");
    *hard = limit;
  }
  limit_field(L, index, func, "soft", soft);
  if (*soft > *hard && *hard != 0)
    haki_lua_argerror(L, 1, func, "soft limit is above the hard limit");
}

static bool is_one_of(const char *const *keys, const char *key) {
  for (; *keys != NULL; keys++)
    if (strcmp(*keys, key) == 0) return true;
  return false;
}

static void read_config(lua_State *L, const char *func, const char *const *keys,
                        hak_arena_config *config) {
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (key == NULL)
      haki_lua_argerror(L, 1, func, "keys are strings, got %s", luaL_typename(L, -2));
    bool knob = lua_istable(L, -1) || strchr(key, '.') != NULL; /* see configure */
    if (!knob && !is_one_of(keys, key)) haki_lua_argerror(L, 1, func, "unknown key '%s'", key);
  }
  lua_getfield(L, 1, "name");
  if (!lua_isnil(L, -1)) {
    check_string(L, -1, func, "name");
    config->name = lua_tostring(L, -1); /* the argument keeps it alive */
  }
  lua_pop(L, 1);
  limit_fields(L, 1, func, &config->soft, &config->hard);
}

static struct lua_arena **push_handle(lua_State *L) {
  struct lua_arena **self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = NULL;
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_ARENA));
  lua_setmetatable(L, -2);
  return self;
}

struct lua_arena *haki_lua_arena_build(lua_State *L, const char *func, const char *const *keys,
                                       hak_arena_config *config) {
  if (!lua_isnil(L, 1)) {
    if (!lua_istable(L, 1)) haki_lua_typeerror(L, 1, 1, func, "table");
    read_config(L, func, keys, config);
  }
  struct lua_arena **self = push_handle(L);
  *self = haki_lua_arena_new(config);
  if (*self != NULL && !lua_isnil(L, 1)) haki_lua_configure(L, 1, (*self)->arena, keys, func);
  return *self;
}

struct lua_arena *haki_lua_arena_borrow(lua_State *L, hak_arena *arena) {
  struct lua_arena **self = push_handle(L);
  *self = new_record(arena);
  if (*self != NULL) (*self)->borrowed = true;
  return *self;
}

static int read_kind(lua_State *L) {
  lua_getfield(L, 1, "kind");
  if (lua_isnil(L, -1)) return HAK_ARENA_PRIVATE;
  check_string(L, -1, "arena", "kind");
  const char *kind = lua_tostring(L, -1);
  if (strcmp(kind, "shared") == 0) return HAK_ARENA_SHARED;
  if (strcmp(kind, "private") != 0)
    haki_lua_argerror(L, 1, "arena", "kind: 'private' or 'shared' expected, got '%s'", kind);
  return HAK_ARENA_PRIVATE;
}

int haki_lua_arena_make(lua_State *L) {
  static const char *const keys[] = {"name", "kind", "limit", "soft", "hard", NULL};
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE};
  lua_settop(L, 1);
  if (lua_istable(L, 1)) config.kind = read_kind(L);
  lua_settop(L, 1);
  return haki_lua_arena_build(L, "arena", keys, &config) != NULL ? 1 : haki_lua_failure(L, errno);
}

/* ---- methods -------------------------------------------------------------------------------- */

struct lua_arena *haki_lua_checkarena(lua_State *L, int index, int arg, const char *func,
                                      const char *what) {
  struct lua_arena **self = haki_lua_test(L, index, HAK_LUA_ARENA);
  if (self == NULL)
    haki_lua_argerror(L, arg, func, "%shakmem.arena expected, got %s", what,
                      luaL_typename(L, index));
  if (*self == NULL || (*self)->arena == NULL) luaL_error(L, CLOSED);
  return *self;
}

static struct lua_arena *check_open(lua_State *L, const char *func) {
  struct lua_arena **self = haki_lua_self(L, HAK_LUA_ARENA, func);
  if (*self == NULL || (*self)->arena == NULL) luaL_error(L, CLOSED);
  return *self;
}

static int arena_buffer(lua_State *L) {
  check_open(L, "buffer");
  return haki_lua_buffer_make(L);
}

static int arena_stats(lua_State *L) {
  hak_arena *arena = check_open(L, "stats")->arena;
  if (lua_isnoneornil(L, 2))
    haki_lua_pushstats(L, arena);
  else
    haki_lua_pushstat(L, arena, 2);
  return 1;
}

static int restrain(lua_State *child) {
  hak_lua_restrain(child);
  return 0;
}

/* The state that lives in the arena, this one or a child, gets its first limit. */
static void restrain_bound(lua_State *L, hak_arena *arena) {
  hak_lua_binding *b = hak_lua_bound(arena);
  if (b == NULL) return;
  if (b->id == lua_topointer(L, LUA_REGISTRYINDEX))
    hak_lua_restrain(L);
  else if (haki_lua_protected(b->L, restrain, NULL) != LUA_OK) {
    lua_pop((lua_State *)b->L, 1);
    luaL_error(L, "%s", hak_strerror(ENOMEM));
  }
}

static int arena_limit(lua_State *L) {
  hak_arena *arena = check_open(L, "limit")->arena;
  size_t soft, hard;
  hak_arena_limit(arena, &soft, &hard);
  if (lua_gettop(L) == 1) {
    haki_lua_pushcount(L, soft);
    haki_lua_pushcount(L, hard);
    return 2;
  }
  if (!lua_istable(L, 2)) haki_lua_typeerror(L, 2, 1, "limit", "table");
  for (lua_pushnil(L); lua_next(L, 2) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    if (strcmp(key, "soft") != 0 && strcmp(key, "hard") != 0 && strcmp(key, "limit") != 0)
      haki_lua_argerror(L, 1, "limit", "unknown key '%s'", key);
  }
  size_t before = hard;
  limit_fields(L, 2, "limit", &soft, &hard);
  if (before == 0 && hard != 0) restrain_bound(L, arena);
  int failed = hak_arena_set_limit(arena, soft, hard);
  if (failed != 0) luaL_error(L, "%s", hak_strerror(failed));
  lua_settop(L, 1);
  return 1;
}

static int arena_configure(lua_State *L) {
  hak_arena *arena = check_open(L, "configure")->arena;
  if (!lua_istable(L, 2)) haki_lua_typeerror(L, 2, 1, "configure", "table");
  haki_lua_configure(L, 2, arena, NULL, "configure");
  lua_settop(L, 1);
  return 1;
}

static int arena_reset(lua_State *L) {
  struct lua_arena *ref = check_open(L, "reset");
  int failed = hak_arena_reset(ref->arena);
  if (failed != 0) luaL_error(L, "%s", hak_strerror(failed));
  haki_lua_buffers_forget(ref);
  lua_settop(L, 1);
  return 1;
}

static int arena_trim(lua_State *L) {
  int failed = hak_arena_trim(check_open(L, "trim")->arena);
  if (failed != 0) luaL_error(L, "%s", hak_strerror(failed));
  lua_settop(L, 1);
  return 1;
}

static int arena_close(lua_State *L) {
  int failed = haki_lua_arena_close(check_open(L, "close"));
  if (failed != 0) luaL_error(L, "%s", hak_strerror(failed));
  return 0;
}

/* The end of a scope: closed already is fine. */
static int arena_scope_end(lua_State *L) {
  struct lua_arena **self = haki_lua_self(L, HAK_LUA_ARENA, "close");
  if (*self == NULL || (*self)->arena == NULL) return 0;
  return arena_close(L);
}

static int arena_collect(lua_State *L) {
  struct lua_arena **self = haki_lua_self(L, HAK_LUA_ARENA, "__gc");
  haki_lua_arena_drop(*self);
  *self = NULL;
  return 0;
}

static int arena_tostring(lua_State *L) {
  struct lua_arena **self = haki_lua_self(L, HAK_LUA_ARENA, "tostring");
  if (*self == NULL || (*self)->arena == NULL)
    lua_pushliteral(L, "hakmem.arena (closed)");
  else
    lua_pushfstring(L, "hakmem.arena (%s)", hak_arena_name((*self)->arena));
  return 1;
}

void haki_lua_arena_open(lua_State *L, int first) {
  static const luaL_Reg methods[] = {{"buffer", arena_buffer}, {"stats", arena_stats},
                                     {"limit", arena_limit},   {"configure", arena_configure},
                                     {"reset", arena_reset},   {"trim", arena_trim},
                                     {"close", arena_close},   {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", arena_collect},
                                  {"__close", arena_scope_end},
                                  {"__tostring", arena_tostring},
                                  {NULL, NULL}};
  haki_lua_register(L, meta, first);
  lua_newtable(L);
  haki_lua_register(L, methods, first);
  lua_setfield(L, -2, "__index");
}

/* lua_install.c - the running VM moves onto an arena: hakmem.install, hakmem.current.
 * Why:   a host makes its VM with an allocator of its own; a script can still say what the VM may use.
 * Owns:  the arena that it makes, until the VM's last block is freed.
 * Not:   how a state moves (include/hakmem_lua.h), its old blocks (lua_alloc.c).
 * Locks: none: a VM has one thread at a time.
 * Start: haki_lua_install(). */
#include <errno.h>

#include "edge/lua_arena.h"
#include "heap/arena.h"
#include "include/hakmem_lua.h"

#define CURRENT "hakmem.current" /* in the registry: the arena as a Lua value */
#define DECLINE "hakmem.decline" /* a host sets it, to the reason, when its VM must stay */

/* Every userdata of the VM is gone, so that nobody has the arena but this. */
static void ended(void *ud) {
  struct lua_arena *ref = ud;
  haki_lua_arena_close(ref);
  haki_lua_arena_drop(ref);
}

/* True: pushed nil, reason, code. */
static bool declined(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, DECLINE);
  if (lua_isnil(L, -1)) return lua_pop(L, 1), false;
  haki_lua_failure(L, ECANCELED);
  if (lua_type(L, -4) == LUA_TSTRING) {
    lua_pushvalue(L, -4);
    lua_replace(L, -3);
  }
  return true;
}

static bool wants_types(lua_State *L) {
  lua_getfield(L, 1, "types");
  if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
    haki_lua_argerror(L, 1, "install", "types: boolean expected, got %s", luaL_typename(L, -1));
  bool wanted = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return wanted;
}

/* Only Lua from 5.2 on tells the type of a new block. */
static void count_types(lua_State *L, struct hak_arena *arena) {
  if (LUA_VERSION_NUM == 501) return;
  arena->meter.types = true;
  lua_setallocf(L, haki_lua_metered, arena);
}

int haki_lua_install(lua_State *L) {
  static const char *const keys[] = {"name", "limit", "soft", "hard", "types", NULL};
  hak_arena_config config = {.name = "lua", .kind = HAK_ARENA_PRIVATE};
  lua_settop(L, 1);
  if (hak_lua_arena(L) != NULL) return haki_lua_failure(L, EEXIST);
  if (declined(L)) return 3;
  bool types = lua_istable(L, 1) && wants_types(L);
  struct lua_arena *ref = haki_lua_arena_build(L, "install", keys, &config);
  if (ref == NULL) return haki_lua_failure(L, errno);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, CURRENT); /* before: it may want memory */
  ref->refs++;
  int error = hak_lua_install_with(L, ref->arena, ended, ref);
  if (error != 0) {
    ref->refs--;
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, CURRENT);
    return haki_lua_failure(L, error);
  }
  if (types) count_types(L, ref->arena);
  return 1;
}

int haki_lua_current(lua_State *L) {
  hak_arena *arena = hak_lua_arena(L);
  lua_settop(L, 0);
  if (arena == NULL) return lua_pushnil(L), 1;
  lua_getfield(L, LUA_REGISTRYINDEX, CURRENT);
  struct lua_arena **self = haki_lua_test(L, 1, HAK_LUA_ARENA);
  if (self != NULL && *self != NULL && (*self)->arena == arena) return 1;
  if (haki_lua_arena_borrow(L, arena) == NULL) return haki_lua_failure(L, errno);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, CURRENT);
  return 1;
}

/* hakmem_lua.h - Lua states that live in hakmem arenas.
 *
 * Everything here is static inline and is compiled against the lua.h that you include first or
 * that your include path finds (5.1 to 5.4, LuaJIT): the library itself needs no Lua. Link with
 * your Lua and with hakmem.
 *
 *   hak_arena *arena = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE,
 *                                                           .hard = 16 << 20});
 *   lua_State *L = hak_lua_newstate(arena);
 *   ...
 *   hak_lua_close(L, HAK_LUA_CLOSE);
 *   hak_arena_destroy(arena);
 */
#ifndef HAKMEM_LUA_H
#define HAKMEM_LUA_H

#include <stdio.h>

#include "hakmem.h"

#ifdef __cplusplus
extern "C" {
#endif
#include <lua.h>

enum hak_lua_close_how {
  HAK_LUA_CLOSE = 0, /* lua_close(): finalizers run, every block is given back */
  HAK_LUA_DROP = 1   /* the state is abandoned where it is: see hak_lua_close() */
};

/* The last words of an unprotected error, as luaL_newstate() has them; Lua aborts afterwards. */
static inline int hak_lua_panic(lua_State *L) {
  const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
          message != NULL ? message : "error object is not a string");
  fflush(stderr);
  return 0;
}

#if LUA_VERSION_NUM == 501
/* LuaJIT 2.1 may crash when memory ends in the middle of lua_newstate(): so under a limit there has
 * to be room for all of it. (The headers of 5.1 do not tell whose library will run.) */
static inline int hak_lua_room(hak_arena *arena) {
  const size_t enough = 64 * 1024;
  size_t soft, hard;
  void *probe;
  hak_arena_limit(arena, &soft, &hard);
  if (hard == 0) return 1;
  probe = hak_lua_alloc(arena, NULL, 0, enough);
  if (probe != NULL) hak_lua_alloc(arena, probe, enough, 0);
  return probe != NULL;
}
#else
static inline int hak_lua_room(hak_arena *arena) {
  (void)arena;
  return 1;
}
#endif

/* A Lua state, without libraries, whose memory comes from `arena` (NULL: the default arena). The
 * arena is pinned while the state lives: it can be neither reset nor destroyed. A request that
 * would pass the arena's hard limit is Lua's own `not enough memory`; make the first calls
 * (luaL_openlibs() and the like) under lua_pcall() or lua_cpcall() when there is a limit.
 * threads: as the arena's kind; a state may move to another thread between calls.
 * fails: NULL when the arena is dead, when memory or the limit do not allow even an empty state,
 * or when the Lua refuses allocators of others (a 64-bit LuaJIT that is not built as GC64). */
static inline lua_State *hak_lua_newstate(hak_arena *arena) {
  lua_State *L;
  if (arena == NULL) arena = hak_arena_default();
  if (hak_arena_pin(arena) != 0) return NULL;
  L = hak_lua_room(arena) ? lua_newstate(hak_lua_alloc, arena) : NULL;
  if (L == NULL) {
    hak_arena_unpin(arena);
    return NULL;
  }
  lua_atpanic(L, hak_lua_panic);
  return L;
}

/* Ends a state that hak_lua_newstate() made; `L` may be any thread of it and is invalid after.
 * Returns its arena, now unpinned, or NULL when the state is not hakmem's (and is left alone).
 *
 * HAK_LUA_DROP leaves all blocks where they are: the caller resets or destroys the arena at once,
 * which costs next to nothing however much the state holds. No finalizer runs: files and sockets
 * stay open, and on LuaJIT the machine code of compiled traces is never unmapped. So drop only
 * states that can have no finalizer (no io library, no userdata), and turn their JIT off
 * (luaJIT_setmode()). Do not drop states of the default arena: that cannot be reset.
 * threads: nobody else may use the state. cost: CLOSE: visits every object; DROP: constant. */
static inline hak_arena *hak_lua_close(lua_State *L, int how) {
  void *ud = NULL;
  hak_arena *arena;
  if (lua_getallocf(L, &ud) != hak_lua_alloc) return NULL;
  arena = (hak_arena *)ud;
  if (how != HAK_LUA_DROP) lua_close(L);
  hak_arena_unpin(arena);
  return arena;
}

#ifdef __cplusplus
}
#endif
#endif

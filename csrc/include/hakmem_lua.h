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

#include <errno.h>
#include <stdio.h>
#include <string.h>

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

/* ---- how near the limit a collector works ----------------------------------------------------- */

#if LUA_VERSION_NUM == 501
/* lua_gc() with these three only assigns fields, so that it may be called from inside an allocation.
 * The user's settings come back when there is room again, unless the script has made its own. */
static inline void hak_lua_pace(hak_lua_binding *b, int percent) {
  enum { PAUSE, MULTIPLIER, GIVEN, CHANGED };
  lua_State *L = (lua_State *)b->L;
  int was;
  if (percent == 0) {
    if (b->saved[CHANGED] == 0) return;
    b->saved[CHANGED] = 0;
    was = lua_gc(L, LUA_GCSETPAUSE, b->saved[PAUSE]);
    if (was != b->saved[GIVEN]) lua_gc(L, LUA_GCSETPAUSE, was);
    was = lua_gc(L, LUA_GCSETSTEPMUL, b->saved[MULTIPLIER]);
    if (was != 0) lua_gc(L, LUA_GCSETSTEPMUL, was);
    return;
  }
  was = lua_gc(L, LUA_GCSETPAUSE, percent);
  if (b->saved[CHANGED] == 0 || was != b->saved[GIVEN]) b->saved[PAUSE] = was;
  if (percent > b->saved[PAUSE]) lua_gc(L, LUA_GCSETPAUSE, percent = b->saved[PAUSE]);
  b->saved[GIVEN] = percent;
  was = lua_gc(L, LUA_GCSETSTEPMUL, 0);
  if (b->saved[CHANGED] == 0 || was != 0) b->saved[MULTIPLIER] = was;
  b->saved[CHANGED] = 1;
  lua_gc(L, LUA_GCRESTART, 0);
}

/* Only LuaJIT has it; the headers of 5.1 do not tell whose library will run. */
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));

enum { HAK_LUA_MASK = 4, HAK_LUA_COUNT, HAK_LUA_AGAIN, HAK_LUA_USED }; /* of saved */

/* The user's own hook comes back. NULL: the state is not bound any more. */
static inline hak_lua_binding *hak_lua_unhook(lua_State *L) {
  void *ud = NULL;
  hak_lua_binding *b;
  lua_getallocf(L, &ud);
  b = hak_lua_bound((hak_arena *)ud);
  if (b != NULL) lua_sethook(L, (lua_Hook)b->hook, b->saved[HAK_LUA_MASK], b->saved[HAK_LUA_COUNT]);
  return b;
}

/* Not when there is room again, because the program has been left before its next instruction. */
static inline void hak_lua_raise_now(lua_State *L, lua_Debug *ar) {
  hak_lua_binding *b = hak_lua_unhook(L);
  int used = lua_gc(L, LUA_GCCOUNT, 0);
  (void)ar;
  if (b != NULL && used < b->saved[HAK_LUA_USED] - b->saved[HAK_LUA_USED] / 8) return;
  lua_pushliteral(L, "not enough memory");
  lua_error(L);
}

static inline void hak_lua_hold(lua_State *L, hak_lua_binding *b) {
  b->hook = (void (*)(void))lua_gethook(L);
  b->saved[HAK_LUA_MASK] = lua_gethookmask(L);
  b->saved[HAK_LUA_COUNT] = lua_gethookcount(L);
}

/* LuaJIT takes what a function that has failed left in the caller's unused stack slots for live: when it
 * was all of the memory, once more a little later. The user's own hook that counts is called here: where
 * refusal follows refusal it would never be reached. */
static inline void hak_lua_collect_now(lua_State *L, lua_Debug *ar) {
  hak_lua_binding *b = hak_lua_unhook(L);
  int before = lua_gc(L, LUA_GCCOUNT, 0);
  lua_gc(L, LUA_GCCOLLECT, 0);
  if (b == NULL) return;
  if (b->hook != NULL && (b->saved[HAK_LUA_MASK] & LUA_MASKCOUNT) != 0) ((lua_Hook)b->hook)(L, ar);
  if (lua_gc(L, LUA_GCCOUNT, 0) < before - before / 8) return;
  b->saved[HAK_LUA_AGAIN] *= 8;
  if (b->saved[HAK_LUA_AGAIN] >= 10000) return;
  hak_lua_hold(L, b);
  lua_sethook(L, hak_lua_collect_now, LUA_MASKCOUNT, b->saved[HAK_LUA_AGAIN]);
}

/* lua_sethook() only assigns, too, and makes LuaJIT drop the trace that it records. */
static inline void hak_lua_raise(hak_lua_binding *b, int error) {
  lua_State *L = (lua_State *)b->L;
  lua_Hook hook = lua_gethook(L);
  if (hook == hak_lua_raise_now && error < 0) hak_lua_unhook(L);
  if (hook == hak_lua_raise_now || error < 0) return;
  if (hook != hak_lua_collect_now) hak_lua_hold(L, b);
  b->saved[HAK_LUA_AGAIN] = 1;
  b->saved[HAK_LUA_USED] = lua_gc(L, LUA_GCCOUNT, 0);
  lua_sethook(L, error != 0 ? hak_lua_raise_now : hak_lua_collect_now, LUA_MASKCOUNT, 1);
}

/* When memory is refused inside compiled code, LuaJIT up to 2.1.0-beta3 takes a stale stack slot for the
 * running function and may crash, host and all. So its compiler is switched off where there is a limit,
 * and what it has compiled is forgotten; jit.on() takes the risk. The rolling releases since, which call
 * themselves 20199, do not need it: there, and on other Luas, nothing happens. After luaL_openlibs(),
 * which switches it on; also when a state in use gets its first limit by hak_arena_set_limit().
 * fails: raises in a finalizer, where LuaJIT allows no change of mode. */
static inline void hak_lua_restrain(lua_State *L) {
  const int fixed = 20199, engine_off = 0, engine_flush = 0x200;
  int top = lua_gettop(L);
  if (luaJIT_setmode == NULL) return;
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED"); /* a sandbox may hide the global */
  if (lua_istable(L, -1)) lua_getfield(L, -1, "jit");
  if (lua_istable(L, -1)) lua_getfield(L, -1, "version_num");
  if (lua_tonumber(L, -1) < fixed) {
    luaJIT_setmode(L, 0, engine_off);
    luaJIT_setmode(L, 0, engine_flush); /* what is compiled would still run */
  }
  lua_settop(L, top);
}

static inline void hak_lua_limits(hak_lua_binding *b) {
  b->pace = hak_lua_pace;
  if (luaJIT_setmode != NULL) b->raise = hak_lua_raise;
}
#else
static inline void hak_lua_restrain(lua_State *L) { (void)L; }
/* From 5.3 on the buffers of the auxiliary library (luaL_Buffer) ask lua_Alloc past the VM. */
static inline void hak_lua_limits(hak_lua_binding *b) {
  b->collects = 1;
  b->passes = LUA_VERSION_NUM >= 503;
}
#endif

/* The state is being closed: its collector is done. */
static inline void hak_lua_let_go(hak_lua_binding *b) {
  b->pace = NULL;
  b->raise = NULL;
}

/* ---- states made in an arena ------------------------------------------------------------------ */

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
 * arena is pinned while the state lives: it can be neither reset nor destroyed. The first state in
 * an arena is bound to it (hak_lua_bind()): limits are kept as a Lua program needs it. A request that
 * would pass the arena's hard limit is Lua's own `not enough memory`; make the first calls
 * (luaL_openlibs() and the like) under lua_pcall() or lua_cpcall() when there is a limit, and then
 * hak_lua_restrain(). After an error of memory that reaches the host, on 5.1 and LuaJIT call
 * lua_gc(L, LUA_GCCOLLECT, 0) before the next call: they do not collect by themselves.
 * threads: as the arena's kind; a state may move to another thread between calls.
 * fails: NULL when the arena is dead, when memory or the limit do not allow even an empty state,
 * or when the Lua refuses allocators of others (a 64-bit LuaJIT that is not built as GC64). */
static inline lua_State *hak_lua_newstate(hak_arena *arena) {
  lua_State *L;
  hak_lua_binding binding;
  if (arena == NULL) arena = hak_arena_default();
  if (hak_arena_pin(arena) != 0) return NULL;
  L = hak_lua_room(arena) ? lua_newstate(hak_lua_alloc, arena) : NULL;
  if (L == NULL) {
    hak_arena_unpin(arena);
    return NULL;
  }
  if (hak_arena_kind_of(arena) == HAK_ARENA_PRIVATE) {
    memset(&binding, 0, sizeof binding);
    binding.L = L;
    binding.id = lua_topointer(L, LUA_REGISTRYINDEX);
    hak_lua_limits(&binding);
    if (hak_lua_bind(arena, &binding) == 0) hak_arena_unpin(arena); /* it pins for itself */
  }
  lua_atpanic(L, hak_lua_panic);
  return L;
}

/* The arena that `L` allocates from; NULL: it is not hakmem's.
 * cost: visits all arenas when another copy of hakmem has made or moved the state. */
static inline hak_arena *hak_lua_arena(lua_State *L) {
  void *ud = NULL;
  if (lua_getallocf(L, &ud) == hak_lua_alloc || hak_arena_is_live(ud)) return (hak_arena *)ud;
  return NULL;
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
  hak_arena *arena = hak_lua_arena(L);
  hak_lua_binding *bound;
  int mine, installed;
  if (arena == NULL) return NULL;
  bound = hak_lua_bound(arena);
  mine = bound != NULL && bound->id == lua_topointer(L, LUA_REGISTRYINDEX);
  installed = mine && bound->former != NULL;
  if (mine) hak_lua_let_go(bound);
  if (how != HAK_LUA_DROP || installed) lua_close(L);
  if (installed) return NULL; /* ended with the state's last block */
  if (mine)
    hak_lua_unbind(arena);
  else
    hak_arena_unpin(arena);
  return arena;
}

/* ---- a running state moves onto an arena ------------------------------------------------------ */

#define HAK_LUA_ANCHOR "hakmem.anchor" /* key in the registry */

/* A lua_newstate() asks for its first block and gets nothing: how large the main block is. */
static inline void *hak_lua_probe(void *ud, void *ptr, size_t osize, size_t nsize) {
  (void)ptr;
  (void)osize;
  if (*(size_t *)ud == 0) *(size_t *)ud = nsize;
  return NULL;
}

static inline size_t hak_lua_total(lua_State *L) {
  int blocks = lua_gc(L, LUA_GCCOUNT, 0), rest = lua_gc(L, LUA_GCCOUNTB, 0);
  return blocks < 0 || rest < 0 ? 0 : (size_t)blocks * 1024 + (size_t)rest;
}

#if LUA_VERSION_NUM == 501
/* The allocator of a state that is being closed. LuaJIT asks, just before it frees its main block,
 * whether its own allocator is set, and if so destroys that one's memory: so the former allocator
 * comes back when nothing but the main block is left. */
static inline void *hak_lua_alloc_closing(void *ud, void *ptr, size_t osize, size_t nsize) {
  hak_arena *arena = (hak_arena *)ud;
  hak_lua_binding *b = hak_lua_bound(arena);
  lua_State *L = b != NULL ? (lua_State *)b->L : NULL;
  void *p = hak_lua_alloc(ud, ptr, osize, nsize);
  if (L == NULL || nsize != 0 || ptr == NULL || hak_lua_bound(arena) != b || b->former == NULL)
    return p; /* the last block of PUC's was just freed, or none was */
  if (hak_lua_total(L) == b->last_size) {
    lua_setallocf(L, b->former, b->former_ud);
    hak_lua_unbind(arena);
  }
  return p;
}

static inline int hak_lua_anchor(lua_State *L, hak_arena *arena);

/* Finalizer of the anchor: lua_close() runs it in the main state, which 5.1 does not tell before. */
static inline int hak_lua_closing(lua_State *L) {
  hak_arena *arena = hak_lua_arena(L);
  hak_lua_binding *b = arena != NULL ? hak_lua_bound(arena) : NULL;
  if (b == NULL || b->former == NULL) return 0;
  if (!lua_pushthread(L)) { /* not the end: somebody has cleared the registry */
    hak_lua_anchor(L, arena);
    return 0;
  }
  hak_lua_let_go(b);
  b->L = L;
  b->last = L;
  lua_setallocf(L, hak_lua_alloc_closing, arena);
  return 0;
}

/* A thread for lua_gc(), which a coroutine that installs is not: it may die. In a finalizer that
 * lua_close() runs, PUC runs no other that is made there: the main state is its last block, too. */
static inline int hak_lua_anchor(lua_State *L, hak_arena *arena) {
  hak_lua_binding *b = hak_lua_bound(arena);
  int is_main = lua_pushthread(L);
  lua_pop(L, 1);
  lua_newuserdata(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, hak_lua_closing);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_createtable(L, 0, 1); /* every userdata has an environment */
  b->L = lua_newthread(L);
  if (is_main) b->last = b->L = L;
  lua_setfield(L, -2, "thread");
  lua_setfenv(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, HAK_LUA_ANCHOR);
  return 0;
}
#else
static inline int hak_lua_anchor(lua_State *L, hak_arena *arena) {
  hak_lua_binding *b = hak_lua_bound(arena);
  lua_State *main_state;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  main_state = lua_tothread(L, -1);
  b->L = main_state;
#if LUA_VERSION_NUM >= 503
  b->last = lua_getextraspace(main_state);
#else
  b->last = main_state;
#endif
  return 0;
}
#endif

static inline int hak_lua_set_up(lua_State *L) {
  hak_arena *arena = (hak_arena *)lua_touserdata(L, 1);
  size_t hard;
  lua_settop(L, 0);
  hak_arena_limit(arena, NULL, &hard);
  if (hard != 0) hak_lua_restrain(L);
  return hak_lua_anchor(L, arena);
}

/* hak_lua_install() for callers that want to know when the state has ended: `ended` is called with
 * the arena unbound and no block of the state left; it may destroy the arena. */
static inline int hak_lua_install_with(lua_State *L, hak_arena *arena, void (*ended)(void *),
                                       void *ud) {
  hak_lua_binding binding;
  int error;
  if (hak_lua_arena(L) != NULL) return EEXIST;
  memset(&binding, 0, sizeof binding);
  binding.id = lua_topointer(L, LUA_REGISTRYINDEX);
  binding.former = lua_getallocf(L, &binding.former_ud);
  hak_lua_limits(&binding);
  binding.ended = ended;
  binding.ended_ud = ud;
#if LUA_VERSION_NUM == 501
  lua_newstate(hak_lua_probe, &binding.last_size);
  if (binding.last_size == 0) return ENOTSUP; /* not asked: not GC64 */
#endif
  error = hak_lua_bind(arena, &binding);
  if (error != 0) return error;
#if LUA_VERSION_NUM == 501
  error = lua_cpcall(L, hak_lua_set_up, arena);
#else
  lua_pushcfunction(L, hak_lua_set_up);
  lua_pushlightuserdata(L, arena);
  error = lua_pcall(L, 1, 0, 0);
#endif
  if (error != 0) {
    lua_pop(L, 1);
    hak_lua_bound(arena)->ended = NULL;
    hak_lua_unbind(arena);
    return error == LUA_ERRMEM ? ENOMEM : EPERM;
  }
  hak_lua_note_foreign(arena, hak_lua_total(L));
  lua_setallocf(L, hak_lua_alloc, arena);
  return 0;
}

static inline void hak_lua_destroy(void *arena) { hak_arena_destroy((hak_arena *)arena); }

/* Moves a running state onto `arena`: from now on it allocates there. What it has stays where it is
 * and goes back to its former allocator when it is freed or grows; those bytes are the statistic
 * `foreign` and are not charged. May be called at any time, also from a coroutine and from inside the
 * script. `arena` NULL: a private arena of its own, destroyed with the state; else `arena` is pinned
 * until the state is closed, and is the caller's after that. `L` is closed with lua_close() as before.
 * On LuaJIT the former allocator is put back at the very end, so that its memory is released, too.
 * With a hard limit the compiler of older LuaJITs is switched off: hak_lua_restrain().
 * threads: as the arena's kind. cost: some microseconds.
 * fails: EEXIST (the state lives on an arena already), ENOTSUP (a 64-bit LuaJIT that is not built as
 * GC64), EINVAL (dead arena), EBUSY (another state is bound to the arena), ENOMEM, EPERM (with a limit,
 * in a finalizer of an older LuaJIT); nothing has changed then. On PUC 5.1 a coroutine must not install
 * in a finalizer that lua_close() runs: the arena would stay. A host must not be moved whose own code reads the `ud` of its lua_Alloc by
 * lua_getallocf() and takes it for its own: only the host knows. */
static inline int hak_lua_install(lua_State *L, hak_arena *arena) {
  hak_arena_config config;
  int error;
  if (arena != NULL) return hak_lua_install_with(L, arena, NULL, NULL);
  memset(&config, 0, sizeof config);
  config.name = "lua";
  config.kind = HAK_ARENA_PRIVATE;
  arena = hak_arena_create(&config);
  if (arena == NULL) return errno;
  error = hak_lua_install_with(L, arena, hak_lua_destroy, arena);
  if (error != 0) hak_arena_destroy(arena);
  return error;
}

#ifdef __cplusplus
}
#endif
#endif

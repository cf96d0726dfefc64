/* lua_arena.h - arenas as Lua values, and what buffers and child VMs share with them.
 * Why:   an arena must outlive its buffers when the collector finds the arena first, and must not
 *        when the program closes it: so both hold a counted record.
 * Owns:  struct lua_arena.
 * Locks: none: a record belongs to one Lua state.
 * Start: haki_lua_arena_open(). */
#ifndef HAK_LUA_ARENA_H
#define HAK_LUA_ARENA_H

#include "base/list.h"
#include "edge/lua_check.h"
#include "include/hakmem.h"

struct lua_arena {
  hak_arena *arena; /* NULL: closed */
  size_t refs;      /* its own userdata, buffers, VMs, the state that was moved onto it */
  bool borrowed;    /* somebody else made it and destroys it */
  hak_list buffers; /* every buffer and slice whose memory is here */
  size_t held;      /* bytes of those buffers */
  int64_t pending;  /* of them, what the collector has not been told of; below 0: freed by hand */
  bool stepping;    /* 5.1: its cycle is under way */
};

/* A counted record around a fresh arena. fails: NULL, errno. */
struct lua_arena *haki_lua_arena_new(const hak_arena_config *config);
/* One reference less; the last one destroys the arena. NULL: nothing. */
void haki_lua_arena_drop(struct lua_arena *ref);
/* Destroys the arena now; buffers become freed ones. fails: EBUSY: a Lua state lives in it. */
int haki_lua_arena_close(struct lua_arena *ref);
/* The open arena at index, or raises: a type error of argument #arg, or that it is closed. */
struct lua_arena *haki_lua_checkarena(lua_State *L, int index, int arg, const char *func,
                                      const char *what);
/* zeroed memory (old NULL) or a reallocation. fails: NULL and *error: EDQUOT, not ENOMEM, when it
 * was the arena's limit. */
void *haki_lua_obtain(hak_arena *arena, void *old, size_t size, uintptr_t site, int *error);

/* Pushes an arena made by the options at index 1 (a table or nil) of `func`: its own `keys`
 * (NULL-terminated), of which name and limits are read here, and knobs. NULL, errno: nothing made. */
struct lua_arena *haki_lua_arena_build(lua_State *L, const char *func, const char *const *keys,
                                       hak_arena_config *config);
/* Pushes an arena that belongs to somebody else. fails: NULL, errno. */
struct lua_arena *haki_lua_arena_borrow(lua_State *L, hak_arena *arena);

/* Fills the methods of arenas into the metatable on top; metatables at first, first+1, ... */
void haki_lua_arena_open(lua_State *L, int first);
int haki_lua_arena_make(lua_State *L); /* hakmem.arena */

/* buffers (lua_buffer.c) */
void haki_lua_buffer_open(lua_State *L, int first);
int haki_lua_buffer_make(lua_State *L);           /* a:buffer(n) */
void haki_lua_buffers_forget(struct lua_arena *); /* their memory is gone */

/* child VMs (lua_vm.c) */
void haki_lua_vm_open(lua_State *L, int first);
int haki_lua_vm_make(lua_State *L); /* hakmem.vm */
void haki_lua_pool_open(lua_State *L, int first);
int haki_lua_pool_make(lua_State *L); /* hakmem.vm_pool (lua_pool.c) */
int haki_lua_vm_ends(lua_State *L);   /* how many were dropped, how many closed: for tests */

/* the running VM (lua_install.c) */
int haki_lua_install(lua_State *L); /* hakmem.install */
int haki_lua_current(lua_State *L); /* hakmem.current */

/* limits inside a VM (lua_scope.c), for lua/hakmem/limit.lua */
int haki_lua_scope(lua_State *L);
int haki_lua_scope_thread(lua_State *L);
int haki_lua_scope_enter(lua_State *L);
int haki_lua_scope_yield(lua_State *L);

int haki_lua_log(lua_State *L); /* hakmem.log (lua_log.c) */

#endif

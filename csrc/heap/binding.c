/* binding.c - the Lua state that lives in an arena.
 *
 * Why:   a state that moves onto an arena late still has blocks of its former allocator; at its end
 *        the arena is told; near the limit its collector is.
 * Owns:  hak_arena.binding.   Not: lua.h (include/hakmem_lua.h), the marks (limit.c).
 * Locks: none: as the arena's kind; REGISTRY for hak_arena_is_live().
 * Start: haki_api_lua_bind().
 *
 *   unbound --bind--> bound --the last block is freed, or unbind--> unbound, ended() */
#include <errno.h>
#include <string.h>

#include "heap/arena.h"
#include "heap/core.h"

int haki_api_lua_bind(hak_arena *a, const hak_lua_binding *binding) {
  if (!haki_arena_is_live(a)) return EINVAL;
  if (a->bound) return EBUSY;
  int error = haki_api_arena_pin(a);
  if (error != 0) return error;
  a->binding = *binding;
  a->bound = true;
  haki_limits_bound(a);
  return 0;
}

hak_lua_binding *haki_api_lua_bound(hak_arena *a) {
  return haki_arena_is_live(a) && a->bound ? &a->binding : NULL;
}

void haki_api_lua_note_foreign(hak_arena *a, size_t bytes) {
  if (haki_api_lua_bound(a) != NULL) haki_cell_set(&a->foreign, bytes);
}

int haki_api_lua_unbind(hak_arena *a) {
  if (haki_api_lua_bound(a) == NULL) return EINVAL;
  void (*ended)(void *) = a->binding.ended;
  void *ud = a->binding.ended_ud;
  a->bound = false;
  haki_cell_set(&a->foreign, 0);
  haki_limits_bound(a); /* no more than a look at the numbers: the state may be gone */
  memset(&a->binding, 0, sizeof a->binding);
  haki_api_arena_unpin(a);
  if (ended != NULL) ended(ud);
  return 0;
}

static int is_it(hak_arena *a, void *ud) { return a == ud; }

int haki_api_arena_is_live(const void *ud) {
  return haki_api_arena_walk(is_it, (void *)(uintptr_t)ud);
}

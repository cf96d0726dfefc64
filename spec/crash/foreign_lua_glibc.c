/* foreign_lua_glibc.c - a VM gives back a block of another allocator. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  void *own = hak_lua_alloc(a, NULL, 0, 100);
  hak_lua_alloc(a, own, 100, 0);
  hak_lua_alloc(a, blame(malloc(100)), 100, 0);
}

/* foreign_lua_realloc.c - a VM resizes a block of another allocator. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  hak_lua_alloc(a, blame(malloc(100)), 100, 200);
}

/* huge_inside_lua.c - a VM gives back a pointer into a huge block. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  char *p = hak_lua_alloc(a, NULL, 0, 20000000);
  hak_lua_alloc(a, blame(p + 64), 20000000 - 64, 0);
}

/* large_twice_image.c - a large block that a snapshot keeps is given back twice. */
#include "crash.h"

CRASH("double free") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  void *p = hak_lua_alloc(a, NULL, 0, 100000);
  hak_arena_snapshot(a);
  hak_lua_alloc(a, p, 100000, 0);
  hak_lua_alloc(a, blame(p), 100000, 0);
}

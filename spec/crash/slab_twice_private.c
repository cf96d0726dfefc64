/* slab_twice_private.c - a block of a private arena is freed twice in a row. */
#include "crash.h"

CRASH("double free") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  void *p[4];
  for (int i = 0; i < 4; i++) p[i] = hak_arena_alloc(a, 100);
  hak_arena_free(a, p[1]);
  hak_arena_free(a, blame(p[1]));
}

/* arena_dead.c - a block of an arena that is gone. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  void *p = hak_arena_alloc(a, 3000);
  hak_arena_destroy(a);
  hak_trim();
  hak_free(blame(p));
}

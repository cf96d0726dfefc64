/* arena_other_private.c - a block of another private arena. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE};
  hak_arena *a = hak_arena_create(&config), *b = hak_arena_create(&config);
  hak_arena_free(b, hak_arena_alloc(b, 100));
  hak_arena_free(b, blame(hak_arena_alloc(a, 100)));
}

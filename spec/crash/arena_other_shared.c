/* arena_other_shared.c - a block of another shared arena. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(NULL), *b = hak_arena_create(NULL);
  hak_arena_free(b, hak_arena_alloc(b, 100));
  hak_arena_free(b, blame(hak_arena_alloc(a, 100)));
}

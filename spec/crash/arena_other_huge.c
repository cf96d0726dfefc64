/* arena_other_huge.c - a block of several chunks of another arena. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(NULL), *b = hak_arena_create(NULL);
  hak_arena_free(b, blame(hak_arena_alloc(a, 9000000)));
}

/* arena_other_default.c - a block of the default arena is given to another one. */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_arena *a = hak_arena_create(NULL);
  hak_arena_free(a, blame(hak_malloc(100)));
}

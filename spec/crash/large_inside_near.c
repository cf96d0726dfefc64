/* large_inside_near.c - a pointer 16 bytes into a large block is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(1 << 20);
  hak_free(blame(p + 16));
}

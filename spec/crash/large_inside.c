/* large_inside.c - a pointer into a large block is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(100000);
  hak_free(blame(p + 4096));
}

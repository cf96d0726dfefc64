/* cached_inside.c - a pointer into a later chunk of a big block that waits in the cache is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(20000000);
  hak_free(p);
  hak_free(blame(p + (8 << 20)));
}

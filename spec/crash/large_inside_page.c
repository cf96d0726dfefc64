/* large_inside_page.c - a pointer to a later page of a large block is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(1 << 20);
  hak_free(blame(p + (1 << 16)));
}

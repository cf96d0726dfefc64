/* huge_inside.c - a pointer to a later chunk of a huge block is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(20000000);
  hak_free(blame(p + (8 << 20)));
}

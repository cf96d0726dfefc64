/* large_twice.c - a large block is freed twice. */
#include "crash.h"

CRASH("double free") {
  char *other = hak_malloc(100000), *p = hak_malloc(100000);
  other[0] = 1;
  hak_free(p);
  hak_free(blame(p));
}

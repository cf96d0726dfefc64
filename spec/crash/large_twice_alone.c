/* large_twice_alone.c - the only large block is freed twice. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(1 << 20);
  hak_free(p);
  hak_free(blame(p));
}

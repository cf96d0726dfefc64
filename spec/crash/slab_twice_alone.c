/* slab_twice_alone.c - the only block of a slab is freed twice. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(100);
  hak_free(p);
  hak_free(blame(p));
}

/* slab_twice_head.c - a block is freed twice in a row while others live. */
#include "crash.h"

CRASH("double free") {
  void *p[4];
  for (int i = 0; i < 4; i++) p[i] = hak_malloc(100);
  hak_free(p[1]);
  hak_free(blame(p[1]));
}

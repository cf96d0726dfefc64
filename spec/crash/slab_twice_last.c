/* slab_twice_last.c - all blocks of a class are freed, the last one twice. */
#include "crash.h"

CRASH("double free") {
  void *p[40];
  for (int i = 0; i < 40; i++) p[i] = hak_malloc(3000);
  for (int i = 0; i < 40; i++) hak_free(p[i]);
  hak_free(blame(p[39]));
}

/* foreign_realloc.c - a block of another allocator is given to hak_realloc(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_free(hak_malloc(10));
  void *p = hak_realloc(blame(malloc(100)), 200);
  hak_free(p);
}

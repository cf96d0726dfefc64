/* large_realloc_freed.c - a large block is resized after its free. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(300000), *q;
  hak_free(p);
  q = hak_realloc(blame(p), 400000);
  hak_free(q);
}

/* cached_realloc_freed.c - a big block is resized after its free, while it waits in the cache. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(1200000), *q;
  hak_free(p);
  q = hak_realloc(blame(p), 5000000);
  hak_free(q);
}

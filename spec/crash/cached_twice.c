/* cached_twice.c - a block that waits in the cache of big blocks, beside others, is freed again. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(3000000), *q = hak_malloc(3000000);
  hak_free(p);
  hak_free(q); /* p goes on from the thread's slot to the table */
  hak_free(blame(p));
}

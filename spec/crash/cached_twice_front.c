/* cached_twice_front.c - a big block that its thread has in front of the cache is freed again. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(1200000);
  hak_free(p);
  hak_free(blame(p));
}

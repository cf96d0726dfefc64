/* huge_twice.c - a block of several chunks is freed twice. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(9000000);
  hak_free(p);
  hak_free(blame(p));
}

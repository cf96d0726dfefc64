/* huge_twice_purged.c - the same, with its memory gone back to the system between. */
#include "crash.h"

CRASH("double free") {
  void *p = hak_malloc(9000000);
  hak_free(p);
  hak_trim();
  hak_free(blame(p));
}

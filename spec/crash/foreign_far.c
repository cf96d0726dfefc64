/* foreign_far.c - an address of the reservation whose descriptors nobody has written yet. */
#include "crash.h"

CRASH("invalid free: not owned") {
  char *p = hak_malloc(10), *far = p + (1ul << 30) + 4096;
  if (hak_owns(far)) return;
  hak_free(blame(far));
}

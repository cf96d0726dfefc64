/* foreign_glibc.c - a block of another allocator is given to hak_free(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_free(hak_malloc(10));
  hak_free(blame(malloc(100)));
}

/* cached_inside_page.c - a pointer into the first page of a big block that waits is freed. */
#include "crash.h"

CRASH("invalid free: not a block start") {
  char *p = hak_malloc(1200000);
  hak_free(p);
  hak_free(blame(p + 16));
}

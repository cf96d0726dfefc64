/* cached_twice_purged.c - a big block that waits without its memory is freed again. */
#include "crash.h"

CRASH("double free") {
  const char *name[] = {"bigcache.max_bytes", "purge.decay", "bigcache.decay"};
  const char *value[] = {"1MiB", "0", "1h"};
  hak_configure(name, value, 3, NULL, 0);
  char *p = hak_malloc(5000000);
  hak_free(p); /* over the budget: its memory goes at the next occasion */
  for (int i = 0; i < 200; i++) hak_free(hak_malloc(300000));
  hak_free(blame(p));
}

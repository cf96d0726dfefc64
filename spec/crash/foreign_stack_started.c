/* foreign_stack_started.c - the same, once hakmem has started. */
#include "crash.h"

CRASH("invalid free: not owned") {
  int local = 0;
  hak_free(hak_malloc(10));
  hak_free(blame(&local));
}

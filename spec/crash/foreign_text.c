/* foreign_text.c - the address of a function is given to hak_free(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  hak_free(hak_malloc(10));
  hak_free(blame((void *)(uintptr_t)&crash_body));
}

/* foreign_low.c - a small integer is given to hak_free(). */
#include "crash.h"

CRASH("invalid free: not owned") { hak_free(blame((void *)(uintptr_t)16)); }

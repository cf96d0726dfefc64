/* arena_stack.c - a variable on the stack is given to hak_arena_free(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  int local = 0;
  hak_arena_free(hak_arena_create(NULL), blame(&local));
}

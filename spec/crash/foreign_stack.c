/* foreign_stack.c - a variable on the stack is given to hak_free(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  int local = 0;
  hak_free(blame(&local));
}

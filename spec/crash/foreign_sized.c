/* foreign_sized.c - a variable on the stack is given to hak_free_sized(). */
#include "crash.h"

CRASH("invalid free: not owned") {
  int local = 0;
  hak_free_sized(blame(&local), sizeof local);
}

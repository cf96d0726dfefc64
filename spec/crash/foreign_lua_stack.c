/* foreign_lua_stack.c - a VM gives back what is on the stack. */
#include "crash.h"

CRASH("invalid free: not owned") {
  char local[64];
  hak_lua_alloc(hak_arena_default(), blame(local), sizeof local, 0);
}

/* core.h - the table through which several copies of hakmem in one process share one state.
 * Why:   a process may hold libhakmem.so, a Lua module and a program that links the archive. Two
 *        states would mean blocks that cross over are "not owned".
 * Owns:  hak_core_v1 (exported), the pointer to the table in force.
 * Locks: INIT, at start only.
 * Start: haki_core(). */
#ifndef HAK_CORE_H
#define HAK_CORE_H

#include "base/port.h"
#include "include/hakmem.h"

struct hak_core {
  uint32_t abi;  /* HAK_ABI_VERSION: copies with another one run apart */
  uint32_t size; /* of this table */
  const char *version;
  void (*start)(void); /* makes this copy the owner, if nothing has yet */
#define A(type, name, params, args) type(*name) params;
#define V(name, params, args) void(*name) params;
#define H(type, name, params) type(*name) params;
#include "heap/api.def"
#undef A
#undef V
#undef H
};

/* Found by other copies with dlsym(). The first one in load order whose ABI matches owns. */
extern HAK_API const struct hak_core hak_core_v1;

#define A(type, name, params, args) type haki_api_##name params;
#define V(name, params, args) void haki_api_##name params;
#define H(type, name, params) type haki_api_##name params;
#include "heap/api.def"
#undef A
#undef V
#undef H

HAK_HIDDEN extern _Atomic(const struct hak_core *) haki_core_in_force;
const struct hak_core *haki_start(void);

/* The owner's table; starts hakmem at the first call. */
HAK_INLINE const struct hak_core *haki_core(void) {
  /* acquire: pairs with haki_start(); what start() set up is visible */
  const struct hak_core *core = atomic_load_explicit(&haki_core_in_force, memory_order_acquire);
  return HAK_LIKELY(core != NULL) ? core : haki_start();
}

/* Hardened builds: the bits that say which block is out are the owner's, so that the fast paths of
 * other copies leave everything to it. */
HAK_INLINE bool haki_fast_paths(void) { return !HAK_HARDENED || haki_core() == &hak_core_v1; }

#endif

/* meter.h - what a lua_Alloc in front of hak_lua_alloc() counts.
 * Why:   limits on one function of a VM, and counts by type, cost some instructions per request: only
 *        who asks for them pays.
 * Owns:  struct haki_meter; one in each arena, for the state that is bound to it.
 * Locks: none: a bound state has one thread at a time.
 * Start: haki_lua_metered(), edge/lua_alloc_meter.c. */
#ifndef HAK_METER_H
#define HAK_METER_H

#include "base/port.h"

/* Bytes that a function has allocated less those freed while it ran.
 * INV scope-1: used <= hard. */
struct haki_scope {
  uint64_t used, peak, hard;
  uint64_t line; /* refused (LuaJIT: collected, then raised) above; moves as in heap/limit.c */
  uint64_t mark; /* Lua that does not collect by itself: told to above; half-way to the line */
  uint64_t low;  /* lowest use since */
  uint64_t refusals, refused; /* how often; bytes of the last one */
  bool asked;
  struct haki_scope *outer; /* in force outside of it */
};

enum haki_lua_type {
  HAK_TYPE_OTHER,
  HAK_TYPE_STRING,
  HAK_TYPE_TABLE,
  HAK_TYPE_FUNCTION,
  HAK_TYPE_USERDATA,
  HAK_TYPE_THREAD,
  HAK_TYPE_COUNT
};

struct haki_meter {
  struct haki_scope *scope; /* in force; NULL: none */
  bool types;
  hak_cell allocs[HAK_TYPE_COUNT]; /* of the bound state, by type */
  hak_cell scopes, overruns;       /* how many began; how many ended because of their limit */
};

/* As hak_lua_alloc(), for a private arena with a bound state. */
void *haki_lua_metered(void *arena, void *ptr, size_t osize, size_t nsize);
void haki_scope_init(struct haki_scope *s, uint64_t hard);

#endif

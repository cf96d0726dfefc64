/* limit.h - what happens at the limits of an arena.
 * Why:   the quota (map/quota.h) only compares; who is told, when again, and what a Lua VM gets
 *        besides, is policy.
 * Owns:  struct haki_limits.   Not: the charge.
 * Locks: none: a private arena has one thread; of a shared one's threads the first that sees
 *        `crossed` acts.
 * Start: haki_arena_note_limits(). */
#ifndef HAK_LIMIT_H
#define HAK_LIMIT_H

#include "include/hakmem.h"
#include "map/quota.h"

struct haki_limits {
  hak_cell soft_next; /* the next charge at which on_soft is called; UINT64_MAX: not armed */
  hak_cell pace_next; /* likewise for the collector of the Lua state in the arena */
  hak_cell armed;     /* what quota.rearm was set to: it is less when the charge has been lower */
  _Atomic(uint32_t) percent; /* pace the collector was given; 0: its own */
  hak_cell line;             /* charge at which a Lua VM is refused next; 0: at the hard limit */
  hak_cell refused;          /* bytes that a VM which collects and asks again was refused */
  _Atomic(bool) ask;         /* refuse the VM's next object once: it collects, and asks again */
  _Atomic(bool) asked;       /* its collector was asked to collect since the line moved last */
};

struct hak_arena;

/* Sets both limits, as hak_arena_set_limit(). pre: soft <= hard or one of them is 0. */
void haki_limits_set(struct hak_arena *a, uint64_t soft, uint64_t hard);
/* Calls on_soft and sets the collector's pace when the charge has crossed a mark since. pre:
 * quota.crossed was seen set. */
void haki_arena_note_limits(struct hak_arena *a);
/* A request of n bytes was refused: counts, asks the collector to hurry, lets a Lua VM use the rest. */
void haki_arena_note_refusal(struct hak_arena *a, size_t n);
/* True: the VM's own request of n bytes is to be refused once, for it to collect. */
bool haki_limits_ask(struct hak_arena *a, size_t n);
/* A request that does not come from the VM itself may pass the line, for who asks so does not collect:
 * lift before, lower after it. */
void haki_limits_lift(struct hak_arena *a);
void haki_limits_lower(struct hak_arena *a);
/* A Lua state has come into the arena, or has left it. */
void haki_limits_bound(struct hak_arena *a);
/* The collector does all of its work at its next check; back to the arena's own pace. */
void haki_limits_collect(struct hak_arena *a);
void haki_limits_relax(struct hak_arena *a);

#endif

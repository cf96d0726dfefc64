/* limit.c - soft limits, refusals, and the pace of a Lua collector near a limit.
 *
 * Why:   see limit.h.
 * Owns:  the marks in struct haki_limits and in the quota.
 * Locks: none. Callbacks run under none.
 * Start: haki_arena_note_limits().
 *
 *   0          1/2 hard          7/8    15/16   hard
 *   |--- own pace --|--- paced ----|------|-------|
 *                                  |      first refusal of an arena with a Lua state
 *                                  room again: the next refusal comes at 15/16
 *
 * A script that is refused memory needs some to handle the error, so that the first refusal comes
 * early and what lies behind it can be had until there is room again. Lua from 5.2 on collects by
 * itself when it is refused and asks once more. Lua 5.1 and LuaJIT raise at once: there the
 * collector is told beforehand (`pace`), at marks that close in on the limit, to do all of its work
 * at its next check, and then to wait for less growth than it would by itself: half of what is
 * left. */
#include "heap/limit.h"

#include "base/log.h"
#include "heap/arena.h"

enum { PACE_STEP = 16 * 1024, PACE_LEAST = 105, PACE_OWN = 1000 };

static uint64_t cell(const hak_cell *c) { return haki_cell_get(c); }

static bool paced(const struct hak_arena *a) { return a->bound && a->binding.pace != NULL; }

static uint64_t first_refusal(const struct hak_arena *a, uint64_t hard) {
  return a->bound ? hard - hard / 16 : hard;
}

/* The marks follow from the state. */
static void arm(struct hak_arena *a) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  uint64_t soft = cell(&q->soft), hard = cell(&q->hard), rearm = 0;
  bool grace = atomic_load_explicit(&l->grace, memory_order_relaxed);
  haki_cell_set(&q->ceiling, grace ? hard : first_refusal(a, hard));
  uint64_t next = cell(&l->soft_next), pace = cell(&l->pace_next);
  haki_cell_set(&q->watch, next < pace ? next : pace);
  if (soft != 0 && next != soft) rearm = soft;
  if (grace && hard - hard / 8 > rearm) rearm = hard - hard / 8;
  if (atomic_load_explicit(&l->percent, memory_order_relaxed) != 0 && hard / 8 * 3 > rearm)
    rearm = hard / 8 * 3;
  haki_cell_set(&l->armed, rearm);
  haki_cell_set(&q->rearm, rearm);
}

static void give_pace(struct hak_arena *a, uint32_t percent) {
  atomic_store_explicit(&a->limits.percent, percent, memory_order_relaxed);
  a->binding.pace(&a->binding, (int)percent);
}

static void note_pace(struct hak_arena *a, uint64_t charged, uint64_t low) {
  struct haki_limits *l = &a->limits;
  uint64_t hard = cell(&a->quota.hard), line = first_refusal(a, hard);
  if (!paced(a) || hard == 0) return;
  if (low < hard / 8 * 3 && atomic_load_explicit(&l->percent, memory_order_relaxed) != 0) {
    haki_cell_set(&l->pace_next, hard / 2);
    give_pace(a, 0);
  }
  if (charged <= cell(&l->pace_next)) return;
  uint64_t left = line > charged ? line - charged : 0;
  haki_cell_set(&l->pace_next, charged + (left / 4 > PACE_STEP ? left / 4 : PACE_STEP));
  uint64_t percent = 100 + left * 50 / charged;
  give_pace(a, percent > PACE_LEAST ? (uint32_t)percent : PACE_LEAST);
}

/* True: on_soft is due. */
static bool note_soft(struct hak_arena *a, uint64_t charged, uint64_t low) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  uint64_t soft = cell(&q->soft);
  if (soft == 0) return false;
  if (low < soft) haki_cell_set(&l->soft_next, soft); /* was below: the next crossing counts */
  if (charged <= cell(&l->soft_next)) return false;
  uint64_t step = charged / 8 > 64 * 1024 ? charged / 8 : 64 * 1024;
  haki_cell_set(&l->soft_next, charged + step); /* geometric: not at every slab from here on */
  haki_cell_add(&q->crossings, 1);
  HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Arena %s passed its soft limit (%llu of %llu bytes)", a->name,
          (unsigned long long)charged, (unsigned long long)soft);
  return a->on_soft != NULL;
}

HAK_COLD void haki_arena_note_limits(struct hak_arena *a) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  if (atomic_exchange_explicit(&q->crossed, HAK_CROSSED_NOT, memory_order_relaxed) == 0) return;
  uint64_t charged = cell(&q->charged), lowest = cell(&q->rearm), hard = cell(&q->hard);
  uint64_t low = lowest < cell(&l->armed) ? lowest : charged;
  if (low < hard - hard / 8) atomic_store_explicit(&l->grace, false, memory_order_relaxed);
  bool tell = note_soft(a, charged, low);
  note_pace(a, charged, low);
  arm(a);
  if (tell) a->on_soft(a, charged, a->ud);
}

HAK_COLD void haki_arena_note_refusal(struct hak_arena *a) {
  atomic_fetch_add_explicit(&a->quota.refusals, 1, memory_order_relaxed);
  if (!a->bound) return;
  atomic_store_explicit(&a->limits.grace, true, memory_order_relaxed);
  haki_limits_collect(a);
  arm(a);
}

void haki_limits_set(struct hak_arena *a, uint64_t soft, uint64_t hard) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  haki_cell_set(&q->soft, soft);
  haki_cell_set(&q->hard, hard);
  haki_cell_set(&l->soft_next, soft != 0 ? soft : UINT64_MAX);
  haki_limits_bound(a);
  if (cell(&q->charged) <= cell(&q->watch)) return;
  atomic_store_explicit(&q->crossed, HAK_CROSSED_UP, memory_order_relaxed);
  haki_arena_note_limits(a);
}

void haki_limits_bound(struct hak_arena *a) {
  struct haki_limits *l = &a->limits;
  uint64_t hard = cell(&a->quota.hard);
  atomic_store_explicit(&l->grace, false, memory_order_relaxed);
  if (paced(a) && atomic_load_explicit(&l->percent, memory_order_relaxed) != 0) give_pace(a, 0);
  atomic_store_explicit(&l->percent, 0, memory_order_relaxed);
  haki_cell_set(&l->pace_next, paced(a) && hard != 0 ? hard / 2 : UINT64_MAX);
  arm(a);
}

void haki_limits_collect(struct hak_arena *a) {
  if (!paced(a)) return;
  uint32_t percent = atomic_load_explicit(&a->limits.percent, memory_order_relaxed);
  a->binding.pace(&a->binding, percent != 0 ? (int)percent : PACE_OWN);
}

void haki_limits_relax(struct hak_arena *a) {
  if (!paced(a)) return;
  uint32_t percent = atomic_load_explicit(&a->limits.percent, memory_order_relaxed);
  if (percent == 0) a->binding.pace(&a->binding, 0);
}

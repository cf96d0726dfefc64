/* limit.c - soft limits, refusals, and the pace of a Lua collector near a limit.
 *
 * Why:   see limit.h.
 * Owns:  the marks in struct haki_limits and in the quota.
 * Locks: none. Callbacks run under none.
 * Start: haki_arena_note_limits().
 *
 *   0          1/2 hard          7/8    15/16   hard
 *   |--- own pace --|--- paced ----|------|--|-|||
 *                                  |      line: first refusal of an arena with a Lua state
 *                                  room again: the line comes back to 15/16
 *
 * A script that is refused memory needs some to handle the error, so that the first refusal comes
 * early and what lies behind it can be had until there is room again. Lua from 5.2 on collects by
 * itself when it is refused and asks once more: when that is refused, too, it raises, and may have all
 * of the rest. Lua 5.1 and LuaJIT raise at once: there the line moves half-way to the limit only, for the next error will need a rest, too, and
 * the collector is told beforehand (`pace`), at marks that close in on the limit, to do all of its
 * work at its next check, and then to wait for less growth than it would by itself: half of what is
 * left. LuaJIT may be in compiled code, where it survives no refusal: it gets the memory, the collector is
 * told at the line, and half-way behind it an error is raised at the next instruction (`raise`);
 * what is refused is what passes the hard limit.
 *
 * From 5.3 on the buffers of the auxiliary library (string.rep, table.concat) ask past the VM, and raise at
 * once: garbage would fail them. So from three quarters of the limit on, at marks that close in on it, an
 * object of the VM's own is refused once: the VM collects and asks again, and gets it. What is not
 * known to be the VM's may pass the line by half of the rest. */
#include "heap/limit.h"

#include "base/log.h"
#include "heap/arena.h"

enum { PACE_STEP = 16 * 1024, PACE_LEAST = 103, PACE_OWN = 1000, RAISE_STEP = 4096 };

static uint64_t cell(const hak_cell *c) { return haki_cell_get(c); }

static bool paced(const struct hak_arena *a) { return a->bound && a->binding.pace != NULL; }

static bool collects(const struct hak_arena *a) { return a->bound && a->binding.collects != 0; }
static bool raises(const struct hak_arena *a) { return a->bound && a->binding.raise != NULL; }

static bool asks(const struct hak_arena *a) { return a->bound && a->binding.passes != 0; }

static uint64_t first_line(const struct hak_arena *a, uint64_t hard) {
  return a->bound ? hard - hard / 16 : 0;
}

static bool in_grace(const struct hak_arena *a) {
  return cell(&a->limits.line) != first_line(a, cell(&a->quota.hard));
}

static void reset_line(struct hak_arena *a) {
  haki_cell_set(&a->limits.line, first_line(a, cell(&a->quota.hard)));
  haki_cell_set(&a->limits.refused, 0);
  atomic_store_explicit(&a->limits.asked, false, memory_order_relaxed);
}

/* Refused, or raised: the next time it is further on. */
static void move_line(struct hak_arena *a) {
  uint64_t hard = cell(&a->quota.hard), line = cell(&a->limits.line);
  haki_cell_set(&a->limits.line, collects(a) ? hard : hard - (hard - line) / 2);
}

static void set_ceiling(struct hak_arena *a) {
  uint64_t hard = cell(&a->quota.hard), line = cell(&a->limits.line);
  haki_cell_set(&a->quota.ceiling, line == 0 || raises(a) ? hard : line);
}

/* The marks follow from the state. */
static void arm(struct hak_arena *a) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  uint64_t soft = cell(&q->soft), hard = cell(&q->hard), rearm = 0;
  uint64_t next = cell(&l->soft_next), pace = cell(&l->pace_next), line = cell(&l->line);
  set_ceiling(a);
  uint64_t watch = next < pace ? next : pace;
  haki_cell_set(&q->watch, raises(a) && line < watch ? line : watch);
  if (soft != 0 && next != soft) rearm = soft;
  bool refused = in_grace(a) || cell(&l->refused) != 0;
  if (refused && hard - hard / 8 > rearm) rearm = hard - hard / 8;
  if (asks(a) && pace > hard - hard / 4 && hard - hard / 4 > rearm) rearm = hard - hard / 4;
  if (atomic_load_explicit(&l->percent, memory_order_relaxed) != 0 && hard / 8 * 3 > rearm)
    rearm = hard / 8 * 3;
  haki_cell_set(&l->armed, rearm);
  haki_cell_set(&q->rearm, rearm);
}

static void give_pace(struct hak_arena *a, uint32_t percent) {
  atomic_store_explicit(&a->limits.percent, percent, memory_order_relaxed);
  a->binding.pace(&a->binding, (int)percent);
}

/* The next mark: half-way to the line. */
static void set_mark(struct hak_arena *a, uint64_t charged, uint64_t left) {
  uint64_t hard = cell(&a->quota.hard), least = hard / 256 > PACE_STEP ? hard / 256 : PACE_STEP;
  haki_cell_set(&a->limits.pace_next, charged + (left / 2 > least ? left / 2 : least));
}

static void note_ask(struct hak_arena *a, uint64_t charged, uint64_t low) {
  uint64_t hard = cell(&a->quota.hard), line = first_line(a, hard);
  if (low < hard - hard / 4) haki_cell_set(&a->limits.pace_next, hard - hard / 4);
  if (charged <= cell(&a->limits.pace_next)) return;
  set_mark(a, charged, line > charged ? line - charged : 0);
  atomic_store_explicit(&a->limits.ask, true, memory_order_relaxed);
}

static void note_pace(struct hak_arena *a, uint64_t charged, uint64_t low) {
  struct haki_limits *l = &a->limits;
  uint64_t hard = cell(&a->quota.hard), line = first_line(a, hard);
  if (asks(a) && hard != 0) note_ask(a, charged, low);
  if (!paced(a) || hard == 0) return;
  if (low < hard / 8 * 3 && atomic_load_explicit(&l->percent, memory_order_relaxed) != 0) {
    haki_cell_set(&l->pace_next, hard / 2);
    give_pace(a, 0);
  }
  if (charged <= cell(&l->pace_next)) return;
  uint64_t left = line > charged ? line - charged : 0;
  set_mark(a, charged, left);
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

/* The line was passed by a VM that is not refused but raises. Its collector comes first: when the next
 * line is passed as well, it has not helped. */
static void pass_line(struct hak_arena *a) {
  struct haki_limits *l = &a->limits;
  uint64_t hard = cell(&a->quota.hard), charged = cell(&a->quota.charged);
  while (charged > cell(&l->line) && cell(&l->line) + RAISE_STEP < hard) move_line(a);
  haki_limits_collect(a); /* also, where it looks is where compiled code is left */
  bool asked = atomic_load_explicit(&l->asked, memory_order_relaxed);
  atomic_store_explicit(&l->asked, !asked, memory_order_relaxed);
  if (!asked) return;
  atomic_fetch_add_explicit(&a->quota.refusals, 1, memory_order_relaxed);
  a->binding.raise(&a->binding, 1);
}

HAK_COLD void haki_arena_note_limits(struct hak_arena *a) {
  struct haki_quota *q = &a->quota;
  struct haki_limits *l = &a->limits;
  if (atomic_exchange_explicit(&q->crossed, HAK_CROSSED_NOT, memory_order_relaxed) == 0) return;
  uint64_t charged = cell(&q->charged), lowest = cell(&q->rearm), hard = cell(&q->hard);
  uint64_t low = lowest < cell(&l->armed) ? lowest : charged;
  if (low < hard - hard / 8) reset_line(a);
  bool tell = note_soft(a, charged, low);
  note_pace(a, charged, low);
  if (raises(a) && hard != 0 && charged > cell(&l->line)) pass_line(a);
  arm(a);
  if (tell) a->on_soft(a, charged, a->ud);
}

HAK_COLD void haki_arena_note_refusal(struct hak_arena *a, size_t n) {
  struct haki_limits *l = &a->limits;
  atomic_fetch_add_explicit(&a->quota.refusals, 1, memory_order_relaxed);
  if (!a->bound || cell(&a->quota.hard) == 0) return;
  bool final = !collects(a) || cell(&l->refused) == n; /* the same again: it has collected */
  haki_cell_set(&l->refused, final ? 0 : n);
  if (final) move_line(a);
  haki_limits_collect(a);
  if (raises(a)) a->binding.raise(&a->binding, 0);
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
  reset_line(a);
  if (paced(a) && atomic_load_explicit(&l->percent, memory_order_relaxed) != 0) give_pace(a, 0);
  atomic_store_explicit(&l->percent, 0, memory_order_relaxed);
  atomic_store_explicit(&l->ask, false, memory_order_relaxed);
  uint64_t mark = paced(a) ? hard / 2 : asks(a) ? hard - hard / 4 : 0;
  haki_cell_set(&l->pace_next, mark != 0 ? mark : UINT64_MAX);
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

bool haki_limits_ask(struct hak_arena *a, size_t n) {
  if (HAK_LIKELY(!atomic_load_explicit(&a->limits.ask, memory_order_relaxed))) return false;
  atomic_store_explicit(&a->limits.ask, false, memory_order_relaxed);
  haki_cell_set(&a->limits.refused, n); /* refused again it has collected */
  return true;
}

void haki_limits_lift(struct hak_arena *a) {
  uint64_t hard = cell(&a->quota.hard), most = hard - hard / 32;
  if (asks(a) && cell(&a->quota.ceiling) < most) haki_cell_set(&a->quota.ceiling, most);
}

void haki_limits_lower(struct hak_arena *a) { set_ceiling(a); }

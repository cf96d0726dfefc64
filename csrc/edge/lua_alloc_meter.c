/* lua_alloc_meter.c - a lua_Alloc that looks at what is asked for: scopes, counts by type.
 * Why:   see heap/meter.h.
 * Owns:  nothing.   Not: blocks (lua_alloc.c), which scope is in force (lua_scope.c).
 * Locks: none.
 * Start: haki_lua_metered().
 *
 * Lua from 5.2 on names the type of a new block in `osize`. Bytes are those that the VM asks for, to
 * the byte, so that a collection shows at once: no marks in percent as for arenas are needed. */
#include "heap/arena.h"

enum { STEP = 16 * 1024 };

static void count_type(struct haki_meter *m, size_t tag) {
  static const unsigned char types[] = {[4] = HAK_TYPE_STRING,
                                        [5] = HAK_TYPE_TABLE,
                                        [6] = HAK_TYPE_FUNCTION,
                                        [7] = HAK_TYPE_USERDATA,
                                        [8] = HAK_TYPE_THREAD};
  haki_cell_add(&m->allocs[tag < sizeof types ? types[tag] : HAK_TYPE_OTHER], 1);
}

void haki_scope_init(struct haki_scope *s, uint64_t hard) {
  *s = (struct haki_scope){.hard = hard, .line = hard - hard / 16, .mark = hard / 2};
}

static uint64_t half_way(uint64_t from, uint64_t to) {
  uint64_t left = to > from ? (to - from) / 2 : 0;
  return from + (left > STEP ? left : STEP);
}

HAK_COLD static bool refuse(struct hak_arena *a, struct haki_scope *s, size_t n) {
  bool collects = a->binding.collects != 0, final = !collects || s->refused == n;
  s->refusals++;
  s->refused = final ? 0 : n;
  s->low = s->used;
  if (final) s->line = collects ? s->hard : s->hard - (s->hard - s->line) / 2;
  haki_limits_collect(a);
  if (a->binding.raise != NULL) a->binding.raise(&a->binding, 0);
  return false;
}

/* LuaJIT, and memory is left behind the line: collect, the next time raise. */
HAK_COLD static void pass_line(struct hak_arena *a, struct haki_scope *s, uint64_t want) {
  while (want > s->line && s->line + STEP / 4 < s->hard) s->line += (s->hard - s->line) / 2;
  haki_limits_collect(a);
  s->asked = !s->asked;
  if (s->asked) return;
  s->refusals++;
  a->binding.raise(&a->binding, 1);
}

/* Lua that collects when refused, from three quarters on, for who asks past it: heap/limit.c. True: the
 * request is refused, to come again. */
static bool ask(struct hak_arena *a, struct haki_scope *s, uint64_t want) {
  if (a->binding.passes == 0 || want < s->hard - s->hard / 4) return false;
  s->mark = half_way(want, s->line);
  s->low = want;
  return true;
}

/* own: an object of the VM's. */
HAK_COLD static bool pass_mark(struct hak_arena *a, struct haki_scope *s, size_t n, bool own) {
  uint64_t want = s->used + n, most = a->binding.raise != NULL ? s->hard : s->line;
  if (!own && a->binding.passes && most < s->hard - s->hard / 32) most = s->hard - s->hard / 32;
  if (want > most) return refuse(a, s, n);
  if (want <= s->mark && want <= s->line) return true;
  if (a->binding.collects) return !own || want <= s->mark || !ask(a, s, want);
  if (want > s->line) pass_line(a, s, want);
  if (want <= s->mark) return true;
  s->mark = half_way(want, s->line);
  s->low = want;
  haki_limits_collect(a);
  return true;
}

static void took(struct haki_scope *s, size_t n) {
  s->used += n;
  if (s->used > s->peak) s->peak = s->used;
}

/* What was there before the scope may be freed in it: that is no credit. */
static void gave(struct hak_arena *a, struct haki_scope *s, size_t n) {
  s->used = s->used > n ? s->used - n : 0;
  if (s->used >= s->low) return;
  s->low = s->used;
  uint64_t mark = half_way(s->low, s->line);
  if (mark < s->mark) s->mark = mark > s->hard / 2 ? mark : s->hard / 2;
  if (s->low < s->hard - s->hard / 8)
    s->line = s->hard - s->hard / 16, s->refused = 0, s->asked = false;
  if (s->low < s->hard / 8 * 3) haki_limits_relax(a);
}

void *haki_lua_metered(void *ud, void *p, size_t osize, size_t nsize) {
  struct hak_arena *a = ud;
  struct haki_meter *m = &a->meter;
  struct haki_scope *s = m->scope;
  size_t old = p != NULL ? osize : 0;
  if (p == NULL && nsize != 0 && m->types) count_type(m, osize & 0x0f);
  if (s == NULL) return hak_lua_alloc(ud, p, osize, nsize);
  uint64_t least = s->line < s->mark ? s->line : s->mark;
  if (nsize > old && s->used + (nsize - old) > least &&
      !pass_mark(a, s, nsize - old, p == NULL && osize != 0))
    return NULL;
  void *q = hak_lua_alloc(ud, p, osize, nsize);
  if (nsize > old) {
    if (q != NULL) took(s, nsize - old);
  } else {
    gave(a, s, old - nsize);
  }
  return q;
}

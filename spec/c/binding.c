/* binding.c - an arena and the Lua state in it, seen without a Lua: who is told what, and when.
 * Why:   spec/embed/ shows what real states make of it; here every number can be held against the
 *        contract of hak_lua_bind().
 * Start: struct state. */
#include "check.h"

/* What hakmem_lua.h and a state are to the arena. */
enum { MOST = 256, BLOCK = 64 * KIB };
static struct state {
  hak_arena *arena;
  size_t former_blocks, former_bytes;
  int paced, pace[MOST];
  int raised[3]; /* by error: -1, 0, 1 */
  int ended;
  void *held[MOST];
  size_t n;
} state;

static void pace(hak_lua_binding *b, int percent) {
  CHECK(b->L == &state && b == hak_lua_bound(state.arena));
  if (state.paced < MOST) state.pace[state.paced++] = percent;
}
static void raise_error(hak_lua_binding *b, int error) {
  CHECK(b->L == &state && error >= -1 && error <= 1);
  state.raised[error + 1]++;
}
static void ended(void *ud) {
  CHECK(ud == &state);
  CHECK(hak_lua_bound(state.arena) == NULL);
  state.ended++;
}

static void *former(void *ud, void *p, size_t osize, size_t nsize) {
  CHECK(ud == &state);
  size_t had = p != NULL ? osize : 0;
  state.former_bytes += nsize - had;
  state.former_blocks += (p == NULL) - (nsize == 0);
  if (nsize != 0) return realloc(p, nsize);
  free(p);
  return NULL;
}

static hak_lua_binding a_binding(void) {
  return (hak_lua_binding){.L = &state, .id = &state, .ended = ended, .ended_ud = &state};
}

static hak_arena *bound_arena(size_t hard, const hak_lua_binding *b) {
  state.arena = arena_of_kind(HAK_ARENA_PRIVATE, hard);
  CHECK_EQ(hak_lua_bind(state.arena, b), 0);
  return state.arena;
}

static void end(hak_arena *a) {
  CHECK_EQ(hak_lua_unbind(a), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- bound or not ----------------------------------------------------------------------------- */

TEST(bind_and_unbind) {
  hak_lua_binding b = a_binding(), other = a_binding();
  hak_arena *a = bound_arena(0, &b);
  CHECK(hak_lua_bound(a)->id == &state && hak_lua_bound(a) != &b); /* a copy */
  CHECK_EQ(hak_lua_bind(a, &other), EBUSY);
  CHECK_EQ(hak_arena_destroy(a), EBUSY); /* pinned */
  CHECK_EQ(hak_arena_reset(a), EBUSY);
  CHECK_EQ(state.ended, 0);
  CHECK_EQ(hak_lua_unbind(a), 0);
  CHECK_EQ(state.ended, 1);
  CHECK_EQ(hak_lua_unbind(a), EINVAL);
  CHECK_EQ(state.ended, 1);
  CHECK_EQ(hak_lua_bind(a, &other), 0); /* the next state */
  other.ended = NULL;
  end(a);
  CHECK_EQ(hak_lua_bind(a, &b), EINVAL); /* dead */
  CHECK(hak_lua_bound(a) == NULL);
  CHECK_EQ(hak_lua_unbind(a), EINVAL);
}

TEST(handles_are_told_from_other_pointers) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0), *b = arena_of_kind(HAK_ARENA_SHARED, 0);
  CHECK_EQ(hak_arena_is_live(a), 1);
  CHECK_EQ(hak_arena_is_live(b), 1);
  CHECK_EQ(hak_arena_is_live(hak_arena_default()), 1);
  CHECK_EQ(hak_arena_is_live(NULL), 0);
  CHECK_EQ(hak_arena_is_live((void *)1), 0);
  CHECK_EQ(hak_arena_is_live((char *)a + 8), 0);
  CHECK_EQ(hak_arena_is_live(&state), 0);
  CHECK_EQ(hak_arena_destroy(b), 0);
  CHECK_EQ(hak_arena_is_live(b), 0);
  CHECK_EQ(hak_arena_is_live(a), 1);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- what the state had before ---------------------------------------------------------------- */

TEST(blocks_of_before_go_back) {
  static const size_t sizes[] = {1, 56, 3000, 100000};
  enum { N = HAK_COUNT_OF(sizes) };
  char *p[N];
  size_t foreign = 0;
  for (size_t i = 0; i < N; i++) {
    p[i] = former(&state, NULL, 0, sizes[i]);
    fill(p[i], sizes[i], i);
    foreign += sizes[i];
  }
  void *last = former(&state, NULL, 0, 500);
  hak_lua_binding b = a_binding();
  b.former = former;
  b.former_ud = &state;
  b.last = last;
  hak_arena *a = bound_arena(0, &b);
  CHECK_EQ(stat_of(a, "foreign"), 0);
  hak_lua_note_foreign(a, foreign + 500);
  CHECK_EQ(stat_of(a, "foreign"), foreign + 500);
  CHECK_EQ(stat_of(a, "charged"), 0); /* not ours to pay */

  p[2] = hak_lua_alloc(a, p[2], 3000, 2000); /* a shrink stays there */
  CHECK(hak_arena_of(p[2]) == NULL && intact_part(p[2], 2000, 3000, 2));
  CHECK_EQ(stat_of(a, "foreign"), foreign + 500 - 1000);
  CHECK_EQ(state.former_bytes, foreign + 500 - 1000);
  p[1] = hak_lua_alloc(a, p[1], 56, 112); /* growth moves */
  CHECK(hak_arena_of(p[1]) == a && intact(p[1], 56, 1));
  hak_lua_alloc(a, p[0], 1, 0);
  hak_lua_alloc(a, p[2], 2000, 0);
  p[3] = hak_lua_alloc(a, p[3], 100000, 200000);
  CHECK(hak_arena_of(p[3]) == a && intact(p[3], 100000, 3));
  CHECK_EQ(state.former_blocks, 1);
  CHECK_EQ(stat_of(a, "foreign"), 500);
  CHECK_EQ(state.ended, 0);

  hak_lua_alloc(a, p[1], 112, 0);
  hak_lua_alloc(a, p[3], 200000, 0);
  CHECK(hak_lua_alloc(a, last, 500, 0) == NULL); /* the state's own block: it has ended */
  CHECK_EQ(state.former_blocks, 0);
  CHECK_EQ(state.ended, 1);
  CHECK(hak_lua_bound(a) == NULL);
  CHECK_EQ(stat_of(a, "foreign"), 0);
  CHECK_EQ(stat_of(a, "blocks"), 0);
  hak_lua_note_foreign(a, 1000); /* nothing is bound: nothing is noted */
  CHECK_EQ(stat_of(a, "foreign"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* Hosts lend their states blocks that the VM has never counted. */
TEST(foreign_ends_at_zero) {
  hak_lua_binding b = a_binding();
  b.former = former;
  b.former_ud = &state;
  hak_arena *a = bound_arena(0, &b);
  void *p = former(&state, NULL, 0, 1000);
  hak_lua_note_foreign(a, 300);
  hak_lua_alloc(a, p, 1000, 0);
  CHECK_EQ(stat_of(a, "foreign"), 0);
  end(a);
}

/* A growth that the limit refuses leaves the block where it was. */
TEST(refused_growth_keeps_a_block_of_before) {
  hak_lua_binding b = a_binding();
  b.former = former;
  b.former_ud = &state;
  hak_arena *a = bound_arena(MIB, &b);
  char *p = former(&state, NULL, 0, 1000);
  fill(p, 1000, 7);
  CHECK(hak_lua_alloc(a, p, 1000, 4 * MIB) == NULL);
  CHECK(intact(p, 1000, 7));
  CHECK_EQ(state.former_blocks, 1);
  hak_lua_alloc(a, p, 1000, 0);
  end(a);
}

/* The former allocator is an arena, too: nurseries share pages, so the owner of the piece decides. */
TEST(blocks_of_another_arena_go_back) {
  static const size_t sizes[] = {40, 1000, 20000, 100000, 3 * MIB};
  enum { N = HAK_COUNT_OF(sizes) };
  hak_arena *first = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  char *p[N], *grown[N];
  for (size_t i = 0; i < N; i++) {
    p[i] = hak_lua_alloc(first, NULL, 0, sizes[i]);
    grown[i] = hak_lua_alloc(first, NULL, 0, sizes[i]);
    fill(grown[i], sizes[i], i);
  }
  hak_lua_binding b = a_binding();
  b.former = hak_lua_alloc;
  b.former_ud = first;
  hak_arena *a = bound_arena(0, &b);
  void *own =
      hak_lua_alloc(a, NULL, 0, 40); /* in a nursery page that `first` may have a piece of */
  for (size_t i = 0; i < N; i++) {
    hak_lua_alloc(a, p[i], sizes[i], 0);
    grown[i] = hak_lua_alloc(a, grown[i], sizes[i], sizes[i] * 2);
    CHECK(intact(grown[i], sizes[i], i));
  }
  CHECK_EQ(stat_of(first, "blocks"), 0);
  CHECK_EQ(stat_of(a, "blocks"), N + 1);
  for (size_t i = 0; i < N; i++) hak_lua_alloc(a, grown[i], sizes[i] * 2, 0);
  hak_lua_alloc(a, own, 40, 0);
  CHECK_EQ(stat_of(a, "blocks"), 0);
  end(a);
  CHECK_EQ(hak_arena_destroy(first), 0);
}

/* ---- near the limit --------------------------------------------------------------------------- */

enum { HARD = 8 * MIB, LINE = HARD - HARD / 16 };

static bool take(void) {
  void *p = hak_lua_alloc(state.arena, NULL, 0, BLOCK);
  CHECK_CMP(stat_of(state.arena, "charged"), <=, HARD);
  CHECK_CMP(stat_of(state.arena, "peak"), <=, HARD);
  if (p == NULL) return false;
  CHECK_CMP(state.n, <, MOST);
  state.held[state.n++] = p;
  return true;
}
static void give(
    size_t charge) { /* until no more than that is charged; the arena notices at the next take */
  while (state.n > 0 && stat_of(state.arena, "charged") > charge)
    hak_lua_alloc(state.arena, state.held[--state.n], BLOCK, 0);
}
static void take_to(size_t charge) {
  while (stat_of(state.arena, "charged") + BLOCK <= charge) CHECK(take());
}
static void refused_at(size_t charge) {
  take_to(charge);
  CHECK(!take());
  CHECK_CMP(stat_of(state.arena, "charged"), <=, charge);
}

/* Lua from 5.2 on collects and asks again. */
TEST(rest_is_for_who_was_refused_twice) {
  hak_lua_binding b = a_binding();
  b.collects = 1;
  hak_arena *a = bound_arena(HARD, &b);
  for (int again = 0; again < 2; again++) {
    refused_at(LINE);
    CHECK(hak_lua_alloc(a, NULL, 0, 2 * BLOCK) == NULL); /* another request: has not collected */
    CHECK(!take());
    CHECK(!take());
    CHECK(take()); /* now it may have the rest */
    refused_at(HARD);
    give(HARD - HARD / 8 - BLOCK); /* room again: the line comes back */
    CHECK(take());
  }
  CHECK_EQ(stat_of(a, "refusals"), 2 * 5);
  give(0);
  end(a);
}

/* 5.1 raises at once, collects late: it is told before, and each error leaves room for the next. */
TEST(collector_is_told_before) {
  hak_lua_binding b = a_binding();
  b.pace = pace;
  hak_arena *a = bound_arena(HARD, &b);
  take_to(HARD / 2);
  CHECK_EQ(state.paced, 0);
  refused_at(LINE);
  CHECK_CMP(state.paced, >=, 5);
  for (int i = 0; i < state.paced; i++) {
    CHECK_CMP(state.pace[i], >, 100);
    CHECK_CMP(state.pace[i], <=, i == 0 ? 150 : state.pace[i - 1]);
  }
  refused_at(HARD - HARD / 32); /* half of the rest */
  refused_at(HARD - HARD / 64); /* half of that */
  CHECK_EQ(stat_of(a, "refusals"), 3);

  give(HARD / 2);
  CHECK(take());
  CHECK_CMP(state.pace[state.paced - 1], >, 0); /* not yet: it would swing */
  refused_at(LINE);
  give(HARD / 4);
  CHECK(take());
  CHECK_EQ(state.pace[state.paced - 1], 0); /* the user's own pace */
  int before = state.paced;
  take_to(HARD / 2);
  CHECK_EQ(state.paced, before);
  take_to(HARD / 4 * 3);
  CHECK_CMP(state.paced, >, before);
  CHECK_EQ(hak_arena_set_limit(a, 0, 2 * HARD), 0); /* far away now */
  CHECK_EQ(state.pace[state.paced - 1], 0);
  before = state.paced;
  CHECK_EQ(hak_arena_set_limit(a, 0, HARD), 0); /* acts now, not at the next request */
  CHECK_EQ(state.paced, before + 1);
  CHECK_CMP(state.pace[before], >, 100);
  give(0);
  end(a);
}

/* A large hole: the pace is given back although the charge has grown again since. */
TEST(collector_is_told_when_there_was_room) {
  hak_lua_binding b = a_binding();
  b.pace = pace;
  hak_arena *a = bound_arena(HARD, &b);
  take_to(HARD / 4 * 3);
  int before = state.paced;
  CHECK_CMP(before, >, 0);
  give(HARD / 4);
  void *p = hak_lua_alloc(a, NULL, 0, HARD / 2); /* crosses both marks in one step */
  CHECK(p != NULL);
  CHECK_EQ(state.pace[before], 0);
  CHECK_EQ(state.paced, before + 2);
  CHECK_CMP(state.pace[before + 1], >, 100);
  hak_lua_alloc(a, p, HARD / 2, 0);
  give(0);
  end(a);
}

/* LuaJIT may be in compiled code: it gets the memory, collects, and raises when that has not helped. */
TEST(compiled_code_is_asked_not_refused) {
  hak_lua_binding b = a_binding();
  b.pace = pace;
  b.raise = raise_error;
  hak_arena *a = bound_arena(HARD, &b);
  for (int again = 1; again <= 2; again++) {
    take_to(LINE);
    CHECK_EQ(state.raised[2], again - 1);
    int before = state.paced;
    CHECK(take());
    CHECK_CMP(stat_of(a, "charged"), >, LINE);
    CHECK_CMP(state.paced, >, before); /* collect */
    CHECK_EQ(state.raised[2], again - 1);
    take_to(HARD - HARD / 32);
    while (state.raised[2] < again) CHECK(take());
    CHECK_CMP(stat_of(a, "charged"), <=, HARD - HARD / 32 + BLOCK);
    CHECK_EQ(stat_of(a, "refusals"), (uint64_t)again);
    give(HARD / 4);
    CHECK(take());
  }
  CHECK_EQ(state.raised[1], 0);
  while (take()) {
  }
  CHECK_CMP(stat_of(a, "charged"), >, HARD - BLOCK); /* what is refused is what passes the limit */
  CHECK_EQ(state.raised[1], 1);
  give(0);
  end(a);
}

/* The last steps before the limit are smaller than what the line moves by. */
TEST(compiled_code_may_leap_over_the_line) {
  hak_lua_binding b = a_binding();
  b.pace = pace;
  b.raise = raise_error;
  hak_arena *a = bound_arena(HARD, &b);
  void *p = hak_lua_alloc(a, NULL, 0, HARD - 2 * BLOCK);
  CHECK(p != NULL);
  CHECK_EQ(state.raised[2], 0); /* collects first */
  CHECK(take());
  CHECK_EQ(state.raised[2], 1);
  hak_lua_alloc(a, p, HARD - 2 * BLOCK, 0);
  give(0);
  end(a);
}

TEST(no_limit_no_pace) {
  hak_lua_binding b = a_binding();
  b.pace = pace;
  b.raise = raise_error;
  hak_arena *a = bound_arena(0, &b);
  take_to(HARD);
  CHECK_EQ(state.paced, 0);
  CHECK_EQ(state.raised[0] + state.raised[1] + state.raised[2], 0);
  CHECK(hak_lua_alloc(a, NULL, 0, SIZE_MAX / 4) == NULL); /* no limit refuses it */
  CHECK_EQ(stat_of(a, "refusals"), 0);
  give(0);
  end(a);
}

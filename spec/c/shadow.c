/* shadow.c - random operations of the whole API against a shadow that knows better.
 * Why:   the oracle keeps every live block's address, size and contents by itself: what hakmem
 *        returns must be disjoint, aligned, intact, and counted exactly.
 * Args:  environment SHADOW_SEED repeats one run, SHADOW_OPS lengthens it.
 * Start: step(). */
#include "check.h"
#if HAK_FAULT
#include "os/os.h"
#endif

enum { ARENAS = 6, BLOCKS = 1500 };
enum door { BY_ARENA, BY_LUA }; /* a block goes back through the door it came from */

struct block {
  char *p;
  size_t size, usable; /* usable == size for BY_LUA */
  uint64_t tag;
  int arena;
  enum door door;
};
struct shadow_arena {
  hak_arena *a; /* slot 0: the default arena, never destroyed */
  int kind;
  size_t hard, blocks, allocated; /* allocated: of BY_ARENA blocks */
  size_t lua_bytes;
  int pins;
};

static struct block block[BLOCKS];
static struct shadow_arena arena[ARENAS];
static uint64_t seed, ops;
static bool failing; /* the system may say no at any time */

/* Live blocks by address, for overlaps: sorted lazily, checked in whole. */
static int by_address(const void *a, const void *b) {
  const struct block *x = *(struct block *const *)a, *y = *(struct block *const *)b;
  return x->p < y->p ? -1 : x->p > y->p;
}
static void check_disjoint(void) {
  static struct block *order[BLOCKS];
  size_t n = 0;
  for (int i = 0; i < BLOCKS; i++)
    if (block[i].p != NULL) order[n++] = &block[i];
  qsort(order, n, sizeof order[0], by_address);
  for (size_t i = 1; i < n; i++) CHECK(order[i - 1]->p + order[i - 1]->usable <= order[i]->p);
}

static void check_block(const struct block *b) { CHECK(intact(b->p, b->usable, b->tag)); }
static void check_arena(int i) {
  struct shadow_arena *s = &arena[i];
  if (s->a == NULL) return;
  CHECK_EQ(stat_of(s->a, "blocks"), s->blocks);
  uint64_t allocated = stat_of(s->a, "allocated");
  CHECK_CMP(allocated, >=, s->allocated + s->lua_bytes);
  if (s->lua_bytes == 0) CHECK_EQ(allocated, s->allocated);
  CHECK_CMP(stat_of(s->a, "allocated"), <=, stat_of(s->a, "active"));
  uint64_t charged = stat_of(s->a, "charged");
  if (s->hard != 0) CHECK_CMP(charged, <=, s->hard);
  balanced(s->a);
}

/* The shadow forgets a block, or learns of it. */
static void forget(struct block *b) {
  struct shadow_arena *s = &arena[b->arena];
  s->blocks--;
  *(b->door == BY_LUA ? &s->lua_bytes : &s->allocated) -= b->usable;
  b->p = NULL;
}
static void learn(struct block *b, char *p, size_t size, int where, enum door door) {
  struct shadow_arena *s = &arena[where];
  CHECK_EQ((uintptr_t)p % (door == BY_LUA ? 8 : 16), 0);
  *b = (struct block){p, size, size, ops, where, door};
  if (door == BY_ARENA) {
    b->usable = hak_usable_size(p);
    CHECK_CMP(b->usable, >=, size);
  }
  CHECK(hak_owns(p) && hak_owns(p + size - (size > 0)));
  if (door == BY_ARENA) CHECK(hak_arena_of(p) == s->a);
  s->blocks++;
  *(door == BY_LUA ? &s->lua_bytes : &s->allocated) += b->usable;
  fill(p, b->usable, b->tag);
}

static void make(struct block *b) {
  int where = (int)below(&seed, ARENAS);
  struct shadow_arena *s = &arena[where];
  if (s->a == NULL) return;
  size_t size = log_size(&seed, below(&seed, 40) ? 6000 : below(&seed, 10) ? 400000 : 10 * MIB);
  if (below(&seed, 50) == 0) size = 0;
  size_t align = 16;
  char *p;
  enum door door = BY_ARENA;
  switch (below(&seed, 8)) {
    case 0:
      p = where ? hak_arena_calloc(s->a, size, 1) : hak_calloc(1, size);
      CHECK(p == NULL || all_zero(p, size));
      break;
    case 1:
      align = (size_t)16 << below(&seed, below(&seed, 20) ? 9 : 19);
      p = where ? hak_arena_aligned_alloc(s->a, align, size) : hak_aligned_alloc(align, size);
      break;
    case 2:
    case 3:
    case 4:
      size += size == 0;
      door = BY_LUA;
      p = hak_lua_alloc(s->a, NULL, below(&seed, 9), size);
      break;
    case 5: p = where ? hak_arena_realloc(s->a, NULL, size) : hak_malloc_site(size, seed); break;
    default: p = where ? hak_arena_alloc(s->a, size) : hak_malloc(size);
  }
  if (p == NULL) {
    CHECK(s->hard != 0 || failing);
    return;
  }
  if (door == BY_ARENA) CHECK_EQ((uintptr_t)p % align, 0);
  learn(b, p, size, where, door);
}

static void drop(struct block *b) {
  check_block(b);
  hak_arena *a = arena[b->arena].a;
  if (b->door == BY_LUA)
    CHECK(hak_lua_alloc(a, b->p, b->size, 0) == NULL);
  else
    switch (below(&seed, 4)) {
      case 0: hak_free(b->p); break;
      case 1: hak_free_sized(b->p, b->size); break;
      case 2: hak_arena_free_sized(a, b->p, b->size); break;
      default: hak_arena_free(a, b->p);
    }
  forget(b);
}

static void resize(struct block *b) {
  check_block(b);
  struct block old = *b;
  hak_arena *a = arena[b->arena].a;
  size_t size = below(&seed, 2) ? 1 + below(&seed, 2 * b->size + 16)
                                : log_size(&seed, below(&seed, 30) ? 20000 : 8 * MIB);
  char *p = b->door == BY_LUA ? hak_lua_alloc(a, b->p, b->size, size)
            : below(&seed, 2) ? hak_realloc(b->p, size)
                              : hak_arena_realloc(a, b->p, size);
  if (p == NULL) {
    CHECK((arena[b->arena].hard != 0 || failing) && size > b->size);
    check_block(b);
    return;
  }
  CHECK(intact_part(p, old.size < size ? old.size : size, old.usable, old.tag));
  forget(b);
  learn(b, p, size, old.arena, old.door);
}

static void forget_arena(int i) {
  for (int k = 0; k < BLOCKS; k++)
    if (block[k].p != NULL && block[k].arena == i) forget(&block[k]);
  CHECK(arena[i].blocks == 0 && arena[i].allocated == 0 && arena[i].lua_bytes == 0);
}

static void change_arena(int i) {
  struct shadow_arena *s = &arena[i];
  if (i == 0) {
    if (below(&seed, 4))
      hak_trim();
    else
      hak_shutdown();
    return;
  }
  if (s->a == NULL) {
    s->kind = (int)below(&seed, 2);
    s->hard = below(&seed, 3) ? 0 : (size_t)1 << (18 + below(&seed, 6));
    hak_arena_config config = {.kind = s->kind, .hard = s->hard};
    s->a = hak_arena_create(&config);
    CHECK(s->a != NULL || failing);
    return;
  }
  switch (below(&seed, 8)) {
    case 0:
      CHECK_EQ(hak_arena_reset(s->a), s->pins ? EBUSY : 0);
      if (!s->pins) forget_arena(i);
      break;
    case 1: {
      hak_arena_id id = hak_arena_get_id(s->a);
      CHECK_EQ(hak_arena_destroy(s->a), s->pins ? EBUSY : 0);
      if (s->pins) break;
      CHECK(hak_arena_from_id(id) == NULL);
      forget_arena(i);
      s->a = NULL;
      break;
    }
    case 2: s->pins = s->pins ? s->pins - !hak_arena_unpin(s->a) : !hak_arena_pin(s->a); break;
    case 3:
      s->hard = 0;
      CHECK_EQ(hak_arena_set_limit(s->a, 0, 0), 0);
      break;
    case 4:
      s->hard = stat_of(s->a, "charged") + below(&seed, MIB);
      CHECK_EQ(hak_arena_set_limit(s->a, s->hard / 2, s->hard), 0);
      break;
    default: CHECK_EQ(hak_arena_trim(s->a), 0);
  }
}

static void step(void) {
  struct block *b = &block[below(&seed, BLOCKS)];
  ops++;
  if (below(&seed, 300) == 0)
    change_arena((int)below(&seed, ARENAS));
  else if (b->p == NULL)
    make(b);
  else if (below(&seed, 3) == 0)
    resize(b);
  else
    drop(b);
  if (ops % 64 == 0) check_arena((int)below(&seed, ARENAS));
  if (ops % 2048 == 0) {
    check_disjoint();
    balanced(NULL);
    for (int i = 0; i < BLOCKS; i++)
      if (block[i].p != NULL) check_block(&block[i]);
#if CHECK_AUDIT
    CHECK(haki_audit());
#endif
  }
}

static void finish_run(void) {
  for (int i = 0; i < BLOCKS; i++)
    if (block[i].p != NULL) drop(&block[i]);
  for (int i = 0; i < ARENAS; i++) {
    check_arena(i);
    if (i == 0 || arena[i].a == NULL) continue;
    while (arena[i].pins > 0) arena[i].pins -= !hak_arena_unpin(arena[i].a);
    CHECK_EQ(hak_arena_destroy(arena[i].a), 0);
  }
  hak_trim();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "allocated"), 0);
  CHECK_EQ(stat_of(NULL, "cached"), 0);
  CHECK_EQ(stat_of(NULL, "arena.live"), 1);
  balanced(NULL);
}

static void run_seed(uint64_t first) {
  const char *given = getenv("SHADOW_SEED"), *length = getenv("SHADOW_OPS");
  seed = given ? strtoull(given, NULL, 0) : first;
  arena[0].a = hak_arena_default();
  uint64_t most = length ? strtoull(length, NULL, 0) : rounds(300000, 25000);
  while (ops < most) step();
  finish_run();
}

TEST(shadow_1) { run_seed(1); }
TEST(shadow_2) { run_seed(2); }
TEST(shadow_3) { run_seed(3); }
TEST(shadow_4) { run_seed(4); }

/* Purge at once, no slab kept, tiny refills: the rare paths are common. */
TEST(shadow_with_hostile_knobs) {
  CHECK_EQ(set_knob("purge.decay", "0") | set_knob("small.keep", "0") |
               set_knob("small.refill", "256") | set_knob("small.relink", "1024"),
           0);
  run_seed(5);
}
TEST(shadow_without_remap_or_nursery) {
  CHECK_EQ(set_knob("large.remap", "off") | set_knob("arena.nursery", "0") |
               set_knob("purge.mode", "free") | set_knob("arena.retain", "1M"),
           0);
  run_seed(6);
}
TEST(shadow_with_a_large_nursery) {
  CHECK_EQ(set_knob("arena.nursery", "1M") | set_knob("os.hugepages", "on"), 0);
  run_seed(7);
}

#if HAK_FAULT
static void run_failing(uint32_t first, uint32_t one_in) {
  failing = true;
  haki_fault_random(HAK_FAULT_ALL, first, one_in);
  arena[0].a = hak_arena_default();
  for (seed = first; ops < rounds(300000, 25000);) step();
  haki_fault_disarm();
  CHECK_CMP(haki_fault_hits(), >, 10);
  finish_run();
}
TEST(shadow_with_rare_failures) { run_failing(8, 100); }
TEST(shadow_with_many_failures) { run_failing(9, 3); }
#endif

TEST(shadow_of_a_new_seed) { /* another one each day; SHADOW_SEED repeats it */
  uint64_t today = (uint64_t)time(NULL) / 86400;
  run_seed(today);
}

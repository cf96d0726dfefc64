/* l25_stats.c - what the pool of large blocks counts by class.
 * Why:   live blocks are not counted one by one, but follow from what threads took and gave; each way
 *        that a block may go has to be in the sum.
 * Not:   the other statistics (stats.c, l25.c), their layout in reports (report.c).
 * Start: every_way_of_a_block_counts. */
#include "check.h"

#include "heap/arena.h"
#include "heap/heap.h"
#include "pool/l25.h"

static hak_l25_class_stat now[HAK_L25_CLASSES];
static size_t classes;
static void note(const hak_l25_class_stat *c, void *ud) {
  CHECK(ud == now);
  CHECK_CMP(classes, <, HAK_L25_CLASSES);
  if (classes != 0) CHECK_CMP(c->size, >, now[classes - 1].size); /* each once, rising */
  CHECK_CMP(c->ops, >, 0);
  now[classes++] = *c;
}

static void look(hak_arena *a) {
  classes = 0;
  hak_l25_class_stats(a, note, now);
}

/* The class for blocks of `pages` pages, all 0 when nobody has asked for one. */
static hak_l25_class_stat of(hak_arena *a, size_t pages) {
  look(a);
  for (size_t i = 0; i < classes; i++)
    if (now[i].size == pages * HAK_PAGE_SIZE) return now[i];
  return (hak_l25_class_stat){0, 0, 0, 0};
}

#define EXPECT(a, pages, live, free, taken)   \
  do {                                        \
    hak_l25_class_stat it = of((a), (pages)); \
    CHECK_EQ(it.blocks, (live));              \
    CHECK_EQ(it.cached, (free));              \
    CHECK_EQ(it.ops, (taken));                \
  } while (0)

/* The sums are those of the other statistics, and what the descriptors say. */
static void adds_up(hak_arena *a) {
  uint64_t blocks = 0, ops = 0, room = 0;
  look(a);
  for (size_t i = 0; i < classes; i++) {
    blocks += now[i].blocks;
    ops += now[i].ops;
    room += now[i].cached * now[i].size;
  }
  CHECK_EQ(blocks, stat_of(a, "large.blocks"));
  CHECK_EQ(blocks, stat_of(a, "blocks"));
  CHECK_EQ(ops, stat_of(a, "l25.ops"));
  CHECK_EQ(ops, stat_of(a, "large.allocs"));
  CHECK_CMP(stat_of(a, "l25.cached"), <=, room);
  CHECK_CMP(stat_of(a, "l25.hits"), <=, ops);
  balanced(a);
  CHECK(haki_audit());
}

static void *frees(void *p) {
  hak_free(p);
  return NULL;
}

enum { MANY = 40 };

TEST(every_way_of_a_block_counts) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  void *p[MANY];
  look(a);
  CHECK_EQ(classes, 0); /* nobody has asked */
  for (int i = 0; i < MANY; i++) CHECK((p[i] = hak_arena_alloc(a, 3 * HAK_PAGE_SIZE - 7)) != NULL);
  EXPECT(a, 3, MANY, 0, MANY);
  for (int i = 0; i < MANY / 2; i++) hak_free(p[i]); /* ring, LIFO, shard */
  EXPECT(a, 3, MANY / 2, MANY / 2, MANY);
  adds_up(a);
  finish(start(frees, p[20])); /* to the inbound stack */
  EXPECT(a, 3, MANY / 2 - 1, MANY / 2 + 1, MANY);
  CHECK_EQ(hak_arena_trim(a), 0);
  EXPECT(a, 3, MANY / 2 - 1, 0, MANY);
  CHECK((p[0] = hak_arena_alloc(a, HAK_PAGE_SIZE)) != NULL);
  EXPECT(a, 1, 1, 0, 1);
  hak_free(p[0]);
  CHECK_EQ(hak_arena_alloc(a, HAK_PAGE_SIZE), p[0]); /* what was just freed */
  EXPECT(a, 1, 1, 0, 2);
  CHECK_EQ(classes, 2);
  adds_up(a);
  CHECK_EQ(hak_arena_reset(a), 0);
  EXPECT(a, 3, 0, 0, MANY);
  EXPECT(a, 1, 0, 0, 2);
  adds_up(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
  look(a);
  CHECK_EQ(classes, 0);
  EXPECT(NULL, 3, 0, 0, MANY); /* what it counted stays */
  adds_up(NULL);
}

TEST(a_block_that_changes_its_size_changes_its_class) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  char *p = hak_arena_alloc(a, 8 * HAK_PAGE_SIZE);
  EXPECT(a, 8, 1, 0, 1);
  CHECK(hak_arena_realloc(a, p, 2 * HAK_PAGE_SIZE) == p); /* in place */
  EXPECT(a, 8, 0, 0, 1);
  look(a);
  CHECK_EQ(classes, 1); /* nobody was given one of the other class */
  CHECK(haki_audit());
  CHECK(hak_arena_realloc(a, p, 5 * HAK_PAGE_SIZE) == p); /* again, and back */
  hak_free(p);
  CHECK(haki_audit());
  CHECK(hak_arena_alloc(a, 5 * HAK_PAGE_SIZE) == p);
  EXPECT(a, 5, 1, 0, 1);
  adds_up(a);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(what_a_limit_refuses_is_not_counted) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 30 * HAK_PAGE_SIZE);
  void *p = hak_arena_alloc(a, 16 * HAK_PAGE_SIZE), *q = hak_arena_alloc(a, 12 * HAK_PAGE_SIZE);
  CHECK(p != NULL && q != NULL);
  CHECK(hak_arena_alloc(a, 4 * HAK_PAGE_SIZE) == NULL);
  EXPECT(a, 4, 0, 0, 0);
  EXPECT(a, 16, 1, 0, 1);
  hak_free(p); /* near the limit: not kept */
  hak_free(q);
  EXPECT(a, 16, 0, 0, 1);
  adds_up(a);
  CHECK_EQ(stat_of(a, "large.allocs"), 2);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

static hak_arena *place;
static _Atomic(void *) slot[32];
static void *exchanger(void *number) { /* all sizes; frees what others made; resizes */
  uint64_t seed = (uintptr_t)number;
  for (size_t i = 0; i < rounds(20000, 2000); i++) {
    void *p = atomic_exchange(&slot[below(&seed, 32)], NULL), *q;
    size_t size = HAK_PAGE_SIZE / 2 + 1 + below(&seed, HAK_L25_MAX - HAK_PAGE_SIZE / 2);
    if (p == NULL || below(&seed, 3) != 0) {
      hak_free(p);
      CHECK((p = hak_arena_alloc(place, size)) != NULL);
    } else {
      CHECK((p = hak_arena_realloc(place, p, size)) != NULL);
    }
    if ((q = atomic_exchange(&slot[below(&seed, 32)], p)) != NULL) hak_free(q);
  }
  return NULL;
}

TEST(many_threads_add_up) {
  CHECK_EQ(set_knob("l25.cache_bytes", "256KiB"), 0);
  place = arena_of_kind(HAK_ARENA_SHARED, 0);
#if HAK_FAULT
  haki_sched_seed(5);
#endif
  for (int life = 0; life < 3; life++) {
    pthread_t t[8];
    for (uintptr_t i = 0; i < 8; i++) t[i] = start(exchanger, (void *)(i + 8 * (size_t)life + 1));
    for (int i = 0; i < 8; i++) finish(t[i]);
    adds_up(place);
    look(place);
    CHECK_EQ(classes, HAK_L25_CLASSES);
    if (life == 0) continue;
    for (int i = 0; i < 32 && life == 2; i++) hak_free(atomic_exchange(&slot[i], NULL));
    for (int i = 0; i < 32; i++) atomic_store(&slot[i], NULL);
    CHECK_EQ(life == 1 ? hak_arena_reset(place) : hak_arena_trim(place), 0);
    adds_up(place);
    for (size_t i = 0; i < classes; i++) CHECK_EQ(now[i].blocks + now[i].cached, 0);
  }
  CHECK_EQ(hak_arena_destroy(place), 0);
  adds_up(NULL);
}

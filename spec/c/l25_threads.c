/* l25_threads.c - large blocks and threads: who comes and goes, who only frees, whose block it was.
 * Why:   a cache lost with its thread, or a block that never comes home, shows after days only.
 * Not:   what one thread sees of the pool (l25.c).
 * Start: a_hundred_thousand_threads_leave_nothing. */
#include "check.h"

#include "heap/arena.h"
#include "map/chunk.h"
#include "map/region.h"
#include "pool/l25.h"

enum { BLOCK = 200000, CHARGE = 200704 };

static void knob(const char *name, const char *value) { CHECK_EQ(set_knob(name, value), 0); }

static pthread_barrier_t gate;
static void meet(void) { pthread_barrier_wait(&gate); }

static unsigned caches_ever(hak_arena *a) {
  unsigned n = 0;
  for (struct haki_l25_cache *c = a->pool->caches; c != NULL; c = c->next) n++;
  return n;
}

/* ---- threads come and go --------------------------------------------------------------------- */

enum { ABREAST = 4, SHELF = 32, TAKEN = 3, END = 256 };

struct parcel { /* the first bytes of a block that changes hands */
  uint64_t size, tag;
};
static _Atomic(struct parcel *) shelf[2][SHELF]; /* small ones, large ones */
static _Atomic(uint64_t) asked, from_the_dead;

static char *tail_of(struct parcel *p) { return (char *)p + p->size - END; }

static struct parcel *pack(size_t size, uint64_t tag) { /* both ends hold a payload */
  struct parcel *p = hak_malloc(size);
  CHECK(p != NULL);
  *p = (struct parcel){size, tag};
  fill(p + 1, END - sizeof *p, tag);
  fill(tail_of(p), END, ~tag);
  return p;
}

static void unpack(struct parcel *p) {
  if (p == NULL) return;
  CHECK(intact(p + 1, END - sizeof *p, p->tag));
  CHECK(intact(tail_of(p), END, ~p->tag));
  hak_free(p);
}

/* Leaves one small and one large block behind for a later thread, and frees what an earlier one left. */
static void *passer_by(void *number) {
  uint64_t seed = (uintptr_t)number, tag = seed << 8;
  struct parcel *mine[2][TAKEN];
  for (int large = 0; large < 2; large++)
    for (int i = 0; i < TAKEN; i++)
      mine[large][i] = pack(
          large ? 64 * KIB + below(&seed, 960 * KIB + 1) : 2 * END + below(&seed, 2000), tag++);
  atomic_fetch_add(&asked, TAKEN);
  for (int large = 0; large < 2; large++) {
    struct parcel *p = atomic_exchange(&shelf[large][below(&seed, SHELF)], mine[large][0]);
    if (p != NULL && p->tag >> 8 <= (uintptr_t)number - ABREAST)
      atomic_fetch_add(&from_the_dead, 1);
    unpack(p);
    for (int i = 1; i < TAKEN; i++) unpack(mine[large][i]);
  }
  return NULL;
}

static void clear_shelf(void) {
  for (int i = 0; i < 2 * SHELF; i++) unpack(atomic_exchange(&shelf[i % 2][i / 2], NULL));
}

/* ABREAST at a time: the n-th starts when the one ABREAST before it has gone. */
static void pass_by(size_t first, size_t last) {
  pthread_t t[ABREAST];
  for (size_t i = first; i < last + ABREAST; i++) {
    if (i >= first + ABREAST) finish(t[i % ABREAST]);
    if (i < last) t[i % ABREAST] = start(passer_by, (void *)(i + ABREAST));
  }
}

static void *stays_for_others(void *unused) {
  unpack(pack(BLOCK, 1));
  unpack(pack(1000, 1));
  meet();
  return unused;
}

/* What lies in metadata memory but for the descriptors of chunks: those are as many as were in use
 * at once, and where one with room for a block lies is chance. */
static size_t other_metadata(void) {
  size_t chunks = 0;
  for (uint32_t r = 0; r < haki_region_count; r++) chunks += haki_regions[r].fresh;
  return stat_of(NULL, "metadata") -
         chunks * (HAK_CHUNK_PAGES * sizeof(struct page) + sizeof(struct chunk) + 1);
}

/* Resident bytes when nothing is in use. */
static size_t at_rest(void) {
  clear_shelf();
  hak_trim();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "l25.cached"), 0);
  balanced(NULL);
  return resident();
}

TEST(a_hundred_thousand_threads_leave_nothing) {
  size_t warm = rounds(5000, 500), all = rounds(100000, 3000);
  hak_arena *a = hak_arena_default();
  knob("l25.dynamic", "off"); /* shards stay in use */
  pthread_barrier_init(&gate, NULL, ABREAST);
  pthread_t t[ABREAST];
  for (int i = 0; i < ABREAST; i++) t[i] = start(stays_for_others, NULL);
  for (int i = 0; i < ABREAST; i++) finish(t[i]);
  CHECK_EQ(caches_ever(a), ABREAST);
  uint64_t before = stat_of(NULL, "l25.ops");
  pass_by(0, warm);
  size_t rss = at_rest(), metadata = other_metadata();
  pass_by(warm, all);
  size_t rss_then = at_rest();
  if (!CHECK_SANITIZED) {
    printf("# %zu threads: resident memory grew by %ld KiB\n", all,
           ((long)rss_then - (long)rss) / 1024);
    CHECK_CMP(rss_then, <=, rss + MIB);
  }
  CHECK_EQ(other_metadata(), metadata);
  CHECK_EQ(caches_ever(a), ABREAST);                  /* those of the exited serve the next */
  CHECK_EQ(stat_of(NULL, "l25.ops") - before, asked); /* and what they counted stays */
  CHECK_CMP(from_the_dead, >, all / 2);
  CHECK_EQ(stat_of(NULL, "heaps.live"), 0);
  CHECK_EQ(stat_of(NULL, "heaps.orphans"), 0);
}

/* ---- one allocates, another frees ------------------------------------------------------------ */

enum { CROWD = 16 };
static void *crowd[CROWD];

static void take_crowd(void) {
  for (int i = 0; i < CROWD; i++) CHECK((crowd[i] = hak_malloc(BLOCK)) != NULL);
}
static void *free_crowd(void *unused) {
  for (int i = 0; i < CROWD; i++) hak_free(crowd[i]);
  return unused;
}
static bool is_one_of(void *const *set, void *p) {
  for (int i = 0; i < CROWD; i++)
    if (set[i] == p) return true;
  return false;
}
/* The crowd that is out now is the one that was. */
static void same_crowd(void *const *before) {
  for (int i = 0; i < CROWD; i++) CHECK(is_one_of(before, crowd[i]) && is_one_of(crowd, before[i]));
}

TEST(what_another_thread_frees_comes_home) {
  void *mine[CROWD];
  knob("l25.decay", "1h");
  take_crowd();
  memcpy(mine, crowd, sizeof mine);
  uint64_t charged = stat_of(NULL, "charged");
  for (size_t round = 1; round <= 50; round++) {
    finish(start(free_crowd, NULL)); /* it has no cache at all */
    CHECK_EQ(stat_of(NULL, "l25.cached"), CROWD * CHARGE);
    take_crowd();
    same_crowd(mine);
    CHECK_EQ(stat_of(NULL, "l25.remote_frees"), round * CROWD);
    CHECK_EQ(stat_of(NULL, "charged"), charged);
  }
  free_crowd(NULL);
}

static void *takes_and_exits(void *unused) {
  take_crowd();
  return unused;
}

TEST(what_an_exited_thread_had_serves_others) {
  void *its[CROWD];
  knob("l25.decay", "1h");
  finish(start(takes_and_exits, NULL));
  memcpy(its, crowd, sizeof its);
  for (int round = 0; round < 50; round++) {
    free_crowd(NULL); /* nobody's cache is their home: to the shards */
    CHECK_EQ(stat_of(NULL, "l25.cached"), CROWD * CHARGE);
    finish(start(takes_and_exits, NULL));
    same_crowd(its);
  }
  CHECK_EQ(stat_of(NULL, "peak"), CROWD * CHARGE);
  free_crowd(NULL);
}

static size_t blocks_in_own_cache(void) {
  struct haki_l25_cache *c = haki_arena_cache(hak_arena_default(), false);
  size_t n = 0;
  for (int k = 0; c != NULL && k < HAK_L25_CLASSES; k++)
    n += c->cls[k].ring.n + c->cls[k].lifo_count + c->cls[k].batched;
  return n;
}

static void *only_frees(void *waves) {
  hak_free(hak_malloc(BLOCK)); /* so that it has a cache */
  CHECK_EQ(blocks_in_own_cache(), 1);
  for (uintptr_t i = 0; i < (uintptr_t)waves; i++) {
    meet();
    free_crowd(NULL);
    CHECK_CMP(blocks_in_own_cache(), <=, 1);
    meet();
  }
  return NULL;
}

/* However many it frees: the peak is what was out at once, and some on the way. */
TEST(a_thread_that_only_frees_keeps_nothing) {
  size_t waves = rounds(2000, 300);
  pthread_barrier_init(&gate, NULL, 2);
  pthread_t t = start(only_frees, (void *)waves);
  for (size_t i = 0; i < waves; i++) {
    take_crowd();
    meet();
    meet();
    CHECK_EQ(stat_of(NULL, "large.blocks"), 0);
  }
  finish(t);
  CHECK_CMP(stat_of(NULL, "peak"), <=, 2 * CROWD * CHARGE);
  CHECK_CMP(stat_of(NULL, "l25.remote_frees"), >=, (waves - 1) * CROWD);
}

static hak_arena *narrow;
static void *takes_and_waits(void *unused) {
  for (int i = 0; i < CROWD; i++) CHECK((crowd[i] = hak_arena_alloc(narrow, BLOCK)) != NULL);
  meet();
  meet();
  return unused;
}

/* What was freed for a thread that does not come for it is not lost to the others' limit. */
TEST(a_limit_counts_nothing_that_waits_for_an_idle_thread) {
  narrow = arena_of_kind(HAK_ARENA_SHARED, (CROWD + 1) * CHARGE);
  pthread_barrier_init(&gate, NULL, 2);
  pthread_t t = start(takes_and_waits, NULL);
  meet();
  for (int round = 0; round < 3; round++) {
    free_crowd(NULL);
    for (int i = 0; i < CROWD; i++) CHECK((crowd[i] = hak_arena_alloc(narrow, BLOCK)) != NULL);
  }
  free_crowd(NULL);
  CHECK_EQ(hak_arena_trim(narrow), 0);
  CHECK_EQ(stat_of(narrow, "charged"), 0);
  meet();
  finish(t);
  CHECK_EQ(hak_arena_destroy(narrow), 0);
}

/* ---- an arena goes while its idle threads trim or exit --------------------------------------- */

static hak_arena *scene;

static void *onlooker(void *number) { /* it does not use the arena any more: only a cache is left */
  for (int i = 0; i < CROWD; i++) CHECK((crowd[i] = hak_arena_alloc(scene, BLOCK)) != NULL);
  free_crowd(NULL);
  meet();
  if ((uintptr_t)number % 2 == 0) hak_trim();
  return NULL;
}

TEST(reset_and_destroy_while_others_trim_or_exit) {
  pthread_barrier_init(&gate, NULL, 2);
  scene = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (uintptr_t i = 0; i < rounds(3000, 300); i++) {
#if CHECK_AUDIT || HAK_FAULT
    haki_sched_seed((uint32_t)i + 1);
#endif
    pthread_t t = start(onlooker, (void *)i);
    struct parcel *p[CROWD];
    meet();
    if (i % 4 < 2) {
      CHECK_EQ(hak_arena_reset(scene), 0);
    } else {
      CHECK_EQ(hak_arena_destroy(scene), 0);
      scene = arena_of_kind(HAK_ARENA_SHARED, 0);
    }
    for (int k = 0; k < CROWD; k++) { /* what was there before serves once */
      p[k] = hak_arena_alloc(k % 2 ? scene : hak_arena_default(), BLOCK);
      CHECK(p[k] != NULL);
      *p[k] = (struct parcel){BLOCK, (uint64_t)k + 1};
      fill(p[k] + 1, END - sizeof *p[k], (uint64_t)k + 1);
      fill(tail_of(p[k]), END, ~((uint64_t)k + 1));
    }
    finish(t);
    for (int k = 0; k < CROWD; k++) unpack(p[k]);
    CHECK_EQ(hak_arena_trim(scene), 0);
    CHECK_EQ(stat_of(scene, "charged"), 0);
  }
  CHECK_EQ(hak_arena_destroy(scene), 0);
  balanced(NULL);
}

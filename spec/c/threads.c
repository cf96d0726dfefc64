/* threads.c - many threads on shared arenas: remote frees, exits in every order, late frees.
 * Why:   FACTS of other allocators: hoarding by threads that only free, caches born again in
 *        thread-exit destructors, pages adopted across arenas.
 * Not:   forks (fork.c), limits (quota.c).
 * Start: mixed(). */
#include "check.h"
#if HAK_FAULT
#include "base/debug.h"
#endif

/* ---- mixed work with blocks that change hands ------------------------------------------------ */

enum { WORKERS = 8, TABLE = 2048 };
struct parcel { /* the first bytes of every block that changes hands */
  uint64_t size, tag;
};
static _Atomic(struct parcel *) table[TABLE];
static hak_arena *arenas[4]; /* NULL: the default arena */

static struct parcel *pack(uint64_t *seed) {
  size_t size = sizeof(struct parcel) + log_size(seed, below(seed, 64) ? 4000 : 300000);
  hak_arena *a = arenas[below(seed, 4)];
  struct parcel *p;
  switch (below(seed, 6)) {
    case 0: p = a ? hak_arena_calloc(a, 1, size) : hak_calloc(size, 1); break;
    case 1: p = a ? hak_arena_aligned_alloc(a, 64, size) : hak_aligned_alloc(256, size); break;
    default: p = a ? hak_arena_alloc(a, size) : hak_malloc(size);
  }
  CHECK(p != NULL);
  p->size = size;
  p->tag = rnd(seed);
  fill(p + 1, size - sizeof *p, p->tag);
  return p;
}
static void check_parcel(const struct parcel *p) {
  CHECK(intact(p + 1, p->size - sizeof *p, p->tag));
}
static void unpack(struct parcel *p, uint64_t *seed) {
  check_parcel(p);
  hak_arena *owner = hak_arena_of(p);
  CHECK(owner != NULL);
  if (below(seed, 2))
    hak_free(p);
  else
    hak_arena_free(owner, p);
}

static void *mixed(void *id) {
  uint64_t seed = (uintptr_t)id;
  for (size_t i = 0; i < rounds(150000, 8000); i++) {
    _Atomic(struct parcel *) *slot = &table[below(&seed, TABLE)];
    struct parcel *p = below(&seed, 3) ? pack(&seed) : NULL;
    p = atomic_exchange(slot, p);
    if (p == NULL) continue;
    if (below(&seed, 8) == 0) { /* resized by whoever holds it */
      check_parcel(p);
      size_t size = sizeof *p + log_size(&seed, 5000), old = p->size;
      p = hak_realloc(p, size);
      size_t kept = (old < size ? old : size) - sizeof *p;
      CHECK(intact_part(p + 1, kept, old - sizeof *p, p->tag));
      p->size = size;
      fill(p + 1, size - sizeof *p, p->tag);
    }
    unpack(p, &seed);
  }
  return NULL;
}

static void clear_table(void) {
  uint64_t seed = 1;
  for (int i = 0; i < TABLE; i++) {
    struct parcel *p = atomic_exchange(&table[i], NULL);
    if (p != NULL) unpack(p, &seed);
  }
}

TEST(blocks_change_hands) {
  for (int i = 1; i < 4; i++) arenas[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (int round = 0; round < 2; round++) {
    pthread_t t[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++) t[i] = start(mixed, (void *)(i + 1));
    for (int i = 0; i < WORKERS; i++) finish(t[i]);
    clear_table();
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
    CHECK_EQ(stat_of(NULL, "allocated"), 0);
    balanced(NULL);
  }
  for (int i = 1; i < 4; i++) {
    balanced(arenas[i]);
    CHECK_EQ(hak_arena_destroy(arenas[i]), 0);
  }
}

/* ---- exit in every order --------------------------------------------------------------------- */

static void *leaver(void *seed_word) { /* leaves half its blocks to others, and exits */
  uint64_t seed = (uintptr_t)seed_word;
  for (int i = 0; i < 300; i++) {
    struct parcel *p = atomic_exchange(&table[below(&seed, TABLE)], pack(&seed));
    if (p != NULL) unpack(p, &seed);
  }
  return NULL;
}

TEST(threads_come_and_go) {
  for (int i = 1; i < 4; i++) arenas[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  size_t waves = rounds(1200, 60), rss = 0;
  uint64_t mapped = 0;
  for (size_t wave = 0; wave < waves; wave++) { /* 4,800 threads, four at a time */
    pthread_t t[4];
    for (int i = 0; i < 4; i++) t[i] = start(leaver, (void *)(wave * 4 + i + 1));
    for (int i = 0; i < 4; i++) finish(t[wave % 2 ? i : 3 - i]);
    if (wave == waves / 5) rss = resident(), mapped = stat_of(NULL, "mapped");
  }
  CHECK_CMP(stat_of(NULL, "mapped"), <=, mapped + mapped / 2 + 16 * MIB);
  if (!CHECK_SANITIZED) CHECK_CMP(resident(), <=, rss + rss / 2 + 16 * MIB);
  clear_table();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  hak_trim();
  balanced(NULL);
  for (int i = 1; i < 4; i++) CHECK_EQ(hak_arena_destroy(arenas[i]), 0);
  CHECK_CMP(stat_of(NULL, "heaps.live"), <=, 1);
  CHECK_EQ(stat_of(NULL, "heaps.orphans"), 0);
}

/* Owner and freer die in each order; the blocks are whole until the last free. */
static struct parcel *gift[1000];
static void *give(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (int i = 0; i < 1000; i++) gift[i] = pack(&seed);
  return NULL;
}
static void *take_odd(void *unused) {
  uint64_t seed = 2;
  for (int i = 1; i < 1000; i += 2) unpack(gift[i], &seed);
  return unused;
}
static void *take_even(void *unused) {
  uint64_t seed = 3;
  for (int i = 0; i < 1000; i += 2) unpack(gift[i], &seed);
  return unused;
}
static pthread_barrier_t gate;
static void *give_and_wait(void *seed_word) {
  give(seed_word);
  pthread_barrier_wait(&gate); /* filled */
  pthread_barrier_wait(&gate); /* freed elsewhere */
  uint64_t seed = (uintptr_t)seed_word + 77;
  struct parcel *p = pack(&seed); /* collects what came in */
  unpack(p, &seed);
  return NULL;
}

TEST(owner_and_freer_exit_in_every_order) {
  for (int i = 1; i < 4; i++) arenas[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_barrier_init(&gate, NULL, 2);
  for (uintptr_t round = 1; round < rounds(40, 10); round++) {
    finish(start(give, (void *)round)); /* the owner is gone before the first free */
    finish(start(take_odd, NULL));
    finish(start(take_even, NULL));
    pthread_t owner = start(give_and_wait, (void *)round); /* the owner outlives the freers */
    pthread_barrier_wait(&gate);
    finish(start(take_even, NULL));
    take_odd(NULL);
    pthread_barrier_wait(&gate);
    finish(owner);
    pthread_t racer = start(give_and_wait, (void *)round); /* both at once */
    pthread_barrier_wait(&gate);
    pthread_t freer = start(take_even, NULL);
    pthread_barrier_wait(&gate);
    finish(racer);
    finish(freer);
    take_odd(NULL);
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
  }
  for (int i = 1; i < 4; i++) CHECK_EQ(hak_arena_destroy(arenas[i]), 0);
}

/* One thread resets and destroys arenas in which others have heaps; those go on with others. */
static hak_arena *stage[3];
static pthread_barrier_t curtain;
static void *actor(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t act = 0; act < rounds(200, 30); act++) {
    for (int i = 0; i < 200; i++) {
      size_t size = log_size(&seed, 20000);
      char *p = hak_arena_alloc(stage[i % 3], size);
      CHECK(p != NULL);
      fill(p, size, i);
      CHECK(intact(p, size, i));
      if (i % 4 == 0) hak_arena_free(stage[i % 3], p);
    }
    pthread_barrier_wait(&curtain); /* all are still */
    pthread_barrier_wait(&curtain); /* the stage is set anew */
  }
  return NULL;
}
TEST(reset_and_destroy_under_idle_threads) {
  enum { ACTORS = 4 };
  pthread_barrier_init(&curtain, NULL, ACTORS + 1);
  for (int i = 0; i < 3; i++) stage[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t[ACTORS];
  for (uintptr_t i = 0; i < ACTORS; i++) t[i] = start(actor, (void *)(i + 1));
  for (size_t act = 0; act < rounds(200, 30); act++) {
    pthread_barrier_wait(&curtain);
    CHECK_CMP(stat_of(stage[0], "blocks"), >, 0);
    CHECK_EQ(hak_arena_reset(stage[0]), 0);
    CHECK_EQ(stat_of(stage[0], "blocks"), 0);
    CHECK_EQ(stat_of(stage[0], "charged"), 0);
    CHECK_EQ(hak_arena_destroy(stage[1]), 0);
    stage[1] = arena_of_kind(HAK_ARENA_SHARED, 0);
    if (act % 8 == 7) { /* the third one lives a little longer */
      CHECK_EQ(hak_arena_destroy(stage[2]), 0);
      stage[2] = arena_of_kind(HAK_ARENA_SHARED, 0);
    }
    pthread_barrier_wait(&curtain);
  }
  for (int i = 0; i < ACTORS; i++) finish(t[i]);
  for (int i = 0; i < 3; i++) CHECK_EQ(hak_arena_destroy(stage[i]), 0);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_CMP(stat_of(NULL, "heaps.live"), <=, 1);
  balanced(NULL);
}

/* Statistics and a trim of all that a thread has: it does not use an arena by that. */
static hak_arena *scene;
static void *props[2000];
static void *onlooker(void *unused) {
  uint64_t v[256];
  for (size_t act = 0; act < rounds(60, 30); act++) {
    for (size_t i = 0; i < HAK_COUNT_OF(props); i++) props[i] = hak_arena_alloc(scene, 200);
    pthread_barrier_wait(&curtain);
    pthread_barrier_wait(&curtain);
    if (act & 1)
      hak_stats_read(NULL, v, 256);
    else
      hak_trim();
    pthread_barrier_wait(&curtain);
  }
  return unused;
}
TEST(reset_and_destroy_while_others_look_on) {
  pthread_barrier_init(&curtain, NULL, 2);
  scene = arena_of_kind(HAK_ARENA_SHARED, 0);
  pthread_t t = start(onlooker, NULL);
  for (size_t act = 0; act < rounds(60, 30); act++) {
    pthread_barrier_wait(&curtain);
    for (size_t i = 0; i < 1500; i++) hak_arena_free(scene, props[i]);
    pthread_barrier_wait(&curtain);
    if (act % 4 < 2) {
      CHECK_EQ(hak_arena_reset(scene), 0);
    } else {
      CHECK_EQ(hak_arena_destroy(scene), 0);
      scene = arena_of_kind(HAK_ARENA_SHARED, 0);
    }
    pthread_barrier_wait(&curtain);
  }
  finish(t);
  CHECK_EQ(hak_arena_destroy(scene), 0);
  balanced(NULL);
}

#if HAK_FAULT
/* The schedule points yield by a seed: other orders than the scheduler's own. */
TEST(blocks_change_hands_by_seeded_schedules) {
  for (int i = 1; i < 4; i++) arenas[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (uint32_t seed = 1; seed <= 12; seed++) {
    haki_sched_seed(seed);
    pthread_t t[6];
    for (uintptr_t i = 0; i < 6; i++)
      t[i] = start(i % 3 ? leaver : mixed, (void *)(i + 1 + seed * 10));
    for (int i = 0; i < 20; i++) finish(start(leaver, (void *)(uintptr_t)(seed * 100 + i)));
    for (int i = 0; i < 6; i++) finish(t[i]);
    haki_sched_seed(0);
    clear_table();
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
#if CHECK_AUDIT
    CHECK(haki_audit());
#endif
  }
}
#endif

/* ---- late calls ------------------------------------------------------------------------------ */

static pthread_key_t keys[8];
static __thread unsigned again; /* times this thread has asked for another destructor round */
enum {
#if HAK_TSAN
  AGAIN_MOST = 1, /* in the last rounds ThreadSanitizer has left the thread already */
#else
  AGAIN_MOST = 1000,
#endif
};
static void late(void *value) { /* runs at thread exit, before or after hakmem's own destructor */
  struct parcel *p = value;
  uint64_t seed = p->tag;
  unpack(p, &seed);
  struct parcel *q = pack(&seed), *r = pack(&seed);
  r = hak_realloc(r, r->size); /* stays as it is */
  unpack(q, &seed);
  if (below(&seed, 2) && again++ < AGAIN_MOST) { /* and once more, in the next destructor round */
    CHECK_EQ(pthread_setspecific(keys[below(&seed, 8)], r), 0);
    return;
  }
  unpack(r, &seed);
}
static void *late_worker(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (int i = 0; i < 8; i++) pthread_setspecific(keys[i], pack(&seed));
  for (int i = 0; i < 50; i++) unpack(pack(&seed), &seed);
  return NULL;
}

TEST(late_frees_and_allocations) {
  for (int i = 0; i < 4; i++) CHECK_EQ(pthread_key_create(&keys[i], late), 0);
  for (int i = 1; i < 4; i++) arenas[i] = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (int i = 4; i < 8; i++) CHECK_EQ(pthread_key_create(&keys[i], late), 0); /* either side */
  for (uintptr_t i = 0; i < rounds(500, 60); i++) {
    pthread_t t = start(late_worker, (void *)(i * 2 + 1)), u = start(late_worker, (void *)(i * 2));
    finish(t);
    finish(u);
  }
  /* destructors stop after PTHREAD_DESTRUCTOR_ITERATIONS rounds; what they left is still counted */
  balanced(NULL);
  CHECK_CMP(stat_of(NULL, "blocks"), <, rounds(500, 60) * 2 * 8);
  for (int i = 1; i < 4; i++) CHECK_EQ(hak_arena_destroy(arenas[i]), 0);
  balanced(NULL);
}

static void *nothing(void *p) {
  hak_free(p); /* the only call this thread ever makes */
  return NULL;
}
TEST(a_thread_may_only_free) {
  for (size_t i = 0; i < rounds(2000, 200); i++) finish(start(nothing, hak_malloc(1 + i * 37)));
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
}

/* ---- one allocates, another frees ------------------------------------------------------------ */

static _Atomic(void *) lane[1024];
static _Atomic(bool) stop;
static size_t lane_size;
static void *consumer(void *unused) {
  for (size_t i = 0;; i = (i + 1) % 1024) {
    void *p = atomic_exchange(&lane[i], NULL);
    if (p != NULL)
      hak_free(p);
    else if (stop)
      return unused;
    else if (i == 0)
      sched_yield();
  }
}

TEST(a_freeing_thread_does_not_hoard) {
  static const size_t sizes[] = {64, 1000, 16000, 100000};
  for (size_t s = 0; s < HAK_COUNT_OF(sizes); s++) {
    lane_size = sizes[s];
    stop = false;
    pthread_t t = start(consumer, NULL);
    size_t total = rounds(512, 64) * MIB / lane_size; /* far more than may stay */
    if (total > 3000000) total = 3000000;
    for (size_t i = 0; i < total; i++) {
      char *p = hak_malloc(lane_size);
      CHECK(p != NULL);
      p[0] = 1;
      for (size_t spin = 0; (p = atomic_exchange(&lane[i % 1024], p)) != NULL; spin++)
        if (spin > 3) sched_yield();
    }
    CHECK_CMP(stat_of(NULL, "charged"), <=, 1024 * lane_size * 2 + 24 * MIB);
    stop = true;
    finish(t);
    for (int i = 0; i < 1024; i++) hak_free(atomic_exchange(&lane[i], NULL));
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
  }
}

static struct parcel *heap_of_gifts[30000];
static void *free_all(void *unused) {
  for (int i = 0; i < 30000; i++) hak_free(heap_of_gifts[i]);
  return unused;
}
TEST(remote_frees_return_memory) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < 30000; i++) heap_of_gifts[i] = hak_arena_alloc(a, 1024);
    CHECK_CMP(stat_of(a, "charged"), >=, 30000 * 1024);
    finish(start(free_all, NULL));
    hak_free(hak_arena_alloc(a, 1024)); /* the owner's next call finds them */
    hak_arena_trim(a);
    CHECK_EQ(stat_of(a, "blocks"), 0);
    CHECK_CMP(stat_of(a, "charged"), <=, 2 * MIB);
    balanced(a);
  }
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* ---- private arenas on the move -------------------------------------------------------------- */

static struct {
  pthread_mutex_t mutex;
  hak_arena *arena;
  void *block[256];
  size_t size[256];
} moving = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *mover(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t i = 0; i < rounds(4000, 500); i++) {
    pthread_mutex_lock(&moving.mutex); /* the only edge between the threads */
    for (int n = 0; n < 20; n++) {
      size_t k = below(&seed, 256), size = below(&seed, 4) ? log_size(&seed, 40000) : 0;
      if (moving.block[k]) CHECK(intact(moving.block[k], moving.size[k], k));
      void *p = hak_lua_alloc(moving.arena, moving.block[k], moving.size[k], 0);
      p = size ? hak_lua_alloc(moving.arena, p, 0, size) : p;
      CHECK(size == 0 || p != NULL);
      if (p != NULL) fill(p, size, k);
      moving.block[k] = p;
      moving.size[k] = size;
    }
    pthread_mutex_unlock(&moving.mutex);
  }
  return NULL;
}

TEST(private_arenas_move_between_threads) {
  moving.arena = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  pthread_t t[4];
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(mover, (void *)(i + 1));
  for (int i = 0; i < 200; i++) CHECK_CMP(stat_of(moving.arena, "blocks"), <=, 4096);
  for (int i = 0; i < 4; i++) finish(t[i]);
  CHECK_EQ(hak_arena_handover(moving.arena), 0); /* exact figures for us */
  for (int k = 0; k < 256; k++) hak_lua_alloc(moving.arena, moving.block[k], moving.size[k], 0);
  CHECK_EQ(stat_of(moving.arena, "blocks"), 0);
  CHECK_EQ(hak_arena_destroy(moving.arena), 0);
}

static void *arena_churn(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t i = 0; i < rounds(3000, 300); i++) {
    hak_arena *a = arena_of_kind((int)below(&seed, 2), 0);
    hak_arena_id id = hak_arena_get_id(a);
    char *p = hak_lua_alloc(a, NULL, 0, 1 + below(&seed, 3000)), *q = hak_arena_alloc(a, 50000);
    CHECK(p != NULL && q != NULL);
    CHECK(hak_arena_from_id(id) == a && hak_arena_of(q) == a);
    if (below(&seed, 2)) CHECK_EQ(hak_arena_reset(a), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
    CHECK(hak_arena_from_id(id) == NULL);
  }
  return NULL;
}
TEST(arenas_are_made_and_destroyed_by_all) {
  pthread_t t[6];
  for (uintptr_t i = 0; i < 6; i++) t[i] = start(arena_churn, (void *)(i + 1));
  for (int i = 0; i < 100; i++) hak_trim();
  for (int i = 0; i < 6; i++) finish(t[i]);
  CHECK_EQ(stat_of(NULL, "arena.live"), 1);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
}

TEST(trim_and_shutdown_among_threads) {
  pthread_t t[4];
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(mixed, (void *)(i + 1));
  for (int i = 0; i < 60; i++) {
    hak_trim();
    if (i % 8 == 0) hak_shutdown();
  }
  for (int i = 0; i < 4; i++) finish(t[i]);
  clear_table();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
}

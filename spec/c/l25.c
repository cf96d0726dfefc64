/* l25.c - the pool of large blocks at work: knobs, statistics, charges, sizes, threads.
 * Why:   a free block lies in a ring, a list, a batch, a shard or on its way: each must give it
 *        back.
 * Not:   shards by themselves (shards.c), the limits of an arena (quota.c).
 * Start: free_blocks_are_charged_and_cached. */
#include "check.h"

#include "heap/arena.h"
#include "pool/l25.h"

enum { BLOCK = 200000, CHARGE = 200704, C = 3 /* its class: 4 pages */ };

static void knob(const char *name, const char *value) { CHECK_EQ(set_knob(name, value), 0); }

static void eager(void) {
  knob("l25.check_interval", "0");
  knob("l25.contention_threshold", "1");
}

static _Atomic(bool) stop;

/* ---- knobs, in a pool at work ---------------------------------------------------------------- */

static hak_arena *shared(void) { return arena_of_kind(HAK_ARENA_SHARED, 0); }

/* n blocks in use at once, then all free. */
static void wave(hak_arena *a, size_t n, size_t size) {
  void *p[64];
  for (size_t i = 0; i < n; i++) CHECK((p[i] = hak_arena_alloc(a, size)) != NULL);
  for (size_t i = 0; i < n; i++) hak_free(p[i]);
}

TEST(l25_initial_shards_effect) {
  const char *text[] = {"1", "4", "7", "8"};
  unsigned want[] = {1, 4, 4, 8};
  for (int i = 0; i < 4; i++) {
    knob("l25.initial_shards", text[i]);
    hak_arena *a = shared();
    CHECK_EQ(stat_of(a, "l25.shards"), 0);
    wave(a, 1, BLOCK);
    CHECK_EQ(stat_of(a, "l25.shards"), want[i]);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(l25_max_shards_effect) {
  const char *name = "l25.max_shards", *two = "2", *sixteen = "16";
  knob("l25.initial_shards", "8");
  hak_arena *before = shared();
  knob(name, "4");
  hak_arena *a = shared(), *b = shared();
  CHECK_EQ(hak_arena_configure(b, &name, &two, 1, NULL, 0), 0);
  wave(before, 1, BLOCK);
  wave(a, 1, BLOCK);
  wave(b, 1, BLOCK);
  CHECK_EQ(stat_of(before, "l25.shards"), 8);
  CHECK_EQ(stat_of(a, "l25.shards"), 4);
  CHECK_EQ(stat_of(b, "l25.shards"), 2);
  CHECK_EQ(stat_of(NULL, "l25.max_shards"), 4);
  CHECK_EQ(hak_arena_configure(b, &name, &sixteen, 1, NULL, 0), 0);
  CHECK_EQ(stat_of(b, "l25.max_shards"), 16);
  CHECK_EQ(b->pool->shards.most, 16);
  CHECK_EQ(stat_of(a, "l25.max_shards"), 4);
  CHECK_EQ(hak_arena_configure(before, &name, &two, 1, NULL, 0), 0);
  CHECK_EQ(stat_of(before, "l25.shards"), 8); /* removes none */
  CHECK_CMP(hak_arena_configure(b, &name, &(const char *){"1025"}, 1, NULL, 0), ==, EINVAL);
}

static pthread_barrier_t gate;
static void *one_block_at_a_site(void *unused) {
  void *p = hak_malloc_site(BLOCK, 0x7654320);
  pthread_barrier_wait(&gate); /* caches are not shared */
  hak_free(p);
  return unused;
}

TEST(l25_shard_by_effect) {
  const char *words[] = {"site", "thread", "both"};
  knob("l25.max_shards", "64");
  knob("l25.initial_shards", "64");
  pthread_barrier_init(&gate, NULL, 8);
  for (int w = 0; w < 3; w++) {
    knob("l25.shard_by", words[w]);
    pthread_t t[8];
    for (int i = 0; i < 8; i++) t[i] = start(one_block_at_a_site, NULL);
    for (int i = 0; i < 8; i++) finish(t[i]);
    unsigned shards = 0, load = 0;
    for (int i = 0; i < 64; i++) {
      unsigned n =
          atomic_exchange(&hak_arena_default()->pool->shards.segment[0][i].list[C].load, 0);
      shards += n != 0;
      load += n;
    }
    CHECK_CMP(load, >=, 2);
    if (w == 0) CHECK_EQ(shards, 1);
    if (w != 0) CHECK_CMP(shards, >, 1);
    hak_trim();
  }
}

static uint64_t transfers_of_a_wave(const char *cache_bytes) {
  knob("l25.cache_bytes", cache_bytes);
  hak_arena *a = shared();
  for (int i = 0; i < 20; i++) wave(a, 12, 60000);
  uint64_t n = stat_of(a, "l25.transfers");
  CHECK_EQ(stat_of(a, "l25.steals"), 0); /* what goes back is where it is looked for */
  CHECK_EQ(stat_of(a, "large.blocks"), 0);
  CHECK_EQ(stat_of(a, "l25.ops"), 240);
  if (n == 0) CHECK_EQ(stat_of(a, "l25.hits"), 228);
  CHECK_EQ(hak_arena_destroy(a), 0);
  return n;
}

TEST(l25_cache_bytes_effect) {
  CHECK_EQ(transfers_of_a_wave("2MiB"), 0);
  CHECK_CMP(transfers_of_a_wave("0"), >, 20);
}

TEST(l25_decay_effect) {
  knob("l25.cache_bytes", "0");
  knob("l25.decay", "1h");
  hak_arena *a = shared();
  wave(a, 64, BLOCK);
  uint64_t cached = stat_of(a, "l25.cached"), aged = stat_of(a, "l25.aged");
  for (int i = 0; i < 10; i++) wave(a, 40, 60000);
  CHECK_CMP(stat_of(a, "l25.cached"), >=, cached);
  CHECK_EQ(stat_of(a, "l25.aged"), aged);
  knob("l25.decay", "10ms");
  for (int i = 0; i < 20; i++) {
    nap(20);
    for (int k = 0; k < 200; k++) wave(a, 1, 60000);
  }
  CHECK_CMP(stat_of(a, "l25.aged"), >, aged + 40 * CHARGE);
  CHECK_CMP(stat_of(a, "l25.cached"), <, cached / 2);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* A class that keeps missing gets a block of its own: only then is it in the ring the next time. */
TEST(a_larger_block_does_not_serve_for_ever) {
  hak_arena *a = shared();
  wave(a, 1, 6 * HAK_PAGE_SIZE);
  for (int i = 0; i < 1000; i++) wave(a, 1, 4 * HAK_PAGE_SIZE);
  CHECK_CMP(stat_of(a, "l25.hits"), >, 900);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

static size_t cached_of(hak_arena *a, unsigned c) {
  struct haki_l25_class_sum sums[HAK_L25_CLASSES];
  haki_l25_sums(a->pool, sums);
  return sums[c].cached;
}

/* The thread is busy, so nobody empties its cache; what it does not use leaves the ring all the same. */
TEST(a_ring_that_nobody_asks_ages) {
  knob("drain.enabled", "off"); /* it would, were this thread kept from running */
  knob("l25.decay", "10ms");
  hak_arena *a = shared();
  wave(a, HAK_RING_SLOTS, 10 * HAK_PAGE_SIZE);
  CHECK_EQ(cached_of(a, haki_l25_class(10)), HAK_RING_SLOTS);
  for (int i = 0; i < 4000 && cached_of(a, haki_l25_class(10)) != 0; i++) {
    for (int k = 0; k < 100; k++) wave(a, 1, HAK_PAGE_SIZE);
    nap(5);
  }
  CHECK_EQ(cached_of(a, haki_l25_class(10)), 0);
  CHECK_EQ(cached_of(a, haki_l25_class(1)), 1);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

/* From the cache, and from the shards; not one that is far too large. */
TEST(a_larger_block_comes_before_fresh_memory) {
  for (int from_shards = 0; from_shards < 2; from_shards++) {
    hak_arena *a = shared();
    if (from_shards) knob("l25.cache_bytes", "0");
    wave(a, from_shards ? 16 : 1, 6 * HAK_PAGE_SIZE);
    uint64_t cached = stat_of(a, "l25.cached");
    void *p = hak_arena_alloc(a, 4 * HAK_PAGE_SIZE - 100);
    CHECK_EQ(stat_of(a, "l25.cached"), cached - 6 * HAK_PAGE_SIZE);
    CHECK_EQ(hak_usable_size(p), 6 * HAK_PAGE_SIZE);
    void *q = hak_arena_alloc(a, 3 * HAK_PAGE_SIZE);
    CHECK_EQ(hak_usable_size(q), 3 * HAK_PAGE_SIZE);
    hak_free(p);
    CHECK_EQ(stat_of(a, "l25.cached"), cached);
    CHECK(hak_arena_alloc(a, 6 * HAK_PAGE_SIZE) == p); /* where it came from */
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

/* ---- growth and statistics, through the front door ------------------------------------------- */

static void *asker(void *arena) { /* more than the threads keep: shards are asked */
  for (int i = 0; i < 400; i++) wave(arena, 40, 60000);
  return NULL;
}

TEST(a_busy_pool_grows) {
  knob("drain.enabled", "off"); /* with it: drain.c */
  eager();
  knob("l25.max_shards", "8");
  knob("l25.initial_shards", "1");
  knob("l25.cache_bytes", "0");
  hak_arena *a = shared();
  pthread_t t[2];
  for (int round = 0; round < 50 && stat_of(a, "l25.shards") != 8; round++) {
    for (int i = 0; i < 2; i++) t[i] = start(asker, a);
    for (int i = 0; i < 2; i++) finish(t[i]);
  }
  CHECK_EQ(stat_of(a, "l25.shards"), 8);
  CHECK_EQ(stat_of(a, "l25.expansions"), 3);
  CHECK_CMP(stat_of(a, "l25.shard_ops"), >, 1000);
  CHECK_CMP(stat_of(a, "l25.transfers"), >, 1000);
  uint64_t all = stat_of(NULL, "l25.expansions");
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(stat_of(NULL, "l25.expansions"), all); /* a counter outlives its arena */
}

TEST(held_locks_are_counted_and_passed_by) {
  knob("l25.check_interval", "0");
  knob("l25.cache_bytes", "0");
  hak_arena *a = shared();
  wave(a, 40, BLOCK);
  struct haki_shards *s = &a->pool->shards;
  uint64_t free_blocks = stat_of(a, "l25.cached");
  for (uint32_t i = 0; i < s->first; i++) s->segment[0][i].list[C].lock = 1;
  void *p[16]; /* more than the ring: all shards are held, so fresh ones */
  for (int i = 0; i < 16; i++) CHECK((p[i] = hak_arena_alloc(a, BLOCK)) != NULL);
  for (uint32_t i = 0; i < s->first; i++) s->segment[0][i].list[C].lock = 0;
  CHECK_CMP(stat_of(a, "l25.cached"), >, free_blocks - 16 * CHARGE);
  uint64_t waits = stat_of(a, "l25.lock_waits"), ops = stat_of(a, "l25.shard_ops");
  CHECK_CMP(waits, >, 0);
  CHECK_CMP(waits, <, ops);
  haki_shards_check(s); /* a check takes nothing away */
  CHECK_EQ(stat_of(a, "l25.lock_waits"), waits);
  CHECK_EQ(stat_of(a, "l25.shard_ops"), ops);
  for (int i = 0; i < 16; i++) hak_free(p[i]);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(free_blocks_are_charged_and_cached) {
  hak_arena *a = shared();
  void *p = hak_arena_alloc(a, BLOCK), *q = hak_arena_alloc(a, BLOCK);
  memset(p, 1, BLOCK);
  CHECK_EQ(stat_of(a, "charged"), 2 * CHARGE);
  CHECK_EQ(stat_of(a, "l25.cached"), 0);
  CHECK_EQ(stat_of(a, "large.bytes"), 2 * CHARGE);
  hak_free(p);
  CHECK_EQ(stat_of(a, "charged"), 2 * CHARGE);
  CHECK_EQ(stat_of(a, "l25.cached"), CHARGE);
  CHECK_EQ(stat_of(a, "large.bytes"), CHARGE);
  balanced(a);
  balanced(NULL);
  CHECK(hak_arena_alloc(a, BLOCK - 3000) == p); /* the same class */
  CHECK_EQ(stat_of(a, "charged"), 2 * CHARGE);
  hak_free(p);
  hak_free(q);
  CHECK_EQ(hak_arena_trim(a), 0);
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(stat_of(a, "l25.cached"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(private_arenas_leave_the_pool_alone) {
  hak_arena *d = hak_arena_default(), *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  uint64_t base = stat_of(d, "charged"), ops = stat_of(NULL, "l25.ops");
  for (int round = 0; round < 3; round++) {
    void *p = hak_arena_alloc(a, BLOCK), *q = hak_lua_alloc(a, NULL, 0, BLOCK);
    CHECK_EQ(stat_of(a, "charged"), 2 * CHARGE);
    CHECK(hak_arena_of(p) == a);
    hak_free(p);
    CHECK_EQ(stat_of(a, "charged"), CHARGE);
    hak_lua_alloc(a, q, BLOCK, 0);
    CHECK_EQ(stat_of(a, "charged"), 0);
  }
  for (int i = 0; i < 5; i++) CHECK(hak_arena_alloc(a, BLOCK) != NULL);
  CHECK_EQ(hak_arena_reset(a), 0);
  CHECK_EQ(stat_of(a, "large.blocks"), 0);
  CHECK(hak_arena_alloc(a, BLOCK) != NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(stat_of(d, "charged"), base);
  CHECK_EQ(stat_of(NULL, "l25.ops"), ops);
  balanced(NULL);
}

static void *leaves_blocks(void *arena) {
  void **out = calloc(12, sizeof *out);
  wave(arena, 20, 100000);
  for (int i = 0; i < 12; i++) CHECK((out[i] = hak_arena_alloc(arena, BLOCK)) != NULL);
  return out;
}

static void *stays_with_a_cache(void *arena) {
  wave(arena, 20, BLOCK);
  pthread_barrier_wait(&gate);
  pthread_barrier_wait(&gate);
  return hak_malloc(BLOCK); /* its cache there has gone; it lives on */
}

TEST(reset_and_destroy_return_everything) {
  pthread_barrier_init(&gate, NULL, 2);
  knob("l25.cache_bytes", "256KiB");
  hak_trim();
  const char *names[] = {"charged", "active", "l25.cached", "large.blocks", "large.bytes"};
  uint64_t before[5];
  for (int i = 0; i < 5; i++) before[i] = stat_of(NULL, names[i]);
  for (int turn = 0; turn < 3; turn++) {
    hak_arena *a = shared();
    void **left = finish(start(leaves_blocks, a));
    for (int i = 0; i < 6; i++) hak_free(left[i]); /* inbound of a cache that has gone */
    free(left);
    pthread_t t = start(stays_with_a_cache, a);
    pthread_barrier_wait(&gate);
    wave(a, 20, BLOCK);
    CHECK(hak_arena_alloc(a, MIB) != NULL);
    CHECK_CMP(stat_of(a, "charged"), >, 20 * CHARGE);
    if (turn != 1) {
      CHECK_EQ(hak_arena_reset(a), 0);
      CHECK_EQ(stat_of(a, "charged"), 0);
      CHECK_EQ(stat_of(a, "l25.cached"), 0);
      CHECK_EQ(stat_of(a, "large.blocks"), 0);
      wave(a, 20, BLOCK);
    }
    CHECK_EQ(hak_arena_destroy(a), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(stat_of(NULL, names[i]), before[i]);
    balanced(NULL);
    pthread_barrier_wait(&gate);
    hak_free(finish(t));
    hak_trim();
  }
}

/* ---- sizes ----------------------------------------------------------------------------------- */

TEST(used_blocks_are_cleared_for_calloc) {
  uint64_t seed = 3;
  for (size_t i = 0; i < rounds(2000, 300); i++) {
    size_t n = 33 * KIB + below(&seed, MIB - 33 * KIB), m = n - below(&seed, n / 4);
    void *p = hak_malloc(n);
    memset(p, 0xff, n);
    hak_free(p);
    p = hak_calloc(1, m);
    CHECK(all_zero(p, m));
    p = hak_realloc(p, below(&seed, 2) ? n : 40 * KIB);
    memset(p, 0xff, 40 * KIB);
    hak_free(p);
  }
}

TEST(realloc_passes_through_the_classes) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    for (int round = 0; round < 5; round++) {
      size_t n = 1000, most = 3 * MIB;
      void *p = hak_arena_alloc(a, most);
      fill(p, most, 5);
      p = hak_arena_realloc(a, p, MIB); /* and back up again */
      CHECK(intact_part(p, MIB, most, 5));
      while (n < MIB) {
        n += 40 * KIB;
        p = hak_arena_realloc(a, p, n);
        CHECK_CMP(hak_usable_size(p), >=, n);
        memset((char *)p + n - 1, payload_byte(9, n - 1), 1);
      }
      for (size_t k = 1000 + 26 * 40 * KIB; k > 40 * KIB; k -= 40 * KIB)
        CHECK_EQ(((unsigned char *)p)[k - 1], payload_byte(9, k - 1));
      hak_arena_free(a, p);
    }
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(a_shrunk_block_keeps_no_more_than_its_class) {
  hak_arena *a = shared();
  char *p = hak_arena_alloc(a, MIB);
  fill(p, MIB, 7);
  CHECK(hak_arena_realloc(a, p, 600 * KIB) == p);
  CHECK_EQ(haki_page_of(p)->length, 10);
  CHECK(hak_arena_realloc(a, p, 900 * KIB) == p); /* the pages behind it are free now */
  CHECK_EQ(haki_page_of(p)->length, 16);
  CHECK(intact_part(p, 600 * KIB, MIB, 7));
  CHECK(hak_arena_realloc(a, p, 40 * KIB) == p);
  CHECK_EQ(haki_page_of(p)->length, 1);
  CHECK(intact_part(p, 40 * KIB, MIB, 7));
  CHECK_EQ(stat_of(a, "charged"), 40 * KIB);
  hak_free(p);
  CHECK(hak_arena_alloc(a, 50 * KIB) == p); /* pooled by what it is now */
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(double_free_of_a_pooled_block_aborts) {
  knob("l25.cache_bytes", "0");
  for (size_t n = 1; n <= 20; n += 19) { /* in the ring, in a shard */
    int fd[2];
    CHECK_EQ(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
      dup2(fd[1], 2);
      void *p[20];
      for (size_t i = 0; i < n; i++) p[i] = opaque(hak_malloc(BLOCK));
      for (size_t i = 0; i < n; i++) hak_free(p[i]);
      hak_free(opaque(p[0]));
      _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    char text[512] = {0};
    CHECK_CMP(read(fd[0], text, sizeof text - 1), >, 0);
    CHECK(strstr(text, "double free") != NULL);
  }
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { SLOTS = 64 };
static _Atomic(void *) slot[SLOTS];
static hak_arena *places[3];

static void drop(void *p) {
  if (p == NULL) return;
  uint64_t head[2];
  memcpy(head, p, sizeof head);
  CHECK(intact((char *)p + 16, head[0] - 16, head[1]));
  hak_free(p);
}

static void exchange(uint64_t *seed, size_t most) {
  uint64_t head[2] = {32 * KIB + below(seed, most - 32 * KIB), rnd(seed)};
  char *p = hak_arena_alloc(places[below(seed, 2)], head[0]);
  CHECK(p != NULL);
  memcpy(p, head, sizeof head);
  fill(p + 16, head[0] - 16, head[1]);
  drop(atomic_exchange(&slot[below(seed, SLOTS)], p));
}

static void *exchanger(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (size_t i = 0; i < rounds(6000, 2000) && !stop; i++) exchange(&seed, 1200 * KIB);
  return NULL;
}

static void clear_slots(void) {
  for (int i = 0; i < SLOTS; i++) drop(atomic_exchange(&slot[i], NULL));
}

static void open_places(void) {
  places[0] = hak_arena_default();
  places[1] = shared();
}

TEST(threads_free_for_each_other) {
  eager();
  knob("l25.initial_shards", "1");
  knob("l25.decay", "20ms");
#if CHECK_AUDIT
  haki_sched_seed(77);
#endif
  open_places();
  pthread_t t[8];
  for (uintptr_t i = 0; i < 8; i++) t[i] = start(exchanger, (void *)(i + 1));
  for (int lives = 0; lives < 50; lives++) { /* statistics, and other arenas that go, meanwhile */
    CHECK_CMP(stat_of(NULL, "l25.ops"), >=, 0);
    hak_arena *a = shared();
    wave(a, 10, BLOCK);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
  for (int i = 0; i < 8; i++) finish(t[i]);
  clear_slots();
  CHECK_CMP(stat_of(places[1], "l25.remote_frees"), >, 0);
  CHECK_CMP(stat_of(places[1], "l25.hits"), >, 0);
  CHECK_EQ(stat_of(NULL, "large.blocks"), 0);
  balanced(NULL);
  for (int i = 0; i < 2; i++) CHECK_EQ(hak_arena_trim(places[i]), 0);
  CHECK_EQ(stat_of(places[1], "charged"), 0); /* all threads have gone: nothing is left anywhere */
  CHECK_EQ(stat_of(NULL, "l25.cached"), 0);
  CHECK_EQ(hak_arena_destroy(places[1]), 0);
}

static void *only_frees(void *unused) {
  while (!stop)
    for (int i = 0; i < 16; i++) drop(atomic_exchange(&slot[i], NULL));
  return unused;
}

TEST(a_thread_that_only_frees_hoards_nothing) {
  pthread_t t = start(only_frees, NULL);
  for (size_t i = 0; i < rounds(8000, 3000); i++) {
    uint64_t head[2] = {BLOCK, i};
    char *p = hak_malloc(BLOCK);
    memcpy(p, head, sizeof head);
    fill(p + 16, BLOCK - 16, i);
    for (void *none = NULL; !atomic_compare_exchange_weak(&slot[i % 16], &none, p); none = NULL)
      sched_yield();
  }
  stop = true;
  finish(t);
  clear_slots();
  CHECK_CMP(stat_of(NULL, "l25.cached"), <, 16 * MIB);
}

static void *short_life(void *seed_word) {
  uint64_t seed = (uintptr_t)seed_word;
  for (int i = 0; i < 6; i++) exchange(&seed, 300 * KIB);
  return NULL;
}

TEST(short_lives_leave_nothing) {
  open_places();
  size_t mapped = 0, rss = 0, warm = 400;
  for (size_t i = 0; i < warm + rounds(2000, 200); i += 2) {
    if (i == warm) {
      mapped = stat_of(NULL, "mapped");
      rss = resident();
    }
    pthread_t a = start(short_life, (void *)i), b = start(short_life, (void *)(i + 1));
    finish(a);
    finish(b);
  }
  /* a leak would be gigabytes; how many chunks are in use at once depends on who ran when */
  CHECK_CMP(stat_of(NULL, "mapped"), <=, mapped + 64 * MIB);
  if (!CHECK_SANITIZED) CHECK_CMP(resident(), <=, rss + 16 * MIB);
  clear_slots();
  CHECK_EQ(hak_arena_destroy(places[1]), 0);
}

TEST(forks_under_load_keep_the_pool) {
  open_places();
  pthread_t t[4];
  for (uintptr_t i = 0; i < 4; i++) t[i] = start(exchanger, (void *)(i + 9));
  for (size_t f = 0; f < rounds(10, 4); f++) {
    nap(5);
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      uint64_t seed = f;
      clear_slots();
      for (int i = 0; i < 100; i++) exchange(&seed, 1200 * KIB);
      if (!CHECK_SANITIZED) finish(start(short_life, NULL));
      clear_slots();
      hak_trim();
      _exit(0);
    }
    reap(child);
  }
  stop = true;
  for (int i = 0; i < 4; i++) finish(t[i]);
  clear_slots();
}

static void *holds_a_block(void *out) {
  *(void **)out = hak_malloc(BLOCK);
  pthread_barrier_wait(&gate);
  pthread_barrier_wait(&gate);
  return NULL;
}
/* The child has no thread for the cache that the block came from: it goes to a shard. */
TEST(blocks_of_lost_threads_come_back_in_a_child) {
  void *block = NULL;
  pthread_barrier_init(&gate, NULL, 2);
  pthread_t t = start(holds_a_block, &block);
  pthread_barrier_wait(&gate);
  hak_free(hak_malloc(1)); /* this thread has a heap, no cache */
  pid_t child = fork();
  if (child == 0) {
    hak_free(block);
    bool back = hak_malloc(BLOCK) == block;
    _exit(back ? 0 : 1);
  }
  reap(child);
  pthread_barrier_wait(&gate);
  finish(t);
  hak_free(block);
}

/* bigblocks.c - big blocks that wait and come back, under many threads: contents and charges.
 * Why:   a cache may lose a block, hand it out twice, or hand it out dirty; the user's bytes tell.
 * Not:   knobs, statistics, who goes (bigcache.c), the table by itself (bigtable.c).
 * Start: hammer(). */
#include "big.h"

#include "os/os.h"

enum { SITES = 60, MINE = 10, POST = 16, THREADS = 6 };

struct held {
  char *p;
  size_t size;
  uint64_t tag;
};

/* One word to every page, the last bytes too: enough to see whose block it is. */
static void mark(struct held *h) {
  for (size_t i = 0; i + 8 <= h->size; i += 4096) {
    uint64_t word = h->tag + i;
    memcpy(h->p + i, &word, 8);
  }
}
static bool marked(const struct held *h, size_t size) {
  for (size_t i = 0; i + 8 <= size; i += 4096) {
    uint64_t word;
    memcpy(&word, h->p + i, 8);
    if (word != h->tag + i) return false;
  }
  return true;
}
static bool is_clean(const char *p, size_t size) {
  for (size_t i = 0; i + 8 <= size; i += 4096) {
    uint64_t word;
    memcpy(&word, p + i, 8);
    if (word != 0) return false;
  }
  return true;
}

static hak_arena *arena;
static struct held post[POST]; /* blocks on their way to another thread */
static pthread_mutex_t post_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(uint64_t) tags, crowd;

static size_t some_size(uint64_t *seed) {
  size_t k = below(seed, 10);
  return (520 * KIB + below(seed, MIB)) << (k < 7 ? 0 : k - 7);
}

static void drop(struct held *h) {
  CHECK(h->p == NULL || marked(h, h->size));
  hak_free(h->p);
  h->p = NULL;
}

static void make(struct held *h, uint64_t *seed) {
  bool zero = below(seed, 4) == 0;
  h->size = some_size(seed);
  h->tag = atomic_fetch_add(&tags, 1) << 32;
  h->p =
      haki_alloc_on(arena, &(struct haki_request){h->size, 16, zero, 64 + 64 * below(seed, SITES)});
  CHECK(h->p != NULL);
  CHECK(!zero || is_clean(h->p, h->size));
  mark(h);
}

static void resize(struct held *h, uint64_t *seed) {
  size_t size = some_size(seed);
  char *q = hak_realloc(h->p, size);
  CHECK(q != NULL);
  h->p = q;
  CHECK(marked(h, size < h->size ? size : h->size));
  h->size = size;
  mark(h);
}

static void swap_by_post(struct held *h, uint64_t *seed) {
  size_t k = below(seed, POST);
  pthread_mutex_lock(&post_lock);
  struct held other = post[k];
  post[k] = *h;
  pthread_mutex_unlock(&post_lock);
  *h = other;
}

static void *hammer(void *unused) {
  uint64_t seed = atomic_fetch_add(&crowd, 1);
  struct held mine[MINE] = {{NULL, 0, 0}};
  for (size_t i = 0; i < rounds(1500, 300); i++) {
    struct held *h = &mine[below(&seed, MINE)];
    switch (below(&seed, 6)) {
      case 0: swap_by_post(h, &seed); break;
      case 1:
        if (h->p != NULL) resize(h, &seed);
        break;
      default:
        if (h->p != NULL)
          drop(h);
        else
          make(h, &seed);
    }
  }
  for (int i = 0; i < MINE; i++) drop(&mine[i]);
  return unused;
}

/* Meanwhile the budget goes up and down, and everything grows old at once, or is trimmed. */
static _Atomic(bool) done;
static void *meddle(void *unused) {
  static const char *const budgets[] = {"24MiB", "3MiB", "0", "64MiB"};
  for (size_t i = 0; !atomic_load(&done); i++) {
    struct haki_big *big = atomic_load(&arena->large.big);
    arena_knob(arena, "bigcache.max_bytes", budgets[i % 4]);
    arena_knob(arena, "bigcache.max_mapped", i % 3 ? "1GiB" : "100MiB");
    if (big != NULL) haki_big_age(big, i % 2 != 0);
    if (i % 16 == 0) CHECK_EQ(hak_arena_trim(arena), 0);
    nap(1);
  }
  return unused;
}

static void hammered(const char *decay, const char *front) {
  knob("bigcache.initial_buckets", "32");
  knob("bigcache.load_percent", "10"); /* it grows while all of this goes on */
  knob("bigcache.decay", decay);
  knob("bigcache.front_bytes", front);
  knob("purge.decay", "0");
  for (uint32_t round = 1; round <= rounds(4, 2); round++) {
#if HAK_FAULT
    haki_sched_seed(round * 91);
#endif
    arena = shared();
    atomic_store(&done, false);
    pthread_t t[THREADS], other = start(meddle, NULL);
    for (int i = 0; i < THREADS; i++) t[i] = start(hammer, NULL);
    for (int i = 0; i < THREADS; i++) finish(t[i]);
    atomic_store(&done, true);
    finish(other);
    for (int i = 0; i < POST; i++) drop(&post[i]);
    CHECK_CMP(stat_of(arena, "bigcache.hits"), >, 0);
    CHECK_CMP(stat_of(arena, "bigcache.resizes"), >, 0);
    CHECK_CMP(stat_of(arena, "bigcache.evictions"), >, 0);
    CHECK_CMP(stat_of(arena, "bigcache.peak"), <=, 256 * MIB);
    CHECK(haki_big_ok(arena->large.big));
    all_came_back(arena);
    CHECK_EQ(hak_arena_destroy(arena), 0);
  }
}

TEST(threads_keep_their_bytes) { hammered("1h", "0"); }
TEST(threads_keep_their_bytes_while_all_grows_old) { hammered("1ms", "32MiB"); }

/* The budget holds at every moment, whoever comes. */
TEST(the_budget_holds_among_threads) {
  knob("bigcache.decay", "1h");
  arena = shared();
  arena_knob(arena, "bigcache.max_bytes", "12MiB");
  arena_knob(arena, "bigcache.max_mapped", "200MiB");
  pthread_t t[THREADS];
  for (int i = 0; i < THREADS; i++) t[i] = start(hammer, NULL);
  for (int i = 0; i < 200; i++) {
    CHECK_CMP(stat_of(arena, "bigcache.bytes"), <=, 12 * MIB);
    CHECK_CMP(stat_of(arena, "bigcache.mapped"), <=, 200 * MIB);
    nap(1);
  }
  for (int i = 0; i < THREADS; i++) finish(t[i]);
  for (int i = 0; i < POST; i++) drop(&post[i]);
  CHECK_CMP(stat_of(arena, "bigcache.peak"), <=, 12 * MIB);
  all_came_back(arena);
}

/* With default knobs and nobody calling, what a burst leaves goes back. A sanitizer's own memory stays:
 * there the cache is asked, which does nothing about it. */
static uint64_t left_of_burst(size_t before) {
  struct haki_big *big = atomic_load(&hak_arena_default()->large.big);
  size_t resident = CHECK_SANITIZED ? 0 : haki_os_resident();
  return atomic_load(&big->bytes) + atomic_load(&big->cooling) +
         (resident > before ? resident - before : 0);
}

TEST(a_burst_leaves_nothing_when_nobody_calls) {
  enum { N = 400 };
  static struct held h[N];
  size_t before = haki_os_resident();
  for (size_t i = 0; i < N; i++) {
    h[i].size = MIB + 1 + i % 7 * 65536;
    h[i].tag = (uint64_t)i << 32;
    h[i].p = hak_malloc_site(h[i].size, 64 + i % 40 * 64);
    mark(&h[i]);
  }
  for (size_t i = 0; i < N; i++) drop(&h[i]);
  for (int i = 0; i < 600 && left_of_burst(before) > 40 * MIB; i++) nap(50); /* 30 s: it is busy */
  CHECK_CMP(left_of_burst(before), <=, 40 * MIB);
}

/* shards.c - the shards of the large-block pool by themselves: take, put, steal, growth, log lines.
 * Why:   a block lost between threads is a leak nobody sees; one given twice is worse.
 * Not:   the pool around them (l25.c). The blocks here are descriptors without memory.
 * Start: shards_keep_blocks. */
#include "check.h"

#include "map/meta.h"
#include "os/os.h"
#include "pool/shard.h"

enum { FAKES = 1024, BLOCK = 200000, CHARGE = 200704, C = 3 /* the class of 4 pages */ };
static struct page fake[FAKES];
static struct haki_shards pool;

static void open_shards(uint32_t first, uint32_t most) {
  for (size_t i = 0; i < FAKES; i++) fake[i].length = haki_l25_pages(C);
  CHECK(haki_shards_init(&pool, first, most));
}

static struct page *chain(size_t from, size_t n) {
  for (size_t i = from; i < from + n; i++)
    haki_page_set_next(&fake[i], i + 1 < from + n ? &fake[i + 1] : NULL);
  return &fake[from];
}

static unsigned bits_set(void) {
  unsigned n = 0;
  for (unsigned w = 0; w < HAK_SHARD_WORDS; w++)
    n += (unsigned)__builtin_popcountll(pool.nonempty[C][w]);
  return n;
}

static void knob(const char *name, const char *value) { CHECK_EQ(set_knob(name, value), 0); }

TEST(classes_hold_what_is_asked) {
  for (size_t pages = 1; pages <= HAK_L25_PAGES_MAX; pages++) {
    unsigned c = haki_l25_class(pages);
    CHECK_CMP(c, <, HAK_L25_CLASSES);
    CHECK_CMP(haki_l25_pages(c), >=, pages);
    CHECK_CMP(haki_l25_pages(c) - pages, <=, pages > 8);
    CHECK_EQ(haki_l25_class(haki_l25_pages(c)), c);
  }
}

/* ---- shards ---------------------------------------------------------------------------------- */

TEST(shards_keep_blocks) {
  struct page *out[16];
  open_shards(4, 4);
  CHECK_EQ(haki_shards_take(&pool, C, 7, out, 8), 0);
  haki_shards_put(&pool, C, 7, chain(0, 5), 5);
  CHECK_EQ(bits_set(), 1);
  CHECK_EQ(haki_shards_take(&pool, C + 1, 7, out, 8), 0); /* another class */
  CHECK_EQ(haki_shards_take(&pool, C, 7, out, 3), 3);
  for (int i = 0; i < 3; i++) CHECK(out[i] == &fake[i]);
  haki_shards_put(&pool, C, 7, chain(10, 2), 2); /* the newest come first */
  CHECK_EQ(haki_shards_take(&pool, C, 7, out, 8), 4);
  CHECK(out[0] == &fake[10] && out[1] == &fake[11] && out[2] == &fake[3] && out[3] == &fake[4]);
  CHECK_EQ(bits_set(), 0);
  haki_shards_put_remote(&pool, C, 7, &fake[20]);
  haki_shards_put_remote(&pool, C, 7, &fake[21]);
  CHECK_EQ(bits_set(), 1);
  CHECK_EQ(haki_shards_take(&pool, C, 7, out, 8), 2);
  CHECK_EQ((out[0] - fake) + (out[1] - fake), 41);
  CHECK_EQ(bits_set(), 0);
  CHECK_EQ(pool.remote, 2);
  CHECK_EQ(pool.steals, 0);
  haki_shards_destroy(&pool);
}

TEST(shed_takes_half_or_all) {
  open_shards(1, 1);
  haki_shards_put(&pool, C, 0, chain(0, 5), 5);
  size_t want[] = {3, 1, 1, 0};
  for (int round = 0; round < 4; round++) {
    size_t n = 0;
    for (struct page *p = haki_shards_shed(&pool, C, 0, false); p != NULL; p = haki_page_next(p))
      n++;
    CHECK_EQ(n, want[round]);
    CHECK_EQ(bits_set(), round < 2);
  }
  haki_shards_put(&pool, C, 0, chain(0, 5), 5);
  haki_shards_put_remote(&pool, C, 0, &fake[9]);
  size_t n = 0;
  for (struct page *p = haki_shards_shed(&pool, C, 0, true); p != NULL; p = haki_page_next(p)) n++;
  CHECK_EQ(n, 6);
  CHECK_EQ(bits_set(), 0);
  haki_shards_destroy(&pool);
}

TEST(a_bit_without_blocks_goes_away) {
  struct page *out[4];
  open_shards(128, 128);
  for (unsigned w = 0; w < 2; w++) pool.nonempty[C][w] = UINT64_MAX;
  for (int i = 0; i < 128 && bits_set() != 0; i++)
    CHECK_EQ(haki_shards_take(&pool, C, (uint64_t)i << 4, out, 4), 0);
  CHECK_EQ(bits_set(), 0);
  pool.nonempty[C][1] = 2;
  CHECK(haki_shards_shed(&pool, C, 65, false) == NULL);
  CHECK_EQ(bits_set(), 0);
  haki_shards_destroy(&pool);
}

TEST(a_search_among_shards_ends_after_some) {
  struct page *out[4];
  knob("l25.shard_mix", "off");
  open_shards(1024, 1024);
  for (unsigned w = 0; w < HAK_SHARD_WORDS; w++) pool.nonempty[C][w] = UINT64_MAX;
  CHECK_EQ(haki_shards_take(&pool, C, 0, out, 4), 0);
  CHECK_CMP(1024 - bits_set(), <=, 16);
  haki_shards_destroy(&pool);
}

TEST(another_shard_is_found_by_its_bit) {
  struct page *out[4];
  knob("l25.shard_mix", "off");
  open_shards(256, 256);
  haki_shards_put(&pool, C, 200 << 4, chain(0, 4), 4);
  CHECK_EQ(pool.nonempty[C][200 / 64], 1ull << 200 % 64);
  CHECK_EQ(haki_shards_take(&pool, C, 3 << 4, out, 4), 4);
  CHECK_EQ(pool.steals, 1);
  CHECK_EQ(bits_set(), 0);
  haki_shards_destroy(&pool);
}

TEST(l25_shard_mix_effect) {
  for (int mixed = 0; mixed < 2; mixed++) {
    knob("l25.shard_mix", mixed ? "on" : "off");
    memset(&pool, 0, sizeof pool);
    open_shards(64, 64);
    for (uint64_t key = 0; key < 16; key++) haki_shards_put(&pool, C, key, chain(key, 1), 1);
    if (mixed) CHECK_CMP(bits_set(), >, 4);
    if (!mixed) CHECK_EQ(bits_set(), 1);
    haki_shards_destroy(&pool);
  }
}

static _Atomic(int) holders[FAKES];
static _Atomic(uint32_t) order;

static void *hammer(void *unused) { /* takes batches, gives them back in both ways */
  uint64_t seed = atomic_fetch_add(&order, 1);
  struct page *out[8];
  for (size_t i = 0; i < rounds(200000, 20000); i++) {
    size_t n = haki_shards_take(&pool, C, below(&seed, 256), out, 1 + below(&seed, 8));
    for (size_t k = 0; k < n; k++) CHECK_EQ(atomic_fetch_add(&holders[out[k] - fake], 1), 0);
    for (size_t k = 0; k < n; k++) atomic_fetch_sub(&holders[out[k] - fake], 1);
    if (n != 0 && below(&seed, 2) != 0) {
      for (size_t k = 0; k < n; k++) haki_page_set_next(out[k], k + 1 < n ? out[k + 1] : NULL);
      haki_shards_put(&pool, C, below(&seed, 256), out[0], n);
    } else {
      for (size_t k = 0; k < n; k++) haki_shards_put_remote(&pool, C, below(&seed, 256), out[k]);
    }
    if (i % 1000 == 0) haki_shards_check(&pool);
  }
  return unused;
}

static void everything_is_there(size_t n) {
  struct page *out[8];
  bool seen[FAKES] = {false};
  size_t total = 0, got;
  while ((got = haki_shards_take(&pool, C, 1, out, 8)) != 0)
    for (size_t k = 0; k < got; k++) {
      CHECK(!seen[out[k] - fake]);
      seen[out[k] - fake] = true;
      total++;
    }
  CHECK_EQ(total, n);
  CHECK_EQ(bits_set(), 0);
}

TEST(nothing_is_lost_between_threads) {
  knob("l25.check_interval", "0");
  knob("l25.contention_threshold", "1");
  for (size_t blocks = 3; blocks <= 48; blocks *= 4) { /* few blocks: bits come and go */
#if CHECK_AUDIT
    haki_sched_seed((uint32_t)blocks);
#endif
    memset(&pool, 0, sizeof pool);
    open_shards(1, 8);
    haki_shards_put(&pool, C, 0, chain(0, blocks), blocks);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) t[i] = start(hammer, NULL);
    for (int i = 0; i < 4; i++) finish(t[i]);
    CHECK_EQ(haki_shards_count(&pool), 8);
    everything_is_there(blocks);
    haki_shards_destroy(&pool);
  }
}

static void *puts_one(void *unused) {
  haki_shards_put(&pool, C, 0, chain(0, 1), 1);
  return unused;
}
static void *sheds_one(void *unused) {
  CHECK(haki_shards_shed(&pool, C, 0, true) == &fake[0]);
  return unused;
}

static void wanted(uint64_t ops, uint64_t waits) {
  uint64_t now[2];
  haki_shards_waits(&pool, &now[0], &now[1]);
  CHECK_EQ(now[0], ops);
  CHECK_EQ(now[1], waits);
}

static void await_waits(uint64_t most) {
  for (uint64_t ops, waits = 0; waits < most; sched_yield()) haki_shards_waits(&pool, &ops, &waits);
}

/* Who gives a batch back tries four shards, then waits for its own; who ages the pool waits at once. */
TEST(every_wait_is_counted) {
  knob("l25.shard_mix", "off");
  open_shards(8, 8);
  for (int i = 0; i < 4; i++) pool.segment[0][i].list[C].lock = 1;
  pthread_t t = start(puts_one, NULL);
  await_waits(5);
  for (int i = 0; i < 4; i++) pool.segment[0][i].list[C].lock = 0;
  finish(t);
  wanted(6, 5); /* and got it once */
  pool.segment[0][0].list[C].lock = 1;
  t = start(sheds_one, NULL);
  await_waits(6);
  pool.segment[0][0].list[C].lock = 0;
  finish(t);
  wanted(8, 6);
  haki_shards_lock_all(&pool); /* a fork is no use of the pool */
  haki_shards_unlock_all(&pool);
  wanted(8, 6);
  haki_shards_destroy(&pool);
}

/* ---- growth ---------------------------------------------------------------------------------- */

static char heard[16][120];
static int lines;
static void hear(int level, const char *line, void *ud) {
  (void)ud;
  CHECK_EQ(level, 1);
  if (lines < 16) snprintf(heard[lines++], sizeof heard[0], "%s", line);
}

static void *other_user(void *unused) {
  struct page *out[1];
  CHECK_EQ(haki_shards_take(&pool, C, 5 << 4, out, 1), 0);
  return unused;
}

/* n blocks asked for by this thread and one by another. */
static void load_of_two(size_t n) {
  struct page *out[1];
  for (size_t i = 0; i < n; i++) haki_shards_take(&pool, C, i << 4, out, 1);
  finish(start(other_user, NULL));
}

static void eager(void) {
  knob("l25.check_interval", "0");
  knob("l25.contention_threshold", "1");
  hak_log_set_sink(hear, NULL);
  knob("log.level", "1");
  lines = 0;
}

TEST(shards_double_up_to_the_most) {
  eager();
  open_shards(1, 1024);
  for (uint32_t count = 1; count < 1024; count *= 2) {
    haki_shards_put(&pool, C, 9, chain(count % 512, 1), 1);
    load_of_two(count * 2);
    CHECK(haki_shards_check(&pool));
    CHECK_EQ(haki_shards_count(&pool), count * 2);
  }
  load_of_two(4096);
  CHECK(!haki_shards_check(&pool));
  CHECK_EQ(pool.expansions, 10);
  CHECK_EQ(pool.failures, 0);
  haki_shards_destroy(&pool);
}

TEST(one_thread_alone_expands_nothing) {
  struct page *out[1];
  eager();
  open_shards(2, 1024);
  for (int i = 0; i < 5000; i++) haki_shards_take(&pool, C, (uint64_t)i << 4, out, 1);
  for (int i = 0; i < 3; i++) CHECK(!haki_shards_check(&pool));
  CHECK_EQ(haki_shards_count(&pool), 2);
  CHECK_EQ(lines, 0);
}

TEST(a_lower_most_stops_growth_and_removes_nothing) {
  eager();
  open_shards(8, 64);
  pool.most = 4;
  load_of_two(1000);
  CHECK(!haki_shards_check(&pool));
  CHECK_EQ(haki_shards_count(&pool), 8);
  pool.most = 16;
  for (int i = 0; i < 3; i++) {
    load_of_two(1000);
    CHECK_EQ(haki_shards_check(&pool), i == 0);
  }
  CHECK_EQ(haki_shards_count(&pool), 16);
}

TEST(l25_dynamic_effect) {
  eager();
  open_shards(2, 64);
  knob("l25.dynamic", "off");
  load_of_two(1000);
  CHECK(!haki_shards_check(&pool));
  knob("l25.dynamic", "on");
  load_of_two(1000);
  CHECK(haki_shards_check(&pool));
}

TEST(l25_check_interval_effect) {
  eager();
  knob("l25.check_interval", "1h");
  open_shards(2, 64);
  haki_shards_check(&pool);
  load_of_two(1000);
  CHECK(!haki_shards_check(&pool));
  knob("l25.check_interval", "0");
  CHECK(haki_shards_check(&pool));
}

TEST(l25_contention_threshold_effect) {
  eager();
  open_shards(64, 1024);
  knob("l25.contention_threshold", "6");
  load_of_two(64 * 6);
  CHECK(!haki_shards_check(&pool));
  CHECK_EQ(lines, 1); /* the first one tells of the knob */
  lines = 0;
  knob("log.level", "0");
  knob("l25.contention_threshold", "5");
  knob("log.level", "1");
  lines = 0;
  load_of_two(64 * 6);
  CHECK(haki_shards_check(&pool));
  CHECK_EQ(lines, 2);
  CHECK_STR(heard[0], "[L2.5_POOL] High load detected (avg=6), expanding");
  CHECK_STR(heard[1], "[L2.5_POOL] Expanded shards: 64 \xe2\x86\x92 128");
}

TEST(l25_wait_threshold_effect) {
  struct page *out[1];
  eager();
  knob("l25.contention_threshold", "1000000");
  knob("l25.shard_mix", "off");
  open_shards(64, 1024);
  for (int round = 0; round < 3; round++) {
    knob("l25.wait_threshold", round == 1 ? "498" : "497");
    pool.segment[0][0].list[C].lock = 1; /* each finds it held, and asks the next */
    for (int i = 0; i < (round == 0 ? 100 : 150); i++) haki_shards_take(&pool, C, 0, out, 1);
    pool.segment[0][0].list[C].lock = 0;
    finish(start(other_user, NULL));
    lines = 0;
    CHECK_EQ(haki_shards_check(&pool), round == 2); /* 201 attempts say nothing yet */
  }
  CHECK_EQ(lines, 2);
  CHECK_STR(heard[0], "[L2.5_POOL] Lock waits detected (49.8%), expanding");
  CHECK_STR(heard[1], "[L2.5_POOL] Expanded shards: 64 \xe2\x86\x92 128");
  uint64_t ops, waits;
  haki_shards_waits(&pool, &ops, &waits);
  CHECK_EQ(waits, 400);
  CHECK_EQ(ops, 803);
}

#if HAK_FAULT
TEST(growth_without_memory_changes_nothing) {
  eager();
  open_shards(2, 64);
  load_of_two(1000);
  haki_shards_put(&pool, C, 0, chain(0, 3), 3);
  size_t metadata = haki_meta_bytes();
  haki_fault_arm(HAK_FAULT_META, 1, true);
  CHECK(!haki_shards_check(&pool));
  haki_fault_disarm();
  CHECK_EQ(haki_shards_count(&pool), 2);
  CHECK_EQ(pool.failures, 1);
  CHECK_EQ(pool.expansions, 0);
  CHECK_EQ(haki_meta_bytes(), metadata);
  CHECK_EQ(lines, 2);
  CHECK(strstr(heard[1], "No memory to expand shards") != NULL);
  everything_is_there(3);
  load_of_two(1000);
  CHECK(haki_shards_check(&pool)); /* the next time there is memory */
  CHECK_EQ(haki_shards_count(&pool), 4);
}
#endif

TEST(first_use_says_so) {
  int fd[2];
  CHECK_EQ(pipe(fd), 0);
  int old = dup(2);
  dup2(fd[1], 2);
  setenv("HAKMEM_LOG", "1", 1);
  hak_free(hak_malloc(10));
  dup2(old, 2);
  char text[4096] = {0};
  CHECK_CMP(read(fd[0], text, sizeof text - 1), >, 0);
  const char *line = HAK_AUDIT_BUILD ? "[L2.5_POOL] Initialized (shards=2, max=8)\n"
                                     : "[L2.5_POOL] Initialized (shards=64, max=1024)\n";
  CHECK(strstr(text, line) != NULL);
}

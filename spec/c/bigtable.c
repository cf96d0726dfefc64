/* bigtable.c - the growing table of big blocks by itself: growth, chains, lists, threads.
 * Why:   an entry out of reach is memory nobody gets back; one found twice is worse.
 * Not:   the cache around it (bigcache.c). The blocks here are pairs of descriptors without memory.
 * Start: all_are_found_again_after_growth. */
#include "big.h"

#include "base/debug.h"
#include "map/meta.h"
#include "os/os.h"

enum { FAKES = 50000, FIRST = HAK_AUDIT_BUILD ? 4 : 32 };
static struct page fake[FAKES][2];
static struct haki_bigtable table;
static uint64_t ticks; /* the time that entries are told */

static void open_table(uint32_t first, uint32_t load_percent) {
  memset(&table, 0, sizeof table);
  table.mix64 = true;
  CHECK(haki_bigtable_init(&table, first, load_percent));
}

static struct page *entry(size_t i, unsigned c, uintptr_t site, unsigned level) {
  struct page *p = fake[i];
  HAK_PAGE_SET(p, cls, (uint8_t)c);
  HAK_PAGE_SET(p, kind, HAK_PAGE_CACHED);
  HAK_BIG_SITE(p) = site;
  HAK_BIG_HASH(p) = haki_bigtable_hash(&table, c, site);
  HAK_BIG_SINCE(p) = ++ticks;
  haki_big_set_level(p, level);
  return p;
}
static void insert(size_t i, unsigned c, uintptr_t site, unsigned level) {
  haki_bigtable_insert(&table, entry(i, c, site, level));
}
static struct page *of_site(unsigned c, uintptr_t site) {
  return haki_bigtable_take_site(&table, c, site, haki_bigtable_hash(&table, c, site));
}
/* From whatever stripe, the oldest there. */
static struct page *oldest(unsigned level, uint64_t until) {
  struct page *p = NULL;
  for (uint32_t s = 0; s < HAK_BIG_STRIPES && p == NULL; s++)
    p = haki_bigtable_take_oldest(&table, s, level, until);
  return p;
}
static size_t number(const struct page *p) { return (size_t)(p - fake[0]) / 2; }

TEST(classes_are_eight_per_doubling_and_hold_what_is_asked) {
  CHECK(!haki_big_fits(512 * KIB));
  CHECK(haki_big_fits(512 * KIB + 1));
  CHECK(haki_big_fits(64 * MIB));
  CHECK(!haki_big_fits(64 * MIB + 1));
  CHECK_EQ(haki_big_class(512 * KIB + 1), 0);
  CHECK_EQ(haki_big_class(64 * MIB), HAK_BIG_CLASSES - 1);
  for (size_t n = 512 * KIB + 4096; n <= 64 * MIB; n += 4096) {
    unsigned c = haki_big_class(n);
    size_t most = haki_big_class_bytes(c), least = c ? haki_big_class_bytes(c - 1) : 512 * KIB;
    CHECK(n <= most && n > least);
    CHECK_CMP(most - least, <=, n / 8);
    /* every block of a class fits every request of it: they take equally many chunks */
    CHECK_EQ((n - 1) / HAK_CHUNK_SIZE, (most - 1) / HAK_CHUNK_SIZE);
  }
}

TEST(an_entry_is_found_by_site_and_class) {
  open_table(FIRST, 75);
  CHECK(of_site(3, 100) == NULL);
  insert(0, 3, 100, 0);
  insert(1, 3, 100, 0);
  insert(2, 3, 200, 0);
  insert(3, 4, 100, 0);
  CHECK_EQ(table.entries, 4);
  CHECK(of_site(5, 100) == NULL);
  CHECK(of_site(3, 300) == NULL);
  CHECK(of_site(3, 100) == fake[1]); /* the newest */
  CHECK(of_site(3, 100) == fake[0]);
  CHECK(of_site(3, 100) == NULL);
  struct page *p = haki_bigtable_take_class(&table, 3, 0, false);
  CHECK(p == fake[2]);
  CHECK(haki_bigtable_take_class(&table, 3, 0, true) == NULL);
  CHECK(haki_bigtable_ok(&table));
  CHECK(of_site(4, 100) == fake[3]);
  CHECK_EQ(table.entries, 0);
  CHECK(haki_bigtable_ok(&table));
  haki_bigtable_destroy(&table);
}

TEST(purged_entries_are_the_last_resort) {
  open_table(FIRST, 75);
  insert(0, 3, 100, HAK_BIG_PURGED);
  CHECK(of_site(3, 100) == NULL);
  CHECK(haki_bigtable_take_class(&table, 3, 0, false) == NULL);
  insert(1, 3, 100, 2); /* the same hash: the same stripe */
  insert(2, 3, 100, HAK_BIG_PURGED);
  CHECK(haki_bigtable_take_class(&table, 3, 0, false) == fake[1]);
  CHECK(haki_bigtable_take_class(&table, 3, 0, false) == NULL);
  insert(3, 3, 100, HAK_BIG_COOLING); /* has its memory */
  CHECK(haki_bigtable_ok(&table));
  CHECK(of_site(3, 100) == fake[3]);
  insert(3, 3, 100, HAK_BIG_PURGED);
  CHECK(haki_bigtable_take_class(&table, 3, 0, true) == fake[3]);
  CHECK(haki_bigtable_take_class(&table, 3, 0, true) == fake[2]);
  insert(2, 3, 100, HAK_BIG_PURGED);
  CHECK(haki_bigtable_take_oldest(&table, HAK_BIG_HASH(fake[0]) % HAK_BIG_STRIPES, HAK_BIG_PURGED,
                                  ticks) == fake[0]);
  CHECK(haki_bigtable_take_oldest(&table, HAK_BIG_HASH(fake[2]) % HAK_BIG_STRIPES, HAK_BIG_PURGED,
                                  ticks) == fake[2]);
  haki_bigtable_destroy(&table);
}

TEST(the_oldest_goes_first_also_when_it_was_elsewhere) {
  open_table(FIRST, 75);
  for (size_t i = 0; i < 4; i++) insert(i, 3, 100, 1);
  CHECK(oldest(1, 0) == NULL); /* none is as old as that */
  CHECK(oldest(0, ticks) == NULL);
  struct page *p = oldest(1, ticks);
  CHECK(p == fake[0]);
  haki_bigtable_insert(&table, p); /* taken and put back: its age is what it was */
  CHECK(oldest(1, HAK_BIG_SINCE(p)) == p);
  for (size_t i = 1; i < 4; i++) CHECK(oldest(1, ticks) == fake[i]);
  haki_bigtable_destroy(&table);
}

TEST(hashes_are_those_that_the_knob_names) {
  table.mix64 = false;
  uint32_t x = 0x12345678u ^ 0x9abcu ^ (uint32_t)haki_big_class_bytes(5);
  x ^= x >> 16;
  x *= 0x85ebca6b;
  x ^= x >> 13;
  x *= 0xc2b2ae35;
  x ^= x >> 16;
  CHECK_EQ(haki_bigtable_hash(&table, 5, 0x9abc12345678u), x);
  for (int mixed = 0; mixed < 2; mixed++) { /* code addresses lie close together */
    open_table(1024, 1000);
    table.mix64 = mixed;
    for (size_t i = 0; i < 768; i++) insert(i, (unsigned)(i % 5), 0x555555554000u + i / 5 * 24, 0);
    uint64_t chains[5];
    haki_bigtable_chains(&table, chains);
    CHECK_CMP(chains[1] + chains[2] + chains[3], >=, (chains[4] * 30));
    CHECK_CMP(chains[0], <=, 8);
    haki_bigtable_destroy(&table);
  }
}

/* ---- growth ---------------------------------------------------------------------------------- */

static char heard[20][120];
static int lines;
static void hear(int level, const char *line, void *ud) {
  (void)ud;
  CHECK_EQ(level, 1);
  if (lines < 20) snprintf(heard[lines++], sizeof heard[0], "%s", line);
}
static void listen_to_log(void) {
  hak_log_set_sink(hear, NULL);
  knob("log.level", "1");
  lines = 0;
}

static unsigned class_at(size_t i) { return (unsigned)(i % HAK_BIG_CLASSES); }
static uintptr_t site_at(size_t i) { return 0x400000 + i / 3 * 40; }

TEST(all_are_found_again_after_growth) {
  size_t peak = haki_meta_bytes();
  listen_to_log();
  open_table(256, 75);
  for (size_t i = 0; i < FAKES; i++) {
    insert(i, class_at(i), site_at(i), (unsigned)(i % 8));
    bool grown = haki_bigtable_grow(&table, 65536, 75);
    CHECK_EQ(grown, lines != 0 && i + 1 == (size_t)192 << (lines - 1));
    if (i % 997 == 0) CHECK(haki_bigtable_ok(&table));
    if (i % 3 != 0) continue; /* some are in use meanwhile: found in half-split chains too */
    size_t k = i * 7 % (i + 1);
    struct page *p = of_site(class_at(k), site_at(k));
    CHECK(p != NULL && HAK_BIG_SITE(p) == site_at(k) && haki_big_class_of(p) == class_at(k));
    haki_bigtable_insert(&table, p);
  }
  CHECK_EQ(haki_bigtable_count(&table), 65536);
  CHECK_EQ(table.resizes, 8);
  CHECK_EQ(table.failures, 0);
  CHECK_EQ(table.entries, FAKES);
  CHECK_CMP(table.worst, >, 0);
  CHECK_EQ(lines, 8);
  CHECK_STR(heard[0], "[BigCache] Resized: 256 \xe2\x86\x92 512 buckets (192 entries)");
  CHECK_STR(heard[1], "[BigCache] Resized: 512 \xe2\x86\x92 1024 buckets (384 entries)");
  CHECK_STR(heard[7], "[BigCache] Resized: 32768 \xe2\x86\x92 65536 buckets (24576 entries)");
  CHECK_CMP(haki_meta_bytes() - peak, <=, 65536 * sizeof(void *) + 4096); /* no nodes */
  CHECK(haki_bigtable_ok(&table));
  uint64_t chains[5], in_chains = 0;
  haki_bigtable_chains(&table, chains);
  CHECK_CMP(chains[0], <=, 12);
  for (int k = 1; k <= 3; k++) in_chains += chains[k];
  CHECK_CMP(in_chains, >=, chains[4] * 20); /* typically one to three */
  static bool seen[FAKES];
  for (size_t i = 0; i < FAKES; i++) {
    struct page *p = of_site(class_at(i), site_at(i));
    CHECK(p != NULL && !seen[number(p)]);
    CHECK(HAK_BIG_SITE(p) == site_at(i) && haki_big_class_of(p) == class_at(i));
    seen[number(p)] = true;
  }
  CHECK_EQ(table.entries, 0);
  CHECK(haki_bigtable_ok(&table));
  haki_bigtable_destroy(&table);
  CHECK_EQ(haki_meta_bytes(), peak);
}

/* Doubled over and over with no bucket used meanwhile: the first use splits through all of them. */
TEST(a_bucket_is_split_however_late_it_is_used) {
  open_table(FIRST, 1000);
  for (size_t i = 0; i < 500; i++) insert(i, class_at(i), site_at(i), 0);
  for (int k = 0; k < 6; k++) {
    atomic_store(&table.grow_at, 0);
    CHECK(haki_bigtable_grow(&table, 65536, 1000));
  }
  CHECK_EQ(haki_bigtable_count(&table), FIRST << 6);
  CHECK(haki_bigtable_ok(&table));
  for (size_t i = 500; i-- > 0;) CHECK(of_site(class_at(i), site_at(i)) != NULL);
  CHECK_EQ(table.entries, 0);
  haki_bigtable_destroy(&table);
}

TEST(it_grows_no_further_than_the_most) {
  open_table(FIRST, 50);
  for (size_t i = 0; i < 10000; i++) {
    insert(i, class_at(i), site_at(i), 0);
    haki_bigtable_grow(&table, FIRST * 8 - 1, 50);
  }
  CHECK_EQ(haki_bigtable_count(&table), FIRST * 4);
  for (size_t i = 0; i < 10000; i++) CHECK(of_site(class_at(i), site_at(i)) != NULL);
  haki_bigtable_destroy(&table);
}

#if HAK_FAULT
TEST(growth_without_memory_changes_nothing) {
  listen_to_log();
  open_table(FIRST, 75);
  for (size_t i = 0; i < FIRST; i++) insert(i, class_at(i), site_at(i), 0);
  size_t metadata = haki_meta_bytes();
  haki_fault_arm(HAK_FAULT_META, 1, true);
  CHECK(!haki_bigtable_grow(&table, 65536, 75));
  CHECK(!haki_bigtable_grow(&table, 65536, 75)); /* not asked again at once */
  haki_fault_disarm();
  CHECK_EQ(haki_fault_hits(), 1);
  CHECK_EQ(table.failures, 1);
  CHECK_EQ(table.resizes, 0);
  CHECK_EQ(haki_bigtable_count(&table), FIRST);
  CHECK_EQ(haki_meta_bytes(), metadata);
  CHECK_EQ(lines, 1);
  CHECK(strstr(heard[0], "No memory to resize") != NULL);
  CHECK(haki_bigtable_ok(&table));
  for (size_t i = FIRST; i < FIRST * 2; i++) insert(i, class_at(i), site_at(i), 0);
  CHECK(haki_bigtable_grow(&table, 65536, 75)); /* the next time there is memory */
  for (size_t i = 0; i < FIRST * 2; i++) CHECK(of_site(class_at(i), site_at(i)) != NULL);
  haki_bigtable_destroy(&table);
}
#endif

/* ---- threads --------------------------------------------------------------------------------- */

enum { POOL = 3000 };
static _Atomic(int) held[POOL];
static _Atomic(uint64_t) found;
static size_t sites;

static void has(const struct page *p) {
  CHECK_EQ(atomic_fetch_add(&held[number(p)], 1), 0); /* nobody else was given it */
  atomic_fetch_add_explicit(&found, 1, memory_order_relaxed);
}
static void put_back(uint64_t *seed, struct page *p) {
  size_t i = number(p), site = below(seed, sites);
  uint64_t since = HAK_BIG_SINCE(p);
  unsigned c = (unsigned)below(seed, 4);
  HAK_PAGE_SET(p, cls, (uint8_t)c);
  HAK_BIG_SITE(p) = site;
  HAK_BIG_HASH(p) = haki_bigtable_hash(&table, c, site);
  HAK_BIG_SINCE(p) = since + below(seed, 3);
  haki_big_set_level(p, (unsigned)below(seed, HAK_BIG_LISTS));
  atomic_fetch_sub(&held[i], 1);
  haki_bigtable_insert(&table, p);
  haki_bigtable_grow(&table, 65536, 75);
}
static struct page *take_somehow(uint64_t *seed) {
  unsigned c = (unsigned)below(seed, 4);
  uintptr_t site = below(seed, sites);
  switch (below(seed, 4)) {
    case 0: return haki_bigtable_take_class(&table, c, (uint32_t)site, below(seed, 2) != 0);
    case 1:
      return haki_bigtable_take_oldest(&table, (uint32_t)below(seed, HAK_BIG_STRIPES),
                                       (unsigned)below(seed, HAK_BIG_LISTS), UINT64_MAX);
    default: return of_site(c, site);
  }
}

static _Atomic(uint64_t) order;
static void *hammer(void *range) { /* brings its own blocks in, takes whatever it finds */
  uint64_t seed = atomic_fetch_add(&order, 1), chains[5];
  size_t from = (uintptr_t)range;
  struct page *mine[16];
  size_t n = 0;
  for (size_t i = 0; i < rounds(60000, 6000); i++) {
    if (i < POOL / 8) { /* the table grows meanwhile */
      atomic_fetch_add(&held[from + i], 1);
      put_back(&seed, fake[from + i]);
    }
    struct page *p = n < 16 ? take_somehow(&seed) : NULL;
    if (p != NULL) {
      has(p);
      mine[n++] = p;
    } else if (n != 0) {
      put_back(&seed, mine[--n]);
    }
    if (i % 4096 == 0) haki_bigtable_chains(&table, chains);
  }
  while (n != 0) put_back(&seed, mine[--n]);
  return NULL;
}

static void nothing_is_lost(void) {
  for (size_t i = 0; i < POOL; i++) CHECK_EQ(held[i], 0);
  CHECK_EQ(table.entries, POOL);
  CHECK(haki_bigtable_ok(&table));
  size_t total = 0;
  for (unsigned level = 0; level < HAK_BIG_LISTS; level++)
    for (struct page *p; (p = oldest(level, UINT64_MAX)) != NULL; total++) has(p);
  CHECK_EQ(total, POOL);
  CHECK(haki_bigtable_ok(&table));
  for (size_t i = 0; i < POOL; i++) held[i] = 0;
}

static void hammered(size_t how_many_sites) {
  sites = how_many_sites;
  for (uint32_t round = 1; round <= rounds(4, 3); round++) {
#if HAK_FAULT
    haki_sched_seed(round * 77);
#endif
    open_table(FIRST, 75);
    for (size_t i = 0; i < POOL; i++) HAK_PAGE_SET(fake[i], kind, HAK_PAGE_CACHED);
    pthread_t t[8];
    for (uintptr_t i = 0; i < 8; i++) t[i] = start(hammer, (void *)(i * (POOL / 8)));
    for (int i = 0; i < 8; i++) finish(t[i]);
    CHECK_CMP(haki_bigtable_count(&table), >=, 4096);
    nothing_is_lost();
    haki_bigtable_destroy(&table);
  }
  CHECK_CMP(found, >, POOL);
}

TEST(threads_at_few_sites_lose_nothing) { hammered(3); }
TEST(threads_at_many_sites_lose_nothing) { hammered(5000); }

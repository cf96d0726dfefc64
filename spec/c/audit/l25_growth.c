/* l25_growth.c - the pool of large blocks grows under load while the memory for it fails.
 * Why:   a growth that fails half-way must leave the pool as it was, under the hands of those who
 *        take from it and give to it meanwhile.
 * Owns:  no block lost (payloads, statistics), none given twice (payloads), nothing leaks.
 * Not:   growth by itself (../shards.c), other failures (fault.c).
 * Start: storm(). */
#include "../check.h"

#include "heap/arena.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "map/region.h"
#include "os/os.h"
#include "pool/l25.h"

enum { WORKERS = 16, HELD = 6, SLOTS = 32, WORDS = 4096 / sizeof(uint64_t) };
enum { GROWTH = HAK_FAULT_META | HAK_FAULT_RESERVE | HAK_FAULT_COMMIT }; /* what it asks for */

/* ---- blocks whose first and last page are told from all others ------------------------------- */

struct box {
  uint64_t words, tag; /* the first of its words */
};

static void mark(uint64_t *page, size_t from, uint64_t tag) {
  for (size_t i = from; i < WORDS; i++) page[i] = tag * 0x9e3779b97f4a7c15u + i;
}
static bool marked(const uint64_t *page, size_t from, uint64_t tag) {
  for (size_t i = from; i < WORDS; i++)
    if (page[i] != tag * 0x9e3779b97f4a7c15u + i) return false;
  return true;
}
static uint64_t *last_page(struct box *b) { return (uint64_t *)b + b->words - WORDS; }

static hak_arena *place;
static _Atomic(struct box *) slot[SLOTS];
static _Atomic(uint64_t) refused;

static struct box *box_up(uint64_t *seed) {
  size_t n = 64 * KIB + below(seed, 960 * KIB + 1);
  struct box *b = hak_arena_alloc(place, n);
  if (b == NULL) {
    atomic_fetch_add(&refused, 1);
    return NULL;
  }
  *b = (struct box){n / sizeof(uint64_t), rnd(seed)};
  mark((uint64_t *)b, 2, b->tag);
  mark(last_page(b), 0, ~b->tag);
  return b;
}

static void unbox(struct box *b) {
  if (b == NULL) return;
  CHECK(marked((uint64_t *)b, 2, b->tag));
  CHECK(marked(last_page(b), 0, ~b->tag));
  hak_free(b);
}

/* ---- the storm ------------------------------------------------------------------------------- */

static pthread_barrier_t gate;
static void meet(void) { pthread_barrier_wait(&gate); }
static uint32_t storms;

static void *worker(void *number) {
  uint64_t seed = (uintptr_t)number + storms * 100;
  struct box *mine[HELD] = {NULL};
  unbox(box_up(&seed)); /* has its heap and its cache */
  meet();
  meet();
  for (int i = 0; i < 3000; i++) {
    struct box **at = &mine[below(&seed, HELD)];
    unbox(below(&seed, 4) ? *at : atomic_exchange(&slot[below(&seed, SLOTS)], *at));
    *at = box_up(&seed);
  }
  for (int i = 0; i < HELD; i++) unbox(mine[i]);
  return NULL;
}

static _Atomic(uint64_t) grown, failed;
static void hear(int level, const char *line, void *ud) {
  unsigned from, to;
  (void)ud;
  if (sscanf(line, "[L2.5_POOL] Expanded shards: %u \xe2\x86\x92 %u", &from, &to) == 2) {
    CHECK_EQ(level, 1);
    CHECK_EQ(to, from * 2);
    grown++;
  }
  if (sscanf(line, "[L2.5_POOL] No memory to expand shards: %u stay", &from) == 1) {
    CHECK_EQ(from, haki_shards_count(&place->pool->shards));
    failed++;
  }
}

static void eager(const char *first, const char *most) {
  const char *names[] = {"l25.check_interval", "l25.contention_threshold", "l25.cache_bytes",
                         "l25.initial_shards", "l25.max_shards",           "log.level"};
  const char *values[] = {"0", "1", "0", first, most, "1"};
  hak_log_set_sink(hear, NULL);
  CHECK_EQ(hak_configure(names, values, HAK_COUNT_OF(names), NULL, 0), 0);
  place = arena_of_kind(HAK_ARENA_SHARED, 0);
}

/* Pages of the shards that there are, of each growth. */
static size_t shard_metadata(void) {
  struct haki_shards *s = &place->pool->shards;
  size_t bytes = 0;
  for (uint32_t n = s->first; n <= haki_shards_count(s); n *= 2)
    bytes += haki_align_up((n == s->first ? n : n / 2) * sizeof(struct haki_shard), 4096);
  return bytes;
}
/* But for shards, and for the descriptors of chunks, which are as many as were in use at once. */
static size_t other_metadata(void) {
  size_t chunks = 0;
  for (uint32_t r = 0; r < haki_region_count; r++) chunks += haki_regions[r].fresh;
  return haki_meta_bytes() - shard_metadata() -
         chunks * (HAK_CHUNK_PAGES * sizeof(struct page) + sizeof(struct chunk) + 1);
}

static void all_is_there(uint64_t expansions) {
  struct haki_shards *s = &place->pool->shards;
  CHECK_EQ(stat_of(place, "large.blocks"), 0);
  CHECK_EQ(stat_of(place, "l25.cached"), stat_of(place, "charged"));
  balanced(place);
  balanced(NULL);
  CHECK_EQ(hak_arena_trim(place), 0);
  CHECK_EQ(stat_of(place, "l25.cached"), 0);
  CHECK_EQ(stat_of(place, "charged"), 0);
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++)
    for (unsigned w = 0; w < HAK_SHARD_WORDS; w++) CHECK_EQ(s->nonempty[c][w], 0);
  CHECK_EQ(stat_of(place, "l25.expansions"), expansions);
  CHECK_EQ(haki_shards_count(s), s->first << expansions);
  for (unsigned k = 0; k < HAK_SHARD_SEGMENTS; k++)
    CHECK_EQ(s->segment[k] != NULL, k <= expansions);
  CHECK(haki_audit());
}

enum failing { NONE, RANDOM, FROM_THEN_ON };

/* WORKERS threads for a while, with the growth failing. */
static void storm(enum failing how, unsigned kinds, uint32_t number) {
  pthread_t t[WORKERS];
  uint64_t failures = place->pool != NULL ? stat_of(place, "l25.failures") : 0;
  uint64_t expansions = place->pool != NULL ? stat_of(place, "l25.expansions") : 0;
  grown = failed = refused = 0;
  storms++;
  pthread_barrier_init(&gate, NULL, WORKERS + 1);
  for (uintptr_t i = 0; i < WORKERS; i++) t[i] = start(worker, (void *)(i + 1));
  meet();
  size_t metadata = other_metadata();
  haki_sched_seed(storms);
  if (how == RANDOM) haki_fault_random(kinds, number, 2 + number % 3);
  if (how == FROM_THEN_ON) haki_fault_arm(kinds, 1 + number, true);
  meet();
  for (int i = 0; i < WORKERS; i++) finish(t[i]);
  haki_fault_disarm();
  haki_sched_seed(0);
  for (int i = 0; i < SLOTS; i++) unbox(atomic_exchange(&slot[i], NULL));
  if (how == NONE || kinds == HAK_FAULT_META) CHECK_EQ(refused, 0); /* blocks need none of it */
  all_is_there(expansions + grown);
  CHECK_EQ(other_metadata(), metadata); /* a growth that failed has kept nothing */
  CHECK_EQ(stat_of(place, "l25.failures"), failures + failed);
  if (how == NONE) CHECK_EQ(failed, 0);
}

static void until_shards(uint32_t most) {
  for (int i = 0; i < 60 && stat_of(place, "l25.shards") < most; i++) storm(NONE, 0, 0);
  CHECK_EQ(stat_of(place, "l25.shards"), most);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void by_seeds(unsigned kinds) {
  uint64_t failures = 0, expansions = 0;
  for (uint32_t number = 0; number < 12; number++) {
    eager("1", "16");
    storm(number % 3 != 2 ? RANDOM : FROM_THEN_ON, kinds, number);
    failures += failed;
    expansions += grown;
    until_shards(16); /* afterwards there is memory: nothing has been spoilt */
    CHECK_EQ(hak_arena_destroy(place), 0);
  }
  CHECK_CMP(failures, >, 0);
  CHECK_CMP(expansions, >, 0);
  printf("# %lu growths failed, %lu came through among them\n", (unsigned long)failures,
         (unsigned long)expansions);
}

TEST(growth_with_metadata_failing_at_random) { by_seeds(HAK_FAULT_META); }
TEST(growth_with_anything_failing_at_random) { by_seeds(GROWTH); }

TEST(growth_without_memory_from_the_start) {
  eager("2", "64");
  for (int round = 0; round < 3; round++) {
    storm(FROM_THEN_ON, HAK_FAULT_META, 0);
    CHECK_EQ(grown, 0);
    CHECK_CMP(failed, >, 0);
    CHECK_EQ(stat_of(place, "l25.shards"), 2);
  }
  until_shards(64);
  CHECK_EQ(hak_arena_destroy(place), 0);
}

TEST(growth_to_the_most_there_may_be) {
  eager("1", "1024");
  while (stat_of(place, "l25.shards") < 64) storm(RANDOM, GROWTH, storms);
  until_shards(1024);
  storm(NONE, 0, 0);
  CHECK_EQ(grown, 0);
  CHECK_EQ(stat_of(place, "l25.expansions"), 10);
  CHECK_EQ(hak_arena_destroy(place), 0);
}

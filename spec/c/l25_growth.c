/* l25_growth.c - the pool of large blocks grows under load while the memory for it fails.
 * Why:   a growth that fails half-way must leave the pool as it was, under the hands of those who
 *        take from it and give to it meanwhile.
 * Owns:  no block lost (payloads, statistics), none given twice (payloads), nothing leaks.
 * Not:   growth by itself (shards.c), other failures (audit/fault.c). audit/l25_growth.c is the same
 *        program where things fail in every run of the tests.
 * Start: worker(), check_among_them().
 *
 * The workers go on until they are told to stop. Who checks for contention waits for their work, not
 * for time: so there is always load enough to want a growth, however slow the machine is. */
#include "check.h"

#include "heap/arena.h"
#include "heap/heap.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "map/region.h"
#include "os/os.h"
#include "pool/l25.h"

enum { WORKERS = 16, WAVE = 16, SLOTS = 32, END = 1024, CHECKS = 20000 };

/* ---- blocks whose first and last page are told from all others ------------------------------- */

struct box {
  uint64_t size, tag;
};

static hak_arena *place;
static _Atomic(struct box *) slot[SLOTS];
static _Atomic(uint64_t) refused, waves;
static _Atomic(bool) stop;

static char *tail_of(struct box *b) { return (char *)b + b->size - END; }

static struct box *box_up(uint64_t *seed, size_t pages) {
  size_t n = pages * HAK_PAGE_SIZE - below(seed, HAK_PAGE_SIZE / 2);
  struct box *b = hak_arena_alloc(place, n);
  if (b == NULL) {
    atomic_fetch_add(&refused, 1);
    return NULL;
  }
  *b = (struct box){n, rnd(seed)};
  fill(b + 1, END - sizeof *b, b->tag);
  fill(tail_of(b), END, ~b->tag);
  return b;
}

static void unbox(struct box *b) {
  if (b == NULL) return;
  CHECK(intact(b + 1, END - sizeof *b, b->tag));
  CHECK(intact(tail_of(b), END, ~b->tag));
  b->tag = 0; /* who has it, too, notices */
  hak_free(b);
}

/* ---- the storm ------------------------------------------------------------------------------- */

static pthread_barrier_t gate;
static void meet(void) { pthread_barrier_wait(&gate); }
static pthread_t thread[WORKERS];
static uint32_t storms;

/* More blocks of a class than a thread keeps: each wave asks the shards, and gives back to them. */
static void wave(uint64_t *seed) {
  struct box *mine[WAVE];
  size_t pages = 1 + below(seed, HAK_L25_PAGES_MAX);
  for (int i = 0; i < WAVE; i++) mine[i] = box_up(seed, pages);
  for (int i = 0; i < WAVE; i++) {
    bool swap = below(seed, 4) == 0;
    unbox(swap ? atomic_exchange(&slot[below(seed, SLOTS)], mine[i]) : mine[i]);
  }
  atomic_fetch_add(&waves, 1);
}

static void *worker(void *number) {
  uint64_t seed = (uintptr_t)number + storms * 100;
  unbox(box_up(&seed, 1)); /* has its heap and its cache: needs no metadata from here on */
  meet();
  meet();
  while (!stop) wave(&seed);
  return NULL;
}

static _Atomic(uint64_t) grown, failed; /* as the log has it: workers check, too, now and then */
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

/* An arena whose pool has `first` shards and wants more at each check; the workers wait. */
static void open_storm(const char *first, const char *most) {
  const char *names[] = {"drain.enabled",   "l25.check_interval", "l25.contention_threshold",
                         "l25.cache_bytes", "l25.max_shards",     "l25.initial_shards",
                         "log.level"};
  const char *values[] = {"off", "0", "1", "0", most, first, "1"};
  hak_log_set_sink(hear, NULL);
  CHECK_EQ(hak_configure(names, values, HAK_COUNT_OF(names), NULL, 0), 0);
  place = arena_of_kind(HAK_ARENA_SHARED, 0);
  grown = failed = 0;
  refused = waves = 0;
  stop = false;
  storms++;
  pthread_barrier_init(&gate, NULL, WORKERS + 1);
  for (uintptr_t i = 0; i < WORKERS; i++) thread[i] = start(worker, (void *)(i + 1));
  meet();
}

static void let_go(void) {
#if HAK_FAULT
  haki_sched_seed(storms);
#endif
  meet();
}

/* Once the workers have asked the shards for more than counts as much. That several have is chance,
 * but soon so. */
static void check_among_them(void) {
  uint64_t enough = waves + 64 + 4 * haki_shards_count(&place->pool->shards);
  while (waves < enough) nap(1);
  haki_shards_check(&place->pool->shards);
}

static void until_shards(uint32_t most) {
  for (int i = 0; i < CHECKS && haki_shards_count(&place->pool->shards) < most; i++)
    check_among_them();
  CHECK_EQ(haki_shards_count(&place->pool->shards), most);
}

/* All blocks come back, the pool is whole, and has grown by what was said. Then the arena goes. */
static void close_storm(void) {
  struct haki_shards *s = &place->pool->shards;
  stop = true;
  for (int i = 0; i < WORKERS; i++) finish(thread[i]);
#if HAK_FAULT
  haki_fault_disarm();
  haki_sched_seed(0);
#endif
  for (int i = 0; i < SLOTS; i++) unbox(atomic_exchange(&slot[i], NULL));
  CHECK_EQ(stat_of(place, "large.blocks"), 0);
  CHECK_EQ(stat_of(place, "l25.cached"), stat_of(place, "charged"));
  balanced(place);
  balanced(NULL);
  CHECK(haki_audit());
  CHECK_EQ(hak_arena_trim(place), 0);
  CHECK_EQ(stat_of(place, "charged"), 0);
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++)
    for (unsigned w = 0; w < HAK_SHARD_WORDS; w++) CHECK_EQ(s->nonempty[c][w], 0);
  CHECK_EQ(stat_of(place, "l25.expansions"), grown);
  CHECK_EQ(stat_of(place, "l25.failures"), failed);
  CHECK_EQ(haki_shards_count(s), s->first << grown);
  for (unsigned k = 0; k < HAK_SHARD_SEGMENTS; k++)
    CHECK_EQ(s->segment[k] != NULL, k <= grown); /* a growth that failed has kept nothing */
  CHECK_EQ(hak_arena_destroy(place), 0);
}

/* ---- cases ----------------------------------------------------------------------------------- */

TEST(growth_among_sixteen_threads) {
  for (size_t i = 0; i < rounds(10, 3); i++) {
    open_storm("1", "64");
    let_go();
    until_shards(64);
    CHECK_EQ(refused, 0);
    CHECK_EQ(failed, 0);
    close_storm();
  }
}

TEST(growth_to_the_most_there_may_be) {
  uint32_t most = CHECK_SANITIZED ? 256 : 1024;
  open_storm("1", CHECK_SANITIZED ? "256" : "1024");
  let_go();
  until_shards(most);
  for (int i = 0; i < 5; i++) check_among_them();
  CHECK_EQ(haki_shards_count(&place->pool->shards), most);
  close_storm();
}

#if HAK_FAULT
enum { ANYTHING = HAK_FAULT_META | HAK_FAULT_RESERVE | HAK_FAULT_COMMIT };

/* But for the descriptors of chunks, which are as many as were in use at once, and those of arenas,
 * which are used again after 64 others. */
static size_t other_metadata(void) {
  size_t chunks = 0, bytes = haki_meta_bytes();
  for (uint32_t r = 0; r < haki_region_count; r++) chunks += haki_regions[r].fresh;
  return bytes - storms * haki_align_up(sizeof(struct hak_arena), HAK_CACHE_LINE) -
         chunks * (HAK_CHUNK_PAGES * sizeof(struct page) + sizeof(struct chunk) + 1);
}

static void by_seeds(unsigned kinds) {
  uint64_t failures = 0;
  size_t metadata = 0;
  for (uint32_t seed = 0; seed < rounds(24, 8); seed++) {
    open_storm("1", "16");
    if (seed != 0) haki_fault_random(kinds, seed, 2 + seed % 3);
    let_go();
    until_shards(16);
    if (kinds == HAK_FAULT_META) CHECK_EQ(refused, 0); /* blocks need none of it */
    if (seed == 0) CHECK_EQ(failed, 0);
    failures += failed;
    close_storm();
    if (seed == 1) metadata = other_metadata(); /* after the first this thread has heaps, too */
    if (seed > 1) CHECK_EQ(other_metadata(), metadata);
  }
  CHECK_CMP(failures, >, 4);
  printf("# %lu growths failed\n", (unsigned long)failures);
}

TEST(growth_with_metadata_failing_at_random) { by_seeds(HAK_FAULT_META); }
TEST(growth_with_anything_failing_at_random) { by_seeds(ANYTHING); }

TEST(growth_without_memory_for_long) {
  open_storm("2", "16");
  haki_fault_arm(HAK_FAULT_META, 1, true);
  let_go();
  for (int i = 0; i < 50; i++) check_among_them();
  CHECK_EQ(haki_shards_count(&place->pool->shards), 2);
  CHECK_EQ(grown, 0);
  CHECK_CMP(failed, >, 0);
  haki_fault_disarm();
  until_shards(16); /* afterwards there is memory: nothing has been spoilt */
  CHECK_EQ(refused, 0);
  close_storm();
}
#endif

/* stats.c - statistics are read from the descriptors, not counted on the way.
 *
 * Why:   what can be derived at a read costs nothing at an allocation.
 * Owns:  nothing.
 * Locks: REGISTRY while one arena or all are read, ARENA while lists of heaps are; descriptors are read
 *        as they are, relaxed.
 * Start: haki_api_stats_read().
 *
 * Blocks in a thread's bins count as live in their pages. For heaps of the calling thread they are
 * counted and taken off: its figures are exact. */
#include <pthread.h>
#include <string.h>

#include "base/stat.h"
#include "heap/arena.h"
#include "heap/core.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "map/region.h"
#include "os/os.h"

enum { REFILLS, FRESH, RETIRED, REMOTE, ADOPTED, HEAP_CELLS };

struct sums {
  struct hak_arena *arena; /* NULL: all */
  uint64_t v[HAK_STAT_COUNT];
  uint64_t in_chunks;                                  /* bytes of chunks in use */
  uint64_t lowest, highest;                            /* the page descriptors to visit */
  uint64_t shared_charged, shared_large, shared_slabs; /* the rest lies in pools */
  size_t class_blocks[HAK_CLASSES], class_slabs[HAK_CLASSES], class_active[HAK_CLASSES];
  struct haki_l25_class_sum l25[HAK_L25_CLASSES];
};
#define SUM(s, group, name) ((s)->v[HAK_STAT(group, name)])

/* ---- slabs and free pages, from the descriptors ---- */

static void add_slab(struct sums *s, struct page *p) {
  struct hak_arena *arena;
  struct haki_heap *h = haki_slab_owner(p, &arena);
  if (h == NULL || (s->arena != NULL && arena != s->arena)) return;
  unsigned c = haki_page_class(p);
  size_t live = haki_slab_live(p), commit = haki_slab_commit(p), held = 0;
  if (!h->is_private) s->shared_slabs += commit;
  for (size_t i = 0; i < haki_slab_pages(c); i++)
    held += (size_t)HAK_PAGE_GET(&p[i], touched) * HAK_UNIT;
  SUM(s, small, slabs)++;
  SUM(s, top, blocks) += live;
  SUM(s, top, allocated) += live * haki_class_size(c);
  *(live != 0 ? &SUM(s, top, active) : &SUM(s, top, cached)) += commit;
  if (held > commit) SUM(s, top, cached) += held - commit; /* of a former life, used again first */
  s->class_blocks[c] += live;
  s->class_slabs[c]++;
  s->class_active[c] += commit;
}

static void add_free(struct sums *s, const struct chunk *c, unsigned i, const struct page *p) {
  if (s->arena != NULL) return;
  /* not free: inside of a block, whose first page speaks for it, or kept to be cut or purged */
  if ((c->dirty >> i & 1) != 0 || (c->free >> i & 1) == 0)
    SUM(s, top, cached) += (size_t)HAK_PAGE_GET((struct page *)p, touched) * HAK_UNIT;
  else if ((c->touched >> i & 1) != 0)
    SUM(s, top, purged) += HAK_PAGE_SIZE;
}

static void add_retained(struct sums *s, struct page *p) {
  if (s->arena == NULL) SUM(s, top, cached) += (size_t)HAK_PAGE_GET(p, touched) * HAK_UNIT;
}

static void add_pages(struct sums *s, struct haki_region *r, size_t at) {
  struct page *p = &r->pages[at * HAK_CHUNK_PAGES];
  haki_lock(&haki_chunk_lock);
  const struct chunk c = r->chunks[at];
  haki_unlock(&haki_chunk_lock);
  for (unsigned i = 0; i < HAK_CHUNK_PAGES; i++) {
    unsigned kind = haki_page_kind(&p[i]);
    if (kind == HAK_PAGE_SLAB) add_slab(s, &p[i]);
    if (kind == HAK_PAGE_FREE) add_free(s, &c, i, &p[i]);
    if (kind == HAK_PAGE_RETAINED) add_retained(s, &p[i]);
    if (kind == HAK_PAGE_NURSERY && s->arena == NULL) SUM(s, top, cached) += HAK_PAGE_SIZE;
  }
}

static void add_spare(struct sums *s, struct haki_region *r, uint32_t at) {
  haki_lock(&haki_chunk_lock);
  size_t bytes = (size_t)r->chunks[at].spare * HAK_UNIT;
  haki_unlock(&haki_chunk_lock);
  s->in_chunks += bytes;
  if (s->arena == NULL) SUM(s, top, cached) += bytes;
}

static void add_regions(struct sums *s) {
  uint32_t count = atomic_load_explicit(&haki_region_count, memory_order_acquire);
  for (uint32_t k = 0; k < count; k++) {
    struct haki_region *r = &haki_regions[k];
    uint32_t fresh = atomic_load_explicit(&r->fresh, memory_order_acquire);
    for (uint32_t i = 0; i < fresh; i++) {
      unsigned kind = haki_chunk_kind(r, i);
      const struct page *first = &r->pages[(size_t)i * HAK_CHUNK_PAGES];
      if ((uintptr_t)(first + HAK_CHUNK_PAGES) <= s->lowest || (uintptr_t)first > s->highest)
        continue;
      if (kind == HAK_CHUNK_SPARE) {
        add_spare(s, r, i);
        continue;
      }
      if (kind != HAK_CHUNK_NONE) s->in_chunks += HAK_CHUNK_SIZE;
      if (kind == HAK_CHUNK_SPLIT) add_pages(s, r, i);
    }
  }
}

/* ---- heaps and arenas ---- */

static void widen(struct sums *s, const struct haki_heap *h) {
  uint64_t lowest = haki_cell_get(&h->lowest), highest = haki_cell_get(&h->highest);
  if (lowest != 0 && lowest < s->lowest) s->lowest = lowest;
  if (highest > s->highest) s->highest = highest;
}

/* A thousand arenas in one process: each read looks only where the arena has slabs. */
static void find_range(struct sums *s, struct hak_arena *a) {
  if (a == NULL) {
    s->lowest = 0;
    s->highest = UINT64_MAX;
    return;
  }
  s->lowest = UINT64_MAX;
  s->highest = 0;
  haki_lock(&haki_heaps_lock);
  struct haki_heap *own = a->own;
  widen(s, &a->lua);
  if (own != NULL) widen(s, own);
  for (hak_list *l = a->heaps.next; l != &a->heaps; l = l->next)
    widen(s, HAK_LIST_OF(l, struct haki_heap, link));
  for (hak_list *l = a->orphans.next; l != &a->orphans; l = l->next)
    widen(s, HAK_LIST_OF(l, struct haki_heap, link));
  haki_unlock(&haki_heaps_lock);
}

static void add_heap(struct sums *s, struct haki_heap *h) {
  SUM(s, small, refills) += haki_cell_get(&h->refills);
  SUM(s, small, fresh) += haki_cell_get(&h->fresh);
  SUM(s, small, retired) += haki_cell_get(&h->retired);
  SUM(s, small, remote_frees) += haki_cell_get(&h->remote_frees);
  SUM(s, small, adopted) += haki_cell_get(&h->adopted);
  bool has_slabs = __atomic_load_n(&h->slabs, __ATOMIC_RELAXED) != NULL;
  SUM(s, top, metadata) += sizeof *h + (has_slabs ? sizeof *h->slabs : 0);
  if (atomic_load_explicit(&h->thread, memory_order_relaxed) != (uintptr_t)pthread_self()) return;
  /* ours: what waits in the bins is not live */
  size_t in_bins[HAK_CLASSES] = {0}, nursery_blocks = 0, nursery_bytes = 0;
  haki_heap_count_bins(h, in_bins, &nursery_blocks, &nursery_bytes);
  for (unsigned c = 0; c < HAK_CLASSES; c++) {
    SUM(s, top, blocks) -= in_bins[c];
    SUM(s, top, allocated) -= in_bins[c] * haki_class_size(c);
    s->class_blocks[c] -= in_bins[c];
  }
  SUM(s, top, blocks) -= nursery_blocks;
  SUM(s, top, allocated) -= nursery_bytes;
}

static void add_list(struct sums *s, hak_list *heaps) {
  for (hak_list *l = heaps->next; l != heaps; l = l->next)
    add_heap(s, HAK_LIST_OF(l, struct haki_heap, link));
}

static void add_nursery(struct sums *s, const struct haki_nursery *n) {
  uint64_t bytes = haki_cell_get(&n->bytes);
  SUM(s, nursery, bytes) += bytes;
  SUM(s, top, active) += bytes;
  SUM(s, top, blocks) += haki_cell_get(&n->blocks);
  SUM(s, top, allocated) += haki_cell_get(&n->used);
  if (s->arena == NULL) SUM(s, top, cached) -= bytes; /* its pages were counted as free whole */
}

static void add_large_cells(struct sums *s, const struct haki_large_cells *c) {
  uint64_t count = haki_cell_get(&c->count), bytes = haki_cell_get(&c->bytes);
  SUM(s, large, blocks) += count;
  SUM(s, large, bytes) += bytes;
  SUM(s, large, allocs) += haki_cell_get(&c->allocs);
  SUM(s, large, in_place) += haki_cell_get(&c->in_place);
  SUM(s, large, remaps) += haki_cell_get(&c->remaps);
  SUM(s, large, copies) += haki_cell_get(&c->copies);
  SUM(s, bigcache, rests) += haki_cell_get(&c->rest);
  SUM(s, top, blocks) += count;
  SUM(s, top, allocated) += bytes;
  SUM(s, top, active) += bytes;
}

static uint64_t read(_Atomic(uint64_t) *from) {
  return atomic_load_explicit(from, memory_order_relaxed);
}

/* Blocks of the pool, by class; returns how many were handed out. */
static uint64_t add_pool_classes(struct sums *s, struct haki_l25 *pool) {
  struct haki_l25_class_sum sums[HAK_L25_CLASSES];
  uint64_t takes = 0, live = 0;
  haki_l25_sums(pool, sums);
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++) {
    s->l25[i].live += sums[i].live;
    s->l25[i].cached += sums[i].cached;
    s->l25[i].takes += sums[i].takes;
    live += sums[i].live;
    takes += sums[i].takes;
  }
  SUM(s, large, blocks) += live;
  SUM(s, large, allocs) += takes;
  SUM(s, top, blocks) += live;
  return takes;
}

static void add_pool(struct sums *s, struct haki_l25 *pool) {
  struct haki_shards *h = &pool->shards;
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  uint64_t misses = 0;
  for (; c != NULL; c = c->next) {
    add_large_cells(s, &c->large);
    misses += haki_cell_get(&c->misses);
    SUM(s, l25, remote_frees) += haki_cell_get(&c->remote_frees);
    SUM(s, l25, transfers) += haki_cell_get(&c->transfers);
    SUM(s, top, metadata) += sizeof *c;
  }
  uint64_t takes = add_pool_classes(s, pool);
  SUM(s, l25, ops) += takes;
  SUM(s, l25, hits) += takes > misses ? takes - misses : 0; /* read one after the other */
  SUM(s, l25, expansions) += atomic_load_explicit(&h->expansions, memory_order_relaxed);
  SUM(s, l25, failures) += atomic_load_explicit(&h->failures, memory_order_relaxed);
  uint64_t ops, waits;
  haki_shards_waits(h, &ops, &waits);
  SUM(s, l25, shard_ops) += ops;
  SUM(s, l25, lock_waits) += waits;
  SUM(s, l25, steals) += atomic_load_explicit(&h->steals, memory_order_relaxed);
  SUM(s, l25, remote_frees) += atomic_load_explicit(&h->remote, memory_order_relaxed);
  SUM(s, bigcache, rests_purged) += read(&pool->rests_purged);
  SUM(s, l25, aged) += atomic_load_explicit(&pool->drained, memory_order_relaxed);
}

/* What threads have reserved for their fronts is not kept: credits come off. */
static void add_fronts(struct sums *s, struct haki_l25 *pool, uint64_t *bytes, uint64_t *room) {
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next) {
    SUM(s, bigcache, hits_front) += haki_cell_get(&c->front.hits);
    SUM(s, bigcache, inserts) += haki_cell_get(&c->front.inserts);
    *bytes -= haki_cell_get(&c->front.credit);
    *room -= haki_cell_get(&c->front.credit_room);
  }
}

static void add_big(struct sums *s, struct haki_big *b, struct haki_l25 *pool) {
  uint64_t chains[5], bytes = read(&b->bytes), room = read(&b->mapped), peak = read(&b->peak);
  if (pool != NULL) add_fronts(s, pool, &bytes, &room);
  SUM(s, bigcache, bytes) += (int64_t)bytes > 0 ? bytes : 0; /* read one after the other */
  SUM(s, bigcache, mapped) += (int64_t)room > 0 ? room : 0;
  SUM(s, bigcache, cooling) += read(&b->cooling);
  SUM(s, bigcache, purged) += read(&b->purged);
  SUM(s, bigcache, entries) += read(&b->table.entries) + (b->fixed ? read(&b->fixed->entries) : 0);
  if (peak > SUM(s, bigcache, peak)) SUM(s, bigcache, peak) = peak;
  SUM(s, bigcache, hits_site) += read(&b->hits_site);
  SUM(s, bigcache, hits_class) += read(&b->hits_class);
  SUM(s, bigcache, hits_larger) += read(&b->hits_larger);
  SUM(s, bigcache, hits_gathered) += read(&b->hits_gathered);
  SUM(s, bigcache, misses) += read(&b->misses);
  SUM(s, bigcache, hits_purged) += read(&b->hits_purged);
  SUM(s, bigcache, inserts) += read(&b->inserts);
  SUM(s, bigcache, resizes) += read(&b->table.resizes);
  SUM(s, bigcache, failures) += read(&b->table.failures);
  SUM(s, bigcache, evicted_bytes) += read(&b->evicted_bytes);
  SUM(s, bigcache, evicted_mapped) += read(&b->evicted_mapped);
  SUM(s, bigcache, evicted_rare) += read(&b->evicted_rare);
  SUM(s, bigcache, evicted_age) += read(&b->evicted_age);
  SUM(s, bigcache, purges) += read(&b->purges);
  if (read(&b->table.worst) > SUM(s, bigcache, worst))
    SUM(s, bigcache, worst) = read(&b->table.worst);
  haki_bigtable_chains(&b->table, chains);
  if (chains[0] > SUM(s, bigcache, longest)) SUM(s, bigcache, longest) = chains[0];
  for (int i = 1; i < 5; i++) s->v[HAK_STAT(bigcache, chains_1) + i - 1] += chains[i];
}

static void add_large(struct sums *s, struct hak_arena *a) {
  struct haki_big *big = atomic_load_explicit(&a->large.big, memory_order_acquire);
  struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
  uint64_t before = SUM(s, large, bytes);
  add_large_cells(s, &a->large.cells);
  if (pool != NULL) add_pool(s, pool);
  if (big != NULL) add_big(s, big, pool);
  if (a->is_private) return;
  s->shared_charged += haki_cell_get(&a->quota.charged);
  s->shared_large += SUM(s, large, bytes) - before;
  if (a == s->arena || (s->arena == NULL && a == &haki_default_arena)) {
    SUM(s, l25, shards) = pool != NULL ? haki_shards_count(&pool->shards) : 0;
    SUM(s, l25, max_shards) = atomic_load_explicit(&a->max_shards, memory_order_relaxed);
    SUM(s, bigcache, buckets) = big != NULL ? haki_bigtable_count(&big->table) : 0;
    SUM(s, bigcache, max_buckets) =
        atomic_load_explicit(&a->large.limits.max_buckets, memory_order_relaxed);
  }
}

static void add_gone(struct sums *s, const struct hak_arena *a) {
  static const enum haki_stat_id ids[HEAP_CELLS] = {
      HAK_STAT(small, refills), HAK_STAT(small, fresh), HAK_STAT(small, retired),
      HAK_STAT(small, remote_frees), HAK_STAT(small, adopted)};
  for (int i = 0; i < HEAP_CELLS; i++) s->v[ids[i]] += haki_cell_get(&a->gone[i]);
}

/* What the arena counts itself; slabs come from the descriptors. */
static void add_arena(struct sums *s, struct hak_arena *a) {
  haki_lock(&haki_heaps_lock);
  add_heap(s, &a->lua);
  struct haki_heap *own = a->own;
  if (own != NULL) add_heap(s, own);
  add_list(s, &a->heaps);
  add_list(s, &a->orphans);
  add_gone(s, a);
  haki_unlock(&haki_heaps_lock);
  add_nursery(s, &a->lua.nursery);
  add_large(s, a);
  uint64_t charged = haki_cell_get(&a->quota.charged), peak = haki_cell_get(&a->quota.peak);
  SUM(s, top, charged) += charged;
  if (peak > SUM(s, top, peak)) SUM(s, top, peak) = peak;
  SUM(s, heaps, live) += atomic_load_explicit(&a->heap_count, memory_order_relaxed);
  SUM(s, heaps, orphans) += atomic_load_explicit(&a->orphan_count, memory_order_relaxed);
  SUM(s, arena, resets) += haki_cell_get(&a->resets);
  SUM(s, arena, restores) += haki_cell_get(&a->restores);
  SUM(s, arena, image) += haki_cell_get(&a->image_bytes);
  SUM(s, top, refusals) += haki_cell_get(&a->quota.refusals);
  SUM(s, top, soft_crossings) += haki_cell_get(&a->quota.crossings);
}

/* What kind each statistic is: the dead add to the living by it. */
enum stat_kind { COUNTER, GAUGE, PEAK, RATIO };
static const unsigned char kinds[HAK_STAT_COUNT] = {
#define S(group, name, kind, ...) kind,
#include "base/stats.def"
#undef S
};

static _Atomic(uint64_t) dead_takes[HAK_L25_CLASSES];

/* An arena dies: its counters and peaks live on in those of the process. */
void haki_stats_bury(struct hak_arena *a) {
  struct sums s = {.arena = a};
  add_arena(&s, a);
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++)
    atomic_fetch_add_explicit(&dead_takes[i], s.l25[i].takes, memory_order_relaxed);
  for (int i = 0; i < HAK_STAT_COUNT; i++) {
    uint64_t seen = atomic_load_explicit(&haki_stat_shared[i], memory_order_relaxed);
    if (kinds[i] == COUNTER)
      atomic_fetch_add_explicit(&haki_stat_shared[i], s.v[i], memory_order_relaxed);
    while (kinds[i] == PEAK && s.v[i] > seen &&
           !atomic_compare_exchange_weak_explicit(&haki_stat_shared[i], &seen, s.v[i],
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
  }
}

/* ---- the sums ---- */

static _Atomic(uint64_t) process_peak; /* highest sum of charges that a read has seen */

/* Free blocks of a pool are what a shared arena is charged for and nobody uses. */
static void add_pooled(struct sums *s) {
  uint64_t used = s->shared_large + s->shared_slabs + SUM(s, bigcache, bytes);
  SUM(s, l25, cached) = s->shared_charged > used ? s->shared_charged - used : 0;
  SUM(s, top, cached) += SUM(s, l25, cached) + SUM(s, bigcache, bytes) + SUM(s, bigcache, cooling);
  SUM(s, top, purged) += SUM(s, bigcache, purged);
}

static void add_process(struct sums *s) {
  bool entered = haki_registry_enter();
  for (hak_list *l = haki_arenas.next; l != &haki_arenas; l = l->next) {
    add_arena(s, HAK_LIST_OF(l, struct hak_arena, link));
    SUM(s, arena, live)++;
  }
  haki_registry_leave(entered);
  for (int i = 0; i < HAK_STAT_COUNT; i++) {
    uint64_t dead = atomic_load_explicit(&haki_stat_shared[i], memory_order_relaxed);
    if (kinds[i] != PEAK)
      s->v[i] += dead;
    else if (dead > s->v[i])
      s->v[i] = dead;
  }
  uint64_t seen = atomic_load_explicit(&process_peak, memory_order_relaxed);
  if (SUM(s, top, charged) > SUM(s, top, peak)) SUM(s, top, peak) = SUM(s, top, charged);
  if (SUM(s, top, peak) > seen)
    atomic_store_explicit(&process_peak, SUM(s, top, peak), memory_order_relaxed);
  else
    SUM(s, top, peak) = seen;
  SUM(s, top, metadata) = haki_meta_bytes();
  SUM(s, top, resident) = haki_os_resident();
  SUM(s, nursery, pages) = haki_nursery_pages();
  SUM(s, drain, running) =
      atomic_load_explicit(&haki_bell_state, memory_order_relaxed) != HAK_BELL_NOBODY;
  SUM(s, arena, created) = atomic_load_explicit(&haki_arenas_created, memory_order_relaxed);
  add_pooled(s);
  uint64_t named = SUM(s, top, active) + SUM(s, top, cached) + SUM(s, top, purged);
  SUM(s, top, reserved) = s->in_chunks > named ? s->in_chunks - named : 0;
}

static void add_meter(struct sums *s, const struct haki_meter *m) {
  SUM(s, lua, strings) = haki_cell_get(&m->allocs[HAK_TYPE_STRING]);
  SUM(s, lua, tables) = haki_cell_get(&m->allocs[HAK_TYPE_TABLE]);
  SUM(s, lua, functions) = haki_cell_get(&m->allocs[HAK_TYPE_FUNCTION]);
  SUM(s, lua, userdata) = haki_cell_get(&m->allocs[HAK_TYPE_USERDATA]);
  SUM(s, lua, threads) = haki_cell_get(&m->allocs[HAK_TYPE_THREAD]);
  SUM(s, lua, others) = haki_cell_get(&m->allocs[HAK_TYPE_OTHER]);
  SUM(s, lua, scopes) = haki_cell_get(&m->scopes);
  SUM(s, lua, overruns) = haki_cell_get(&m->overruns);
}

static void add_one(struct sums *s, struct hak_arena *a) {
  add_arena(s, a);
  SUM(s, top, soft) = haki_cell_get(&a->quota.soft);
  SUM(s, top, hard) = haki_cell_get(&a->quota.hard);
  SUM(s, top, foreign) = haki_cell_get(&a->foreign);
  add_meter(s, &a->meter);
  add_pooled(s);
  SUM(s, top, metadata) += sizeof *a - sizeof a->lua;
  SUM(s, top, cached) += haki_cell_get(&a->retained.bytes);
}

static void finish(struct sums *s) {
  uint64_t hits = SUM(s, bigcache, hits_front) + SUM(s, bigcache, hits_site);
  hits += SUM(s, bigcache, hits_class) + SUM(s, bigcache, hits_larger);
  hits += SUM(s, bigcache, hits_gathered) + SUM(s, bigcache, hits_purged);
  SUM(s, bigcache, hits) = hits;
  if (hits != 0)
    SUM(s, bigcache, hit_rate) =
        (uint64_t)((double)hits / (double)(hits + SUM(s, bigcache, misses)) * 1e9);
  SUM(s, bigcache, evictions) = SUM(s, bigcache, evicted_bytes) + SUM(s, bigcache, evicted_mapped) +
                                SUM(s, bigcache, evicted_rare) + SUM(s, bigcache, evicted_age);
  uint64_t active = SUM(s, top, active), allocated = SUM(s, top, allocated);
  SUM(s, top, waste) = active > allocated ? active - allocated : 0;
  SUM(s, top, mapped) = active + SUM(s, top, cached) + SUM(s, top, purged) + SUM(s, top, reserved) +
                        SUM(s, top, metadata);
}

/* What can be known now is made known, before anything is counted. */
static void settle(struct hak_arena *a) {
  if (a != NULL) {
    haki_heaps_settle(a);
    return;
  }
  bool entered = haki_registry_enter();
  for (hak_list *l = haki_arenas.next; l != &haki_arenas; l = l->next)
    haki_heaps_settle(HAK_LIST_OF(l, struct hak_arena, link));
  haki_registry_leave(entered);
}

/* Everything there is, in *s; false: the arena is dead. One that dies meanwhile waits for REGISTRY: its
 * pool and its table of big blocks lie in memory that goes. */
static bool add_up(struct sums *s, struct hak_arena *a) {
  s->arena = a;
  if (a == NULL) {
    settle(a);
    find_range(s, a);
    add_regions(s);
    add_process(s);
    return true;
  }
  bool entered = haki_registry_enter(), live = haki_arena_is_live(a);
  if (live) {
    settle(a);
    find_range(s, a);
    add_regions(s);
    add_one(s, a);
  }
  haki_registry_leave(entered);
  return live;
}

size_t haki_api_stats_read(hak_arena *a, uint64_t *values, size_t n) {
  struct sums s = {.arena = a};
  if (!add_up(&s, a)) return 0;
  finish(&s);
  for (size_t i = 0; i < n && i < HAK_STAT_COUNT; i++) values[i] = s.v[i];
  return HAK_STAT_COUNT;
}

void haki_api_class_stats(hak_arena *a, void (*visit)(const hak_class_stat *, void *), void *ud) {
  struct sums s = {.arena = a};
  if (!add_up(&s, a)) return;
  for (unsigned c = 0; c < HAK_CLASSES; c++)
    if (s.class_slabs[c] != 0)
      visit(&(hak_class_stat){haki_class_size(c), s.class_blocks[c], s.class_slabs[c],
                              s.class_active[c]},
            ud);
}

/* Of pools alone: no slab is looked at. */
static void add_pools(struct sums *s) {
  bool entered = haki_registry_enter();
  for (hak_list *l = haki_arenas.next; l != &haki_arenas; l = l->next) {
    struct hak_arena *a = HAK_LIST_OF(l, struct hak_arena, link);
    struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
    if (pool != NULL && (s->arena == NULL || s->arena == a)) add_pool_classes(s, pool);
  }
  haki_registry_leave(entered);
  for (unsigned i = 0; s->arena == NULL && i < HAK_L25_CLASSES; i++)
    s->l25[i].takes += atomic_load_explicit(&dead_takes[i], memory_order_relaxed);
}

void haki_api_l25_class_stats(hak_arena *a, void (*visit)(const hak_l25_class_stat *, void *),
                              void *ud) {
  struct sums s = {.arena = a};
  if (a != NULL && !haki_arena_is_live(a)) return;
  add_pools(&s);
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++)
    if (s.l25[i].takes != 0)
      visit(&(hak_l25_class_stat){haki_l25_pages(i) * HAK_PAGE_SIZE, s.l25[i].live, s.l25[i].cached,
                                  s.l25[i].takes},
            ud);
}

/* audit.c - every invariant at once, for tests.
 * Why:   a broken list should stop the test that broke it.
 * Locks: REGISTRY, ARENA, CHUNK. pre: no other thread allocates.
 * Start: haki_audit(). */
#include "heap/arena.h"
#include "heap/core.h"
#include "heap/heap.h"
#include "map/bucket.h"
#include "map/chunk.h"
#include "map/region.h"

static bool chunks_ok(void) {
  bool ok = true;
  size_t listed = 0, split = 0;
  haki_lock(&haki_chunk_lock);
  for (int b = 0; b < HAK_BUCKETS && haki_buckets[b].next != NULL; b++)
    for (hak_list *l = haki_buckets[b].next; l != &haki_buckets[b]; l = l->next) {
      const struct chunk *c = HAK_LIST_OF(l, struct chunk, link);
      ok = ok && (c->dirty & ~c->free) == 0 && c->bucket == (uint32_t)b; /* INV chunk-1, chunk-2 */
      listed++;
    }
  for (uint32_t k = 0; k < atomic_load(&haki_region_count); k++)
    for (uint32_t i = 0; i < atomic_load(&haki_regions[k].fresh); i++)
      split += haki_chunk_kind(&haki_regions[k], i) == HAK_CHUNK_SPLIT;
  haki_unlock(&haki_chunk_lock);
  return ok && listed == split;
}

static bool list_ok(hak_list *heaps) {
  for (hak_list *l = heaps->next; l != heaps; l = l->next)
    if (!haki_heap_ok(HAK_LIST_OF(l, struct haki_heap, link))) return false;
  return true;
}

/* Blocks of a pool by class, as their descriptors have it. */
static void count_pooled(struct hak_arena *a, struct haki_l25_class_sum found[HAK_L25_CLASSES]) {
  for (uint32_t k = 0; k < atomic_load(&haki_region_count); k++)
    for (uint32_t i = 0; i < atomic_load(&haki_regions[k].fresh) * HAK_CHUNK_PAGES; i++) {
      struct page *p = &haki_regions[k].pages[i];
      unsigned kind = haki_page_kind(p);
      bool live = kind == HAK_PAGE_RUN && HAK_PAGE_GET(p, home) != NULL;
      if ((!live && kind != HAK_PAGE_POOLED) || HAK_PAGE_GET(p, large) != &a->large) continue;
      struct haki_l25_class_sum *sum = &found[haki_l25_class(p->length)];
      *(live ? &sum->live : &sum->cached) += 1;
    }
}

/* INV l25-3. A forked child's lost threads may have been between a block and its count. */
static bool pool_ok(struct hak_arena *a) {
  struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
  struct haki_l25_class_sum found[HAK_L25_CLASSES] = {{0}}, sums[HAK_L25_CLASSES];
  bool ok = true;
  if (pool == NULL) return true;
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next)
    if (atomic_load_explicit(&c->alive, memory_order_relaxed) == HAK_L25_LOST) return true;
  count_pooled(a, found);
  haki_l25_sums(pool, sums);
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++)
    ok = ok && sums[i].live == found[i].live && sums[i].cached == found[i].cached;
  return ok;
}

static bool arena_ok(struct hak_arena *a) {
  uint64_t hard = haki_cell_get(&a->quota.hard), peak = haki_cell_get(&a->quota.peak);
  bool ok = haki_cell_get(&a->quota.charged) <= peak && (hard == 0 || peak != 0 || hard >= peak);
  struct haki_heap *own = a->own;
  ok = ok && haki_large_ok(&a->large) && haki_heap_ok(&a->lua) && pool_ok(a);
  struct haki_big *big = atomic_load_explicit(&a->large.big, memory_order_acquire);
  ok = ok && (big == NULL || haki_big_ok(big));
  ok = ok && (own == NULL || haki_heap_ok(own));
  haki_lock(&haki_heaps_lock);
  ok = ok && list_ok(&a->heaps) && list_ok(&a->orphans);
  haki_unlock(&haki_heaps_lock);
  return ok;
}

bool haki_audit(void) {
  haki_core();
  bool ok = chunks_ok();
  haki_lock(&haki_registry_lock);
  for (hak_list *l = haki_arenas.next; l != &haki_arenas; l = l->next)
    ok = ok && arena_ok(HAK_LIST_OF(l, struct hak_arena, link));
  haki_unlock(&haki_registry_lock);
  HAK_ASSERT(ok);
  return ok;
}

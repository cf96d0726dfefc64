/* free.c - blocks come back.
 *
 * Why:   the address alone says which page a block belongs to, the page says whose it is.
 * Locks: none for slabs; a large block takes its arena's.
 * Start: hak_free(), haki_block_of(). */
#include <errno.h>

#include "heap/alloc.h"
#include "heap/core.h"
#include "heap/fast.h"
#include "map/hardened.h"
#include "map/region.h"

HAK_API HAK_HOT void hak_free(void *p) {
  if (HAK_UNLIKELY(!haki_fast_free(haki_tls_heap, p))) haki_core()->free(p);
}

HAK_API HAK_HOT void hak_arena_free(hak_arena *a, void *p) {
  struct haki_heap *h = atomic_load_explicit(&a->plain, memory_order_relaxed);
  if (HAK_UNLIKELY(!haki_fast_paths() || !haki_fast_free(h, p))) haki_core()->arena_free(a, p);
}

struct haki_block haki_block_of(const void *p) {
  struct haki_block b = {.page = haki_page_of(p)};
  unsigned kind = b.page != NULL ? haki_page_kind(b.page) : HAK_PAGE_FREE;
  if (kind == HAK_PAGE_SLAB || kind == HAK_PAGE_INNER) {
    b.page = haki_slab_head(b.page);
    b.heap = haki_slab_owner(b.page, &b.arena);
    b.size = haki_class_size(haki_page_class(b.page));
    return b;
  }
  HAK_CHECK(kind != HAK_PAGE_NURSERY && kind != HAK_PAGE_RETAINED, "invalid free: not owned", p);
  b.page = haki_large_check(b.page, p);
  b.arena = HAK_LIST_OF(HAK_PAGE_GET(b.page, large), struct hak_arena, large);
  b.size = b.page->size;
  return b;
}

void haki_block_free(const struct haki_block *b, void *p) {
  if (b->heap == NULL) {
    haki_large_free(b->page, haki_arena_cache(b->arena, false));
    return;
  }
  haki_hardened_in(p);
  if (!b->heap->is_private && !haki_heap_is_mine(b->heap)) {
    haki_page_push_remote(b->page, p);
    return;
  }
  HAK_CHECK(p != b->page->free && p != b->heap->bin[haki_page_class(b->page)], "double free", p);
  if (!haki_heap_bins(b->heap, haki_page_class(b->page)) || !haki_heap_put(b->heap, b->page, p))
    haki_heap_push(b->heap, b->page, p);
}

/* A large block that goes back to the thread's cache in the default arena, where it came from. */
HAK_INLINE bool warm(void *p) {
  struct haki_l25_cache *cache = haki_tls_heap->l25;
  if (cache == NULL || ((uintptr_t)p & (HAK_PAGE_SIZE - 1)) != 0) return false;
  struct page *page = haki_page_of(p); /* a heap without slabs may not know the region */
  if (page == NULL || haki_page_kind(page) != HAK_PAGE_RUN) return false;
  return HAK_PAGE_GET(page, home) == cache && haki_large_free_warm(cache, page);
}

HAK_NOINLINE static void free_any(void *p) {
  if (p == NULL) return;
  int saved = errno;
  struct haki_block b = haki_block_of(p);
  haki_block_free(&b, p);
  errno = saved;
}

HAK_HOT void haki_api_free(void *p) {
  if (HAK_UNLIKELY(!warm(p))) free_any(p);
}

/* The size is what a sized delete passes: it must fit the block. */
static void check_size(const struct haki_block *b, const void *p, size_t size) {
  (void)b, (void)p, (void)size;
  HAK_AUDIT(size <= b->size);
}

void haki_api_free_sized(void *p, size_t size) {
  if (p == NULL) return;
  int saved = errno;
  struct haki_block b = haki_block_of(p);
  check_size(&b, p, size);
  haki_block_free(&b, p);
  errno = saved;
}

void haki_api_arena_free(hak_arena *a, void *p) {
  if (p == NULL || !haki_arena_may_use(a)) return;
  int saved = errno;
  struct haki_block b = haki_block_of(p);
  HAK_CHECK(b.arena == a, "invalid free: not owned", p);
  haki_block_free(&b, p);
  errno = saved;
}

void haki_api_arena_free_sized(hak_arena *a, void *p, size_t size) {
  if (p != NULL && haki_arena_may_use(a)) {
    struct haki_block b = haki_block_of(p);
    check_size(&b, p, size);
    haki_api_arena_free(a, p);
  }
}

size_t haki_api_usable_size(const void *p) { return p != NULL ? haki_block_of(p).size : 0; }

int haki_api_owns(const void *p) {
  struct page *page = haki_page_of(p);
  if (page == NULL) return 0;
  struct haki_region *r = haki_page_region(page);
  size_t chunk = ((uintptr_t)p - r->base) >> HAK_CHUNK_SHIFT;
  return !haki_chunk_unused(r, chunk);
}

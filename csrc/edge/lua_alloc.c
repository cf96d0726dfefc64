/* lua_alloc.c - hak_lua_alloc(), a lua_Alloc on any arena.
 *
 * Why:   a Lua VM tells the size on free, asks for 8-byte granularity and runs in one thread at a
 *        time: a private arena serves it without atomics, without thread-local storage.
 * Owns:  nothing.   Not: lua.h; hakmem_lua.h has what needs it.
 * Locks: none.
 * Start: hak_lua_alloc().
 *
 * The address decides which page, and so which class, a block has; `osize` is believed for blocks
 * of the nursery only. A shrink that cannot move returns the same pointer, and the VM later frees
 * it with the small size: no harm, for the reason just given. */
#include <errno.h>
#include <string.h>

#include "heap/alloc.h"
#include "heap/core.h"
#include "map/chunk.h"
#include "map/hardened.h"

/* The owner of the state may be another copy of hakmem. */
static __attribute__((noinline)) void *slow(void *ud, void *ptr, size_t osize, size_t nsize) {
  return haki_core()->lua_alloc(ud, ptr, osize, nsize);
}

/* A block of a slab of our own gets another size: the same class, or another bin has a block. */
static HAK_HOT __attribute__((noinline)) void *resize_own(void *ud, void *ptr, size_t osize,
                                                          size_t nsize) {
  struct haki_heap *h = &((struct hak_arena *)ud)->lua;
  struct page *page = haki_heap_page_of(h, ptr);
  if (HAK_UNLIKELY(page == NULL || haki_page_tag(page) != (uintptr_t)h || nsize > HAK_SMALL_MAX))
    return slow(ud, ptr, osize, nsize);
  unsigned from = haki_page_class(page), to = haki_class_of(nsize);
  if (from == to) return ptr;
  void *p = haki_heap_pop(h, to);
  if (HAK_UNLIKELY(p == NULL)) return slow(ud, ptr, osize, nsize);
  size_t size = haki_class_size(from < to ? from : to);
  memcpy(haki_hardened_out(p), ptr, osize < size ? osize : size);
  haki_hardened_in(ptr);
  haki_heap_push(h, page, ptr);
  return p;
}

static __attribute__((noinline)) void *alloc_medium(void *ud, size_t tag, size_t size) {
  void *p = NULL;
  if (size <= HAK_SMALL_MAX)
    p = haki_heap_pop(&((struct hak_arena *)ud)->lua, haki_class_of_large(size));
  return p != NULL ? haki_hardened_out(p) : slow(ud, NULL, tag, size);
}

HAK_API HAK_HOT void *hak_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct haki_heap *h = &((struct hak_arena *)ud)->lua;
  if (!haki_fast_paths()) return slow(ud, ptr, osize, nsize);
  if (nsize == 0) {
    struct page *page = haki_heap_page_of(h, ptr);
    if (HAK_UNLIKELY(page == NULL || haki_page_tag(page) != (uintptr_t)h))
      return ptr == NULL ? NULL : slow(ud, ptr, osize, nsize); /* Lua frees NULL a lot */
    haki_hardened_in(ptr);
    haki_heap_push(h, page, ptr);
    return NULL;
  }
  if (ptr != NULL) return resize_own(ud, ptr, osize, nsize);
  if (HAK_UNLIKELY(nsize > HAK_TABLE_MAX)) return alloc_medium(ud, osize, nsize);
  void *p = haki_heap_pop(h, haki_class_of_words[(nsize + 7) >> 3]);
  return HAK_LIKELY(p != NULL) ? haki_hardened_out(p) : slow(ud, ptr, osize, nsize);
}

/* ---- allocation ---- */

/* pre: n <= HAK_SMALL_MAX. */
static void *try_small(struct hak_arena *a, unsigned c) {
  struct haki_heap *h = a->is_private ? &a->lua : haki_thread_heap(a);
  if (HAK_UNLIKELY(h == NULL)) return haki_late_alloc(a, c);
  void *p = haki_heap_pop_any(h, c);
  if (p != NULL) return p;
  if (h->nursery.limit != 0) p = haki_nursery_alloc(h, c);
  return p != NULL ? p : haki_heap_refill(h, c);
}

static void *try_alloc(struct hak_arena *a, size_t n) {
  if (n <= HAK_SMALL_MAX) return try_small(a, haki_class_of(n));
  bool pooled = n <= HAK_L25_MAX;
  return haki_large_alloc(&a->large, haki_arena_cache(a, pooled),
                          &(struct haki_large_request){n, 16, 0, false});
}

HAK_COLD static void *alloc_failed(struct hak_arena *a, size_t n) {
  if (n > PTRDIFF_MAX - HAK_CHUNK_SIZE) return NULL;
  haki_arena_release_caches(a);
  atomic_store_explicit(&a->quota.refused, 0, memory_order_relaxed);
  void *p = try_alloc(a, n);
  if (p == NULL && atomic_load_explicit(&a->quota.refused, memory_order_relaxed) != 0)
    haki_arena_note_refusal(a, n);
  return p;
}

static void *alloc(struct hak_arena *a, size_t n) {
  void *p = n <= PTRDIFF_MAX - HAK_CHUNK_SIZE ? try_alloc(a, n) : NULL;
  if (HAK_UNLIKELY(p == NULL)) p = alloc_failed(a, n);
  if (HAK_UNLIKELY(atomic_load_explicit(&a->quota.crossed, memory_order_relaxed) != 0))
    haki_arena_note_limits(a);
  if (p == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  return n <= HAK_SMALL_MAX ? haki_hardened_out(p) : p;
}

/* ---- blocks of the former allocator ---- */

/* A state that was moved here late has blocks that are not the arena's, be they of another
 * arena of ours. */
static bool is_foreign(struct hak_arena *a, const struct page *page, const void *p) {
  if (HAK_LIKELY(!a->bound || a->binding.former == NULL)) return false;
  if (page == NULL) return true;
  if (haki_page_owner(page) == &haki_nursery_mark) return haki_nursery_slot(page, p) != a->slot;
  return haki_block_of(p).arena != a;
}

static void lower_foreign(struct hak_arena *a, size_t n) {
  uint64_t now = haki_cell_get(&a->foreign);
  haki_cell_set(&a->foreign, now > n ? now - n : 0); /* what the host takes past its VM's count */
}

static void foreign_free(struct hak_arena *a, void *p, size_t osize) {
  bool last = p == a->binding.last;
  a->binding.former(a->binding.former_ud, p, osize, 0);
  lower_foreign(a, osize);
  if (HAK_UNLIKELY(last)) haki_api_lua_unbind(a);
}

static void *foreign_realloc(struct hak_arena *a, void *p, size_t osize, size_t nsize) {
  if (nsize <= osize) { /* a shrink never fails */
    void *q = a->binding.former(a->binding.former_ud, p, osize, nsize);
    lower_foreign(a, osize - nsize);
    return q;
  }
  void *q = alloc(a, nsize);
  if (q == NULL) return NULL;
  memcpy(q, p, osize);
  foreign_free(a, p, osize);
  return q;
}

/* ---- blocks of the nursery ---- */

static bool in_nursery(struct hak_arena *a, const struct page *page, const void *p) {
  if (page == NULL || haki_page_owner(page) != &haki_nursery_mark) return false;
  HAK_CHECK(haki_nursery_slot(page, p) == a->slot, "invalid free: not owned", p);
  return true;
}

static void nursery_free(struct hak_arena *a, void *p, size_t osize) {
  struct haki_heap *h = &a->lua;
  haki_hardened_in(p);
  if (HAK_LIKELY(!h->nursery.grown && osize <= 128)) /* a young VM's common case */
    haki_heap_unpop(h, haki_class_of_words[(osize + 7) >> 3], p);
  else
    haki_nursery_free_slow(h, p, haki_class_of(osize));
}

/* Classes by the sizes that the VM names. */
static void *nursery_realloc(struct hak_arena *a, void *p, size_t osize, size_t nsize) {
  unsigned from = haki_class_of(osize);
  if (nsize <= HAK_SMALL_MAX) {
    unsigned to = haki_class_of(nsize);
    if (to == from || (to > from && haki_nursery_grow(&a->lua, p, from, to))) return p;
    if (to < from) {
      haki_nursery_shrink(&a->lua, p, from, to);
      return p;
    }
  }
  void *q = alloc(a, nsize);
  if (q == NULL) return NULL;
  memcpy(q, p, osize);
  nursery_free(a, p, osize);
  return q;
}

/* ---- free and realloc ---- */

static struct haki_block block_of(struct hak_arena *a, const void *p) {
  struct haki_block b = haki_block_of(p);
  HAK_CHECK(b.arena == a, "invalid free: not owned", p);
  return b;
}

static void *resize(struct hak_arena *a, const struct haki_block *b, void *p, size_t osize,
                    size_t nsize) {
  if (b->heap == NULL && nsize > HAK_SMALL_MAX && nsize <= PTRDIFF_MAX - HAK_CHUNK_SIZE) {
    void *q = haki_large_resize(b->page, p, nsize, haki_arena_cache(a, false));
    if (q != NULL) {
      if (atomic_load_explicit(&a->quota.crossed, memory_order_relaxed) != 0)
        haki_arena_note_limits(a);
      return q;
    }
  }
  void *q = alloc(a, nsize);
  if (q == NULL) return nsize <= b->size ? p : NULL; /* a shrink never fails */
  size_t n = osize < nsize ? osize : nsize;
  memcpy(q, p, n < b->size ? n : b->size);
  if (b->heap == NULL)
    haki_large_note_copy(HAK_PAGE_GET(b->page, large), haki_arena_cache(a, false));
  haki_block_free(b, p);
  return q;
}

static void *realloc_slow(struct hak_arena *a, void *p, size_t osize, size_t nsize) {
  struct page *page = haki_page_of(p);
  if (is_foreign(a, page, p)) return foreign_realloc(a, p, osize, nsize);
  if (in_nursery(a, page, p)) return nursery_realloc(a, p, osize, nsize);
  struct haki_block b = block_of(a, p);
  if (b.heap != NULL && nsize <= b.size && haki_class_of(nsize) == haki_page_class(b.page))
    return p;
  return resize(a, &b, p, osize, nsize);
}

static void free_slow(struct hak_arena *a, void *p, size_t osize) {
  struct page *page = haki_page_of(p);
  if (is_foreign(a, page, p)) {
    foreign_free(a, p, osize);
    return;
  }
  if (in_nursery(a, page, p)) {
    nursery_free(a, p, osize);
    return;
  }
  struct haki_block b = block_of(a, p);
  haki_block_free(&b, p);
}

void *haki_api_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct hak_arena *a = ud;
  if (HAK_UNLIKELY(!haki_arena_is_live(a))) {
    errno = EINVAL;
    return NULL;
  }
  if (nsize == 0) {
    if (ptr != NULL) free_slow(a, ptr, osize);
    return NULL;
  }
  bool own = ptr == NULL && osize != 0; /* a new object, named by its type */
  if (own && haki_limits_ask(a, nsize)) {
    errno = ENOMEM;
    return NULL;
  }
  if (!own) haki_limits_lift(a);
  void *p = ptr == NULL ? alloc(a, nsize) : realloc_slow(a, ptr, osize, nsize);
  if (!own) haki_limits_lower(a);
  return p;
}

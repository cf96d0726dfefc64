/* alloc.c - malloc and its like, on the default arena and on any.
 *
 * Why:   the fast path is one table look-up and one pop; every rare state (no heap yet, an arena of
 *        another copy, a request too large) looks like an empty bin.
 * Owns:  nothing.
 * Locks: none here; below, see csrc/README.md.
 * Start: hak_malloc(), alloc_on().
 *
 * Walk: class -> the heap's bin -> pop. Miss: haki_heap_refill(). Above 32 KiB: haki_large_alloc().
 * Failure: the arena's caches are released once, one more try, then NULL and ENOMEM. */
#include <errno.h>
#include <string.h>

#include "heap/alloc.h"
#include "heap/core.h"
#include "heap/fast.h"
#include "map/chunk.h"
#include "map/hardened.h"

HAK_API HAK_HOT void *hak_malloc(size_t size) {
  void *p = haki_fast_alloc(haki_tls_heap, size);
  return HAK_LIKELY(p != NULL) ? p : haki_core()->malloc(size);
}

HAK_API HAK_HOT void *hak_arena_alloc(hak_arena *a, size_t size) {
  struct haki_heap *h = atomic_load_explicit(&a->plain, memory_order_relaxed);
  void *p = haki_fast_paths() ? haki_fast_alloc(h, size) : NULL;
  return HAK_LIKELY(p != NULL) ? p : haki_core()->arena_alloc(a, size);
}

struct haki_heap *haki_private_heap(struct hak_arena *a) {
  struct haki_heap *h = a->own;
  if (HAK_LIKELY(h != NULL)) return h;
  h = haki_heap_new(a);
  if (h == NULL) return NULL;
  a->own = h;
  if (!a->owner_check) atomic_store_explicit(&a->plain, h, memory_order_relaxed);
  return h;
}

/* pre: size <= HAK_SMALL_MAX. */
static void *small_on(struct hak_arena *a, unsigned c) {
  struct haki_heap *h = a->is_private ? haki_private_heap(a) : haki_thread_heap(a);
  if (HAK_UNLIKELY(h == NULL)) return a->is_private ? NULL : haki_late_alloc(a, c);
  void *p = haki_heap_pop_any(h, c);
  return p != NULL ? p : haki_heap_refill(h, c);
}

static void *try_on(struct hak_arena *a, const struct haki_request *r) {
  if (r->size <= HAK_SMALL_MAX && r->align <= HAK_PAGE_SIZE) {
    unsigned c = haki_class_of_16(r->size);
    /* blocks lie at multiples of their size from a page's start */
    while (c < HAK_CLASSES && (haki_class_size(c) & (r->align - 1)) != 0) c++;
    if (c < HAK_CLASSES) {
      void *p = haki_hardened_out(small_on(a, c));
      if (p != NULL && r->zero) memset(p, 0, r->size);
      return p;
    }
  }
  return haki_large_alloc(&a->large, haki_arena_cache(a, true),
                          &(struct haki_large_request){r->size, r->align, r->site, r->zero});
}

HAK_COLD static void *try_again(struct hak_arena *a, const struct haki_request *r) {
  haki_arena_release_caches(a);
  if (atomic_load_explicit(&a->quota.refused, memory_order_relaxed) == 0)
    haki_api_trim(); /* address space may lie in the caches of the default arena */
  void *p = try_on(a, r);
  if (p != NULL) return p;
  if (atomic_load_explicit(&a->quota.refused, memory_order_relaxed) != 0)
    haki_arena_note_refusal(a, r->size);
  errno = ENOMEM;
  return NULL;
}

void *haki_alloc_on(struct hak_arena *a, const struct haki_request *r) {
  if (HAK_UNLIKELY(r->size > PTRDIFF_MAX - HAK_CHUNK_SIZE)) {
    errno = ENOMEM;
    return NULL;
  }
  void *p = try_on(a, r);
  if (HAK_UNLIKELY(p == NULL)) {
    atomic_store_explicit(&a->quota.refused, 0, memory_order_relaxed);
    p = try_on(a, r); /* once more, so that `refused` speaks of this very request */
    if (p == NULL) p = try_again(a, r);
  }
  if (HAK_UNLIKELY(atomic_load_explicit(&a->quota.crossed, memory_order_relaxed) != 0))
    haki_arena_note_limits(a);
  return p;
}

/* ---- the malloc family ---- */

static bool product(size_t count, size_t size, size_t *bytes) {
  if (HAK_LIKELY(!__builtin_mul_overflow(count, size, bytes))) return true;
  errno = ENOMEM;
  return false;
}

/* The public functions tail-call these, so that the return address is the user's call site; a
 * compiler that does not makes it one site for all, no more. */
#define SITE ((uintptr_t)__builtin_return_address(0))

/* What the thread freed last, of this class, in the default arena. */
HAK_INLINE void *warm(size_t size) {
  struct haki_l25_cache *cache = haki_tls_heap->l25;
  if (size - HAK_SMALL_MAX - 1 >= HAK_L25_MAX - HAK_SMALL_MAX || cache == NULL) return NULL;
  return haki_large_alloc_warm(cache, size);
}

HAK_NOINLINE static void *malloc_any(size_t size, uintptr_t site) {
  return haki_alloc_on(&haki_default_arena, &(struct haki_request){size, 16, false, site});
}

HAK_HOT void *haki_api_malloc(size_t size) {
  void *p = warm(size);
  return HAK_LIKELY(p != NULL) ? p : malloc_any(size, SITE);
}

HAK_HOT void *haki_api_malloc_site(size_t size, uintptr_t site) {
  void *p = warm(size);
  return HAK_LIKELY(p != NULL) ? p : malloc_any(size, site);
}

void *haki_api_calloc(size_t count, size_t size) {
  size_t bytes;
  if (!product(count, size, &bytes)) return NULL;
  return haki_alloc_on(&haki_default_arena, &(struct haki_request){bytes, 16, true, SITE});
}

void *haki_api_aligned_alloc(size_t align, size_t size) {
  return haki_api_arena_aligned_alloc(&haki_default_arena, align, size);
}

int haki_api_posix_memalign(void **out, size_t align, size_t size) {
  if (!haki_is_power_of_two(align) || align % sizeof(void *) != 0) return EINVAL;
  int saved = errno;
  void *p = haki_api_aligned_alloc(align, size);
  errno = saved; /* the error is the return value */
  if (p == NULL) return ENOMEM;
  *out = p;
  return 0;
}

void *haki_api_arena_alloc(hak_arena *a, size_t size) {
  if (!haki_arena_may_use(a)) return NULL;
  return haki_alloc_on(a, &(struct haki_request){size, 16, false, SITE});
}

void *haki_api_arena_calloc_site(hak_arena *a, size_t count, size_t size, uintptr_t site) {
  size_t bytes;
  if (!haki_arena_may_use(a) || !product(count, size, &bytes)) return NULL;
  return haki_alloc_on(a, &(struct haki_request){bytes, 16, true, site});
}

void *haki_api_arena_calloc(hak_arena *a, size_t count, size_t size) {
  return haki_api_arena_calloc_site(a, count, size, SITE);
}

void *haki_api_arena_aligned_alloc(hak_arena *a, size_t align, size_t size) {
  if (!haki_arena_may_use(a)) return NULL;
  bool good = haki_is_power_of_two(align), too_large = align > (size_t)1 << 40;
  if (!good || too_large) {
    errno = good ? ENOMEM : EINVAL;
    return NULL;
  }
  return haki_alloc_on(a, &(struct haki_request){size, align < 16 ? 16 : align, false, SITE});
}

/* realloc.c - a block gets another size.
 *
 * Why:   in place where the class or the pages allow, by moving page tables where the kernel does,
 *        by copying otherwise; a shrink never fails.
 * Locks: as alloc.c and free.c.
 * Start: haki_api_realloc(). */
#include <errno.h>
#include <string.h>

#include "heap/alloc.h"
#include "heap/core.h"
#include "heap/fast.h"

static void *resize(const struct haki_block *b, void *p, size_t size) {
  if (b->heap != NULL && haki_fits(b->size, size)) return p;
  if (b->heap == NULL && size > HAK_SMALL_MAX && size <= PTRDIFF_MAX - HAK_CHUNK_SIZE) {
    void *q = haki_large_resize(b->page, p, size, haki_arena_cache(b->arena, false));
    if (q != NULL) {
      if (atomic_load_explicit(&b->arena->quota.crossed, memory_order_relaxed) != 0)
        haki_arena_note_limits(b->arena);
      return q;
    }
  }
  int saved = errno;
  void *q = haki_alloc_on(b->arena, &(struct haki_request){size, 16, false, 0});
  if (q == NULL) {
    if (size > b->size) return NULL;
    errno = saved;
    return p; /* a shrink that cannot move stays */
  }
  memcpy(q, p, size < b->size ? size : b->size);
  if (b->heap == NULL)
    haki_large_note_copy(HAK_PAGE_GET(b->page, large), haki_arena_cache(b->arena, false));
  haki_block_free(b, p);
  return q;
}

void *haki_api_realloc(void *p, size_t size) {
  if (p == NULL) return haki_api_malloc(size);
  struct haki_block b = haki_block_of(p);
  return resize(&b, p, size);
}

void *haki_api_arena_realloc(hak_arena *a, void *p, size_t size) {
  if (p == NULL) return haki_api_arena_alloc(a, size);
  if (!haki_arena_may_use(a)) return NULL;
  struct haki_block b = haki_block_of(p);
  HAK_CHECK(b.arena == a, "invalid free: not owned", p);
  return resize(&b, p, size);
}

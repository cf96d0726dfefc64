/* large.c - large blocks on runs of pages and on whole chunks.
 * Why, Owns, Locks: see large.h.
 * Start: haki_large_alloc(), haki_large_resize().
 *
 * A block is charged by its bytes rounded to 4 KiB; the rest of its last page or chunk is address
 * space that nobody touches. */
#include "pool/large.h"

#include <string.h>

#include "base/knob.h"
#include "map/chunk.h"
#include "map/region.h"
#include "os/os.h"

void haki_large_init(struct haki_large *l, struct haki_quota *quota, bool shared) {
  haki_list_init(&l->blocks);
  l->quota = quota;
  l->shared = shared;
}

static void add_to(hak_cell *own, hak_cell *of_cache, hak_cell *shared, uint64_t n) {
  if (own != NULL)
    haki_cell_add(own, n);
  else if (of_cache != NULL)
    haki_cell_add(of_cache, n);
  else
    atomic_fetch_add_explicit(shared, n, memory_order_relaxed);
}
/* Counts in the one cell that only this thread writes; differences may wrap, their sum does not. */
#define COUNT(l, cache, field, n)                                                        \
  add_to((l)->shared ? NULL : &(l)->cells.field, (cache) ? &(cache)->large.field : NULL, \
         &(l)->cells.field, (uint64_t)(n))

static size_t room(const struct page *p) {
  return p->length << (haki_page_kind(p) == HAK_PAGE_RUN ? HAK_PAGE_SHIFT : HAK_CHUNK_SHIFT);
}

/* From now on the first `bytes` of a run may hold data. */
static void mark_touched(struct page *p, size_t bytes) {
  size_t units = bytes / HAK_UNIT;
  if (units > HAK_PAGE_GET(p, touched)) HAK_PAGE_SET(p, touched, (uint16_t)units);
}

static void clear_touched(struct page *p, size_t bytes) {
  size_t held = (size_t)HAK_PAGE_GET(p, touched) * HAK_UNIT;
  memset(haki_page_start(p), 0, held < bytes ? held : bytes);
}

static void clear_touched_chunks(struct page *p, size_t bytes) {
  char *start = haki_page_start(p);
  for (size_t i = 0; i << HAK_CHUNK_SHIFT < bytes; i++) {
    size_t held = (size_t)HAK_PAGE_GET(&p[i * HAK_CHUNK_PAGES], touched) * HAK_UNIT;
    size_t left = bytes - (i << HAK_CHUNK_SHIFT);
    memset(start + (i << HAK_CHUNK_SHIFT), 0, held < left ? held : left);
  }
}

/* What the kernel would refuse a mapping for: reserved space is granted without a look at it. */
static bool absurd(size_t size) { return size > HAK_CHUNK_SIZE * 64 && size > haki_os_memory(); }

static struct page *take_chunks(size_t size, size_t align, bool zero) {
  if (absurd(size)) return NULL;
  struct page *p;
  size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
  if (pages <= HAK_RUN_PAGES_MAX && align < HAK_CHUNK_SIZE) {
    p = haki_pages_take(pages, align <= HAK_PAGE_SIZE ? 1 : align >> HAK_PAGE_SHIFT);
    if (p == NULL) return NULL;
    haki_run_gather_touched(p, pages);
    if (zero) clear_touched(p, size);
    p->length = pages;
    HAK_PAGE_SET(p, home, NULL);
    HAK_PAGE_SET(p, kind, HAK_PAGE_RUN);
    return p;
  }
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  p = haki_chunks_take(chunks, align <= HAK_CHUNK_SIZE ? 1 : align >> HAK_CHUNK_SHIFT);
  if (p == NULL) return NULL;
  if (zero) clear_touched_chunks(p, size);
  p->length = chunks;
  HAK_PAGE_SET(p, home, NULL);
  HAK_PAGE_SET(p, flags, 0);
  HAK_PAGE_SET(p, kind, HAK_PAGE_HUGE);
  return p;
}

/* ---- blocks of the pool: charged to the arena whether they are in use or not ---- */

static bool pools(const struct haki_l25_cache *cache, size_t size, size_t align) {
  return cache != NULL && size <= (size_t)HAK_L25_PAGES_MAX * HAK_PAGE_SIZE &&
         align <= HAK_PAGE_SIZE;
}

static struct page *take_pooled(struct haki_l25_cache *cache, const struct haki_large_request *r,
                                size_t size) {
  struct page *p = haki_l25_take(cache, size, r->site);
  if (p == NULL) return NULL;
  if (size > p->size) {
    if (!haki_quota_charge(cache->pool->quota, size - p->size)) {
      haki_l25_give(cache, p);
      return NULL;
    }
    p->size = size;
  }
  if (r->zero) clear_touched(p, size);
  return p;
}

/* Back to the pool, unless the limit is near. */
static bool give_pooled(struct page *p, struct haki_l25_cache *cache) {
  struct haki_l25_cache *home = HAK_PAGE_GET(p, home);
  if (home == NULL || haki_quota_tight(home->pool->quota)) return false;
  haki_l25_give(cache, p);
  return true;
}

/* ---- allocation ---- */

void *haki_large_alloc(struct haki_large *l, struct haki_l25_cache *cache,
                       const struct haki_large_request *r) {
  size_t size = haki_align_up(r->size + (r->size == 0), HAK_UNIT);
  struct page *p;
  if (pools(cache, size, r->align)) {
    p = take_pooled(cache, r, size);
    if (p == NULL) return NULL;
  } else {
    uint64_t level;
    if (!haki_quota_reserve(l->quota, size, &level)) return NULL;
    p = take_chunks(size, r->align, r->zero);
    if (p == NULL && haki_purge(true) != 0) /* empty chunks are free now */
      p = take_chunks(size, r->align, r->zero);
    if (p == NULL) {
      haki_quota_uncharge(l->quota, size);
      return NULL;
    }
    haki_quota_note(l->quota, level);
    p->size = size;
    HAK_PAGE_SET(p, large, l);
  }
  if (haki_page_kind(p) == HAK_PAGE_RUN) mark_touched(p, size);
  if (!l->shared) {
    haki_list_init(&p->link);
    haki_list_insert(&l->blocks, &p->link);
  }
  COUNT(l, cache, count, 1);
  COUNT(l, cache, bytes, p->size);
  COUNT(l, cache, allocs, 1);
  return haki_page_start(p);
}

struct page *haki_large_check(struct page *page, const void *p) {
  bool at_start = page != NULL && ((uintptr_t)p & (HAK_PAGE_SIZE - 1)) == 0;
  if (HAK_LIKELY(at_start && haki_page_is_large(page))) return page;
  if (page != NULL && haki_page_is_large(page)) haki_fatal("invalid free: not a block start", p);
  if (at_start && haki_page_kind(page) == HAK_PAGE_FREE &&
      (HAK_PAGE_GET(page, flags) & HAK_PAGE_WAS_LARGE) != 0)
    haki_fatal("double free", p);
  if (at_start && haki_page_kind(page) == HAK_PAGE_POOLED) haki_fatal("double free", p);
  if (page != NULL && haki_page_kind(page) == HAK_PAGE_FREE) {
    /* inside of a run or of a huge block? */
    if (haki_chunks_head(p) != NULL) haki_fatal("invalid free: not a block start", p);
    struct haki_region *r = haki_page_region(page);
    for (size_t back = 1; back < HAK_RUN_PAGES_MAX && (size_t)(page - r->pages) >= back; back++)
      if (haki_page_kind(page - back) != HAK_PAGE_FREE) {
        if (haki_page_kind(page - back) == HAK_PAGE_RUN && (page - back)->length > back)
          haki_fatal("invalid free: not a block start", p);
        break;
      }
  }
  haki_fatal("invalid free: not owned", p);
}

/* pre: unlinked, uncharged. */
static void give(struct page *p) {
  unsigned kind = haki_page_kind(p);
  size_t length = p->length, size = p->size;
  p->size = 0;
  HAK_PAGE_SET(p, large, NULL);
  HAK_PAGE_SET(p, home, NULL);
  HAK_PAGE_SET(p, flags, HAK_PAGE_WAS_LARGE);
  if (kind != HAK_PAGE_HUGE) haki_run_spread_touched(p, length);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  if (kind != HAK_PAGE_HUGE)
    haki_pages_give(p, length);
  else
    haki_chunks_give(p, length, size);
}

void haki_large_free(struct page *p, struct haki_l25_cache *cache) {
  struct haki_large *l = HAK_PAGE_GET(p, large);
  size_t size = p->size;
  if (!l->shared) haki_list_remove(&p->link);
  COUNT(l, cache, count, -1);
  COUNT(l, cache, bytes, -size);
  if (give_pooled(p, cache)) return;
  give(p);
  haki_quota_uncharge(l->quota, size);
  haki_purge_tick();
}

/* Bytes of the block change from p->size to size. */
static void resized(struct page *p, size_t size, struct haki_l25_cache *cache) {
  COUNT(HAK_PAGE_GET(p, large), cache, bytes, size - p->size);
  p->size = size;
}

static void shrink(struct page *p, size_t size, struct haki_l25_cache *cache) {
  size_t was = p->size;
  char *start = haki_page_start(p);
  if (haki_page_kind(p) == HAK_PAGE_RUN) {
    size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
    if (HAK_PAGE_GET(p, home) != NULL) pages = haki_l25_pages(haki_l25_class(pages));
    if (pages < p->length) {
      haki_run_spread_touched(p, p->length);
      haki_pages_give(p + pages, p->length - pages);
      haki_run_gather_touched(p, pages);
      p->length = pages;
    }
  } else {
    size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
    size_t extra = p->length - chunks, kept = chunks << HAK_CHUNK_SHIFT;
    if (kept > was) kept = was;
    bool zeroed;
    if (kept > size && !haki_os_purge(start + size, kept - size, false, &zeroed))
      HAK_PAGE_SET(&p[(chunks - 1) * HAK_CHUNK_PAGES], touched, HAK_CHUNK_UNITS);
    if (extra != 0) {
      p->length = chunks;
      size_t held = was > chunks << HAK_CHUNK_SHIFT ? was - (chunks << HAK_CHUNK_SHIFT) : 0;
      haki_chunks_give(p + chunks * HAK_CHUNK_PAGES, extra, held);
    }
  }
  resized(p, size, cache);
  COUNT(HAK_PAGE_GET(p, large), cache, in_place, 1);
  haki_quota_uncharge(HAK_PAGE_GET(p, large)->quota, was - size);
}

static bool grow_in_place(struct page *p, size_t size) {
  if (size <= room(p)) return true;
  if (haki_page_kind(p) == HAK_PAGE_RUN) {
    size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
    bool pooled = HAK_PAGE_GET(p, home) != NULL;
    if (pages > (pooled ? (size_t)HAK_L25_PAGES_MAX : (size_t)HAK_RUN_PAGES_MAX)) return false;
    if (pooled) pages = haki_l25_pages(haki_l25_class(pages)); /* the pool has it by its class */
    haki_run_spread_touched(p, p->length);
    bool ok = haki_pages_extend(p, p->length, pages - p->length);
    if (ok) p->length = pages;
    haki_run_gather_touched(p, p->length);
    return ok;
  }
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  if (!haki_chunks_extend(p, p->length, chunks - p->length)) return false;
  p->length = chunks;
  return true;
}

/* Page tables of n chunks move from p to `to`. Chunks that were moved before are mappings of their
 * own, and the kernel moves one mapping at a time: then chunk by chunk, and what it refuses half-way
 * is copied. False: nothing has moved. */
static bool move_chunks(struct page *p, struct page *to, size_t n) {
  size_t step = haki_chunks_one_mapping(p, n) ? n : 1, bytes = step << HAK_CHUNK_SHIFT;
  char *from = haki_page_start(p), *dest = haki_page_start(to);
  for (size_t i = 0; i < n; i += step, from += bytes, dest += bytes) {
    bool moved = haki_os_move_pages(from, dest, bytes);
    if (!moved && i == 0) return false;
    size_t left = p->size - (i << HAK_CHUNK_SHIFT);
    if (!moved) memcpy(dest, from, left < bytes ? left : bytes);
    for (size_t k = i; k < i + step; k++)
      HAK_PAGE_SET(&p[k * HAK_CHUNK_PAGES], touched, moved ? 0 : HAK_CHUNK_UNITS);
  }
  p->size = 0; /* what it holds yet is in `touched` */
  haki_chunks_set_moved(to, n);
  return true;
}

/* A huge block moves to a longer range of chunks, and its memory with it. */
static struct page *move_pages(struct page *p, size_t size) {
  if (haki_page_kind(p) != HAK_PAGE_HUGE || HAK_KNOB(large, remap) == 0) return NULL;
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  struct page *to = haki_chunks_take(chunks, 1);
  if (to == NULL) return NULL;
  size_t was = p->size;
  if (!move_chunks(p, to, p->length)) {
    haki_chunks_give(to, chunks, 0);
    return NULL;
  }
  struct haki_large *l = HAK_PAGE_GET(p, large);
  to->length = chunks;
  to->size = was;
  HAK_PAGE_SET(to, large, l);
  HAK_PAGE_SET(to, home, NULL);
  HAK_PAGE_SET(to, flags, 0);
  HAK_PAGE_SET(to, kind, HAK_PAGE_HUGE);
  if (!l->shared) {
    haki_list_init(&to->link);
    haki_list_insert(&l->blocks, &to->link);
    haki_list_remove(&p->link);
  }
  give(p);
  return to;
}

void *haki_large_resize(struct page *p, void *ptr, size_t size, struct haki_l25_cache *cache) {
  size = haki_align_up(size, HAK_UNIT);
  if (size <= p->size) {
    if (size < p->size) shrink(p, size, cache);
    return ptr;
  }
  size_t more = size - p->size;
  struct haki_large *l = HAK_PAGE_GET(p, large);
  uint64_t level;
  if (absurd(size) || !haki_quota_reserve(l->quota, more, &level)) return NULL;
  if (grow_in_place(p, size)) {
    if (haki_page_kind(p) == HAK_PAGE_RUN) mark_touched(p, size);
    resized(p, size, cache);
    COUNT(l, cache, in_place, 1);
    haki_quota_note(l->quota, level);
    return ptr;
  }
  struct page *to = move_pages(p, size);
  if (to == NULL) {
    haki_quota_uncharge(l->quota, more);
    return NULL;
  }
  resized(to, size, cache);
  COUNT(l, cache, remaps, 1);
  haki_quota_note(l->quota, level);
  return haki_page_start(to);
}

void haki_large_note_copy(struct haki_large *l, struct haki_l25_cache *cache) {
  COUNT(l, cache, copies, 1);
}

/* ---- all of an arena's ---- */

static void drop_one(struct haki_large *l, struct page *p) {
  size_t size = p->size;
  if (haki_page_kind(p) != HAK_PAGE_POOLED) {
    COUNT(l, (struct haki_l25_cache *)NULL, count, -1);
    COUNT(l, (struct haki_l25_cache *)NULL, bytes, -size);
  }
  give(p);
  haki_quota_uncharge(l->quota, size);
}

/* A shared arena has no list: its blocks, in use and pooled, say whose they are. */
static void drop_shared(struct haki_large *l) {
  uint32_t count = atomic_load_explicit(&haki_region_count, memory_order_acquire);
  for (uint32_t k = 0; k < count; k++) {
    struct haki_region *r = &haki_regions[k];
    uint32_t fresh = atomic_load_explicit(&r->fresh, memory_order_acquire);
    for (size_t i = 0; i < fresh; i++) {
      unsigned kind = haki_chunk_kind(r, i);
      struct page *p = &r->pages[i * HAK_CHUNK_PAGES];
      size_t n = kind == HAK_CHUNK_SPLIT ? HAK_CHUNK_PAGES : kind == HAK_CHUNK_HUGE;
      for (size_t j = 0; j < n; j++)
        if ((haki_page_is_large(&p[j]) || haki_page_kind(&p[j]) == HAK_PAGE_POOLED) &&
            HAK_PAGE_GET(&p[j], large) == l)
          drop_one(l, &p[j]);
    }
  }
}

void haki_large_drop(struct haki_large *l, bool any) {
  if (l->shared && any) drop_shared(l);
  while (!haki_list_empty(&l->blocks)) { /* no purge here: whoever drops an arena is in a hurry */
    struct page *p = HAK_LIST_OF(l->blocks.next, struct page, link);
    haki_list_remove(&p->link);
    drop_one(l, p);
  }
}

bool haki_large_ok(struct haki_large *l) {
  size_t count = 0, bytes = 0;
  bool ok = true;
  if (l->shared) return haki_list_empty(&l->blocks);
  for (hak_list *i = l->blocks.next; i != &l->blocks; i = i->next) {
    struct page *p = HAK_LIST_OF(i, struct page, link);
    ok = ok && HAK_PAGE_GET(p, large) == l && p->size <= room(p);
    count++;
    bytes += p->size;
  }
  return ok && count == haki_cell_get(&l->cells.count) && bytes == haki_cell_get(&l->cells.bytes);
}

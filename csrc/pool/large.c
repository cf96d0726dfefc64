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
#include "map/meta.h"
#include "map/region.h"
#include "os/os.h"
#include "pool/bigrest.h"

void haki_large_init(struct haki_large *l, struct haki_quota *quota, struct haki_large *lender) {
  haki_list_init(&l->blocks);
  l->quota = quota;
  l->shared = lender == NULL;
  l->lender = lender;
  struct haki_big_limits *m = &l->limits;
  atomic_store_explicit(&m->max_bytes, HAK_KNOB(bigcache, max_bytes), memory_order_relaxed);
  atomic_store_explicit(&m->max_mapped, HAK_KNOB(bigcache, max_mapped), memory_order_relaxed);
  atomic_store_explicit(&m->initial_buckets, (uint32_t)HAK_KNOB(bigcache, initial_buckets),
                        memory_order_relaxed);
  atomic_store_explicit(&m->max_buckets, (uint32_t)HAK_KNOB(bigcache, max_buckets),
                        memory_order_relaxed);
  atomic_store_explicit(&m->load_percent, (uint32_t)HAK_KNOB(bigcache, load_percent),
                        memory_order_relaxed);
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

/* Free, and not in the chunks. */
static bool is_kept(unsigned kind) { return kind == HAK_PAGE_POOLED || kind == HAK_PAGE_CACHED; }

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

static void become_huge(struct page *p, size_t rest) {
  haki_rest_set(p, rest);
  HAK_PAGE_SET(p, home, NULL);
  HAK_PAGE_SET(p, flags, 0);
  HAK_PAGE_SET(p, kind, HAK_PAGE_HUGE);
}

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
  become_huge(p, 0);
  return p;
}

/* ---- blocks of the pool: charged to the arena whether they are in use or not ---- */

static bool pools(const struct haki_l25_cache *cache, size_t size, size_t align) {
  return cache != NULL && size <= HAK_L25_MAX && align <= HAK_PAGE_SIZE;
}

static struct page *take_pooled(struct haki_l25_cache *cache, const struct haki_large_request *r,
                                size_t size) {
  struct page *p = haki_l25_take(cache, size, r->site);
  if (p == NULL) return NULL;
  if (size > p->size) {
    if (!haki_quota_charge(cache->pool->quota, size - p->size)) {
      haki_l25_untake(cache, p);
      return NULL;
    }
    p->size = size;
  }
  if (r->zero) clear_touched(p, size);
  return p;
}

/* Back to the pool, unless the limit is near. */
static void give_pooled(struct page *p, struct haki_large *l, struct haki_l25_cache *cache) {
  if (!haki_quota_tight(l->quota)) {
    haki_l25_give(cache, p);
    return;
  }
  haki_l25_give_up(cache, p);
  haki_purge_tick();
}

/* INV large-1: a block of the pool has been touched as far as it is charged, or further. */
HAK_HOT void *haki_large_alloc_warm(struct haki_l25_cache *cache, size_t size) {
  struct page *p = haki_l25_take_warm(cache, size);
  if (HAK_UNLIKELY(p == NULL)) return NULL;
  HAK_ASSERT(HAK_PAGE_GET(p, touched) >= p->size / HAK_UNIT);
  haki_cell_add(&cache->large.bytes, p->size);
  return haki_page_start(p);
}

HAK_HOT bool haki_large_free_warm(struct haki_l25_cache *cache, struct page *p) {
  size_t size = p->size;
  if (HAK_UNLIKELY(haki_quota_tight(cache->pool->quota))) return false;
  if (HAK_UNLIKELY(!haki_l25_give_warm(cache, p))) return false;
  haki_cell_sub(&cache->large.bytes, size);
  return true;
}

/* ---- big blocks that wait ---- */

static struct haki_big *big_of(struct haki_large *l) {
  /* acquire: pairs with make_big() */
  return atomic_load_explicit(&l->big, memory_order_acquire);
}

/* NULL: no memory, or somebody else is at it: eighteen pages each would be too dear. */
HAK_COLD static struct haki_big *make_big(struct haki_large *l) {
  if (atomic_exchange_explicit(&l->making, true, memory_order_acquire)) return big_of(l);
  struct haki_big *big = big_of(l);
  if (big == NULL) big = haki_big_new(l->quota, l, &l->limits);
  haki_lock(&haki_meta_lock); /* a fork holds it: the caches that it locks are those it unlocks */
  /* release: pairs with big_of() */
  atomic_store_explicit(&l->big, big, memory_order_release);
  haki_unlock(&haki_meta_lock);
  /* release: pairs with the exchange */
  atomic_store_explicit(&l->making, false, memory_order_release);
  return big;
}

/* The front lies in the thread's cache, under its lock. Counted also before there is anything to
 * take: whoever asks often must have a background thread by the time at which it frees. */
static struct page *from_big(struct haki_big *big, struct haki_l25_cache *cache, size_t size,
                             uintptr_t site) {
  if (cache == NULL) return big != NULL ? haki_big_take(big, NULL, size, site) : NULL;
  haki_bias_enter(&cache->bias);
  struct page *p = big != NULL ? haki_big_take(big, &cache->front, size, site) : NULL;
  haki_l25_count_op(cache, true);
  haki_bias_leave(&cache->bias);
  return p;
}

static bool to_big(struct haki_big *big, struct haki_l25_cache *cache, struct page *p) {
  if (cache == NULL) return haki_big_give(big, NULL, p);
  haki_bias_enter(&cache->bias);
  bool kept = haki_big_give(big, &cache->front, p);
  haki_bias_leave(&cache->bias);
  return kept;
}

/* The charge of a block that comes from `keeper` moves to l, raised to what is asked for. */
static bool charge_taken(struct haki_large *l, struct haki_large *keeper, size_t had, size_t want) {
  if (l == keeper) return want == had || haki_quota_charge(l->quota, want - had);
  if (!haki_quota_charge(l->quota, want)) return false;
  haki_quota_uncharge(keeper->quota, had);
  return true;
}

/* A block that waited, charged. NULL: none, or the limit forbids it. */
static struct page *take_big(struct haki_large *l, struct haki_l25_cache *cache,
                             const struct haki_large_request *r, size_t size) {
  struct haki_large *keeper = l->shared ? l : l->lender;
  struct haki_big *big = big_of(keeper);
  if (!haki_big_fits(size) || r->align > HAK_CHUNK_SIZE) return NULL;
  struct page *p = from_big(big, cache, size, r->site);
  if (p == NULL) return NULL;
  HAK_BIG_SITE(p) = r->site;
  size_t had = p->size, want = had > size ? had : size;
  size_t rest = l->shared && cache != NULL ? haki_rest_of(had, size) : 0;
  if (!charge_taken(l, keeper, had, want)) {
    if (had == 0 || !to_big(big, cache, p)) haki_big_release(big, p);
    return NULL;
  }
  if (r->zero && had != 0) memset(haki_page_start(p), 0, size);
  p->size = want - rest;
  if (rest != 0) COUNT(l, cache, rest, rest);
  become_huge(p, rest);
  return p;
}

/* What lies behind a block is the block's again. pre: the block is the caller's. */
static void absorb_rest(struct page *p, struct haki_large *l, struct haki_l25_cache *cache) {
  size_t rest = haki_page_kind(p) == HAK_PAGE_HUGE ? haki_rest_claim(p) : 0;
  if (rest == 0) return;
  COUNT(l, cache, rest, -rest);
  p->size += rest;
}

/* A block of a shared arena waits for the next request; it stays charged. */
static bool keep_big(struct haki_large *l, struct haki_l25_cache *cache, struct page *p) {
  if (!haki_big_fits(p->size) || haki_quota_tight(l->quota)) return false;
  if (atomic_load_explicit(&l->limits.max_bytes, memory_order_relaxed) == 0) return false;
  struct haki_big *big = big_of(l);
  if (HAK_UNLIKELY(big == NULL)) big = make_big(l);
  if (big == NULL || !to_big(big, cache, p)) return false;
  if (cache == NULL) haki_big_age(big, false); /* a thread past its destructors */
  return true;
}

/* ---- allocation ---- */

/* From the chunks, charged. */
static struct page *take_fresh(struct haki_large *l, const struct haki_large_request *r,
                               size_t size) {
  uint64_t level;
  if (!haki_quota_reserve(l->quota, size, &level)) return NULL;
  struct page *p = take_chunks(size, r->align, r->zero);
  if (p == NULL && haki_purge(true) != 0) /* empty chunks are free now */
    p = take_chunks(size, r->align, r->zero);
  if (p == NULL) {
    haki_quota_uncharge(l->quota, size);
    return NULL;
  }
  haki_quota_note(l->quota, level);
  p->size = size;
  return p;
}

void *haki_large_alloc(struct haki_large *l, struct haki_l25_cache *cache,
                       const struct haki_large_request *r) {
  size_t size = haki_align_up(r->size + (r->size == 0), HAK_UNIT);
  struct page *p;
  if (pools(cache, size, r->align)) {
    p = take_pooled(cache, r, size);
    if (p == NULL) return NULL;
  } else {
    p = take_big(l, cache, r, size);
    if (p == NULL) p = take_fresh(l, r, size);
    if (p == NULL) return NULL;
    HAK_PAGE_SET(p, large, l);
  }
  if (haki_page_kind(p) == HAK_PAGE_RUN)
    mark_touched(p, size);
  else
    HAK_BIG_SITE(p) = r->site;
  if (!l->shared) {
    haki_list_init(&p->link);
    haki_list_insert(&l->blocks, &p->link);
  }
  COUNT(l, cache, bytes, p->size);
  if (HAK_PAGE_GET(p, home) == NULL) {
    COUNT(l, cache, count, 1);
    COUNT(l, cache, allocs, 1);
  }
  return haki_page_start(p);
}

struct page *haki_large_check(struct page *page, const void *p) {
  bool at_start = page != NULL && ((uintptr_t)p & (HAK_PAGE_SIZE - 1)) == 0;
  if (HAK_LIKELY(at_start && haki_page_is_large(page))) return page;
  unsigned kind = page != NULL ? haki_page_kind(page) : HAK_PAGE_FREE;
  if (is_kept(kind) && at_start) haki_fatal("double free", p);
  if (is_kept(kind) || (page != NULL && haki_page_is_large(page)))
    haki_fatal("invalid free: not a block start", p);
  if (page != NULL && kind == HAK_PAGE_FREE) {
    /* inside of a huge block, in use or waiting, of nothing any more, or of a run? */
    if (haki_chunks_head(p) != NULL) haki_fatal("invalid free: not a block start", p);
    if (at_start && (HAK_PAGE_GET(page, flags) & HAK_PAGE_WAS_LARGE) != 0)
      haki_fatal("double free", p);
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
  bool whole_chunks = kind == HAK_PAGE_HUGE || kind == HAK_PAGE_CACHED;
  size_t length = p->length, size = p->size;
  p->size = 0;
  HAK_PAGE_SET(p, large, NULL);
  HAK_PAGE_SET(p, home, NULL);
  HAK_PAGE_SET(p, flags, HAK_PAGE_WAS_LARGE);
  if (!whole_chunks) haki_run_spread_touched(p, length);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  if (!whole_chunks)
    haki_pages_give(p, length);
  else
    haki_chunks_give(p, length, size);
}

/* In an image: the block stays where it is, and may be freed once. */
static bool is_imaged(struct page *p, const char *wrong) {
  uint8_t flags = HAK_PAGE_GET(p, flags);
  HAK_CHECK((flags & HAK_PAGE_GONE) == 0, wrong, haki_page_start(p));
  return (flags & HAK_PAGE_IMAGE) != 0;
}

void haki_large_free(struct page *p, struct haki_l25_cache *cache) {
  if (HAK_UNLIKELY(is_imaged(p, "double free"))) {
    HAK_PAGE_SET(p, flags, HAK_PAGE_GET(p, flags) | HAK_PAGE_GONE);
    return;
  }
  struct haki_large *l = HAK_PAGE_GET(p, large);
  if (!l->shared) haki_list_remove(&p->link);
  COUNT(l, cache, bytes, -p->size);
  absorb_rest(p, l, cache);
  size_t size = p->size;
  if (HAK_PAGE_GET(p, home) != NULL) {
    give_pooled(p, l, cache);
    return;
  }
  COUNT(l, cache, count, -1);
  bool huge = l->shared && haki_page_kind(p) == HAK_PAGE_HUGE, kept = huge && keep_big(l, cache, p);
  if (!kept) {
    give(p);
    haki_quota_uncharge(l->quota, size);
    haki_purge_tick();
  }
  if (!huge || cache == NULL) return;
  haki_bias_enter(&cache->bias);
  haki_l25_count_op(cache, false);
  haki_bias_leave(&cache->bias);
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
    size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT, length = p->length;
    if (HAK_PAGE_GET(p, home) != NULL) pages = haki_l25_pages(haki_l25_class(pages));
    if (pages < length) {
      haki_run_spread_touched(p, length);
      haki_pages_give(p + pages, length - pages);
      haki_run_gather_touched(p, pages);
      p->length = pages;
      if (HAK_PAGE_GET(p, home) != NULL) haki_l25_resized(p, length);
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
    size_t length = p->length;
    haki_run_spread_touched(p, length);
    bool ok = haki_pages_extend(p, length, pages - length);
    if (ok) p->length = pages;
    if (ok && pooled) haki_l25_resized(p, length);
    haki_run_gather_touched(p, p->length);
    return ok;
  }
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  if (!haki_chunks_extend(p, p->length, chunks - p->length)) return false;
  p->length = chunks;
  return true;
}

/* A huge block moves to a longer range of chunks, and its memory with it. */
static struct page *move_pages(struct page *p, size_t size) {
  if (haki_page_kind(p) != HAK_PAGE_HUGE || HAK_KNOB(large, remap) == 0) return NULL;
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  struct page *to = haki_chunks_take(chunks, 1);
  if (to == NULL) return NULL;
  if (!haki_chunks_move(p, to, p->length, p->size)) {
    haki_chunks_give(to, chunks, 0);
    return NULL;
  }
  struct haki_large *l = HAK_PAGE_GET(p, large);
  to->length = chunks;
  to->size = p->size;
  HAK_PAGE_SET(to, large, l);
  become_huge(to, 0);
  HAK_BIG_SITE(to) = HAK_BIG_SITE(p);
  if (!l->shared) {
    haki_list_init(&to->link);
    haki_list_insert(&l->blocks, &to->link);
    haki_list_remove(&p->link);
  }
  p->size = 0; /* its memory has gone: nothing to purge */
  give(p);
  return to;
}

void *haki_large_resize(struct page *p, void *ptr, size_t size, struct haki_l25_cache *cache) {
  size = haki_align_up(size, HAK_UNIT);
  if (HAK_UNLIKELY(is_imaged(p, "double free"))) return size <= p->size ? ptr : NULL;
  struct haki_large *l = HAK_PAGE_GET(p, large);
  size_t was = p->size;
  absorb_rest(p, l, cache);
  COUNT(l, cache, bytes, p->size - was);
  if (size <= p->size) {
    if (size < p->size) shrink(p, size, cache);
    return ptr;
  }
  size_t more = size - p->size;
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
  struct haki_l25_cache *none = NULL;
  if (!is_kept(haki_page_kind(p))) {
    COUNT(l, none, bytes, -p->size);
    if (HAK_PAGE_GET(p, home) == NULL) COUNT(l, none, count, -1);
    absorb_rest(p, l, none);
  }
  size_t size = p->size;
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
        if ((haki_page_is_large(&p[j]) || is_kept(haki_page_kind(&p[j]))) &&
            HAK_PAGE_GET(&p[j], large) == l)
          drop_one(l, &p[j]);
    }
  }
}

void haki_large_drop(struct haki_large *l, bool any) {
  struct haki_big *big = big_of(l);
  if (big != NULL) haki_big_forget(big);
  if (l->shared && any) drop_shared(l);
  while (!haki_list_empty(&l->blocks)) { /* no purge here: whoever drops an arena is in a hurry */
    struct page *p = HAK_LIST_OF(l->blocks.next, struct page, link);
    haki_list_remove(&p->link);
    drop_one(l, p);
  }
}

static struct page *block_at(hak_list *i) { return HAK_LIST_OF(i, struct page, link); }

bool haki_large_is_gone(const struct page *p) {
  return (HAK_PAGE_GET((struct page *)p, flags) & HAK_PAGE_GONE) != 0;
}

void haki_large_keep(struct haki_large *l) {
  hak_list *next;
  for (hak_list *i = l->blocks.next; i != &l->blocks; i = next) {
    next = i->next;
    struct page *p = block_at(i);
    if (haki_large_is_gone(p)) {
      haki_list_remove(&p->link);
      drop_one(l, p);
    } else {
      HAK_PAGE_SET(p, flags, HAK_PAGE_IMAGE);
    }
  }
}

void haki_large_restore(struct haki_large *l) {
  hak_list *next;
  for (hak_list *i = l->blocks.next; i != &l->blocks; i = next) {
    next = i->next;
    struct page *p = block_at(i);
    if ((HAK_PAGE_GET(p, flags) & HAK_PAGE_IMAGE) != 0) {
      HAK_PAGE_SET(p, flags, HAK_PAGE_IMAGE);
    } else {
      haki_list_remove(&p->link);
      drop_one(l, p);
    }
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

size_t haki_large_trim(struct haki_large *l, struct haki_l25_cache *cache) {
  struct haki_big *big = big_of(l);
  if (big == NULL) return 0;
  if (cache != NULL) {
    haki_bias_enter(&cache->bias);
    haki_big_flush(&cache->front, UINT64_MAX);
    haki_bias_leave(&cache->bias);
  }
  return haki_big_trim(big);
}

void haki_large_configure(struct haki_large *l) {
  struct haki_big *big = big_of(l);
  if (big != NULL) haki_big_configure(big);
}

void haki_large_destroy(struct haki_large *l) {
  struct haki_big *big = big_of(l);
  if (big != NULL) haki_big_destroy(big);
  atomic_store_explicit(&l->big, NULL, memory_order_relaxed);
}

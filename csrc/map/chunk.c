/* chunk.c - takes and gives runs of pages and of chunks.
 * Why:   see chunk.h. A SPLIT chunk keeps its free pages in a 64-bit map; chunks wait in buckets by
 *        the logarithm of their longest free run, so that a run is found in a few steps.
 * Owns:  the buckets.   Not: when memory is purged (purge.c).
 * Locks: CHUNK.
 * Start: haki_pages_take(). */
#include "map/chunk.h"

#include <string.h>

#include "base/knob.h"
#include "base/stat.h"
#include "map/bucket.h"
#include "map/region.h"
#include "os/os.h"

struct haki_lock haki_chunk_lock = HAK_LOCK_INIT(HAK_RANK_CHUNK);
hak_list haki_buckets[HAK_BUCKETS];
static _Atomic(uint64_t) chunk_bytes; /* in SPLIT and HUGE chunks */

/* 0: no bit set; k: the longest run of ones has 2^(k-1) or more, less than 2^k. */
static unsigned bucket_of(uint64_t map) {
  unsigned k = 0;
  for (unsigned run = 1; map != 0; run *= 2) { /* bit i: a run of `run` ones starts here */
    k++;
    if (run == 64) break;
    map &= map >> run;
  }
  return k;
}

/* Bits at which a run of n ones starts. */
static uint64_t run_starts(uint64_t map, unsigned n) {
  unsigned have = 1;
  while (have < n) {
    unsigned step = have < n - have ? have : n - have;
    map &= map >> step;
    have += step;
  }
  return map;
}

static uint64_t mask_of(unsigned at, size_t n) { return (n == 64 ? ~0ull : (1ull << n) - 1) << at; }

static void init_buckets(void) {
  if (HAK_LIKELY(haki_buckets[0].next != NULL)) return;
  for (int i = 0; i < HAK_BUCKETS; i++) haki_list_init(&haki_buckets[i]);
}

void haki_chunk_rebucket(struct chunk *c) {
  uint8_t bucket = (uint8_t)bucket_of(c->free);
  if (bucket == c->bucket && c->link.next != NULL && !haki_list_empty(&c->link)) return;
  if (c->link.next != NULL) haki_list_remove(&c->link);
  c->bucket = bucket;
  haki_list_insert(&haki_buckets[bucket], &c->link);
}

static void ask_hugepages(struct haki_region *r, struct chunk *c, size_t n) {
  char *p = (char *)haki_page_start(haki_chunk_pages(r, c));
  if (haki_os_hugepages(p, n << HAK_CHUNK_SHIFT))
    for (size_t i = 0; i < n; i++) c[i].huge_asked = true;
}

/* Huge pages pay where every page is in use, and by small blocks: of a large block perhaps only
 * the first kilobytes are ever touched, and a huge page would make it 2 MiB. */
static void ask_if_dense(struct haki_region *r, struct chunk *c) {
  if (c->free != 0 || c->huge_asked || HAK_KNOB(os, hugepages) == 0 ||
      atomic_load_explicit(&chunk_bytes, memory_order_relaxed) < HAK_KNOB(os, hugepages_min))
    return;
  const struct page *p = haki_chunk_pages(r, c);
  unsigned slabs = 0;
  for (unsigned i = 0; i < HAK_CHUNK_PAGES; i++) {
    unsigned kind = haki_page_kind(&p[i]);
    slabs += kind == HAK_PAGE_SLAB || kind == HAK_PAGE_INNER;
  }
  if (slabs >= HAK_CHUNK_PAGES - 1) ask_hugepages(r, c, 1); /* but for the page just taken */
}

static struct chunk *new_pages_chunk(void) {
  struct haki_region *r;
  struct chunk *c = haki_region_find(1, 1, &r);
  if (c == NULL) return NULL;
  haki_region_set_kind(r, (uint32_t)(c - r->chunks), 1, HAK_CHUNK_SPLIT, HAK_CHUNK_SPLIT);
  if (HAK_KNOB(os, hugepages) == 2) ask_hugepages(r, c, 1);
  c->free = ~0ull;
  c->dirty = c->touched = 0;
  struct page *p = haki_chunk_pages(r, c);
  for (uint32_t i = 0; c->spare != 0; i++) { /* what a huge block left is as warm as any */
    uint16_t units = c->spare < HAK_UNITS_PER_PAGE ? c->spare : HAK_UNITS_PER_PAGE;
    HAK_PAGE_SET(&p[i], touched, units);
    c->dirty |= 1ull << i;
    c->spare = (uint16_t)(c->spare - units);
  }
  c->touched = c->dirty;
  /* a purge may have taken it off the queue just now, and find that it is not spare any more */
  if (c->dirty != 0) haki_chunk_queue(c, haki_os_now_coarse());
  haki_chunk_rebucket(c);
  atomic_fetch_add_explicit(&chunk_bytes, HAK_CHUNK_SIZE, memory_order_relaxed);
  HAK_STAT_ADD(chunk, taken, 1);
  return c;
}

static uint64_t aligned_bits(size_t align) { /* page numbers divisible by align */
  uint64_t map = 0;
  for (unsigned i = 0; i < 64; i += (unsigned)align) map |= 1ull << i;
  return map;
}

/* Where a run fits in c, dirty memory first: it is warm. 64: nowhere. */
static unsigned fit(const struct chunk *c, unsigned n, uint64_t allowed) {
  uint64_t starts = run_starts(c->dirty, n) & allowed;
  if (starts == 0) starts = run_starts(c->free, n) & allowed;
  return starts == 0 ? 64 : (unsigned)__builtin_ctzll(starts);
}

static struct page *take_from(struct chunk *c, unsigned at, size_t n) {
  struct haki_region *r = haki_chunk_region(c);
  uint64_t mask = mask_of(at, n);
  c->free &= ~mask;
  c->dirty &= ~mask;
  c->touched |= mask;
  haki_chunk_rebucket(c);
  ask_if_dense(r, c);
  struct page *p = haki_chunk_pages(r, c) + at;
  for (size_t i = 0; i < n; i++) HAK_PAGE_SET(&p[i], flags, 0);
  return p;
}

struct page *haki_pages_take(size_t n, size_t align) {
  struct page *p = NULL;
  uint64_t allowed = align > 1 ? aligned_bits(align) : ~0ull;
  haki_lock(&haki_chunk_lock);
  init_buckets();
  /* the bucket that may fit first, then those that must */
  for (unsigned b = 32u - (unsigned)__builtin_clz((unsigned)n); b < HAK_BUCKETS && p == NULL; b++) {
    unsigned tries = 8;
    for (hak_list *l = haki_buckets[b].next; l != &haki_buckets[b] && tries-- != 0; l = l->next) {
      struct chunk *c = HAK_LIST_OF(l, struct chunk, link);
      unsigned at = fit(c, (unsigned)n, allowed);
      if (at < 64) {
        p = take_from(c, at, n);
        break;
      }
    }
  }
  if (p == NULL) {
    struct chunk *c = new_pages_chunk();
    if (c != NULL) p = take_from(c, 0, n);
  }
  haki_unlock(&haki_chunk_lock);
  HAK_STAT_ADD(chunk, page_ops, 1);
  return p;
}

void haki_pages_give(struct page *first, size_t n) {
  struct haki_region *r = haki_page_region(first);
  unsigned at = (unsigned)((size_t)(first - r->pages) % HAK_CHUNK_PAGES);
  uint64_t dirty = 0;
  for (size_t i = 0; i < n; i++) {
    HAK_ASSERT(haki_page_kind(&first[i]) == HAK_PAGE_FREE);
    if (HAK_PAGE_GET(&first[i], touched) != 0) dirty |= 1ull << (at + i);
  }
  uint64_t now = haki_os_now_coarse();
  haki_lock(&haki_chunk_lock);
  struct chunk *c = haki_chunk_of_page(r, first);
  HAK_ASSERT((c->free & mask_of(at, n)) == 0);
  c->free |= mask_of(at, n);
  c->dirty |= dirty;
  if (dirty != 0 || c->free == ~0ull) haki_chunk_queue(c, now);
  haki_chunk_rebucket(c);
  haki_unlock(&haki_chunk_lock);
  HAK_STAT_ADD(chunk, page_ops, 1);
}

bool haki_pages_extend(struct page *first, size_t n, size_t more) {
  struct haki_region *r = haki_page_region(first);
  size_t at = (size_t)(first - r->pages) % HAK_CHUNK_PAGES;
  if (at + n + more > HAK_CHUNK_PAGES) return false;
  uint64_t mask = mask_of((unsigned)(at + n), more);
  haki_lock(&haki_chunk_lock);
  struct chunk *c = haki_chunk_of_page(r, first);
  bool ok = (c->free & mask) == mask;
  if (ok) take_from(c, (unsigned)(at + n), more);
  haki_unlock(&haki_chunk_lock);
  return ok;
}

/* Chunks of a huge block: what they hold from before is noted in the first page of each. */
static void note_spare(struct haki_region *r, struct chunk *c, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (c[i].spare == 0) continue; /* do not touch the descriptors of a terabyte */
    HAK_PAGE_SET(haki_chunk_pages(r, &c[i]), touched, c[i].spare);
    c[i].spare = 0;
  }
}

struct page *haki_chunks_take(size_t n, size_t align) {
  struct page *p = NULL;
  struct haki_region *r;
  haki_lock(&haki_chunk_lock);
  struct chunk *c = haki_region_find(n, align, &r);
  if (c != NULL) {
    haki_region_set_kind(r, (uint32_t)(c - r->chunks), n, HAK_CHUNK_HUGE, HAK_CHUNK_BODY);
    if (HAK_KNOB(os, hugepages) == 2) ask_hugepages(r, c, n);
    note_spare(r, c, n);
    p = haki_chunk_pages(r, c);
    atomic_fetch_add_explicit(&chunk_bytes, n << HAK_CHUNK_SHIFT, memory_order_relaxed);
    HAK_STAT_ADD(chunk, taken, n);
  }
  haki_unlock(&haki_chunk_lock);
  return p;
}

bool haki_chunks_extend(struct page *first, size_t n, size_t more) {
  struct haki_region *r = haki_page_region(first);
  size_t at = (size_t)(first - r->pages) / HAK_CHUNK_PAGES + n;
  if (at + more > r->chunk_count) return false;
  haki_lock(&haki_chunk_lock);
  bool ok = true;
  for (size_t i = 0; i < more && ok; i++) ok = haki_chunk_unused(r, at + i);
  ok = ok && haki_region_commit(r, (uint32_t)at, more);
  if (ok) {
    haki_region_set_kind(r, (uint32_t)at, more, HAK_CHUNK_BODY, HAK_CHUNK_BODY);
    note_spare(r, &r->chunks[at], more);
    atomic_fetch_add_explicit(&chunk_bytes, more << HAK_CHUNK_SHIFT, memory_order_relaxed);
    HAK_STAT_ADD(chunk, taken, more);
  }
  haki_unlock(&haki_chunk_lock);
  return ok;
}

void haki_chunks_split(struct page *first, size_t n) {
  struct haki_region *r = haki_page_region(first);
  size_t at = (size_t)(first - r->pages) / HAK_CHUNK_PAGES + n;
  haki_lock(&haki_chunk_lock);
  haki_region_set_kind(r, (uint32_t)at, 1, HAK_CHUNK_HUGE, HAK_CHUNK_HUGE);
  haki_unlock(&haki_chunk_lock);
}

_Atomic(uint64_t) haki_moved_chunks;

size_t haki_chunks_moved(void) {
  return atomic_load_explicit(&haki_moved_chunks, memory_order_relaxed);
}

/* Chunks that were moved before are mappings of their own, and so may be those with huge pages. */
static bool one_mapping(const struct chunk *c, size_t n) {
  for (size_t i = 0; i < n; i++) /* the caller's own: no lock needed to read */
    if (c[i].moved || c[i].huge_asked) return n == 1;
  return true;
}

static void set_moved(struct chunk *c, size_t n) {
  haki_lock(&haki_chunk_lock);
  for (size_t i = 0; i < n; i++) {
    if (!c[i].moved) atomic_fetch_add_explicit(&haki_moved_chunks, 1, memory_order_relaxed);
    c[i].moved = true;
  }
  haki_unlock(&haki_chunk_lock);
}

/* The kernel moves one mapping at a time: what is not one is moved chunk by chunk, and what it
 * refuses half-way is copied. */
bool haki_chunks_move(struct page *from, struct page *to, size_t n, size_t bytes) {
  struct haki_region *r = haki_page_region(from);
  size_t step = one_mapping(haki_chunk_of_page(r, from), n) ? n : 1;
  size_t length = step << HAK_CHUNK_SHIFT, units = bytes / HAK_UNIT;
  char *source = haki_page_start(from), *dest = haki_page_start(to);
  for (size_t i = 0; i < n; i += step, source += length, dest += length) {
    bool moved = haki_os_move_pages(source, dest, length);
    if (!moved && i == 0) return false;
    if (!moved) memcpy(dest, source, length);
    for (size_t k = i; k < i + step; k++) {
      struct page *left = &from[k * HAK_CHUNK_PAGES];
      size_t held = units < HAK_CHUNK_UNITS ? units : HAK_CHUNK_UNITS;
      units -= held;
      if (held < HAK_PAGE_GET(left, touched)) held = HAK_PAGE_GET(left, touched);
      if (!moved) held = HAK_CHUNK_UNITS;
      HAK_PAGE_SET(&to[k * HAK_CHUNK_PAGES], touched, (uint16_t)held);
      HAK_PAGE_SET(left, touched, moved ? 0 : HAK_CHUNK_UNITS);
    }
  }
  set_moved(haki_chunk_of_page(haki_page_region(to), to), n);
  return true;
}

void haki_chunks_release(struct haki_region *r, struct chunk *c, size_t n) {
  for (size_t i = 0; i < n; i++) {
    enum chunk_kind kind = c[i].spare != 0 ? HAK_CHUNK_SPARE : HAK_CHUNK_NONE;
    haki_region_set_kind(r, (uint32_t)(c - r->chunks + (ptrdiff_t)i), 1, kind, kind);
  }
  atomic_fetch_sub_explicit(&chunk_bytes, n << HAK_CHUNK_SHIFT, memory_order_relaxed);
  HAK_STAT_ADD(chunk, taken, -n);
}

struct page *haki_chunks_head(const void *p) {
  struct haki_region *r = haki_region_of(p);
  if (r == NULL) return NULL;
  size_t i = ((uintptr_t)p - r->base) >> HAK_CHUNK_SHIFT;
  while (i > 0 && haki_chunk_kind(r, i) == HAK_CHUNK_BODY) i--;
  return haki_chunk_kind(r, i) == HAK_CHUNK_HUGE ? &r->pages[i * HAK_CHUNK_PAGES] : NULL;
}

/* nursery.c - pieces of shared pages, and the bump range of a heap.
 * Why, Owns, Locks: see nursery.h.
 * Start: haki_nursery_alloc().
 *
 * Once the arena has slabs its nursery is not reused: what comes back stays idle until a reset, so
 * that the fast path meets blocks of slabs only. That costs at most arena.nursery bytes.
 * Before, nothing is lost to splitting: what is left of a piece, and a large block that comes back, go into
 * the bins or become the next bump range. */
#include "pool/nursery.h"

#include "map/chunk.h"
#include "map/hardened.h"
#include "map/meta.h"

#include <pthread.h>

struct haki_heap haki_nursery_mark;
struct haki_lock haki_nursery_lock = HAK_LOCK_INIT(HAK_RANK_NURSERY);
static hak_list partial = {&partial, &partial};
static _Atomic(size_t) page_count;

/* A unit is named by region (4 bits), page (22 bits) and place (6 bits); the sixteenth region would
 * have a name that means none. */
enum { PLACE_BITS = 6, PAGE_BITS = 22, REGIONS = 15, LARGE_BLOCK = 256 };

static uint32_t name_of(const struct nursery_units *u, unsigned at) {
  struct haki_region *r = haki_page_region(u->page);
  uint32_t region = (uint32_t)(r - haki_regions);
  return region << (PAGE_BITS + PLACE_BITS) | (uint32_t)(u->page - r->pages) << PLACE_BITS | at;
}

static struct nursery_units *units_of(uint32_t name, unsigned *at) {
  struct haki_region *r = &haki_regions[name >> (PAGE_BITS + PLACE_BITS)];
  *at = name & ((1u << PLACE_BITS) - 1);
  return r->pages[name >> PLACE_BITS & ((1u << PAGE_BITS) - 1)].units;
}

static bool can_name(const struct page *p) {
  struct haki_region *r = haki_page_region(p);
  return r - haki_regions < REGIONS && (size_t)(p - r->pages) < 1u << PAGE_BITS;
}

/* pre: NURSERY held. */
static struct nursery_units *new_page(void) {
  struct nursery_units *u = haki_meta_alloc(sizeof *u);
  struct page *p = u ? haki_pages_take(1, 1) : NULL;
  if (p != NULL && !can_name(p)) {
    haki_pages_give(p, 1);
    p = NULL;
  }
  if (p == NULL) {
    if (u != NULL) haki_meta_free(u, sizeof *u);
    return NULL;
  }
  u->free = ~0ull;
  u->page = p;
  for (int i = 0; i < HAK_NURSERY_UNITS; i++)
    atomic_store_explicit(&u->owner[i], HAK_NO_SLOT, memory_order_relaxed);
  p->units = u;
  HAK_PAGE_SET(p, touched, HAK_UNITS_PER_PAGE);
  HAK_PAGE_SET(p, kind, HAK_PAGE_NURSERY);
  HAK_PAGE_SET(p, owner, &haki_nursery_mark);
  haki_list_insert(&partial, &u->link);
  atomic_fetch_add_explicit(&page_count, 1, memory_order_relaxed);
  return u;
}

/* pre: NURSERY held. Takes n adjacent units, NULL: the page has none. */
static char *take_units(struct haki_heap *h, struct nursery_units *u, unsigned n) {
  uint64_t map = u->free;
  for (unsigned i = 1; i < n; i++) map &= map >> 1;
  if (map == 0) return NULL;
  unsigned at = (unsigned)__builtin_ctzll(map);
  u->free &= ~(((1ull << n) - 1) << at);
  for (unsigned i = 0; i < n; i++)
    atomic_store_explicit(&u->owner[at + i], h->nursery.slot, memory_order_relaxed);
  u->length[at] = (uint8_t)n;
  u->next[at] = h->nursery.pieces;
  h->nursery.pieces = name_of(u, at);
  if (u->free == 0) haki_list_remove(&u->link);
  return (char *)haki_page_start(u->page) + at * HAK_NURSERY_UNIT;
}

static char *take_piece(struct haki_heap *h, unsigned n) {
  char *p = NULL;
  haki_lock(&haki_nursery_lock);
  unsigned tries = 4;
  for (hak_list *l = partial.next; l != &partial && p == NULL && tries-- != 0; l = l->next)
    p = take_units(h, HAK_LIST_OF(l, struct nursery_units, link), n);
  if (p == NULL) {
    struct nursery_units *u = new_page();
    if (u != NULL) p = take_units(h, u, n);
  }
  haki_unlock(&haki_nursery_lock);
  return p;
}

/* Free bytes of the nursery become blocks in the bins, the largest first. They count as handed
 * out, like every block in a bin. */
static void put_bins(struct haki_heap *h, char *at, size_t size) {
  while (size >= 8) {
    size_t most = size < HAK_NURSERY_BLOCK_MAX ? size : HAK_NURSERY_BLOCK_MAX;
    unsigned c = haki_class_of(most);
    if (haki_class_size(c) > most) c--;
    haki_heap_unpop(h, c, at);
    at += haki_class_size(c);
    size -= haki_class_size(c);
    haki_cell_add(&h->nursery.blocks, 1);
  }
}

/* What is left of the bump range goes into the bins. */
static void bin_rest(struct haki_heap *h) {
  struct haki_nursery *n = &h->nursery;
  size_t left = (size_t)(n->end - n->cur);
  put_bins(h, n->cur, left);
  haki_cell_add(&n->used, left);
  n->cur = n->end = NULL;
}

static void set_range(struct haki_heap *h, char *start, size_t size) {
  struct haki_nursery *n = &h->nursery;
  if (start == n->end && n->cur != NULL) { /* the new piece follows the old one */
    n->end += size;
    return;
  }
  bin_rest(h);
  n->cur = start;
  n->end = start + size;
}

/* Turns the smallest free block above class c into the bump range. */
static bool split_larger(struct haki_heap *h, unsigned c) {
  for (unsigned k = c + 1; k < HAK_CLASSES; k++) {
    void **b = h->bin[k];
    if (b == NULL) continue;
    h->bin[k] = *b;
    haki_cell_sub(&h->nursery.used, haki_class_size(k));
    haki_cell_sub(&h->nursery.blocks, 1);
    set_range(h, (char *)b, haki_class_size(k));
    return true;
  }
  return false;
}

static bool new_piece(struct haki_heap *h, size_t size) {
  struct haki_nursery *n = &h->nursery;
  if (size < HAK_NURSERY_PIECE) size = HAK_NURSERY_PIECE;
  size = haki_align_up(size, HAK_NURSERY_UNIT);
  if (haki_cell_get(&n->bytes) + size > n->limit) return false;
  if (!haki_quota_charge(h->quota, size)) return false;
  char *p = take_piece(h, (unsigned)(size / HAK_NURSERY_UNIT));
  if (p == NULL) {
    haki_quota_uncharge(h->quota, size);
    return false;
  }
  haki_cell_add(&n->bytes, size);
  set_range(h, p, size);
  return true;
}

void *haki_nursery_alloc(struct haki_heap *h, unsigned c) {
  struct haki_nursery *n = &h->nursery;
  size_t size = haki_class_size(c);
  if (size > HAK_NURSERY_BLOCK_MAX) return NULL;
  if ((size_t)(n->end - n->cur) < size) {
    if (n->limit == 0) return NULL;
    atomic_store_explicit(&h->thread, (uintptr_t)pthread_self(), memory_order_relaxed);
    if (n->grown || (!split_larger(h, c) && !new_piece(h, size))) return NULL;
  }
  void *p = n->cur;
  n->cur += size;
  haki_cell_add(&n->used, size);
  haki_cell_add(&n->blocks, 1);
  return p;
}

void haki_nursery_free_slow(struct haki_heap *h, void *p, unsigned c) {
  struct haki_nursery *n = &h->nursery;
  size_t size = haki_class_size(c);
  if (!n->grown) {
    if ((char *)p + size == n->cur) { /* the newest: take it back */
      n->cur = p;
    } else if (size > (size_t)(n->end - n->cur) && size >= LARGE_BLOCK) {
      bin_rest(h);
      n->cur = p;
      n->end = n->cur + size;
    } else {
      haki_heap_unpop(h, c, p);
      return;
    }
  }
  haki_cell_sub(&n->used, size);
  haki_cell_sub(&n->blocks, 1);
}

bool haki_nursery_grow(struct haki_heap *h, void *p, unsigned from, unsigned to) {
  struct haki_nursery *n = &h->nursery;
  size_t was = haki_class_size(from), now = haki_class_size(to);
  if ((char *)p + was != n->cur || (size_t)(n->end - n->cur) < now - was) return false;
  n->cur += now - was;
  haki_cell_add(&n->used, now - was);
  return true;
}

void haki_nursery_shrink(struct haki_heap *h, void *p, unsigned from, unsigned to) {
  struct haki_nursery *n = &h->nursery;
  size_t was = haki_class_size(from), now = haki_class_size(to);
  if ((char *)p + was == n->cur) {
    n->cur -= was - now;
    haki_cell_sub(&n->used, was - now);
  } else {
    put_bins(h, (char *)p + now, was - now);
  }
}

/* pre: NURSERY held. */
static void give_piece(struct nursery_units *u, unsigned at) {
  uint64_t mask = ((1ull << u->length[at]) - 1) << at;
  for (unsigned i = 0; i < u->length[at]; i++)
    atomic_store_explicit(&u->owner[at + i], HAK_NO_SLOT, memory_order_relaxed);
  if (u->free == 0) haki_list_insert(&partial, &u->link);
  u->free |= mask;
  if (u->free != ~0ull) return;
  struct page *p = u->page;
  haki_list_remove(&u->link);
  HAK_PAGE_SET(p, owner, NULL);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  haki_hardened_clear(haki_page_start(p), HAK_PAGE_SIZE);
  haki_pages_give(p, 1);
  haki_meta_free(u, sizeof *u);
  atomic_fetch_sub_explicit(&page_count, 1, memory_order_relaxed);
}

uint32_t haki_nursery_piece(uint32_t piece, char **start, size_t *size) {
  unsigned at;
  const struct nursery_units *u = units_of(piece, &at);
  *start = (char *)haki_page_start(u->page) + at * HAK_NURSERY_UNIT;
  *size = u->length[at] * (size_t)HAK_NURSERY_UNIT;
  return u->next[at];
}

void haki_nursery_release_since(struct haki_heap *h, uint32_t piece) {
  struct haki_nursery *n = &h->nursery;
  size_t bytes = 0;
  if (n->pieces == piece) return;
  haki_lock(&haki_nursery_lock);
  while (n->pieces != piece) {
    unsigned at;
    char *start;
    size_t size;
    struct nursery_units *u = units_of(n->pieces, &at);
    n->pieces = haki_nursery_piece(n->pieces, &start, &size);
    haki_hardened_clear(start, size);
    bytes += size;
    give_piece(u, at);
  }
  haki_unlock(&haki_nursery_lock);
  haki_quota_uncharge(h->quota, bytes);
  haki_cell_sub(&n->bytes, bytes);
}

void haki_nursery_release(struct haki_heap *h) {
  struct haki_nursery *n = &h->nursery;
  haki_nursery_release_since(h, HAK_NO_PIECE);
  haki_cell_set(&n->used, 0);
  haki_cell_set(&n->blocks, 0);
  n->cur = n->end = NULL;
}

size_t haki_nursery_pages(void) { return atomic_load_explicit(&page_count, memory_order_relaxed); }

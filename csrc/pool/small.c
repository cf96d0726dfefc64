/* small.c - refill, carve, retire: the slow half of slabs.
 * Why:   see small.h.
 * Owns:  the state of each slab: available, full, empty.
 * Locks: none; the caller owns the heap.
 * Start: haki_heap_refill(). */
#include "pool/small.h"

#include <pthread.h>
#include <string.h>

#include "base/knob.h"
#include "map/chunk.h"
#include "map/hardened.h"
#include "map/meta.h"

enum { BIN_BYTES = 128 * 1024, BIN_LEAST = 4, BIN_MOST = HAK_AUDIT_BUILD ? 4 : 64 };

bool (*haki_heap_adopt)(struct haki_heap *h);
static void page_low_slow(struct haki_heap *h, struct page *p);

/* A heap may be older than the first region. */
static void set_region(struct haki_heap *h) {
  const struct haki_region *r = &haki_regions[0];
  if (atomic_load_explicit(&haki_region_count, memory_order_acquire) == 0) return;
  h->base = r->base;
  h->pages = r->pages;
  h->span = r->span;
}

void haki_heap_init(struct haki_heap *h, struct hak_arena *arena, struct haki_quota *quota) {
  set_region(h);
  h->low = page_low_slow;
  haki_heap_set_arena(h, arena);
  h->quota = quota;
  haki_cell_set(&h->lowest, 0);
  haki_cell_set(&h->highest, 0);
  h->nursery.pieces = HAK_NO_PIECE;
  haki_heap_empty_bins(h);
  haki_list_init(&h->link);
}

bool haki_slabs_ensure(struct haki_heap *h) {
  if (HAK_LIKELY(h->slabs != NULL)) return true;
  struct haki_slabs *s = haki_meta_alloc(sizeof *s);
  if (s == NULL) return false;
  for (int c = 0; c < HAK_CLASSES; c++) haki_list_init(&s->available[c]);
  haki_list_init(&s->full);
  __atomic_store_n(&h->slabs, s, __ATOMIC_RELAXED); /* statistics ask whether there is one */
  return true;
}

void haki_slabs_free(struct haki_heap *h) {
  if (h->slabs != NULL) haki_meta_free(h->slabs, sizeof *h->slabs);
  __atomic_store_n(&h->slabs, NULL, __ATOMIC_RELAXED);
}

/* Blocks of 1 KiB and more that a thread's bin takes back: 128 KiB of them, 4 to 64. */
int16_t haki_heap_bin_room(unsigned c) {
  size_t n = BIN_BYTES / haki_class_size(c);
  return n < BIN_LEAST ? BIN_LEAST : n > BIN_MOST ? BIN_MOST : (int16_t)n;
}

void haki_heap_empty_bins(struct haki_heap *h) {
  for (unsigned c = 0; c < HAK_CLASSES; c++) {
    h->bin[c] = NULL;
    if (c >= HAK_CLASS_MEDIUM) h->room[c - HAK_CLASS_MEDIUM] = haki_heap_bin_room(c);
  }
}

static size_t capacity(unsigned c) {
  return haki_slab_pages(c) * HAK_PAGE_SIZE / haki_class_size(c);
}
static bool fully_carved(const struct page *p) {
  return HAK_PAGE_GET((struct page *)p, carved) == capacity(haki_page_class(p));
}

/* ---- available and full ---- */

static uint8_t in_image(struct page *p) { return HAK_PAGE_GET(p, flags) & HAK_PAGE_IMAGE; }

void haki_slab_list_available(struct haki_heap *h, struct page *p) {
  uint32_t live = (uint32_t)haki_slab_live(p);
  HAK_PAGE_SET(p, held, 0);
  HAK_PAGE_SET(p, live, live);
  if (haki_slab_is_listed(p)) return;
  haki_list_remove(&p->link);
  haki_list_insert(&h->slabs->available[haki_page_class(p)], &p->link);
  HAK_PAGE_SET(p, flags, HAK_PAGE_LISTED | in_image(p));
}

/* The page has nothing to take: it comes back once a share of its blocks has been freed, so that
 * a refill then finds more than one. */
static void list_full(struct haki_heap *h, struct page *p) {
  uint32_t carved = HAK_PAGE_GET(p, carved);
  uint32_t share = carved / (uint32_t)HAK_KNOB(small, relink);
  if (share == 0) share = 1;
  HAK_ASSERT(p->free == NULL && haki_slab_live(p) == carved);
  haki_list_remove(&p->link);
  haki_list_insert(&h->slabs->full, &p->link);
  HAK_PAGE_SET(p, flags, in_image(p));
  HAK_PAGE_SET(p, held, carved - share);
  HAK_PAGE_SET(p, live, share);
}

/* ---- slabs come and go ---- */

void haki_heap_note_slab(struct haki_heap *h, const struct page *p) {
  uint64_t at = (uintptr_t)p;
  if (haki_cell_get(&h->lowest) == 0 || at < haki_cell_get(&h->lowest))
    haki_cell_set(&h->lowest, at);
  if (at > haki_cell_get(&h->highest)) haki_cell_set(&h->highest, at);
}

/* release: pairs with haki_page_owner_acquire(). The inner pages of a binned slab tell their owner, too:
 * its frees need no look at the first one. */
void haki_slab_set_owner(struct page *p, struct haki_heap *h) {
  unsigned c = haki_page_class(p);
  bool binned = haki_heap_bins(h, c);
  struct haki_heap *tag = (struct haki_heap *)((uintptr_t)h | (binned ? HAK_OWNER_BINNED : 0));
  for (size_t i = haki_slab_pages(c); binned && --i > 0;) HAK_PAGE_SET(&p[i], owner, tag);
  atomic_store_explicit(&p->owner, tag, memory_order_release);
}

static struct page *new_slab(struct haki_heap *h, unsigned c) {
  size_t n = haki_slab_pages(c);
  struct page *p = n == 1 ? haki_retained_take(h->retained, h->quota) : NULL;
  for (size_t i = 0; n != 1 && i < n; i++) { /* as much of what was retained serves others now */
    struct page *kept = haki_retained_take(h->retained, h->quota);
    if (kept != NULL) haki_slab_release(kept);
  }
  if (p == NULL) p = haki_pages_take(n, 1);
  if (p == NULL) return NULL;
  for (size_t i = 0; i < n; i++) {
    p[i].back = (uint8_t)i;
    HAK_PAGE_SET(&p[i], cls, (uint8_t)c);
    if (i != 0) HAK_PAGE_SET(&p[i], kind, HAK_PAGE_INNER);
  }
  p->free = NULL;
  HAK_PAGE_SET(p, live, 0);
  HAK_PAGE_SET(p, held, 0);
  atomic_store_explicit(&p->remote, 0, memory_order_relaxed);
  HAK_PAGE_SET(p, carved, 0);
  HAK_PAGE_SET(p, flags, 0);
  haki_list_init(&p->link);
  HAK_PAGE_SET(p, kind, HAK_PAGE_SLAB);
  haki_heap_note_slab(h, p);
  haki_slab_set_owner(p, h);
  haki_cell_add(&h->fresh, 1);
  return p;
}

void haki_slab_note_touched(struct page *p) {
  size_t units = haki_slab_commit(p) / HAK_UNIT;
  for (size_t i = 0; units != 0; i++) {
    size_t mine = units > HAK_UNITS_PER_PAGE ? HAK_UNITS_PER_PAGE : units;
    units -= mine;
    if (mine > HAK_PAGE_GET(&p[i], touched)) HAK_PAGE_SET(&p[i], touched, (uint16_t)mine);
  }
}

/* Marks the pages of a slab free and remembers how much of each holds memory. */
void haki_slab_release(struct page *p) {
  size_t n = 1;
  if (haki_page_kind(p) == HAK_PAGE_SLAB) {
    n = haki_slab_pages(haki_page_class(p));
    haki_slab_note_touched(p);
  }
  HAK_PAGE_SET(p, flags, 0);
  haki_hardened_clear(haki_page_start(p), n * HAK_PAGE_SIZE);
  for (size_t i = 0; i < n; i++) {
    HAK_PAGE_SET(&p[i], owner, NULL);
    HAK_PAGE_SET(&p[i], kind, HAK_PAGE_FREE);
  }
  haki_pages_give(p, n);
}

void haki_slab_unkeep(struct haki_heap *h, struct page *p) {
  uint8_t flags = HAK_PAGE_GET(p, flags);
  if ((flags & HAK_PAGE_KEPT) == 0) return;
  HAK_PAGE_SET(p, flags, flags & (uint8_t)~HAK_PAGE_KEPT);
  h->slabs->empty--;
}

/* pre: no live block, nothing queued. */
void haki_slab_retire(struct haki_heap *h, struct page *p) {
  size_t bytes = haki_slab_commit(p);
  haki_slab_unkeep(h, p);
  haki_list_remove(&p->link);
  haki_slab_release(p);
  haki_quota_uncharge(h->quota, bytes);
  haki_cell_add(&h->retired, 1);
  haki_purge_tick();
}

static void empty_slab(struct haki_heap *h, struct page *p) {
  HAK_ASSERT(haki_slab_is_listed(p));
  if (!haki_slab_is_empty(p)) return; /* queued: drained first */
  if (in_image(p) != 0) return;
  struct haki_slabs *s = h->slabs;
  if ((HAK_PAGE_GET(p, flags) & HAK_PAGE_KEPT) != 0) return;
  uint64_t most = HAK_KNOB(small, keep);
  if (h->is_private && most > 1) most = 1; /* many small heaps: what they keep adds up */
  if (s->empty < most && !haki_quota_tight(h->quota)) {
    s->empty++;
    HAK_PAGE_SET(p, flags, HAK_PAGE_LISTED | HAK_PAGE_KEPT);
  } else {
    haki_slab_retire(h, p);
  }
}

HAK_COLD static void page_low_slow(struct haki_heap *h, struct page *p) {
  /* a count below zero has wrapped: more frees than live blocks */
  HAK_CHECK((int32_t)HAK_PAGE_GET(p, live) >= 0, "double free", p->free);
  if (!haki_slab_is_listed(p)) haki_slab_list_available(h, p);
  if (haki_slab_live(p) == 0) empty_slab(h, p);
}

/* ---- frees by other threads ---- */

HAK_HOT void haki_page_push_remote(struct page *page, void *p) {
  uintptr_t was = atomic_load_explicit(&page->remote, memory_order_relaxed);
  do {
    *(uintptr_t *)p = was & ~(uintptr_t)HAK_REMOTE_QUEUED;
    HAK_SCHED_POINT("remote push");
    /* release: the block's contents are ours no more; pairs with take_remote() */
  } while (!atomic_compare_exchange_weak_explicit(&page->remote, &was,
                                                  (uintptr_t)p | HAK_REMOTE_QUEUED,
                                                  memory_order_acq_rel, memory_order_relaxed));
  if ((was & HAK_REMOTE_QUEUED) != 0) return;
  /* We set the mark: the page cannot change owner or be retired until we have queued it. */
  HAK_SCHED_POINT("remote queue");
  struct haki_heap *owner = haki_page_owner_acquire(page);
  struct page *top = atomic_load_explicit(&owner->inbound, memory_order_relaxed);
  do {
    page->inbound_next = top;
    /* release: pairs with haki_heap_drain() */
  } while (!atomic_compare_exchange_weak_explicit(&owner->inbound, &top, page, memory_order_release,
                                                  memory_order_relaxed));
}

/* Puts a chain of remotely freed blocks onto the page's own list. */
static void absorb(struct haki_heap *h, struct page *p, void *chain) {
  if (chain == NULL) return;
  uint32_t n = 1;
  void **last = chain;
  while (*last != NULL) {
    last = *last;
    n++;
  }
  *last = p->free;
  p->free = chain;
  size_t live = haki_slab_live(p);
  HAK_CHECK(n <= live, "double free", chain);
  HAK_PAGE_SET(p, held, 0);
  HAK_PAGE_SET(p, live, (uint32_t)(live - n));
  haki_cell_add(&h->remote_frees, n);
}

/* Takes the remote list and leaves the page as queued as it was. */
static bool take_remote(struct haki_heap *h, struct page *p) {
  uintptr_t was = atomic_load_explicit(&p->remote, memory_order_relaxed);
  if ((was & ~(uintptr_t)HAK_REMOTE_QUEUED) == 0) return false;
  /* acquire: pairs with haki_page_push_remote(). A non-empty list implies the mark. */
  was = atomic_exchange_explicit(&p->remote, HAK_REMOTE_QUEUED, memory_order_acquire);
  absorb(h, p, (void *)(was & ~(uintptr_t)HAK_REMOTE_QUEUED));
  return true;
}

bool haki_heap_drain(struct haki_heap *h) {
  if (atomic_load_explicit(&h->inbound, memory_order_relaxed) == NULL) return false;
  struct page *p = atomic_exchange_explicit(&h->inbound, NULL, memory_order_acquire);
  bool any = p != NULL;
  while (p != NULL) {
    struct page *next = p->inbound_next; /* before the mark goes: it may be queued again at once */
    HAK_SCHED_POINT("drain");
    HAK_ASSERT(haki_page_owner(p) == h);
    uintptr_t was = atomic_exchange_explicit(&p->remote, 0, memory_order_acq_rel);
    absorb(h, p, (void *)(was & ~(uintptr_t)HAK_REMOTE_QUEUED));
    if (p->free != NULL && !haki_slab_is_listed(p)) haki_slab_list_available(h, p);
    if (haki_slab_is_listed(p) && haki_slab_live(p) == 0) empty_slab(h, p);
    p = next;
  }
  return any;
}

/* ---- refill ---- */

/* Charges and carves the next blocks of a slab; NULL: the quota forbids it. */
static void *carve(struct haki_heap *h, struct page *p, unsigned c, size_t *n) {
  size_t size = haki_class_size(c), carved = HAK_PAGE_GET(p, carved);
  size_t step = HAK_KNOB(small, refill);
  if (step < size) step = size;
  size_t end = haki_align_up(carved * size + step, HAK_UNIT);
  size_t all = haki_slab_pages(c) * HAK_PAGE_SIZE;
  if (end > all) end = all;
  size_t total = end / size;
  size_t more = haki_align_up(total * size, HAK_UNIT) - haki_slab_commit(p);
  if (!haki_quota_charge(h->quota, more)) return NULL;
  char *block = (char *)haki_page_start(p) + carved * size;
  for (size_t i = carved; i + 1 < total; i++, block += size) *(void **)block = block + size;
  *(void **)block = NULL;
  *n = total - carved;
  size_t live = haki_slab_live(p) + *n;
  HAK_PAGE_SET(p, carved, (uint16_t)total);
  HAK_PAGE_SET(p, live, (uint32_t)live);
  return (char *)haki_page_start(p) + carved * size;
}

/* Puts a list of n blocks into the bin and pops the first. */
static void *fill(struct haki_heap *h, unsigned c, void *list, size_t n) {
  h->bin[c] = *(void **)list;
  if (c >= HAK_CLASS_MEDIUM)
    h->room[c - HAK_CLASS_MEDIUM] = (int16_t)(haki_heap_bin_room(c) - (int)(n - 1));
  return list;
}

static void *take_from(struct haki_heap *h, struct page *p, unsigned c, size_t *n) {
  void *list = p->free;
  if (list != NULL) {
    haki_slab_unkeep(h, p);
    p->free = NULL;
    *n = HAK_PAGE_GET(p, carved) - HAK_PAGE_GET(p, live);
    HAK_PAGE_SET(p, live, HAK_PAGE_GET(p, carved));
  } else if (!fully_carved(p)) {
    list = carve(h, p, c, n);
    if (list == NULL) return NULL;
  }
  if (p->free == NULL && fully_carved(p)) list_full(h, p);
  return list;
}

static void *refill_available(struct haki_heap *h, unsigned c, size_t *n) {
  hak_list *head = &h->slabs->available[c], *next;
  for (hak_list *l = head->next; l != head; l = next) {
    next = l->next;
    struct page *p = HAK_LIST_OF(l, struct page, link);
    take_remote(h, p);
    void *list = take_from(h, p, c, n);
    if (list != NULL) return list;
  }
  return NULL;
}

HAK_COLD void *haki_heap_refill(struct haki_heap *h, unsigned c) {
  HAK_ASSERT(h->bin[c] == NULL);
  atomic_store_explicit(&h->thread, (uintptr_t)pthread_self(), memory_order_relaxed);
  if (!haki_slabs_ensure(h)) return NULL;
  haki_cell_add(&h->refills, 1);
  h->nursery.grown = true;
  size_t n = 0;
  void *list = refill_available(h, c, &n);
  if (list == NULL && haki_heap_drain(h)) list = refill_available(h, c, &n);
  while (list == NULL && haki_heap_adopt(h)) list = refill_available(h, c, &n);
  if (list == NULL) {
    struct page *p = new_slab(h, c);
    if (p == NULL) return NULL;
    if (HAK_UNLIKELY(h->span == 0)) set_region(h);
    list = carve(h, p, c, &n);
    if (list == NULL) {
      haki_slab_release(p);
      return NULL;
    }
    haki_slab_list_available(h, p);
    if (fully_carved(p)) list_full(h, p);
  }
  return fill(h, c, list, n);
}

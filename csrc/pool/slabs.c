/* slabs.c - what happens to all slabs of a heap at once: flush, trim, move, drop, count.
 * Why:   thread exit, adoption, limits, reset and statistics need them; allocation does not.
 * Owns:  nothing of its own.   Not: single slabs (small.c).
 * Locks: none; the caller owns the heap (both heaps, when slabs move).
 * Start: haki_heap_trim(), haki_heap_drop(). */
#include <pthread.h>

#include "map/chunk.h"
#include "map/hardened.h"
#include "pool/small.h"

static struct page *page_at(hak_list *l) { return HAK_LIST_OF(l, struct page, link); }

/* The slab of a block that this heap handed out or holds; nursery pages as they are. */
static struct page *page_of_block(void *p) { return haki_slab_head(haki_page_of(p)); }

void haki_heap_flush(struct haki_heap *h) {
  for (unsigned c = 0; c < HAK_CLASSES; c++) {
    void **b = h->bin[c], **keep = NULL;
    h->bin[c] = NULL;
    while (b != NULL) {
      void **next = *b;
      struct page *page = page_of_block(b);
      if (haki_page_kind(page) == HAK_PAGE_NURSERY) {
        *b = keep;
        keep = b;
      } else {
        haki_heap_push(h, page, b);
      }
      b = next;
    }
    h->bin[c] = keep;
    if (c >= HAK_CLASS_MEDIUM) h->room[c - HAK_CLASS_MEDIUM] = haki_heap_bin_room(c);
  }
}

size_t haki_heap_trim(struct haki_heap *h) {
  uint64_t before = haki_cell_get(&h->quota->charged);
  haki_heap_flush(h);
  haki_heap_drain(h);
  if (h->slabs != NULL) {
    for (unsigned c = 0; c < HAK_CLASSES; c++) {
      hak_list *head = &h->slabs->available[c], *next;
      for (hak_list *l = head->next; l != head; l = next) {
        next = l->next;
        bool in_image = (HAK_PAGE_GET(page_at(l), flags) & HAK_PAGE_IMAGE) != 0;
        if (haki_slab_is_empty(page_at(l)) && !in_image) haki_slab_retire(h, page_at(l));
      }
    }
  }
  uint64_t after = haki_cell_get(&h->quota->charged);
  return before > after ? (size_t)(before - after) : 0;
}

bool haki_heap_is_empty(const struct haki_heap *h) {
  if (h->slabs == NULL) return true;
  if (!haki_list_empty(&h->slabs->full)) return false;
  for (unsigned c = 0; c < HAK_CLASSES; c++)
    if (!haki_list_empty(&h->slabs->available[c])) return false;
  return true;
}

/* Hands one slab over. False: somebody has queued it with `from`, or is about to. */
static bool move_slab(struct page *p, struct haki_heap *from, struct haki_heap *to) {
  uintptr_t none = 0;
  /* With the mark set nobody queues the page: it is ours to queue, and we do not. */
  if (!atomic_compare_exchange_strong_explicit(&p->remote, &none, HAK_REMOTE_QUEUED,
                                               memory_order_acquire, memory_order_relaxed))
    return false;
  haki_slab_unkeep(from, p);
  haki_heap_note_slab(to, p);
  haki_list_remove(&p->link);
  HAK_PAGE_SET(p, flags, 0);
  haki_slab_set_owner(p, to);
  HAK_SCHED_POINT("move slab");
  haki_slab_list_available(to, p);
  /* As if it had come in by the inbound stack: the drain takes what was freed meanwhile. */
  struct page *top = atomic_load_explicit(&to->inbound, memory_order_relaxed);
  do {
    p->inbound_next = top;
  } while (!atomic_compare_exchange_weak_explicit(&to->inbound, &top, p, memory_order_release,
                                                  memory_order_relaxed));
  return true;
}

size_t haki_heap_move_slabs(struct haki_heap *from, struct haki_heap *to, size_t most) {
  size_t moved = 0;
  if (from->slabs == NULL || !haki_slabs_ensure(to)) return 0;
  haki_heap_drain(from);
  for (unsigned c = 0; c <= HAK_CLASSES && moved < most; c++) {
    hak_list *head = c < HAK_CLASSES ? &from->slabs->available[c] : &from->slabs->full, *next;
    for (hak_list *l = head->next; l != head && moved < most; l = next) {
      next = l->next;
      if (move_slab(page_at(l), from, to)) moved++;
    }
  }
  if (moved != 0) {
    haki_heap_drain(to);
    haki_cell_add(&to->adopted, moved);
  }
  return moved;
}

/* ---- reset ---- */

struct page *haki_retained_take(struct haki_retained *r, struct haki_quota *quota) {
  if (r == NULL || r->pages.next == NULL || haki_list_empty(&r->pages)) return NULL;
  struct page *p = page_at(r->pages.next);
  size_t bytes = (size_t)HAK_PAGE_GET(p, touched) * HAK_UNIT;
  haki_list_remove(&p->link);
  haki_cell_sub(&r->bytes, bytes);
  haki_quota_uncharge(quota, bytes); /* charged again as far as it is carved */
  return p;
}

void haki_retained_release(struct haki_retained *r, struct haki_quota *quota) {
  struct page *p;
  while ((p = haki_retained_take(r, quota)) != NULL) {
    HAK_PAGE_SET(p, owner, NULL);
    haki_slab_release(p);
  }
}

void haki_slab_drop(struct haki_heap *h, struct page *p, size_t most) {
  struct haki_retained *r = h->retained;
  size_t bytes = haki_slab_commit(p);
  if (r != NULL && haki_slab_pages(haki_page_class(p)) == 1) {
    size_t units = bytes / HAK_UNIT, touched = HAK_PAGE_GET(p, touched);
    if (units > touched) touched = units;
    size_t held = touched * HAK_UNIT;
    if (haki_cell_get(&r->bytes) + held <= most && haki_quota_charge(h->quota, held - bytes)) {
      HAK_PAGE_SET(p, touched, (uint16_t)touched);
      HAK_PAGE_SET(p, owner, NULL);
      HAK_PAGE_SET(p, kind, HAK_PAGE_RETAINED);
      haki_hardened_clear(haki_page_start(p), HAK_PAGE_SIZE);
      if (r->pages.next == NULL) haki_list_init(&r->pages);
      haki_list_insert(&r->pages, &p->link);
      haki_cell_add(&r->bytes, held);
      return;
    }
  }
  haki_slab_release(p);
  haki_quota_uncharge(h->quota, bytes);
  haki_cell_add(&h->retired, 1);
}

void haki_heap_drop(struct haki_heap *h, size_t most) {
  haki_heap_empty_bins(h);
  atomic_store_explicit(&h->inbound, NULL, memory_order_relaxed);
  if (h->slabs == NULL) return;
  for (unsigned c = 0; c <= HAK_CLASSES; c++) {
    hak_list *head = c < HAK_CLASSES ? &h->slabs->available[c] : &h->slabs->full;
    while (!haki_list_empty(head)) {
      struct page *p = page_at(head->next);
      haki_list_remove(&p->link);
      haki_slab_drop(h, p, most);
    }
  }
  h->slabs->empty = 0;
}

/* ---- statistics and audit ---- */

void haki_heap_count_bins(struct haki_heap *h, size_t blocks[HAK_CLASSES], size_t *nursery_blocks,
                          size_t *nursery_bytes) {
  /* Another thread may have taken the arena over without a word: then the list changes under us,
   * and what we follow is somebody's data. Each step is checked to stay inside committed slabs. */
  for (unsigned c = 0; c < HAK_CLASSES; c++) {
    void *b = h->bin[c];
    for (size_t most = 1u << 20; b != NULL && most != 0; most--) {
      struct page *page = haki_page_of(b);
      if (page == NULL || ((uintptr_t)b & 7) != 0) break;
      page = haki_slab_head(page);
      if (haki_page_kind(page) == HAK_PAGE_NURSERY) {
        *nursery_blocks += 1;
        *nursery_bytes += haki_class_size(c);
      } else if (haki_page_kind(page) == HAK_PAGE_SLAB && haki_page_owner(page) == h &&
                 haki_page_class(page) == c) {
        blocks[c]++;
      } else {
        break;
      }
      b = (void *)atomic_load_explicit((_Atomic(uintptr_t) *)b, memory_order_relaxed);
    }
  }
}

#if HAK_AUDIT_BUILD
static size_t length(void *b) {
  size_t n = 0;
  for (; b != NULL; b = *(void **)b) n++;
  return n;
}

static bool page_ok(struct haki_heap *h, struct page *p, unsigned c) {
  size_t carved = HAK_PAGE_GET(p, carved);
  bool ok = haki_page_owner(p) == h && haki_page_kind(p) == HAK_PAGE_SLAB &&
            (c == HAK_CLASSES) == !haki_slab_is_listed(p);
  if (c < HAK_CLASSES) ok = ok && haki_page_class(p) == c && HAK_PAGE_GET(p, held) == 0;
  return ok && haki_slab_live(p) + length(p->free) == carved;
}

bool haki_heap_ok(struct haki_heap *h) {
  if (h->slabs == NULL) return true;
  size_t kept = 0;
  for (unsigned c = 0; c <= HAK_CLASSES; c++) {
    hak_list *head = c < HAK_CLASSES ? &h->slabs->available[c] : &h->slabs->full;
    for (hak_list *l = head->next; l != head; l = l->next) {
      if (l->next->prev != l || !page_ok(h, page_at(l), c)) return false;
      kept += (HAK_PAGE_GET(page_at(l), flags) & HAK_PAGE_KEPT) != 0;
    }
  }
  return kept == h->slabs->empty;
}
#else
bool haki_heap_ok(struct haki_heap *h) { return h != NULL; }
#endif

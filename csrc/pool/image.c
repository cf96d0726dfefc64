/* image.c - takes and restores the image of an arena.
 * Why, Owns, Locks: see image.h.
 * Start: haki_image_take(), haki_image_restore().
 *
 *   image | slab records | piece and large records | bytes, and hardened builds' bits behind them |
 *
 * Slab records lie in the order of the lists that the slabs are in, so that restoring appends. What
 * slabs have carved since is forgotten, uncharged, and noted as touched. */
#include "pool/image.h"

#include <string.h>

#include "map/chunk.h"
#include "map/hardened.h"
#include "map/meta.h"

struct slab_copy {
  struct page *page;
  void *free;
  uint32_t live, held;
  uint16_t carved;
  uint8_t cls, flags;
  bool full; /* which list */
};

/* A range of memory that is no slab: a piece of the nursery, or a large block. */
struct range {
  char *start;
  size_t size;
};

struct heap_copy {
  bool there;
  uint32_t empty;
  size_t slabs; /* in its table; they follow those of the heap before */
  void *bin[HAK_CLASSES];
  struct haki_nursery nursery;
};

struct haki_image {
  size_t total; /* bytes of all of this */
  struct heap_copy heap[2];
  size_t slab_count, range_count;
  struct slab_copy *slabs;
  struct range *ranges; /* pieces first: hardened builds have bits for those only */
  size_t piece_count;
  char *bytes;
};

static struct page *page_at(hak_list *l) { return HAK_LIST_OF(l, struct page, link); }

/* The lists of a heap in turn: available ones by class, then the full one. */
static hak_list *list_at(struct haki_heap *h, unsigned c) {
  return c < HAK_CLASSES ? &h->slabs->available[c] : &h->slabs->full;
}

/* ---- taking --------------------------------------------------------------------------------- */

struct measure {
  size_t slabs, pieces, larges, bytes;
};

static size_t bits_of(size_t bytes) { return HAK_HARDENED ? bytes / 64 : 0; }

static void measure_heap(struct measure *m, struct haki_heap *h) {
  for (uint32_t piece = h->nursery.pieces; piece != HAK_NO_PIECE;) {
    struct range r;
    piece = haki_nursery_piece(piece, &r.start, &r.size);
    m->pieces++;
    m->bytes += r.size + bits_of(r.size);
  }
  if (h->slabs == NULL) return;
  for (unsigned c = 0; c <= HAK_CLASSES; c++)
    for (hak_list *head = list_at(h, c), *l = head->next; l != head; l = l->next) {
      size_t size = haki_slab_commit(page_at(l));
      m->slabs++;
      m->bytes += size + bits_of(size);
    }
}

static char *save(char *to, void *start, size_t size, bool bits) {
  memcpy(to, start, size);
  to += size;
  if (!bits || !HAK_HARDENED) return to;
  haki_hardened_save((uint8_t *)to, start, size);
  return to + size / 64;
}

static const char *load(void *start, const char *from, size_t size, bool bits) {
  memcpy(start, from, size);
  from += size;
  if (!bits || !HAK_HARDENED) return from;
  haki_hardened_load(start, (const uint8_t *)from, size);
  return from + size / 64;
}

static char *save_slab(struct haki_image *image, struct page *p, bool full, char *to) {
  HAK_PAGE_SET(p, flags, HAK_PAGE_GET(p, flags) | HAK_PAGE_IMAGE);
  image->slabs[image->slab_count++] = (struct slab_copy){
      .page = p,
      .free = p->free,
      .live = HAK_PAGE_GET(p, live),
      .held = HAK_PAGE_GET(p, held),
      .carved = HAK_PAGE_GET(p, carved),
      .cls = HAK_PAGE_GET(p, cls),
      .flags = HAK_PAGE_GET(p, flags),
      .full = full,
  };
  return save(to, haki_page_start(p), haki_slab_commit(p), true);
}

static void add_range(struct haki_image *image, char *start, size_t size) {
  image->ranges[image->range_count++] = (struct range){start, size};
}

static char *save_heap(struct haki_image *image, struct heap_copy *copy, struct haki_heap *h,
                       char *to) {
  copy->there = true;
  memcpy(copy->bin, h->bin, sizeof copy->bin);
  copy->nursery = h->nursery;
  for (uint32_t piece = h->nursery.pieces; piece != HAK_NO_PIECE;) {
    char *start;
    size_t size;
    piece = haki_nursery_piece(piece, &start, &size);
    add_range(image, start, size);
  }
  if (h->slabs == NULL) return to;
  copy->empty = h->slabs->empty;
  size_t before = image->slab_count;
  for (unsigned c = 0; c <= HAK_CLASSES; c++)
    for (hak_list *head = list_at(h, c), *l = head->next; l != head; l = l->next)
      to = save_slab(image, page_at(l), c == HAK_CLASSES, to);
  copy->slabs = image->slab_count - before;
  return to;
}

struct haki_image *haki_image_take(struct haki_heap *const heaps[2], struct haki_large *large) {
  struct measure m = {0, 0, 0, 0};
  for (int i = 0; i < 2; i++)
    if (heaps[i] != NULL) {
      haki_heap_drain(heaps[i]);
      measure_heap(&m, heaps[i]);
    }
  for (hak_list *l = large->blocks.next; l != &large->blocks; l = l->next)
    if (!haki_large_is_gone(page_at(l))) {
      m.larges++;
      m.bytes += page_at(l)->size;
    }
  size_t records = m.slabs * sizeof(struct slab_copy);
  size_t ranges = (m.pieces + m.larges) * sizeof(struct range);
  size_t total = haki_align_up(sizeof(struct haki_image), 64) + haki_align_up(records, 64) +
                 haki_align_up(ranges, 64) + m.bytes;
  struct haki_image *image = haki_meta_pages(total);
  if (image == NULL) return NULL;
  image->total = total;
  char *at = (char *)image + haki_align_up(sizeof *image, 64);
  image->slabs = (struct slab_copy *)(void *)at;
  image->ranges = (struct range *)(void *)(at + haki_align_up(records, 64));
  image->bytes = at + haki_align_up(records, 64) + haki_align_up(ranges, 64);
  char *to = image->bytes;
  for (int i = 0; i < 2; i++)
    if (heaps[i] != NULL) to = save_heap(image, &image->heap[i], heaps[i], to);
  image->piece_count = image->range_count;
  for (hak_list *l = large->blocks.next; l != &large->blocks; l = l->next)
    if (!haki_large_is_gone(page_at(l)))
      add_range(image, haki_page_start(page_at(l)), page_at(l)->size);
  for (size_t i = 0; i < image->range_count; i++)
    to = save(to, image->ranges[i].start, image->ranges[i].size, i < image->piece_count);
  HAK_ASSERT(to <= (char *)image + total);
  haki_large_keep(large);
  return image;
}

/* ---- restoring ------------------------------------------------------------------------------ */

/* Takes all slabs off the lists; those that came since die. */
static void clear_lists(struct haki_heap *h, size_t most) {
  if (h->slabs == NULL) return;
  for (unsigned c = 0; c <= HAK_CLASSES; c++) {
    hak_list *head = list_at(h, c);
    while (!haki_list_empty(head)) {
      struct page *p = page_at(head->next);
      haki_list_remove(&p->link);
      if ((HAK_PAGE_GET(p, flags) & HAK_PAGE_IMAGE) == 0) haki_slab_drop(h, p, most);
    }
  }
}

static const char *restore_slab(struct haki_heap *h, const struct slab_copy *s, const char *from) {
  struct page *p = s->page;
  size_t had = haki_slab_commit(p);
  haki_slab_note_touched(p);
  p->free = s->free;
  HAK_PAGE_SET(p, live, s->live);
  HAK_PAGE_SET(p, held, s->held);
  HAK_PAGE_SET(p, carved, s->carved);
  HAK_PAGE_SET(p, flags, s->flags);
  size_t size = haki_slab_commit(p);
  haki_quota_uncharge(h->quota, had - size);
  haki_list_append(s->full ? &h->slabs->full : &h->slabs->available[s->cls], &p->link);
  haki_hardened_clear(haki_page_start(p), haki_slab_pages(s->cls) * HAK_PAGE_SIZE);
  return load(haki_page_start(p), from, size, true);
}

/* The pieces' bytes come later, with those of large blocks. */
static void restore_nursery(struct haki_heap *h, const struct haki_nursery *was) {
  struct haki_nursery *n = &h->nursery;
  haki_nursery_release_since(h, was->pieces);
  n->cur = was->cur;
  n->end = was->end;
  n->grown = was->grown;
  haki_cell_set(&n->used, haki_cell_get(&was->used));
  haki_cell_set(&n->blocks, haki_cell_get(&was->blocks));
}

void haki_image_restore(struct haki_image *image, struct haki_heap *const heaps[2],
                        struct haki_large *large, size_t most) {
  const struct slab_copy *s = image->slabs;
  const char *from = image->bytes;
  for (int i = 0; i < 2; i++) {
    struct haki_heap *h = heaps[i];
    const struct heap_copy *copy = &image->heap[i];
    if (h == NULL) continue;
    haki_heap_drain(h);
    if (!copy->there) {
      haki_heap_drop(h, most);
      continue;
    }
    clear_lists(h, most);
    for (size_t k = 0; k < copy->slabs; k++) from = restore_slab(h, s++, from);
    if (h->slabs != NULL) h->slabs->empty = copy->empty;
    memcpy(h->bin, copy->bin, sizeof copy->bin);
    restore_nursery(h, &copy->nursery);
  }
  haki_large_restore(large);
  for (size_t i = 0; i < image->range_count; i++)
    from = load(image->ranges[i].start, from, image->ranges[i].size, i < image->piece_count);
}

void haki_image_free(struct haki_image *image) { haki_meta_pages_free(image, image->total); }

size_t haki_image_bytes(const struct haki_image *image) {
  return haki_align_up(image->total, 4096);
}

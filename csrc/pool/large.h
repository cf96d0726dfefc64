/* large.h - blocks above the slab range: runs of pages in a chunk, or whole chunks.
 *
 * Why:   a large block is charged, found, grown and freed as one thing, whatever it is made of.
 *        This is the seam for the sharded pool and the cache of big blocks: they will stand between
 *        these functions and the chunks, nothing above will notice.
 * Owns:  the arena's list of large blocks and their counts.
 * Locks: LARGE for the list of a shared arena; a private arena's list belongs to its owner.
 * Start: haki_large_alloc(). */
#ifndef HAK_LARGE_H
#define HAK_LARGE_H

#include "map/page.h"
#include "map/quota.h"

struct haki_large {
  hak_list blocks;
  struct haki_quota *quota;
  hak_cell count, bytes, allocs, in_place, remaps, copies; /* shared: written under LARGE */
  bool shared;
};

void haki_large_init(struct haki_large *l, struct haki_quota *quota, bool shared);

/* A block of `size` bytes aligned to `align` (power of two); `zero`:
 * reads as zero. NULL: quota or system. */
void *haki_large_alloc(struct haki_large *l, size_t size, size_t align, bool zero);
/* The large block's first page; aborts when p is not the start of one. `page` is p's own. */
struct page *haki_large_check(struct page *page, const void *p);
void haki_large_free(struct page *page);
/* The block at p with another size, contents kept: in place, or by moving page tables. NULL: cannot
 * without copying (or no memory); the block is as it was. A shrink never fails. */
void *haki_large_resize(struct page *page, void *p, size_t size);
/* One reallocation that had to copy: for the statistics. */
void haki_large_note_copy(struct haki_large *l);
/* Frees all blocks. */
void haki_large_drop(struct haki_large *l);
bool haki_large_ok(struct haki_large *l);

HAK_INLINE bool haki_page_is_large(const struct page *p) {
  unsigned kind = haki_page_kind(p);
  return kind == HAK_PAGE_RUN || kind == HAK_PAGE_HUGE;
}
extern struct haki_lock haki_large_lock;

#endif

/* nursery.h - the first kilobytes of a young Lua arena.
 *
 * Why:   a fresh Lua state lives in 20 KiB of some forty sizes; a slab for each would touch forty
 *        pages. The nursery bumps all sizes into pieces of 1 KiB and more, from pages that young
 *        arenas share, so that a thousand idle states cost what they hold.
 * Owns:  nursery pages, who has which unit.
 * Not:   any block header or size: a block of the nursery is known by its address, and its size is
 *        what hak_lua_alloc() is told on free. No other entry point hands these blocks out.
 * Locks: NURSERY, for units; the bump range and the bins belong to the heap's owner.
 * Start: haki_nursery_alloc(). */
#ifndef HAK_NURSERY_H
#define HAK_NURSERY_H

#include "pool/small.h"

enum {
  HAK_NURSERY_UNIT = 1024,
  HAK_NURSERY_UNITS = HAK_PAGE_SIZE / HAK_NURSERY_UNIT,
  HAK_NURSERY_PIECE = HAK_NURSERY_UNIT, /* taken at a time, more for larger blocks */
  HAK_NURSERY_BLOCK_MAX = 8 * 1024,
};

/* Which unit belongs to whom; one per nursery page, in metadata memory.
 * INV nursery-1: bit i of `free` is set exactly when owner[i] is HAK_NO_SLOT. */
struct nursery_units {
  uint64_t free;
  hak_list link; /* pages with a free unit */
  struct page *page;
  _Atomic(uint32_t) owner[HAK_NURSERY_UNITS]; /* arena slot */
  uint32_t next[HAK_NURSERY_UNITS];           /* first unit of a piece: the arena's next piece */
  uint8_t length[HAK_NURSERY_UNITS];          /* first unit of a piece: its units */
};
#define HAK_NO_SLOT UINT32_MAX

/* Stands in nursery pages as their owner: tells them in the test that slabs are told by. */
HAK_HIDDEN extern struct haki_heap haki_nursery_mark;

/* Slot of the arena that p's piece belongs to, HAK_NO_SLOT: none. pre: page is a nursery page. */
HAK_INLINE uint32_t haki_nursery_slot(const struct page *page, const void *p) {
  unsigned unit = (unsigned)((uintptr_t)p >> 10) & (HAK_NURSERY_UNITS - 1);
  return atomic_load_explicit(&page->units->owner[unit], memory_order_relaxed);
}

/* A block of class c, bumped; NULL: the arena has grown up, or no memory: take a slab. */
void *haki_nursery_alloc(struct haki_heap *h, unsigned c);
/* Takes back a block of class c (of the size given to the caller's free). */
void haki_nursery_free_slow(struct haki_heap *h, void *p, unsigned c);
/* Grows the newest block in place; false: it is not the newest, or there is no room. */
bool haki_nursery_grow(struct haki_heap *h, void *p, unsigned from, unsigned to);
/* Makes a block smaller in place; its tail is free. */
void haki_nursery_shrink(struct haki_heap *h, void *p, unsigned from, unsigned to);
/* Gives all pieces back; blocks die. */
void haki_nursery_release(struct haki_heap *h);
/* Gives those back that were taken after `piece`, a value that h->nursery.pieces once had. */
void haki_nursery_release_since(struct haki_heap *h, uint32_t piece);
/* Where a piece is; returns the one that was taken before it. */
uint32_t haki_nursery_piece(uint32_t piece, char **start, size_t *size);
size_t haki_nursery_pages(void);
extern struct haki_lock haki_nursery_lock;

_Static_assert(HAK_NURSERY_UNIT == 1 << 10, "haki_nursery_slot() shifts by this");

#endif

/* region.h - the address space that chunks come from.
 * Why:   one reservation makes address -> descriptor arithmetic; more of them follow when it is
 *        full or when the system grants little (ulimit -v, valgrind).
 * Owns:  the region directory (write side).   Not: what is in the chunks (chunk.c).
 * Locks: all calls need CHUNK.
 * Start: haki_region_find(). */
#ifndef HAK_REGION_H
#define HAK_REGION_H

#include "map/page.h"

/* n unused adjacent chunks, the first aligned to `align` chunks, committed; their kind is still
 * NONE or SPARE. Adds a region when no other has room. NULL: no memory. */
struct chunk *haki_region_find(size_t n, size_t align, struct haki_region **region);
/* Commits chunks [at, at+n) of a region as far as they are not. */
bool haki_region_commit(struct haki_region *r, uint32_t at, size_t n);
void haki_region_set_kind(struct haki_region *r, uint32_t at, size_t n, enum chunk_kind first,
                          enum chunk_kind rest);

HAK_INLINE struct chunk *haki_chunk_of_page(struct haki_region *r, const struct page *p) {
  return &r->chunks[(size_t)(p - r->pages) / HAK_CHUNK_PAGES];
}
HAK_INLINE struct haki_region *haki_chunk_region(const struct chunk *c) {
  struct haki_region *r = haki_regions;
  while ((size_t)((const char *)c - (const char *)r->chunks) >=
         r->chunk_count * sizeof(struct chunk))
    r++;
  return r;
}
HAK_INLINE struct page *haki_chunk_pages(struct haki_region *r, const struct chunk *c) {
  return &r->pages[(size_t)(c - r->chunks) * HAK_CHUNK_PAGES];
}
HAK_INLINE unsigned haki_chunk_kind(const struct haki_region *r, size_t i) {
  return atomic_load_explicit(&r->kind[i], memory_order_relaxed);
}

HAK_INLINE bool haki_chunk_unused(const struct haki_region *r, size_t i) {
  unsigned kind = haki_chunk_kind(r, i);
  return kind == HAK_CHUNK_NONE || kind == HAK_CHUNK_SPARE;
}

#endif

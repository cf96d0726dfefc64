/* hardened.c - see hardened.h; empty in the default build.
 * Start: haki_hardened_in_slow(). */
#include "map/hardened.h"

#if HAK_HARDENED

#include <string.h>

#include "map/sizeclass.h"

static _Atomic(uint8_t) *bit_of(const void *p, uint8_t *mask) {
  struct haki_region *r = haki_region_of(p);
  if (r == NULL) return NULL;
  size_t i = ((uintptr_t)p - r->base) >> 3;
  *mask = (uint8_t)(1u << (i & 7));
  return &r->out[i >> 3];
}

void haki_hardened_out_slow(void *p) {
  uint8_t mask;
  _Atomic(uint8_t) *bits = bit_of(p, &mask);
  if (bits == NULL) return;
  uint8_t was = atomic_fetch_or_explicit(bits, mask, memory_order_relaxed);
  HAK_CHECK((was & mask) == 0, "block handed out twice", p);
}

void haki_hardened_in_slow(void *p) {
  uint8_t mask;
  struct page *page = haki_page_of(p);
  unsigned kind = page ? haki_page_kind(page) : HAK_PAGE_FREE;
  if (kind != HAK_PAGE_SLAB && kind != HAK_PAGE_INNER && kind != HAK_PAGE_NURSERY) return;
  _Atomic(uint8_t) *bits = bit_of(p, &mask);
  if (((uintptr_t)p & 7) == 0 &&
      (atomic_fetch_and_explicit(bits, (uint8_t)~mask, memory_order_relaxed) & mask) != 0)
    return;
  if (kind == HAK_PAGE_INNER) page -= page->back;
  size_t offset = (size_t)((char *)p - (char *)haki_page_start(page));
  bool start = kind == HAK_PAGE_NURSERY ? ((uintptr_t)p & 7) == 0
                                        : offset % haki_class_size(haki_page_class(page)) == 0;
  haki_fatal(start ? "double free" : "invalid free: not a block start", p);
}

void haki_hardened_clear(void *p, size_t size) {
  uint8_t mask;
  memset((void *)bit_of(p, &mask), 0, size / 64);
}

void haki_hardened_save(uint8_t *to, void *p, size_t size) {
  uint8_t mask;
  memcpy(to, (const void *)bit_of(p, &mask), size / 64);
}

void haki_hardened_load(void *p, const uint8_t *from, size_t size) {
  uint8_t mask;
  memcpy((void *)bit_of(p, &mask), from, size / 64);
}

#endif

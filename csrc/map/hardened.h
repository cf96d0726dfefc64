/* hardened.h - one bit per 8 bytes: a slab block that starts here is handed out.
 * Why:   hardened and audit builds abort on each block freed twice or inside; the default build
 *        pays nothing.
 * Owns:  the bits, beside each region.
 * Locks: none; bits of one byte may belong to two threads, hence the atomic or and and.
 * Start: haki_hardened_out(). */
#ifndef HAK_HARDENED_H
#define HAK_HARDENED_H

#include "map/page.h"

#if HAK_HARDENED
void haki_hardened_out_slow(void *p);
void haki_hardened_in_slow(void *p);
void haki_hardened_clear(void *p, size_t size);
/* The bits of `size` bytes, a multiple of 64, to a buffer of size / 64, and back. */
void haki_hardened_save(uint8_t *to, void *p, size_t size);
void haki_hardened_load(void *p, const uint8_t *from, size_t size);
#else
HAK_INLINE void haki_hardened_out_slow(void *p) { (void)p; }
HAK_INLINE void haki_hardened_in_slow(void *p) { (void)p; }
HAK_INLINE void haki_hardened_clear(void *p, size_t size) { (void)p, (void)size; }
HAK_INLINE void haki_hardened_save(uint8_t *to, void *p, size_t size) {
  (void)to, (void)p, (void)size;
}
HAK_INLINE void haki_hardened_load(void *p, const uint8_t *from, size_t size) {
  (void)p, (void)from, (void)size;
}
#endif

/* A block leaves for the user. */
HAK_INLINE void *haki_hardened_out(void *p) {
  if (HAK_HARDENED && p != NULL) haki_hardened_out_slow(p);
  return p;
}
/* A block comes back; aborts unless it is out. Pages that hold no slab are not looked at. */
HAK_INLINE void haki_hardened_in(void *p) {
  if (HAK_HARDENED && p != NULL) haki_hardened_in_slow(p);
}

#endif

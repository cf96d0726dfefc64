/* sizeclass.h - block sizes of slabs.
 * Why:   eight classes per doubling waste at most 12.5 %; 8-byte steps up to 128 fit what a Lua VM
 *        asks for exactly.
 * Owns:  constants only.
 * Start: haki_class_of(). */
#ifndef HAK_SIZECLASS_H
#define HAK_SIZECLASS_H

#include "base/port.h"

enum {
  HAK_CLASSES = 80,
  HAK_SMALL_MAX = 32 * 1024, /* largest block in a slab */
  HAK_TABLE_MAX = 1024,      /* up to here the class comes from a table */
  HAK_CLASS_MEDIUM = 40,     /* the first one above */
};

/* INV class-1: haki_class_size(haki_class_of(n)) >= n, and the class below is smaller than n. */
HAK_INLINE size_t haki_class_size(unsigned c) {
  return c < 8 ? (size_t)(c + 1) << 3 : (size_t)(9 + (c & 7)) << ((c >> 3) + 2);
}

/* Class by size in 8-byte words, and by size in 16-byte units where only classes that keep
 * 16-byte alignment are named. */
HAK_HIDDEN extern const uint8_t haki_class_of_words[HAK_TABLE_MAX / 8 + 1];
HAK_HIDDEN extern const uint8_t haki_class_of_pairs[HAK_TABLE_MAX / 16 + 1];

HAK_INLINE unsigned haki_class_of_large(size_t n) {       /* 128 < n <= HAK_SMALL_MAX */
  unsigned shift = 60u - (unsigned)__builtin_clzl(n - 1); /* 2^(shift+3) <= n-1 */
  return ((shift - 3) << 3) + (unsigned)((n - 1) >> shift);
}
/* pre: n <= HAK_SMALL_MAX. 8-byte granularity; 0 counts as 1. */
HAK_INLINE unsigned haki_class_of(size_t n) {
  return HAK_LIKELY(n <= HAK_TABLE_MAX) ? haki_class_of_words[(n + 7) >> 3]
                                        : haki_class_of_large(n);
}
/* pre: n <= HAK_SMALL_MAX. Classes whose size is a multiple of 16. */
HAK_INLINE unsigned haki_class_of_16(size_t n) {
  return HAK_LIKELY(n <= HAK_TABLE_MAX) ? haki_class_of_pairs[(n + 15) >> 4]
                                        : haki_class_of_large(n);
}

#endif

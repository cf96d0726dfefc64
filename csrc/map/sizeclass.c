/* sizeclass.c - the two class tables.
 * Why:   one load beats a count-leading-zeros chain for the sizes that matter.
 * Start: sizeclass.h. */
#include "map/sizeclass.h"

/* Class of w words (8 bytes each), w <= 128: steps of 1, 2, 4, 8 words from 0, 16, 32, 64. */
#define W(w)                               \
  ((w) == 0    ? 0                         \
   : (w) <= 16 ? (w)-1                     \
   : (w) <= 32 ? 16 + ((w)-16 + 1) / 2 - 1 \
   : (w) <= 64 ? 24 + ((w)-32 + 3) / 4 - 1 \
               : 32 + ((w)-64 + 7) / 8 - 1)
#define W4(w) W(w), W((w) + 1), W((w) + 2), W((w) + 3)
#define W16(w) W4(w), W4((w) + 4), W4((w) + 8), W4((w) + 12)

const uint8_t haki_class_of_words[HAK_TABLE_MAX / 8 + 1] = {
    W16(0), W16(16), W16(32), W16(48), W16(64), W16(80), W16(96), W16(112), W(128)};

/* Class of k times 16 bytes; 0 counts as 16. */
#define P(k) W((k) == 0 ? 2 : 2 * (k))
#define P4(k) P(k), P((k) + 1), P((k) + 2), P((k) + 3)
#define P16(k) P4(k), P4((k) + 4), P4((k) + 8), P4((k) + 12)

const uint8_t haki_class_of_pairs[HAK_TABLE_MAX / 16 + 1] = {P16(0), P16(16), P16(32), P16(48),
                                                             P(64)};

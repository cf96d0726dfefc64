/* heap.h - what tests may ask of the whole allocator.
 * Start: haki_audit(). */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include <stdbool.h>

/* Checks every named invariant that can be checked from outside while no other thread allocates:
 * chunk-1, chunk-2, page-1, page-2, quota-1, the lists of large blocks. Aborts in audit builds at
 * the first that is broken; false in the others. cost: all descriptors. */
bool haki_audit(void);

#endif

/* meta.h - memory for hakmem's own descriptors.
 * Why:   an allocator cannot call malloc for its tables; descriptors are type-stable: what was a
 *        heap once is readable as a heap for ever, so a late reader finds old data, not a fault.
 * Owns:  pieces of reserved memory, free lists by size.
 * Locks: META.
 * Start: haki_meta_alloc(). */
#ifndef HAK_META_H
#define HAK_META_H

#include "base/debug.h"

/* Zeroed memory, aligned to 64; NULL when the system has none. pre: size <= 64 KiB.
 * Memory is reused only for the same size rounded to 64: keep one use per size where
 * type-stability matters, or use a pool of your own. */
void *haki_meta_alloc(size_t size);
void haki_meta_free(void *p, size_t size);
/* Whole pages for tables that come and go: any size, zeroed, given back to the system. */
void *haki_meta_pages(size_t size);
void haki_meta_pages_free(void *p, size_t size);
/* Bytes taken from the system for descriptors, page descriptors included. */
size_t haki_meta_bytes(void);
void haki_meta_add(size_t bytes); /* descriptors that live elsewhere */
extern struct haki_lock haki_meta_lock;

#endif

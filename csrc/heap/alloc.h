/* alloc.h - what alloc.c, free.c and realloc.c share.
 * Start: haki_alloc_on(). */
#ifndef HAK_ALLOC_H
#define HAK_ALLOC_H

#include "heap/arena.h"

struct haki_request {
  size_t size, align; /* align: power of two, at least 16 */
  bool zero;
  uintptr_t site; /* call site; 0: not known */
};

/* A block of an arena for its malloc-like calls; NULL with ENOMEM. */
void *haki_alloc_on(struct hak_arena *a, const struct haki_request *request);

/* What is known of a pointer that comes back. Aborts unless it is one of our blocks, as far as its
 * page can tell. */
struct haki_block {
  struct page *page;      /* first page of the slab or large block */
  struct haki_heap *heap; /* slab: its owner; large: NULL */
  struct hak_arena *arena;
  size_t size; /* bytes of the block */
};
struct haki_block haki_block_of(const void *p);
/* Frees it, whoever owns it. */
void haki_block_free(const struct haki_block *b, void *p);

#endif

/* preload.h - what preload.c and preload_cxx.c share.
 * Start: haki_preload_free_slow(). */
#ifndef HAK_PRELOAD_H
#define HAK_PRELOAD_H

#include "heap/arena.h"
#include "heap/core.h"
#include "heap/fast.h"

/* Frees what the fast path did not: NULL, blocks of others, large blocks, blocks of glibc's own
 * malloc. Aborts on anything else. Keeps errno. */
void haki_preload_free_slow(void *p);

HAK_INLINE void haki_preload_free(void *p) {
  if (HAK_UNLIKELY(!haki_fast_free(haki_tls_heap, p))) haki_preload_free_slow(p);
}

/* As C programs know it from glibc: any alignment up to the largest power of two, rounded up to one. */
void *haki_preload_memalign(size_t align, size_t size);

#endif

/* preload.c - the malloc family under its usual names: libhakmem-preload.so.
 *
 * Why:   LD_PRELOAD puts any program onto hakmem, as it is. What the C library promises beyond the
 *        standard (alignments rounded up, realloc(p, 0) that frees) is kept.
 * Owns:  the names; the break at start, which tells blocks of glibc's own malloc.
 * Not:   C++ (preload_cxx.c), memory (heap/).
 * Locks: none.
 * Start: malloc(), haki_preload_free_slow().
 *
 * The core is compiled again for this library, with its one thread-local pointer at a fixed distance
 * from the thread pointer: there is no call on the way to it, and it is there before any code of the
 * program runs. The first call starts hakmem, which allocates nothing: the loader may be the caller.
 *
 * Whose block comes back: ours, by address. Else one of glibc's, if it lies in the part of the data
 * segment that has been added since we were loaded: only glibc's malloc puts blocks there, for those
 * who reach it past us (a library opened with RTLD_DEEPBIND). Else it is nobody's: abort.
 * What the loader allocated before us it never passes to free(). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/stat.h"
#include "edge/preload.h"
#include "os/os.h"

/* ---- blocks of glibc's own malloc ---- */

static char *first_break; /* where the data segment ended when we were loaded */

__attribute__((constructor)) static void remember_break(void) { first_break = sbrk(0); }

static bool is_glibcs(const void *p) {
  if (first_break == NULL || (const char *)p < first_break) return false;
  return (const char *)p < (const char *)sbrk(0);
}

static _Atomic(uintptr_t) glibc_free, glibc_usable_size;

/* A function of the C library itself, whatever stands in front of it. Aborts if it has none, for
 * then the block is nobody's. */
static uintptr_t glibc_function(_Atomic(uintptr_t) *known, const char *name, const void *p) {
  uintptr_t f = atomic_load_explicit(known, memory_order_relaxed);
  if (f != 0) return f;
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (libc != NULL) f = (uintptr_t)dlsym(libc, name);
  HAK_CHECK(f != 0, "invalid free: not owned", p);
  atomic_store_explicit(known, f, memory_order_relaxed);
  return f;
}

HAK_COLD static void free_of_glibc(void *p) {
  int saved = errno;
  ((void (*)(void *))glibc_function(&glibc_free, "free", p))(p);
  errno = saved;
}

HAK_COLD static size_t usable_size_of_glibc(void *p) {
  return ((size_t(*)(void *))glibc_function(&glibc_usable_size, "malloc_usable_size", p))(p);
}

/* The block becomes ours. */
HAK_COLD static void *realloc_of_glibc(void *p, size_t size) {
  size_t old = usable_size_of_glibc(p);
  void *q = haki_core()->malloc(size);
  if (q == NULL) return NULL;
  memcpy(q, p, old < size ? old : size);
  free_of_glibc(p);
  return q;
}

/* The test that all others pass first: not in a region of this copy. */
static bool is_former(const void *p) {
  return HAK_UNLIKELY(haki_page_of(p) == NULL) && is_glibcs(p) && !haki_core()->owns(p);
}

void haki_preload_free_slow(void *p) {
  if (p == NULL) return;
  if (is_former(p))
    free_of_glibc(p);
  else
    haki_core()->free(p);
}

/* ---- C ---- */

HAK_API HAK_HOT void *malloc(size_t size) {
  void *p = haki_fast_alloc(haki_tls_heap, size);
  return HAK_LIKELY(p != NULL) ? p : haki_core()->malloc(size);
}

HAK_API HAK_HOT void free(void *p) { haki_preload_free(p); }

HAK_API HAK_HOT void *calloc(size_t count, size_t size) {
  size_t bytes;
  if (HAK_LIKELY(!__builtin_mul_overflow(count, size, &bytes))) {
    void *p = haki_fast_alloc(haki_tls_heap, bytes);
    if (HAK_LIKELY(p != NULL)) return memset(p, 0, bytes);
  }
  return haki_core()->calloc(count, size);
}

HAK_NOINLINE static void *realloc_slow(void *p, size_t size) {
  return is_former(p) ? realloc_of_glibc(p, size) : haki_core()->realloc(p, size);
}

HAK_API HAK_HOT void *realloc(void *p, size_t size) {
  if (p == NULL) return malloc(size);
  if (size == 0) {
    free(p);
    return NULL;
  }
  void *q = haki_fast_realloc(haki_tls_heap, p, size);
  return HAK_LIKELY(q != NULL) ? q : realloc_slow(p, size);
}

HAK_API void *reallocarray(void *p, size_t count, size_t size) {
  size_t bytes;
  if (!__builtin_mul_overflow(count, size, &bytes)) return realloc(p, bytes);
  errno = ENOMEM;
  return NULL;
}

void *haki_preload_memalign(size_t align, size_t size) {
  if (align > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return NULL;
  }
  size_t power = 16;
  while (power < align) power *= 2;
  return haki_core()->aligned_alloc(power, size);
}

HAK_API void *memalign(size_t align, size_t size) { return haki_preload_memalign(align, size); }
HAK_API void *aligned_alloc(size_t align, size_t size) {
  return haki_preload_memalign(align, size);
}
HAK_API int posix_memalign(void **out, size_t align, size_t size) {
  return haki_core()->posix_memalign(out, align, size);
}
HAK_API void *valloc(size_t size) { return haki_core()->aligned_alloc(haki_os_page_size(), size); }
HAK_API void *pvalloc(size_t size) {
  size_t page = haki_os_page_size(), whole = haki_align_up(size, page);
  return haki_core()->aligned_alloc(page, whole >= size ? whole : size);
}

HAK_API size_t malloc_usable_size(void *p) {
  return p != NULL && is_former(p) ? usable_size_of_glibc(p) : haki_core()->usable_size(p);
}

HAK_API void cfree(void *p) { haki_preload_free(p); }
HAK_API void free_sized(void *p, size_t size) {
  (void)size;
  haki_preload_free(p);
}
HAK_API void free_aligned_sized(void *p, size_t align, size_t size) {
  (void)align, (void)size;
  haki_preload_free(p);
}

/* ---- the names by which glibc's own are reached around the usual ones ---- */

#define ALSO(name, is) __asm__(".globl " #name "\n.set " #name ", " #is)
ALSO(__libc_malloc, malloc);
ALSO(__libc_calloc, calloc);
ALSO(__libc_realloc, realloc);
ALSO(__libc_memalign, memalign);
ALSO(__libc_valloc, valloc);
ALSO(__libc_pvalloc, pvalloc);
ALSO(__libc_free, free);
ALSO(__posix_memalign, posix_memalign);

/* ---- control and statistics ---- */

/* `pad` bytes more or less to keep make no difference: what is in use stays. */
HAK_API int malloc_trim(size_t pad) {
  (void)pad;
  return haki_core()->trim() != 0;
}

/* Nothing it sets exists here; knobs have the environment. 1: accepted. */
HAK_API int mallopt(int parameter, int value) {
  (void)parameter, (void)value;
  return 1;
}

/* In glibc's order: bytes of slabs, -, -, large blocks, their bytes, -, -, bytes in use and free in
 * slabs, bytes that malloc_trim() may give back. arena = uordblks + fordblks. */
struct info2 {
  size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct info {
  int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

HAK_API struct info2 mallinfo2(void) {
  uint64_t v[HAK_STAT_COUNT] = {0};
  haki_core()->stats_read(NULL, v, HAK_STAT_COUNT);
  size_t large = v[HAK_STAT(large, bytes)], cached = v[HAK_STAT(top, cached)];
  struct info2 i = {.hblks = v[HAK_STAT(large, blocks)], .hblkhd = large, .keepcost = cached};
  i.uordblks = v[HAK_STAT(top, allocated)] - large;
  i.fordblks = v[HAK_STAT(top, waste)] + cached;
  i.arena = i.uordblks + i.fordblks;
  return i;
}

static int clip(size_t n) { return n < INT32_MAX ? (int)n : INT32_MAX; }

HAK_API struct info mallinfo(void) {
  struct info2 i = mallinfo2();
  return (struct info){.arena = clip(i.arena),
                       .hblks = clip(i.hblks),
                       .hblkhd = clip(i.hblkhd),
                       .uordblks = clip(i.uordblks),
                       .fordblks = clip(i.fordblks),
                       .keepcost = clip(i.keepcost)};
}

static void write_stderr(const char *text, size_t size, void *ud) {
  (void)ud;
  for (ssize_t n; size != 0; text += n, size -= (size_t)n) {
    n = write(STDERR_FILENO, text, size);
    if (n < 0 && errno != EINTR) return;
    if (n < 0) n = 0;
  }
}

HAK_API void malloc_stats(void) {
  int saved = errno;
  hak_report("text", write_stderr, NULL);
  errno = saved;
}

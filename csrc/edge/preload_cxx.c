/* preload_cxx.c - operator new and delete, by their mangled names: no C++ compiler is needed.
 *
 * Why:   C++ libraries bring operators of their own, which would call malloc one call further.
 * Owns:  the names.   Not: what happens when there is no memory: the C++ library's own operators do
 *        that, which call malloc, that is us, then the new_handler, and throw.
 * Locks: none.
 * Start: _Znwm().
 *
 * As the standard has it for the default operators, arrays call the plain forms and sized deletes the
 * unsized ones, by their public names (preload.list): a program that replaces only the plain ones
 * gets what it replaced. `m` is unsigned long, the size_t of 64-bit systems. */
#include "edge/preload.h"
#include "os/os.h"

typedef const struct haki_nothrow *nothrow; /* const std::nothrow_t & */

typedef void *new_fn(size_t size);
typedef void *new_nothrow_fn(size_t size, nothrow tag);
typedef void *new_aligned_fn(size_t size, size_t align);
typedef void *new_aligned_nothrow_fn(size_t size, size_t align, nothrow tag);
HAK_API new_fn _Znwm;
HAK_API new_nothrow_fn _ZnwmRKSt9nothrow_t;
HAK_API new_aligned_fn _ZnwmSt11align_val_t;
HAK_API new_aligned_nothrow_fn _ZnwmSt11align_val_tRKSt9nothrow_t;
HAK_API void _ZdlPv(void *p);
HAK_API void _ZdaPv(void *p);
HAK_API void _ZdlPvSt11align_val_t(void *p, size_t align);
HAK_API void _ZdaPvSt11align_val_t(void *p, size_t align);

/* ---- no memory ---- */

struct next {
  uintptr_t mine, found;
};

static int after_mine(uintptr_t address, void *next) {
  struct next *n = next;
  if (address != n->mine) n->found = address;
  return address != n->mine;
}

/* The operator that we stand in front of; 0: there is no C++ library in the process. */
static uintptr_t next_operator(const char *name, uintptr_t mine) {
  struct next n = {mine, 0};
  haki_os_each_symbol(name, after_mine, &n);
  return n.found;
}
#define MUST_THROW(next) \
  HAK_CHECK((next) != NULL, "operator new: no memory, and no C++ library to say so", NULL)

HAK_COLD static void *new_slow(size_t size) {
  void *p = haki_core()->malloc(size);
  if (p != NULL) return p;
  new_fn *next = (new_fn *)next_operator("_Znwm", (uintptr_t)_Znwm);
  MUST_THROW(next);
  return next(size);
}

HAK_COLD static void *new_nothrow_slow(size_t size, nothrow tag) {
  static const char name[] = "_ZnwmRKSt9nothrow_t";
  void *p = haki_core()->malloc(size);
  if (p != NULL) return p;
  new_nothrow_fn *next = (new_nothrow_fn *)next_operator(name, (uintptr_t)_ZnwmRKSt9nothrow_t);
  return next != NULL ? next(size, tag) : NULL;
}

HAK_COLD static void *new_aligned_failed(size_t size, size_t align) {
  static const char name[] = "_ZnwmSt11align_val_t";
  new_aligned_fn *next = (new_aligned_fn *)next_operator(name, (uintptr_t)_ZnwmSt11align_val_t);
  MUST_THROW(next);
  return next(size, align);
}

HAK_COLD static void *new_aligned_nothrow_failed(size_t size, size_t align, nothrow tag) {
  static const char name[] = "_ZnwmSt11align_val_tRKSt9nothrow_t";
  new_aligned_nothrow_fn *next =
      (new_aligned_nothrow_fn *)next_operator(name, (uintptr_t)_ZnwmSt11align_val_tRKSt9nothrow_t);
  return next != NULL ? next(size, align, tag) : NULL;
}

/* ---- new ---- */

HAK_HOT void *_Znwm(size_t size) {
  void *p = haki_fast_alloc(haki_tls_heap, size);
  return HAK_LIKELY(p != NULL) ? p : new_slow(size);
}
HAK_API void *_Znam(size_t size) { return _Znwm(size); }

void *_ZnwmRKSt9nothrow_t(size_t size, nothrow tag) {
  void *p = haki_fast_alloc(haki_tls_heap, size);
  return HAK_LIKELY(p != NULL) ? p : new_nothrow_slow(size, tag);
}
HAK_API void *_ZnamRKSt9nothrow_t(size_t size, nothrow tag) {
  return _ZnwmRKSt9nothrow_t(size, tag);
}

void *_ZnwmSt11align_val_t(size_t size, size_t align) {
  void *p = haki_core()->aligned_alloc(align, size);
  return HAK_LIKELY(p != NULL) ? p : new_aligned_failed(size, align);
}
HAK_API void *_ZnamSt11align_val_t(size_t size, size_t align) {
  return _ZnwmSt11align_val_t(size, align);
}

void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, nothrow tag) {
  void *p = haki_core()->aligned_alloc(align, size);
  return HAK_LIKELY(p != NULL) ? p : new_aligned_nothrow_failed(size, align, tag);
}
HAK_API void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, nothrow tag) {
  return _ZnwmSt11align_val_tRKSt9nothrow_t(size, align, tag);
}

/* ---- delete ---- */

HAK_HOT void _ZdlPv(void *p) { haki_preload_free(p); }
void _ZdaPv(void *p) { _ZdlPv(p); }
HAK_API void _ZdlPvm(void *p, size_t size) { _ZdlPv(p); }
HAK_API void _ZdaPvm(void *p, size_t size) { _ZdaPv(p); }
HAK_API void _ZdlPvRKSt9nothrow_t(void *p, nothrow tag) { _ZdlPv(p); }
HAK_API void _ZdaPvRKSt9nothrow_t(void *p, nothrow tag) { _ZdaPv(p); }

void _ZdlPvSt11align_val_t(void *p, size_t align) { haki_preload_free(p); }
void _ZdaPvSt11align_val_t(void *p, size_t align) { _ZdlPvSt11align_val_t(p, align); }
HAK_API void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t align) {
  _ZdlPvSt11align_val_t(p, align);
}
HAK_API void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t align) {
  _ZdaPvSt11align_val_t(p, align);
}
HAK_API void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, nothrow tag) {
  _ZdlPvSt11align_val_t(p, align);
}
HAK_API void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, nothrow tag) {
  _ZdaPvSt11align_val_t(p, align);
}

/* port.h - what the compiler and the machine are asked for, in one place.
 * Why:   the rest of the code names intentions (cold, cell, pause), not attributes.
 * Owns:  nothing.   Not: system calls (os/).
 * Start: HAK_CELL, the single-writer counter that other threads may read. */
#ifndef HAK_PORT_H
#define HAK_PORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAK_LIKELY(x) __builtin_expect(!!(x), 1)
#define HAK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HAK_HOT __attribute__((hot))
#define HAK_COLD __attribute__((cold, noinline))
#define HAK_NOINLINE __attribute__((noinline)) /* so that the hot path beside it needs no stack */
#define HAK_INLINE static inline __attribute__((always_inline))
#define HAK_PRINTF(f, a) __attribute__((format(printf, f, a)))
/* On data that fast paths read: reached without the global offset table. */
#define HAK_HIDDEN __attribute__((visibility("hidden")))
#define HAK_NORETURN __attribute__((noreturn))
#define HAK_CACHE_LINE 64
#define HAK_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

#if defined(__SANITIZE_THREAD__)
#define HAK_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAK_TSAN 1
#endif
#endif
#ifndef HAK_TSAN
#define HAK_TSAN 0
#endif

/* 1: our own mistakes are checked in O(1) (HAK_ASSERT).  HAK_DEBUG=1
 * 2: and in O(n) (HAK_AUDIT), with shrunken constants.   HAK_AUDIT_BUILD=1 */
#ifndef HAK_DEBUG
#define HAK_DEBUG 0
#endif
#ifndef HAK_AUDIT_BUILD
#define HAK_AUDIT_BUILD 0
#endif
/* Every slab block has a bit that says "handed out": each double or inner free aborts. */
#ifndef HAK_HARDENED
#define HAK_HARDENED HAK_AUDIT_BUILD
#endif
/* Compiled for libhakmem-preload.so. */
#ifndef HAK_PRELOAD
#define HAK_PRELOAD 0
#endif
/* The OS layer can be told to fail (os_fault.c), schedule points yield by a seed. */
#ifndef HAK_FAULT
#define HAK_FAULT HAK_AUDIT_BUILD
#endif

/* A cell has one writer, its owner, and relaxed readers anywhere (statistics). A plain increment
 * would be a data race, a locked one would cost 20 cycles: relaxed load and store are neither. */
typedef _Atomic(uint64_t) hak_cell;

HAK_INLINE uint64_t haki_cell_get(const hak_cell *c) {
  return atomic_load_explicit((hak_cell *)c, memory_order_relaxed);
}
HAK_INLINE void haki_cell_set(hak_cell *c, uint64_t v) {
  atomic_store_explicit(c, v, memory_order_relaxed);
}
HAK_INLINE void haki_cell_add(hak_cell *c, uint64_t n) { haki_cell_set(c, haki_cell_get(c) + n); }
HAK_INLINE void haki_cell_sub(hak_cell *c, uint64_t n) { haki_cell_set(c, haki_cell_get(c) - n); }

/* A count that its owner lowers on the hot path while others may read it. One instruction on x86-64,
 * where a compiler would split the relaxed load and store. True: it was 1 or less before. */
typedef _Atomic(uint32_t) hak_live_t;
HAK_INLINE bool haki_live_drop(hak_live_t *c) {
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__) && !HAK_TSAN
  bool low;
  __asm__("subl $1, %0" : "+m"(*(uint32_t *)c), "=@ccbe"(low));
  return low;
#else
  uint32_t n = atomic_load_explicit(c, memory_order_relaxed);
  atomic_store_explicit(c, n - 1, memory_order_relaxed);
  return n <= 1;
#endif
}

HAK_INLINE void haki_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

HAK_INLINE uintptr_t haki_align_up(uintptr_t n, size_t power_of_two) {
  return (n + power_of_two - 1) & ~(uintptr_t)(power_of_two - 1);
}
HAK_INLINE uintptr_t haki_align_down(uintptr_t n, size_t power_of_two) {
  return n & ~(uintptr_t)(power_of_two - 1);
}
HAK_INLINE bool haki_is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

#endif

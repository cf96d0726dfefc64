/* spin.h - a lock of four bytes for a few instructions.
 * Why:   a list of blocks has thousands of them; who waits should not have to enter the kernel.
 * Owns:  nothing.   Not: ranks: a spin lock is a leaf, nothing is taken under it.
 * Locks: defines one.
 * Start: haki_spin_lock(). */
#ifndef HAK_SPIN_H
#define HAK_SPIN_H

#include <errno.h>
#include <sched.h>
#include <time.h>

#include "base/port.h"

typedef _Atomic(uint32_t) haki_spin; /* 0: open */

HAK_INLINE bool haki_spin_try(haki_spin *lock) {
  uint32_t open = 0;
  return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
         atomic_compare_exchange_strong_explicit(lock, &open, 1, memory_order_acquire,
                                                 memory_order_relaxed);
}

/* The holder may have been preempted: who keeps asking for the processor wastes it, and is charged. */
HAK_INLINE void haki_spin_rest(uint32_t times) {
  if (times <= 4) {
    sched_yield();
    return;
  }
  int saved = errno;
  nanosleep(&(struct timespec){0, times < 100 ? 10000 * (long)times : 1000000}, NULL);
  errno = saved;
}

HAK_INLINE void haki_spin_lock(haki_spin *lock) {
  for (uint32_t i = 1; HAK_UNLIKELY(!haki_spin_try(lock)); i++) {
    if (i % 64 == 0)
      haki_spin_rest(i / 64);
    else
      haki_pause();
  }
}

/* release: pairs with haki_spin_try() */
HAK_INLINE void haki_spin_unlock(haki_spin *lock) {
  atomic_store_explicit(lock, 0, memory_order_release);
}

#endif

/* bell.h - how the pools call the background thread, which stands above them (heap/drain.c).
 *
 * Why:   it sleeps for ever when nothing is left to do; who makes new work has to wake it.
 * Owns:  its state, as far as pools must know.   Not: the thread.
 * Locks: none here; haki_bell_wake() takes BELL, which may be taken under any other.
 * Start: haki_bell_ring().
 *
 * INV bell-1: who makes work for a sleeper publishes it first and looks at the state afterwards; who
 *             goes to sleep says so first and looks for work afterwards. Both with a full barrier in
 *             between, so one of the two sees the other. */
#ifndef HAK_BELL_H
#define HAK_BELL_H

#include "base/port.h"

enum haki_bell {
  HAK_BELL_NOBODY, /* no thread: whoever uses a pool does the work in passing */
  HAK_BELL_AWAKE,
  HAK_BELL_ASLEEP, /* or about to look a last time */
};
extern _Atomic(uint32_t) haki_bell_state;

extern void (*haki_bell_start)(void); /* maybe starts the thread. pre: no lock, no bias held */
extern void (*haki_bell_wake)(void);

/* pre: the work is published by a seq_cst operation, or a fence is behind it. */
HAK_INLINE void haki_bell_ring(void) {
  /* seq_cst: pairs with the last look in heap/drain.c */
  if (HAK_UNLIKELY(atomic_load_explicit(&haki_bell_state, memory_order_seq_cst) == HAK_BELL_ASLEEP))
    haki_bell_wake();
}

#endif

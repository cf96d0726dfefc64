/* bias.h - a lock that costs its owner two stores and a load, no barrier; who revokes it pays.
 *
 * Why:   a thread's cache is touched by its thread at every operation, and once in a while by the
 *        background thread when the owner has been idle for long.
 * Owns:  two words.   Not: what they guard.
 * Locks: a lock. The owner waits for whoever has revoked it, never the other way round: so nobody
 *        who revokes may wait for anything that an owner may hold while it enters (ARENA, REGISTRY).
 *        One thread at a time may revoke (REGISTRY).
 * Start: haki_bias_enter(), haki_bias_revoke().
 *
 *   owner:   busy = 1              other:  revoked = 1
 *            (compiler barrier)            haki_os_barrier(): every thread passes a full barrier
 *            revoked? wait                 busy? give up
 *
 * INV bias-1: either the owner's store to `busy` came before the barrier, and the other sees it, or
 *             the owner's load of `revoked` comes after it, and sees 1. */
#ifndef HAK_BIAS_H
#define HAK_BIAS_H

#include "base/debug.h"

struct haki_bias {
  _Atomic(uint32_t) busy, revoked;
};

enum haki_bias_result {
  HAK_BIAS_BUSY,  /* the owner is inside */
  HAK_BIAS_OURS,  /* until haki_bias_restore() */
  HAK_BIAS_NEVER, /* the system has no such barrier */
};

/* For the cold case of haki_bias_enter(). */
void haki_bias_wait(struct haki_bias *b);
enum haki_bias_result haki_bias_revoke(struct haki_bias *b);
void haki_bias_restore(struct haki_bias *b);

/* True: nobody has revoked it. `busy` is set in any case. */
HAK_INLINE bool haki_bias_say_busy(struct haki_bias *b) {
#if HAK_TSAN /* knows nothing of the barrier: the same with atomics that order each other */
  atomic_store_explicit(&b->busy, 1, memory_order_seq_cst);
  HAK_SCHED_POINT("bias busy");
  return atomic_load_explicit(&b->revoked, memory_order_seq_cst) == 0;
#else
  atomic_store_explicit(&b->busy, 1, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
  HAK_SCHED_POINT("bias busy");
  /* acquire: pairs with haki_bias_restore() */
  return atomic_load_explicit(&b->revoked, memory_order_acquire) == 0;
#endif
}

/* Not recursive. */
HAK_INLINE void haki_bias_enter(struct haki_bias *b) {
  if (HAK_UNLIKELY(!haki_bias_say_busy(b))) haki_bias_wait(b);
}

HAK_INLINE void haki_bias_leave(struct haki_bias *b) {
  /* release: pairs with haki_bias_revoke() */
  atomic_store_explicit(&b->busy, 0, memory_order_release);
}

/* The owner's, too: does not wait. A hot path without a call needs no stack. */
HAK_INLINE bool haki_bias_try_enter(struct haki_bias *b) {
  if (HAK_LIKELY(haki_bias_say_busy(b))) return true;
  haki_bias_leave(b);
  return false;
}

#endif

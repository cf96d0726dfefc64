/* bias.c - the rare sides of the biased lock: revoking it, waiting while it is revoked.
 * Why, Owns, Locks: see bias.h.
 * Start: haki_bias_revoke(). */
#include "pool/bias.h"

#include <sched.h>

#include "os/os.h"

enum { SPINS = 64, YIELDS = 16, NAP = 50000 /* ns */ };

static void wait_once(uint32_t turn) {
  if (turn < SPINS)
    haki_pause();
  else if (turn < SPINS + YIELDS)
    sched_yield();
  else
    haki_os_nap(NAP); /* yielding is no use to a thread of higher priority than the other */
}

HAK_COLD void haki_bias_wait(struct haki_bias *b) {
  do {
    haki_bias_leave(b); /* or each would wait for the other to be out */
    for (uint32_t turn = 0; atomic_load_explicit(&b->revoked, memory_order_relaxed) != 0; turn++)
      wait_once(turn);
    atomic_store_explicit(&b->busy, 1, memory_order_seq_cst);
    HAK_SCHED_POINT("bias busy again");
    /* acquire: pairs with haki_bias_restore() */
  } while (atomic_load_explicit(&b->revoked, memory_order_seq_cst) != 0);
}

enum haki_bias_result haki_bias_revoke(struct haki_bias *b) {
  HAK_ASSERT(atomic_load_explicit(&b->revoked, memory_order_relaxed) == 0);
  if (atomic_load_explicit(&b->busy, memory_order_relaxed) != 0) return HAK_BIAS_BUSY;
  atomic_store_explicit(&b->revoked, 1, memory_order_seq_cst);
  HAK_SCHED_POINT("bias revoked");
  enum haki_bias_result result = haki_os_barrier() ? HAK_BIAS_OURS : HAK_BIAS_NEVER;
  /* acquire: pairs with haki_bias_leave(); seq_cst where the barrier is none (HAK_TSAN) */
  if (result == HAK_BIAS_OURS && atomic_load_explicit(&b->busy, memory_order_seq_cst) != 0)
    result = HAK_BIAS_BUSY;
  if (result != HAK_BIAS_OURS) haki_bias_restore(b);
  return result;
}

void haki_bias_restore(struct haki_bias *b) {
  HAK_SCHED_POINT("bias restore");
  /* release: pairs with haki_bias_say_busy() */
  atomic_store_explicit(&b->revoked, 0, memory_order_release);
}

/* os_fault.c - tells the calls of os.h to fail, for tests.
 * Why:   every fall-back must have run before a customer's kernel runs it.
 * Owns:  what to fail, and the counts. Compiled to nothing unless HAK_FAULT.
 * Start: haki_fault_hit(). */
#include "os/os.h"

#if HAK_FAULT
static _Atomic(uint32_t) fault_kinds; /* 0: disarmed */
static _Atomic(uint64_t) fault_at;
static _Atomic(bool) fault_sticky;
static _Atomic(uint32_t) fault_seed, fault_one_in;
static _Atomic(uint64_t) fault_calls, fault_failed;

static void arm(unsigned kinds, uint64_t at, bool sticky, uint32_t seed, uint32_t one_in) {
  atomic_store(&fault_kinds, 0);
  atomic_store(&fault_at, at);
  atomic_store(&fault_sticky, sticky);
  atomic_store(&fault_seed, seed);
  atomic_store(&fault_one_in, one_in);
  atomic_store(&fault_calls, 0);
  atomic_store(&fault_failed, 0);
  atomic_store(&fault_kinds, kinds);
}

void haki_fault_arm(unsigned kinds, uint64_t at, bool sticky) { arm(kinds, at, sticky, 0, 0); }
void haki_fault_random(unsigned kinds, uint32_t seed, uint32_t one_in) {
  arm(one_in != 0 ? kinds : 0, 0, false, seed, one_in);
}
void haki_fault_disarm(void) { atomic_store(&fault_kinds, 0); } /* the counts stay readable */
uint64_t haki_fault_count(void) { return atomic_load(&fault_calls); }
uint64_t haki_fault_hits(void) { return atomic_load(&fault_failed); }

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static bool chosen(uint64_t call) {
  uint64_t at = atomic_load(&fault_at);
  uint32_t one_in = atomic_load(&fault_one_in);
  if (at != 0) return call == at || (call > at && atomic_load(&fault_sticky));
  return one_in != 0 && mix(call * 0x9e3779b97f4a7c15u + atomic_load(&fault_seed)) % one_in == 0;
}

bool haki_fault_hit(enum haki_fault_kind kind) {
  if (HAK_LIKELY((atomic_load_explicit(&fault_kinds, memory_order_relaxed) & kind) == 0))
    return false;
  if (!chosen(atomic_fetch_add(&fault_calls, 1) + 1)) return false;
  atomic_fetch_add(&fault_failed, 1);
  return true;
}
#else
typedef int haki_no_fault_injection; /* a translation unit may not be empty */
#endif

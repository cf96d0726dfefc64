/* debug.c - the end of the process, ranked locks, schedule points.
 * Why:   whatever is broken, these must still work: so nothing here uses another file.
 * Owns:  per-thread counts of held locks (debug and audit builds), the schedule seed.
 * Not:   logging (log.c).
 * Locks: implements them.
 * Start: haki_fatal(), haki_lock(). */
#include "base/debug.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- one line, then abort -------------------------------------------------------------------- */

struct line {
  size_t used;
  char text[320];
};

static void put(struct line *l, const char *s) {
  size_t n = strlen(s), room = sizeof l->text - 1 - l->used; /* one byte stays for the newline */
  if (n > room) n = room;
  memcpy(l->text + l->used, s, n);
  l->used += n;
}

static void put_number(struct line *l, uintptr_t n, unsigned base) {
  char digits[sizeof n * 8 + 1], *p = digits + sizeof digits;
  *--p = '\0';
  do {
    *--p = "0123456789abcdef"[n % base];
    n /= base;
  } while (n != 0);
  put(l, p);
}

HAK_NORETURN static void finish(struct line *l) {
  l->text[l->used++] = '\n';
  while (write(STDERR_FILENO, l->text, l->used) < 0 && errno == EINTR) continue;
  abort();
}

void haki_fatal(const char *what, const void *ptr) {
  struct line l = {0, ""};
  put(&l, "hakmem: fatal: ");
  put(&l, what);
  put(&l, " (ptr 0x");
  put_number(&l, (uintptr_t)ptr, 16);
  put(&l, ")");
  finish(&l);
}

void haki_assert_failed(const char *expr, const char *file, int line) {
  struct line l = {0, ""};
  put(&l, "hakmem: fatal: assertion failed: ");
  put(&l, expr);
  put(&l, " at ");
  put(&l, file);
  put(&l, ":");
  put_number(&l, (uintptr_t)line, 10);
  finish(&l);
}

/* ---- ranked locks ---------------------------------------------------------------------------- */

#if HAK_DEBUG || HAK_AUDIT_BUILD
static _Thread_local uint16_t held[HAK_RANK_COUNT];

/* Several locks of one rank may be held only by fork handlers, which hold INIT. */
static void check_order(enum haki_rank rank) {
  for (int r = (int)rank + 1; r < HAK_RANK_COUNT; r++) HAK_ASSERT(held[r] == 0);
  HAK_ASSERT(held[rank] == 0 || (held[HAK_RANK_INIT] != 0 && rank != HAK_RANK_INIT));
}
static void note_taken(enum haki_rank rank) { held[rank]++; }
static void note_given(enum haki_rank rank) {
  HAK_ASSERT(held[rank] != 0);
  held[rank]--;
}
static void note_forked(enum haki_rank rank) { held[rank] = 0; }
#else
static void check_order(enum haki_rank rank) { (void)rank; }
static void note_taken(enum haki_rank rank) { (void)rank; }
static void note_given(enum haki_rank rank) { (void)rank; }
static void note_forked(enum haki_rank rank) { (void)rank; }
#endif

void haki_lock(struct haki_lock *lock) {
  check_order(lock->rank);
  HAK_SCHED_POINT("lock");
  pthread_mutex_lock(&lock->mutex);
  note_taken(lock->rank);
}

void haki_unlock(struct haki_lock *lock) {
  note_given(lock->rank);
  pthread_mutex_unlock(&lock->mutex);
  HAK_SCHED_POINT("unlock");
}

/* No order check: a try cannot deadlock. */
bool haki_trylock(struct haki_lock *lock) {
  if (pthread_mutex_trylock(&lock->mutex) != 0) return false;
  note_taken(lock->rank);
  return true;
}

void haki_lock_reinit(struct haki_lock *lock) {
  pthread_mutex_init(&lock->mutex, NULL); /* the holder may be a thread that the child lacks */
  note_forked(lock->rank);
}

/* ---- schedule points ------------------------------------------------------------------------- */

#if HAK_FAULT
static _Atomic(uint32_t) sched_seed;
static _Atomic(uint32_t) sched_threads;
static _Thread_local uint32_t sched_state, sched_seen;

void haki_sched_seed(uint32_t seed) {
  atomic_store_explicit(&sched_seed, seed, memory_order_relaxed);
}

void haki_sched_point(const char *where) {
  uint32_t seed = atomic_load_explicit(&sched_seed, memory_order_relaxed);
  if (seed == 0) return;
  if (sched_seen != seed) { /* each thread follows a sequence of its own */
    sched_seen = seed;
    sched_state = seed + 0x9e3779b9u * (1 + atomic_fetch_add_explicit(&sched_threads, 1,
                                                                      memory_order_relaxed));
  }
  uint32_t x = sched_state + (unsigned char)where[0];
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  sched_state = x;
  if (x % 8 == 0) {
    sched_yield();
  } else if (x % 8 == 1) {
    for (uint32_t i = (x >> 8) % 64; i != 0; i--) haki_pause();
  }
}
#endif

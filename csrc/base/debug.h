/* debug.h - three strengths of assertion, ranked locks, schedule points.
 * Why:   a wrong lock order or a broken invariant should stop the test that caused it.
 * Owns:  the per-thread stack of held ranks (debug builds only).
 * Not:   logging (log.h).
 * Locks: defines them. A thread takes locks in rising rank only.
 * Start: HAK_CHECK, enum haki_rank. */
#ifndef HAK_DEBUG_H
#define HAK_DEBUG_H

#include <pthread.h>

#include "base/port.h"

/* One line on stderr, `hakmem: fatal: <what> (ptr 0x...)`, then abort(). Never allocates. */
HAK_COLD HAK_NORETURN void haki_fatal(const char *what, const void *ptr);
HAK_COLD HAK_NORETURN void haki_assert_failed(const char *expr, const char *file, int line);

/* The caller's bug: always on. */
#define HAK_CHECK(cond, what, ptr)                    \
  do {                                                \
    if (HAK_UNLIKELY(!(cond))) haki_fatal(what, ptr); \
  } while (0)

/* Our bug, O(1): debug and audit builds. */
#if HAK_DEBUG || HAK_AUDIT_BUILD
#define HAK_ASSERT(cond) ((cond) ? (void)0 : haki_assert_failed(#cond, __FILE__, __LINE__))
#else
#define HAK_ASSERT(cond) ((void)0)
#endif

/* Our bug, O(n): audit builds. */
#if HAK_AUDIT_BUILD
#define HAK_AUDIT(cond) HAK_ASSERT(cond)
#else
#define HAK_AUDIT(cond) ((void)0)
#endif

/* Low ranks are taken first. */
enum haki_rank {
  HAK_RANK_DRAIN,    /* the background thread is started or stopped */
  HAK_RANK_INIT,     /* start, fork */
  HAK_RANK_CONFIG,   /* knobs */
  HAK_RANK_REGISTRY, /* list of arenas */
  HAK_RANK_ARENA,    /* one arena's list of heaps */
  HAK_RANK_NURSERY,  /* pages that young Lua arenas share */
  HAK_RANK_PURGE,    /* one purge at a time; tried, not waited for, on allocation paths */
  HAK_RANK_CHUNK,    /* chunks and free pages */
  HAK_RANK_META,     /* metadata memory */
  HAK_RANK_BELL,     /* what wakes the background thread */
  HAK_RANK_COUNT
};

struct haki_lock {
  pthread_mutex_t mutex;
  enum haki_rank rank;
};
#define HAK_LOCK_INIT(r) \
  { PTHREAD_MUTEX_INITIALIZER, (r) }

void haki_lock(struct haki_lock *lock);
void haki_unlock(struct haki_lock *lock);
bool haki_trylock(struct haki_lock *lock);
/* In a forked child: the lock is held by nobody again, whoever held it in the parent. */
void haki_lock_reinit(struct haki_lock *lock);

/* A place where another thread may step in between: tests yield there by a seed. */
#if HAK_FAULT
void haki_sched_point(const char *where);
void haki_sched_seed(uint32_t seed); /* 0: off */
#define HAK_SCHED_POINT(where) haki_sched_point(where)
#else
#define HAK_SCHED_POINT(where) ((void)0)
#endif

#endif

/* drain.c - the background thread: when it is started, sleeps, works, and ends.
 *
 * Why:   what a thread has freed and then sleeps upon goes back to the system all the same; who
 *        asks for memory need not age, purge or count for others in passing.
 * Owns:  the thread, its bell.   Not: what a round does to one pool (l25.c).
 * Locks: DRAIN while the thread is made, stopped and joined; the thread itself never takes it, and
 *        who may hold another lock only tries it. BELL, a leaf, around its sleep. REGISTRY during a
 *        round, pool by pool: pools cannot go away, a fork cannot meet it half-way. Nothing is held
 *        that others wait for while the system makes a thread, for that may call malloc.
 * Start: maybe_start(), run().
 *
 * Not started by a constructor, by the first call or in a fork handler, but by a thread that asks a
 * pool for blocks again and again. It binds no heap and allocates nothing.
 * It works every drain.interval while there is work, then sleeps until the bell rings (bell.h). */
#include "heap/drain.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/knob.h"
#include "base/log.h"
#include "base/stat.h"
#include "heap/arena.h"
#include "map/chunk.h"
#include "os/os.h"

enum { QUIET_ROUNDS = 2, RETRY = 1000000000 /* ns */ };

struct haki_lock haki_drain_lock = HAK_LOCK_INIT(HAK_RANK_DRAIN);
struct haki_lock haki_bell_lock = HAK_LOCK_INIT(HAK_RANK_BELL);

static pthread_t thread;           /* DRAIN, if `joinable` */
static bool joinable;              /* DRAIN: it runs, or has ended and was not joined */
static pthread_cond_t bell;        /* BELL; made anew with each thread */
static bool rung, stopping;        /* BELL */
static _Atomic(bool) barred;       /* by haki_drain_shutdown() */
static _Atomic(uint64_t) retry_at; /* coarse time; 0: at once */

/* ---- sleep ---- */

static void make_bell(void) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&bell, &attr);
  pthread_condattr_destroy(&attr);
  rung = stopping = false;
}

static struct timespec from_now(uint64_t ns) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  ns += (uint64_t)t.tv_nsec;
  t.tv_sec += (time_t)(ns / 1000000000u);
  t.tv_nsec = (long)(ns % 1000000000u);
  return t;
}

/* Until it rings; with ns not 0 so long at most. False: the thread is to end. */
static bool sleep_for(uint64_t ns) {
  struct timespec until = from_now(ns);
  int error = 0;
  haki_lock(&haki_bell_lock);
  while (!rung && !stopping && error == 0)
    error = ns != 0 ? pthread_cond_timedwait(&bell, &haki_bell_lock.mutex, &until)
                    : pthread_cond_wait(&bell, &haki_bell_lock.mutex);
  rung = false;
  bool go_on = !stopping;
  haki_unlock(&haki_bell_lock);
  return go_on;
}

static void ring(bool stop) {
  haki_lock(&haki_bell_lock);
  rung = true;
  stopping = stopping || stop;
  pthread_cond_signal(&bell);
  haki_unlock(&haki_bell_lock);
}

/* Of those who find it asleep one rings. */
static void wake(void) {
  uint32_t asleep = HAK_BELL_ASLEEP;
  if (!atomic_compare_exchange_strong_explicit(&haki_bell_state, &asleep, HAK_BELL_AWAKE,
                                               memory_order_relaxed, memory_order_relaxed))
    return;
  HAK_STAT_ADD(drain, wakeups, 1);
  ring(false);
}

/* ---- work ---- */

static bool is_wanted(void) {
  return HAK_KNOB(drain, enabled) != 0 && !atomic_load_explicit(&barred, memory_order_relaxed);
}

/* pre: REGISTRY held. `again`: its big blocks have more to purge at once. */
static bool drain_arena(struct hak_arena *a, struct haki_l25_drained *done, bool *again) {
  struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
  struct haki_big *big = atomic_load_explicit(&a->large.big, memory_order_acquire);
  bool more = pool != NULL && haki_l25_drain(pool, done);
  if (big == NULL) return more;
  size_t bytes = haki_big_age(big, false), rests = pool != NULL ? haki_rest_age(pool, false) : 0;
  done->bytes += bytes + rests;
  *again = (bytes >= HAK_BIG_TICK_BYTES || rests >= HAK_BIG_TICK_BYTES) && is_wanted();
  return more || !haki_big_idle(big) || (pool != NULL && haki_rest_left(pool));
}

static bool drain_pools(void) {
  struct haki_l25_drained done = {0};
  bool more = false;
  for (uint32_t slot = 0; slot != HAK_NO_SLOT;) {
    haki_lock(&haki_registry_lock);
    uint32_t at = slot;
    bool again = false;
    struct hak_arena *a = haki_arena_next_shared(&slot);
    if (a != NULL) more |= drain_arena(a, &done, &again);
    if (again) slot = at; /* REGISTRY is open between: nobody waits for gigabytes */
    haki_unlock(&haki_registry_lock);
  }
  HAK_STAT_ADD(drain, rounds, 1);
  HAK_STAT_ADD(drain, caches, done.caches);
  HAK_STAT_ADD(drain, blocks, done.blocks);
  HAK_STAT_ADD(drain, bytes, done.bytes);
  return more;
}

/* Memory that waits for its purge is work, but not for ever: what is locked cannot be purged. */
static bool purge(uint64_t *progress) {
  size_t bytes = 0, now_bytes;
  while ((now_bytes = haki_purge_tick()) != 0) bytes += now_bytes;
  uint64_t now = haki_os_now_coarse();
  if (bytes != 0) *progress = now;
  return haki_purge_pending() && now - *progress <= 2 * HAK_KNOB(purge, decay) + RETRY;
}

static bool round_of_work(uint64_t *progress) {
  bool more = drain_pools();
  if (more) *progress = haki_os_now_coarse();
  return purge(progress) || more;
}

/* From here on whoever makes new work rings. */
static void look_again(void) {
  atomic_store_explicit(&haki_bell_state, HAK_BELL_ASLEEP, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst); /* INV bell-1: pairs with do_or_call() l25.c */
  HAK_SCHED_POINT("drain asleep");
}

static void *run(void *unused) {
  uint64_t progress = haki_os_now_coarse();
  haki_os_thread_name("hakmem-drain");
  for (int quiet = 0;;) {
    if (quiet >= QUIET_ROUNDS) look_again();
    quiet = round_of_work(&progress) ? 0 : quiet + 1;
    if (quiet == 0) atomic_store_explicit(&haki_bell_state, HAK_BELL_AWAKE, memory_order_relaxed);
    bool asleep = quiet > QUIET_ROUNDS;
    if (!sleep_for(asleep ? 0 : HAK_KNOB(drain, interval)) || !is_wanted()) break;
    if (!asleep) continue;
    quiet = 0;
    progress = haki_os_now_coarse();
    atomic_store_explicit(&haki_bell_state, HAK_BELL_AWAKE, memory_order_relaxed);
  }
  atomic_store_explicit(&haki_bell_state, HAK_BELL_NOBODY, memory_order_relaxed);
  return unused;
}

/* ---- start and stop ---- */

/* pre: DRAIN held. */
static void start_locked(void) {
  if (atomic_load_explicit(&haki_bell_state, memory_order_relaxed) != HAK_BELL_NOBODY) return;
  if (joinable) pthread_join(thread, NULL); /* it was told to stop, and has */
  make_bell();
  atomic_store_explicit(&haki_bell_state, HAK_BELL_AWAKE, memory_order_relaxed);
  joinable = haki_os_thread(&thread, run);
  if (joinable) {
    HAK_STAT_ADD(drain, starts, 1);
    HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Background thread started");
    return;
  }
  atomic_store_explicit(&haki_bell_state, HAK_BELL_NOBODY, memory_order_relaxed);
  atomic_store_explicit(&retry_at, haki_os_now_coarse() + RETRY, memory_order_relaxed);
  HAK_STAT_ADD(drain, failures, 1);
  HAK_LOG(HAK_LOG_WARN, "[hakmem] No background thread: the pools' users do its work");
}

/* Called by the pools. Whoever makes a thread may come here again from the system's malloc. */
static void maybe_start(void) {
  if (!is_wanted()) return;
  uint64_t at = atomic_load_explicit(&retry_at, memory_order_relaxed);
  if (at != 0 && haki_os_now_coarse() < at) return;
  if (!haki_trylock(&haki_drain_lock)) return;
  if (is_wanted()) start_locked();
  haki_unlock(&haki_drain_lock);
}

/* Inside a walk over the arenas, whose lock the thread may want, its end cannot be waited for: it ends
 * by itself then, and is joined the next time. */
static void stop(void) {
  bool inside = haki_registry_is_mine();
  if (!inside)
    haki_lock(&haki_drain_lock);
  else if (!haki_trylock(&haki_drain_lock))
    return; /* it is being started or stopped: run() looks, too, whether it is wanted */
  if (joinable) ring(true);
  if (joinable && !inside) {
    pthread_join(thread, NULL);
    joinable = false;
    HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Background thread stopped");
  }
  haki_unlock(&haki_drain_lock);
}

void haki_drain_configured(bool enabled) {
  if (enabled && HAK_KNOB(drain, enabled) != 0)
    atomic_store_explicit(&barred, false, memory_order_relaxed);
  if (!is_wanted()) {
    stop();
    return;
  }
  if (!haki_trylock(&haki_drain_lock)) return; /* starts or ends just now */
  if (joinable) ring(false);                   /* the interval may be another one */
  haki_unlock(&haki_drain_lock);
}

void haki_drain_shutdown(void) {
  atomic_store_explicit(&barred, true, memory_order_relaxed);
  stop();
}

void haki_drain_after_fork(void) {
  joinable = rung = stopping = false;
  atomic_store_explicit(&haki_bell_state, HAK_BELL_NOBODY, memory_order_relaxed);
  atomic_store_explicit(&retry_at, 0, memory_order_relaxed);
  if (HAK_TSAN)
    atomic_store_explicit(&barred, true, memory_order_relaxed); /* it allows no thread */
}

void haki_drain_init(void) {
  haki_bell_start = maybe_start;
  haki_bell_wake = wake;
}

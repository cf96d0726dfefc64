/* init.c - start, copies in one process, fork, shutdown.
 *
 * Why:   nothing runs in a constructor; the first call from any thread starts hakmem once.
 * Owns:  haki_core_in_force, the fork handlers.
 * Locks: INIT while starting. A fork takes every lock in rank order, so that the child finds each
 *        structure whole; there the locks are made new.
 * Start: haki_start().
 *
 * The owner among several copies is the first in the loader's order that has our ABI: each copy
 * comes to the same answer without talking to the others, and what is loaded later comes later in
 * that order. Objects with hakmem are linked with -z nodelete, so an owner never goes away. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/knob.h"
#include "base/log.h"
#include "base/stat.h"
#include "heap/arena.h"
#include "heap/core.h"
#include "heap/drain.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "os/os.h"

static void start_here(void);

#define A(type, name, params, args) .name = haki_api_##name,
#define V(name, params, args) .name = haki_api_##name,
#define H(type, name, params) .name = haki_api_##name,
HAK_API const struct hak_core hak_core_v1 = {
    .abi = HAK_ABI_VERSION,
    .size = sizeof(struct hak_core),
    .version = HAK_VERSION,
    .start = start_here,
#include "heap/api.def"
};
#undef A
#undef V
#undef H

_Atomic(const struct hak_core *) haki_core_in_force;
static struct haki_lock init_lock = HAK_LOCK_INIT(HAK_RANK_INIT);
static _Atomic(bool) started; /* this copy owns the state */

/* ---- fork ---- */

static struct haki_lock *const fork_locks[] = {
    &haki_drain_lock,   &init_lock,       &haki_knob_lock,  &haki_registry_lock, &haki_heaps_lock,
    &haki_nursery_lock, &haki_purge_lock, &haki_chunk_lock, &haki_meta_lock,     &haki_bell_lock,
};

/* Spin locks of pools and caches are leaves. pre: REGISTRY and ARENA held. */
static void each_arena(void (*visit)(struct hak_arena *a, struct haki_l25 *pool,
                                     struct haki_big *big)) {
  for (hak_list *l = haki_arenas.next; l != &haki_arenas; l = l->next) {
    struct hak_arena *a = HAK_LIST_OF(l, struct hak_arena, link);
    visit(a, atomic_load_explicit(&a->pool, memory_order_acquire),
          atomic_load_explicit(&a->large.big, memory_order_acquire));
  }
}

static void lock_pool(struct hak_arena *a, struct haki_l25 *pool, struct haki_big *big) {
  (void)a;
  if (pool != NULL) haki_shards_lock_all(&pool->shards);
  if (big != NULL) haki_big_lock_all(big);
}
static void unlock_pool(struct hak_arena *a, struct haki_l25 *pool, struct haki_big *big) {
  (void)a;
  if (pool != NULL) haki_shards_unlock_all(&pool->shards);
  if (big != NULL) haki_big_unlock_all(big);
}
static void inherit_pool(struct hak_arena *a, struct haki_l25 *pool, struct haki_big *big) {
  struct haki_l25_cache *mine = haki_arena_cache(a, false);
  if (big != NULL) haki_big_after_fork(big, mine != NULL ? &mine->front : NULL);
  unlock_pool(a, pool, big);
  haki_large_after_fork(&a->large);
  if (pool != NULL) haki_l25_after_fork(pool, mine);
}

static void before_fork(void) {
  for (size_t i = 0; i < HAK_COUNT_OF(fork_locks); i++) haki_lock(fork_locks[i]);
  each_arena(lock_pool);
}
static void in_parent(void) {
  each_arena(unlock_pool);
  for (size_t i = HAK_COUNT_OF(fork_locks); i-- > 0;) haki_unlock(fork_locks[i]);
}
static void in_child(void) {
  each_arena(inherit_pool);
  haki_drain_after_fork();
  for (size_t i = HAK_COUNT_OF(fork_locks); i-- > 0;) haki_lock_reinit(fork_locks[i]);
  HAK_STAT_ADD(forks, children, 1);
}

/* ---- start ---- */

static void watch_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

static void start_here(void) {
  static pthread_once_t watching = PTHREAD_ONCE_INIT;
  pthread_once(&watching, watch_forks); /* first: INIT is not held in a child for ever */
  haki_lock(&init_lock);
  if (!atomic_load_explicit(&started, memory_order_relaxed)) {
    int saved = errno;
    haki_knob_load_env();
    haki_heaps_start();
    haki_arena_init_default();
    haki_drain_init();
    HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Version " HAK_VERSION " started");
    haki_big_log(&haki_default_arena.large.limits);
    HAK_LOG(HAK_LOG_INFO, "[L2.5_POOL] Initialized (shards=%u, max=%u)",
            haki_arena_first_shards(&haki_default_arena),
            atomic_load_explicit(&haki_default_arena.max_shards, memory_order_relaxed));
    atomic_store_explicit(&started, true, memory_order_relaxed);
    errno = saved;
  }
  haki_unlock(&init_lock);
}

static int consider(uintptr_t table, void *owner) {
  const struct hak_core *core = (const struct hak_core *)table;
  if (core->abi != HAK_ABI_VERSION || core->size != sizeof *core) {
    haki_warn("another copy of hakmem has ABI %u, this one %u: they run apart", core->abi,
              HAK_ABI_VERSION);
    return 0;
  }
  *(const struct hak_core **)owner = core;
  return 1;
}

/* The first copy in load order with our ABI; ourselves when there is none. The caller may be malloc
 * itself (edge/preload.c): nothing on the way allocates. */
static const struct hak_core *find_owner(void) {
  const struct hak_core *owner = &hak_core_v1;
  haki_os_each_symbol("hak_core_v1", consider, &owner);
  return owner;
}

HAK_COLD const struct hak_core *haki_start(void) {
  int saved = errno;
  const struct hak_core *owner = find_owner(); /* each caller comes to the same answer */
  owner->start();
  errno = saved;
  /* release: pairs with haki_core() */
  atomic_store_explicit(&haki_core_in_force, owner, memory_order_release);
  return owner;
}

/* ---- trim and shutdown ---- */

/* What no thread has for itself, in every shared arena. */
static void trim_shared(void) {
  bool entered = haki_registry_enter();
  for (uint32_t slot = 0; slot != HAK_NO_SLOT;) {
    struct hak_arena *a = haki_arena_next_shared(&slot);
    if (a == NULL) continue;
    struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
    if (pool != NULL) haki_l25_trim(pool, NULL);
    haki_large_trim(&a->large, NULL);
    haki_orphans_trim(a);
  }
  haki_registry_leave(entered);
}

size_t haki_api_trim(void) {
  haki_trim_thread();
  trim_shared();
  return haki_purge(true);
}

void haki_api_shutdown(void) {
  haki_drain_shutdown();
  haki_api_trim();
}

/* heap.c - which thread has which heap in a shared arena.
 *
 * Why:   a thread allocates from a heap of its own, without a lock; what it leaves behind when it
 *        exits must come back to use.
 * Owns:  the thread's chain of heaps, the orphans of each arena, the pool of heap descriptors.
 * Locks: ARENA (one for all arenas) for lists of heaps; never on a hot path.
 * Start: haki_thread_heap(), exit_thread().
 *
 * A heap's life: pool -> thread (in arena->heaps) -> at exit, without slabs: pool; with slabs:
 * arena->orphans -> taken whole by a new thread, or slab by slab by one that needs memory.
 * The chain starts at haki_tls_heap, the heap in the default arena; heaps of other shared arenas
 * follow. A destroyed arena leaves its heaps in the chains of their threads, with arena NULL; each
 * thread puts its own into the pool. Once a thread's destructor has run it has no heap for ever:
 * its frees are remote, its allocations borrow an orphan under the lock.
 * In a forked child the heaps of the threads that are not there stay in arena->heaps: they may be
 * half-way through anything, so nobody adopts them. Their blocks can be freed, remotely. */
#include <pthread.h>

#include "base/knob.h"
#include "heap/arena.h"
#include "heap/core.h"
#include "map/chunk.h"
#include "map/meta.h"

struct haki_heap haki_empty_heap;
static struct haki_heap dead_heap; /* the chain of a thread that is past its destructor */
__thread struct haki_heap *haki_tls_heap = &haki_empty_heap;

struct haki_lock haki_heaps_lock = HAK_LOCK_INIT(HAK_RANK_ARENA);
/* Unused descriptors, [1] for private arenas: whoever frees a block may look at is_private while the
 * slab changes hands and its old heap is used again, so that a descriptor never changes sides. */
static struct haki_heap *pool[2]; /* ARENA */
static pthread_key_t exit_key;
static bool have_key;

static struct haki_heap *take_descriptor(bool is_private) {
  haki_lock(&haki_heaps_lock);
  struct haki_heap *h = pool[is_private];
  if (h != NULL) pool[is_private] = h->next_of_thread;
  haki_unlock(&haki_heaps_lock);
  if (h != NULL) return h;
  h = haki_meta_alloc(sizeof *h);
  if (h != NULL) h->is_private = is_private;
  return h;
}

/* pre: ARENA held; no thread has it in its chain. */
static void put_descriptor(struct haki_heap *h) {
  haki_heap_set_arena(h, NULL);
  h->next_of_thread = pool[h->is_private];
  pool[h->is_private] = h;
}

struct haki_heap *haki_heap_new(struct hak_arena *a) {
  struct haki_heap *h = take_descriptor(a->is_private);
  if (h == NULL) return NULL;
  haki_cell_set(&h->refills, 0);
  haki_cell_set(&h->fresh, 0);
  haki_cell_set(&h->retired, 0);
  haki_cell_set(&h->remote_frees, 0);
  haki_cell_set(&h->adopted, 0);
  h->next_of_thread = NULL;
  h->l25 = NULL;
  h->retained = a->is_private ? &a->retained : NULL;
  h->nursery.limit = 0;
  haki_heap_init(h, a, &a->quota);
  return h;
}

/* pre: ARENA held, no slabs left. What the heap counted stays with its arena. */
static void bury(struct haki_heap *h) {
  struct hak_arena *a = haki_heap_arena(h);
  hak_cell *from[] = {&h->refills, &h->fresh, &h->retired, &h->remote_frees, &h->adopted};
  for (size_t i = 0; i < HAK_COUNT_OF(from); i++)
    haki_cell_add(&a->gone[i], haki_cell_get(from[i]));
  haki_slabs_free(h);
}

/* pre: ARENA held, no slabs left. */
static void retire_locked(struct haki_heap *h) {
  bury(h);
  put_descriptor(h);
}

void haki_heap_retire(struct haki_heap *h) {
  haki_lock(&haki_heaps_lock);
  retire_locked(h);
  haki_unlock(&haki_heaps_lock);
}

/* ---- the thread's chain ---- */

bool haki_heap_is_mine(const struct haki_heap *h) {
  for (struct haki_heap *i = haki_tls_heap; i != NULL; i = i->next_of_thread)
    if (i == h) return true;
  return false;
}

static void bind(struct haki_heap *h) {
  struct hak_arena *a = haki_heap_arena(h);
  atomic_store_explicit(&h->thread, (uintptr_t)pthread_self(), memory_order_relaxed);
  if (a == &haki_default_arena) {
    haki_tls_heap = h;
    if (have_key) pthread_setspecific(exit_key, h);
  } else {
    h->next_of_thread = haki_tls_heap->next_of_thread;
    haki_tls_heap->next_of_thread = h;
  }
}

/* An orphan of the arena, or a new heap; listed, not in the chain yet. */
static struct haki_heap *join(struct hak_arena *a) {
  struct haki_heap *h = NULL;
  haki_lock(&haki_heaps_lock);
  if (!haki_list_empty(&a->orphans)) {
    h = HAK_LIST_OF(a->orphans.next, struct haki_heap, link);
    haki_list_remove(&h->link);
    haki_list_insert(&a->heaps, &h->link);
    atomic_fetch_sub_explicit(&a->orphan_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->heap_count, 1, memory_order_relaxed);
  }
  haki_unlock(&haki_heaps_lock);
  if (h != NULL) return h;
  h = haki_heap_new(a);
  if (h == NULL) return NULL;
  haki_lock(&haki_heaps_lock);
  haki_list_insert(&a->heaps, &h->link);
  atomic_fetch_add_explicit(&a->heap_count, 1, memory_order_relaxed);
  haki_unlock(&haki_heaps_lock);
  return h;
}

/* Heaps whose arena has gone leave the chain. */
static void sweep_chain(void) {
  haki_lock(&haki_heaps_lock);
  struct haki_heap **at = &haki_tls_heap->next_of_thread;
  while (*at != NULL) {
    struct haki_heap *h = *at;
    if (haki_heap_arena(h) != NULL) {
      at = &h->next_of_thread;
    } else {
      *at = h->next_of_thread;
      put_descriptor(h);
    }
  }
  haki_unlock(&haki_heaps_lock);
}

HAK_COLD static struct haki_heap *thread_heap_slow(struct hak_arena *a) {
  if (haki_tls_heap == &dead_heap) return NULL;
  if (haki_tls_heap == &haki_empty_heap) {
    struct haki_heap *h = join(&haki_default_arena);
    if (h == NULL) return NULL;
    bind(h);
    if (a == &haki_default_arena) return h;
  }
  sweep_chain();
  struct haki_heap *h = join(a);
  if (h != NULL) bind(h);
  return h;
}

struct haki_heap *haki_thread_heap(struct hak_arena *a) {
  struct haki_heap *first = haki_tls_heap, *before = NULL;
  for (struct haki_heap *h = first; h != NULL; before = h, h = h->next_of_thread) {
    if (haki_heap_arena(h) != a) continue;
    if (before != NULL && before != first) { /* the arena in use comes first: chains may be long */
      before->next_of_thread = h->next_of_thread;
      h->next_of_thread = first->next_of_thread;
      first->next_of_thread = h;
    }
    return h;
  }
  return thread_heap_slow(a);
}

size_t haki_trim_thread(void) {
  size_t bytes = 0;
  haki_lock(
      &haki_heaps_lock); /* others may reset or destroy an arena that we do not use just now */
  for (struct haki_heap *h = haki_tls_heap; h != NULL; h = h->next_of_thread) {
    if (haki_heap_arena(h) == NULL) continue;
    bytes += haki_heap_trim(h);
    if (h->l25 != NULL) {
      bytes += haki_l25_trim(h->l25->pool, h->l25);
      bytes += haki_large_trim(&haki_heap_arena(h)->large, h->l25);
    }
  }
  haki_unlock(&haki_heaps_lock);
  return bytes;
}

/* ---- large blocks ---- */

uint32_t haki_arena_first_shards(struct hak_arena *a) {
  uint32_t most = atomic_load_explicit(&a->max_shards, memory_order_relaxed);
  uint32_t first = atomic_load_explicit(&a->initial_shards, memory_order_relaxed);
  if (first > most) first = most;
  return 1u << (31 - __builtin_clz(first)); /* a power of two */
}

static struct haki_l25 *pool_of(struct hak_arena *a) {
  struct haki_l25 *shared = atomic_load_explicit(&a->pool, memory_order_acquire);
  if (HAK_LIKELY(shared != NULL)) return shared;
  uint32_t most = atomic_load_explicit(&a->max_shards, memory_order_relaxed);
  haki_lock(&haki_heaps_lock);
  shared = atomic_load_explicit(&a->pool, memory_order_relaxed);
  if (shared == NULL) {
    shared = haki_l25_new(&a->quota, &a->large, haki_arena_first_shards(a), most);
    /* release: pairs with the load above */
    atomic_store_explicit(&a->pool, shared, memory_order_release);
  }
  haki_unlock(&haki_heaps_lock);
  return shared;
}

struct haki_l25_cache *haki_arena_cache(struct hak_arena *a, bool make) {
  if (a->is_private) return NULL;
  struct haki_heap *h = haki_tls_heap;
  while (h != NULL && haki_heap_arena(h) != a) h = h->next_of_thread;
  if (h == NULL && make) h = haki_thread_heap(a);
  if (h == NULL || h->l25 != NULL || !make) return h != NULL ? h->l25 : NULL;
  struct haki_l25 *shared = pool_of(a);
  if (shared != NULL) h->l25 = haki_l25_join(shared);
  return h->l25;
}

void haki_arena_set_max_shards(struct hak_arena *a, uint32_t most) {
  atomic_store_explicit(&a->max_shards, most, memory_order_relaxed);
  struct haki_l25 *shared = atomic_load_explicit(&a->pool, memory_order_acquire);
  if (shared != NULL) atomic_store_explicit(&shared->shards.most, most, memory_order_relaxed);
}

void haki_heaps_settle(struct hak_arena *a) {
  haki_lock(&haki_heaps_lock); /* orphans belong to whoever holds it; as in haki_trim_thread() */
  for (struct haki_heap *h = haki_tls_heap; h != NULL; h = h->next_of_thread)
    if (haki_heap_arena(h) == a) haki_heap_drain(h);
  for (hak_list *l = a->orphans.next; l != &a->orphans; l = l->next)
    haki_heap_drain(HAK_LIST_OF(l, struct haki_heap, link));
  haki_unlock(&haki_heaps_lock);
}

/* ---- exit ---- */

static void leave(struct haki_heap *h) {
  haki_lock(&haki_heaps_lock); /* keeps the arena from going away meanwhile */
  struct hak_arena *a = haki_heap_arena(h);
  h->next_of_thread = NULL;
  if (a != NULL) {
    if (h->l25 != NULL) haki_l25_leave(h->l25);
    h->l25 = NULL;
    haki_heap_trim(h);
  }
  if (a == NULL) {
    put_descriptor(h);
  } else {
    haki_list_remove(&h->link);
    atomic_fetch_sub_explicit(&a->heap_count, 1, memory_order_relaxed);
    atomic_store_explicit(&h->thread, 0, memory_order_relaxed);
    if (haki_heap_is_empty(h)) {
      retire_locked(h);
    } else {
      haki_list_append(&a->orphans, &h->link);
      atomic_fetch_add_explicit(&a->orphan_count, 1, memory_order_relaxed);
    }
  }
  haki_unlock(&haki_heaps_lock);
}

static void exit_thread(void *unused) {
  (void)unused;
  struct haki_heap *h = haki_tls_heap;
  haki_tls_heap = &dead_heap;
  while (h != NULL) {
    struct haki_heap *next = h->next_of_thread;
    leave(h);
    h = next;
  }
}

/* ---- orphans ---- */

static bool adopt(struct haki_heap *h) {
  struct hak_arena *a = haki_heap_arena(h);
  if (a->is_private || atomic_load_explicit(&a->orphan_count, memory_order_relaxed) == 0)
    return false;
  size_t most = (size_t)HAK_KNOB(heap, adopt), moved = 0;
  haki_lock(&haki_heaps_lock);
  hak_list *next;
  for (hak_list *l = a->orphans.next; l != &a->orphans && moved < most; l = next) {
    next = l->next;
    struct haki_heap *o = HAK_LIST_OF(l, struct haki_heap, link);
    moved += haki_heap_move_slabs(o, h, most - moved);
    if (haki_heap_is_empty(o)) {
      haki_list_remove(&o->link);
      atomic_fetch_sub_explicit(&a->orphan_count, 1, memory_order_relaxed);
      retire_locked(o);
    }
  }
  haki_unlock(&haki_heaps_lock);
  return moved != 0;
}

void haki_orphans_trim(struct hak_arena *a) {
  if (atomic_load_explicit(&a->orphan_count, memory_order_relaxed) == 0) return;
  haki_lock(&haki_heaps_lock);
  hak_list *next;
  for (hak_list *l = a->orphans.next; l != &a->orphans; l = next) {
    next = l->next;
    struct haki_heap *o = HAK_LIST_OF(l, struct haki_heap, link);
    haki_heap_trim(o);
    if (!haki_heap_is_empty(o)) continue;
    haki_list_remove(&o->link);
    atomic_fetch_sub_explicit(&a->orphan_count, 1, memory_order_relaxed);
    retire_locked(o);
  }
  haki_unlock(&haki_heaps_lock);
}

void *haki_late_alloc(struct hak_arena *a, unsigned c) {
  struct haki_heap *h = NULL, *fresh = NULL;
  void *p = NULL;
  if (atomic_load_explicit(&a->orphan_count, memory_order_relaxed) == 0) {
    fresh = haki_heap_new(a);
    if (fresh == NULL) return NULL;
  }
  haki_lock(&haki_heaps_lock);
  if (fresh != NULL) {
    haki_list_append(&a->orphans, &fresh->link);
    atomic_fetch_add_explicit(&a->orphan_count, 1, memory_order_relaxed);
  }
  /* borrowed, not adopted: nobody else has it while the lock is held */
  if (!haki_list_empty(&a->orphans)) {
    h = HAK_LIST_OF(a->orphans.next, struct haki_heap, link);
    uint32_t orphans = atomic_exchange_explicit(&a->orphan_count, 0, memory_order_relaxed);
    p = haki_heap_refill(h, c); /* sees no orphan to adopt: the lock is ours already */
    atomic_store_explicit(&a->orphan_count, orphans, memory_order_relaxed);
    haki_heap_flush(h);
    atomic_store_explicit(&h->thread, 0, memory_order_relaxed);
  }
  haki_unlock(&haki_heaps_lock);
  return p;
}

/* ---- reset, destroy, fork, start ---- */

/* pre: nobody else uses the arena. Its threads may exit or trim at any time, and then look after the
 * caches that they have there: from here on they have none. */
void haki_arena_drop_caches(struct hak_arena *a) {
  haki_lock(&haki_heaps_lock);
  for (hak_list *l = a->heaps.next; l != &a->heaps; l = l->next)
    HAK_LIST_OF(l, struct haki_heap, link)->l25 = NULL;
  haki_unlock(&haki_heaps_lock);
}

/* pre: nobody else uses the arena. */
void haki_arena_drop_heaps(struct hak_arena *a, bool destroy) {
  haki_lock(&haki_heaps_lock);
  while (!haki_list_empty(&a->orphans)) {
    struct haki_heap *h = HAK_LIST_OF(a->orphans.next, struct haki_heap, link);
    haki_list_remove(&h->link);
    atomic_fetch_sub_explicit(&a->orphan_count, 1, memory_order_relaxed);
    haki_heap_drop(h, 0);
    retire_locked(h);
  }
  hak_list *next;
  for (hak_list *l = a->heaps.next; l != &a->heaps; l = next) {
    next = l->next;
    struct haki_heap *h = HAK_LIST_OF(l, struct haki_heap, link);
    haki_heap_drop(h, 0);
    if (!destroy) continue;
    bury(h);
    haki_list_remove(&h->link);
    atomic_fetch_sub_explicit(&a->heap_count, 1, memory_order_relaxed);
    haki_heap_set_arena(h, NULL); /* its thread pools it */
  }
  haki_unlock(&haki_heaps_lock);
}

void haki_heaps_start(void) {
  haki_heap_adopt = adopt;
  have_key = pthread_key_create(&exit_key, exit_thread) == 0;
}

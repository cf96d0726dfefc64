/* l25.c - thread caches in front of the shards.
 * Why, Owns, Locks: see l25.h.
 * Start: haki_l25_take(), haki_l25_give().
 *
 * INV l25-1: a block in the pool has kind POOLED, HAK_PAGE_GET(p, large) names the pool's arena, and p->size is
 *            charged to pool->quota. */
#include "pool/l25.h"

#include "base/knob.h"
#include "base/log.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "os/os.h"
#include "pool/bigrest.h"

/* Operations between ticks, without and with a background thread. Even: a thread that takes and gives
 * by turns ticks always in the same place, which a processor foresees; with odd numbers such a pair
 * took 10 % longer. */
enum { TICK_OPS = 16, RARE_TICK_OPS = 64, CHECK_OPS = 10000 };
enum { LARGER_MOST = 64 }; /* times that a larger block serves before a fresh one is cut */

static void nobody(void) {}
_Atomic(uint32_t) haki_bell_state;
void (*haki_bell_start)(void) = nobody;
void (*haki_bell_wake)(void) = nobody;

struct haki_l25 *haki_l25_new(struct haki_quota *quota, struct haki_large *large, uint32_t first,
                              uint32_t most) {
  struct haki_l25 *pool = haki_meta_alloc(sizeof *pool);
  if (pool == NULL) return NULL;
  pool->quota = quota;
  pool->large = large;
  atomic_store_explicit(&pool->aged, haki_os_now_coarse(), memory_order_relaxed);
  if (haki_shards_init(&pool->shards, first, most)) return pool;
  haki_meta_free(pool, sizeof *pool);
  return NULL;
}

/* The next operation ticks: a sleeping background thread is woken at the first. */
static struct haki_l25_cache *joined(struct haki_l25_cache *c) {
  haki_bias_enter(&c->bias);
  c->tick_at = haki_cell_get(&c->ops) + 1;
  haki_bias_leave(&c->bias);
  return c;
}

struct haki_l25_cache *haki_l25_join(struct haki_l25 *pool) {
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next) {
    uint32_t dead = HAK_L25_FREE;
    /* acquire: pairs with haki_l25_leave() */
    if (atomic_compare_exchange_strong_explicit(&c->alive, &dead, HAK_L25_ALIVE,
                                                memory_order_acquire, memory_order_relaxed))
      return joined(c);
  }
  c = haki_meta_alloc(sizeof *c);
  if (c == NULL) return NULL;
  c->pool = pool;
  c->aged = haki_os_now_coarse();
  atomic_store_explicit(&c->alive, HAK_L25_ALIVE, memory_order_relaxed);
  c->next = atomic_load_explicit(&pool->caches, memory_order_relaxed);
  /* release: pairs with the walks over the list */
  while (!atomic_compare_exchange_weak_explicit(&pool->caches, &c->next, c, memory_order_release,
                                                memory_order_relaxed)) {
  }
  return joined(c);
}

static uint64_t key_of(const struct haki_l25_cache *cache, uintptr_t site) {
  uint64_t thread = (uintptr_t)cache >> 6;
  switch (HAK_KNOB(l25, shard_by)) {
    case 0: return site;
    case 1: return thread;
    default: return site ^ (thread << 20);
  }
}

/* ---- blocks leave the pool ---- */

static unsigned class_of(const struct page *p) { return haki_l25_class(p->length); }

static void count(_Atomic(uint64_t) *what, uint64_t n) {
  atomic_fetch_add_explicit(what, n, memory_order_relaxed);
}

void haki_l25_release(struct haki_l25 *pool, struct page *p) {
  size_t n = p->length, size = p->size;
  count(&pool->count[class_of(p)].total, (uint64_t)-1);
  p->size = 0;
  HAK_PAGE_SET(p, large, NULL);
  HAK_PAGE_SET(p, home, NULL);
  haki_run_spread_touched(p, n);
  HAK_PAGE_SET(p, flags, HAK_PAGE_WAS_LARGE);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  haki_pages_give(p, n);
  haki_quota_uncharge(pool->quota, size);
}

static size_t release_chain(struct haki_l25 *pool, struct page *chain) {
  size_t bytes = 0;
  while (chain != NULL) {
    struct page *next = haki_page_next(chain);
    bytes += chain->size;
    haki_l25_release(pool, chain);
    chain = next;
  }
  return bytes;
}

/* ---- between cache and shards ---- */

static void push_lifo(struct haki_l25_cache *cache, unsigned c, struct page *p) {
  struct haki_l25_class *k = &cache->cls[c];
  haki_page_set_next(p, k->lifo);
  k->lifo = p;
  k->lifo_count++;
  cache->bytes += p->size;
}

static struct page *pop_lifo(struct haki_l25_cache *cache, unsigned c) {
  struct haki_l25_class *k = &cache->cls[c];
  struct page *p = k->lifo;
  if (p == NULL) return NULL;
  k->lifo = haki_page_next(p);
  k->lifo_count--;
  cache->bytes -= p->size;
  if (k->lifo_count < k->low) k->low = k->lifo_count;
  return p;
}

/* Up to n blocks from behind the ring go to a shard in one batch. Returns how many. */
static size_t flush(struct haki_l25_cache *cache, unsigned c, size_t n) {
  struct haki_l25_class *k = &cache->cls[c];
  struct page *chain = NULL;
  size_t got = 0;
  while (got < n) {
    struct page *p;
    if (k->batched != 0) {
      p = k->batch[--k->batched];
      cache->bytes -= p->size;
    } else {
      p = pop_lifo(cache, c);
    }
    if (p == NULL) break;
    haki_page_set_next(p, chain);
    chain = p;
    got++;
  }
  if (got == 0) return 0;
  haki_shards_put(&cache->pool->shards, c, key_of(cache, k->site), chain, got);
  haki_cell_add(&cache->transfers, 1);
  return got;
}

static void keep(struct haki_l25_cache *cache, struct page *p) {
  unsigned c = class_of(p);
  p = haki_ring_push(&cache->cls[c].ring, p);
  if (p == NULL) return;
  push_lifo(cache, c, p);
  if (HAK_UNLIKELY(cache->bytes > HAK_KNOB(l25, cache_bytes) ||
                   cache->cls[c].lifo_count >= UINT16_MAX))
    flush(cache, c, HAK_BATCH);
}

static bool drain_inbound(struct haki_l25_cache *cache) {
  struct page *p = haki_inbox_take(&cache->inbound);
  if (p == NULL) return false;
  size_t n = 0;
  while (p != NULL) {
    struct page *next = haki_page_next(p);
    keep(cache, p);
    n++;
    p = next;
  }
  haki_cell_add(&cache->remote_frees, n);
  return true;
}

/* ---- ageing ---- */

/* Half of the ring moves behind it when nobody has asked for a block of the class. Returns how many. */
static size_t age_ring(struct haki_l25_cache *cache, unsigned c) {
  struct haki_l25_class *k = &cache->cls[c];
  uint64_t takes = haki_cell_get(&k->takes);
  size_t n = takes == k->seen_takes ? (k->ring.n + 1) / 2 : 0;
  for (size_t i = 0; i < n; i++) push_lifo(cache, c, haki_ring_oldest(&k->ring));
  k->seen_takes = takes;
  return n;
}

/* Half of what was not needed since the last time goes to the shards. */
static void age_cache(struct haki_l25_cache *cache) {
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++) {
    struct haki_l25_class *k = &cache->cls[c];
    size_t idle = (k->low + k->batched + 1u) / 2 + age_ring(cache, c);
    if (idle != 0) flush(cache, c, idle);
    k->low = k->lifo_count;
  }
}

/* Blocks freed to a thread that does not come for them. */
static size_t drain_unfetched(struct haki_l25_cache *c) {
  struct page *p = haki_inbox_take(&c->inbound);
  size_t n = 0;
  while (p != NULL) {
    struct page *next = haki_page_next(p);
    haki_shards_put_remote(&c->pool->shards, class_of(p), (uintptr_t)c >> 6, p);
    n++;
    p = next;
  }
  return n;
}

static bool has_thread(struct haki_l25_cache *c) {
  return atomic_load_explicit(&c->alive, memory_order_relaxed) == HAK_L25_ALIVE;
}

/* What was freed for threads that have gone moves to the shards; with `all`, also what others have not
 * fetched yet. */
static void empty_inboxes(struct haki_l25 *pool, bool all) {
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next)
    if (all || !has_thread(c)) drain_unfetched(c);
}

/* Every second block of each shard goes back to its chunk, all of them when `all`. */
static size_t age_shards(struct haki_l25 *pool, bool all) {
  size_t bytes = 0;
  uint32_t count = haki_shards_count(&pool->shards);
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++)
    for (uint32_t w = 0; w < (count + 63) / 64; w++) {
      uint64_t bits = atomic_load_explicit(&pool->shards.nonempty[c][w], memory_order_relaxed);
      for (; bits != 0; bits &= bits - 1) {
        uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
        bytes += release_chain(pool, haki_shards_shed(&pool->shards, c, i, all));
      }
    }
  return bytes;
}

size_t haki_l25_age(struct haki_l25 *pool) {
  uint64_t now = haki_os_now_coarse();
  uint64_t last = atomic_load_explicit(&pool->aged, memory_order_relaxed);
  if (now - last < HAK_KNOB(l25, decay) / 2) return 0;
  if (!atomic_compare_exchange_strong_explicit(&pool->aged, &last, now, memory_order_relaxed,
                                               memory_order_relaxed))
    return 0; /* somebody else does it */
  empty_inboxes(pool, false);
  size_t bytes = age_shards(pool, false);
  atomic_fetch_add_explicit(&pool->drained, bytes, memory_order_relaxed);
  return bytes;
}

/* Instead of the background thread, or to get it. A thread is made only where a block is asked for:
 * C libraries free what a thread leaves behind under a lock that making one takes, too. */
static void do_or_call(struct haki_l25 *pool, uint64_t ops, bool taking) {
  uint64_t before = atomic_fetch_add_explicit(&pool->ops, ops, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst); /* INV bell-1: pairs with look_again() heap/drain.c */
  if (atomic_load_explicit(&haki_bell_state, memory_order_relaxed) != HAK_BELL_NOBODY) {
    haki_bell_ring();
    return;
  }
  if (before / CHECK_OPS != (before + ops) / CHECK_OPS) haki_shards_check(&pool->shards);
  if (taking && ops >= TICK_OPS - 1) haki_bell_start(); /* not for a block or two */
}

/* Now and then, whoever comes by: everything works without a thread of its own.
 * pre: the cache's lock is held; it is let go meanwhile, for whatever is called may allocate. */
HAK_COLD void haki_l25_tick(struct haki_l25_cache *cache, bool taking) {
  struct haki_l25 *pool = cache->pool;
  uint64_t now = haki_os_now_coarse(), at = haki_cell_get(&cache->ops), ops = at - cache->ticked;
  cache->ticked = at;
  bool alone = atomic_load_explicit(&haki_bell_state, memory_order_relaxed) == HAK_BELL_NOBODY;
  cache->tick_at = at + (alone ? TICK_OPS - !taking : RARE_TICK_OPS); /* alone: in takes at last */
  if (now - cache->aged >= HAK_KNOB(l25, decay) / 2) {
    cache->aged = now;
    age_cache(cache);
  }
  struct haki_big *big = cache->front.big;
  if (big != NULL) haki_big_tick(&cache->front, now);
  haki_bias_leave(&cache->bias);
  do_or_call(pool, ops, taking);
  bool purge = haki_l25_age(pool) != 0;
  if (big != NULL) haki_big_age(big, false);
  if (big != NULL) haki_rest_age(pool, false);
  if (purge || big != NULL) haki_purge_tick(); /* what was evicted lies in the chunks */
  haki_bias_enter(&cache->bias);
}

/* ---- take and give ---- */

static struct page *take_cached(struct haki_l25_cache *cache, unsigned c) {
  struct page *p = haki_ring_pop(&cache->cls[c].ring);
  return p != NULL ? p : pop_lifo(cache, c);
}

static struct page *take_shared(struct haki_l25_cache *cache, unsigned c, uintptr_t site) {
  struct haki_l25_class *k = &cache->cls[c];
  if (k->batched == 0) {
    k->site = site;
    k->batched = (uint16_t)haki_shards_take(&cache->pool->shards, c, key_of(cache, site), k->batch,
                                            HAK_BATCH);
    if (k->batched == 0) return NULL;
    haki_cell_add(&cache->transfers, 1);
    for (unsigned i = 0; i < k->batched; i++) cache->bytes += k->batch[i]->size;
  }
  struct page *p = k->batch[--k->batched];
  cache->bytes -= p->size;
  return p;
}

/* A block of up to half as much again, before untouched memory is taken: how many of each class are in
 * use changes all the time, and what one class had at its peak would lie there while others fault. */
static struct page *take_larger(struct haki_l25_cache *cache, unsigned c, uintptr_t site) {
  struct haki_l25_class *asked = &cache->cls[c];
  size_t n = haki_l25_pages(c), most = n + (n + 1) / 2;
  if (asked->larger == LARGER_MOST) { /* it keeps missing: time that it had one of its own */
    asked->larger = 0;
    return NULL;
  }
  for (c++; c < HAK_L25_CLASSES && haki_l25_pages(c) <= most; c++) {
    struct page *p = take_cached(cache, c);
    bool batched = cache->cls[c].batched != 0;
    if (p == NULL && (batched || haki_shards_have(&cache->pool->shards, c)))
      p = take_shared(cache, c, site);
    if (p == NULL) continue;
    asked->larger++;
    return p;
  }
  return NULL;
}

static struct page *take_fresh(struct haki_l25_cache *cache, unsigned c) {
  size_t n = haki_l25_pages(c);
  struct page *p = haki_run_cut(&cache->run, n);
  if (p == NULL) return NULL;
  count(&cache->pool->count[c].total, 1);
  p->length = n;
  p->size = 0;
  HAK_PAGE_SET(p, large, cache->pool->large);
  HAK_PAGE_SET(p, flags, 0);
  return p;
}

HAK_HOT struct page *haki_l25_take(struct haki_l25_cache *cache, size_t size, uintptr_t site) {
  unsigned c = haki_l25_class_of(size);
  haki_bias_enter(&cache->bias);
  haki_l25_count_op(cache, true);
  struct page *p = take_cached(cache, c);
  if (p == NULL && drain_inbound(cache)) p = take_cached(cache, c);
  if (HAK_UNLIKELY(p == NULL)) {
    p = take_shared(cache, c, site);
    if (p == NULL) p = take_larger(cache, c, site);
    if (p == NULL) p = take_fresh(cache, c);
    if (p != NULL) haki_cell_add(&cache->misses, 1);
  }
  if (HAK_LIKELY(p != NULL)) haki_cell_add(&cache->cls[class_of(p)].takes, 1);
  haki_bias_leave(&cache->bias);
  if (p == NULL) return NULL;
  HAK_PAGE_SET(p, home, cache);
  HAK_PAGE_SET(p, kind, HAK_PAGE_RUN);
  return p;
}

static void count_give(struct haki_l25_cache *cache, struct haki_l25 *pool, unsigned c) {
  if (cache != NULL)
    haki_cell_add(&cache->cls[c].gives, 1);
  else
    count(&pool->count[c].gives, 1);
}

HAK_HOT void haki_l25_give(struct haki_l25_cache *cache, struct page *p) {
  struct haki_l25_cache *home = HAK_PAGE_GET(p, home);
  HAK_PAGE_SET(p, kind, HAK_PAGE_POOLED);
  count_give(cache, home->pool, class_of(p));
  if (HAK_LIKELY(home == cache && cache != NULL)) {
    haki_bias_enter(&cache->bias);
    keep(cache, p);
    haki_l25_count_op(cache, false);
    haki_bias_leave(&cache->bias);
  } else if (has_thread(home)) {
    if (haki_inbox_push(&home->inbound, p)) haki_bell_ring();
  } else {
    haki_shards_put_remote(&home->pool->shards, class_of(p), (uintptr_t)home >> 6, p);
    haki_bell_ring();
  }
}

void haki_l25_give_up(struct haki_l25_cache *cache, struct page *p) {
  struct haki_l25 *pool = HAK_PAGE_GET(p, home)->pool;
  count_give(cache, pool, class_of(p));
  haki_l25_release(pool, p);
}

void haki_l25_untake(struct haki_l25_cache *cache, struct page *p) {
  struct haki_l25_class *k = &cache->cls[class_of(p)];
  haki_l25_give(cache, p);
  haki_cell_sub(&k->takes, 1);
  haki_cell_sub(&k->gives, 1);
}

/* ---- by class ---- */

void haki_l25_resized(struct page *p, size_t was) {
  struct haki_l25_count *counts = HAK_PAGE_GET(p, home)->pool->count;
  unsigned from = haki_l25_class(was), to = class_of(p);
  if (from == to) return;
  count(&counts[from].total, (uint64_t)-1);
  count(&counts[from].moved, (uint64_t)-1);
  count(&counts[to].total, 1);
  count(&counts[to].moved, 1);
}

static uint64_t not_below_zero(uint64_t n) { return (int64_t)n > 0 ? n : 0; }

void haki_l25_sums(struct haki_l25 *pool, struct haki_l25_class_sum sums[HAK_L25_CLASSES]) {
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++) {
    uint64_t takes = 0, gives = atomic_load_explicit(&pool->count[i].gives, memory_order_relaxed);
    struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
    for (; c != NULL; c = c->next) {
      takes += haki_cell_get(&c->cls[i].takes);
      gives += haki_cell_get(&c->cls[i].gives);
    }
    uint64_t live = takes - gives;
    live += atomic_load_explicit(&pool->count[i].moved, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&pool->count[i].total, memory_order_relaxed);
    sums[i].takes = takes;
    sums[i].live = not_below_zero(live); /* read one after the other */
    sums[i].cached = not_below_zero(total - sums[i].live);
  }
}

/* ---- leave, trim, end ---- */

/* pre: the cache's lock is held. Returns how many blocks went to the shards. */
static size_t flush_all(struct haki_l25_cache *cache) {
  size_t n = 0;
  drain_inbound(cache);
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++) {
    struct page *p;
    while ((p = haki_ring_pop(&cache->cls[c].ring)) != NULL) push_lifo(cache, c, p);
    n += flush(cache, c, SIZE_MAX);
    cache->cls[c].low = 0;
  }
  haki_big_flush(&cache->front, UINT64_MAX);
  haki_run_close(&cache->run);
  return n;
}

static void flush_own(struct haki_l25_cache *cache) {
  haki_bias_enter(&cache->bias);
  flush_all(cache);
  haki_bias_leave(&cache->bias);
}

void haki_l25_leave(struct haki_l25_cache *cache) {
  flush_own(cache);
  /* release: pairs with haki_l25_join(). What arrives inbound from now on is found by ageing. */
  atomic_store_explicit(&cache->alive, HAK_L25_FREE, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst); /* INV bell-1 */
  haki_bell_ring();
}

void haki_l25_after_fork(struct haki_l25 *pool, struct haki_l25_cache *mine) {
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next)
    if (c != mine && atomic_load_explicit(&c->alive, memory_order_relaxed) == HAK_L25_ALIVE) {
      atomic_store_explicit(&c->alive, HAK_L25_LOST, memory_order_relaxed);
      haki_cell_set(&c->front.credit, 0); /* its thread will not come back for them */
      haki_cell_set(&c->front.credit_room, 0);
    }
}

size_t haki_l25_trim(struct haki_l25 *pool, struct haki_l25_cache *cache) {
  if (cache != NULL) flush_own(cache);
  empty_inboxes(pool, true);
  return age_shards(pool, true);
}

/* ---- the background thread's part ---- */

/* pre: the thread has not used the cache for long. True: there is something left to do. */
static bool empty_idle(struct haki_l25_cache *c, struct haki_l25_drained *done) {
  enum haki_bias_result got = haki_bias_revoke(&c->bias);
  if (got == HAK_BIAS_NEVER) c->clean = true; /* only the owner can, then */
  if (got != HAK_BIAS_OURS) return !c->clean;
  c->clean = haki_cell_get(&c->ops) == c->seen_ops; /* nor has it just now */
  if (c->clean) {
    done->blocks += flush_all(c);
    done->caches++;
    c->tick_at = c->seen_ops + 1; /* INV l25-2 */
  }
  haki_bias_restore(&c->bias);
  return !c->clean;
}

static bool drain_cache(struct haki_l25_cache *c, uint64_t now, struct haki_l25_drained *done) {
  uint64_t ops = haki_cell_get(&c->ops);
  if (!has_thread(c)) {
    done->blocks += drain_unfetched(c);
    return false;
  }
  if (ops != c->seen_ops) {
    c->seen_ops = ops;
    c->idle_since = now;
    c->clean = false;
    return true;
  }
  done->blocks += drain_unfetched(c);
  if (c->clean) return false;
  return now - c->idle_since < HAK_KNOB(l25, decay) || empty_idle(c, done);
}

bool haki_l25_drain(struct haki_l25 *pool, struct haki_l25_drained *done) {
  bool more = false;
  uint64_t now = haki_os_now_coarse();
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next) more |= drain_cache(c, now, done);
  done->bytes += haki_l25_age(pool);
  haki_shards_check(&pool->shards);
  return more || haki_shards_any(&pool->shards);
}

static void forget_class(struct haki_l25_class *k) {
  k->ring.n = 0;
  k->lifo = NULL;
  k->lifo_count = k->batched = k->low = 0;
}

void haki_l25_forget(struct haki_l25 *pool) {
  struct haki_l25_class_sum sums[HAK_L25_CLASSES];
  haki_l25_sums(pool, sums);
  for (unsigned i = 0; i < HAK_L25_CLASSES; i++) {
    count(&pool->count[i].gives, sums[i].live);
    atomic_store_explicit(&pool->count[i].total, 0, memory_order_relaxed);
  }
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next) {
    for (unsigned i = 0; i < HAK_L25_CLASSES; i++) forget_class(&c->cls[i]);
    if (atomic_load_explicit(&c->alive, memory_order_relaxed) != HAK_L25_LOST)
      haki_run_close(&c->run); /* else its two words may not fit each other */
    c->run.left = 0;
    for (unsigned i = 0; i < HAK_BIG_CLASSES; i++) c->front.slot[i] = NULL;
    c->front.held = 0;
    c->front.bytes = 0;
    haki_cell_set(&c->front.credit, 0);
    haki_cell_set(&c->front.credit_room, 0);
    c->bytes = 0;
    atomic_store_explicit(&c->inbound, NULL, memory_order_relaxed);
    /* release: pairs with haki_l25_join() */
    atomic_store_explicit(&c->alive, HAK_L25_FREE, memory_order_release);
  }
  for (unsigned k = 0; k < HAK_L25_CLASSES; k++)
    for (uint32_t i = 0; i < haki_shards_count(&pool->shards); i++)
      haki_shards_shed(&pool->shards, k, i, true);
}

void haki_l25_destroy(struct haki_l25 *pool) {
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  while (c != NULL) {
    struct haki_l25_cache *next = c->next;
    haki_meta_free(c, sizeof *c);
    c = next;
  }
  haki_shards_destroy(&pool->shards);
  haki_meta_free(pool, sizeof *pool);
}

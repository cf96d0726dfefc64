/* bigrest.c - purges what lies warm behind big blocks in use.
 * Why, Owns, Locks: see bigrest.h.
 * Start: haki_rest_age(). */
#include "pool/bigrest.h"

#include <sched.h>

#include "base/knob.h"
#include "map/chunk.h"
#include "map/region.h"
#include "os/os.h"
#include "pool/large.h"

enum { PURGE_OFF = 2, SPINS = 100 };

size_t haki_rest_claim(struct page *p) {
  _Atomic(uint16_t) *rest = &HAK_BIG_REST(p);
  /* acquire: pairs with give_back(): what was purged is purged */
  uint16_t units = atomic_load_explicit(rest, memory_order_acquire);
  for (unsigned spins = 0; units != 0; spins++) {
    if (units != HAK_REST_BUSY && atomic_compare_exchange_weak_explicit(
                                      rest, &units, 0, memory_order_acquire, memory_order_relaxed))
      break;
    HAK_SCHED_POINT("rest claimed while purged");
    if (spins > SPINS) sched_yield(); /* as long as a system call takes */
    units = atomic_load_explicit(rest, memory_order_acquire);
  }
  return (size_t)units * HAK_UNIT;
}

uint64_t haki_rest_bytes(struct haki_l25 *pool) {
  uint64_t bytes = haki_cell_get(&pool->large->cells.rest);
  struct haki_l25_cache *c = atomic_load_explicit(&pool->caches, memory_order_acquire);
  for (; c != NULL; c = c->next) bytes += haki_cell_get(&c->large.rest);
  return (int64_t)bytes > 0 ? bytes : 0; /* read one after the other */
}

bool haki_rest_left(struct haki_l25 *pool) {
  return haki_rest_bytes(pool) != 0 && HAK_KNOB(purge, mode) != PURGE_OFF &&
         !atomic_load_explicit(&pool->rests_stuck, memory_order_relaxed);
}

/* ---- who purges; PURGE held ---- */

/* The rest of the huge block that starts at chunk i is the purger's, which must give it back. 0: none. */
static uint16_t try_take(struct haki_region *r, size_t i) {
  struct page *p = &r->pages[i * HAK_CHUNK_PAGES];
  _Atomic(uint16_t) *rest = &HAK_BIG_REST(p);
  uint16_t units = 0;
  haki_lock(&haki_chunk_lock);
  if (haki_chunk_kind(r, i) == HAK_CHUNK_HUGE && haki_page_kind(p) == HAK_PAGE_HUGE)
    units = atomic_load_explicit(rest, memory_order_relaxed);
  /* acquire: pairs with haki_rest_set() */
  if (units != 0 && !atomic_compare_exchange_strong_explicit(
                        rest, &units, HAK_REST_BUSY, memory_order_acquire, memory_order_relaxed))
    units = 0;
  haki_unlock(&haki_chunk_lock);
  HAK_SCHED_POINT("rest taken");
  return units;
}

static void give_back(struct page *p, uint16_t units) {
  /* release: pairs with haki_rest_claim() */
  atomic_store_explicit(&HAK_BIG_REST(p), units, memory_order_release);
}

static bool purge(struct haki_l25 *pool, struct page *p, size_t bytes) {
  size_t room = p->length << HAK_CHUNK_SHIFT;
  bool zeroed = false;
  if (!haki_os_purge((char *)haki_page_start(p) + p->size, room - p->size, false, &zeroed) ||
      !zeroed)
    return false;
  haki_quota_uncharge(pool->quota, bytes);
  atomic_fetch_sub_explicit(&pool->large->cells.rest, bytes, memory_order_relaxed);
  atomic_fetch_add_explicit(&pool->rests_purged, bytes, memory_order_relaxed);
  return true;
}

/* pre: taken. Returns bytes purged; gives the rest back, or what is left of it. */
static size_t age(struct haki_l25 *pool, struct page *p, uint16_t units, uint64_t until,
                  bool *failed) {
  size_t bytes = (size_t)units * HAK_UNIT;
  if (HAK_BIG_SINCE(p) == 0) HAK_BIG_SINCE(p) = haki_os_now_coarse();
  bool due = HAK_PAGE_GET(p, large) == pool->large && HAK_BIG_SINCE(p) <= until;
  bool purged = due && purge(pool, p, bytes);
  if (due && !purged) *failed = true;
  give_back(p, purged ? 0 : units);
  return purged ? bytes : 0;
}

static bool may_have_rest(struct haki_l25 *pool, struct haki_region *r, size_t i) {
  struct page *p = &r->pages[i * HAK_CHUNK_PAGES];
  return haki_chunk_kind(r, i) == HAK_CHUNK_HUGE && haki_page_kind(p) == HAK_PAGE_HUGE &&
         HAK_PAGE_GET(p, large) == pool->large && HAK_PAGE_GET(&p[1], carved) != 0;
}

static size_t age_all(struct haki_l25 *pool, uint64_t until, size_t most, bool *failed) {
  uint32_t count = atomic_load_explicit(&haki_region_count, memory_order_acquire);
  size_t bytes = 0;
  for (uint32_t k = 0; k < count; k++) {
    struct haki_region *r = &haki_regions[k];
    uint32_t fresh = atomic_load_explicit(&r->fresh, memory_order_acquire);
    for (size_t i = 0; i < fresh && bytes < most; i++) {
      uint16_t units = may_have_rest(pool, r, i) ? try_take(r, i) : 0;
      if (units != 0) bytes += age(pool, &r->pages[i * HAK_CHUNK_PAGES], units, until, failed);
    }
  }
  return bytes;
}

size_t haki_rest_age(struct haki_l25 *pool, bool all) {
  uint64_t now = haki_os_now_coarse(), decay = HAK_KNOB(bigcache, decay);
  uint64_t last = atomic_load_explicit(&pool->rests_aged, memory_order_relaxed);
  if (!all && (now - last < decay / 4 || now < decay)) return 0;
  if (haki_rest_bytes(pool) == 0 || HAK_KNOB(purge, mode) == PURGE_OFF) return 0;
  if (all)
    haki_lock(&haki_purge_lock);
  else if (!haki_trylock(&haki_purge_lock))
    return 0; /* somebody purges: the next occasion is not far */
  bool failed = false;
  size_t most = all ? SIZE_MAX : HAK_BIG_TICK_BYTES;
  size_t bytes = age_all(pool, all ? UINT64_MAX : now - decay, most, &failed);
  if (bytes < most) atomic_store_explicit(&pool->rests_aged, now, memory_order_relaxed);
  atomic_store_explicit(&pool->rests_stuck, failed && bytes == 0, memory_order_relaxed);
  haki_unlock(&haki_purge_lock);
  return bytes;
}

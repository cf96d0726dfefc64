/* shard.c - take, put, steal; contention check; growth.
 * Why, Owns, Locks: see shard.h.
 * Start: haki_shards_take(), haki_shards_check().
 *
 * INV shard-1: a shard whose list or remote stack of class c is not empty has its bit in
 *              nonempty[c] set, or somebody is about to set it. Who empties a list clears the bit
 *              first and looks at the remote stack afterwards. */
#include "pool/shard.h"

#include <pthread.h>

#include "base/knob.h"
#include "base/log.h"
#include "map/meta.h"
#include "os/os.h"

enum { PROBES = 4, STEALS = 8 };

/* ---- look-up ---- */

/* splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static uint32_t index_of(const struct haki_shards *s, uint64_t key) {
  uint32_t mask = haki_shards_count(s) - 1;
  return (uint32_t)(HAK_KNOB(l25, shard_mix) != 0 ? mix(key) : key >> 4) & mask;
}

static struct haki_shard_list *list_of(struct haki_shards *s, uint32_t i, unsigned c) {
  uint32_t first = s->first, k = 0;
  if (i >= first) {
    k = 32u - (uint32_t)__builtin_clz(i / first);
    i -= first << (k - 1);
  }
  /* acquire: pairs with grow(); the count was read before, so the segment is there */
  return &atomic_load_explicit(&s->segment[k], memory_order_acquire)[i].list[c];
}

/* ---- locks ---- */

static bool try_lock(struct haki_shard_list *l) {
  bool ok = haki_spin_try(&l->lock);
  if (HAK_LIKELY(ok))
    haki_cell_add(&l->held, 1);
  else
    atomic_fetch_add_explicit(&l->waits, 1, memory_order_relaxed);
  return ok;
}

static void lock(struct haki_shard_list *l) {
  if (try_lock(l)) return;
  haki_spin_lock(&l->lock);
  haki_cell_add(&l->held, 1);
}
static void unlock(struct haki_shard_list *l) { haki_spin_unlock(&l->lock); }

/* ---- bits ---- */

static void set_nonempty_bit(struct haki_shards *s, unsigned c, uint32_t i) {
  _Atomic(uint64_t) *word = &s->nonempty[c][i / 64];
  uint64_t bit = 1ull << (i % 64);
  if ((atomic_load_explicit(word, memory_order_seq_cst) & bit) == 0)
    atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
}

/* pre: the lock is held, the list is empty. A late haki_shards_put_remote() may have set the bit
 * after its block was taken. */
static void clear_nonempty_bit(struct haki_shards *s, unsigned c, uint32_t i,
                               struct haki_shard_list *l) {
  _Atomic(uint64_t) *word = &s->nonempty[c][i / 64];
  uint64_t bit = 1ull << (i % 64);
  if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0) return;
  atomic_fetch_and_explicit(word, ~bit, memory_order_seq_cst);
  HAK_SCHED_POINT("bit cleared");
  /* seq_cst: pairs with haki_shards_put_remote(), which pushes, then looks at the bit */
  if (atomic_load_explicit(&l->remote, memory_order_seq_cst) != NULL) set_nonempty_bit(s, c, i);
}

/* ---- take ---- */

/* pre: the lock is held. Blocks freed without the lock join the list. */
static void absorb_remote(struct haki_shards *s, struct haki_shard_list *l) {
  struct page *p = haki_inbox_take(&l->remote);
  uint32_t n = 0;
  while (p != NULL) {
    struct page *next = haki_page_next(p);
    haki_page_set_next(p, l->free);
    l->free = p;
    n++;
    p = next;
  }
  if (n == 0) return;
  l->count += n;
  atomic_fetch_sub_explicit(&l->remote_count, n, memory_order_relaxed);
  atomic_fetch_add_explicit(&s->remote, n, memory_order_relaxed);
}

/* pre: the lock is held; gives it up. */
static size_t take_locked(struct haki_shards *s, unsigned c, uint32_t i, struct haki_shard_list *l,
                          struct page **out, size_t n) {
  size_t got = 0;
  absorb_remote(s, l);
  for (; got < n && l->free != NULL; got++) {
    out[got] = l->free;
    l->free = haki_page_next(l->free);
  }
  l->count -= (uint32_t)got;
  if (l->free == NULL) clear_nonempty_bit(s, c, i, l);
  unlock(l);
  return got;
}

/* Another shard that has what its own lacks. */
static size_t steal(struct haki_shards *s, unsigned c, uint32_t own, struct page **out, size_t n) {
  uint32_t count = haki_shards_count(s), words = (count + 63) / 64;
  unsigned tries = STEALS;
  for (uint32_t w = 0; w < words && tries != 0; w++) {
    uint32_t at = (own / 64 + w) % words;
    uint64_t bits = atomic_load_explicit(&s->nonempty[c][at], memory_order_relaxed);
    for (; bits != 0 && tries != 0; tries--) {
      uint32_t i = at * 64 + (uint32_t)__builtin_ctzll(bits);
      bits &= bits - 1;
      struct haki_shard_list *l = list_of(s, i, c);
      if (!try_lock(l)) continue;
      size_t got = take_locked(s, c, i, l, out, n);
      if (got == 0) continue;
      atomic_fetch_add_explicit(&s->steals, 1, memory_order_relaxed);
      return got;
    }
  }
  return 0;
}

static void note_user(struct haki_shards *s) {
  uintptr_t me = (uintptr_t)pthread_self();
  uintptr_t last = atomic_load_explicit(&s->last_user, memory_order_relaxed);
  if (last == me) return;
  atomic_store_explicit(&s->last_user, me, memory_order_relaxed);
  if (last != 0) atomic_store_explicit(&s->several, 1, memory_order_relaxed);
}

size_t haki_shards_take(struct haki_shards *s, unsigned c, uint64_t key, struct page **out,
                        size_t n) {
  uint32_t count = haki_shards_count(s), own = index_of(s, key);
  note_user(s);
  atomic_fetch_add_explicit(&list_of(s, own, c)->load, 1, memory_order_relaxed);
  for (uint32_t k = 0; k < PROBES && k < count; k++) { /* a held lock: the next shard */
    uint32_t i = (own + k) & (count - 1);
    struct haki_shard_list *l = list_of(s, i, c);
    if (!try_lock(l)) continue;
    size_t got = take_locked(s, c, i, l, out, n);
    if (got != 0) return got;
    break;
  }
  return steal(s, c, own, out, n);
}

/* ---- put ---- */

void haki_shards_put(struct haki_shards *s, unsigned c, uint64_t key, struct page *chain,
                     size_t n) {
  uint32_t count = haki_shards_count(s), own = index_of(s, key), i = own;
  struct haki_shard_list *l = NULL;
  struct page *last = chain;
  while (haki_page_next(last) != NULL) last = haki_page_next(last);
  for (uint32_t k = 0; k < PROBES && k < count && l == NULL; k++) {
    i = (own + k) & (count - 1);
    l = list_of(s, i, c);
    if (!try_lock(l)) l = NULL;
  }
  if (l == NULL) {
    i = own;
    l = list_of(s, i, c);
    lock(l);
  }
  haki_page_set_next(last, l->free);
  l->free = chain;
  l->count += (uint32_t)n;
  set_nonempty_bit(s, c, i);
  unlock(l);
}

void haki_shards_put_remote(struct haki_shards *s, unsigned c, uint64_t key, struct page *p) {
  uint32_t i = index_of(s, key);
  struct haki_shard_list *l = list_of(s, i, c);
  atomic_fetch_add_explicit(&l->remote_count, 1, memory_order_relaxed); /* never below the truth */
  haki_inbox_push(&l->remote, p);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with clear_nonempty_bit() */
  set_nonempty_bit(s, c, i);
}

struct page *haki_shards_shed(struct haki_shards *s, unsigned c, uint32_t i, bool all) {
  struct haki_shard_list *l = list_of(s, i, c);
  lock(l);
  absorb_remote(s, l);
  struct page *chain = l->free, *last = chain;
  uint32_t n = all ? l->count : (l->count + 1) / 2;
  for (uint32_t k = 1; k < n; k++) last = haki_page_next(last);
  if (chain != NULL) {
    l->free = haki_page_next(last);
    haki_page_set_next(last, NULL);
    l->count -= n;
  }
  if (l->free == NULL) clear_nonempty_bit(s, c, i, l);
  unlock(l);
  return chain;
}

/* ---- the registry ---- */

bool haki_shards_init(struct haki_shards *s, uint32_t first, uint32_t most) {
  struct haki_shard *segment = haki_meta_pages(first * sizeof *segment); /* zero: open, empty */
  if (segment == NULL) return false;
  s->first = first;
  atomic_store_explicit(&s->most, most, memory_order_relaxed);
  atomic_store_explicit(&s->segment[0], segment, memory_order_release);
  atomic_store_explicit(&s->count, first, memory_order_release);
  return true;
}

static uint32_t segment_shards(const struct haki_shards *s, uint32_t k) {
  return k == 0 ? s->first : s->first << (k - 1);
}

void haki_shards_destroy(struct haki_shards *s) {
  atomic_store_explicit(&s->count, 0, memory_order_relaxed);
  for (uint32_t k = 0; k < HAK_SHARD_SEGMENTS; k++) {
    struct haki_shard *p = atomic_load_explicit(&s->segment[k], memory_order_relaxed);
    if (p == NULL) continue;
    haki_meta_pages_free(p, segment_shards(s, k) * sizeof *p);
    atomic_store_explicit(&s->segment[k], NULL, memory_order_relaxed);
  }
}

/* pre: `growing` is ours. Doubles the registry; on failure everything is as before. */
static bool grow(struct haki_shards *s) {
  uint32_t count = haki_shards_count(s);
  if (count * 2 > atomic_load_explicit(&s->most, memory_order_relaxed)) return false;
  uint32_t k = 32u - (uint32_t)__builtin_clz(count / s->first);
  struct haki_shard *segment = haki_meta_pages(count * sizeof *segment);
  if (segment == NULL) {
    atomic_fetch_add_explicit(&s->failures, 1, memory_order_relaxed);
    HAK_LOG(HAK_LOG_WARN, "[L2.5_POOL] No memory to expand shards: %u stay", count);
    return false;
  }
  /* release: pairs with list_of(); the segment first, then the count */
  atomic_store_explicit(&s->segment[k], segment, memory_order_release);
  HAK_SCHED_POINT("segment published");
  atomic_store_explicit(&s->count, count * 2, memory_order_release);
  atomic_fetch_add_explicit(&s->expansions, 1, memory_order_relaxed);
  HAK_LOG(HAK_LOG_INFO, "[L2.5_POOL] Expanded shards: %u \xe2\x86\x92 %u", count, count * 2);
  return true;
}

struct window {
  uint64_t load, ops, waits;
};

/* Adds up the counts of all shards; `reset` those that are of the window only. */
static struct window add_lists(struct haki_shards *s, bool reset) {
  struct window w = {0};
  uint32_t count = haki_shards_count(s);
  for (uint32_t i = 0; i < count; i++)
    for (unsigned c = 0; c < HAK_L25_CLASSES; c++) {
      struct haki_shard_list *l = list_of(s, i, c);
      uint64_t held = haki_cell_get(&l->held);
      uint64_t waits = atomic_load_explicit(&l->waits, memory_order_relaxed);
      if ((held | waits) == 0) continue; /* not touched */
      w.ops += held + waits;
      w.waits += waits;
      if (reset) w.load += atomic_exchange_explicit(&l->load, 0, memory_order_relaxed);
    }
  return w;
}

/* What has happened since the last check. pre: `growing` is ours. */
static struct window read_window(struct haki_shards *s) {
  struct window all = add_lists(s, true);
  struct window w = {all.load, all.ops - s->seen_ops, all.waits - s->seen_waits};
  s->seen_ops = all.ops;
  s->seen_waits = all.waits;
  return w;
}

void haki_shards_waits(struct haki_shards *s, uint64_t *ops, uint64_t *waits) {
  struct window all = add_lists(s, false);
  *ops = all.ops;
  *waits = all.waits;
}

bool haki_shards_have(struct haki_shards *s, unsigned c) {
  uint32_t words = (haki_shards_count(s) + 63) / 64;
  for (uint32_t w = 0; w < words; w++)
    if (atomic_load_explicit(&s->nonempty[c][w], memory_order_relaxed) != 0) return true;
  return false;
}

bool haki_shards_any(struct haki_shards *s) {
  for (unsigned c = 0; c < HAK_L25_CLASSES; c++)
    if (haki_shards_have(s, c)) return true;
  return false;
}

enum { SIGNAL_OPS = 256 }; /* fewer say nothing about waits */

/* Why the registry should grow; false: it should not. One reason per return. */
static bool wants_to_grow(struct haki_shards *s, const struct window *w) {
  bool several = atomic_exchange_explicit(&s->several, 0, memory_order_relaxed) != 0;
  uint32_t count = haki_shards_count(s);
  if (HAK_KNOB(l25, dynamic) == 0) return false;
  if (!several) return false; /* one thread alone has nobody to wait for */
  if (count * 2 > atomic_load_explicit(&s->most, memory_order_relaxed)) return false;
  uint64_t average = w->load / count;
  if (average > HAK_KNOB(l25, contention_threshold)) {
    HAK_LOG(HAK_LOG_INFO, "[L2.5_POOL] High load detected (avg=%llu), expanding",
            (unsigned long long)average);
    return true;
  }
  uint64_t permille = w->ops != 0 ? w->waits * 1000 / w->ops : 0;
  if (w->ops >= SIGNAL_OPS && permille > HAK_KNOB(l25, wait_threshold)) {
    HAK_LOG(HAK_LOG_INFO, "[L2.5_POOL] Lock waits detected (%.1f%%), expanding",
            (double)permille / 10);
    return true;
  }
  return false;
}

bool haki_shards_check(struct haki_shards *s) {
  uint64_t now = haki_os_now_coarse();
  uint64_t last = atomic_load_explicit(&s->checked, memory_order_relaxed);
  if (last != 0 && now - last < HAK_KNOB(l25, check_interval)) return false;
  uint32_t idle = 0;
  if (!atomic_compare_exchange_strong_explicit(&s->growing, &idle, 1, memory_order_acquire,
                                               memory_order_relaxed))
    return false;
  atomic_store_explicit(&s->checked, now, memory_order_relaxed);
  struct window w = read_window(s);
  bool grown = wants_to_grow(s, &w) && grow(s);
  atomic_store_explicit(&s->growing, 0, memory_order_release);
  return grown;
}

/* ---- fork ---- */

void haki_shards_lock_all(struct haki_shards *s) {
  haki_spin_lock(&s->growing);
  for (uint32_t i = 0; i < haki_shards_count(s); i++)
    for (unsigned c = 0; c < HAK_L25_CLASSES; c++) haki_spin_lock(&list_of(s, i, c)->lock);
}

void haki_shards_unlock_all(struct haki_shards *s) {
  for (uint32_t i = 0; i < haki_shards_count(s); i++)
    for (unsigned c = 0; c < HAK_L25_CLASSES; c++) unlock(list_of(s, i, c));
  atomic_store_explicit(&s->growing, 0, memory_order_release);
}

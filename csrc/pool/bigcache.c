/* bigcache.c - see bigcache.h.
 * Why, Owns, Locks: there.
 * Start: haki_big_take(), haki_big_give().
 *
 * INV big-3: bytes <= max_bytes and mapped <= max_mapped (unless the limits were lowered): both are
 *            reserved before an entry is in, and given up after it is out.
 * INV big-4: an entry has kind CACHED; p->size is charged to the arena whose cache it is, unless it is
 *            cooling; purged: p->size is 0 and all of its chunks read as zero. */
#include "pool/bigcache.h"

#include "base/knob.h"
#include "base/log.h"
#include "map/chunk.h"
#include "map/meta.h"
#include "os/os.h"

enum { FIXED = 0, PURGE_OFF = 2, IN_USE_SHARE = 4 };

static void add(_Atomic(uint64_t) *to, uint64_t n) {
  atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}
static uint64_t get(_Atomic(uint64_t) *from) {
  return atomic_load_explicit(from, memory_order_relaxed);
}
static uint32_t load_percent(const struct haki_big *b) {
  return atomic_load_explicit(&b->limits->load_percent, memory_order_relaxed);
}
static uint32_t power_of_two_below(uint32_t n) { return 1u << (31 - __builtin_clz(n)); }

/* ---- birth ---- */

static uint32_t first_buckets(const struct haki_big_limits *m) {
  uint32_t most = atomic_load_explicit(&m->max_buckets, memory_order_relaxed);
  uint32_t first = atomic_load_explicit(&m->initial_buckets, memory_order_relaxed);
  return power_of_two_below(first < most ? first : most);
}

void haki_big_log(const struct haki_big_limits *limits) {
  if (HAK_KNOB(bigcache, mode) == FIXED) {
    HAK_LOG(HAK_LOG_INFO, "[BigCache] Initialized (fixed table: %d sites, %d classes)",
            HAK_FIXED_ROWS, HAK_FIXED_CLASSES);
    return;
  }
  HAK_LOG(HAK_LOG_INFO, "[BigCache] Initialized (Phase 2c: Dynamic hash table)");
  HAK_LOG(HAK_LOG_INFO, "[BigCache] Initial capacity: %u buckets, max: %u buckets",
          first_buckets(limits), atomic_load_explicit(&limits->max_buckets, memory_order_relaxed));
}

static bool make_table(struct haki_big *b) {
  if (HAK_KNOB(bigcache, mode) == FIXED) {
    b->fixed = haki_meta_pages(sizeof *b->fixed);
    if (b->fixed == NULL) return false;
  }
  b->table.mix64 = HAK_KNOB(bigcache, hash) != 0;
  if (haki_bigtable_init(&b->table, first_buckets(b->limits), load_percent(b))) return true;
  if (b->fixed != NULL) haki_meta_pages_free(b->fixed, sizeof *b->fixed);
  return false;
}

struct haki_big *haki_big_new(struct haki_quota *quota, struct haki_large *large,
                              struct haki_big_limits *limits) {
  struct haki_big *b = haki_meta_pages(sizeof *b);
  if (b == NULL) return NULL;
  b->quota = quota;
  b->large = large;
  b->limits = limits;
  atomic_store_explicit(&b->aged, haki_os_now_coarse(), memory_order_relaxed);
  atomic_store_explicit(&b->filled, HAK_BIG_FILLED, memory_order_relaxed);
  if (make_table(b)) return b;
  haki_meta_pages_free(b, sizeof *b);
  return NULL;
}

void haki_big_destroy(struct haki_big *b) {
  haki_bigtable_destroy(&b->table);
  if (b->fixed != NULL) haki_meta_pages_free(b->fixed, sizeof *b->fixed);
  haki_meta_pages_free(b, sizeof *b);
}

/* ---- how often a site asks ---- */

static _Atomic(uint8_t) *counter(struct haki_big *b, uint32_t hash) {
  return &b->asked[hash >> 20 & (HAK_BIG_COUNTERS - 1)];
}

/* Counts fade: when one is full all are halved. Races lose a count or two. */
HAK_COLD static void halve_counters(struct haki_big *b) {
  for (int i = 0; i < HAK_BIG_COUNTERS; i++) {
    uint8_t n = atomic_load_explicit(&b->asked[i], memory_order_relaxed);
    if (n != 0) atomic_store_explicit(&b->asked[i], n / 2, memory_order_relaxed);
  }
}

static void note_asked(struct haki_big *b, uint32_t hash) {
  _Atomic(uint8_t) *n = counter(b, hash);
  uint8_t now = atomic_load_explicit(n, memory_order_relaxed);
  if (HAK_UNLIKELY(now == UINT8_MAX)) {
    halve_counters(b);
    now /= 2;
  }
  atomic_store_explicit(n, now + 1, memory_order_relaxed);
}

static unsigned level_of(struct haki_big *b, uint32_t hash) {
  unsigned n = atomic_load_explicit(counter(b, hash), memory_order_relaxed);
  return 31u - (unsigned)__builtin_clz(n | 1);
}

/* Where p belongs in the table, by its size and site. */
void haki_big_classify(struct haki_big *b, struct page *p) {
  unsigned c = haki_big_class(p->size);
  HAK_PAGE_SET(p, cls, (uint8_t)c);
  HAK_BIG_HASH(p) = haki_bigtable_hash(&b->table, c, HAK_BIG_SITE(p));
}

/* ---- the budget ---- */

static size_t address_room(const struct page *p) { return p->length << HAK_CHUNK_SHIFT; }

static void sub(_Atomic(uint64_t) *from, uint64_t n) {
  atomic_fetch_sub_explicit(from, n, memory_order_relaxed);
}

/* pre: p is in no list. What it held of the budget is free for others. */
void haki_big_leave(struct haki_big *b, struct page *p) {
  unsigned level = haki_big_level(p);
  sub(&b->mapped, address_room(p));
  if (level == HAK_BIG_COOLING)
    sub(&b->cooling, p->size);
  else if (haki_big_purged(p))
    sub(&b->purged, haki_big_class_bytes(haki_big_class_of(p)));
  else
    sub(&b->bytes, p->size);
}

void haki_big_release(struct haki_big *b, struct page *p) {
  size_t size = p->size, length = p->length, charged = haki_big_charge(p);
  p->size = 0;
  HAK_PAGE_SET(p, large, NULL);
  HAK_PAGE_SET(p, home, NULL);
  HAK_PAGE_SET(p, flags, HAK_PAGE_WAS_LARGE);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  haki_chunks_give(p, length, size);
  haki_quota_uncharge(b->quota, charged);
}

static void evict(struct haki_big *b, struct page *p, _Atomic(uint64_t) *reason) {
  haki_big_leave(b, p);
  haki_big_release(b, p);
  add(reason, 1);
}

/* An entry of the level, the oldest of some stripe. */
static struct page *take_from_level(struct haki_big *b, unsigned level) {
  uint32_t bits = atomic_load_explicit(&b->table.by_level[level], memory_order_relaxed);
  for (; bits != 0; bits &= bits - 1) {
    struct page *p =
        haki_bigtable_take_oldest(&b->table, (uint32_t)__builtin_ctz(bits), level, UINT64_MAX);
    if (p != NULL) return p;
  }
  return NULL;
}

/* The entry to go: one of those used least, if not above `level`. NULL: all others are asked for
 * more often. `room`: it is address space that lacks, which purged ones have as well. */
struct page *haki_big_victim(struct haki_big *b, unsigned level, bool room) {
  if (b->fixed != NULL) return haki_bigfixed_take_rarest(b->fixed, UINT64_MAX);
  struct page *p = room ? take_from_level(b, HAK_BIG_PURGED) : NULL;
  if (p == NULL && room) p = take_from_level(b, HAK_BIG_COOLING);
  for (unsigned v = 0; v <= level && p == NULL; v++) p = take_from_level(b, v);
  return p;
}

struct page *haki_big_warm(struct haki_big *b) {
  struct page *p = b->fixed == NULL ? take_from_level(b, HAK_BIG_COOLING) : NULL;
  return p != NULL ? p : haki_big_victim(b, HAK_BIG_LEVELS - 1, false);
}

static bool try_reserve(_Atomic(uint64_t) *used, uint64_t n, uint64_t most) {
  uint64_t was = get(used);
  do {
    if (n > most || was > most - n) return false;
  } while (!atomic_compare_exchange_weak_explicit(used, &was, was + n, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

static void note_peak(struct haki_big *b) {
  uint64_t now = get(&b->bytes), seen = get(&b->peak);
  while (now > seen && !atomic_compare_exchange_weak_explicit(
                           &b->peak, &seen, now, memory_order_relaxed, memory_order_relaxed)) {
  }
}

/* ---- over the budget, and old: memory goes, the address waits on ----
 *
 * What is over the budget is treated as a free chunk is: its memory stays for `purge.decay`, so that a
 * burst which comes again at once finds it, and counts as nobody's. */

/* pre: in no list, not in the budget any more, but in its address space. */
static void cool(struct haki_big *b, struct page *p) {
  haki_quota_uncharge(b->quota, p->size);
  add(&b->cooling, p->size);
  haki_big_set_level(p, HAK_BIG_COOLING);
  HAK_BIG_SINCE(p) = haki_os_now_coarse();
  haki_big_put(b, p);
}

static void push_out(struct haki_big *b, struct page *p) {
  if (b->fixed != NULL || get(&b->limits->max_bytes) == 0) {
    evict(b, p, &b->evicted_bytes);
    return;
  }
  sub(&b->bytes, p->size);
  add(&b->evicted_bytes, 1);
  cool(b, p);
}

/* pre: p is in no list, and has its memory. Returns its bytes. A purged one belongs to no site: it is
 * found by its class, and its place in the table is chosen by its address. */
static size_t purge(struct haki_big *b, struct page *p) {
  size_t size = p->size;
  bool zeroed = false;
  if (b->fixed != NULL || !haki_os_purge(haki_page_start(p), address_room(p), false, &zeroed)) {
    evict(b, p, &b->evicted_age); /* the chunks know how to purge */
    return size;
  }
  for (size_t i = 0; i < p->length; i++) HAK_PAGE_SET(&p[i * HAK_CHUNK_PAGES], touched, 0);
  haki_quota_uncharge(b->quota, haki_big_charge(p));
  sub(haki_big_level(p) == HAK_BIG_COOLING ? &b->cooling : &b->bytes, size);
  add(&b->purged, haki_big_class_bytes(haki_big_class_of(p)));
  add(&b->purges, 1);
  p->size = 0;
  haki_big_set_level(p, HAK_BIG_PURGED);
  HAK_BIG_SITE(p) = (uintptr_t)haki_page_start(p);
  HAK_BIG_HASH(p) = haki_bigtable_hash(&b->table, haki_big_class_of(p), HAK_BIG_SITE(p));
  HAK_BIG_SINCE(p) = haki_os_now_coarse();
  haki_big_put(b, p);
  return size;
}

enum room { NONE, ADDRESS, MEMORY };

/* What there is room for when all that is not used more has gone. */
static enum room reserve(struct haki_big *b, size_t bytes, size_t room, unsigned level) {
  uint64_t most = get(&b->limits->max_bytes), most_room = get(&b->limits->max_mapped);
  struct page *p;
  if (room > most_room) return NONE;
  while (!try_reserve(&b->mapped, room, most_room)) {
    if ((p = haki_big_victim(b, level, true)) == NULL) return NONE;
    evict(b, p, &b->evicted_mapped);
  }
  while (!try_reserve(&b->bytes, bytes, most)) {
    if (bytes > most || (p = haki_big_victim(b, level, false)) == NULL) return ADDRESS;
    push_out(b, p);
  }
  note_peak(b);
  return MEMORY;
}

static bool too_much(struct haki_big *b, bool room) {
  return room ? get(&b->mapped) > get(&b->limits->max_mapped)
              : get(&b->bytes) > get(&b->limits->max_bytes);
}

/* The limits were lowered: whatever is too much goes, but for what threads have in their fronts. */
static void shrink(struct haki_big *b) {
  for (int room = 0; room < 2; room++) {
    struct page *p;
    while (too_much(b, room != 0) &&
           (p = haki_big_victim(b, HAK_BIG_LEVELS - 1, room != 0)) != NULL)
      room ? evict(b, p, &b->evicted_mapped) : push_out(b, p);
  }
}

void haki_big_configure(struct haki_big *b) {
  haki_bigtable_set_load(&b->table, load_percent(b));
  struct page *p; /* a budget of nothing keeps no addresses either */
  while (get(&b->limits->max_bytes) == 0 &&
         (p = haki_big_victim(b, HAK_BIG_LEVELS - 1, true)) != NULL)
    evict(b, p, &b->evicted_bytes);
  shrink(b);
}

/* ---- front ---- */

static struct page *take_front(struct haki_front *f, unsigned c) {
  struct page *p = f->slot[c];
  if (p == NULL) return NULL;
  f->slot[c] = NULL;
  f->held--;
  f->bytes -= p->size;
  haki_cell_add(&f->credit, p->size);
  haki_cell_add(&f->credit_room, address_room(p));
  haki_cell_add(&f->hits, 1);
  return p;
}

/* False: the credit does not cover it. */
static bool spend_credit(struct haki_front *f, size_t bytes, size_t room) {
  if (haki_cell_get(&f->credit) < bytes || haki_cell_get(&f->credit_room) < room) return false;
  haki_cell_sub(&f->credit, bytes);
  haki_cell_sub(&f->credit_room, room);
  return true;
}

static void end_credit(struct haki_big *b, struct haki_front *f) {
  uint64_t bytes = haki_cell_get(&f->credit), room = haki_cell_get(&f->credit_room);
  if (bytes != 0) atomic_fetch_sub_explicit(&b->bytes, bytes, memory_order_relaxed);
  if (room != 0) atomic_fetch_sub_explicit(&b->mapped, room, memory_order_relaxed);
  haki_cell_set(&f->credit, 0);
  haki_cell_set(&f->credit_room, 0);
}

/* ---- take ---- */

/* pre: the block is out of the table. NULL: there is none, or its charge is refused. */
struct page *haki_big_taken(struct haki_big *b, struct page *p, _Atomic(uint64_t) *count) {
  if (p == NULL) return NULL;
  haki_big_leave(b, p);
  if (HAK_UNLIKELY(haki_big_charge(p) != p->size) && !haki_quota_charge(b->quota, p->size)) {
    haki_big_release(b, p);
    return NULL;
  }
  haki_big_set_level(p, 0);
  add(count, 1);
  return p;
}

static struct page *take_shared(struct haki_big *b, unsigned c, size_t size, uintptr_t site,
                                uint32_t hash) {
  if (b->fixed != NULL)
    return haki_big_taken(b, haki_bigfixed_take(b->fixed, size, haki_big_chunks(size), site),
                          &b->hits_site);
  struct page *p =
      haki_big_taken(b, haki_bigtable_take_site(&b->table, c, site, hash), &b->hits_site);
  unsigned last = c + (unsigned)HAK_KNOB(bigcache, near);
  if (last >= HAK_BIG_CLASSES) last = HAK_BIG_CLASSES - 1;
  for (unsigned k = c; k <= last && p == NULL; k++)
    p = haki_big_taken(b, haki_bigtable_take_class(&b->table, k, hash, false), &b->hits_class);
  if (p != NULL) return p;
  p = haki_big_take_larger(b, last + 1, size, hash);
  if (p == NULL) p = haki_big_take_gathered(b, size);
  if (p != NULL) return p;
  return haki_big_taken(b, haki_bigtable_take_class(&b->table, c, hash, true), &b->hits_purged);
}

static bool is_empty(struct haki_big *b) {
  return get(&b->table.entries) == 0 && (b->fixed == NULL || get(&b->fixed->entries) == 0);
}

HAK_HOT struct page *haki_big_take(struct haki_big *b, struct haki_front *front, size_t size,
                                   uintptr_t site) {
  unsigned c = haki_big_class(size);
  uint32_t hash = haki_bigtable_hash(&b->table, c, site);
  note_asked(b, hash);
  struct page *p = front != NULL && b->fixed == NULL ? take_front(front, c) : NULL;
  if (p == NULL && !is_empty(b)) p = take_shared(b, c, size, site, hash);
  if (p == NULL) add(&b->misses, 1);
  return p;
}

/* ---- give ---- */

void haki_big_put(struct haki_big *b, struct page *p) {
  if (b->fixed != NULL) {
    p = haki_bigfixed_put(b->fixed, p);
    if (p != NULL) evict(b, p, &b->evicted_rare);
    return;
  }
  haki_bigtable_insert(&b->table, p);
  haki_bigtable_grow(&b->table, atomic_load_explicit(&b->limits->max_buckets, memory_order_relaxed),
                     load_percent(b));
}

/* May the thread keep p in its slot, and not more than it should in all? */
static bool has_slot(const struct haki_front *f, unsigned c, size_t size) {
  size_t without = f->bytes - (f->slot[c] != NULL ? f->slot[c]->size : 0);
  return without + size <= HAK_KNOB(bigcache, front_bytes);
}

static void become_entry(struct haki_big *b, struct page *p, unsigned level) {
  haki_big_set_level(p, level);
  HAK_PAGE_SET(p, large, b->large);
  HAK_PAGE_SET(p, kind, HAK_PAGE_CACHED);
}

/* From a front into the table: what the table wants to know of it is found out now. */
static void put_from_front(struct haki_big *b, struct page *p) {
  haki_big_classify(b, p);
  haki_big_set_level(p, level_of(b, HAK_BIG_HASH(p)));
  if (HAK_BIG_SINCE(p) == 0) HAK_BIG_SINCE(p) = haki_os_now_coarse();
  haki_big_put(b, p);
}

/* pre: in the budget, has_slot(). A block in a front is dated when its thread next looks
 * (haki_big_flush()); what was in the slot goes to the table. */
static void give_front(struct haki_big *b, struct haki_front *f, unsigned c, struct page *p) {
  struct page *old = f->slot[c];
  become_entry(b, p, 0);
  HAK_BIG_SINCE(p) = 0;
  f->slot[c] = p;
  f->held += old == NULL;
  f->bytes += p->size - (old != NULL ? old->size : 0);
  haki_cell_add(&f->inserts, 1);
  if (old != NULL) put_from_front(b, old);
}

HAK_HOT bool haki_big_give(struct haki_big *b, struct haki_front *front, struct page *p) {
  size_t size = p->size, room = address_room(p);
  if (!haki_big_fits(size) || size > HAK_KNOB(bigcache, max_block)) return false;
  if (front != NULL) front->big = b;  /* its thread looks after b, too */
  if (b->fixed != NULL) front = NULL; /* the earlier scheme had no such slots */
  unsigned c = haki_big_class(size);
  bool slot = front != NULL && has_slot(front, c, size);
  bool paid = front != NULL && spend_credit(front, size, room);
  if (HAK_LIKELY(slot && paid)) {
    give_front(b, front, c, p);
    return true;
  }
  haki_big_classify(b, p);
  unsigned level = level_of(b, HAK_BIG_HASH(p));
  enum room got = paid ? MEMORY : reserve(b, size, room, level);
  if (got != MEMORY) add(&b->evicted_rare, 1); /* used less than all that wait */
  if (got == NONE) return false;
  if (slot && got == MEMORY) {
    give_front(b, front, c, p);
    return true;
  }
  become_entry(b, p, level);
  if (got == ADDRESS) {
    cool(b, p);
    return true;
  }
  HAK_BIG_SINCE(p) = haki_os_now_coarse();
  add(&b->inserts, 1);
  haki_big_put(b, p);
  return true;
}

/* Takes out of its slot, dates, or leaves where it is. */
static void look_at_slot(struct haki_front *f, unsigned c, uint64_t until) {
  struct page *p = f->slot[c];
  if (p == NULL) return;
  if (HAK_BIG_SINCE(p) == 0 && until != UINT64_MAX) HAK_BIG_SINCE(p) = haki_os_now_coarse();
  if (HAK_BIG_SINCE(p) > until) return;
  f->slot[c] = NULL;
  f->held--;
  f->bytes -= p->size;
  put_from_front(f->big, p);
}

void haki_big_flush(struct haki_front *f, uint64_t until) {
  if (f->big == NULL) return;
  for (unsigned c = 0; c < HAK_BIG_CLASSES && f->held != 0; c++) look_at_slot(f, c, until);
  end_credit(f->big, f);
  shrink(f->big);
}

/* ---- ageing ---- */

static struct page *take_older(struct haki_big *b, uint32_t stripe, unsigned level,
                               uint64_t until) {
  if (b->fixed != NULL) return stripe == 0 ? haki_bigfixed_take_rarest(b->fixed, until) : NULL;
  return haki_bigtable_take_oldest(&b->table, stripe, level, until);
}

/* Entries that came no later than `until`; stops after about `most` bytes. */
static size_t age_until(struct haki_big *b, uint64_t until, size_t most) {
  size_t bytes = 0;
  struct page *p;
  for (uint32_t stripe = 0; stripe < HAK_BIG_STRIPES; stripe++) {
    for (unsigned level = HAK_BIG_COOLING; level <= HAK_BIG_PURGED; level++)
      while ((p = take_older(b, stripe, level, until)) != NULL) evict(b, p, &b->evicted_age);
    for (unsigned level = 0; level < HAK_BIG_LEVELS; level++)
      while (bytes < most && (p = take_older(b, stripe, level, until)) != NULL)
        bytes += purge(b, p);
  }
  return bytes;
}

/* What may cool for as long as entries in the budget do: a share of what is in use, for that varies. */
static uint64_t slack(struct haki_big *b) {
  uint64_t charged = haki_cell_get(&b->quota->charged), kept = get(&b->bytes);
  return charged > kept ? (charged - kept) / IN_USE_SHARE : 0;
}

/* What is over the budget, as haki_purge_tick() treats free chunks. */
static size_t purge_cooling(struct haki_big *b, uint64_t now, size_t most) {
  uint64_t decay = HAK_KNOB(purge, decay), allowed = slack(b);
  size_t bytes = 0;
  if (get(&b->cooling) == 0 || HAK_KNOB(purge, mode) == PURGE_OFF || now < decay) return 0;
  for (uint32_t stripe = 0; stripe < HAK_BIG_STRIPES; stripe++) {
    struct page *p;
    while (bytes < most && get(&b->cooling) > allowed &&
           (p = take_older(b, stripe, HAK_BIG_COOLING, now - decay)) != NULL)
      bytes += purge(b, p);
  }
  return bytes;
}

size_t haki_big_age(struct haki_big *b, bool all) {
  uint64_t now = haki_os_now_coarse(), decay = HAK_KNOB(bigcache, decay), last = get(&b->aged);
  size_t most = all ? SIZE_MAX : HAK_BIG_TICK_BYTES, bytes = purge_cooling(b, now, most);
  if (now - last < decay / 4 || now < decay) return bytes;
  if (!atomic_compare_exchange_strong_explicit(&b->aged, &last, now, memory_order_relaxed,
                                               memory_order_relaxed))
    return bytes; /* somebody else does it */
  size_t aged = age_until(b, now - decay, most);
  if (aged >= most)
    atomic_store_explicit(&b->aged, last, memory_order_relaxed); /* more at the next occasion */
  return bytes + aged;
}

void haki_big_tick(struct haki_front *f, uint64_t now) {
  uint64_t decay = HAK_KNOB(bigcache, decay);
  if (HAK_UNLIKELY(too_much(f->big, false) || too_much(f->big, true))) {
    haki_big_flush(f, UINT64_MAX);
  } else if (now - f->aged >= decay / 4 && now > decay) {
    f->aged = now;
    haki_big_flush(f, now - decay);
  }
}

bool haki_big_idle(struct haki_big *b) { return is_empty(b); }

size_t haki_big_trim(struct haki_big *b) {
  size_t bytes = 0;
  for (uint32_t stripe = 0; stripe < HAK_BIG_STRIPES; stripe++)
    for (unsigned level = 0; level < HAK_BIG_LISTS; level++) {
      struct page *p;
      while ((p = take_older(b, stripe, level, UINT64_MAX)) != NULL) {
        bytes += haki_big_charge(p);
        haki_big_leave(b, p);
        haki_big_release(b, p);
      }
    }
  return bytes;
}

void haki_big_lock_all(struct haki_big *b) {
  haki_bigtable_lock_all(&b->table);
  if (b->fixed != NULL) haki_bigfixed_lock_all(b->fixed);
}
void haki_big_unlock_all(struct haki_big *b) {
  if (b->fixed != NULL) haki_bigfixed_unlock_all(b->fixed);
  haki_bigtable_unlock_all(&b->table);
}

struct count {
  uint64_t entries, bytes, mapped, cooling, purged;
};
static void count_entry(struct page *p, void *ud) {
  struct count *n = ud;
  n->entries++;
  n->bytes += haki_big_charge(p);
  n->cooling += p->size - haki_big_charge(p);
  n->mapped += address_room(p);
  if (haki_big_purged(p)) n->purged += haki_big_class_bytes(haki_big_class_of(p));
}

void haki_big_after_fork(struct haki_big *b, struct haki_front *mine) {
  struct count n = {0, 0, 0, 0, 0};
  if (b->fixed != NULL) haki_bigfixed_walk(b->fixed, count_entry, &n);
  if (b->fixed != NULL) atomic_store_explicit(&b->fixed->entries, n.entries, memory_order_relaxed);
  uint64_t fixed = n.entries;
  haki_bigtable_walk(&b->table, count_entry, &n);
  atomic_store_explicit(&b->table.entries, n.entries - fixed, memory_order_relaxed);
  for (unsigned c = 0; mine != NULL && c < HAK_BIG_CLASSES; c++)
    if (mine->slot[c] != NULL) count_entry(mine->slot[c], &n);
  n.bytes += mine != NULL ? haki_cell_get(&mine->credit) : 0;
  n.mapped += mine != NULL ? haki_cell_get(&mine->credit_room) : 0;
  atomic_store_explicit(&b->bytes, n.bytes, memory_order_relaxed);
  atomic_store_explicit(&b->mapped, n.mapped, memory_order_relaxed);
  atomic_store_explicit(&b->cooling, n.cooling, memory_order_relaxed);
  atomic_store_explicit(&b->purged, n.purged, memory_order_relaxed);
}

void haki_big_forget(struct haki_big *b) {
  haki_big_trim(b);
  atomic_store_explicit(&b->bytes, 0, memory_order_relaxed); /* what fronts held */
  atomic_store_explicit(&b->mapped, 0, memory_order_relaxed);
}

bool haki_big_ok(struct haki_big *b) {
  return haki_bigtable_ok(&b->table) && get(&b->peak) >= get(&b->bytes);
}

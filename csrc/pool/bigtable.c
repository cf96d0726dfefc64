/* bigtable.c - see bigtable.h.
 * Why, Owns, Locks: there.
 * Start: haki_bigtable_insert(), haki_bigtable_take_site(), bucket().
 *
 * INV big-1: an entry is in the bucket that its hash names, or in the nearest ancestor of that
 *            bucket which has been split: bucket i was split from i without its highest bit.
 * INV big-2: a stripe whose list of class c or level v is not empty has its bit there.
 * Both hold whenever the stripe's lock is open. */
#include "pool/bigtable.h"

#include "base/log.h"
#include "map/meta.h"
#include "os/os.h"

/* Ends each chain; NULL in a bucket: not split from its parent yet. */
static struct page end_of_chain;
#define END (&end_of_chain)

/* ---- hashes ---- */

/* splitmix64, as in shard.c. */
static uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* The finaliser of MurmurHash3 (Appleby, 2011), cut after its second multiplication. */
static uint32_t mix32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85ebca6bu;
  x ^= x >> 13;
  x *= 0xc2b2ae35u;
  return x ^ (x >> 16);
}

uint32_t haki_bigtable_hash(const struct haki_bigtable *t, unsigned c, uintptr_t site) {
  uint64_t bytes = haki_big_class_bytes(c);
  if (t->mix64) return (uint32_t)mix64(site ^ bytes << 32);
  return mix32((uint32_t)site ^ (uint32_t)((uint64_t)site >> 32) ^ (uint32_t)bytes);
}

/* ---- buckets; all of this under the stripe's lock ---- */

static struct page **slot(struct haki_bigtable *t, uint32_t i) {
  uint32_t first = t->first, k = 0;
  if (i >= first) {
    k = 32u - (uint32_t)__builtin_clz(i / first);
    i -= first << (k - 1);
  }
  /* acquire: pairs with haki_bigtable_grow(); the count was read before, so the segment is there */
  return &atomic_load_explicit(&t->segment[k], memory_order_acquire)[i];
}

static void note_time(struct haki_bigtable *t, uint64_t start) {
  uint64_t took = haki_os_now() - start, worst;
  worst = atomic_load_explicit(&t->worst, memory_order_relaxed);
  while (took > worst && !atomic_compare_exchange_weak_explicit(
                             &t->worst, &worst, took, memory_order_relaxed, memory_order_relaxed)) {
  }
}

static struct page **bucket(struct haki_bigtable *t, uint32_t i);

static void link_in(struct page **head, struct page *p) {
  struct page *next = *head;
  HAK_BIG_CHAIN(p) = next;
  HAK_BIG_BEFORE(p) = head;
  if (next != END) HAK_BIG_BEFORE(next) = &HAK_BIG_CHAIN(p);
  *head = p;
}

static void link_out(struct page *p) {
  struct page *next = HAK_BIG_CHAIN(p);
  *HAK_BIG_BEFORE(p) = next;
  if (next != END) HAK_BIG_BEFORE(next) = HAK_BIG_BEFORE(p);
  HAK_BIG_BEFORE(p) = NULL;
}

/* Bucket i takes what is its own from the bucket that it was part of. */
HAK_COLD static struct page **split(struct haki_bigtable *t, uint32_t i, struct page **head) {
  *head = END;
  if (i < t->first) return head;
  uint64_t start = haki_os_now();
  uint32_t top = 1u << (31 - __builtin_clz(i));
  struct page *next, *p = *bucket(t, i ^ top); /* as deep as it has doubled since that was used */
  for (; p != END; p = next) {
    next = HAK_BIG_CHAIN(p);
    if ((HAK_BIG_HASH(p) & (2 * top - 1)) != i) continue;
    link_out(p);
    link_in(head, p);
  }
  note_time(t, start);
  return head;
}

/* The head of bucket i, which has been split from its parent at the latest now. */
static struct page **bucket(struct haki_bigtable *t, uint32_t i) {
  struct page **head = slot(t, i);
  return HAK_LIKELY(*head != NULL) ? head : split(t, i, head);
}

static struct page **bucket_of(struct haki_bigtable *t, uint32_t hash) {
  /* the count is read under the lock: whoever had it before has not seen a newer one */
  return bucket(t, hash & (haki_bigtable_count(t) - 1));
}

/* ---- the lists of a stripe ---- */

static void set_bit(_Atomic(uint32_t) *word, uint32_t stripe) {
  uint32_t bit = 1u << stripe;
  if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0)
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
}
static void clear_bit(_Atomic(uint32_t) *word, uint32_t stripe) {
  atomic_fetch_and_explicit(word, ~(1u << stripe), memory_order_relaxed);
}

static struct page *of_level_link(hak_list *l) { return HAK_LIST_OF(l, struct page, link) - 1; }

/* pre: the lock is held. */
static struct page *take_out(struct haki_bigtable *t, uint32_t stripe, struct page *p) {
  struct haki_big_stripe *s = &t->stripe[stripe];
  unsigned c = haki_big_class_of(p), level = haki_big_level(p), purged = haki_big_purged(p);
  link_out(p);
  haki_list_remove(&p->link);
  haki_list_remove(&p[1].link);
  if (haki_list_empty(&s->by_class[purged][c])) clear_bit(&t->by_class[purged][c], stripe);
  if (haki_list_empty(&s->by_level[level])) clear_bit(&t->by_level[level], stripe);
  atomic_fetch_sub_explicit(&t->entries, 1, memory_order_relaxed);
  return p;
}

void haki_bigtable_insert(struct haki_bigtable *t, struct page *p) {
  uint32_t hash = HAK_BIG_HASH(p), stripe = hash & (HAK_BIG_STRIPES - 1);
  struct haki_big_stripe *s = &t->stripe[stripe];
  unsigned c = haki_big_class_of(p), level = haki_big_level(p), purged = haki_big_purged(p);
  atomic_fetch_add_explicit(&t->entries, 1, memory_order_relaxed);
  haki_spin_lock(&s->lock);
  link_in(bucket_of(t, hash), p);
  haki_list_insert(&s->by_class[purged][c], &p->link);
  hak_list *ages = &s->by_level[level];
  if (!haki_list_empty(ages) && HAK_BIG_SINCE(p) < HAK_BIG_SINCE(of_level_link(ages->next)))
    haki_list_insert(ages,
                     &p[1].link); /* it was elsewhere meanwhile: younger ones do not hide it */
  else
    haki_list_append(ages, &p[1].link);
  set_bit(&t->by_class[purged][c], stripe);
  set_bit(&t->by_level[level], stripe);
  haki_spin_unlock(&s->lock);
}

struct page *haki_bigtable_take_site(struct haki_bigtable *t, unsigned c, uintptr_t site,
                                     uint32_t hash) {
  uint32_t stripe = hash & (HAK_BIG_STRIPES - 1);
  struct haki_big_stripe *s = &t->stripe[stripe];
  if ((atomic_load_explicit(&t->by_class[0][c], memory_order_relaxed) & 1u << stripe) == 0)
    return NULL;
  haki_spin_lock(&s->lock);
  struct page *p = *bucket_of(t, hash);
  while (p != END && (HAK_BIG_HASH(p) != hash || HAK_BIG_SITE(p) != site ||
                      haki_big_class_of(p) != c || haki_big_purged(p)))
    p = HAK_BIG_CHAIN(p);
  p = p != END ? take_out(t, stripe, p) : NULL;
  haki_spin_unlock(&s->lock);
  return p;
}

struct page *haki_bigtable_take_class(struct haki_bigtable *t, unsigned c, uint32_t hash,
                                      bool purged) {
  uint32_t bits = atomic_load_explicit(&t->by_class[purged][c], memory_order_relaxed);
  uint32_t start = hash & (HAK_BIG_STRIPES - 1); /* sites start apart */
  while (bits != 0) {
    uint32_t after = bits >> start << start;
    uint32_t stripe = (uint32_t)__builtin_ctz(after != 0 ? after : bits);
    bits &= ~(1u << stripe);
    struct haki_big_stripe *s = &t->stripe[stripe];
    struct page *found = NULL;
    haki_spin_lock(&s->lock);
    hak_list *all = &s->by_class[purged][c];
    if (!haki_list_empty(all))
      found = take_out(t, stripe, HAK_LIST_OF(all->next, struct page, link));
    haki_spin_unlock(&s->lock);
    if (found != NULL) return found;
  }
  return NULL;
}

struct page *haki_bigtable_take_oldest(struct haki_bigtable *t, uint32_t stripe, unsigned level,
                                       uint64_t until) {
  struct haki_big_stripe *s = &t->stripe[stripe];
  if ((atomic_load_explicit(&t->by_level[level], memory_order_relaxed) & 1u << stripe) == 0)
    return NULL;
  struct page *found = NULL;
  haki_spin_lock(&s->lock);
  if (!haki_list_empty(&s->by_level[level])) {
    struct page *p = of_level_link(s->by_level[level].next);
    if (HAK_BIG_SINCE(p) <= until) found = take_out(t, stripe, p);
  }
  haki_spin_unlock(&s->lock);
  return found;
}

/* ---- growth ---- */

static uint64_t threshold(uint32_t count, uint32_t load_percent) {
  return (uint64_t)count * load_percent / 100;
}

void haki_bigtable_set_load(struct haki_bigtable *t, uint32_t load_percent) {
  atomic_store_explicit(&t->grow_at, threshold(haki_bigtable_count(t), load_percent),
                        memory_order_relaxed);
}

bool haki_bigtable_init(struct haki_bigtable *t, uint32_t first, uint32_t load_percent) {
  struct page **segment = haki_meta_pages(first * sizeof *segment);
  if (segment == NULL) return false;
  t->first = first;
  for (uint32_t i = 0; i < HAK_BIG_STRIPES; i++) {
    for (unsigned c = 0; c < 2 * HAK_BIG_CLASSES; c++)
      haki_list_init(&t->stripe[i].by_class[c / HAK_BIG_CLASSES][c % HAK_BIG_CLASSES]);
    for (unsigned v = 0; v < HAK_BIG_LISTS; v++) haki_list_init(&t->stripe[i].by_level[v]);
  }
  atomic_store_explicit(&t->segment[0], segment, memory_order_release);
  atomic_store_explicit(&t->count, first, memory_order_release);
  haki_bigtable_set_load(t, load_percent);
  return true;
}

void haki_bigtable_destroy(struct haki_bigtable *t) {
  for (uint32_t k = 0; k < HAK_BIG_SEGMENTS; k++) {
    struct page **segment = atomic_load_explicit(&t->segment[k], memory_order_relaxed);
    uint32_t n = k == 0 ? t->first : t->first << (k - 1);
    if (segment != NULL) haki_meta_pages_free(segment, n * sizeof *segment);
  }
}

/* pre: `growing` is ours; `entries` are reason enough. On failure everything is as before, and it is not
 * tried at each insert. */
static bool double_buckets(struct haki_bigtable *t, uint32_t count, uint64_t entries,
                           uint32_t load_percent) {
  struct page **segment = haki_meta_pages(count * sizeof *segment);
  if (segment == NULL) {
    atomic_store_explicit(&t->grow_at, entries + entries / 8 + 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->failures, 1, memory_order_relaxed);
    HAK_LOG(HAK_LOG_WARN, "[BigCache] No memory to resize: %u buckets stay", count);
    return false;
  }
  uint32_t k = 32u - (uint32_t)__builtin_clz(count / t->first);
  /* release: pairs with slot(); the segment first, then the count */
  atomic_store_explicit(&t->segment[k], segment, memory_order_release);
  HAK_SCHED_POINT("bucket segment published");
  atomic_store_explicit(&t->count, count * 2, memory_order_release);
  atomic_store_explicit(&t->grow_at, threshold(count * 2, load_percent), memory_order_relaxed);
  atomic_fetch_add_explicit(&t->resizes, 1, memory_order_relaxed);
  HAK_LOG(HAK_LOG_INFO, "[BigCache] Resized: %u \xe2\x86\x92 %u buckets (%llu entries)", count,
          count * 2, (unsigned long long)entries);
  return true;
}

bool haki_bigtable_grow(struct haki_bigtable *t, uint32_t most, uint32_t load_percent) {
  if (HAK_LIKELY(atomic_load_explicit(&t->entries, memory_order_relaxed) <
                 atomic_load_explicit(&t->grow_at, memory_order_relaxed)))
    return false;
  uint32_t idle = 0;
  if (!atomic_compare_exchange_strong_explicit(&t->growing, &idle, 1, memory_order_acquire,
                                               memory_order_relaxed))
    return false;
  uint32_t count = haki_bigtable_count(t);
  uint64_t entries = atomic_load_explicit(&t->entries, memory_order_relaxed);
  bool due =
      count * 2 <= most && entries >= atomic_load_explicit(&t->grow_at, memory_order_relaxed);
  uint64_t start = haki_os_now();
  bool grown = due && double_buckets(t, count, entries, load_percent);
  if (due) note_time(t, start);
  /* release: pairs with the exchange above */
  atomic_store_explicit(&t->growing, 0, memory_order_release);
  return grown;
}

/* ---- all of it ---- */

void haki_bigtable_chains(struct haki_bigtable *t, uint64_t histogram[5]) {
  for (int i = 0; i < 5; i++) histogram[i] = 0;
  uint32_t count = haki_bigtable_count(t);
  for (uint32_t i = 0; i < count; i++) {
    haki_spin *lock = &t->stripe[i & (HAK_BIG_STRIPES - 1)].lock;
    uint64_t n = 0;
    haki_spin_lock(lock); /* a bucket not split yet: its entries count in the parent */
    for (struct page *p = *slot(t, i); p != NULL && p != END; p = HAK_BIG_CHAIN(p)) n++;
    haki_spin_unlock(lock);
    if (n > histogram[0]) histogram[0] = n;
    if (n != 0) histogram[n < 4 ? n : 4]++;
  }
}

void haki_bigtable_walk(struct haki_bigtable *t, void (*visit)(struct page *p, void *ud),
                        void *ud) {
  for (uint32_t i = 0; i < HAK_BIG_STRIPES; i++)
    for (unsigned v = 0; v < HAK_BIG_LISTS; v++) {
      hak_list *all = &t->stripe[i].by_level[v];
      for (hak_list *l = all->next; l != all; l = l->next) visit(of_level_link(l), ud);
    }
}

bool haki_bigtable_ok(struct haki_bigtable *t) {
  uint64_t entries = 0, listed = 0, aged = 0;
  bool ok = true;
  haki_bigtable_lock_all(t);
  uint32_t count = haki_bigtable_count(t);
  for (uint32_t i = 0; i < count; i++) {
    if (*slot(t, i) == NULL) continue;
    for (struct page *p = *slot(t, i); p != END; p = HAK_BIG_CHAIN(p), entries++) {
      uint32_t at = HAK_BIG_HASH(p) & (count - 1); /* INV big-1 */
      while (at != i && at >= t->first && *slot(t, at) == NULL)
        at ^= 1u << (31 - __builtin_clz(at));
      ok = ok && at == i && haki_page_kind(p) == HAK_PAGE_CACHED && *HAK_BIG_BEFORE(p) == p;
    }
  }
  for (uint32_t i = 0; i < HAK_BIG_STRIPES; i++) { /* INV big-2 */
    struct haki_big_stripe *s = &t->stripe[i];
    for (unsigned k = 0; k < 2 * HAK_BIG_CLASSES; k++) {
      unsigned purged = k / HAK_BIG_CLASSES, c = k % HAK_BIG_CLASSES;
      hak_list *all = &s->by_class[purged][c];
      for (hak_list *l = all->next; l != all; l = l->next, listed++)
        ok = ok && haki_big_purged(HAK_LIST_OF(l, struct page, link)) == purged;
      ok = ok && haki_list_empty(all) == ((t->by_class[purged][c] >> i & 1) == 0);
    }
    for (unsigned v = 0; v < HAK_BIG_LISTS; v++) {
      for (hak_list *l = s->by_level[v].next; l != &s->by_level[v]; l = l->next) aged++;
      ok = ok && haki_list_empty(&s->by_level[v]) == ((t->by_level[v] >> i & 1) == 0);
    }
  }
  ok = ok && entries == listed && entries == aged && entries == t->entries;
  haki_bigtable_unlock_all(t);
  return ok;
}

void haki_bigtable_lock_all(struct haki_bigtable *t) {
  haki_spin_lock(&t->growing);
  for (uint32_t i = 0; i < HAK_BIG_STRIPES; i++) haki_spin_lock(&t->stripe[i].lock);
}

void haki_bigtable_unlock_all(struct haki_bigtable *t) {
  for (uint32_t i = 0; i < HAK_BIG_STRIPES; i++) haki_spin_unlock(&t->stripe[i].lock);
  haki_spin_unlock(&t->growing);
}

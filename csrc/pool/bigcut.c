/* bigcut.c - big blocks cut from larger ones, and put together from smaller ones.
 * Why:   sizes vary: what waits may be too large for a request, or enough in sum and too small each.
 *        Its memory is worth more than its address.
 * Owns:  what is known of how much programs touch.   Not: budget and lists (bigcache.c).
 * Locks: none here; a block is out of all lists while it is cut or moved.
 * Start: haki_big_take_larger(), haki_big_take_gathered(). */
#include "base/knob.h"
#include "map/chunk.h"
#include "os/os.h"
#include "pool/bigcache.h"

enum { PROBE_EVERY = 16, MOVED_MOST = 8192 /* mappings; the kernel's limit for all is 65,530 */ };

static bool is_filled(struct page *p) {
  size_t middle = haki_align_down(p->size / 2, HAK_UNIT);
  return p->size != 0 && haki_os_resides((char *)haki_page_start(p) + middle);
}

/* Is the memory of blocks that wait worth some trouble? Not if programs hardly touch what they ask
 * for. To look costs a system call: `p`, one block in some, speaks for the others. */
static bool is_worth_trouble(struct haki_big *b) {
  return atomic_load_explicit(&b->filled, memory_order_relaxed) > HAK_BIG_FILLED / 2;
}

static bool may_probe(struct haki_big *b) {
  return atomic_fetch_add_explicit(&b->probes, 1, memory_order_relaxed) % PROBE_EVERY == 0;
}

static void probe(struct haki_big *b, struct page *p) {
  uint32_t filled = atomic_load_explicit(&b->filled, memory_order_relaxed),
           step = HAK_BIG_FILLED / 4;
  if (is_filled(p))
    filled = filled + step > HAK_BIG_FILLED ? HAK_BIG_FILLED : filled + step;
  else
    filled = filled < step ? 0 : filled - step;
  atomic_store_explicit(&b->filled, filled, memory_order_relaxed);
}

/* Of a block that is larger than it has to be the first n chunks stay; the rest waits for itself.
 * pre: p is out of the table, and still in the budget. */
static void cut(struct haki_big *b, struct page *p, size_t n) {
  size_t head = n << HAK_CHUNK_SHIFT, length = p->length - n;
  if (length == 0) return;
  size_t rest = p->size > head ? p->size - head : 0;
  struct page *tail = p + n * HAK_CHUNK_PAGES;
  haki_chunks_split(p, n);
  p->length = n;
  p->size -= rest;
  tail->length = length;
  tail->size = rest;
  HAK_PAGE_SET(tail, large, b->large);
  HAK_PAGE_SET(tail, kind, HAK_PAGE_CACHED);
  haki_big_classify(b, p);
  haki_big_set_level(tail, haki_big_level(p));
  HAK_BIG_SITE(tail) = HAK_BIG_SITE(p);
  HAK_BIG_SINCE(tail) = HAK_BIG_SINCE(p);
  if (haki_big_fits(rest)) {
    haki_big_classify(b, tail);
    haki_big_put(b, tail);
  } else {
    haki_big_leave(b, tail);
    haki_big_release(b, tail);
  }
}

/* ---- a block put together from others ----
 *
 * Sizes vary, so that what waits may be enough in sum and too small each. The memory of several
 * moves into one range then, by page tables: a few microseconds for what would be a thousand page
 * faults. Not worth it for blocks that their users hardly touched. */

/* Moves entries to the front of [to, to + n chunks) until it is full; charged bytes in *had.
 * Returns the chunks that have memory now. */
static size_t gather(struct haki_big *b, struct page *to, size_t n, size_t *had) {
  size_t at = 0;
  while (at < n) {
    struct page *p = haki_big_warm(b);
    if (p == NULL) break;
    bool filled = is_filled(p);
    if (filled && p->length > n - at) cut(b, p, n - at);
    size_t uncharged = p->size - haki_big_charge(p);
    bool paid = filled && (uncharged == 0 || haki_quota_charge(b->quota, uncharged));
    if (!paid || !haki_chunks_move(p, to + at * HAK_CHUNK_PAGES, p->length, p->size)) {
      if (paid) haki_quota_uncharge(b->quota, uncharged);
      haki_big_put(b, p);
      break;
    }
    haki_big_leave(b, p);
    *had += p->size;
    at += p->length;
    p->size = 0;
    HAK_PAGE_SET(p, kind, HAK_PAGE_HUGE);
    haki_big_release(b, p);
  }
  return at;
}

struct page *haki_big_take_gathered(struct haki_big *b, size_t size) {
  size_t n = haki_big_chunks(size), had = 0;
  if (!is_worth_trouble(b)) return NULL;
  if (HAK_KNOB(large, remap) == 0 ||
      atomic_load_explicit(&b->bytes, memory_order_relaxed) +
              atomic_load_explicit(&b->cooling, memory_order_relaxed) <
          size / 2 ||
      haki_chunks_moved() > MOVED_MOST)
    return NULL;
  struct page *to = haki_chunks_take(n, 1);
  if (to == NULL) return NULL;
  if (gather(b, to, n, &had) == 0) {
    haki_chunks_give(to, n, 0);
    return NULL;
  }
  to->length = n;
  to->size = had;
  haki_big_set_level(to, 0);
  HAK_PAGE_SET(to, kind, HAK_PAGE_CACHED);
  atomic_fetch_add_explicit(&b->hits_gathered, 1, memory_order_relaxed);
  return to;
}

/* The head of a block of class k or above. */
struct page *haki_big_take_larger(struct haki_big *b, unsigned k, size_t size, uint32_t hash) {
  bool look = may_probe(b);
  if (!look && !is_worth_trouble(b)) return NULL;
  struct page *p = NULL;
  for (; k < HAK_BIG_CLASSES && p == NULL; k++)
    if (atomic_load_explicit(&b->table.by_class[0][k], memory_order_relaxed) != 0)
      p = haki_bigtable_take_class(&b->table, k, hash, false);
  if (p == NULL) return NULL;
  if (look) probe(b, p);
  if (!is_worth_trouble(b)) {
    haki_big_put(b, p);
    return NULL;
  }
  cut(b, p, haki_big_chunks(size));
  return haki_big_taken(b, p, &b->hits_larger);
}

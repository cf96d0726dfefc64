/* purge.c - gives free memory back to the operating system after a while.
 * Why:   memory that is reused soon is worth keeping, memory that is not is the user's.
 * Owns:  the queue of chunks with free memory, the time of the next purge.
 * Locks: PURGE for the whole of a purge, so that a fork never meets one half-way; CHUNK only while
 *        pages are set aside or put back, never across madvise.
 * Start: haki_purge().
 *
 * A page that is being purged is neither free nor dirty: nobody can take it meanwhile. What a huge
 * block leaves is not purged at once: the next one, or a split chunk, may use it warm. */
#include "base/knob.h"
#include "base/stat.h"
#include "map/bucket.h"
#include "map/chunk.h"
#include "map/region.h"
#include "os/os.h"

enum {
  TICK_BYTES = 64 * 1024 * 1024
}; /* what one occasion purges: no request waits for gigabytes */

struct haki_lock haki_purge_lock = HAK_LOCK_INIT(HAK_RANK_PURGE);
static _Atomic(uint64_t) next_purge;

/* pre: PURGE held, the pages set aside. False: their contents are still there. */
static bool purge_run(struct page *p, size_t n, bool lazily, size_t *bytes) {
  bool zeroed = false;
  if (!haki_os_purge(haki_page_start(p), n << HAK_PAGE_SHIFT, lazily, &zeroed)) return false;
  for (size_t i = 0; i < n; i++) {
    *bytes += (size_t)HAK_PAGE_GET(&p[i], touched) * HAK_UNIT;
    if (zeroed) HAK_PAGE_SET(&p[i], touched, 0);
  }
  return true;
}

/* pre: PURGE held. A chunk that a huge block left; BODY meanwhile, so that nobody takes it. */
static size_t purge_spare(struct haki_region *r, struct chunk *c) {
  uint32_t at = (uint32_t)(c - r->chunks);
  size_t bytes = 0;
  haki_lock(&haki_chunk_lock);
  if (haki_chunk_kind(r, at) == HAK_CHUNK_SPARE) {
    bytes = (size_t)c->spare * HAK_UNIT;
    haki_region_set_kind(r, at, 1, HAK_CHUNK_BODY, HAK_CHUNK_BODY);
  }
  haki_unlock(&haki_chunk_lock);
  if (bytes == 0) return 0;
  char *start = haki_page_start(haki_chunk_pages(r, c));
  /* page tables were moved here: a fresh mapping joins its neighbours again */
  bool fresh = c->moved && haki_os_refresh(start, HAK_CHUNK_SIZE), zeroed = fresh;
  if (!fresh) haki_os_purge(start, bytes, false, &zeroed);
  haki_lock(&haki_chunk_lock);
  if (fresh) {
    c->moved = c->huge_asked = false;
    atomic_fetch_sub_explicit(&haki_moved_chunks, 1, memory_order_relaxed);
  }
  if (zeroed) {
    c->spare = 0;
  } else {
    haki_chunk_queue(c, haki_os_now_coarse());
    bytes = 0;
  }
  enum chunk_kind kind = zeroed ? HAK_CHUNK_NONE : HAK_CHUNK_SPARE;
  haki_region_set_kind(r, at, 1, kind, kind);
  haki_unlock(&haki_chunk_lock);
  return bytes;
}

/* pre: PURGE held. */
static size_t purge_split(struct haki_region *r, struct chunk *c, bool lazily) {
  size_t bytes = 0;
  haki_lock(&haki_chunk_lock);
  uint64_t map = 0;
  if (haki_chunk_kind(r, (size_t)(c - r->chunks)) == HAK_CHUNK_SPLIT)
    map = c->lazy && !lazily ? c->free : c->dirty;
  if (map != 0) {
    c->free &= ~map;
    c->dirty = 0;
    haki_chunk_rebucket(c);
  }
  haki_unlock(&haki_chunk_lock);
  uint64_t failed = 0, left = map;
  while (left != 0) {
    unsigned at = (unsigned)__builtin_ctzll(left), n = 0;
    while (at + n < 64 && (left >> (at + n) & 1) != 0) n++;
    uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << at;
    if (!purge_run(haki_chunk_pages(r, c) + at, n, lazily, &bytes)) failed |= mask;
    left &= ~mask;
  }
  haki_lock(&haki_chunk_lock);
  if (map != 0) {
    c->free |= map;
    c->dirty |= failed; /* try again in a while */
    c->lazy = lazily;
    if (failed != 0) haki_chunk_queue(c, haki_os_now_coarse());
    haki_chunk_rebucket(c);
  }
  if (haki_chunk_kind(r, (size_t)(c - r->chunks)) == HAK_CHUNK_SPLIT && c->free == ~0ull &&
      c->dirty == 0 && !lazily) {
    haki_list_remove(&c->link);
    haki_chunks_release(r, c, 1);
  }
  haki_unlock(&haki_chunk_lock);
  return bytes;
}

/* ---- the queue of chunks that hold free memory, oldest first; CHUNK ---- */

static struct chunk *oldest, **newest = &oldest;
static size_t queue_length;

void haki_chunk_queue(struct chunk *c, uint64_t now) {
  if (c->queued) return;
  c->queued = true;
  c->since = now;
  c->next_dirty = NULL;
  *newest = c;
  newest = &c->next_dirty;
  queue_length++;
}

/* pre: CHUNK held, the queue not empty. */
static struct chunk *pop(void) {
  struct chunk *c = oldest;
  oldest = c->next_dirty;
  if (oldest == NULL) newest = &oldest;
  c->queued = false;
  queue_length--;
  return c;
}

/* The oldest chunk, if it has waited since before `older_than`; NULL: none has. A chunk of huge
 * blocks may have served another one while it waited: it lines up again behind. */
static struct chunk *dequeue(uint64_t older_than) {
  struct chunk *c = NULL;
  haki_lock(&haki_chunk_lock);
  for (size_t n = queue_length; n != 0; n--) {
    struct haki_region *r = haki_chunk_region(oldest);
    if (oldest->since <= older_than) {
      c = pop();
      break;
    }
    if (haki_chunk_kind(r, (size_t)(oldest - r->chunks)) == HAK_CHUNK_SPLIT) break;
    struct chunk *renewed = pop();
    haki_chunk_queue(renewed, renewed->since);
  }
  haki_unlock(&haki_chunk_lock);
  return c;
}

/* pre: PURGE held. Stops after about `most` bytes. */
static size_t purge_older(uint64_t older_than, bool lazily, size_t most) {
  size_t bytes = 0;
  haki_lock(&haki_chunk_lock);
  size_t n = queue_length; /* those that cannot be purged line up again behind */
  haki_unlock(&haki_chunk_lock);
  for (; n != 0 && bytes < most; n--) {
    struct chunk *c = dequeue(older_than);
    if (c == NULL) break;
    struct haki_region *r = haki_chunk_region(c);
    bytes += haki_chunk_kind(r, (size_t)(c - r->chunks)) == HAK_CHUNK_SPLIT
                 ? purge_split(r, c, lazily)
                 : purge_spare(r, c);
  }
  return bytes;
}

size_t haki_purge(bool all) {
  uint64_t now = haki_os_now_coarse(), decay = HAK_KNOB(purge, decay);
  haki_lock(&haki_purge_lock);
  size_t bytes = purge_older(all ? UINT64_MAX : now > decay ? now - decay : 0, false, SIZE_MAX);
  haki_unlock(&haki_purge_lock);
  return bytes;
}

size_t haki_purge_tick(void) {
  uint64_t mode = HAK_KNOB(purge, mode);
  if (mode == 2) return 0;
  uint64_t now = haki_os_now_coarse(), decay = HAK_KNOB(purge, decay);
  uint64_t due = atomic_load_explicit(&next_purge, memory_order_relaxed);
  if (HAK_LIKELY(now < due && due <= now + decay)) return 0;
  if (!haki_trylock(&haki_purge_lock)) return 0;
  /* twice per decay time: memory stays between one and one and a half of it */
  atomic_store_explicit(&next_purge, now + decay / 2, memory_order_relaxed);
  size_t bytes = purge_older(now > decay ? now - decay : 0, mode == 1, TICK_BYTES);
  if (bytes >= TICK_BYTES)
    atomic_store_explicit(&next_purge, 0, memory_order_relaxed); /* more at the next occasion */
  haki_unlock(&haki_purge_lock);
  return bytes;
}

bool haki_purge_pending(void) {
  if (HAK_KNOB(purge, mode) == 2) return false;
  haki_lock(&haki_chunk_lock);
  bool any = queue_length != 0;
  haki_unlock(&haki_chunk_lock);
  return any;
}

void haki_chunks_give(struct page *first, size_t n, size_t bytes) {
  struct haki_region *r = haki_page_region(first);
  struct chunk *c = haki_chunk_of_page(r, first);
  size_t units = haki_align_up(bytes, HAK_UNIT) / HAK_UNIT;
  uint64_t now = haki_os_now_coarse();
  haki_lock(&haki_chunk_lock);
  for (size_t i = 0; i < n; i++) {
    size_t mine = units < HAK_CHUNK_UNITS ? units : HAK_CHUNK_UNITS;
    size_t seen = HAK_PAGE_GET(&first[i * HAK_CHUNK_PAGES], touched);
    units -= mine;
    HAK_PAGE_SET(&first[i * HAK_CHUNK_PAGES], touched, 0);
    c[i].spare = (uint16_t)(mine > seen ? mine : seen);
    if (c[i].spare != 0) haki_chunk_queue(&c[i], now);
    c[i].since = now; /* also if it is in the queue from an earlier block */
  }
  haki_chunks_release(r, c, n);
  haki_unlock(&haki_chunk_lock);
}

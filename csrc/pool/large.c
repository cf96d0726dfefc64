/* large.c - large blocks on runs of pages and on whole chunks.
 * Why, Owns, Locks: see large.h.
 * Start: haki_large_alloc(), haki_large_resize().
 *
 * A block is charged by its bytes rounded to 4 KiB; the rest of its last page or chunk is address
 * space that nobody touches. */
#include "pool/large.h"

#include <string.h>

#include "base/knob.h"
#include "map/chunk.h"
#include "os/os.h"

struct haki_lock haki_large_lock = HAK_LOCK_INIT(HAK_RANK_LARGE);

void haki_large_init(struct haki_large *l, struct haki_quota *quota, bool shared) {
  haki_list_init(&l->blocks);
  l->quota = quota;
  l->shared = shared;
}

static void lock(struct haki_large *l) {
  if (l->shared) haki_lock(&haki_large_lock);
}
static void unlock(struct haki_large *l) {
  if (l->shared) haki_unlock(&haki_large_lock);
}

static size_t room(const struct page *p) {
  return p->length << (haki_page_kind(p) == HAK_PAGE_RUN ? HAK_PAGE_SHIFT : HAK_CHUNK_SHIFT);
}

/* From now on the first `bytes` of a run may hold data. */
static void mark_touched(struct page *p, size_t pages, size_t bytes) {
  size_t units = bytes / HAK_UNIT;
  for (size_t i = 0; i < pages && units != 0; i++) {
    size_t mine = units > HAK_UNITS_PER_PAGE ? HAK_UNITS_PER_PAGE : units;
    units -= mine;
    if (mine > HAK_PAGE_GET(&p[i], touched)) HAK_PAGE_SET(&p[i], touched, (uint16_t)mine);
  }
}

static void clear_touched(struct page *p, size_t bytes) {
  char *start = haki_page_start(p);
  for (size_t i = 0; i << HAK_PAGE_SHIFT < bytes; i++) {
    size_t held = (size_t)HAK_PAGE_GET(&p[i], touched) * HAK_UNIT;
    size_t left = bytes - (i << HAK_PAGE_SHIFT);
    memset(start + (i << HAK_PAGE_SHIFT), 0, held < left ? held : left);
  }
}

static void clear_touched_chunks(struct page *p, size_t bytes) {
  char *start = haki_page_start(p);
  for (size_t i = 0; i << HAK_CHUNK_SHIFT < bytes; i++) {
    size_t held = (size_t)HAK_PAGE_GET(&p[i * HAK_CHUNK_PAGES], touched) * HAK_UNIT;
    size_t left = bytes - (i << HAK_CHUNK_SHIFT);
    memset(start + (i << HAK_CHUNK_SHIFT), 0, held < left ? held : left);
  }
}

/* What the kernel would refuse a mapping for: reserved space is granted without a look at it. */
static bool absurd(size_t size) { return size > HAK_CHUNK_SIZE * 64 && size > haki_os_memory(); }

static struct page *take(size_t size, size_t align, bool zero) {
  if (absurd(size)) return NULL;
  struct page *p;
  size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
  if (pages <= HAK_RUN_PAGES_MAX && align < HAK_CHUNK_SIZE) {
    p = haki_pages_take(pages, align <= HAK_PAGE_SIZE ? 1 : align >> HAK_PAGE_SHIFT);
    if (p == NULL) return NULL;
    if (zero) clear_touched(p, size);
    mark_touched(p, pages, size);
    p->length = pages;
    HAK_PAGE_SET(p, kind, HAK_PAGE_RUN);
    return p;
  }
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  p = haki_chunks_take(chunks, align <= HAK_CHUNK_SIZE ? 1 : align >> HAK_CHUNK_SHIFT);
  if (p == NULL) return NULL;
  if (zero) clear_touched_chunks(p, size);
  p->length = chunks;
  HAK_PAGE_SET(p, flags, 0);
  HAK_PAGE_SET(p, kind, HAK_PAGE_HUGE);
  return p;
}

void *haki_large_alloc(struct haki_large *l, size_t size, size_t align, bool zero) {
  size = haki_align_up(size + (size == 0), HAK_UNIT);
  uint64_t level;
  if (!haki_quota_reserve(l->quota, size, &level)) return NULL;
  struct page *p = take(size, align, zero);
  if (p == NULL && haki_purge(true) != 0)
    p = take(size, align, zero); /* empty chunks are free now */
  if (p == NULL) {
    haki_quota_uncharge(l->quota, size);
    return NULL;
  }
  haki_quota_note(l->quota, level);
  p->size = size;
  p->large = l;
  haki_list_init(&p->link);
  HAK_PAGE_SET(p, owner, NULL);
  lock(l);
  haki_list_insert(&l->blocks, &p->link);
  haki_cell_add(&l->count, 1);
  haki_cell_add(&l->bytes, size);
  haki_cell_add(&l->allocs, 1);
  unlock(l);
  return haki_page_start(p);
}

struct page *haki_large_check(struct page *page, const void *p) {
  bool at_start = page != NULL && ((uintptr_t)p & (HAK_PAGE_SIZE - 1)) == 0;
  if (HAK_LIKELY(at_start && haki_page_is_large(page))) return page;
  if (page != NULL && haki_page_is_large(page)) haki_fatal("invalid free: not a block start", p);
  if (at_start && haki_page_kind(page) == HAK_PAGE_FREE &&
      (HAK_PAGE_GET(page, flags) & HAK_PAGE_WAS_LARGE) != 0)
    haki_fatal("double free", p);
  if (page != NULL && haki_page_kind(page) == HAK_PAGE_FREE) {
    /* inside of a run or of a huge block? */
    if (haki_chunks_head(p) != NULL) haki_fatal("invalid free: not a block start", p);
    struct haki_region *r = haki_page_region(page);
    for (size_t back = 1; back < HAK_RUN_PAGES_MAX && (size_t)(page - r->pages) >= back; back++)
      if (haki_page_kind(page - back) != HAK_PAGE_FREE) {
        if (haki_page_kind(page - back) == HAK_PAGE_RUN && (page - back)->length > back)
          haki_fatal("invalid free: not a block start", p);
        break;
      }
  }
  haki_fatal("invalid free: not owned", p);
}

/* pre: unlinked, uncharged. */
static void give(struct page *p) {
  unsigned kind = haki_page_kind(p);
  size_t length = p->length, size = p->size;
  p->size = 0;
  p->large = NULL;
  HAK_PAGE_SET(p, flags, HAK_PAGE_WAS_LARGE);
  HAK_PAGE_SET(p, kind, HAK_PAGE_FREE);
  if (kind == HAK_PAGE_RUN)
    haki_pages_give(p, length);
  else
    haki_chunks_give(p, length, size);
}

void haki_large_free(struct page *p) {
  struct haki_large *l = p->large;
  size_t size = p->size;
  lock(l);
  haki_list_remove(&p->link);
  haki_cell_sub(&l->count, 1);
  haki_cell_sub(&l->bytes, size);
  unlock(l);
  give(p);
  haki_quota_uncharge(l->quota, size);
  haki_purge_tick();
}

/* Bytes of the block changed from p->size to size; `counter` says how. */
static void resized(struct page *p, size_t size, hak_cell *counter) {
  struct haki_large *l = p->large;
  lock(l);
  haki_cell_add(&l->bytes, size - p->size);
  p->size = size;
  haki_cell_add(counter, 1);
  unlock(l);
}

static void shrink(struct page *p, size_t size) {
  size_t was = p->size;
  char *start = haki_page_start(p);
  if (haki_page_kind(p) == HAK_PAGE_RUN) {
    size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
    size_t extra = p->length - pages;
    p->length = pages;
    if (extra != 0) haki_pages_give(p + pages, extra);
  } else {
    size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
    size_t extra = p->length - chunks, kept = chunks << HAK_CHUNK_SHIFT;
    if (kept > was) kept = was;
    bool zeroed;
    if (kept > size && !haki_os_purge(start + size, kept - size, false, &zeroed))
      HAK_PAGE_SET(&p[(chunks - 1) * HAK_CHUNK_PAGES], touched, HAK_CHUNK_UNITS);
    if (extra != 0) {
      p->length = chunks;
      size_t held = was > chunks << HAK_CHUNK_SHIFT ? was - (chunks << HAK_CHUNK_SHIFT) : 0;
      haki_chunks_give(p + chunks * HAK_CHUNK_PAGES, extra, held);
    }
  }
  resized(p, size, &p->large->in_place);
  haki_quota_uncharge(p->large->quota, was - size);
}

static bool grow_in_place(struct page *p, size_t size) {
  if (size <= room(p)) return true;
  if (haki_page_kind(p) == HAK_PAGE_RUN) {
    size_t pages = haki_align_up(size, HAK_PAGE_SIZE) >> HAK_PAGE_SHIFT;
    if (pages > HAK_RUN_PAGES_MAX || !haki_pages_extend(p, p->length, pages - p->length))
      return false;
    p->length = pages;
    return true;
  }
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  if (!haki_chunks_extend(p, p->length, chunks - p->length)) return false;
  p->length = chunks;
  return true;
}

/* Moves the pages of a huge block to a longer range of chunks. */
static struct page *move_pages(struct page *p, size_t size) {
  if (haki_page_kind(p) != HAK_PAGE_HUGE || HAK_KNOB(large, remap) == 0) return NULL;
  size_t chunks = haki_align_up(size, HAK_CHUNK_SIZE) >> HAK_CHUNK_SHIFT;
  struct page *to = haki_chunks_take(chunks, 1);
  if (to == NULL) return NULL;
  if (!haki_os_move_pages(haki_page_start(p), haki_page_start(to), p->size)) {
    haki_chunks_give(to, chunks, 0);
    return NULL;
  }
  haki_chunks_set_moved(to, chunks);
  struct haki_large *l = p->large;
  to->length = chunks;
  to->size = p->size;
  to->large = l;
  haki_list_init(&to->link);
  HAK_PAGE_SET(to, owner, NULL);
  HAK_PAGE_SET(to, flags, 0);
  HAK_PAGE_SET(to, kind, HAK_PAGE_HUGE);
  lock(l);
  haki_list_remove(&p->link);
  haki_list_insert(&l->blocks, &to->link);
  unlock(l);
  p->size = 0; /* its memory has gone: nothing to purge */
  give(p);
  return to;
}

void *haki_large_resize(struct page *p, void *ptr, size_t size) {
  size = haki_align_up(size, HAK_UNIT);
  if (size <= p->size) {
    if (size < p->size) shrink(p, size);
    return ptr;
  }
  size_t more = size - p->size;
  struct haki_large *l = p->large;
  uint64_t level;
  if (absurd(size) || !haki_quota_reserve(l->quota, more, &level)) return NULL;
  if (grow_in_place(p, size)) {
    if (haki_page_kind(p) == HAK_PAGE_RUN) mark_touched(p, p->length, size);
    resized(p, size, &l->in_place);
    haki_quota_note(l->quota, level);
    return ptr;
  }
  struct page *to = move_pages(p, size);
  if (to == NULL) {
    haki_quota_uncharge(l->quota, more);
    return NULL;
  }
  resized(to, size, &l->remaps);
  haki_quota_note(l->quota, level);
  return haki_page_start(to);
}

void haki_large_note_copy(struct haki_large *l) {
  lock(l);
  haki_cell_add(&l->copies, 1);
  unlock(l);
}

void haki_large_drop(struct haki_large *l) {
  while (!haki_list_empty(&l->blocks))
    haki_large_free(HAK_LIST_OF(l->blocks.next, struct page, link));
}

bool haki_large_ok(struct haki_large *l) {
  size_t count = 0, bytes = 0;
  lock(l);
  for (hak_list *i = l->blocks.next; i != &l->blocks; i = i->next) {
    struct page *p = HAK_LIST_OF(i, struct page, link);
    if (p->large != l || p->size > room(p)) count += SIZE_MAX / 2;
    count++;
    bytes += p->size;
  }
  bool ok = count == haki_cell_get(&l->count) && bytes == haki_cell_get(&l->bytes);
  unlock(l);
  return ok;
}

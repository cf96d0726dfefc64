/* meta.c - metadata memory: bump allocation from 256 KiB pieces, free lists by size.
 * Why:   see meta.h.
 * Owns:  the pieces.  They are never given back: descriptors are few and type-stable.
 * Locks: META, rank below every caller's.
 * Start: haki_meta_alloc(). */
#include "map/meta.h"

#include <string.h>

#include "os/os.h"

enum { STEP = 64, LARGEST = 64 * 1024, PIECE = 256 * 1024 };

struct free_meta {
  struct free_meta *next;
};

struct haki_lock haki_meta_lock = HAK_LOCK_INIT(HAK_RANK_META);
static char *cur, *end;
static struct free_meta *bin[LARGEST / STEP + 1];
static _Atomic(size_t) bytes;

/* pre: META held. */
static bool refill(void) {
  char *p = haki_os_reserve(PIECE, 4096); /* where Lua can name it: arenas lie here */
  if (p == NULL) return false;
  if (!haki_os_commit(p, PIECE)) {
    haki_os_release(p, PIECE);
    return false;
  }
  cur = p; /* the rest of the last piece is lost: less than one descriptor table */
  end = p + PIECE;
  return true;
}

void *haki_meta_alloc(size_t size) {
  size = haki_align_up(size, STEP);
  HAK_ASSERT(size != 0 && size <= LARGEST);
  if (haki_fault_hit(HAK_FAULT_META)) return NULL;
  haki_lock(&haki_meta_lock);
  struct free_meta *p = bin[size / STEP];
  if (p != NULL) {
    bin[size / STEP] = p->next;
    memset(p, 0, size);
  } else if ((size_t)(end - cur) >= size || refill()) {
    p = (struct free_meta *)cur; /* fresh pages read as zero */
    cur += size;
  }
  haki_unlock(&haki_meta_lock);
  if (p != NULL) atomic_fetch_add_explicit(&bytes, size, memory_order_relaxed);
  return p;
}

void haki_meta_free(void *ptr, size_t size) {
  struct free_meta *p = ptr;
  size = haki_align_up(size, STEP);
  haki_lock(&haki_meta_lock);
  p->next = bin[size / STEP];
  bin[size / STEP] = p;
  haki_unlock(&haki_meta_lock);
  atomic_fetch_sub_explicit(&bytes, size, memory_order_relaxed);
}

void *haki_meta_pages(size_t size) {
  size = haki_align_up(size, 4096);
  if (haki_fault_hit(HAK_FAULT_META)) return NULL;
  void *p = haki_os_map(size);
  if (p == NULL) return NULL;
  haki_meta_add(size);
  return p;
}

void haki_meta_pages_free(void *p, size_t size) {
  size = haki_align_up(size, 4096);
  haki_os_release(p, size);
  haki_meta_add(-size);
}

size_t haki_meta_bytes(void) { return atomic_load_explicit(&bytes, memory_order_relaxed); }
void haki_meta_add(size_t n) { atomic_fetch_add_explicit(&bytes, n, memory_order_relaxed); }

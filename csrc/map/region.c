/* region.c - reserves regions and finds room for chunks in them.
 * Why:   see region.h. A reservation is halved until the system grants it; under an address limit
 *        the first one asks for an eighth of it, since PROT_NONE space counts there. Descriptors
 *        can be read from the start, for any address may be asked about, and written once their
 *        chunks are used: what can be written counts as memory (RLIMIT_DATA, strict overcommit).
 * Owns:  haki_regions[], haki_region_count.
 * Locks: CHUNK. Readers of the directory take none: an entry is complete before it is counted.
 * Start: haki_region_find(). */
#include "map/region.h"

#include "base/knob.h"
#include "base/log.h"
#include "base/stat.h"
#include "map/meta.h"
#include "os/os.h"

enum {
  MIN_REGION = 4 * HAK_CHUNK_SIZE,
  DESCRIBED_STEP = HAK_AUDIT_BUILD ? 2 : 64, /* chunks whose descriptors become writable at once */
  OUT_BYTES = HAK_CHUNK_SIZE / 64            /* hardened.h: a bit for 8 bytes of a chunk */
};

struct haki_region haki_regions[HAK_REGIONS_MAX];
_Atomic(uint32_t) haki_region_count;

static size_t used_words(size_t chunks) { return chunks / 64 + 2; }

/* The tables of a region, one after the other. */
struct layout {
  size_t pages, out, chunks, kind, used; /* where each starts; no `out` but in hardened builds */
  size_t size;
};

static size_t after(size_t at, size_t size) {
  return haki_align_up(at + size, haki_os_page_size());
}

static struct layout layout_of(size_t chunks) {
  struct layout t = {0};
  t.out = after(t.pages, chunks * HAK_CHUNK_PAGES * sizeof(struct page));
  t.chunks = after(t.out, HAK_HARDENED ? chunks * OUT_BYTES : 0);
  t.kind = after(t.chunks, chunks * sizeof(struct chunk));
  t.used = after(t.kind, chunks);
  t.size = after(t.used, used_words(chunks) * 8);
  return t;
}

/* Reserves `span` bytes and their descriptors. False: not to be had, nothing kept. */
static bool reserve(struct haki_region *r, size_t span) {
  size_t chunks = span >> HAK_CHUNK_SHIFT;
  struct layout t = layout_of(chunks);
  char *base = haki_os_reserve(span, HAK_CHUNK_SIZE);
  if (base == NULL) return false;
  char *table = haki_os_reserve(t.size, haki_os_page_size());
  if (table == NULL || !haki_os_readable(table, t.chunks) ||
      !haki_os_commit(table + t.chunks, t.size - t.chunks)) {
    if (table != NULL) haki_os_release(table, t.size);
    haki_os_release(base, span);
    return false;
  }
  r->base = (uintptr_t)base;
  r->span = span;
  r->chunk_count = (uint32_t)chunks;
  r->pages = (struct page *)table;
#if HAK_HARDENED
  r->out = (_Atomic(uint8_t) *)(table + t.out);
#endif
  r->chunks = (struct chunk *)(table + t.chunks);
  r->kind = (_Atomic(uint8_t) *)(table + t.kind);
  r->used = (uint64_t *)(table + t.used);
  r->used[chunks / 64] = ~0ull << (chunks % 64);
  r->used[chunks / 64 + 1] = ~0ull;
  r->lowest = r->described = 0;
  return true;
}

/* Makes the descriptors of the first n chunks writable. pre: CHUNK held. */
static bool describe(struct haki_region *r, size_t n) {
  if (HAK_LIKELY(n <= r->described)) return true;
  n = haki_align_up(n, DESCRIBED_STEP);
  if (n > r->chunk_count) n = r->chunk_count;
  size_t from = r->described, more = n - from;
  char *pages = (char *)&r->pages[from * HAK_CHUNK_PAGES];
  if (!haki_os_commit(pages, after(0, more * HAK_CHUNK_PAGES * sizeof(struct page)))) return false;
#if HAK_HARDENED
  if (!haki_os_commit((char *)r->out + from * OUT_BYTES, after(0, more * OUT_BYTES))) return false;
#endif
  r->described = (uint32_t)n;
  return true;
}

/* pre: CHUNK held. Adds a region with room for n chunks. */
static struct haki_region *add_region(size_t n) {
  uint32_t count = atomic_load_explicit(&haki_region_count, memory_order_relaxed);
  if (count == HAK_REGIONS_MAX || n > (SIZE_MAX >> (HAK_CHUNK_SHIFT + 2))) return NULL;
  size_t need = n << HAK_CHUNK_SHIFT;
  if (need < MIN_REGION) need = MIN_REGION;
  size_t want = HAK_KNOB(os, region);
  size_t limit = haki_os_address_limit();
  size_t have = 0; /* each further region doubles what there is: their number is limited */
  for (uint32_t i = 0; i < count; i++) have += haki_regions[i].span;
  if (want < have) want = have;
  if (limit != SIZE_MAX && want > limit / 8) want = limit / 8;
  want = haki_align_down(want, HAK_CHUNK_SIZE);
  if (want < need) want = need;
  struct haki_region *r = &haki_regions[count];
  haki_knob_started(); /* os.region has been used */
  for (;;) {
    if (reserve(r, want)) break;
    if (want == need) return NULL;
    want = haki_align_down(want / 2, HAK_CHUNK_SIZE);
    if (want < need) want = need;
  }
  /* release: pairs with haki_region_of() */
  atomic_store_explicit(&haki_region_count, count + 1, memory_order_release);
  HAK_STAT_ADD(os, region, want);
  HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Region %u: %zu MiB of address space", count, want >> 20);
  return r;
}

__extension__ typedef unsigned __int128 uint128;

/* First run of n <= 64 unused chunks; UINT32_MAX: none. */
static uint32_t find_short(struct haki_region *r, size_t n) {
  for (uint32_t w = r->lowest / 64; w <= r->chunk_count / 64; w++) {
    if (r->used[w] == ~0ull) continue;
    uint128 starts = ~((uint128)r->used[w + 1] << 64 | r->used[w]);
    for (size_t have = 1; have < n;) { /* bit i: `have` unused ones start here */
      size_t step = have < n - have ? have : n - have;
      starts &= starts >> step;
      have += step;
    }
    if ((uint64_t)starts != 0) return w * 64 + (uint32_t)__builtin_ctzll((uint64_t)starts);
  }
  return UINT32_MAX;
}

/* First fit from the lowest unused chunk on; UINT32_MAX: none. */
static uint32_t find_in(struct haki_region *r, size_t n, size_t align) {
  if (n <= 64 && align == 1) return find_short(r, n);
  uint32_t at = r->lowest;
  while (at + n <= r->chunk_count) {
    uintptr_t address = r->base + ((uintptr_t)at << HAK_CHUNK_SHIFT);
    at +=
        (uint32_t)((haki_align_up(address, align << HAK_CHUNK_SHIFT) - address) >> HAK_CHUNK_SHIFT);
    if (at + n > r->chunk_count) break;
    size_t k = 0;
    while (k < n && haki_chunk_unused(r, at + k)) k++;
    if (k == n) return at;
    at += (uint32_t)k + 1;
  }
  return UINT32_MAX;
}

/* The kernel counts the reservation against RLIMIT_AS when it is made, not what is committed of it: a
 * limit that the process has given itself since then is kept here. pre: CHUNK held. */
static bool commit_within_limit(char *p, size_t size) {
  static size_t committed;
  if (committed + size > haki_os_address_limit() || !haki_os_commit(p, size)) return false;
  committed += size;
  return true;
}

bool haki_region_commit(struct haki_region *r, uint32_t at, size_t n) {
  if (!describe(r, at + n)) return false;
  for (size_t i = 0; i < n;) {
    size_t k = i;
    while (k < n && !r->chunks[at + k].committed) k++;
    if (k > i) {
      char *p = (char *)r->base + ((uintptr_t)(at + i) << HAK_CHUNK_SHIFT);
      if (!commit_within_limit(p, (k - i) << HAK_CHUNK_SHIFT)) return false;
      for (size_t j = i; j < k; j++) r->chunks[at + j].committed = true;
    }
    i = k + 1;
  }
  uint32_t fresh = atomic_load_explicit(&r->fresh, memory_order_relaxed);
  if (at + n > fresh) {
    haki_meta_add((at + n - fresh) *
                  (HAK_CHUNK_PAGES * sizeof(struct page) + sizeof(struct chunk) + 1));
    atomic_store_explicit(&r->fresh, (uint32_t)(at + n), memory_order_release);
  }
  return true;
}

void haki_region_set_kind(struct haki_region *r, uint32_t at, size_t n, enum chunk_kind first,
                          enum chunk_kind rest) {
  bool unused = first == HAK_CHUNK_NONE || first == HAK_CHUNK_SPARE;
  for (size_t i = 0; i < n; i++) {
    uint64_t bit = 1ull << ((at + i) % 64), *word = &r->used[(at + i) / 64];
    atomic_store_explicit(&r->kind[at + i], (uint8_t)(i == 0 ? first : rest), memory_order_relaxed);
    *word = unused ? *word & ~bit : *word | bit;
  }
  if (unused && at < r->lowest) r->lowest = at;
  while (!unused && r->lowest < r->chunk_count && r->used[r->lowest / 64] == ~0ull)
    r->lowest = (r->lowest / 64 + 1) * 64; /* by words: a hint, no more */
}

struct chunk *haki_region_find(size_t n, size_t align, struct haki_region **region) {
  uint32_t count = atomic_load_explicit(&haki_region_count, memory_order_relaxed);
  for (uint32_t i = 0; i <= count; i++) {
    struct haki_region *r = i < count ? &haki_regions[i] : add_region(n + align - 1);
    if (r == NULL) return NULL;
    uint32_t at = find_in(r, n, align);
    if (at == UINT32_MAX) continue;
    if (!haki_region_commit(r, at, n)) return NULL;
    *region = r;
    return &r->chunks[at];
  }
  return NULL;
}

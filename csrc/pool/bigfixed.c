/* bigfixed.c - see bigfixed.h.
 * Why, Owns, Locks: there.
 * Start: haki_bigfixed_put(), haki_bigfixed_take(). */
#include "pool/bigfixed.h"

static struct haki_fixed_row *row_of(struct haki_bigfixed *f, uintptr_t site) {
  uint64_t x = (uint64_t)site * 0x9e3779b97f4a7c15u; /* golden ratio, multiplicative hashing */
  return &f->row[x >> 56];
}

static unsigned column(size_t size) { return haki_big_class(size) / 8; }

struct page *haki_bigfixed_put(struct haki_bigfixed *f, struct page *p) {
  struct haki_fixed_row *r = row_of(f, HAK_BIG_SITE(p));
  unsigned c = column(p->size);
  haki_spin_lock(&r->lock);
  struct page *out = r->slot[c];
  r->slot[c] = p;
  haki_spin_unlock(&r->lock);
  if (out == NULL) atomic_fetch_add_explicit(&f->entries, 1, memory_order_relaxed);
  return out;
}

struct page *haki_bigfixed_take(struct haki_bigfixed *f, size_t size, size_t chunks,
                                uintptr_t site) {
  struct haki_fixed_row *r = row_of(f, site);
  unsigned c = column(size);
  haki_spin_lock(&r->lock);
  r->uses[c]++;
  struct page *p = r->slot[c];
  if (p != NULL && p->length >= chunks)
    r->slot[c] = NULL;
  else
    p = NULL;
  haki_spin_unlock(&r->lock);
  if (p != NULL) atomic_fetch_sub_explicit(&f->entries, 1, memory_order_relaxed);
  return p;
}

static struct page *rarest_of(struct haki_fixed_row *r, uint64_t until) {
  unsigned best = HAK_FIXED_CLASSES;
  for (unsigned c = 0; c < HAK_FIXED_CLASSES; c++)
    if (r->slot[c] != NULL && HAK_BIG_SINCE(r->slot[c]) <= until &&
        (best == HAK_FIXED_CLASSES || r->uses[c] < r->uses[best]))
      best = c;
  if (best == HAK_FIXED_CLASSES) return NULL;
  struct page *p = r->slot[best];
  r->slot[best] = NULL;
  r->uses[best] = 0;
  return p;
}

struct page *haki_bigfixed_take_rarest(struct haki_bigfixed *f, uint64_t until) {
  if (atomic_load_explicit(&f->entries, memory_order_relaxed) == 0) return NULL;
  uint32_t hand = atomic_fetch_add_explicit(&f->hand, 1, memory_order_relaxed);
  for (uint32_t k = 0; k < HAK_FIXED_ROWS; k++) {
    struct haki_fixed_row *r = &f->row[(hand + k) % HAK_FIXED_ROWS];
    haki_spin_lock(&r->lock);
    struct page *p = rarest_of(r, until);
    haki_spin_unlock(&r->lock);
    if (p == NULL) continue;
    atomic_fetch_sub_explicit(&f->entries, 1, memory_order_relaxed);
    return p;
  }
  return NULL;
}

void haki_bigfixed_walk(struct haki_bigfixed *f, void (*visit)(struct page *p, void *ud),
                        void *ud) {
  for (int i = 0; i < HAK_FIXED_ROWS; i++)
    for (int c = 0; c < HAK_FIXED_CLASSES; c++)
      if (f->row[i].slot[c] != NULL) visit(f->row[i].slot[c], ud);
}

void haki_bigfixed_lock_all(struct haki_bigfixed *f) {
  for (int i = 0; i < HAK_FIXED_ROWS; i++) haki_spin_lock(&f->row[i].lock);
}
void haki_bigfixed_unlock_all(struct haki_bigfixed *f) {
  for (int i = 0; i < HAK_FIXED_ROWS; i++) haki_spin_unlock(&f->row[i].lock);
}

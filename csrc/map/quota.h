/* quota.h - what an arena may commit, and what it has.
 * Why:   a charge is taken before memory is, so that `charged` never passes `hard`, not even for a
 *        moment; private arenas pay no locked instruction for that.
 * Owns:  charged, peak, the limits.   Not: what happens on refusal (heap/).
 * INV quota-1: hard == 0 or charged <= hard, unless the limit was lowered below the charge.
 * Start: haki_quota_charge(). */
#ifndef HAK_QUOTA_H
#define HAK_QUOTA_H

#include "base/debug.h"

struct haki_quota {
  hak_cell charged, peak;
  hak_cell soft, hard; /* 0: none */
  hak_cell soft_next;  /* the next charge at which soft is reported; UINT64_MAX: not armed */
  hak_cell refusals, crossings;
  _Atomic(uint32_t) crossed; /* soft passed, on_soft not called yet */
  _Atomic(uint32_t) refused; /* a charge was refused since this was last cleared */
  bool shared;               /* several writers */
};

HAK_INLINE void haki_quota_note_peak(struct haki_quota *q, uint64_t now) {
  uint64_t seen = haki_cell_get(&q->peak);
  if (HAK_LIKELY(now <= seen)) return;
  if (!q->shared) {
    haki_cell_set(&q->peak, now);
    return;
  }
  while (now > seen && !atomic_compare_exchange_weak_explicit(
                           &q->peak, &seen, now, memory_order_relaxed, memory_order_relaxed)) {
  }
}

HAK_INLINE bool haki_quota_refuse(struct haki_quota *q) {
  atomic_store_explicit(&q->refused, 1, memory_order_relaxed);
  return false;
}

/* Reserves n bytes; *level is the charge with them, for haki_quota_note() once the memory is there.
 * False: the hard limit forbids it; nothing has changed. */
HAK_INLINE bool haki_quota_reserve(struct haki_quota *q, size_t n, uint64_t *level) {
  uint64_t hard = haki_cell_get(&q->hard);
  uint64_t was = haki_cell_get(&q->charged);
  if (!q->shared) {
    if (HAK_UNLIKELY(hard != 0 && (n > hard || was > hard - n))) return haki_quota_refuse(q);
    haki_cell_set(&q->charged, was + n);
  } else {
    do {
      if (HAK_UNLIKELY(hard != 0 && (n > hard || was > hard - n))) return haki_quota_refuse(q);
    } while (!atomic_compare_exchange_weak_explicit(&q->charged, &was, was + n,
                                                    memory_order_relaxed, memory_order_relaxed));
  }
  *level = was + n;
  return true;
}

/* A reservation has become memory: peak and soft limit count it. */
HAK_INLINE void haki_quota_note(struct haki_quota *q, uint64_t level) {
  haki_quota_note_peak(q, level);
  if (HAK_UNLIKELY(level > haki_cell_get(&q->soft_next)))
    atomic_store_explicit(&q->crossed, 1, memory_order_relaxed);
}

/* Both, where the memory is there already. */
HAK_INLINE bool haki_quota_charge(struct haki_quota *q, size_t n) {
  uint64_t level;
  if (!haki_quota_reserve(q, n, &level)) return false;
  haki_quota_note(q, level);
  return true;
}

HAK_INLINE void haki_quota_uncharge(struct haki_quota *q, size_t n) {
  uint64_t now;
  if (!q->shared) {
    now = haki_cell_get(&q->charged) - n;
    HAK_ASSERT(now + n >= n);
    haki_cell_set(&q->charged, now);
  } else {
    now = atomic_fetch_sub_explicit(&q->charged, n, memory_order_relaxed) - n;
    HAK_ASSERT(now + n >= n);
  }
  uint64_t soft = haki_cell_get(&q->soft);
  if (HAK_UNLIKELY(soft != 0 && now < soft && haki_cell_get(&q->soft_next) != soft))
    haki_cell_set(&q->soft_next, soft); /* below again: the next crossing counts */
}

/* Above 7/8 of the hard limit caches are not filled. */
HAK_INLINE bool haki_quota_tight(const struct haki_quota *q) {
  uint64_t hard = haki_cell_get(&q->hard);
  return hard != 0 && haki_cell_get(&q->charged) > hard - hard / 8;
}

#endif

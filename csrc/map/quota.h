/* quota.h - what an arena may commit, and what it has.
 * Why:   a charge is taken before memory is, so that `charged` never passes `hard`, not even for a
 *        moment; private arenas pay no locked instruction for that.
 * Owns:  charged, peak, the limits.   Not: what happens at them (heap/limit.c).
 * INV quota-1: hard == 0 or charged <= hard, unless the limit was lowered below the charge.
 * INV quota-2: ceiling <= hard.
 * Start: haki_quota_charge(). */
#ifndef HAK_QUOTA_H
#define HAK_QUOTA_H

#include "base/debug.h"

struct haki_quota {
  hak_cell charged, peak;
  hak_cell soft, hard; /* as set; 0: none */
  hak_cell ceiling;    /* no charge passes this now; 0: none */
  hak_cell watch;      /* the charge above which limit.c is told; UINT64_MAX: none */
  hak_cell rearm;      /* the charge below which it is told; 0: none */
  hak_cell refusals, crossings;
  _Atomic(uint32_t) crossed; /* enum haki_crossed; limit.c was not there yet */
  _Atomic(uint32_t) refused; /* a charge was refused since this was last cleared */
  bool shared;               /* several writers */
};

/* The way in which `watch` or `rearm` was passed; the last one counts. */
enum haki_crossed { HAK_CROSSED_NOT, HAK_CROSSED_UP, HAK_CROSSED_DOWN };

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
 * False: the limit forbids it; nothing has changed. */
HAK_INLINE bool haki_quota_reserve(struct haki_quota *q, size_t n, uint64_t *level) {
  uint64_t most = haki_cell_get(&q->ceiling);
  uint64_t was = haki_cell_get(&q->charged);
  if (!q->shared) {
    if (HAK_UNLIKELY(most != 0 && (n > most || was > most - n))) return haki_quota_refuse(q);
    haki_cell_set(&q->charged, was + n);
  } else {
    do {
      if (HAK_UNLIKELY(most != 0 && (n > most || was > most - n))) return haki_quota_refuse(q);
    } while (!atomic_compare_exchange_weak_explicit(&q->charged, &was, was + n,
                                                    memory_order_relaxed, memory_order_relaxed));
  }
  *level = was + n;
  return true;
}

/* A reservation has become memory: peak and the watch on limits count it. */
HAK_INLINE void haki_quota_note(struct haki_quota *q, uint64_t level) {
  haki_quota_note_peak(q, level);
  if (HAK_UNLIKELY(level > haki_cell_get(&q->watch)))
    atomic_store_explicit(&q->crossed, HAK_CROSSED_UP, memory_order_relaxed);
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
  if (HAK_UNLIKELY(now < haki_cell_get(&q->rearm))) {
    haki_cell_set(&q->rearm, 0); /* told once */
    atomic_store_explicit(&q->crossed, HAK_CROSSED_DOWN, memory_order_relaxed);
  }
}

/* Above 7/8 of the hard limit caches are not filled. */
HAK_INLINE bool haki_quota_tight(const struct haki_quota *q) {
  uint64_t hard = haki_cell_get(&q->hard);
  return hard != 0 && haki_cell_get(&q->charged) > hard - hard / 8;
}

#endif

/* stat.h - statistics: one line per statistic in stats.def.
 * Why:   C, Lua, JSON and Prometheus must show the same names and the same numbers.
 * Owns:  ids and descriptions, the process-wide cells. Not: the cells of heaps and arenas.
 * Start: enum haki_stat_id. */
#ifndef HAK_STAT_H
#define HAK_STAT_H

#include "base/port.h"
#include "include/hakmem.h"

enum haki_stat_id {
#define S(group, name, ...) HAK_STAT_##group##_##name,
#include "base/stats.def"
#undef S
  HAK_STAT_COUNT
};
#define HAK_STAT(group, name) HAK_STAT_##group##_##name

/* Counters that any thread may bump at slow paths (relaxed atomic add). */
extern _Atomic(uint64_t) haki_stat_shared[HAK_STAT_COUNT];
#define HAK_STAT_ADD(group, name, n)                                                            \
  ((void)atomic_fetch_add_explicit(&haki_stat_shared[HAK_STAT_##group##_##name], (uint64_t)(n), \
                                   memory_order_relaxed))

size_t haki_stat_count(void);
const hak_stat_info *haki_stat_info_at(size_t index);
int haki_stat_find(const char *name);

#endif

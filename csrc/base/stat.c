/* stat.c - expansion of stats.def.
 * Owns:  the process-wide cells. Not: sums over arenas (heap/control.c).
 * Start: haki_stat_info_at(). */
#include "base/stat.h"

#include <string.h>

_Atomic(uint64_t) haki_stat_shared[HAK_STAT_COUNT];

#define COUNTER "counter"
#define GAUGE "gauge"
#define PEAK "peak"
#define RATIO "ratio"
enum { PROCESS = 1, ARENA = 2, BOTH = PROCESS | ARENA };

static const hak_stat_info infos[HAK_STAT_COUNT] = {
#define S(group, name, kind, unit, where, help)                     \
  {__builtin_strcmp(#group, "top") == 0 ? #name : #group "." #name, \
   kind,                                                            \
   unit,                                                            \
   ((where)&PROCESS) != 0,                                          \
   ((where)&ARENA) != 0,                                            \
   help},
#include "base/stats.def"
#undef S
};

size_t haki_stat_count(void) { return HAK_STAT_COUNT; }

const hak_stat_info *haki_stat_info_at(size_t index) {
  return index < HAK_STAT_COUNT ? &infos[index] : NULL;
}

int haki_stat_find(const char *name) {
  if (name == NULL) return -1;
  for (int i = 0; i < HAK_STAT_COUNT; i++)
    if (strcmp(infos[i].name, name) == 0) return i;
  return -1;
}

/* control.c - configuration of the process and of single arenas, the log sink.
 * Why:   knobs belong to base/, which knows no arenas.
 * Owns:  nothing.
 * Locks: CONFIG inside base/knob.c; DRAIN when the background thread is concerned.
 * Start: haki_api_configure(). */
#include <errno.h>
#include <string.h>

#include "base/knob.h"
#include "base/log.h"
#include "heap/arena.h"
#include "heap/core.h"
#include "heap/drain.h"

static void apply_big(struct hak_arena *a, int id, uint64_t value) {
  struct haki_big_limits *m = &a->large.limits;
  _Atomic(uint64_t) *bytes = NULL;
  _Atomic(uint32_t) *count = NULL;
  switch (id) {
    case HAK_KNOB_bigcache_max_bytes: bytes = &m->max_bytes; break;
    case HAK_KNOB_bigcache_max_mapped: bytes = &m->max_mapped; break;
    case HAK_KNOB_bigcache_initial_buckets: count = &m->initial_buckets; break;
    case HAK_KNOB_bigcache_max_buckets: count = &m->max_buckets; break;
    case HAK_KNOB_bigcache_load_percent: count = &m->load_percent; break;
  }
  if (bytes != NULL) atomic_store_explicit(bytes, value, memory_order_relaxed);
  if (count != NULL) atomic_store_explicit(count, (uint32_t)value, memory_order_relaxed);
  if (bytes != NULL || count != NULL) haki_large_configure(&a->large);
}

void haki_arena_set_knob(struct hak_arena *a, int id, uint64_t value) {
  switch (id) {
    default: apply_big(a, id, value); break;
    case HAK_KNOB_arena_retain: a->retain = value; break;
    case HAK_KNOB_l25_initial_shards:
      atomic_store_explicit(&a->initial_shards, (uint32_t)value, memory_order_relaxed);
      break;
    case HAK_KNOB_l25_max_shards: haki_arena_set_max_shards(a, (uint32_t)value); break;
    case HAK_KNOB_arena_nursery: a->lua.nursery.limit = a->is_private ? (uint32_t)value : 0; break;
    case HAK_KNOB_arena_owner_check:
      a->owner_check = value != 0;
      /* checked calls take the slow path, which checks */
      if (a->own != NULL)
        atomic_store_explicit(&a->plain, value != 0 ? &haki_empty_heap : a->own,
                              memory_order_relaxed);
      break;
  }
}

int haki_api_configure(const char *const *names, const char *const *values, size_t n, char *err,
                       size_t err_size) {
  int error = haki_knob_configure(names, values, n, err, err_size);
  if (error != 0) return error;
  bool drain = false, enabled = false;
  for (size_t i = 0; i < n; i++) {
    int id = haki_knob_find(names[i]);
    if (strncmp(names[i], "arena.", 6) != 0) /* the default arena's is that of the process */
      haki_arena_set_knob(&haki_default_arena, id, haki_api_knob_value((size_t)id));
    drain |= strncmp(names[i], "drain.", 6) == 0;
    enabled |= strcmp(names[i], "drain.enabled") == 0;
  }
  if (drain) haki_drain_configured(enabled);
  return 0;
}

uint64_t haki_api_knob_value(size_t index) {
  return index < HAK_KNOB_COUNT
             ? atomic_load_explicit(&haki_knob_values[index], memory_order_relaxed)
             : 0;
}

int haki_api_arena_configure(hak_arena *a, const char *const *names, const char *const *values,
                             size_t n, char *err, size_t err_size) {
  if (err == NULL) err_size = 0;
  if (!haki_arena_is_live(a)) {
    haki_format(err, err_size, "the arena is dead");
    return EINVAL;
  }
  for (int pass = 0; pass < 2; pass++) { /* check all, then set all */
    for (size_t i = 0; i < n; i++) {
      int id = haki_knob_find(names[i]);
      uint64_t value;
      if (id < 0 || !haki_knob_info_at((size_t)id)->per_arena) {
        haki_format(err, err_size,
                    id < 0 ? "unknown knob '%s'" : "knob '%s' cannot be set for one arena",
                    names[i]);
        return EINVAL;
      }
      int error = haki_knob_parse((enum haki_knob_id)id, values[i], &value, err, err_size);
      if (error != 0) return error;
      if (pass == 1) haki_arena_set_knob(a, id, value);
    }
  }
  return 0;
}

void haki_api_log_set_sink(void (*sink)(int level, const char *line, void *ud), void *ud) {
  haki_log_set_sink(sink, ud);
}

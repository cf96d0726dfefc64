/* knob.h - configuration: one line per knob in knobs.def, everything else is expansion.
 * Why:   a name typed once cannot disagree with itself.
 * Owns:  the values. Not: what they mean; slow paths read them each time.
 * Locks: CONFIG, while values change.
 * Start: HAK_KNOB(), haki_knob_configure(). */
#ifndef HAK_KNOB_H
#define HAK_KNOB_H

#include "base/port.h"
#include "include/hakmem.h"

enum haki_knob_id {
#define K(type, group, name, ...) HAK_KNOB_##group##_##name,
#include "base/knobs.def"
#undef K
  HAK_KNOB_COUNT
};

extern _Atomic(uint64_t) haki_knob_values[HAK_KNOB_COUNT];

/* HAK_KNOB(purge, decay): the value in force. Slow paths only. */
#define HAK_KNOB(group, name) \
  atomic_load_explicit(&haki_knob_values[HAK_KNOB_##group##_##name], memory_order_relaxed)

/* Reads HAKMEM_CONF, then HAKMEM_<GROUP>_<NAME>; ignored when the process is set-uid. Bad values
 * warn once and leave the default. Called once, before anything reads a knob. */
void haki_knob_load_env(void);
/* From now on knobs that are not live refuse to change. */
void haki_knob_started(void);

/* Parses and range-checks one value. fails: EINVAL, and one sentence in err. */
int haki_knob_parse(enum haki_knob_id id, const char *text, uint64_t *value, char *err,
                    size_t err_size);
/* A value as people write it: "64K", "250ms", "on", "auto". */
void haki_knob_format(enum haki_knob_id id, uint64_t value, char *buf, size_t size);
int haki_knob_configure(const char *const *names, const char *const *values, size_t n, char *err,
                        size_t err_size); /* hak_configure() */
int haki_knob_find(const char *name);
size_t haki_knob_count(void);
const hak_knob_info *haki_knob_info_at(size_t index);

/* The lock and its fork treatment. */
struct haki_lock;
extern struct haki_lock haki_knob_lock;

#endif

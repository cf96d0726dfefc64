/* log.h - log lines without allocation.
 * Why:   an allocator cannot use stdio: that allocates, and takes locks it may hold already.
 * Owns:  the sink and the level.
 * Start: HAK_LOG. */
#ifndef HAK_LOG_H
#define HAK_LOG_H

#include "base/port.h"

enum { HAK_LOG_WARN = 1, HAK_LOG_INFO = 1, HAK_LOG_DETAIL = 2, HAK_LOG_TRACE = 3 };

/* The level in force, 0 to 3; written by the knob log.level. */
extern _Atomic(int) haki_log_level;

/* snprintf for %s %d %u %ld %lu %zu %llu %x %p %c %%, with 0/-/width and %.Nf of a double: the same
 * text, no locale, no allocation. Returns the length it wanted. */
int haki_format(char *buf, size_t size, const char *fmt, ...) HAK_PRINTF(3, 4);
int haki_vformat(char *buf, size_t size, const char *fmt, __builtin_va_list args);

/* Writes one line (no newline in fmt) to the sink or stderr in a single write(); keeps errno. */
void haki_log(int level, const char *fmt, ...) HAK_PRINTF(2, 3);
/* A warning that is shown whatever the level: bad configuration. Prefix "hakmem: ". */
void haki_warn(const char *fmt, ...) HAK_PRINTF(1, 2);
void haki_log_set_sink(void (*sink)(int level, const char *line, void *ud), void *ud);

#define HAK_LOG(level, ...)                                                                   \
  do {                                                                                        \
    if (HAK_UNLIKELY(atomic_load_explicit(&haki_log_level, memory_order_relaxed) >= (level))) \
      haki_log(level, __VA_ARGS__);                                                           \
  } while (0)

#endif

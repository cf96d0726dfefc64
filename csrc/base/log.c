/* log.c - formats and writes log lines without allocating.
 * Why:   an allocator cannot use stdio: that allocates, and takes locks it may hold already.
 * Owns:  the level, the sink.
 * Not:   what is logged, and when.
 * Locks: none: lines may be written while any lock is held, and between fork and exec.
 * Start: haki_vformat(), haki_log(). */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

_Atomic(int) haki_log_level;

enum { LINE_MAX_BYTES = 512 };

/* ---- formatting ------------------------------------------------------------------------------ */

struct out {
  char *buf;
  size_t size, used; /* used counts on past size */
};

static void put(struct out *o, char c) {
  if (o->used + 1 < o->size) o->buf[o->used] = c;
  o->used++;
}

static void put_many(struct out *o, const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) put(o, s[i]);
}

struct spec {
  bool left, zero;
  int width, precision; /* precision -1: none given */
};

static void put_padded(struct out *o, const struct spec *s, const char *sign, const char *text,
                       size_t n, bool zero) {
  size_t signs = strlen(sign), width = s->width > 0 ? (size_t)s->width : 0;
  size_t pad = width > n + signs ? width - n - signs : 0;
  if (!s->left && !zero)
    for (; pad != 0; pad--) put(o, ' ');
  put_many(o, sign, signs);
  if (!s->left)
    for (; pad != 0; pad--) put(o, '0');
  put_many(o, text, n);
  for (; pad != 0; pad--) put(o, ' ');
}

/* Writes the digits of n backwards from `end`; returns where they begin. */
static char *digits_of(char *end, uint64_t n, unsigned base, const char *alphabet) {
  do {
    *--end = alphabet[n % base];
    n /= base;
  } while (n != 0);
  return end;
}

static void put_integer(struct out *o, const struct spec *s, const char *sign, uint64_t n,
                        unsigned base, const char *alphabet) {
  char digits[24], *end = digits + sizeof digits, *p = digits_of(end, n, base, alphabet);
  put_padded(o, s, sign, p, (size_t)(end - p), s->zero && !s->left);
}

/* Rounds as snprintf does, half to even, for |v| below 2^64 and at most 15 decimals. The fraction
 * is kept in units of 2^-60, so that times ten fits; the last unit remembers what was cut off. */
static void put_double(struct out *o, const struct spec *s, double v) {
  const char *sign = v < 0 ? "-" : "";
  int decimals = s->precision < 0 ? 6 : s->precision > 15 ? 15 : s->precision;
  char text[40], *p = text + 24, *end = p; /* whole part before end, fraction behind */
  if (v != v || v - v != 0) {
    put_padded(o, s, sign, v != v ? "nan" : "inf", 3, false);
    return;
  }
  if (v < 0) v = -v;
  if (v >= 18446744073709551615.0) v = 18446744073709549568.0; /* largest double below 2^64 */
  uint64_t whole = (uint64_t)v;
  double scaled = (v - (double)whole) * 1152921504606846976.0;
  uint64_t unit = (uint64_t)1 << 60, fraction = (uint64_t)scaled;
  if ((double)fraction != scaled) fraction |= 1;
  if (decimals > 0) *end++ = '.';
  bool odd = decimals == 0 && whole % 2 != 0;
  for (int i = 0; i < decimals; i++) {
    fraction *= 10;
    odd = (fraction / unit) % 2 != 0;
    *end++ = (char)('0' + fraction / unit);
    fraction %= unit;
  }
  if (fraction > unit / 2 || (fraction == unit / 2 && odd)) {
    char *d = end;
    while (d > p + 1 && d[-1] == '9') *--d = '0';
    if (d > p + 1)
      d[-1]++;
    else
      whole++;
  }
  p = digits_of(p, whole, 10, "0123456789");
  put_padded(o, s, sign, p, (size_t)(end - p), s->zero && !s->left);
}

static int number_in(const char **fmt) {
  int n = 0;
  for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
    if (n < 1000) n = n * 10 + (**fmt - '0');
  return n;
}

static uint64_t unsigned_arg(int longs, va_list *args) {
  if (longs == 0) return va_arg(*args, unsigned);
  if (longs == 1) return va_arg(*args, unsigned long);
  return va_arg(*args, unsigned long long);
}

static int64_t signed_arg(int longs, va_list *args) {
  if (longs == 0) return va_arg(*args, int);
  if (longs == 1) return va_arg(*args, long);
  return va_arg(*args, long long);
}

static void put_string(struct out *o, const struct spec *s, const char *text) {
  size_t n = 0;
  if (text == NULL) text = "(null)";
  while ((s->precision < 0 || n < (size_t)s->precision) && text[n] != '\0') n++;
  put_padded(o, s, "", text, n, false);
}

/* One conversion; fmt stands behind '%'. Returns where the format goes on. */
static const char *convert(struct out *o, const char *fmt, va_list *args) {
  static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
  struct spec s = {false, false, 0, -1};
  int longs = 0;
  for (;; fmt++) {
    if (*fmt == '-')
      s.left = true;
    else if (*fmt == '0')
      s.zero = true;
    else
      break;
  }
  if (*fmt == '*') {
    s.width = va_arg(*args, int);
    fmt++;
  } else {
    s.width = number_in(&fmt);
  }
  if (*fmt == '.') {
    if (*++fmt == '*') {
      s.precision = va_arg(*args, int);
      fmt++;
    } else {
      s.precision = number_in(&fmt);
    }
  }
  for (; *fmt == 'l' || *fmt == 'z'; fmt++) longs++; /* size_t is as wide as long */
  switch (*fmt) {
    case 'd':
    case 'i': {
      int64_t n = signed_arg(longs, args);
      put_integer(o, &s, n < 0 ? "-" : "", n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 10, lower);
      break;
    }
    case 'u': put_integer(o, &s, "", unsigned_arg(longs, args), 10, lower); break;
    case 'x': put_integer(o, &s, "", unsigned_arg(longs, args), 16, lower); break;
    case 'X': put_integer(o, &s, "", unsigned_arg(longs, args), 16, upper); break;
    case 'p': put_integer(o, &s, "0x", (uintptr_t)va_arg(*args, void *), 16, lower); break;
    case 'f': put_double(o, &s, va_arg(*args, double)); break;
    case 's': put_string(o, &s, va_arg(*args, const char *)); break;
    case 'c': {
      char c = (char)va_arg(*args, int);
      put_padded(o, &s, "", &c, 1, false);
      break;
    }
    case '\0': return fmt;
    default: put(o, *fmt); /* "%%" */
  }
  return fmt + 1;
}

int haki_vformat(char *buf, size_t size, const char *fmt, __builtin_va_list args) {
  struct out o = {buf, size, 0};
  va_list rest;
  va_copy(rest, args);
  while (*fmt != '\0') {
    if (*fmt == '%')
      fmt = convert(&o, fmt + 1, &rest);
    else
      put(&o, *fmt++);
  }
  va_end(rest);
  if (size != 0) buf[o.used < size ? o.used : size - 1] = '\0';
  return (int)o.used;
}

int haki_format(char *buf, size_t size, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int n = haki_vformat(buf, size, fmt, args);
  va_end(args);
  return n;
}

/* ---- the sink -------------------------------------------------------------------------------- */

/* Function and ud must be seen together, but a lock could be held across fork. So each setting
 * fills a fresh slot and then publishes its number; a reader that was overtaken by a whole round
 * of settings reads again. */
enum { SLOTS = 8 };
typedef void sink_fn(int level, const char *line, void *ud);
static struct {
  _Atomic(sink_fn *) sink;
  _Atomic(void *) ud;
} slots[SLOTS];
static _Atomic(uint32_t) tickets;   /* settings begun */
static _Atomic(uint32_t) published; /* number of the setting in force; 0: none yet, slot empty */

void haki_log_set_sink(void (*sink)(int level, const char *line, void *ud), void *ud) {
  uint32_t mine = atomic_fetch_add(&tickets, 1) + 1, seen = atomic_load(&published);
  atomic_store(&slots[mine % SLOTS].sink, sink);
  atomic_store(&slots[mine % SLOTS].ud, ud);
  while ((int32_t)(mine - seen) > 0 && !atomic_compare_exchange_weak(&published, &seen, mine))
    continue;
}

static sink_fn *current_sink(void **ud) {
  for (;;) {
    uint32_t at = atomic_load(&published);
    sink_fn *sink = atomic_load(&slots[at % SLOTS].sink);
    *ud = atomic_load(&slots[at % SLOTS].ud);
    if (atomic_load(&tickets) - at < SLOTS) return sink;
  }
}

static void emit(int level, char *line, size_t size) {
  void *ud;
  sink_fn *sink = current_sink(&ud);
  if (sink != NULL) {
    sink(level, line, ud);
    return;
  }
  line[size] = '\n';
  while (write(STDERR_FILENO, line, size + 1) < 0 && errno == EINTR) continue;
}

static void log_line(int level, const char *prefix, const char *fmt, va_list args) {
  char line[LINE_MAX_BYTES];
  int saved = errno;
  size_t used = strlen(prefix), room = sizeof line - 1 - used; /* the last byte: newline */
  memcpy(line, prefix, used);
  size_t wanted = (size_t)haki_vformat(line + used, room, fmt, args);
  used += wanted < room ? wanted : room - 1;
  emit(level, line, used);
  errno = saved;
}

void haki_log(int level, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  log_line(level, "", fmt, args);
  va_end(args);
}

void haki_warn(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  log_line(HAK_LOG_WARN, "hakmem: ", fmt, args);
  va_end(args);
}

/* knob.c - expansion of knobs.def: values, parsing, environment, changes.
 * Why:   a name typed once cannot disagree with itself; a change happens whole or not at all.
 * Owns:  values in force, the names of environment variables.
 * Not:   what a knob means; the values of one arena (heap/control.c).
 * Locks: CONFIG around a change; log lines come after it is let go.
 * Start: haki_knob_configure(), haki_knob_load_env(). */
#include "base/knob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/debug.h"
#include "base/log.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#if HAK_AUDIT_BUILD
#define L25_FIRST 2
#define L25_MOST 8
#define BIG_FIRST 4
#define BIG_FIRST_MIN 4
#else
#define L25_FIRST 64
#define L25_MOST 1024
#define BIG_FIRST 256
#define BIG_FIRST_MIN 32
#endif
/* A program that did not ask for hakmem did not ask for a thread either: it may unshare(), count its
 * threads, or be shut into a sandbox that ends it when it makes one. */
#if HAK_PRELOAD
#define DRAIN 0
#else
#define DRAIN 1
#endif
#define TIB ((uint64_t)1 << 40)
#define US ((uint64_t)1000)
#define MS ((uint64_t)1000000)
#define SEC ((uint64_t)1000000000)
enum { FIXED, LIVE };
enum { PROCESS, ARENA };
enum type { TYPE_bool, TYPE_count, TYPE_bytes, TYPE_duration, TYPE_word };
enum { VALUE_MAX = 128 }; /* longest text of a value in the environment */

_Atomic(uint64_t) haki_knob_values[HAK_KNOB_COUNT] = {
#define K(type, group, name, def, ...) (def),
#include "base/knobs.def"
#undef K
};
struct haki_lock haki_knob_lock = HAK_LOCK_INIT(HAK_RANK_CONFIG);

static const unsigned char types[HAK_KNOB_COUNT] = {
#define K(type, ...) TYPE_##type,
#include "base/knobs.def"
#undef K
};

/* Space for the name of each variable; the preprocessor cannot write capitals. */
static struct {
#define K(type, group, name, ...) char group##_##name[sizeof "HAKMEM_" #group "_" #name];
#include "base/knobs.def"
#undef K
} variables = {
#define K(type, group, name, ...) "HAKMEM_" #group "_" #name,
#include "base/knobs.def"
#undef K
};

static const hak_knob_info infos[HAK_KNOB_COUNT] = {
#define K(type, group, name, def, min, max, live, scope, unit, words, help) \
  {#group "." #name,                                                        \
   #type,                                                                   \
   variables.group##_##name,                                                \
   words,                                                                   \
   def,                                                                     \
   min,                                                                     \
   max,                                                                     \
   live,                                                                    \
   scope,                                                                   \
   unit,                                                                    \
   help},
#include "base/knobs.def"
#undef K
};

static _Atomic(bool) started;
static pthread_once_t named = PTHREAD_ONCE_INIT;

static void name_variables(void) {
  for (char *p = (char *)&variables, *end = p + sizeof variables; p < end; p++)
    if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
}

size_t haki_knob_count(void) { return HAK_KNOB_COUNT; }

const hak_knob_info *haki_knob_info_at(size_t index) {
  pthread_once(&named, name_variables);
  return index < HAK_KNOB_COUNT ? &infos[index] : NULL;
}

int haki_knob_find(const char *name) {
  if (name == NULL) return -1;
  for (int i = 0; i < HAK_KNOB_COUNT; i++)
    if (strcmp(infos[i].name, name) == 0) return i;
  return -1;
}

void haki_knob_started(void) { atomic_store(&started, true); }

/* ---- values as text -------------------------------------------------------------------------- */

struct unit {
  const char *name;
  uint64_t size;
};
static const struct unit bytes_units[] = {
    {"", 1},      {"b", 1},   {"k", KIB},  {"kb", KIB},  {"kib", KIB}, {"m", MIB},  {"mb", MIB},
    {"mib", MIB}, {"g", GIB}, {"gb", GIB}, {"gib", GIB}, {"t", TIB},   {"tb", TIB}, {"tib", TIB}};
static const struct unit time_units[] = {{"", SEC},         {"ns", 1},        {"us", US},
                                         {"ms", MS},        {"s", SEC},       {"m", 60 * SEC},
                                         {"min", 60 * SEC}, {"h", 3600 * SEC}};

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool same_word(const char *a, const char *b) {
  for (; lower(*a) == lower(*b); a++, b++)
    if (*a == '\0') return true;
  return false;
}

/* Decimal digits; UINT64_MAX stands for "too many", which no range admits. */
static const char *read_whole(const char *text, uint64_t *n) {
  for (*n = 0; is_digit(*text); text++) {
    uint64_t digit = (uint64_t)(*text - '0');
    *n = *n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *n * 10 + digit;
  }
  return text;
}

static bool parse_count(const char *text, uint64_t *n) {
  return is_digit(*text) && *read_whole(text, n) == '\0';
}

/* "1.5G", "250ms": a whole part, a fraction where the unit has parts, a unit. */
static bool parse_measure(const char *text, const struct unit *units, size_t count, uint64_t *n) {
  uint64_t whole, part = 0, scale = 1;
  bool fraction = false;
  if (!is_digit(*text)) return false;
  text = read_whole(text, &whole);
  if (*text == '.') {
    fraction = true;
    if (!is_digit(*++text)) return false;
    for (; is_digit(*text); text++) {
      if (scale >= 1000000) continue; /* a millionth of a unit is fine enough */
      part = part * 10 + (uint64_t)(*text - '0');
      scale *= 10;
    }
  }
  for (size_t i = 0; i < count; i++) {
    uint64_t size = units[i].size;
    if (!same_word(text, units[i].name)) continue;
    if (fraction && size == 1) return false;
    *n = whole > (UINT64_MAX - size) / size
             ? UINT64_MAX
             : whole * size + part * (size / scale) + part * (size % scale) / scale;
    return true;
  }
  return false;
}

static bool parse_bool(const char *text, uint64_t *n) {
  static const char *const words[] = {"off", "on", "false", "true", "no", "yes", "0", "1"};
  for (size_t i = 0; i < HAK_COUNT_OF(words); i++) {
    if (!same_word(text, words[i])) continue;
    *n = i % 2;
    return true;
  }
  return false;
}

static bool parse_word(const char *text, const char *words, uint64_t *n) {
  size_t length = strlen(text);
  for (*n = 0; length != 0; (*n)++) {
    const char *end = strchr(words, '|');
    size_t span = end != NULL ? (size_t)(end - words) : strlen(words);
    if (span == length && memcmp(words, text, span) == 0) return true;
    if (end == NULL) break;
    words = end + 1;
  }
  return false;
}

static bool parse(enum haki_knob_id id, const char *text, uint64_t *n) {
  switch ((enum type)types[id]) {
    case TYPE_bool: return parse_bool(text, n);
    case TYPE_count: return parse_count(text, n);
    case TYPE_bytes: return parse_measure(text, bytes_units, HAK_COUNT_OF(bytes_units), n);
    case TYPE_duration: return parse_measure(text, time_units, HAK_COUNT_OF(time_units), n);
    case TYPE_word: return parse_word(text, infos[id].words, n);
  }
  return false;
}

static void format_measure(uint64_t value, uint64_t unit, const char *const *names, uint64_t step,
                           int steps, char *buf, size_t size) {
  int i = 0;
  for (; i < steps && value != 0 && value % (unit * step) == 0; i++) unit *= step;
  haki_format(buf, size, "%llu%s", (unsigned long long)(value / unit), value == 0 ? "" : names[i]);
}

void haki_knob_format(enum haki_knob_id id, uint64_t value, char *buf, size_t size) {
  static const char *const bytes[] = {"", "K", "M", "G", "T"};
  static const char *const times[] = {"ns", "us", "ms", "s"};
  const char *word = infos[id].words;
  switch ((enum type)types[id]) {
    case TYPE_bool: haki_format(buf, size, "%s", value != 0 ? "on" : "off"); break;
    case TYPE_count: haki_format(buf, size, "%llu", (unsigned long long)value); break;
    case TYPE_bytes: format_measure(value, 1, bytes, 1024, 4, buf, size); break;
    case TYPE_duration: format_measure(value, 1, times, 1000, 3, buf, size); break;
    case TYPE_word:
      for (; value != 0 && strchr(word, '|') != NULL; value--) word = strchr(word, '|') + 1;
      haki_format(buf, size, "%.*s", (int)strcspn(word, "|"), word);
      break;
  }
}

/* Text from outside, fit for one log line. */
static const char *printable(const char *text, char *buf, size_t size) {
  size_t n = 0;
  for (; n + 4 < size && text[n] != '\0'; n++)
    buf[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
  memcpy(buf + n, text[n] != '\0' ? "..." : "", text[n] != '\0' ? 4 : 1);
  return buf;
}

int haki_knob_parse(enum haki_knob_id id, const char *text, uint64_t *value, char *err,
                    size_t err_size) {
  static const char *const wanted[] = {"on or off", "a number", "a size", "a duration", "one of "};
  const hak_knob_info *info = &infos[id];
  char shown[48], min[32], max[32];
  uint64_t n = 0;
  bool negative = text[0] == '-' && types[id] != TYPE_bool && types[id] != TYPE_word;
  if (!parse(id, text + negative, &n)) {
    haki_format(err, err_size, "knob '%s': '%s' is not %s%s", info->name,
                printable(text, shown, sizeof shown), wanted[types[id]], info->words);
    return EINVAL;
  }
  if ((negative && n != 0) || n < info->min || n > info->max) {
    haki_knob_format(id, info->min, min, sizeof min);
    haki_knob_format(id, info->max, max, sizeof max);
    haki_format(err, err_size, "knob '%s': '%s' is out of range (%s to %s)", info->name,
                printable(text, shown, sizeof shown), min, max);
    return EINVAL;
  }
  *value = n;
  return 0;
}

/* ---- changes --------------------------------------------------------------------------------- */

struct change {
  bool set[HAK_KNOB_COUNT];
  uint64_t value[HAK_KNOB_COUNT]; /* new; after apply(): old */
};

static int stage(struct change *c, const char *name, const char *text, char *err, size_t err_size) {
  char shown[48];
  int id = haki_knob_find(name);
  if (id < 0) {
    haki_format(err, err_size, "unknown knob '%s'", printable(name, shown, sizeof shown));
    return EINVAL;
  }
  if (!infos[id].live && atomic_load(&started)) {
    haki_format(err, err_size, "knob '%s' is fixed after start: '%s' is refused", name,
                printable(text, shown, sizeof shown));
    return EPERM;
  }
  int failed = haki_knob_parse((enum haki_knob_id)id, text, &c->value[id], err, err_size);
  if (failed == 0) c->set[id] = true;
  return failed;
}

/* Stores what differs, and leaves the old values in c->value. */
static void apply(struct change *c) {
  for (int i = 0; i < HAK_KNOB_COUNT; i++) {
    if (!c->set[i]) continue;
    uint64_t value = c->value[i];
    c->value[i] = atomic_exchange(&haki_knob_values[i], value);
    c->set[i] = c->value[i] != value;
    if (!c->set[i]) continue;
    if (i == HAK_KNOB_log_level) atomic_store(&haki_log_level, (int)value);
  }
}

static void log_changes(const struct change *c) {
  char from[32], to[32];
  for (int i = 0; i < HAK_KNOB_COUNT; i++) {
    if (!c->set[i]) continue;
    haki_knob_format((enum haki_knob_id)i, c->value[i], from, sizeof from);
    haki_knob_format((enum haki_knob_id)i, atomic_load(&haki_knob_values[i]), to, sizeof to);
    HAK_LOG(HAK_LOG_INFO, "[knob] %s: %s -> %s", infos[i].name, from, to);
  }
}

int haki_knob_configure(const char *const *names, const char *const *values, size_t n, char *err,
                        size_t err_size) {
  struct change c = {{false}, {0}};
  int failed = 0;
  if (err == NULL) err_size = 0;
  haki_lock(&haki_knob_lock);
  for (size_t i = 0; i < n && failed == 0; i++)
    failed = stage(&c, names[i], values[i], err, err_size);
  if (failed == 0) apply(&c);
  haki_unlock(&haki_knob_lock);
  if (failed == 0) log_changes(&c);
  return failed;
}

/* ---- environment ----------------------------------------------------------------------------- */

static void set_from(const char *variable, const char *name, const char *text) {
  struct change c = {{false}, {0}};
  char err[256];
  haki_lock(&haki_knob_lock);
  int failed = stage(&c, name, text, err, sizeof err);
  if (failed == 0) apply(&c);
  haki_unlock(&haki_knob_lock);
  if (failed != 0) haki_warn("%s ignored: %s", variable, err);
}

static bool copy_part(char *to, size_t size, const char *from, size_t n) {
  for (; n != 0 && *from == ' '; n--) from++;
  for (; n != 0 && from[n - 1] == ' '; n--) continue;
  size_t kept = n < size ? n : size - 1;
  memcpy(to, from, kept);
  to[kept] = '\0';
  return kept == n;
}

/* "name:value,name:value"; blanks around a part do not count. */
static void load_conf(const char *conf) {
  char name[64], value[VALUE_MAX], shown[48];
  while (*conf != '\0') {
    size_t length = strcspn(conf, ","), colon = strcspn(conf, ":,");
    bool whole = copy_part(name, sizeof name, conf, colon);
    if (colon == length) {
      if (name[0] != '\0')
        haki_warn("HAKMEM_CONF ignored in part: '%s' has no value",
                  printable(name, shown, sizeof shown));
    } else if (copy_part(value, sizeof value, conf + colon + 1, length - colon - 1) && whole) {
      set_from("HAKMEM_CONF", name, value);
    } else {
      haki_warn("HAKMEM_CONF ignored in part: the setting of '%s' is too long",
                printable(name, shown, sizeof shown));
    }
    conf += length + (conf[length] == ',');
  }
}

static void load_variable(const char *variable, const char *name) {
  const char *text = getenv(variable);
  if (text != NULL && *text != '\0') set_from(variable, name, text);
}

void haki_knob_load_env(void) {
  if (getauxval(AT_SECURE) != 0) return; /* set-uid: the caller chose this environment */
  const char *conf = getenv("HAKMEM_CONF");
  if (conf != NULL) load_conf(conf);
  load_variable("HAKMEM_LOG", infos[HAK_KNOB_log_level].name);
  for (size_t i = 0; i < HAK_KNOB_COUNT; i++) {
    const hak_knob_info *info = haki_knob_info_at(i);
    load_variable(info->env, info->name);
  }
}

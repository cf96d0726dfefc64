/* report.c - hak_report(): what the memory does, for people and for machines.
 * Why:   three formats of the same statistics must not each have a list of them.
 * Owns:  the layout of reports.
 * Not:   the numbers: all come through the public functions.
 * Locks: none while `write` runs, which may allocate, or even create arenas.
 * Start: hak_report(). */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "base/stat.h"

typedef unsigned long long ull; /* what %llu wants */

/* ---- output ---------------------------------------------------------------------------------- */

struct out {
  void (*write)(const char *text, size_t size, void *ud);
  void *ud;
  size_t used;
  char buf[1024];
};

static void flush(struct out *o) {
  if (o->used != 0) o->write(o->buf, o->used, o->ud);
  o->used = 0;
}

/* One piece is shorter than the buffer. */
HAK_PRINTF(2, 3) static void say(struct out *o, const char *fmt, ...) {
  va_list args;
  for (int attempt = 0; attempt < 2; attempt++) {
    va_start(args, fmt);
    size_t room = sizeof o->buf - o->used;
    size_t n = (size_t)haki_vformat(o->buf + o->used, room, fmt, args);
    va_end(args);
    if (n < room) {
      o->used += n;
      return;
    }
    flush(o);
  }
}

/* Length of the UTF-8 character at s; 0: not one (also surrogates and overlong forms). */
static size_t utf8_length(const unsigned char *s) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
  if (n < 2) return n;
  uint32_t code = s[0] & (0x7fu >> n);
  for (size_t i = 1; i < n; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
    code = code << 6 | (s[i] & 0x3fu);
  }
  bool surrogate = code >= 0xd800 && code < 0xe000;
  return s[0] < 0xf8 && code >= least[n] && code < 0x110000 && !surrogate ? n : 0;
}

enum style { PLAIN, JSON, PROMETHEUS };

/* An arena's name: any bytes, fit for the inside of a quoted string. NULL: it died meanwhile. */
static void say_name(struct out *o, const char *name, enum style style) {
  if (name == NULL) return;
  for (const unsigned char *s = (const unsigned char *)name; *s != '\0';) {
    size_t n = utf8_length(s);
    if (n == 0)
      say(o, "\xef\xbf\xbd"); /* U+FFFD */
    else if (style != PLAIN && (*s == '"' || *s == '\\'))
      say(o, "\\%c", *s);
    else if (style != PLAIN && *s == '\n')
      say(o, "\\n");
    else if (style == JSON && *s < 0x20)
      say(o, "\\u%04x", (unsigned)*s);
    else if (style == PLAIN && (*s < 0x20 || *s == 0x7f))
      say(o, "?");
    else
      say(o, "%.*s", (int)n, (const char *)s);
    s += n == 0 ? 1 : n;
  }
}

/* ---- arenas, some at a time, so that no lock is held while they are written -------------------- */

enum { BATCH = 32 };
struct batch {
  size_t skip, count;
  hak_arena_id ids[BATCH];
};

static int collect(hak_arena *arena, void *ud) {
  struct batch *b = ud;
  if (b->skip != 0) {
    b->skip--;
    return 0;
  }
  b->ids[b->count++] = hak_arena_get_id(arena);
  return b->count == BATCH;
}

/* Calls `each` for every arena with its statistics. Arenas that come or go meanwhile may be
 * missed. */
static void each_arena(void (*each)(hak_arena *arena, const uint64_t *values, void *ud), void *ud) {
  uint64_t values[HAK_STAT_COUNT];
  struct batch b;
  size_t seen = 0;
  do {
    b.skip = seen;
    b.count = 0;
    hak_arena_walk(collect, &b);
    for (size_t i = 0; i < b.count; i++) {
      hak_arena *arena = hak_arena_from_id(b.ids[i]);
      if (arena != NULL && hak_stats_read(arena, values, HAK_STAT_COUNT) != 0)
        each(arena, values, ud);
    }
    seen += b.count;
  } while (b.count == BATCH);
}

static const char *kind_name(hak_arena *arena) {
  return hak_arena_kind_of(arena) == HAK_ARENA_PRIVATE ? "private" : "shared";
}

/* ---- text ------------------------------------------------------------------------------------ */

struct cell {
  char text[24];
};

static struct cell bytes(uint64_t n) {
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
  struct cell c;
  double scaled = (double)n / 1024;
  size_t unit = 0;
  for (; scaled >= 1023.95 && unit + 1 < HAK_COUNT_OF(units); unit++) scaled /= 1024;
  if (n < 1024)
    haki_format(c.text, sizeof c.text, "%llu B  ", (ull)n);
  else
    haki_format(c.text, sizeof c.text, "%.1f %s", scaled, units[unit]);
  return c;
}

static struct cell limit(uint64_t n) {
  struct cell none = {"-"};
  return n == 0 ? none : bytes(n);
}

static struct cell count(uint64_t n) { /* 1,234,567 */
  struct cell c = {""};
  char digits[24];
  size_t length = (size_t)haki_format(digits, sizeof digits, "%llu", (ull)n), used = 0;
  for (size_t i = 0; i < length && used + 2 < sizeof c.text; i++) {
    if (i != 0 && (length - i) % 3 == 0) c.text[used++] = ',';
    c.text[used++] = digits[i];
  }
  return c;
}

static double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

static void bridge_line(struct out *o, char sign, const char *what, uint64_t n, const char *help) {
  say(o, "  %c %-12s %12s%s%s\n", sign, what, bytes(n).text, *help == '\0' ? "" : "   ", help);
}

/* Each line adds to the one above until the kernel's figure is reached. */
static void text_bridge(struct out *o, const uint64_t *v) {
  uint64_t active = v[HAK_STAT(top, active)], cached = v[HAK_STAT(top, cached)];
  uint64_t metadata = v[HAK_STAT(top, metadata)], resident = v[HAK_STAT(top, resident)];
  uint64_t held = active + cached + metadata;
  say(o, "From live bytes to resident memory\n");
  bridge_line(o, ' ', "allocated", v[HAK_STAT(top, allocated)], "live blocks");
  bridge_line(o, '+', "waste", v[HAK_STAT(top, waste)], "free room between live blocks");
  bridge_line(o, '=', "active", active, "");
  bridge_line(o, '+', "cached", cached, "free, kept for reuse");
  bridge_line(o, '+', "metadata", metadata, "hakmem's own descriptors");
  bridge_line(o, '=', "held", held, "");
  if (resident == 0) return; /* not known */
  if (resident >= held)
    bridge_line(o, '+', "elsewhere", resident - held, "code, stacks, other allocators");
  else
    bridge_line(o, '-', "untouched", held - resident, "committed, but not in memory");
  bridge_line(o, '=', "resident", resident, "what the kernel counts");
}

static void text_totals(struct out *o, const uint64_t *v) {
  say(o, "\nBesides\n");
  say(o, "    %-12s %12s   live\n", "blocks", count(v[HAK_STAT(top, blocks)]).text);
  say(o, "    %-12s %12s   live\n", "arenas", count(v[HAK_STAT(arena, live)]).text);
  bridge_line(o, ' ', "charged", v[HAK_STAT(top, charged)], "counts against limits");
  bridge_line(o, ' ', "peak", v[HAK_STAT(top, peak)], "highest charged");
  bridge_line(o, ' ', "purged", v[HAK_STAT(top, purged)], "given back, address kept");
  bridge_line(o, ' ', "reserved", v[HAK_STAT(top, reserved)], "address space, never used");
  bridge_line(o, ' ', "mapped", v[HAK_STAT(top, mapped)], "held + purged + reserved");
}

enum { CLASSES = 128, CLASSES_SHOWN = 12, ARENAS_SHOWN = 20 };

struct l25_classes {
  size_t count;
  hak_l25_class_stat at[32]; /* an adopted copy of the library may have more than this one */
};

struct classes {
  size_t count;
  hak_class_stat at[CLASSES];
};

static uint64_t class_waste(const hak_class_stat *c) {
  uint64_t live = (uint64_t)c->size * c->blocks;
  return c->active > live ? c->active - live : 0;
}

/* Keeps the classes sorted, most waste first. */
static void note_class(const hak_class_stat *c, void *ud) {
  struct classes *all = ud;
  if (all->count == CLASSES) return;
  size_t i = all->count++;
  for (; i != 0 && class_waste(&all->at[i - 1]) < class_waste(c); i--) all->at[i] = all->at[i - 1];
  all->at[i] = *c;
}

static void class_line(struct out *o, const char *size, uint64_t blocks, uint64_t slabs,
                       uint64_t active, uint64_t waste) {
  say(o, "  %8s %12s %8s %12s %12s %6.1f %%\n", size, count(blocks).text, count(slabs).text,
      bytes(active).text, bytes(waste).text, percent(waste, active));
}

static void text_classes(struct out *o) {
  struct classes all;
  hak_class_stat rest = {0, 0, 0, 0};
  uint64_t rest_waste = 0;
  all.count = 0;
  hak_class_stats(NULL, note_class, &all);
  if (all.count == 0) return;
  say(o, "\nWaste by size class, most first\n");
  say(o, "  %8s %12s %8s %12s %12s\n", "size", "blocks", "slabs", "active", "waste");
  for (size_t i = 0; i < all.count; i++) {
    const hak_class_stat *c = &all.at[i];
    if (i < CLASSES_SHOWN) {
      class_line(o, count(c->size).text, c->blocks, c->slabs, c->active, class_waste(c));
      continue;
    }
    rest.blocks += c->blocks;
    rest.slabs += c->slabs;
    rest.active += c->active;
    rest_waste += class_waste(c);
  }
  if (all.count > CLASSES_SHOWN)
    class_line(o, "others", rest.blocks, rest.slabs, rest.active, rest_waste);
}

/* ---- classes of the pool of large blocks, in every format ---- */

static void keep_l25_class(const hak_l25_class_stat *c, void *ud) {
  struct l25_classes *all = ud;
  if (all->count < HAK_COUNT_OF(all->at)) all->at[all->count++] = *c;
}

static struct l25_classes l25_classes(hak_arena *arena) {
  struct l25_classes all;
  all.count = 0;
  hak_l25_class_stats(arena, keep_l25_class, &all);
  return all;
}

static void text_l25_classes(struct out *o) {
  struct l25_classes all = l25_classes(NULL);
  if (all.count == 0) return;
  say(o, "\nLarge blocks of shared arenas, by size class\n");
  say(o, "  %12s %12s %12s %14s\n", "at most", "live", "cached", "handed out");
  for (size_t i = 0; i < all.count; i++) {
    const hak_l25_class_stat *c = &all.at[i];
    say(o, "  %12s %12s %12s %14s\n", bytes(c->size).text, count(c->blocks).text,
        count(c->cached).text, count(c->ops).text);
  }
}

struct largest {
  size_t count, all;
  hak_arena_id ids[ARENAS_SHOWN];
  uint64_t charged[ARENAS_SHOWN];
};

static void note_arena(hak_arena *arena, const uint64_t *values, void *ud) {
  struct largest *l = ud;
  uint64_t charged = values[HAK_STAT(top, charged)];
  l->all++;
  if (l->count == ARENAS_SHOWN) {
    if (l->charged[ARENAS_SHOWN - 1] >= charged) return;
    l->count--;
  }
  size_t i = l->count++;
  for (; i != 0 && l->charged[i - 1] < charged; i--) {
    l->charged[i] = l->charged[i - 1];
    l->ids[i] = l->ids[i - 1];
  }
  l->charged[i] = charged;
  l->ids[i] = hak_arena_get_id(arena);
}

static size_t columns_of(const char *name) { /* characters, as far as a terminal cares */
  size_t n = 0;
  if (name == NULL) return 0;
  for (; *name != '\0'; name++) n += ((unsigned char)*name & 0xc0) != 0x80;
  return n;
}

static void text_arenas(struct out *o) {
  struct largest l;
  uint64_t v[HAK_STAT_COUNT];
  l.count = l.all = 0;
  each_arena(note_arena, &l);
  say(o, "\nArenas, largest first\n");
  say(o, "  %-24s %-8s %10s %10s %10s %10s %10s %9s\n", "name", "kind", "allocated", "charged",
      "peak", "soft", "hard", "refusals");
  for (size_t i = 0; i < l.count; i++) {
    hak_arena *arena = hak_arena_from_id(l.ids[i]);
    if (arena == NULL || hak_stats_read(arena, v, HAK_STAT_COUNT) == 0) continue;
    const char *name = hak_arena_name(arena);
    say(o, "  ");
    say_name(o, name, PLAIN);
    for (size_t n = columns_of(name); n < 24; n++) say(o, " ");
    say(o, " %-8s %10s %10s %10s %10s %10s %9s\n", kind_name(arena),
        bytes(v[HAK_STAT(top, allocated)]).text, bytes(v[HAK_STAT(top, charged)]).text,
        bytes(v[HAK_STAT(top, peak)]).text, limit(v[HAK_STAT(top, soft)]).text,
        limit(v[HAK_STAT(top, hard)]).text, count(v[HAK_STAT(top, refusals)]).text);
  }
  if (l.all > l.count) say(o, "  and %s smaller ones\n", count(l.all - l.count).text);
}

static void report_text(struct out *o) {
  uint64_t v[HAK_STAT_COUNT];
  hak_stats_read(NULL, v, HAK_STAT_COUNT);
  say(o, "hakmem %s\n\n", hak_version());
  text_bridge(o, v);
  text_totals(o, v);
  text_classes(o);
  text_l25_classes(o);
  text_arenas(o);
}

/* ---- json ------------------------------------------------------------------------------------ */

static bool shown(const hak_stat_info *s, bool of_arena) {
  return of_arena ? s->per_arena : s->process;
}

static void say_value(struct out *o, const hak_stat_info *s, uint64_t value) {
  if (strcmp(s->kind, "ratio") == 0)
    say(o, "%.9f", (double)value / 1e9);
  else
    say(o, "%llu", (ull)value);
}

static void json_l25_classes(struct out *o, hak_arena *arena) {
  struct l25_classes all = l25_classes(arena);
  say(o, ",\"classes\":[");
  for (size_t i = 0; i < all.count; i++)
    say(o, "%s{\"size\":%llu,\"blocks\":%llu,\"cached\":%llu,\"ops\":%llu}", i == 0 ? "" : ",",
        (ull)all.at[i].size, (ull)all.at[i].blocks, (ull)all.at[i].cached, (ull)all.at[i].ops);
  say(o, "]");
}

/* `open`: the name of its last statistic. */
static void json_group_end(struct out *o, hak_arena *arena, const char *open) {
  if (strncmp(open, "l25.", 4) == 0) json_l25_classes(o, arena);
  say(o, "}");
}

/* "small.slabs" goes into an object "small"; stats.def keeps groups together. arena NULL: of the
 * process. */
static void json_values(struct out *o, const uint64_t *values, hak_arena *arena) {
  const char *open = ""; /* name of a statistic of the object that is being written */
  size_t open_length = 0;
  for (size_t i = 0; i < HAK_STAT_COUNT; i++) {
    const hak_stat_info *s = haki_stat_info_at(i);
    if (!shown(s, arena != NULL)) continue;
    const char *dot = strchr(s->name, '.');
    size_t length = dot == NULL ? 0 : (size_t)(dot - s->name);
    bool same = length == open_length && memcmp(open, s->name, length) == 0;
    if (!same && open_length != 0) json_group_end(o, arena, open);
    say(o, ",");
    if (!same && length != 0) say(o, "\"%.*s\":{", (int)length, s->name);
    say(o, "\"%s\":", dot == NULL ? s->name : dot + 1);
    say_value(o, s, values[i]);
    open = s->name;
    open_length = length;
  }
  if (open_length != 0) json_group_end(o, arena, open);
}

struct json_arenas {
  struct out *o;
  bool any;
};

static void json_arena(hak_arena *arena, const uint64_t *values, void *ud) {
  struct json_arenas *list = ud;
  struct out *o = list->o;
  say(o, "%s{\"name\":\"", list->any ? "," : "");
  list->any = true;
  say_name(o, hak_arena_name(arena), JSON);
  say(o, "\",\"id\":\"%llu\",\"kind\":\"%s\"", (ull)hak_arena_get_id(arena), kind_name(arena));
  json_values(o, values, arena);
  say(o, "}");
}

static void report_json(struct out *o) {
  uint64_t v[HAK_STAT_COUNT];
  struct json_arenas list = {o, false};
  hak_stats_read(NULL, v, HAK_STAT_COUNT);
  say(o, "{\"version\":\"%s\"", hak_version());
  json_values(o, v, NULL);
  say(o, ",\"arenas\":[");
  each_arena(json_arena, &list);
  say(o, "]}\n");
}

/* ---- prometheus ------------------------------------------------------------------------------ */

/* hakmem_small_slabs, hakmem_arena_allocated_bytes, hakmem_os_purged_bytes_total: the unit is part
 * of the name, in base units. */
static void metric_name(struct out *o, const hak_stat_info *s, bool of_arena) {
  size_t length = strlen(s->name);
  bool named = length >= 5 && strcmp(s->name + length - 5, "bytes") == 0;
  say(o, of_arena ? "hakmem_arena_" : "hakmem_");
  for (const char *p = s->name; *p != '\0'; p++) say(o, "%c", *p == '.' ? '_' : *p);
  if (strcmp(s->unit, "bytes") == 0 && !named) say(o, "_bytes");
  if (strcmp(s->unit, "ns") == 0) say(o, "_seconds");
  if (strcmp(s->kind, "counter") == 0) say(o, "_total");
}

static void metric_head(struct out *o, const hak_stat_info *s, bool of_arena) {
  say(o, "# HELP ");
  metric_name(o, s, of_arena);
  say(o, " %s\n# TYPE ", s->help); /* help texts hold neither '\\' nor newlines */
  metric_name(o, s, of_arena);
  say(o, " %s\n", strcmp(s->kind, "counter") == 0 ? "counter" : "gauge");
}

static void metric_value(struct out *o, const hak_stat_info *s, uint64_t value) {
  say(o, " ");
  if (strcmp(s->unit, "ns") == 0)
    say(o, "%.9f", (double)value / 1e9);
  else
    say_value(o, s, value);
  say(o, "\n");
}

struct metric {
  struct out *o;
  size_t index;
};

static void metric_of_arena(hak_arena *arena, const uint64_t *values, void *ud) {
  const struct metric *m = ud;
  const hak_stat_info *s = haki_stat_info_at(m->index);
  metric_name(m->o, s, true);
  say(m->o, "{arena=\"");
  say_name(m->o, hak_arena_name(arena), PROMETHEUS);
  say(m->o, "\",id=\"%llu\"}", (ull)hak_arena_get_id(arena));
  metric_value(m->o, s, values[m->index]);
}

/* Of the pool's classes; ops last, the only counter. */
static const struct class_metric {
  const char *name, *type, *help;
} class_metrics[] = {
    {"l25_class_blocks", "gauge",
     "live blocks of the pool of large blocks, by size class in bytes"},
    {"l25_class_cached_blocks", "gauge",
     "free blocks in the pool's caches and shards, by size class"},
    {"l25_class_ops_total", "counter", "blocks handed out by the pool, by size class"},
};

static uint64_t class_metric_value(const hak_l25_class_stat *c, size_t index) {
  return index == 0 ? c->blocks : index == 1 ? c->cached : c->ops;
}

static void class_samples(struct out *o, hak_arena *arena, size_t index) {
  struct l25_classes all = l25_classes(arena);
  for (size_t i = 0; i < all.count; i++) {
    say(o, "hakmem_%s%s{", arena != NULL ? "arena_" : "", class_metrics[index].name);
    if (arena != NULL) {
      say(o, "arena=\"");
      say_name(o, hak_arena_name(arena), PROMETHEUS);
      say(o, "\",id=\"%llu\",", (ull)hak_arena_get_id(arena));
    }
    say(o, "size=\"%llu\"} %llu\n", (ull)all.at[i].size,
        (ull)class_metric_value(&all.at[i], index));
  }
}

static void class_samples_of_arena(hak_arena *arena, const uint64_t *values, void *ud) {
  const struct metric *m = ud;
  (void)values;
  class_samples(m->o, arena, m->index);
}

static void prometheus_classes(struct out *o) {
  for (size_t i = 0; i < HAK_COUNT_OF(class_metrics); i++)
    for (int of_arena = 0; of_arena < 2; of_arena++) {
      const struct class_metric *c = &class_metrics[i];
      const char *prefix = of_arena ? "arena_" : "";
      say(o, "# HELP hakmem_%s%s %s\n", prefix, c->name, c->help);
      say(o, "# TYPE hakmem_%s%s %s\n", prefix, c->name, c->type);
      if (of_arena)
        each_arena(class_samples_of_arena, &(struct metric){o, i});
      else
        class_samples(o, NULL, i);
    }
}

/* The format wants all samples of a metric together, so arenas are visited once for each. */
static void report_prometheus(struct out *o) {
  uint64_t v[HAK_STAT_COUNT];
  hak_stats_read(NULL, v, HAK_STAT_COUNT);
  for (size_t i = 0; i < HAK_STAT_COUNT; i++) {
    const hak_stat_info *s = haki_stat_info_at(i);
    struct metric m = {o, i};
    if (shown(s, false)) {
      metric_head(o, s, false);
      metric_name(o, s, false);
      metric_value(o, s, v[i]);
    }
    if (shown(s, true)) {
      metric_head(o, s, true);
      each_arena(metric_of_arena, &m);
    }
  }
  prometheus_classes(o);
}

/* ---------------------------------------------------------------------------------------------- */

int hak_report(const char *format, void (*write)(const char *text, size_t size, void *ud),
               void *ud) {
  static const struct {
    const char *name;
    void (*report)(struct out *o);
  } formats[] = {{"text", report_text}, {"json", report_json}, {"prometheus", report_prometheus}};
  struct out o;
  int saved = errno;
  if (format == NULL || write == NULL) return EINVAL;
  o.write = write;
  o.ud = ud;
  o.used = 0;
  for (size_t i = 0; i < HAK_COUNT_OF(formats); i++) {
    if (strcmp(format, formats[i].name) != 0) continue;
    formats[i].report(&o);
    flush(&o);
    errno = saved;
    return 0;
  }
  return EINVAL;
}

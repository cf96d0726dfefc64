/* report.c - hak_report() in its three formats, read back by small checkers.
 * Start: json_parses, prometheus_lines. */
#include "check.h"

#include <ctype.h>

enum { MOST = 4 << 20 };
static char text[MOST];
static size_t length, pieces;
static void gather(const char *piece, size_t n, void *ud) {
  CHECK(ud == text);
  CHECK_CMP(length + n, <, MOST);
  memcpy(text + length, piece, n);
  length += n;
  pieces++;
  text[length] = 0;
}
static void make(const char *format) {
  length = pieces = 0;
  CHECK_EQ(hak_report(format, gather, text), 0);
  CHECK_CMP(length, >, 100);
  CHECK_EQ(strlen(text), length);
}

static hak_arena *odd; /* its name needs quoting in every format */
static void scene(void) {
  hak_arena_config config = {.name = "we\"ird\\na\nme\x01", .kind = HAK_ARENA_PRIVATE, .hard = MIB};
  odd = hak_arena_create(&config);
  CHECK(odd != NULL);
  for (size_t i = 1; i < 200; i++) CHECK(hak_arena_alloc(odd, i * 13) != NULL);
  void *p = hak_malloc(3000), *q = hak_malloc(300000);
  CHECK(p != NULL && q != NULL);
}

TEST(unknown_formats_are_einval) {
  length = 0;
  CHECK_EQ(hak_report("xml", gather, text), EINVAL);
  CHECK_EQ(hak_report("", gather, text), EINVAL);
  CHECK_EQ(hak_report(NULL, gather, text), EINVAL);
  CHECK_EQ(hak_report("text", NULL, NULL), EINVAL);
  CHECK_EQ(length, 0);
}

TEST(text_is_readable) {
  scene();
  make("text");
  CHECK(strstr(text, "allocated") != NULL && strstr(text, "mapped") != NULL);
  CHECK_EQ(text[length - 1], '\n');
  for (size_t i = 0; i < length; i++) CHECK(text[i] == '\n' || (unsigned char)text[i] >= 32);
}

TEST(reports_do_not_allocate) {
  scene();
  uint64_t blocks = stat_of(NULL, "blocks"), mapped = stat_of(NULL, "mapped");
  make("text");
  make("json");
  make("prometheus");
  CHECK_EQ(stat_of(NULL, "blocks"), blocks);
  CHECK_EQ(stat_of(NULL, "mapped"), mapped);
}

/* ---- JSON, strictly by RFC 8259 -------------------------------------------------------------- */

static const char *at;
static int keys_seen;
static void space(void) {
  while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
}
static void string(void) {
  CHECK_EQ(*at, '"');
  for (at++; *at != '"'; at++) {
    CHECK((unsigned char)*at >= 32);
    if (*at != '\\') continue;
    at++;
    CHECK(strchr("\"\\/bfnrtu", *at) != NULL);
    if (*at != 'u') continue;
    for (int i = 0; i < 4; i++) CHECK(isxdigit((unsigned char)*++at));
  }
  at++;
}
static void number(void) {
  if (*at == '-') at++;
  CHECK(isdigit((unsigned char)*at));
  if (*at == '0') CHECK(!isdigit((unsigned char)at[1]));
  while (isdigit((unsigned char)*at)) at++;
  if (*at == '.') {
    CHECK(isdigit((unsigned char)*++at));
    while (isdigit((unsigned char)*at)) at++;
  }
}
static void value(int depth);
static void sequence(char close, bool keyed, int depth) {
  at++;
  space();
  if (*at == close) {
    at++;
    return;
  }
  for (;;) {
    space();
    if (keyed) {
      string();
      space();
      CHECK_EQ(*at, ':');
      at++;
      keys_seen++;
    }
    value(depth + 1);
    space();
    if (*at == close) break;
    CHECK_EQ(*at, ',');
    at++;
  }
  at++;
}
static void value(int depth) {
  CHECK_CMP(depth, <, 20);
  space();
  if (*at == '{')
    sequence('}', true, depth);
  else if (*at == '[')
    sequence(']', false, depth);
  else if (*at == '"')
    string();
  else if (strncmp(at, "true", 4) == 0 || strncmp(at, "null", 4) == 0)
    at += 4;
  else
    number();
}

TEST(json_parses) {
  scene();
  make("json");
  at = text;
  value(0);
  space();
  CHECK_EQ(*at, 0);
  CHECK_EQ(text[0], '{');
  CHECK_CMP(keys_seen, >=, (int)hak_stat_count());
  for (size_t i = 0; i < hak_stat_count(); i++) { /* every statistic under its last name */
    const char *name = hak_stat_info_at(i)->name, *dot = strchr(name, '.');
    char key[80];
    snprintf(key, sizeof key, "\"%s\"", dot ? dot + 1 : name);
    CHECK(strstr(text, key) != NULL);
  }
  CHECK(strstr(text, "we\\\"ird\\\\na\\nme\\u0001") != NULL);
  CHECK(strstr(text, "\"arenas\"") != NULL);
}

/* ---- Prometheus text format ------------------------------------------------------------------ */

static bool name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == ':'; }

static void sample(char *line, const char *family) {
  size_t n = 0;
  while (name_char(line[n])) n++;
  CHECK(n == strlen(family) && strncmp(line, family, n) == 0);
  char *p = line + n;
  if (*p == '{') {
    for (p++; *p != '}';) {
      CHECK(name_char(*p) && !isdigit((unsigned char)*p));
      while (name_char(*p)) p++;
      CHECK(p[0] == '=' && p[1] == '"');
      for (p += 2; *p != '"'; p++) {
        CHECK((unsigned char)*p >= 32 || *p == 1);
        if (*p == '\\') {
          p++;
          CHECK(*p == '\\' || *p == '"' || *p == 'n');
        }
      }
      p++;
      if (*p == ',') p++;
    }
    p++;
  }
  CHECK_EQ(*p, ' ');
  char *end;
  double v = strtod(p + 1, &end);
  CHECK(end != p + 1 && *end == 0 && v >= 0);
}

TEST(prometheus_lines) {
  scene();
  make("prometheus");
  CHECK_EQ(text[length - 1], '\n');
  char family[200] = "", type[40] = "", *save;
  static char seen[500][100];
  int families = 0, samples = 0;
  for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
    char name[200];
    if (sscanf(line, "# HELP %199s", name) == 1) continue;
    if (sscanf(line, "# TYPE %199s %39s", name, type) == 2) {
      CHECK(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0);
      CHECK(strncmp(name, "hakmem_", 7) == 0);
      for (int i = 0; i < families; i++) CHECK(strcmp(seen[i], name) != 0); /* one group each */
      CHECK_CMP(families, <, 500);
      snprintf(seen[families++], sizeof seen[0], "%.99s", name);
      snprintf(family, sizeof family, "%s", name);
      continue;
    }
    CHECK(line[0] != '#' && line[0] != ' ');
    sample(line, family);
    samples++;
  }
  CHECK_CMP(families, >=, 30);
  CHECK_CMP(samples, >=, families);
}

static bool says(const char *format, const char *what) {
  make(format);
  return strstr(text, what) != NULL;
}

TEST(classes_of_large_blocks) {
  enum { SIZE = 196608 };
  hak_arena_config config = {.name = "pool", .kind = HAK_ARENA_SHARED};
  CHECK(!says("text", "Large blocks") && says("json", "\"classes\":[]"));
  hak_arena *a = hak_arena_create(&config);
  hak_arena_free(a, hak_arena_alloc(a, SIZE));
  CHECK(hak_arena_alloc(a, SIZE) != NULL && hak_malloc(SIZE) != NULL);
  char line[200];
  snprintf(line, sizeof line, "\n  %12s %12d %12d %14d\n", "192.0 KiB", 2, 0, 3);
  CHECK(says("text", "\nLarge blocks of shared arenas, by size class\n") && says("text", line));
  CHECK(says("json", "\"classes\":[{\"size\":196608,\"blocks\":2,\"cached\":0,\"ops\":3}]}"));
  CHECK(says("json", "\"classes\":[{\"size\":196608,\"blocks\":1,\"cached\":0,\"ops\":2}]}"));
  CHECK(says("prometheus", "\nhakmem_l25_class_ops_total{size=\"196608\"} 3\n"));
  snprintf(line, sizeof line,
           "\nhakmem_arena_l25_class_blocks{arena=\"pool\",id=\"%llu\",size=\"%d\"} 1\n",
           (unsigned long long)hak_arena_get_id(a), SIZE);
  CHECK(says("prometheus", line));
  CHECK_EQ(hak_arena_reset(a), 0);
  CHECK(says("prometheus", "\nhakmem_l25_class_blocks{size=\"196608\"} 1\n"));
}

/* Names are bytes, reports are UTF-8. */
static bool utf8(const char *s) {
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : 3;
    if (more == 3 && (c < 0xf0 || c > 0xf4)) return false;
    unsigned char next = (unsigned char)s[1];
    if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f)) return false;
    if ((c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f)) return false;
    while (more-- > 0)
      if (((unsigned char)*++s & 0xc0) != 0x80) return false;
  }
  return true;
}
TEST(names_of_any_bytes) {
  static const char *const names[] = {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                                      "\xff\xfe",
                                      "\xc0\xaf",
                                      "\xed\xa0\x80",
                                      "cut \xe2\x82",
                                      "\xf8\x88\x80\x80\x80",
                                      "1234567890123456789012345678\xf0\x9f\x98\x80",
                                      "\x7f\x1b[31m"};
  for (size_t i = 0; i < HAK_COUNT_OF(names); i++) {
    hak_arena_config config = {.name = names[i]};
    CHECK(hak_arena_create(&config) != NULL);
  }
  static const char *const formats[] = {"text", "json", "prometheus"};
  for (int i = 0; i < 3; i++) {
    make(formats[i]);
    CHECK(utf8(text));
    CHECK(strstr(text, names[0]) != NULL);
  }
}

TEST(many_arenas) {
  static hak_arena *a[500];
  for (size_t i = 0; i < 500; i++) {
    a[i] = arena_of_kind((int)(i & 1), 0);
    CHECK(hak_arena_alloc(a[i], 1000 * (i % 97)) != NULL);
  }
  make("json");
  at = text;
  value(0);
  make("text");
  make("prometheus");
  for (size_t i = 0; i < 500; i++) CHECK_EQ(hak_arena_destroy(a[i]), 0);
}

static _Atomic(bool) stop;
static void *churn(void *unused) {
  uint64_t seed = 3;
  while (!stop) {
    hak_arena *a = arena_of_kind((int)below(&seed, 2), 0);
    for (int i = 0; i < 100; i++) hak_free(hak_malloc(log_size(&seed, 100000)));
    for (int i = 0; i < 3; i++) hak_arena_free(a, hak_arena_alloc(a, 700000 * (size_t)(i + 1)));
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
  return unused;
}
TEST(reports_while_arenas_come_and_go) {
  pthread_t t[2] = {start(churn, NULL), start(churn, NULL)};
  for (size_t i = 0; i < rounds(300, 50); i++) {
    make("json");
    at = text;
    value(0);
    make("prometheus");
    make("text");
  }
  stop = true;
  finish(t[0]);
  finish(t[1]);
}

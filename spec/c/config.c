/* config.c - knobs: parsing, all or nothing, sentences, environment, and what each one does: a case
 * KNOB_effect for every knob, that of log.level in log.c, those of arenas in arena.c.
 * Start: table_is_sound. */
#define CHECK_CHILD child
#include "check.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

static char sentence[256];

static int set(const char *name, const char *value) {
  memset(sentence, 0, sizeof sentence);
  return hak_configure(&name, &value, 1, sentence, sizeof sentence);
}
static uint64_t get(const char *name) {
  int i = hak_knob_find(name);
  CHECK_CMP(i, >=, 0);
  return hak_knob_value((size_t)i);
}

TEST(table_is_sound) {
  size_t n = hak_knob_count();
  CHECK_CMP(n, >=, 14);
  for (size_t i = 0; i < n; i++) {
    const hak_knob_info *k = hak_knob_info_at(i);
    CHECK(k != NULL);
    CHECK_EQ(hak_knob_find(k->name), (int)i);
    CHECK(strncmp(k->env, "HAKMEM_", 7) == 0);
    CHECK(k->min <= k->def && k->def <= k->max);
    CHECK_EQ(hak_knob_value(i), k->def);
    CHECK(strlen(k->help) > 10 && k->unit[0] != 0);
    CHECK_EQ(strcmp(k->type, "word") == 0, k->words != NULL && k->words[0] != 0);
  }
  CHECK(hak_knob_info_at(n) == NULL && hak_knob_info_at(SIZE_MAX) == NULL);
  CHECK_EQ(hak_knob_find("nothing.here"), -1);
  CHECK_EQ(hak_knob_find(""), -1);
  CHECK_STR(hak_knob_info_at((size_t)hak_knob_find("purge.decay"))->env, "HAKMEM_PURGE_DECAY");
}

TEST(values_are_parsed) {
  static const struct {
    const char *name, *text;
    uint64_t value;
  } good[] = {
      {"arena.retain", "0", 0},
      {"arena.retain", "12345", 12345},
      {"arena.retain", "64K", 64 * KIB},
      {"arena.retain", "2M", 2 * MIB},
      {"arena.retain", "1.5GiB", 3 << 29},
      {"arena.retain", "1G", 1 << 30},
      {"arena.retain", "16KiB", 16 * KIB},
      {"purge.decay", "0", 0},
      {"purge.decay", "250ms", 250000000},
      {"purge.decay", "5s", 5000000000},
      {"purge.decay", "2", 2000000000},
      {"purge.decay", "1.5", 1500000000},
      {"purge.decay", "10us", 10000},
      {"purge.mode", "free", 1},
      {"purge.mode", "off", 2},
      {"purge.mode", "dontneed", 0},
      {"large.remap", "off", 0},
      {"large.remap", "on", 1},
      {"small.keep", "64", 64},
      {"small.keep", "0", 0},
      {"log.level", "0", 0},
  };
  for (size_t i = 0; i < HAK_COUNT_OF(good); i++) {
    CHECK_EQ(set(good[i].name, good[i].text), 0);
    CHECK_EQ(get(good[i].name), good[i].value);
  }
}

static bool speaks_of(const char *name, const char *value) {
  size_t n = strlen(sentence);
  return n > 10 && n < sizeof sentence - 1 && strchr(sentence, '\n') == NULL &&
         strstr(sentence, name) != NULL && strstr(sentence, value) != NULL;
}

TEST(bad_values_change_nothing) {
  static const struct {
    const char *name, *text;
  } bad[] = {
      {"small.keep", "65"},
      {"small.keep", "-1"},
      {"small.keep", "1.5"},
      {"small.keep", "x"},
      {"small.keep", "123456789012345678901234567890"},
      {"small.keep", "99999999999999999999"},
      {"small.keep", "1 2"},
      {"small.keep", "0x10"},
      {"purge.mode", "sometimes"},
      {"purge.mode", "1x"},
      {"large.remap", "maybe"},
      {"large.remap", "2"},
      {"arena.nursery", "2M"},
      {"arena.nursery", "-64K"},
      {"arena.nursery", "64Q"},
      {"arena.nursery", "nan"},
      {"arena.nursery", "1e400"},
      {"arena.nursery", "18446744073709551616"},
      {"purge.decay", "2 fortnights"},
      {"purge.decay", "-5s"},
      {"purge.decay", "7200s"},
      {"purge.decay", "inf"},
      {"heap.adopt", "0"},
      {"small.refill", "255"},
      {"log.level", "4"},
  };
  for (size_t i = 0; i < HAK_COUNT_OF(bad); i++) {
    uint64_t before = get(bad[i].name);
    CHECK_EQ(set(bad[i].name, bad[i].text), EINVAL);
    if (!speaks_of(bad[i].name, bad[i].text)) CHECK_STR(sentence, bad[i].text);
    CHECK_EQ(get(bad[i].name), before);
  }
  CHECK_EQ(set("small.keep", ""), EINVAL);
  CHECK_EQ(set("small.keeep", "1"), EINVAL);
  CHECK(speaks_of("small.keeep", ""));
  CHECK_EQ(set("", "1"), EINVAL);
  CHECK_EQ(set("small.keep", "65"), EINVAL);
  CHECK(speaks_of("0", "64")); /* the range */
  CHECK_EQ(set("purge.decay", "-1"), EINVAL);
  CHECK_STR(sentence, "knob 'purge.decay': '-1' is out of range (0 to 3600s)");
  CHECK_EQ(set("purge.decay", "--1"), EINVAL);
  CHECK_STR(sentence, "knob 'purge.decay': '--1' is not a duration");
  CHECK_EQ(set("purge.mode", "sometimes"), EINVAL);
  CHECK(speaks_of("dontneed", "free")); /* the choices */
}

TEST(all_or_nothing) {
  const char *names[] = {"small.keep", "purge.decay", "small.relink"};
  const char *values[] = {"3", "77ms", "100000"};
  uint64_t keep = get("small.keep"), decay = get("purge.decay");
  CHECK_EQ(hak_configure(names, values, 3, sentence, sizeof sentence), EINVAL);
  CHECK(strstr(sentence, "small.relink") != NULL);
  CHECK(get("small.keep") == keep && get("purge.decay") == decay);
  values[2] = "99";
  CHECK_EQ(hak_configure(names, values, 3, NULL, 0), 0);
  CHECK(get("small.keep") == 3 && get("purge.decay") == 77000000 && get("small.relink") == 99);
  CHECK_EQ(hak_configure(names, values, 0, NULL, 0), 0);
  char tiny[8];
  values[2] = "0";
  CHECK_EQ(hak_configure(names, values, 3, tiny, sizeof tiny), EINVAL); /* cut, not overrun */
  CHECK(memchr(tiny, 0, sizeof tiny) != NULL);
}

TEST(fixed_after_start) {
  CHECK_EQ(set("os.region", "1G"), 0); /* not started yet */
  CHECK_EQ(get("os.region"), 1 << 30);
  hak_free(hak_malloc(10));
  CHECK_CMP(stat_of(NULL, "os.region"), <=, 1 << 30);
  CHECK_EQ(set("os.region", "2G"), EPERM);
  CHECK(speaks_of("os.region", "2G"));
  CHECK_EQ(get("os.region"), 1 << 30);
  const char *names[] = {"small.keep", "os.region"}, *values[] = {"5", "2G"};
  CHECK_EQ(hak_configure(names, values, 2, NULL, 0), EPERM);
  CHECK(get("small.keep") != 5);
}

TEST(arena_scope) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  const char *name = "arena.nursery", *value = "0";
  uint64_t global = get(name);
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, sentence, sizeof sentence), 0);
  CHECK_EQ(get(name), global); /* of one arena only */
  value = "9M";
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, sentence, sizeof sentence), EINVAL);
  CHECK(speaks_of("arena.nursery", "9M"));
  name = "purge.decay", value = "1s";
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, sentence, sizeof sentence), EINVAL);
  CHECK_STR(sentence, "knob 'purge.decay' cannot be set for one arena");
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, sizeof sentence), EINVAL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, sentence, sizeof sentence), EINVAL);
  CHECK_STR(sentence, "the arena is dead");
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, 0), EINVAL);
}

/* ---- environment, by starting this program again --------------------------------------------- */

static int child(const char *what) { /* prints the values of the knobs named in `what` */
  hak_free(hak_malloc(10));
  char names[256];
  snprintf(names, sizeof names, "%s", what);
  for (char *save, *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save))
    printf("%llu ", (unsigned long long)hak_knob_value((size_t)hak_knob_find(name)));
  return 0;
}

static char out[2048], err[4096];
static const char *program = "/proc/self/exe";
static void slurp(int fd, char *text, size_t size) {
  size_t n = 0;
  for (ssize_t got; n < size - 1 && (got = read(fd, text + n, size - 1 - n)) > 0;) n += (size_t)got;
  text[n] = 0;
  close(fd);
}

/* `env`: pairs, NULL at the end. Leaves what the child wrote in out and err. */
static void with_env(const char *const *env, const char *knobs) {
  int o[2], e[2];
  CHECK_EQ(pipe(o) | pipe(e), 0);
  pid_t pid = fork();
  CHECK_CMP(pid, >=, 0);
  if (pid == 0) {
    for (; env[0] != NULL; env += 2) setenv(env[0], env[1], 1);
    dup2(o[1], 1);
    dup2(e[1], 2);
    close(o[0]), close(o[1]), close(e[0]), close(e[1]);
    execl(program, "config", "child", knobs, (char *)NULL);
    _exit(99);
  }
  close(o[1]);
  close(e[1]);
  slurp(o[0], out, sizeof out);
  slurp(e[0], err, sizeof err);
  reap(pid);
}
static size_t lines_of(const char *text) {
  size_t n = 0;
  for (; *text; text++) n += *text == '\n';
  return n;
}

TEST(environment_is_read) {
  with_env((const char *[]){"HAKMEM_SMALL_KEEP", "7", "HAKMEM_PURGE_DECAY", "250ms", NULL},
           "small.keep purge.decay");
  CHECK_STR(out, "7 250000000 ");
  CHECK_STR(err, "");
  with_env((const char *[]){"HAKMEM_CONF", "small.keep:9,purge.mode:free", NULL},
           "small.keep purge.mode");
  CHECK_STR(out, "9 1 ");
  CHECK_STR(err, "");
  /* the variable of one knob is more particular than HAKMEM_CONF */
  with_env((const char *[]){"HAKMEM_CONF", "small.keep:9", "HAKMEM_SMALL_KEEP", "8", NULL},
           "small.keep");
  CHECK_STR(out, "8 ");
  with_env((const char *[]){"HAKMEM_LOG", "1", NULL}, "log.level");
  CHECK_STR(out, "1 ");
}

TEST(garbage_in_the_environment_warns_once) {
  static const char *const garbage[] = {
      "-1", "123456789012345678901234567890", "x", "", "65", "7 7", "\x80\xff", "1e3", "%s%n"};
  for (size_t i = 0; i < HAK_COUNT_OF(garbage); i++) {
    with_env((const char *[]){"HAKMEM_SMALL_KEEP", garbage[i], NULL}, "small.keep");
    CHECK_STR(out, "16 ");
    if (garbage[i][0] == 0) continue; /* an empty variable may count as unset */
    CHECK_EQ(lines_of(err), 1);
    CHECK(strstr(err, "hakmem: ") == err);
    CHECK(strstr(err, "small.keep") != NULL || strstr(err, "HAKMEM_SMALL_KEEP") != NULL);
  }
  with_env((const char *[]){"HAKMEM_CONF", "small.keep:5,no.such:1,small.relink:9", NULL},
           "small.keep small.relink");
  CHECK_STR(out, "5 9 "); /* the good ones still count */
  CHECK_EQ(lines_of(err), 1);
  CHECK(strstr(err, "no.such") != NULL);
  static const char *const broken[] = {"small.keep", ":", ",,,", "small.keep:", ":5", "=", "a:b:c"};
  for (size_t i = 0; i < HAK_COUNT_OF(broken); i++) {
    with_env((const char *[]){"HAKMEM_CONF", broken[i], NULL}, "small.keep");
    CHECK_STR(out, "16 ");
    CHECK_CMP(lines_of(err), <=, 1);
  }
  static char longest[100000];
  memset(longest, '7', sizeof longest - 1);
  with_env((const char *[]){"HAKMEM_SMALL_KEEP", longest, NULL}, "small.keep");
  CHECK_STR(out, "16 ");
  CHECK_EQ(lines_of(err), 1);
}

TEST(set_uid_programs_ignore_the_environment) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's runtime reads the environment itself");
  if (geteuid() != 0) SKIP("only root can make a set-uid program");
  char folder[] = "/tmp/hakmem-setuid-XXXXXX", path[64];
  CHECK(mkdtemp(folder) != NULL);
  CHECK_EQ(chmod(folder, 0755), 0);
  snprintf(path, sizeof path, "%s/program", folder);
  FILE *from = fopen("/proc/self/exe", "rb"), *to = fopen(path, "wb");
  CHECK(from != NULL && to != NULL);
  static char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;)
    CHECK_EQ(fwrite(buffer, 1, n, to), n);
  CHECK_EQ(fclose(from) | fclose(to), 0);
  CHECK_EQ(chown(path, 65534, 65534) | chmod(path, 04755), 0);
  struct statvfs fs;
  bool counts = statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOSUID) == 0;
  program = path;
  with_env((const char *[]){"HAKMEM_SMALL_KEEP", "7", NULL}, "small.keep");
  unlink(path);
  rmdir(folder);
  if (!counts) SKIP("set-uid bits do not count on this file system");
  CHECK_STR(out, "16 ");
  CHECK(strstr(err, "hakmem: ") == NULL);
}

TEST(the_program_beats_the_environment) {
  setenv("HAKMEM_SMALL_KEEP", "7", 1);
  CHECK_EQ(set("small.keep", "3"), 0);
  hak_free(hak_malloc(1));
  CHECK_EQ(get("small.keep"), 3);
}

/* ---- effects --------------------------------------------------------------------------------- */

static uint64_t grown(const char *stat, void (*work)(void)) {
  uint64_t before = stat_of(NULL, stat);
  work();
  return stat_of(NULL, stat) - before;
}

static void big_round(void) { /* runs of pages, in audit builds too; aligned: past the pool */
  for (int i = 0; i < 4; i++) {
    char *p = hak_aligned_alloc(128 * KIB, 200000);
    CHECK(p != NULL);
    memset(p, 1, 200000);
    hak_free(p);
  }
}
TEST(purge_decay_effect) {
  CHECK_EQ(set("purge.decay", "3600s"), 0);
  CHECK_EQ(grown("os.purges", big_round), 0);
  CHECK_CMP(stat_of(NULL, "cached"), >, 0);
  CHECK_EQ(set("purge.decay", "0"), 0);
  CHECK_CMP(grown("os.purges", big_round), >, 0);
}
TEST(purge_mode_effect) {
  CHECK_EQ(set("purge.decay", "0"), 0);
  CHECK_EQ(set("purge.mode", "off"), 0);
  CHECK_EQ(grown("os.purges", big_round), 0);
  CHECK_EQ(set("purge.mode", "free"), 0);
  CHECK_CMP(grown("os.purges", big_round), >, 0);
  char *p = hak_calloc(2, 100000); /* MADV_FREE may leave the old bytes */
  CHECK(all_zero(p, 200000));
  hak_free(p);
}

static void *refilled[2000];
static void small_round(void) {
  for (int i = 0; i < 2000; i++) refilled[i] = hak_malloc(64);
  for (int i = 0; i < 2000; i++) hak_free(refilled[i]);
}
TEST(small_refill_effect) {
  CHECK_EQ(set("small.refill", "256"), 0);
  uint64_t fine = grown("small.refills", small_round);
  hak_shutdown();
  CHECK_EQ(set("small.refill", "64K"), 0);
  CHECK_CMP(grown("small.refills", small_round), <, fine);
}

static void slab_round(void) { /* fills slabs of one class and empties them, again and again */
  static void *p[400];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 400; i++) p[i] = hak_malloc(8000);
    for (int i = 0; i < 400; i++) hak_free(p[i]);
  }
}
TEST(small_keep_effect) {
  CHECK_EQ(set("small.keep", "0"), 0);
  slab_round();
  uint64_t none = grown("small.retired", slab_round);
  CHECK_EQ(set("small.keep", "64"), 0);
  slab_round();
  CHECK_CMP(grown("small.retired", slab_round), <, none);
}

/* Full slabs lose an eighth of their blocks; whether new blocks go there is the knob's matter. */
static uint64_t fresh_after_holes(const char *relink) {
  enum { N = 20000 };
  static void *p[N];
  CHECK_EQ(set("small.relink", relink), 0);
  for (int i = 0; i < N; i++) p[i] = hak_malloc(256);
  for (int i = 0; i < N; i += 8) hak_free(p[i]);
  uint64_t fresh = stat_of(NULL, "small.fresh");
  for (int i = 0; i < N; i += 8) p[i] = hak_malloc(256);
  fresh = stat_of(NULL, "small.fresh") - fresh;
  for (int i = 0; i < N; i++) hak_free(p[i]);
  hak_shutdown();
  return fresh;
}
TEST(small_relink_effect) {
  uint64_t never = fresh_after_holes("1"); /* only when all blocks are free */
  CHECK_CMP(fresh_after_holes("1024"), <, never);
}

static hak_arena *adopting;
static void *left[16000];
static void *leave(void *unused) {
  for (int i = 0; i < 16000; i++) left[i] = hak_arena_alloc(adopting, 1024);
  for (int i = 0; i < 16000; i += 2) hak_arena_free(adopting, left[i]);
  return unused;
}
static uint64_t adopted_at_once(const char *most) {
  CHECK_EQ(set("heap.adopt", most), 0);
  adopting = arena_of_kind(HAK_ARENA_SHARED, 0);
  void *p = hak_arena_alloc(adopting, 16); /* we have a heap there: slabs are taken one by one */
  finish(start(leave, NULL));
  p = hak_arena_alloc(adopting, 1024);
  CHECK(p != NULL);
  uint64_t adopted = stat_of(adopting, "small.adopted");
  CHECK_EQ(hak_arena_destroy(adopting), 0);
  return adopted;
}
TEST(heap_adopt_effect) {
  uint64_t one = adopted_at_once("1"), many = adopted_at_once("1000");
  CHECK_EQ(one, 1);
  CHECK_CMP(many, >, 10);
}

static void grow_round(void) { /* a block that another one keeps from growing in place */
  char *p = hak_malloc(6 * MIB), *wall[8];
  fill(p, 6 * MIB, 1);
  for (int i = 0; i < 8; i++) wall[i] = hak_malloc(6 * MIB);
  p = hak_realloc(p, 30 * MIB);
  CHECK(p != NULL && intact_part(p, 6 * MIB, 6 * MIB, 1));
  hak_free(p);
  for (int i = 0; i < 8; i++) hak_free(wall[i]);
}
TEST(large_remap_effect) {
  CHECK_EQ(set("large.remap", "on"), 0);
  CHECK_CMP(grown("large.remaps", grow_round), >, 0);
  CHECK_EQ(set("large.remap", "off"), 0);
  CHECK_EQ(grown("large.remaps", grow_round), 0);
  CHECK_CMP(grown("large.copies", grow_round), >, 0);
}

TEST(arena_nursery_effect) {
  hak_arena *young = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK(hak_lua_alloc(young, NULL, 0, 100) != NULL);
  CHECK_CMP(stat_of(young, "nursery.bytes"), >, 0);
  CHECK_CMP(stat_of(NULL, "nursery.pages"), >, 0);
  CHECK_EQ(set("arena.nursery", "0"), 0); /* the default of arenas created from now on */
  hak_arena *old = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK(hak_lua_alloc(old, NULL, 0, 100) != NULL);
  CHECK_EQ(stat_of(old, "nursery.bytes"), 0);
  CHECK_EQ(hak_arena_destroy(young) | hak_arena_destroy(old), 0);
}

TEST(os_region_effect) {
  CHECK_EQ(set("os.region", "64M"), 0);
  void *p = hak_malloc(40 * MIB);
  CHECK_EQ(stat_of(NULL, "os.region"), 64 * MIB);
  void *q = hak_malloc(40 * MIB); /* the region is full: another one */
  CHECK(p != NULL && q != NULL);
  CHECK_CMP(stat_of(NULL, "os.region"), >, 64 * MIB);
  hak_free(p);
  hak_free(q);
}

/* Small blocks: huge pages pay where all pages are in use. */
static void twenty_megabytes(void) {
  static void *p[20000];
  for (int i = 0; i < 20000; i++) p[i] = hak_malloc(1000);
  for (int i = 0; i < 20000; i++) hak_free(p[i]);
  hak_shutdown();
}
TEST(os_hugepages_effect) {
  CHECK_EQ(set("os.hugepages", "off"), 0);
  CHECK_EQ(grown("os.hugepages", twenty_megabytes), 0);
  CHECK_EQ(set("os.hugepages", "on"), 0);
  CHECK_CMP(grown("os.hugepages", twenty_megabytes) + stat_of(NULL, "os.failures"), >, 0);
}
TEST(os_hugepages_min_effect) {
  CHECK_EQ(set("os.hugepages", "auto"), 0);
  CHECK_EQ(set("os.hugepages_min", "1024G"), 0);
  CHECK_EQ(grown("os.hugepages", twenty_megabytes), 0);
  CHECK_EQ(set("os.hugepages_min", "0"), 0);
  CHECK_CMP(grown("os.hugepages", twenty_megabytes) + stat_of(NULL, "os.failures"), >, 0);
}

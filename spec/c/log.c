/* log.c - who hears what: silence by default, levels, the sink, standard error.
 * Start: silent_by_default. */
#include "check.h"

static struct heard { _Atomic(int) lines, worst; } heard;
static void hear(int level, const char *line, void *ud) {
  CHECK(ud == &heard);
  CHECK(level >= 1 && level <= 3);
  CHECK(line[0] != 0 && strchr(line, '\n') == NULL);
  if (level > heard.worst) heard.worst = level;
  heard.lines++;
}

static void work(void) {
  for (int i = 0; i < 50; i++) {
    hak_arena *a = arena_of_kind(i & 1, i % 5 ? 0 : MIB);
    void *p = hak_malloc(100 + 5000 * (size_t)i), *q = hak_arena_alloc(a, 3 * MIB);
    hak_free(p);
    (void)q;
    hak_arena_reset(a);
    hak_trim();
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(silent_by_default) {
  int fd[2];
  CHECK_EQ(pipe(fd), 0);
  dup2(fd[1], 2);
  close(fd[1]);
  unsetenv("HAKMEM_LOG");
  work();
  close(2);
  char byte;
  CHECK_EQ(read(fd[0], &byte, 1), 0);
  hak_log_set_sink(hear, &heard);
  work();
  CHECK_EQ(heard.lines, 0);
}

TEST(log_level_effect) {
  hak_log_set_sink(hear, &heard);
  int lines[4];
  for (int level = 0; level <= 3; level++) {
    char text[2] = {(char)('0' + level), 0};
    CHECK_EQ(set_knob("log.level", text), 0);
    heard.lines = heard.worst = 0;
    work();
    lines[level] = heard.lines;
    CHECK_CMP(heard.worst, <=, level);
    if (level > 0) CHECK_CMP(lines[level], >=, lines[level - 1]);
  }
  CHECK_EQ(lines[0], 0);
  CHECK_CMP(lines[3], >, 0);
  CHECK_EQ(set_knob("log.level", "0"), 0);
  heard.lines = 0;
  work();
  CHECK_EQ(heard.lines, 0);
}

TEST(standard_error_gets_whole_lines) {
  int fd[2];
  CHECK_EQ(pipe(fd), 0);
  int old = dup(2);
  dup2(fd[1], 2);
  close(fd[1]);
  hak_log_set_sink(hear, &heard);
  CHECK_EQ(set_knob("log.level", "3"), 0);
  hak_log_set_sink(NULL, NULL); /* back to standard error */
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(set_knob("log.level", "0"), 0);
  dup2(old, 2);
  char text[65536];
  ssize_t n = read(fd[0], text, sizeof text - 1);
  CHECK_CMP(n, >, 1);
  CHECK_EQ(text[n - 1], '\n');
  CHECK_EQ(heard.lines, 1); /* the change of the level itself */
}

static void *worker(void *unused) {
  work();
  return unused;
}

TEST(sinks_change_while_threads_log) {
  hak_log_set_sink(hear, &heard);
  CHECK_EQ(set_knob("log.level", "3"), 0);
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(worker, NULL);
  for (int i = 0; i < 200; i++) hak_log_set_sink(hear, &heard);
  for (int i = 0; i < 4; i++) finish(t[i]);
  CHECK_CMP(heard.lines, >, 0);
  CHECK_EQ(set_knob("log.level", "0"), 0);
}

TEST(logging_keeps_errno) {
  hak_log_set_sink(hear, &heard);
  CHECK_EQ(set_knob("log.level", "3"), 0);
  errno = 99;
  void *p = hak_malloc(3 * MIB);
  hak_free(p);
  hak_trim();
  CHECK_EQ(errno, 99);
  CHECK_EQ(set_knob("log.level", "0"), 0);
}

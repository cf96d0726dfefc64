/* matrix.c - what is detected when a small block is freed twice or inside, in this build.
 * Why:   hardened and audit builds promise every one of these; the default build promises two and
 *        publishes the rest. The table that the manual shows is this program's output.
 * Start: rows. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/port.h"
#include "include/hakmem.h"

enum { N = 64 };
static size_t size = 112;

/* Three doors to the same slabs. */
enum door { MALLOC, PRIVATE, LUA, DOORS };
static const char *const door_names[DOORS] = {"hak_malloc", "private arena", "hak_lua_alloc"};
static enum door door;
static hak_arena *arena;
static char *block[N];

static void *get(void) {
  if (door == MALLOC) return hak_malloc(size);
  return door == PRIVATE ? hak_arena_alloc(arena, size) : hak_lua_alloc(arena, NULL, 0, size);
}
static void put(void *p) {
  __asm__ volatile("" : "+r"(p) : : "memory");
  if (door == MALLOC)
    hak_free(p);
  else if (door == PRIVATE)
    hak_arena_free(arena, p);
  else
    hak_lua_alloc(arena, p, size, 0);
}
static void get_all(void) {
  for (int i = 0; i < N; i++) block[i] = get();
}
static void *put_elsewhere(void *p) {
  put(p);
  return NULL;
}
static void put_by_thread(void *p) {
  pthread_t t;
  if (pthread_create(&t, NULL, put_elsewhere, p) == 0) pthread_join(t, NULL);
}

static void alone(void) {
  char *p = get();
  put(p);
  put(p);
}
static void in_a_row(void) {
  get_all();
  put(block[5]);
  put(block[5]);
}
static void one_between(void) {
  get_all();
  put(block[5]);
  put(block[6]);
  put(block[5]);
}
static void many_between(void) {
  get_all();
  for (int i = 0; i < N / 2; i++) put(block[i]);
  put(block[5]);
}
static void all_free(void) {
  get_all();
  for (int i = 0; i < N; i++) put(block[i]);
  put(block[5]);
}
static void after_trim(void) {
  get_all();
  for (int i = 0; i < N; i += 2) put(block[i]);
  if (door == MALLOC)
    hak_trim();
  else
    hak_arena_trim(arena);
  put(block[4]);
}
static void inside_8(void) {
  get_all();
  put(block[5] + 8);
}
static void inside_16(void) {
  get_all();
  put(block[5] + 16);
}
static void inside_48(void) {
  get_all();
  put(block[5] + 48);
}
static void resize_freed(void) {
  get_all();
  put(block[5]);
  put(block[6]);
  void *p = block[5];
  __asm__ volatile("" : "+r"(p) : : "memory");
  if (door == LUA)
    p = hak_lua_alloc(arena, p, size, size + 400);
  else
    p = hak_realloc(p, size + 400);
  (void)p;
}
static void local_then_remote(void) {
  get_all();
  put(block[5]);
  put_by_thread(block[5]);
}
static void remote_then_local(void) {
  get_all();
  put_by_thread(block[5]);
  put(block[5]);
}
static void remote_twice(void) {
  get_all();
  put_by_thread(block[5]);
  put_by_thread(block[5]);
}

static const struct {
  const char *what;
  void (*run)(void);
  bool promised; /* in the default build, through the malloc-like doors */
} rows[] = {
    {"freed twice, no other live block in the slab", alone, true},
    {"freed twice in a row", in_a_row, true},
    {"freed twice, one other free between", one_between, false},
    {"freed twice, many others between", many_between, false},
    {"freed twice, all others free too", all_free, false},
    {"freed twice, a trim between", after_trim, false},
    {"freed 8 bytes inside", inside_8, false},
    {"freed 16 bytes inside", inside_16, false},
    {"freed 48 bytes inside", inside_48, false},
    {"resized after its free", resize_freed, false},
    {"freed here, then by another thread", local_then_remote, false},
    {"freed by another thread, then here", remote_then_local, false},
    {"freed twice by other threads", remote_twice, false},
};

static void child(void (*run)(void), enum door d, int err) {
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  dup2(err, 2);
  alarm(30);
  door = d;
  arena = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE});
  const char *name = "arena.nursery", *value = "0"; /* slabs only: the nursery trusts the VM */
  hak_arena_configure(arena, &name, &value, 1, NULL, 0);
  run();
  _exit(0);
}

/* What became of it; `text` gets the line that was written. */
static int try_row(void (*run)(void), enum door d, char *text, size_t most) {
  int fd[2], status = 0;
  fflush(stdout);
  if (pipe(fd) != 0) return -1;
  pid_t pid = fork();
  if (pid == 0) child(run, d, fd[1]);
  close(fd[1]);
  ssize_t n = read(fd[0], text, most - 1);
  text[n > 0 ? n : 0] = 0;
  close(fd[0]);
  waitpid(pid, &status, 0);
  return status;
}

static bool print_rows(void) {
  bool good = true;
  printf("# %zu bytes, %-36s", size, HAK_HARDENED ? "hardened build" : "default build");
  for (int d = 0; d < DOORS; d++) printf("%-15s", door_names[d]);
  printf("\n");
  for (size_t i = 0; i < HAK_COUNT_OF(rows); i++) {
    bool kept = true, inside = strstr(rows[i].what, "inside") != NULL;
    const char *said = inside ? "fatal: invalid free: not a block start" : "fatal: double free";
    printf("# %-48s", rows[i].what);
    for (int d = 0; d < DOORS; d++) {
      char text[200];
      int status = try_row(rows[i].run, (enum door)d, text, sizeof text);
      bool caught = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
      bool crashed = WIFSIGNALED(status) && !caught;
      printf("%-15s", caught ? "abort" : crashed ? "crash" : "-");
      if (!caught && (HAK_HARDENED || (rows[i].promised && d != LUA))) kept = false;
      if (caught && strstr(text, said) == NULL) kept = false;
      if (crashed) kept = false; /* undetected is one thing, a fault inside hakmem another */
    }
    printf("\n%s matrix, %zu bytes: %s\n", kept ? "ok" : "not ok", size, rows[i].what);
    good &= kept;
  }
  return good;
}

int main(void) {
  bool small = print_rows();
  size = 6000; /* a bin without a table look-up, slabs of more pages */
  return print_rows() && small ? 0 : 1;
}

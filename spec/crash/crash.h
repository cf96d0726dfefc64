/* crash.h - one promise per program: the body ends in abort() with exactly this one line.
 * Why:   a crash is a feature here, and a feature has a test: text, pointer, signal, nothing else.
 * Owns:  main(), the line `ok crash <file>` or `not ok crash <file> - why`.
 * Start: CRASH. */
#ifndef CRASH_H
#define CRASH_H

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/port.h"
#include "include/hakmem.h"

static void **crash_blamed; /* the pointer that the line must name; shared with the child */
static void crash_body(void);
static const char *const crash_what;
static const char *const crash_file;

#define CRASH(what)                               \
  static const char *const crash_what = what;     \
  static const char *const crash_file = __FILE__; \
  static void crash_body(void)

/* Marks the pointer whose free must abort. The compiler learns nothing about it. */
static void *blame(void *p) {
  *crash_blamed = p;
  __asm__ volatile("" : "+r"(p) : : "memory");
  return p;
}

static int crash_verdict(const char *why, const char *text, int status) {
  const char *slash = strrchr(crash_file, '/'), *name = slash ? slash + 1 : crash_file;
  int n = (int)strcspn(name, ".");
  if (why == NULL) {
    printf("ok crash %.*s\n", n, name);
    return 0;
  }
  printf("not ok crash %.*s - %s (status 0x%x): %s\n", n, name, why, (unsigned)status, text);
  return 1;
}

int main(void) {
  crash_blamed =
      mmap(NULL, sizeof *crash_blamed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int fd[2];
  if (crash_blamed == MAP_FAILED || pipe(fd) != 0) return 2;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    alarm(30);
    dup2(fd[1], 2);
    close(fd[0]);
    close(fd[1]);
    crash_body();
    _exit(0);
  }
  close(fd[1]);
  char text[1000], want[200];
  size_t n = 0;
  for (ssize_t got; n < sizeof text - 1 && (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0;)
    n += (size_t)got;
  text[n] = 0;
  int status = -1;
  waitpid(child, &status, 0);
  snprintf(want, sizeof want, "hakmem: fatal: %s (ptr 0x%llx)\n", crash_what,
           (unsigned long long)(uintptr_t)*crash_blamed);
  if (!WIFSIGNALED(status)) return crash_verdict("no abort", text, status);
  if (WTERMSIG(status) != SIGABRT) return crash_verdict("another signal", text, status);
  if (strcmp(text, want) != 0) return crash_verdict("another text", text, status);
  return crash_verdict(NULL, text, status);
}

#endif

/* launch.c - runs a command and prints how long it took, and how much memory it had at its peak.
 * Why:   what `time` prints is for people, and the package that has the other one is not everywhere.
 * Owns:  nothing.
 * Locks: none.
 * Start: main(). What the command starts itself counts, if it waits for it: the largest process. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  double begun = now_ms();
  pid_t pid = fork();
  if (pid == 0) {
    int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    _exit(127);
  }
  struct rusage usage;
  int status = -1;
  if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status != 0) {
    fprintf(stderr, "%s: ended with status 0x%x\n", argv[1], (unsigned)status);
    return 1;
  }
  printf("ms %.3f peak_kib %ld\n", now_ms() - begun, usage.ru_maxrss);
  return 0;
}

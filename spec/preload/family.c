/* family.c - the malloc family of the preload library: what each call returns, keeps and refuses.
 * Why:   programs rely on more than the standard says; what glibc does is the measure.
 * How:   run with LD_PRELOAD; nothing of hakmem is linked. Questions to hakmem go through dlsym().
 * Start: transcript(), which must be the same with and without the preload. */
#define _GNU_SOURCE
#define CHECK_BARE 1
#define CHECK_CHILD child
#include "../c/check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <sys/resource.h>

static void bind(void *field, void *handle, const char *name) {
  void *symbol = dlsym(handle, name);
  if (symbol == NULL) check_end(CHECK_FAILED, "no symbol %s", name);
  memcpy(field, &symbol, sizeof symbol);
}

static bool ours(const void *p) {
  static int (*owns)(const void *);
  if (owns == NULL) bind(&owns, RTLD_DEFAULT, "hak_owns");
  return owns(p);
}

static uint64_t stat_now(const char *name) {
  size_t (*read_all)(hak_arena *, uint64_t *, size_t);
  int (*find)(const char *);
  uint64_t v[256] = {0};
  bind(&read_all, RTLD_DEFAULT, "hak_stats_read");
  bind(&find, RTLD_DEFAULT, "hak_stat_find");
  CHECK_CMP(read_all(NULL, v, 256), >, find(name));
  return v[find(name)];
}

/* ---- whose it is ---- */

TEST(the_c_library_allocates_here) {
  CHECK(ours(opaque(malloc(1))));
  CHECK(ours(strdup("x")));
  char *line = NULL, *text = NULL;
  size_t room = 0;
  FILE *f = fopen("/proc/self/maps", "r");
  CHECK(f != NULL && getline(&line, &room, f) > 0 && ours(line));
  CHECK(asprintf(&text, "%d", 5) == 1 && ours(text));
  CHECK(ours(realpath("/", NULL)));
  fclose(f);
  free(line);
  free(text);
}

static const size_t sizes[] = {0,    1,     8,     16,    24,       1000,     1024,     1025,
                               4096, 32768, 32769, 65536, 1u << 20, 5u << 20, 70u << 20};

TEST(sizes_alignment_and_contents) {
  for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
    size_t n = sizes[i];
    void *p = malloc(n), *q = malloc(n);
    CHECK(p != NULL && q != NULL && p != q && ours(p));
    CHECK_EQ((uintptr_t)p % 16, 0);
    CHECK_CMP(malloc_usable_size(p), >=, n);
    fill(p, malloc_usable_size(p), i); /* all of it may be used */
    fill(q, n, i + 1);
    CHECK(intact(p, malloc_usable_size(p), i) && intact(q, n, i + 1));
    free(p);
    void *z = calloc(n, 1);
    CHECK(z != NULL && all_zero(z, n));
    fill(z, n, 3);
    void *r = realloc(z, n * 2 + 1);
    CHECK(r != NULL && intact(r, n, 3));
    r = realloc(r, n / 2 + 1);
    CHECK(r != NULL && intact_part(r, n / 2, n, 3));
    free(r);
    free(q);
  }
  free(NULL);
  CHECK_EQ(malloc_usable_size(NULL), 0);
}

TEST(every_alignment) {
  for (size_t align = 1; align <= 64 * MIB; align *= 2) {
    for (size_t size = 0; size < 3 * MIB; size = size * 7 + 1) {
      void *p = memalign(align, size), *q = NULL;
      CHECK(p != NULL && (uintptr_t)p % align == 0 && malloc_usable_size(p) >= size);
      if (align >= sizeof(void *)) {
        CHECK_EQ(posix_memalign(&q, align, size), 0);
        CHECK((uintptr_t)q % align == 0);
      }
      fill(p, size, align);
      p = realloc(p, size + 100);
      CHECK(p != NULL && intact(p, size, align));
      free(p);
      free(q);
    }
  }
}

/* ---- as glibc has it ---- */

static void say_pointer(FILE *f, const char *what, void *p) {
  int error = errno;
  fprintf(f, "%s: %s", what, p != NULL ? "block" : "NULL");
  if (p == NULL) fprintf(f, " errno %d", error);
  fprintf(f, "\n");
  free(p);
  errno = 0;
}

static size_t any(size_t n) { /* a size that the compiler does not know */
  volatile size_t v = n;
  return v;
}

static void say_aligned(FILE *f, const char *what, void *p, size_t align) {
  fprintf(f, "%s: %s\n", what, p != NULL && (uintptr_t)p % align == 0 ? "aligned" : "not");
  free(p);
}

/* Everything here must come out the same on glibc's own malloc. */
static void transcript(FILE *f) {
  volatile size_t huge = SIZE_MAX / 2 + 2, half = (size_t)1 << 33, zero = 0;
  void *out = &out;
  errno = 0;
  say_pointer(f, "malloc(0)", malloc(zero));
  say_pointer(f, "malloc(huge)", malloc(huge));
  say_pointer(f, "calloc(huge)", calloc(half, half));
  say_pointer(f, "realloc(NULL, 0)", realloc(NULL, zero));
  say_pointer(f, "reallocarray(NULL, overflow)", reallocarray(NULL, half, half));
  errno = 0;
  void *p = realloc(opaque(malloc(100)), zero);
  fprintf(f, "realloc(p, 0): %s errno %d\n", p == NULL ? "NULL" : "block", errno);
  p = reallocarray(opaque(malloc(100)), 5, zero);
  fprintf(f, "reallocarray(p, 5, 0): %s errno %d\n", p == NULL ? "NULL" : "block", errno);
  char *kept = malloc(100);
  strcpy(kept, "kept");
  fprintf(f, "realloc(p, huge): %d\n", opaque(realloc(opaque(kept), huge)) == NULL);
  fprintf(f, "%s, errno %d\n", kept, errno);
  errno = 0;
  say_pointer(f, "memalign(huge)", memalign(any(SIZE_MAX / 2 + 2), 8));
  say_pointer(f, "memalign(0)", memalign(zero, 8));
  say_aligned(f, "memalign(3)", memalign(any(3), 8), 4);
  say_aligned(f, "memalign(24)", memalign(any(24), 100), 32);
  say_aligned(f, "memalign(48)", memalign(any(48), 40000), 64);
  say_aligned(f, "memalign(5000)", memalign(any(5000), 1), 8192);
  say_aligned(f, "aligned_alloc(64, 100)", aligned_alloc(64, 100), 64);
  say_aligned(f, "valloc", valloc(10), (size_t)getpagesize());
  p = pvalloc(10);
  fprintf(f, "pvalloc: %d\n", malloc_usable_size(p) >= (size_t)getpagesize());
  say_aligned(f, "pvalloc", p, (size_t)getpagesize());
  say_pointer(f, "pvalloc(0)", pvalloc(zero));
  errno = 0;
  say_pointer(f, "pvalloc(huge)", pvalloc(SIZE_MAX - 5));
  static const size_t odd[] = {0, 1, 3, 4, 24, 8, 4096};
  for (size_t i = 0; i < HAK_COUNT_OF(odd); i++) {
    void *mark = &out;
    int error = posix_memalign(&mark, odd[i], 100);
    fprintf(f, "posix_memalign(%zu): %d %d errno %d\n", odd[i], error, mark == &out, errno);
    if (error == 0) free(mark);
  }
  out = &out;
  fprintf(f, "posix_memalign(no memory): %d\n", posix_memalign(&out, 64, huge));
  fprintf(f, "left alone %d\n", out == &out);
  fprintf(f, "usable_size(NULL) %zu\n", malloc_usable_size(NULL));
  fprintf(f, "mallopt %d\n", mallopt(M_MMAP_THRESHOLD, 100000));
  static const size_t freed[] = {1, 1000, 100000, 3 * MIB};
  for (size_t i = 0; i < HAK_COUNT_OF(freed); i++) {
    p = opaque(malloc(freed[i]));
    errno = 77;
    free(p);
    fprintf(f, "free keeps errno: %d\n", errno);
  }
}

static void read_all(FILE *f, char *text, size_t size) {
  size_t n = fread(text, 1, size - 1, f);
  text[n] = 0;
  CHECK(n > 0 && n < size - 1);
}

TEST(the_same_as_on_glibc) {
  char here[8192], there[8192], self[4096], command[5000];
  FILE *f = tmpfile();
  transcript(f);
  rewind(f);
  read_all(f, here, sizeof here);
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK_CMP(n, >, 0);
  self[n] = 0;
  snprintf(command, sizeof command, "LD_PRELOAD= '%s' child transcript", self);
  FILE *other = popen(command, "r");
  read_all(other, there, sizeof there);
  CHECK_EQ(pclose(other), 0);
  CHECK_STR(here, there);
}

/* ---- names ---- */

TEST(other_names) {
  static const char *const frees[] = {"free", "cfree", "__libc_free"};
  void *(*get)(size_t), (*give)(void *), *(*aligned)(size_t, size_t);
  for (size_t i = 0; i < HAK_COUNT_OF(frees); i++) {
    bind(&get, RTLD_DEFAULT, "__libc_malloc");
    bind(&aligned, RTLD_DEFAULT, "__libc_memalign");
    bind(&give, RTLD_DEFAULT, frees[i]);
    void *p = get(100), *q = aligned(256, 10);
    CHECK(ours(p) && ours(q) && (uintptr_t)q % 256 == 0);
    give(p);
    give(q);
  }
  void (*sized)(void *, size_t), (*aligned_sized)(void *, size_t, size_t);
  bind(&sized, RTLD_DEFAULT, "free_sized");
  bind(&aligned_sized, RTLD_DEFAULT, "free_aligned_sized");
  uint64_t blocks = stat_now("blocks");
  sized(opaque(malloc(100)), 100);
  aligned_sized(opaque(aligned_alloc(64, 128)), 64, 128);
  sized(NULL, 0);
  CHECK_EQ(stat_now("blocks"), blocks);
}

/* ---- control and statistics ---- */

TEST(trim_and_info) {
  enum { N = 1000 };
  static void *p[N];
  struct mallinfo2 before = mallinfo2();
  for (int i = 0; i < N; i++) p[i] = memset(malloc(3000), 1, 3000);
  void *big = malloc(5 * MIB);
  struct mallinfo2 now = mallinfo2();
  CHECK_CMP(now.uordblks, >=, before.uordblks + N * (size_t)3000);
  CHECK_CMP(now.hblkhd, >=, before.hblkhd + 5 * MIB);
  CHECK_EQ(now.hblks, before.hblks + 1);
  CHECK_EQ(now.arena, now.uordblks + now.fordblks);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  CHECK_EQ(mallinfo().uordblks, now.uordblks);
  for (int i = 0; i < N; i++) free(p[i]);
  free(big);
  CHECK_EQ(malloc_trim(0), 1); /* something went back */
  CHECK_EQ(malloc_trim(0), 0); /* now there is nothing more */
  CHECK_CMP(mallinfo2().uordblks, <, now.uordblks);
}

/* What `run` writes to stderr, and how the process that runs it ends. */
static int stderr_of(void (*run)(void), char *text, size_t size) {
  int fd[2], status = -1;
  CHECK_EQ(pipe(fd), 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(fd[1], 2);
    close(fd[0]);
    run();
    _exit(0);
  }
  close(fd[1]);
  size_t used = 0;
  for (ssize_t n; used < size - 1 && (n = read(fd[0], text + used, size - 1 - used)) > 0;)
    used += (size_t)n;
  text[used] = 0;
  close(fd[0]);
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

static void print_stats(void) { malloc_stats(); }
TEST(malloc_stats_prints_the_report) {
  static char text[100000];
  CHECK_EQ(stderr_of(print_stats, text, sizeof text), 0);
  CHECK(strstr(text, "allocated") != NULL && strstr(text, "mapped") != NULL);
}

/* ---- what is nobody's ---- */

static void *blamed;
static char data[64] __attribute__((aligned(16)));
static void free_blamed(void) { free(opaque(blamed)); }
static void realloc_blamed(void) { opaque(realloc(opaque(blamed), 10)); }
static void size_blamed(void) { CHECK(malloc_usable_size(opaque(blamed)) == 1); }

static void dies(void (*run)(void), void *p, const char *what) {
  char text[1000], want[200];
  blamed = p;
  int status = stderr_of(run, text, sizeof text);
  snprintf(want, sizeof want, "hakmem: fatal: %s (ptr 0x%zx)\n", what, (size_t)p);
  CHECK_STR(text, want);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(invalid_pointers_abort) {
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  char local[64] __attribute__((aligned(16)));
  char *large = malloc(100000);
  static const char not_owned[] = "invalid free: not owned";
  dies(free_blamed, data, not_owned);
  dies(free_blamed, local, not_owned);
  dies(free_blamed, (void *)(uintptr_t)16, not_owned);
  dies(free_blamed, sbrk(0), not_owned);
  dies(realloc_blamed, data, not_owned);
  dies(size_blamed, data, not_owned);
  dies(free_blamed, large + 16, "invalid free: not a block start");
  blamed = large;
  free_blamed();
  dies(free_blamed, blamed, "double free");
}

/* What a library opened with RTLD_DEEPBIND gets from malloc(). */
TEST(blocks_of_glibc_go_back_to_it) {
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  void *(*other)(size_t);
  bind(&other, libc, "malloc");
  for (size_t size = 1; size < 100000; size = size * 3 + 1) {
    char *p = other(size), *q = other(size);
    CHECK(!ours(p));
    fill(p, size, 1);
    errno = 77;
    free(q);
    CHECK_EQ(errno, 77);
    CHECK_CMP(malloc_usable_size(p), >=, size);
    p = realloc(p, size * 2);
    CHECK(ours(p) && intact(p, size, 1));
    free(p);
    CHECK(realloc(other(size), 0) == NULL);
  }
}

/* ---- no thread that nobody asked for ---- */

static int threads(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/task");
  for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
  closedir(d);
  return n;
}

static void use_the_pool(void) {
  void *p[200];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 200; i++) p[i] = memset(malloc(100000), 1, 100000);
    for (int i = 0; i < 200; i++) free(p[i]);
  }
}

TEST(a_thread_only_when_asked_for) {
  use_the_pool();
  CHECK_CMP(stat_now("l25.ops"), >=, 4000);
  CHECK_EQ(threads(), 1);
  char self[4096], command[5000];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK_CMP(n, >, 0);
  self[n] = 0;
  snprintf(command, sizeof command, "HAKMEM_DRAIN_ENABLED=1 '%s' child threads", self);
  int status = system(command);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 2);
}

static int child(const char *what) {
  if (strcmp(what, "transcript") == 0) {
    transcript(stdout);
    return 0;
  }
  use_the_pool();
  return threads();
}

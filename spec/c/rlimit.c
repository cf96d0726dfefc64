/* rlimit.c - little address space, locked memory, little memory: hakmem works in what there is,
 * and says NULL when there is no more.
 * Start: works_in(). */
#include "check.h"

#include <sys/resource.h>

static void limit(int what, size_t bytes) {
  struct rlimit r = {bytes, bytes};
  CHECK_EQ(setrlimit(what, &r), 0);
}

/* Address space this process may still take. */
static void leave_address_space(size_t bytes) {
  FILE *f = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  CHECK(f != NULL && fscanf(f, "%lu", &pages) == 1);
  fclose(f);
  limit(RLIMIT_AS, pages * (size_t)sysconf(_SC_PAGESIZE) + bytes);
}

/* Takes blocks of one size until refused; returns how many bytes there were. */
enum { MOST = 200000 };
static size_t exhaust(hak_arena *a, size_t size) {
  static char *p[MOST];
  size_t n = 0;
  errno = 0;
  while (n < MOST && (p[n] = hak_arena_alloc(a, size)) != NULL) {
    fill(p[n], size < 64 ? size : 64, n);
    n++;
  }
  if (n < MOST) CHECK_EQ(errno, ENOMEM);
  for (size_t i = 0; i < n; i++) {
    CHECK(intact(p[i], size < 64 ? size : 64, i));
    hak_arena_free(a, p[i]);
  }
  return n * size;
}

static void works_in(size_t space) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's shadow does not fit under RLIMIT_AS");
  leave_address_space(space);
  static const size_t sizes[] = {1000, 30000, 100000, 3 * MIB, 56};
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
      size_t got = exhaust(hak_arena_default(), sizes[i]);
      CHECK_CMP(got, >=, space / 4 < MOST * sizes[i] ? space / 4 : MOST * sizes[i]);
      CHECK_CMP(got, <=, space);
    }
    hak_trim();
  }
  hak_arena *a = hak_arena_create(NULL);
  CHECK(a != NULL);
  CHECK(hak_lua_alloc(a, NULL, 0, 100) != NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  balanced(NULL);
}

TEST(works_in_48_mebibytes) { works_in(48 * MIB); }
TEST(works_in_100_mebibytes) { works_in(100 * MIB); }
TEST(works_in_500_mebibytes) { works_in(500 * MIB); }
TEST(works_in_four_gibibytes) { works_in(4096 * MIB); }

TEST(no_address_space_at_all) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's shadow does not fit under RLIMIT_AS");
  leave_address_space(0);
  for (int i = 0; i < 100; i++) {
    errno = 0;
    void *p = hak_malloc(100);
    CHECK(p == NULL);
    CHECK_EQ(errno, ENOMEM);
    CHECK(hak_lua_alloc(hak_arena_default(), NULL, 0, 100) == NULL);
    errno = 0;
    CHECK(hak_arena_create(NULL) == NULL);
    CHECK_EQ(errno, ENOMEM);
  }
  CHECK(!hak_owns(&errno));
  hak_trim();
}

TEST(space_that_comes_later_is_used) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's shadow does not fit under RLIMIT_AS");
  struct rlimit old, none;
  CHECK_EQ(getrlimit(RLIMIT_AS, &old), 0);
  none = old;
  none.rlim_cur = MIB;
  CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
  void *p = hak_malloc(100);
  CHECK(p == NULL);
  CHECK_EQ(setrlimit(RLIMIT_AS, &old), 0);
  p = hak_malloc(100);
  CHECK(p != NULL);
  hak_free(p);
}

/* A reservation of 256 GiB has descriptors of 256 MiB: what is not used of them is no memory, locked
 * or not. */
TEST(unused_descriptors_are_not_locked) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's shadow would be locked, too");
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) SKIP("mlockall is not permitted");
  size_t before = resident();
  char *p = hak_malloc(100), *far = p + (1ul << 30);
  CHECK_CMP(stat_of(NULL, "os.region"), >=, 2ul << 30);
  CHECK_CMP(resident() - before, <=, 32 * MIB);
  CHECK(hak_owns(far) == 0 && hak_arena_of(far) == NULL);
  hak_free(p);
}

/* Under mlock, madvise(MADV_DONTNEED) fails: then zero must be made by hand. */
TEST(calloc_is_zero_in_locked_memory) {
  if (mlockall(MCL_FUTURE) != 0) SKIP("mlockall is not permitted");
  CHECK_EQ(set_knob("os.region", "64M"), 0);
  CHECK_EQ(set_knob("purge.decay", "0"), 0);
  static const size_t sizes[] = {100, 5000, 40000, 1 * MIB, 5 * MIB};
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
      char *p = hak_calloc(1, sizes[i]);
      CHECK(p != NULL && all_zero(p, sizes[i]));
      memset(p, 0xee, hak_usable_size(p));
      hak_free(p);
      hak_trim();
    }
    hak_shutdown();
  }
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  balanced(NULL);
}

/* A small data limit makes commits fail where the kernel counts private writable memory. */
TEST(commits_fail_under_a_data_limit) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's shadow does not fit under RLIMIT_DATA");
  limit(RLIMIT_DATA, 64 * MIB);
  hak_free(hak_malloc(100));
  CHECK_EQ(stat_of(NULL, "os.region"), 256ul << 30); /* its descriptors do not count yet */
  size_t got[] = {exhaust(hak_arena_default(), 3 * MIB), exhaust(hak_arena_default(), 1000)};
  CHECK(got[0] >= 30 * MIB && got[0] <= 64 * MIB && got[1] >= 30 * MIB && got[1] <= 64 * MIB);
  char *p = hak_malloc(MIB);
  CHECK(p != NULL);
  fill(p, MIB, 1);
  CHECK(hak_realloc(p, 100 * MIB) == NULL);
  CHECK(intact(p, MIB, 1));
  hak_free(p);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  balanced(NULL);
}

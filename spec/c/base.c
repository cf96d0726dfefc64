/* base.c - the ground floor: formatting, ranked locks, the system calls, fatal lines.
 * Not:   knobs (config.c), the sink (log.c), injected failures (audit/).
 * Start: format_agrees_with_snprintf. */
#include "check.h"

#include "base/debug.h"
#include "base/error.h"
#include "base/list.h"
#include "base/log.h"
#include "os/os.h"

#define SAME(...)                                         \
  do {                                                    \
    char ours[128], theirs[128];                          \
    int a = haki_format(ours, sizeof ours, __VA_ARGS__);  \
    int b = snprintf(theirs, sizeof theirs, __VA_ARGS__); \
    CHECK_STR(ours, theirs);                              \
    CHECK_EQ(a, b);                                       \
  } while (0)

TEST(format_agrees_with_snprintf) {
  SAME("plain %% text");
  SAME("%d|%5d|%-5d|%05d|%d", 42, -42, -42, -42, INT32_MIN);
  SAME("%u|%lu|%zu|%llu|%ld", 42u, 1ul << 40, (size_t)9, ~0ull, -5l);
  SAME("%x|%X|%04x|%lx|%p", 0xbeefu, 0xbeefu, 10u, 1ul << 44, (void *)0x1234);
  SAME("%s|%10s|%-10s|%.3s|%.*s|%*d", "hi", "hi", "hi", "abcdef", 2, "xyz", 7, 3);
  SAME("%c|%3c|%-3c|", 'x', 'y', 'z');
  SAME("%f|%.0f|%.1f|%08.3f|%-9.2f|%9.2f", 1.5, 2.5, -0.25, -3.14159, 9.999, 1e6);
  SAME("%.2f|%.3f|%.1f|%.0f", 0.0, 1e15, 99.95, 0.5);
  uint64_t seed = 1;
  for (size_t i = 0; i < rounds(300000, 30000); i++) {
    double v = (double)rnd(&seed) / (double)(1ull << below(&seed, 64));
    double tie = (double)below(&seed, 100000) / 64.0;
    int decimals = (int)below(&seed, 10);
    SAME("%.*f", decimals, i % 2 ? v : -v);
    SAME("%.*f", decimals, tie);
  }
}

TEST(format_cuts_and_counts) {
  char small[4] = "zzz";
  CHECK_EQ(haki_format(small, sizeof small, "%s", "abcdef"), 6);
  CHECK_STR(small, "abc");
  CHECK_EQ(haki_format(NULL, 0, "%d", 12345), 5);
  CHECK_EQ(haki_format(small, 1, "x"), 1);
  CHECK_STR(small, "");
  CHECK_EQ(haki_format(small, sizeof small, "%s", (char *)opaque(NULL)), 6);
}

TEST(lists_link_and_unlink) {
  hak_list head, a, b;
  haki_list_init(&head);
  CHECK(haki_list_empty(&head));
  haki_list_append(&head, &a);
  haki_list_append(&head, &b);
  CHECK(head.next == &a && a.next == &b && b.next == &head && head.prev == &b);
  haki_list_remove(&a);
  haki_list_remove(&a); /* twice is harmless */
  CHECK(head.next == &b && b.prev == &head);
  haki_list_remove(&b);
  CHECK(haki_list_empty(&head));
}

TEST(errors_have_names_and_texts) {
  CHECK_STR(haki_errname(ENOMEM), "NOMEM");
  CHECK_STR(haki_errname(EDQUOT), "QUOTA");
  CHECK_STR(haki_strerror(EBUSY), "arena in use by a Lua state");
  CHECK_STR(haki_errname(-7), "ERROR");
  CHECK_STR(haki_strerror(-7), "unknown error");
}

/* ---- what ends the process ------------------------------------------------------------------- */

static char last_words[512];

/* The line on standard error of a child that must abort. */
static void dying(void (*act)(void)) {
  int fd[2];
  CHECK_EQ(pipe(fd), 0);
  pid_t pid = fork();
  CHECK_CMP(pid, >=, 0);
  if (pid == 0) {
    dup2(fd[1], 2);
    act();
    _exit(0);
  }
  close(fd[1]);
  ssize_t n = read(fd[0], last_words, sizeof last_words - 1);
  CHECK_CMP(n, >=, 0);
  last_words[n] = 0;
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void die(void) { haki_fatal("double free", (void *)0xabc0); }
static void die_long(void) {
  static char what[5000];
  memset(what, 'w', sizeof what - 1);
  haki_fatal(what, NULL);
}

TEST(fatal_lines) {
  dying(die);
  CHECK_STR(last_words, "hakmem: fatal: double free (ptr 0xabc0)\n");
  dying(die_long);
  CHECK_EQ(last_words[strlen(last_words) - 1], '\n');
}

static struct haki_lock low = HAK_LOCK_INIT(HAK_RANK_ARENA), high = HAK_LOCK_INIT(HAK_RANK_META);
static struct haki_lock low_too = HAK_LOCK_INIT(HAK_RANK_ARENA);

static void take_falling(void) {
  haki_lock(&high);
  haki_lock(&low);
}
static void take_equal(void) {
  haki_lock(&low);
  haki_lock(&low_too);
}
static void give_what_is_not_held(void) { haki_unlock(&low); }

TEST(locks_rise) {
  haki_lock(&low);
  haki_lock(&high);
  CHECK(!haki_trylock(&low));
  haki_unlock(&high);
  haki_unlock(&low);
  haki_lock(&high);
  CHECK(haki_trylock(&low)); /* a try cannot deadlock */
  haki_unlock(&low);
  haki_unlock(&high);
#if HAK_DEBUG || HAK_AUDIT_BUILD
  dying(take_falling);
  CHECK(strstr(last_words, "hakmem: fatal: assertion failed") == last_words);
  dying(take_equal);
  dying(give_what_is_not_held);
#else
  (void)take_falling, (void)take_equal, (void)give_what_is_not_held;
#endif
}

TEST(forks_take_several_locks_of_a_rank) {
  struct haki_lock init = HAK_LOCK_INIT(HAK_RANK_INIT);
  haki_lock(&init);
  haki_lock(&low);
  haki_lock(&low_too);
  haki_lock_reinit(&low_too);
  haki_lock_reinit(&low);
  haki_lock_reinit(&init);
  haki_lock(&low); /* as if nothing had been held */
  haki_unlock(&low);
}

/* ---- the operating system -------------------------------------------------------------------- */

TEST(memory_is_reserved_committed_purged) {
  bool zeroed = false;
  char *p = haki_os_reserve(16 * MIB, 4 * MIB);
  CHECK(p != NULL && (uintptr_t)p % (4 * MIB) == 0);
  CHECK((uintptr_t)p + 16 * MIB <= (uintptr_t)1 << 47); /* LuaJIT's reach */
  CHECK(haki_os_commit(p, 4 * MIB));
  CHECK(all_zero(p, 4 * MIB));
  fill(p, 4 * MIB, 1);
  size_t before = haki_os_resident();
  errno = 99;
  CHECK(haki_os_purge(p, 4 * MIB, false, &zeroed) && zeroed);
  CHECK_EQ(errno, 99);
  CHECK(all_zero(p, 4096));
  CHECK(CHECK_SANITIZED || haki_os_resident() + 3 * MIB < before);
  CHECK(haki_os_purge(p, 4 * MIB, true, &zeroed));
  haki_os_release(p, 16 * MIB);
  CHECK(haki_os_reserve((size_t)1 << 62, 4 * MIB) == NULL);
  CHECK_EQ(errno, 99);
}

TEST(pages_move) {
  char *p = haki_os_reserve(16 * MIB, 4 * MIB);
  CHECK(p != NULL && haki_os_commit(p, 4 * MIB) && haki_os_commit(p + 8 * MIB, 4 * MIB));
  fill(p, 4 * MIB, 5);
  if (!haki_os_move_pages(p, p + 8 * MIB, 4 * MIB)) {
    CHECK(intact(p, 4 * MIB, 5)); /* nothing changed */
    SKIP("the kernel cannot move pages and keep the mapping");
  }
  CHECK(intact(p + 8 * MIB, 4 * MIB, 5));
  CHECK(all_zero(p, 4 * MIB)); /* and still committed */
  fill(p, 4 * MIB, 6);
  CHECK(haki_os_refresh(p, 4 * MIB));
  CHECK(all_zero(p, 4 * MIB));
  CHECK(haki_os_refresh(p + 8 * MIB, 4 * MIB));
  haki_os_release(p, 16 * MIB);
}

TEST(moves_that_fail_leave_the_target_mapped) {
  char *p = haki_os_reserve(16 * MIB, 4 * MIB);
  CHECK(p != NULL && haki_os_commit(p + 8 * MIB, 4 * MIB));
  haki_os_release(p, 4 * MIB); /* nothing there to move */
  errno = 99;
  CHECK(!haki_os_move_pages(p, p + 8 * MIB, 4 * MIB));
  CHECK_EQ(errno, 99);
  fill(p + 8 * MIB, 4 * MIB, 7);
  CHECK(intact(p + 8 * MIB, 4 * MIB, 7));
  haki_os_release(p + 4 * MIB, 12 * MIB);
}

TEST(clocks_and_figures) {
  uint64_t a = haki_os_now_coarse();
  nap(50);
  CHECK_CMP(haki_os_now_coarse() - a, >=, 30000000);
  CHECK_CMP(haki_os_page_size(), >=, 4096);
  CHECK_CMP(haki_os_resident(), >, 100 * KIB);
  CHECK(haki_os_address_limit() > MIB);
}

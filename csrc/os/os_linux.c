/* os_linux.c - os.h over mmap, mprotect, madvise and mremap.
 * Why:   one small interface, so that a fake can fail every call (os_fault.c).
 * Owns:  nothing. Every call keeps errno; the caller says ENOMEM where that is what it means.
 * Locks: none.
 * Start: haki_os_reserve(). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mremap */
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/debug.h"
#include "base/stat.h"
#include "os/os.h"

/* Older C libraries lack some of these; a kernel without them answers EINVAL. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_HUGEPAGE
#define MADV_HUGEPAGE 14
#endif
#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif

enum { READ_WRITE = PROT_READ | PROT_WRITE, ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS };

/* A call that failed and is lived with: counted, and errno as it was. */
static void note_failure(int saved_errno) {
  HAK_STAT_ADD(os, failures, 1);
  errno = saved_errno;
}

size_t haki_os_page_size(void) {
  static _Atomic(size_t) cached;
  size_t size = atomic_load_explicit(&cached, memory_order_relaxed);
  if (size == 0) {
    size = (size_t)sysconf(_SC_PAGESIZE);
    atomic_store_explicit(&cached, size, memory_order_relaxed);
  }
  return size;
}

/* ---- address space --------------------------------------------------------------------------- */

/* LuaJIT keeps pointers in 47 bits; x86-64 kernels stay below that, others may not. */
static bool in_lua_range(const char *p, size_t size) {
  return (uint64_t)(uintptr_t)p + size <= (uint64_t)1 << 47;
}

static void *map_at(void *hint, size_t size) {
  void *p = mmap(hint, size, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

static void *map_low(size_t size) {
  char *high = map_at(NULL, size);
  if (high == NULL || in_lua_range(high, size)) return high;
  for (uint64_t hint = (uint64_t)1 << 46; hint >= (uint64_t)1 << 36; hint >>= 1) {
    char *low = map_at((void *)(uintptr_t)hint, size);
    if (low != NULL && in_lua_range(low, size)) {
      munmap(high, size);
      return low;
    }
    if (low != NULL) munmap(low, size);
  }
  return high; /* C programs can use it all the same */
}

/* Maps more than is wanted and cuts off what lies outside the aligned part. */
static void *map_aligned(size_t size, size_t align) {
  size_t slack = align - haki_os_page_size();
  if (size > SIZE_MAX - slack) return NULL;
  char *all = map_low(size + slack);
  if (all == NULL) return NULL;
  char *p = (char *)haki_align_up((uintptr_t)all, align), *end = all + size + slack;
  if (p != all) munmap(all, (size_t)(p - all));
  if (p + size != end) munmap(p + size, (size_t)(end - p) - size);
  return p;
}

void *haki_os_reserve(size_t size, size_t align) {
  int saved = errno;
  char *p = NULL;
  HAK_ASSERT(haki_is_power_of_two(align) && size % haki_os_page_size() == 0);
  if (!haki_fault_hit(HAK_FAULT_RESERVE)) {
    p = map_low(size); /* exact first: address space may be limited */
    if (p != NULL && (uintptr_t)p % align != 0) {
      munmap(p, size);
      p = map_aligned(size, align);
    }
  }
  if (p == NULL) {
    note_failure(saved);
    return NULL;
  }
  HAK_STAT_ADD(os, reserves, 1);
  errno = saved;
  return p;
}

void haki_os_release(void *p, size_t size) {
  int saved = errno;
  if (munmap(p, size) != 0) note_failure(saved);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool allow(void *p, size_t size, int access) {
  int saved = errno;
  if (!haki_fault_hit(HAK_FAULT_COMMIT) && mprotect(p, size, access) == 0) return true;
  note_failure(saved);
  return false;
}

bool haki_os_commit(void *p, size_t size) {
  if (!allow(p, size, READ_WRITE)) return false;
  HAK_STAT_ADD(os, commits, 1);
  return true;
}

bool haki_os_readable(void *p, size_t size) { return allow(p, size, PROT_READ); }

void *haki_os_map(size_t size) {
  int saved = errno;
  bool hit = haki_fault_hit(HAK_FAULT_RESERVE) || haki_fault_hit(HAK_FAULT_COMMIT);
  void *p = hit ? MAP_FAILED : mmap(NULL, size, READ_WRITE, ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    note_failure(saved);
    return NULL;
  }
  HAK_STAT_ADD(os, reserves, 1);
  HAK_STAT_ADD(os, commits, 1);
  return p;
}

bool haki_os_purge(void *p, size_t size, bool lazily, bool *zeroed) {
  int saved = errno;
  *zeroed = false;
  if (haki_fault_hit(HAK_FAULT_PURGE)) {
    note_failure(saved);
    return false;
  }
  if (!lazily || madvise(p, size, MADV_FREE) != 0) { /* kernels before 4.5 have no MADV_FREE */
    if (madvise(p, size, MADV_DONTNEED) != 0) {
      note_failure(saved);
      return false;
    }
    *zeroed = true;
  }
  errno = saved;
  HAK_STAT_ADD(os, purges, 1);
  HAK_STAT_ADD(os, purged_bytes, size);
  return true;
}

bool haki_os_refresh(void *p, size_t size) {
  int saved = errno;
  if (haki_fault_hit(HAK_FAULT_REFRESH) ||
      mmap(p, size, READ_WRITE, ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
    note_failure(saved);
    return false;
  }
  return true;
}

bool haki_os_move_pages(void *from, void *to, size_t size) {
  int saved = errno;
  if (haki_fault_hit(HAK_FAULT_MOVE)) {
    note_failure(saved);
    return false;
  }
#ifdef MREMAP_MAYMOVE
  if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to)
    return true;
  /* The kernel unmaps `to` before it looks closely at `from`: put a mapping back before somebody
   * else's mmap lands in the gap. */
  void *again = mmap(to, size, READ_WRITE, ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  HAK_CHECK(again == to, "address range lost", to);
#endif
  note_failure(saved);
  return false;
}

bool haki_os_hugepages(void *p, size_t size) {
  int saved = errno;
  if (haki_fault_hit(HAK_FAULT_HUGE) || madvise(p, size, MADV_HUGEPAGE) != 0) {
    note_failure(saved);
    return false;
  }
  HAK_STAT_ADD(os, hugepages, 1);
  return true;
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { STACK = 128 * 1024 };

/* 0: the stack that the program gives its threads. */
static int make_thread(pthread_t *thread, void *(*run)(void *), size_t stack) {
  pthread_attr_t attr;
  int error = pthread_attr_init(&attr);
  if (error != 0) return error;
  if (stack != 0) error = pthread_attr_setstacksize(&attr, stack);
  if (error == 0) error = pthread_create(thread, &attr, run, NULL);
  pthread_attr_destroy(&attr);
  return error;
}

bool haki_os_thread(pthread_t *thread, void *(*run)(void *)) {
  int saved = errno, error = EAGAIN;
  sigset_t all, before;
  sigfillset(&all);
  if (!haki_fault_hit(HAK_FAULT_THREAD) && pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
    error = make_thread(thread, run, STACK);
    if (error == EINVAL) error = make_thread(thread, run, 0); /* much static TLS, huge pages */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  if (error != 0) note_failure(saved);
  errno = saved;
  return error == 0;
}

void haki_os_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

void haki_os_nap(uint64_t ns) {
  int saved = errno;
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  nanosleep(&t, NULL);
  errno = saved;
}

#if HAK_TSAN
bool haki_os_barrier(void) {
  bool refused = haki_fault_hit(HAK_FAULT_BARRIER);
  if (refused) note_failure(errno);
  return !refused;
}
#else
static bool membarrier(int command) {
#ifdef SYS_membarrier
  return !haki_fault_hit(HAK_FAULT_BARRIER) && syscall(SYS_membarrier, command, 0, 0) == 0;
#else
  return false;
#endif
}

bool haki_os_barrier(void) {
  enum { PRIVATE_EXPEDITED = 8, REGISTER = 16 }; /* musl has no name for them */
  int saved = errno;
  if (membarrier(PRIVATE_EXPEDITED)) return true;
  if (membarrier(REGISTER) && membarrier(PRIVATE_EXPEDITED)) { /* once for a process */
    errno = saved;
    return true;
  }
  note_failure(saved);
  return false;
}
#endif

bool haki_os_resides(void *p) {
  unsigned char in_memory = 0;
  int saved = errno;
  if (haki_fault_hit(HAK_FAULT_RESIDES) || mincore(p, haki_os_page_size(), &in_memory) != 0)
    note_failure(saved);
  return (in_memory & 1) != 0;
}

/* ---- questions ------------------------------------------------------------------------------- */

uint64_t haki_os_now_coarse(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t haki_os_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The second number of /proc/self/statm. */
size_t haki_os_resident(void) {
  char text[128];
  int saved = errno;
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  errno = saved;
  if (got <= 0) return 0;
  text[got] = '\0';
  const char *p = text;
  size_t pages = 0;
  while (*p != '\0' && *p != ' ') p++;
  for (p += *p == ' '; *p >= '0' && *p <= '9'; p++) pages = pages * 10 + (size_t)(*p - '0');
  return pages * haki_os_page_size();
}

size_t haki_os_memory(void) {
  struct sysinfo info;
  int saved = errno;
  bool known = sysinfo(&info) == 0;
  errno = saved;
  return known ? ((size_t)info.totalram + info.totalswap) * info.mem_unit : SIZE_MAX;
}

size_t haki_os_address_limit(void) {
  struct rlimit limit;
  int saved = errno;
  bool known = getrlimit(RLIMIT_AS, &limit) == 0;
  errno = saved;
  if (!known || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > SIZE_MAX) return SIZE_MAX;
  return (size_t)limit.rlim_cur;
}

/* os.h - what hakmem asks of the operating system.
 * Why:   one small interface, so that a fake can fail every call (os_fault.c).
 * Owns:  nothing; callers know what they reserved.
 * Locks: none. Callers may hold CHUNK or META across reserve, commit and hugepages, PURGE across
 *        purge.
 * Start: haki_os_reserve(). */
#ifndef HAK_OS_H
#define HAK_OS_H

#include <pthread.h>

#include "base/port.h"

size_t haki_os_page_size(void);
/* Address space without memory, aligned; NULL on failure. It does not count as used memory, but
 * does count against RLIMIT_AS. */
void *haki_os_reserve(size_t size, size_t align);
void haki_os_release(void *p, size_t size);
/* Makes a reserved range readable and writable; its bytes are zero when first touched. */
bool haki_os_commit(void *p, size_t size);
/* Makes a reserved range readable: zeros, which are no memory, and count as none. */
bool haki_os_readable(void *p, size_t size);
/* Reserves and commits, in one system call; page-aligned. For tables that are made while requests wait. */
void *haki_os_map(size_t size);
/* Gives the memory back, keeps the range committed. *zeroed says whether it reads as zero now.
 * `lazily`: MADV_FREE. False: nothing changed, contents still there (mlock, seccomp). */
bool haki_os_purge(void *p, size_t size, bool lazily, bool *zeroed);
/* Moves the pages of [from, from+size) to `to` (both committed, disjoint, ours). `from` reads as
 * zero afterwards and stays committed. False: the kernel cannot; nothing changed. */
bool haki_os_move_pages(void *from, void *to, size_t size);
/* After move_pages(): makes [p, p+size) one fresh committed mapping again, contents zero. */
bool haki_os_refresh(void *p, size_t size);
/* Asks for huge pages in a committed range; false: not to be had. */
bool haki_os_hugepages(void *p, size_t size);
/* Is the page at p in memory? Of a range that a program has filled or not, one page tells. */
bool haki_os_resides(void *p);
uint64_t haki_os_now_coarse(void);  /* ns, monotonic, about 4 ms steps, cheap */
uint64_t haki_os_now(void);         /* ns, monotonic, precise, 20 ns a call: not on a hot path */
size_t haki_os_resident(void);      /* RSS in bytes; 0 when unknown */
size_t haki_os_memory(void);        /* RAM and swap of the machine; SIZE_MAX when unknown */
size_t haki_os_address_limit(void); /* RLIMIT_AS, SIZE_MAX when none */

/* A thread of our own: joinable, all signals blocked, small stack. False: it could not be made. */
bool haki_os_thread(pthread_t *thread, void *(*run)(void *));
void haki_os_thread_name(const char *name); /* of the caller, at most 15 bytes */
void haki_os_nap(uint64_t ns);
/* Every other thread of the process has passed a full memory barrier when this returns. False: the
 * system cannot (Linux before 4.14, seccomp). Under TSan, which knows no such thing, it does
 * nothing: callers use seq_cst atomics there. */
bool haki_os_barrier(void);

/* Calls visit with the address of `name` in each loaded object that defines it, in the order of
 * loading, until it returns other than 0. Allocates nothing. visit must not load anything. */
void haki_os_each_symbol(const char *name, int (*visit)(uintptr_t address, void *ud), void *ud);

#if HAK_FAULT
/* Fault injection: calls are counted over all of reserve, commit, purge, move, refresh, hugepages,
 * metadata allocation, threads, barriers and questions whether a page is there. The call number `at` (1 = next) fails, with `sticky` all later ones too. */
enum haki_fault_kind {
  HAK_FAULT_RESERVE = 1,
  HAK_FAULT_COMMIT = 2,
  HAK_FAULT_PURGE = 4,
  HAK_FAULT_MOVE = 8,
  HAK_FAULT_REFRESH = 16,
  HAK_FAULT_HUGE = 32,
  HAK_FAULT_META = 64,
  HAK_FAULT_THREAD = 128,
  HAK_FAULT_BARRIER = 256,
  HAK_FAULT_RESIDES = 512,
  HAK_FAULT_ALL = 1023
};
void haki_fault_arm(unsigned kinds, uint64_t at, bool sticky);
void haki_fault_random(unsigned kinds, uint32_t seed, uint32_t one_in); /* one_in 0: off */
void haki_fault_disarm(void);
uint64_t haki_fault_count(void);                /* matching calls since arm */
uint64_t haki_fault_hits(void);                 /* of those, failed */
bool haki_fault_hit(enum haki_fault_kind kind); /* asked by each call: fail now? */
#else
#define haki_fault_hit(kind) false
#endif

#endif

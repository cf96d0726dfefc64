/* hakmem.h - the C contract of hakmem, an embeddable arena allocator.
 *
 * Every function states: what it does, threads: who may call it, cost:, fails: how.
 * Sizes are bytes. Unless a line says otherwise a function may be called from any thread, never
 * raises a signal, keeps errno on success, and needs no initialisation call.
 * A pointer that hakmem does not own, or a block given back twice, is the caller's bug: one line
 * `hakmem: fatal: <what> (ptr 0x...)` goes to stderr and the process aborts.
 */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAK_VERSION "0.1.0"
/* Changes whenever a structure that copies of hakmem share in one process changes. */
#define HAK_ABI_VERSION 1u

#if defined(__GNUC__)
#define HAK_API __attribute__((visibility("default")))
#define HAK_MALLOC_LIKE __attribute__((malloc, warn_unused_result))
#else
#define HAK_API
#define HAK_MALLOC_LIKE
#endif

/* ---- the default arena: malloc and friends -------------------------------------------------- */

/* A block of at least `size` bytes, aligned to 16; size 0 gives a unique pointer.
 * cost: a few instructions while the thread's slab has a free block.   fails: NULL, ENOMEM. */
HAK_API HAK_MALLOC_LIKE void *hak_malloc(size_t size);

/* hak_malloc() for callers that know a better call site than their return address: `site` is any
 * value that names it. cost, fails: as hak_malloc(). */
HAK_API HAK_MALLOC_LIKE void *hak_malloc_site(size_t size, uintptr_t site);

/* `count * size` zeroed bytes. fails: NULL, ENOMEM, also when the product overflows. */
HAK_API HAK_MALLOC_LIKE void *hak_calloc(size_t count, size_t size);

/* Changes the size of `ptr` (NULL: hak_malloc), contents kept up to the smaller size. Stays in the
 * arena that owns `ptr`. Size 0 returns a minimum block. A shrink never fails.
 * cost: copies only when neither the block nor the kernel's page tables can grow in place.
 * fails: NULL, ENOMEM, and the old block is intact. */
HAK_API void *hak_realloc(void *ptr, size_t size);

/* Gives a block back (NULL: nothing); `ptr` may come from any arena of hakmem. Keeps errno. */
HAK_API void hak_free(void *ptr);

/* hak_free() for callers that know the size they asked for; checked in audit builds. */
HAK_API void hak_free_sized(void *ptr, size_t size);

/* A block aligned to `align`, a power of two. fails: NULL with EINVAL (align) or ENOMEM. */
HAK_API HAK_MALLOC_LIKE void *hak_aligned_alloc(size_t align, size_t size);

/* As POSIX: `align` a power of two and a multiple of sizeof(void *).
 * fails: EINVAL or ENOMEM as the return value, `*out` untouched. */
HAK_API int hak_posix_memalign(void **out, size_t align, size_t size);

/* Bytes that may be used at `ptr`, at least the size asked for; 0 for NULL. */
HAK_API size_t hak_usable_size(const void *ptr);

/* 1 when `ptr` points into memory that hakmem handed out or holds, else 0. Never aborts. */
HAK_API int hak_owns(const void *ptr);

/* Gives back what shared arenas and the calling thread cache, to the operating system.
 * Returns the bytes returned. cost: visits all free memory. */
HAK_API size_t hak_trim(void);

/* Ends the background thread and gives back every cache: for programs that unload hakmem or check for
 * leaks. Live blocks stay valid, and everything works as before; the thread comes back only when
 * the knob drain.enabled is set again. Twice is harmless. Never run at exit. */
HAK_API void hak_shutdown(void);

HAK_API const char *hak_version(void);  /* HAK_VERSION of the library that runs */
HAK_API uint32_t hak_abi_version(void); /* HAK_ABI_VERSION of the library that runs */

/* ---- arenas --------------------------------------------------------------------------------- */

/* A dead arena, and NULL where no line below gives it a meaning: functions that return an int give
 * EINVAL, those that return memory NULL and EINVAL, the others 0, -1 or NULL as told there; nothing
 * happens. A handle is known as dead until its descriptor is used again, after 64 more deaths at
 * the earliest; an id is for ever. Not NULL, for they do not look: hak_arena_alloc(),
 * hak_arena_free(), hak_lua_alloc(). */

typedef struct hak_arena hak_arena;
typedef uint64_t hak_arena_id; /* slot and generation; never 0, never reused */

enum hak_arena_kind {
  HAK_ARENA_SHARED = 0, /* any thread, at any time */
  HAK_ARENA_PRIVATE = 1 /* one thread at a time; moving needs only a happens-before edge */
};

typedef struct hak_arena_config {
  const char *name; /* copied, cut at 31 bytes; NULL: "arena-<slot>" */
  int kind;         /* enum hak_arena_kind */
  size_t soft;      /* charged bytes at which on_soft is called; 0: none */
  size_t hard;      /* charged bytes never exceeded; 0: none */
  void (*on_soft)(hak_arena *arena, size_t charged, void *ud); /* must not allocate from `arena` */
  void *ud;
  /* As the knobs of these names, in their ranges; 0: what they say. For more: hak_arena_configure(). */
  size_t l25_initial_shards, l25_max_shards;
  size_t bigcache_initial_buckets, bigcache_max_buckets, bigcache_max_bytes;
  uintptr_t reserved[11]; /* zero */
} hak_arena_config;

/* A new arena; NULL: shared, defaults. fails: NULL with EINVAL (kind, soft above hard, a number out
 * of its knob's range, reserved words not zero) or ENOMEM. */
HAK_API hak_arena *hak_arena_create(const hak_arena_config *config);

/* The malloc family on one arena; contracts as above, with the arena's limits.
 * threads: private arenas: one at a time. In checked mode (knob arena.owner_check) a call from a
 * thread that is not the owner gives NULL and EPERM.
 * fails: a request that would pass the hard limit: NULL, ENOMEM, after the arena's own caches have
 * been released; a dead arena: NULL, EINVAL. hak_arena_free() and hak_arena_realloc() want a block
 * of this very arena: else `invalid free: not owned`. Where it may not, hak_arena_free() does nothing
 * and sets errno. */
HAK_API HAK_MALLOC_LIKE void *hak_arena_alloc(hak_arena *arena, size_t size);
HAK_API HAK_MALLOC_LIKE void *hak_arena_calloc(hak_arena *arena, size_t count, size_t size);
/* hak_arena_calloc() for callers that know a better call site, as hak_malloc_site(). */
HAK_API HAK_MALLOC_LIKE void *hak_arena_calloc_site(hak_arena *arena, size_t count, size_t size,
                                                    uintptr_t site);
HAK_API void *hak_arena_realloc(hak_arena *arena, void *ptr, size_t size);
HAK_API HAK_MALLOC_LIKE void *hak_arena_aligned_alloc(hak_arena *arena, size_t align, size_t size);
HAK_API void hak_arena_free(hak_arena *arena, void *ptr);
HAK_API void hak_arena_free_sized(hak_arena *arena, void *ptr, size_t size);

/* Sets the limits; 0 lifts one. A limit below the present charge is accepted: soft acts now, hard
 * when memory is next asked for. fails: EINVAL (soft above hard, dead arena) as the return value. */
HAK_API int hak_arena_set_limit(hak_arena *arena, size_t soft, size_t hard);
/* The limits in force; 0: none, or a dead arena. Either pointer may be NULL. */
HAK_API void hak_arena_limit(hak_arena *arena, size_t *soft, size_t *hard);

/* Every block gone at once; memory is kept for reuse as far as arena.retain allows.
 * threads: nobody else may use the arena meanwhile. cost: slabs and large blocks, not small blocks.
 * fails: EINVAL (dead arena, the default arena), EBUSY (pinned), EPERM (checked mode). */
HAK_API int hak_arena_reset(hak_arena *arena);

/* Remembers every block of a private arena and what is in it, in place of an earlier snapshot. The copy
 * is metadata and charged to no arena. Until the arena is reset or destroyed, memory that is in the
 * snapshot stays the arena's and charged, also when its blocks are freed; large blocks in it still
 * count as live then.
 * threads: the owner. cost: the bytes that the arena holds.
 * fails: EINVAL (dead, shared), EPERM (checked mode), ENOMEM; then the earlier one is still there. */
HAK_API int hak_arena_snapshot(hak_arena *arena);

/* Brings the snapshot back, at the same addresses: blocks that came since are gone, freed ones are
 * live again, contents are what they were. Chunks of blocks that came since are kept for reuse as far
 * as arena.retain allows. A Lua state in the arena is restored with it, if no call of it was running
 * when the snapshot was taken, and none is; what it holds outside of the arena (files, C libraries,
 * LuaJIT's machine code) is not restored: hakmem.vm_pool knows when that matters.
 * threads: the owner. cost: the bytes of the snapshot, and slabs and large blocks that came since.
 * fails: EINVAL (dead, no snapshot), EPERM (checked mode). */
HAK_API int hak_arena_restore(hak_arena *arena);

/* Gives the arena's cached memory back. threads: private: the owner.
 * fails: EINVAL, EPERM (checked mode). */
HAK_API int hak_arena_trim(hak_arena *arena);

/* Everything returned; `arena` is dead. threads, cost: as reset.
 * fails: EINVAL (dead already, the default arena), EBUSY (pinned), EPERM (checked mode). */
HAK_API int hak_arena_destroy(hak_arena *arena);

/* Makes the calling thread the owner of a private arena, for checked mode.
 * fails: EINVAL (dead, or shared). */
HAK_API int hak_arena_handover(hak_arena *arena);

/* While pinned an arena can be neither reset nor destroyed: a Lua state lives in it. Pins count.
 * Pinning also exempts the arena from the owner check. fails: EINVAL. */
HAK_API int hak_arena_pin(hak_arena *arena);
HAK_API int hak_arena_unpin(hak_arena *arena);

HAK_API hak_arena_id hak_arena_get_id(hak_arena *arena); /* 0: dead */
HAK_API hak_arena *hak_arena_from_id(hak_arena_id id);   /* NULL, EINVAL once it is dead */
HAK_API hak_arena *hak_arena_default(void);              /* that of hak_malloc(); cannot fail */
HAK_API const char *hak_arena_name(hak_arena *arena);    /* valid while it lives; NULL: dead */
HAK_API int hak_arena_kind_of(hak_arena *arena);         /* enum hak_arena_kind; -1: dead */
/* Requests that the hard limit has refused so far: tells a limit from a lack of memory. 0: dead. */
HAK_API uint64_t hak_arena_refusals(hak_arena *arena);
HAK_API hak_arena *hak_arena_of(const void *ptr); /* the arena that owns a block; NULL: none */

/* Calls `visit` for each live arena, the default one first, until it returns non-zero, and returns
 * that. `visit` must not create or destroy arenas. */
HAK_API int hak_arena_walk(int (*visit)(hak_arena *arena, void *ud), void *ud);

/* ---- Lua ------------------------------------------------------------------------------------ */

/* A lua_Alloc. `arena`, not NULL, is the `ud` of lua_newstate(). Blocks have 8-byte
 * granularity and alignment, which is what Lua and LuaJIT need. `osize` is believed only inside
 * the nursery of a young arena. Blocks must be given back through this function.
 * threads: as the arena's kind. cost: about 20 instructions. fails: NULL; a shrink never does. */
HAK_API void *hak_lua_alloc(void *arena, void *ptr, size_t osize, size_t nsize);

/* The rest of this part is what hakmem_lua.h calls; programs use the functions there.
 *
 * What an arena knows of the Lua state that lives in it. `former` is the lua_Alloc that served the
 * state before: blocks that are not the arena's go to it. */
typedef struct hak_lua_binding {
  void *L;        /* a thread of the state that lives as long as it does */
  const void *id; /* the state's registry: the same for all of its threads */
  int collects;   /* Lua that collects when it is refused, and asks once more (5.2 and later) */
  int passes;     /* but libraries that allocate by themselves do not: they leave the type tag 0 */
  /* Lua that raises without having collected (5.1, LuaJIT): does all of the collector's work at its next
   * check, and then begins its next cycle at `percent` of what was left; 0: back to the user's
   * settings. Called from inside the allocator. */
  void (*pace)(struct hak_lua_binding *binding, int percent);
  /* Lua that may crash when memory is refused in compiled code (LuaJIT): at the next instruction that is
   * interpreted collects all garbage (error 0) or raises `not enough memory` (1); not after all (-1).
   * NULL: refuse. Called as pace() is. */
  void (*raise)(struct hak_lua_binding *binding, int error);
  int saved[8]; /* pace()'s and raise()'s own */
  void (*hook)(void);
  void *(*former)(void *ud, void *ptr, size_t osize, size_t nsize); /* NULL: none */
  void *former_ud;
  const void *last;        /* the block that is freed last; NULL: not known */
  size_t last_size;        /* its size; 0: not known */
  void (*ended)(void *ud); /* the state is gone; may destroy the arena */
  void *ended_ud;
} hak_lua_binding;

/* Binds a state to an arena and pins it. While bound the first refusal comes at 15/16 of the hard
 * limit, and what is left can be had until charged is below 7/8: for handling the error (where Lua
 * does not collect, half of it, and half of the rest after each further refusal; with raise() the error
 * comes at 31/32, when a collection has not helped).
 * threads: as the arena's kind. fails: EINVAL (dead arena), EBUSY (another state is bound). */
HAK_API int hak_lua_bind(hak_arena *arena, const hak_lua_binding *binding);
HAK_API hak_lua_binding *hak_lua_bound(hak_arena *arena); /* NULL: dead arena, or none bound */
/* Bytes that the state has from its former allocator: the statistic `foreign`. */
HAK_API void hak_lua_note_foreign(hak_arena *arena, size_t bytes);
/* Ends the binding and unpins the arena, then calls ended(). fails: EINVAL (nothing bound). */
HAK_API int hak_lua_unbind(hak_arena *arena);
/* 1: `ud` is the handle of a live arena, else 0; any value may be asked. cost: visits all arenas. */
HAK_API int hak_arena_is_live(const void *ud);

/* ---- configuration, statistics, reports, log ------------------------------------------------ */

/* Every knob has a dotted name; csrc/REFERENCE.md lists them. Values are text:
 * numbers, sizes ("64K", "1.5GiB"), durations ("250ms", "5s", seconds when bare), "on"/"off", or
 * a word. Sets n knobs, all or none.
 * fails: EINVAL (unknown name, bad value, out of range), EPERM (fixed after start); then nothing
 * has changed and `err`, when not NULL, holds one sentence that names knob, value and range. */
HAK_API int hak_configure(const char *const *names, const char *const *values, size_t n, char *err,
                          size_t err_size);

/* The same for the knobs of one arena (those whose scope is "arena"). */
HAK_API int hak_arena_configure(hak_arena *arena, const char *const *names,
                                const char *const *values, size_t n, char *err, size_t err_size);

typedef struct hak_knob_info {
  const char *name;       /* "purge.decay" */
  const char *type;       /* "bool" "count" "bytes" "duration" "word" */
  const char *env;        /* "HAKMEM_PURGE_DECAY" */
  const char *words;      /* for "word": the choices, parted by '|' */
  uint64_t def, min, max; /* durations in nanoseconds; words as index */
  int live;               /* may change after start */
  int per_arena;          /* also settable with hak_arena_configure() */
  const char *unit;
  const char *help;
} hak_knob_info;

HAK_API size_t hak_knob_count(void);
HAK_API const hak_knob_info *hak_knob_info_at(size_t index); /* NULL past the end */
HAK_API int hak_knob_find(const char *name);                 /* index, or -1 */
HAK_API uint64_t hak_knob_value(size_t index);               /* in force; 0 past the end */

typedef struct hak_stat_info {
  const char *name; /* "small.slabs"; top-level ones have no dot */
  const char *kind; /* "counter" "gauge" "peak" "ratio" (ratio: value in 1e-9) */
  const char *unit; /* "bytes" "blocks" "count" "ns" "ratio" */
  int process;      /* has a process-wide value */
  int per_arena;    /* has a value for each arena */
  const char *help;
} hak_stat_info;

HAK_API size_t hak_stat_count(void);
HAK_API const hak_stat_info *hak_stat_info_at(size_t index); /* NULL past the end */
HAK_API int hak_stat_find(const char *name);                 /* index, or -1 */

/* Fills values[0..n) by statistic index: process-wide (arena NULL) or of one arena; those that do
 * not exist there are 0. Returns how many statistics there are, 0 for a dead arena.
 * threads: any, also for private arenas: exact for the owner, else as last published by each
 * thread's slow path. cost: visits the arena's slabs. */
HAK_API size_t hak_stats_read(hak_arena *arena, uint64_t *values, size_t n);

/* Memory by size class of one arena (NULL: all): calls `visit` for each class in use, smallest
 * first; for none of a dead arena. cost: as hak_stats_read(). */
typedef struct hak_class_stat {
  size_t size;   /* bytes of a block */
  size_t blocks; /* live */
  size_t slabs;  /* that hold or held them */
  size_t active; /* bytes those slabs have committed */
} hak_class_stat;
HAK_API void hak_class_stats(hak_arena *arena, void (*visit)(const hak_class_stat *, void *),
                             void *ud);

/* Blocks of the pool of large blocks by class, of one shared arena (NULL: all): calls `visit` for
 * each class that was ever asked for, smallest first; for none of a dead arena. No lock is held
 * meanwhile.
 * threads: any; exact while nobody uses the pool. cost: visits the pool's threads, no slab. */
typedef struct hak_l25_class_stat {
  size_t size;   /* most bytes of a block */
  size_t blocks; /* live */
  size_t cached; /* free, in threads' caches and shards */
  uint64_t ops;  /* blocks handed out so far; NULL: also by arenas that are gone */
} hak_l25_class_stat;
HAK_API void hak_l25_class_stats(hak_arena *arena,
                                 void (*visit)(const hak_l25_class_stat *, void *), void *ud);

/* Writes a report through `write`, in pieces, without allocating: "text", "json", "prometheus".
 * fails: EINVAL (unknown format, NULL). */
HAK_API int hak_report(const char *format, void (*write)(const char *text, size_t size, void *ud),
                       void *ud);

/* Log lines (level 1..3, no newline) go to `sink` instead of stderr; NULL restores stderr. The
 * sink may be called from any thread, also hakmem's own, and must not call hakmem. */
HAK_API void hak_log_set_sink(void (*sink)(int level, const char *line, void *ud), void *ud);

/* Text and short name ("NOMEM", "QUOTA", ...) of an errno value that hakmem returns. */
HAK_API const char *hak_strerror(int error);
HAK_API const char *hak_errname(int error);

#ifdef __cplusplus
}
#endif
#endif

/* arena.h - what an arena is.
 * Why:   one descriptor ties limits, heaps and large blocks together; it is type-stable and reused
 *        late, so that a stale handle finds a dead arena, not a fault.
 * Owns:  struct hak_arena, the registry of arenas.
 * Locks: REGISTRY for the list of arenas and their birth and death; ARENA for every arena's list of
 *        heaps.
 * Start: haki_arena_new().
 *
 *   private: `lua` serves hak_lua_alloc() with 8-byte classes, `own` (made when first needed) the
 *            malloc-like calls with 16-byte classes; no thread, no lock.
 *   shared:  `heaps` has one heap per thread, `orphans` those of exited threads. */
#ifndef HAK_ARENA_H
#define HAK_ARENA_H

#include "heap/limit.h"
#include "heap/meter.h"
#include "include/hakmem.h"
#include "pool/bigrest.h"
#include "pool/image.h"
#include "pool/large.h"
#include "pool/nursery.h"
#include "pool/small.h"

enum haki_arena_state { HAK_ARENA_DEAD = 0, HAK_ARENA_LIVE };

struct hak_arena {
  struct haki_heap lua; /* first: hak_lua_alloc() gets it as `ud` */
  _Atomic(struct haki_heap *)
      plain; /* fast path of the malloc-like calls: `own`, or the empty heap */
  _Atomic(struct haki_heap *) own;
  struct haki_quota quota;
  struct haki_limits limits;
  hak_lua_binding binding; /* of the Lua state in it, while `bound` */
  bool bound;
  struct haki_meter meter; /* of that state */
  hak_cell foreign;        /* bytes of that state from its former allocator; not charged */
  struct haki_large large;
  struct haki_retained retained;
  _Atomic(struct haki_l25 *) pool;              /* shared: NULL until the first large block */
  _Atomic(uint32_t) initial_shards, max_shards; /* of the pool */
  bool is_private;
  bool owner_check;
  uint32_t slot, generation;
  _Atomic(uint32_t) state;
  _Atomic(uint32_t) pins;
  _Atomic(uintptr_t) owner; /* checked mode: the thread */
  uint64_t retain;
  void (*on_soft)(hak_arena *arena, size_t charged, void *ud);
  void *ud;
  hak_list heaps, orphans; /* shared */
  _Atomic(uint32_t) heap_count, orphan_count;
  hak_cell resets, restores;
  struct haki_image *image; /* private: what restore brings back; NULL: none */
  hak_cell image_bytes;
  hak_cell gone[5]; /* refills, fresh, retired, remote_frees, adopted of heaps that are gone */
  hak_list link;    /* registry or graveyard */
  char name[32];
};

HAK_HIDDEN extern struct hak_arena haki_default_arena;
HAK_HIDDEN extern struct haki_heap haki_empty_heap; /* bins without blocks: each fast path misses */
extern struct haki_lock haki_registry_lock, haki_heaps_lock;
extern hak_list haki_arenas; /* live, the default first; REGISTRY */
extern _Atomic(uint64_t) haki_arenas_created;

HAK_INLINE bool haki_arena_is_live(const struct hak_arena *a) {
  return a != NULL && atomic_load_explicit(&((struct hak_arena *)a)->state, memory_order_relaxed) ==
                          HAK_ARENA_LIVE;
}

void haki_arena_init_default(void);
/* Takes REGISTRY, unless the caller is a visitor of a walk, which holds it; leave() wants to know. */
bool haki_registry_enter(void);
void haki_registry_leave(bool entered);
bool haki_registry_is_mine(void); /* the caller is such a visitor */
/* The next live shared arena from *slot on; *slot moves behind it, HAK_NO_SLOT at the end. NULL: none
 * among the slots that were looked at. pre: REGISTRY held. */
struct hak_arena *haki_arena_next_shared(uint32_t *slot);
/* The heap of the calling thread in a shared arena; NULL: no memory, or the thread is exiting. */
struct haki_heap *haki_thread_heap(struct hak_arena *a);
/* The calling thread's cache of large blocks of a shared arena. NULL: none; `make` asks for one. */
struct haki_l25_cache *haki_arena_cache(struct hak_arena *a, bool make);
uint32_t haki_arena_first_shards(struct hak_arena *a); /* of its pool, once it has one */
/* A knob of scope arena gets a value for one. */
void haki_arena_set_knob(struct hak_arena *a, int id, uint64_t value);
void haki_arena_set_max_shards(struct hak_arena *a, uint32_t most);
/* The heap for malloc-like calls on a private arena; NULL with errno. */
struct haki_heap *haki_private_heap(struct hak_arena *a);
/* Is h one of the calling thread's? */
bool haki_heap_is_mine(const struct haki_heap *h);
/* A block from an orphan of a shared arena, for threads that have no heap any more. */
void *haki_late_alloc(struct hak_arena *a, unsigned c);
/* False with EINVAL when the arena is dead, in checked mode with EPERM when the caller is not the
 * owner of a private one. */
bool haki_arena_may_use(struct hak_arena *a);
void haki_stats_bury(struct hak_arena *a); /* its counters go to the process */
/* Every block of the arena has died: its image, if there is one, goes, too. */
void haki_arena_forget_image(struct hak_arena *a);
/* Everything the arena and the calling thread keep in it goes back; true: something did. */
bool haki_arena_release_caches(struct hak_arena *a);
void haki_arena_drop_caches(struct hak_arena *a);
void haki_arena_drop_heaps(struct hak_arena *a, bool destroy);
void haki_heap_retire(struct haki_heap *h); /* counts go to the arena, the descriptor to the pool */
struct haki_heap *haki_heap_new(struct hak_arena *a);
void haki_heaps_start(void); /* once */
/* Blocks that others have freed count as free from now on, as far as they belong to heaps of the
 * calling thread or of exited ones. */
void haki_heaps_settle(struct hak_arena *a);
/* Exited threads' heaps give back what they can. */
void haki_orphans_trim(struct hak_arena *a);
/* Trims every heap of the calling thread; bytes uncharged. */
size_t haki_trim_thread(void);

/* The thread's heap in the default arena; the empty heap before the first and after the last use. */
HAK_HIDDEN extern __thread struct haki_heap *haki_tls_heap;

#endif

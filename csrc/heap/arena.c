/* arena.c - arenas are born, limited, reset and destroyed.
 *
 * Why:   see arena.h.
 * Owns:  the registry: live arenas, slots, the graveyard.
 * Locks: REGISTRY for birth, death and walks.
 * Start: haki_api_arena_create().
 *
 * A dead descriptor waits in the graveyard until enough others have died after it; only then is
 * its slot used again, with the next generation: a second destroy finds a dead arena until then,
 * a stale id is known for ever. */
#include "heap/arena.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/knob.h"
#include "base/log.h"
#include "base/stat.h"
#include "heap/core.h"
#include "map/chunk.h"
#include "map/meta.h"

enum {
  GRAVES = 64, /* deaths before a slot is used again */
  SLOTS_PER_PAGE = 1024,
  SLOT_PAGES = 1024,
};

struct hak_arena haki_default_arena;
struct haki_lock haki_registry_lock = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
hak_list haki_arenas = {&haki_arenas, &haki_arenas};
_Atomic(uint64_t) haki_arenas_created;
static hak_list graveyard = {&graveyard, &graveyard};
static uint32_t graves, slot_count = 1;
/* slot -> descriptor; REGISTRY. The default arena has slot 0, whatever memory there is. */
static struct hak_arena *first_slots[SLOTS_PER_PAGE] = {&haki_default_arena};
static struct hak_arena **slots[SLOT_PAGES] = {first_slots};

static _Atomic(uintptr_t) walker; /* the thread inside a walk: only its own value concerns it */

bool haki_registry_is_mine(void) {
  return atomic_load_explicit(&walker, memory_order_relaxed) == (uintptr_t)pthread_self();
}

bool haki_registry_enter(void) {
  if (haki_registry_is_mine()) return false;
  haki_lock(&haki_registry_lock);
  return true;
}
void haki_registry_leave(bool entered) {
  if (entered) haki_unlock(&haki_registry_lock);
}

/* pre: REGISTRY held. */
static struct hak_arena *new_descriptor(void) {
  uint32_t slot = slot_count;
  if (slot >= SLOTS_PER_PAGE * SLOT_PAGES) return NULL;
  struct hak_arena ***page = &slots[slot / SLOTS_PER_PAGE];
  if (*page == NULL) *page = haki_meta_alloc(SLOTS_PER_PAGE * sizeof **page);
  if (*page == NULL) return NULL;
  struct hak_arena *a = haki_meta_alloc(sizeof *a);
  if (a == NULL) return NULL;
  a->slot = slot;
  (*page)[slot % SLOTS_PER_PAGE] = a;
  slot_count++;
  return a;
}

static struct hak_arena *take_descriptor(void) {
  haki_lock(&haki_registry_lock);
  struct hak_arena *a = NULL;
  if (graves > GRAVES) {
    a = HAK_LIST_OF(graveyard.next, struct hak_arena, link);
    haki_list_remove(&a->link);
    graves--;
  } else {
    a = new_descriptor();
  }
  haki_unlock(&haki_registry_lock);
  return a;
}

/* A dead or new descriptor becomes an arena; slot and generation stay. */
static void init(struct hak_arena *a, const hak_arena_config *config) {
  uint32_t slot = a->slot, generation = a->generation;
  bool is_private = config != NULL && config->kind == HAK_ARENA_PRIVATE;
  memset(&a->lua.nursery, 0, sizeof a->lua.nursery);
  memset(&a->quota, 0, sizeof a->quota);
  memset(&a->large, 0, sizeof a->large);
  memset(&a->retained, 0, sizeof a->retained);
  memset(a->gone, 0, sizeof a->gone);
  hak_cell *cells[] = {&a->lua.refills, &a->lua.fresh, &a->lua.retired, &a->lua.remote_frees,
                       &a->lua.adopted, &a->resets,    &a->restores,    &a->image_bytes};
  for (size_t i = 0; i < HAK_COUNT_OF(cells); i++) haki_cell_set(cells[i], 0);
  a->slot = slot;
  a->generation = generation + 1;
  a->is_private = is_private;
  a->owner_check = HAK_KNOB(arena, owner_check) != 0;
  a->retain = HAK_KNOB(arena, retain);
  atomic_store_explicit(&a->pool, NULL, memory_order_relaxed);
  atomic_store_explicit(&a->initial_shards, (uint32_t)HAK_KNOB(l25, initial_shards),
                        memory_order_relaxed);
  atomic_store_explicit(&a->max_shards, (uint32_t)HAK_KNOB(l25, max_shards), memory_order_relaxed);
  a->own = NULL;
  a->image = NULL;
  atomic_store_explicit(&a->plain, &haki_empty_heap, memory_order_relaxed);
  atomic_store_explicit(&a->pins, 0, memory_order_relaxed);
  atomic_store_explicit(&a->owner, (uintptr_t)pthread_self(), memory_order_relaxed);
  haki_list_init(&a->heaps);
  haki_list_init(&a->orphans);
  haki_list_init(&a->retained.pages);
  haki_list_init(&a->link);
  atomic_store_explicit(&a->heap_count, 0, memory_order_relaxed);
  atomic_store_explicit(&a->orphan_count, 0, memory_order_relaxed);
  a->quota.shared = !is_private;
  a->bound = false;
  memset(&a->binding, 0, sizeof a->binding);
  memset(&a->limits, 0, sizeof a->limits);
  memset(&a->meter, 0, sizeof a->meter);
  haki_limits_set(a, 0, 0);
  haki_large_init(&a->large, &a->quota, is_private ? &haki_default_arena.large : NULL);
  a->lua.is_private = is_private;
  a->lua.retained = is_private ? &a->retained : NULL;
  haki_heap_init(&a->lua, a, &a->quota);
  a->lua.nursery.slot = slot;
  a->lua.nursery.limit = is_private ? (uint32_t)HAK_KNOB(arena, nursery) : 0;
  if (!is_private) a->lua.span = 0; /* threads have heaps of their own: each fast path misses */
  a->on_soft = config != NULL ? config->on_soft : NULL;
  a->ud = config != NULL ? config->ud : NULL;
  if (config != NULL && config->name != NULL)
    haki_format(a->name, sizeof a->name, "%.31s", config->name);
  else
    haki_format(a->name, sizeof a->name, "arena-%u", slot);
}

static void publish(struct hak_arena *a) {
  haki_lock(&haki_registry_lock);
  haki_list_append(&haki_arenas, &a->link);
  atomic_store_explicit(&a->state, HAK_ARENA_LIVE, memory_order_relaxed);
  haki_unlock(&haki_registry_lock);
  atomic_fetch_add_explicit(&haki_arenas_created, 1, memory_order_relaxed);
}

void haki_arena_init_default(void) {
  static const hak_arena_config config = {.name = "default"};
  init(&haki_default_arena, &config);
  publish(&haki_default_arena);
}

static int check_limits(size_t soft, size_t hard) {
  return soft != 0 && hard != 0 && soft > hard ? EINVAL : 0;
}

/* The words of a configuration that stand for knobs. */
struct word {
  size_t value;
  enum haki_knob_id id;
};
enum { WORDS = 5 };
static void read_words(const hak_arena_config *c, struct word w[WORDS]) {
  w[0] = (struct word){c->l25_initial_shards, HAK_KNOB_l25_initial_shards};
  w[1] = (struct word){c->l25_max_shards, HAK_KNOB_l25_max_shards};
  w[2] = (struct word){c->bigcache_initial_buckets, HAK_KNOB_bigcache_initial_buckets};
  w[3] = (struct word){c->bigcache_max_buckets, HAK_KNOB_bigcache_max_buckets};
  w[4] = (struct word){c->bigcache_max_bytes, HAK_KNOB_bigcache_max_bytes};
}

static int check_config(const hak_arena_config *config) {
  struct word words[WORDS];
  read_words(config, words);
  for (int i = 0; i < WORDS; i++) {
    const hak_knob_info *k = haki_knob_info_at(words[i].id);
    if (words[i].value != 0 && (words[i].value < k->min || words[i].value > k->max)) return EINVAL;
  }
  if (config->kind != HAK_ARENA_SHARED && config->kind != HAK_ARENA_PRIVATE) return EINVAL;
  for (size_t i = 0; i < HAK_COUNT_OF(config->reserved); i++)
    if (config->reserved[i] != 0) return EINVAL;
  return check_limits(config->soft, config->hard);
}

hak_arena *haki_api_arena_create(const hak_arena_config *config) {
  int error = config != NULL ? check_config(config) : 0;
  struct hak_arena *a = error == 0 ? take_descriptor() : NULL;
  if (a == NULL) {
    errno = error != 0 ? error : ENOMEM;
    return NULL;
  }
  init(a, config);
  struct word words[WORDS] = {{0, 0}};
  if (config != NULL) read_words(config, words);
  for (int i = 0; i < WORDS; i++)
    if (words[i].value != 0) haki_arena_set_knob(a, words[i].id, words[i].value);
  publish(a);
  if (config != NULL) haki_api_arena_set_limit(a, config->soft, config->hard);
  HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Arena %s created (%s)", a->name,
          a->is_private ? "private" : "shared");
  return a;
}

/* ---- limits ---- */

int haki_api_arena_set_limit(hak_arena *a, size_t soft, size_t hard) {
  if (!haki_arena_is_live(a) || check_limits(soft, hard) != 0) return EINVAL;
  haki_limits_set(a, soft, hard);
  return 0;
}

void haki_api_arena_limit(hak_arena *a, size_t *soft, size_t *hard) {
  bool live = haki_arena_is_live(a);
  if (soft != NULL) *soft = live ? haki_cell_get(&a->quota.soft) : 0;
  if (hard != NULL) *hard = live ? haki_cell_get(&a->quota.hard) : 0;
}

bool haki_arena_release_caches(struct hak_arena *a) {
  uint64_t before = haki_cell_get(&a->quota.charged);
  if (a->is_private) {
    haki_heap_trim(&a->lua);
    if (a->own != NULL) haki_heap_trim(a->own);
    haki_retained_release(&a->retained, &a->quota);
  } else {
    struct haki_heap *h = haki_thread_heap(a);
    if (h != NULL) haki_heap_trim(h);
    struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
    struct haki_l25_cache *cache = haki_arena_cache(a, false);
    if (pool != NULL) haki_l25_trim(pool, cache);
    haki_large_trim(&a->large, cache);
    if (pool != NULL) haki_rest_age(pool, true);
    haki_orphans_trim(a);
  }
  return haki_cell_get(&a->quota.charged) < before;
}

/* ---- owner, pins, handles ---- */

bool haki_arena_may_use(struct hak_arena *a) {
  if (HAK_UNLIKELY(!haki_arena_is_live(a))) {
    errno = EINVAL;
    return false;
  }
  if (HAK_LIKELY(!a->owner_check || !a->is_private)) return true;
  if (atomic_load_explicit(&a->pins, memory_order_relaxed) != 0 ||
      atomic_load_explicit(&a->owner, memory_order_relaxed) == (uintptr_t)pthread_self())
    return true;
  errno = EPERM;
  return false;
}

int haki_api_arena_handover(hak_arena *a) {
  if (!haki_arena_is_live(a) || !a->is_private) return EINVAL;
  uintptr_t me = (uintptr_t)pthread_self();
  atomic_store_explicit(&a->owner, me, memory_order_relaxed);
  atomic_store_explicit(&a->lua.thread, me, memory_order_relaxed); /* statistics are exact for it */
  if (a->own != NULL) atomic_store_explicit(&a->own->thread, me, memory_order_relaxed);
  return 0;
}

int haki_api_arena_pin(hak_arena *a) {
  if (!haki_arena_is_live(a)) return EINVAL;
  atomic_fetch_add_explicit(&a->pins, 1, memory_order_relaxed);
  return 0;
}

int haki_api_arena_unpin(hak_arena *a) {
  if (!haki_arena_is_live(a) || atomic_load_explicit(&a->pins, memory_order_relaxed) == 0)
    return EINVAL;
  atomic_fetch_sub_explicit(&a->pins, 1, memory_order_relaxed);
  return 0;
}

hak_arena_id haki_api_arena_get_id(hak_arena *a) {
  return haki_arena_is_live(a) ? (hak_arena_id)a->generation << 32 | a->slot : 0;
}

hak_arena *haki_api_arena_from_id(hak_arena_id id) {
  uint32_t slot = (uint32_t)id;
  struct hak_arena *a = NULL;
  bool entered = haki_registry_enter();
  if (slot < slot_count) a = slots[slot / SLOTS_PER_PAGE][slot % SLOTS_PER_PAGE];
  if (a != NULL && (!haki_arena_is_live(a) || a->generation != id >> 32)) a = NULL;
  haki_registry_leave(entered);
  if (a == NULL) errno = EINVAL;
  return a;
}

hak_arena *haki_api_arena_default(void) { return &haki_default_arena; }
const char *haki_api_arena_name(hak_arena *a) { return haki_arena_is_live(a) ? a->name : NULL; }
int haki_api_arena_kind_of(hak_arena *a) {
  if (!haki_arena_is_live(a)) return -1;
  return a->is_private ? HAK_ARENA_PRIVATE : HAK_ARENA_SHARED;
}

uint64_t haki_api_arena_refusals(hak_arena *a) {
  return haki_arena_is_live(a) ? haki_cell_get(&a->quota.refusals) : 0;
}

hak_arena *haki_api_arena_of(const void *p) {
  struct page *page = haki_page_of(p);
  if (page == NULL) return NULL;
  struct hak_arena *a;
  switch (haki_page_kind(page)) {
    case HAK_PAGE_SLAB:
    case HAK_PAGE_INNER: haki_slab_owner(haki_slab_head(page), &a); return a;
    case HAK_PAGE_RUN:
    case HAK_PAGE_HUGE: return HAK_LIST_OF(HAK_PAGE_GET(page, large), struct hak_arena, large);
    case HAK_PAGE_NURSERY: {
      uint32_t slot = haki_nursery_slot(page, p);
      bool entered = haki_registry_enter();
      a = slot != HAK_NO_SLOT && slot < slot_count
              ? slots[slot / SLOTS_PER_PAGE][slot % SLOTS_PER_PAGE]
              : NULL;
      haki_registry_leave(entered);
      return a;
    }
    default: return NULL;
  }
}

int haki_api_arena_walk(int (*visit)(hak_arena *, void *), void *ud) {
  int result = 0;
  bool entered = haki_registry_enter();
  if (entered) atomic_store_explicit(&walker, (uintptr_t)pthread_self(), memory_order_relaxed);
  for (hak_list *l = haki_arenas.next; l != &haki_arenas && result == 0; l = l->next)
    result = visit(HAK_LIST_OF(l, struct hak_arena, link), ud);
  if (entered) atomic_store_explicit(&walker, 0, memory_order_relaxed);
  haki_registry_leave(entered);
  return result;
}

struct hak_arena *haki_arena_next_shared(uint32_t *slot) {
  for (uint32_t n = 0; n < SLOTS_PER_PAGE && *slot < slot_count; n++, ++*slot) {
    struct hak_arena *a = slots[*slot / SLOTS_PER_PAGE][*slot % SLOTS_PER_PAGE];
    if (!haki_arena_is_live(a) || a->is_private) continue; /* the dead may be on their way back */
    ++*slot;
    return a;
  }
  if (*slot >= slot_count) *slot = HAK_NO_SLOT;
  return NULL;
}

/* ---- reset, trim, destroy ---- */

static int check_idle(struct hak_arena *a) {
  if (!haki_arena_is_live(a) || a == &haki_default_arena) return EINVAL;
  if (atomic_load_explicit(&a->pins, memory_order_relaxed) != 0) return EBUSY;
  return haki_arena_may_use(a) ? 0 : EPERM;
}

/* Every block dies; `most` bytes of slabs are retained. */
static void drop_blocks(struct hak_arena *a, size_t most, bool destroy) {
  struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
  if (pool != NULL) {
    haki_arena_drop_caches(a);
    haki_l25_forget(pool);
  }
  haki_large_drop(&a->large, pool != NULL || haki_cell_get(&a->large.cells.allocs) != 0);
  if (!a->is_private) {
    haki_arena_drop_heaps(a, destroy);
    return;
  }
  haki_heap_drop(&a->lua, most);
  haki_nursery_release(&a->lua);
  a->lua.nursery.grown = false;
  if (a->own != NULL) haki_heap_drop(a->own, most);
  haki_arena_forget_image(a);
}

int haki_api_arena_reset(hak_arena *a) {
  int error = check_idle(a);
  if (error != 0) return error;
  bool entered = !a->is_private && haki_registry_enter(); /* the background thread stays out */
  drop_blocks(a, a->retain, false);
  haki_registry_leave(entered);
  haki_cell_add(&a->resets, 1); /* what went back is purged at a later occasion, not here */
  return 0;
}

int haki_api_arena_trim(hak_arena *a) {
  if (!haki_arena_is_live(a)) return EINVAL;
  if (!haki_arena_may_use(a)) return EPERM;
  haki_arena_release_caches(a);
  haki_purge(true);
  return 0;
}

int haki_api_arena_destroy(hak_arena *a) {
  int error = check_idle(a);
  if (error != 0) return error;
  haki_lock(&haki_registry_lock);
  if (!haki_arena_is_live(a)) { /* somebody else was faster */
    haki_unlock(&haki_registry_lock);
    return EINVAL;
  }
  atomic_store_explicit(&a->state, HAK_ARENA_DEAD, memory_order_relaxed);
  haki_list_remove(&a->link);
  haki_unlock(&haki_registry_lock);
  drop_blocks(a, 0, true);
  haki_stats_bury(a);
  struct haki_l25 *pool = atomic_load_explicit(&a->pool, memory_order_acquire);
  if (pool != NULL) haki_l25_destroy(pool);
  haki_large_destroy(&a->large);
  atomic_store_explicit(&a->pool, NULL, memory_order_relaxed);
  haki_slabs_free(&a->lua);
  if (a->own != NULL) {
    haki_heap_retire(a->own);
    a->own = NULL;
    atomic_store_explicit(&a->plain, &haki_empty_heap, memory_order_relaxed);
  }
  haki_retained_release(&a->retained, &a->quota);
  HAK_ASSERT(haki_cell_get(&a->quota.charged) == 0);
  HAK_LOG(HAK_LOG_DETAIL, "[hakmem] Arena %s destroyed", a->name);
  haki_lock(&haki_registry_lock);
  haki_list_append(&graveyard, &a->link);
  graves++;
  haki_unlock(&haki_registry_lock);
  haki_purge_tick();
  return 0;
}

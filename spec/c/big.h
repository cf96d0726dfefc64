/* big.h - what the tests of the cache of big blocks share.
 * Why:   call sites are numbers here, time stands still unless a test moves it, and a front hides
 *        the table unless it is off.
 * Start: still(), at_site(). */
#ifndef BIG_H
#define BIG_H

#include "check.h"

#include "heap/alloc.h"
#include "heap/arena.h"
#include "pool/bigcache.h"
#include "pool/bigrest.h"

UNUSED void knob(const char *name, const char *value) { CHECK_EQ(set_knob(name, value), 0); }
UNUSED void arena_knob(hak_arena *a, const char *name, const char *value) {
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, 0), 0);
}

/* Nothing grows old, and every free goes to the table. */
UNUSED void still(void) {
  knob("drain.enabled", "off"); /* the background thread ages, too */
  knob("bigcache.decay", "1h");
  knob("bigcache.front_bytes", "0");
}
UNUSED hak_arena *shared(void) { return arena_of_kind(HAK_ARENA_SHARED, 0); }

UNUSED void *try_at_site(hak_arena *a, size_t size, uintptr_t site) {
  return haki_alloc_on(a, &(struct haki_request){size, 16, false, site});
}
UNUSED char *at_site(hak_arena *a, size_t size, uintptr_t site) {
  void *p = try_at_site(a, size, site);
  CHECK(p != NULL);
  return p;
}

/* n blocks, each from a site of its own, in use at once and then free; nothing is touched. */
UNUSED void leave_at_sites(hak_arena *a, size_t n, size_t size, uintptr_t first_site) {
  void **p = malloc(n * sizeof *p);
  for (size_t i = 0; i < n; i++) p[i] = at_site(a, size, first_site + i * 64);
  for (size_t i = 0; i < n; i++) hak_free(p[i]);
  free(p);
}

/* A block that its user fills. */
UNUSED char *filled(hak_arena *a, size_t size, uintptr_t site) {
  char *p = at_site(a, size, site);
  memset(p, 0xa5, size);
  return p;
}

/* How often a site asks decides who goes: it asks n more times. Leaves one block of it free. */
UNUSED void ask(hak_arena *a, size_t size, uintptr_t site, int n) {
  for (int i = 0; i < n; i++) hak_free(at_site(a, size, site));
}

/* Nothing is left of the arena's blocks, in use or free. */
UNUSED void all_came_back(hak_arena *a) {
  CHECK_EQ(hak_arena_trim(a), 0);
  CHECK_EQ(stat_of(a, "charged"), 0);
  CHECK_EQ(stat_of(a, "large.blocks"), 0);
  CHECK_EQ(stat_of(a, "bigcache.entries"), 0);
  CHECK_EQ(stat_of(a, "bigcache.bytes"), 0);
  CHECK_EQ(stat_of(a, "bigcache.mapped"), 0);
  CHECK_EQ(stat_of(a, "bigcache.purged"), 0);
  balanced(a);
  balanced(NULL);
}

/* Works and waits until a statistic passes a mark; never a time that is asserted. */
#define POLL(arena, name, op, mark)                                                              \
  do {                                                                                           \
    while (!(stat_of(arena, name) op(mark))) {                                                   \
      nap(5);                                                                                    \
      for (int poll_i = 0; poll_i < 20; poll_i++) hak_free(at_site((arena), 600 * KIB, 0xb0b0)); \
    }                                                                                            \
  } while (0)

#endif

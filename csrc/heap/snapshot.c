/* snapshot.c - an arena remembers what it holds, and goes back to it.
 * Why:   see pool/image.h.
 * Owns:  the image of an arena.
 * Locks: none; the arena's owner calls.
 * Start: haki_api_arena_snapshot(), haki_api_arena_restore(). */
#include <errno.h>

#include "heap/arena.h"
#include "heap/core.h"

/* The Lua heap and that of the malloc-like calls, which may not be there. */
#define HEAPS(a) ((struct haki_heap *const[2]){&(a)->lua, (a)->own})

static int check(struct hak_arena *a) {
  if (!haki_arena_is_live(a) || !a->is_private) return EINVAL;
  return haki_arena_may_use(a) ? 0 : EPERM;
}

static void set_image(struct hak_arena *a, struct haki_image *image) {
  a->image = image;
  haki_cell_set(&a->image_bytes, image != NULL ? haki_image_bytes(image) : 0);
}

void haki_arena_forget_image(struct hak_arena *a) {
  if (a->image == NULL) return;
  haki_image_free(a->image);
  set_image(a, NULL);
}

int haki_api_arena_snapshot(hak_arena *a) {
  int error = check(a);
  if (error != 0) return error;
  haki_limits_bound(a); /* a Lua state has its own settings in the image, not those of the limit */
  struct haki_image *image = haki_image_take(HEAPS(a), &a->large);
  if (image == NULL) return ENOMEM;
  haki_arena_forget_image(a); /* the earlier one: all that it has marked is marked again */
  set_image(a, image);
  return 0;
}

int haki_api_arena_restore(hak_arena *a) {
  int error = check(a);
  if (error != 0) return error;
  if (a->image == NULL) return EINVAL;
  haki_limits_bound(a); /* while the state is what it knows */
  haki_image_restore(a->image, HEAPS(a), &a->large, a->retain);
  haki_limits_bound(a); /* and its marks are those of the charge now */
  haki_cell_add(&a->restores, 1);
  return 0;
}

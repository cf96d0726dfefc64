/* image.h - what a private arena holds at one moment, to bring back.
 *
 * Why:   a Lua state that is copied back is ready in a third of the time that it takes to make one.
 * Owns:  the copies, in metadata memory: of the bytes, and of what descriptors say about them.
 * Not:   when an image may be taken, and what it means for who lives in the arena.
 * Locks: NURSERY, META and CHUNK inside each call; the caller owns the arena.
 * Start: haki_image_take(), haki_image_restore().
 *
 * Everything comes back at the address where it was. So what is in the image stays the arena's until
 * that is reset: its slabs are not retired when they are empty, its large blocks are not given back
 * when they are freed (HAK_PAGE_IMAGE), and pieces of the nursery are not given back anyway. */
#ifndef HAK_IMAGE_H
#define HAK_IMAGE_H

#include "pool/large.h"
#include "pool/nursery.h"
#include "pool/small.h"

struct haki_image;

/* `heaps`: at most two; NULL where there is none. NULL: no memory; nothing has changed. */
struct haki_image *haki_image_take(struct haki_heap *const heaps[2], struct haki_large *large);
/* The heaps are those of take(), or new where it had none. Slabs that came since are retained up to
 * `most` bytes. cost: the bytes of the image, and the slabs and large blocks that came since. */
void haki_image_restore(struct haki_image *image, struct haki_heap *const heaps[2],
                        struct haki_large *large, size_t most);
/* The copy; marks stay until their blocks are dropped, or the next image takes them over. */
void haki_image_free(struct haki_image *image);
size_t haki_image_bytes(const struct haki_image *image); /* that it takes */

#endif

/* bucket.h - what chunk.c and purge.c share.
 * Owns:  nothing.   Locks: CHUNK for all of it.   Start: haki_buckets. */
#ifndef HAK_BUCKET_H
#define HAK_BUCKET_H

#include "map/page.h"

enum { HAK_BUCKETS = 8 }; /* 0: no page free, 7: all 64 */

extern hak_list haki_buckets[HAK_BUCKETS];
extern _Atomic(uint64_t) haki_moved_chunks; /* relaxed; see haki_chunks_moved() */
void haki_chunk_rebucket(struct chunk *c);
/* Lines a chunk up for purging, once. */
void haki_chunk_queue(struct chunk *c, uint64_t now);
/* Chunks that hold nothing any more go back to their region. */
void haki_chunks_release(struct haki_region *r, struct chunk *c, size_t n);

#endif

/* chunk.h - runs of pages and of chunks.
 * Why:   everything above takes memory here and gives it back here, so that one place knows what
 *        is free, what is dirty and when it is purged.
 * Owns:  chunks, free pages, purging.   Not: charges (the caller has reserved them), regions.
 * Locks: CHUNK (and PURGE while memory is purged) inside each call; callers hold none that is ranked above.
 * Start: haki_pages_take(). */
#ifndef HAK_CHUNK_H
#define HAK_CHUNK_H

#include "map/page.h"

enum {
#if HAK_AUDIT_BUILD
  HAK_RUN_PAGES_MAX = 4, /* without a pool; small, so that tests meet huge blocks early */
#else
  HAK_RUN_PAGES_MAX = 8, /* from 512 KiB on growing by moving page tables beats copying */
#endif
};

/* n contiguous pages inside one chunk, the first aligned to `align` pages (power of two). Their
 * kind is FREE, `touched` says which units may hold old data. NULL: no memory.
 * pre: 1 <= n <= HAK_CHUNK_PAGES. */
struct page *haki_pages_take(size_t n, size_t align);
/* Gives pages back. pre: kind is FREE already and `touched` is right on each page. */
void haki_pages_give(struct page *first, size_t n);
/* Takes the `more` pages behind a run of n; false: not free. */
bool haki_pages_extend(struct page *first, size_t n, size_t more);

/* n contiguous whole chunks; `touched` of each chunk's first page says how many units of it may hold
 * old data. The chunks become HUGE and BODY. */
struct page *haki_chunks_take(size_t n, size_t align);
/* Gives whole chunks back; the first `bytes` of them may hold data, and what `touched` says. */
void haki_chunks_give(struct page *first, size_t n, size_t bytes);
/* Of a huge block the chunks behind the first n become one of their own. */
void haki_chunks_split(struct page *first, size_t n);
bool haki_chunks_extend(struct page *first, size_t n, size_t more);
/* The memory of n chunks, the first `bytes` of them and what `touched` says, moves to `to`, by page
 * tables; both are the caller's. `from` reads as zero then. False: the kernel cannot; nothing has
 * moved. */
bool haki_chunks_move(struct page *from, struct page *to, size_t n, size_t bytes);
/* Chunks that are mappings of their own: the kernel limits the number of those. */
size_t haki_chunks_moved(void);
/* The chunk-aligned first page of the huge block that covers p; NULL: none does. */
struct page *haki_chunks_head(const void *p);

/* Purges free memory older than purge.decay (`all`: any age). Returns the bytes purged.
 * pre: no lock held. */
size_t haki_purge(bool all);
/* haki_purge() of some 64 MiB when its time has come; cheap otherwise. Returns the bytes purged. */
size_t haki_purge_tick(void);
bool haki_purge_pending(void); /* memory waits for its time */

extern struct haki_lock haki_chunk_lock, haki_purge_lock;

#endif

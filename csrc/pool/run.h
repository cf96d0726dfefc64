/* run.h - bump allocation of large blocks from a long run of pages.
 * Why:   a thread that grows takes a run of pages from the chunks once, and cuts blocks from it
 *        without their lock.
 * Owns:  the pages that are not cut yet.   Not: the blocks.
 * Locks: none; one thread. CHUNK while a run is taken or given back.
 * Start: haki_run_cut(). */
#ifndef HAK_RUN_H
#define HAK_RUN_H

#include "map/page.h"

enum {
#if HAK_AUDIT_BUILD
  HAK_RUN_LENGTH = 20,
#else
  HAK_RUN_LENGTH = 32, /* pages: 2 MiB */
#endif
};

struct haki_run {
  struct page *next; /* first page not cut yet */
  size_t left;       /* pages */
};

/* A run of n pages, kind FREE, `touched` of the first speaking for all; NULL: no memory. */
struct page *haki_run_cut(struct haki_run *r, size_t n);
/* Gives back what is not cut. */
void haki_run_close(struct haki_run *r);

/* A run's first page speaks for all of it while it is in use; in the chunks each page for itself. */
void haki_run_gather_touched(struct page *first, size_t n);
void haki_run_spread_touched(struct page *first, size_t n);

#endif

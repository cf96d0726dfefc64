/* traces.h - what the driver of the traces shares with those who draw them and with the growth run.
 * Why:   a trace is data: the same requests for every allocator and in every run.
 * Owns:  struct request, struct trace.   Locks: none.
 * Start: struct trace. */
#ifndef HAK_BENCH_TRACES_H
#define HAK_BENCH_TRACES_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/bench.h"

/* Free what is in the slot, if anything; allocate into it. */
struct request {
  uint32_t size, site, slot;
};

/* Requests and slots are in all, the threads share them out. */
struct trace {
  const char *name, *help;
  uint64_t requests;
  uint64_t live;     /* 0: all are allocated, then all freed, round by round */
  uint64_t rounds;   /* counted; another one comes first */
  uint64_t pause_ns; /* before each */
  void (*draw)(struct request *all, size_t count, size_t slots, uint64_t *random);
};

extern const struct trace traces[]; /* up to one without a name */

/* Draws the same every time: `thread` chooses the stream. */
void traces_draw(const struct trace *t, size_t thread, size_t slots, struct request *all,
                 size_t count);

/* Threads that insert `blocks` blocks of as many sites; see traces_growth.c. */
void traces_growth(size_t blocks, size_t threads);

#endif

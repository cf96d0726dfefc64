/* blocks_crew.c - patterns in which threads free what others allocated.
 * Why:   hand-over is where allocators take locks, bounce cache lines and hoard memory.
 * Owns:  the queues between workers, the depot of batches, the exchange.
 * Not:   time and threads (blocks.c), but the short-lived ones of `threads`.
 * Locks: depot->mu.
 * Start: blocks_crew[]. */
#define _GNU_SOURCE
#include <sched.h>

#include "base/port.h"
#include "bench/blocks.h"

/* Whoever has to wait lets the others go on: there may be more threads than processors. */
static void idle(unsigned *turns) {
  if (++*turns % 64 == 0) {
    sched_yield();
  } else {
    haki_pause();
  }
}

/* ---- queues: one thread puts, one takes ------------------------------------------------------ */

enum { QUEUE = 64 };

struct queue {
  _Alignas(64) atomic_size_t taken; /* release: pairs with put() */
  size_t put_seen;                  /* of the taker */
  _Alignas(64) atomic_size_t put;   /* release: pairs with take() */
  size_t taken_seen;                /* of the putter */
  _Alignas(64) struct block item[QUEUE];
};

static bool put(struct queue *q, struct block b) {
  size_t at = atomic_load_explicit(&q->put, memory_order_relaxed);
  if (at - q->taken_seen == QUEUE) {
    q->taken_seen = atomic_load_explicit(&q->taken, memory_order_acquire);
    if (at - q->taken_seen == QUEUE) return false;
  }
  q->item[at % QUEUE] = b;
  atomic_store_explicit(&q->put, at + 1, memory_order_release);
  return true;
}

static bool take(struct queue *q, struct block *b) {
  size_t at = atomic_load_explicit(&q->taken, memory_order_relaxed);
  if (at == q->put_seen) {
    q->put_seen = atomic_load_explicit(&q->put, memory_order_acquire);
    if (at == q->put_seen) return false;
  }
  *b = q->item[at % QUEUE];
  atomic_store_explicit(&q->taken, at + 1, memory_order_release);
  return true;
}

static void queues_prepare(struct worker *all, const struct blocks_settings *s) {
  struct queue *queues = bench_map(s->threads * sizeof *queues);
  for (size_t i = 0; i < s->threads; i++) all[i].shared = queues;
}

static void queues_end(struct worker *all) {
  struct queue *queues = all->shared;
  struct block b;
  for (size_t i = 0; i < blocks_given.threads; i++) {
    while (take(&queues[i], &b)) block_drop(b);
  }
}

static void produce(struct worker *w, struct queue *q) {
  unsigned turns = 0;
  while (!blocks_stopped(w)) {
    struct block b = block_make(&w->maker);
    while (!put(q, b)) {
      if (blocks_stopped(w)) {
        block_drop(b);
        return;
      }
      idle(&turns);
    }
  }
}

static void consume(struct worker *w, struct queue *q) {
  unsigned turns = 0;
  struct block b;
  while (!blocks_stopped(w)) {
    if (take(q, &b)) {
      block_drop(b);
      blocks_count(w, 1);
    } else {
      idle(&turns);
    }
  }
}

/* Pairs of threads: one allocates, the other frees. */
static void producer_consumer(struct worker *w) {
  struct queue *q = (struct queue *)w->shared + w->number / 2;
  if (w->number % 2 == 0) {
    produce(w, q);
  } else {
    consume(w, q);
  }
}

static bool free_one(struct worker *w, struct queue *own) {
  struct block b;
  if (!take(own, &b)) return false;
  block_drop(b);
  blocks_count(w, 1);
  return true;
}

/* Each thread allocates for the next one and frees what the one before allocated. */
static void ring(struct worker *w) {
  struct queue *queues = w->shared;
  struct queue *own = &queues[w->number];
  struct queue *next = &queues[(w->number + 1) % blocks_given.threads];
  unsigned turns = 0;
  while (!blocks_stopped(w)) {
    struct block b = block_make(&w->maker);
    while (!put(next, b)) {
      if (free_one(w, own)) continue;
      if (blocks_stopped(w)) {
        block_drop(b);
        return;
      }
      idle(&turns);
    }
    free_one(w, own);
  }
}

/* ---- a depot of batches: many threads put, many take ------------------------------------------ */

enum { BATCH = 1024, BATCHES_PER_THREAD = 4 };

struct batch {
  struct batch *next;
  size_t count;
  struct block b[BATCH];
};

struct depot {
  pthread_mutex_t mu;
  pthread_cond_t cv;
  struct batch *full, *empty;
};

static void depot_prepare(struct worker *all, const struct blocks_settings *s) {
  struct depot *depot = bench_map(sizeof *depot);
  size_t count = s->threads * BATCHES_PER_THREAD;
  struct batch *batches = bench_map(count * sizeof *batches);
  pthread_mutex_init(&depot->mu, NULL);
  pthread_cond_init(&depot->cv, NULL);
  for (size_t i = 0; i < count; i++) {
    batches[i].next = depot->empty;
    depot->empty = &batches[i];
  }
  for (size_t i = 0; i < s->threads; i++) all[i].shared = depot;
}

static void depot_end(struct worker *all) {
  struct depot *depot = all->shared;
  for (struct batch *batch = depot->full; batch != NULL; batch = batch->next) {
    for (size_t i = 0; i < batch->count; i++) block_drop(batch->b[i]);
  }
}

/* From one of the depot's lists; NULL when it is time to stop. */
static struct batch *depot_take(struct worker *w, struct depot *depot, struct batch **list) {
  struct batch *batch;
  pthread_mutex_lock(&depot->mu);
  while ((batch = *list) == NULL && !blocks_stopped(w)) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 1000000; /* nobody signals when time is up */
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    pthread_cond_timedwait(&depot->cv, &depot->mu, &t);
  }
  if (batch != NULL) *list = batch->next;
  pthread_mutex_unlock(&depot->mu);
  return batch;
}

static void depot_put(struct depot *depot, struct batch **list, struct batch *batch) {
  pthread_mutex_lock(&depot->mu);
  batch->next = *list;
  *list = batch;
  pthread_cond_broadcast(&depot->cv);
  pthread_mutex_unlock(&depot->mu);
}

/* Half of the threads only allocate, the others only free what anyone allocated. */
static void asymmetric(struct worker *w) {
  struct depot *depot = w->shared;
  struct batch *batch;
  while (!blocks_stopped(w)) {
    if (w->number % 2 == 0) {
      if ((batch = depot_take(w, depot, &depot->empty)) == NULL) return;
      for (batch->count = 0; batch->count < BATCH && !blocks_stopped(w); batch->count++) {
        batch->b[batch->count] = block_make(&w->maker);
      }
      depot_put(depot, &depot->full, batch);
    } else {
      if ((batch = depot_take(w, depot, &depot->full)) == NULL) return;
      for (size_t i = 0; i < batch->count; i++) block_drop(batch->b[i]);
      blocks_count(w, batch->count);
      depot_put(depot, &depot->empty, batch);
    }
  }
}

/* ---- mixed: own slots, and an exchange with everybody ----------------------------------------- */

enum { EXCHANGE = 1024, LARGE_EVERY = 32 };

/* What travels alone carries its proof: the tag and its complement. */
static struct block mixed_make(struct worker *w) {
  struct maker *m = &w->maker;
  size_t size = m->sizes[m->next++ % BENCH_SIZES];
  if (m->next % LARGE_EVERY == 0) size *= LARGE_EVERY;
  struct block b = {bench_malloc(size), ++m->tag};
  if (b.p == NULL) bench_die("out of memory");
  uint64_t proof[2] = {b.tag, ~b.tag};
  memcpy(b.p, proof, sizeof proof);
  return b;
}

static struct block mixed_received(char *p) {
  uint64_t proof[2];
  memcpy(proof, p, sizeof proof);
  if (proof[0] != ~proof[1]) bench_die("a block's payload has changed");
  return (struct block){p, proof[0]};
}

static void mixed_prepare(struct worker *all, const struct blocks_settings *s) {
  if (s->smallest < 2 * sizeof(uint64_t)) bench_die("mixed wants blocks of 16 bytes and more");
  _Atomic(char *) *exchange = bench_map(EXCHANGE * sizeof *exchange);
  for (size_t i = 0; i < s->threads; i++) all[i].shared = exchange;
}

static void mixed_fill(struct worker *w) {
  for (size_t i = 0; i < blocks_given.live; i++) w->slot[i] = mixed_make(w);
}

static void mixed(struct worker *w) {
  _Atomic(char *) *exchange = w->shared;
  while (!blocks_stopped(w)) {
    struct block *at = &w->slot[bench_below(&w->random, blocks_given.live)];
    if (w->random % 8 == 0) {
      _Atomic(char *) *place = &exchange[bench_below(&w->random, EXCHANGE)];
      char *p = atomic_exchange_explicit(place, at->p, memory_order_acq_rel);
      *at = p != NULL ? mixed_received(p) : mixed_make(w);
    }
    block_drop(*at);
    *at = mixed_make(w);
    blocks_count(w, 1);
  }
}

static void mixed_end(struct worker *all) {
  _Atomic(char *) *exchange = all->shared;
  for (size_t i = 0; i < EXCHANGE; i++) {
    char *p = atomic_load_explicit(&exchange[i], memory_order_relaxed);
    if (p != NULL) block_drop(mixed_received(p));
  }
}

/* ---- threads that come and go ----------------------------------------------------------------- */

/* Frees what its predecessor left and leaves as much. */
static void *short_life(void *ud) {
  struct worker *w = ud;
  for (size_t i = 0; i < blocks_given.live; i++) block_drop(w->slot[i]);
  blocks_fill(w);
  return NULL;
}

static void threads(struct worker *w) {
  while (!blocks_stopped(w)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, short_life, w) != 0) bench_die("cannot start a thread");
    pthread_join(thread, NULL);
    blocks_count(w, blocks_given.live);
  }
}

const struct pattern blocks_crew[] = {
    {"prodcons", "pairs of threads: one allocates, one frees", true, queues_prepare, NULL,
     producer_consumer, queues_end},
    {"ring", "each thread frees what the one before allocated", true, queues_prepare, NULL, ring,
     queues_end},
    {"asymmetric", "half of the threads allocate, the others free", true, depot_prepare, NULL,
     asymmetric, depot_end},
    {"mixed", "LIVE blocks a thread, some exchanged, some 32 times as large", true, mixed_prepare,
     mixed_fill, mixed, mixed_end},
    {"threads", "threads that free LIVE blocks, allocate as many, and exit", true, NULL,
     blocks_fill, threads, NULL},
    {NULL, NULL, false, NULL, NULL, NULL, NULL},
};

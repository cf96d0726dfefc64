/* purge.pml - chunks are purged while others take and give their pages.
 *
 * Why:   madvise runs without CHUNK held; what keeps pages and chunks out of others' hands
 *        meanwhile is that they look taken.
 * Of:    csrc/map/purge.c, and of chunk.c what takes and gives: haki_pages_take(), haki_pages_give(),
 *        new_pages_chunk(), haki_chunks_take(), haki_chunks_give().
 * Not:   chunks whose mapping was moved, runs of several pages or chunks, times: any chunk may or may
 *        not have waited long enough.
 *
 * Two chunks of two pages. Two threads take and give pages and huge blocks of one chunk, a third
 * purges: PURGE lets no second one in. What runs under CHUNK is one step, kind is read without. */

#define CHUNKS 2
#define PAGES 2
#define ALL 3
#define NOT 9
#define at(c, i) ((c) * PAGES + (i))

mtype = { NONE, SPLIT, HUGE, BODY, SPARE }

typedef chunk {
  mtype kind;
  byte free, dirty; /* a bit per page */
  byte spare;       /* pages from the start that hold memory */
  bool queued, lazy;
  byte next_dirty
};

chunk ch[CHUNKS];
byte touched[CHUNKS * PAGES]; /* HUGE: that of the first page speaks for the chunk */
byte oldest = NOT, newest = NOT;

/* What no code knows. */
bool data[CHUNKS * PAGES];    /* may hold something else than zeros */
bool taken[CHUNKS * PAGES];   /* by a user */
bool purging[CHUNKS * PAGES]; /* madvise runs */
byte entries[CHUNKS];         /* in the queue */
byte hand = NOT;              /* the chunk that the purger has taken off it */

inline queue(c) {
  if
#ifdef BUG_TWICE
  :: ch[c].queued && oldest == NOT
  :: else ->
#else
  :: ch[c].queued
  :: else ->
#endif
     ch[c].queued = true;
     ch[c].next_dirty = NOT;
     if
     :: oldest == NOT -> oldest = c
     :: else -> ch[newest].next_dirty = c
     fi;
     newest = c;
     entries[c]++;
     assert(entries[c] == 1)
  fi
}

inline pop(c) {
  c = oldest;
  oldest = ch[c].next_dirty;
  if
  :: oldest == NOT -> newest = NOT
  :: else
  fi;
  ch[c].queued = false;
  ch[c].next_dirty = NOT;
  entries[c]--
}

/* INV chunk-1 and chunk-3, whenever CHUNK is let go. */
#define listed(c) (ch[c].queued || hand == (c))
#define ok(c) ((ch[c].dirty & ~ch[c].free) == 0 && \
  (ch[c].kind != SPLIT || ch[c].dirty == 0 || listed(c)) && \
  (ch[c].kind != SPARE || listed(c)))
inline unlock() { assert(ok(0) && ok(1)) }

inline hand_out(c, i) {
  assert(!purging[at(c, i)] && !taken[at(c, i)]);
  taken[at(c, i)] = true
}

/* haki_pages_take(1, 1): any free page, else one of a new chunk. */
inline take_page(c, i) {
  atomic {
    if
    :: ch[0].kind == SPLIT && (ch[0].free & 1) != 0 -> c = 0; i = 0
    :: ch[0].kind == SPLIT && (ch[0].free & 2) != 0 -> c = 0; i = 1
    :: ch[1].kind == SPLIT && (ch[1].free & 1) != 0 -> c = 1; i = 0
    :: ch[1].kind == SPLIT && (ch[1].free & 2) != 0 -> c = 1; i = 1
    :: else ->
       i = 0;
       if
       :: ch[0].kind == NONE || ch[0].kind == SPARE -> c = 0
       :: ch[1].kind == NONE || ch[1].kind == SPARE -> c = 1
       :: else -> c = NOT
       fi;
       if
       :: c == NOT
       :: else -> /* new_pages_chunk() */
          ch[c].kind = SPLIT;
          ch[c].free = ALL;
          ch[c].dirty = 0;
          if
          :: ch[c].spare > 0 -> touched[at(c, 0)] = 1; ch[c].dirty = 1
          :: else
          fi;
          if
          :: ch[c].spare > 1 -> touched[at(c, 1)] = 1; ch[c].dirty = 3
          :: else
          fi;
          ch[c].spare = 0;
          if
#ifndef BUG_UNQUEUED
          :: ch[c].dirty != 0 -> queue(c)
#endif
          :: else
          fi
       fi
    fi;
    if
    :: c == NOT
    :: else ->
       ch[c].free = ch[c].free & ~(1 << i);
       ch[c].dirty = ch[c].dirty & ~(1 << i);
       hand_out(c, i);
       assert(!data[at(c, i)] || touched[at(c, i)] != 0) /* else calloc would not clear it */
    fi;
    unlock()
  }
}

inline give_page(c, i) {
  atomic {
    taken[at(c, i)] = false;
    assert((ch[c].free & (1 << i)) == 0);
    ch[c].free = ch[c].free | (1 << i);
    if
    :: touched[at(c, i)] != 0 -> ch[c].dirty = ch[c].dirty | (1 << i)
    :: else
    fi;
    if
    :: touched[at(c, i)] != 0 || ch[c].free == ALL -> queue(c)
    :: else
    fi;
    unlock()
  }
}

/* haki_chunks_take(1, 1): the lowest chunk in no use. */
inline take_huge(c) {
  atomic {
    if
    :: ch[0].kind == NONE || ch[0].kind == SPARE -> c = 0
    :: else ->
       if
       :: ch[1].kind == NONE || ch[1].kind == SPARE -> c = 1
       :: else -> c = NOT
       fi
    fi;
    if
    :: c == NOT
    :: else ->
       ch[c].kind = HUGE;
       if
       :: ch[c].spare != 0 -> touched[at(c, 0)] = ch[c].spare; ch[c].spare = 0
       :: else
       fi;
       hand_out(c, 0);
       hand_out(c, 1);
       assert(!data[at(c, 0)] || touched[at(c, 0)] > 0);
       assert(!data[at(c, 1)] || touched[at(c, 0)] > 1)
    fi;
    unlock()
  }
}

inline give_huge(c, n) {
  atomic {
    taken[at(c, 0)] = false;
    taken[at(c, 1)] = false;
    ch[c].spare = (n > touched[at(c, 0)] -> n : touched[at(c, 0)]);
    touched[at(c, 0)] = 0;
    if
    :: ch[c].spare != 0 -> queue(c); ch[c].kind = SPARE
    :: else -> ch[c].kind = NONE
    fi;
    unlock()
  }
}

proctype user() {
  byte c, i;
  bool huge;
end:
  do
  :: atomic {
       if
       :: true -> take_page(c, i); huge = false
       :: true -> take_huge(c); huge = true
       fi
     }
     atomic { /* writes or not; the page is the user's alone */
       if
       :: c == NOT
       :: c != NOT && !huge ->
          if
          :: true
          :: data[at(c, i)] = true; touched[at(c, i)] = 1
          fi;
          give_page(c, i)
       :: c != NOT && huge ->
          if
          :: i = 0
          :: data[at(c, 0)] = true; i = 1
          :: data[at(c, 0)] = true; data[at(c, 1)] = true; i = 2
          fi;
          give_huge(c, i)
       fi;
       c = 0;
       i = 0;
       huge = false
     }
  od
}

/* madvise of the page at x: it begins, and ends with success or not. */
inline advise_begin(x) { assert(!taken[x]); purging[x] = true }
inline advise_end(x, lazily, zeroed, failed) {
  assert(!taken[x]);
  purging[x] = false;
  if
  :: zeroed = false; failed = true
  :: lazily -> zeroed = false; failed = false /* the kernel takes it when it likes */
  :: zeroed = true; failed = false; data[x] = false
  fi
}

inline purge_split(c, lazily, map, bad, i, zeroed, failed) {
  atomic {
    map = 0;
    if
    :: ch[c].kind != SPLIT
#ifdef BUG_LAZY
    :: ch[c].kind == SPLIT -> map = ch[c].dirty
#else
    :: ch[c].kind == SPLIT -> map = (ch[c].lazy && !lazily -> ch[c].free : ch[c].dirty)
#endif
    fi;
    if
    :: map != 0 ->
#ifndef BUG_STILL_FREE
       ch[c].free = ch[c].free & ~map;
#endif
       ch[c].dirty = 0
    :: else
    fi;
    hand = NOT;
    unlock()
  }
  do
  :: map >> i == 0 -> break
  :: else ->
     atomic {
       do
       :: (map & (1 << i)) != 0 -> break
       :: else -> i++
       od;
       advise_begin(at(c, i))
     }
     atomic {
       advise_end(at(c, i), lazily, zeroed, failed);
       if
       :: failed -> bad = bad | (1 << i)
       :: zeroed -> touched[at(c, i)] = 0
       :: else
       fi;
       i++;
       zeroed = false;
       failed = false
     }
  od;
  atomic {
    if
    :: map != 0 ->
       ch[c].free = ch[c].free | map;
       ch[c].dirty = ch[c].dirty | bad;
       ch[c].lazy = lazily;
       if
       :: bad != 0 -> queue(c)
       :: else
       fi
    :: else
    fi;
    if
    :: ch[c].kind == SPLIT && ch[c].free == ALL && ch[c].dirty == 0 && !lazily ->
       ch[c].kind = (ch[c].spare != 0 -> SPARE : NONE)
    :: else
    fi;
    unlock()
  }
}

inline purge_spare(c, n, zeroed) {
  atomic {
    n = 0;
    if
    :: ch[c].kind == SPARE ->
       n = ch[c].spare;
#ifndef BUG_STILL_SPARE
       ch[c].kind = BODY
#endif
    :: else
    fi;
#ifdef BUG_STILL_SPARE
    if
    :: n == 0 -> hand = NOT
    :: else
    fi;
#else
    hand = NOT;
#endif
    unlock()
  }
  if
  :: n == 0
  :: n != 0 ->
     atomic {
       assert(!taken[at(c, 0)] && !taken[at(c, 1)]);
       purging[at(c, 0)] = true;
       purging[at(c, 1)] = (n > 1)
     }
     atomic {
       assert(!taken[at(c, 0)] && !taken[at(c, 1)]);
       purging[at(c, 0)] = false;
       purging[at(c, 1)] = false;
       if
       :: zeroed = false
       :: zeroed = true;
          data[at(c, 0)] = false;
          data[at(c, 1)] = (n > 1 -> false : data[at(c, 1)])
       fi
     }
     atomic {
       if
       :: zeroed -> ch[c].spare = 0; ch[c].kind = NONE
       :: else -> queue(c); ch[c].kind = SPARE
       fi;
       hand = NOT;
       unlock()
     }
  fi
}

proctype purger() {
  byte c, map, bad, i;
  bool split, lazily, zeroed, failed;
end:
  do
  :: atomic { /* dequeue(): a chunk renewed by another huge block lines up again behind */
       c = NOT;
       if
       :: oldest != NOT -> pop(c); hand = c
       :: oldest != NOT && ch[oldest].kind != SPLIT -> pop(c); queue(c); c = NOT
       fi;
       unlock()
     }
     if
     :: c == NOT
     :: c != NOT ->
        atomic {
          if
          :: ch[c].kind == SPLIT -> split = true
          :: else -> split = false
          fi;
          if
          :: split -> lazily = false
          :: split -> lazily = true
          :: !split /* never lazily */
          fi
        }
        if
        :: split -> purge_split(c, lazily, map, bad, i, zeroed, failed)
        :: else -> purge_spare(c, map, zeroed)
        fi
     fi;
     atomic {
       c = 0; map = 0; bad = 0; i = 0;
       split = false; lazily = false; zeroed = false; failed = false
     }
  od
}

init {
  atomic {
    ch[0].kind = NONE;
    ch[1].kind = NONE;
    ch[0].next_dirty = NOT;
    ch[1].next_dirty = NOT;
    run user();
    run user();
    run purger()
  }
}

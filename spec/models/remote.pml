/* remote.pml - frees by other threads while a slab is drained, moved and retired.
 *
 * Why:   the mark QUEUED is all that keeps a page out of two inbound stacks and alive while somebody
 *        is about to queue it; csrc/pool/small.c and slabs.c rest on it.
 * Of:    haki_page_push_remote(), take_remote(), haki_heap_drain(), empty_slab(), move_slab(),
 *        leave() and adopt() of csrc/heap/heap.c.
 * Not:   weak memory: steps interleave, and each sees what those before it wrote.
 *
 * Two heaps: 0 of a thread that exits, 1 of the thread that adopts. Two pages, with blocks 1 and 2,
 * and 3. Two freers free whatever is out, the heaps' owners hand one block out again meanwhile. */

#define QUEUED 1
#define NOBODY 2
#define PAGES 2
#define BLOCKS 3
#define page_of(b) (1 + (b) / 3)

mtype = { OUT, HELD, REMOTE, FREE } /* of a block; HELD: by the freer that is pushing it */

byte remote[PAGES + 1]; /* block * 2 | QUEUED */
byte next[BLOCKS + 1];
byte inbound[2];
byte inbound_next[PAGES + 1];
byte owner[PAGES + 1];
byte live[PAGES + 1];
byte again = 1; /* how often a free block is handed out once more */
bool left;      /* the first thread has exited: heap 0 is an orphan */
byte busy;      /* freers under way */

/* What no code knows, for the assertions. */
mtype state[BLOCKS + 1];
bool queued[PAGES + 1];  /* in a stack, or taken from it and not cleared yet */
bool retired[PAGES + 1];
bool dead[2];            /* the descriptor is in the pool, or serves others */

#define quiet (busy == 0 && state[1] != OUT && state[2] != OUT && state[3] != OUT)

/* CAS of a page onto the inbound stack of h. */
inline queue_page(p, h, top) {
  top = inbound[h];
  do
  :: inbound_next[p] = top;
     atomic {
       if
       :: inbound[h] == top ->
          assert(!dead[h]);        /* whoever has the descriptor now never asked for it */
          assert(!queued[p]);      /* in one stack at most */
          assert(!retired[p]);
          assert(owner[p] == h);   /* the owner that was read is the right one */
          inbound[h] = p;
          queued[p] = true;
          break
       :: else -> top = inbound[h]
       fi
     }
  od
}

proctype freer() {
  byte b, p, was, own, top;
end:
  do
  :: atomic {
       if
       :: state[1] == OUT -> b = 1
       :: state[2] == OUT -> b = 2
       :: state[3] == OUT -> b = 3
       fi;
       state[b] = HELD;
       busy++;
       p = page_of(b)
     }
#ifdef BUG_OWNER_EARLY
     own = owner[p];
#endif
     was = remote[p];
     do
     :: next[b] = was / 2;
        atomic {
          if
          :: remote[p] == was ->
             assert(!retired[p]);
             remote[p] = b * 2 | QUEUED;
             state[b] = REMOTE;
             break
          :: else -> was = remote[p]
          fi
        }
     od;
     if
     :: (was & QUEUED) != 0
     :: else ->
#ifndef BUG_OWNER_EARLY
        own = owner[p];
#endif
        queue_page(p, own, top)
     fi;
     atomic { b = 0; p = 0; was = 0; own = 0; top = 0; busy-- }
  od
}

/* Reads and writes what nobody else may touch now: one step, and the assertions say so. */
inline absorb(h, p, b) {
  do
  :: b == 0 -> break
  :: else ->
     assert(owner[p] == h && !retired[p]);
     assert(state[b] == REMOTE); /* collected once */
     assert(page_of(b) == p);
     state[b] = FREE;
     live[p]--;
     b = next[b]
  od
}

/* Kept or retired, when it may be. Live blocks are counted by the owner alone. */
inline empty_slab(h, p) {
  if
  :: live[p] != 0
#ifdef BUG_RETIRE_QUEUED
  :: live[p] == 0 ->
#else
  :: live[p] == 0 && remote[p] != 0
  :: live[p] == 0 && remote[p] == 0 ->
#endif
     if
     :: true
     :: assert(owner[p] == h && !queued[p]);
        retired[p] = true;
        owner[p] = NOBODY
     fi
  fi
}

inline drain(h, p, b, after) {
  if
  :: inbound[h] == 0
  :: inbound[h] != 0 ->
     atomic { p = inbound[h]; inbound[h] = 0 }
     do
     :: p == 0 -> break
     :: else ->
#ifndef BUG_NEXT_LATE
        after = inbound_next[p];
#endif
        assert(owner[p] == h && !retired[p]);
        atomic { b = remote[p] / 2; remote[p] = 0; queued[p] = false; absorb(h, p, b) }
#ifdef BUG_NEXT_LATE
        after = inbound_next[p];
#endif
        empty_slab(h, p);
        atomic { p = after; after = 0 }
     od
  fi;
  atomic { p = 0; b = 0; after = 0 }
}

/* A refill from a listed page, what it took flushed again; one block may stay out. */
inline refill(h, p, b) {
  atomic {
    if
    :: owner[1] == h -> p = 1
    :: owner[2] == h -> p = 2
    :: else -> p = 0
    fi
  }
  if
  :: p == 0
  :: p != 0 ->
     if
     :: remote[p] / 2 == 0
     :: remote[p] / 2 != 0 ->
        atomic {
          b = remote[p] / 2;
#ifdef BUG_CLEAR_MARK
          remote[p] = 0;
#else
          remote[p] = QUEUED;
#endif
          absorb(h, p, b)
        }
     fi;
     atomic {
       if
       :: again > 0 && p == 1 && state[1] == FREE -> b = 1
       :: again > 0 && p == 1 && state[2] == FREE -> b = 2
       :: again > 0 && p == 2 && state[3] == FREE -> b = 3
       :: true -> b = 0
       fi;
       if
       :: b != 0 -> again--; state[b] = OUT; live[p]++
       :: else
       fi
     }
     empty_slab(h, p)
  fi;
  atomic { p = 0; b = 0 }
}

inline move_slab(p, top, moved) {
#ifdef BUG_MOVE_UNMARKED
  if
  :: remote[p] != 0
  :: remote[p] == 0 -> owner[p] = 1; moved = true
  fi
#else
  atomic {
    if
    :: remote[p] == 0 -> remote[p] = QUEUED; moved = true
    :: else -> skip
    fi
  }
  if
  :: remote[p] != 0 && moved ->
     owner[p] = 1;
     queue_page(p, 1, top)
  :: else
  fi
#endif
}

inline adopt(p, b, after, any) {
  drain(0, p, b, after);
  p = 1;
  do
  :: p > PAGES -> break
  :: else ->
     if
     :: owner[p] == 0 -> b = false; move_slab(p, after, b); any = any | b
     :: else
     fi;
     p++
  od;
  atomic { p = 0; b = 0; after = 0 }
  if
  :: any -> drain(1, p, b, after)
  :: else
  fi;
  atomic {
    any = false;
    if
    :: owner[1] != 0 && owner[2] != 0 -> dead[0] = true
    :: else
    fi
  }
}

/* The thread that exits. */
proctype first() {
  byte p, b, after;
  do
  :: drain(0, p, b, after)
  :: refill(0, p, b)
  :: break
  od;
  drain(0, p, b, after); /* leave() trims */
  p = 1;
  do
  :: p > PAGES -> break
  :: else ->
     if
     :: owner[p] == 0 -> empty_slab(0, p)
     :: else
     fi;
     p++
  od;
  left = true
}

/* The thread that adopts. */
proctype second() {
  byte p, b, after;
  bool any;
  do
  :: drain(1, p, b, after)
  :: refill(1, p, b)
  :: left && !dead[0] -> adopt(p, b, after, any)
  :: left && quiet -> break
  od;
  if
  :: dead[0]
  :: else -> adopt(p, b, after, any)
  fi;
  drain(1, p, b, after);
  assert(dead[0]); /* every page was moved or retired */
  assert(state[1] == FREE && state[2] == FREE && state[3] == FREE); /* none lost */
  assert(remote[1] == 0 && remote[2] == 0 && inbound[0] == 0 && inbound[1] == 0);
  assert(live[1] == 0 && live[2] == 0)
}

init {
  atomic {
    live[1] = 2;
    live[2] = 1;
    state[1] = OUT;
    state[2] = OUT;
    state[3] = OUT;
    run freer();
    run freer();
    run first();
    run second()
  }
}

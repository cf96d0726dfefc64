/* shard.pml - blocks freed by others: onto a cache's inbound stack while its thread leaves and the
 * next one joins, or onto a shard's remote stack, whose bit says that there is something.
 *
 * Why:   a block is found by its bit or not at all; nobody has a lock when it is pushed, and who sees
 *        a thread alive may push after it has gone.
 * Of:    haki_inbox_push(), haki_inbox_take(); haki_shards_put_remote(), haki_shards_put(),
 *        take_locked(), clear_nonempty_bit() of csrc/pool/shard.c; haki_l25_give(), haki_l25_leave(),
 *        drain_inbound(), empty_inboxes() of csrc/pool/l25.c.
 * Not:   weak memory: a fence is what forbids the order of BUG_NO_FENCE.
 *
 * One cache and one shard, of one class. Two freers; the cache's thread, which leaves, and the one that
 * joins after it; one that empties inbound stacks, of dead caches as ageing does or of all as a trim
 * does; one that takes from the shard by its bit, as threads steal and ageing sheds. */

#ifndef BLOCKS
#define BLOCKS 2
#endif
#define LIVES 2 /* threads that have the cache, one after the other */

mtype = { OUT, HELD, INBOX, CACHED, REMOTE, LIST, GONE } /* of a block; HELD: by whoever moves it */

byte next[BLOCKS + 1]; /* page->link: of whatever stack it is in */
byte inbox;            /* of the cache */
bool alive = true;
byte remote, count;    /* of the shard: freed without the lock, and how many at most */
byte list;             /* under the lock */
bool lock, nonempty;

byte again = 1; /* how often a free block is handed out once more */
byte busy;      /* freers and agers under way */
bool left;      /* nobody has the cache, for good */
bool closing;

/* What no code knows, for the assertions. */
mtype state[BLOCKS + 1];

#if BLOCKS == 2
#define none(s) (state[1] != s && state[2] != s)
#define pick(b, s) if :: state[1] == s -> b = 1 :: state[2] == s -> b = 2 fi
#else
#define none(s) (state[1] != s && state[2] != s && state[3] != s)
#define pick(b, s) if :: state[1] == s -> b = 1 :: state[2] == s -> b = 2 :: state[3] == s -> b = 3 fi
#endif

/* ---- stacks ---- */

inline push(head, b, top, into) {
  top = head;
  do
  :: next[b] = top;
     atomic {
       if
       :: head == top -> head = b; assert(state[b] == HELD); state[b] = into; break
       :: else -> top = head
       fi
     }
  od;
  top = 0
}

/* All of the inbound stack; b: the chain, in the hands of the taker. */
inline take_inbox(b, t, into) {
  if
  :: inbox == 0
  :: inbox != 0 ->
     atomic {
       b = inbox; /* 0: another was faster */
       inbox = 0;
       t = b;
       do
       :: t == 0 -> break
       :: else -> assert(state[t] == INBOX); state[t] = into; t = next[t]
       od
     }
  fi
}

/* One of it: what an exchange avoids. */
inline pop_inbox(b, t, into) {
  b = inbox;
  if
  :: b == 0
  :: else ->
     t = next[b];
     atomic {
       if
       :: inbox == b -> inbox = t; assert(state[b] == INBOX); state[b] = into
       :: else -> b = 0
       fi;
       t = 0
     }
  fi
}

/* ---- the shard ---- */

inline set_bit() {
  if
  :: nonempty
  :: else -> nonempty = true
  fi
}

inline put_remote(b, top, seen) {
#ifndef BUG_COUNT_AFTER
  count++;
#endif
#ifdef BUG_BIT_FIRST
  set_bit();
#endif
#ifdef BUG_NO_FENCE /* the look at the bit comes before the push */
  seen = nonempty;
#endif
  push(remote, b, top, REMOTE);
#ifdef BUG_COUNT_AFTER
  count++;
#endif
#ifdef BUG_NO_FENCE
  if
  :: seen -> seen = false
  :: else -> nonempty = true
  fi
#else
#ifndef BUG_BIT_FIRST
  set_bit()
#endif
#endif
}

/* pre: the lock is held. */
inline absorb(b, t, n) {
  if
  :: remote == 0
  :: remote != 0 ->
     atomic {
       b = remote;
       remote = 0;
       n = 0;
       do
       :: b == 0 -> break
       :: else ->
          assert(state[b] == REMOTE);
          state[b] = LIST;
          t = next[b];
          next[b] = list;
          list = b;
          b = t;
          n++
       od;
       t = 0
     }
     atomic { assert(count >= n); count = count - n; n = 0 }
  fi
}

/* pre: the lock is held, the list is empty. */
inline clear_bit() {
  if
  :: !nonempty
  :: nonempty ->
#ifdef BUG_LOOK_FIRST
     if
     :: remote != 0
     :: remote == 0 -> nonempty = false
     fi
#else
     nonempty = false;
#ifndef BUG_NO_LOOK
     if
     :: remote == 0
     :: remote != 0 -> set_bit()
     fi
#endif
#endif
  fi
}

/* One block, or all there are. */
inline take(b, t, n, into) {
  atomic { !lock -> lock = true }
  absorb(b, t, n);
  atomic {
    do
    :: list == 0 -> break
    :: list != 0 ->
       assert(state[list] == LIST);
       state[list] = into;
       list = next[list];
       if
       :: break
       :: true
       fi
    od
  }
  if
  :: list != 0
  :: list == 0 -> clear_bit()
  fi;
  lock = false
}

inline put(b) {
  atomic { !lock -> lock = true; assert(state[b] == HELD); next[b] = list; list = b; state[b] = LIST }
  set_bit();
  atomic { lock = false; b = 0 }
}

/* ---- threads ---- */

proctype freer() {
  byte b, top;
  bool seen;
end:
  do
  :: atomic { pick(b, OUT); state[b] = HELD; busy++ }
     if
     :: alive -> push(inbox, b, top, INBOX) /* perhaps not any more */
     :: !alive -> put_remote(b, top, seen)
     fi;
     atomic { b = 0; busy-- }
  od
}

inline drain(b, t) {
#ifndef BUG_POP
  take_inbox(b, t, CACHED);
#else
  pop_inbox(b, t, CACHED);
#endif
  b = 0
}

proctype owner() {
  byte b, t, n;
  byte lives = LIVES;
  do
  :: drain(b, t)
  :: take(b, t, n, CACHED)
  :: atomic { pick(b, CACHED); state[b] = HELD }
     put(b)
  :: atomic { again > 0 -> again--; if :: pick(b, CACHED) :: pick(b, GONE) fi; state[b] = OUT; b = 0 }
  :: drain(b, t); /* haki_l25_leave() */
     do
     :: atomic { pick(b, CACHED); state[b] = HELD }
        put(b)
     :: none(CACHED) -> break
     od;
     atomic { alive = false; lives-- }
     if
     :: lives == 0 -> break
     :: lives != 0 -> alive = true /* haki_l25_join() */
     fi
  od;
  left = true
}

inline empty_inbox(b, t, top, seen) {
#ifdef BUG_POP
  pop_inbox(b, t, HELD);
#else
  take_inbox(b, t, HELD);
#endif
  do
  :: b == 0 -> break
  :: else ->
#ifdef BUG_POP
     put_remote(b, top, seen);
     b = 0
#else
#ifdef BUG_NEXT_LATE
     put_remote(b, top, seen);
     b = next[b]
#else
     t = next[b];
     put_remote(b, top, seen);
     atomic { b = t; t = 0 }
#endif
#endif
  od
}

proctype ager() {
  byte b, t, top;
  bool seen;
end:
  do
  :: atomic { inbox != 0 && !closing -> busy++ }
     empty_inbox(b, t, top, seen);
     busy--
  od
}

proctype thief() {
  byte b, t, n, top;
  bool seen;
  do
  :: nonempty -> take(b, t, n, GONE)
  :: atomic { left && busy == 0 && none(OUT) -> closing = true; break }
  od;
  /* Whatever is anywhere is found by one more ageing, and then by the bit. */
  do
  :: inbox != 0 -> empty_inbox(b, t, top, seen)
  :: inbox == 0 -> break
  od;
  do
  :: nonempty -> take(b, t, n, GONE)
  :: !nonempty -> break
  od;
  assert(none(HELD) && none(INBOX) && none(CACHED) && none(REMOTE) && none(LIST));
  assert(inbox == 0 && remote == 0 && list == 0 && count == 0)
}

init {
  atomic {
    for (busy : 1 .. BLOCKS) { state[busy] = OUT }
    busy = 0;
    run freer();
    run freer();
    run owner();
    run ager();
    run thief()
  }
}

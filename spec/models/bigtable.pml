/* bigtable.pml - a hash table of cached blocks that doubles while others put in and take out.
 *
 * Why:   doubling publishes empty buckets and a count; the entries follow bucket by bucket. None may be
 *        out of reach meanwhile, and nobody may see a bucket that is not there.
 * Of:    double_buckets(), bucket(), split(), insert, take_site and take_oldest, lock_all in
 *        csrc/pool/bigtable.c.
 * Not:   weak memory; the order within chains and lists; classes and levels: one bit stands for both.
 *
 * FIRST buckets in STRIPES stripes, doubled twice. An entry is in one bucket or out: where[]. One
 * thread grows and may lack memory, another may grow too, two put in and take out, one locks
 * everything, as a fork does. What a stripe guards is changed in one step while its lock is held. */

#define FIRST 2
#define STRIPES 2
#define SEGMENTS 3
#define MAX 8
#define ENTRIES 3
#define OUT 255
#define NOBODY 255
#define segment_of(i) ((i) < 2 -> 0 : ((i) < 4 -> 1 : 2))
#define top_of(i) ((i) < 4 -> 2 : 4) /* highest bit of i >= FIRST */
#define stripe_of(h) ((h) % STRIPES)
/* Hashes of the entries: in one stripe, at the first doubling apart, at the second, and in another. */
#define hash_of(e) ((e) == 0 -> 6 : ((e) == 1 -> 2 : 5))

bool segment[SEGMENTS];
bool ready[MAX];     /* the bucket has been split from its parent; else NULL */
byte where[ENTRIES]; /* bucket */
byte owner[ENTRIES]; /* who holds an entry that is out */
bool some[STRIPES];   /* the stripe's lists are not empty */
byte lock[STRIPES];
byte entries;        /* raised before an entry is in, lowered after it is out */
byte count;
bool growing;
byte held;           /* segments allocated, for leaks */
byte grown;

inline look(i) { assert(segment[segment_of(i)]) }

inline move(from, to, mask) {
  e = 0;
  do
  :: e == ENTRIES -> break
  :: else ->
     if
     :: where[e] == from && hash_of(e) % (mask) == to -> where[e] = to
     :: else
     fi;
     e++
  od
}

/* bucket(): deep is what it was split from; in one step, for all that may look hold the lock. */
inline split(i) {
  look(i);
  if
  :: ready[i]
  :: !ready[i] ->
     ready[i] = true;
     deep = i - top_of(i);
     look(deep);
     assert(stripe_of(deep) == stripe_of(i)); /* this lock guards both */
#ifndef BUG_NOT_DEEP
     if
     :: ready[deep]
     :: !ready[deep] -> /* doubled twice since it was used: its own parent first */
        assert(deep >= FIRST);
        ready[deep] = true;
        move(deep - top_of(deep), deep, 2 * top_of(deep))
     fi;
#endif
     move(deep, i, 2 * top_of(i))
  fi
}

inline is_empty(s, any) {
  any = false;
  e = 0;
  do
  :: e == ENTRIES -> break
  :: else -> any = any || (where[e] != OUT && stripe_of(hash_of(e)) == s); e++
  od
}

proctype user() {
  byte x, b, n, s, e, deep;
  bool any, puts;
  byte rounds = 2;
  do
  :: rounds == 0 -> break
  :: else ->
     rounds--;
     atomic { /* what to do: put in an entry that is mine, or look for one */
       if
       :: x = 0
       :: x = 1
       :: x = 2
       fi;
       puts = owner[x] == _pid;
       s = stripe_of(hash_of(x))
     }
     if
     :: puts -> entries++
     :: !puts && some[s]
     :: !puts && !some[s] -> goto next /* nothing there, or it comes just now */
     fi;
#ifdef BUG_COUNT_BEFORE
     n = count;
#endif
     atomic { lock[s] == NOBODY -> lock[s] = _pid }
#ifndef BUG_COUNT_BEFORE
     n = count;
#endif
     b = hash_of(x) % n;
     atomic {
       split(b);
       if
       :: puts -> assert(where[x] == OUT); where[x] = b; owner[x] = NOBODY
#ifndef BUG_BIT_BEFORE
                  ; some[s] = true
#endif
       :: else ->
          assert(where[x] == OUT || where[x] == b); /* in reach */
          if
          :: where[x] == b ->
             assert(owner[x] == NOBODY);
             where[x] = OUT;
             owner[x] = _pid;
             entries--;
#ifndef BUG_BIT_LATE
             is_empty(s, any);
             some[s] = any
#else
             is_empty(s, any)
#endif
          :: else -> any = true
          fi
       fi
     }
     lock[s] = NOBODY;
#ifdef BUG_BIT_LATE
     if
     :: !puts && !any -> some[s] = false
     :: else
     fi;
#endif
next:
     atomic { x = 0; b = 0; n = 0; s = 0; e = 0; deep = 0; any = false; puts = false }
  od
}

proctype grower() {
  byte n, k;
  byte rounds = 2;
  do
  :: rounds == 0 -> break
  :: else ->
     rounds--;
#ifndef BUG_TWO_GROW
     if
     :: atomic { !growing -> growing = true }
     :: else -> goto next /* tried, not waited for */
     fi;
#endif
     n = count;
     if
     :: n == MAX
     :: n != MAX -> /* no memory: as before */
     :: n != MAX ->
        k = segment_of(n);
#ifdef BUG_COUNT_FIRST
        count = n * 2;
#endif
        atomic { assert(!segment[k]); segment[k] = true; held++ }
        atomic { assert(n == count || count == n * 2); count = n * 2; grown++ }
     fi;
#ifndef BUG_TWO_GROW
     growing = false;
#endif
next:
     atomic { n = 0; k = 0 }
  od
}

/* All at once: what the child of a fork gets, and what haki_bigtable_ok() says of it. */
proctype forker() {
  byte e, i, at, s;
  bool any;
#ifndef BUG_FORK_GROWS
  atomic { !growing -> growing = true }
#endif
  do
  :: s == STRIPES -> break
  :: else -> atomic { lock[s] == NOBODY -> lock[s] = _pid }; s++
  od;
  atomic {
    assert(held == (count == 8 -> 3 : (count == 4 -> 2 : 1)));
    do
    :: i == ENTRIES -> break
    :: else ->
       if
       :: where[i] == OUT
       :: else ->
          at = hash_of(i) % count;
          do
          :: at < FIRST || ready[at] -> break
          :: else -> at = at - top_of(at)
          od;
          assert(where[i] == at); /* INV big-1 */
          assert(some[stripe_of(hash_of(i))]) /* INV big-2 */
       fi;
       i++
    od;
    s = 0;
    do
    :: s == STRIPES -> break
    :: else -> is_empty(s, any); assert(some[s] == any); s++
    od
  }
  do
  :: s == 0 -> break
  :: else -> s--; lock[s] = NOBODY
  od;
  growing = false
}

init {
  byte i;
  atomic {
    segment[0] = true;
    ready[0] = true;
    ready[1] = true;
    held = 1;
    count = FIRST;
    lock[0] = NOBODY;
    lock[1] = NOBODY;
    where[0] = OUT;
    where[1] = OUT;
    where[2] = OUT;
    run user();
    run user();
    owner[0] = 1;
    owner[1] = 2;
    owner[2] = 2;
    run grower();
    run grower();
    run forker()
  }
  _nr_pr == 1 ->
  assert(count == FIRST << grown && held == grown + 1); /* none lost, none doubled */
  assert(segment[1] == (count > 2) && segment[2] == (count > 4));
  atomic {
    do
    :: i == ENTRIES -> break
    :: else ->
       assert((where[i] == OUT) == (owner[i] != NOBODY));
       assert(where[i] == OUT || some[stripe_of(hash_of(i))]); /* a look-up finds it */
       if
       :: where[i] != OUT -> entries--
       :: else
       fi;
       i++
    od
  }
  assert(entries == 0)
}

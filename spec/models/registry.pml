/* registry.pml - an append-only directory of shards that doubles while others read it.
 *
 * Why:   a reader takes the count and a shard without a lock; nothing it can reach may be half made,
 *        moved or freed, and of two threads that find the directory too small one makes it larger.
 * Of:    grow() and list_of() in csrc/pool/shard.c (SEGMENTS doublings, one segment each); the order of
 *        steps is that of add_region() in csrc/map/region.c, growth failing half-way included.
 * Not:   weak memory; the shards' contents.
 *
 * Segment 0 holds shard 0, segment k holds shards 2^(k-1) to 2^k - 1. Two threads grow, two read. */

#define MAX 4
#define SEGMENTS 3
#define segment_of(i) ((i) == 0 -> 0 : ((i) == 1 -> 1 : 2))
#define first_of(k) ((k) == 0 -> 0 : ((k) == 1 -> 1 : 2))

bool segment[SEGMENTS]; /* the directory: NULL or there */
bool ready[MAX];        /* the shard is initialised: its lock may be taken */
byte count;             /* published */
bool lock;

byte held;              /* segments allocated, for leaks */
byte grown;             /* growths that say they have happened */
byte wishes;            /* counts at which somebody found the directory too small, a bit each */

inline give_back(k, i, n) {
  do
  :: i == n -> break
  :: else -> i--; ready[i] = false
  od;
#ifndef BUG_HALF_WAY
  atomic { segment[k] = false; held-- }
#else
  held--
#endif
}

inline publish(n) {
  atomic {
    assert(count == n); /* nobody else has grown it: no growth is lost */
    count = n * 2;
    grown++
  }
}

proctype grower() {
  byte seen, n, k, i;
  byte rounds = 2;
  bool well;
  do
  :: rounds == 0 -> break
  :: else ->
     rounds--;
     atomic { seen = count; wishes = wishes | seen } /* too much contention for so many shards */
#ifndef BUG_NO_LOCK
     atomic { !lock -> lock = true }
#endif
     n = count;
     if
     :: n == MAX
#ifndef BUG_DOUBLED
     :: n != MAX && n != seen /* another thread was faster */
     :: n != MAX && n == seen ->
#else
     :: n != MAX ->
#endif
        assert((wishes & n) != 0); /* nobody asked for more than this */
        k = segment_of(n);
#ifdef BUG_COUNT_FIRST
        publish(n);
#endif
        if
#ifndef BUG_COUNT_FIRST
        :: true /* no memory: as before */
#endif
        :: atomic { assert(!segment[k]); held++; segment[k] = true }
           i = n;
           well = true;
           do
           :: i == n * 2 -> break
           :: i < n * 2 -> assert(!ready[i]); ready[i] = true; i++
#ifndef BUG_COUNT_FIRST
           :: i < n * 2 -> well = false; break /* a shard cannot be made */
#endif
           od;
           if
#ifdef BUG_COUNT_FIRST
           :: true
#else
           :: well -> publish(n)
           :: else -> give_back(k, i, n)
#endif
           fi
        fi
     fi;
#ifndef BUG_NO_LOCK
     lock = false;
#endif
     atomic { seen = 0; n = 0; k = 0; i = 0; well = false }
  od
}

proctype reader() {
  byte n, i, last;
  byte rounds = 2;
  do
  :: rounds == 0 -> break
  :: else ->
     rounds--;
     n = count;
     assert(n >= last); /* it never shrinks */
     last = n;
     atomic {
       if
       :: i = 0
       :: n > 1 -> i = 1
       :: n > 2 -> i = 2
       :: n > 3 -> i = 3
       fi
     }
     assert(segment[segment_of(i)]);
     assert(ready[i])
  od
}

init {
  atomic {
    segment[0] = true;
    ready[0] = true;
    held = 1;
    count = 1;
    run grower();
    run grower();
    run reader();
    run reader()
  }
  _nr_pr == 1 ->
  assert(count == 1 << grown);
  assert(held == grown + 1); /* a growth that failed keeps nothing */
  assert(segment[1] == (count > 1) && segment[2] == (count > 2));
  assert(ready[1] == (count > 1) && ready[2] == (count > 2) && ready[3] == (count > 2))
}

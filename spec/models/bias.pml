/* bias.pml - the biased lock: its owner stores and loads without a barrier, who revokes it has one made.
 *
 * Why:   the owner's store to `busy` may still wait in its processor's buffer when it loads `revoked`.
 *        What makes that harmless is the barrier that the other forces upon it.
 * Of:    csrc/pool/bias.h, csrc/pool/bias.c.
 * Not:   two who revoke (they hold REGISTRY), weaker orders than total store order: there acquire and
 *        release, and the barrier, do what the hardware does here.
 *
 * One owner with a store buffer, one who revokes; what the owner has done inside is complete when the
 * store that clears `busy` leaves the buffer. */

#define ROUNDS 3

bool busy, revoked;
chan buffer = [4] of { bool }; /* the owner's stores to `busy` on their way */

/* What no code knows. */
bool owner_in, other_in;

inline settle() { /* the oldest store arrives */
  buffer ? busy;
  if
  :: !busy -> owner_in = false
  :: else
  fi
}

active proctype memory() {
end:
  do
  :: atomic { nempty(buffer) -> settle() }
  od
}

inline store_busy(v) { atomic { nfull(buffer) -> buffer ! v } }

inline inside() {
  atomic { assert(!other_in); owner_in = true }
}

active proctype owner() {
  byte n;
  bool seen;
  do
  :: n == ROUNDS -> break
  :: else ->
     n++;
     /* stores of the round before have arrived or are in the buffer, in order */
#ifdef BUG_LOOK_FIRST
     seen = revoked;
     store_busy(true);
#else
     store_busy(true);
     seen = revoked;
#endif
     do
     :: !seen -> break
     :: seen ->
        store_busy(false);
        !revoked;
#ifdef BUG_WAIT_ONCE
        store_busy(true);
        break
#else
        store_busy(true);
        (empty(buffer)); /* seq_cst there */
        seen = revoked
#endif
     od;
     inside();
     skip; /* works */
     store_busy(false)
  od
}

active proctype other() {
  byte n;
  bool seen;
  do
  :: n == ROUNDS -> break
  :: else ->
     n++;
#ifdef BUG_SAYS_LATE
     seen = busy;
     revoked = true;
#else
     revoked = true;
#ifndef BUG_NO_BARRIER
     atomic { /* membarrier: the owner's stores so far arrive, its later loads come after */
       do
       :: nempty(buffer) -> settle()
       :: empty(buffer) -> break
       od
     }
#endif
     seen = busy;
#endif
     if
     :: seen /* gives up */
     :: !seen ->
        atomic { assert(!owner_in); other_in = true }
#ifdef BUG_EARLY
        revoked = false;
#endif
        other_in = false
     fi;
     revoked = false
  od
}

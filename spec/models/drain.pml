/* drain.pml - the background thread: started, asleep, woken, stopped, lost in a fork.
 *
 * Why:   it sleeps without a timeout, so a wake-up that is lost is lost for ever; it is made and joined
 *        by threads that may hold what it wants.
 * Of:    csrc/heap/drain.c, csrc/pool/bell.h, tick() in csrc/pool/l25.c, fork handlers in csrc/heap/init.c.
 * Not:   what a round does: it finds work or does not; waits with a timeout end at any time; a condition
 *        variable is waiting for its predicate; weak memory (the fences of INV bell-1).
 *
 * A user of a pool, a visitor of a walk over the arenas who uses one too and may stop the thread, one who
 * stops it and allows it again, one who forks. In the child only processes born later run. */

#define QUIET 1

mtype = { NOBODY, AWAKE, ASLEEP }

mtype state = NOBODY;
byte work;             /* published, not yet found */
bool rung, stopping, joinable, barred;
bool drain_lock, registry, bell;

/* What no code knows. */
bool alive;            /* the thread */
bool in_round, making;
bool gone;             /* this is the child */
byte born;             /* processes from here on are the child's */
byte starts, done;
bool ended;

#define lock(l) atomic { !l -> l = true }
#define unlock(l) l = false
#define here provided (!gone || _pid >= born)

proctype drain() here {
  byte quiet;
  bool found, go_on, asleep;
  do
  :: if
#ifndef BUG_LOOK_BEFORE
     :: quiet >= QUIET -> state = ASLEEP
#endif
     :: else
     fi;
     lock(registry);
     in_round = true;
     atomic { found = work != 0; work = 0 }
     in_round = false;
     unlock(registry);
     if
     :: found -> quiet = 0; state = AWAKE
     :: else -> quiet++
     fi;
     asleep = quiet > QUIET;
#ifdef BUG_LOOK_BEFORE
     if
     :: asleep -> state = ASLEEP
     :: else
     fi;
#endif
     atomic { /* until it rings, or for a while */
       !bell && (rung || stopping || !asleep);
       rung = false;
       go_on = !stopping
     }
     if
     :: !go_on || barred -> break
     :: else
     fi;
     if
     :: asleep -> quiet = 0; state = AWAKE
     :: else
     fi
  od;
  atomic { state = NOBODY; found = false; go_on = false; asleep = false; quiet = 0 }
  alive = false
}

inline ring(stop) {
  lock(bell);
  rung = true;
  stopping = stopping || stop;
  unlock(bell)
}

/* Of a thread that is no other's: the child has none to wait for. */
inline join() {
  !alive;
  joinable = false
}

inline start_locked() {
  if
  :: !barred && state == NOBODY ->
     if
     :: joinable -> join()
     :: else
     fi;
     rung = false;
     stopping = false;
     making = true;
     state = AWAKE;
     if
     :: starts < 2 -> atomic { starts++; alive = true; joinable = true; run drain() }
     :: state = NOBODY /* the system refuses */
     fi;
     making = false
  :: else
  fi
}

inline maybe_start() {
  if
  :: !barred ->
#ifdef BUG_START_WAITS
     lock(drain_lock);
     start_locked();
     unlock(drain_lock)
#else
     if
     :: atomic { !drain_lock -> drain_lock = true }
        start_locked();
        unlock(drain_lock)
     :: drain_lock
     fi
#endif
  :: else
  fi
}

/* Makes work and looks whether somebody has to be called. */
inline use(s, won) {
  work = 1;
  s = state;
  if
  :: s == ASLEEP ->
     atomic {
       won = state == ASLEEP;
       if
       :: won -> state = AWAKE
       :: else
       fi
     }
     if
     :: won -> ring(false)
     :: else
     fi
  :: s == NOBODY -> maybe_start()
  :: else
  fi;
  atomic { s = NOBODY; won = false }
}

proctype user() here {
  mtype s = NOBODY;
  bool won;
  use(s, won);
  done++
}

proctype visitor() here {
  mtype s = NOBODY;
  bool won;
  lock(registry);
  use(s, won);
  if
  :: true -> /* stop: the walk's lock is held */
     barred = true;
     if
     :: atomic { !drain_lock -> drain_lock = true }
        if
        :: joinable ->
           ring(true);
#ifdef BUG_JOIN_INSIDE
           join()
#endif
        :: else
        fi;
        unlock(drain_lock)
     :: drain_lock
     fi
  :: true
  fi;
  unlock(registry);
  done++
}

proctype stopper() here {
  barred = true;
  lock(drain_lock);
  if
  :: joinable -> ring(true); join()
  :: else
  fi;
  assert(!alive);
  unlock(drain_lock);
  barred = false;
  done++
}

proctype forker() {
  mtype s = NOBODY;
  bool won;
#ifndef BUG_FORK_DRAIN
  lock(drain_lock);
#endif
#ifndef BUG_FORK_ROUND
  lock(registry);
#endif
  lock(bell);
  atomic {
    assert(!in_round && !making);
    if
    :: true /* the parent */
    :: true -> /* the child */
       gone = true;
       born = _nr_pr;
       alive = false;
       joinable = false;
       rung = false;
       stopping = false;
#ifndef BUG_CHILD_KEEPS
       state = NOBODY;
#endif
       starts = 0
    fi
  }
  unlock(bell);
  unlock(registry);
  unlock(drain_lock);
  if
  :: gone ->
     use(s, won);
     assert(state == NOBODY || alive); /* or nobody will ever start it */
     use(s, won)
  :: else
  fi;
  done++
}

init {
  atomic {
    run user();
    run visitor();
    run stopper();
    run forker()
  }
  timeout -> /* nothing moves any more */
  assert(gone || done == 4);
  assert(done >= 1 && !drain_lock && !registry && !bell);
  assert(alive || state == NOBODY);
  assert(!alive || (state == ASLEEP && work == 0)); /* no wake-up was lost */
  do
  :: ended = !ended /* what has gone is stuck for ever: no deadlock */
  od
}

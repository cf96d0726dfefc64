/* owner.pml - whose slab is this, asked while the slab is adopted and descriptors are used again.
 *
 * Why:   a free learns its arena from page->owner->arena, two loads without a lock. The heap in
 *        between may lose the page, be pooled, serve another arena, come back and adopt the page.
 * Of:    haki_slab_owner(), haki_heap_set_arena() of csrc/pool/small.h; move_slab(); the pool of
 *        descriptors in csrc/heap/heap.c.
 * Not:   weak memory.
 *
 * One slab of arena 1 with a live block, so that it never leaves that arena. Three descriptors. Two
 * threads move the slab, pool descriptors and take them for arena 1 or 2; CHANGES times in all. */

#define HEAPS 3
#define CHANGES 5

byte owner;
byte arena[HEAPS]; /* 0: in the pool */
byte epoch[HEAPS]; /* raised after each change of arena */
bool lock;         /* ARENA */
bool mine[HEAPS];  /* taken from the pool by a thread, listed nowhere yet */
byte changes;

inline set_arena(h, a) {
  arena[h] = a;
  epoch[h]++
}

proctype world() {
  byte h, a;
end:
  do
  :: atomic { !lock -> lock = true }
     atomic { select(h : 0 .. 2) }
     if
     :: h != owner && arena[h] == 1 && !mine[h] -> owner = h /* move_slab() */
     :: h != owner && arena[h] != 0 && !mine[h] && changes < CHANGES ->
        changes++;
        set_arena(h, 0) /* put_descriptor() */
     :: else
     fi;
     atomic { lock = false; h = 0 }
  :: atomic {
       if /* take_descriptor(), then haki_heap_init() without the lock */
       :: !lock && changes < CHANGES && arena[0] == 0 && !mine[0] -> h = 0
       :: !lock && changes < CHANGES && arena[1] == 0 && !mine[1] -> h = 1
       :: !lock && changes < CHANGES && arena[2] == 0 && !mine[2] -> h = 2
       fi;
       mine[h] = true;
       changes++;
       if
       :: a = 1
       :: a = 2
       fi
     }
     set_arena(h, a);
     atomic { mine[h] = false; h = 0; a = 0 }
  od
}

proctype reader() {
  byte h, e, a;
  do
  :: h = owner;
     e = epoch[h];
     a = arena[h];
#ifdef BUG_ONE_LOOK
     break
#else
     if
     :: owner != h
     :: owner == h ->
#ifdef BUG_OWNER_ONLY /* the owner has come back: nothing seems to have changed */
        break
#else
        if
        :: epoch[h] != e
        :: epoch[h] == e -> break
        fi
#endif
     fi
#endif
  od;
  assert(a == 1)
}

init {
  atomic {
    arena[0] = 1;
    arena[1] = 1;
    run world();
    run world();
    run reader()
  }
}

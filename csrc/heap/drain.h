/* drain.h - the background thread that looks after the pools of shared arenas.
 * Start: haki_drain_init(). */
#ifndef HAK_DRAIN_H
#define HAK_DRAIN_H

#include "base/debug.h"

extern struct haki_lock haki_drain_lock, haki_bell_lock;

void haki_drain_init(void); /* once: the pools may call it from now on */
/* A drain knob was set. `enabled`: drain.enabled was among them. */
void haki_drain_configured(bool enabled);
/* Stops and joins the thread; it stays away until drain.enabled is set again. */
void haki_drain_shutdown(void);
void haki_drain_after_fork(void); /* in the child: it has no such thread. pre: its locks are held */

#endif

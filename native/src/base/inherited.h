/* What a process inherits from its parent, put in order.
 *
 * Ignored signals, the signal mask, closed descriptors and the umask survive exec. A program that takes them as they
 * come works in a terminal and fails under a careless parent: with SIGCHLD ignored no child can be waited for; with
 * descriptor 2 closed the next memory file gets number 2, and messages are written into it.
 */
#ifndef UN_INHERITED_H
#define UN_INHERITED_H

/* Call it first in main, before anything is opened. -errno when /dev/null cannot be opened.
 * Signals: no signal stays blocked, and ignored ones get their default action. Those of a terminal stay ignored: nohup
 * and the & of a shell mean it. SIGTTOU is ignored in any case: it would stop a process that is in the background for
 * good, where it writes to a terminal whose `tostop` is set.
 * Descriptors: /dev/null is opened for those of 0 to 2 that are closed.
 * umask: it takes no rights from the owner. What it takes from others is the administrator's choice. */
int un_inherited_reset(void);

#endif

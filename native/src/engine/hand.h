/* The descriptor that the engine has in hand: nothing else in private memory names it, or soon nothing will.
 *
 * The keeper has every descriptor of an engine that dies, so each must be named somewhere, or it would stay open for
 * good. One that comes with a request is in hand from the moment at which it exists: the kernel itself notes its
 * number there. It leaves when whoever it is for has noted it, or when it is closed. The memory of a capture that ends
 * comes in hand before the note of it is taken back.
 *
 * It is closed first, and leaves then; while one is in hand, nobody opens another one. So an engine that finds a number
 * there, before it opens anything, may close it, be that the second time or not. */
#ifndef UN_HAND_H
#define UN_HAND_H

#include "engine/state.h"

/* Note a descriptor that is about to lose its other note. The hand must be empty. */
void un_hand_take(struct un_engine *engine, int fd);

/* It was noted elsewhere, as those are that un_hand_settle knows. */
void un_hand_leave(struct un_engine *engine);

void un_hand_close(struct un_engine *engine);

/* An engine starts, and has opened nothing: what its predecessor had in hand is closed, unless it was noted. */
void un_hand_settle(struct un_engine *engine);

#endif

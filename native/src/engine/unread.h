/* Events of a port that no worker has consumed, and what becomes of them when there is nobody to read them. */
#ifndef UN_UNREAD_H
#define UN_UNREAD_H

#include "engine/state.h"

struct un_event *un_unread_event(struct un_engine *engine, uint32_t port, uint32_t index);

/* The slot of its connection, or UN_NONE if that is another one by now. */
uint32_t un_unread_slot(struct un_engine *engine, const struct un_event *event);
void un_unread_skip(struct un_engine *engine, uint32_t port, struct un_event *event);

/* All events of a connection: nobody will see them. */
void un_engine_skip_events(struct un_engine *engine, uint32_t slot);

/* Reset a connection whose worker is gone. A handler that resumes is told; another one never knew the connection. */
void un_unread_reset(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool tell);

/* The same for many at once: those that were doomed, all of one port. An engine that is killed over it may have skipped
 * events of connections that are open: the next one is asked again, and dooms them again. */
void un_unread_doom(struct un_engine *engine, uint32_t slot);
void un_unread_reset_doomed(struct un_engine *engine, uint32_t port, bool tell); /* their worker is lost */

/* Reset the connections of a port that its last worker knew, since it kept state of them; those that it was not told of
 * stay. */
void un_unread_reset_known(struct un_engine *engine, uint32_t port);

/* A frame lives if an unread event needs it, or it is open. */
void un_unread_sweep_frames(struct un_engine *engine, uint32_t port);

#endif

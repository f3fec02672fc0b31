/* Limits of accepting, the same for every transport: connections beyond the limit, or without a slot while ends of
 * others are not consumed yet, wait in the transport's backlog. */
#ifndef UN_ACCEPT_H
#define UN_ACCEPT_H

#include "engine/state.h"

bool un_accept_is_allowed(struct un_engine *engine); /* false at the connection limit: accepting pauses */
bool un_accept_refuses(struct un_engine *engine, const struct un_endpoint *peer); /* and counts it */
void un_accept_pause(struct un_engine *engine, int error); /* 0: connection limit, else why no more can be opened */
void un_accept_resume(struct un_engine *engine);           /* when it is time */

#endif

/* The epoll set of an engine, which outlives it: descriptors are watched once and stay so through a takeover.
 *
 * The pipes that workers write (base/wake.h) are edge-triggered. They are emptied when an engine starts, as its
 * predecessor may have died in the middle of its count, and when a worker attaches.
 *
 * What it gives back is a connection's id, or, with generation 0, one of these and a number. */
#ifndef UN_WATCH_H
#define UN_WATCH_H

#include "engine/state.h"

enum un_watched {
    UN_WATCHED_LISTENER = 1,
    UN_WATCHED_WAKE = 2,
    UN_WATCHED_CONTROL = 3,
    UN_WATCHED_OTHER = 4,
    UN_WATCHED_DEVICE = 5,
    UN_WATCHED_EXCHANGE = 6
};
#define UN_WATCHED(kind, number) ((uint64_t)(kind) << 48 | (uint64_t)(number) << 32)
#define UN_WATCHED_KIND(what) ((enum un_watched)((what) >> 48))
#define UN_WATCHED_NUMBER(what) ((uint32_t)((what) >> 32) & 0xffff)
#define UN_IS_WATCHED(what) ((uint32_t)(what) == 0)

int un_watch(struct un_engine *engine, int fd, uint32_t events, uint64_t what); /* watched already: 0 */
int un_watch_for(struct un_engine *engine, int fd, uint32_t events, uint64_t what); /* other events from now on */
/* What is ready, of all that un_watch_start watches. Nothing follows here: the turn looks at requests and commits. */
void un_watch_handle(struct un_engine *engine, uint64_t what);
int un_watch_start(struct un_engine *engine); /* the descriptors that workers and supervisor write */

#endif

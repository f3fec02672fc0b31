/* What workers publish: released frames, consumed events, commands. All of it is checked before it is believed (P4).
 *
 * A commit word or release index that cannot be true condemns the worker: nothing more is taken from it, and the
 * supervisor is asked to replace it. A single command or release that makes no sense is counted and dropped.
 *
 * Releases are looked at before the commit. The worker publishes them after it, so a release seen may be of an event
 * whose consumption is not seen yet; that is harmless, because a frame's bytes are only needed until then. */
#ifndef UN_COMMITS_H
#define UN_COMMITS_H

#include "engine/state.h"

uint32_t un_commits_take(struct un_engine *engine, uint32_t port);

/* Would un_commits_take find something? Looked at before going to sleep, and while spinning. */
bool un_commits_changed(struct un_engine *engine);

#endif

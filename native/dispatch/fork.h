/* Children that a fork of the worker makes: what they have of its ports and engines. See fork.c. */
#ifndef UN_DISPATCH_FORK_H
#define UN_DISPATCH_FORK_H

#include <stddef.h>

/* Part of an object that shares something with other processes; in the list from un_fork_join to un_fork_quit. */
struct un_fork_member {
    struct un_fork_member *next, *previous;
    void (*in_child)(struct un_fork_member *member); /* async-signal-safe */
};

int un_fork_start(void); /* once for the process; 0 or -errno */
void un_fork_join(struct un_fork_member *member, void (*in_child)(struct un_fork_member *member));
void un_fork_quit(struct un_fork_member *member);

/* Put memory of the child's own in the place of shared memory: what points there stays valid and reaches nobody. */
void un_fork_replace(void *start, size_t bytes);

#endif

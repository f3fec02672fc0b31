/* Children that a fork of the worker makes: what they have of its ports and engines.
 *
 * A handler may fork, by os.fork or by multiprocessing. Rings, epoll set and sockets are the parent's: a child that
 * used them, or only let its finalizers run, would drive them beside the parent. So the first thing that a child
 * does, before any code of Python, is to give them up:
 *
 *   port     its port memory becomes memory of the child's own; it is `forked`, and every use of it raises WorkerForked
 *   engine   its descriptors are closed and it is closed itself; its port memory becomes the child's own
 *   slices   stay readable, and give nothing back
 *
 * close() of a descriptor that the parent has too changes nothing for the parent: the registration in an epoll set
 * ends with the last descriptor of the open file. EPOLL_CTL_DEL would end it at once, shutdown() the connection; a
 * child calls neither.
 *
 * Seat memory is MADV_DONTFORK as well, for children that are made without these handlers (clone). */
#include "objects.h"

#include <pthread.h>
#include <sys/mman.h>

static struct un_fork_member *first;

static void leave_all(void)
{
    for (struct un_fork_member *member = first; member; member = member->next)
        member->in_child(member);
}

int un_fork_start(void)
{
    static bool started; /* a handler cannot be taken back */
    int error = started ? 0 : pthread_atfork(NULL, NULL, leave_all);
    started = error == 0;
    return -error;
}

void un_fork_join(struct un_fork_member *member, void (*in_child)(struct un_fork_member *member))
{
    *member = (struct un_fork_member){.next = first, .in_child = in_child};
    if (first)
        first->previous = member;
    first = member;
}

void un_fork_quit(struct un_fork_member *member)
{
    if (!member->in_child)
        return;
    if (member->previous)
        member->previous->next = member->next;
    else
        first = member->next;
    if (member->next)
        member->next->previous = member->previous;
    *member = (struct un_fork_member){0};
}

void un_fork_replace(void *start, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        munmap(start, bytes); /* what is not there is not the parent's either */
}

void un_fork_raise(const struct un_port_object *port)
{
    PyErr_SetString(port->module->worker_forked,
                    "this process is a fork of the worker, with which the connections stay; "
                    "give the result to it, and end with os._exit or sys.exit");
}

/* One run of the dispatcher: a batch of events, the callbacks they cause, one commit.
 *
 * The clock is read before and after a batch, never per event. After an attach the first events are committed one by
 * one: an earlier worker may have died of one of them, so little is done twice and blame falls on the right one (P3).
 * When an exception leaves the dispatcher, the events before the one that raised are consumed, that one is not, and
 * nothing is committed until the next run: a process that ends now has done none of the batch. It ends while it handles
 * that event: the mark stays, so that a handler that calls sys.exit() of a message is poisoned by it as by
 * any death. */
#include "objects.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Bucket i counts waits of less than 2^i microseconds. */
static void note_wait(struct un_worker_counters *counters, uint64_t wait_ns)
{
    uint64_t microseconds = wait_ns / 1000;
    uint32_t bucket = microseconds ? 64u - (uint32_t)__builtin_clzll(microseconds) : 0;
    un_count(&counters->wait[bucket < UN_WAIT_BUCKETS ? bucket : UN_WAIT_BUCKETS - 1], 1);
}

/* Deliver `ready` events; how many were, fewer when an exception is set. */
static uint32_t deliver_events(struct un_port_object *port, uint32_t ready, uint64_t started_ns)
{
    struct un_worker_counters *counters = &port->end->mine->counters;
    uint64_t wait_ns = 0;
    uint32_t done = 0, unreleased = 0;
    for (; done < ready; done++) {
        const struct un_event *event = un_port_event(port->end, unreleased);
        uint64_t wait = started_ns > event->time_ns ? started_ns - event->time_ns : 0;
        port->tally.bytes_in += event->type == UN_EVENT_DATA ? event->length : 0;
        un_port_handling(port->end, unreleased);
        if (un_deliver(port, event) < 0)
            break;
        un_port_handled(port->end);
        note_wait(counters, wait);
        wait_ns += wait;
        unreleased++;
        if (port->redelivered > 0) { /* or a fork, so that it costs others no look */
            if (port->forked) {
                un_fork_raise(port);
                break;
            }
            un_port_release(port->end, unreleased);
            unreleased = 0;
            port->redelivered--;
            un_commit(port);
        }
    }
    un_port_release(port->end, unreleased);
    un_count(&counters->wait_ns, wait_ns);
    un_count(&counters->worker_events, done);
    return done;
}

/* Inboxes first. How many events, or -1 when an exception leaves. */
static Py_ssize_t deliver(struct un_port_object *port, uint32_t ready, uint64_t started_ns)
{
    Py_ssize_t count = un_inbox_deliver_ready(port);
    if (count < 0)
        return -1;
    uint32_t done = deliver_events(port, ready, started_ns);
    return done < ready ? -1 : count + done;
}

/* Deliver what is ready and commit; how many events, or -1 when an exception leaves. */
Py_ssize_t un_batch_run(struct un_port_object *port, PyThreadState *state)
{
    uint32_t ready = port->stopped ? 0 : un_port_peek(port->end);
    if (ready == 0 && !port->ready)
        return 0;
    uint64_t started_ns = now_ns();
    if (un_vars_begin(port, state) < 0)
        return -1;
    ready = ready < UN_BATCH_MAX ? ready : UN_BATCH_MAX;
    Py_ssize_t count = deliver(port, ready, started_ns);
    un_count(&port->end->mine->counters.handler_ns, now_ns() - started_ns);
    if (un_vars_end(port) < 0 || count < 0)
        return -1;
    un_commit(port);
    return count;
}

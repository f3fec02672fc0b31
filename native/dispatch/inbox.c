/* Events that wait in the worker: behind a running task, or because the handler paused reading.
 *
 * The engine is told to stop when the handler asks for it or more than a few events wait; what is in the ring by
 * then still arrives, so an inbox is bounded by the receive budget of a connection. All together are bounded by
 * crowd.c: what is copied is counted, slices are not, for they stay in receive frames. An inbox's connection is
 * dirty, for these events are consumed and not handled. When nothing holds them back any more, the connection is
 * ready, and the next run of the dispatcher delivers them in order: never from within the handler's own call that
 * made it ready.
 */
#include "objects.h"

struct waiting {
    PyObject *data; /* of DATA */
    uint8_t type;
    uint8_t reason; /* of CLOSE */
};

struct un_inbox {
    struct waiting *items; /* a ring; capacity is a power of two */
    uint32_t capacity;
    uint32_t head;
    uint32_t count;
};

#define INBOX_FIRST_CAPACITY 8u

bool un_is_held_back(const struct un_connection *conn)
{
    bool paused = (conn->flags & UN_READ_PAUSED) && !(conn->flags & UN_CLOSED);
    return conn->tasks > 0 || paused || (conn->flags & UN_WAITING);
}

static struct waiting *item(const struct un_inbox *inbox, uint32_t i)
{
    return &inbox->items[(inbox->head + i) & (inbox->capacity - 1)];
}

static bool grow(struct un_inbox *inbox)
{
    uint32_t capacity = inbox->capacity ? inbox->capacity * 2 : INBOX_FIRST_CAPACITY;
    struct waiting *items = PyMem_Calloc(capacity, sizeof *items);
    if (!items)
        return false;
    for (uint32_t i = 0; i < inbox->count; i++)
        items[i] = *item(inbox, i);
    PyMem_Free(inbox->items);
    inbox->items = items;
    inbox->capacity = capacity;
    inbox->head = 0;
    return true;
}

/* Room for one more, or NULL. */
static struct waiting *next_free(struct un_connection *conn)
{
    if (!conn->inbox)
        conn->inbox = PyMem_Calloc(1, sizeof *conn->inbox);
    struct un_inbox *inbox = conn->inbox;
    if (!inbox || (inbox->count == inbox->capacity && !grow(inbox)))
        return NULL;
    return item(inbox, inbox->count);
}

/* What a copy takes of the worker's memory; 0 for a slice and for events without data. */
static int64_t memory_of(PyObject *data)
{
    return data && PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) + (int64_t)UN_ITEM_BYTES : 0;
}

static void drop_first(struct un_connection *conn)
{
    struct un_inbox *inbox = conn->inbox;
    PyObject *data = item(inbox, 0)->data;
    un_crowd_count_input(conn->port, -memory_of(data));
    Py_XDECREF(data);
    inbox->head++;
    inbox->count--;
}

static void free_inbox(struct un_connection *conn)
{
    struct un_inbox *inbox = conn->inbox;
    conn->inbox = NULL;
    conn->flags &= ~(uint32_t)UN_WAITING;
    if (inbox)
        PyMem_Free(inbox->items);
    PyMem_Free(inbox);
}

/* It will not be delivered: the connection was closed. The events stay, in their order. */
void un_inbox_drop_data(struct un_connection *conn)
{
    for (uint32_t i = 0; conn->inbox && i < conn->inbox->count; i++) {
        un_crowd_count_input(conn->port, -memory_of(item(conn->inbox, i)->data));
        Py_CLEAR(item(conn->inbox, i)->data);
    }
}

void un_inbox_clear(struct un_connection *conn)
{
    while (conn->inbox && conn->inbox->count > 0)
        drop_first(conn);
    free_inbox(conn);
}

void un_reading_update(struct un_connection *conn)
{
    uint32_t waiting = conn->inbox ? conn->inbox->count : 0;
    bool crowded = un_crowd_slows_input(conn->port);
    uint32_t most = crowded || conn->flags & UN_STOPPED ? 0 : UN_INBOX_PAUSE; /* stopped once: until all is delivered */
    bool stop = (conn->flags & UN_READ_PAUSED) || waiting > most || (crowded && conn->tasks > 0);
    if (stop == !!(conn->flags & UN_STOPPED) || (conn->flags & (UN_GONE | UN_CLOSED)))
        return;
    conn->flags ^= UN_STOPPED;
    un_owe(conn, UN_OWE_READING);
}

static bool is_crowded_out(const struct un_port_object *port, const struct un_event *event)
{
    return event->type == UN_EVENT_DATA && un_data_is_copied(port) &&
           un_crowd_refuses_input(port, event->length + UN_ITEM_BYTES);
}

static int reset_instead(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    un_port_free_frame(port->end, event->frame);
    port->tally.inputs_crowded++;
    un_connection_abort(conn, UN_REASON_ERROR);
    return 0;
}

int un_inbox_put(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    if (is_crowded_out(port, event))
        return reset_instead(port, conn, event);
    struct waiting *place = next_free(conn);
    PyObject *data = NULL;
    if (!place) {
        PyErr_NoMemory();
        return -1;
    }
    if (event->type == UN_EVENT_DATA) {
        data = un_data_take(port, event);
        if (!data)
            return -1;
        un_data_drop(port, event, Py_NewRef(data), true);
        un_crowd_count_input(port, memory_of(data));
    }
    *place = (struct waiting){.data = data, .type = event->type, .reason = event->reason};
    conn->inbox->count++;
    conn->flags |= UN_WAITING;
    un_reading_update(conn);
    un_review(conn);
    return 0;
}

/* What waits first, to the handler. */
static int deliver_first(struct un_port_object *port, struct un_connection *conn)
{
    const struct waiting first = *item(conn->inbox, 0);
    bool closed = conn->flags & UN_CLOSED;
    switch (first.type) {
    case UN_EVENT_DATA:
        return closed ? 0 : un_deliver_data(port, conn, first.data);
    case UN_EVENT_EOF:
        return closed ? 0 : un_deliver_eof(port, conn);
    case UN_EVENT_CONNECT:
        return port->callbacks[UN_ON_CONNECT] ? un_call(port, conn, UN_ON_CONNECT, NULL) : 0;
    default:
        return un_deliver_close(port, conn, first.reason);
    }
}

static bool may_deliver(const struct un_connection *conn)
{
    bool paused = (conn->flags & UN_READ_PAUSED) && !(conn->flags & UN_CLOSED);
    return conn->inbox && conn->tasks == 0 && !paused && !conn->port->forked;
}

/* All that nothing holds back; how many, or -1. */
static Py_ssize_t deliver_inbox(struct un_port_object *port, struct un_connection *conn)
{
    Py_ssize_t count = 0;
    while (may_deliver(conn)) {
        uint64_t before = un_step_enter(port, conn);
        int status = deliver_first(port, conn);
        un_step_leave(port, before, status < 0);
        if (status < 0)
            return -1;
        count++;
        drop_first(conn);
        if (conn->inbox->count == 0)
            free_inbox(conn);
    }
    un_reading_update(conn);
    un_review(conn);
    un_connection_detach_if_done(conn);
    return count;
}

void un_inbox_wake(struct un_connection *conn)
{
    if (!conn->port || (conn->flags & UN_READY) || !may_deliver(conn))
        return;
    conn->flags |= UN_READY;
    conn->next_ready = NULL;
    *conn->port->ready_tail = (struct un_connection *)Py_NewRef(conn);
    conn->port->ready_tail = &conn->next_ready;
}

static struct un_connection *pop_ready(struct un_port_object *port)
{
    struct un_connection *conn = port->ready;
    port->ready = conn->next_ready;
    if (!port->ready)
        port->ready_tail = &port->ready;
    conn->flags &= ~(uint32_t)UN_READY;
    return conn;
}

/* Deliver what became ready; how many events, or -1 when an exception leaves the dispatcher. */
Py_ssize_t un_inbox_deliver_ready(struct un_port_object *port)
{
    Py_ssize_t total = 0;
    while (port->ready) {
        struct un_connection *conn = pop_ready(port);
        Py_ssize_t count = conn->port ? deliver_inbox(port, conn) : 0;
        if (count >= 0 && port->forked) {
            un_fork_raise(port);
            count = -1;
        }
        if (count < 0)
            un_inbox_wake(conn);
        Py_DECREF(conn);
        if (count < 0)
            return -1;
        total += count;
    }
    return total;
}

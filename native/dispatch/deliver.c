/* One event to the handler: what each kind means for its connection, before and after the callback.
 *
 * Each returns 0 when the event is done with, whatever the handler made of it, or -1 when an exception leaves the
 * dispatcher; then the event counts as
 * not delivered. */
#include "objects.h"

/* The handler holds too many slices. */
bool un_data_is_copied(const struct un_port_object *port)
{
    return port->lease->held >= port->end->header->config.hold_max;
}

/* The bytes of a DATA event: a Slice that owns the frame, or a copy. */
PyObject *un_data_take(struct un_port_object *port, const struct un_event *event)
{
    if (!un_data_is_copied(port))
        return un_slice_new(port->lease, port->module->slice_type, event);
    port->tally.copied_out++;
    return PyBytes_FromStringAndSize((const char *)un_port_bytes(port->end, event), event->length);
}

/* Give up our reference. The frame goes back when its event was consumed: with the last view, or now if it
 * was copied. */
void un_data_drop(struct un_port_object *port, const struct un_event *event, PyObject *data, bool consumed)
{
    bool is_slice = Py_IS_TYPE(data, port->module->slice_type);
    if (consumed && !is_slice)
        un_port_free_frame(port->end, event->frame);
    if (!consumed && is_slice)
        un_slice_disown(data);
    Py_DECREF(data);
}

int un_deliver_data(struct un_port_object *port, struct un_connection *conn, PyObject *data)
{
    if (!port->callbacks[UN_ON_DATA])
        return 0;
    PyObject *view = PyMemoryView_FromObject(data);
    if (!view)
        return -1;
    int status = un_call(port, conn, UN_ON_DATA, view);
    Py_DECREF(view);
    return status;
}

int un_deliver_eof(struct un_port_object *port, struct un_connection *conn)
{
    if (port->callbacks[UN_ON_EOF])
        return un_call(port, conn, UN_ON_EOF, NULL);
    un_connection_close(conn);
    return 0;
}

static int deliver_drained(struct un_port_object *port, struct un_connection *conn)
{
    conn->flags &= ~(uint32_t)UN_REPORTED_SLOW;
    un_crowd_forget(conn);
    return un_call(port, conn, UN_ON_DRAIN, NULL);
}

/* Move the overflow on; the handler hears of it when little is left. */
static int deliver_drain(struct un_port_object *port, struct un_connection *conn)
{
    bool told = conn->flags & UN_REPORTED_SLOW;
    int status = 0;
    conn->flags &= ~(uint32_t)(UN_ASKED_DRAIN | UN_REPORTED_SLOW); /* settle asks again for the overflow's sake alone */
    un_output_settle(conn);
    if (told && !(conn->flags & UN_CLOSED)) {
        conn->flags |= UN_REPORTED_SLOW;
        if (un_output_size(conn) <= UN_LOW_WATER)
            status = deliver_drained(port, conn);
        else
            un_output_settle(conn);
    }
    un_review(conn);
    return status;
}

int un_deliver_close(struct un_port_object *port, struct un_connection *conn, uint8_t reason)
{
    int status = 0;
    conn->flags |= UN_GONE;
    if (port->callbacks[UN_ON_CLOSE])
        status = un_call(port, conn, UN_ON_CLOSE, port->reasons[reason % UN_REASONS]);
    if (status == 0) {
        un_connection_leave(conn);
        un_connection_detach_if_done(conn);
    } else if (!(conn->flags & UN_LEFT)) {
        conn->flags &= ~(uint32_t)UN_GONE; /* its event comes again */
    }
    return status;
}

static int deliver_data_event(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    PyObject *data = un_data_take(port, event);
    if (!data)
        return -1;
    int status = un_deliver_data(port, conn, data);
    un_data_drop(port, event, data, status == 0);
    return status;
}

/* The engine asks for the connection (answers.c). One that is clean only by the commit to come is kept too: its byte in
 * the dirty map may not be cleared before that commit, and not after it either: then the slot is another worker's. */
static int deliver_move(struct un_port_object *port, struct un_connection *conn)
{
    if (un_answer_reserve(port) < 0)
        return -1;
    un_output_settle(conn);
    un_place_state(conn);
    if ((conn->flags & UN_DIRTY) || !un_is_settled(conn)) {
        un_review(conn);
        un_answer_keep(conn);
        return 0;
    }
    uint64_t id = conn->id;
    un_connection_detach(conn);
    un_answer_release(port, id);
    return 0;
}

static int deliver_plainly(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    switch (event->type) {
    case UN_EVENT_DATA:
        return deliver_data_event(port, conn, event);
    case UN_EVENT_CONNECT:
        return port->callbacks[UN_ON_CONNECT] ? un_call(port, conn, UN_ON_CONNECT, NULL) : 0;
    case UN_EVENT_EOF:
        return un_deliver_eof(port, conn);
    case UN_EVENT_DRAIN:
        return deliver_drain(port, conn);
    case UN_EVENT_CLOSE:
        return un_deliver_close(port, conn, event->reason);
    case UN_EVENT_MOVE:
        return deliver_move(port, conn);
    default:
        return 0;
    }
}

/* CLOSE behind events that still wait. A task may be waiting for on_drain, which could not come any more. */
static int put_close(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    conn->flags |= UN_GONE;
    if (conn->tasks > 0 && (conn->flags & UN_REPORTED_SLOW) && deliver_drained(port, conn) < 0) {
        conn->flags &= ~(uint32_t)UN_GONE;
        return -1;
    }
    un_connection_leave(conn);
    return un_inbox_put(port, conn, event);
}

/* Events of a connection that is closing, paused, or busy with a task; or that is to close when it is idle. */
static int deliver_unusual(struct un_port_object *port, struct un_connection *conn, const struct un_event *event)
{
    bool is_input = event->type == UN_EVENT_DATA || event->type == UN_EVENT_EOF;
    if (event->type == UN_EVENT_SKIP)
        return 0; /* nothing of it waits for its turn */
    conn->flags &= ~(uint32_t)UN_INTERRUPTED;
    un_review(conn);
    if (conn->flags & UN_CLOSE_IDLE)
        un_attention(conn);
    if (event->type == UN_EVENT_DRAIN)
        return deliver_drain(port, conn);
    if (event->type == UN_EVENT_MOVE)
        return deliver_move(port, conn);
    if (is_input && (conn->flags & UN_CLOSED)) {
        if (event->type == UN_EVENT_DATA)
            un_port_free_frame(port->end, event->frame);
        return 0;
    }
    if (event->type == UN_EVENT_CLOSE && (conn->flags & (UN_WORKING | UN_WAITING)))
        return put_close(port, conn, event);
    if (event->type != UN_EVENT_CLOSE && un_is_held_back(conn))
        return un_inbox_put(port, conn, event);
    return deliver_plainly(port, conn, event);
}

int un_deliver(struct un_port_object *port, const struct un_event *event)
{
    struct un_connection *conn = port->slots[UN_ID_SLOT(event->conn)].connection;
    if (!conn || conn->id != event->conn) {
        int met = un_connection_meet(port, event, &conn);
        if (met <= 0)
            return met;
    }
    int status = conn->flags & UN_UNUSUAL ? deliver_unusual(port, conn, event) : deliver_plainly(port, conn, event);
    if (__builtin_expect(status < 0, 0) && conn->port) {
        conn->flags |= UN_INTERRUPTED;
        un_attention(conn); /* dirty if what the callback did is committed without its event */
    }
    return status;
}

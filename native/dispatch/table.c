/* Which connections this process knows, and the life of their objects.
 *
 * A slot remembers the generation of a connection from its CONNECT on; an object is made when a callback needs one. An
 * event of a connection that this process does not know comes from one that an earlier worker opened: it is resumed.
 * After CLOSE the engine gives the slot to another connection, so an object that lives on has a copy of
 * its entry. */
#include "objects.h"

#include <string.h>

static const struct un_conn no_entry; /* when there was no memory for a copy */

/* Bytes that a dead worker sent on this connection and the engine did not take yet. */
static uint64_t inherited_bytes(const struct un_port_object *port, uint64_t id)
{
    const struct un_port *end = port->end;
    uint64_t bytes = 0;
    for (uint32_t i = un_observe(&end->published->commands_consumed); (int32_t)(port->inherited - i) > 0; i++) {
        const struct un_command *command = &end->commands[un_ring_slot(&end->command_ring, i)];
        if (command->op == UN_COMMAND_SEND && command->conn == id)
            bytes += command->length;
    }
    return bytes;
}

/* The blob that a dead worker committed and the engine did not take yet, as bytes; NULL without an exception: none. */
static PyObject *inherited_state(const struct un_port_object *port, uint64_t id)
{
    const struct un_port *end = port->end;
    const struct un_command *found = NULL;
    for (uint32_t i = un_observe(&end->published->commands_consumed); (int32_t)(port->inherited - i) > 0; i++) {
        const struct un_command *command = &end->commands[un_ring_slot(&end->command_ring, i)];
        if (command->op == UN_COMMAND_STATE && command->conn == id)
            found = command;
    }
    if (!found)
        return NULL;
    uint64_t at = (uint64_t)found->frame * end->header->config.tx_frame_bytes + found->offset;
    return PyBytes_FromStringAndSize((const char *)end->tx_frames + at, found->length);
}

static void link_attached(struct un_port_object *port, struct un_connection *conn)
{
    conn->port = port;
    conn->next = port->attached;
    if (port->attached)
        port->attached->previous = conn;
    port->attached = conn;
    port->objects++;
}

static void unlink_attached(struct un_connection *conn)
{
    struct un_port_object *port = conn->port;
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        port->attached = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    conn->next = conn->previous = NULL;
    conn->port = NULL;
    port->objects--;
}

/* An object for a connection of the table, attached; a borrowed reference. */
struct un_connection *un_connection_new(struct un_port_object *port, uint64_t id)
{
    PyTypeObject *type = port->module->connection_type;
    struct un_connection *conn = (struct un_connection *)type->tp_alloc(type, 0);
    if (!conn)
        return NULL;
    conn->id = id;
    conn->entry = un_conn_at(port->end->public, UN_ID_SLOT(id));
    conn->sent = un_load(&conn->entry->bytes_queued);
    conn->seen_out = un_load(&conn->entry->bytes_out);
    conn->context = Py_NewRef(Py_None);
    link_attached(port, conn);
    port->slots[UN_ID_SLOT(id)].connection = conn;
    return conn;
}

static int call_on_resume(struct un_port_object *port, struct un_connection *conn)
{
    if (!port->callbacks[UN_ON_RESUME] || un_call(port, conn, UN_ON_RESUME, NULL) == 0)
        return 1;
    un_connection_detach(conn); /* to be resumed anew */
    return -1;
}

/* 1, or -1. A DRAIN that comes first was asked for by the earlier worker: its handler had been told of a slow peer. */
static int resume(struct un_port_object *port, const struct un_event *event, struct un_connection **conn)
{
    struct un_connection *resumed = un_connection_new(port, event->conn);
    if (!resumed)
        return -1;
    resumed->sent += inherited_bytes(port, event->conn);
    resumed->state = inherited_state(port, event->conn);
    if (!resumed->state && PyErr_Occurred()) {
        un_connection_detach(resumed);
        return -1;
    }
    if (resumed->entry->flags & UN_CONN_PAUSED)
        resumed->flags |= UN_READ_PAUSED | UN_STOPPED;
    if (event->type == UN_EVENT_DRAIN && port->callbacks[UN_ON_DRAIN])
        resumed->flags |= UN_REPORTED_SLOW;
    port->slots[UN_ID_SLOT(event->conn)].generation = UN_ID_GENERATION(event->conn);
    port->tally.resumed++;
    *conn = resumed;
    return call_on_resume(port, resumed);
}

static int pass_over(struct un_port_object *port, const struct un_event *event)
{
    if (event->type == UN_EVENT_DATA)
        un_port_free_frame(port->end, event->frame);
    if (event->type != UN_EVENT_MOVE)
        return 0;
    if (un_answer_reserve(port) < 0)
        return -1;
    un_answer_release(port, event->conn);
    return 0;
}

/* Would no callback be called for this event? EOF closes by default, so it is never without effect. */
static bool is_without_effect(const struct un_port_object *port, const struct un_event *event)
{
    switch (event->type) {
    case UN_EVENT_CONNECT:
        return !port->callbacks[UN_ON_CONNECT];
    case UN_EVENT_DATA:
        return !port->callbacks[UN_ON_DATA];
    case UN_EVENT_DRAIN:
        return !port->callbacks[UN_ON_DRAIN];
    case UN_EVENT_CLOSE:
        return !port->callbacks[UN_ON_CLOSE];
    case UN_EVENT_EOF:
        return false;
    default:
        return true;
    }
}

/* A connection that has no object. 1: it has one now; 0: the event is of no interest; -1: an exception leaves. */
int un_connection_meet(struct un_port_object *port, const struct un_event *event, struct un_connection **conn)
{
    struct un_slot *slot = &port->slots[UN_ID_SLOT(event->conn)];
    uint32_t generation = UN_ID_GENERATION(event->conn);
    if (event->type == UN_EVENT_SKIP || !un_port_conn(port->end, event->conn))
        return pass_over(port, event);
    if (event->type == UN_EVENT_CONNECT)
        slot->generation = generation;
    bool is_known = slot->generation == generation;
    if (!is_known && !port->resumes) {
        un_port_command(port->end, UN_COMMAND_ABORT, event->conn, UN_REASON_ERROR);
        return pass_over(port, event);
    }
    if (is_without_effect(port, event)) {
        if (event->type == UN_EVENT_CLOSE)
            slot->generation = 0;
        return pass_over(port, event);
    }
    if (!is_known)
        return resume(port, event, conn);
    *conn = un_connection_new(port, event->conn);
    return *conn ? 1 : -1;
}

void un_connection_free_entry(struct un_connection *conn)
{
    if ((conn->flags & UN_LEFT) && conn->entry != &no_entry)
        PyMem_Free((void *)(uintptr_t)conn->entry);
}

static const struct un_conn *copy_entry(const struct un_port_object *port, const struct un_conn *entry)
{
    size_t bytes = sizeof *entry + port->end->header->config.state_bytes;
    void *copy = PyMem_Malloc(bytes);
    return copy ? memcpy(copy, entry, bytes) : &no_entry;
}

void un_connection_leave(struct un_connection *conn)
{
    struct un_slot *slot = &conn->port->slots[UN_ID_SLOT(conn->id)];
    if (conn->flags & UN_LEFT)
        return;
    conn->entry = copy_entry(conn->port, conn->entry);
    conn->flags |= UN_GONE | UN_LEFT;
    if (conn->flags & UN_DIRTY)
        un_set_dirty(conn, false);
    un_overflow_clear(conn);
    un_crowd_forget(conn);
    conn->owed = 0;
    un_answer_forget(conn);
    slot->connection = NULL;
    slot->generation = 0;
}

void un_connection_detach(struct un_connection *conn)
{
    if (!conn->port)
        return;
    un_connection_leave(conn);
    un_inbox_clear(conn);
    unlink_attached(conn);
    Py_DECREF(conn);
}

void un_connection_detach_if_done(struct un_connection *conn)
{
    if (conn->port && (conn->flags & UN_LEFT) && conn->tasks == 0 && !(conn->flags & UN_WAITING))
        un_connection_detach(conn);
}

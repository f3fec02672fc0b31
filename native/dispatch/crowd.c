/* How much may wait in the memory of a worker, all connections together (P5).
 *
 * Output behind slow peers (overflow.c) and input behind slow callbacks (inbox.c) are counted as the memory they take.
 * Each sum has the same limit, --buffer-limit.
 *
 * Output. Up to half of the limit a connection knows only its own limit (UN_SEND_LIMIT). Beyond, the worker is crowded,
 * and a connection may hold share = (limit - held) / count; count is the connections with overflow, itself included.
 * 256 MiB, of which 300 connections hold 150: share = 106 MiB / 301 = 360 KiB. A send that would make it more raises
 * SendBufferFull. So the sum stays below the limit, but for one send that is larger than half of it, which is taken
 * while less than half waits. Send frames are not in the sum: what fits into them is always taken. When there are none,
 * a connection without overflow may still put UN_SEND_FREELY bytes aside.
 *
 * Whoever was refused is owed on_drain. If something of the connection waits, its own DRAIN brings it. Otherwise it
 * stands in a list, and asks for a DRAIN when the worker is no longer crowded: one connection per commit, oldest
 * first. The DRAIN causes the next commit, so all come to try while there is room, and none while there is not.
 * Until it asks, no command promises its on_drain: it is dirty.
 *
 * Input. Beyond half of the limit the engine is told to stop receiving as soon as a callback's task runs, not after a
 * few events. What was in the ring by then still arrives; a connection whose copy would exceed the limit is reset.
 */
#include "objects.h"

void un_crowd_count_overflow(struct un_port_object *port, int64_t bytes, int64_t held)
{
    port->overflow_bytes += (uint64_t)bytes;
    port->overflow_held += (uint64_t)held;
    un_assert(port->overflow_bytes <= port->overflow_held);
    port->crowded = port->overflow_held > port->buffer_limit / 2;
}

/* Whether `held` more bytes are more than the connection's share. */
bool un_crowd_refuses(const struct un_connection *conn, uint64_t held)
{
    const struct un_port_object *port = conn->port;
    uint64_t free = port->buffer_limit > port->overflow_held ? port->buffer_limit - port->overflow_held : 0;
    uint64_t count = port->overflowing + (conn->overflow ? 0u : 1u);
    return un_overflow_held(conn) + held > free / count;
}

/* To try again when less waits. */
void un_crowd_wait(struct un_connection *conn)
{
    struct un_port_object *port = conn->port;
    if (conn->flags & UN_NO_ROOM)
        return;
    conn->flags |= UN_NO_ROOM;
    conn->next_no_room = NULL;
    conn->previous_no_room = port->no_room_last;
    if (port->no_room_last)
        port->no_room_last->next_no_room = conn;
    else
        port->no_room = conn;
    port->no_room_last = conn;
    un_review(conn);
}

void un_crowd_forget(struct un_connection *conn)
{
    struct un_port_object *port = conn->port;
    if (!(conn->flags & UN_NO_ROOM))
        return;
    conn->flags &= ~(uint32_t)UN_NO_ROOM;
    if (conn->previous_no_room)
        conn->previous_no_room->next_no_room = conn->next_no_room;
    else
        port->no_room = conn->next_no_room;
    if (conn->next_no_room)
        conn->next_no_room->previous_no_room = conn->previous_no_room;
    else
        port->no_room_last = conn->previous_no_room;
    conn->next_no_room = conn->previous_no_room = NULL;
}

/* A port that is stopped reads no DRAIN; its successor will, and has memory of its own. */
void un_crowd_let_one_try(struct un_port_object *port)
{
    if (port->crowded && !port->stopped)
        return;
    struct un_connection *conn = port->no_room;
    un_crowd_forget(conn);
    un_owe(conn, UN_OWE_DRAIN);
}

void un_crowd_count_input(struct un_port_object *port, int64_t held)
{
    port->inbox_held += (uint64_t)held;
    un_assert(port->inbox_held <= port->buffer_limit);
}

bool un_crowd_slows_input(const struct un_port_object *port)
{
    return port->inbox_held > port->buffer_limit / 2;
}

bool un_crowd_refuses_input(const struct un_port_object *port, uint64_t held)
{
    return port->inbox_held + held > port->buffer_limit;
}

/* The commit, and what must happen around it.
 *
 * Connections that have something to do at the next commit stand in the attention list: a changed state blob (its
 * command is part of the commit), commands or output that found no room, those that may be idle now and are to close
 * then, and dirty ones that may be clean afterwards. A connection is dirty while something of it cannot be part of a
 * commit; its byte is set before the commit that would otherwise lose it, and cleared after the commit that made
 * it whole. */
#include "objects.h"

#include "inline.h"

bool un_is_settled(const struct un_connection *conn)
{
    return !conn->overflow && !conn->owed && !(conn->flags & (UN_WORKING | UN_WAITING | UN_INTERRUPTED | UN_NO_ROOM));
}

/* Is to be tried again at the next commit; false when a DRAIN will come and be read, or nothing waits. */
static bool is_pressing(const struct un_connection *conn)
{
    bool drain_comes = (conn->flags & UN_ASKED_DRAIN) && !conn->port->stopped;
    if (conn->overflow && drain_comes)
        return conn->owed & ~(UN_OWE_EOF | UN_OWE_CLOSE);
    return conn->overflow || conn->owed;
}

static bool is_known_to_engine(const struct un_connection *conn)
{
    return conn->port && !(conn->flags & UN_GONE);
}

void un_attention(struct un_connection *conn)
{
    if (!is_known_to_engine(conn) || (conn->flags & UN_ATTENTION))
        return;
    conn->flags |= UN_ATTENTION;
    conn->next_attention = conn->port->attention;
    conn->port->attention = (struct un_connection *)Py_NewRef(conn);
}

void un_set_dirty(struct un_connection *conn, bool dirty)
{
    un_port_set_dirty(conn->port->end, conn->id, dirty);
    if (dirty) {
        conn->flags |= UN_DIRTY;
        conn->port->dirty++;
    } else {
        conn->flags &= ~(uint32_t)UN_DIRTY;
        conn->port->dirty--;
    }
}

void un_review(struct un_connection *conn)
{
    if (!is_known_to_engine(conn))
        return;
    bool settled = un_is_settled(conn);
    if (!settled && !(conn->flags & UN_DIRTY))
        un_set_dirty(conn, true);
    if (settled ? conn->flags & UN_DIRTY : is_pressing(conn))
        un_attention(conn);
}

void un_owe(struct un_connection *conn, uint8_t owed)
{
    conn->owed |= owed;
    un_output_settle(conn);
    un_review(conn);
}

void un_place_state(struct un_connection *conn)
{
    if (!(conn->owed & UN_OWE_STATE))
        return;
    uint32_t length = (uint32_t)PyBytes_GET_SIZE(conn->state);
    if (un_port_state(conn->port->end, conn->id, PyBytes_AS_STRING(conn->state), length))
        conn->owed &= (uint8_t)~UN_OWE_STATE;
}

/* UN_HAS_INPUT of all connections that have objects. */
static void mark_input(struct un_port_object *port, bool mark)
{
    uint32_t count = un_port_peek(port->end);
    for (uint32_t i = 0; i < count; i++) {
        const struct un_event *event = un_port_event(port->end, i);
        struct un_connection *conn = port->slots[UN_ID_SLOT(event->conn)].connection;
        if (conn && conn->id == event->conn)
            conn->flags = mark ? conn->flags | UN_HAS_INPUT : conn->flags & ~(uint32_t)UN_HAS_INPUT;
    }
}

/* Close what waits for nothing but a next request. The ring is looked through once for all of them; one that has input
 * there comes back here when it was delivered. */
static void close_idle(struct un_port_object *port)
{
    bool marked = false;
    for (struct un_connection *conn = port->attention; conn; conn = conn->next_attention) {
        bool is_asked = is_known_to_engine(conn) && (conn->flags & (UN_CLOSE_IDLE | UN_CLOSED)) == UN_CLOSE_IDLE;
        if (!is_asked || (conn->flags & UN_READ_PAUSED) || !un_is_settled(conn))
            continue;
        if (!marked)
            mark_input(port, true);
        marked = true;
        if (!(conn->flags & UN_HAS_INPUT))
            un_connection_close(conn);
    }
    if (marked)
        mark_input(port, false);
}

static void before_commit(struct un_port_object *port)
{
    bool may_close = false;
    for (struct un_connection *conn = port->attention; conn; conn = conn->next_attention) {
        if (!is_known_to_engine(conn))
            continue;
        un_output_settle(conn);
        un_place_state(conn);
        un_review(conn);
        may_close |= conn->flags & UN_CLOSE_IDLE;
    }
    if (may_close)
        close_idle(port);
    if (port->kept == 0)
        return;
    for (struct un_connection *conn = port->attention; conn; conn = conn->next_attention) {
        if (is_known_to_engine(conn) && (conn->flags & UN_KEPT) && un_is_settled(conn))
            un_answer_settled(conn);
    }
}

static void after_commit(struct un_port_object *port)
{
    struct un_connection *conn = port->attention;
    port->attention = NULL;
    while (conn) {
        struct un_connection *next = conn->next_attention;
        conn->flags &= ~(uint32_t)UN_ATTENTION;
        if (is_known_to_engine(conn)) {
            if ((conn->flags & UN_DIRTY) && un_is_settled(conn))
                un_set_dirty(conn, false);
            if (is_pressing(conn))
                un_attention(conn);
        }
        Py_DECREF(conn);
        conn = next;
    }
}

static void publish_refusals(struct un_worker_counters *counters, const struct un_tally *tally)
{
    un_count(&counters->sends_full, tally->sends_full);
    un_count(&counters->sends_crowded, tally->sends_crowded);
    un_count(&counters->inputs_crowded, tally->inputs_crowded);
}

/* Shared counters change once per commit. */
static void publish_counters(struct un_port_object *port)
{
    struct un_worker_counters *counters = &port->end->mine->counters;
    const struct un_tally *tally = &port->tally;
    un_count(&counters->worker_commands, port->end->command_ring.own - UN_COMMIT_COMMANDS(port->end->committed));
    un_count(&counters->worker_bytes_in, tally->bytes_in);
    un_count(&counters->worker_bytes_out, tally->bytes_out);
    un_count(&counters->copied_out, tally->copied_out);
    un_count(&counters->resumed, tally->resumed);
    un_count(&counters->handler_errors, tally->errors);
    un_count(&counters->sends_refused, tally->refused);
    un_count(&counters->sends_overflowed, tally->overflowed);
    if (tally->sends_full | tally->sends_crowded | tally->inputs_crowded)
        publish_refusals(counters, tally);
    un_store(&counters->held_frames, port->lease->held);
    un_store(&counters->overflow_bytes, port->overflow_bytes);
    un_store(&counters->inbox_held, port->inbox_held);
    un_store(&counters->objects, port->objects);
    port->tally = (struct un_tally){0};
}

void un_commit(struct un_port_object *port)
{
    if (port->no_room)
        un_crowd_let_one_try(port);
    if (port->answer_count > 0)
        un_answers_place(port);
    if (port->attention)
        before_commit(port);
    publish_counters(port);
    bool pending = un_port_pending(port->end);
    un_port_commit(port->end);
    port->credit = UINT32_MAX;
    if (port->attention)
        after_commit(port);
    if (pending && port->lease->engine)
        un_inline_take_commits(port->lease->engine);
}

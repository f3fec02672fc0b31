/* Sending: from any buffer into send frames, or into the overflow behind a slow peer.
 *
 * What waits for a connection is what we put into send frames, less what the transport took (bytes_out of the table),
 * plus its overflow. bytes_out lies on a line that the engine writes, so it is read only when the amount known to wait
 * at most is no longer small. The engine's bytes_queued is the truth about what is in send frames whenever all commands
 * were taken; the count starts from it on a resumed connection and is corrected by it.
 *
 * A connection with overflow asks for a DRAIN when half of what is in its frames was sent, and moves on then. One that
 * has nothing in frames, because frames or ring are used up by others, is tried again at
 * each commit. */
#include "objects.h"

static uint64_t in_frames(const struct un_connection *conn)
{
    return conn->sent - conn->seen_out;
}

static void look_at_table(struct un_connection *conn)
{
    const struct un_port *end = conn->port->end;
    if (un_observe(&end->published->commands_consumed) == end->command_ring.own)
        conn->sent = un_load(&conn->entry->bytes_queued);
    conn->seen_out = un_load(&conn->entry->bytes_out);
    if (conn->sent < conn->seen_out)
        conn->sent = conn->seen_out;
}

uint64_t un_output_size(struct un_connection *conn)
{
    if (!conn->port || (conn->flags & UN_GONE))
        return 0;
    look_at_table(conn);
    return in_frames(conn) + un_overflow_bytes(conn);
}

/* write_buffer_size is no more than `limit`; looks at the table only if it might be. */
static bool is_at_most(struct un_connection *conn, uint64_t limit)
{
    uint64_t overflow = un_overflow_bytes(conn);
    if (in_frames(conn) + overflow > limit)
        look_at_table(conn);
    return in_frames(conn) + overflow <= limit;
}

/* How much more may go into send frames. One that has nothing there may always send a little. */
static uint64_t room(struct un_connection *conn)
{
    struct un_port_object *port = conn->port;
    if (port->credit == UINT32_MAX)
        port->credit = un_port_credit(port->end);
    look_at_table(conn);
    uint64_t limit = port->credit > UN_SEND_FREELY ? port->credit : UN_SEND_FREELY;
    return in_frames(conn) < limit ? limit - in_frames(conn) : 0;
}

bool un_output_may_send(struct un_connection *conn)
{
    return conn->port && !(conn->flags & (UN_GONE | UN_CLOSED | UN_EOF_SENT));
}

/* Whether the frames take all of it, as far as can be told before. */
static bool fits_into_frames(struct un_connection *conn, size_t length)
{
    if (conn->overflow)
        return false;
    conn->port->credit = UINT32_MAX; /* sends since the last look may have used up what it promised */
    return length <= room(conn);
}

/* Ask for DRAIN once; its mark lies below what waits now, so that it does not come before something was sent. */
static void ask_drain(struct un_connection *conn)
{
    uint64_t mark = in_frames(conn) / 2 < UN_LOW_WATER ? in_frames(conn) / 2 : UN_LOW_WATER;
    if (un_port_command(conn->port->end, UN_COMMAND_WANT_DRAIN, conn->id, mark))
        conn->flags |= UN_ASKED_DRAIN;
    else
        conn->owed |= UN_OWE_DRAIN;
}

static void ask_drain_if_needed(struct un_connection *conn)
{
    conn->owed &= (uint8_t)~UN_OWE_DRAIN;
    if (conn->flags & UN_ASKED_DRAIN)
        return;
    bool behind_frames = conn->overflow && in_frames(conn) > 0;
    bool behind_water = !conn->overflow && (conn->flags & UN_REPORTED_SLOW);
    if (behind_frames || behind_water)
        ask_drain(conn);
}

static bool place(struct un_connection *conn, uint8_t owed, enum un_command_op op, uint64_t argument)
{
    if (!(conn->owed & owed))
        return true;
    if (!un_port_command(conn->port->end, op, conn->id, argument))
        return false;
    conn->owed &= (uint8_t)~owed;
    return true;
}

/* Do now what can be done now: overflow, then the commands behind it, then those that wait for nothing. */
void un_output_settle(struct un_connection *conn)
{
    if (!conn->port || (conn->flags & UN_GONE) || conn->port->forked)
        return;
    if (conn->owed & UN_OWE_ABORT) {
        place(conn, UN_OWE_ABORT, UN_COMMAND_ABORT, conn->abort_reason);
        return;
    }
    if (conn->overflow)
        un_overflow_flush(conn, room(conn));
    if (!conn->overflow && place(conn, UN_OWE_EOF, UN_COMMAND_SEND_EOF, 0))
        place(conn, UN_OWE_CLOSE, UN_COMMAND_CLOSE, 0);
    place(conn, UN_OWE_READING, conn->flags & UN_STOPPED ? UN_COMMAND_PAUSE : UN_COMMAND_RESUME, 0);
    ask_drain_if_needed(conn);
}

/* Put aside what the frames did not take. */
static int put_aside(struct un_connection *conn, const void *bytes, size_t length, PyObject *owner)
{
    if (un_overflow_put(conn, bytes, length, owner) < 0)
        return -1;
    conn->port->tally.overflowed++;
    ask_drain_if_needed(conn);
    un_review(conn);
    return 0;
}

static int send_with_care(struct un_connection *conn, const char *bytes, size_t length, PyObject *owner)
{
    uint32_t taken = 0;
    if (!conn->overflow) {
        uint64_t most = room(conn);
        taken = un_port_send(conn->port->end, conn->id, bytes, (uint32_t)(length < most ? length : most));
        conn->sent += taken;
    }
    return taken < length ? put_aside(conn, bytes + taken, length - taken, owner) : 0;
}

/* The handler waits for on_drain, if it has one. */
static void owe_on_drain(struct un_connection *conn)
{
    if (!conn->port->callbacks[UN_ON_DRAIN])
        return;
    conn->flags |= UN_REPORTED_SLOW;
    if (conn->overflow || in_frames(conn) > 0) {
        ask_drain_if_needed(conn);
        un_review(conn);
    } else {
        un_crowd_wait(conn);
    }
}

static int tell_slow(struct un_connection *conn)
{
    conn->port->tally.refused++;
    owe_on_drain(conn);
    return 0;
}

/* Take all bytes. 1: no more than the high water waits, 0: more does, -1 with an exception. */
int un_output_send(struct un_connection *conn, const void *bytes, size_t length, PyObject *owner)
{
    conn->port->tally.bytes_out += length;
    if (!conn->overflow && in_frames(conn) + length <= UN_SEND_FREELY) {
        uint32_t taken = un_port_send(conn->port->end, conn->id, bytes, (uint32_t)length);
        conn->sent += taken;
        if (taken == length)
            return 1;
        bytes = (const char *)bytes + taken;
        length -= taken;
    }
    if (length > 0 && send_with_care(conn, bytes, length, owner) < 0)
        return -1;
    return is_at_most(conn, UN_HIGH_WATER) ? 1 : tell_slow(conn);
}

static bool is_over_limit(struct un_connection *conn)
{
    if (is_at_most(conn, UN_SEND_LIMIT))
        return false;
    PyErr_Format(conn->port->module->send_buffer_full,
                 "send: %llu bytes wait already, the limit is %u; go on after on_drain",
                 (unsigned long long)un_output_size(conn), UN_SEND_LIMIT);
    conn->port->tally.sends_full++;
    return true;
}

static __attribute__((noinline, cold)) bool refuse_if_too_much(struct un_connection *conn, size_t length, size_t pieces)
{
    struct un_port_object *port = conn->port;
    if (fits_into_frames(conn, length) || !un_crowd_refuses(conn, length + pieces * UN_ITEM_BYTES))
        return false;
    PyErr_Format(port->module->send_buffer_full,
                 "send: %zu bytes are too many while %llu of %llu wait in this worker for slow peers (--buffer-limit); "
                 "send less at once, or go on after on_drain",
                 length, (unsigned long long)port->overflow_held, (unsigned long long)port->buffer_limit);
    port->tally.sends_crowded++;
    owe_on_drain(conn);
    return true;
}

/* Whether the worker is too crowded for a send of so many pieces; then nothing of it was taken. */
static inline bool is_crowded_out(struct un_connection *conn, size_t length, size_t pieces)
{
    return __builtin_expect(conn->port->crowded, 0) && refuse_if_too_much(conn, length, pieces);
}

static int send_bytes(struct un_connection *conn, PyObject *data)
{
    size_t length = (size_t)PyBytes_GET_SIZE(data);
    return is_crowded_out(conn, length, 1) ? -1 : un_output_send(conn, PyBytes_AS_STRING(data), length, data);
}

static int send_one(struct un_connection *conn, PyObject *data)
{
    Py_buffer view;
    int status = -1;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return -1;
    if (!un_output_may_send(conn)) /* an exporter may run code that closes */
        un_connection_raise_closed(conn);
    else if (!is_crowded_out(conn, (size_t)view.len, 1))
        status = un_output_send(conn, view.buf, (size_t)view.len, data);
    PyBuffer_Release(&view);
    return status;
}

static size_t length_of(const Py_buffer *views, Py_ssize_t count)
{
    size_t length = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        length += (size_t)views[i].len;
    return length;
}

static int send_views(struct un_connection *conn, PyObject *pieces, const Py_buffer *views)
{
    Py_ssize_t count = PyTuple_GET_SIZE(pieces);
    if (!un_output_may_send(conn)) { /* a generator or an exporter may run code that closes */
        un_connection_raise_closed(conn);
        return -1;
    }
    if (is_crowded_out(conn, length_of(views, count), (size_t)count))
        return -1;
    int status = is_at_most(conn, UN_HIGH_WATER);
    for (Py_ssize_t i = 0; i < count && status >= 0; i++)
        status = un_output_send(conn, views[i].buf, (size_t)views[i].len, PyTuple_GET_ITEM(pieces, i));
    return status;
}

/* All pieces are looked at before the first is taken: a wrong one takes nothing. */
static int send_pieces(struct un_connection *conn, PyObject *pieces)
{
    int status = -1;
    Py_ssize_t open = 0, count = PyTuple_GET_SIZE(pieces);
    Py_buffer *views = PyMem_New(Py_buffer, (size_t)count);
    if (!views) {
        PyErr_NoMemory();
        return -1;
    }
    while (open < count && PyObject_GetBuffer(PyTuple_GET_ITEM(pieces, open), &views[open], PyBUF_SIMPLE) == 0)
        open++;
    if (open == count)
        status = send_views(conn, pieces, views);
    while (open > 0)
        PyBuffer_Release(&views[--open]);
    PyMem_Free(views);
    return status;
}

static int send_iterable(struct un_connection *conn, PyObject *data)
{
    bool is_iterable = Py_TYPE(data)->tp_iter || PySequence_Check(data);
    if (PyUnicode_Check(data) || !is_iterable) {
        PyErr_Format(PyExc_TypeError, "send: a bytes-like object or an iterable of them is needed, not %.100s",
                     Py_TYPE(data)->tp_name);
        return -1;
    }
    PyObject *pieces = PySequence_Tuple(data);
    if (!pieces)
        return -1;
    int status = send_pieces(conn, pieces);
    Py_DECREF(pieces);
    return status;
}

PyObject *un_output_send_object(struct un_connection *conn, PyObject *data)
{
    int status;
    if (!un_output_may_send(conn))
        return un_connection_raise_closed(conn);
    if (is_over_limit(conn))
        return NULL;
    if (PyBytes_CheckExact(data))
        status = send_bytes(conn, data);
    else if (PyObject_CheckBuffer(data))
        status = send_one(conn, data);
    else
        status = send_iterable(conn, data);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

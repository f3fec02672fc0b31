/* Connection: what a handler sees of one. Attributes are read from the table's entry, methods become commands. */
#include "objects.h"

#include <arpa/inet.h>
#include <structmember.h>

PyObject *un_connection_raise_closed(const struct un_connection *conn)
{
    struct un_module *module = un_module_of(Py_TYPE(conn));
    const char *why = conn->flags & UN_EOF_SENT && !(conn->flags & (UN_CLOSED | UN_GONE)) ? "send_eof was called"
                                                                                        : "it is closed";
    PyErr_Format(module->connection_closed, "connection %llu: %s", (unsigned long long)conn->id, why);
    return NULL;
}

/* Whether a method that changes something may go on; the exception is set otherwise. */
static bool is_in_loop_thread(const struct un_connection *conn)
{
    if (!conn->port || conn->port->thread == PyThread_get_thread_ident())
        return true;
    if (conn->port->forked) {
        un_fork_raise(conn->port);
        return false;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "connection %llu: used by another thread than its loop's; pass the call to loop.call_soon_threadsafe",
                 (unsigned long long)conn->id);
    return false;
}

static bool is_open(const struct un_connection *conn)
{
    return conn->port && !(conn->flags & (UN_GONE | UN_CLOSED));
}

void un_connection_close(struct un_connection *conn)
{
    if (!is_open(conn))
        return;
    conn->flags |= UN_CLOSED;
    un_crowd_forget(conn);
    un_inbox_drop_data(conn);
    un_owe(conn, UN_OWE_CLOSE);
    un_inbox_wake(conn);
}

void un_connection_abort(struct un_connection *conn, enum un_reason reason)
{
    if (!conn->port || (conn->flags & (UN_GONE | UN_ABORTED)))
        return;
    conn->flags |= UN_CLOSED | UN_ABORTED;
    conn->abort_reason = (uint8_t)reason;
    conn->owed = 0;
    un_overflow_clear(conn);
    un_crowd_forget(conn);
    un_inbox_drop_data(conn);
    un_owe(conn, UN_OWE_ABORT);
    un_inbox_wake(conn);
}

static PyObject *connection_send(PyObject *self, PyObject *data)
{
    struct un_connection *conn = (struct un_connection *)self;
    return is_in_loop_thread(conn) ? un_output_send_object(conn, data) : NULL;
}

static PyObject *connection_send_eof(PyObject *self, PyObject *unused)
{
    struct un_connection *conn = (struct un_connection *)self;
    (void)unused;
    if (!is_in_loop_thread(conn))
        return NULL;
    if (!is_open(conn))
        return un_connection_raise_closed(conn);
    if (!(conn->flags & UN_EOF_SENT)) {
        conn->flags |= UN_EOF_SENT;
        un_owe(conn, UN_OWE_EOF);
    }
    Py_RETURN_NONE;
}

static PyObject *connection_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!is_in_loop_thread((struct un_connection *)self))
        return NULL;
    un_connection_close((struct un_connection *)self);
    Py_RETURN_NONE;
}

static PyObject *connection_abort(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!is_in_loop_thread((struct un_connection *)self))
        return NULL;
    un_connection_abort((struct un_connection *)self, UN_REASON_ABORTED);
    Py_RETURN_NONE;
}

static PyObject *connection_close_when_idle(PyObject *self, PyObject *unused)
{
    struct un_connection *conn = (struct un_connection *)self;
    (void)unused;
    if (!is_in_loop_thread(conn))
        return NULL;
    if (is_open(conn)) {
        conn->flags |= UN_CLOSE_IDLE;
        un_attention(conn);
    }
    Py_RETURN_NONE;
}

static PyObject *connection_run_in_context(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                                           PyObject *names)
{
    if (!is_in_loop_thread((struct un_connection *)self))
        return NULL;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run_in_context: a function to call is needed");
        return NULL;
    }
    return un_vars_run((struct un_connection *)self, arguments[0], arguments + 1, (size_t)count - 1, names);
}

static PyObject *set_reading(PyObject *self, bool paused)
{
    struct un_connection *conn = (struct un_connection *)self;
    if (!is_in_loop_thread(conn))
        return NULL;
    if (conn->port) {
        conn->flags = paused ? conn->flags | UN_READ_PAUSED : conn->flags & ~(uint32_t)UN_READ_PAUSED;
        un_reading_update(conn);
        un_inbox_wake(conn);
        if (conn->flags & UN_CLOSE_IDLE)
            un_attention(conn);
    }
    Py_RETURN_NONE;
}

static PyObject *connection_pause_reading(PyObject *self, PyObject *unused)
{
    (void)unused;
    return set_reading(self, true);
}

static PyObject *connection_resume_reading(PyObject *self, PyObject *unused)
{
    (void)unused;
    return set_reading(self, false);
}

static PyObject *connection_statistics(PyObject *self, PyObject *unused)
{
    struct un_connection *conn = (struct un_connection *)self;
    const struct un_conn *entry = conn->entry;
    (void)unused;
    PyObject *module = PyImport_ImportModule("usnet_framework.connection");
    if (!module)
        return NULL;
    PyObject *statistics = PyObject_CallMethod(
        module, "ConnectionStatistics", "KKKKKK", (unsigned long long)un_load(&entry->bytes_in),
        (unsigned long long)un_load(&entry->bytes_out), (unsigned long long)un_output_size(conn),
        (unsigned long long)un_overflow_bytes(conn), (unsigned long long)entry->opened_ns,
        (unsigned long long)un_load(&entry->active_ns));
    Py_DECREF(module);
    return statistics;
}

static PyObject *endpoint_tuple(const struct un_endpoint *endpoint)
{
    char text[INET6_ADDRSTRLEN];
    switch (endpoint->family) {
    case UN_FAMILY_IPV4:
        inet_ntop(AF_INET, endpoint->ip, text, sizeof text);
        return Py_BuildValue("(sI)", text, (unsigned)endpoint->port);
    case UN_FAMILY_IPV6:
        inet_ntop(AF_INET6, endpoint->ip, text, sizeof text);
        return Py_BuildValue("(sIII)", text, (unsigned)endpoint->port, 0u, endpoint->scope);
    default:
        return PyUnicode_FromString("");
    }
}

static PyObject *get_peer(PyObject *self, void *unused)
{
    (void)unused;
    return endpoint_tuple(&((struct un_connection *)self)->entry->peer);
}

static PyObject *get_local(PyObject *self, void *unused)
{
    (void)unused;
    return endpoint_tuple(&((struct un_connection *)self)->entry->local);
}

static PyObject *get_id(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct un_connection *)self)->id);
}

static PyObject *get_write_buffer_size(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(un_output_size((struct un_connection *)self));
}

static PyObject *get_closed(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!is_open((struct un_connection *)self));
}

static PyObject *get_state(PyObject *self, void *unused)
{
    struct un_connection *conn = (struct un_connection *)self;
    (void)unused;
    if (conn->state)
        return Py_NewRef(conn->state);
    const char *blob = (const char *)(conn->entry + 1);
    return PyBytes_FromStringAndSize(blob, conn->entry->state_length);
}

static int set_state(PyObject *self, PyObject *value, void *unused)
{
    struct un_connection *conn = (struct un_connection *)self;
    (void)unused;
    if (!is_in_loop_thread(conn))
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "state cannot be deleted; set it to b''");
        return -1;
    }
    PyObject *state = PyBytes_FromObject(value);
    if (!state)
        return -1;
    if (!is_open(conn)) {
        Py_DECREF(state);
        un_connection_raise_closed(conn);
        return -1;
    }
    uint32_t most = conn->port->end->header->config.state_bytes;
    if (PyBytes_GET_SIZE(state) > (Py_ssize_t)most) {
        PyErr_Format(PyExc_ValueError, "state: %zd bytes, the limit is %u (--state-bytes)", PyBytes_GET_SIZE(state),
                     most);
        Py_DECREF(state);
        return -1;
    }
    Py_XSETREF(conn->state, state);
    conn->owed |= UN_OWE_STATE;
    un_attention(conn);
    return 0;
}

static PyObject *connection_repr(PyObject *self)
{
    struct un_connection *conn = (struct un_connection *)self;
    PyObject *peer = endpoint_tuple(&conn->entry->peer);
    if (!peer)
        return NULL;
    PyObject *text = PyUnicode_FromFormat("<Connection %llu peer=%R%s>", (unsigned long long)conn->id, peer,
                                          is_open(conn) ? "" : " closed");
    Py_DECREF(peer);
    return text;
}

static int connection_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct un_connection *conn = (struct un_connection *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(conn->context);
    Py_VISIT(conn->vars);
    return 0;
}

static int connection_clear(PyObject *self)
{
    Py_CLEAR(((struct un_connection *)self)->context);
    Py_CLEAR(((struct un_connection *)self)->vars);
    return 0;
}

/* Only detached connections die: an attached one is owned by its Port. */
static void connection_dealloc(PyObject *self)
{
    struct un_connection *conn = (struct un_connection *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (conn->weak_references)
        PyObject_ClearWeakRefs(self);
    un_connection_free_entry(conn);
    Py_CLEAR(conn->context);
    Py_CLEAR(conn->vars);
    Py_CLEAR(conn->state);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef connection_methods[] = {
    {"send", connection_send, METH_O,
     "Send bytes or an iterable of them; False when the peer is slow: go on in on_drain. SendBufferFull when too much\n"
     "waits already, of this connection or of all, ConnectionClosed after the end: then nothing was taken."},
    {"send_eof", connection_send_eof, METH_NOARGS, "Close the sending side after what was sent."},
    {"close", connection_close, METH_NOARGS, "Close after what was sent is out."},
    {"close_when_idle", connection_close_when_idle, METH_NOARGS,
     "Close as soon as no callback runs, nothing waits in this worker and no input is at hand; now if that is so."},
    {"run_in_context", (PyCFunction)(void (*)(void))connection_run_in_context, METH_FASTCALL | METH_KEYWORDS,
     "Call a function in the contextvars.Context of this connection; what it returns."},
    {"abort", connection_abort, METH_NOARGS, "Reset at once; what waits to be sent is dropped."},
    {"pause_reading", connection_pause_reading, METH_NOARGS, "Hold on_data back until resume_reading."},
    {"resume_reading", connection_resume_reading, METH_NOARGS, "Let on_data come again."},
    {"statistics", connection_statistics, METH_NOARGS, "A ConnectionStatistics of now."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef connection_attributes[] = {
    {"id", get_id, NULL, "64 bits: shard, slot, generation.", NULL},
    {"peer", get_peer, NULL, "Address of the peer as socket gives it; '' for a unix socket.", NULL},
    {"local", get_local, NULL, "Address on our side.", NULL},
    {"closed", get_closed, NULL, "True after close or abort, and once the connection is gone.", NULL},
    {"write_buffer_size", get_write_buffer_size, NULL, "Bytes sent that the transport has not taken yet.", NULL},
    {"state", get_state, set_state, "Bytes that outlive this worker; committed with its output.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef connection_members[] = {
    {"context", T_OBJECT, offsetof(struct un_connection, context), 0, "Yours; lives in this worker only."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct un_connection, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, "A connection, as its handler sees it. Made by the dispatcher; use it from the loop's thread only."},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_repr, connection_repr},
    {Py_tp_methods, connection_methods},
    {Py_tp_getset, connection_attributes},
    {Py_tp_members, connection_members},
    {0, NULL},
};

PyType_Spec un_connection_spec = {
    .name = "usnet_framework._dispatch.Connection",
    .basicsize = sizeof(struct un_connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};

/* Port: a worker's dispatcher, and the verbs that its event loop's selector uses.
 *
 *   run -> commit -> spin -> sleep, wait for wake_fd and port_wake_fd, awake -> run ...
 *
 * sleep says no while anything is left to do here: events, inboxes that are ready, frames given back and
 * not published. */
#include "objects.h"

#include <structmember.h>
#include <sys/eventfd.h>
#include <time.h>

#include "inline.h"

#define LOOKS_PER_CLOCK 64 /* looks at the ring for each look at the clock while spinning */

static struct un_port_object *as_port(PyObject *self)
{
    return (struct un_port_object *)self;
}

/* See fork.c. No slice frees the lease now, and none gives its frame back; no thread is the loop's; a run that made
 * this child looks at its port before the next event. */
static void leave_to_parent(struct un_fork_member *member)
{
    struct un_port_object *port = (struct un_port_object *)((char *)member - offsetof(struct un_port_object, fork));
    un_fork_replace(port->end->memory, port->end->header->layout.port_bytes);
    port->forked = true;
    port->lease->open = false;
    port->lease->held++;
    port->thread = 0;
    port->redelivered = UINT32_MAX;
}

static bool is_usable(const struct un_port_object *port)
{
    if (!port->lease)
        PyErr_SetString(PyExc_ValueError, "the port is closed");
    else if (port->forked)
        un_fork_raise(port);
    else if (port->running)
        PyErr_SetString(PyExc_RuntimeError, "a handler's callback may not drive the port that called it");
    else
        return true;
    return false;
}

struct arguments {
    int public_fd, port_fd, engine_wake_fd, port_wake_fd, resumes;
    unsigned int number;
    PyObject *handler, *engine;
};

static int open_end(struct un_port_object *port, const struct arguments *from)
{
    struct un_lease *lease = port->lease;
    lease->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int status = lease->wake_fd < 0 ? -errno : 0;
    const char *why = NULL;
    if (status == 0 && from->engine) {
        lease->engine = Py_NewRef(from->engine);
        status = un_inline_attach(from->engine, &lease->end, &why);
    } else if (status == 0) {
        status = un_port_open(&lease->end, from->public_fd, from->port_fd, from->number, from->engine_wake_fd,
                              from->port_wake_fd, &why);
    }
    if (status == 0)
        return 0;
    un_raise_segment(-status, why);
    return -1;
}

static int open_port(struct un_port_object *port, const struct arguments *from)
{
    port->lease = un_lease_new();
    if (!port->lease || open_end(port, from) < 0)
        return -1;
    port->end = &port->lease->end;
    port->slots = PyMem_RawCalloc(port->end->header->config.conn_max, sizeof *port->slots);
    port->tasks = PySet_New(NULL);
    if (!port->slots)
        PyErr_NoMemory();
    if (!port->slots || !port->tasks)
        return -1;
    port->redelivered = un_port_peek(port->end); /* of one of these a worker may have died, perhaps of the last */
    port->inherited = port->end->command_ring.own;
    port->thread = PyThread_get_thread_ident();
    port->credit = UINT32_MAX;
    port->ready_tail = &port->ready;
    port->resumes = from->resumes;
    un_fork_join(&port->fork, leave_to_parent);
    port->buffer_limit = (uint64_t)port->end->header->config.buffer_mib << 20;
    return un_vars_start(port) < 0 ? -1 : un_handler_bind(port, from->handler);
}

static PyObject *port_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"public_fd", "port_fd", "number", "engine_wake_fd", "port_wake_fd",
                            "handler",   "resumes", "engine", NULL};
    struct arguments from = {-1, -1, -1, -1, 1, 0, NULL, NULL};
    struct un_module *module = un_module_of(type);
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|iiIiiOp$O:Port", names, &from.public_fd, &from.port_fd,
                                     &from.number, &from.engine_wake_fd, &from.port_wake_fd, &from.handler,
                                     &from.resumes, &from.engine))
        return NULL;
    if (from.engine == Py_None)
        from.engine = NULL;
    if (!from.handler || (from.engine && !Py_IS_TYPE(from.engine, module->engine_type))) {
        PyErr_SetString(PyExc_TypeError, "Port: a handler is needed, and engine must be an Engine");
        return NULL;
    }
    struct un_port_object *port = as_port(type->tp_alloc(type, 0));
    if (!port)
        return NULL;
    port->module = module;
    if (open_port(port, &from) < 0)
        Py_CLEAR(port);
    return (PyObject *)port;
}

static void drop_list(struct un_connection **list, size_t link)
{
    struct un_connection *conn = *list;
    *list = NULL;
    while (conn) {
        struct un_connection *next = *(struct un_connection **)((char *)conn + link);
        Py_DECREF(conn);
        conn = next;
    }
}

/* Connections become closed ones; the memories go when the last view does. What is dirty stays so in the segment: the
 * engine has to know when this worker is gone. */
static void close_port(struct un_port_object *port)
{
    if (!port->lease)
        return;
    while (port->attached) {
        port->attached->flags &= ~(uint32_t)UN_DIRTY;
        un_connection_detach(port->attached);
    }
    un_assert(port->overflow_bytes == 0 && port->overflow_held == 0 && port->overflowing == 0);
    un_assert(port->inbox_held == 0 && !port->no_room);
    port->dirty = 0;
    drop_list(&port->attention, offsetof(struct un_connection, next_attention));
    drop_list(&port->ready, offsetof(struct un_connection, next_ready));
    port->ready_tail = &port->ready;
    struct un_lease *lease = port->lease;
    un_fork_quit(&port->fork);
    port->lease = NULL;
    port->end = NULL;
    un_lease_close(lease);
    PyMem_RawFree(port->slots);
    port->slots = NULL;
    PyMem_Free(port->answers);
    port->answers = NULL;
    port->answer_count = port->answer_capacity = 0;
}

static PyObject *port_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (as_port(self)->lease && !as_port(self)->forked && !is_usable(as_port(self)))
        return NULL;
    close_port(as_port(self));
    Py_RETURN_NONE;
}

static PyObject *port_use_context(PyObject *self, PyObject *context)
{
    if (!is_usable(as_port(self)))
        return NULL;
    if (!PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError, "use_context: a contextvars.Context is needed, not %.100s",
                     Py_TYPE(context)->tp_name);
        return NULL;
    }
    un_vars_use(as_port(self), context);
    Py_RETURN_NONE;
}

static PyObject *port_run(PyObject *self, PyObject *unused)
{
    struct un_port_object *port = as_port(self);
    (void)unused;
    if (!is_usable(port))
        return NULL;
    if (!port->slept)
        un_count(&port->end->mine->counters.worker_turns, 1);
    port->slept = false;
    port->running = true;
    PyThreadState *state = PyThreadState_Get();
    port->thread = state->thread_id;
    Py_ssize_t count = un_batch_run(port, state);
    port->running = false;
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

static PyObject *port_commit(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!is_usable(as_port(self)))
        return NULL;
    un_commit(as_port(self));
    Py_RETURN_NONE;
}

static PyObject *set_stopped(PyObject *self, bool stopped)
{
    if (!is_usable(as_port(self)))
        return NULL;
    as_port(self)->stopped = stopped;
    for (struct un_connection *conn = as_port(self)->attached; conn; conn = conn->next)
        un_review(conn); /* no DRAIN is read now: overflow is tried at each commit */
    Py_RETURN_NONE;
}

static PyObject *port_stop(PyObject *self, PyObject *unused)
{
    (void)unused;
    return set_stopped(self, true);
}

static PyObject *port_start(PyObject *self, PyObject *unused)
{
    (void)unused;
    return set_stopped(self, false);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static bool spin_until(struct un_port *end, uint64_t deadline_ns)
{
    do {
        for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
            if (un_port_peek(end) > 0)
                return true;
            un_relax();
        }
    } while (clock_ns() < deadline_ns);
    return false;
}

static PyObject *port_spin(PyObject *self, PyObject *nanoseconds)
{
    bool caught;
    unsigned long long most = PyLong_AsUnsignedLongLong(nanoseconds);
    if (PyErr_Occurred() || !is_usable(as_port(self)))
        return NULL;
    struct un_port *end = as_port(self)->end;
    if (as_port(self)->stopped)
        Py_RETURN_FALSE;
    Py_BEGIN_ALLOW_THREADS;
    caught = spin_until(end, clock_ns() + most);
    Py_END_ALLOW_THREADS;
    return PyBool_FromLong(caught);
}

/* Whether something waits for space in the segment. */
static bool is_pressed(const struct un_port_object *port)
{
    return port->attention || port->answer_count > 0;
}

static PyObject *port_sleep(PyObject *self, PyObject *unused)
{
    struct un_port_object *port = as_port(self);
    (void)unused;
    if (!is_usable(port))
        return NULL;
    if (port->ready || un_port_pending(port->end))
        Py_RETURN_FALSE;
    if (!port->stopped && !un_port_sleep(port->end, is_pressed(port)))
        Py_RETURN_FALSE;
    port->lease->asleep = true;
    port->slept = !port->lease->engine; /* inline, the first run of a turn comes after its sleep */
    Py_RETURN_TRUE;
}

static PyObject *port_awake(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!is_usable(as_port(self)))
        return NULL;
    as_port(self)->lease->asleep = false;
    un_port_awake(as_port(self)->end);
    Py_RETURN_NONE;
}

static int add_number(PyObject *dict, const char *name, uint64_t value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int status = number ? PyDict_SetItemString(dict, name, number) : -1;
    Py_XDECREF(number);
    return status;
}

static PyObject *port_statistics(PyObject *self, PyObject *unused)
{
    struct un_port_object *port = as_port(self);
    (void)unused;
    if (!is_usable(port))
        return NULL;
    const struct un_worker_counters *counters = &port->end->mine->counters;
    PyObject *dict = PyDict_New();
    if (!dict)
        return NULL;
#define ADD(name, text) || add_number(dict, #name, un_load(&counters->name)) < 0
    bool failed = add_number(dict, "held_frames", port->lease->held) < 0 ||
                  add_number(dict, "overflow_bytes", port->overflow_bytes) < 0 ||
                  add_number(dict, "overflow_held", port->overflow_held) < 0 ||
                  add_number(dict, "inbox_held", port->inbox_held) < 0 ||
                  add_number(dict, "objects", port->objects) < 0 UN_WORKER_COUNTERS(ADD);
#undef ADD
    if (failed)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *get_pending_work(PyObject *self, void *unused)
{
    struct un_port_object *port = as_port(self);
    (void)unused;
    if (!port->lease)
        Py_RETURN_FALSE;
    bool waits = port->dirty > 0 || PySet_GET_SIZE(port->tasks) > 0 || port->answer_count > 0;
    return PyBool_FromLong(waits || un_port_pending(port->end));
}

static PyObject *get_pressed(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(is_pressed(as_port(self)));
}

static PyObject *get_wake_fd(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(as_port(self)->lease ? as_port(self)->lease->wake_fd : -1);
}

static PyObject *get_port_wake_fd(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(as_port(self)->lease ? as_port(self)->end->wake_fd : -1);
}

static int visit_lists(const struct un_port_object *port, visitproc visit, void *arg)
{
    for (struct un_connection *conn = port->attached; conn; conn = conn->next)
        Py_VISIT(conn);
    for (struct un_connection *conn = port->attention; conn; conn = conn->next_attention)
        Py_VISIT(conn);
    for (struct un_connection *conn = port->ready; conn; conn = conn->next_ready)
        Py_VISIT(conn);
    return 0;
}

static int port_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct un_port_object *port = as_port(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(port->handler);
    Py_VISIT(port->tasks);
    Py_VISIT(port->vars.base);
    Py_VISIT(port->vars.scratch);
    Py_VISIT(port->vars.home);
    for (int i = 0; i < UN_CALLBACKS; i++)
        Py_VISIT(port->callbacks[i]);
    for (int i = 0; i < (int)UN_REASONS; i++)
        Py_VISIT(port->reasons[i]);
    return visit_lists(port, visit, arg);
}

static int port_clear(PyObject *self)
{
    struct un_port_object *port = as_port(self);
    close_port(port);
    Py_CLEAR(port->handler);
    Py_CLEAR(port->tasks);
    Py_CLEAR(port->vars.base);
    Py_CLEAR(port->vars.scratch);
    Py_CLEAR(port->vars.home);
    for (int i = 0; i < UN_CALLBACKS; i++)
        Py_CLEAR(port->callbacks[i]);
    for (int i = 0; i < (int)UN_REASONS; i++)
        Py_CLEAR(port->reasons[i]);
    return 0;
}

static void port_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    port_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef port_methods[] = {
    {"run", port_run, METH_NOARGS, "Deliver a batch of events and commit; how many events."},
    {"use_context", port_use_context, METH_O,
     "Where run is called in this contextvars.Context, callbacks may change it."},
    {"commit", port_commit, METH_NOARGS, "Publish what was sent outside of a batch, and frames given back."},
    {"spin", port_spin, METH_O, "Look for events for so many nanoseconds, without the GIL; True when there are some."},
    {"sleep", port_sleep, METH_NOARGS, "True when it is safe to wait for the descriptors; call awake afterwards."},
    {"awake", port_awake, METH_NOARGS, "The wait is over."},
    {"stop", port_stop, METH_NOARGS, "Take no more events; finish and commit what was taken."},
    {"start", port_start, METH_NOARGS, "Undo stop."},
    {"statistics", port_statistics, METH_NOARGS, "Counters and gauges of this worker by name."},
    {"close", port_close, METH_NOARGS, "Let go of the segment; views stay valid, connections are closed ones."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef port_members[] = {
    {"dirty", T_UINT, offsetof(struct un_port_object, dirty), READONLY, "Connections with work that is in no commit."},
    {"handler", T_OBJECT, offsetof(struct un_port_object, handler), READONLY, "The handler it calls."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef port_attributes[] = {
    {"pending_work", get_pending_work, NULL, "True while output, tasks or anything uncommitted is left.", NULL},
    {"pressed", get_pressed, NULL, "True while something waits for space in the segment: commit again soon.", NULL},
    {"wake_fd", get_wake_fd, NULL, "The eventfd by which this process wakes its loop, -1: none.", NULL},
    {"port_wake_fd", get_port_wake_fd, NULL, "The pipe by which the engine does, -1: it is in this process.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot port_slots[] = {
    {Py_tp_doc, "Port(public_fd, port_fd, number, engine_wake_fd, port_wake_fd, handler, resumes, *, engine=None)\n\n"
                "A worker's dispatcher. OSError: the descriptors are not those of a segment."},
    {Py_tp_new, port_new},
    {Py_tp_dealloc, port_dealloc},
    {Py_tp_traverse, port_traverse},
    {Py_tp_clear, port_clear},
    {Py_tp_methods, port_methods},
    {Py_tp_members, port_members},
    {Py_tp_getset, port_attributes},
    {0, NULL},
};

PyType_Spec un_port_spec = {
    .name = "usnet_framework._dispatch.Port",
    .basicsize = sizeof(struct un_port_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = port_slots,
};

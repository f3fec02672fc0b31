/* Step: the coroutine of a callback, which says of each of its steps that it runs (P3).
 *
 * The port's memory has a word that names what its worker is in. Where a task of a callback goes on, between two events
 * of the ring, the word names the connection that it belongs to; so does it while an event that waited behind the task
 * is delivered. A worker that dies or hangs there is then known to have done so for this connection.
 *
 * A task drives a Step in the coroutine's place: am_send, throw and close are passed on, between two stores. Everything
 * else that one asks of a Step is an attribute of the coroutine (its frame, its name), so that a task shows what it
 * shows without one. */
#include "objects.h"

struct step {
    PyObject_HEAD
    struct un_connection *conn;
    PyObject *coroutine;
};

static struct step *as_step(PyObject *self)
{
    return (struct step *)self;
}

/* The word as it was, for un_step_leave. Of a connection whose place in the table is another one's it says nothing. */
uint64_t un_step_enter(struct un_port_object *port, const struct un_connection *conn)
{
    un_shared64 *handling = &port->end->mine->handling;
    uint64_t before = un_load(handling);
    if (UN_HANDLING_WHAT(before) != UN_RUNNING_EVENT) /* an eager task's first step is part of its event */
        un_store(handling, conn->flags & UN_LEFT ? 0 : UN_HANDLING_TASK(UN_ID_SLOT(conn->id)));
    un_compiler_fence();
    return before;
}

/* A process that ends by the exception that is set ends in this step: the mark stays. */
void un_step_leave(struct un_port_object *port, uint64_t before, bool failed)
{
    bool ends = failed && (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt));
    if (!port->lease || ends)
        return;
    un_compiler_fence();
    un_store(&port->end->mine->handling, before);
}

/* Borrowed; NULL with an exception after the garbage collector has cleared a cycle that it was a part of. */
static PyObject *coroutine_of(PyObject *self)
{
    PyObject *coroutine = as_step(self)->coroutine;
    if (!coroutine)
        PyErr_SetString(PyExc_RuntimeError, "the garbage collector has taken the coroutine");
    return coroutine;
}

/* The port, for as long as the step runs; NULL: it is closed, or the connection has left it. */
static struct un_port_object *enter(struct step *self, uint64_t *before)
{
    struct un_port_object *port = self->conn ? self->conn->port : NULL;
    if (!port || !port->lease)
        return NULL;
    *before = un_step_enter(port, self->conn);
    return (struct un_port_object *)Py_NewRef(port);
}

static void leave(struct un_port_object *port, uint64_t before, bool failed)
{
    if (port)
        un_step_leave(port, before, failed);
    Py_XDECREF(port);
}

static PySendResult step_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    uint64_t before = 0;
    PyObject *coroutine = coroutine_of(self);
    *result = NULL;
    if (!coroutine)
        return PYGEN_ERROR;
    struct un_port_object *port = enter(as_step(self), &before);
    PySendResult outcome = PyIter_Send(coroutine, value, result);
    leave(port, before, outcome == PYGEN_ERROR);
    return outcome;
}

static PyObject *pass_on(PyObject *self, const char *name, PyObject *args)
{
    uint64_t before = 0;
    PyObject *coroutine = coroutine_of(self), *method = coroutine ? PyObject_GetAttrString(coroutine, name) : NULL;
    if (!method)
        return NULL;
    struct un_port_object *port = enter(as_step(self), &before);
    PyObject *result = PyObject_CallObject(method, args);
    leave(port, before, !result);
    Py_DECREF(method);
    return result;
}

static PyObject *step_send(PyObject *self, PyObject *args)
{
    return pass_on(self, "send", args);
}

static PyObject *step_throw(PyObject *self, PyObject *args)
{
    return pass_on(self, "throw", args);
}

static PyObject *step_close(PyObject *self, PyObject *args)
{
    return pass_on(self, "close", args);
}

static PyObject *step_getattro(PyObject *self, PyObject *name)
{
    PyObject *attribute = PyObject_GenericGetAttr(self, name);
    if (attribute || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return attribute;
    PyErr_Clear();
    PyObject *coroutine = coroutine_of(self);
    return coroutine ? PyObject_GetAttr(coroutine, name) : NULL;
}

static PyObject *step_repr(PyObject *self)
{
    return PyObject_Repr(as_step(self)->coroutine);
}

/* What drives the coroutine of a callback of this connection; a reference, or NULL with an exception. */
PyObject *un_step_new(struct un_port_object *port, struct un_connection *conn, PyObject *coroutine)
{
    struct step *step = PyObject_GC_New(struct step, port->module->step_type);
    if (!step)
        return NULL;
    step->conn = (struct un_connection *)Py_NewRef(conn);
    step->coroutine = Py_NewRef(coroutine);
    PyObject_GC_Track(step);
    return (PyObject *)step;
}

static int step_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_step(self)->conn);
    Py_VISIT(as_step(self)->coroutine);
    return 0;
}

static int step_clear(PyObject *self)
{
    Py_CLEAR(as_step(self)->conn);
    Py_CLEAR(as_step(self)->coroutine);
    return 0;
}

static void step_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    step_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef step_methods[] = {
    {"send", step_send, METH_VARARGS, "As of the coroutine."},
    {"throw", step_throw, METH_VARARGS, "As of the coroutine."},
    {"close", step_close, METH_NOARGS, "As of the coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot step_slots[] = {
    {Py_tp_doc, "The coroutine of a callback, which says of each of its steps that it runs."},
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_traverse, step_traverse},
    {Py_tp_clear, step_clear},
    {Py_tp_getattro, step_getattro},
    {Py_tp_repr, step_repr},
    {Py_tp_methods, step_methods},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, step_am_send},
    {0, NULL},
};

PyType_Spec un_step_spec = {
    .name = "usnet_framework._dispatch.Step",
    .basicsize = sizeof(struct step),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = step_slots,
};

/* The handler: which callbacks it overrides, and what their results and exceptions mean.
 *
 * A callback that is the no-op of the base class is not called at all. A coroutine becomes a task (tasks.c). An
 * exception goes to on_error, and the connection is aborted unless that returns True; KeyboardInterrupt and SystemExit
 * are nobody's error and leave
 * the dispatcher. */
#include "objects.h"

static const char *const callback_names[UN_CALLBACKS] = {
    [UN_ON_CONNECT] = "on_connect", [UN_ON_DATA] = "on_data",   [UN_ON_EOF] = "on_eof",     [UN_ON_DRAIN] = "on_drain",
    [UN_ON_CLOSE] = "on_close",     [UN_ON_RESUME] = "on_resume", [UN_ON_ERROR] = "on_error",
};

/* The bound method, or NULL without an exception when it is the base class's own and may be skipped. */
static PyObject *bind_callback(PyObject *handler, PyObject *base, enum un_callback which)
{
    PyObject *bound = PyObject_GetAttrString(handler, callback_names[which]);
    PyObject *inherited = PyObject_GetAttrString(base, callback_names[which]);
    if (bound && inherited && which != UN_ON_ERROR && PyMethod_Check(bound) &&
        PyMethod_GET_FUNCTION(bound) == inherited)
        Py_CLEAR(bound);
    if (!inherited)
        Py_CLEAR(bound);
    Py_XDECREF(inherited);
    return bound;
}

static int load_reasons(struct un_port_object *port, PyObject *module)
{
    PyObject *type = PyObject_GetAttrString(module, "CloseReason");
    if (!type)
        return -1;
    for (int i = 0; i < (int)UN_REASONS; i++) {
        port->reasons[i] = PyObject_CallFunction(type, "i", i <= UN_REASON_LAST ? i : UN_REASON_SYSTEM);
        if (!port->reasons[i])
            break;
    }
    Py_DECREF(type);
    return PyErr_Occurred() ? -1 : 0;
}

static int bind_callbacks(struct un_port_object *port, PyObject *handler, PyObject *base)
{
    int is_handler = PyObject_IsInstance(handler, base);
    if (is_handler == 0)
        PyErr_Format(PyExc_TypeError, "Port: handler must be an instance of usnet_framework.Handler, not %.100s",
                     Py_TYPE(handler)->tp_name);
    if (is_handler <= 0)
        return -1;
    for (int i = 0; i < UN_CALLBACKS; i++) {
        port->callbacks[i] = bind_callback(handler, base, i);
        if (!port->callbacks[i] && PyErr_Occurred())
            return -1;
    }
    port->handler = Py_NewRef(handler);
    return 0;
}

int un_handler_bind(struct un_port_object *port, PyObject *handler)
{
    PyObject *module = PyImport_ImportModule("usnet_framework.handler");
    PyObject *base = module ? PyObject_GetAttrString(module, "Handler") : NULL;
    int status = base ? bind_callbacks(port, handler, base) : -1;
    if (status == 0)
        status = load_reasons(port, module);
    Py_XDECREF(base);
    Py_XDECREF(module);
    return status;
}

/* The exception that is set, normalised; a reference. */
PyObject *un_take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static bool leaves_dispatcher(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit);
}

static void abort_after_error(struct un_connection *conn)
{
    if (!conn->port || (conn->flags & (UN_GONE | UN_ABORTED)))
        return;
    un_connection_abort(conn, UN_REASON_ERROR);
}

/* Ask on_error. 0, or -1 when its own exception is to leave the dispatcher. */
int un_handler_failed(struct un_port_object *port, struct un_connection *conn, PyObject *exception)
{
    PyObject *arguments[3] = {NULL, (PyObject *)conn, exception};
    port->tally.errors++;
    if (!port->running && !un_vars_of(conn)) /* of a task: outside of batches nothing is there to run in */
        return -1;
    PyObject *verdict = un_vars_call(port, conn, port->callbacks[UN_ON_ERROR], arguments + 1,
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET);
    if (!verdict && leaves_dispatcher())
        return -1;
    if (!verdict)
        PyErr_WriteUnraisable(port->callbacks[UN_ON_ERROR]);
    if (verdict != Py_True)
        abort_after_error(conn);
    Py_XDECREF(verdict);
    return 0;
}

static int raised(struct un_port_object *port, struct un_connection *conn)
{
    if (leaves_dispatcher())
        return -1;
    PyObject *exception = un_take_exception();
    int status = un_handler_failed(port, conn, exception);
    Py_DECREF(exception);
    return status;
}

/* What a callback returned, when it was not None; takes the reference. */
int un_handler_result(struct un_port_object *port, struct un_connection *conn, PyObject *result)
{
    int status = 0;
    if (result && PyCoro_CheckExact(result))
        status = un_task_start(port, conn, result);
    Py_XDECREF(result);
    return result && status == 0 ? 0 : raised(port, conn);
}

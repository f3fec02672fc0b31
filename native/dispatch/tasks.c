/* Callbacks that are coroutines: tasks of the running loop.
 *
 * While a task of a connection runs, the connection is dirty and its further events wait in its inbox. The coroutine
 * holds its arguments, so received data stays valid for it. All tasks of a connection run in its contextvars.Context. A
 * task that was cancelled failed: its connection is not answered, hence goes to on_error like any other. In a worker
 * that takes no more events it is the worker that cancels what was not finished in time: then the connection is reset,
 * and on_error, which would ask whether to keep it, is not called. */
#include "objects.h"

/* The exception a finished task ended with; NULL without an exception set: none. */
static PyObject *task_exception(PyObject *task)
{
    PyObject *exception = PyObject_CallMethod(task, "exception", NULL); /* raises when it was cancelled */
    if (!exception)
        return un_take_exception();
    if (exception == Py_None)
        Py_CLEAR(exception);
    return exception;
}

static int task_failed(struct un_port_object *port, struct un_connection *conn, PyObject *exception)
{
    if (!port->stopped || !PyErr_GivenExceptionMatches(exception, port->module->cancelled_error))
        return un_handler_failed(port, conn, exception);
    un_connection_abort(conn, UN_REASON_ERROR);
    return 0;
}

static PyObject *task_done(PyObject *self, PyObject *task)
{
    struct un_connection *conn = (struct un_connection *)self;
    struct un_port_object *port = conn->port;
    PyObject *exception = task_exception(task);
    int status = 0;
    if (--conn->tasks == 0)
        conn->flags &= ~(uint32_t)UN_WORKING;
    if (port) {
        Py_INCREF(port);
        status = PySet_Discard(port->tasks, task) < 0 ? -1 : 0;
        if (status == 0 && exception)
            status = task_failed(port, conn, exception);
        un_reading_update(conn);
        un_inbox_wake(conn);
        un_review(conn);
        un_connection_detach_if_done(conn);
        Py_DECREF(port);
    }
    Py_XDECREF(exception);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef task_done_method = {"task_done", task_done, METH_O, "A callback's task of this connection ended."};

static PyObject *create_task(struct un_port_object *port, struct un_connection *conn, PyObject *coroutine)
{
    PyObject *loop = PyObject_CallNoArgs(port->module->get_running_loop);
    PyObject *vars = loop ? un_vars_of(conn) : NULL;
    PyObject *arguments[3] = {loop, coroutine, vars};
    PyObject *task = NULL;
    if (vars)
        task = PyObject_VectorcallMethod(port->module->create_task, arguments, 2, port->module->context_keyword);
    Py_XDECREF(loop);
    return task;
}

static int watch_task(struct un_port_object *port, struct un_connection *conn, PyObject *task)
{
    PyObject *done = PyCFunction_New(&task_done_method, (PyObject *)conn);
    PyObject *added = done ? PyObject_CallMethodOneArg(task, port->module->add_done_callback, done) : NULL;
    Py_XDECREF(done);
    if (!added)
        return -1;
    Py_DECREF(added);
    conn->tasks++;
    conn->flags |= UN_WORKING;
    un_reading_update(conn);
    un_review(conn);
    return PySet_Add(port->tasks, task);
}

/* Run a coroutine that a callback returned. 0 or -1 with an exception; the caller keeps its reference. */
int un_task_start(struct un_port_object *port, struct un_connection *conn, PyObject *coroutine)
{
    PyObject *step = un_step_new(port, conn, coroutine);
    PyObject *task = step ? create_task(port, conn, step) : NULL;
    Py_XDECREF(step);
    if (!task)
        return -1;
    int status = watch_task(port, conn, task);
    Py_DECREF(task);
    return status;
}

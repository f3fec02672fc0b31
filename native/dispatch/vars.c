/* Context variables: every connection has a contextvars.Context, as far as anybody can tell.
 *
 * What a callback sets is seen by later callbacks and tasks of its connection, and by nobody else. A connection begins
 * with the variables that were set when the Port was made: in on_warm and on_start.
 *
 * Callbacks run in a scratch context that is like the base, and after each one the content is compared. When it has
 * changed, the scratch becomes the connection's own, which its callbacks enter from then on, and a new scratch is made.
 * Tasks are made in a context of their connection always: asyncio would copy one anyway.
 *
 * Handlers that set no variable pay for a comparison per callback. The loop is in a context of its own, in which nobody
 * else runs (loop.py): there callbacks run without entering the scratch, as long as its content is the base's. The
 * first one that sets a variable spoils it, and the scratch is entered from then on.
 *
 * The content of a Context is an immutable map, a new one after every change, so its address tells. Python has no
 * function for it, but the garbage collector's tp_traverse visits it: that finds the place of the pointer within the
 * object, once. Where no place is found, every content counts as changed: then each connection gets a context of its
 * own at its first callback, which is right as well, and slower. */
#include "objects.h"

static Py_ssize_t content_at; /* 0: nobody knows */

static int visit_last(PyObject *object, void *last)
{
    *(const void **)last = object;
    return 0;
}

/* A Context visits the one that it was entered from, if any, and its content. */
static const void *ask_content(PyObject *context)
{
    const void *last = NULL;
    Py_TYPE(context)->tp_traverse(context, visit_last, &last);
    return last;
}

static const void *const *place_at(PyObject *context, Py_ssize_t at)
{
    return (const void *const *)((const char *)context + at);
}

static const void *const *place_of_content(PyObject *context)
{
    static const void *const unknown;
    return content_at ? place_at(context, content_at) : &unknown;
}

static int set_in(PyObject *context, PyObject *variable)
{
    if (PyContext_Enter(context) < 0)
        return -1;
    PyObject *token = PyContextVar_Set(variable, Py_None);
    Py_XDECREF(token);
    return PyContext_Exit(context) < 0 || !token ? -1 : 0;
}

static int discover(PyObject *context, PyObject *variable)
{
    const Py_ssize_t step = sizeof(void *), end = Py_TYPE(context)->tp_basicsize - step;
    const void *before = ask_content(context);
    Py_ssize_t at = sizeof(PyObject);
    while (at <= end && *place_at(context, at) != before)
        at += step;
    if (set_in(context, variable) < 0)
        return -1;
    const void *after = ask_content(context);
    content_at = before && after && before != after && at <= end && *place_at(context, at) == after ? at : 0;
    return 0;
}

/* Once for the process; -1 with an exception. */
int un_vars_discover(void)
{
    PyObject *context = PyContext_New();
    PyObject *variable = PyContextVar_New("usnet_framework", NULL);
    int status = context && variable ? discover(context, variable) : -1;
    Py_XDECREF(variable);
    Py_XDECREF(context);
    return status;
}

int un_vars_start(struct un_port_object *port)
{
    struct un_vars *vars = &port->vars;
    vars->base = PyContext_CopyCurrent();
    vars->scratch = vars->base ? PyContext_Copy(vars->base) : NULL;
    if (!vars->scratch)
        return -1;
    vars->content = ask_content(vars->base);
    vars->home = Py_NewRef(vars->base);
    vars->place = place_of_content(vars->home);
    return 0;
}

void un_vars_use(struct un_port_object *port, PyObject *context)
{
    Py_XSETREF(port->vars.home, Py_NewRef(context));
    port->vars.place = place_of_content(context);
}

static int enter_scratch(struct un_vars *vars)
{
    if (PyContext_Enter(vars->scratch) < 0)
        return -1;
    vars->entered = true;
    vars->place = place_of_content(vars->scratch);
    return 0;
}

int un_vars_enter(struct un_port_object *port)
{
    return enter_scratch(&port->vars);
}

static int leave_scratch(struct un_vars *vars)
{
    vars->entered = false;
    vars->place = place_of_content(vars->home);
    return PyContext_Exit(vars->scratch);
}

int un_vars_leave(struct un_port_object *port)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    int status = leave_scratch(&port->vars);
    if (type)
        PyErr_Restore(type, value, traceback);
    return status;
}

static int renew_scratch(struct un_vars *vars)
{
    PyObject *fresh = PyContext_Copy(vars->base);
    if (!fresh)
        return -1;
    Py_XSETREF(vars->scratch, fresh);
    return enter_scratch(vars);
}

static int adopt(struct un_vars *vars, struct un_connection *conn)
{
    if (!vars->entered) {
        conn->vars = PyContext_CopyCurrent();
        return conn->vars ? enter_scratch(vars) : -1;
    }
    if (leave_scratch(vars) < 0)
        return -1;
    conn->vars = Py_NewRef(vars->scratch);
    return renew_scratch(vars);
}

/* The connection's callback has set a variable, and returned `result`, NULL: it raised. 0, or -1 with an exception. */
int un_vars_adopt(struct un_port_object *port, struct un_connection *conn, PyObject *result)
{
    PyObject *type, *value, *traceback;
    if (result)
        return adopt(&port->vars, conn);
    PyErr_Fetch(&type, &value, &traceback);
    if (adopt(&port->vars, conn) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return -1;
    }
    PyErr_Restore(type, value, traceback);
    return 0;
}

PyObject *un_vars_of(struct un_connection *conn)
{
    if (!conn->vars)
        conn->vars = conn->port ? PyContext_Copy(conn->port->vars.base) : PyContext_CopyCurrent();
    return conn->vars;
}

static PyObject *call_within(PyObject *context, PyObject *callable, PyObject *const *arguments, size_t count,
                             PyObject *names)
{
    PyObject *type, *value, *traceback;
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *result = PyObject_Vectorcall(callable, arguments, count, names);
    PyErr_Fetch(&type, &value, &traceback);
    if (PyContext_Exit(context) == 0) {
        PyErr_Restore(type, value, traceback);
        return result;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_XDECREF(result);
    return NULL;
}

/* In the connection's own context, which nobody has entered at this place of a batch. */
PyObject *un_vars_call_inside(struct un_connection *conn, PyObject *callable, PyObject *const *arguments, size_t count)
{
    PyObject *context = Py_NewRef(conn->vars);
    PyObject *result = call_within(context, callable, arguments, count, NULL);
    Py_DECREF(context);
    return result;
}

/* Call a function in the connection's context, from wherever. RuntimeError, as from Context.run: that context was
 * entered, and another one within it. */
PyObject *un_vars_run(struct un_connection *conn, PyObject *callable, PyObject *const *arguments, size_t count,
                      PyObject *names)
{
    const struct un_port_object *port = conn->port;
    bool is_called = port && port->running && port->vars.caller == conn && !conn->vars;
    PyObject *context = !is_called ? un_vars_of(conn) : port->vars.entered ? port->vars.scratch : port->vars.home;
    if (!context)
        return NULL;
    if (PyThreadState_Get()->context == context)
        return PyObject_Vectorcall(callable, arguments, count, names);
    Py_INCREF(context);
    PyObject *result = call_within(context, callable, arguments, count, names);
    Py_DECREF(context);
    return result;
}

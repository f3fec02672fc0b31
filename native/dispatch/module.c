/* usnet_framework._dispatch: the types, and what the module keeps. See objects.h. */
#include "objects.h"

#include <errno.h>

#include "clone.h"
#include "inline.h"

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static PyObject *import_attribute(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *attribute = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return attribute;
}

static PyObject *keep_for_good(PyObject *module, PyObject *object)
{
    (void)module;
    Py_INCREF(object);
    Py_RETURN_NONE;
}

static PyMethodDef keeping_methods[] = {
    {"keep_for_good", keep_for_good, METH_O, "Never destroy this object, not even as the process ends."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    struct un_module *state = PyModule_GetState(module);
    bool complete = (state->slice_type = add_type(module, &un_slice_spec)) &&
                    (state->connection_type = add_type(module, &un_connection_spec)) &&
                    (state->port_type = add_type(module, &un_port_spec)) &&
                    (state->engine_type = add_type(module, &un_engine_spec)) &&
                    (state->step_type = add_type(module, &un_step_spec)) &&
                    (state->connection_closed = import_attribute("usnet_framework.errors", "ConnectionClosed")) &&
                    (state->send_buffer_full = import_attribute("usnet_framework.errors", "SendBufferFull")) &&
                    (state->worker_forked = import_attribute("usnet_framework.errors", "WorkerForked")) &&
                    (state->get_running_loop = import_attribute("asyncio", "get_running_loop")) &&
                    (state->cancelled_error = import_attribute("asyncio", "CancelledError")) &&
                    (state->context_keyword = Py_BuildValue("(s)", "context")) &&
                    (state->create_task = PyUnicode_InternFromString("create_task")) &&
                    (state->add_done_callback = PyUnicode_InternFromString("add_done_callback"));
    complete = complete && PyModule_AddFunctions(module, keeping_methods) == 0;
    if (complete && (errno = -un_fork_start()) != 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else if (complete)
        un_vars_discover();
    return PyErr_Occurred() ? -1 : 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct un_module *state = PyModule_GetState(module);
    Py_VISIT(state->port_type);
    Py_VISIT(state->connection_type);
    Py_VISIT(state->slice_type);
    Py_VISIT(state->engine_type);
    Py_VISIT(state->step_type);
    Py_VISIT(state->connection_closed);
    Py_VISIT(state->send_buffer_full);
    Py_VISIT(state->worker_forked);
    Py_VISIT(state->get_running_loop);
    Py_VISIT(state->cancelled_error);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct un_module *state = PyModule_GetState(module);
    Py_CLEAR(state->port_type);
    Py_CLEAR(state->connection_type);
    Py_CLEAR(state->slice_type);
    Py_CLEAR(state->engine_type);
    Py_CLEAR(state->step_type);
    Py_CLEAR(state->connection_closed);
    Py_CLEAR(state->send_buffer_full);
    Py_CLEAR(state->worker_forked);
    Py_CLEAR(state->get_running_loop);
    Py_CLEAR(state->cancelled_error);
    Py_CLEAR(state->context_keyword);
    Py_CLEAR(state->create_task);
    Py_CLEAR(state->add_done_callback);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef dispatch_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_dispatch",
    .m_doc = "A worker's dispatcher: events to a handler, output and progress in one commit.",
    .m_size = sizeof(struct un_module),
    .m_methods = un_clone_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__dispatch(void)
{
    return PyModuleDef_Init(&dispatch_module);
}

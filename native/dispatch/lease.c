/* The lease on a segment, and Slice: received bytes as a read-only buffer that owns its place in a receive frame.
 *
 * A memoryview over a Slice holds a reference to it, so the Slice dies with the last view, in whichever thread that
 * happens. Its frame then goes into the release ring, which the next commit publishes; if the loop's thread sleeps
 * meanwhile it is woken to commit, since an engine out of frames could not wake it. Dead slices are kept as spares: one
 * is needed
 * per event. */
#include "objects.h"

#include <unistd.h>

struct un_lease *un_lease_new(void)
{
    struct un_lease *lease = PyMem_Calloc(1, sizeof *lease);
    if (!lease) {
        PyErr_NoMemory();
        return NULL;
    }
    lease->open = true;
    lease->wake_fd = -1;
    return lease;
}

static void free_lease(struct un_lease *lease)
{
    while (lease->spares) {
        struct un_slice *spare = lease->spares;
        lease->spares = spare->next;
        PyObject_Free(spare);
    }
    un_port_close(&lease->end);
    if (lease->wake_fd >= 0)
        close(lease->wake_fd);
    Py_XDECREF(lease->engine);
    PyMem_Free(lease);
}

void un_lease_close(struct un_lease *lease)
{
    lease->open = false;
    if (lease->held == 0)
        free_lease(lease);
}

static struct un_slice *take_spare(struct un_lease *lease, PyTypeObject *type)
{
    struct un_slice *slice = lease->spares;
    if (!slice)
        return PyObject_New(struct un_slice, type);
    lease->spares = slice->next;
    lease->spare_count--;
    return (struct un_slice *)PyObject_Init((PyObject *)slice, type);
}

PyObject *un_slice_new(struct un_lease *lease, PyTypeObject *type, const struct un_event *event)
{
    struct un_slice *slice = take_spare(lease, type);
    if (!slice)
        return NULL;
    slice->lease = lease;
    slice->bytes = (uint8_t *)(uintptr_t)un_port_bytes(&lease->end, event);
    slice->length = event->length;
    slice->frame = event->frame;
    lease->held++;
    return (PyObject *)slice;
}

void un_slice_disown(PyObject *slice)
{
    ((struct un_slice *)slice)->frame = UN_NO_FRAME;
}

static void wake_loop(const struct un_lease *lease)
{
    uint64_t one = 1;
    ssize_t written = write(lease->wake_fd, &one, sizeof one);
    (void)written; /* EAGAIN: a wake-up is on its way */
}

static void slice_dealloc(PyObject *object)
{
    struct un_slice *slice = (struct un_slice *)object;
    struct un_lease *lease = slice->lease;
    PyTypeObject *type = Py_TYPE(object);
    lease->held--;
    if (lease->open && slice->frame != UN_NO_FRAME) {
        un_port_free_frame(&lease->end, slice->frame);
        if (lease->asleep && lease->wake_fd >= 0)
            wake_loop(lease);
    }
    if (lease->open && lease->spare_count < UN_SPARE_SLICES) {
        slice->next = lease->spares;
        lease->spares = slice;
        lease->spare_count++;
    } else {
        PyObject_Free(slice);
    }
    Py_DECREF(type);
    if (!lease->open && lease->held == 0)
        free_lease(lease);
}

static int slice_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    struct un_slice *slice = (struct un_slice *)object;
    return PyBuffer_FillInfo(view, object, slice->bytes, slice->length, 1, flags);
}

static PyType_Slot slice_slots[] = {
    {Py_tp_doc, "Received bytes; a buffer that gives its frame back when the last view on it dies."},
    {Py_tp_dealloc, slice_dealloc},
    {Py_bf_getbuffer, slice_getbuffer},
    {0, NULL},
};

PyType_Spec un_slice_spec = {
    .name = "usnet_framework._dispatch.Slice",
    .basicsize = sizeof(struct un_slice),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slice_slots,
};

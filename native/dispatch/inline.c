/* Engine: the network engine inside the worker process (inline layout).
 *
 * One thread drives both: a turn of the engine receives and fills the event ring, a run of the Port empties it, and its
 * commit is taken at once. There is no keeper: when this process ends, its connections do. The memories were formatted
 * by the parent, who wrote the engine's options into them. They are mapped writable as a whole; the engine's private
 * memory is anonymous.
 *
 * A simulation may give it all ports of a segment. Workers that sit at these open them as they do beside an engine of
 * another process (port.c); all of them turn by turn in one thread, so nobody has to be woken. */
#include "inline.h"

#include <fcntl.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/formats.h"
#include "engine/stack_setup.h"

struct memory {
    void *start; /* NULL: not mapped */
    size_t bytes;
};

struct engine_object {
    PyObject_HEAD
    struct un_engine *engine; /* NULL once closed */
    struct memory public, private, arena, frames;
    struct memory ports[UN_PORTS_MAX];
    uint32_t port_count;
    struct un_stack_setup stack; /* in use when there is an arena */
    int arena_fd, frames_fd;     /* -1: memory of our own */
    uint64_t exchange_wakes;
    struct un_fork_member fork;
    bool forked;
    int epoll_fd;
    uint64_t time_ns; /* where the caller says what time it is */
};

static struct engine_object *as_engine(PyObject *self)
{
    return (struct engine_object *)self;
}

static int map_file(struct memory *memory, int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -1;
    void *start = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (start == MAP_FAILED)
        return -1;
    *memory = (struct memory){start, (size_t)status.st_size};
    return 0;
}

static int map_private(struct memory *memory, uint64_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return -1;
    *memory = (struct memory){start, bytes};
    return 0;
}

static void unmap(struct memory *memory)
{
    if (memory->start)
        munmap(memory->start, memory->bytes);
    memory->start = NULL;
}

/* Of what was given, as errno and *why say. */
static int refuse(const char **why, const char *fault)
{
    *why = fault;
    errno = EINVAL;
    return -1;
}

static int map_port(struct engine_object *self, struct memory *port, int fd, const char **why)
{
    if (map_file(port, fd) < 0)
        return -1;
    if (port->bytes < un_header(self->public.start)->layout.port_bytes)
        return refuse(why, UN_PORT_SMALL);
    madvise(port->start, port->bytes, MADV_DONTFORK);
    return 0;
}

static int map_memories(struct engine_object *self, int public_fd, const int *port_fds, const char **why)
{
    if (map_file(&self->public, public_fd) < 0)
        return -1;
    if (un_formats_check(self->public.start, self->public.bytes, why) < 0)
        return refuse(why, *why);
    if (self->port_count != 1 && self->port_count != un_port_count(&un_header(self->public.start)->config))
        return refuse(why, "it has another number of ports");
    for (uint32_t i = 0; i < self->port_count; i++)
        if (map_port(self, &self->ports[i], port_fds[i], why) < 0)
            return -1;
    return map_private(&self->private, un_engine_private_bytes(&un_header(self->public.start)->config));
}

/* As much of a file, or of memory of our own. */
static int map_either(struct memory *memory, int fd, uint64_t bytes, const char **why)
{
    if (fd < 0)
        return map_private(memory, bytes);
    if (map_file(memory, fd) < 0)
        return -1;
    return memory->bytes < bytes ? refuse(why, "a memory of its stack is smaller than its options ask for") : 0;
}

/* The memories of a stack, when connections are to be carried by one. */
static int map_arena(struct engine_object *self, struct un_engine_setup *setup, const char **why)
{
    const struct un_segment_header *header = un_header(self->public.start);
    if (self->exchange_wakes != header->options.queues)
        return refuse(why, "its options ask for another number of queues than there are wake-ups");
    if (header->options.queues == 0)
        return 0;
    un_stack_setup_sizes(&self->stack, &header->options, header->config.tx_frames);
    if (map_either(&self->arena, self->arena_fd, un_stack_setup_arena_bytes(&self->stack), why) < 0 ||
        map_either(&self->frames, self->frames_fd, un_stack_setup_frames_bytes(&self->stack), why) < 0)
        return -1;
    self->stack.arena = self->arena.start;
    self->stack.frames = self->frames.start;
    un_stack_setup_abandon(&self->stack);
    setup->stack = &self->stack;
    return 0;
}

static int start(struct engine_object *self, struct un_engine_setup *setup)
{
    setup->private = self->private.start;
    setup->public = self->public.start;
    for (uint32_t i = 0; i < self->port_count; i++) {
        setup->ports[i] = self->ports[i].start;
        setup->port_wake_fds[i] = setup->wake_fds[i] = -1;
    }
    setup->epoll_fd = self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0)
        return -1;
    self->engine = un_engine_start(setup);
    return self->engine ? 0 : -1;
}

/* How many numbers there are, -1 with an exception. */
static Py_ssize_t read_numbers(PyObject *sequence, int *values, Py_ssize_t most, const char *what)
{
    PyObject *numbers = PySequence_Tuple(sequence);
    if (!numbers)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(numbers);
    if (count > most)
        PyErr_Format(PyExc_ValueError, "Engine: %zd %s, the limit is %zd", count, what, most);
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        values[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(numbers, i));
    Py_DECREF(numbers);
    return PyErr_Occurred() ? -1 : count;
}

static int read_listeners(PyObject *listeners, struct un_engine_setup *setup)
{
    Py_ssize_t count = read_numbers(listeners, setup->listeners, UN_LISTENERS_MAX, "listeners");
    setup->listener_count = count < 0 ? 0 : (uint32_t)count;
    return count < 0 ? -1 : 0;
}

/* The first of them, and the others if there are any. */
static int read_ports(PyObject *more, int *port_fds, struct engine_object *self)
{
    Py_ssize_t count = more ? read_numbers(more, port_fds + 1, UN_PORTS_MAX - 1, "further ports") : 0;
    self->port_count = 1 + (uint32_t)count;
    return count < 0 ? -1 : 0;
}

/* (kind of the device, its descriptors, arena_fd, frames_fd, exchange_fd, exchange_wake_fd of each shard), or None: the
 * kernel's sockets. */
static int read_stack(PyObject *parts, struct engine_object *self)
{
    struct un_stack_setup *stack = &self->stack;
    const char *kind;
    PyObject *fds, *wakes;
    if (parts == Py_None)
        return 0;
    if (!PyArg_ParseTuple(parts, "sOiiiO:Engine", &kind, &fds, &self->arena_fd, &self->frames_fd, &stack->exchange_fd,
                          &wakes))
        return -1;
    Py_ssize_t count = read_numbers(fds, stack->parts.fds, UN_DEVICE_FDS_MAX, "descriptors of the device");
    Py_ssize_t wake_count = read_numbers(wakes, stack->exchange_wake_fds, UN_EXCHANGE_SHARDS_MAX, "wake-ups");
    if (count < 0 || wake_count < 0)
        return -1;
    stack->parts.fd_count = (uint32_t)count;
    stack->kind = un_device_kind(kind);
    self->exchange_wakes = (uint64_t)wake_count;
    bool has_table = stack->kind && stack->parts.fd_count == stack->kind->fd_count + 1;
    if (stack->device || (stack->kind && un_device_kind_takes(stack->kind, stack->parts.fd_count, has_table)))
        return 0;
    PyErr_Format(PyExc_ValueError, "Engine: no device %s of %zd descriptors", kind, count);
    return -1;
}

/* See fork.c. The engine's memory is not freed: what was in change when a thread forked is nobody's to look at. */
static void leave_to_parent(struct un_fork_member *member)
{
    struct engine_object *self = (struct engine_object *)((char *)member - offsetof(struct engine_object, fork));
    if (self->engine)
        un_engine_leave_to_parent(self->engine);
    self->engine = NULL;
    self->forked = true;
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    self->epoll_fd = -1;
    for (uint32_t i = 0; i < self->port_count; i++)
        un_fork_replace(self->ports[i].start, self->ports[i].bytes);
    mprotect(self->public.start, self->public.bytes, PROT_READ);
}

void un_raise_segment(int error, const char *why)
{
    errno = error;
    if (why)
        PyErr_Format(PyExc_ValueError, "the segment cannot be used: %s", why);
    else
        PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"public_fd", "port_fd", "listeners", "resumes", "serial",
                            "stack",     "control_fd", "device", "time_ns", "more_port_fds", NULL};
    struct un_engine_setup setup = {.control_fd = -1};
    int public_fd, port_fds[UN_PORTS_MAX], resumes;
    unsigned int serial = 1;
    unsigned long long device = 0, time_ns = 0;
    PyObject *listeners, *stack = NULL, *more = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iiOp|IOi$KKO:Engine", names, &public_fd, &port_fds[0], &listeners,
                                     &resumes, &serial, &stack, &setup.control_fd, &device, &time_ns, &more) ||
        read_listeners(listeners, &setup) < 0)
        return NULL;
    struct engine_object *self = as_engine(type->tp_alloc(type, 0));
    if (!self)
        return NULL;
    self->epoll_fd = -1;
    self->time_ns = time_ns;
    self->stack.device = (struct un_device *)(uintptr_t)device;
    if ((stack && read_stack(stack, self) < 0) || read_ports(more, port_fds, self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    setup.time_ns = time_ns ? &self->time_ns : NULL;
    const char *why = NULL;
    if (map_memories(self, public_fd, port_fds, &why) < 0 || map_arena(self, &setup, &why) < 0 ||
        start(self, &setup) < 0) {
        un_raise_segment(errno, why);
        Py_DECREF(self);
        return NULL;
    }
    un_engine_attach_worker(self->engine, 0, serial, resumes);
    un_fork_join(&self->fork, leave_to_parent);
    return (PyObject *)self;
}

static bool is_usable(PyObject *self)
{
    if (as_engine(self)->engine)
        return true;
    PyErr_SetString(PyExc_ValueError, as_engine(self)->forked ? "the engine stays with the parent of this process"
                                                              : "the engine is closed");
    return false;
}

int un_inline_attach(PyObject *engine, struct un_port *end, const char **why)
{
    struct engine_object *self = as_engine(engine);
    if (!self->engine) {
        *why = "its engine is closed";
        return -EINVAL;
    }
    int status = un_port_attach(end, self->public.start, self->ports[0].start, 0, -1);
    if (status == -EINVAL)
        *why = UN_PORT_MAD;
    return status;
}

void un_inline_take_commits(PyObject *engine)
{
    struct un_engine *inner = as_engine(engine)->engine;
    if (!inner)
        return;
    Py_BEGIN_ALLOW_THREADS;
    un_engine_take_commits(inner);
    Py_END_ALLOW_THREADS;
}

static int sooner(int timeout_ms, int deadline_ms)
{
    if (deadline_ms < 0)
        return timeout_ms;
    return timeout_ms < 0 || deadline_ms < timeout_ms ? deadline_ms : timeout_ms;
}

static PyObject *engine_turn(PyObject *self, PyObject *milliseconds)
{
    struct engine_object *engine = as_engine(self);
    uint32_t done;
    long timeout_ms = PyLong_AsLong(milliseconds);
    if (PyErr_Occurred() || !is_usable(self))
        return NULL;
    timeout_ms = sooner((int)timeout_ms, un_engine_deadline_ms(engine->engine));
    Py_BEGIN_ALLOW_THREADS;
    done = un_engine_turn(engine->engine, (int)timeout_ms);
    Py_END_ALLOW_THREADS;
    if (un_engine_has_failed(engine->engine)) {
        errno = ENODEV;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyErr_CheckSignals() < 0 ? NULL : PyLong_FromUnsignedLong(done);
}

static PyObject *engine_watch(PyObject *self, PyObject *descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UN_ENGINE_WATCH_OTHER};
    int fd = PyObject_AsFileDescriptor(descriptor);
    if (fd < 0 || !is_usable(self))
        return NULL;
    if (epoll_ctl(as_engine(self)->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *engine_unwatch(PyObject *self, PyObject *descriptor)
{
    int fd = PyObject_AsFileDescriptor(descriptor);
    if (fd < 0 || !is_usable(self))
        return NULL;
    if (epoll_ctl(as_engine(self)->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *engine_deadline_ms(PyObject *self, PyObject *unused)
{
    (void)unused;
    return is_usable(self) ? PyLong_FromLong(un_engine_deadline_ms(as_engine(self)->engine)) : NULL;
}

static PyObject *engine_deadline_ns(PyObject *self, PyObject *unused)
{
    (void)unused;
    return is_usable(self) ? PyLong_FromUnsignedLongLong(un_engine_deadline_ns(as_engine(self)->engine)) : NULL;
}

static PyObject *engine_stop_accepting(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!is_usable(self))
        return NULL;
    un_engine_stop_accepting(as_engine(self)->engine);
    Py_RETURN_NONE;
}

static PyObject *engine_end_all(PyObject *self, PyObject *reason)
{
    long number = PyLong_AsLong(reason);
    if (PyErr_Occurred() || !is_usable(self))
        return NULL;
    if (number < 0 || number > UN_REASON_LAST)
        return PyErr_Format(PyExc_ValueError, "end_all: %ld is no CloseReason", number);
    un_engine_end_all(as_engine(self)->engine, (enum un_reason)number);
    Py_RETURN_NONE;
}

static bool is_port(PyObject *self, unsigned int port)
{
    if (port < as_engine(self)->port_count)
        return true;
    PyErr_Format(PyExc_ValueError, "there is no port %u", port);
    return false;
}

static PyObject *engine_lose_worker(PyObject *self, PyObject *args)
{
    unsigned int port = 0;
    if (!PyArg_ParseTuple(args, "|I:lose_worker", &port) || !is_usable(self) || !is_port(self, port))
        return NULL;
    return PyBool_FromLong(un_engine_lost_worker(as_engine(self)->engine, port, UN_LOSS_DIED));
}

static PyObject *engine_attach_worker(PyObject *self, PyObject *args)
{
    unsigned int serial, port = 0;
    int resumes;
    if (!PyArg_ParseTuple(args, "Ip|I:attach_worker", &serial, &resumes, &port) || !is_usable(self) ||
        !is_port(self, port))
        return NULL;
    return PyBool_FromLong(un_engine_attach_worker(as_engine(self)->engine, port, serial, resumes) == 0);
}

static PyObject *engine_fileno(PyObject *self, PyObject *unused)
{
    (void)unused;
    return is_usable(self) ? PyLong_FromLong(as_engine(self)->epoll_fd) : NULL;
}

static void close_engine(struct engine_object *self)
{
    if (self->engine) {
        un_engine_end_all(self->engine, UN_REASON_SHUTDOWN);
        un_engine_free(self->engine);
        self->engine = NULL;
    }
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    self->epoll_fd = -1;
    unmap(&self->private);
    unmap(&self->arena);
    unmap(&self->frames);
}

static PyObject *engine_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    close_engine(as_engine(self));
    Py_RETURN_NONE;
}

static void engine_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    un_fork_quit(&as_engine(self)->fork);
    close_engine(as_engine(self));
    unmap(&as_engine(self)->public);
    for (uint32_t i = 0; i < as_engine(self)->port_count; i++)
        unmap(&as_engine(self)->ports[i]);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef engine_methods[] = {
    {"fileno", engine_fileno, METH_NOARGS, "Its epoll descriptor."},
    {"turn", engine_turn, METH_O, "Wait so many milliseconds at most (-1: for ever), receive, send; what was done."},
    {"watch", engine_watch, METH_O, "Let a turn end when this descriptor is readable."},
    {"unwatch", engine_unwatch, METH_O, "Undo watch."},
    {"deadline_ms", engine_deadline_ms, METH_NOARGS, "When it wants a turn, -1: when something happens."},
    {"deadline_ns", engine_deadline_ns, METH_NOARGS, "By its own time: when it wants a turn; 2**64 - 1: never."},
    {"stop_accepting", engine_stop_accepting, METH_NOARGS, "Take no more connections."},
    {"lose_worker", engine_lose_worker, METH_VARARGS, "(port=0): its worker is gone; True: quarantined an event."},
    {"attach_worker", engine_attach_worker, METH_VARARGS,
     "(serial, resumes, port=0): the next one comes. False: not there yet, its last one's events are being copied."},
    {"end_all", engine_end_all, METH_O,
     "End every connection, for a CloseReason: in order if nothing of it is under way, else by a reset."},
    {"close", engine_close, METH_NOARGS, "End what is left and let go; the memories stay while a Port has views."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef engine_members[] = {
    {"time_ns", T_ULONGLONG, offsetof(struct engine_object, time_ns), 0, "What time it is, if that was said at first."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_doc, "Engine(public_fd, port_fd, listeners, resumes, serial=1, stack=None, control_fd=-1, *, device=0, "
                "time_ns=0, more_port_fds=())\n\nThe "
                "network engine in this process, with its one worker attached. OSError: the descriptors are not those "
                "of a segment."},
    {Py_tp_new, engine_new},
    {Py_tp_dealloc, engine_dealloc},
    {Py_tp_methods, engine_methods},
    {Py_tp_members, engine_members},
    {0, NULL},
};

PyType_Spec un_engine_spec = {
    .name = "usnet_framework._dispatch.Engine",
    .basicsize = sizeof(struct engine_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = engine_slots,
};

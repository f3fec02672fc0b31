/* The objects of the extension, who owns what, and the verbs between its files.
 *
 *   Port         a worker's dispatcher: reads events, calls the handler, commits.
 *   Connection   what a callback is given. Made when a callback first needs it, kept until its CLOSE was delivered.
 *   Slice        received bytes as a buffer. Its frame goes back to the engine when the last view on it dies.
 *   lease        the mapped segment. Lives as long as the Port is open or a Slice is alive, so views outlive a Port.
 *   Engine       the engine itself, when it runs in this process (inline layout).
 *   Step         the coroutine of a callback, as its task drives it.
 *
 * Ownership. A Port owns its attached connections (one reference each, a doubly linked list); a slot of its table only
 * points to them. `connection.port` is a plain pointer, not NULL exactly while the connection is attached. A reference
 * is also held by the two work lists (`attention`, `ready`), whose members may have been detached meanwhile.
 *
 * Threads. Everything here runs under the GIL. Callbacks, sends and commits belong to the thread of the loop, and what
 * another one asks of a connection is refused: nobody would commit it, or its commit would cut a batch in two. The
 * death of a Slice may happen in any thread and touches only the producer's end of the release ring, which is published
 * by the
 * next commit. */
#ifndef UN_DISPATCH_OBJECTS_H
#define UN_DISPATCH_OBJECTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fork.h"
#include "shard/port.h"

#define UN_BATCH_MAX 64u            /* events between two commits: amortises the commit, bounds what is done twice */
#define UN_HIGH_WATER 65536u        /* write_buffer_size above which send returns False */
#define UN_LOW_WATER 16384u         /* write_buffer_size at which on_drain follows */
#define UN_SEND_LIMIT (16u << 20)   /* write_buffer_size above which send raises SendBufferFull */
#define UN_ITEM_BYTES 64u           /* what a piece that waits takes beside its bytes: object, place in a queue */
#define UN_SEND_FREELY 2048u        /* half a send frame: below this nobody asks how much waits */
#define UN_INBOX_PAUSE 8u           /* events waiting behind a task before the engine is told to stop receiving */
#define UN_SPARE_SLICES 64u         /* as many as a batch may create */
#define UN_NO_FRAME UINT32_MAX

/* State of the module. */
struct un_module {
    PyTypeObject *port_type;
    PyTypeObject *connection_type;
    PyTypeObject *slice_type;
    PyTypeObject *engine_type;
    PyTypeObject *step_type;
    PyObject *connection_closed; /* usnet_framework.errors */
    PyObject *send_buffer_full;
    PyObject *worker_forked;
    PyObject *get_running_loop;
    PyObject *cancelled_error;
    PyObject *create_task; /* names of methods, interned */
    PyObject *add_done_callback;
    PyObject *context_keyword; /* ("context",) */
};

static inline struct un_module *un_module_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

struct un_slice;

struct un_lease {
    struct un_port end;
    PyObject *engine;        /* inline: owns the memories */
    struct un_slice *spares; /* dead slices, to be used again */
    uint32_t spare_count;
    uint32_t held;           /* slices that hold a frame or show its bytes */
    bool open;               /* the Port is */
    bool asleep;             /* the loop's thread waits without the GIL: a frame given back must wake it */
    int wake_fd;             /* eventfd of our own, for a frame that is given back while the loop sleeps */
};

struct un_slice {
    PyObject_HEAD
    struct un_lease *lease; /* of a spare: NULL */
    struct un_slice *next;  /* of a spare */
    uint8_t *bytes;
    uint32_t length;
    uint32_t frame; /* UN_NO_FRAME: not ours to give back */
};

enum un_callback {
    UN_ON_CONNECT,
    UN_ON_DATA,
    UN_ON_EOF,
    UN_ON_DRAIN,
    UN_ON_CLOSE,
    UN_ON_RESUME,
    UN_ON_ERROR,
    UN_CALLBACKS,
};

/* One bit each, so that sets have names. */
enum un_object_flag {
    UN_GONE = 1 << 0,        /* its CLOSE event came: the engine knows it no longer */
    UN_CLOSED = 1 << 1,      /* close or abort was called */
    UN_ABORTED = 1 << 2,     /* abort was called */
    UN_EOF_SENT = 1 << 3,    /* send_eof was called */
    UN_READ_PAUSED = 1 << 4, /* by the handler */
    UN_STOPPED = 1 << 5,     /* the engine is, or is to be, told not to receive */
    UN_REPORTED_SLOW = 1 << 6,   /* send returned False: on_drain is owed */
    UN_ASKED_DRAIN = 1 << 7, /* WANT_DRAIN is on its way, its DRAIN did not come yet */
    UN_DIRTY = 1 << 8,       /* the byte in the dirty map is set */
    UN_ATTENTION = 1 << 9,   /* in the list of the same name */
    UN_READY = 1 << 10,
    UN_WORKING = 1 << 11,    /* tasks > 0 */
    UN_WAITING = 1 << 12,    /* events stand in the inbox */
    UN_INTERRUPTED = 1 << 13, /* a callback was left by KeyboardInterrupt: its event comes again */
    UN_LEFT = 1 << 14,        /* its place in the table is another connection's now; entry is a copy */
    UN_NO_ROOM = 1 << 15,     /* in the list of the same name: on_drain is owed, and no command promises it */
    UN_KEPT = 1 << 16,        /* the engine asked for it and got KEEP: SETTLED is owed */
    UN_CLOSE_IDLE = 1 << 17,  /* close_when_idle was called */
    UN_HAS_INPUT = 1 << 18,   /* events of it stand in the ring; known during before_commit only */
};
#define UN_UNUSUAL (UN_CLOSED | UN_READ_PAUSED | UN_WORKING | UN_WAITING | UN_INTERRUPTED | UN_CLOSE_IDLE)

/* Commands that found no place yet, or wait for the overflow before them. */
enum un_owed {
    UN_OWE_EOF = 1 << 0,
    UN_OWE_CLOSE = 1 << 1,
    UN_OWE_ABORT = 1 << 2,
    UN_OWE_READING = 1 << 3, /* PAUSE or RESUME, as UN_STOPPED says */
    UN_OWE_DRAIN = 1 << 4,
    UN_OWE_STATE = 1 << 5,
};

struct un_overflow;
struct un_inbox;
struct un_port_object;

struct un_connection {
    PyObject_HEAD
    struct un_port_object *port;
    const struct un_conn *entry; /* in the table; a copy of our own once the connection is gone */
    uint64_t id;
    uint64_t sent;     /* bytes ever put into send frames */
    uint64_t seen_out; /* bytes_out when we last looked */
    struct un_overflow *overflow; /* NULL while empty */
    struct un_inbox *inbox;       /* NULL while empty */
    PyObject *state;              /* bytes this process set, or NULL: what the table says */
    PyObject *context;
    PyObject *vars;               /* contextvars.Context, NULL: as its port's base */
    PyObject *weak_references;
    struct un_connection *next, *previous; /* attached connections */
    struct un_connection *next_attention, *next_ready;
    struct un_connection *next_no_room, *previous_no_room;
    uint32_t flags;
    uint32_t tasks;
    uint8_t owed;
    uint8_t abort_reason;
};

struct un_slot {
    struct un_connection *connection; /* NULL: no object yet */
    uint32_t generation;              /* of the connection this process knows, 0: none */
};

/* What a batch adds up before it goes to the shared counters. */
struct un_tally {
    uint64_t bytes_in, bytes_out, copied_out, resumed, errors, refused, overflowed;
    uint64_t sends_full, sends_crowded, inputs_crowded;
};

/* The context variables of callbacks; see vars.c. */
struct un_vars {
    const void *const *place; /* where the content of the context stands in which callbacks are called */
    const void *content;      /* of the base */
    struct un_connection *caller; /* whose callback was called last; to compare only */
    bool entered;             /* callbacks are called in the scratch */
    PyObject *base;           /* contextvars.Context: what a connection begins with */
    PyObject *scratch;        /* like the base */
    PyObject *home;           /* the context that the loop is in, which callbacks may spoil; the base: there is none */
};

/* A command that answers the engine, and found no place yet; see answers.c. */
struct un_answer {
    uint64_t conn;
    enum un_command_op op;
};

struct un_port_object {
    PyObject_HEAD
    struct un_module *module;
    struct un_lease *lease; /* NULL once closed */
    struct un_port *end;    /* within the lease */
    struct un_slot *slots;
    PyObject *callbacks[UN_CALLBACKS]; /* bound methods; NULL where the handler does not override */
    PyObject *reasons[UN_REASONS];     /* members of CloseReason */
    PyObject *handler;
    PyObject *tasks; /* set: a loop holds its tasks weakly */
    struct un_connection *attached;
    struct un_connection *attention; /* something to do at the next commit */
    struct un_connection *ready;     /* inboxes to be delivered, in order */
    struct un_connection **ready_tail;
    struct un_tally tally;
    struct un_vars vars;
    struct un_answer *answers; /* in order */
    uint32_t answer_count, answer_capacity;
    uint32_t kept; /* connections that are UN_KEPT */
    struct un_connection *no_room, *no_room_last; /* their sends were refused: to try again when less waits */
    uint64_t overflow_bytes;
    uint64_t buffer_limit;  /* of the two sums below, each */
    uint64_t overflow_held; /* memory that the overflows take */
    uint64_t inbox_held;    /* memory that the copies in the inboxes take */
    uint32_t overflowing;   /* connections with overflow */
    bool crowded;           /* overflow_held is beyond half of the limit */
    uint32_t inherited;   /* command index at attach: before it are a dead worker's commands */
    uint32_t redelivered; /* events that a dead worker may have been handling: one commit each */
    uint32_t objects;
    uint32_t dirty;
    unsigned long thread; /* of the loop: who opened the port, then who runs it */
    uint32_t credit; /* un_port_credit, asked for once between commits; UINT32_MAX: not yet */
    struct un_fork_member fork;
    bool running;
    bool stopped;
    bool slept; /* the next run belongs to a turn that was counted */
    bool forked; /* this process is a child that a fork of the worker made */
    bool resumes;
};

/* lease.c */
extern PyType_Spec un_slice_spec;
struct un_lease *un_lease_new(void);
void un_lease_close(struct un_lease *lease); /* unmaps when no view is left, else the last view does */
PyObject *un_slice_new(struct un_lease *lease, PyTypeObject *type, const struct un_event *event);
void un_slice_disown(PyObject *slice); /* its event was not consumed: its frame is not given back */

/* port.c */
extern PyType_Spec un_port_spec;

/* fork.c; see fork.h for the rest of it */
void un_fork_raise(const struct un_port_object *port);

/* handler.c */
int un_handler_bind(struct un_port_object *port, PyObject *handler);
int un_handler_result(struct un_port_object *port, struct un_connection *conn, PyObject *result);
int un_handler_failed(struct un_port_object *port, struct un_connection *conn, PyObject *exception);
PyObject *un_take_exception(void);

/* vars.c */
int un_vars_discover(void);
int un_vars_start(struct un_port_object *port);
void un_vars_use(struct un_port_object *port, PyObject *context);
int un_vars_enter(struct un_port_object *port);
int un_vars_leave(struct un_port_object *port);
int un_vars_adopt(struct un_port_object *port, struct un_connection *conn, PyObject *result);
PyObject *un_vars_of(struct un_connection *conn); /* its context, made when there is none; a borrowed reference */
PyObject *un_vars_call_inside(struct un_connection *conn, PyObject *callable, PyObject *const *arguments, size_t count);
PyObject *un_vars_run(struct un_connection *conn, PyObject *callable, PyObject *const *arguments, size_t count,
                      PyObject *names);

/* Whether the callback that has just returned set a context variable. */
static inline bool un_vars_changed(const struct un_port_object *port)
{
    return __builtin_expect(*port->vars.place != port->vars.content, 0);
}

/* Around the callbacks of a batch: they run in something like the base. 0, or -1 with an exception, which may have been
 * set before. */
static inline int un_vars_begin(struct un_port_object *port, PyThreadState *state)
{
    bool is_at_home = port->vars.home == state->context && !un_vars_changed(port);
    return __builtin_expect(is_at_home, 1) ? 0 : un_vars_enter(port);
}
static inline int un_vars_end(struct un_port_object *port)
{
    return __builtin_expect(port->vars.entered, 0) ? un_vars_leave(port) : 0;
}

/* Call something of the handler for a connection, within a batch, in the connection's context. */
static inline PyObject *un_vars_call(struct un_port_object *port, struct un_connection *conn, PyObject *callable,
                                     PyObject *const *arguments, size_t count)
{
    port->vars.caller = conn;
    if (__builtin_expect(conn->vars != NULL, 0))
        return un_vars_call_inside(conn, callable, arguments, count);
    PyObject *result = PyObject_Vectorcall(callable, arguments, count, NULL);
    if (un_vars_changed(port) && un_vars_adopt(port, conn, result) < 0)
        Py_CLEAR(result);
    return result;
}

/* Call a callback that is overridden. 0, or -1 when KeyboardInterrupt, SystemExit or a lack of memory is to
 * leave run. */
static inline int un_call(struct un_port_object *port, struct un_connection *conn, enum un_callback which,
                          PyObject *argument)
{
    PyObject *arguments[3] = {NULL, (PyObject *)conn, argument};
    size_t count = argument ? 2 : 1;
    PyObject *result = un_vars_call(port, conn, port->callbacks[which], arguments + 1,
                                    count | PY_VECTORCALL_ARGUMENTS_OFFSET);
    if (__builtin_expect(result == Py_None, 1)) {
        Py_DECREF(result);
        return 0;
    }
    return un_handler_result(port, conn, result);
}

/* tasks.c */
int un_task_start(struct un_port_object *port, struct un_connection *conn, PyObject *coroutine);

/* step.c */
extern PyType_Spec un_step_spec;
PyObject *un_step_new(struct un_port_object *port, struct un_connection *conn, PyObject *coroutine);
uint64_t un_step_enter(struct un_port_object *port, const struct un_connection *conn);
void un_step_leave(struct un_port_object *port, uint64_t before, bool failed); /* with an exception set */

/* batch.c */
Py_ssize_t un_batch_run(struct un_port_object *port, PyThreadState *state);

/* deliver.c */
int un_deliver(struct un_port_object *port, const struct un_event *event);
int un_deliver_data(struct un_port_object *port, struct un_connection *conn, PyObject *data);
int un_deliver_eof(struct un_port_object *port, struct un_connection *conn);
int un_deliver_close(struct un_port_object *port, struct un_connection *conn, uint8_t reason);
bool un_data_is_copied(const struct un_port_object *port);
PyObject *un_data_take(struct un_port_object *port, const struct un_event *event);
void un_data_drop(struct un_port_object *port, const struct un_event *event, PyObject *data, bool consumed);

/* inbox.c */
int un_inbox_put(struct un_port_object *port, struct un_connection *conn, const struct un_event *event);
Py_ssize_t un_inbox_deliver_ready(struct un_port_object *port);
void un_inbox_wake(struct un_connection *conn); /* what held its events back is over */
void un_inbox_drop_data(struct un_connection *conn);
void un_inbox_clear(struct un_connection *conn);
void un_reading_update(struct un_connection *conn); /* tell the engine to stop or go on receiving, if that changed */
bool un_is_held_back(const struct un_connection *conn);

/* table.c */
struct un_connection *un_connection_new(struct un_port_object *port, uint64_t id);
int un_connection_meet(struct un_port_object *port, const struct un_event *event, struct un_connection **conn);
void un_connection_leave(struct un_connection *conn);  /* CLOSE came: the engine may use its slot again */
void un_connection_detach(struct un_connection *conn); /* leaves too; gives up the Port's reference */
void un_connection_detach_if_done(struct un_connection *conn); /* after on_close and the last of its tasks */
void un_connection_free_entry(struct un_connection *conn);

/* connection.c */
extern PyType_Spec un_connection_spec;
void un_connection_close(struct un_connection *conn);
void un_connection_abort(struct un_connection *conn, enum un_reason reason);
PyObject *un_connection_raise_closed(const struct un_connection *conn);

/* output.c */
int un_output_send(struct un_connection *conn, const void *bytes, size_t length, PyObject *owner);
PyObject *un_output_send_object(struct un_connection *conn, PyObject *data);
uint64_t un_output_size(struct un_connection *conn);
bool un_output_may_send(struct un_connection *conn);
void un_output_settle(struct un_connection *conn);

/* overflow.c */
int un_overflow_put(struct un_connection *conn, const void *bytes, size_t length, PyObject *owner);
void un_overflow_flush(struct un_connection *conn, uint64_t room);
void un_overflow_clear(struct un_connection *conn);
uint64_t un_overflow_bytes(const struct un_connection *conn);
uint64_t un_overflow_held(const struct un_connection *conn);

/* crowd.c */
void un_crowd_count_overflow(struct un_port_object *port, int64_t bytes, int64_t held);
bool un_crowd_refuses(const struct un_connection *conn, uint64_t held);
void un_crowd_wait(struct un_connection *conn);
void un_crowd_forget(struct un_connection *conn);
void un_crowd_let_one_try(struct un_port_object *port);
void un_crowd_count_input(struct un_port_object *port, int64_t held);
bool un_crowd_slows_input(const struct un_port_object *port);
bool un_crowd_refuses_input(const struct un_port_object *port, uint64_t held);

/* answers.c */
int un_answer_reserve(struct un_port_object *port);
void un_answer_release(struct un_port_object *port, uint64_t id);
void un_answer_keep(struct un_connection *conn);
void un_answer_settled(struct un_connection *conn);
void un_answer_forget(struct un_connection *conn);
void un_answers_place(struct un_port_object *port);

/* commit.c */
void un_place_state(struct un_connection *conn);
void un_commit(struct un_port_object *port);
void un_attention(struct un_connection *conn);
void un_review(struct un_connection *conn); /* after any change: dirty or not, attention or not */
void un_owe(struct un_connection *conn, uint8_t owed);
bool un_is_settled(const struct un_connection *conn);
void un_set_dirty(struct un_connection *conn, bool dirty);

#endif

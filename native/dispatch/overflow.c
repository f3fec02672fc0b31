/* Output that found no room in send frames: a queue of bytes objects in worker memory.
 *
 * A bytes object is kept by reference, anything else is copied. The queue exists while it is not empty; only its
 * first item can be partly sent. `bytes` is what is to be sent; `held` is the memory: an item is held whole until
 * its last byte was sent. */
#include "objects.h"

struct un_overflow {
    PyObject **items; /* a ring of them; capacity is a power of two */
    uint32_t capacity;
    uint32_t head;
    uint32_t count;
    size_t sent_of_first;
    uint64_t bytes;
    uint64_t held;
};

#define OVERFLOW_FIRST_CAPACITY 8u

uint64_t un_overflow_bytes(const struct un_connection *conn)
{
    return conn->overflow ? conn->overflow->bytes : 0;
}

uint64_t un_overflow_held(const struct un_connection *conn)
{
    return conn->overflow ? conn->overflow->held : 0;
}

static struct un_overflow *overflow_new(struct un_port_object *port)
{
    struct un_overflow *overflow = PyMem_Calloc(1, sizeof *overflow);
    PyObject **items = PyMem_Calloc(OVERFLOW_FIRST_CAPACITY, sizeof *items);
    if (!overflow || !items) {
        PyMem_Free(overflow);
        PyMem_Free(items);
        return NULL;
    }
    overflow->items = items;
    overflow->capacity = OVERFLOW_FIRST_CAPACITY;
    port->overflowing++;
    return overflow;
}

static bool grow(struct un_overflow *overflow)
{
    uint32_t capacity = overflow->capacity * 2;
    PyObject **items = capacity ? PyMem_Calloc(capacity, sizeof *items) : NULL;
    if (!items)
        return false;
    for (uint32_t i = 0; i < overflow->count; i++)
        items[i] = overflow->items[(overflow->head + i) & (overflow->capacity - 1)];
    PyMem_Free(overflow->items);
    overflow->items = items;
    overflow->capacity = capacity;
    overflow->head = 0;
    return true;
}

static void overflow_free(struct un_connection *conn)
{
    un_assert(conn->overflow->count == 0 && conn->overflow->bytes == 0 && conn->overflow->held == 0);
    conn->port->overflowing--;
    PyMem_Free(conn->overflow->items);
    PyMem_Free(conn->overflow);
    conn->overflow = NULL;
}

static void account(struct un_connection *conn, int64_t bytes, int64_t held)
{
    conn->overflow->bytes += (uint64_t)bytes;
    conn->overflow->held += (uint64_t)held;
    un_crowd_count_overflow(conn->port, bytes, held);
}

static int64_t memory_of(PyObject *item)
{
    return PyBytes_GET_SIZE(item) + (int64_t)UN_ITEM_BYTES;
}

/* The end of `owner` that starts at `bytes`, or a copy of the bytes; a reference. */
static PyObject *own_bytes(const void *bytes, size_t length, PyObject *owner, size_t *skipped)
{
    *skipped = 0;
    if (owner && PyBytes_CheckExact(owner)) {
        *skipped = (size_t)((const char *)bytes - PyBytes_AS_STRING(owner));
        return Py_NewRef(owner);
    }
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)length);
}

/* Append; `owner` is the object the bytes lie in, if it can be kept. 0 or -1. */
int un_overflow_put(struct un_connection *conn, const void *bytes, size_t length, PyObject *owner)
{
    if (!conn->overflow && !(conn->overflow = overflow_new(conn->port))) {
        PyErr_NoMemory();
        return -1;
    }
    struct un_overflow *overflow = conn->overflow;
    size_t skipped = 0;
    PyObject *item = NULL;
    if (overflow->count < overflow->capacity || grow(overflow))
        item = own_bytes(bytes, length, owner, &skipped);
    if (!item) {
        if (overflow->count == 0)
            overflow_free(conn);
        PyErr_NoMemory();
        return -1;
    }
    if (overflow->count == 0)
        overflow->sent_of_first = skipped; /* only a send that was partly taken skips, and it is the first then */
    overflow->items[(overflow->head + overflow->count++) & (overflow->capacity - 1)] = item;
    account(conn, (int64_t)length, memory_of(item));
    return 0;
}

static void drop_first(struct un_connection *conn)
{
    struct un_overflow *overflow = conn->overflow;
    PyObject *first = overflow->items[overflow->head];
    account(conn, 0, -memory_of(first));
    Py_DECREF(first);
    overflow->head = (overflow->head + 1) & (overflow->capacity - 1);
    overflow->count--;
    overflow->sent_of_first = 0;
}

/* Move up to `room` bytes into send frames, as far as frames and ring allow. */
void un_overflow_flush(struct un_connection *conn, uint64_t room)
{
    struct un_overflow *overflow = conn->overflow;
    while (room > 0 && overflow->count > 0) {
        PyObject *first = overflow->items[overflow->head];
        size_t left = (size_t)PyBytes_GET_SIZE(first) - overflow->sent_of_first;
        uint32_t piece = (uint32_t)(left < room ? left : room);
        uint32_t taken =
            un_port_send(conn->port->end, conn->id, PyBytes_AS_STRING(first) + overflow->sent_of_first, piece);
        conn->sent += taken;
        overflow->sent_of_first += taken;
        account(conn, -(int64_t)taken, 0);
        if (taken == left)
            drop_first(conn);
        if (taken < piece)
            break;
        room -= taken;
    }
    if (overflow->count == 0)
        overflow_free(conn);
}

void un_overflow_clear(struct un_connection *conn)
{
    if (!conn->overflow)
        return;
    account(conn, -(int64_t)conn->overflow->bytes, 0);
    while (conn->overflow->count > 0)
        drop_first(conn);
    overflow_free(conn);
}

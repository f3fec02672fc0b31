/* See look.h. */
#include "engine/look.h"

#include <errno.h>
#include <unistd.h>

#include "engine/state.h"
#include "engine/transport.h"

static const size_t entry_bytes[UN_LOOK_KINDS] = {
    [UN_LOOK_CONNS] = sizeof(struct un_look_conn),
    [UN_LOOK_NEIGHBOURS] = sizeof(struct un_look_neighbour),
    [UN_LOOK_ROUTES] = sizeof(struct un_look_route),
    [UN_LOOK_ADDRESSES] = sizeof(struct un_look_address),
};

/* How many, or -errno. */
static int put(int fd, uint32_t what, const void *entries, uint32_t count)
{
    const uint8_t *bytes = entries;
    size_t left = count * entry_bytes[what];
    while (left > 0) {
        ssize_t written = write(fd, bytes, left);
        if (written < 0 && errno != EINTR)
            return -errno;
        bytes += written > 0 ? written : 0;
        left -= written > 0 ? (size_t)written : 0;
    }
    return (int)count;
}

/* false: it is over by now. */
static bool describe(struct un_engine *engine, uint64_t id, struct un_look_conn *entry)
{
    uint32_t slot = UN_ID_SLOT(id);
    if (slot >= engine->own->conn_high || !un_is_alive(un_slot(engine, slot)) ||
        un_load(&un_slot(engine, slot)->id) != id || engine->works[slot].handle < 0)
        return false;
    const struct un_work *work = &engine->works[slot];
    *entry = (struct un_look_conn){.id = id, .unsent = work->tx_bytes, .unconsumed = work->rx_waiting};
    engine->transport->look(engine, work->handle, entry);
    return true;
}

static int look_at_conns(struct un_engine *engine, int fd)
{
    uint64_t ids[UN_LOOK_ENTRIES];
    struct un_look_conn entries[UN_LOOK_ENTRIES];
    uint32_t count = 0;
    ssize_t length = read(fd, ids, sizeof ids);
    if (length < 0)
        return -errno;
    for (size_t i = 0; i < (size_t)length / sizeof *ids; i++)
        count += describe(engine, ids[i], &entries[count]);
    return put(fd, UN_LOOK_CONNS, entries, count);
}

static int look_at_table(struct un_engine *engine, uint32_t what, int fd, uint64_t *position)
{
    struct un_look_slice slice;
    if (!engine->transport->look_table)
        return -EOPNOTSUPP;
    slice.position = *position;
    slice.count = 0;
    int status = engine->transport->look_table(engine, what, &slice);
    if (status < 0)
        return status;
    *position = slice.position;
    return put(fd, what, slice.addresses, slice.count);
}

static int answer(struct un_engine *engine, uint32_t what, int fd, uint64_t *position)
{
    if (what != UN_LOOK_CONNS)
        return look_at_table(engine, what, fd, position);
    *position = UN_LOOK_END;
    return look_at_conns(engine, fd);
}

int un_look(struct un_engine *engine, uint32_t what, int fd, uint64_t *position)
{
    if (fd < 0)
        return -EBADF;
    if (what >= UN_LOOK_KINDS)
        return -EINVAL;
    return answer(engine, what, fd, position);
}

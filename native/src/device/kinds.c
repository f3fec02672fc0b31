/* See kinds.h. */
#include "device/kinds.h"

#include <errno.h>
#include <string.h>

#include "device/netmap_abi.h"

UN_STATIC_ASSERT(UN_RINGS_SEND == UN_NETMAP_SYNC_TX && UN_RINGS_RECEIVE == UN_NETMAP_SYNC_RX,
                 "calls of the kind that has calls");

static struct un_device *open_tap(const struct un_device_parts *parts, const char **why)
{
    return un_tap_open(parts->fds[0], parts->queue, parts->queues, why);
}

static struct un_device *open_afxdp(const struct un_device_parts *parts, const char **why)
{
    return un_afxdp_open(parts->fds[0], parts->fds[1], parts->queue, parts->queues, why);
}

static struct un_device *open_netmap(const struct un_device_parts *parts, const char **why)
{
    struct un_device *device = un_netmap_open(parts->fds[0], parts->fds[1], parts->queue, parts->queues, why);
    if (!device || parts->fd_count == 2)
        return device;
    int error = un_netmap_carries(device, parts->fds[2], parts->fds[3], parts->fds[4], why);
    if (error) {
        device->operations->close(device);
        errno = -error;
        return NULL;
    }
    return device;
}

static const struct un_device_kind kinds[] = {
    {"afxdp", 2, 0, true, false, open_afxdp}, /* the socket of the queue, and the memory beside it */
    /* a ring pair of the port, and the memory beside it; the same of the kernel's, and what both are waited for by */
    {"netmap", 2, 3, false, true, open_netmap},
    {"tap", 1, 0, false, false, open_tap}, /* a queue of the interface */
};

const struct un_device_kind *un_device_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

bool un_device_kind_takes(const struct un_device_kind *kind, uint32_t fd_count, bool with_table)
{
    bool has_more = kind->more_fds > 0 && fd_count == kind->fd_count + kind->more_fds;
    return (fd_count == kind->fd_count + with_table || has_more) && (kind->can_share || !with_table);
}

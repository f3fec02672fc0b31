/* See kinds.h. */
#include "device/kinds.h"

#include <string.h>

static struct un_device *open_tap(const struct un_device_parts *parts, const char **why)
{
    return un_tap_open(parts->fds[0], parts->queue, parts->queues, why);
}

static struct un_device *open_afxdp(const struct un_device_parts *parts, const char **why)
{
    return un_afxdp_open(parts->fds[0], parts->fds[1], parts->queue, parts->queues, why);
}

static const struct un_device_kind kinds[] = {
    {"afxdp", 2, true, open_afxdp}, /* the socket of the queue, and the memory beside it */
    {"tap", 1, false, open_tap}, /* a queue of the interface */
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
    return fd_count == kind->fd_count + with_table && (kind->can_share || !with_table);
}

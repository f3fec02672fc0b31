/* The exported symbols of AF_XDP sockets: see usnet_xdp.h. */
#include "usnet_xdp.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <string.h>
#include <sys/socket.h>

#include "api/view.h"

UN_API_SAME(USNET_XDP_ANY, UN_AFXDP_ANY);
UN_API_SAME(USNET_XDP_COPY, UN_AFXDP_COPY);
UN_API_SAME(USNET_XDP_ZERO_COPY, UN_AFXDP_ZERO_COPY);

int usnet_xdp_socket(const struct usnet_xdp_request *request, const char **why)
{
    struct un_afxdp_request inner = {
        .interface = request->interface,
        .queue = request->queue,
        .mode = request->mode,
        .mtu = request->mtu,
        .frames = request->frames,
        .frame_count = request->frame_count,
        .frame_bytes = request->frame_bytes,
        .memory_fd = request->memory_fd,
    };
    memcpy(inner.mac, request->mac, sizeof inner.mac);
    return un_afxdp_socket(&inner, why);
}

int usnet_xdp_is_zero_copy(int fd)
{
    struct xdp_options options;
    socklen_t bytes = sizeof options;
    if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &bytes) < 0)
        return -errno;
    return options.flags & XDP_OPTIONS_ZEROCOPY ? 1 : 0;
}

struct usnet_device *usnet_xdp_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why)
{
    const char *unread;
    return (struct usnet_device *)un_afxdp_open(fd, memory_fd, queue, queues, why ? why : &unread);
}

/* The exported symbols of AF_XDP sockets: see usnet_xdp.h. */
#include "usnet_xdp.h"

#include <string.h>

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
        .tx_checksum = request->tx_checksum,
        .is_polled = request->is_polled,
    };
    memcpy(inner.mac, request->mac, sizeof inner.mac);
    return un_afxdp_socket(&inner, why);
}

int usnet_xdp_modes(int fd, int memory_fd, struct usnet_xdp_modes *modes)
{
    struct un_afxdp_modes inner;
    int error = un_afxdp_modes(fd, memory_fd, &inner);
    if (!error)
        *modes = (struct usnet_xdp_modes){
            .zero_copy = inner.zero_copy, .tx_checksum = inner.tx_checksum, .is_polled = inner.is_polled};
    return error;
}

struct usnet_device *usnet_xdp_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why)
{
    const char *unread;
    return (struct usnet_device *)un_afxdp_open(fd, memory_fd, queue, queues, why ? why : &unread);
}

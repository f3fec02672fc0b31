/* A descriptor of /dev/netmap, the ring pair of a port that is registered with it, and what the device has to know.
 *
 * The port is a network card's (by the name of the interface), one of a VALE switch (vale0:us; switch and port are made
 * with the first that asks for them, and go with the last descriptor), or an end of a pipe (x{1, x}1). A card gives the
 * pair of one number; the kernel's stack is cut off from the whole card until all descriptors of it are closed. A pair
 * is ours alone.
 *
 * It needs the right to open /dev/netmap, and no other. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "device/device.h"
#include "device/netmap_rings.h"
#include "device/why.h"

int un_netmap_file(const char **why)
{
    int fd = open(UN_NETMAP_PATH, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int error = errno;
    if (error == ENOENT || error == ENODEV || error == ENXIO)
        *why = "there is no " UN_NETMAP_PATH ": build netmap's module from its sources (github.com/luigirizzo/netmap) "
               "and load it, or use another backend";
    else
        *why = un_why(UN_NETMAP_PATH " cannot be opened: %s; start the server as root, or give its user that file",
                      strerror(error));
    return -error;
}

/* What the kernel is asked for; it fills in the rest. */
static struct un_netmap_register asked_for(const struct un_netmap_request *request)
{
    return (struct un_netmap_register){
        .ring_number = request->ring,
        .mode = request->is_host ? UN_NETMAP_HOST_RINGS
                : request->is_card ? UN_NETMAP_ONE_RING
                                   : UN_NETMAP_ALL_RINGS,
        .extra_buffers = request->extra_buffers,
        .flags = UN_NETMAP_EXCLUSIVE | UN_NETMAP_NO_TX_POLL,
    };
}

static const char *why_refused(const struct un_netmap_request *request, int error)
{
    const char *port = request->port;
    switch (error) {
    case ENXIO:
    case ENODEV:
    case ENOENT:
        return un_why("netmap knows no port %s: give the name of an interface, or vale0:NAME for a port of a switch",
                      port);
    case EBUSY:
        return un_why("ring %u of netmap port %s is used by another program: stop it", request->ring, port);
    case EINVAL:
        return un_why("netmap port %s has no ring %u, or the module has another version than %u of its interface", port,
                      request->ring, UN_NETMAP_VERSION);
    case ENOMEM:
        return un_why("netmap has no memory for port %s: raise buf_num and ring_num in "
                      "/sys/module/netmap/parameters, or close other ports",
                      port);
    default:
        return un_why("netmap port %s cannot be opened: %s", port, strerror(error));
    }
}

static int register_port(int fd, const struct un_netmap_request *request, struct un_netmap_register *port,
                         const char **why)
{
    struct un_netmap_header header = {
        .version = UN_NETMAP_VERSION, .type = UN_NETMAP_REGISTER, .body = (uintptr_t)port};
    size_t length = strlen(request->port);
    *port = asked_for(request);
    if (length == 0 || length >= UN_NETMAP_NAME_BYTES) {
        *why = un_why("a netmap port has a name of up to %u bytes", UN_NETMAP_NAME_BYTES - 1);
        return -EINVAL;
    }
    memcpy(header.name, request->port, length);
    if (ioctl(fd, UN_NETMAP_CONTROL, &header) == 0)
        return 0;
    int error = errno;
    *why = why_refused(request, error);
    return -error;
}

/* Packets of several slots are for switches and pipes: most cards have no such thing. */
static int check_mtu(const struct un_netmap_request *request, uint32_t buffer_bytes, const char **why)
{
    uint32_t most = buffer_bytes - UN_ETHERNET_TAGGED_BYTES;
    if (!request->is_card || request->mtu <= most)
        return 0;
    *why = un_why("packets of %u bytes do not fit into a buffer of netmap's; ip link set %s mtu %u", request->mtu,
                  request->port, most);
    return -EMSGSIZE;
}

static int note(const struct un_netmap_request *request, const struct un_netmap_register *port,
                struct un_netmap_about *about, int fd, const char **why)
{
    struct un_netmap_memory memory = {
        .magic = UN_NETMAP_MAGIC,
        .ring = request->ring,
        .mtu = request->mtu,
        .flags = (uint16_t)((request->ignores_groups ? UN_NETMAP_IGNORES_GROUPS : 0) |
                            (request->shares ? UN_NETMAP_SHARES : 0) | (request->is_host ? UN_NETMAP_IS_HOST : 0)),
        .if_at = port->if_at,
        .memory_bytes = port->memory_bytes,
    };
    struct un_netmap_pair pair;
    memcpy(memory.mac, request->mac, sizeof memory.mac);
    int error = un_netmap_map(&pair, fd, &memory);
    if (error) {
        *why = un_why("the rings of netmap port %s cannot be used: %s", request->port, strerror(-error));
        return error;
    }
    *about = (struct un_netmap_about){
        .tx_rings = port->tx_rings,
        .rx_rings = port->rx_rings,
        .tx_slots = pair.tx.slot_count,
        .rx_slots = pair.rx.slot_count,
        .buffer_bytes = pair.tx.buffer_bytes,
        .extra_buffers = port->extra_buffers,
    };
    un_netmap_unmap(&pair);
    error = check_mtu(request, about->buffer_bytes, why);
    if (!error && pwrite(request->memory_fd, &memory, sizeof memory, 0) != (ssize_t)sizeof memory) {
        error = -EIO;
        *why = "the memory beside a netmap port cannot be written";
    }
    return error;
}

int un_netmap_port(int fd, const struct un_netmap_request *request, struct un_netmap_about *about, const char **why)
{
    struct un_netmap_register port;
    int error = register_port(fd, request, &port, why);
    return error ? error : note(request, &port, about, fd, why);
}

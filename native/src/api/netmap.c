/* The exported symbols of netmap ports: see usnet_netmap.h. */
#include "usnet_netmap.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/interface.h"
#include "device/device.h"
#include "device/why.h"

#define SWITCH_MTU 1500u /* a switch has none; that of Ethernet */
#define EXTRA_BUFFERS 8192u /* 16 MiB: frames of a stack for 2,000 connections */

int usnet_netmap_file(const char **why)
{
    return un_netmap_file(why);
}

int usnet_netmap_port(int fd, const struct usnet_netmap_request *request, struct usnet_netmap_about *about,
                      const char **why)
{
    struct un_netmap_about found = {0};
    struct un_netmap_request inner = {
        .port = request->port,
        .is_card = request->is_card,
        .ring = request->ring,
        .mtu = request->mtu,
        .ignores_groups = request->ignores_groups,
        .shares = request->shares,
        .is_host = request->is_host,
        .memory_fd = request->memory_fd,
    };
    memcpy(inner.mac, request->mac, sizeof inner.mac);
    int status = un_netmap_port(fd, &inner, &found, why);
    *about = (struct usnet_netmap_about){.tx_rings = found.tx_rings, .rx_rings = found.rx_rings,
                                         .tx_slots = found.tx_slots, .rx_slots = found.rx_slots,
                                         .buffer_bytes = found.buffer_bytes};
    return status;
}

struct usnet_device *usnet_netmap_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why)
{
    const char *unread;
    return (struct usnet_device *)un_netmap_open(fd, memory_fd, queue, queues, why ? why : &unread);
}

int usnet_netmap_carries(struct usnet_device *device, int host_fd, int host_memory_fd, int wait_fd, const char **why)
{
    return un_netmap_carries((struct un_device *)device, host_fd, host_memory_fd, wait_fd, why);
}

/* ---- for programs that are one process ---- */

/* What a name stands for, as netmap's own library has it: eth1-2 is the pair 2 of a card. */
static bool read_name(const char *name, char *port, struct un_netmap_request *request)
{
    size_t length = strlen(name), digits = 0;
    if (length >= UN_DEVICE_NAME_MAX)
        return false;
    memcpy(port, name, length + 1);
    request->port = port;
    request->is_card = !strpbrk(name, ":{}");
    while (digits < length && isdigit((unsigned char)name[length - digits - 1]))
        digits++;
    if (request->is_card && digits > 0 && digits < 5 && length > digits + 1 && name[length - digits - 1] == '-') {
        request->ring = (uint16_t)atoi(name + length - digits);
        port[length - digits - 1] = '\0';
    }
    return true;
}

static int ask_mtu(const char *interface, uint16_t *mtu)
{
    struct ifreq request;
    int error = un_interface_ask(interface, SIOCGIFMTU, &request);
    *mtu = (uint16_t)(request.ifr_mtu < UINT16_MAX ? request.ifr_mtu : UINT16_MAX);
    return error;
}

/* Another one for each port and each host, and the same at every start. */
static void choose_mac(uint8_t *mac, const char *port)
{
    char text[2 * UN_DEVICE_NAME_MAX] = {0};
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    memcpy(text, port, strlen(port));
    gethostname(text + UN_DEVICE_NAME_MAX, UN_DEVICE_NAME_MAX - 1);
    for (size_t i = 0; i < sizeof text; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    memcpy(mac, &hash, 6);
    mac[0] = 0x02; /* locally administered, one station */
}

/* Nobody would take what comes through the others. */
static int check_rings(const struct un_netmap_request *request, bool has_number, const struct un_netmap_about *about,
                       const char **why)
{
    if (!request->is_card || has_number || about->rx_rings == 1)
        return 0;
    *why = un_why("%s has %u ring pairs: name the one to use, as in %s-0", request->port, about->rx_rings,
                  request->port);
    return -EINVAL;
}

static int open_port(int fd, const char *name, int memory_fd, struct un_netmap_about *about, const char **why)
{
    char port[UN_DEVICE_NAME_MAX];
    struct un_netmap_request request = {.mtu = SWITCH_MTU, .extra_buffers = EXTRA_BUFFERS, .memory_fd = memory_fd};
    if (!read_name(name, port, &request)) {
        *why = "the name of the netmap port is too long";
        return -EINVAL;
    }
    choose_mac(request.mac, port);
    int error = request.is_card ? ask_mtu(port, &request.mtu) : 0;
    if (error) {
        *why = error == -ENODEV ? un_why("%s is no interface, and no port of a switch (vale0:us)", port)
                                : un_why("the MTU of %s cannot be read: %s", port, strerror(-error));
        return error;
    }
    error = un_netmap_port(fd, &request, about, why);
    return error ? error : check_rings(&request, strcmp(port, name) != 0, about, why);
}

/* Descriptor or -errno. */
static int make_memory(const char **why)
{
    int fd = memfd_create("usnet-pair", MFD_CLOEXEC);
    if (fd >= 0)
        return fd;
    int error = errno;
    *why = un_why("no memory can be made beside the netmap port: %s", strerror(error));
    return -error;
}

struct usnet_device *usnet_device_netmap(const char *port, const char **why)
{
    const char *unread;
    struct un_device *device = NULL;
    struct un_netmap_about about;
    why = why ? why : &unread;
    int fd = un_netmap_file(why), memory_fd = fd < 0 ? -1 : make_memory(why);
    int error = fd < 0 ? fd : memory_fd < 0 ? memory_fd : open_port(fd, port ? port : "", memory_fd, &about, why);
    if (!error)
        device = un_netmap_open(fd, memory_fd, 0, 1, why);
    if (device)
        un_netmap_exchanges(device, about.extra_buffers); /* else it copies */
    else {
        error = error ? -error : errno;
        if (fd >= 0)
            close(fd);
        if (memory_fd >= 0)
            close(memory_fd);
        errno = error;
    }
    return (struct usnet_device *)device;
}

/* The descriptor of one queue of a TAP interface.
 *
 * Every queue is an open /dev/net/tun of its own; the first one that names an interface creates it, and it vanishes
 * with the last one unless it was made persistent. The kernel numbers queues in the order in which they join, and when
 * one leaves, the last one takes its number: a server whose queues are steered (tap_steer.c) keeps all descriptors open
 * for as long as it lives, and hands them to the processes that use them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "device/device.h"
#include "device/why.h"

#define TUN_PATH "/dev/net/tun"

static bool name_is_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < IFNAMSIZ && !strpbrk(name, "/: \t\n%") && strcmp(name, ".") && strcmp(name, "..");
}

static int open_tun(const char **why)
{
    int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int error = errno;
    if (error == ENOENT || error == ENODEV || error == ENXIO)
        *why = un_why("a TAP interface needs " TUN_PATH ", which is not there: load the tun module, or give the "
                      "container that device");
    else
        *why = un_why("a TAP interface needs " TUN_PATH ", which cannot be opened: %s", strerror(error));
    return -error;
}

static int join(int fd, const char *name, bool multi_queue)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (multi_queue)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    memcpy(request.ifr_name, name, strlen(name) + 1);
    return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

/* The kernel has one answer, EINVAL, to three mistakes: does the other kind of joining get further? */
static const char *why_refused(int fd, const char *name, bool multi_queue)
{
    if (if_nametoindex(name) == 0)
        return un_why("no TAP interface %s can be created: the kernel refuses the name or the kind", name);
    if (join(fd, name, !multi_queue) == -EINVAL)
        return un_why("%s is there and no TAP interface: choose another name", name);
    if (multi_queue)
        return un_why("%s is a TAP interface with a single queue: use one queue, or create it with multi_queue", name);
    return un_why("%s is a TAP interface with several queues: join it as such", name);
}

static const char *why_not(int fd, const char *name, bool multi_queue, int error)
{
    switch (error) {
    case EPERM:
        return un_why(
            "creating or joining the TAP interface %s needs CAP_NET_ADMIN, or an interface made for this user "
            "(ip tuntap add dev %s mode tap user …)",
            name, name);
    case EBUSY:
        return un_why("the TAP interface %s is used by another process and has a single queue", name);
    case E2BIG:
        return un_why("the TAP interface %s has no queue left", name);
    case EINVAL:
        return why_refused(fd, name, multi_queue);
    default:
        return un_why("the TAP interface %s cannot be created or joined: %s", name, strerror(error));
    }
}

int un_tap_queue(const char *name, bool multi_queue, const char **why)
{
    if (!name_is_valid(name)) {
        *why = un_why("\"%.32s\" cannot be the name of an interface: 1 to %d characters, no slash, colon or space",
                      name, IFNAMSIZ - 1);
        return -EINVAL;
    }
    int fd = open_tun(why);
    if (fd < 0)
        return fd;
    int error = join(fd, name, multi_queue);
    if (error) {
        *why = why_not(fd, name, multi_queue, -error);
        close(fd);
    }
    return error ? error : fd;
}

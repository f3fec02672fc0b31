/* What the kernel says of a network interface, by its name in this thread's network namespace. (if_nametoindex does not
 * say why it finds none: without a descriptor left it leaves the error of something else that it has tried.) */
#ifndef UN_INTERFACE_H
#define UN_INTERFACE_H

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* `what`: SIOCGIFINDEX, SIOCGIFMTU … 0 or -errno; -ENODEV: there is none. */
static inline int un_interface_ask(const char *name, unsigned long what, struct ifreq *answer)
{
    size_t length = strlen(name);
    *answer = (struct ifreq){.ifr_name = ""};
    if (length >= sizeof answer->ifr_name)
        return -ENODEV;
    memcpy(answer->ifr_name, name, length);
    int query = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (query < 0)
        return -errno;
    int error = ioctl(query, what, answer) < 0 ? -errno : 0;
    close(query);
    return error;
}

#endif

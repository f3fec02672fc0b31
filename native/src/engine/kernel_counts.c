/* See kernel_counts.h. For sockets that were accepted: one that connected counts its SYN as acknowledged. */
#include "engine/kernel_counts.h"

#include <errno.h>
#include <poll.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* The kernel's numbers of TCP's states, as tcp_info has them; the header with the struct lacks these. */
enum { SYN_RECEIVED = 3, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSED, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING };
#define PEER_FIN (1u << TIME_WAIT | 1u << CLOSE_WAIT | 1u << LAST_ACK | 1u << CLOSING)
#define OUR_FIN (1u << FIN_WAIT1 | 1u << FIN_WAIT2 | 1u << TIME_WAIT | 1u << LAST_ACK | 1u << CLOSING)

static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t length = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP;
}

/* Not taken by that. */
static bool error_waits(int fd)
{
    struct pollfd events = {.fd = fd}; /* an error is reported unasked */
    return poll(&events, 1, 0) > 0 && events.revents & POLLERR;
}

static bool is_same(const struct tcp_info *one, const struct tcp_info *other)
{
    return one->tcpi_bytes_received == other->tcpi_bytes_received && one->tcpi_bytes_acked == other->tcpi_bytes_acked &&
           one->tcpi_state == other->tcpi_state;
}

/* What waits is told apart from what went through, and both move: read until they belong together. */
static int read_all(int fd, struct tcp_info *info, int *unread, int *unacknowledged)
{
    struct tcp_info before;
    do {
        socklen_t length = sizeof before;
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &before, &length) < 0 || ioctl(fd, SIOCINQ, unread) < 0 ||
            ioctl(fd, SIOCOUTQ, unacknowledged) < 0)
            return -errno;
        length = sizeof *info;
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length) < 0)
            return -errno;
    } while (!is_same(&before, info));
    return 0;
}

int un_kernel_counts(int fd, const struct un_counts *known, struct un_counts *counts)
{
    struct tcp_info info;
    int unread, unacknowledged;
    if (!is_tcp(fd))
        return -EOPNOTSUPP;
    int status = read_all(fd, &info, &unread, &unacknowledged);
    if (status < 0)
        return status;
    uint32_t state = 1u << info.tcpi_state;
    if (info.tcpi_state == SYN_RECEIVED) /* with Fast Open; what waits is not told then */
        return -EOPNOTSUPP;
    counts->taken = info.tcpi_bytes_received - (uint32_t)unread - !!(state & PEER_FIN); /* a FIN counts as a byte */
    counts->given = info.tcpi_bytes_acked + (uint32_t)unacknowledged - !!(state & OUR_FIN);
    if (info.tcpi_state != CLOSED)
        return 0;
    /* A reset is told once, by an error, which still waits or was told. Without one both have sent a FIN, and the
     * peer's is in the count. With one it may be there as well: then nobody can say what was taken, and it was reset
     * anyway. */
    counts->given = known->given;
    bool is_reset = error_waits(fd);
    if (is_reset != (counts->taken == known->taken))
        return -ECONNRESET;
    counts->taken -= !is_reset;
    return 0;
}

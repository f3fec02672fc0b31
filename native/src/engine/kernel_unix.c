/* See kernel_unix.h. */
#include "engine/kernel_unix.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

static void begin(struct mmsghdr *told, struct iovec *pieces, size_t count)
{
    told->msg_hdr = (struct msghdr){.msg_iov = pieces, .msg_iovlen = count};
}

/* What outlives the engine points to nothing of it. */
static ssize_t end(struct mmsghdr *told, int messages)
{
    told->msg_hdr.msg_iov = NULL;
    return messages < 0 ? -errno : (ssize_t)told->msg_len;
}

/* Descriptors that come with bytes are closed by the kernel, as there is no room for them; it says so, and has read up
 * to the next bytes at most. */
ssize_t un_unix_receive(int fd, struct mmsghdr *told, void *bytes, size_t length, bool *parted)
{
    struct iovec piece = {bytes, length};
    begin(told, &piece, 1);
    ssize_t received = end(told, recvmmsg(fd, told, 1, MSG_DONTWAIT, NULL));
    *parted = received > 0 && told->msg_hdr.msg_flags & MSG_CTRUNC;
    return received;
}

ssize_t un_unix_send(int fd, struct mmsghdr *told, const struct iovec *pieces, int count)
{
    begin(told, (struct iovec *)(uintptr_t)pieces, (size_t)count);
    return end(told, sendmmsg(fd, told, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

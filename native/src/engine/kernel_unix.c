/* See kernel_unix.h. */
#include "engine/kernel_unix.h"

#include <errno.h>
#include <sys/socket.h>

void un_unix_look_from_start(int fd)
{
    int start = 0;
    setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof start);
}

/* Descriptors that come with bytes are closed by the kernel, as there is no room for them; it says so, and has read up
 * to the next bytes at most. */
ssize_t un_unix_receive(int fd, void *bytes, size_t length, bool stay, bool *parted)
{
    struct iovec piece = {bytes, length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT | (stay ? MSG_PEEK : 0));
    *parted = received > 0 && message.msg_flags & MSG_CTRUNC;
    return received < 0 ? -errno : received;
}

void un_unix_throw_away(int fd, size_t length)
{
    static char waste[65536];
    while (length > 0) {
        ssize_t thrown = recv(fd, waste, length < sizeof waste ? length : sizeof waste, MSG_DONTWAIT);
        if (thrown > 0)
            length -= (size_t)thrown;
        else if (thrown == 0 || errno != EINTR)
            return;
    }
}

void un_unix_throw_away_noted(int fd)
{
    int noted = 0;
    socklen_t length = sizeof noted;
    if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &noted, &length) == 0 && noted > 0)
        un_unix_throw_away(fd, (size_t)noted);
}

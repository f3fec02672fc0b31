/* Bytes through unix sockets, so that a successor knows how many when the engine dies over it (P10).
 *
 * A unix socket does not say how much went through it in all. But recvmmsg and sendmmsg write the length of each
 * message into memory before they return, and the kernel kills no process within a call that does not wait: it dies
 * before the call or behind it. So each call is for one message, and `told` lies where it outlives the engine:
 * told->msg_len is what went through, or zero as the caller left it.
 */
#ifndef UN_KERNEL_UNIX_H
#define UN_KERNEL_UNIX_H

#include <stdbool.h>
#include <sys/socket.h>

/* Bytes or -errno. *parted: it stopped short, although there may be more. -ECONNRESET comes once, before bytes that can
 * still be received. */
ssize_t un_unix_receive(int fd, struct mmsghdr *told, void *bytes, size_t length, bool *parted);
ssize_t un_unix_send(int fd, struct mmsghdr *told, const struct iovec *pieces, int count);

#endif

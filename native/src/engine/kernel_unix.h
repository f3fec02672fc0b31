/* Receiving from unix sockets so that nothing is lost when the engine dies over it (P10).
 *
 * Of a unix socket the kernel does not say how much it has given. So bytes are looked at first, from an offset that
 * the kernel keeps and moves (SO_PEEK_OFF), and thrown away once they are accounted for. After a death the offset says
 * what was looked at and is still there: what nobody took note of is looked at again, the rest is thrown away. */
#ifndef UN_KERNEL_UNIX_H
#define UN_KERNEL_UNIX_H

#include <stdbool.h>
#include <sys/types.h>

/* What is received next is the first that was not thrown away. At the start, and for what nobody took note of. */
void un_unix_look_from_start(int fd);

/* Bytes or -errno; stay: they are to be thrown away later. *parted: it stopped short, although there may be more. */
ssize_t un_unix_receive(int fd, void *bytes, size_t length, bool stay, bool *parted);
void un_unix_throw_away(int fd, size_t length);
void un_unix_throw_away_noted(int fd); /* all that was looked at */

#endif

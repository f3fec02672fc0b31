/* Where to connect to or to listen, and from which addresses to come. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_MAX 160

struct address {
    struct sockaddr_storage socket;
    socklen_t length;
};

/* "HOST:PORT", "[V6]:PORT" or "unix:PATH". NULL, or what is wrong with the text. */
const char *address_parse(const char *text, struct address *address);

/* As address_parse reads it; "" for a unix socket without a name. `text` has ADDRESS_TEXT_MAX bytes. */
void address_format(const struct address *address, char *text);

/* A range of IPv4 addresses to connect from: one address has only some 28,000 ports to connect to one server from. */
struct sources {
    uint32_t first; /* host order */
    uint32_t count; /* 0: let the kernel choose */
};

/* "A.B.C.D/N": the hosts of that network. NULL, or what is wrong with the text. */
const char *sources_parse(const char *text, struct sources *sources);

/* A non-blocking stream socket for `target`, bound to source number `number` (counted round) when there are any.
 * A descriptor or -errno. */
int socket_open(const struct address *target, const struct sources *sources, uint32_t number);

#endif

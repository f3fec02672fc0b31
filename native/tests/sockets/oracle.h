/* The calls that a script makes, on sockets of the kernel and on ours, with one meaning: results are counts or -errno.
 */
#ifndef UN_TEST_ORACLE_H
#define UN_TEST_ORACLE_H

#include "world.h"

struct calls {
    const char *name;
    void (*open)(void);
    void (*close_all)(void);
    int (*socket)(int side, int type);
    int (*bind_any)(int side, int fd); /* to the side's address, and any port */
    int (*listen)(int side, int fd);
    int (*accept)(int side, int fd);
    int (*connect)(int side, int fd, uint16_t port); /* to the server's address */
    int (*attempt)(int side, int fd); /* to where nobody answers */
    int (*leave)(int side, int fd);   /* connect to AF_UNSPEC */
    int (*peer)(int side, int fd);    /* getpeername: 0 */
    int64_t (*read)(int side, int fd, void *bytes, size_t most);
    int64_t (*write)(int side, int fd, const void *bytes, size_t length);
    int (*shutdown)(int side, int fd, int how);
    int (*close)(int side, int fd);
    int (*error)(int side, int fd); /* SO_ERROR */
    int (*set)(int side, int fd, int level, int name, const void *value, socklen_t length);
    int (*get)(int side, int fd, int level, int name); /* a number */
    uint16_t (*port)(int side, int fd);
    int (*control)(int side, int operation, int fd, uint32_t events);
    uint32_t (*ready)(int side, int fd); /* of the one descriptor that epoll names now; 0: none */
    void (*settle)(void);
};

extern const struct calls kernel_calls;
extern const struct calls our_calls;

#endif

/* Two contexts on a wire of this process, in virtual time, and short words for what tests do with their sockets. After
 * every turn the whole memory of both stacks is checked. */
#ifndef UN_TEST_WORLD_H
#define UN_TEST_WORLD_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "usnet.h"

enum { CLIENT, SERVER }; /* 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2 */

#define WORLD_SECOND UINT64_C(1000000000)
#define IN USN_EPOLLIN
#define OUT USN_EPOLLOUT
#define ERR USN_EPOLLERR
#define HUP USN_EPOLLHUP
#define RDHUP USN_EPOLLRDHUP
#define ET ((uint32_t)USN_EPOLLET)
#define ONESHOT ((uint32_t)USN_EPOLLONESHOT)
#define PORT 7000

struct world {
    uint64_t now_ns;
    struct usnet *sides[2];
    int epolls[2];
    bool has_faults;
};
extern struct world world;

struct usnet_setup_options world_options(uint32_t sockets); /* small, with the clock of the world and fixed secrets */
struct usnet_link world_link(void);
void world_open(void);
/* faults may be NULL */
void world_open_with(const struct usnet_setup_options *options, const struct usnet_faults *faults);
void world_settle(void);                  /* turns until nothing is to be done, without time passing */
void world_run(uint64_t duration_ns);     /* from deadline to deadline */
void world_close(void);                   /* after TIME-WAIT nothing may be left: connections, frames */

struct sockaddr_in ipv4(int side, uint16_t port);
struct sockaddr_in6 ipv6(int side, uint16_t port);
#define ADDRESS(address) (const struct sockaddr *)&(address), sizeof(address)

/* A listener on the server's side; a connection to it, both ends established. */
int world_listen(uint16_t port, int backlog);
struct ends {
    int client;
    int server;
};
struct ends world_connect(int listener, uint16_t port);
int world_accept(int listener); /* has to be there */

void world_watch(int side, int fd, uint32_t events);
/* What epoll says now of this descriptor: 0 for nothing. It has to be the only one. */
uint32_t world_ready(int side, int fd);
int world_error(int side, int fd); /* SO_ERROR */

int64_t world_write(int side, int fd, const char *text);
void world_expect(int side, int fd, const char *text); /* reads exactly this */

#endif

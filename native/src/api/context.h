/* Sockets over a stack: what a context holds, and how its parts reach each other.
 *
 * A socket is an entry of a table of fixed size; its number is the descriptor. Connections carry the descriptor as
 * `user`, so an event finds its socket at once; one that nobody has accepted carries its listener's. Readiness is never
 * stored: it is asked of the stack when it matters (un_socket_ready). What is stored is only who may have become ready:
 * a list per epoll instance, in which a socket stands at most once.
 *
 * The stack keeps a connection until its socket lets go of it, so the handle in a socket is never stale. */
#ifndef UN_API_CONTEXT_H
#define UN_API_CONTEXT_H

#include <sys/socket.h>

#include "api/view.h"

#define UN_READY_ANY UINT32_MAX
#define UN_READY_ALWAYS ((uint32_t)USN_EPOLLERR | (uint32_t)USN_EPOLLHUP) /* nobody has to ask for these */

enum un_socket_kind {
    UN_SOCKET_FREE,
    UN_SOCKET_STREAM,   /* neither listening nor connecting */
    UN_SOCKET_LISTENER,
    UN_SOCKET_CONN,     /* connecting, connected, or over */
    UN_SOCKET_DATAGRAM,
    UN_SOCKET_EPOLL,
};

struct un_socket {
    uint8_t kind; /* enum un_socket_kind */
    uint8_t domain;
    bool bound;
    bool has_remote;   /* of a datagram socket: connected */
    struct linger linger; /* on and no time: close resets */
    bool connecting;   /* of a connection: it was opened here and never established … */
    bool over;         /* … and the stack has said CLOSED: with `connecting`, the attempt failed */
    bool connected;    /* connect has told the outcome, or it was accepted */
    bool read_shut;
    bool write_shut;
    /* As watched by an epoll instance. */
    bool disarmed;     /* ONESHOT has fired */
    bool listed;
    int error;         /* positive errno that SO_ERROR will tell; only of a connection or an attempt that is over */
    uint64_t conn;     /* handle */
    uint32_t epoll;    /* descriptor of the instance, UN_NONE: nobody's */
    uint32_t interest;
    union usnet_epoll_data data;
    uint32_t next;
    uint32_t previous;
    /* Of an epoll instance: who may be ready. Of a free entry: `first` is the next free one. */
    uint32_t first;
    uint32_t last;
    uint32_t count;
    uint32_t number;   /* of the stack's listener or UDP endpoint, UN_NONE: none yet */
    struct un_stack_peer local;  /* as bound */
    struct un_stack_peer remote; /* of a connected datagram socket */
    uint32_t options_set; /* bits of enum un_stack_option */
    uint32_t options[UN_OPTIONS];
};

struct usnet {
    struct usnet_stack stack; /* first; its device is any */
    struct un_socket *sockets;
    uint32_t socket_count;
    uint32_t free_first;
    uint32_t port_next; /* where to look for a free port to listen on */
    uint64_t (*clock_ns)(void *argument);
    void *argument;
};

static inline struct un_stack *un_context_stack(struct usnet *context)
{
    return &context->stack.inner;
}

/* context.c */
struct un_socket *un_socket_at(struct usnet *context, int fd); /* NULL: no such descriptor */
/* What a call asks for happens at the time of the call. */
void un_context_look_at_clock(struct usnet *context);
/* How every call on a socket begins: the descriptor is looked up, and the clock read. 0, -EBADF; -ENOTSOCK: an epoll
 * instance. */
int un_socket_find(struct usnet *context, int fd, struct un_socket **socket);
int un_socket_new(struct usnet *context, enum un_socket_kind kind); /* descriptor or -EMFILE */
void un_socket_free(struct usnet *context, int fd);
void un_socket_end(struct usnet *context, struct un_socket *socket); /* its connection is over */

/* The error of a connection that has ended is told once: 0 from then on. */
static inline int un_socket_take_error(struct un_socket *socket)
{
    int error = socket->error;
    socket->error = 0;
    return error;
}

/* descriptor.c */
int un_datagram_open(struct usnet *context, int fd); /* the stack's side of it, if it has none yet */

/* watched.c */
/* Something happened that may have made one of these bits true. */
void un_socket_may_be_ready(struct usnet *context, uint32_t fd, uint32_t bits);
void un_socket_unlist(struct usnet *context, uint32_t fd);
void un_socket_unwatch(struct usnet *context, uint32_t fd);
void un_epoll_forget_all(struct usnet *context, uint32_t epoll);

/* ready.c */
uint32_t un_socket_ready(struct usnet *context, const struct un_socket *socket); /* enum usnet_epoll_bit */

/* options.c */
void un_socket_default_options(struct usnet *context, struct un_socket *socket);
void un_socket_apply_options(struct usnet *context, const struct un_socket *from, uint64_t conn);
void un_socket_apply_to_listener(struct usnet *context, const struct un_socket *socket); /* what SYN-ACKs will say */

/* sockaddr.c: -EAFNOSUPPORT, -EINVAL, -EFAULT. */
bool un_is_unspecified(const struct sockaddr *address, uint32_t length); /* AF_UNSPEC */
int un_peer_from_sockaddr(struct un_stack_peer *peer, uint8_t domain, const struct sockaddr *address, uint32_t length);
void un_peer_to_sockaddr(const struct un_stack_peer *peer, uint8_t domain, struct sockaddr *address, uint32_t *length);

#endif

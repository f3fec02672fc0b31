/* A context of sockets: set up, turns, and what the stack's events mean for sockets. See context.h and usnet.h. */
#include "api/context.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#define SOCKETS_MAX (1u << 22)
#define SPARE_CONNECTIONS 64u /* of the stack, beyond the sockets: handshakes, and ends that still wait */

static uint64_t monotonic_ns(void *argument)
{
    struct timespec now;
    (void)argument;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UN_SECOND_NS + (uint64_t)now.tv_nsec;
}

static void draw(void *bytes, size_t length)
{
    un_assert(getrandom(bytes, length, 0) == (ssize_t)length); /* up to 256 bytes come whole: getrandom(2) */
}

void usnet_setup_defaults(struct usnet_setup_options *options, uint32_t sockets)
{
    *options = (struct usnet_setup_options){.sockets = sockets};
    usnet_stack_defaults(&options->stack, sockets + SPARE_CONNECTIONS);
    draw(options->stack.secret, sizeof options->stack.secret);
    draw(&options->stack.seed, sizeof options->stack.seed);
}

static struct usnet *refuse(struct usnet *context, struct usnet_device *device, int error)
{
    usnet_device_close(device);
    if (context) {
        if (context->stack.memory)
            munmap(context->stack.memory, context->stack.memory_bytes);
        free(context->sockets);
        free(context);
    }
    errno = error;
    return NULL;
}

static void format_sockets(struct usnet *context)
{
    context->free_first = UN_NONE;
    for (uint32_t fd = context->socket_count; fd-- > 0;) {
        context->sockets[fd].first = context->free_first;
        context->free_first = fd;
    }
}

/* The device's own frames, where they are as many as were asked for: what it receives is not copied then. */
static bool takes_frames_of(const struct un_device *device, struct un_stack_config *config)
{
    const struct un_device_frames *own = &device->own_frames;
    if (!own->bytes || own->free_count < config->frames)
        return false;
    config->frames = own->count;
    config->frame_bytes = own->frame_bytes;
    return true;
}

static int make_stack(struct usnet *context, struct un_stack_config *config, const struct un_device *device,
                      const char **why)
{
    bool has_frames = takes_frames_of(device, config);
    int64_t bytes = has_frames ? un_stack_tables_bytes(config, why) : un_stack_bytes(config, why);
    if (bytes < 0)
        return (int)bytes;
    void *memory = mmap(NULL, (uint64_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    context->stack.memory = memory;
    context->stack.memory_bytes = (uint64_t)bytes;
    struct un_stack_place place = {.arena = memory, .arena_bytes = (uint64_t)bytes, .device = device,
                                   .frames = has_frames ? device->own_frames.bytes : NULL};
    return un_stack_create(un_context_stack(context), &place, config);
}

static const char *options_wrong(const struct usnet_setup_options *options, const struct usnet_device *device)
{
    if (!device)
        return "there is no device";
    if (!options)
        return "there are no options";
    if (options->sockets == 0 || options->sockets > SOCKETS_MAX)
        return "sockets must lie between 1 and 4194304";
    return NULL;
}

static void take_events(struct usnet_stack *stack);

struct usnet *usnet_setup(const struct usnet_setup_options *options, struct usnet_device *device, const char **why)
{
    const char *unread;
    why = why ? why : &unread;
    *why = options_wrong(options, device);
    if (*why)
        return refuse(NULL, device, EINVAL);
    *why = "there is not enough memory";
    struct usnet *context = calloc(1, sizeof *context);
    struct un_socket *sockets = calloc(options->sockets, sizeof *sockets);
    if (!context || !sockets) {
        free(sockets);
        return refuse(context, device, ENOMEM);
    }
    context->sockets = sockets;
    context->socket_count = options->sockets;
    context->clock_ns = options->clock_ns;
    context->argument = options->argument;
    context->port_next = (uint32_t)options->stack.seed;
    format_sockets(context);
    struct un_stack_config config = un_api_config(&options->stack);
    int status = make_stack(context, &config, (struct un_device *)device, why);
    if (status < 0)
        return refuse(context, device, -status);
    context->stack.device = (struct un_device *)device;
    context->stack.after_turn = take_events;
    un_stack_set_device(un_context_stack(context), context->stack.device);
    usnet_poll(context);
    return context;
}

void usnet_teardown(struct usnet *context)
{
    if (!context)
        return;
    context->stack.device->operations->close(context->stack.device);
    munmap(context->stack.memory, context->stack.memory_bytes);
    free(context->sockets);
    free(context);
}

/* "10.0.0.1/24"; without a prefix, all bits. */
static int parse_prefix(const char *text, struct un_ip *ip, uint8_t *prefix)
{
    char host[64];
    uint8_t bytes[16];
    if (!text)
        return -EINVAL;
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    if (length >= sizeof host)
        return -EINVAL;
    memcpy(host, text, length);
    host[length] = 0;
    bool is_v4 = inet_pton(AF_INET, host, bytes) == 1;
    if (!is_v4 && inet_pton(AF_INET6, host, bytes) != 1)
        return -EINVAL;
    *ip = is_v4 ? un_ip_from_v4(bytes) : un_ip_from_v6(bytes);
    char *end = NULL;
    unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : is_v4 ? 32 : 128;
    if ((slash && (end == slash + 1 || *end)) || bits > (is_v4 ? 32 : 128))
        return -EINVAL;
    *prefix = (uint8_t)bits;
    return 0;
}

static uint64_t clock_of(const struct usnet *context)
{
    return context->clock_ns ? context->clock_ns(context->argument) : monotonic_ns(NULL);
}

void un_context_look_at_clock(struct usnet *context)
{
    un_stack_set_now(un_context_stack(context), clock_of(context));
}

int usnet_add_address(struct usnet *context, const char *address)
{
    struct un_ip ip;
    uint8_t prefix;
    un_context_look_at_clock(context);
    int status = parse_prefix(address, &ip, &prefix);
    return status < 0 ? status : un_stack_add_address(un_context_stack(context), &ip, prefix);
}

int usnet_add_route(struct usnet *context, const char *network, const char *gateway)
{
    struct un_ip to, through;
    uint8_t prefix, whole;
    un_context_look_at_clock(context);
    int status = parse_prefix(network, &to, &prefix);
    if (status == 0)
        status = parse_prefix(gateway, &through, &whole);
    return status < 0 ? status : un_stack_add_route(un_context_stack(context), &to, prefix, &through);
}

/* ---- the table ---- */

struct un_socket *un_socket_at(struct usnet *context, int fd)
{
    if (fd < 0 || (uint32_t)fd >= context->socket_count || context->sockets[fd].kind == UN_SOCKET_FREE)
        return NULL;
    return &context->sockets[fd];
}

int un_socket_find(struct usnet *context, int fd, struct un_socket **socket)
{
    *socket = un_socket_at(context, fd);
    if (!*socket)
        return -EBADF;
    un_context_look_at_clock(context);
    return (*socket)->kind == UN_SOCKET_EPOLL ? -ENOTSOCK : 0;
}

int un_socket_new(struct usnet *context, enum un_socket_kind kind)
{
    uint32_t fd = context->free_first;
    if (fd == UN_NONE)
        return -EMFILE;
    context->free_first = context->sockets[fd].first;
    context->sockets[fd] = (struct un_socket){
        .kind = (uint8_t)kind, .number = UN_NONE, .epoll = UN_NONE, .first = UN_NONE, .last = UN_NONE};
    return (int)fd;
}

void un_socket_free(struct usnet *context, int fd)
{
    context->sockets[fd] = (struct un_socket){.kind = UN_SOCKET_FREE, .first = context->free_first};
    context->free_first = (uint32_t)fd;
}

/* ---- events of the stack ---- */

/* As the kernel has it: a peer that ended its output first and then reset has broken a pipe. */
static int error_of(const struct un_socket *socket, const struct un_tcb *tcb)
{
    static const int errors[UN_TCP_REASON_COUNT] = {
        [UN_TCP_REASON_RESET] = ECONNRESET,       [UN_TCP_REASON_REFUSED] = ECONNREFUSED,
        [UN_TCP_REASON_ABORTED] = ECONNABORTED,   [UN_TCP_REASON_TIMEOUT] = ETIMEDOUT,
        [UN_TCP_REASON_KEEPALIVE] = ETIMEDOUT,    [UN_TCP_REASON_UNREACHABLE] = EHOSTUNREACH,
    };
    enum un_tcp_reason reason = un_tcp_reason(tcb);
    bool is_half_closed = (tcb->flags & UN_TCB_FIN_RECEIVED) && !socket->write_shut;
    return reason == UN_TCP_REASON_RESET && is_half_closed ? EPIPE : errors[reason];
}

void un_socket_end(struct usnet *context, struct un_socket *socket)
{
    socket->over = true;
    socket->error = error_of(socket, un_stack_conn_find(un_context_stack(context), socket->conn));
}

/* READABLE wakes those that wait for input, WRITABLE those that wait for room, any other event both. */
static uint32_t bits_of(uint32_t events)
{
    uint32_t bits = events & UN_TCP_EVENT_READABLE ? USN_EPOLLIN : 0;
    bits |= events & UN_TCP_EVENT_WRITABLE ? USN_EPOLLOUT : 0;
    return events & ~(uint32_t)(UN_TCP_EVENT_READABLE | UN_TCP_EVENT_WRITABLE) ? UN_READY_ANY : bits;
}

static void connection_changed(struct usnet *context, const struct un_stack_event *event)
{
    struct un_socket *socket = un_socket_at(context, (int)event->user);
    un_assert(socket && socket->kind == UN_SOCKET_CONN && socket->conn == event->conn);
    if (event->events & UN_TCP_EVENT_CONNECTED)
        socket->connecting = false;
    if (event->events & UN_TCP_EVENT_CLOSED)
        un_socket_end(context, socket);
    un_socket_may_be_ready(context, (uint32_t)event->user, bits_of(event->events));
}

/* Of a connection that nobody has accepted, only that it came is of interest: the rest is asked when it is accepted. */
static void listener_changed(struct usnet *context, const struct un_stack_event *event)
{
    if (event->events & UN_TCP_EVENT_ACCEPTED)
        un_socket_may_be_ready(context, (uint32_t)event->user, USN_EPOLLIN);
}

static void take_events(struct usnet_stack *stack)
{
    struct usnet *context = (struct usnet *)stack;
    struct un_stack_event event;
    while (un_stack_next_event(un_context_stack(context), &event)) {
        const struct un_socket *socket = un_socket_at(context, (int)event.user);
        if (event.is_udp)
            un_socket_may_be_ready(context, (uint32_t)event.user, bits_of(event.events));
        else if (socket && socket->kind == UN_SOCKET_LISTENER)
            listener_changed(context, &event);
        else
            connection_changed(context, &event);
    }
}

/* ---- turns ---- */

uint32_t usnet_poll(struct usnet *context)
{
    return usnet_stack_poll(&context->stack, clock_of(context));
}

uint64_t usnet_deadline_ns(struct usnet *context)
{
    return un_stack_deadline_ns(un_context_stack(context));
}

int usnet_fd(struct usnet *context)
{
    return context->stack.device->fd;
}

struct usnet_stack *usnet_stack_of(struct usnet *context)
{
    return &context->stack;
}

uint64_t usnet_conn_of(struct usnet *context, int fd)
{
    const struct un_socket *socket = un_socket_at(context, fd);
    return socket && socket->kind == UN_SOCKET_CONN ? socket->conn : 0;
}

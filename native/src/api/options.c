/* Options of sockets. Those of a connection are kept with the socket until there is one, and accepted connections get
 * their listener's. See usnet.h. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "api/context.h"

#ifndef TCP_USER_TIMEOUT
#define TCP_USER_TIMEOUT 18
#endif

#define MSS_UNKNOWN 536u       /* before there is a connection: RFC 9293 section 3.7.1 */
#define BUFFER_MIN 4096u       /* as the kernel, which takes any number and makes it fit */

enum number_kind { SWITCH, COUNT, BUFFER };

/* Options that are one number, on both sides. */
static const struct number_option {
    int level;
    int name;
    enum un_stack_option option;
    enum number_kind kind;
} numbers[] = {
    {SOL_SOCKET, SO_KEEPALIVE, UN_OPTION_KEEPALIVE, SWITCH},
    {SOL_SOCKET, SO_RCVBUF, UN_OPTION_RECEIVE_BYTES, BUFFER},
    {SOL_SOCKET, SO_SNDBUF, UN_OPTION_SEND_BYTES, BUFFER},
    {IPPROTO_TCP, TCP_NODELAY, UN_OPTION_NODELAY, SWITCH},
    {IPPROTO_TCP, TCP_CORK, UN_OPTION_CORK, SWITCH},
    {IPPROTO_TCP, TCP_KEEPIDLE, UN_OPTION_KEEP_IDLE_S, COUNT},
    {IPPROTO_TCP, TCP_KEEPINTVL, UN_OPTION_KEEP_INTERVAL_S, COUNT},
    {IPPROTO_TCP, TCP_KEEPCNT, UN_OPTION_KEEP_COUNT, COUNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, UN_OPTION_USER_TIMEOUT_MS, COUNT},
    {IPPROTO_TCP, TCP_QUICKACK, UN_OPTION_QUICKACK, SWITCH},
    {IPPROTO_TCP, TCP_MAXSEG, UN_OPTION_MSS, COUNT},
    {IPPROTO_IP, IP_TOS, UN_OPTION_TOS, COUNT},
    {IPPROTO_IPV6, IPV6_TCLASS, UN_OPTION_TOS, COUNT},
};

static const struct number_option *number_option(int level, int name)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].level == level && numbers[i].name == name)
            return &numbers[i];
    return NULL;
}

void un_socket_default_options(struct usnet *context, struct un_socket *socket)
{
    const struct un_tcp_config *config = &un_context_stack(context)->config->tcp;
    socket->options[UN_OPTION_KEEP_IDLE_S] = config->keep_idle_s;
    socket->options[UN_OPTION_KEEP_INTERVAL_S] = config->keep_interval_s;
    socket->options[UN_OPTION_KEEP_COUNT] = config->keep_count;
    socket->options[UN_OPTION_RECEIVE_BYTES] = config->rcv_limit;
    socket->options[UN_OPTION_SEND_BYTES] = config->snd_limit;
    socket->options[UN_OPTION_CONGESTION] = config->congestion;
    socket->options[UN_OPTION_MSS] = MSS_UNKNOWN;
}

void un_socket_apply_options(struct usnet *context, const struct un_socket *from, uint64_t conn)
{
    for (uint32_t left = from->options_set; left != 0; left &= left - 1) {
        uint32_t option = (uint32_t)__builtin_ctz(left);
        un_stack_set_option(un_context_stack(context), conn, option, from->options[option]);
    }
}

void un_socket_apply_to_listener(struct usnet *context, const struct un_socket *socket)
{
    for (uint32_t left = socket->options_set; left != 0; left &= left - 1) {
        uint32_t option = (uint32_t)__builtin_ctz(left);
        un_stack_set_listener_option(un_context_stack(context), socket->number, option, socket->options[option]);
    }
}

static int set_option(struct usnet *context, struct un_socket *socket, enum un_stack_option option, uint32_t value)
{
    int status = socket->kind == UN_SOCKET_CONN
                     ? un_stack_set_option(un_context_stack(context), socket->conn, option, value)
                     : un_stack_check_option(option, value);
    if (status < 0)
        return status;
    socket->options[option] = value;
    socket->options_set |= 1u << option;
    if (socket->kind == UN_SOCKET_LISTENER)
        un_stack_set_listener_option(un_context_stack(context), socket->number, option, value);
    return 0;
}

static int set_number(struct usnet *context, struct un_socket *socket, const struct number_option *option, int number)
{
    uint32_t value = (uint32_t)number;
    if (option->kind == SWITCH)
        value = number != 0;
    else if (option->kind == BUFFER)
        value = value < BUFFER_MIN ? BUFFER_MIN : value > UN_STACK_BUFFER_MAX ? UN_STACK_BUFFER_MAX : value;
    else if (number < 0)
        return -EINVAL;
    return set_option(context, socket, option->option, value);
}

static int set_linger(struct un_socket *socket, const void *value, uint32_t length)
{
    if (length < sizeof socket->linger)
        return -EINVAL;
    memcpy(&socket->linger, value, sizeof socket->linger);
    socket->linger.l_onoff = socket->linger.l_onoff != 0;
    return 0;
}

static int set_congestion(struct usnet *context, struct un_socket *socket, const char *value, uint32_t length)
{
    const char *name;
    for (uint32_t i = 0; (name = usnet_congestion_name(i)) != NULL; i++)
        if (strnlen(value, length) == strlen(name) && memcmp(value, name, strlen(name)) == 0)
            return set_option(context, socket, UN_OPTION_CONGESTION, i);
    return -ENOENT;
}

/* An int; those of IP may be a byte: ip(7). */
static int read_number(int level, const void *value, uint32_t length, int *number)
{
    if (length < sizeof *number && (level != IPPROTO_IP || length == 0))
        return -EINVAL;
    if (length < sizeof *number)
        *number = *(const uint8_t *)value;
    else
        memcpy(number, value, sizeof *number);
    return 0;
}

int usnet_setsockopt(struct usnet *context, int fd, int level, int name, const void *value, uint32_t length)
{
    struct un_socket *socket;
    int number;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (!value)
        return -EFAULT;
    if (level != SOL_SOCKET && socket->kind == UN_SOCKET_DATAGRAM)
        return -ENOPROTOOPT;
    if (level == SOL_SOCKET && name == SO_LINGER)
        return set_linger(socket, value, length);
    if (level == IPPROTO_TCP && name == TCP_CONGESTION)
        return set_congestion(context, socket, value, length);
    const struct number_option *option = number_option(level, name);
    bool is_reuse = level == SOL_SOCKET && name == SO_REUSEADDR;
    if (!option && !is_reuse)
        return -ENOPROTOOPT;
    status = read_number(level, value, length, &number);
    if (status < 0)
        return status;
    return is_reuse ? 0 : set_number(context, socket, option, number);
}

static int give(void *value, uint32_t *length, const void *answer, uint32_t bytes)
{
    *length = *length < bytes ? *length : bytes;
    memcpy(value, answer, *length);
    return 0;
}

static int give_number(void *value, uint32_t *length, int number)
{
    return give(value, length, &number, sizeof number);
}

/* Where there is no room for an int, those of IP are a byte. */
static int get_option(struct usnet *context, const struct un_socket *socket, const struct number_option *asked,
                      void *value, uint32_t *length)
{
    uint32_t number = socket->options[asked->option];
    int status = 0;
    if (socket->kind == UN_SOCKET_CONN)
        status = un_stack_get_option(un_context_stack(context), socket->conn, asked->option, &number);
    if (status < 0)
        return status;
    uint8_t byte = (uint8_t)number;
    bool is_byte = asked->level == IPPROTO_IP && *length < sizeof(int);
    return is_byte ? give(value, length, &byte, sizeof byte) : give_number(value, length, (int)number);
}

static int get_error(struct usnet *context, struct un_socket *socket, void *value, uint32_t *length)
{
    bool is_open = socket->kind == UN_SOCKET_DATAGRAM && socket->number != UN_NONE;
    int error =
        is_open ? un_stack_udp_take_error(un_context_stack(context), socket->number) : un_socket_take_error(socket);
    return give_number(value, length, error);
}

static int get_info(struct usnet *context, const struct un_socket *socket, void *value, uint32_t *length)
{
    struct usnet_tcp_info info;
    if (socket->kind != UN_SOCKET_CONN)
        return -ENOTCONN;
    int status = usnet_stack_info(&context->stack, socket->conn, &info);
    return status < 0 ? status : give(value, length, &info, sizeof info);
}

static int get_congestion(struct usnet *context, const struct un_socket *socket, void *value, uint32_t *length)
{
    uint32_t index = socket->options[UN_OPTION_CONGESTION];
    if (socket->kind == UN_SOCKET_CONN)
        un_stack_get_option(un_context_stack(context), socket->conn, UN_OPTION_CONGESTION, &index);
    const char *name = usnet_congestion_name(index);
    return name ? give(value, length, name, (uint32_t)strlen(name) + 1) : -ENOENT;
}

int usnet_getsockopt(struct usnet *context, int fd, int level, int name, void *value, uint32_t *length)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (!value || !length)
        return -EFAULT;
    if (level != SOL_SOCKET && socket->kind == UN_SOCKET_DATAGRAM)
        return -ENOPROTOOPT;
    if (level == IPPROTO_TCP && name == TCP_INFO)
        return get_info(context, socket, value, length);
    if (level == IPPROTO_TCP && name == TCP_CONGESTION)
        return get_congestion(context, socket, value, length);
    const struct number_option *option = number_option(level, name);
    if (option)
        return get_option(context, socket, option, value, length);
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (name) {
    case SO_ERROR:
        return get_error(context, socket, value, length);
    case SO_TYPE:
        return give_number(value, length, socket->kind == UN_SOCKET_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM);
    case SO_REUSEADDR:
        return give_number(value, length, 1);
    case SO_LINGER:
        return give(value, length, &socket->linger, sizeof socket->linger);
    case SO_ACCEPTCONN:
        return give_number(value, length, socket->kind == UN_SOCKET_LISTENER);
    case SO_DOMAIN:
        return give_number(value, length, socket->domain);
    case SO_PROTOCOL:
        return give_number(value, length, socket->kind == UN_SOCKET_DATAGRAM ? IPPROTO_UDP : IPPROTO_TCP);
    default:
        return -ENOPROTOOPT;
    }
}

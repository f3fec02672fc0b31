/* Settings of a connection. */
#include "stack/conn_options.h"

#include <errno.h>

#include "stack/lists.h"

#define OPTION_MSS_MIN 88u           /* Linux takes no less */

static bool is_handshake_over(const struct un_tcb *tcb)
{
    return tcb->state & UN_TCP_SYNCHRONIZED;
}

static void set_flag(struct un_tcb *tcb, uint32_t flag, uint32_t value)
{
    tcb->flags = value ? tcb->flags | flag : tcb->flags & ~flag;
}

static void set_congestion(struct un_stack *stack, struct un_tcb *tcb, uint32_t value)
{
    tcb->congestion = (uint8_t)value;
    un_congestions[value]->init(&stack->tcp, tcb);
}

uint16_t un_mtu_of_mss(const struct un_ip *peer, uint32_t mss)
{
    enum { HEADERS_IPV4 = 40, HEADERS_IPV6 = 60 };
    uint32_t mtu = mss + (un_ip_is_v4(peer) ? HEADERS_IPV4 : HEADERS_IPV6);
    return (uint16_t)(mss != 0 && mtu < UINT16_MAX ? mtu : UINT16_MAX);
}

void un_stack_conn_limit_mss(struct un_tcb *tcb, uint32_t mss)
{
    uint16_t mtu = un_mtu_of_mss(&tcb->peer, mss);
    if (mtu < tcb->path_mtu_max)
        tcb->path_mtu_max = mtu;
    if (mtu < tcb->path_mtu)
        tcb->path_mtu = mtu;
}

/* Only downwards: the option in our SYN says what the other direction may send us. */
static int set_mss(struct un_tcb *tcb, uint32_t value)
{
    if (is_handshake_over(tcb))
        return -EISCONN;
    un_stack_conn_limit_mss(tcb, value);
    return 0;
}

/* Payload of a full segment. */
static uint32_t get_mss(const struct un_tcb *tcb)
{
    enum { TIMESTAMP_BYTES = 12 };
    return tcb->snd_mss - (is_handshake_over(tcb) && (tcb->flags & UN_TCB_TIMESTAMP) ? TIMESTAMP_BYTES : 0u);
}

int un_stack_check_option(enum un_stack_option option, uint32_t value)
{
    switch (option) {
    case UN_OPTION_NODELAY:
    case UN_OPTION_CORK:
    case UN_OPTION_KEEPALIVE:
    case UN_OPTION_QUICKACK:
    case UN_OPTION_USER_TIMEOUT_MS:
        return 0;
    case UN_OPTION_KEEP_IDLE_S:
    case UN_OPTION_KEEP_INTERVAL_S:
        return value > 0 && value <= INT16_MAX ? 0 : -EINVAL; /* the ranges of Linux */
    case UN_OPTION_KEEP_COUNT:
        return value > 0 && value <= INT8_MAX ? 0 : -EINVAL;
    case UN_OPTION_RECEIVE_BYTES:
    case UN_OPTION_SEND_BYTES:
        return value > 0 && value <= UN_STACK_BUFFER_MAX ? 0 : -EINVAL;
    case UN_OPTION_CONGESTION:
        return value < UN_CONGESTIONS ? 0 : -EINVAL;
    case UN_OPTION_TOS:
        return value <= UINT8_MAX ? 0 : -EINVAL;
    case UN_OPTION_MSS:
        return value >= OPTION_MSS_MIN && value <= UINT16_MAX ? 0 : -EINVAL;
    default:
        return -ENOPROTOOPT;
    }
}

static int set(struct un_stack *stack, struct un_tcb *tcb, enum un_stack_option option, uint32_t value)
{
    switch (option) {
    case UN_OPTION_NODELAY:
        set_flag(tcb, UN_TCB_NODELAY, value);
        break;
    case UN_OPTION_CORK:
        set_flag(tcb, UN_TCB_CORK, value);
        break;
    case UN_OPTION_KEEPALIVE:
        set_flag(tcb, UN_TCB_KEEPALIVE, value);
        break;
    case UN_OPTION_KEEP_IDLE_S:
        tcb->keep_idle_s = (uint16_t)value;
        break;
    case UN_OPTION_KEEP_INTERVAL_S:
        tcb->keep_interval_s = (uint16_t)value;
        break;
    case UN_OPTION_KEEP_COUNT:
        tcb->keep_count = (uint8_t)value;
        break;
    case UN_OPTION_USER_TIMEOUT_MS:
        un_tcp_set_user_timeout(&stack->tcp, tcb, value);
        break;
    case UN_OPTION_RECEIVE_BYTES:
        un_tcp_set_receive_limit(&stack->tcp, tcb, value);
        break;
    case UN_OPTION_SEND_BYTES:
        tcb->snd_limit = value;
        break;
    case UN_OPTION_CONGESTION:
        set_congestion(stack, tcb, value);
        break;
    case UN_OPTION_QUICKACK:
        set_flag(tcb, UN_TCB_QUICKACK, value);
        if (value && (tcb->flags & UN_TCB_ACK_LATER))
            tcb->flags |= UN_TCB_ACK_NOW;
        break;
    case UN_OPTION_TOS:
        tcb->tos = (uint8_t)(value & ~3u);
        break;
    case UN_OPTION_MSS:
        return set_mss(tcb, value);
    default:
        return -ENOPROTOOPT;
    }
    return 0;
}

int un_stack_set_option(struct un_stack *stack, uint64_t conn, enum un_stack_option option, uint32_t value)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    int result = un_stack_check_option(option, value);
    if (result < 0)
        return result;
    un_stack_busy(stack, tcb);
    result = set(stack, tcb, option, value);
    bool begins_anew = option == UN_OPTION_KEEPALIVE || option == UN_OPTION_KEEP_IDLE_S;
    bool lets_go = option == UN_OPTION_NODELAY || option == UN_OPTION_CORK || option == UN_OPTION_QUICKACK;
    if (result == 0 && begins_anew && is_handshake_over(tcb))
        un_tcp_rearm_keepalive(&stack->tcp, tcb);
    if (result == 0 && lets_go && is_handshake_over(tcb))
        un_stack_conn_list_output(stack, tcb); /* what waited may go */
    un_stack_idle(stack);
    return result;
}

int un_stack_get_option(struct un_stack *stack, uint64_t conn, enum un_stack_option option, uint32_t *value)
{
    const struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    const uint32_t values[] = {
        [UN_OPTION_NODELAY] = (tcb->flags & UN_TCB_NODELAY) != 0,
        [UN_OPTION_CORK] = (tcb->flags & UN_TCB_CORK) != 0,
        [UN_OPTION_KEEPALIVE] = (tcb->flags & UN_TCB_KEEPALIVE) != 0,
        [UN_OPTION_KEEP_IDLE_S] = tcb->keep_idle_s,
        [UN_OPTION_KEEP_INTERVAL_S] = tcb->keep_interval_s,
        [UN_OPTION_KEEP_COUNT] = tcb->keep_count,
        [UN_OPTION_USER_TIMEOUT_MS] = tcb->user_timeout_ms,
        [UN_OPTION_RECEIVE_BYTES] = tcb->rcv_limit,
        [UN_OPTION_SEND_BYTES] = tcb->snd_limit,
        [UN_OPTION_CONGESTION] = tcb->congestion,
        [UN_OPTION_QUICKACK] = (tcb->flags & UN_TCB_QUICKACK) != 0,
        [UN_OPTION_MSS] = get_mss(tcb),
        [UN_OPTION_TOS] = tcb->tos,
    };
    UN_STATIC_ASSERT(sizeof values / sizeof values[0] == UN_OPTIONS, "each can be read");
    if ((uint32_t)option >= UN_OPTIONS)
        return -ENOPROTOOPT;
    *value = values[option];
    return 0;
}

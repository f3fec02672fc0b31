/* Limits that grow with use, so that a limit that is enough for most connections does not hold back one that carries
 * much.
 *
 * Receive: a peer that our window holds back has used most of it when the application has read what came. Then the
 * limit doubles, at most once for each window that has come. It does not grow when the application does not keep up, or
 * when the peer leaves most of the window unused: because its congestion window is smaller, or it has nothing to send.
 * The limit never shrinks, as the window must not either (RFC 9293 section 3.8.6). It is only a permission: an idle
 * connection costs nothing, and the pool bounds what is really held (rxqueue.c).
 *
 * Send: twice the congestion window, for what waits for an acknowledgement and as much again, so that there is
 * something to send when one comes.
 *
 * Neither grows while frames are short, nor when the application has set it below the default. */
#include "tcp/internal.h"

void un_tcp_grow_receive(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t left = un_seq_lt(tcb->rcv_nxt, tcb->rcv_edge) ? tcb->rcv_edge - tcb->rcv_nxt : 0;
    bool keeps_up = tcb->rcv_bytes <= tcb->rcv_limit / 4;
    bool in_round = tcb->rcv_round - tcb->rcv_nxt - 1 < tcb->rcv_limit;
    bool is_held_down = tcb->rcv_limit < tcp->config->rcv_limit;
    if (left > tcb->rcv_limit / 2 || !keeps_up || in_round || is_held_down || un_pool_is_short(&tcp->pool))
        return;
    tcb->rcv_limit = un_min32(2 * tcb->rcv_limit, tcp->config->rcv_limit_max);
    tcb->rcv_round = tcb->rcv_nxt + tcb->rcv_limit;
}

uint32_t un_tcp_send_limit(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t most = tcp->config->snd_limit_max;
    bool is_held_down = tcb->snd_limit < tcp->config->snd_limit;
    if (tcb->snd_limit >= most || is_held_down || un_pool_is_short(&tcp->pool))
        return tcb->snd_limit;
    return un_max32(tcb->snd_limit, tcb->cwnd < most / 2 ? 2 * tcb->cwnd : most);
}

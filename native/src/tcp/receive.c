/* Steps 7 and 8 of segment arrival: payload and FIN (RFC 9293 section 3.10.7.4), and when to acknowledge them
 * (section 3.8.6.3, RFC 5681 section 4.2); the application reads.
 *
 * An ACK waits for the next one, for data of ours, or for its timer; it leaves with the next dispatch
 * - when two full segments are not acknowledged (bytes are counted, so that a coalesced segment counts as what it is),
 * - when the segment was out of order, filled a gap, was a duplicate, did not fit, or carried the FIN,
 * - for the first full segments of a connection, and when the application wants it so. */
#include "tcp/receive_fast.h"

enum un_drop un_tcp_receive(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, uint32_t length, uint32_t frame)
{
    bool is_expected = seq == tcb->rcv_nxt && tcb->rcv_ooo.head == UN_NONE;
    un_assert(length > 0 && frame != UN_NONE && (tcb->state & UN_TCP_CAN_RECEIVE));
    /* Each segment out of order has an ACK of its own, which the peer counts: one that waits goes first. */
    if (!is_expected && (tcb->flags & UN_TCB_ACK_NOW))
        un_tcp_send_ack(tcp, tcb);
    enum un_drop drop = UN_DROP_NONE;
    uint32_t moved = un_rx_insert(tcp, tcb, seq, frame, &drop);
    un_rx_measure_segment(tcb, length);
    if (moved > 0)
        un_tcp_received(tcp, tcb, moved);
    if (is_expected && moved == length)
        un_tcp_acknowledge_in_order(tcp, tcb, length);
    else
        un_tcp_ack_now(tcp, tcb);
    return un_tcp_drop(tcp, drop);
}

/* The state follows when the FIN is next in order. May end the connection. */
void un_tcp_take_fin(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if ((tcb->flags & (UN_TCB_FIN_SEEN | UN_TCB_FIN_RECEIVED)) != UN_TCB_FIN_SEEN ||
        un_seq_lt(tcb->rcv_nxt, tcb->fin_seq))
        return;
    tcb->flags |= UN_TCB_FIN_RECEIVED;
    tcb->rcv_nxt++;
    tcb->rcv_edge = un_seq_max(tcb->rcv_edge, tcb->rcv_nxt); /* FIN needs no room */
    un_rx_drop_out_of_order(tcp, tcb);                       /* a peer's mistake: payload behind its FIN */
    un_tcp_ack_now(tcp, tcb);
    un_tcp_raise(tcp, tcb, UN_TCP_EVENT_EOF);
    if (tcb->state == UN_TCP_ESTABLISHED)
        un_tcp_set_state(tcp, tcb, UN_TCP_CLOSE_WAIT);
    else if (tcb->state == UN_TCP_FIN_WAIT_1)
        un_tcp_set_state(tcp, tcb, UN_TCP_CLOSING);
    else if (tcb->state == UN_TCP_FIN_WAIT_2)
        un_tcp_enter_time_wait(tcp, tcb);
}

/* It is held until everything before it has come; the first FIN that lies within the window, or right behind it,
 * counts. */
void un_tcp_receive_fin(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t fin_seq)
{
    if (!(tcb->flags & UN_TCB_FIN_SEEN) && un_seq_le(tcb->rcv_nxt, fin_seq) && un_seq_le(fin_seq, tcb->rcv_edge)) {
        tcb->flags |= UN_TCB_FIN_SEEN;
        tcb->fin_seq = fin_seq;
    }
    un_tcp_ack_now(tcp, tcb);
    un_tcp_take_fin(tcp, tcb);
}

int un_tcp_peek(const struct un_tcp *tcp, const struct un_tcb *tcb, struct un_piece *pieces, int most)
{
    return un_rx_peek(tcp, tcb, pieces, most);
}

/* Less waits than before. */
static inline void made_room(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->rcv_limit < tcp->config->rcv_limit_max)
        un_tcp_grow_receive(tcp, tcb);
    bool is_last = tcb->reason == UN_TCP_REASON_CLOSED && tcb->rcv_bytes == 0; /* state.c */
    if (!un_tcp_open_window(tcp, tcb) && is_last)
        un_tcp_raise(tcp, tcb, UN_TCP_EVENT_CLOSED);
}

void un_tcp_consume(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    un_assert(bytes <= tcb->rcv_bytes);
    if (bytes == 0)
        return;
    un_rx_consume(tcp, tcb, bytes);
    made_room(tcp, tcb);
}

uint32_t un_tcp_read(struct un_tcp *tcp, struct un_tcb *tcb, void *bytes, uint32_t most)
{
    uint32_t done = un_rx_read(tcp, tcb, bytes, most);
    if (done > 0)
        made_room(tcp, tcb);
    return done;
}

bool un_tcp_is_eof(const struct un_tcb *tcb)
{
    return (tcb->flags & UN_TCB_FIN_RECEIVED) && tcb->rcv_bytes == 0;
}

/* The window we offer (RFC 9293 section 3.8.6, RFC 7323 section 2).
 *
 * rcv_edge is the right edge as the peer sees it: ack + (field << scale) of the last segment. It does not move left.
 * What is left of a window is seldom a multiple of the scale, so the field is rounded up, and the buffer takes so much
 * more. rounded_limit bounds that. A peer that sends single bytes into a window with a large scale reaches the bound
 * and then sees the edge move left by less than one unit, which RFC 7323 section 2.4 allows. The edge moves right only
 * by a segment or half the buffer (the receiver's silly window avoidance, section 3.8.6.2.2).
 *
 * The offer is what both the connection's buffer and the pool of frames have room for. un_pool_share is the
 * connection's part of the pool, and a frame counts for half of its bytes, since segments seldom fill one. While the
 * pool is nearly empty, the edge stays where it is. When a peer has reached it for want of frames, UN_TIMER_ACK looks
 * again, as often as a peer may probe at most (section 3.8.6.1), and the window opens by itself. So nobody who frees
 * frames has to look for connections that wait for them. */
#include "tcp/keep.h"
#include "tcp/internal.h"

/* the least retransmission timeout of most peers, and so their first probe */
#define UN_STARVED_LOOK_NS (200 * UN_MS_NS)

static uint32_t window_left(const struct un_tcb *tcb)
{
    return un_seq_lt(tcb->rcv_nxt, tcb->rcv_edge) ? tcb->rcv_edge - tcb->rcv_nxt : 0;
}

static uint32_t free_of(const struct un_tcb *tcb, uint32_t limit)
{
    return tcb->rcv_bytes < limit ? limit - tcb->rcv_bytes : 0;
}

/* What so many frames are sure to hold. */
static uint32_t bytes_of(const struct un_tcp *tcp, uint32_t frames)
{
    uint64_t bytes = (uint64_t)frames * (tcp->pool.own->frame_bytes / 2);
    return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

/* What may come yet, beyond what waits in order. */
static uint32_t room_of(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t share = un_pool_share(&tcp->pool);
    uint32_t frames = tcb->rcv_frames < share ? share - tcb->rcv_frames : 0;
    return un_min32(free_of(tcb, tcb->rcv_limit), bytes_of(tcp, frames));
}

static uint32_t segment_of(const struct un_tcb *tcb)
{
    return un_max32(tcb->snd_mss, tcb->rcv_mss);
}

/* The least by which the edge moves. */
static uint32_t least_step(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t limit = un_min32(tcb->rcv_limit, bytes_of(tcp, un_pool_share(&tcp->pool)));
    return un_max32(1, un_min32(segment_of(tcb), limit / 2));
}

/* What the buffer holds at most, because of what was rounded up. */
static uint32_t rounded_limit(const struct un_tcb *tcb)
{
    return tcb->rcv_limit + tcb->rcv_limit / 16;
}

void un_tcp_set_receive_limit(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    bool is_offered = tcb->snd_nxt != tcb->iss || !(tcb->state & (UN_TCP_CLOSED | UN_TCP_SYN_SENT));
    tcb->rcv_limit = bytes;
    if (!is_offered)
        tcb->rcv_wscale = un_tcp_window_scale(tcp->config, bytes);
}

/* What an earlier SYN offered stays offered. */
uint16_t un_tcp_window_syn(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t least = un_min32(tcb->rcv_limit, bytes_of(tcp, UN_POOL_FEW));
    uint32_t most = un_max32(least, room_of(tcp, tcb));
    return (uint16_t)un_min32(un_max32(most, window_left(tcb)), UINT16_MAX);
}

uint16_t un_tcp_window_next(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t left = window_left(tcb);
    uint32_t most = room_of(tcp, tcb);
    uint32_t scale = tcb->rcv_wscale;
    uint32_t field = (left + (1u << scale) - 1) >> scale;
    if (most >= left + least_step(tcp, tcb))
        field = un_max32(field, most >> scale);
    else if ((field << scale) > free_of(tcb, rounded_limit(tcb)))
        field = left >> scale;
    return (uint16_t)un_min32(field, UINT16_MAX);
}

/* The application made room. As long as the peer has much window left, it need not know at once. A window that doubles
 * is worth a segment of its own; so the reader of a full buffer causes few of them. */
static bool is_opened(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t left = window_left(tcb);
    if (left > tcb->rcv_limit / 2)
        return false;
    uint32_t most = un_min32(room_of(tcp, tcb), (uint32_t)UINT16_MAX << tcb->rcv_wscale);
    return most >= left + least_step(tcp, tcb) && most - left >= left;
}

/* Less than a segment of the peer's is left, and the buffer would take more than there are frames for. */
static bool is_starved(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t left = window_left(tcb), wanted = left + segment_of(tcb);
    return left < tcb->rcv_mss && room_of(tcp, tcb) < un_min32(wanted, free_of(tcb, tcb->rcv_limit));
}

static UN_NEVER_INLINE void look_again(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_keep_all(tcp, tcb);
    un_tcp_arm(tcp, tcb, UN_TIMER_ACK, tcp->now_ns + UN_STARVED_LOOK_NS);
}

void un_tcp_watch_window(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if ((tcb->state & UN_TCP_CAN_RECEIVE) && !(tcb->flags & UN_TCB_ACK_LATER) && is_starved(tcp, tcb))
        look_again(tcp, tcb);
}

bool un_tcp_open_window(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!(tcb->state & UN_TCP_CAN_RECEIVE) || !is_opened(tcp, tcb)) {
        un_tcp_watch_window(tcp, tcb);
        return false;
    }
    un_tcp_ack_now(tcp, tcb);
    return true;
}

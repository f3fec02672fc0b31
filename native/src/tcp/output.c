/* What may leave: dispatch asks, in this order, for what is to be sent again, for new data, for probes, and for an ACK
 * that nothing of these carried.
 *
 * New data leaves by the rules of the sender's silly window avoidance (RFC 9293 section 3.8.6.2.1) and of Nagle's
 * algorithm in Minshall's form: a full segment always; a small one when it is the last there is and no other small one
 * is unacknowledged (or the application wants no delay, or the FIN goes with it); part of what is there when the window
 * is the limit and lets half of the largest window go. What all this holds back while nothing is in flight waits for
 * the persist timer, and then leaves as far as the window allows; into a shut window goes one byte, which counts as
 * sent only when the peer takes it.
 *
 * A device that segments gets many segments at once. Nothing changes before emit has taken a segment; when it says
 * -EAGAIN, dispatch is called again. */
#include "tcp/output_fast.h"

#include <errno.h>

/* A segment that is about to leave, and what the ones before and after it have in common. */
struct outgoing {
    struct un_seg seg;
    struct un_piece pieces[UN_TCP_PIECES_MAX];
    int count;
    uint32_t mss; /* payload of a full segment with these options */
};

static void prepare(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    un_tcp_segment(tcp, tcb, &out->seg, 0);
    out->count = 0;
    out->mss = tcb->snd_mss - un_tcp_option_bytes(&out->seg);
}

static int emit(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    bool is_super = out->seg.length > out->mss;
    return un_tcp_emit(tcp, tcb, &out->seg, out->pieces, out->count, is_super ? out->mss : 0);
}

/* All that is to be noted of a segment that was emitted is: what the peer may see from now on is never undone. */
static void noted(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcp->operations->sent)
        tcp->operations->sent(tcp, tcb);
}

/* ---- again ---- */

static int resend_syn(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t sent)
{
    uint32_t tsval = 0;
    int result = un_tcp_send_syn(tcp, tcb, &tsval);
    if (result < 0)
        return result;
    un_recovery_resent(tcp, tcb, sent, tsval);
    noted(tcp, tcb);
    return 0;
}

static int resend_one(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out, uint32_t sent)
{
    const struct un_sent *record = &tcp->sents[sent];
    bool has_fin = record->flags & UN_SENT_FIN;
    uint32_t length = record->length - has_fin;
    uint32_t got = 0;
    prepare(tcp, tcb, out);
    if (length > 0)
        out->count = un_tx_pieces(tcp, record->frame, record->offset, length, out->pieces, UN_TCP_PIECES_MAX, &got);
    un_assert(got == length);
    out->seg.seq = record->seq;
    out->seg.length = length;
    if (has_fin)
        out->seg.flags |= UN_TCP_FIN;
    if (length > 0 && record->seq + record->length == tcb->snd_nxt)
        out->seg.flags |= UN_TCP_PSH;
    int result = emit(tcp, tcb, out);
    if (result < 0)
        return result;
    un_recovery_resent(tcp, tcb, sent, out->seg.tsval);
    un_tcp_begin_waiting(tcp, tcb);
    noted(tcp, tcb);
    return 0;
}

static int resend(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    uint32_t sent;
    while ((sent = un_recovery_next(tcp, tcb, un_tcp_segment_most(tcb))) != UN_NONE) {
        int result = resend_one(tcp, tcb, out, sent);
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- new ---- */

static uint32_t window_left(const struct un_tcb *tcb)
{
    int32_t left = un_seq_diff(tcb->snd_una + tcb->snd_wnd, tcb->snd_nxt); /* the peer may have shrunk it */
    return left > 0 ? (uint32_t)left : 0;
}

/* Bytes of one super-segment: the device's limit, and half of what may be in flight, so that ACKs keep coming. */
static uint32_t burst_most(const struct un_tcp *tcp, const struct un_tcb *tcb, uint32_t mss)
{
    uint32_t device = un_min32(tcp->tx_segment_bytes, tcp->config->tx_segments_max * mss);
    return un_max32(mss, un_min32(device, un_max32(2 * mss, un_min32(tcb->cwnd, tcb->snd_wnd_max) / 2)));
}

/* How much of `unsent` bytes leaves as the next segment; 0: nothing now. */
static uint32_t next_length(const struct un_tcp *tcp, const struct un_tcb *tcb, uint32_t unsent, uint32_t mss)
{
    uint32_t window = window_left(tcb);
    uint32_t most = un_min32(window, un_recovery_allowance(tcp, tcb));
    if (unsent <= un_min32(mss, most))
        return unsent == mss || un_tcp_may_send_small(tcb) ? unsent : 0;
    if (most < mss) /* cwnd waits for a full segment; the window is used when it is half of the largest */
        return most == window && window >= tcb->snd_wnd_max / 2 && un_tcp_may_send_small(tcb) ? most : 0;
    uint32_t length = un_min32(un_min32(unsent, most), burst_most(tcp, tcb, mss));
    if (length == unsent && un_tcp_may_send_small(tcb))
        return length;
    return length < 2 * mss ? mss : length - length % mss;
}

/* The pieces; when they are too many, of fewer bytes, in whole segments if that is one at least. */
static uint32_t gather(const struct un_tcp *tcp, const struct un_tcb *tcb, struct outgoing *out, uint32_t length)
{
    uint32_t frame = tcb->unsent_frame, offset = tcb->unsent_offset, got = 0;
    if (length == 0)
        return 0;
    out->count = un_tx_pieces(tcp, frame, offset, length, out->pieces, UN_TCP_PIECES_MAX, &got);
    un_assert(got > 0);
    if (got == length || got <= out->mss)
        return got;
    out->count = un_tx_pieces(tcp, frame, offset, got - got % out->mss, out->pieces, UN_TCP_PIECES_MAX, &got);
    return got;
}

/* It was emitted: what was unsent is in flight. */
static void sent_new(struct un_tcp *tcp, struct un_tcb *tcb, const struct outgoing *out)
{
    uint32_t length = out->seg.length;
    bool has_fin = out->seg.flags & UN_TCP_FIN;
    if (tcb->flags & UN_TCB_PERSIST)
        un_tcp_leave_persist(tcb);
    un_recovery_sent(tcp, tcb, length + has_fin, tcb->unsent_frame, tcb->unsent_offset, has_fin ? UN_SENT_FIN : 0,
                     out->seg.tsval);
    if (length > 0)
        un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, length);
    tcb->snd_nxt += length + has_fin;
    tcb->bytes_out += length;
    tcp->counters->bytes_out += length;
    if (out->seg.flags & UN_TCP_CWR)
        tcb->flags &= ~(uint32_t)UN_TCB_CWR;
    if (has_fin)
        tcb->flags |= UN_TCB_FIN_SENT;
    else if (!(tcb->flags & UN_TCB_NODELAY) && length != out->mss && length % out->mss != 0)
        tcb->snd_small_end = tcb->snd_nxt;
    un_tcp_begin_waiting(tcp, tcb);
}

/* Send so much of `unsent` bytes, and the FIN when it is next and has room. */
static int send_one(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out, uint32_t length, uint32_t unsent)
{
    prepare(tcp, tcb, out);
    out->seg.length = gather(tcp, tcb, out, length);
    if (out->seg.length == unsent) {
        out->seg.flags |= unsent > 0 ? UN_TCP_PSH : 0;
        if (un_tcp_fin_pending(tcb) && window_left(tcb) > unsent)
            out->seg.flags |= UN_TCP_FIN;
    }
    un_tcp_mark_ecn(tcb, &out->seg);
    int result = emit(tcp, tcb, out);
    if (result < 0)
        return result;
    sent_new(tcp, tcb, out);
    noted(tcp, tcb);
    return 0;
}

/* A larger segment than the path is known to carry: path.c. */
static int send_path_probe(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out, uint32_t more)
{
    prepare(tcp, tcb, out);
    out->mss += more;
    out->seg.length = gather(tcp, tcb, out, out->mss);
    un_tcp_mark_ecn(tcb, &out->seg);
    int result = emit(tcp, tcb, out);
    if (result < 0)
        return result;
    sent_new(tcp, tcb, out);
    un_tcp_path_probe_sent(tcp, tcb);
    noted(tcp, tcb);
    return 0;
}

static int send_new(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    uint32_t mss = un_tcp_segment_most(tcb);
    uint32_t more = tcb->path_mtu < tcb->path_mtu_max ? un_tcp_path_probe(tcp, tcb) : 0;
    int status = more > 0 && un_recovery_can_record(tcp, tcb) ? send_path_probe(tcp, tcb, out, more) : 0;
    if (status < 0)
        return status;
    while (un_tcp_has_unsent(tcb) && un_recovery_can_record(tcp, tcb)) {
        uint32_t unsent = un_tx_unsent(tcb);
        uint32_t length = unsent > 0 ? next_length(tcp, tcb, unsent, mss) : 0;
        if (length == 0 && (unsent > 0 || window_left(tcb) == 0))
            return 0;
        int result = send_one(tcp, tcb, out, length, unsent);
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- the usual ---- */

static inline int output_fast(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length)
{
    struct un_seg seg;
    struct un_piece piece;
    un_tcp_output_fast_segment(tcp, tcb, length, &seg, &piece);
    int result = tcp->operations->emit(tcp, tcb, &seg, &piece, 1, 0);
    if (result == 0)
        un_tcp_output_fast_sent(tcp, tcb, &seg);
    return result;
}

/* ---- probes ---- */

/* One byte, or the FIN, that the window does not let go (RFC 9293 section 3.8.6.1). */
static int send_beyond_window(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    prepare(tcp, tcb, out);
    out->seg.length = gather(tcp, tcb, out, tcb->unsent_frame != UN_NONE);
    if (out->seg.length == 0)
        out->seg.flags |= UN_TCP_FIN;
    int result = emit(tcp, tcb, out);
    if (result < 0)
        return result;
    tcp->counters->window_probes++;
    if (tcb->probes < UINT8_MAX)
        tcb->probes++;
    un_tcp_begin_waiting(tcp, tcb);
    noted(tcp, tcb);
    return 0;
}

/* The persist timer fired. What the window lets go leaves, be it small. */
static int probe_window(struct un_tcp *tcp, struct un_tcb *tcb, struct outgoing *out)
{
    int result = 0;
    uint32_t window = window_left(tcb);
    uint32_t unsent = un_tx_unsent(tcb);
    if (tcb->snd_una == tcb->snd_nxt && un_tcp_has_unsent(tcb)) {
        if (window == 0)
            result = send_beyond_window(tcp, tcb, out);
        else if (un_recovery_can_record(tcp, tcb))
            result = send_one(tcp, tcb, out, un_min32(un_min32(window, unsent), un_tcp_segment_most(tcb)), unsent);
    }
    if (result == 0)
        tcb->flags &= ~(uint32_t)UN_TCB_WINDOW_PROBE;
    return result;
}

/* A segment that a living peer has to answer, since it stands before its window. */
static int send_keepalive(struct un_tcp *tcp, struct un_tcb *tcb)
{
    struct un_seg seg;
    un_tcp_segment(tcp, tcb, &seg, 0);
    seg.seq = tcb->snd_nxt - 1;
    int result = un_tcp_emit(tcp, tcb, &seg, NULL, 0, 0);
    if (result < 0)
        return result;
    tcb->flags &= ~(uint32_t)UN_TCB_KEEPALIVE_DUE;
    tcp->counters->keepalives++;
    noted(tcp, tcb);
    return 0;
}

/* ---- dispatch ---- */

static int dispatch_stream(struct un_tcp *tcp, struct un_tcb *tcb)
{
    struct outgoing out;
    int result = tcb->lost_bytes > 0 || (tcb->flags & UN_TCB_PROBE_DUE) ? resend(tcp, tcb, &out) : 0;
    if (result == 0 && un_tcp_has_unsent(tcb))
        result = send_new(tcp, tcb, &out);
    if (result == 0 && (tcb->flags & UN_TCB_WINDOW_PROBE))
        result = probe_window(tcp, tcb, &out);
    if (result == 0 && tcb->snd_una == tcb->snd_nxt)
        un_tcp_arm_persist(tcp, tcb);
    return result;
}

/* The SYN or SYN-ACK, and again when it was lost. */
static int dispatch_handshake(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t tsval = 0;
    if (tcb->snd_nxt != tcb->iss) {
        uint32_t sent = un_recovery_next(tcp, tcb, tcb->snd_mss);
        return sent == UN_NONE ? 0 : resend_syn(tcp, tcb, sent);
    }
    if (!un_recovery_can_record(tcp, tcb)) {
        un_tcp_arm_persist(tcp, tcb);
        return 0;
    }
    int result = un_tcp_send_syn(tcp, tcb, &tsval);
    if (result < 0)
        return result;
    if (tcb->flags & UN_TCB_PERSIST)
        un_tcp_leave_persist(tcb);
    un_recovery_sent(tcp, tcb, 1, UN_NONE, 0, UN_SENT_SYN, tsval);
    tcb->snd_nxt++;
    tcb->unacked_ns = tcp->now_ns;
    noted(tcp, tcb);
    return 0;
}

int un_tcp_dispatch(struct un_tcp *tcp, struct un_tcb *tcb)
{
    int result = 0;
    uint32_t length = tcp->is_slow ? 0 : un_tcp_output_fast_length(tcp, tcb);
    if (length > 0)
        return output_fast(tcp, tcb, length);
    if (un_tcp_is_over(tcb))
        return 0;
    un_tcp_assert_order(tcb);
    if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED))
        result = dispatch_handshake(tcp, tcb);
    else if (tcb->state & UN_TCP_SENDING)
        result = dispatch_stream(tcp, tcb);
    if (result == 0 && (tcb->flags & UN_TCB_KEEPALIVE_DUE))
        result = send_keepalive(tcp, tcb);
    if (result == 0 && (tcb->flags & UN_TCB_ACK_NOW))
        result = un_tcp_send_ack(tcp, tcb);
    return result;
}

/* ---- the application writes ---- */

static inline bool is_writable(const struct un_tcb *tcb)
{
    return (tcb->state & UN_TCP_CAN_SEND) && !(tcb->flags & UN_TCB_FIN_QUEUED);
}

uint32_t un_tcp_write_room(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t limit = un_tcp_send_limit(tcp, tcb);
    return is_writable(tcb) && tcb->snd_bytes < limit ? limit - tcb->snd_bytes : 0;
}

static int refuse_write(const struct un_tcb *tcb)
{
    if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED))
        return -ENOTCONN;
    if (tcb->state != UN_TCP_DEAD)
        return -EPIPE;
    switch ((enum un_tcp_reason)tcb->reason) {
    case UN_TCP_REASON_REFUSED:
        return -ECONNREFUSED;
    case UN_TCP_REASON_TIMEOUT:
    case UN_TCP_REASON_KEEPALIVE:
        return -ETIMEDOUT;
    case UN_TCP_REASON_UNREACHABLE:
        return -EHOSTUNREACH;
    case UN_TCP_REASON_CLOSED:
        return -EPIPE;
    default:
        return -ECONNRESET;
    }
}

/* A lent piece is copied as far as it fits; one in a frame passes to the queue as a whole, when there is any room. */
static uint32_t append(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_piece *piece)
{
    if (piece->frame == UN_NONE)
        return un_tx_append(tcp, tcb, piece->bytes, piece->length);
    if (un_tcp_write_room(tcp, tcb) == 0)
        return 0;
    uint32_t offset = (uint32_t)(piece->bytes - un_pool_bytes(&tcp->pool, piece->frame));
    un_tx_append_frame(tcp, tcb, piece->frame, offset, piece->length);
    return piece->length;
}

/* So many bytes were queued; the first that were not came from a piece of which only a part was, if any. */
static inline void written(struct un_tcp *tcp, struct un_tcb *tcb, int64_t taken, bool is_all)
{
    if (!is_all)
        tcb->flags |= UN_TCB_WANT_WRITE;
    if (taken > 0 || (tcb->flags & UN_TCB_WANT_WRITE))
        un_tcp_want_output(tcp, tcb);
}

int64_t un_tcp_write(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_piece *pieces, int count)
{
    int64_t taken = 0;
    bool is_all = true;
    if (!is_writable(tcb))
        return refuse_write(tcb);
    for (int piece = 0; piece < count && is_all; piece++) {
        uint32_t got = append(tcp, tcb, &pieces[piece]);
        taken += got;
        is_all = got == pieces[piece].length;
    }
    written(tcp, tcb, taken, is_all);
    return taken;
}

int64_t un_tcp_lend(struct un_tcp *tcp, struct un_tcb *tcb, uint16_t lender, struct un_piece *pieces, int count)
{
    int64_t taken = 0;
    bool is_all = true;
    if (!is_writable(tcb))
        return refuse_write(tcb);
    for (int piece = 0; piece < count && is_all; piece++) {
        uint32_t got = un_tx_append_lent(tcp, tcb, lender, &pieces[piece]);
        taken += got;
        is_all = got == pieces[piece].length;
    }
    written(tcp, tcb, taken, is_all);
    return taken;
}

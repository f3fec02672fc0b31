/* The size of our segments: what the peer takes (RFC 9293 section 3.7.1, RFC 6691) and what the path carries (RFC 1191,
 * RFC 8201), which routers tell by ICMP (matched as RFC 5927 has it) and silence tells when they do not (RFC 8899).
 *
 * A path that carries less than it did may be left for another one, or silence may have had other reasons: ten minutes
 * later, and then every ten minutes, one segment of a bulk transfer is as large as the next size that links have. When
 * it arrives, all others follow and the size after it is tried; when not, its payload is sent again in smaller ones,
 * and that is no sign of congestion. */
#include "tcp/internal.h"

#define PATH_MTU_MIN_IPV4 552u  /* what RFC 1191 section 7.1 knows of real links; less is an attack */
#define PATH_MTU_MIN_IPV6 1280u /* RFC 8200 section 5 */
#define PATH_MTU_BASE 1280u     /* carried nearly everywhere: RFC 8899 section 5.1.2 says 1200 of payload */
#define MSS_DEFAULT_IPV4 536u   /* RFC 9293 MUST-15 */
#define MSS_DEFAULT_IPV6 1220u
#define PEER_MSS_MIN 64u             /* a peer that asks for less would make us send nothing but headers */
#define BLACK_HOLE_TIMEOUTS 3u  /* of large packets in a row */
#define SEARCH_MINUTES 10u      /* RFC 1191 section 6.3; RFC 8899 section 5.1.1: PMTU_RAISE_TIMER */
#define SEARCH_FOLLOWERS 3u     /* segments behind a probe: by their ACKs its loss is found without a timeout */

/* IPv6's least, tunnels, IP in IP, PPPoE, Ethernet, and what there is of larger ones (RFC 1191 section 7). */
static const uint16_t sizes[] = {576, 1006, 1280, 1400, 1460, 1480, 1492, 1500, 2002, 4352, 8166, 9000, 17914, 32000};

static uint32_t headers(const struct un_ip *peer)
{
    return un_ip_is_v4(peer) ? UN_TCP_IPV4_HEADERS : UN_TCP_IPV6_HEADERS;
}

static void set_segment_size(struct un_tcb *tcb)
{
    uint32_t path = tcb->path_mtu - headers(&tcb->peer);
    tcb->snd_mss = (uint16_t)un_min32(tcb->peer_mss, path);
}

/* What we can receive, which has nothing to do with the path of what we send: RFC 6691. */
uint16_t un_tcp_announced_mss(const struct un_ip *peer, uint16_t link_mtu)
{
    return (uint16_t)(link_mtu - headers(peer));
}

/* From the SYN; without one, or without the option, the default. */
void un_tcp_set_peer_mss(struct un_tcb *tcb, const struct un_seg *syn)
{
    uint32_t mss = un_ip_is_v4(&tcb->peer) ? MSS_DEFAULT_IPV4 : MSS_DEFAULT_IPV6;
    if (syn && (syn->options & UN_SEG_MSS))
        mss = un_max32(syn->mss, PEER_MSS_MIN);
    tcb->peer_mss = (uint16_t)mss;
    set_segment_size(tcb);
}

static void lower_path_mtu(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t mtu)
{
    uint32_t least = un_ip_is_v4(&tcb->peer) ? PATH_MTU_MIN_IPV4 : PATH_MTU_MIN_IPV6;
    uint16_t before = tcb->snd_mss;
    mtu = un_max32(mtu, least);
    if (mtu >= tcb->path_mtu)
        return;
    tcb->path_mtu = (uint16_t)mtu;
    tcb->path_minute = un_tcp_clock_minute(tcp);
    tcp->counters->path_mtu_lowered++;
    set_segment_size(tcb);
    if (tcb->snd_mss == before || !(tcb->state & UN_TCP_SYNCHRONIZED))
        return;
    un_recovery_resegment(tcp, tcb);
    un_tcp_want_output(tcp, tcb);
}

/* The path MTU to try next; no larger than what the peer takes makes use of. */
static uint32_t next_size(const struct un_tcb *tcb)
{
    uint32_t size = tcb->path_mtu_max;
    for (uint32_t i = sizeof sizes / sizeof sizes[0]; i-- > 0 && sizes[i] > tcb->path_mtu;)
        size = un_min32(size, sizes[i]);
    return un_min32(size, tcb->peer_mss + headers(&tcb->peer));
}

uint32_t un_tcp_path_probe(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    const uint32_t busy = UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_PROBE_OUT | UN_TCB_PROBE_DUE | UN_TCB_PERSIST;
    bool is_due = (uint8_t)(un_tcp_clock_minute(tcp) - tcb->path_minute) >= SEARCH_MINUTES;
    if (!tcp->config->path_mtu_probing || !is_due || (tcb->flags & busy) || tcb->lost_bytes + tcb->sacked_bytes > 0)
        return 0;
    uint32_t size = next_size(tcb), needed = size + SEARCH_FOLLOWERS * tcb->snd_mss;
    int32_t window = un_seq_diff(tcb->snd_una + tcb->snd_wnd, tcb->snd_nxt);
    bool has_room = un_tx_unsent(tcb) >= needed && window >= (int32_t)needed &&
                    un_recovery_allowance(tcp, tcb) >= needed;
    return has_room && size > tcb->path_mtu ? size - tcb->path_mtu : 0;
}

void un_tcp_path_probe_sent(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcp->sents[tcb->sent_tail].flags |= UN_SENT_PATH_PROBE;
    tcb->path_minute = un_tcp_clock_minute(tcp);
    tcp->counters->path_mtu_probes++;
}

/* It may have been lowered meanwhile: then what has arrived is larger still than the next size. */
void un_tcp_path_probed(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t size = next_size(tcb);
    if (size <= tcb->path_mtu)
        return;
    tcb->path_mtu = (uint16_t)size;
    tcb->path_minute = (uint8_t)(un_tcp_clock_minute(tcp) - SEARCH_MINUTES);
    tcp->counters->path_mtu_raised++;
    set_segment_size(tcb);
}

/* A packet is in flight that a path of PATH_MTU_BASE does not carry, though the peer has room for it; or several small
 * ones, which lose little by it. */
static bool has_large_in_flight(const struct un_tcb *tcb)
{
    uint32_t outstanding = tcb->snd_nxt - tcb->snd_una;
    uint32_t options = tcb->flags & UN_TCB_TIMESTAMP ? UN_TCP_TIMESTAMP_BYTES : 0;
    return !un_tcp_window_is_short(tcb) && outstanding + headers(&tcb->peer) + options > PATH_MTU_BASE;
}

void un_tcp_suspect_black_hole(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcp->config->path_mtu_probing && tcb->path_mtu > PATH_MTU_BASE && tcb->backoff >= BLACK_HOLE_TIMEOUTS &&
        has_large_in_flight(tcb))
        lower_path_mtu(tcp, tcb, PATH_MTU_BASE);
}

static bool is_in_flight(const struct un_tcb *tcb, uint32_t seq)
{
    return un_seq_le(tcb->snd_una, seq) && un_seq_lt(seq, tcb->snd_nxt);
}

void un_tcp_icmp(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason why, uint32_t mtu, uint32_t seq)
{
    if (un_tcp_is_over(tcb) || !is_in_flight(tcb, seq)) {
        un_tcp_drop(tcp, UN_DROP_icmp_unmatched);
        return;
    }
    bool is_connecting = tcb->state == UN_TCP_SYN_SENT ||
                         (tcb->state == UN_TCP_SYN_RECEIVED && (tcb->flags & UN_TCB_ACTIVE));
    if (mtu > 0)
        lower_path_mtu(tcp, tcb, mtu);
    else if (is_connecting && why != UN_TCP_REASON_NONE)
        un_tcp_end(tcp, tcb, why);
    else if (is_connecting)
        tcb->soft_error = 1;
}

/* See cookie.h. */
#include "tcp/cookie.h"

#include "base/siphash.h"
#include "tcp/internal.h"

#define SLOT_NS (64 * UN_SECOND_NS)
#define SLOT_SHIFT 28u
#define MSS_SHIFT 24u
#define MSS_COUNT 16u
#define HASH_MASK ((1u << MSS_SHIFT) - 1)
#define PURPOSE 0x434f4f4bu /* the secret serves other hashes as well */

/* Option bits in a timestamp. */
#define TS_WSCALE_MASK 0x0fu
#define TS_WSCALE_NONE 0x0fu
#define TS_SACK 0x10u
#define TS_ECN 0x20u
#define TS_MASK 0x3fu

/* What peers announce: the least that path.c believes, small links, the default of IPv4, IPv6's least MTU (over it, and
 * as IPv4 has it), tunnels, mobile networks and DSL, Ethernet over IPv6, PPPoE, Ethernet, jumbo frames. Ascending;
 * between 1220 and 1460 nobody loses more than a twentieth. */
static const uint16_t mss_table[MSS_COUNT] = {64,   256,  536,  1024, 1220, 1240, 1300, 1360,
                                              1380, 1400, 1420, 1440, 1452, 1460, 8940, 8960};

struct hashed {
    struct un_ip peer;
    struct un_ip local;
    uint16_t peer_port;
    uint16_t local_port;
    uint32_t irs;
    uint32_t slot;
    uint32_t mss;
    uint32_t purpose;
};
UN_STATIC_ASSERT(sizeof(struct hashed) == 52, "no padding, which would be hashed");

static uint32_t cookie_of(const struct un_cookie_flow *flow, uint32_t irs, uint32_t slot, uint32_t mss)
{
    struct hashed hashed = {flow->peer, flow->local, flow->peer_port, flow->local_port, irs, slot, mss, PURPOSE};
    uint32_t hash = (uint32_t)un_siphash(flow->secret, &hashed, sizeof hashed);
    return slot << SLOT_SHIFT | mss << MSS_SHIFT | (hash & HASH_MASK);
}

static uint32_t mss_index(const struct un_cookie_flow *flow, const struct un_seg *syn)
{
    uint32_t mss = syn->options & UN_SEG_MSS ? syn->mss : un_ip_is_v4(&flow->peer) ? 536u : 1220u;
    uint32_t index = MSS_COUNT - 1;
    while (index > 0 && mss_table[index] > mss)
        index--;
    return index;
}

/* The latest timestamp that is not in the future and has these lowest bits. */
static uint32_t timestamp_with(uint32_t clock, uint32_t bits)
{
    uint32_t value = (clock & ~TS_MASK) | bits;
    return un_seq_lt(clock, value) ? value - (TS_MASK + 1) : value;
}

/* Accept what the SYN offers, and write down what was accepted. */
static void answer_options(const struct un_tcp *tcp, const struct un_cookie_flow *flow, const struct un_seg *syn,
                           struct un_seg *answer)
{
    const struct un_tcp_config *config = tcp->config;
    uint32_t bits = TS_WSCALE_NONE;
    if (!config->timestamps || !(syn->options & UN_SEG_TIMESTAMP))
        return;
    if (config->window_scaling && (syn->options & UN_SEG_WSCALE)) {
        answer->options |= UN_SEG_WSCALE;
        answer->wscale = un_tcp_window_scale(config, flow->rcv_limit);
        bits = un_min32(syn->wscale, TS_WSCALE_NONE - 1);
    }
    if (config->sack && (syn->options & UN_SEG_SACK_PERMITTED)) {
        answer->options |= UN_SEG_SACK_PERMITTED;
        bits |= TS_SACK;
    }
    if (config->ecn != UN_ECN_NEVER && (syn->flags & (UN_TCP_ECE | UN_TCP_CWR)) == (UN_TCP_ECE | UN_TCP_CWR)) {
        answer->flags |= UN_TCP_ECE;
        bits |= TS_ECN;
    }
    answer->options |= UN_SEG_TIMESTAMP;
    answer->tsval = timestamp_with(tcp->now_ms + flow->ts_offset, bits);
    answer->tsecr = syn->tsval;
}

void un_cookie_answer(const struct un_tcp *tcp, const struct un_cookie_flow *flow, const struct un_seg *syn,
                      struct un_seg *answer)
{
    uint32_t slot = (uint32_t)(tcp->now_ns / SLOT_NS);
    *answer = (struct un_seg){
        .seq = cookie_of(flow, syn->seq, slot, mss_index(flow, syn)),
        .ack = syn->seq + 1,
        .flags = UN_TCP_SYN | UN_TCP_ACK,
        .wnd = (uint16_t)un_min32(flow->rcv_limit, UINT16_MAX),
        .options = UN_SEG_MSS,
        .mss = un_tcp_announced_mss(&flow->peer, flow->link_mtu),
    };
    answer_options(tcp, flow, syn, answer);
}

/* What the peer echoed; whatever bits it makes up, it could have offered. */
static void remember_options(const struct un_seg *ack, struct un_seg *syn)
{
    if (!(ack->options & UN_SEG_TIMESTAMP))
        return;
    uint32_t wscale = ack->tsecr & TS_WSCALE_MASK;
    syn->options |= UN_SEG_TIMESTAMP;
    syn->tsval = ack->tsval;
    if (wscale != TS_WSCALE_NONE) {
        syn->options |= UN_SEG_WSCALE;
        syn->wscale = (uint8_t)wscale;
    }
    if (ack->tsecr & TS_SACK)
        syn->options |= UN_SEG_SACK_PERMITTED;
    if (ack->tsecr & TS_ECN)
        syn->flags |= UN_TCP_ECE | UN_TCP_CWR;
}

bool un_cookie_check(const struct un_tcp *tcp, const struct un_cookie_flow *flow, const struct un_seg *ack,
                     struct un_seg *syn)
{
    uint32_t cookie = ack->ack - 1;
    uint32_t irs = ack->seq - 1;
    uint32_t mss = cookie >> MSS_SHIFT & (MSS_COUNT - 1);
    uint32_t slot = (uint32_t)(tcp->now_ns / SLOT_NS);
    if (cookie != cookie_of(flow, irs, slot, mss) && cookie != cookie_of(flow, irs, slot - 1, mss))
        return false;
    *syn = (struct un_seg){
        .seq = irs,
        .flags = UN_TCP_SYN,
        .wnd = ack->wnd,
        .options = UN_SEG_MSS,
        .mss = mss_table[mss],
    };
    remember_options(ack, syn);
    return true;
}

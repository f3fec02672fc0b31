/* ICMP and ICMPv6: echo, errors about our packets, errors that we send.
 *
 * Received errors count only when they quote a packet of a connection or UDP socket that exists; tcp/ checks that the
 * quoted sequence number is in flight (RFC 5927). We send errors for a port or protocol that nobody serves, for IPv6
 * headers that cannot be processed, and for fragments that were not completed in time. We send none about malformed
 * IPv4 headers (RFC 1122 section 3.2.2.5 allows that), and do not return the IP options of an echo request. */
#include "stack/icmp_input.h"

#include "base/bytes.h"
#include "stack/arrival.h"
#include "stack/complain.h"
#include "stack/discovery.h"
#include "stack/groups.h"
#include "stack/handover.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "stack/paths.h"
#include "stack/route.h"
#include "stack/split.h"
#include "stack/udp_datagrams.h"
#include "wire/icmp_kind.h"

#define UN_IPV4_MTU_MIN 552u /* below this an error is more likely an attack than a link (RFC 5927 section 7) */

/* ---- echo ---- */

/* Gather `length` bytes of the packet from offset `skip` on, without a copy. Returns the number of pieces. */
static int pieces_of(const struct un_stack *stack, const struct un_arrival *arrival, uint32_t skip, uint32_t length,
                     struct un_piece *pieces)
{
    const struct un_pool *pool = &stack->tcp.pool;
    int count = 0;
    for (uint32_t at = arrival->rx.frame; at != UN_NONE && length > 0; at = pool->frames[at].next) {
        const struct un_frame *frame = &pool->frames[at];
        uint32_t cut = skip < frame->length ? skip : frame->length;
        uint32_t part = frame->length - cut < length ? frame->length - cut : length;
        if (part > 0)
            pieces[count++] = (struct un_piece){un_pool_bytes(pool, at) + frame->offset + cut, part, at};
        skip -= cut;
        length -= part;
    }
    return count;
}

/* A reply has the DSCP of its request (RFC 1349 section 5.1; RFC 2474). */
static uint8_t dscp_of(const struct un_arrival *arrival)
{
    const uint8_t *at = (const uint8_t *)arrival->pieces[0].iov_base + arrival->packet.network;
    return arrival->packet.ether_type == UN_ETHER_IPV4 ? at[1] >> 2 : un_get16(at) >> 6 & 0x3f;
}

static enum un_drop answer_echo(struct un_stack *stack, const struct un_arrival *arrival, const struct un_icmp *request)
{
    const struct un_packet *packet = &arrival->packet;
    const struct un_ip *from = &packet->destination;
    if (!arrival->is_unicast) {
        int source = un_route_source(stack, &packet->source);
        if (source < 0 || un_ip_is_v4(from)) /* RFC 1122 section 3.2.2.6 lets us ignore these */
            return UN_DROP_ip_destination;
        from = &stack->own->addresses[source].ip;
    }
    if (arrival->count > (int)UN_TX_PIECES_MAX - 2) /* one more for our ICMP header, one for Ethernet and IP */
        return UN_DROP_icmp_too_big;
    uint32_t mtu = un_path_mtu(stack, &packet->source);
    bool is_whole = un_ip_header_length(from) + packet->transport_length <= mtu;
    uint32_t room = is_whole ? 0 : un_split_room(from, mtu);
    if (!un_icmp_may_send(stack, is_whole ? 1 : (packet->transport_length + room - 1) / room))
        return UN_DROP_NONE;
    struct un_piece pieces[UN_TX_PIECES_MAX];
    struct un_icmp reply = {.kind = UN_ICMP_ECHO_REPLY, .id = request->id, .sequence = request->sequence};
    int count = pieces_of(stack, arrival, packet->transport + request->payload, request->payload_length, pieces);
    const struct un_icmp_to to = {
        .ip = {.source = *from, .destination = packet->source, .dscp = dscp_of(arrival)}};
    if (un_icmp_send(stack, &reply, &to, pieces, count, room))
        stack->counters->echo_replies++;
    return UN_DROP_NONE;
}

/* ---- errors about packets of ours ---- */

/* The MTU to try when a router does not report its own: RFC 1191 section 7. */
static uint32_t plateau_below(uint32_t mtu)
{
    static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006};
    for (uint32_t i = 0; i < sizeof plateaus / sizeof plateaus[0]; i++)
        if (plateaus[i] < mtu)
            return plateaus[i];
    return UN_IPV4_MTU_MIN;
}

static uint32_t next_mtu(const struct un_icmp *icmp, const struct un_tcb *tcb)
{
    if (icmp->kind != UN_ICMP_PACKET_TOO_BIG)
        return 0;
    uint32_t mtu = icmp->mtu ? icmp->mtu : plateau_below(tcb->path_mtu);
    return mtu > UN_IPV4_MTU_MIN ? mtu : UN_IPV4_MTU_MIN;
}

/* RFC 8201 section 4: a report below the minimum MTU of IPv6 is discarded. */
static bool is_impossible(const struct un_icmp *icmp)
{
    return icmp->kind == UN_ICMP_PACKET_TOO_BIG && !un_ip_is_v4(&icmp->quote.source) && icmp->mtu < UN_IPV6_MTU_MIN;
}

/* How it ends a connection attempt: as in Linux, except for what may be a transient of routing, which must not end one
 * (RFC 9293 MUST-56). */
static enum un_tcp_reason end_of_attempt(enum un_icmp_kind kind)
{
    switch (kind) {
    case UN_ICMP_UNREACHABLE_PORT:
    case UN_ICMP_UNREACHABLE_PROTOCOL:
        return UN_TCP_REASON_REFUSED;
    case UN_ICMP_UNREACHABLE_FOR_GOOD:
        return UN_TCP_REASON_UNREACHABLE;
    default:
        return UN_TCP_REASON_NONE;
    }
}

static enum un_drop error(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp)
{
    const struct un_icmp_quote *quote = &icmp->quote;
    int local = un_address_find(stack, &quote->source);
    if (!icmp->has_quote || local < 0 || !arrival->is_unicast)
        return UN_DROP_icmp_unmatched;
    if (is_impossible(icmp))
        return UN_DROP_icmp_malformed;
    if (quote->protocol == UN_PROTOCOL_UDP)
        return un_udp_error(stack, arrival, icmp);
    if (quote->protocol != UN_PROTOCOL_TCP)
        return UN_DROP_icmp_unmatched;
    uint32_t slot =
        un_flow_find(stack, &quote->destination, quote->destination_port, quote->source_port, (uint16_t)local);
    if (slot == UN_NONE)
        return un_hand_to_owner(stack, arrival, &quote->destination, quote->destination_port, &quote->source,
                                quote->source_port)
                   ? UN_DROP_NONE
                   : UN_DROP_icmp_unmatched;
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    uint16_t path_mtu = tcb->path_mtu;
    un_stack_busy(stack, tcb);
    un_tcp_icmp(&stack->tcp, tcb, end_of_attempt(icmp->kind), next_mtu(icmp, tcb), quote->seq);
    un_stack_idle(stack);
    if (tcb->path_mtu < path_mtu) /* the connection accepted the report */
        un_path_learn(stack, &tcb->peer, tcb->path_mtu);
    return UN_DROP_NONE;
}

/* From the unspecified address: solicitations only. From one of our own: only the advertisement of another station that
 * uses it, too. */
static bool may_come_from(const struct un_stack *stack, const struct un_ip *source, enum un_icmp_kind kind)
{
    if (un_ip_is_any(source))
        return kind == UN_ICMP_NEIGHBOUR_SOLICITATION || kind == UN_ICMP_ROUTER_SOLICITATION;
    return kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT || un_address_find(stack, source) < 0;
}

enum un_drop un_icmp_input(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    struct un_icmp icmp;
    enum un_drop why =
        un_icmp_parse(&icmp, packet->protocol == UN_PROTOCOL_ICMPV6, packet->hop_limit, un_arrival_transport(arrival),
                      un_arrival_contiguous(arrival), packet->transport_length);
    if (why)
        return why;
    stack->counters->icmp_in++;
    if (!may_come_from(stack, &packet->source, icmp.kind))
        return UN_DROP_ip_source;
    if (un_is_shared(stack) && !un_icmp_is_error(icmp.kind))
        return UN_DROP_left_to_kernel;
    switch (icmp.kind) {
    case UN_ICMP_ECHO_REQUEST:
        return answer_echo(stack, arrival, &icmp);
    case UN_ICMP_UNREACHABLE_HOST:
    case UN_ICMP_UNREACHABLE_FOR_GOOD:
    case UN_ICMP_UNREACHABLE_PORT:
    case UN_ICMP_UNREACHABLE_PROTOCOL:
    case UN_ICMP_PACKET_TOO_BIG:
    case UN_ICMP_TIME_EXCEEDED:
    case UN_ICMP_PARAMETER_PROBLEM:
        return error(stack, arrival, &icmp);
    case UN_ICMP_NEIGHBOUR_SOLICITATION:
    case UN_ICMP_NEIGHBOUR_ADVERTISEMENT:
    case UN_ICMP_ROUTER_SOLICITATION:
    case UN_ICMP_ROUTER_ADVERTISEMENT:
        return un_discovery_input(stack, arrival, &icmp);
    case UN_ICMP_GROUP_QUERY:
        return un_groups_input(stack, arrival, &icmp);
    case UN_ICMP_ECHO_REPLY:
    case UN_ICMP_OTHER:
        break;
    }
    return UN_DROP_NONE;
}

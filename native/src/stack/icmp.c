/* ICMP and ICMPv6: echo, errors about our packets, errors that we send.
 *
 * Received errors count only when they quote a packet of a connection or UDP socket that exists; tcp/ checks that the
 * quoted sequence number is in flight (RFC 5927). We send errors for a port or protocol that nobody serves, for IPv6
 * headers that cannot be processed, and for fragments that were not completed in time. We send none about malformed
 * IPv4 headers (RFC 1122 section 3.2.2.5 allows that), and do not return the IP options of an echo request. */
#include "base/bytes.h"
#include "stack/arena.h"

#define UN_QUOTE_IPV4 548u  /* RFC 1812 section 4.3.2.3: a packet of 576 bytes, less IP and ICMP headers */
#define UN_QUOTE_IPV6 1232u /* RFC 4443 section 2.4 (c): the same of 1280 */
#define UN_IPV4_MTU_MIN 552u /* below this an error is more likely an attack than a link (RFC 5927 section 7) */
#define UN_ICMP_CHECKSUM_OFFSET 2u

static bool may_send(struct un_stack *stack, uint32_t packets)
{
    if (un_rate_allows(&stack->own->icmp, stack->config->icmp_per_s, packets, stack->tcp.now_ns))
        return true;
    un_stack_drop(stack, UN_DROP_icmp_rate);
    return false;
}

/* ip: source, destination and DSCP. room: payload bytes of each fragment; 0: do not fragment. */
static bool send_icmp(struct un_stack *stack, const struct un_icmp *icmp, const struct un_ip_header *ip,
                      const struct un_piece *pieces, int count, uint32_t room)
{
    uint8_t header[UN_ICMP_EMIT_MAX];
    bool is_v6 = !un_ip_is_v4(&ip->destination);
    struct un_datagram datagram = {
        .ip = *ip,
        .header = header,
        .header_length = un_icmp_emit(icmp, is_v6, header),
        .checksum_offset = UN_ICMP_CHECKSUM_OFFSET,
        .pieces = pieces,
        .count = count,
    };
    datagram.ip.protocol = is_v6 ? UN_PROTOCOL_ICMPV6 : UN_PROTOCOL_ICMP;
    if (room ? un_stack_send_split(stack, &datagram, room) : un_stack_send(stack, &datagram)) {
        un_stack_drop(stack, UN_DROP_device_full);
        return false;
    }
    stack->counters->icmp_out++;
    return true;
}

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
    if (!may_send(stack, is_whole ? 1 : (packet->transport_length + room - 1) / room))
        return UN_DROP_NONE;
    struct un_piece pieces[UN_TX_PIECES_MAX];
    struct un_icmp reply = {.kind = UN_ICMP_ECHO_REPLY, .id = request->id, .sequence = request->sequence};
    int count = pieces_of(stack, arrival, packet->transport + request->payload, request->payload_length, pieces);
    const struct un_ip_header ip = {.source = *from, .destination = packet->source, .dscp = dscp_of(arrival)};
    if (send_icmp(stack, &reply, &ip, pieces, count, room))
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

/* ---- errors about packets of others ---- */

/* quote: the contiguous start of the packet; it is cut to what an error may quote. */
static void send_error(struct un_stack *stack, const struct un_icmp *icmp, const struct un_ip *from,
                       const struct un_ip *to, struct un_piece quote)
{
    uint32_t most = un_ip_is_v4(to) ? UN_QUOTE_IPV4 : UN_QUOTE_IPV6;
    quote.length = quote.length < most ? quote.length : most;
    const struct un_ip_header ip = {.source = *from, .destination = *to};
    if (may_send(stack, 1))
        send_icmp(stack, icmp, &ip, &quote, 1, 0);
}

static struct un_piece quote_of(const struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    uint32_t header = (uint32_t)packet->transport - packet->network;
    return (struct un_piece){(const uint8_t *)arrival->pieces[0].iov_base + packet->network,
                             header + un_arrival_contiguous(arrival), arrival->rx.frame};
}

void un_icmp_refuse(struct un_stack *stack, struct un_arrival *arrival, enum un_icmp_kind kind)
{
    const struct un_packet *packet = &arrival->packet;
    const struct un_icmp icmp = {.kind = kind, .pointer = packet->pointer};
    send_error(stack, &icmp, &packet->destination, &packet->source, quote_of(arrival));
}

void un_icmp_complain(struct un_stack *stack, struct un_arrival *arrival)
{
    static const uint8_t codes[] = {
        [UN_PROBLEM_FIELD] = 0, [UN_PROBLEM_HEADER] = 1, [UN_PROBLEM_OPTION] = 2, [UN_PROBLEM_OPTION_ALWAYS] = 2};
    const struct un_packet *packet = &arrival->packet;
    const struct un_icmp icmp = {
        .kind = UN_ICMP_PARAMETER_PROBLEM, .code = codes[packet->problem], .pointer = packet->pointer};
    int source = arrival->is_unicast ? arrival->local : un_route_source(stack, &packet->source);
    if (source >= 0 && (arrival->is_unicast || packet->problem == UN_PROBLEM_OPTION_ALWAYS))
        send_error(stack, &icmp, &stack->own->addresses[source].ip, &packet->source, quote_of(arrival));
}

void un_icmp_give_up(struct un_stack *stack, const struct un_ip *from, const struct un_ip *to, struct un_piece fragment)
{
    const struct un_icmp icmp = {.kind = UN_ICMP_TIME_EXCEEDED, .code = 1}; /* of both families: reassembly */
    if (un_address_find(stack, from) >= 0 && un_can_be_source(stack, to))
        send_error(stack, &icmp, from, to, fragment);
}

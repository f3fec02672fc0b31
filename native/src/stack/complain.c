/* See complain.h. */
#include "stack/complain.h"

#include "stack/arrival.h"
#include "stack/local.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/rate.h"
#include "stack/route.h"
#include "stack/split.h"

#define UN_QUOTE_IPV4 548u  /* RFC 1812 section 4.3.2.3: a packet of 576 bytes, less IP and ICMP headers */
#define UN_QUOTE_IPV6 1232u /* RFC 4443 section 2.4 (c): the same of 1280 */
#define UN_ICMP_CHECKSUM_OFFSET 2u

bool un_icmp_may_send(struct un_stack *stack, uint32_t packets)
{
    if (un_rate_allows(&stack->own->icmp, stack->config->icmp_per_s, packets, stack->tcp.now_ns))
        return true;
    un_stack_drop(stack, UN_DROP_icmp_rate);
    return false;
}

/* room: payload bytes of each fragment; 0: do not fragment. */
bool un_icmp_send(struct un_stack *stack, const struct un_icmp *icmp, const struct un_icmp_to *to,
                  const struct un_piece *pieces, int count, uint32_t room)
{
    uint8_t header[UN_ICMP_EMIT_MAX];
    bool is_v6 = !un_ip_is_v4(&to->ip.destination);
    struct un_datagram datagram = {
        .ip = to->ip,
        .mac = to->mac,
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

/* quote: the contiguous start of the packet; it is cut to what an error may quote. */
static void send_error(struct un_stack *stack, const struct un_icmp *icmp, const struct un_icmp_to *to,
                       struct un_piece quote)
{
    uint32_t most = un_ip_is_v4(&to->ip.destination) ? UN_QUOTE_IPV4 : UN_QUOTE_IPV6;
    quote.length = quote.length < most ? quote.length : most;
    if (un_icmp_may_send(stack, 1))
        un_icmp_send(stack, icmp, to, &quote, 1, 0);
}

/* To who sent the packet, from this address of ours. */
static struct un_icmp_to back(const struct un_stack *stack, const struct un_arrival *arrival, const struct un_ip *from)
{
    return (struct un_icmp_to){.ip = {.source = *from, .destination = arrival->packet.source},
                               .mac = un_arrival_answer_mac(stack, arrival)};
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
    const struct un_icmp_to to = back(stack, arrival, &packet->destination);
    send_error(stack, &icmp, &to, quote_of(arrival));
}

void un_icmp_complain(struct un_stack *stack, struct un_arrival *arrival)
{
    static const uint8_t codes[] = {
        [UN_PROBLEM_FIELD] = 0, [UN_PROBLEM_HEADER] = 1, [UN_PROBLEM_OPTION] = 2, [UN_PROBLEM_OPTION_ALWAYS] = 2};
    const struct un_packet *packet = &arrival->packet;
    const struct un_icmp icmp = {
        .kind = UN_ICMP_PARAMETER_PROBLEM, .code = codes[packet->problem], .pointer = packet->pointer};
    int source = arrival->is_unicast ? arrival->local : un_route_source(stack, &packet->source);
    if (source < 0 || (!arrival->is_unicast && packet->problem != UN_PROBLEM_OPTION_ALWAYS))
        return;
    const struct un_icmp_to to = back(stack, arrival, &stack->own->addresses[source].ip);
    send_error(stack, &icmp, &to, quote_of(arrival));
}

void un_icmp_give_up(struct un_stack *stack, const struct un_ip *from, const struct un_ip *to, struct un_piece fragment)
{
    const struct un_icmp icmp = {.kind = UN_ICMP_TIME_EXCEEDED, .code = 1}; /* of both families: reassembly */
    const struct un_icmp_to receiver = {.ip = {.source = *from, .destination = *to}};
    if (un_address_find(stack, from) >= 0 && un_can_be_source(stack, to))
        send_error(stack, &icmp, &receiver, fragment);
}

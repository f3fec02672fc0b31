/* See secrets.h. */
#include "stack/secrets.h"

#include "base/siphash.h"

#define UN_ISN_TICK_NS 4000u /* RFC 9293 section 3.4.1: 4 microseconds */

/* One key for several purposes: each has its own number in what is hashed. */
enum purpose { PURPOSE_ISN = 1, PURPOSE_TIMESTAMP, PURPOSE_PORT_OFFSET = 0x100, PURPOSE_PORT_COUNTER };

static uint32_t keyed(const struct un_stack *stack, enum purpose purpose, const struct un_ip *local,
                      uint16_t local_port, const struct un_ip *peer, uint16_t peer_port)
{
    struct {
        struct un_ip local;
        struct un_ip peer;
        uint16_t local_port;
        uint16_t peer_port;
        uint32_t purpose;
    } text = {*local, *peer, local_port, peer_port, purpose};
    return (uint32_t)un_siphash(stack->config->secret, &text, sizeof text);
}

uint32_t un_initial_sequence(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port)
{
    return keyed(stack, PURPOSE_ISN, local, local_port, peer, peer_port) +
           (uint32_t)(stack->tcp.now_ns / UN_ISN_TICK_NS);
}

uint32_t un_timestamp_offset(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port)
{
    return keyed(stack, PURPOSE_TIMESTAMP, local, local_port, peer, peer_port);
}

/* Of both, our port is not known yet: the peer's stands in its place. */
uint32_t un_port_offset(const struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                        uint16_t peer_port)
{
    return keyed(stack, PURPOSE_PORT_OFFSET, local, peer_port, peer, 0);
}

uint32_t un_port_counter(const struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                         uint16_t peer_port)
{
    return keyed(stack, PURPOSE_PORT_COUNTER, local, peer_port, peer, 0) % UN_PORT_COUNTERS;
}

/* The table of UDP endpoints: which endpoint a datagram is for, which have news for the application, and how they are
 * opened and closed. The datagrams themselves: udp_datagrams.h.
 *
 * Open endpoints stand in buckets by their port. An endpoint with events stands in the list of events, once. Buckets
 * and list are caches: un_udp_rebuild makes them anew after adoption, and tells again all that is so. */
#ifndef UN_UDP_ENDPOINTS_H
#define UN_UDP_ENDPOINTS_H

#include "stack/arena.h"

uint32_t un_udp_number(const struct un_stack *stack, const struct un_udp_socket *endpoint);
/* NULL: no endpoint of this number is open. */
struct un_udp_socket *un_udp_endpoint(const struct un_stack *stack, uint32_t number);
/* The endpoint for a datagram from `remote` to `ip`, or NULL. An endpoint that is connected to this remote end comes
 * first, then the one whose address fits best. */
struct un_udp_socket *un_udp_find(struct un_stack *stack, const struct un_ip *ip, uint16_t port,
                                  const struct un_ip *remote, uint16_t remote_port);
void un_udp_tell(struct un_stack *stack, struct un_udp_socket *endpoint, uint32_t events); /* the application */
bool un_udp_next_event(struct un_stack *stack, struct un_stack_event *event);
/* Once the device has room, endpoints whose datagrams it refused are told that they may write. */
void un_udp_room(struct un_stack *stack);
void un_udp_rebuild(struct un_stack *stack);

#endif

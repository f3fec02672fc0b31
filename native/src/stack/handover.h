/* Packets that belong to another shard (P6). Those that another shard gave to us are never handed on. */
#ifndef UN_HANDOVER_H
#define UN_HANDOVER_H

#include "stack/arrival.h"

/* The shard that owns packets with these ends (ours second). */
uint32_t un_flow_owner(const struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                       const struct un_ip *local, uint16_t local_port);
void un_hand_over(struct un_stack *stack, const struct un_arrival *arrival, uint32_t shard); /* UN_NONE: all others */
/* true: the flow of these two ends is another shard's, which has the packet now. */
bool un_hand_to_owner(struct un_stack *stack, const struct un_arrival *arrival, const struct un_ip *peer,
                      uint16_t peer_port, const struct un_ip *local, uint16_t local_port);

#endif

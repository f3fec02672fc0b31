/* How large packets may be, on the link and on the way to a destination. */
#ifndef UN_PATHS_H
#define UN_PATHS_H

#include "stack/arena.h"

uint16_t un_link_mtu(const struct un_stack *stack, const struct un_ip *destination); /* what it may be at most */
uint16_t un_path_mtu(const struct un_stack *stack, const struct un_ip *destination);
void un_path_learn(struct un_stack *stack, const struct un_ip *ip, uint16_t mtu);

#endif

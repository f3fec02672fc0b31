/* ICMP messages that came. */
#ifndef UN_ICMP_INPUT_H
#define UN_ICMP_INPUT_H

#include "stack/arrival.h"

enum un_drop un_icmp_input(struct un_stack *stack, struct un_arrival *arrival);

#endif

/* Limits of connections that are begun. */
#ifndef UN_CONN_OPTIONS_H
#define UN_CONN_OPTIONS_H

#include "stack/arena.h"

/* of both directions, before the handshake. 0: no limit */
void un_stack_conn_limit_mss(struct un_tcb *tcb, uint32_t mss);
uint16_t un_mtu_of_mss(const struct un_ip *peer, uint32_t mss); /* the largest for 0 */

#endif

/* Loss detection by time, RFC 8985. See rack.c. */
#ifndef UN_RACK_H
#define UN_RACK_H

#include "tcp/tcp.h"

struct un_ack; /* recovery.h */

/* `length` bytes of a record arrived. */
void un_rack_delivered(const struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack,
                       const struct un_sent *sent, uint32_t length);
void un_rack_widen(struct un_tcb *tcb);  /* D-SACK said that something was resent too early */
void un_rack_recovered(struct un_tcb *tcb); /* a recovery is over */
/* Mark what is lost; returns in how many microseconds something else may be, 0: nothing. *is_congestion becomes true
 * when anything but a probe of the path MTU is lost (RFC 8899 section 3). */
uint32_t un_rack_detect(struct un_tcp *tcp, struct un_tcb *tcb, bool *is_congestion);

#endif

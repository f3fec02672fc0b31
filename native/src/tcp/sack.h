/* The scoreboard: what an ACK says has arrived. See sack.c. */
#ifndef UN_SACK_H
#define UN_SACK_H

#include "tcp/tcp.h"

struct un_ack; /* recovery.h */

void un_sack_acknowledge(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack); /* cumulatively */
void un_sack_mark(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack);

#endif

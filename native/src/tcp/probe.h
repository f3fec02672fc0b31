/* Tail loss probes, RFC 8985 section 7. See probe.c. */
#ifndef UN_PROBE_H
#define UN_PROBE_H

#include "tcp/tcp.h"

struct un_ack; /* recovery.h */

bool un_probe_is_possible(const struct un_tcb *tcb);
void un_probe_arm(struct un_tcp *tcp, struct un_tcb *tcb);
void un_probe_due(struct un_tcp *tcp, struct un_tcb *tcb); /* the timer fired: let dispatch send one */
void un_probe_sent(struct un_tcb *tcb, uint32_t end, bool is_resent);
void un_probe_cancel(struct un_tcb *tcb);
/* Is this D-SACK about the probe? */
bool un_probe_is_dsack(const struct un_tcb *tcb, const struct un_ack *ack);
void un_probe_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);
/* The record to send as the probe; UN_NONE: new data is to be the probe, or there is none any more. */
uint32_t un_probe_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t most);

#endif

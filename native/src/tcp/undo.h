/* Needless recoveries are found and undone. See undo.c. */
#ifndef UN_UNDO_H
#define UN_UNDO_H

#include "tcp/tcp.h"

struct un_ack; /* recovery.h */

void un_undo_begin(struct un_tcb *tcb);
void un_undo_resent(struct un_tcb *tcb, const struct un_sent *sent);
/* Does this ACK show that all that was resent had arrived the first time? Then cwnd and ssthresh are restored. */
bool un_undo_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);
void un_undo_frto(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);

#endif

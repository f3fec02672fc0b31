/* When to leave the first slow start: RFC 9406. Its state lies in cc_state until then. See hystart.c. */
#ifndef UN_HYSTART_H
#define UN_HYSTART_H

#include "tcp/tcp.h"

void un_hystart_init(struct un_tcb *tcb);
/* An ACK of so many bytes in slow start lets cwnd grow; sets ssthresh when slow start is over. */
void un_hystart_acked(struct un_tcb *tcb, uint32_t acked);

#endif

/* Proportional rate reduction, RFC 6937bis. See prr.c. */
#ifndef UN_PRR_H
#define UN_PRR_H

#include "tcp/tcp.h"

void un_prr_begin(struct un_tcb *tcb, uint32_t flight);
/* Set cwnd, after losses were detected. is_safe: snd_una moved, and nothing else was lost. */
void un_prr_update(struct un_tcb *tcb, uint32_t delivered, bool is_safe);

static inline void un_prr_sent(struct un_tcb *tcb, uint32_t bytes)
{
    if (tcb->flags & UN_TCB_RECOVERY)
        tcb->prr_out += bytes;
}

#endif

/* Records of what is in flight: see recovery.h for the states they are in, sent.c. */
#ifndef UN_SENT_H
#define UN_SENT_H

#include "tcp/tcp.h"

#define UN_TIMESTAMP_BYTES 12u /* of options, with padding */

/* One more at the end of the list, for the caller to fill in: next is UN_NONE. */
static inline struct un_sent *un_sent_append(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t index = tcp->sent_pool->free_head;
    un_assert(index != UN_NONE);
    struct un_sent *sent = &tcp->sents[index];
    tcp->sent_pool->free_head = sent->next;
    tcp->sent_pool->free_count--;
    if (tcb->sent_head == UN_NONE)
        tcb->sent_head = index;
    else
        tcp->sents[tcb->sent_tail].next = index;
    tcb->sent_tail = index;
    return sent;
}
/* Give the head back; its bytes have left the sums already. */
void un_sent_pop(struct un_tcp *tcp, struct un_tcb *tcb);
/* Take the first bytes of a record off it. */
void un_sent_trim(const struct un_tcp *tcp, struct un_sent *sent, uint32_t length);
/* Cut a record in two; the second begins `length` later. false: no record is free. */
bool un_sent_split(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t length);
/* Make a record and the one behind it one. */
void un_sent_join(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index);
/* Into this one of the three states. */
void un_sent_set(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, enum un_sent_flag state);

static inline uint32_t un_sent_payload(const struct un_sent *sent)
{
    return sent->length - !!(sent->flags & UN_SENT_SYN) - !!(sent->flags & UN_SENT_FIN);
}

/* Payload of a full segment: without the room that timestamps take. */
static inline uint32_t un_segment_bytes(const struct un_tcb *tcb)
{
    return tcb->snd_mss - (tcb->flags & UN_TCB_TIMESTAMP ? UN_TIMESTAMP_BYTES : 0);
}

static inline uint32_t *un_sent_sum(struct un_tcb *tcb, uint32_t flags)
{
    if (flags & UN_SENT_IN_FLIGHT)
        return &tcb->in_flight;
    return flags & UN_SENT_SACKED ? &tcb->sacked_bytes : &tcb->lost_bytes;
}

#endif

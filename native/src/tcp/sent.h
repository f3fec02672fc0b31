/* Records of packets in flight, and the list of them. recovery.h has their states. See sent.c. */
#ifndef UN_SENT_H
#define UN_SENT_H

#include "tcp/keep.h"

#define UN_TIMESTAMP_BYTES 12u /* of options, with padding */

/* A record more at the end of the list. The caller fills in all of it, next = UN_NONE included. */
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
/* It stood in a list of records. */
static inline void un_sent_give(struct un_tcp *tcp, uint32_t index)
{
    if (tcp->sents[index].next != UN_NONE)
        un_keep_sent(tcp, index);
    tcp->sents[index].next = tcp->sent_pool->free_head;
    tcp->sent_pool->free_head = index;
    tcp->sent_pool->free_count++;
}

/* Give the head back. The caller has taken its bytes out of the sums. */
void un_sent_pop(struct un_tcp *tcp, struct un_tcb *tcb);
/* Take the first bytes of a record off it. */
void un_sent_trim(struct un_tcp *tcp, struct un_sent *sent, uint32_t length);
/* Cut a record in two; the second begins `length` later. false: no record is free. */
bool un_sent_split(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t length);
/* Join a record and the one behind it. */
void un_sent_join(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index);
/* Change the state to this one of the three, and the sums with it. */
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

/* Records of what is in flight: a pool of them in the arena, lists by index (see recovery.h).
 *
 * The free list is a cache: un_recovery_rebuild makes it anew from the lists of the connections. */
#include "tcp/sent.h"

static uint32_t take(struct un_tcp *tcp)
{
    struct un_sent_pool *pool = tcp->sent_pool;
    uint32_t index = pool->free_head;
    if (index == UN_NONE)
        return UN_NONE;
    pool->free_head = tcp->sents[index].next;
    pool->free_count--;
    return index;
}

/* The last sixteenth is for splitting records that are to be sent again: without it, no connection that holds a record
 * could go on. When half are taken, a connection may have as many in flight as half of the rest. So peers that
 * acknowledge nothing, or want tiny segments, leave some to others. A connection that has none may always take one. */
bool un_recovery_can_record(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t count = tcp->sent_pool->count, free = tcp->sent_pool->free_count;
    if (__builtin_expect(free > count / 2, 1))
        return true;
    if (free <= count / 16)
        return false;
    uint64_t share = (uint64_t)(free - count / 16) / 2 * tcb->snd_mss;
    return tcb->sent_head == UN_NONE || tcb->snd_nxt - tcb->snd_una < share;
}

void un_sent_pop(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t index = tcb->sent_head;
    un_assert(index != UN_NONE);
    if (tcb->lost_hint == index)
        tcb->lost_hint = UN_NONE;
    tcb->sent_head = tcp->sents[index].next;
    un_sent_give(tcp, index);
}

void un_sent_trim(struct un_tcp *tcp, struct un_sent *sent, uint32_t length)
{
    bool has_syn = sent->flags & UN_SENT_SYN;
    un_assert(length < sent->length);
    if (length == 0)
        return;
    un_keep_sent(tcp, (uint32_t)(sent - tcp->sents));
    if (length > has_syn)
        un_tx_advance(tcp, &sent->frame, &sent->offset, length - has_syn);
    sent->flags &= (uint16_t) ~(UN_SENT_SYN | UN_SENT_PATH_PROBE);
    sent->seq += length;
    sent->length -= length;
}

bool un_sent_split(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t length)
{
    uint32_t second = take(tcp);
    if (second == UN_NONE)
        return false;
    struct un_sent *sent = &tcp->sents[index];
    un_keep_sent(tcp, index);
    un_keep_sent(tcp, second); /* the change may have given it back */
    tcp->sents[second] = *sent;
    un_sent_trim(tcp, &tcp->sents[second], length);
    sent->next = second;
    sent->length = length;
    sent->flags &= (uint16_t) ~(UN_SENT_FIN | UN_SENT_PATH_PROBE);
    if (tcb->sent_tail == index)
        tcb->sent_tail = second;
    return true;
}

void un_sent_join(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index)
{
    struct un_sent *sent = &tcp->sents[index];
    uint32_t second = sent->next;
    un_assert(second != UN_NONE);
    const struct un_sent *joined = &tcp->sents[second];
    un_keep_sent(tcp, index);
    sent->length += joined->length;
    sent->flags |= joined->flags;
    sent->next = joined->next;
    if (tcb->sent_tail == second)
        tcb->sent_tail = index;
    if (tcb->lost_hint == second)
        tcb->lost_hint = index;
    un_sent_give(tcp, second);
}

void un_sent_set(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, enum un_sent_flag state)
{
    struct un_sent *sent = &tcp->sents[index];
    un_keep_sent(tcp, index);
    uint32_t *sum = un_sent_sum(tcb, sent->flags);
    un_assert(sent->length <= *sum);
    *sum -= sent->length;
    sent->flags &= (uint16_t) ~(UN_SENT_IN_FLIGHT | UN_SENT_SACKED | UN_SENT_LOST);
    sent->flags |= (uint16_t)state;
    *un_sent_sum(tcb, sent->flags) += sent->length;
    if (state == UN_SENT_LOST && tcb->lost_hint != UN_NONE &&
        un_seq_lt(sent->seq, tcp->sents[tcb->lost_hint].seq))
        tcb->lost_hint = index;
}

void un_recovery_end(struct un_tcp *tcp, struct un_tcb *tcb)
{
    while (tcb->sent_head != UN_NONE)
        un_sent_pop(tcp, tcb);
    tcb->in_flight = tcb->sacked_bytes = tcb->lost_bytes = 0;
    un_tcp_disarm(tcb, UN_TIMER_RETRANSMIT);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
}

void un_recovery_rebuild(struct un_tcp *tcp, const bool *used)
{
    struct un_sent_pool *pool = tcp->sent_pool;
    pool->free_head = UN_NONE;
    pool->free_count = 0;
    for (uint32_t index = pool->count; index-- > 0;)
        if (!used || !used[index]) {
            tcp->sents[index].next = pool->free_head;
            pool->free_head = index;
            pool->free_count++;
        }
}

static const char *check_record(const struct un_sent *sent, uint32_t seq)
{
    uint32_t state = sent->flags & (UN_SENT_IN_FLIGHT | UN_SENT_SACKED | UN_SENT_LOST);
    if (sent->seq != seq)
        return "a record does not begin where the one before it ends";
    if (sent->length == 0 || (sent->flags & UN_SENT_SYN && sent->flags & UN_SENT_FIN))
        return "a record of nothing, or of SYN and FIN";
    if (state == 0 || (state & (state - 1)))
        return "a record is not in exactly one state";
    return NULL;
}

static const char *check_ends(const struct un_tcp *tcp, const struct un_tcb *tcb, uint32_t last, uint32_t seq)
{
    if (tcb->sent_head == UN_NONE)
        return NULL;
    if (last != tcb->sent_tail || seq != tcb->snd_nxt)
        return "the records do not end at snd_nxt";
    if (tcp->sents[tcb->sent_head].flags & UN_SENT_SACKED)
        return "the first record is SACKed";
    return NULL;
}

const char *un_recovery_check(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t in_flight = 0, sacked = 0, lost = 0, last = UN_NONE, seq = tcb->snd_una;
    bool hint_seen = tcb->lost_hint == UN_NONE;
    for (uint32_t index = tcb->sent_head; index != UN_NONE; index = tcp->sents[index].next) {
        const struct un_sent *sent = &tcp->sents[index];
        const char *wrong = check_record(sent, seq);
        if (wrong)
            return wrong;
        if (last != UN_NONE && tcp->sents[last].flags & sent->flags & UN_SENT_SACKED)
            return "two SACKed neighbours";
        hint_seen |= index == tcb->lost_hint;
        if (!hint_seen && sent->flags & UN_SENT_LOST)
            return "a lost record before the hint";
        in_flight += sent->flags & UN_SENT_IN_FLIGHT ? sent->length : 0;
        sacked += sent->flags & UN_SENT_SACKED ? sent->length : 0;
        lost += sent->flags & UN_SENT_LOST ? sent->length : 0;
        seq += sent->length;
        last = index;
    }
    if (in_flight != tcb->in_flight || sacked != tcb->sacked_bytes || lost != tcb->lost_bytes)
        return "in_flight, sacked_bytes or lost_bytes is not the sum over the records";
    return hint_seen ? check_ends(tcp, tcb, last, seq) : "the hint is not in the list";
}

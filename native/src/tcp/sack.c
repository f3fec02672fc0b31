/* The scoreboard: what an ACK says has arrived (RFC 2018, 2883, 6675).
 *
 * Nothing that a peer writes into SACK blocks does more than mark: data is kept until it is acknowledged
 * cumulatively, since a receiver may renege (RFC 2018 section 8). Blocks that are inverted or do not lie between
 * snd_una and snd_nxt are ignored. One walk over the records does for all blocks. A peer cannot make a record for each
 * byte: a cut leaves at least half an MSS before it, so there are never more than two records for each MSS in
 * flight, besides those that were sent as such. */
#include "tcp/rack.h"
#include "tcp/recovery.h"
#include "tcp/rtt.h"
#include "tcp/sack.h"
#include "tcp/sent.h"

static void note_delivered(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack, struct un_sent *sent,
                           uint32_t length, bool is_sack)
{
    ack->delivered += length;
    un_rack_delivered(tcp, tcb, ack, sent, length);
    if (sent->flags & UN_SENT_PATH_PROBE) {
        un_keep_sent(tcp, (uint32_t)(sent - tcp->sents));
        sent->flags &= (uint16_t)~UN_SENT_PATH_PROBE;
        un_tcp_path_probed(tcp, tcb);
    }
    if (sent->flags & UN_SENT_RESENT) {
        ack->acked_resent |= !is_sack;
        return;
    }
    bool is_original = un_seq_le(sent->seq + length, tcb->recover);
    if (is_sack) {
        ack->sack_rtt_us = un_rtt_since(tcp, sent->sent_us);
        ack->sacked_original |= is_original;
        return;
    }
    if (ack->rtt_us == 0)
        ack->rtt_us = un_rtt_since(tcp, sent->sent_us);
    ack->acked_original |= is_original;
}

/* The peer acknowledged up to data that it had SACKed, and not that data: it has thrown it away. */
static void renege(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_keep_sent(tcp, tcb->sent_head);
    tcp->sents[tcb->sent_head].flags |= UN_SENT_RESENT;
    un_sent_set(tcp, tcb, tcb->sent_head, UN_SENT_LOST);
}

void un_sack_acknowledge(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack)
{
    while (tcb->sent_head != UN_NONE) {
        struct un_sent *sent = &tcp->sents[tcb->sent_head];
        int32_t covered = un_seq_diff(ack->una, sent->seq);
        if (covered <= 0)
            break;
        uint32_t length = (uint32_t)covered < sent->length ? (uint32_t)covered : sent->length;
        if (!(sent->flags & UN_SENT_SACKED))
            note_delivered(tcp, tcb, ack, sent, length, false);
        uint32_t *sum = un_sent_sum(tcb, sent->flags);
        un_assert(length <= *sum);
        *sum -= length;
        ack->cuts_record = length < sent->length;
        if (ack->cuts_record)
            un_sent_trim(tcp, sent, length);
        else
            un_sent_pop(tcp, tcb);
    }
    if (tcb->sent_head != UN_NONE && tcp->sents[tcb->sent_head].flags & UN_SENT_SACKED)
        renege(tcp, tcb);
}

/* RFC 2883 section 4: the first block is below the ACK, or part of the second one. */
static void find_dsack(const struct un_tcb *tcb, struct un_ack *ack)
{
    const struct un_sack_block *first = &ack->seg->sacks[0], *second = &ack->seg->sacks[1];
    bool is_below = un_seq_le(first->end, ack->seg->ack);
    bool is_within = ack->seg->sack_count > 1 && un_seq_le(second->start, first->start) &&
                     un_seq_le(first->end, second->end);
    ack->has_dsack = (is_below || is_within) && un_seq_lt(first->start, first->end) &&
                     un_seq_le(first->end, tcb->snd_nxt);
    ack->dsack = *first;
}

/* The blocks that make sense, by sequence number. */
static uint32_t sort_blocks(const struct un_tcb *tcb, const struct un_ack *ack, struct un_sack_block *blocks)
{
    const struct un_seg *seg = ack->seg;
    uint32_t count = 0;
    for (uint32_t i = 0; i < seg->sack_count && i < UN_SACK_BLOCKS_MAX; i++) {
        struct un_sack_block block = seg->sacks[i];
        if (!un_seq_lt(ack->una, block.start) || !un_seq_lt(block.start, block.end) ||
            !un_seq_le(block.end, tcb->snd_nxt))
            continue;
        uint32_t at = count++;
        for (; at > 0 && un_seq_lt(block.start, blocks[at - 1].start); at--)
            blocks[at] = blocks[at - 1];
        blocks[at] = block;
    }
    return count;
}

static bool cut(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t length)
{
    return 2 * length >= tcb->snd_mss && un_sent_split(tcp, tcb, index, length);
}

/* Mark the record, and make it one with SACKed neighbours. The record that holds it then. */
static uint32_t mark(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack, uint32_t previous, uint32_t index)
{
    struct un_sent *sents = tcp->sents;
    note_delivered(tcp, tcb, ack, &sents[index], sents[index].length, true);
    ack->sacked += sents[index].length;
    un_sent_set(tcp, tcb, index, UN_SENT_SACKED);
    if (previous != UN_NONE && sents[previous].flags & UN_SENT_SACKED) {
        un_sent_join(tcp, tcb, previous);
        index = previous;
    }
    if (sents[index].next != UN_NONE && sents[sents[index].next].flags & UN_SENT_SACKED)
        un_sent_join(tcp, tcb, index);
    return index;
}

/* Can the record be marked as a whole? What lies outside the block is cut off it; a part in front of the block stays
 * in this record, and the rest is the next one. */
static bool is_covered(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, const struct un_sack_block *block)
{
    const struct un_sent *sent = &tcp->sents[index];
    uint32_t end = sent->seq + sent->length;
    if (sent->flags & UN_SENT_SACKED || un_seq_le(end, block->start))
        return false;
    if (un_seq_lt(sent->seq, block->start)) {
        cut(tcp, tcb, index, block->start - sent->seq);
        return false;
    }
    return un_seq_le(end, block->end) || cut(tcp, tcb, index, block->end - sent->seq);
}

void un_sack_mark(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack)
{
    struct un_sack_block blocks[UN_SACK_BLOCKS_MAX];
    if (ack->seg->sack_count == 0 || !(tcb->flags & UN_TCB_SACK))
        return;
    find_dsack(tcb, ack);
    uint32_t count = sort_blocks(tcb, ack, blocks), at = 0, previous = UN_NONE;
    uint32_t index = tcb->sent_head;
    while (index != UN_NONE && at < count) {
        if (un_seq_le(blocks[at].end, tcp->sents[index].seq)) {
            at++;
            continue;
        }
        if (is_covered(tcp, tcb, index, &blocks[at]))
            index = mark(tcp, tcb, ack, previous, index);
        previous = index;
        index = tcp->sents[index].next;
    }
}

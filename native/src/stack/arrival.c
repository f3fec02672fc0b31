/* See arrival.h. */
#include "stack/arrival.h"

/* Make the chain hold payload alone: `skip` bytes in front go, so does what the Ethernet padding put behind it. Frames
 * that are left empty are dropped. Returns the chain, UN_NONE when length is 0. */
static uint32_t trim(struct un_stack *stack, uint32_t head, uint32_t skip, uint32_t length)
{
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t first = UN_NONE;
    uint32_t *link = &first;
    while (head != UN_NONE) {
        struct un_frame *frame = &pool->frames[head];
        uint32_t next = frame->next;
        uint32_t cut = skip < frame->length ? skip : frame->length;
        uint32_t keep = frame->length - cut < length ? frame->length - cut : length;
        frame->offset = (uint16_t)(frame->offset + cut);
        frame->length = (uint16_t)keep;
        frame->next = UN_NONE;
        skip -= cut;
        length -= keep;
        if (keep > 0) {
            *link = head;
            link = &frame->next;
        } else {
            un_pool_drop(pool, head);
        }
        head = next;
    }
    return first;
}

uint32_t un_arrival_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t header_length)
{
    const struct un_packet *packet = &arrival->packet;
    uint32_t skip = packet->transport + header_length;
    uint32_t length = packet->transport_length - header_length;
    uint32_t head = arrival->rx.frame;
    struct un_frame *frame = &stack->tcp.pool.frames[head];
    arrival->rx.frame = UN_NONE;
    if (length == 0) {
        un_pool_drop_chain(&stack->tcp.pool, head);
        return UN_NONE;
    }
    if (frame->next != UN_NONE || skip >= frame->length)
        return trim(stack, head, skip, length);
    frame->offset = (uint16_t)(frame->offset + skip);
    frame->length = (uint16_t)length;
    return head;
}

/* Packets of no connection that wait for a neighbour's address: copied into frames, bounded in number, the oldest give
 * way. The last frame of each is marked. Room for the Ethernet header lies in front, and is filled when the address is
 * known. */
#include "stack/waiting.h"

#include "stack/lists.h"
#include "stack/packets.h"

#define UN_WAITING_PACKETS 8u /* for one neighbour; RFC 4861 section 7.2.2 asks for one at least */

static void drop_packet(struct un_stack *stack, struct un_neighbour *neighbour)
{
    struct un_frame *frames = stack->tcp.pool.frames;
    bool is_last = false;
    while (!is_last) {
        uint32_t frame = neighbour->queue.head;
        un_assert(frame != UN_NONE);
        is_last = frames[frame].flags & UN_FRAME_LAST;
        neighbour->queue.head = frames[frame].next;
        un_pool_drop(&stack->tcp.pool, frame);
    }
    neighbour->queued--;
    if (neighbour->queued == 0)
        neighbour->queue = UN_LIST_EMPTY;
}

void un_waiting_drop(struct un_stack *stack, struct un_neighbour *neighbour)
{
    while (neighbour->queued > 0) {
        drop_packet(stack, neighbour);
        un_stack_drop(stack, UN_DROP_no_neighbour);
    }
}

/* Bytes of all pieces into new frames; the first of them, its last one in *tail. UN_NONE: too few are free. */
static uint32_t copy_pieces(struct un_stack *stack, const struct un_piece *pieces, int count, uint32_t *tail)
{
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t head = un_pool_take(pool);
    *tail = head;
    for (int i = 0; i < count && *tail != UN_NONE; i++) {
        uint32_t done = 0;
        while (done < pieces[i].length && *tail != UN_NONE) {
            struct un_frame *frame = &pool->frames[*tail];
            uint32_t room = pool->own->frame_bytes - frame->length;
            uint32_t more = pieces[i].length - done < room ? pieces[i].length - done : room;
            memcpy(un_pool_bytes(pool, *tail) + frame->length, pieces[i].bytes + done, more);
            frame->length = (uint16_t)(frame->length + more);
            done += more;
            if (done < pieces[i].length)
                *tail = frame->next = un_pool_take(pool);
        }
    }
    if (*tail != UN_NONE)
        return head;
    un_pool_drop_chain(pool, head);
    return UN_NONE;
}

void un_waiting_add(struct un_stack *stack, struct un_neighbour *neighbour, const struct un_piece *pieces, int count)
{
    struct un_frame *frames = stack->tcp.pool.frames;
    uint32_t tail;
    bool is_short = un_pool_is_short(&stack->tcp.pool); /* invented addresses must not use up all frames */
    uint32_t head = is_short ? UN_NONE : copy_pieces(stack, pieces, count, &tail);
    if (head == UN_NONE) {
        un_stack_drop(stack, UN_DROP_no_frame);
        return;
    }
    frames[tail].flags = UN_FRAME_LAST;
    if (neighbour->queued == UN_WAITING_PACKETS) {
        drop_packet(stack, neighbour);
        un_stack_drop(stack, UN_DROP_no_neighbour);
    }
    if (neighbour->queue.head == UN_NONE)
        neighbour->queue.head = head;
    else
        frames[neighbour->queue.tail].next = head;
    neighbour->queue.tail = tail;
    neighbour->queued++;
}

/* The oldest packet of the queue as a gather list, its Ethernet header completed. */
static void send_packet(struct un_stack *stack, struct un_neighbour *neighbour)
{
    const struct un_pool *pool = &stack->tcp.pool;
    struct un_piece pieces[UN_TX_PIECES_MAX];
    struct un_tx tx = {.pieces = pieces};
    uint32_t frame = neighbour->queue.head;
    memcpy(un_pool_bytes(pool, frame), neighbour->ethernet, UN_ETH_BYTES);
    for (bool is_last = false; !is_last && tx.count < UN_TX_PIECES_MAX; frame = pool->frames[frame].next) {
        pieces[tx.count++] = (struct un_piece){un_pool_bytes(pool, frame), pool->frames[frame].length, frame};
        tx.length += pool->frames[frame].length;
        is_last = pool->frames[frame].flags & UN_FRAME_LAST;
    }
    tx.flags = un_ip_is_v4(&neighbour->ip) ? 0 : UN_TX_IPV6;
    tx.header_length = (uint16_t)pieces[0].length;
    if (un_stack_transmit(stack, &tx))
        un_stack_drop(stack, UN_DROP_device_full);
}

/* The address is known: everything that waited for it goes. */
void un_waiting_release(struct un_stack *stack, struct un_neighbour *neighbour)
{
    while (neighbour->queued > 0) {
        send_packet(stack, neighbour);
        drop_packet(stack, neighbour);
    }
    un_stack_conn_wake(stack, neighbour);
}

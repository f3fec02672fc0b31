/* Stacks of one process as the shards of one server (P6). See usnet.h.
 *
 * What one hands to another is copied into the other's mailbox, a device by hand, and taken in at its next poll: a
 * stack is never entered while another one is at work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/view.h"

#define MAILBOX_SLOTS 1024u
#define TAKEN_MOST 64u

static void copy_chain(const struct un_pool *pool, uint32_t frame, uint8_t *to)
{
    for (; frame != UN_NONE; frame = pool->frames[frame].next) {
        const struct un_frame *record = &pool->frames[frame];
        memcpy(to, un_pool_bytes(pool, frame) + record->offset, record->length);
        to += record->length;
    }
}

/* One that finds no room is lost; its sender will repeat it. */
static void hand_over(void *context, uint32_t shard, const struct un_rx *packet)
{
    struct usnet_stack *stack = context;
    uint8_t *bytes = malloc(packet->length);
    if (!bytes)
        return;
    copy_chain(&stack->inner.tcp.pool, packet->frame, bytes);
    for (uint32_t i = 0; i < stack->shard_count; i++)
        if (stack->shards[i] != stack && (shard == UN_NONE || shard == i))
            un_hand_input(stack->shards[i]->mailbox, bytes, packet->length, packet->flags, packet->segment_bytes);
    free(bytes);
}

uint32_t un_api_take_handed(struct usnet_stack *stack)
{
    struct un_rx packets[TAKEN_MOST];
    const struct un_device_operations *mailbox = stack->mailbox->operations;
    uint32_t count = mailbox->peek(stack->mailbox, packets, TAKEN_MOST);
    mailbox->release(stack->mailbox, count);
    for (uint32_t i = 0; i < count; i++)
        un_stack_input(&stack->inner, &packets[i]);
    return count;
}

static bool prepare(struct usnet_stack *stack, struct usnet_stack *const *stacks, uint32_t count)
{
    stack->shards = calloc(count, sizeof(struct usnet_stack *));
    stack->mailbox = un_hand_open(&stack->device->capabilities, MAILBOX_SLOTS);
    if (!stack->shards || !stack->mailbox) {
        un_api_leave_shards(stack);
        return false;
    }
    memcpy(stack->shards, stacks, count * sizeof(struct usnet_stack *));
    stack->shard_count = count;
    un_device_attach(stack->mailbox, &stack->inner.tcp.pool);
    return true;
}

void un_api_leave_shards(struct usnet_stack *stack)
{
    if (stack->mailbox)
        stack->mailbox->operations->close(stack->mailbox);
    free(stack->shards);
    stack->mailbox = NULL;
    stack->shards = NULL;
}

/* There is a stack, and it is no shard yet. */
static int check_single(const struct usnet_stack *stack)
{
    if (!stack)
        return -EFAULT;
    return stack->mailbox ? -EINVAL : 0;
}

int usnet_stack_join(struct usnet_stack *const *stacks, uint32_t count)
{
    if (!stacks)
        return -EFAULT;
    if (count == 0 || count > UN_STACK_SHARDS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        int status = check_single(stacks[i]);
        if (status < 0)
            return status;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!prepare(stacks[i], stacks, count)) {
            while (i > 0)
                un_api_leave_shards(stacks[--i]);
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct un_stack_shards shards = {.shard = i, .shards = count, .hand_over = hand_over, .context = stacks[i]};
        un_stack_set_shards(&stacks[i]->inner, &shards);
    }
    return 0;
}

uint32_t usnet_stack_owner(const struct usnet_endpoint *remote, const struct usnet_endpoint *local, uint32_t shards)
{
    static const struct usnet_endpoint any;
    remote = remote ? remote : &any;
    local = local ? local : &any;
    if (shards == 0)
        return 0;
    struct un_ip peer = un_api_ip(remote);
    struct un_ip own = un_api_ip(local);
    return un_steering_shard(un_steering_hash(&peer, &own, remote->port, local->port), shards);
}

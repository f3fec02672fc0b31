/* What the handle of a stack is, and how addresses of the API become those of the stack. */
#ifndef UN_API_VIEW_H
#define UN_API_VIEW_H

#include "stack/stack.h"
#include "stack/steering.h"
#include "usnet.h"

/* Enumerators of the header are the stack's own under another name. */
#define UN_API_SAME(outer, inner) UN_STATIC_ASSERT((int)(outer) == (int)(inner), "one number, two names")

struct usnet_stack {
    struct un_stack inner;
    struct un_device *device; /* un_hand_open: frames come and go by the calls of the API */
    void *memory;             /* NULL when it is the caller's */
    uint64_t memory_bytes;
    struct un_device *mailbox; /* what other shards handed over; NULL: there are none */
    struct usnet_stack **shards;
    uint32_t shard_count;
    void (*after_turn)(struct usnet_stack *stack); /* of a context: what events mean for its sockets; else NULL */
};

/* Of a stack that is a shard: take in what waits in its mailbox; be none any more. */
uint32_t un_api_take_handed(struct usnet_stack *stack);
void un_api_leave_shards(struct usnet_stack *stack);

struct un_stack_config un_api_config(const struct usnet_stack_options *options);
struct un_device_capabilities un_api_capabilities(const struct usnet_link *link);
int un_api_output(struct un_device *device, uint8_t *frame, uint32_t most, struct usnet_output *output);
struct un_ip un_api_ip(const struct usnet_endpoint *endpoint);
struct un_stack_peer un_api_peer(const struct usnet_endpoint *endpoint);
struct usnet_endpoint un_api_endpoint(const struct un_stack_peer *peer);

#endif

/* The exported symbols of a stack's life: create and adopt, addresses, packets, time and events. See usnet.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "api/view.h"

UN_API_SAME(USNET_ECN_NEVER, UN_ECN_NEVER);
UN_API_SAME(USNET_ECN_ASK, UN_ECN_ASK);
UN_API_SAME(USNET_ECN_ACCEPT, UN_ECN_ACCEPT);
UN_API_SAME(USNET_INPUT_CHECKSUM_GOOD, UN_RX_CHECKSUM_GOOD);
UN_API_SAME(USNET_INPUT_CHECKSUM_PARTIAL, UN_RX_CHECKSUM_PARTIAL);
UN_API_SAME(USNET_OUTPUT_CHECKSUM, UN_TX_CHECKSUM);
UN_API_SAME(USNET_OUTPUT_SEGMENT, UN_TX_SEGMENT);
UN_API_SAME(USNET_OUTPUT_IPV6, UN_TX_IPV6);

/* Options: one list of the fields that both structs have. */

#define STACK_FIELDS(X)                                                                                                \
    X(conn_max)                                                                                                        \
    X(frames)                                                                                                          \
    X(frame_bytes)                                                                                                     \
    X(sents)                                                                                                           \
    X(udp_max)                                                                                                         \
    X(neighbours)                                                                                                      \
    X(time_wait_max)                                                                                                   \
    X(resets_per_s)                                                                                                    \
    X(icmp_per_s)                                                                                                      \
    X(port_low)                                                                                                        \
    X(port_high)                                                                                                       \
    X(accept_partial_checksum)                                                                                         \
    X(accept_router_advertisements)                                                                                    \
    X(detect_duplicates)                                                                                               \
    X(shared)                                                                                                          \
    X(seed)

#define TCP_FIELDS(X)                                                                                                  \
    X(rcv_limit)                                                                                                       \
    X(snd_limit)                                                                                                       \
    X(rcv_limit_max)                                                                                                   \
    X(snd_limit_max)                                                                                                   \
    X(rto_min_us)                                                                                                      \
    X(rto_max_us)                                                                                                      \
    X(rto_initial_us)                                                                                                  \
    X(delayed_ack_us)                                                                                                  \
    X(msl_ms)                                                                                                          \
    X(user_timeout_ms)                                                                                                 \
    X(fin_wait_2_ms)                                                                                                   \
    X(persist_max_us)                                                                                                  \
    X(keep_idle_s)                                                                                                     \
    X(keep_interval_s)                                                                                                 \
    X(keep_count)                                                                                                      \
    X(syn_retries)                                                                                                     \
    X(syn_ack_retries)                                                                                                 \
    X(initial_window)                                                                                                  \
    X(congestion)                                                                                                      \
    X(ecn)                                                                                                             \
    X(timestamps)                                                                                                      \
    X(sack)                                                                                                            \
    X(window_scaling)                                                                                                  \
    X(path_mtu_probing)                                                                                                \
    X(ooo_frames_max)                                                                                                  \
    X(rcv_frames_max)                                                                                                  \
    X(challenge_acks_per_s)                                                                                            \
    X(tx_segments_max)

struct un_stack_config un_api_config(const struct usnet_stack_options *options)
{
    struct un_stack_config config;
    un_stack_defaults(&config, options->conn_max);
#define COPY(field) config.field = options->field;
    STACK_FIELDS(COPY)
#undef COPY
#define COPY(field) config.tcp.field = options->field;
    TCP_FIELDS(COPY)
#undef COPY
    memcpy(config.secret, options->secret, sizeof config.secret);
    return config;
}

void usnet_stack_defaults(struct usnet_stack_options *options, uint32_t conn_max)
{
    struct un_stack_config config;
    if (!options)
        return;
    un_stack_defaults(&config, conn_max);
    memset(options, 0, sizeof *options);
#define COPY(field) options->field = config.field;
    STACK_FIELDS(COPY)
#undef COPY
#define COPY(field) options->field = config.tcp.field;
    TCP_FIELDS(COPY)
#undef COPY
}

int64_t usnet_stack_bytes(const struct usnet_stack_options *options, const char **why)
{
    const char *unread;
    if (!options)
        return -EFAULT;
    struct un_stack_config config = un_api_config(options);
    return un_stack_bytes(&config, why ? why : &unread);
}

/* Create and adopt. */

struct un_device_capabilities un_api_capabilities(const struct usnet_link *link)
{
    struct un_device_capabilities capabilities = {
        .mtu = link->mtu,
        .tx_segment_bytes = link->tx_segment_bytes,
        .tx_checksum = link->tx_checksum,
        .rx_checksum = link->rx_checksum,
        .rx_coalesce = link->rx_coalesce,
        .queues = 1,
    };
    memcpy(capabilities.mac, link->mac, sizeof capabilities.mac);
    return capabilities;
}

static struct un_device *open_link(const struct usnet_link *link)
{
    struct un_device_capabilities capabilities = un_api_capabilities(link);
    return un_hand_open(&capabilities, link->slots);
}

static struct usnet_stack *new_view(const struct usnet_link *link)
{
    struct usnet_stack *stack = calloc(1, sizeof *stack);
    if (!stack)
        return NULL;
    stack->device = open_link(link);
    if (!stack->device) {
        int error = errno;
        free(stack);
        errno = error;
        return NULL;
    }
    return stack;
}

static int own_memory(struct usnet_stack *stack, uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    stack->memory = memory;
    stack->memory_bytes = bytes;
    return 0;
}

static int create_in(struct usnet_stack *stack, const struct un_stack_config *config, void *memory, uint64_t bytes)
{
    if (!memory) {
        const char *why;
        int64_t needed = un_stack_bytes(config, &why);
        int status = needed < 0 ? (int)needed : own_memory(stack, (uint64_t)needed);
        if (status < 0)
            return status;
        memory = stack->memory;
        bytes = stack->memory_bytes;
    }
    struct un_stack_place place = {.arena = memory, .arena_bytes = bytes, .device = stack->device};
    return un_stack_create(&stack->inner, &place, config);
}

static int finish(struct usnet_stack **stack, struct usnet_stack *made, int status)
{
    if (status < 0) {
        usnet_stack_destroy(made);
        return status;
    }
    un_stack_set_device(&made->inner, made->device);
    *stack = made;
    return 0;
}

int usnet_stack_create(struct usnet_stack **stack, const struct usnet_stack_options *options,
                       const struct usnet_link *link, void *memory, uint64_t bytes)
{
    if (!stack || !options || !link)
        return -EFAULT;
    struct un_stack_config config = un_api_config(options);
    struct usnet_stack *made = new_view(link);
    if (!made)
        return -errno;
    return finish(stack, made, create_in(made, &config, memory, bytes));
}

int usnet_stack_adopt(struct usnet_stack **stack, const struct usnet_link *link, void *memory, uint64_t bytes)
{
    if (!stack || !link || !memory)
        return -EFAULT;
    struct usnet_stack *made = new_view(link);
    if (!made)
        return -errno;
    struct un_stack_place place = {.arena = memory, .arena_bytes = bytes, .device = made->device};
    return finish(stack, made, un_stack_adopt(&made->inner, &place));
}

void usnet_stack_destroy(struct usnet_stack *stack)
{
    if (!stack)
        return;
    un_api_leave_shards(stack);
    stack->device->operations->close(stack->device);
    if (stack->memory)
        munmap(stack->memory, stack->memory_bytes);
    free(stack);
}

int usnet_stack_add_address(struct usnet_stack *stack, const struct usnet_endpoint *address, uint8_t prefix)
{
    if (!stack || !address)
        return -EFAULT;
    struct un_ip ip = un_api_ip(address);
    return un_stack_add_address(&stack->inner, &ip, prefix);
}

int usnet_stack_add_route(struct usnet_stack *stack, const struct usnet_endpoint *network, uint8_t prefix,
                          const struct usnet_endpoint *gateway)
{
    if (!stack || !network || !gateway)
        return -EFAULT;
    struct un_ip to = un_api_ip(network);
    struct un_ip through = un_api_ip(gateway);
    return un_stack_add_route(&stack->inner, &to, prefix, &through);
}

/* Packets, time, events. */

int usnet_stack_input(struct usnet_stack *stack, const uint8_t *frame, uint32_t length, uint32_t flags,
                      uint32_t segment_bytes)
{
    if (!stack || (!frame && length > 0))
        return -EFAULT;
    if (!un_hand_is(stack->device))
        return -EINVAL;
    return un_hand_input(stack->device, frame, length, (uint16_t)flags, (uint16_t)segment_bytes);
}

uint32_t usnet_stack_poll(struct usnet_stack *stack, uint64_t now_ns)
{
    if (!stack)
        return 0;
    uint32_t done = un_stack_poll(&stack->inner, now_ns);
    uint32_t handed = stack->mailbox ? un_api_take_handed(stack) : 0;
    if (handed)
        done += handed + un_stack_poll_output(&stack->inner, now_ns);
    if (stack->after_turn)
        stack->after_turn(stack);
    return done;
}

uint64_t usnet_stack_deadline_ns(struct usnet_stack *stack)
{
    return stack ? un_stack_deadline_ns(&stack->inner) : UINT64_MAX;
}

int un_api_output(struct un_device *device, uint8_t *frame, uint32_t most, struct usnet_output *output)
{
    struct un_tx packet;
    int length = un_hand_output(device, frame, most, &packet);
    if (length > 0 && output)
        *output = (struct usnet_output){
            .flags = packet.flags,
            .segment_bytes = packet.segment_bytes,
            .header_length = packet.header_length,
            .checksum_start = packet.checksum_start,
            .checksum_offset = packet.checksum_offset,
        };
    return length;
}

int usnet_stack_output(struct usnet_stack *stack, uint8_t *frame, uint32_t most, struct usnet_output *output)
{
    if (!stack || (!frame && most > 0))
        return -EFAULT;
    return un_hand_is(stack->device) ? un_api_output(stack->device, frame, most, output) : -EINVAL;
}

int usnet_stack_event(struct usnet_stack *stack, struct usnet_event *event)
{
    struct un_stack_event found;
    if (!stack || !event)
        return -EFAULT;
    if (!un_stack_next_event(&stack->inner, &found))
        return 0;
    *event = (struct usnet_event){
        .conn = found.conn,
        .user = found.user,
        .events = found.events,
        .listener = found.listener,
        .is_udp = found.is_udp,
        .reason = found.reason,
    };
    return 1;
}

int usnet_stack_set_fast_paths(struct usnet_stack *stack, bool on)
{
    if (!stack)
        return -EFAULT;
    un_stack_set_fast_paths(&stack->inner, on);
    return 0;
}

const char *usnet_stack_check(struct usnet_stack *stack)
{
    return stack ? un_stack_check(&stack->inner) : "there is no stack";
}

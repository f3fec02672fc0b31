/* A stack begins, and goes on elsewhere. The plan of the arena is here and nowhere else. */
#include <errno.h>

#include "stack/address.h"
#include "stack/arena.h"
#include "stack/listen.h"
#include "stack/operations.h"
#include "stack/output.h"
#include "stack/rebuild.h"
#include "stack/stack.h"
#include "stack/udp_endpoints.h"

static uint64_t take(uint64_t *at, uint64_t count, uint64_t size)
{
    uint64_t start = (*at + 63) & ~UINT64_C(63);
    *at = start + count * size;
    return start;
}

static const char *tcp_config_wrong(const struct un_tcp_config *config)
{
    if (un_stack_check_option(UN_OPTION_RECEIVE_BYTES, config->rcv_limit) ||
        un_stack_check_option(UN_OPTION_SEND_BYTES, config->snd_limit))
        return "rcv_limit and snd_limit must lie between 1 and 1073741824";
    if (config->congestion >= UN_CONGESTIONS)
        return "congestion must be the index of a congestion control";
    if (config->ecn >= UN_ECN_POLICIES)
        return "ecn must be 0 (never), 1 (ask for it) or 2 (accept it)";
    return NULL;
}

static const char *config_wrong(const struct un_stack_config *config)
{
    if (config->conn_max == 0 || config->conn_max > 1u << 28)
        return "conn_max must lie between 1 and 268435456";
    if (config->frames == 0 || config->frames > 1u << 28)
        return "frames must lie between 1 and 268435456";
    if (config->frame_bytes < 256 || config->frame_bytes > UN_FRAME_BYTES_MAX || config->frame_bytes % 64)
        return "frame_bytes must be a multiple of 64 between 256 and 32768";
    if (config->lent > 1u << 28)
        return "lent must not exceed 268435456";
    if (config->sents == 0 || config->sents > 1u << 28)
        return "sents must lie between 1 and 268435456";
    if (config->neighbours < UN_NEIGHBOUR_WAYS || config->neighbours > 1u << 16 ||
        (config->neighbours & (config->neighbours - 1)))
        return "neighbours must be a power of two between 8 and 65536";
    if (config->udp_max > 1u << 16)
        return "udp_max must not exceed 65536";
    if (config->time_wait_max == 0)
        return "time_wait_max must not be 0";
    if (config->resets_per_s == 0 || config->icmp_per_s == 0)
        return "resets_per_s and icmp_per_s must not be 0";
    bool has_no_ports = config->shared && config->port_high == 0;
    if ((config->port_low == 0 && !has_no_ports) || config->port_low > config->port_high)
        return "port_low must lie between 1 and port_high";
    return tcp_config_wrong(&config->tcp);
}

int un_stack_plan(const struct un_stack_config *config, struct un_stack_plan *plan, const char **why)
{
    *why = config_wrong(config);
    if (*why)
        return -EINVAL;
    uint64_t at = sizeof(struct un_stack_memory);
    plan->counters = take(&at, 1, sizeof(struct un_published_counters));
    plan->tcbs = take(&at, config->conn_max, sizeof(struct un_tcb));
    plan->neighbours = take(&at, config->neighbours, sizeof(struct un_neighbour));
    plan->endpoints = take(&at, config->udp_max, sizeof(struct un_udp_socket));
    plan->time_waits = take(&at, config->time_wait_max, sizeof(struct un_time_wait));
    plan->flows = take(&at, un_flows_buckets(config->conn_max), sizeof(struct un_flows_bucket));
    plan->sents = take(&at, config->sents, sizeof(struct un_sent));
    plan->frames = take(&at, (uint64_t)config->frames + config->lent, sizeof(struct un_frame));
    plan->frame_scratch = take(&at, (uint64_t)config->frames + config->lent, sizeof(bool));
    plan->sent_scratch = take(&at, config->sents, sizeof(bool));
    plan->kept_frames = take(&at, (uint64_t)config->frames + config->lent, sizeof(struct un_kept_frame));
    plan->kept_sents = take(&at, config->sents, sizeof(struct un_kept_sent));
    plan->frame_at = take(&at, (uint64_t)config->frames + config->lent, sizeof(uint32_t));
    plan->sent_at = take(&at, config->sents, sizeof(uint32_t));
    plan->tables = (at + 4095) & ~UINT64_C(4095);
    plan->total = plan->tables + un_stack_frames_bytes(config);
    return 0;
}

int64_t un_stack_bytes(const struct un_stack_config *config, const char **why)
{
    struct un_stack_plan plan;
    int result = un_stack_plan(config, &plan, why);
    return result ? result : (int64_t)plan.total;
}

int64_t un_stack_tables_bytes(const struct un_stack_config *config, const char **why)
{
    struct un_stack_plan plan;
    int result = un_stack_plan(config, &plan, why);
    return result ? result : (int64_t)plan.tables;
}

uint64_t un_stack_frames_bytes(const struct un_stack_config *config)
{
    return (uint64_t)config->frames * config->frame_bytes;
}

static bool is_aligned(const struct un_stack_place *place)
{
    return (uintptr_t)place->arena % 4096 == 0 && (uintptr_t)place->frames % 4096 == 0;
}

static uint64_t arena_bytes(const struct un_stack_place *place, const struct un_stack_plan *plan)
{
    return place->frames ? plan->tables : plan->total;
}

/* From now on, and for good: nothing has been counted before. */
static void count_into(struct un_stack *stack, struct un_published_counters *counters)
{
    stack->published = counters;
    stack->counters = &counters->ip;
    stack->tcp.counters = &counters->tcp;
    stack->tcp.drops = counters->drops;
}

/* A process's pointers into the arena, and to the frames. */
static void make_view(struct un_stack *stack, const struct un_stack_place *place, const struct un_stack_plan *plan)
{
    uint8_t *memory = place->arena;
    memset(stack, 0, sizeof *stack);
    stack->own = (struct un_stack_memory *)memory;
    stack->config = &stack->own->config;
    count_into(stack, place->counters ? place->counters : (struct un_published_counters *)(memory + plan->counters));
    stack->holder = place->device;
    stack->shards.shards = 1;
    stack->is_rx_special = un_is_shared(stack);
    stack->neighbours = (struct un_neighbour *)(memory + plan->neighbours);
    stack->endpoints = (struct un_udp_socket *)(memory + plan->endpoints);
    stack->time_waits = (struct un_time_wait *)(memory + plan->time_waits);
    stack->frame_scratch = (bool *)(memory + plan->frame_scratch);
    stack->sent_scratch = (bool *)(memory + plan->sent_scratch);
    stack->flows.buckets = (struct un_flows_bucket *)(memory + plan->flows);
    stack->flows.count = un_flows_buckets(stack->config->conn_max);
    un_flows_key_init(&stack->flows_key, stack->config->secret);
    struct un_tcp *tcp = &stack->tcp;
    tcp->pool.own = &stack->own->pool;
    tcp->pool.frames = (struct un_frame *)(memory + plan->frames);
    tcp->pool.bytes = place->frames ? place->frames : memory + plan->tables;
    tcp->tcbs = (struct un_tcb *)(memory + plan->tcbs);
    tcp->sents = (struct un_sent *)(memory + plan->sents);
    tcp->sent_pool = &stack->own->sent_pool;
    tcp->change = (struct un_keep){
        .own = &stack->own->change,
        .frames = (struct un_kept_frame *)(memory + plan->kept_frames),
        .sents = (struct un_kept_sent *)(memory + plan->kept_sents),
        .frame_at = (uint32_t *)(memory + plan->frame_at),
        .sent_at = (uint32_t *)(memory + plan->sent_at),
    };
    tcp->config = &stack->config->tcp;
    tcp->operations = &un_stack_operations;
    un_tcp_set_now(tcp, stack->own->now_ns);
}

static void format_neighbours(struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->config->neighbours; i++) {
        stack->neighbours[i].waiting = UN_LIST_EMPTY;
        stack->neighbours[i].queue = UN_LIST_EMPTY;
    }
}

int un_stack_create(struct un_stack *stack, const struct un_stack_place *place, const struct un_stack_config *config)
{
    struct un_stack_plan plan;
    const char *why;
    if (un_stack_plan(config, &plan, &why) || place->arena_bytes < arena_bytes(place, &plan) || !is_aligned(place))
        return -EINVAL;
    struct un_stack_memory *own = place->arena;
    own->config = *config;
    own->version = UN_STACK_VERSION;
    own->bytes = arena_bytes(place, &plan);
    own->random = config->seed * 2 + 1;
    own->conn_free = UN_NONE;
    own->events = own->outputs = own->udp_events = UN_LIST_EMPTY;
    own->sent_pool.count = config->sents;
    own->timers_next_ns = own->neighbours_next_ns = own->fragments_next_ns = UINT64_MAX;
    make_view(stack, place, &plan);
    un_pool_format_lending(&stack->tcp.pool, config->frames, config->frame_bytes, config->lent);
    un_device_hold(place->device, &stack->tcp.pool);
    un_pool_rebuild(&stack->tcp.pool);
    un_recovery_rebuild(&stack->tcp, stack->sent_scratch);
    un_flows_clear(&stack->flows);
    un_wheel_init(&own->wheel, 0);
    format_neighbours(stack);
    un_udp_rebuild(stack);
    own->magic = UN_STACK_MAGIC;
    return 0;
}

int un_stack_adopt(struct un_stack *stack, const struct un_stack_place *place)
{
    struct un_stack_memory *own = place->arena;
    struct un_stack_plan plan;
    const char *why;
    if (place->arena_bytes < sizeof *own || !is_aligned(place) || own->magic != UN_STACK_MAGIC ||
        own->version != UN_STACK_VERSION || own->bytes > place->arena_bytes)
        return -EINVAL;
    if (un_stack_plan(&own->config, &plan, &why) || arena_bytes(place, &plan) != own->bytes)
        return -EINVAL;
    make_view(stack, place, &plan);
    un_stack_rebuild(stack, place->device);
    stack->counters->adopted++;
    return 0;
}

void un_stack_set_device(struct un_stack *stack, struct un_device *device)
{
    un_assert(!device->operations->held || device == stack->holder);
    stack->device = device;
    stack->tx_room = 0;
    stack->tcp.tx_segment_bytes = device->capabilities.tx_segment_bytes;
    un_device_count_into(device, &stack->published->device);
    un_device_attach(device, &stack->tcp.pool);
    un_addresses_attach(stack);
    un_stack_send_farewells(stack);
    un_listen_finish(stack);
}

void un_stack_set_fast_paths(struct un_stack *stack, bool on)
{
    stack->tcp.is_slow = !on;
    stack->is_rx_special = !on || un_is_shared(stack);
}

void un_stack_set_shards(struct un_stack *stack, const struct un_stack_shards *shards)
{
    un_assert(shards->shards > 0 && shards->shards <= UN_STACK_SHARDS_MAX && shards->shard < shards->shards);
    stack->shards = *shards;
}

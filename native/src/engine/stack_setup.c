/* See stack_setup.h. */
#include "engine/stack_setup.h"

/* A page: a packet of 64 KiB is a chain of 17 frames, a small one wastes little cache. */
#define UN_STACK_FRAME_BYTES 4096u
/* 32 MiB of packets and payload under way while connections are few; memory is taken when it is first used. */
#define UN_STACK_FRAMES_MIN 8192u
/* Most connections are idle at any moment; those that are not get a fair share, and the rest waits (P5). */
#define UN_STACK_FRAMES_PER_CONN 2u
#define UN_STACK_FRAMES_LIMIT (1u << 20)
/* What one connection's buffers grow to: a network process that was away for a quarter of a millisecond has missed no
 * more of 35 Gbit/s; more does not stay in the cache that is next to it. */
#define UN_STACK_LIMIT_MAX (1024u * 1024)
/* Records of lent pieces: a quarter of a GiB of send frames that wait to be acknowledged. */
#define UN_STACK_LENT_MAX 16384u
/* Connections that are not the application's: in the backlog, closing, in TIME-WAIT. */
#define UN_STACK_ENDING_MIN 1024u
#define UN_STACK_ENDING_MAX 65536u

UN_STATIC_ASSERT(UN_OWN_ADDRESSES_MAX < UN_STACK_ADDRESSES_MAX, "the stack adds its link-local address");
UN_STATIC_ASSERT(UN_LISTENERS_MAX <= UN_STACK_LISTENERS_MAX, "the stack takes every listener");
UN_STATIC_ASSERT(UN_QUEUES_MAX == UN_EXCHANGE_SHARDS_MAX, "every shard has a queue");

static uint32_t within(uint32_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : value;
}

void un_stack_setup_sizes(struct un_stack_setup *setup, const struct un_engine_options *options, uint32_t tx_frames)
{
    struct un_stack_config *config = &setup->config;
    uint32_t connections = (uint32_t)options->connection_limit;
    uint32_t ending = within(connections / 2, UN_STACK_ENDING_MIN, UN_STACK_ENDING_MAX);
    uint32_t waiting = within((uint32_t)options->backlog, 1, UN_STACK_ENDING_MAX);
    un_stack_defaults(config, connections + ending + waiting);
    config->frame_bytes = UN_STACK_FRAME_BYTES;
    config->frames = within(UN_STACK_FRAMES_PER_CONN * connections, UN_STACK_FRAMES_MIN, UN_STACK_FRAMES_LIMIT);
    config->sents = config->frames;
    config->lent = within(tx_frames / 2, 1, UN_STACK_LENT_MAX);
    config->time_wait_max = ending;
    config->tcp.rcv_limit_max = config->tcp.snd_limit_max = UN_STACK_LIMIT_MAX;
    config->accept_partial_checksum = options->accept_partial_checksum;
    config->shared = options->shared;
    if (options->shared || options->outgoing_high > 0) {
        config->port_low = (uint16_t)options->outgoing_low;
        config->port_high = (uint16_t)options->outgoing_high;
    }
}

uint64_t un_stack_setup_arena_bytes(const struct un_stack_setup *setup)
{
    const char *why;
    int64_t bytes = un_stack_tables_bytes(&setup->config, &why);
    un_assert(bytes > 0); /* the sizes are ours */
    return UN_STACK_HEAD_BYTES + (uint64_t)bytes;
}

uint64_t un_stack_setup_frames_bytes(const struct un_stack_setup *setup)
{
    return un_stack_frames_bytes(&setup->config);
}

void un_stack_setup_abandon(struct un_stack_setup *setup)
{
    struct un_link_head *head = setup->arena;
    if (head->begun && !head->abandoned)
        head->abandoned = 1;
}

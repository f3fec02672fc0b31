/* Which groups we are in, told to routers and to switches that listen (RFC 3810, RFC 2710): the solicited-node groups
 * of our addresses, without which neighbours could not find us behind a switch that snoops. Of all nodes' groups nobody
 * is told.
 *
 * Reported twice when there is a new one, and after a query at a moment within the time that it gives. As long as our
 * link-local address may be another's, reports are in nobody's name (RFC 3590): switches take them, and the second one
 * is for routers. One shard speaks. */
#include "stack/groups.h"

#include "stack/arrival.h"
#include "stack/handover.h"
#include "stack/local.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/random.h"
#include "wire/mld.h"

#define UN_REPORTS 2u                        /* RFC 3810 section 9.1: Robustness Variable */
#define UN_REPORT_INTERVAL_NS (UN_SECOND_NS + 100 * UN_MS_NS) /* section 9.11, and behind the probing of address.c */
#define UN_OLD_ROUTER_NS (260 * UN_SECOND_NS) /* section 9.12: Older Version Querier Present Timeout */
#define UN_MLD_CHECKSUM_OFFSET 2u

static const struct un_ip all_mld_routers = {{0xff, 2, [15] = 0x16}};

/* ---- said ---- */

/* A link-local address that is ours for certain, or ::. */
static struct un_ip source_of_reports(const struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_address *address = &stack->own->addresses[i];
        bool is_sure = address->state == UN_ADDRESS_OURS;
        if (is_sure && !un_ip_is_v4(&address->ip) && un_ip_is_link_local(&address->ip))
            return address->ip;
    }
    return (struct un_ip){{0}};
}

static void send_report(struct un_stack *stack, const uint8_t *header, uint32_t length, const struct un_ip *to,
                        const struct un_piece *records, int count)
{
    struct un_datagram datagram = {
        .ip = {.source = source_of_reports(stack), .destination = *to, .hop_limit = 1},
        .header = header,
        .header_length = length,
        .extension_length = UN_MLD_ALERT_BYTES,
        .checksum_offset = UN_MLD_CHECKSUM_OFFSET,
        .pieces = records,
        .count = count,
    };
    if (un_stack_send(stack, &datagram))
        un_stack_drop(stack, UN_DROP_device_full);
    else
        stack->counters->icmp_out++;
}

/* Our groups, each once; how many. */
static uint32_t list_groups(const struct un_stack *stack, struct un_ip groups[UN_STACK_ADDRESSES_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_ip *ip = &stack->own->addresses[i].ip;
        struct un_ip group = un_ip_solicited_node(ip);
        bool is_listed = un_ip_is_v4(ip);
        for (uint32_t other = 0; other < count && !is_listed; other++)
            is_listed = un_ip_equal(&groups[other], &group);
        if (!is_listed)
            groups[count++] = group;
    }
    return count;
}

static void report_old(struct un_stack *stack, const struct un_ip *groups, uint32_t count)
{
    uint8_t header[UN_MLD_OLD_REPORT_BYTES];
    for (uint32_t i = 0; i < count; i++) {
        un_mld_emit_old_report(header, &groups[i]);
        send_report(stack, header, sizeof header, &groups[i], NULL, 0);
    }
}

static void report(struct un_stack *stack, enum un_mld_record kind)
{
    struct un_ip groups[UN_STACK_ADDRESSES_MAX];
    uint8_t header[UN_MLD_REPORT_BYTES], records[UN_STACK_ADDRESSES_MAX * UN_MLD_RECORD_BYTES];
    uint32_t count = list_groups(stack, groups);
    if (count == 0 || stack->shards.shard != 0)
        return;
    if (stack->own->groups.old_until_ns > stack->own->now_ns) {
        report_old(stack, groups, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        un_mld_emit_record(records + i * UN_MLD_RECORD_BYTES, kind, &groups[i]);
    struct un_piece piece = {records, count * UN_MLD_RECORD_BYTES, UN_NONE};
    un_mld_emit_report(header, (uint16_t)count);
    send_report(stack, header, sizeof header, &all_mld_routers, &piece, 1);
}

/* ---- when ---- */

void un_groups_changed(struct un_stack *stack)
{
    struct un_groups *groups = &stack->own->groups;
    groups->joins = UN_REPORTS;
    groups->join_ns = stack->own->now_ns;
}

enum un_drop un_groups_input(struct un_stack *stack, const struct un_arrival *arrival, const struct un_icmp *query)
{
    struct un_groups *groups = &stack->own->groups;
    const struct un_ip *source = &arrival->packet.source;
    uint64_t now_ns = stack->own->now_ns;
    if (!un_ip_is_link_local(source) || arrival->packet.has_fragment_header)
        return UN_DROP_icmp_malformed;
    if (stack->shards.shard != 0) {
        un_hand_over(stack, arrival, 0);
        return UN_DROP_NONE;
    }
    if (!un_ip_is_any(&query->target) && !un_address_is_group(stack, &query->target))
        return UN_DROP_NONE;
    if (query->is_old)
        groups->old_until_ns = now_ns + UN_OLD_ROUTER_NS;
    uint64_t wait_ns = un_stack_random(stack) % (query->max_response_ms * UN_MS_NS + 1);
    if (groups->answer_ns == 0 || now_ns + wait_ns < groups->answer_ns)
        groups->answer_ns = now_ns + wait_ns;
    stack->own->addresses_next_ns = un_min64(stack->own->addresses_next_ns, groups->answer_ns);
    return UN_DROP_NONE;
}

uint64_t un_groups_due(struct un_stack *stack)
{
    struct un_groups *groups = &stack->own->groups;
    uint64_t now_ns = stack->own->now_ns;
    if (groups->joins > 0 && groups->join_ns <= now_ns) {
        groups->joins--;
        groups->join_ns = now_ns + UN_REPORT_INTERVAL_NS;
        report(stack, UN_MLD_JOINED);
    }
    if (groups->answer_ns && groups->answer_ns <= now_ns) {
        groups->answer_ns = 0;
        report(stack, UN_MLD_IS_MEMBER);
    }
    uint64_t next = groups->answer_ns ? groups->answer_ns : UINT64_MAX;
    return groups->joins > 0 ? un_min64(next, groups->join_ns) : next;
}

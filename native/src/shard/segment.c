/* Plan, write and check the layout of a segment: see segment.h. */
#include "shard/segment.h"

#include <errno.h>
#include <string.h>

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static const char *config_fault(const struct un_segment_config *config)
{
    if (config->shard >= UN_SHARD_MAX)
        return "shard number above 1023";
    if (config->seats == 0 || config->seats > UN_SEATS_MAX)
        return "a shard has 1 to 64 workers";
    if (config->conn_max == 0 || config->conn_max > UN_CONN_MAX)
        return "connections per shard must be 1 to 4194304";
    if (config->state_bytes % 64 || config->state_bytes > UN_STATE_BYTES_MAX)
        return "state bytes must be a multiple of 64, at most 4096";
    if (!is_power_of_two(config->event_slots) || config->event_slots > 1u << 20)
        return "event ring slots must be a power of two, at most 2^20";
    if (!is_power_of_two(config->command_slots) || config->command_slots > 1u << 20)
        return "command ring slots must be a power of two, at most 2^20";
    if (!is_power_of_two(config->rx_frame_bytes) || config->rx_frame_bytes < 2048 || config->rx_frame_bytes > 1u << 20)
        return "receive frames must be a power of two of 2 KiB to 1 MiB";
    if (!is_power_of_two(config->tx_frame_bytes) || config->tx_frame_bytes < 2048 || config->tx_frame_bytes > 1u << 20)
        return "send frames must be a power of two of 2 KiB to 1 MiB";
    if (config->state_bytes > config->tx_frame_bytes)
        return "a state blob must fit into a send frame";
    if (config->rx_frames < 2 || config->rx_frames > 1u << 20 || config->tx_frames < 2 ||
        config->tx_frames > UN_TX_FRAMES_MAX)
        return "a port needs at least two receive and two send frames";
    if (config->rx_budget == 0 || config->tx_budget == 0)
        return "a connection needs a receive and a send budget";
    if (config->hold_max > config->rx_frames / 2 || config->hold_max > config->event_slots)
        return "views may keep at most half of the receive frames, and no more slices than the event ring has slots";
    return NULL;
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) / align * align;
}

/* Put a region behind what ends at *end. */
static struct un_region take(uint64_t *end, uint64_t parts, uint64_t items, uint64_t item_bytes, uint64_t align)
{
    struct un_region region = {.at = round_up(*end, align), .item_bytes = item_bytes, .items = items};
    region.part_bytes = round_up(items * item_bytes, align);
    *end = region.at + parts * region.part_bytes;
    return region;
}

int un_segment_plan(const struct un_segment_config *config, struct un_segment_layout *layout, const char **why)
{
    *why = config_fault(config);
    if (*why)
        return -EINVAL;
    memset(layout, 0, sizeof *layout);
#define UN_FIELD(name, memory, writer, parts, items, item_bytes, align, holds)                                         \
    layout->name = take(&layout->memory##_bytes, parts, items, item_bytes, align);
    UN_REGIONS(UN_FIELD)
#undef UN_FIELD
    layout->public_bytes = round_up(layout->public_bytes, UN_PAGE);
    layout->port_bytes = round_up(layout->port_bytes, UN_PAGE);
    return 0;
}

void un_segment_format(void *public, const struct un_segment_config *config, const struct un_segment_layout *layout,
                       const struct un_engine_options *options)
{
    struct un_segment_header *header = public;
    header->hash = un_layout_hash();
    header->config = *config;
    header->layout = *layout;
    if (options)
        header->options = *options;
    un_compiler_fence();
    header->magic = UN_SEGMENT_MAGIC;
}

static const char *header_fault(const struct un_segment_header *header, uint64_t public_bytes)
{
    struct un_segment_layout expected;
    const char *why;
    if (public_bytes < sizeof *header || header->magic != UN_SEGMENT_MAGIC)
        return "it is no segment";
    if (header->hash != un_layout_hash())
        return UN_OTHER_VERSION;
    if (un_segment_plan(&header->config, &expected, &why) < 0)
        return why;
    if (memcmp(&expected, &header->layout, sizeof expected) != 0 || public_bytes < expected.public_bytes)
        return "its parts do not lie where they ought to";
    return un_options_fault(&header->options, header->config.conn_max);
}

int un_segment_check(const void *public, uint64_t public_bytes, const char **why)
{
    *why = header_fault(public, public_bytes);
    return *why ? -EINVAL : 0;
}

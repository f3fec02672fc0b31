/* The exported symbols that make a segment: its sizes, its header with the options of the engine. See
 * usnet_segment.h. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "shard/segment.h"
#include "usnet_segment.h"

UN_STATIC_ASSERT(sizeof(struct usnet_segment_config) == sizeof(struct un_segment_config), "one struct, two names");
UN_STATIC_ASSERT(offsetof(struct usnet_segment_config, buffer_mib) == offsetof(struct un_segment_config, buffer_mib),
                 "one struct, two names");

/* Options. */

static const char *const option_names[] = {
#define UN_FIELD(name, most, meaning) #name,
    UN_ENGINE_OPTIONS(UN_FIELD)
#undef UN_FIELD
};

UN_STATIC_ASSERT(offsetof(struct un_engine_options, addresses) == UN_ENGINE_OPTION_COUNT * sizeof(uint64_t),
                 "the numbers come first, in the order of their names");
UN_STATIC_ASSERT((int)USNET_POLL_SLEEP == UN_POLL_SLEEP && (int)USNET_POLL_ADAPTIVE == UN_POLL_ADAPTIVE &&
                     (int)USNET_POLL_BUSY == UN_POLL_BUSY, "one enum, two names");

uint32_t usnet_option_count(void)
{
    return UN_ENGINE_OPTION_COUNT;
}

const char *usnet_option_name(uint32_t index)
{
    return index < UN_ENGINE_OPTION_COUNT ? option_names[index] : NULL;
}

static bool append(struct un_option_address *at, uint32_t *count, uint32_t room, const struct usnet_address *address)
{
    if (*count == room)
        return false;
    at[*count].number = address->number;
    memcpy(at[*count].ip, address->ip, sizeof address->ip);
    *count += 1;
    return true;
}

static bool add_address(struct un_engine_options *options, const struct usnet_address *address)
{
    switch (address->kind) {
    case USNET_OWN_ADDRESS:
        return append(options->addresses.at, &options->addresses.count, UN_OWN_ADDRESSES_MAX, address);
    case USNET_GATEWAY: return append(options->gateways.at, &options->gateways.count, UN_GATEWAYS_MAX, address);
    case USNET_LISTENER: return append(options->listeners.at, &options->listeners.count, UN_LISTENERS_MAX, address);
    default: return false;
    }
}

/* NULL, or a sentence. */
static const char *fill_options(struct un_engine_options *options, const uint64_t *values,
                                const struct usnet_address *addresses, uint32_t address_count)
{
    memset(options, 0, sizeof *options);
    memcpy(options, values, UN_ENGINE_OPTION_COUNT * sizeof *values);
    for (uint32_t i = 0; i < address_count; i++)
        if (!add_address(options, &addresses[i]))
            return "there are more addresses, gateways or listeners than there is room for";
    return NULL;
}

/* Plan, format, check. */

static struct un_segment_config inner_config(const struct usnet_segment_config *config)
{
    struct un_segment_config inner;
    memcpy(&inner, config, sizeof inner);
    return inner;
}

int usnet_segment_plan(const struct usnet_segment_config *config, struct usnet_segment_sizes *sizes, const char **why)
{
    struct un_segment_config inner = inner_config(config);
    struct un_segment_layout layout;
    int status = un_segment_plan(&inner, &layout, why);
    if (status == 0)
        *sizes = (struct usnet_segment_sizes){.public_bytes = layout.public_bytes, .seat_bytes = layout.seat_bytes};
    return status;
}

int usnet_segment_format(void *public_memory, uint64_t public_bytes, const struct usnet_segment_config *config,
                         const uint64_t *options, const struct usnet_address *addresses, uint32_t address_count,
                         const char **why)
{
    struct un_segment_config inner = inner_config(config);
    struct un_segment_layout layout;
    struct un_engine_options asked;
    int status = un_segment_plan(&inner, &layout, why);
    if (status < 0)
        return status;
    *why = "the memory is too small";
    if (public_bytes < layout.public_bytes)
        return -EINVAL;
    *why = fill_options(&asked, options, addresses, address_count);
    if (!*why)
        *why = un_options_fault(&asked, inner.conn_max);
    if (*why)
        return -EINVAL;
    un_segment_format(public_memory, &inner, &layout, &asked);
    return 0;
}

int usnet_segment_check(const void *public_memory, uint64_t public_bytes, const char **why)
{
    return un_segment_check(public_memory, public_bytes, why);
}

/* The exported symbols that make a segment: its sizes, its header with the options of the engine. See
 * usnet_segment.h. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "engine/formats.h"
#include "engine/stack_setup.h"
#include "shard/segment.h"
#include "usnet_segment.h"

/* Numbers. */

static const char *const number_names[] = {
#define UN_FIELD(S, type, name, count, line) #name,
    UN_SEGMENT_CONFIG_FIELDS(UN_FIELD, )
#undef UN_FIELD
};

#define NUMBERS ((uint32_t)(sizeof number_names / sizeof *number_names))

UN_STATIC_ASSERT(sizeof(struct un_segment_config) == NUMBERS * sizeof(uint32_t), "nothing but numbers, in their order");

uint32_t usnet_segment_number_count(void)
{
    return NUMBERS;
}

const char *usnet_segment_number_name(uint32_t index)
{
    return index < NUMBERS ? number_names[index] : NULL;
}

/* Options. */

static const char *const option_names[] = {
#define UN_FIELD(name, most, meaning) #name,
    UN_ENGINE_OPTIONS(UN_FIELD)
#undef UN_FIELD
};

UN_STATIC_ASSERT(offsetof(struct un_engine_options, addresses) == UN_ENGINE_OPTION_COUNT * sizeof(uint64_t),
                 "the numbers come first, in the order of their names");
UN_STATIC_ASSERT((int)USNET_SYSCALLS_ANY == UN_SYSCALLS_ANY && (int)USNET_SYSCALLS_REFUSE == UN_SYSCALLS_REFUSE &&
                     (int)USNET_SYSCALLS_KILL == UN_SYSCALLS_KILL, "one enum, two names");
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

static struct un_segment_config inner_config(const uint32_t *numbers)
{
    struct un_segment_config inner;
    memcpy(&inner, numbers, sizeof inner);
    return inner;
}

/* The layout. */

int usnet_layout_field(uint32_t index, struct usnet_layout_field *field)
{
    if (index >= un_layout_field_count)
        return -ENOENT;
    const struct un_layout_field *inner = &un_layout_fields[index];
    *field = (struct usnet_layout_field){
        .of = inner->of, .name = inner->name, .offset = inner->offset, .bytes = inner->bytes};
    return 0;
}

int usnet_layout_region(const uint32_t *numbers, uint32_t index, struct usnet_layout_region *region)
{
    struct un_segment_config config = inner_config(numbers);
    struct un_segment_layout layout;
    const char *why;
    int status = un_segment_plan(&config, &layout, &why);
    if (status < 0)
        return status;
    const struct usnet_layout_region regions[] = {
#define UN_FIELD(name_, memory_, writer_, parts_, items_, item_, align_, holds_)                                       \
    {#name_, #memory_, #writer_, #parts_, #items_, #item_, holds_,                                                     \
     layout.name_.at, layout.name_.part_bytes, layout.name_.item_bytes, layout.name_.items},
        UN_REGIONS(UN_FIELD)
#undef UN_FIELD
    };
    if (index >= sizeof regions / sizeof *regions)
        return -ENOENT;
    *region = regions[index];
    return 0;
}

uint64_t usnet_layout_hash(void)
{
    return un_layout_hash();
}

/* Plan, format, check. */

int usnet_segment_plan(const uint32_t *numbers, struct usnet_segment_sizes *sizes, const char **why)
{
    struct un_segment_config inner = inner_config(numbers);
    struct un_segment_layout layout;
    int status = un_segment_plan(&inner, &layout, why);
    if (status == 0)
        *sizes = (struct usnet_segment_sizes){.public_bytes = layout.public_bytes, .port_bytes = layout.port_bytes};
    return status;
}

int usnet_segment_format(void *public_memory, uint64_t public_bytes, const uint32_t *numbers,
                         const uint64_t *options, const struct usnet_address *addresses, uint32_t address_count,
                         const char **why)
{
    struct un_segment_config inner = inner_config(numbers);
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
    ((struct un_segment_header *)public_memory)->formats = un_formats_hash();
    un_segment_format(public_memory, &inner, &layout, &asked);
    return 0;
}

int usnet_segment_check(const void *public_memory, uint64_t public_bytes, const char **why)
{
    return un_formats_check(public_memory, public_bytes, why);
}

int usnet_segment_stack(const void *public_memory, uint64_t public_bytes, struct usnet_stack_sizes *sizes)
{
    const char *why;
    if (un_formats_check(public_memory, public_bytes, &why) < 0)
        return -EINVAL;
    const struct un_segment_header *header = public_memory;
    if (header->options.queues == 0)
        return -EINVAL;
    struct un_stack_setup setup;
    un_stack_setup_sizes(&setup, &header->options, header->config.tx_frames);
    *sizes = (struct usnet_stack_sizes){.arena_bytes = un_stack_setup_arena_bytes(&setup),
                                        .frames_bytes = un_stack_setup_frames_bytes(&setup)};
    return 0;
}

uint64_t usnet_segment_frames(uint64_t connection_limit)
{
    const struct un_engine_options options = {.connection_limit = connection_limit};
    struct un_stack_setup setup;
    un_stack_setup_sizes(&setup, &options, 0);
    return un_stack_setup_frames_bytes(&setup);
}

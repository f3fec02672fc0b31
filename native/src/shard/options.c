/* See options.h. */
#include "shard/options.h"

#include <stdbool.h>
#include <string.h>

#include "shard/segment.h"

/* A function: of an option that may have any value a comparison in place would be one that is never true. */
static bool is_above(uint64_t value, uint64_t most)
{
    return value > most;
}

static const char *number_fault(const struct un_engine_options *options)
{
#define UN_FIELD(name, most, meaning)                                                                                  \
    if (is_above(options->name, most))                                                                                 \
        return #name " is above " #most;
    UN_ENGINE_OPTIONS(UN_FIELD)
#undef UN_FIELD
    return NULL;
}

static const char *room_fault(const struct un_engine_options *options)
{
#define UN_FIELD(name, room)                                                                                           \
    if (options->name.count > (room))                                                                                  \
        return "there are more " #name " than " #room;
    UN_ADDRESS_OPTIONS(UN_FIELD)
#undef UN_FIELD
    return NULL;
}

static bool is_v4(const struct un_option_address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address->ip, mapped, sizeof mapped) == 0;
}

static const char *address_fault(const struct un_engine_options *options)
{
    for (uint32_t i = 0; i < options->addresses.count; i++)
        if (options->addresses.at[i].number > (is_v4(&options->addresses.at[i]) ? 32 : 128))
            return "an address has a prefix that is too long";
    for (uint32_t i = 0; i < options->listeners.count; i++)
        if (options->listeners.at[i].number == 0 || options->listeners.at[i].number > UINT16_MAX)
            return "a listener has no port";
    return NULL;
}

static const char *outgoing_fault(const struct un_engine_options *options)
{
    if (options->outgoing_low > options->outgoing_high)
        return "outgoing_low is above outgoing_high";
    return options->outgoing_low == 0 && options->outgoing_high > 0 ? "outgoing_low is 0" : NULL;
}

/* The kernel's table has addresses and gateways. */
static const char *own_address_fault(const struct un_engine_options *options)
{
    bool has_own = options->addresses.count + options->gateways.count > 0;
    if (options->shared)
        return has_own ? "addresses of our own, and those of the interface" : NULL;
    return options->addresses.count == 0 ? "a stack of our own without an address" : NULL;
}

/* No listeners are none of our business: a server that drains has none. */
static const char *stack_fault(const struct un_engine_options *options)
{
    bool has_addresses = options->addresses.count + options->gateways.count + options->listeners.count > 0;
    if (options->queues == 0)
        return has_addresses || options->queue || options->shared || options->outgoing_high
                   ? "addresses, ports or a queue without a packet device"
                   : NULL;
    if (options->queue >= options->queues)
        return "queue is not one of the queues";
    const char *fault = own_address_fault(options);
    if (!fault)
        fault = outgoing_fault(options);
    return fault ? fault : address_fault(options);
}

const char *un_options_fault(const struct un_engine_options *options, uint32_t conn_max)
{
    const char *fault = number_fault(options);
    if (!fault && options->connection_limit > conn_max)
        fault = "connection_limit is above conn_max";
    if (!fault)
        fault = room_fault(options);
    return fault ? fault : stack_fault(options);
}

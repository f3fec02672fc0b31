/* The exported symbols for what an engine says when it is looked at: names of fields, and of what stands in them. See
 * usnet_segment.h. */
#include "usnet_segment.h"

#include "api/counters.h"
#include "api/view.h"
#include "engine/look.h"
#include "stack/arena.h"

UN_API_SAME(USNET_LOOK_CONNS, UN_LOOK_CONNS);
UN_API_SAME(USNET_LOOK_NEIGHBOURS, UN_LOOK_NEIGHBOURS);
UN_API_SAME(USNET_LOOK_ROUTES, UN_LOOK_ROUTES);
UN_API_SAME(USNET_LOOK_ADDRESSES, UN_LOOK_ADDRESSES);
UN_API_SAME(USNET_LOOK_ENTRIES, UN_LOOK_ENTRIES);

#define NAME(name, text) #name,
static const char *const conn_fields[] = {UN_LOOK_CONN(NAME)};
static const char *const neighbour_fields[] = {UN_LOOK_NEIGHBOUR(NAME)};
static const char *const route_fields[] = {UN_LOOK_ROUTE(NAME)};
static const char *const address_fields[] = {UN_LOOK_ADDRESS(NAME)};

static const struct names {
    const char *const *names;
    uint32_t count;
} fields[] = {
    [UN_LOOK_CONNS] = {conn_fields, UN_API_LENGTH(conn_fields)},
    [UN_LOOK_NEIGHBOURS] = {neighbour_fields, UN_API_LENGTH(neighbour_fields)},
    [UN_LOOK_ROUTES] = {route_fields, UN_API_LENGTH(route_fields)},
    [UN_LOOK_ADDRESSES] = {address_fields, UN_API_LENGTH(address_fields)},
};

static const char *const phases[] = {
    [UN_LOOK_OPEN] = "open",         [UN_LOOK_DISORDER] = "disorder", [UN_LOOK_CWR] = "cwr",
    [UN_LOOK_RECOVERY] = "recovery", [UN_LOOK_LOSS] = "loss",
};
static const char *const neighbour_states[] = {
    [UN_NEIGHBOUR_FREE] = "free",   [UN_NEIGHBOUR_INCOMPLETE] = "incomplete", [UN_NEIGHBOUR_REACHABLE] = "reachable",
    [UN_NEIGHBOUR_STALE] = "stale", [UN_NEIGHBOUR_DELAY] = "delay",           [UN_NEIGHBOUR_PROBE] = "probe",
    [UN_NEIGHBOUR_FAILED] = "failed", [UN_NEIGHBOUR_TOLD] = "told",
};
static const char *const origins[] = {
    [UN_LOOK_LINK] = "link",
    [UN_LOOK_CONFIGURED] = "configured",
    [UN_LOOK_ADVERTISED] = "advertised",
    [UN_LOOK_KERNEL] = "kernel",
};
static const char *const address_states[] = {
    [UN_ADDRESS_PROBED] = "probed",
    [UN_ADDRESS_OURS] = "ours",
    [UN_ADDRESS_TAKEN] = "taken",
};

static const struct names values[] = {
    [USNET_LOOK_PHASES] = {phases, UN_API_LENGTH(phases)},
    [USNET_LOOK_NEIGHBOUR_STATES] = {neighbour_states, UN_API_LENGTH(neighbour_states)},
    [USNET_LOOK_ORIGINS] = {origins, UN_API_LENGTH(origins)},
    [USNET_LOOK_ADDRESS_STATES] = {address_states, UN_API_LENGTH(address_states)},
};

static const char *name_in(const struct names *table, uint32_t tables, uint32_t which, uint32_t index)
{
    return which < tables && index < table[which].count ? table[which].names[index] : NULL;
}

const char *usnet_look_field_name(enum usnet_look_kind kind, uint32_t index)
{
    return name_in(fields, UN_API_LENGTH(fields), kind, index);
}

const char *usnet_look_value_name(enum usnet_look_value of, uint32_t number)
{
    return name_in(values, UN_API_LENGTH(values), of, number);
}

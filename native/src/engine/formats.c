/* See formats.h. */
#include "engine/formats.h"

#include <errno.h>
#include <stddef.h>

#include "engine/exchange_memory.h"
#include "engine/look.h"
#include "engine/stack_counters.h"

static uint64_t add_fields(uint64_t hash)
{
#define UN_FIELD(name, text) hash = un_layout_hash_text(hash, #name);
    UN_STACK_COUNTERS(UN_FIELD)
    UN_TCP_COUNTERS(UN_FIELD)
    UN_DEVICE_COUNTERS(UN_FIELD)
    UN_DROPS(UN_FIELD)
    UN_LOOK_CONN(UN_FIELD)
    UN_LOOK_NEIGHBOUR(UN_FIELD)
    UN_LOOK_ROUTE(UN_FIELD)
    UN_LOOK_ADDRESS(UN_FIELD)
#undef UN_FIELD
    return hash;
}

uint64_t un_formats_hash(void)
{
    const uint64_t numbers[] = {
        UN_STACK_WORDS,
        offsetof(struct un_published_counters, tcp),
        offsetof(struct un_published_counters, device),
        offsetof(struct un_published_counters, drops),
        sizeof(struct un_published_counters),
        UN_EXCHANGE_CELL_BYTES,
        UN_EXCHANGE_CELLS,
        offsetof(struct un_exchange_record, length),
        offsetof(struct un_exchange_record, flags),
        offsetof(struct un_exchange_record, segment_bytes),
        sizeof(struct un_exchange_record),
        offsetof(struct un_exchange_ring, produced),
        offsetof(struct un_exchange_ring, consumed),
        offsetof(struct un_exchange_ring, cells),
        sizeof(struct un_exchange_ring),
        offsetof(struct un_exchange_inbox, pending),
        offsetof(struct un_exchange_inbox, sleeping),
        sizeof(struct un_exchange_inbox),
        offsetof(struct un_exchange_memory, secret),
        offsetof(struct un_exchange_memory, inboxes),
        offsetof(struct un_exchange_memory, rings),
    };
    uint64_t hash = add_fields(un_layout_hash());
    for (uint32_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        hash = un_layout_hash_number(hash, numbers[i]);
    return hash;
}

int un_formats_check(const void *public, uint64_t public_bytes, const char **why)
{
    int status = un_segment_check(public, public_bytes, why);
    if (status < 0 || un_header(public)->formats == un_formats_hash())
        return status;
    *why = UN_OTHER_VERSION;
    return -EINVAL;
}

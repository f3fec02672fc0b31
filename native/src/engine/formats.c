/* See formats.h. */
#include "engine/formats.h"

#include <errno.h>
#include <stddef.h>

#include "engine/capture_ring.h"
#include "engine/exchange_memory.h"
#include "engine/look.h"
#include "engine/stack_counters.h"
#include "stack/kernel_table.h"

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
        offsetof(struct un_kernel_address_words, prefix),
        sizeof(struct un_kernel_address_words),
        offsetof(struct un_kernel_route_words, gateway),
        offsetof(struct un_kernel_route_words, prefix_and_elsewhere),
        sizeof(struct un_kernel_route_words),
        offsetof(struct un_kernel_neighbour_words, mac),
        sizeof(struct un_kernel_neighbour_words),
        offsetof(struct un_kernel_copy, route_changes),
        offsetof(struct un_kernel_copy, address_count),
        offsetof(struct un_kernel_copy, route_count),
        offsetof(struct un_kernel_copy, neighbour_count),
        offsetof(struct un_kernel_copy, addresses),
        offsetof(struct un_kernel_copy, routes),
        offsetof(struct un_kernel_copy, neighbours),
        sizeof(struct un_kernel_copy),
        offsetof(struct un_kernel_table, copies),
        sizeof(struct un_kernel_table),
        offsetof(struct un_capture_ring, data_bytes),
        offsetof(struct un_capture_ring, snaplen),
        offsetof(struct un_capture_ring, drops_only),
        offsetof(struct un_capture_ring, program_count),
        offsetof(struct un_capture_ring, produced),
        offsetof(struct un_capture_ring, seen),
        offsetof(struct un_capture_ring, matched),
        offsetof(struct un_capture_ring, lost),
        offsetof(struct un_capture_ring, consumed),
        offsetof(struct un_capture_ring, program),
        sizeof(struct un_capture_ring),
        UN_CAPTURED_SKIP,
        UN_CAPTURED_PACKET,
        UN_CAPTURED_IN,
        UN_CAPTURED_FOREIGN,
        offsetof(struct un_captured, bytes),
        offsetof(struct un_captured, kind),
        offsetof(struct un_captured, flags),
        offsetof(struct un_captured, time_ns),
        offsetof(struct un_captured, conn),
        offsetof(struct un_captured, drops),
        offsetof(struct un_captured, captured),
        offsetof(struct un_captured, original),
        sizeof(struct un_captured),
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

/* Which shard owns a flow: a pure function of the 4-tuple (P6), the same in software as in a NIC.
 *
 * Toeplitz hash as in Microsoft's RSS specification, with the symmetric key (0x6d5a repeated) so that both directions
 * agree, then an indirection table of 128 entries filled round robin. */
#ifndef UN_STEERING_H
#define UN_STEERING_H

#include <stdint.h>

#include "wire/ip.h"

#define UN_STEERING_ENTRIES 128u

uint32_t un_steering_hash(const struct un_ip *source, const struct un_ip *destination, uint16_t source_port,
                          uint16_t destination_port);

static inline uint32_t un_steering_shard(uint32_t hash, uint32_t shards)
{
    return hash % UN_STEERING_ENTRIES % shards;
}

#endif

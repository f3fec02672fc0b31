/* What processes of one server read of each other beside the segment's layout: the counters of a stack (in words of the
 * public memory that have no names there), what an engine says when it is looked at (look.h), the memory that shards
 * share, what the kernel knows of a shared interface (kernel_table.h), and the packets of a capture (capture_ring.h).
 *
 * A hash over them stands in the segment's header, as that of the layout does. A supervisor that outlived an upgrade of
 * the package starts network processes of another build: those refuse the segment. */
#ifndef UN_FORMATS_H
#define UN_FORMATS_H

#include <stdint.h>

uint64_t un_formats_hash(void);

/* Is it a segment of this build, for an engine? un_segment_check, and the formats above. -EINVAL, with *why a
 * sentence. */
int un_formats_check(const void *public, uint64_t public_bytes, const char **why);

#endif

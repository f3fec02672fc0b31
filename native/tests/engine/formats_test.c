/* The hash over what processes of one server read of each other is another one when a field of it moves. This file is
 * built once for each CHANGE; none with 0. */
#include "engine/formats.h"

#include "base/assert.h"
#include "base/drop.h"
#include "check.h"
#include "engine/capture_filter.h"
#include "engine/exchange_memory.h"
#include "engine/look.h"
#include "engine/stack_counters.h"
#include "wire/ip.h"

#if CHANGE == 1 /* of what the kernel knows */
#define route_changes one_more, route_changes
#elif CHANGE == 2 /* of the memory of a capture */
#define seen one_more, seen
#elif CHANGE == 3 /* of its records, whose size is asserted */
#define original one_more, original
#undef UN_STATIC_ASSERT
#define UN_STATIC_ASSERT(condition, why) struct un_nothing
#elif CHANGE == 4 /* of their flags */
#define UN_CAPTURED_FOREIGN UN_CAPTURED_FOREIGN = 1 << 2, UN_CAPTURED_OTHER
#endif
#include "engine/capture_ring.h"
#include "stack/kernel_table.h"
#undef route_changes
#undef seen
#undef original
#undef UN_CAPTURED_FOREIGN

uint64_t other_hash(void);
int other_check(const void *public, uint64_t public_bytes, const char **why);

#define un_formats_hash other_hash
#define un_formats_check other_check
#include "engine/formats.c"
#undef un_formats_hash

static void the_hash_says_whether_all_is_in_its_place(void)
{
    CHECK_EQ(other_hash() == un_formats_hash(), CHANGE == 0);
}

int main(void)
{
    RUN(the_hash_says_whether_all_is_in_its_place);
    return 0;
}

/* See timeline.h. */
#include "timeline.h"

#include <stdlib.h>

#include "base/assert.h"

void timeline_setup(struct timeline *timeline, uint64_t stretch_ns, uint64_t measured_ns)
{
    timeline->stretch_ns = stretch_ns;
    timeline->count = (uint32_t)((measured_ns + stretch_ns - 1) / stretch_ns);
    timeline->answers = calloc(timeline->count + 1, sizeof *timeline->answers); /* + 1: of nothing, too */
    un_assert(timeline->answers);
}

void timeline_add(struct timeline *timeline, uint64_t after_ns)
{
    uint64_t stretch = after_ns / timeline->stretch_ns;
    un_assert(stretch < timeline->count);
    timeline->answers[stretch]++;
}

void timeline_free(struct timeline *timeline)
{
    free(timeline->answers);
}

/* How many answers came in each stretch of the measured time, all stretches equally long. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include <stdint.h>

#define TIMELINE_STRETCHES_MAX 1000000u

struct timeline {
    uint64_t stretch_ns; /* 0: nobody asked for it */
    uint32_t count;
    uint32_t *answers; /* of each stretch */
};

/* `stretch_ns` is not 0. The last stretch may reach beyond the measured time; it counts what came inside. */
void timeline_setup(struct timeline *timeline, uint64_t stretch_ns, uint64_t measured_ns);

/* An answer, so long after measuring began. */
void timeline_add(struct timeline *timeline, uint64_t after_ns);

void timeline_free(struct timeline *timeline);

#endif

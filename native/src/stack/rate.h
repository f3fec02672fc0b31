/* A rate limit: the generic cell rate algorithm. */
#ifndef UN_RATE_H
#define UN_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "tcp/tcp.h"

/* The time up to which what was let through is paid for. */
struct un_rate {
    uint64_t paid_until_ns;
};

/* A burst of one second's worth is let through. */
static inline bool un_rate_allows(struct un_rate *rate, uint32_t per_second, uint32_t count, uint64_t now_ns)
{
    uint64_t paid = rate->paid_until_ns > now_ns ? rate->paid_until_ns : now_ns;
    if (paid - now_ns >= UN_SECOND_NS)
        return false;
    rate->paid_until_ns = paid + count * UN_SECOND_NS / per_second;
    return true;
}

#endif

/* What a TCP socket of the kernel's gave and took in all (P10). */
#ifndef UN_KERNEL_COUNTS_H
#define UN_KERNEL_COUNTS_H

#include "engine/transport.h"

/* `known` is what was accounted for before. 0; -EOPNOTSUPP: no TCP socket; -ECONNRESET: it is over, and the dead engine
 * was told that. Urgent bytes count if they are received in line. */
int un_kernel_counts(int fd, const struct un_counts *known, struct un_counts *counts);

#endif

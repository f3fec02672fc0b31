/* Which packets a capture wants: a program of classic BPF (McCanne and Jacobson, "The BSD Packet Filter", 1993), as
 * libpcap compiles it from its language.
 *
 * A program has no way back, so it ends after as many instructions as it has. It is checked once, before the first
 * packet; run relies on that. What it reads beyond the end of a packet makes it refuse the packet. */
#ifndef UN_CAPTURE_FILTER_H
#define UN_CAPTURE_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define UN_CAPTURE_PROGRAM_MAX 4096u /* BPF_MAXINSNS: libpcap compiles nothing that is longer for a kernel */

/* Whether it is a program: known instructions, jumps and memory within bounds, a return at the end. */
bool un_capture_filter_check(const struct sock_filter *program, uint32_t count);

/* Whether it takes the packet whose bytes are `pieces` in a row, `length` in all. */
bool un_capture_filter_takes(const struct sock_filter *program, const struct iovec *pieces, int count, uint32_t length);

#endif

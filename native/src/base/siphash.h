/* SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed function of bytes that cannot be told from a random one without
 * the key. For initial sequence numbers (RFC 6528), SYN cookies, timestamp offsets and ports. */
#ifndef UN_SIPHASH_H
#define UN_SIPHASH_H

#include <stdint.h>

#define UN_SIPHASH_KEY_BYTES 16u

uint64_t un_siphash(const uint8_t key[UN_SIPHASH_KEY_BYTES], const void *bytes, uint32_t length);

#endif

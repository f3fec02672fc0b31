/* libFuzzer target. Invariant: whatever options a peer's SYN, SYN-ACK or later segments carry, both sides of the
 * handshake agree on what a naive reader of the options and of RFC 9293, 7323 and 2018 says, and a segment is taken
 * exactly when its timestamp allows it; the stack is whole after every segment. */
#include "options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    options_run(data, size);
    return 0;
}

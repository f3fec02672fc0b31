/* libFuzzer target. Invariant: whatever the bytes of a frame are and wherever they are cut, the parsers of wire/ read
 * only them, report only what lies within them, and understand the same again from what their emitters write. */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wire_run(data, size);
    return 0;
}

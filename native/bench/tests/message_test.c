/* A message reads back as it was written, and not at all after any one bit of it was turned. */
#include "message.h"

#include <string.h>

#include "base/assert.h"

#define SIZE_MAX_TESTED 67

static void test_round_trip_and_every_bit(size_t size)
{
    unsigned char bytes[SIZE_MAX_TESTED];
    struct message message;
    message_write(bytes, size, 7, 0x123456789au + size);
    un_assert(message_read(bytes, size, &message));
    un_assert(message.connection == 7 && message.sequence == 0x123456789au + size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        un_assert(!message_read(bytes, size, &message));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void test_payload_tells_messages_apart(void)
{
    unsigned char first[60], second[60];
    message_write(first, sizeof first, 1, 5);
    message_write(second, sizeof second, 1, 6);
    un_assert(memcmp(first + MESSAGE_HEADER_BYTES, second + MESSAGE_HEADER_BYTES, 44) != 0);
    message_write(second, sizeof second, 2, 5);
    un_assert(memcmp(first + MESSAGE_HEADER_BYTES, second + MESSAGE_HEADER_BYTES, 44) != 0);
    message_write(second, sizeof second, 1, 5);
    un_assert(memcmp(first, second, sizeof first) == 0);
}

int main(void)
{
    message_setup();
    for (size_t size = MESSAGE_HEADER_BYTES; size <= SIZE_MAX_TESTED; size++)
        test_round_trip_and_every_bit(size);
    test_payload_tells_messages_apart();
    return 0;
}

/* See steering.h.
 *
 * Toeplitz: bit i of the input (from the left) contributes the 32 bits of the key that begin at bit i. With a key
 * that repeats after 16 bits, a bit contributes the same wherever its 16-bit word stands: the words of the input may
 * be added up (exclusive or) first, which makes the hash symmetric, and the hash is a 16-bit value twice. The twelve
 * bytes before an IPv4 address in its mapped form are the same in both addresses, so they cancel: one function for
 * both families. */
#include "stack/steering.h"

#include "base/steering_key.h"

#define TURN(bits) ((UN_STEERING_KEY << (bits) | UN_STEERING_KEY >> (16 - (bits))) & 0xffff)
#define BIT(nibble, bit) (((nibble) >> (3 - (bit)) & 1) * TURN(bit))
#define NIBBLE(nibble) (BIT(nibble, 0) ^ BIT(nibble, 1) ^ BIT(nibble, 2) ^ BIT(nibble, 3))
#define FOUR(nibble) NIBBLE(nibble), NIBBLE(nibble + 1), NIBBLE(nibble + 2), NIBBLE(nibble + 3)

/* What the leftmost four bits of a word contribute, by their value. */
static const uint16_t contributions[16] = {FOUR(0), FOUR(4), FOUR(8), FOUR(12)};

static uint32_t turn(uint32_t word, uint32_t bits)
{
    return (word << bits | word >> (16 - bits)) & 0xffff;
}

/* The two bytes to which an address adds up, as they stand in memory. */
static uint64_t fold(const struct un_ip *source, const struct un_ip *destination)
{
    uint64_t words[4];
    memcpy(words, source->bytes, 16);
    memcpy(words + 2, destination->bytes, 16);
    uint64_t sum = words[0] ^ words[1] ^ words[2] ^ words[3];
    sum ^= sum >> 32;
    return (sum ^ sum >> 16) & 0xffff;
}

uint32_t un_steering_hash(const struct un_ip *source, const struct un_ip *destination, uint16_t source_port,
                          uint16_t destination_port)
{
    uint32_t word = __builtin_bswap16((uint16_t)fold(source, destination)) ^ source_port ^ destination_port;
    uint32_t hash = contributions[word >> 12] ^ turn(contributions[word >> 8 & 15], 4) ^
                    turn(contributions[word >> 4 & 15], 8) ^ turn(contributions[word & 15], 12);
    return hash << 16 | hash;
}

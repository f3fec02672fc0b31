/* A stack that an attacker talks to: what fuzz targets and the tests of floods have in common.
 *
 * `it` is 10.0.0.1 and fd00::1. A friend (10.0.0.2, fd00::2, a second stack) keeps a connection to it on which every
 * byte comes back: the bystander. The attacker is 10.0.0.9 and fd00::9, has a MAC address of his own, and writes
 * frames. All secrets come from the script, so that sequence numbers differ from script to script and a fuzzer cannot
 * learn them. */
#ifndef UN_TEST_WORLD_H
#define UN_TEST_WORLD_H

#include "net.h"
#include "wire/packet.h"
#include "wire/seg.h"

/* The bytes of a script, zeros behind its end. */
struct script {
    const uint8_t *at;
    const uint8_t *end;
};

static inline uint8_t script_8(struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

static inline uint16_t script_16(struct script *script)
{
    uint16_t high = script_8(script);
    return (uint16_t)(high << 8 | script_8(script));
}

static inline uint32_t script_32(struct script *script)
{
    uint32_t high = script_16(script);
    return high << 16 | script_16(script);
}

static inline bool script_goes_on(const struct script *script)
{
    return script->at < script->end;
}

enum { WORLD_ECHO_PORT = 7, WORLD_PORT = 80, WORLD_BACKLOG = 4, WORLD_UDP_PORT = 53, WORLD_FRAME_MAX = 4096 };

struct world {
    struct host it;
    struct host friend;
    uint64_t now_ns;
    uint64_t speaker;      /* the bystander's handle at the friend's end; 0: it is over */
    uint32_t spoken;       /* bytes the friend sent on it, and heard again */
    uint32_t heard;
    struct un_seg answer;  /* the last segment to the attacker */
    struct un_ip answer_to; /* the address of his that it went to */
    uint16_t rx_flags;      /* what the device says of the attacker's packets: enum un_rx_flag */
    uint16_t rx_segment;    /* and that they were merged from parts of so many bytes; 0: it does not */
    bool is_quiet;         /* he does not answer who asks for his address */
};
extern struct world world;
extern const uint8_t world_attacker_mac[UN_MAC_BYTES];

/* `settings` turns features on and off; the script as a whole makes the secrets. */
void world_open(uint8_t settings, const uint8_t *script, size_t length);
/* The same, but a kernel has `its` addresses as well: it knows the friend, and finds the attacker when it is asked. */
void world_open_shared(uint8_t settings, const uint8_t *script, size_t length);
/* Everything ends: nothing may be left in the arena. */
void world_close(void);

/* Turns until nothing moves; what the bystander's ends do happens meanwhile, and the arena is checked. */
void world_settle(void);
void world_wait(uint64_t duration_ns);
void world_speak(uint32_t bytes); /* the friend sends more */
void world_expect_heard(void);    /* every byte comes back, within a minute */

/* Another shard gets and gives packets from now on: what this one hands over comes back to it as from there. */
void world_share(void);

/* The attacker sends a frame. A full device is his loss. */
void world_send(const uint8_t *bytes, uint32_t length);
/* An IP packet; checksum_offset 0: none to fill in. */
void world_send_ip(const struct un_ip_header *ip, const uint8_t *transport, uint32_t length, uint32_t checksum_offset);
/* Fill the checksum of a transport packet in. */
void world_fill_checksum(const struct un_ip_header *ip, uint8_t *transport, uint32_t length, uint32_t checksum_offset);
/* A segment, `options` in place of those that seg names when option_bytes (a multiple of 4, at most 40) is not 0. */
void world_send_seg(const struct un_ip *from, const struct un_ip *to, struct un_seg *seg, const uint8_t *options,
                    uint32_t option_bytes);

struct un_ip world_attacker(bool is_v6);
struct un_ip world_own(bool is_v6);

#endif

/* Steering in the kernel: frames that it sends to an interface with several queues come on the queue that the hash of
 * stack/steering.h names, whatever the queue on which user space wrote before. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../check.h"
#include "stack/steering.h"
#include "tap_link.h"
#include "wire/packet.h"

#define QUEUES 4u
#define FRAMES 1000u

static struct un_device *devices[QUEUES];
static struct un_pool pools[QUEUES];
static uint8_t frame[256], got[2048];

static void open_queues(void)
{
    const char *why;
    for (uint16_t i = 0; i < QUEUES; i++) {
        devices[i] = i == 0 ? tap_open(true) : tap_join(i, QUEUES);
        pools[i] = fixture_pool(256, 2048);
        un_device_attach(devices[i], &pools[i]);
    }
    CHECK_EQ(un_tap_steer(devices[1]->fd, QUEUES, &why), 0);
}

static void close_queues(void)
{
    for (uint16_t i = 0; i < QUEUES; i++) {
        devices[i]->operations->close(devices[i]);
        CHECK_EQ(pools[i].own->free_count, pools[i].own->count);
        fixture_pool_free(&pools[i]);
    }
}

struct flow {
    struct un_ip_header ip;
    uint16_t source_port;
    uint16_t destination_port;
};

static struct flow random_flow(uint64_t *state, bool is_v6)
{
    uint8_t bytes[32];
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)random_below(state, 256);
    return (struct flow){
        .ip = {.source = is_v6 ? un_ip_from_v6(bytes) : un_ip_from_v4(bytes),
               .destination = is_v6 ? un_ip_from_v6(bytes + 16) : un_ip_from_v4(bytes + 16),
               .protocol = random_below(state, 2) ? UN_PROTOCOL_TCP : UN_PROTOCOL_UDP,
               .hop_limit = 9,
               .payload_length = 40},
        .source_port = (uint16_t)random_below(state, 65536),
        .destination_port = (uint16_t)random_below(state, 65536),
    };
}

static uint32_t owner(const struct flow *flow)
{
    return un_steering_shard(
        un_steering_hash(&flow->ip.source, &flow->ip.destination, flow->source_port, flow->destination_port), QUEUES);
}

static uint32_t emit(const struct flow *flow, bool is_v6)
{
    memset(frame, 0, sizeof frame);
    uint32_t at = un_eth_emit(frame, devices[0]->capabilities.mac, devices[0]->capabilities.mac,
                              is_v6 ? UN_ETHER_IPV6 : UN_ETHER_IPV4);
    at += un_ip_emit(frame + at, &flow->ip);
    frame[at] = (uint8_t)(flow->source_port >> 8), frame[at + 1] = (uint8_t)flow->source_port;
    frame[at + 2] = (uint8_t)(flow->destination_port >> 8), frame[at + 3] = (uint8_t)flow->destination_port;
    return at + 40;
}

/* The queue on which the one frame that was sent has come. */
static uint32_t came_on(uint32_t length)
{
    struct un_rx packet;
    for (uint32_t i = 0; i < QUEUES; i++) {
        if (devices[i]->operations->peek(devices[i], &packet, 1) == 0)
            continue;
        devices[i]->operations->release(devices[i], 1);
        fixture_copy(&pools[i], &packet, got);
        un_pool_drop_chain(&pools[i], packet.frame);
        CHECK_EQ(packet.length, length);
        CHECK_EQ(memcmp(got, frame, length), 0);
        return i;
    }
    check_failed(__FILE__, __LINE__, "the frame has come");
}

static void the_kernel_steers_as_the_hash_says(void)
{
    uint64_t state = 11;
    uint32_t on[QUEUES] = {0};
    open_queues();
    int far = tap_far_open(0, false);
    for (uint32_t i = 0; i < FRAMES; i++) {
        bool is_v6 = i % 2;
        struct flow flow = random_flow(&state, is_v6);
        uint32_t length = emit(&flow, is_v6);
        fixture_submit(devices[i % 3], frame, length); /* would move the flow there without steering */
        CHECK_EQ(send(far, frame, length, 0), length);
        uint32_t queue = came_on(length);
        CHECK_EQ(queue, owner(&flow));
        on[queue]++;
    }
    for (uint32_t i = 0; i < QUEUES; i++)
        CHECK(on[i] > FRAMES / QUEUES * 3 / 4);
    close(far);
    close_queues();
}

static void frames_without_ports_come_on_queue_0(void)
{
    uint64_t state = 12;
    open_queues();
    int far = tap_far_open(0, false);
    for (uint32_t i = 0; i < 50; i++) {
        struct flow flow = random_flow(&state, false);
        uint32_t length = emit(&flow, false);
        if (i % 3 == 0)
            frame[20] = 0x20; /* a first fragment */
        else if (i % 3 == 1)
            frame[23] = UN_PROTOCOL_ICMP;
        else
            frame[12] = 0x88, frame[13] = 0xb5;
        CHECK_EQ(send(far, frame, length, 0), length);
        CHECK_EQ(came_on(length), 0);
    }
    close(far);
    close_queues();
}

static void another_number_of_queues_replaces_the_program(void)
{
    uint64_t state = 13;
    const char *why;
    open_queues();
    int far = tap_far_open(0, false);
    CHECK_EQ(un_tap_steer(devices[0]->fd, 2, &why), 0);
    for (uint32_t i = 0; i < 100; i++) {
        struct flow flow = random_flow(&state, false);
        uint32_t length = emit(&flow, false);
        CHECK_EQ(send(far, frame, length, 0), length);
        CHECK_EQ(came_on(length), un_steering_shard(un_steering_hash(&flow.ip.source, &flow.ip.destination,
                                                                     flow.source_port, flow.destination_port), 2));
    }
    close(far);
    close_queues();
}

static void a_descriptor_that_is_no_queue_is_said(void)
{
    const char *why = NULL;
    CHECK(un_tap_steer(0, 2, &why) < 0);
    CHECK(strstr(why, "does not take a steering program") != NULL);
}

int main(void)
{
    tap_enter_namespace();
    RUN(the_kernel_steers_as_the_hash_says);
    RUN(frames_without_ports_come_on_queue_0);
    RUN(another_number_of_queues_replaces_the_program);
    RUN(a_descriptor_that_is_no_queue_is_said);
    return 0;
}

/* The options of an engine, in the header of a segment: those that make sense are taken, others are refused with the
 * reason, and so is a header that another version wrote. */
#include "shard/options.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "shard/segment.h"

enum { CONNECTIONS = 100 };

static struct un_engine_options options;

/* An engine over a stack of our own. */
static void fresh(void)
{
    options = (struct un_engine_options){.connection_limit = CONNECTIONS, .queues = 2, .queue = 1};
    options.addresses.count = options.listeners.count = options.gateways.count = 1;
    options.addresses.at[0] = (struct un_option_address){{[10] = 0xff, 0xff, 10, 0, 0, 1}, 24};
    options.gateways.at[0] = (struct un_option_address){{[10] = 0xff, 0xff, 10, 0, 0, 254}, 0};
    options.listeners.at[0] = (struct un_option_address){{0}, 80}; /* [::] */
}

static void check_refused(const char *why)
{
    const char *fault = un_options_fault(&options, CONNECTIONS);
    if (!fault || !strstr(fault, why))
        fprintf(stderr, "expected \"%s\", found \"%s\"\n", why, fault ? fault : "no fault");
    CHECK(fault && strstr(fault, why));
}

#define REFUSED(change, why)                                                                                           \
    do {                                                                                                               \
        fresh();                                                                                                       \
        change;                                                                                                        \
        check_refused(why);                                                                                            \
    } while (0)

static void what_makes_sense_is_taken(void)
{
    fresh();
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
    options.listeners.count = 0; /* a server that drains */
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
    memset(&options, 0, sizeof options); /* the kernel's sockets */
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
}

static void numbers_have_bounds(void)
{
    REFUSED(options.connection_limit = CONNECTIONS + 1, "connection_limit is above conn_max");
    REFUSED(options.connection_limit = UINT64_MAX, "connection_limit is above");
    REFUSED(options.idle_timeout_ns = UINT64_MAX, "idle_timeout_ns is above");
    REFUSED(options.poll_mode = UN_POLL_BUSY + 1, "poll_mode is above");
    REFUSED(options.backlog = 65536, "backlog is above");
    REFUSED(options.queues = UN_QUEUES_MAX + 1, "queues is above");
}

static void a_shard_has_one_of_the_queues(void)
{
    REFUSED(options.queue = 2, "queue is not one of the queues");
    REFUSED(options.queues = 0, "without a packet device");
    REFUSED(memset(&options, 0, sizeof options); options.queue = 1, "without a packet device");
}

static void lists_have_room(void)
{
    REFUSED(options.addresses.count = UN_OWN_ADDRESSES_MAX + 1, "more addresses");
    REFUSED(options.gateways.count = UN_GATEWAYS_MAX + 1, "more gateways");
    REFUSED(options.listeners.count = UINT32_MAX, "more listeners");
}

static void addresses_make_sense(void)
{
    REFUSED(options.addresses.count = 0, "without an address");
    REFUSED(options.addresses.at[0].number = 33, "prefix");
    REFUSED(options.addresses.at[0] = ((struct un_option_address){{0xfd, [15] = 1}, 129}), "prefix");
    REFUSED(options.listeners.at[0].number = 0, "port");
    REFUSED(options.listeners.at[0].number = 65536, "port");
    fresh();
    options.addresses.at[0] = (struct un_option_address){{0xfd, [15] = 1}, 128};
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
}

static void shared_addresses_are_the_interfaces(void)
{
    REFUSED(options.shared = 1, "and those of the interface");
    REFUSED(memset(&options, 0, sizeof options); options.shared = 1, "without a packet device");
    fresh();
    options.shared = 1;
    options.addresses.count = options.gateways.count = 0;
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
}

static void outgoing_ports_are_a_range(void)
{
    REFUSED(options.outgoing_low = 2; options.outgoing_high = 1, "above outgoing_high");
    REFUSED(options.outgoing_high = 1, "outgoing_low is 0");
    fresh();
    options.outgoing_low = options.outgoing_high = 50000;
    CHECK(un_options_fault(&options, CONNECTIONS) == NULL);
}

/* Reader and writer of a segment. */

static union {
    struct un_segment_header header;
    char bytes[1 << 20];
} segment;

static void format(void)
{
    const char *why;
    struct un_segment_layout layout;
    struct un_segment_config config = {.seats = 1, .conn_max = CONNECTIONS, .state_bytes = 64, .event_slots = 16,
                                       .command_slots = 16, .rx_frame_bytes = 2048, .rx_frames = 8,
                                       .tx_frame_bytes = 2048, .tx_frames = 4, .rx_budget = 4096, .tx_budget = 4096,
                                       .hold_max = 2};
    CHECK_EQ(un_segment_plan(&config, &layout, &why), 0);
    CHECK(layout.public_bytes <= sizeof segment);
    fresh();
    memset(&segment, 0, sizeof segment);
    un_segment_format(&segment, &config, &layout, &options);
}

static void check_unequal(const char *why)
{
    const char *fault = "";
    CHECK_EQ(un_segment_check(&segment, sizeof segment, &fault), -EINVAL);
    CHECK(strstr(fault, why) != NULL);
}

static void a_segment_is_what_its_reader_expects(void)
{
    const char *why;
    format();
    CHECK_EQ(un_segment_check(&segment, sizeof segment, &why), 0);
    segment.header.options.queue = 7;
    check_unequal("queue is not one of the queues");
    format();
    segment.header.hash++;
    check_unequal("another version");
    format();
    segment.header.layout.conns.at += 4096;
    check_unequal("parts");
    memset(&segment, 0, sizeof segment);
    check_unequal("no segment");
}

int main(void)
{
    RUN(what_makes_sense_is_taken);
    RUN(numbers_have_bounds);
    RUN(a_shard_has_one_of_the_queues);
    RUN(lists_have_room);
    RUN(addresses_make_sense);
    RUN(shared_addresses_are_the_interfaces);
    RUN(outgoing_ports_are_a_range);
    RUN(a_segment_is_what_its_reader_expects);
    return 0;
}

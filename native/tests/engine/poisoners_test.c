/* Who is refused for poisoning workers (engine/poisoners.h): thrice within a minute, for a minute. */
#include "engine/poisoners.h"

#include <string.h>

#include "check.h"

#define SECOND_NS UINT64_C(1000000000)

static struct un_private own;
static struct un_engine_options options;
static struct un_engine engine = {.own = &own, .options = &options};

static void begin(void)
{
    memset(&own, 0, sizeof own);
    options.refuse_poisoners = 1;
    engine.now_ns = 1000 * SECOND_NS;
}

static struct un_endpoint v4(uint32_t address)
{
    struct un_endpoint peer = {.family = UN_FAMILY_IPV4, .port = (uint16_t)(address * 7 + 1)};
    memcpy(peer.ip, &address, sizeof address);
    return peer;
}

static void poison(uint32_t address)
{
    struct un_endpoint peer = v4(address);
    un_poisoners_suspect(&engine, &peer);
    un_poisoners_count(&engine, &peer);
}

static bool is_refused(uint32_t address)
{
    struct un_endpoint peer = v4(address);
    peer.port++; /* any of its connections */
    return un_poisoners_refused(&engine, &peer);
}

static bool is_suspected(uint32_t address)
{
    struct un_endpoint peer = v4(address);
    return un_poisoners_suspected(&engine, &peer);
}

static void a_peer_is_suspected_for_a_minute(void)
{
    struct un_endpoint peer = v4(1);
    begin();
    options.refuse_poisoners = 0;
    un_poisoners_suspect(&engine, &peer);
    CHECK(is_suspected(1) && !is_suspected(2));
    engine.now_ns += 30 * SECOND_NS;
    un_poisoners_suspect(&engine, &peer);
    engine.now_ns += 60 * SECOND_NS;
    CHECK(is_suspected(1));
    engine.now_ns++;
    CHECK(!is_suspected(1));
}

static void suspicion_alone_refuses_nobody(void)
{
    struct un_endpoint peer = v4(1);
    begin();
    for (int i = 0; i < 10; i++)
        un_poisoners_suspect(&engine, &peer);
    CHECK(is_suspected(1) && !is_refused(1));
}

static void the_third_time_is_one_too_many(void)
{
    begin();
    poison(1);
    poison(2);
    poison(1);
    CHECK(!is_refused(1));
    poison(1);
    CHECK(is_refused(1));
    CHECK(!is_refused(2));
}

static void it_is_for_a_minute(void)
{
    begin();
    for (int i = 0; i < 3; i++)
        poison(1);
    engine.now_ns += 59 * SECOND_NS;
    CHECK(is_refused(1));
    engine.now_ns += SECOND_NS;
    CHECK(!is_refused(1));
    engine.now_ns += SECOND_NS;
    poison(1);
    CHECK(!is_refused(1)); /* it begins anew */
}

static void what_was_long_ago_does_not_count(void)
{
    begin();
    poison(1);
    poison(1);
    engine.now_ns += 61 * SECOND_NS;
    poison(1);
    CHECK(!is_refused(1));
    poison(1);
    poison(1);
    CHECK(is_refused(1));
}

static void who_is_refused_may_go_on_with_what_is_open(void)
{
    begin();
    poison(1);
    engine.now_ns += 50 * SECOND_NS;
    poison(1);
    poison(1);
    engine.now_ns += 30 * SECOND_NS; /* of the first it is more than a minute ago */
    poison(1);
    CHECK(is_refused(1));
}

static void peers_without_an_address_are_never_refused(void)
{
    begin();
    struct un_endpoint peer = {.family = UN_FAMILY_UNIX};
    for (int i = 0; i < 5; i++) {
        un_poisoners_suspect(&engine, &peer);
        un_poisoners_count(&engine, &peer);
    }
    CHECK(!un_poisoners_suspected(&engine, &peer));
    CHECK(!un_poisoners_refused(&engine, &peer));
}

static void nobody_is_refused_unless_asked_for(void)
{
    begin();
    options.refuse_poisoners = 0;
    for (int i = 0; i < 5; i++)
        poison(1);
    CHECK(!is_refused(1));
}

static void of_a_flood_the_latest_are_known(void)
{
    begin();
    for (uint32_t address = 0; address < 3 * UN_POISONERS; address++)
        for (int i = 0; i < 3; i++) {
            poison(address);
            engine.now_ns++;
        }
    CHECK(is_refused(3 * UN_POISONERS - 1));
    CHECK(is_refused(2 * UN_POISONERS));
    CHECK(!is_refused(2 * UN_POISONERS - 1));
}

int main(void)
{
    RUN(a_peer_is_suspected_for_a_minute);
    RUN(suspicion_alone_refuses_nobody);
    RUN(the_third_time_is_one_too_many);
    RUN(it_is_for_a_minute);
    RUN(what_was_long_ago_does_not_count);
    RUN(who_is_refused_may_go_on_with_what_is_open);
    RUN(peers_without_an_address_are_never_refused);
    RUN(nobody_is_refused_unless_asked_for);
    RUN(of_a_flood_the_latest_are_known);
    return 0;
}

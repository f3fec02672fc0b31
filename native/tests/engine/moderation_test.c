/* When an inline engine waits for more packets, and for how long (engine/moderation.h): the rule in invented time, and
 * which engines keep it. */
#include "engine/moderation.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "engine/transport.h"
#include "server.h"

enum { LOOK_NS = 1000, MANY = 128, ENOUGH = MANY / UN_MODERATION_PART };

static struct un_moderation moderation;
static uint64_t now_ns;

/* A window in which so many connections sent something. */
static void after_a_window_of(uint32_t connections)
{
    now_ns = 5 * UN_MODERATION_WINDOW_NS;
    moderation = (struct un_moderation){.began_ns = now_ns};
    for (uint32_t slot = 0; slot < connections; slot++)
        un_moderation_heard(&moderation, slot);
    now_ns += UN_MODERATION_WINDOW_NS;
}

static bool waits_after(uint32_t messages)
{
    for (uint32_t i = 0; i < messages; i++)
        un_moderation_heard(&moderation, i);
    return un_moderation_waits(&moderation, now_ns);
}

static bool begins_with(uint32_t messages)
{
    un_moderation_begin(&moderation);
    return waits_after(messages);
}

static void one_connection_is_never_waited_for(void)
{
    memset(&moderation, 0, sizeof moderation);
    for (uint32_t turn = 0; turn < 10000; turn++, now_ns += LOOK_NS) {
        un_moderation_begin(&moderation);
        for (uint32_t message = 0; message < turn % 70; message++)
            un_moderation_heard(&moderation, 7);
        CHECK(!un_moderation_waits(&moderation, now_ns));
    }
}

static void nor_are_few(void)
{
    after_a_window_of(UN_MODERATION_BUSY - 1);
    CHECK(!begins_with(1));
    after_a_window_of(UN_MODERATION_BUSY);
    CHECK(begins_with(1));
}

static void of_many_an_eighth_is_waited_for(void)
{
    after_a_window_of(MANY);
    CHECK(begins_with(1));
    for (uint32_t heard = 2; heard < ENOUGH; heard++)
        CHECK(waits_after(1));
    CHECK(!waits_after(1));
    CHECK(!begins_with(ENOUGH));
}

static void a_turn_that_brought_nothing_waits_for_nothing(void)
{
    after_a_window_of(MANY);
    CHECK(!begins_with(0));
}

static void no_wait_is_longer_than_its_bound(void)
{
    after_a_window_of(MANY);
    uint64_t began_ns = now_ns;
    CHECK(begins_with(1));
    while (un_moderation_waits(&moderation, now_ns))
        now_ns += LOOK_NS;
    CHECK_EQ(now_ns - began_ns, UN_MODERATION_NS);
}

/* How many turns go by before one waits, in vain if it hears of nobody else. */
static uint32_t turns_to_wait(uint32_t caught)
{
    uint32_t turns = 0;
    while (!begins_with(1))
        turns++;
    now_ns += UN_MODERATION_NS;
    CHECK(!waits_after(caught));
    return turns;
}

static void waits_in_vain_become_rare(void)
{
    after_a_window_of(MANY);
    CHECK_EQ(turns_to_wait(0), 0);
    CHECK_EQ(turns_to_wait(0), 1);
    CHECK_EQ(turns_to_wait(0), 3);
    CHECK_EQ(turns_to_wait(1), 7);
    CHECK_EQ(turns_to_wait(1), 3);
    CHECK_EQ(turns_to_wait(1), 1);
    CHECK_EQ(turns_to_wait(1), 0);
}

static void an_old_window_says_nothing(void)
{
    after_a_window_of(MANY);
    now_ns += UN_MODERATION_WINDOW_NS;
    CHECK(!begins_with(1));
}

/* ---- engines ---- */

static uint32_t looks;

/* A device that brings a packet of another connection each time. */
static uint32_t look(struct un_engine *engine, int timeout_ms)
{
    (void)timeout_ms;
    engine->now_ns += LOOK_NS;
    un_moderation_heard(&engine->moderation, looks++);
    return 1;
}

static uint32_t looks_of_turn(int timeout_ms)
{
    struct un_engine *engine = server.engine;
    const struct un_transport *transport = engine->transport;
    struct un_transport replaced = *transport;
    replaced.poll = look;
    engine->transport = &replaced;
    engine->moderation = (struct un_moderation){.busy = MANY, .began_ns = engine->now_ns};
    looks = 0;
    un_engine_turn(engine, timeout_ms);
    engine->transport = transport;
    return looks;
}

static void an_inline_engine_that_adapts_waits(void)
{
    server_open_polling(UN_POLL_ADAPTIVE, -1);
    CHECK_EQ(looks_of_turn(-1), ENOUGH);
    CHECK_EQ(looks_of_turn(0), 1);
    server_close();
}

static void one_that_polls_in_another_way_does_not(void)
{
    const enum un_poll_mode modes[] = {UN_POLL_SLEEP, UN_POLL_BUSY};
    for (uint32_t i = 0; i < 2; i++) {
        server_open_polling(modes[i], -1);
        CHECK_EQ(looks_of_turn(-1), 1);
        server_close();
    }
}

static void nor_does_one_whose_packets_are_handed_on_alone(void)
{
    server_open_alone();
    CHECK_EQ(looks_of_turn(-1), 1);
    server_close();
}

static void nor_does_one_beside_its_worker(void)
{
    int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(wake_fd >= 0);
    server_open_polling(UN_POLL_ADAPTIVE, wake_fd);
    CHECK_EQ(looks_of_turn(-1), 1);
    server_close();
    close(wake_fd);
}

static void it_hears_of_each_connection(void)
{
    server_open_polling(UN_POLL_ADAPTIVE, -1);
    server.engine->moderation = (struct un_moderation){.began_ns = 0};
    for (uint32_t i = 0; i < CLIENTS; i++)
        client_send(server.clients[i], 1);
    server_turn();
    CHECK_EQ(server.engine->moderation.turn, CLIENTS);
    CHECK_EQ(server.engine->moderation.different, CLIENTS);
    server_close();
}

int main(void)
{
    RUN(one_connection_is_never_waited_for);
    RUN(nor_are_few);
    RUN(of_many_an_eighth_is_waited_for);
    RUN(a_turn_that_brought_nothing_waits_for_nothing);
    RUN(no_wait_is_longer_than_its_bound);
    RUN(waits_in_vain_become_rare);
    RUN(an_old_window_says_nothing);
    RUN(an_inline_engine_that_adapts_waits);
    RUN(one_that_polls_in_another_way_does_not);
    RUN(nor_does_one_whose_packets_are_handed_on_alone);
    RUN(nor_does_one_beside_its_worker);
    RUN(it_hears_of_each_connection);
    return 0;
}

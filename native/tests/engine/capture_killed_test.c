/* A capture of packets over a stack of our own: what stands in the memory, and that an engine killed at any instruction
 * of a captured turn, or while a capture begins or ends, leaves a stack and an engine that go on, with the capture. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "engine/capture.h"
#include "server.h"
#include "step.h"

enum { SERIAL = 7 };

static const uint64_t bytes = sizeof(struct un_capture_ring) + UN_CAPTURE_DATA_MIN;
static struct un_capture_ring *ring;
static int fd, supervisors_fd; /* the engine may close the former */

static void start(void)
{
    server_open();
    step_forget();
    CHECK((fd = memfd_create("capture", MFD_CLOEXEC)) >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
    CHECK((supervisors_fd = dup(fd)) >= 0);
    ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(ring != MAP_FAILED);
    ring->data_bytes = UN_CAPTURE_DATA_MIN;
    ring->snaplen = 100;
    ring->magic = UN_CAPTURE_MAGIC;
}

static void end(void)
{
    server_close();
    munmap(ring, bytes);
    close(fd);
    close(supervisors_fd);
}

static void begin_capture(void)
{
    CHECK_EQ(un_capture_start(server.engine, SERIAL, fd, bytes), 0);
}

static const struct un_captured *next_record(uint64_t *at)
{
    if (*at == un_observe(&ring->produced))
        return NULL;
    const struct un_captured *record = (const void *)((const uint8_t *)(ring + 1) + *at);
    *at += record->bytes;
    return record;
}

/* Segments with payload, one way and one connection: how many bytes they had in all. */
static uint32_t payload_of(uint64_t conn, bool came)
{
    const uint32_t headers = UN_ETH_BYTES + UN_IPV4_BYTES + UN_TCP_HEADER_TIMESTAMP;
    const struct un_captured *record;
    uint32_t length = 0;
    for (uint64_t at = 0; (record = next_record(&at)) != NULL;) {
        CHECK(record->captured == 100 || record->captured == record->original);
        CHECK_EQ(record->drops, 0);
        if (record->conn == conn && !!(record->flags & UN_CAPTURED_IN) == came)
            length += record->original - headers;
    }
    return length;
}

/* 300 bytes from one client, 1000 to the other. */
static void exchange(uint32_t from, uint32_t to)
{
    client_send(server.clients[from], 300);
    server_turn();
    worker_take();
    worker_send(server.conns[to], 1000);
    server_turn();
    clients_turn();
}

static void both_directions_are_there(void)
{
    start();
    begin_capture();
    exchange(1, 0);
    CHECK_EQ(payload_of(server.conns[1], true), 300);
    CHECK_EQ(payload_of(server.conns[0], false), 1000);
    CHECK_EQ(un_capture_start(server.engine, SERIAL, fd, bytes), -EALREADY);
    CHECK_EQ(un_capture_start(server.engine, SERIAL + 1, fd, bytes), -EBUSY);
    int mine = dup(fd);
    un_capture_stop(server.engine);
    fd = mine;
    uint64_t seen = un_load(&ring->seen);
    exchange(0, 1);
    CHECK_EQ(un_load(&ring->seen), seen);
    end();
}

/* Where the dead one was; its memory is let go behind it. */
static void the_next_engine_goes_on(void)
{
    start();
    begin_capture();
    exchange(1, 0);
    struct un_engine *dead = server.engine;
    server.engine = un_engine_start(&server.setup);
    CHECK(server.engine != NULL && server.engine->capture != NULL);
    exchange(0, 1);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        CHECK_EQ(payload_of(server.conns[i], true), 300);
        CHECK_EQ(payload_of(server.conns[i], false), 1000);
    }
    munmap(dead->capture->end.ring, bytes);
    free(dead->capture);
    un_exchange_close(&dead->link->exchange);
    free(dead->link);
    free(dead);
    end();
}

static void check_stack(struct un_engine *engine)
{
    const char *wrong = un_stack_check(&engine->link->stack);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

/* The supervisor asks the next one again. */
static void check_takeover(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    check_stack(engine);
    CHECK_EQ(engine->capture != NULL, engine->own->capturing.fd != 0);
    int status = un_capture_start(engine, SERIAL, supervisors_fd, bytes);
    CHECK(status == 0 || status == -EALREADY);
    un_engine_turn(engine, 0);
    check_stack(engine);
    un_capture_stop(engine);
    CHECK(engine->capture == NULL && engine->own->capturing.fd == 0);
    un_engine_turn(engine, 0);
    check_stack(engine);
}

static uint32_t states;

static void judge(void)
{
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        step_judge(check_takeover);
}

/* Children do not have the memory of the parent: it is mapped anew. */
static void map_again(void)
{
    un_capture_leave(server.engine);
    un_capture_resume(server.engine);
    CHECK(server.engine->capture != NULL);
}

static void captured_turn(void)
{
    map_again();
    server_turn();
}

static void end_capture(void)
{
    map_again();
    un_capture_stop(server.engine);
}

static void step(void (*act)(void))
{
    server_step(act, judge);
    munmap(ring, bytes);
    close(fd);
    close(supervisors_fd);
}

static void killed_while_packets_are_captured(void)
{
    start();
    begin_capture();
    worker_send(server.conns[0], 1000);
    client_send(server.clients[1], 300);
    step(captured_turn);
}

static void killed_while_a_capture_begins(void)
{
    start();
    step(begin_capture);
}

static void killed_while_a_capture_ends(void)
{
    start();
    begin_capture();
    step(end_capture);
}

int main(void)
{
    RUN(both_directions_are_there);
    RUN(the_next_engine_goes_on);
    RUN(killed_while_packets_are_captured);
    RUN(killed_while_a_capture_begins);
    RUN(killed_while_a_capture_ends);
    return 0;
}

/* See bare.h. */
#include "bare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "tests/check.h"
#include "usnet.h"

enum { CONNS = 6, BYTES_MAX = 4000, FRAME_MAX = 70000, ROUNDS_MAX = 64, ARENA_MAX = 4 << 20, PAGE = 4096 };

struct conn {
    uint64_t handle; /* 0: none */
    uint32_t written;
    uint32_t read;
};

struct bare {
    struct usnet_stack *stack; /* NULL: none yet */
    void *memory;              /* the caller's; NULL: its own */
    uint64_t bytes;
    struct usnet_link link;
    struct conn conns[CONNS];
};
static struct bare bares[2];

static int64_t plausible(int64_t status)
{
    CHECK(status >= -4095);
    return status;
}

/* ---- what is drawn ---- */

static struct conn *draw_known(struct bare *bare)
{
    return &bare->conns[draw() % CONNS];
}

static uint64_t draw_conn(struct bare *bare)
{
    if (draw() & 7)
        return draw_known(bare)->handle;
    return (uint64_t)(uint32_t)draw_int() << 32 | (uint32_t)draw_int();
}

/* Of either stack, of nobody, of no family. */
static struct usnet_endpoint draw_endpoint(void)
{
    uint8_t kind = draw();
    struct usnet_endpoint endpoint = {.port = (uint16_t)(7000 + kind % 3), .family = kind & 64 ? 6 : 4};
    uint8_t host = kind & 32 ? draw() : 1 + (kind >> 4 & 1);
    if ((kind & 12) == 12)
        return (struct usnet_endpoint){.port = endpoint.port, .family = (uint16_t)(draw() % 8)};
    if (endpoint.family == 4) {
        memcpy(endpoint.ip, (uint8_t[4]){10, 0, 0, host}, 4);
    } else {
        endpoint.ip[0] = 0xfd;
        endpoint.ip[15] = host;
    }
    return endpoint;
}

/* Small, or with up to three of the numbers that are looked at replaced by anything. */
static struct usnet_stack_options draw_options(void)
{
    struct usnet_stack_options options;
    uint32_t *const numbers[] = {&options.conn_max,      &options.frames,       &options.frame_bytes,
                                 &options.sents,         &options.udp_max,      &options.neighbours,
                                 &options.time_wait_max, &options.resets_per_s, &options.icmp_per_s,
                                 &options.rcv_limit,     &options.snd_limit};
    usnet_stack_defaults(&options, 1 + draw() % 12);
    options.frames = 40 + draw();
    options.sents = 1 + draw() % 64;
    options.udp_max = draw() % 3;
    options.neighbours = 8;
    options.time_wait_max = 1 + draw() % 4;
    options.seed = 1;
    for (uint32_t left = draw() % 8 == 0 ? 1 + draw() % 3 : 0; left > 0; left--)
        *numbers[draw() % (sizeof numbers / sizeof *numbers)] = draw() & 1 ? draw() * 64u : (uint32_t)draw_int();
    options.congestion = draw() % 8 ? 0 : draw();
    options.port_low = draw() % 8 ? options.port_low : (uint16_t)draw_int();
    uint8_t switches = draw();
    options.detect_duplicates = switches & 1;
    options.ecn = switches >> 1 & 3; /* 3: there is no such */
    return options;
}

static struct usnet_link draw_link(int number)
{
    static const uint16_t mtus[] = {1500, 1500, 1280, 9000};
    static const uint32_t slots[] = {64, 64, 64, 1, 0, 3, 1u << 20, (1u << 20) + 1};
    struct usnet_link link = {.mac = {2, 0, 0, 0, 0, (uint8_t)(number + 1)}, .mtu = mtus[draw() % 4]};
    link.slots = draw() % 4 ? 64 : slots[draw() % 6];
    return link;
}

/* ---- life ---- */

static void let_go(struct bare *bare)
{
    usnet_stack_destroy(bare->stack);
    free(bare->memory);
    memset(bare, 0, sizeof *bare);
}

static void add_addresses(struct bare *bare, int number)
{
    struct usnet_endpoint ipv4 = {.ip = {10, 0, 0, (uint8_t)(number + 1)}, .family = 4};
    struct usnet_endpoint ipv6 = {.ip = {0xfd, [15] = (uint8_t)(number + 1)}, .family = 6};
    CHECK_EQ(usnet_stack_add_address(bare->stack, &ipv4, 24), 0);
    CHECK_EQ(usnet_stack_add_address(bare->stack, &ipv6, 64), 0);
}

/* What usnet_stack_bytes takes is created, given a link and memory that fits; what it refuses has a reason, and
 * is not. */
static void create(int number)
{
    const char *why = NULL;
    struct usnet_stack_options options = draw_options();
    struct bare made = {.link = draw_link(number)};
    int64_t bytes = usnet_stack_bytes(&options, &why);
    CHECK((bytes < 0) == (why != NULL) && bytes != 0);
    if (bytes > ARENA_MAX)
        return;
    uint32_t kind = draw();
    bool is_link = made.link.slots && !(made.link.slots & (made.link.slots - 1));
    if (bytes > 0 && kind % 4 > 0) {
        made.bytes = ((uint64_t)bytes + PAGE - 1) / PAGE * PAGE;
        CHECK((made.memory = aligned_alloc(PAGE, made.bytes)) != NULL);
        memset(made.memory, 0, made.bytes);
        int status = usnet_stack_create(&made.stack, &options, &made.link, made.memory, (uint64_t)bytes - 1);
        CHECK_EQ(status, -EINVAL);
        CHECK_EQ(usnet_stack_create(&made.stack, &options, &made.link, (uint8_t *)made.memory + 64, (uint64_t)bytes),
                 -EINVAL);
    }
    int status = usnet_stack_create(&made.stack, &options, &made.link, made.memory, made.bytes);
    CHECK_EQ(status, bytes > 0 && is_link ? 0 : -EINVAL);
    if (status < 0) {
        free(made.memory);
        return;
    }
    let_go(&bares[number]);
    bares[number] = made;
    add_addresses(&bares[number], number);
}

/* The copy goes on, or, of one that was written into, is refused. */
static void adopt(struct bare *bare)
{
    struct usnet_stack *stack = NULL;
    if (!bare->memory)
        return;
    uint8_t *copy = aligned_alloc(PAGE, bare->bytes);
    CHECK(copy != NULL);
    memcpy(copy, bare->memory, bare->bytes);
    copy[0] ^= 1;
    CHECK_EQ(usnet_stack_adopt(&stack, &bare->link, copy, bare->bytes), -EINVAL);
    copy[0] ^= 1;
    CHECK_EQ(usnet_stack_adopt(&stack, &bare->link, copy, PAGE), -EINVAL);
    CHECK_EQ(usnet_stack_adopt(&stack, &bare->link, copy, bare->bytes), 0);
    usnet_stack_destroy(bare->stack);
    free(bare->memory);
    bare->stack = stack;
    bare->memory = copy;
}

/* ---- packets and events ---- */

static void pass_frames(struct bare *from, struct bare *to, bool is_bad)
{
    static uint8_t frame[FRAME_MAX];
    struct usnet_output output;
    int length;
    while ((length = usnet_stack_output(from->stack, frame, sizeof frame, &output)) != 0) {
        CHECK(length > 0 && length <= (int)sizeof frame);
        uint8_t fate = is_bad ? draw() : 255;
        if (fate < 16 || !to->stack)
            continue;
        if (fate < 32)
            frame[draw_below((uint32_t)length)] ^= (uint8_t)(1u << (fate & 7));
        plausible(usnet_stack_input(to->stack, frame, (uint32_t)length, 0, 0));
    }
}

static struct conn *find(struct bare *bare, uint64_t handle)
{
    for (int i = 0; i < CONNS; i++)
        if (bare->conns[i].handle == handle)
            return &bare->conns[i];
    return NULL;
}

/* One that finds no place is let go of. */
static void keep(struct bare *bare, uint64_t handle)
{
    struct conn *place = find(bare, 0);
    if (place)
        *place = (struct conn){.handle = handle};
    else
        CHECK_EQ(usnet_stack_abort(bare->stack, handle), 0);
}

static void take_events(struct bare *bare)
{
    struct usnet_event event;
    for (int left = ROUNDS_MAX; left > 0 && usnet_stack_event(bare->stack, &event); left--) {
        if (event.is_udp)
            continue;
        if ((event.events & USNET_EVENT_ACCEPTED) && !find(bare, event.conn)) {
            plausible(usnet_stack_accept(bare->stack, event.conn, 7));
            keep(bare, event.conn);
        }
        if (event.events & USNET_EVENT_CLOSED)
            CHECK(usnet_tcp_reason_name(event.reason) != NULL);
    }
}

static void turn(uint64_t now_ns)
{
    bool is_bad = draw() & 1;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint32_t done = 0;
        for (int i = 0; i < 2; i++) {
            if (!bares[i].stack)
                continue;
            done += usnet_stack_poll(bares[i].stack, now_ns);
            pass_frames(&bares[i], &bares[1 - i], is_bad);
            take_events(&bares[i]);
        }
        if (done == 0)
            return;
    }
}

static void input(struct bare *bare)
{
    uint8_t frame[120];
    uint32_t length = draw() % sizeof frame, flags = draw() % 4, segment = draw() % 8 ? 0 : (uint32_t)draw_int();
    memcpy(frame, bare->link.mac, 6);
    for (uint32_t i = draw() & 7 ? 6 : 0; i < length; i++)
        frame[i] = draw();
    plausible(usnet_stack_input(bare->stack, frame, length, flags, segment));
}

/* ---- calls ---- */

static void call_connect(struct bare *bare)
{
    uint64_t handle = 0;
    struct usnet_endpoint remote = draw_endpoint(), local = draw_endpoint();
    if (plausible(usnet_stack_connect(bare->stack, &remote, draw() & 3 ? NULL : &local, draw(), &handle)) < 0)
        return;
    CHECK(handle != 0);
    keep(bare, handle);
}

static void check_bytes(struct conn *conn, const uint8_t *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        CHECK_EQ(bytes[i], (uint8_t)conn->read++);
}

static void call_write(struct bare *bare)
{
    static uint8_t bytes[BYTES_MAX];
    struct conn *conn = draw_known(bare);
    uint32_t length = draw_below(BYTES_MAX);
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(conn->written + i);
    int64_t taken = plausible(usnet_stack_write(bare->stack, conn->handle, bytes, length));
    CHECK(taken <= (int64_t)length);
    conn->written += taken > 0 ? (uint32_t)taken : 0;
}

static void call_read(struct bare *bare)
{
    static uint8_t bytes[BYTES_MAX];
    struct conn *conn = draw_known(bare);
    uint32_t most = draw_below(BYTES_MAX);
    int64_t got = plausible(usnet_stack_read(bare->stack, conn->handle, bytes, most));
    CHECK(got <= (int64_t)most);
    check_bytes(conn, bytes, got);
}

static void call_peek(struct bare *bare)
{
    struct usnet_piece pieces[3];
    struct conn *conn = draw_known(bare);
    uint32_t total = 0;
    int64_t count = plausible(usnet_stack_peek(bare->stack, conn->handle, pieces, 3));
    for (int64_t i = 0; i < count; i++) {
        check_bytes(conn, pieces[i].bytes, pieces[i].length);
        total += pieces[i].length;
    }
    if (count > 0)
        CHECK_EQ(usnet_stack_consume(bare->stack, conn->handle, total), 0);
    CHECK(usnet_stack_consume(bare->stack, conn->handle, UINT32_MAX) < 0);
}

/* A handle that was given back is none. */
static void call_leave(struct bare *bare)
{
    struct conn *conn = draw_known(bare);
    int status =
        draw() & 1 ? usnet_stack_close(bare->stack, conn->handle) : usnet_stack_abort(bare->stack, conn->handle);
    CHECK(status == 0 || status == -EBADF);
    CHECK_EQ(usnet_stack_set_user(bare->stack, conn->handle, 1), -EBADF);
    *conn = (struct conn){0};
}

static void call_listen(struct bare *bare)
{
    struct usnet_endpoint local = draw_endpoint();
    uint8_t kind = draw();
    if (kind & 3)
        plausible(usnet_stack_listen(bare->stack, &local, kind & 4 ? kind % 5u : (uint32_t)draw_int(), 9));
    else if (kind & 4)
        plausible(usnet_stack_unlisten(bare->stack, kind & 8 ? draw() % 3u : (uint32_t)draw_int()));
    else
        plausible(usnet_stack_pause_listener(bare->stack, kind & 8 ? draw() % 3u : (uint32_t)draw_int(), kind & 16));
}

static void call_udp(struct bare *bare)
{
    static uint8_t bytes[BYTES_MAX];
    struct usnet_endpoint endpoint = draw_endpoint(), from;
    uint8_t kind = draw();
    uint32_t number = kind & 64 ? (uint32_t)draw_int() : kind & 1u, length = draw_below(BYTES_MAX);
    switch (kind % 5) {
    case 0: plausible(usnet_stack_udp_open(bare->stack, &endpoint, kind)); break;
    case 1: plausible(usnet_stack_udp_close(bare->stack, number)); break;
    case 2: CHECK(plausible(usnet_stack_udp_receive(bare->stack, number, &from, bytes, length)) <= UINT16_MAX); break;
    default: plausible(usnet_stack_udp_send(bare->stack, number, &endpoint, bytes, length));
    }
}

static void call_ways(struct bare *bare)
{
    struct usnet_endpoint one = draw_endpoint(), other = draw_endpoint();
    if (draw() & 1)
        plausible(usnet_stack_add_address(bare->stack, &one, draw()));
    else
        plausible(usnet_stack_add_route(bare->stack, &one, draw(), &other));
    CHECK(usnet_stack_owner(&one, &other, 1 + draw() % 8) < 8);
}

static void check_list(struct bare *bare)
{
    struct usnet_stack_usage usage;
    struct usnet_tcp_info info;
    uint32_t position = 0, listed = 0;
    uint64_t conn;
    usnet_stack_usage(bare->stack, &usage);
    while (plausible(usnet_stack_next_connection(bare->stack, &position, &conn, &info)) == 1)
        CHECK(++listed <= usage.conns && usnet_tcp_state_name(info.state));
}

/* Nothing where something is needed. */
static void call_nowhere(struct bare *bare)
{
    uint64_t conn = draw_known(bare)->handle;
    CHECK_EQ(usnet_stack_write(bare->stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_read(bare->stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_peek(bare->stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_info(bare->stack, conn, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_listen(bare->stack, NULL, 1, 0), -EFAULT);
    CHECK_EQ(usnet_stack_connect(bare->stack, NULL, NULL, 0, &conn), -EFAULT);
}

static void call_settings(struct bare *bare)
{
    uint64_t conn = draw_conn(bare);
    uint32_t option = draw() % 16, value = draw() & 1 ? draw() : (uint32_t)draw_int(), now;
    struct usnet_tcp_info info;
    if (plausible(usnet_stack_set_option(bare->stack, conn, option, value)) == 0)
        CHECK_EQ(usnet_stack_get_option(bare->stack, conn, option, &now), 0);
    if (plausible(usnet_stack_info(bare->stack, conn, &info)) == 0)
        CHECK(usnet_tcp_state_name(info.state) != NULL);
    if (draw() & 1)
        plausible(usnet_stack_shutdown(bare->stack, conn));
    usnet_stack_deadline_ns(bare->stack);
    call_nowhere(bare);
    check_list(bare);
    CHECK_EQ(usnet_stack_set_fast_paths(bare->stack, value & 1), 0);
}

static void (*const calls[])(struct bare *bare) = {
    call_connect, call_connect, call_write, call_write, call_read,  call_read,     call_peek, call_leave,
    call_listen,  call_listen,  call_udp,   call_ways,  call_settings, input,      adopt,
};

static void call(struct bare *bare)
{
    calls[draw() % (sizeof calls / sizeof *calls)](bare);
    const char *wrong = usnet_stack_check(bare->stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

void bare_call(uint64_t now_ns)
{
    uint8_t byte = draw();
    int number = byte & 1;
    if (!bares[number].stack || byte > 250)
        create(number);
    else if (byte & 2)
        call(&bares[number]);
    else
        turn(now_ns);
}

void bare_begin(void)
{
    memset(bares, 0, sizeof bares);
}

void bare_end(void)
{
    let_go(&bares[0]);
    let_go(&bares[1]);
}

/* A script: settings of the stack, how the connection begins (by whom, over which family, by a cookie), the options of
 * the peer's SYN as a length and bytes, and then segments: their options the same way, what they acknowledge, how much
 * they carry. Beside the stack stands a naive reader of options. */
#include "options.h"

#include <string.h>

#include "../tests/stack/world.h"
#include "base/bytes.h"
#include "stack/arena.h"
#include "stack/lists.h"
#include "stack/local.h"

enum { SEGMENTS_MAX = 24, OPTIONS_MAX = 40, PORT = 2500, WRITTEN = 3000 };

enum beginning { OVER_IPV6 = 1, BY_US = 2, BY_COOKIE = 4, WITH_ECN = 8 };

struct options {
    uint8_t bytes[OPTIONS_MAX];
    uint32_t length; /* a multiple of 4 */
};

static struct options take_options(struct script *script)
{
    struct options options = {.length = script_8(script) % (OPTIONS_MAX / 4 + 1) * 4};
    for (uint32_t i = 0; i < options.length; i++)
        options.bytes[i] = script_8(script);
    return options;
}

/* ---- the naive reader ---- */

/* The last option of this kind that is as long as it should be, behind kind and length; NULL. An end, or an option that
 * does not fit, ends them all. */
static const uint8_t *find(const struct options *options, uint8_t kind, uint8_t length)
{
    const uint8_t *found = NULL;
    uint32_t at = 0;
    while (at < options->length && options->bytes[at] != 0) {
        uint32_t left = options->length - at;
        uint32_t size = options->bytes[at] == 1 ? 1 : left > 1 ? options->bytes[at + 1] : 0;
        if (options->bytes[at] != 1 && (size < 2 || size > left))
            return found;
        if (options->bytes[at] == kind && size == length && !(kind == 2 && un_get16(options->bytes + at + 2) == 0))
            found = options->bytes + at + 2;
        at += size;
    }
    return found;
}

static const uint8_t *find_timestamp(const struct options *options)
{
    return find(options, 8, 10);
}

/* ---- the handshake ---- */

struct case_ {
    uint8_t how;
    struct un_ip peer;
    struct un_ip own;
    uint16_t own_port;
    struct options syn;
    struct un_tcb *tcb;
};

static const struct un_tcp_config *config(void)
{
    return &world.it.stack.config->tcp;
}

static void send(const struct case_ *the, struct un_seg *seg, const struct options *options)
{
    seg->source_port = PORT;
    seg->destination_port = the->own_port;
    seg->wnd = 4000;
    world_send_seg(&the->peer, &the->own, seg, options ? options->bytes : NULL, options ? options->length : 0);
    world_settle();
}

static struct un_tcb *find_conn(const struct case_ *the)
{
    struct un_stack *stack = &world.it.stack;
    int local = un_address_find(stack, &the->own);
    uint32_t slot = un_flow_find(stack, &the->peer, PORT, the->own_port, (uint16_t)local);
    return slot == UN_NONE ? NULL : &stack->tcp.tcbs[slot];
}

/* So many handshakes that nobody finishes that the next one gets a cookie. */
static void fill_backlog(const struct case_ *the)
{
    for (uint16_t i = 0; i < WORLD_BACKLOG; i++) {
        struct un_seg syn = {
            .flags = UN_TCP_SYN, .source_port = (uint16_t)(PORT + 1 + i), .destination_port = WORLD_PORT};
        world_send_seg(&the->peer, &the->own, &syn, NULL, 0);
    }
    world_settle();
}

static bool is_agreed(bool we, const uint8_t *option)
{
    return we && option;
}

/* What the answer to the SYN offers must have been asked for. */
static void check_answer(const struct case_ *the)
{
    const struct un_seg *answer = &world.answer;
    const uint8_t *timestamp = find_timestamp(&the->syn);
    bool is_cookie = the->how & BY_COOKIE;
    bool has_timestamp = is_agreed(config()->timestamps, timestamp);
    bool can_more = !is_cookie || has_timestamp; /* the rest of what a cookie agrees on lies in its timestamp */
    CHECK_EQ(answer->flags & (UN_TCP_SYN | UN_TCP_ACK), UN_TCP_SYN | UN_TCP_ACK);
    CHECK_EQ(!!(answer->options & UN_SEG_TIMESTAMP), has_timestamp);
    CHECK(!has_timestamp || answer->tsecr == un_get32(timestamp));
    CHECK_EQ(!!(answer->options & UN_SEG_WSCALE),
             can_more && is_agreed(config()->window_scaling, find(&the->syn, 3, 3)));
    CHECK_EQ(!!(answer->options & UN_SEG_SACK_PERMITTED), can_more && is_agreed(config()->sack, find(&the->syn, 4, 2)));
    CHECK_EQ(!!(answer->flags & UN_TCP_ECE), can_more && config()->ecn && (the->how & WITH_ECN));
    CHECK(answer->options & UN_SEG_MSS);
}

static uint32_t smaller(uint32_t left, uint32_t right)
{
    return left < right ? left : right;
}

static void check_agreement(const struct case_ *the)
{
    const struct un_tcb *tcb = the->tcb;
    const uint8_t *mss = find(&the->syn, 2, 4), *scale = find(&the->syn, 3, 3);
    bool has_timestamp = is_agreed(config()->timestamps, find_timestamp(&the->syn));
    bool can_more = !(the->how & BY_COOKIE) || has_timestamp;
    bool has_scale = can_more && is_agreed(config()->window_scaling, scale);
    CHECK_EQ(!!(tcb->flags & UN_TCB_TIMESTAMP), has_timestamp);
    CHECK_EQ(!!(tcb->flags & UN_TCB_WSCALE), has_scale);
    CHECK_EQ(tcb->snd_wscale, has_scale ? smaller(scale[0], 14) : 0);
    CHECK_EQ(!!(tcb->flags & UN_TCB_SACK), can_more && is_agreed(config()->sack, find(&the->syn, 4, 2)));
    CHECK_EQ(!!(tcb->flags & UN_TCB_ECN), can_more && config()->ecn && (the->how & WITH_ECN));
    uint32_t path = 1500 - (the->how & OVER_IPV6 ? 60 : 40);
    uint32_t asked = mss ? un_get16(mss) : the->how & OVER_IPV6 ? 1220 : 536;
    if (!(the->how & BY_COOKIE)) {
        CHECK_EQ(tcb->snd_mss, smaller(asked < 64 ? 64 : asked, path));
    } else {
        CHECK(tcb->snd_mss <= smaller(asked < 256 ? 256 : asked, path)); /* one of a few */
    }
}

/* The last segment of the handshake, with a timestamp where that was agreed on. */
static void send_ack(const struct case_ *the, uint32_t seq)
{
    struct un_seg ack = {.flags = UN_TCP_ACK, .seq = seq, .ack = world.answer.seq + 1};
    if (world.answer.options & UN_SEG_TIMESTAMP) {
        ack.options = UN_SEG_TIMESTAMP;
        ack.tsval = world.answer.tsecr;
        ack.tsecr = world.answer.tsval;
    }
    send(the, &ack, NULL);
}

static void be_opened(struct case_ *the)
{
    struct un_seg syn = {.flags = UN_TCP_SYN | (the->how & WITH_ECN ? UN_TCP_ECE | UN_TCP_CWR : 0), .seq = 99};
    the->own_port = WORLD_PORT;
    if (the->how & BY_COOKIE)
        fill_backlog(the);
    send(the, &syn, &the->syn);
    CHECK_EQ(find_conn(the) == NULL, !!(the->how & BY_COOKIE));
    check_answer(the);
    send_ack(the, 100);
    the->tcb = find_conn(the);
}

static void open(struct case_ *the)
{
    struct un_stack_peer remote = {the->peer, PORT};
    uint64_t conn;
    the->how &= (uint8_t)~BY_COOKIE;
    CHECK_EQ(un_stack_connect(&world.it.stack, &remote, NULL, 0, &conn), 0);
    world_settle();
    CHECK_EQ(world.answer.flags & (UN_TCP_SYN | UN_TCP_ACK), UN_TCP_SYN);
    the->tcb = un_stack_conn_find(&world.it.stack, conn);
    the->own_port = the->tcb->local_port;
    struct un_seg answer = {.flags = UN_TCP_SYN | UN_TCP_ACK | (the->how & WITH_ECN ? UN_TCP_ECE : 0), .seq = 99,
                            .ack = world.answer.seq + 1};
    send(the, &answer, &the->syn);
}

/* ---- afterwards ---- */

/* RFC 7323 section 5.2: R1. One that lacks its timestamp is taken. */
static bool may_be_taken(const struct case_ *the, const struct options *options)
{
    const uint8_t *timestamp = find_timestamp(options);
    if (!(the->tcb->flags & UN_TCB_TIMESTAMP))
        return true;
    return !timestamp || (int32_t)(un_get32(timestamp) - the->tcb->ts_recent) >= 0;
}

/* The next in order, acknowledging part of what is in flight. */
static void send_next(const struct case_ *the, struct script *script)
{
    struct un_tcb *tcb = the->tcb;
    struct options options = take_options(script);
    uint32_t flight = tcb->snd_nxt - tcb->snd_una;
    struct un_seg seg = {.flags = UN_TCP_ACK, .seq = tcb->rcv_nxt, .length = script_8(script),
                         .ack = tcb->snd_una + (flight ? script_16(script) % (flight + 1) : 0)};
    bool is_taken = may_be_taken(the, &options);
    uint32_t before = tcb->rcv_nxt, length = seg.length;
    send(the, &seg, &options);
    CHECK_EQ(tcb->state, UN_TCP_ESTABLISHED);
    CHECK_EQ(tcb->rcv_nxt - before, is_taken ? length : 0);
    uint8_t bytes[UINT8_MAX];
    int64_t got = un_stack_read(&world.it.stack, un_stack_handle(&world.it.stack, tcb), bytes, sizeof bytes);
    CHECK(is_taken && length > 0 ? got == length : got < 0);
    if (script_8(script) & 1)
        world_wait(200 * UN_MS_NS);
}

static void write_something(const struct case_ *the)
{
    static const uint8_t zeros[WRITTEN];
    write_bytes(&world.it, un_stack_handle(&world.it.stack, the->tcb), zeros, sizeof zeros);
    world_settle();
}

void options_run(const uint8_t *bytes, size_t length)
{
    struct script script = {bytes, bytes + length};
    if (length < 2 || length > OPTIONS_SCRIPT_MAX)
        return;
    world_open(script_8(&script), bytes, length);
    struct case_ the = {.how = script_8(&script)};
    the.peer = world_attacker(the.how & OVER_IPV6);
    the.own = world_own(the.how & OVER_IPV6);
    the.syn = take_options(&script);
    if (the.how & BY_US)
        open(&the);
    else
        be_opened(&the);
    CHECK(the.tcb && the.tcb->state == UN_TCP_ESTABLISHED);
    check_agreement(&the);
    write_something(&the);
    for (int i = 0; i < SEGMENTS_MAX && script_goes_on(&script); i++)
        send_next(&the, &script);
    world_close();
}

/* See capture_sockets.h.
 *
 * The engine sees no packets of the kernel's TCP, only what passes between it and a socket. Of that packets are made,
 * IP and TCP without a link, so that filters and analysers can be used as with others. A connection begins with three
 * packets; a read or a write is one, or several when it is larger than IP allows; its ends are a FIN or a reset. A
 * sequence number is how many bytes have passed before, so it goes on in the middle of a connection, and jumps where
 * records were lost. An acknowledgement says what had passed the other way when it was written, not what the peer has.
 *
 * How much a socket takes is known after the call, so a record is written after it. An engine that is killed in between
 * leaves out its last read or write, which no counter has.
 *
 * A unix socket has no addresses: the server is 127.0.0.1 with the number of its listener + 1 as port, the client
 * 127.0.0.1 with a port that its slot decides. */
#include "engine/capture_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/capture.h"
#include "wire/checksum.h"
#include "wire/packet.h"
#include "wire/seg.h"

#define PAYLOAD_MAX 65280u /* of one packet: with headers less than 65,536 */
#define WINDOW UINT16_MAX
#define WINDOW_SCALE 14u /* a window of 1 GiB, as nothing is known of the real ones */
#define HOP_LIMIT 64u
#define FIRST_PORT 1024u /* of clients of unix sockets */
#define CHECKSUM_OFFSET 16u

enum ends { PEER_ENDED = 1 << 0, WE_ENDED = 1 << 1, IS_OVER = 1 << 2 };

/* One packet. */
struct saying {
    uint32_t slot;
    bool came;
    uint8_t flags;     /* enum un_tcp_flag */
    uint32_t ahead;    /* bytes that passed before in the same call */
    enum un_drop drop;
};

static struct un_capture_flow *flow_of(struct un_engine *engine, uint32_t slot)
{
    return &engine->capture->sockets.flows[slot];
}

/* The connection that is in change; UN_NONE: there is none. */
static uint32_t slot_of(const struct un_engine *engine)
{
    return engine->own->busy.slot - 1;
}

/* ---- packets ---- */

/* What passed one way, as the number of the next byte: a SYN and a FIN have one, too. */
static uint32_t next_number(struct un_engine *engine, uint32_t slot, bool came)
{
    const struct un_conn *conn = un_slot(engine, slot);
    const struct un_capture_flow *flow = flow_of(engine, slot);
    if (came)
        return 1 + (uint32_t)un_load(&conn->bytes_in) + flow->discarded + !!(flow->ends & PEER_ENDED);
    return 1 + (uint32_t)un_load(&conn->bytes_out) + !!(flow->ends & WE_ENDED);
}

static struct un_ip ip_of(const struct un_endpoint *endpoint)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    if (endpoint->family == UN_FAMILY_IPV6)
        return un_ip_from_v6(endpoint->ip);
    return un_ip_from_v4(endpoint->family == UN_FAMILY_IPV4 ? endpoint->ip : loopback);
}

/* A peer that is gone already may have no family. */
static bool is_tcp(const struct un_conn *conn)
{
    return conn->local.family == conn->peer.family &&
           (conn->peer.family == UN_FAMILY_IPV4 || conn->peer.family == UN_FAMILY_IPV6);
}

static struct un_seg segment_of(struct un_engine *engine, const struct saying *what, uint32_t length)
{
    const struct un_conn *conn = un_slot(engine, what->slot);
    uint16_t peer = is_tcp(conn) ? conn->peer.port : (uint16_t)(FIRST_PORT + what->slot % (UINT16_MAX - FIRST_PORT));
    uint16_t ours = is_tcp(conn) ? conn->local.port : (uint16_t)(engine->works[what->slot].listener + 1);
    bool is_first = what->flags & UN_TCP_SYN;
    return (struct un_seg){
        .seq = is_first ? 0 : next_number(engine, what->slot, what->came) + what->ahead,
        .ack = what->flags & UN_TCP_ACK ? next_number(engine, what->slot, !what->came) : 0,
        .length = length,
        .wnd = WINDOW,
        .flags = what->flags,
        .options = is_first ? UN_SEG_WSCALE : 0,
        .wscale = WINDOW_SCALE,
        .source_port = what->came ? peer : ours,
        .destination_port = what->came ? ours : peer,
    };
}

/* pieces[0] becomes the headers, which are written to `header`; the payload stands behind it. */
static uint32_t compose(struct un_engine *engine, const struct saying *what, uint8_t *header, struct iovec *pieces,
                        int count, uint32_t payload)
{
    static const struct un_endpoint nobody;
    const struct un_conn *conn = un_slot(engine, what->slot);
    struct un_ip peer = ip_of(is_tcp(conn) ? &conn->peer : &nobody);
    struct un_ip ours = ip_of(is_tcp(conn) ? &conn->local : &nobody);
    struct un_seg seg = segment_of(engine, what, payload);
    struct un_ip_header ip = {
        .source = what->came ? peer : ours,
        .destination = what->came ? ours : peer,
        .protocol = UN_PROTOCOL_TCP,
        .hop_limit = HOP_LIMIT,
        .dont_fragment = true,
        .payload_length = un_seg_header_length(&seg) + payload,
    };
    uint32_t network = un_ip_emit(header, &ip);
    uint32_t length = network + un_seg_emit(&seg, header + network);
    pieces[0] = (struct iovec){header, length};
    uint64_t sum = un_sum_pseudo(&ip.source, &ip.destination, UN_PROTOCOL_TCP, ip.payload_length) +
                   un_sum_pieces(pieces, count, network, ip.payload_length);
    uint16_t field = un_checksum(sum);
    memcpy(header + network + CHECKSUM_OFFSET, &field, sizeof field);
    return length + payload;
}

/* The payload is pieces[1] and what follows it. */
static void say(struct un_engine *engine, const struct saying *what, struct iovec *pieces, int count, uint32_t payload)
{
    struct un_capture_end *end = &engine->capture->end;
    uint8_t header[UN_IPV6_BYTES + UN_TCP_HEADER_MAX];
    uint32_t length = compose(engine, what, header, pieces, count, payload);
    if (!un_capture_wants(end, pieces, count, length) || (end->drops_only && !what->drop))
        return;
    struct un_captured *record = un_capture_write(end, what->came ? UN_CAPTURED_IN : 0, pieces, count, length);
    un_capture_keep(end, record);
    if (!record)
        return;
    record->time_ns = un_engine_now_ns(engine);
    record->conn = un_load(&un_slot(engine, what->slot)->id);
    record->drops = what->drop ? UINT64_C(1) << what->drop : 0;
    un_capture_publish(end);
}

static void say_flags(struct un_engine *engine, uint32_t slot, bool came, uint8_t flags)
{
    struct iovec pieces[1];
    say(engine, &(struct saying){.slot = slot, .came = came, .flags = flags}, pieces, 1, 0);
}

/* The first `length` bytes of the pieces, in as many packets as that takes. */
static void say_bytes(struct un_engine *engine, struct saying what, const struct iovec *given, uint32_t length)
{
    struct iovec pieces[1 + UN_IOV_MAX];
    size_t begun = 0; /* bytes of *given that were said */
    while (what.ahead < length) {
        uint32_t payload = 0;
        int count = 1;
        while (payload < PAYLOAD_MAX && what.ahead + payload < length && count <= UN_IOV_MAX) {
            size_t part = given->iov_len - begun, most = length - what.ahead - payload;
            part = part < most ? part : most;
            part = part < PAYLOAD_MAX - payload ? part : PAYLOAD_MAX - payload;
            pieces[count++] = (struct iovec){(uint8_t *)given->iov_base + begun, part};
            payload += (uint32_t)part;
            begun += part;
            if (begun == given->iov_len) {
                begun = 0;
                given++;
            }
        }
        say(engine, &what, pieces, count, payload);
        what.ahead += payload;
    }
}

/* Once for each side. */
static void say_end(struct un_engine *engine, uint32_t slot, bool came)
{
    uint32_t end = came ? PEER_ENDED : WE_ENDED;
    if (flow_of(engine, slot)->ends & (end | IS_OVER))
        return;
    say_flags(engine, slot, came, UN_TCP_FIN | UN_TCP_ACK);
    flow_of(engine, slot)->ends |= end;
}

static void say_reset(struct un_engine *engine, uint32_t slot, bool came)
{
    if (flow_of(engine, slot)->ends & IS_OVER)
        return;
    say_flags(engine, slot, came, UN_TCP_RST | UN_TCP_ACK);
    flow_of(engine, slot)->ends |= IS_OVER;
}

void un_capture_opened(struct un_engine *engine, uint32_t slot)
{
    if (!engine->capture->sockets.inner)
        return;
    *flow_of(engine, slot) = (struct un_capture_flow){0, 0};
    say_flags(engine, slot, true, UN_TCP_SYN);
    say_flags(engine, slot, false, UN_TCP_SYN | UN_TCP_ACK);
    say_flags(engine, slot, true, UN_TCP_ACK);
}

/* ---- the transport ---- */

static void received(struct un_engine *engine, void *bytes, ssize_t status)
{
    uint32_t slot = slot_of(engine);
    if (slot == UN_NONE)
        return;
    if (status > 0) {
        bool is_discarded = un_slot(engine, slot)->state != UN_CONN_OPEN;
        struct saying what = {.slot = slot, .came = true, .flags = UN_TCP_PSH | UN_TCP_ACK};
        what.drop = is_discarded ? UN_DROP_tcp_after_close : UN_DROP_NONE;
        say_bytes(engine, what, &(struct iovec){bytes, (size_t)status}, (uint32_t)status);
        flow_of(engine, slot)->discarded += is_discarded ? (uint32_t)status : 0;
    } else if (status == 0) {
        say_end(engine, slot, true);
    } else if (status == -ECONNRESET) {
        say_reset(engine, slot, true);
    }
}

static ssize_t capture_receive(struct un_engine *engine, int handle, void *bytes, size_t length)
{
    ssize_t status = engine->capture->sockets.inner->receive(engine, handle, bytes, length);
    received(engine, bytes, status);
    return status;
}

static ssize_t capture_receive_parted(struct un_engine *engine, int handle, void *bytes, size_t length, bool *parted)
{
    ssize_t status = engine->capture->sockets.inner->receive_parted(engine, handle, bytes, length, parted);
    received(engine, bytes, status);
    return status;
}

static void sent(struct un_engine *engine, const struct iovec *pieces, ssize_t status)
{
    uint32_t slot = slot_of(engine);
    if (slot == UN_NONE)
        return;
    if (status > 0)
        say_bytes(engine, (struct saying){.slot = slot, .flags = UN_TCP_PSH | UN_TCP_ACK}, pieces, (uint32_t)status);
    else if (status == -ECONNRESET || status == -EPIPE)
        say_reset(engine, slot, true);
}

static ssize_t capture_send(struct un_engine *engine, uint32_t port, int handle, const struct iovec *pieces, int count,
                            uint64_t *lent)
{
    ssize_t status = engine->capture->sockets.inner->send(engine, port, handle, pieces, count, lent);
    sent(engine, pieces, status);
    return status;
}

static ssize_t capture_send_parted(struct un_engine *engine, int handle, const struct iovec *pieces, int count)
{
    ssize_t status = engine->capture->sockets.inner->send_parted(engine, handle, pieces, count);
    sent(engine, pieces, status);
    return status;
}

static int capture_send_eof(struct un_engine *engine, int handle)
{
    int status = engine->capture->sockets.inner->send_eof(engine, handle);
    if (slot_of(engine) != UN_NONE && status == 0)
        say_end(engine, slot_of(engine), false);
    return status;
}

static void capture_close(struct un_engine *engine, int handle, bool reset, bool fin_sent)
{
    if (handle >= 0 && slot_of(engine) != UN_NONE) {
        if (reset)
            say_reset(engine, slot_of(engine), false);
        else
            say_end(engine, slot_of(engine), false);
    }
    engine->capture->sockets.inner->close(engine, handle, reset, fin_sent);
}

/* Ends that came before the capture. */
static void read_ends(struct un_engine *engine, struct un_capture_flow *flows)
{
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        if (!un_is_alive(un_slot(engine, slot)))
            continue;
        flows[slot].ends |= un_slot(engine, slot)->flags & UN_CONN_EOF_IN ? PEER_ENDED : 0;
        flows[slot].ends |= engine->works[slot].flags & UN_WORK_FIN_SENT ? WE_ENDED : 0;
    }
}

int un_capture_sockets_begin(struct un_engine *engine, struct un_capture *capture)
{
    struct un_capture_sockets *sockets = &capture->sockets;
    sockets->flows = calloc(engine->config->conn_max, sizeof *sockets->flows);
    if (!sockets->flows)
        return -ENOMEM;
    read_ends(engine, sockets->flows);
    sockets->inner = engine->transport;
    sockets->outer = *sockets->inner;
    sockets->outer.receive = capture_receive;
    sockets->outer.receive_parted = capture_receive_parted;
    sockets->outer.send = capture_send;
    sockets->outer.send_parted = capture_send_parted;
    sockets->outer.send_eof = capture_send_eof;
    sockets->outer.close = capture_close;
    engine->transport = &sockets->outer;
    return 0;
}

void un_capture_sockets_end(struct un_engine *engine, struct un_capture *capture)
{
    engine->transport = capture->sockets.inner;
    free(capture->sockets.flows);
}

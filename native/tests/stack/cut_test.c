/* Adoption (P10): a stack whose process is killed at any instruction goes on in another one.
 *
 * A child is single-stepped through a turn full of packets, or through calls of the application. Each state of the
 * arena that it leaves after an instruction is copied to another address and adopted there: everything must be
 * accounted for, no connection may have ended for it, a bystander must have noticed nothing, and what was received must
 * be what was sent. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "far.h"
#include "stack/arena.h"
#include "wire/udp.h"

enum { CLIENTS = 4, BYSTANDER = 3, PORT = 80, UDP_PORT = 53 };

struct client {
    uint64_t conn;
    uint32_t seq; /* next of ours */
    uint32_t ack;
    uint32_t tsecr;
};

static struct far far;
static struct client clients[CLIENTS + 1]; /* the last one comes in a turn that is cut */
static const struct un_ip any;
static void *copy;
static uint8_t *last;
static struct un_device *spare;
static uint32_t judged;
static uint32_t owed; /* to the bystander */
static uint64_t ending; /* the one connection that comes to its end, whoever dies */

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 13 + at / 256);
}

/* ---- the stack that will be cut ---- */

static struct un_stack_config small_config(void)
{
    struct un_stack_config config = net_config();
    config.conn_max = 8;
    config.frames = 64;
    config.frame_bytes = 256;
    config.sents = 32;
    config.neighbours = 8;
    config.udp_max = 2;
    config.time_wait_max = 2;
    config.accept_router_advertisements = false;
    return config;
}

/* The arena moves to memory that parent and child share. */
static void share_arena(void)
{
    struct host *host = &far.host;
    void *shared = mmap(NULL, host->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    memcpy(shared, host->arena, host->bytes);
    free(host->arena);
    host->arena = shared;
    struct un_stack_place place = {.arena = shared, .arena_bytes = host->bytes};
    CHECK_EQ(un_stack_adopt(&host->stack, &place), 0);
    un_stack_set_device(&host->stack, host->device);
    CHECK_EQ(posix_memalign(&copy, 4096, host->bytes), 0);
    last = malloc(host->bytes);
}

static struct un_seg segment(uint32_t client, uint8_t flags, uint32_t length)
{
    const struct client *from = &clients[client];
    return (struct un_seg){.seq = from->seq, .ack = from->ack, .flags = flags, .length = length, .wnd = 8000,
                           .options = UN_SEG_TIMESTAMP, .tsval = 1000, .tsecr = from->tsecr,
                           .source_port = (uint16_t)(5000 + client), .destination_port = PORT};
}

/* Queue a segment with the pattern at this offset of the stream as payload; no turn. */
static void queue_segment(const struct un_seg *seg, uint32_t stream_offset)
{
    uint8_t frame[400];
    static const uint8_t from[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 9};
    uint32_t header = un_seg_header_length(seg);
    struct un_ip_header ip = {.source = far.ip4,
                              .destination = far.stack4,
                              .protocol = UN_PROTOCOL_TCP,
                              .hop_limit = 64,
                              .payload_length = header + seg->length};
    uint32_t at = un_eth_emit(frame, far.to, from, UN_ETHER_IPV4);
    at += un_ip_emit(frame + at, &ip);
    un_seg_emit(seg, frame + at);
    for (uint32_t i = 0; i < seg->length; i++)
        frame[at + header + i] = pattern(stream_offset + i);
    CHECK_EQ(un_hand_input(far.host.device, frame, at + header + seg->length, UN_RX_CHECKSUM_GOOD, 0), 0);
}

static void queue_datagram(uint32_t length)
{
    uint8_t frame[400] = {0};
    static const uint8_t from[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 9};
    struct un_udp udp = {.source_port = 9, .destination_port = UDP_PORT, .length = length};
    struct un_ip_header ip = {.source = far.ip4,
                              .destination = far.stack4,
                              .protocol = UN_PROTOCOL_UDP,
                              .hop_limit = 64,
                              .payload_length = 8 + length};
    uint32_t at = un_eth_emit(frame, far.to, from, UN_ETHER_IPV4);
    at += un_ip_emit(frame + at, &ip);
    un_udp_emit(&udp, frame + at);
    CHECK_EQ(un_hand_input(far.host.device, frame, at + 8 + length, UN_RX_CHECKSUM_GOOD, 0), 0);
}

static void connect_client(uint32_t client)
{
    clients[client] = (struct client){.seq = 100};
    struct un_seg syn = segment(client, UN_TCP_SYN, 0);
    syn.options |= UN_SEG_MSS | UN_SEG_SACK_PERMITTED;
    syn.mss = 180;
    queue_segment(&syn, 0);
    far_turn(&far);
    struct un_seg answer = far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK);
    clients[client] = (struct client){.seq = 101, .ack = answer.seq + 1, .tsecr = answer.tsval};
    struct un_seg ack = segment(client, UN_TCP_ACK, 0);
    queue_segment(&ack, 0);
    far_turn(&far);
    clients[client].conn = expect_event(&far.host, UN_TCP_EVENT_ACCEPTED).conn;
    CHECK_EQ(un_stack_accept(&far.host.stack, clients[client].conn, client), 0);
}

/* Clients 0 to 2 will be busy; the bystander has sent 50 bytes that nobody has read, and is owed 30. */
static void open(void)
{
    struct far_packet packet;
    struct un_stack_config config = small_config();
    struct un_device_capabilities capabilities = net_capabilities(1);
    capabilities.mtu = 240;
    far_open(&far, &config);
    far.host.device->capabilities.mtu = 240;
    CHECK_EQ(un_stack_listen(&far.host.stack, &any, PORT, 3, 0), 0);
    CHECK_EQ(un_stack_udp_open(&far.host.stack, &(struct un_stack_peer){.port = UDP_PORT}, 0), 0);
    far_introduce(&far);
    for (uint32_t client = 0; client < CLIENTS; client++)
        connect_client(client);
    struct un_seg data = segment(BYSTANDER, UN_TCP_ACK, 50);
    queue_segment(&data, 0);
    clients[BYSTANDER].seq += 50;
    CHECK_EQ(write_bytes(&far.host, clients[BYSTANDER].conn, "a line that will be owed to him", 30), 30);
    owed = 30;
    far_turn(&far);
    expect_event(&far.host, UN_TCP_EVENT_READABLE);
    while (far_take(&far, &packet))
        ;
    spare = un_hand_open(&capabilities, 256);
    share_arena();
    far_turn(&far); /* adoption gave every connection a turn, the bystander too */
}

static void close_all(void)
{
    struct un_pool_memory nothing = {.frame_bytes = 64};
    struct un_pool pool = {.own = &nothing};
    un_device_attach(far.host.device, &pool); /* what it holds, the child has taken from it */
    spare->operations->close(spare);
    far.host.device->operations->close(far.host.device);
    munmap(far.host.arena, far.host.bytes);
    free(copy);
    free(last);
}

/* ---- one adopted copy ---- */

static void check_stream(struct un_stack *stack, uint64_t conn, uint32_t from)
{
    uint8_t bytes[2048];
    int64_t length = un_stack_read(stack, conn, bytes, sizeof bytes);
    for (int64_t i = 0; i < length; i++)
        CHECK_EQ(bytes[i], pattern(from + (uint32_t)i));
}

static void check_bystander(struct un_stack *stack)
{
    const struct un_tcb *tcb = un_stack_conn_find(stack, clients[BYSTANDER].conn);
    CHECK(tcb != NULL);
    CHECK_EQ(tcb->state, UN_TCP_ESTABLISHED);
    CHECK_EQ(tcb->user, BYSTANDER);
    CHECK_EQ(tcb->rcv_bytes, 50);
    CHECK_EQ(tcb->rcv_nxt, clients[BYSTANDER].seq);
    CHECK_EQ(tcb->snd_bytes, owed);
    CHECK_EQ(tcb->snd_una, clients[BYSTANDER].ack);
    check_stream(stack, clients[BYSTANDER].conn, 0);
}

static void check(struct un_stack *stack)
{
    const char *wrong = un_stack_check(stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

static uint32_t read_from[CLIENTS]; /* what the application of a client has read already */

static void judge(void)
{
    uint8_t bytes[512];
    struct un_stack stack;
    struct un_stack_event event;
    judged++;
    memcpy(copy, last, far.host.bytes);
    struct un_stack_place place = {.arena = copy, .arena_bytes = far.host.bytes};
    CHECK_EQ(un_stack_adopt(&stack, &place), 0);
    check(&stack);
    CHECK_EQ(un_stack_frames_elsewhere(&stack), 0);
    un_stack_set_device(&stack, spare);
    while (un_stack_next_event(&stack, &event))
        CHECK(!(event.events & UN_TCP_EVENT_CLOSED) || event.conn == ending);
    check_bystander(&stack);
    for (uint32_t client = 0; client < BYSTANDER; client++)
        if (un_stack_conn_find(&stack, clients[client].conn) && !read_from[client])
            check_stream(&stack, clients[client].conn, 0);
    for (uint64_t now_ns = far.now_ns; now_ns < far.now_ns + 3 * NET_SECOND; now_ns += NET_SECOND) {
        while (un_stack_poll(&stack, now_ns) > 0)
            while (un_hand_output(spare, bytes, sizeof bytes, NULL) > 0)
                ;
        check(&stack);
    }
}

/* ---- stepping ---- */

static _Noreturn void be_cut(void (*act)(void))
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    act();
    raise(SIGSTOP);
    _exit(1);
}

static bool step(pid_t child)
{
    int status;
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

static void cut_everywhere(void (*act)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        be_cut(act);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL), 0);
    judged = 0;
    while (step(child)) {
        if (memcmp(last, far.host.arena, far.host.bytes) == 0)
            continue;
        memcpy(last, far.host.arena, far.host.bytes);
        judge();
    }
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(judged > 100);
    printf("# %u states\n", judged);
}

/* ---- what is cut ---- */

static void take_a_turn(void)
{
    un_stack_poll(&far.host.stack, far.now_ns);
}

static void queue_turn(void)
{
    struct un_seg seg = segment(0, UN_TCP_ACK, 100); /* in order, out of order, the gap */
    queue_segment(&seg, 0);
    seg.seq += 250;
    queue_segment(&seg, 250);
    seg.seq -= 150;
    seg.length = 150;
    queue_segment(&seg, 100);
    seg = segment(1, UN_TCP_ACK | UN_TCP_FIN, 20);
    queue_segment(&seg, 0);
    seg = segment(2, UN_TCP_RST, 0);
    queue_segment(&seg, 0);
    seg = segment(CLIENTS, UN_TCP_SYN, 0);
    seg.seq = 7;
    queue_segment(&seg, 0);
    queue_datagram(30);
}

static void a_turn_full_of_packets(void)
{
    open();
    queue_turn();
    memcpy(last, far.host.arena, far.host.bytes);
    uint64_t packets = far.host.stack.counters->rx_packets;
    ending = clients[2].conn;
    cut_everywhere(take_a_turn);
    CHECK_EQ(far.host.stack.counters->rx_packets, packets + 7);
    CHECK_EQ(un_stack_conn_find(&far.host.stack, clients[0].conn)->rcv_bytes, 350);
    CHECK_EQ(un_stack_conn_find(&far.host.stack, clients[1].conn)->state, UN_TCP_CLOSE_WAIT);
    CHECK_EQ(un_stack_conn_find(&far.host.stack, clients[2].conn)->state, UN_TCP_DEAD);
    CHECK_EQ(far.host.stack.own->conn_count, CLIENTS + 1);
    CHECK_EQ(far.host.stack.endpoints[0].frames, 1);
    close_all();
}

static void call_everything(void)
{
    struct un_stack *stack = &far.host.stack;
    struct un_stack_peer peer = {far.ip4, 9}, from;
    uint8_t bytes[300] = {0};
    uint64_t conn;
    write_bytes(&far.host, clients[0].conn, bytes, sizeof bytes);
    un_stack_consume(stack, clients[0].conn, 120);
    un_stack_shutdown(stack, clients[1].conn);
    un_stack_close(stack, clients[1].conn);
    un_stack_abort(stack, clients[2].conn);
    un_stack_connect(stack, &peer, NULL, 0, &conn);
    un_stack_udp_receive(stack, 0, &from, bytes, sizeof bytes);
    un_stack_udp_send(stack, 0, &peer, bytes, 20);
    un_stack_poll(stack, far.now_ns);
}

static void calls_of_the_application(void)
{
    struct un_stack_event event;
    open();
    queue_turn();
    take_a_turn();
    while (un_stack_next_event(&far.host.stack, &event))
        ;
    read_from[0] = 1;
    ending = clients[2].conn;
    memcpy(last, far.host.arena, far.host.bytes);
    cut_everywhere(call_everything);
    read_from[0] = 0;
    close_all();
}

static void wait_for_timers(void)
{
    un_stack_poll(&far.host.stack, far.now_ns + 2 * NET_SECOND);
    un_stack_poll(&far.host.stack, far.now_ns + 6 * NET_SECOND);
}

/* A timer of the bystander would be his own, so he gets what he is owed. */
static void pay_bystander(void)
{
    clients[BYSTANDER].ack += owed;
    owed = 0;
    struct un_seg ack = segment(BYSTANDER, UN_TCP_ACK, 0);
    queue_segment(&ack, 0);
    far_turn(&far);
}

static void turns_in_which_timers_fire(void)
{
    open();
    pay_bystander();
    CHECK_EQ(write_bytes(&far.host, clients[0].conn, "to be lost", 10), 10);
    struct un_stack_peer nobody = {ip4(10, 0, 0, 200), 9};
    CHECK_EQ(un_stack_connect(&far.host.stack, &nobody, NULL, 0, &ending), 0);
    un_stack_udp_send(&far.host.stack, 0, &nobody, "x", 1);
    take_a_turn();
    memcpy(last, far.host.arena, far.host.bytes);
    cut_everywhere(wait_for_timers);
    close_all();
}

int main(void)
{
    RUN(a_turn_full_of_packets);
    RUN(calls_of_the_application);
    RUN(turns_in_which_timers_fire);
    return 0;
}

/* Listeners: backlog, cookies, what is refused, TIME-WAIT reuse. */
#include <errno.h>
#include <string.h>

#include "far.h"
#include "stack/arena.h"

static struct far far;
static struct un_stack_config config;
static const struct un_ip any;

enum { BACKLOG = 8 };

static int open(void)
{
    config = net_config();
    far_open(&far, &config);
    far_introduce(&far);
    return un_stack_listen(&far.host.stack, &any, 80, BACKLOG, 5);
}

static struct un_seg segment(uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack)
{
    return (struct un_seg){.seq = seq, .ack = ack, .flags = flags, .source_port = port, .destination_port = 80,
                           .wnd = 8000};
}

static void send(struct un_seg seg)
{
    far_send_tcp(&far, &far.ip4, &far.stack4, &seg);
}

static struct un_seg send_syn(uint16_t port, uint32_t seq)
{
    struct un_seg syn = segment(port, UN_TCP_SYN, seq, 0);
    syn.options = UN_SEG_MSS | UN_SEG_TIMESTAMP | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED;
    syn.mss = 1400;
    syn.wscale = 5;
    syn.tsval = 1000;
    send(syn);
    struct un_seg answer = far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK);
    CHECK_EQ(answer.ack, seq + 1);
    CHECK_EQ(answer.destination_port, port);
    return answer;
}

static void send_ack(uint16_t port, uint32_t seq, const struct un_seg *answer)
{
    struct un_seg ack = segment(port, UN_TCP_ACK, seq + 1, answer->seq + 1);
    ack.options = UN_SEG_TIMESTAMP;
    ack.tsval = 1001;
    ack.tsecr = answer->tsval;
    send(ack);
}

static struct un_seg reset_of(uint16_t port, uint32_t seq)
{
    return segment(port, UN_TCP_RST, seq + 1, 0);
}

static void a_flood_is_answered_with_cookies_and_holds_nothing(void)
{
    struct un_seg answers[10 * BACKLOG];
    CHECK_EQ(open(), 0);
    for (uint16_t i = 0; i < 10 * BACKLOG; i++)
        answers[i] = send_syn((uint16_t)(2000 + i), 100 + i);
    CHECK_EQ(far.host.stack.own->conn_count, BACKLOG);
    CHECK_EQ(far.host.stack.own->listeners[0].half_open, BACKLOG);
    expect_no_event(&far.host);
    send_ack(2000 + 50, 150, &answers[50]);
    struct un_stack_event event = expect_event(&far.host, UN_TCP_EVENT_ACCEPTED);
    CHECK_EQ(event.user, 5);
    CHECK_EQ(event.listener, 0);
    const struct un_tcb *tcb = un_stack_conn_find(&far.host.stack, event.conn);
    CHECK_EQ(tcb->snd_wscale, 5);
    CHECK(tcb->flags & UN_TCB_SACK);
    CHECK_EQ(tcb->state, UN_TCP_ESTABLISHED);
    answers[51].seq += 1; /* somebody guesses */
    send_ack(2000 + 51, 151, &answers[51]);
    far_expect_tcp(&far, UN_TCP_RST);
    CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_tcp_bad_cookie], 1);
    CHECK_EQ(un_stack_abort(&far.host.stack, event.conn), 0);
    far_turn(&far);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    CHECK_EQ(far.host.stack.own->conn_count, 0);
    far_close(&far);
}

static void cookies_do_not_overflow_the_application(void)
{
    struct un_seg answers[4 * BACKLOG];
    CHECK_EQ(open(), 0);
    for (uint16_t i = 0; i < 4 * BACKLOG; i++)
        answers[i] = send_syn((uint16_t)(2000 + i), 100);
    for (uint16_t i = 0; i < 4 * BACKLOG; i++)
        send_ack((uint16_t)(2000 + i), 100, &answers[i]);
    CHECK(far.host.stack.own->listeners[0].ready <= 2 * BACKLOG);
    CHECK(far.host.stack.tcp.drops[UN_DROP_tcp_backlog] >= 2 * BACKLOG);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

static void cookies_are_only_believed_for_a_while(void)
{
    struct un_seg last;
    CHECK_EQ(open(), 0);
    for (uint16_t i = 0; i <= BACKLOG; i++)
        last = send_syn((uint16_t)(2000 + i), 100);
    far_wait(&far, 200 * NET_SECOND);
    struct far_packet packet;
    while (far_take(&far, &packet))
        ;
    CHECK_EQ(far.host.stack.own->conn_count, 0); /* the half-open ones gave up */
    far_introduce(&far);
    send_ack(2000 + BACKLOG, 100, &last);
    far_expect_tcp(&far, UN_TCP_RST);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

static void a_reset_frees_the_half_open(void)
{
    CHECK_EQ(open(), 0);
    send_syn(2000, 100);
    CHECK_EQ(far.host.stack.own->listeners[0].half_open, 1);
    send(reset_of(2000, 100));
    CHECK_EQ(far.host.stack.own->listeners[0].half_open, 0);
    CHECK_EQ(far.host.stack.own->conn_count, 0);
    far_expect_nothing(&far);
    far_close(&far);
}

static void a_listener_ignores_what_begins_nothing(void)
{
    CHECK_EQ(open(), 0);
    send(segment(2000, UN_TCP_RST, 5, 0));
    send(segment(2000, UN_TCP_FIN, 5, 0));
    send(segment(2000, 0, 5, 0));
    send(segment(2000, UN_TCP_SYN | UN_TCP_FIN, 5, 0));
    send(segment(2000, UN_TCP_SYN | UN_TCP_RST, 5, 0));
    far_expect_nothing(&far);
    send(segment(2000, UN_TCP_ACK, 5, 9));
    CHECK_EQ(far_expect_tcp(&far, UN_TCP_RST).seq, 9);
    send(segment(2000, UN_TCP_SYN | UN_TCP_ACK, 5, 9));
    CHECK_EQ(far_expect_tcp(&far, UN_TCP_RST).seq, 9);
    CHECK_EQ(far.host.stack.own->conn_count, 0);
    far_close(&far);
}

static void a_paused_listener_is_silent(void)
{
    CHECK_EQ(open(), 0);
    CHECK_EQ(un_stack_pause_listener(&far.host.stack, 0, true), 0);
    send(segment(2000, UN_TCP_SYN, 5, 0));
    far_expect_nothing(&far);
    CHECK_EQ(un_stack_pause_listener(&far.host.stack, 0, false), 0);
    send_syn(2000, 5);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

static void the_most_specific_listener_is_asked(void)
{
    const struct un_ip any4 = ip4(0, 0, 0, 0);
    CHECK_EQ(open(), 0);
    CHECK_EQ(un_stack_listen(&far.host.stack, &any, 80, 8, 0), -EADDRINUSE);
    CHECK_EQ(un_stack_listen(&far.host.stack, &any4, 80, 8, 6), 1);
    CHECK_EQ(un_stack_listen(&far.host.stack, &far.stack6, 80, 8, 7), 2);
    CHECK_EQ(un_stack_listen(&far.host.stack, &far.ip4, 80, 8, 7), -EADDRNOTAVAIL);
    send_syn(2000, 5);
    struct un_seg syn = segment(2001, UN_TCP_SYN, 5, 0);
    far_send_tcp(&far, &far.ip6, &far.stack6, &syn);
    far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK);
    CHECK_EQ(far.host.stack.own->listeners[0].half_open, 0);
    CHECK_EQ(far.host.stack.own->listeners[1].half_open, 1);
    CHECK_EQ(far.host.stack.own->listeners[2].half_open, 1);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 1), 0);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 2), 0);
    far_turn(&far);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    send_syn(2003, 5); /* falls to :: */
    CHECK_EQ(far.host.stack.own->listeners[0].half_open, 1);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

static void initial_sequence_numbers_follow_the_clock_and_the_key(void)
{
    CHECK_EQ(open(), 0);
    uint32_t first = send_syn(2000, 5).seq, other = send_syn(2001, 5).seq;
    send(reset_of(2000, 5));
    CHECK(other - first > 100 && first - other > 100);
    far.now_ns += 4000000;
    uint32_t later = send_syn(2000, 5).seq;
    CHECK_EQ(later - first, 1000); /* 4 microseconds each */
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

/* A connection that we end first, to the end; `end`: close or shutdown. */
static uint32_t enter_time_wait(int (*end)(struct un_stack *, uint64_t))
{
    struct un_seg answer = send_syn(2000, 100);
    send_ack(2000, 100, &answer);
    uint64_t conn = expect_event(&far.host, UN_TCP_EVENT_ACCEPTED).conn;
    CHECK_EQ(un_stack_accept(&far.host.stack, conn, 0), 0);
    CHECK_EQ(end(&far.host.stack, conn), 0);
    far_turn(&far);
    struct un_seg fin = far_expect_tcp(&far, UN_TCP_FIN | UN_TCP_ACK);
    struct un_seg last = segment(2000, UN_TCP_FIN | UN_TCP_ACK, 101, fin.seq + 1);
    last.options = UN_SEG_TIMESTAMP;
    last.tsval = 1002;
    last.tsecr = fin.tsval;
    send(last);
    far_expect_tcp(&far, UN_TCP_ACK);
    CHECK_EQ(far.host.stack.tcp.tcbs[(uint32_t)conn].state, UN_TCP_TIME_WAIT);
    return fin.seq;
}

static void a_newer_syn_replaces_a_connection_in_time_wait(void)
{
    CHECK_EQ(open(), 0);
    uint32_t used = enter_time_wait(un_stack_close);
    struct un_seg syn = segment(2000, UN_TCP_SYN, 50, 0); /* an old one: its timestamp is */
    syn.options = UN_SEG_TIMESTAMP;
    syn.tsval = 900;
    send(syn);
    far_expect_tcp(&far, UN_TCP_ACK);
    syn.tsval = 2000;
    send(syn);
    struct un_seg answer = far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK);
    CHECK((int32_t)(answer.seq - used) > 0);
    CHECK_EQ(far.host.stack.own->conn_count, 1);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

static void a_newer_syn_replaces_a_connection_in_time_wait_that_the_application_holds(void)
{
    CHECK_EQ(open(), 0);
    enter_time_wait(un_stack_shutdown);
    uint64_t old = expect_event(&far.host, UN_TCP_EVENT_EOF | UN_TCP_EVENT_CLOSED).conn;
    send(segment(2000, UN_TCP_SYN, 5000, 0));
    send(segment(2000, UN_TCP_ACK, 5001, far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK).seq + 1));
    uint64_t conn = expect_event(&far.host, UN_TCP_EVENT_ACCEPTED).conn;
    CHECK(conn != old);
    far_expect_nothing(&far);
    CHECK_EQ(un_stack_close(&far.host.stack, old), 0);
    CHECK_EQ(un_stack_abort(&far.host.stack, conn), 0);
    far_turn(&far);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    far_close(&far);
}

static uint64_t next_of(uint32_t listener)
{
    return un_stack_accept_next(&far.host.stack, listener);
}

static uint64_t arrive(uint16_t port)
{
    struct un_seg answer = send_syn(port, 100);
    send_ack(port, 100, &answer);
    return expect_event(&far.host, UN_TCP_EVENT_ACCEPTED).conn;
}

static void who_waits_longest_is_accepted_next_and_anybody_may_leave_the_queue(void)
{
    enum { COUNT = 6 };
    uint64_t conns[COUNT];
    CHECK_EQ(open(), 0);
    CHECK_EQ(next_of(0), 0);
    for (uint16_t i = 0; i < COUNT; i++)
        conns[i] = arrive((uint16_t)(2000 + i));
    CHECK_EQ(next_of(0), conns[0]);
    CHECK_EQ(un_stack_abort(&far.host.stack, conns[1]), 0); /* out of the middle */
    far_turn(&far);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    CHECK_EQ(un_stack_accept(&far.host.stack, conns[5], 0), 0); /* the last */
    CHECK_EQ(next_of(0), conns[0]);
    CHECK_EQ(un_stack_accept(&far.host.stack, conns[0], 0), 0); /* the first */
    CHECK_EQ(next_of(0), conns[2]);
    uint64_t late = arrive(2009);
    send(segment(2002, UN_TCP_RST, 101, 0)); /* it is over, and waits to say so */
    CHECK_EQ(next_of(0), conns[2]);
    CHECK_EQ(un_stack_check(&far.host.stack), NULL);
    host_move(&far.host);
    CHECK_EQ(un_stack_check(&far.host.stack), NULL);
    conns[1] = late; /* it has that slot, and after a move the order is that of slots */
    for (uint32_t i = 1; i < 5; i++) {
        CHECK_EQ(next_of(0), conns[i]);
        CHECK_EQ(un_stack_accept(&far.host.stack, conns[i], 0), 0);
    }
    CHECK_EQ(next_of(0), 0);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    CHECK_EQ(next_of(0), 0);
    CHECK_EQ(next_of(UN_STACK_LISTENERS_MAX), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_EQ(un_stack_abort(&far.host.stack, conns[i]), 0);
    far_turn(&far);
    far_close(&far);
}

static void listeners_have_queues_of_their_own(void)
{
    CHECK_EQ(open(), 0);
    CHECK_EQ(un_stack_listen(&far.host.stack, &any, 81, BACKLOG, 6), 1);
    uint64_t first = arrive(2000);
    struct un_seg syn = segment(2001, UN_TCP_SYN, 7, 0);
    syn.destination_port = 81;
    send(syn);
    struct un_seg ack = segment(2001, UN_TCP_ACK, 8, far_expect_tcp(&far, UN_TCP_SYN | UN_TCP_ACK).seq + 1);
    ack.destination_port = 81;
    send(ack);
    uint64_t second = expect_event(&far.host, UN_TCP_EVENT_ACCEPTED).conn;
    CHECK_EQ(next_of(0), first);
    CHECK_EQ(next_of(1), second);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    CHECK_EQ(next_of(1), second);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 1), 0);
    far_turn(&far);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
    far_close(&far);
}

static void a_full_table_answers_with_cookies(void)
{
    CHECK_EQ(open(), 0);
    far.host.stack.own->listeners[0].backlog = 1000;
    for (uint16_t i = 0; i < 100; i++)
        send_syn((uint16_t)(2000 + i), 100);
    CHECK_EQ(far.host.stack.own->conn_count, 64);
    CHECK_EQ(un_stack_unlisten(&far.host.stack, 0), 0);
    far_close(&far);
}

int main(void)
{
    RUN(a_flood_is_answered_with_cookies_and_holds_nothing);
    RUN(cookies_do_not_overflow_the_application);
    RUN(cookies_are_only_believed_for_a_while);
    RUN(a_reset_frees_the_half_open);
    RUN(a_listener_ignores_what_begins_nothing);
    RUN(a_paused_listener_is_silent);
    RUN(the_most_specific_listener_is_asked);
    RUN(initial_sequence_numbers_follow_the_clock_and_the_key);
    RUN(a_newer_syn_replaces_a_connection_in_time_wait);
    RUN(a_newer_syn_replaces_a_connection_in_time_wait_that_the_application_holds);
    RUN(who_waits_longest_is_accepted_next_and_anybody_may_leave_the_queue);
    RUN(listeners_have_queues_of_their_own);
    RUN(a_full_table_answers_with_cookies);
    return 0;
}

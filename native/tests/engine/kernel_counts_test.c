/* What the kernel says of a socket agrees with what was done to it, whatever that was. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine/kernel_counts.h"

enum { SEEDS = 60, ACTS = 200, BYTES_MAX = 40000 };

static int ours, theirs; /* ours was accepted */
static struct un_counts truth;
static bool is_reset, have_sent_fin, error_was_told;

static void connect_pair(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(theirs, (struct sockaddr *)&address, length), 0);
    ours = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(ours >= 0);
    CHECK_EQ(setsockopt(ours, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    close(listener);
}

static void receive(uint64_t *random)
{
    static uint8_t bytes[BYTES_MAX];
    ssize_t got = recv(ours, bytes, 1 + random_below(random, sizeof bytes), 0);
    truth.taken += got > 0 ? (uint64_t)got : 0;
    error_was_told |= got < 0 && errno == ECONNRESET;
}

static void give(uint64_t *random)
{
    static uint8_t bytes[BYTES_MAX];
    if (have_sent_fin)
        return;
    ssize_t sent = send(ours, bytes, 1 + random_below(random, sizeof bytes), MSG_NOSIGNAL);
    truth.given += sent > 0 ? (uint64_t)sent : 0;
    error_was_told |= sent < 0 && errno != EAGAIN;
}

static void peer_acts(uint64_t *random)
{
    static uint8_t bytes[BYTES_MAX];
    uint32_t length = 1 + random_below(random, sizeof bytes);
    if (theirs < 0)
        return;
    switch (random_below(random, 8)) {
    case 0: case 1: case 2: send(theirs, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL); break;
    case 3: case 4: case 5: recv(theirs, bytes, length, MSG_DONTWAIT); break;
    default: send(theirs, bytes, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL); break;
    }
}

/* How it ends, if it does: once in a script. */
static void end(uint64_t *random)
{
    struct linger at_once = {.l_onoff = 1};
    switch (random_below(random, 4)) {
    case 0:
        shutdown(theirs, SHUT_WR);
        break;
    case 1:
        have_sent_fin = true;
        shutdown(ours, SHUT_WR);
        break;
    case 2:
        setsockopt(theirs, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(theirs);
        theirs = -1;
        is_reset = true;
        break;
    default: break;
    }
}

/* Of one that is over nobody asks how much it took. */
static void check(void)
{
    struct un_counts counts;
    int status = un_kernel_counts(ours, &truth, &counts);
    CHECK_EQ(status, error_was_told ? -ECONNRESET : 0);
    if (status < 0)
        return;
    CHECK_EQ(counts.taken, truth.taken);
    CHECK_EQ(counts.given, truth.given);
}

static void play(uint64_t seed)
{
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    truth = (struct un_counts){0};
    is_reset = have_sent_fin = error_was_told = false;
    connect_pair();
    uint32_t last = random_below(&random, ACTS);
    for (uint32_t i = 0; i < ACTS; i++) {
        if (i == last)
            end(&random);
        switch (random_below(&random, 3)) {
        case 0: receive(&random); break;
        case 1: give(&random); break;
        default: peer_acts(&random); break;
        }
        check();
    }
    CHECK(is_reset || !error_was_told);
    close(ours);
    if (theirs >= 0)
        close(theirs);
}

static void counts_agree_with_what_was_done(void)
{
    for_each_seed(SEEDS, play);
}

/* Both ways to be over: the peer's end after ours is in the count, and is no reset. */
static void an_end_is_no_reset(void)
{
    struct un_counts counts;
    uint8_t bytes[100] = {0};
    truth = (struct un_counts){0};
    connect_pair();
    CHECK_EQ(shutdown(ours, SHUT_WR), 0);
    CHECK_EQ(send(theirs, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_EQ(shutdown(theirs, SHUT_WR), 0);
    CHECK_EQ(un_kernel_counts(ours, &truth, &counts), 0);
    CHECK_EQ(counts.taken, 0);
    CHECK_EQ(recv(ours, bytes, sizeof bytes, 0), sizeof bytes); /* not noted */
    CHECK_EQ(un_kernel_counts(ours, &truth, &counts), 0);
    CHECK_EQ(counts.taken, sizeof bytes);
    close(ours);
    close(theirs);
}

/* A FIN before the reset is in the count, and no byte that was taken. */
static void a_reset_behind_an_end_invents_no_byte(void)
{
    struct un_counts counts;
    struct linger at_once = {.l_onoff = 1};
    truth = (struct un_counts){0};
    connect_pair();
    CHECK_EQ(shutdown(theirs, SHUT_WR), 0);
    CHECK_EQ(setsockopt(theirs, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(close(theirs), 0);
    CHECK_EQ(un_kernel_counts(ours, &truth, &counts), -ECONNRESET);
    close(ours);
}

static void what_is_no_tcp_says_so(void)
{
    struct un_counts counts;
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_EQ(un_kernel_counts(ends[0], &truth, &counts), -EOPNOTSUPP);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    RUN(counts_agree_with_what_was_done);
    RUN(an_end_is_no_reset);
    RUN(a_reset_behind_an_end_invents_no_byte);
    RUN(what_is_no_tcp_says_so);
    return 0;
}

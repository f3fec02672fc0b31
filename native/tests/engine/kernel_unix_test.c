/* Unix sockets as transport: what a call moved stands where a successor finds it (engine/kernel_unix.h). */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine/state.h"
#include "engine/transport.h"

static struct un_private own;
static struct un_work work;
static struct un_engine engine = {.own = &own, .works = &work};
static int ours, theirs;
static char bytes[64];

static void begin(void)
{
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ours = pair[0];
    theirs = pair[1];
    memset(&own, 0, sizeof own);
    memset(&work, 0, sizeof work);
    own.busy.slot = 1;
}

static ssize_t receive(void)
{
    bool parted;
    return un_kernel_transport.receive_parted(&engine, ours, bytes, sizeof bytes, &parted);
}

static void what_was_received_is_told(void)
{
    begin();
    CHECK_EQ(send(theirs, "0123456789", 10, 0), 10);
    CHECK_EQ(receive(), 10);
    CHECK_EQ(own.busy.told.msg_len, 10);
    close(ours);
    close(theirs);
}

static void what_was_sent_is_told(void)
{
    begin();
    struct iovec pieces[] = {{"01234", 5}, {"567", 3}};
    CHECK_EQ(un_kernel_transport.send_parted(&engine, ours, pieces, 2), 8);
    CHECK_EQ(own.busy.told.msg_len, 8);
    CHECK_EQ(recv(theirs, bytes, sizeof bytes, 0), 8);
    CHECK(memcmp(bytes, "01234567", 8) == 0);
    close(ours);
    close(theirs);
}

/* The peer leaves bytes unread: its reset is told first, once, and then what it had sent before. */
static void a_reset_is_noted_before_the_bytes_that_it_follows(void)
{
    begin();
    CHECK_EQ(send(ours, "unread", 6, 0), 6);
    CHECK_EQ(send(theirs, "last", 4, 0), 4);
    close(theirs);
    CHECK_EQ(receive(), 4);
    CHECK(work.flags & UN_WORK_FAILED);
    CHECK(own.busy.work.flags & UN_WORK_FAILED); /* also if the change is undone */
    CHECK_EQ(receive(), 0);
    close(ours);
}

int main(void)
{
    RUN(what_was_received_is_told);
    RUN(what_was_sent_is_told);
    RUN(a_reset_is_noted_before_the_bytes_that_it_follows);
    return 0;
}

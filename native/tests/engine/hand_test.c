/* Descriptors of requests (hand.h): wherever an engine is killed that got one or gives one up, the next engine has
 * closed it, unless it is noted; and it closes no other one. */
#include "engine/hand.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "engine/capture.h"
#include "engine/control.h"
#include "engine/look.h"
#include "engine/requests.h"
#include "server.h"
#include "step.h"

static const uint64_t bytes = sizeof(struct un_capture_ring) + UN_CAPTURE_DATA_MIN;
static int supervisor_fd;
static struct stat sent; /* the file that is sent */
static uint64_t others;  /* descriptors that are open beside it */

static int make_file(void)
{
    int fd = memfd_create("sent", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
    struct un_capture_ring *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(ring != MAP_FAILED);
    ring->data_bytes = UN_CAPTURE_DATA_MIN;
    ring->snaplen = 100;
    ring->magic = UN_CAPTURE_MAGIC;
    munmap(ring, bytes);
    CHECK_EQ(fstat(fd, &sent), 0);
    return fd;
}

static void start(void)
{
    int ends[2];
    server_open();
    step_forget();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    server.setup.control_fd = server.engine->setup.control_fd = ends[0];
    supervisor_fd = ends[1];
    others = step_descriptors();
}

/* The descriptor that is sent is not the supervisor's any more. */
static void ask(const struct un_control *request, int fd)
{
    union {
        struct cmsghdr part;
        char bytes[CMSG_SPACE(sizeof(int))];
    } room = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec piece = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        memcpy(CMSG_DATA(&room.part), &fd, sizeof fd);
        message.msg_control = &room;
        message.msg_controllen = sizeof room;
    }
    CHECK_EQ(sendmsg(supervisor_fd, &message, 0), sizeof *request);
    close(fd);
}

static bool is_sent(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_dev == sent.st_dev && status.st_ino == sent.st_ino;
}

static uint32_t times_open(void)
{
    uint32_t times = 0;
    for (int fd = 0; fd < 64; fd++)
        times += is_sent(fd);
    return times;
}

static int find_sent(void)
{
    int fd = 0;
    while (!is_sent(fd))
        fd++;
    return fd;
}

static bool is_captured(const struct un_engine *engine)
{
    CHECK(!engine->own->capturing.fd || is_sent((int)engine->own->capturing.fd - 1));
    return engine->own->capturing.fd != 0;
}

static void check_takeover(void)
{
    bool is_noted = server.engine->own->capturing.fd != 0;
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    CHECK_EQ(engine->own->hand.fd, 0);
    CHECK_EQ(is_captured(engine), is_noted);
    CHECK_EQ(times_open(), is_noted);
    un_capture_stop(engine);
    CHECK_EQ(times_open(), 0);
    CHECK_EQ(step_descriptors() & others, others);
}

/* What is in hand may be closed twice, so no other one may get its number. */
static void judge(void)
{
    int fd = server.engine->own->hand.fd;
    if (fd)
        CHECK_EQ(step_descriptors() & ~others & ~(UINT64_C(1) << fd), 0);
    step_judge(check_takeover);
}

static void judge_some(void)
{
    static uint32_t states;
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        judge();
}

static void read_requests(void)
{
    un_requests_read(server.engine);
}

static void read_the_end_of_a_capture(void)
{
    un_capture_resume(server.engine);
    CHECK(server.engine->capture != NULL);
    un_requests_read(server.engine);
    CHECK(server.engine->capture == NULL);
}

/* All is left to one more engine, in the end. */
static void step(void (*act)(void), void (*look)(void))
{
    int control_fd = server.setup.control_fd;
    server_step_sharing(act, look);
    close(control_fd);
    close(supervisor_fd);
}

static void killed_while_a_capture_begins(void)
{
    start();
    ask(&(struct un_control){.type = UN_CONTROL_CAPTURE, .serial = 7, .arg = {bytes}}, make_file());
    step(read_requests, judge);
    CHECK_EQ(times_open(), 1);
    close(find_sent());
}

static void killed_while_a_capture_ends(void)
{
    start();
    server.engine->own->capturing = (struct un_capturing){.fd = (uint32_t)make_file() + 1, .serial = 7, .bytes = bytes};
    ask(&(struct un_control){.type = UN_CONTROL_CAPTURE}, -1);
    step(read_the_end_of_a_capture, judge);
    CHECK_EQ(times_open(), 0);
}

static void killed_over_a_file_that_nobody_keeps(void)
{
    static const uint32_t types[] = {UN_CONTROL_LOOK, UN_CONTROL_LISTEN, UN_CONTROL_DRAIN};
    for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
        start();
        ask(&(struct un_control){.type = types[i], .port = UN_LOOK_ADDRESSES}, make_file());
        step(read_requests, judge);
        CHECK_EQ(times_open(), 0);
    }
}

static void take_over(void)
{
    CHECK(un_engine_start(&server.setup) != NULL);
}

static void killed_while_the_next_one_closes_it(void)
{
    start();
    server.engine->own->hand.fd = make_file();
    step(take_over, judge_some);
    CHECK_EQ(times_open(), 0);
}

int main(void)
{
    RUN(killed_while_a_capture_begins);
    RUN(killed_while_a_capture_ends);
    RUN(killed_over_a_file_that_nobody_keeps);
    RUN(killed_while_the_next_one_closes_it);
    return 0;
}

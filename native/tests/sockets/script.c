/* See script.h. Ours goes first; what it says is what the kernel has to say. */
#include "script.h"

#include <stdarg.h>
#include <time.h>

#define LINES_MAX 96
#define LINE_BYTES 96
#define WAIT_S 5 /* the kernel works in the background: as long as this it may take to come to what ours said */

struct run run;

static struct {
    const char *script;
    bool compares;
    int lines;
    char log[LINES_MAX][LINE_BYTES];
} record;

/* ---- what is compared ---- */

__attribute__((format(printf, 2, 3))) static bool matches(bool is_last_try, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(record.lines < LINES_MAX);
    if (!record.compares)
        memcpy(record.log[record.lines], line, sizeof line);
    bool is_same = strcmp(record.log[record.lines], line) == 0;
    if (!is_same && is_last_try) {
        fprintf(stderr, "%s, %s-triggered, step %d: ours: %s\n%s: %s\n", record.script, run.trigger ? "edge" : "level",
                record.lines + 1, record.log[record.lines], run.calls->name, line);
        check_failed(__FILE__, __LINE__, "the same as the kernel's sockets");
    }
    record.lines += is_same;
    return is_same;
}

static uint64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

void result_of(const char *what, int64_t result)
{
    if (result < 0)
        matches(true, "%s: %s", what, strerrorname_np((int)-result));
    else
        matches(true, "%s: %lld", what, (long long)result);
}

/* What epoll says of a descriptor: in the background of the kernel more may follow what it says at first. */
void look(const char *who, int side, int fd)
{
    uint64_t end_s = now_s() + WAIT_S;
    run.calls->settle();
    for (;;) {
        uint32_t ready = run.calls->ready(side, fd);
        if (matches(now_s() >= end_s, "%s:%s%s%s%s%s", who, ready & IN ? " in" : "", ready & OUT ? " out" : "",
                    ready & RDHUP ? " rdhup" : "", ready & HUP ? " hup" : "", ready & ERR ? " err" : ""))
            return;
    }
}

/* ---- words of the scripts ---- */

void look_client(void)
{
    look("client", CLIENT, run.client);
}

void look_server(void)
{
    look("server", SERVER, run.server);
}

void watch(int side, int fd, uint32_t events)
{
    CHECK_EQ(run.calls->control(side, USN_EPOLL_CTL_ADD, fd, events | run.trigger), 0);
}

void set_up_listener(void)
{
    run.listener = run.calls->socket(SERVER, SOCK_STREAM);
    CHECK(run.listener >= 0);
    CHECK_EQ(run.calls->bind_any(SERVER, run.listener), 0);
    CHECK_EQ(run.calls->listen(SERVER, run.listener), 0);
    run.port = run.calls->port(SERVER, run.listener);
    CHECK(run.port > 0);
}

/* Without delay: when acknowledgments come is not what is compared. */
static void send_at_once(int side, int fd)
{
    int one = 1;
    CHECK_EQ(run.calls->set(side, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), 0);
}

void set_up_client(void)
{
    run.client = run.calls->socket(CLIENT, SOCK_STREAM);
    CHECK(run.client >= 0);
    send_at_once(CLIENT, run.client);
}

/* Both ends, not watched yet. */
void set_up_pair(void)
{
    set_up_listener();
    set_up_client();
    CHECK_EQ(run.calls->connect(CLIENT, run.client, run.port), -EINPROGRESS);
    run.calls->settle();
    run.server = run.calls->accept(SERVER, run.listener);
    CHECK(run.server >= 0);
    send_at_once(SERVER, run.server);
    CHECK_EQ(run.calls->close(SERVER, run.listener), 0);
}

/* Both ends, watched, and what they are ready for at the beginning has been told. */
void set_up_watched(void)
{
    set_up_pair();
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    watch(SERVER, run.server, IN | OUT | RDHUP);
    look_client();
    look_server();
}

void write_to(int side, int fd, const char *text)
{
    CALL(write, side, fd, text, strlen(text));
    run.calls->settle();
}

void read_some(int side, int fd, size_t most)
{
    char bytes[64];
    CALL(read, side, fd, bytes, most);
}

void reset(int side, int fd)
{
    struct linger linger = {.l_onoff = 1};
    CHECK_EQ(run.calls->set(side, fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CALL(close, side, fd);
    run.calls->settle();
}

/* A port where nobody listens. */
uint16_t closed_port(void)
{
    set_up_listener();
    CHECK_EQ(run.calls->close(SERVER, run.listener), 0);
    return run.port;
}

void fill(int side, int fd)
{
    static char bytes[16384];
    int64_t status;
    do {
        status = run.calls->write(side, fd, bytes, sizeof bytes);
        run.calls->settle();
    } while (status > 0);
    result_of("filled", status);
}

/* The kernel's buffers move in the background: as long as bytes come. */
void drain(int side, int fd)
{
    static char bytes[16384];
    uint64_t end_s = now_s() + WAIT_S;
    int64_t total = 0;
    while (now_s() < end_s) {
        int64_t status = run.calls->read(side, fd, bytes, sizeof bytes);
        if (status == -EAGAIN && total > 0 && run.calls->ready(CLIENT, run.client))
            break;
        total += status > 0 ? status : 0;
        run.calls->settle();
    }
    result_of("drained", total > 0);
}

/* ---- a run ---- */

static void play(const struct calls *calls, bool compares, void (*script)(void))
{
    run.calls = calls;
    record.compares = compares;
    record.lines = 0;
    calls->open();
    script();
    calls->close_all();
}

static void compare(const char *name, void (*script)(void), uint32_t trigger)
{
    record.script = name;
    run.trigger = trigger;
    play(&our_calls, false, script);
    int lines = record.lines;
    play(&kernel_calls, true, script);
    CHECK_EQ(record.lines, lines);
    CHECK(lines > 0);
}

void scripts_compare(const struct script *scripts, size_t count)
{
    check_test = "oracle";
    for (size_t i = 0; i < count; i++) {
        compare(scripts[i].name, scripts[i].play, 0);
        compare(scripts[i].name, scripts[i].play, ET);
        printf("ok %s\n", scripts[i].name);
    }
}

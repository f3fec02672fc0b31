/* examples/c/echo.c over TAP: the kernel's sockets are its clients. The program is the argument. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../check.h"
#include "../device/tap_link.h"

#define ADDRESS "10.0.0.1/24"
#define PORT 7000
enum { WAIT_MS = 10000, CLIENTS = 40 };

static const char *program;
static pid_t server;

static pid_t start(const char *interface, const char *address, const char *port, FILE *errors)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (errors)
            dup2(fileno(errors), STDERR_FILENO);
        execl(program, program, interface, address, port, (char *)NULL);
        _exit(127);
    }
    return child;
}

static int end_of(pid_t child)
{
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void wait_for_interface(void)
{
    for (int waited = 0; if_nametoindex(TAP_NAME) == 0; waited++) {
        CHECK(waited < WAIT_MS);
        poll(NULL, 0, 1);
    }
}

static void open_server(void)
{
    server = start(TAP_NAME, ADDRESS, "7000", NULL);
    wait_for_interface();
    tap_ip("address add 10.0.0.2/24 dev " TAP_NAME);
    tap_ip("link set " TAP_NAME " up");
}

static void close_server(void)
{
    CHECK_EQ(kill(server, SIGTERM), 0);
    CHECK_EQ(end_of(server), 0);
    CHECK_EQ(if_nametoindex(TAP_NAME), 0);
}

/* The server may not listen yet. */
static int connect_once(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = inet_addr("10.0.0.1")};
    struct timeval wait = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait), 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    CHECK(errno == ECONNREFUSED || errno == EHOSTUNREACH);
    close(fd);
    return -1;
}

static int connect_client(void)
{
    int fd;
    for (int tries = 0; (fd = connect_once()) < 0; tries++) {
        CHECK(tries < WAIT_MS);
        poll(NULL, 0, 1);
    }
    return fd;
}

static void expect_bytes(int fd, const char *bytes, size_t length)
{
    char got[4096];
    size_t done = 0;
    while (done < length) {
        ssize_t part = recv(fd, got, sizeof got < length - done ? sizeof got : length - done, 0);
        CHECK(part > 0);
        CHECK(memcmp(got, bytes + done, (size_t)part) == 0);
        done += (size_t)part;
    }
}

static void many_clients(void)
{
    int fds[CLIENTS];
    char text[16];
    open_server();
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = connect_client();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++)
            CHECK_EQ(send(fds[i], text, (size_t)snprintf(text, sizeof text, "client %5d", i), 0), 12);
        for (int i = 0; i < CLIENTS; i++) {
            snprintf(text, sizeof text, "client %5d", i);
            expect_bytes(fds[i], text, 12);
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    close_server();
}

static char bulk[4 << 20];

static void *send_bulk(void *argument)
{
    int fd = (int)(intptr_t)argument;
    for (size_t done = 0; done < sizeof bulk;) {
        ssize_t part = send(fd, bulk + done, sizeof bulk - done, 0);
        CHECK(part > 0);
        done += (size_t)part;
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void much_data_and_the_end_of_it(void)
{
    char byte;
    pthread_t sender;
    open_server();
    for (size_t i = 0; i < sizeof bulk; i++)
        bulk[i] = (char)(i * 2654435761u >> 24);
    int fd = connect_client();
    CHECK_EQ(pthread_create(&sender, NULL, send_bulk, (void *)(intptr_t)fd), 0);
    expect_bytes(fd, bulk, sizeof bulk);
    CHECK_EQ(recv(fd, &byte, 1, 0), 0); /* our end is its end */
    CHECK_EQ(pthread_join(sender, NULL), 0);
    close(fd);
    close_server();
}

static void mistakes_are_said(void)
{
    char text[256] = "";
    FILE *errors = tmpfile();
    CHECK(errors != NULL);
    CHECK_EQ(end_of(start("no/name", ADDRESS, "7000", errors)), 1);
    CHECK_EQ(end_of(start(TAP_NAME, "10.0.0.1/99", "7000", errors)), 1);
    CHECK_EQ(end_of(start(TAP_NAME, ADDRESS, NULL, errors)), 2);
    rewind(errors);
    CHECK(fgets(text, sizeof text, errors) && strstr(text, "echo: no/name: "));
    CHECK(fgets(text, sizeof text, errors) && strstr(text, "echo: 10.0.0.1/99: "));
    CHECK(fgets(text, sizeof text, errors) && strstr(text, "usage: "));
    fclose(errors);
}

int main(int count, char **arguments)
{
    CHECK_EQ(count, 2);
    program = arguments[1];
    tap_enter_namespace();
    RUN(many_clients);
    RUN(much_data_and_the_end_of_it);
    RUN(mistakes_are_said);
    return 0;
}

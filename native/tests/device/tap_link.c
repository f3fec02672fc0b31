/* See tap_link.h. */
#include "tap_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../check.h"

#define SKIPPED 77 /* meson's word for it */

static _Noreturn void skip(const char *reason)
{
    const char *ci = getenv("CI");
    bool must_run = ci && strcmp(ci, "true") == 0;
    fprintf(stderr, "%s: %s\n", must_run ? "not skipped under CI" : "skipped", reason);
    exit(must_run ? 1 : SKIPPED);
}

void tap_enter_namespace(void)
{
    const char *why;
    if (unshare(CLONE_NEWNET) < 0)
        skip("a network namespace of its own needs CAP_SYS_ADMIN");
    int fd = un_tap_queue(TAP_NAME, false, &why);
    if (fd < 0)
        skip(why);
    close(fd);
}

void tap_ip(const char *arguments)
{
    char command[256];
    snprintf(command, sizeof command, "PATH=$PATH:/usr/sbin:/sbin ip %s", arguments);
    CHECK_EQ(system(command), 0);
}

static void set_sysctl(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* a kernel without IPv6 */
    CHECK(write(fd, value, strlen(value)) > 0);
    close(fd);
}

static struct un_device *open_queue(bool multi_queue, uint16_t queue, uint16_t queues)
{
    const char *why = NULL;
    int fd = un_tap_queue(TAP_NAME, multi_queue, &why);
    if (fd < 0)
        fprintf(stderr, "%s\n", why);
    CHECK(fd >= 0);
    struct un_device *device = un_tap_open(fd, queue, queues, &why);
    if (!device)
        fprintf(stderr, "%s\n", why);
    CHECK(device != NULL);
    return device;
}

struct un_device *tap_open(bool multi_queue)
{
    set_sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    struct un_device *device = open_queue(multi_queue, 0, 1);
    tap_ip("link set " TAP_NAME " up");
    return device;
}

struct un_device *tap_join(uint16_t queue, uint16_t queues)
{
    return open_queue(true, queue, queues);
}

void tap_enable_ipv6(void)
{
    set_sysctl("/proc/sys/net/ipv6/conf/" TAP_NAME "/disable_ipv6", "0");
}

int tap_far_open(uint16_t ether_type, bool headers)
{
    int one = 1, bytes = 16 << 20;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ether_type),
                                  .sll_ifindex = (int)if_nametoindex(TAP_NAME)};
    CHECK(fd >= 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), 0);
    if (headers)
        CHECK_EQ(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one), 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void tap_far_attach(struct fixture_link *link, int fd)
{
    link->far = (void *)(intptr_t)fd;
}

void tap_far_close(struct fixture_link *link)
{
    close((int)(intptr_t)link->far);
    CHECK_EQ(if_nametoindex(TAP_NAME), 0); /* gone with its last queue */
}

bool tap_far_send(struct fixture_link *link, const uint8_t *bytes, uint32_t length)
{
    return send((int)(intptr_t)link->far, bytes, length, 0) == (ssize_t)length;
}

uint32_t tap_far_receive(struct fixture_link *link, uint8_t *bytes, uint32_t most)
{
    ssize_t got = recv((int)(intptr_t)link->far, bytes, most, 0);
    CHECK(got >= 0 || errno == EAGAIN);
    return got < 0 ? 0 : (uint32_t)got;
}

void tap_kernel_mac(uint8_t *mac)
{
    struct ifreq request = {.ifr_name = TAP_NAME};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(ioctl(fd, SIOCGIFHWADDR, &request), 0);
    close(fd);
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
}

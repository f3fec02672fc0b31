/* usnet-echo-lwip: the lwIP peer of the comparison over TAP. An echo server on lwIP's raw API in one thread, on a queue
 * of a TAP interface without offloads, which lwIP does not know: the kernel cuts and sums at its end.
 *
 *   usnet-echo-lwip INTERFACE
 * ADDRESS/PREFIX PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <lwip/timeouts.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/inherited.h"
#include "lwip_echo.h"
#include "lwip_wire.h"

enum { FRAMES = 16384 };

static struct un_device *open_tap(const char *name, const char **why)
{
    int fd = un_tap_queue(name, false, why);
    struct un_device *device = fd < 0 ? NULL : un_tap_open(fd, 0, 1, why);
    if (device && ioctl(device->fd, TUNSETOFFLOAD, 0) < 0) {
        *why = "its offloads cannot be switched off";
        return NULL;
    }
    return device;
}

/* "A.B.C.D/N"; false when it is not. */
static bool parse_address(const char *text, uint32_t *address, uint32_t *prefix)
{
    char host[INET_ADDRSTRLEN] = "";
    char end;
    struct in_addr parsed;
    if (sscanf(text, "%15[0-9.]/%" SCNu32 "%c", host, prefix, &end) != 2 || inet_pton(AF_INET, host, &parsed) != 1)
        return false;
    *address = ntohl(parsed.s_addr);
    return *prefix > 0 && *prefix <= 31;
}

static void serve(struct lwip_wire *wire, int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    for (;;) {
        uint32_t count = lwip_wire_poll(wire);
        sys_check_timeouts();
        if (count == 0)
            poll(&readable, 1, (int)sys_timeouts_sleeptime());
    }
}

int main(int argc, char **argv)
{
    uint32_t address, prefix;
    const char *why = "";
    un_inherited_reset();
    if (argc != 4 || !parse_address(argv[2], &address, &prefix)) {
        fprintf(stderr, "usage: usnet-echo-lwip INTERFACE ADDRESS/PREFIX PORT\n");
        return 2;
    }
    struct un_device *device = open_tap(argv[1], &why);
    struct lwip_wire *wire = device ? lwip_wire_open(device, FRAMES, address, prefix) : NULL;
    if (!wire || !lwip_echo_open((u16_t)atoi(argv[3]))) {
        fprintf(stderr, "usnet-echo-lwip: %s: %s\n", argv[1], device ? strerror(ENOMEM) : why);
        return 3;
    }
    serve(wire, device->fd);
}

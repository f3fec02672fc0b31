/* usnet-echo-mirror-tap: what a TAP interface itself can carry (mirror.h).
 *
 *   usnet-echo-mirror-tap INTERFACE ADDRESS/PREFIX PORT
 *
 * The checksum of what a kernel sends here covers the pseudo-header alone (the rest is left to a card that there is
 * not); that is the same both ways, and so is the virtio header that says so: neither is touched. */
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/inherited.h"
#include "device/device.h"
#include "mirror.h"

enum { BATCH = 64, PACKET_BYTES = 2048, VIRTIO = sizeof(struct virtio_net_hdr) };

struct packet {
    ssize_t length; /* with the virtio header */
    uint8_t bytes[PACKET_BYTES];
};

static bool turn(const struct mirror *mirror, struct packet *packet)
{
    return packet->length > VIRTIO &&
           mirror_turn(mirror, packet->bytes + VIRTIO, (uint32_t)packet->length - VIRTIO);
}

/* Read what there is, then answer: as a server does that handles many messages in a turn. */
static void serve(int fd, const struct mirror *mirror)
{
    static struct packet packets[BATCH];
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    for (;;) {
        int count = 0;
        while (count < BATCH && (packets[count].length = read(fd, packets[count].bytes, PACKET_BYTES)) > 0)
            count++;
        if (count == 0)
            poll(&readable, 1, -1);
        for (int i = 0; i < count; i++)
            if (turn(mirror, &packets[i]) && write(fd, packets[i].bytes, (size_t)packets[i].length) < 0)
                perror("usnet-echo-mirror-tap: write");
    }
}

int main(int argc, char **argv)
{
    struct mirror mirror;
    const char *why = "it does not offload checksums";
    un_inherited_reset();
    mirror_parse(&mirror, argc, argv);
    int fd = un_tap_queue(mirror.interface, false, &why);
    if (fd < 0 || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM) < 0) {
        fprintf(stderr, "usnet-echo-mirror-tap: %s: %s\n", mirror.interface, why);
        return 3;
    }
    serve(fd, &mirror);
}

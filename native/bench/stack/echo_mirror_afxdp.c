/* usnet-echo-mirror-afxdp: what one queue of our AF_XDP device can carry (mirror.h), on an interface of one queue.
 *
 *   usnet-echo-mirror-afxdp INTERFACE ADDRESS/PREFIX PORT
 *
 * The device takes a batch, the batch is turned round, and flush sends it: the calls of a network process, without what
 * that does between them. The device makes no checksums, so they are made here. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../../bpf/usnet_xdp.h"
#include "base/inherited.h"
#include "device/device.h"
#include "mirror.h"
#include "usnet_bpf.h"

enum { BATCH = 64, FRAMES = 4096, FRAME_BYTES = 4096, MTU = 1500 };

static struct un_pool make_pool(void)
{
    struct un_pool pool = {
        .own = calloc(1, sizeof *pool.own),
        .frames = calloc(FRAMES, sizeof *pool.frames),
        .bytes = mmap(NULL, (size_t)FRAMES * FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
    };
    un_assert(pool.own && pool.frames && pool.bytes != MAP_FAILED);
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
    return pool;
}

/* A socket on the interface's queue, and the device over it; NULL and *why. */
static struct un_device *open_device(const struct mirror *mirror, const struct un_pool *pool, int *fd, const char **why)
{
    int memory = memfd_create("usnet-echo-mirror", MFD_CLOEXEC);
    struct un_afxdp_request request = {
        .interface = mirror->interface,
        .mtu = MTU,
        .frames = pool->bytes,
        .frame_count = FRAMES,
        .frame_bytes = FRAME_BYTES,
        .memory_fd = memory,
    };
    memcpy(request.mac, mirror_mac, sizeof mirror_mac);
    *fd = un_afxdp_socket(&request, why);
    return *fd < 0 ? NULL : un_afxdp_open(*fd, memory, 0, 1, why);
}

/* What is for the mirror goes to this socket, for as long as this process lives. */
static int redirect(const struct mirror *mirror, int fd, const char **why)
{
    struct usnet_bpf_program program;
    struct usnet_xdp_station station = {0};
    struct usnet_xdp_address address = {.bytes = {[10] = 0xff, [11] = 0xff}};
    uint32_t only = 0, owner = USNET_XDP_OWN;
    memcpy(station.mac, mirror_mac, sizeof mirror_mac);
    memcpy(address.bytes + 12, mirror->address, 4);
    int error = usnet_bpf_load(&program, false, why);
    if (error)
        return error;
    un_assert(usnet_bpf_set(program.station, &only, &station) == 0);
    un_assert(usnet_bpf_set(program.addresses, &address, &owner) == 0);
    un_assert(usnet_bpf_set(program.queues, &only, &fd) == 0);
    error = usnet_bpf_attach(program.program, mirror->interface, true, why);
    return error < 0 ? error : 0;
}

/* The piece to send of a packet that came; false: it is not answered. */
static bool turn(const struct mirror *mirror, const struct un_pool *pool, const struct un_rx *packet,
                 struct un_piece *piece)
{
    uint8_t *bytes = un_pool_bytes(pool, packet->frame) + pool->frames[packet->frame].offset;
    bool is_whole = pool->frames[packet->frame].next == UN_NONE;
    if (!is_whole || !mirror_turn(mirror, bytes, packet->length))
        return false;
    mirror_complete_checksum(bytes);
    *piece = (struct un_piece){bytes, packet->length, packet->frame};
    return true;
}

static void answer(struct un_device *device, const struct mirror *mirror, const struct un_rx *packets, uint32_t count)
{
    struct un_piece pieces[BATCH];
    struct un_tx answers[BATCH];
    uint32_t turned = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!turn(mirror, device->pool, &packets[i], &pieces[turned]))
            continue;
        answers[turned] = (struct un_tx){.pieces = &pieces[turned], .count = 1, .length = pieces[turned].length};
        turned++;
    }
    device->operations->submit(device, answers, device->operations->reserve(device, turned));
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop_chain(device->pool, packets[i].frame);
}

static void serve(struct un_device *device, const struct mirror *mirror)
{
    const struct un_device_operations *verbs = device->operations;
    struct pollfd readable = {.fd = device->fd, .events = POLLIN};
    struct un_rx packets[BATCH];
    for (;;) {
        uint32_t count = verbs->peek(device, packets, BATCH);
        verbs->release(device, count);
        answer(device, mirror, packets, count);
        verbs->flush(device);
        if (count == 0 && verbs->sleep(device))
            poll(&readable, 1, -1);
    }
}

int main(int argc, char **argv)
{
    struct mirror mirror;
    const char *why = "";
    int fd;
    un_inherited_reset();
    mirror_parse(&mirror, argc, argv);
    struct un_pool pool = make_pool();
    struct un_device *device = open_device(&mirror, &pool, &fd, &why);
    if (!device || redirect(&mirror, fd, &why) < 0) {
        fprintf(stderr, "usnet-echo-mirror-afxdp: %s: %s\n", mirror.interface, why);
        return 3;
    }
    un_device_attach(device, &pool);
    serve(device, &mirror);
}

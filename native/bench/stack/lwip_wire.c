/* See lwip_wire.h. */
#include "lwip_wire.h"

#include <lwip/init.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>
#include <netif/ethernet.h>
#include <lwip/etharp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { FRAME_BYTES = 2048, BATCH = 64 };

struct lwip_wire {
    struct netif netif;
    struct un_device *device;
    struct un_pool pool;
    struct lent *lent; /* one a frame */
};

/* A frame that lwIP has. */
struct lent {
    struct pbuf_custom pbuf; /* first */
    struct lwip_wire *wire;
};

static void give_back(struct pbuf *pbuf)
{
    struct lent *lent = (struct lent *)pbuf;
    un_pool_drop(&lent->wire->pool, (uint32_t)(lent - lent->wire->lent));
}

static err_t send_packet(struct netif *netif, struct pbuf *pbuf)
{
    struct lwip_wire *wire = netif->state;
    struct un_piece piece = {pbuf->payload, pbuf->len, UN_NONE};
    struct un_tx packet = {.pieces = &piece, .count = 1, .length = pbuf->len};
    un_assert(pbuf->next == NULL); /* LWIP_NETIF_TX_SINGLE_PBUF */
    if (wire->device->operations->reserve(wire->device, 1) == 0)
        return ERR_MEM;
    wire->device->operations->submit(wire->device, &packet, 1);
    return ERR_OK;
}

static err_t begin(struct netif *netif)
{
    struct lwip_wire *wire = netif->state;
    netif->name[0] = 'u';
    netif->name[1] = 'n';
    netif->mtu = wire->device->capabilities.mtu;
    netif->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(netif->hwaddr, wire->device->capabilities.mac, ETH_HWADDR_LEN);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->output = etharp_output;
    netif->linkoutput = send_packet;
    return ERR_OK;
}

static bool make_pool(struct lwip_wire *wire, uint32_t frames)
{
    struct un_pool *pool = &wire->pool;
    pool->own = calloc(1, sizeof *pool->own);
    pool->frames = calloc(frames, sizeof *pool->frames);
    pool->bytes = calloc(frames, FRAME_BYTES);
    wire->lent = calloc(frames, sizeof *wire->lent);
    if (!pool->own || !pool->frames || !pool->bytes || !wire->lent)
        return false;
    un_pool_format(pool, frames, FRAME_BYTES);
    for (uint32_t i = 0; i < frames; i++)
        wire->lent[i] = (struct lent){.pbuf.custom_free_function = give_back, .wire = wire};
    return true;
}

static void free_memory(struct lwip_wire *wire)
{
    free(wire->pool.own);
    free(wire->pool.frames);
    free(wire->pool.bytes);
    free(wire->lent);
    free(wire);
}

struct lwip_wire *lwip_wire_open(struct un_device *device, uint32_t frames, uint32_t address, uint32_t prefix)
{
    static bool is_begun;
    ip4_addr_t ip = {lwip_htonl(address)}, mask = {lwip_htonl(~(UINT32_MAX >> prefix))}, no_gateway = {0};
    struct lwip_wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return NULL;
    if (!make_pool(wire, frames)) {
        free_memory(wire);
        return NULL;
    }
    if (!is_begun)
        lwip_init();
    is_begun = true;
    wire->device = device;
    un_device_attach(device, &wire->pool);
    un_assert(netif_add(&wire->netif, &ip, &mask, &no_gateway, wire, begin, ethernet_input) != NULL);
    netif_set_default(&wire->netif);
    netif_set_up(&wire->netif);
    return wire;
}

static void input(struct lwip_wire *wire, uint32_t frame)
{
    const struct un_frame *record = &wire->pool.frames[frame];
    un_assert(record->next == UN_NONE);
    uint8_t *bytes = un_pool_bytes(&wire->pool, frame) + record->offset;
    struct pbuf *pbuf =
        pbuf_alloced_custom(PBUF_RAW, record->length, PBUF_REF, &wire->lent[frame].pbuf, bytes, FRAME_BYTES);
    if (wire->netif.input(pbuf, &wire->netif) != ERR_OK)
        pbuf_free(pbuf);
}

uint32_t lwip_wire_poll(struct lwip_wire *wire)
{
    const struct un_device_operations *operations = wire->device->operations;
    struct un_rx packets[BATCH];
    uint32_t count = operations->peek(wire->device, packets, BATCH);
    operations->release(wire->device, count);
    for (uint32_t i = 0; i < count; i++)
        input(wire, packets[i].frame);
    operations->flush(wire->device);
    return count;
}

void lwip_wire_close(struct lwip_wire *wire)
{
    netif_remove(&wire->netif);
    wire->device->operations->close(wire->device);
    free_memory(wire);
}

/* See netmap_host.h. */
#include "device/netmap_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ASK_EVERY 64u /* times: then it is asked as well; while its owner sleeps, poll asks */

struct un_netmap_host *un_netmap_host_open(int fd, int memory_fd)
{
    struct un_netmap_memory memory;
    struct un_netmap_host *host = calloc(1, sizeof *host);
    if (!host)
        return NULL;
    *host = (struct un_netmap_host){.fd = fd, .memory_fd = memory_fd};
    int error = un_netmap_recall(&memory, memory_fd);
    if (!error)
        error = un_netmap_map(&host->pair, fd, &memory);
    if (error) {
        free(host);
        errno = -error;
        return NULL;
    }
    return host;
}

void un_netmap_host_close(struct un_netmap_host *host)
{
    un_netmap_unmap(&host->pair);
    close(host->memory_fd);
    close(host->fd);
    free(host);
}

bool un_netmap_ask_host(struct un_netmap_host *host, bool must)
{
    if (must || ++host->looks % ASK_EVERY == 0)
        (void)ioctl(host->fd, UN_NETMAP_SYNC_RX, NULL); /* fails when the card's do, which tell */
    return un_netmap_ready(&host->pair.rx) > 0;
}

/* A slot of one ring into the next one of another; false: it is out of order. */
static bool copy_slot(const struct un_netmap_side *rx, const struct un_netmap_side *tx)
{
    uint32_t at = un_load(&tx->ring->head);
    const struct un_netmap_slot *from = &rx->ring->slots[un_load(&rx->ring->head)];
    struct un_netmap_slot *to = &tx->ring->slots[at];
    bool is_valid = from->length > 0 && from->length <= rx->buffer_bytes && from->length <= tx->buffer_bytes &&
                    from->buffer < rx->buffer_count && to->buffer < tx->buffer_count;
    if (!is_valid)
        return false;
    memcpy(un_netmap_buffer(tx, to->buffer), un_netmap_buffer(rx, from->buffer), from->length);
    to->length = from->length;
    to->flags = 0;
    un_netmap_give(tx, un_netmap_next(tx, at));
    return true;
}

static void drop_slot(const struct un_netmap_side *rx)
{
    un_netmap_give(rx, un_netmap_next(rx, un_load(&rx->ring->head)));
}

uint32_t un_netmap_carry(struct un_netmap_host *host, const struct un_netmap_side *tx)
{
    const struct un_netmap_side *rx = &host->pair.rx;
    uint32_t count = 0;
    while (un_netmap_ready(rx) > 0 && un_netmap_ready(tx) > tx->slot_count / 2) {
        count += copy_slot(rx, tx);
        drop_slot(rx);
    }
    return count;
}

uint32_t un_netmap_drop_host(struct un_netmap_host *host)
{
    uint32_t count = un_netmap_ready(&host->pair.rx);
    for (uint32_t i = 0; i < count; i++)
        drop_slot(&host->pair.rx);
    return count;
}

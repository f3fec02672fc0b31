/* See netmap_host.h. */
#include "device/netmap_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ASK_EVERY 64u /* times: then it is asked as well; while its owner sleeps, poll asks */

struct un_netmap_host *un_netmap_host_over(const struct un_netmap_pair *pair, int fd)
{
    struct un_netmap_host *host = calloc(1, sizeof *host);
    if (host)
        *host = (struct un_netmap_host){.pair = *pair, .fd = fd, .memory_fd = -1};
    return host;
}

struct un_netmap_host *un_netmap_host_open(int fd, int memory_fd)
{
    struct un_netmap_memory memory;
    struct un_netmap_pair pair;
    int error = un_netmap_recall(&memory, memory_fd);
    if (!error)
        error = un_netmap_map(&pair, fd, &memory);
    struct un_netmap_host *host = error ? NULL : un_netmap_host_over(&pair, fd);
    if (!host) {
        if (!error)
            un_netmap_unmap(&pair);
        errno = error ? -error : ENOMEM;
        return NULL;
    }
    host->memory_fd = memory_fd;
    return host;
}

void un_netmap_host_close(struct un_netmap_host *host)
{
    if (host->memory_fd >= 0) {
        un_netmap_unmap(&host->pair);
        close(host->memory_fd);
        close(host->fd);
    }
    free(host);
}

bool un_netmap_ask_host(struct un_netmap_host *host, bool must)
{
    if (must || ++host->looks % ASK_EVERY == 0)
        (void)ioctl(host->fd, UN_NETMAP_SYNC_RX, NULL); /* fails when the card's do, which tell */
    return un_netmap_ready(&host->pair.rx) > 0;
}

/* A slot of one ring into the next one of another; false: it is out of order. */
static bool copy_slot(const struct un_netmap_side *rx, struct un_netmap_side *tx)
{
    const struct un_netmap_slot from = un_netmap_slot(rx, rx->head), to = un_netmap_slot(tx, tx->head);
    bool is_valid = from.length > 0 && from.length <= rx->buffer_bytes && from.length <= tx->buffer_bytes &&
                    from.buffer < rx->buffer_count && to.buffer < tx->buffer_count;
    if (!is_valid)
        return false;
    memcpy(un_netmap_buffer(tx, to.buffer), un_netmap_buffer(rx, from.buffer), from.length);
    struct un_netmap_slot *slot = &tx->ring->slots[tx->head];
    slot->length = from.length;
    slot->flags = 0;
    un_netmap_give(tx, un_netmap_next(tx, tx->head));
    return true;
}

static void drop_slot(struct un_netmap_side *rx)
{
    un_netmap_give(rx, un_netmap_next(rx, rx->head));
}

struct un_netmap_carried un_netmap_carry(struct un_netmap_host *host, struct un_netmap_side *tx, uint32_t most)
{
    struct un_netmap_side *rx = &host->pair.rx;
    struct un_netmap_carried count = {0};
    while (count.taken < most && un_netmap_ready(rx) > 0 && un_netmap_ready(tx) > tx->slot_count / 2) {
        count.copied += copy_slot(rx, tx);
        drop_slot(rx);
        count.taken++;
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

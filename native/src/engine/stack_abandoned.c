/* The arena of a keeper that is gone: it is adopted to tell every peer, and for nothing else.
 *
 * Peers that only wait would never hear that their connections are over: nobody is left who would send them anything.
 * So each gets a reset, as many at a time as the device takes. An engine that dies meanwhile leaves the rest to the
 * next one. An arena on which several died may be what they died of, and is left alone. */
#include <errno.h>
#include <time.h>

#include "engine/link.h"

#define TRIES_MAX 3u
#define RESETS_AT_ONCE 64u
#define PATIENCE_MS 1000 /* in all, with a device that is full */

static void wait_ms(void)
{
    const struct timespec wait = {.tv_nsec = 1000000};
    nanosleep(&wait, NULL);
}

static void reset_all(struct un_link *link)
{
    const struct un_device_operations *device = link->device->operations;
    int patience_ms = PATIENCE_MS;
    for (uint32_t slot = 0; slot != UN_NONE;) {
        while (device->reserve(link->device, RESETS_AT_ONCE) < RESETS_AT_ONCE && patience_ms-- > 0) {
            device->flush(link->device);
            wait_ms();
        }
        slot = un_stack_abort_some(&link->stack, slot, RESETS_AT_ONCE);
        device->flush(link->device);
    }
}

void un_link_reset_abandoned(struct un_engine *engine, const struct un_stack_place *place)
{
    struct un_link *link = engine->link;
    if (!link->head->ready || link->head->abandoned > TRIES_MAX)
        return;
    link->head->abandoned++;
    if (un_link_adopt(link, place) < 0)
        return; /* made by another version of us */
    un_tcp_set_now(&link->stack.tcp, un_engine_now_ns(engine));
    un_stack_set_device(&link->stack, link->device);
    reset_all(link);
}

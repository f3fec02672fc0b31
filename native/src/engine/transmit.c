/* See transmit.h. */
#include "engine/transmit.h"

#include <errno.h>

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/events.h"
#include "engine/sendqueue.h"
#include "engine/transport.h"
#include "engine/worklists.h"

/* Send until the queue is empty or the transport takes no more; false when the connection ended. */
static bool send_queue(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    while (work->tx_head != UN_NONE) {
        struct iovec pieces[UN_IOV_MAX];
        uint64_t lent = 0;
        uint32_t port;
        int count = un_sendqueue_gather(engine, slot, &port, pieces);
        un_change_transfers(engine, UN_TRANSFER_OUT);
        ssize_t sent = __builtin_expect(work->flags & UN_WORK_PARTED, 0)
                           ? engine->transport->send_parted(engine, work->handle, pieces, count)
                           : engine->transport->send(engine, port, work->handle, pieces, count, &lent);
        if (sent < 0)
            un_change_transfers(engine, UN_TRANSFER_NONE);
        if (sent == -EINTR)
            continue;
        if (sent < 0 && sent != -EAGAIN) {
            un_engine_conn_finish(engine, slot,
                                  sent == -EPIPE || sent == -ECONNRESET ? UN_REASON_RESET : UN_REASON_SYSTEM, true);
            return false;
        }
        size_t offered = 0;
        for (int i = 0; i < count; i++)
            offered += pieces[i].iov_len;
        if (sent > 0)
            un_sendqueue_took(engine, slot, (size_t)sent, lent);
        if (sent < 0 || (size_t)sent < offered) {
            conn->flags |= UN_CONN_BLOCKED;
            un_count(&engine->counters->sends_blocked, 1);
            return true;
        }
    }
    conn->flags &= (uint8_t)~UN_CONN_BLOCKED;
    return true;
}

static void flush(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    const struct un_conn *conn = un_slot(engine, slot);
    if (!un_is_alive(conn))
        return;
    if (engine->options->send_timeout_ns && work->tx_head != UN_NONE && work->deadline_ns == 0)
        un_engine_conn_expect_progress(engine, slot, engine->transport->undelivered(engine, work->handle));
    if (!(conn->flags & UN_CONN_BLOCKED) && !send_queue(engine, slot))
        return;
    if ((work->flags & UN_WORK_WANT_DRAIN) && work->tx_bytes <= work->drain_mark) {
        work->flags &= (uint16_t)~UN_WORK_WANT_DRAIN;
        un_event_post(engine, slot, UN_WORK_POST_DRAIN);
    }
    if (work->tx_head == UN_NONE)
        un_engine_conn_sent_all(engine, slot);
}

void un_transmit_listed(struct un_engine *engine)
{
    for (uint32_t slot; (slot = un_transmit_next(engine)) != UN_NONE;) {
        un_enter(engine, slot);
        flush(engine, slot);
        un_leave(engine);
    }
}

void un_engine_conn_can_send(struct un_engine *engine, uint64_t id)
{
    uint32_t slot = UN_ID_SLOT(id);
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    if (work->generation != UN_ID_GENERATION(id) || !(conn->flags & UN_CONN_BLOCKED))
        return;
    conn->flags &= (uint8_t)~UN_CONN_BLOCKED;
    un_transmit_later(engine, slot);
}

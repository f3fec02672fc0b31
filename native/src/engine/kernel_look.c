/* What the kernel says of one of its sockets: see look.h. The kernel counts in segments where we count in bytes. */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/look.h"
#include "tcp/tcb.h"

#define NO_SSTHRESH 0x7fffffffu /* TCP_INFINITE_SSTHRESH */
/* Fields of tcp_info that headers of older kernels lack. */
#define SND_WND_AT 228u /* since 5.4 */
#define RCV_WND_AT 232u /* since 6.2 */

union info {
    struct tcp_info known;
    uint8_t bytes[256];
};

static const uint16_t states[] = {
    [1] = UN_TCP_ESTABLISHED, [2] = UN_TCP_SYN_SENT,   [3] = UN_TCP_SYN_RECEIVED, [4] = UN_TCP_FIN_WAIT_1,
    [5] = UN_TCP_FIN_WAIT_2,  [6] = UN_TCP_TIME_WAIT,  [7] = UN_TCP_CLOSED,       [8] = UN_TCP_CLOSE_WAIT,
    [9] = UN_TCP_LAST_ACK,    [11] = UN_TCP_CLOSING,
};

static uint64_t later_field(const union info *info, socklen_t length, size_t at)
{
    uint32_t value;
    if (length < at + sizeof value)
        return UN_LOOK_UNKNOWN;
    memcpy(&value, info->bytes + at, sizeof value);
    return value;
}

static uint32_t agreed(uint8_t options)
{
    return (options & TCPI_OPT_WSCALE ? UN_TCB_WSCALE : 0) | (options & TCPI_OPT_TIMESTAMPS ? UN_TCB_TIMESTAMP : 0) |
           (options & TCPI_OPT_SACK ? UN_TCB_SACK : 0) | (options & TCPI_OPT_ECN ? UN_TCB_ECN : 0);
}

static void set_segments(const struct tcp_info *info, struct un_look_conn *entry)
{
    const uint64_t mss = info->tcpi_snd_mss;
    const uint32_t gone = info->tcpi_sacked + info->tcpi_lost, sent = info->tcpi_unacked + info->tcpi_retrans;
    entry->snd_mss = mss;
    entry->cwnd = info->tcpi_snd_cwnd * mss;
    entry->ssthresh = info->tcpi_snd_ssthresh >= NO_SSTHRESH ? UN_LOOK_UNKNOWN : info->tcpi_snd_ssthresh * mss;
    entry->in_flight = sent > gone ? (sent - gone) * mss : 0;
    entry->sacked = info->tcpi_sacked * mss;
    entry->lost = info->tcpi_lost * mss;
    entry->retransmitted = info->tcpi_total_retrans;
}

static void set_queues(int fd, struct un_look_conn *entry)
{
    int bytes = 0;
    entry->unread = ioctl(fd, SIOCINQ, &bytes) < 0 ? UN_LOOK_UNKNOWN : (uint64_t)bytes;
    entry->unacknowledged = ioctl(fd, SIOCOUTQ, &bytes) < 0 ? UN_LOOK_UNKNOWN : (uint64_t)bytes;
    entry->out_of_order = UN_LOOK_UNKNOWN;
}

static void set_congestion(int fd, struct un_look_conn *entry)
{
    uint64_t name[2] = {0};
    socklen_t length = sizeof name;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) < 0)
        return;
    entry->congestion_first = name[0];
    entry->congestion_second = name[1];
}

void un_kernel_look(struct un_engine *engine, int fd, struct un_look_conn *entry)
{
    union info info = {0};
    const struct tcp_info *known = &info.known;
    socklen_t length = sizeof info;
    (void)engine;
    set_queues(fd, entry);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) { /* a unix socket */
        entry->unacknowledged = UN_LOOK_UNKNOWN; /* of those the kernel counts the memory, which is many times more */
        return;
    }
    entry->tcp_state = known->tcpi_state < sizeof states / sizeof *states ? states[known->tcpi_state] : 0;
    entry->agreed = agreed(known->tcpi_options);
    entry->phase = known->tcpi_ca_state;
    entry->srtt_us = known->tcpi_rtt;
    entry->rttvar_us = known->tcpi_rttvar;
    entry->min_rtt_us = known->tcpi_min_rtt == UINT32_MAX ? UN_LOOK_UNKNOWN : known->tcpi_min_rtt;
    entry->rto_us = known->tcpi_rto;
    entry->path_mtu = known->tcpi_pmtu;
    entry->snd_wnd = later_field(&info, length, SND_WND_AT);
    entry->rcv_wnd = later_field(&info, length, RCV_WND_AT);
    entry->snd_wscale = known->tcpi_snd_wscale;
    entry->rcv_wscale = known->tcpi_rcv_wscale;
    entry->backoff = known->tcpi_backoff;
    entry->probes = known->tcpi_probes;
    set_segments(known, entry);
    set_congestion(fd, entry);
}

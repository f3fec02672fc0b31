/* The numbers of a stack that nobody configured, each with where it comes from. */
#include "stack/arena.h"

static uint32_t clamp(uint64_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : (uint32_t)value;
}

static struct un_tcp_config tcp_defaults(void)
{
    return (struct un_tcp_config){
        .rcv_limit = 256 * 1024,       /* 100 Mbit/s at 20 ms; more overruns a veth ring of 256 frames (measured) */
        .snd_limit = 256 * 1024,       /* the same way back */
        .rto_min_us = 200 * 1000,      /* Linux TCP_RTO_MIN; RFC 6298 (2.4) would have 1 s */
        .rto_max_us = 120 * 1000000,   /* Linux TCP_RTO_MAX; RFC 6298 (2.5): at least 60 s */
        .rto_initial_us = 1000000,     /* RFC 6298 (2.1) */
        .delayed_ack_us = 40 * 1000,   /* Linux TCP_DELACK_MIN; RFC 9293 section 3.8.6.3: less than 500 ms */
        .msl_ms = 30 * 1000,           /* TIME-WAIT of 60 s, as Linux; RFC 9293 section 3.4.2 would have 2 min */
        .user_timeout_ms = 300 * 1000, /* RFC 9293 section 3.9.1: five minutes; R2 is at least 100 s */
        .fin_wait_2_ms = 60 * 1000,    /* Linux tcp_fin_timeout */
        .persist_max_us = 60 * 1000000, /* RFC 9293 section 3.8.6.1 says exponential; BSD's TCPTV_PERSMAX */
        .keep_idle_s = 7200,           /* RFC 9293 section 3.8.4: at least two hours */
        .keep_interval_s = 75,         /* BSD and Linux */
        .keep_count = 9,               /* Linux tcp_keepalive_probes */
        .syn_retries = 6,              /* Linux tcp_syn_retries: 127 s */
        .syn_ack_retries = 5,          /* Linux tcp_synack_retries: 63 s */
        .initial_window = 10,          /* RFC 6928 */
        .congestion = UN_CONGESTION_CUBIC, /* RFC 9438, and what everybody uses */
        .ecn = UN_ECN_ASK,             /* RFC 3168 */
        .timestamps = true,            /* RFC 7323 */
        .sack = true,                  /* RFC 2018 */
        .window_scaling = true,        /* RFC 7323 */
        .path_mtu_probing = true,      /* RFC 4821: where routers keep silent */
        .ooo_frames_max = 512,         /* more than a receive window of full segments */
        .rcv_frames_max = 512,         /* the same, in order */
        .challenge_acks_per_s = 10,    /* RFC 5961 section 7 says 10 in 5 s for a host; this is per connection */
        .tx_segments_max = 45,         /* 64 KiB of 1460 bytes */
    };
}

void un_stack_defaults(struct un_stack_config *config, uint32_t conn_max)
{
    *config = (struct un_stack_config){
        .conn_max = conn_max,
        /* 8 to 128 MiB: a bandwidth-delay product, not a connection's need */
        .frames = clamp(4 * (uint64_t)conn_max, 4096, 65536),
        .frame_bytes = 2048,    /* an Ethernet packet of 1514 bytes; the smaller chunk that cards are given */
        .sents = clamp(8 * (uint64_t)conn_max, 8192, 262144), /* packets in flight: 380 MB of them at most */
        .udp_max = 64,          /* a server has few */
        .neighbours = 1024,     /* Linux gc_thresh3 */
        .time_wait_max = clamp(conn_max / 4, 16, 262144), /* Linux tcp_max_tw_buckets */
        .resets_per_s = 1000,   /* as icmp_per_s */
        .icmp_per_s = 1000,     /* Linux icmp_msgs_per_sec */
        .port_low = 49152,      /* RFC 6335 section 6: dynamic ports */
        .port_high = 65535,
        .accept_partial_checksum = false,
        .accept_router_advertisements = true,
        .detect_duplicates = true, /* RFC 4862 section 5.4, RFC 5227 section 2.1 */
        .tcp = tcp_defaults(),
    };
}

/* One connection of the load generator, and the run that all of them are part of.
 *
 *   NEW ──start──▶ CONNECTING ──▶ OPEN ──▶ CLOSED
 *    ▲───refused, within --wait───┘  └──answered, mode connect: start again
 *                                        ended, with --reconnect: start again
 *
 * Messages of a connection are numbered from 0. `answered` <= `sent` <= `begun`: below `answered` all have come back;
 * below `sent` all have left entirely; below `begun` all have been given to send(2) at least in part, and their start
 * times stand in the window. `due` is how far the mode lets it go. In MODE_RATE the start of a message is when the
 * timetable wanted it to leave, not when there was room for it: that is the correction for coordinated omission (a
 * server that stalls would otherwise stall its own measurement).
 *
 * Nothing here sleeps; load.c owns
 * the loop. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "options.h"
#include "timeline.h"

#define RECEIVE_BYTES 65536
#define RETRY_NS 10000000u
#define INCIDENTS_MAX 64
#define INCIDENT_TEXT_MAX 128

enum client_state { CLIENT_NEW, CLIENT_CONNECTING, CLIENT_OPEN, CLIENT_CLOSED };

struct client {
    int fd;
    enum client_state state;
    bool wants_write;
    uint32_t number;
    uint32_t send_offset;  /* bytes of message `sent` that have left */
    uint32_t receive_fill; /* bytes of the next answer that are here */
    uint64_t due, begun, sent, answered;
    uint64_t received_end; /* one more than the highest message that has come back */
    uint64_t *window;      /* start time of message i at i modulo the window; 0 when it was answered */
    unsigned char *partial; /* the answer that is being received, with --verify */
    uint64_t connect_ns;
};

/* Something went wrong on a connection: the first INCIDENTS_MAX are kept to be read by a person or a test. */
struct incident {
    uint32_t connection;
    char local[ADDRESS_TEXT_MAX];
    char text[INCIDENT_TEXT_MAX];
};

/* Of the whole run, but for answered_measured. */
struct counters {
    unsigned long long opened, failed, resets, closed_by_peer;
    unsigned long long sent, answered, answered_measured, bytes_sent, bytes_received;
    unsigned long long lost, repeated, reordered, corrupted, misdelivered, surplus;
    unsigned long long unanswered; /* on connections that were closed, too */
};

struct run {
    struct options options;
    int epoll_fd;
    struct client *clients;
    uint32_t window_mask;
    uint32_t connecting;
    uint32_t refused;  /* NEW clients to be started again … */
    uint64_t retry_ns; /* … at this time */
    bool sending;      /* false: only what was begun is finished */
    uint64_t start_ns, traffic_ns, measure_ns, measure_end_ns;
    double gap_ns; /* between two messages of the timetable */
    unsigned char *send_buffer, *receive_buffer;
    uint32_t send_buffer_bytes;
    struct counters counters;
    struct histogram latency;
    struct timeline timeline;
    struct incident incidents[INCIDENTS_MAX];
    uint32_t incident_count; /* may exceed INCIDENTS_MAX */
};

uint64_t clock_ns(void);

/* When the timetable of MODE_RATE wants message number `index` of all to leave. */
uint64_t run_intended_ns(const struct run *run, uint64_t index);

void client_start(struct run *run, struct client *client);
void client_ready(struct run *run, struct client *client, uint32_t events);

/* Sends what is due and fits the window. */
void client_pump(struct run *run, struct client *client);

/* At the end of the run: close, and count what never came. */
void client_finish(struct run *run, struct client *client);

#endif

/* The command line of usnet-load: what to send, to whom, how fast, for how long. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "address.h"

enum mode {
    MODE_CLOSED,  /* each connection sends its next message when an answer came */
    MODE_RATE,    /* messages leave on a timetable, whatever the answers do */
    MODE_CONNECT, /* connect, one echo, close, again */
    MODE_IDLE,    /* connect and hold */
};

struct options {
    const char *target_text;
    struct address target;
    struct sources sources;
    enum mode mode;
    uint32_t connections;
    uint32_t size;     /* bytes of a message */
    uint32_t answer;   /* bytes of its answer, from a server that reads exchange.h; 0: it is an echo */
    uint32_t pipeline; /* messages that a connection may have unanswered */
    double rate;       /* messages per second over all connections */
    double connect_rate; /* connections opened per second; 0: as fast as they come */
    double duration_s; /* measured time; 0 with MODE_IDLE: until a signal */
    double warmup_s;
    double drain_s; /* how long to wait at the end for answers that are still due */
    double wait_s;  /* how long to try again when the target refuses connections at first */
    uint32_t every_ms; /* answers are counted by stretches of this length; 0: they are not */
    int core;       /* -1: wherever the system likes */
    bool verify;
    bool reconnect; /* open a connection anew when it ends while messages are sent */
    bool histogram;
    bool json;
};

/* Prints one line and exits with 2 when something is wrong, with 0 after --help. */
void options_parse(struct options *options, int argc, char **argv);

const char *mode_name(enum mode mode);

#endif

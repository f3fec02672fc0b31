/* See options.h. Every option is one row of the table; help, parsing and the range check follow from it. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"
#include "message.h"
#include "timeline.h"

#define RATE_PIPELINE 256 /* deep enough that the timetable, not the window, decides when a message leaves */

enum kind { KIND_TEXT, KIND_MODE, KIND_WHOLE, KIND_REAL, KIND_FLAG, KIND_IDLE, KIND_SOURCES };

struct row {
    const char *name;
    enum kind kind;
    size_t offset; /* of the member of struct options */
    double low, high;
    const char *metavar;
    const char *help;
};

#define MEMBER(name) offsetof(struct options, name)
#define SECONDS_MAX 1e6

static const struct row rows[] = {
    {"target", KIND_TEXT, MEMBER(target_text), 0, 0, "ADDRESS", "HOST:PORT, [V6]:PORT or unix:PATH"},
    {"connections", KIND_WHOLE, MEMBER(connections), 1, 1e6, "N", "connections to open (1)"},
    {"size", KIND_WHOLE, MEMBER(size), 1, 64 << 20, "BYTES", "bytes of a message (60)"},
    {"answer", KIND_WHOLE, MEMBER(answer), 1, 64 << 20, "BYTES",
     "bytes that usnet-echo-epoll --exchange answers with (--size)"},
    {"duration", KIND_REAL, MEMBER(duration_s), 0, SECONDS_MAX, "S", "seconds to measure (2)"},
    {"warmup", KIND_REAL, MEMBER(warmup_s), 0, SECONDS_MAX, "S", "seconds of load before that, not measured (0.5)"},
    {"drain", KIND_REAL, MEMBER(drain_s), 0, SECONDS_MAX, "S", "seconds to wait for the last answers (5)"},
    {"wait", KIND_REAL, MEMBER(wait_s), 0, SECONDS_MAX, "S", "seconds to try again while refused (0)"},
    {"mode", KIND_MODE, MEMBER(mode), 0, 0, "closed|rate|connect", "what makes a message leave (closed)"},
    {"rate", KIND_REAL, MEMBER(rate), 1e-3, 1e8, "R", "messages per second in mode rate"},
    {"pipeline", KIND_WHOLE, MEMBER(pipeline), 1, 65536, "K", "unanswered messages per connection (1; mode rate: 256)"},
    {"connect-rate", KIND_REAL, MEMBER(connect_rate), 1e-3, 1e8, "R", "connections to open per second (no limit)"},
    {"source-ips", KIND_SOURCES, MEMBER(sources), 0, 0, "A.B.C.D/N", "addresses to connect from, in turn"},
    {"every", KIND_WHOLE, MEMBER(every_ms), 1, 60000, "MS", "with --json: answers in each stretch of MS milliseconds"},
    {"histogram", KIND_FLAG, MEMBER(histogram), 0, 0, NULL, "with --json: latencies by bucket"},
    {"core", KIND_WHOLE, MEMBER(core), 0, 4095, "N", "processor to run on"},
    {"verify", KIND_FLAG, MEMBER(verify), 0, 0, NULL, "number and checksum messages; exit 1 if anything was wrong"},
    {"reconnect", KIND_FLAG, MEMBER(reconnect), 0, 0, NULL, "open a connection anew when it ends"},
    {"idle", KIND_IDLE, MEMBER(mode), 0, 0, NULL, "open the connections and hold them for --duration or until SIGTERM"},
    {"json", KIND_FLAG, MEMBER(json), 0, 0, NULL, "print one JSON object"},
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static const char *const modes[] = {"closed", "rate", "connect", "idle"};

const char *mode_name(enum mode mode)
{
    return modes[mode];
}

static _Noreturn void refuse(const char *option, const char *asked, const char *expected)
{
    fprintf(stderr, "usnet-load: --%s: asked for '%s': %s (see --help)\n", option, asked, expected);
    exit(2);
}

static _Noreturn void help(void)
{
    printf("usage: usnet-load --target ADDRESS [options]\nLoad for an echo server.\n\n");
    for (int i = 0; i < ROWS; i++) {
        char left[48];
        snprintf(left, sizeof left, "--%s %s", rows[i].name, rows[i].metavar ? rows[i].metavar : "");
        printf("  %-30s %s\n", left, rows[i].help);
    }
    exit(0);
}

static double parse_number(const struct row *row, const char *text)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    bool whole = row->kind != KIND_WHOLE || value == floor(value);
    if (end == text || *end != '\0' || errno || !isfinite(value) || !whole || value < row->low || value > row->high) {
        char expected[96];
        snprintf(expected, sizeof expected, "expected a %snumber from %.10g to %.10g",
                 row->kind == KIND_WHOLE ? "whole " : "", row->low, row->high);
        refuse(row->name, text, expected);
    }
    return value;
}

static enum mode parse_mode(const char *text)
{
    for (int i = 0; i < MODE_IDLE; i++)
        if (strcmp(text, modes[i]) == 0)
            return (enum mode)i;
    refuse("mode", text, "expected closed, rate or connect");
}

static void set(struct options *options, const struct row *row, const char *text)
{
    void *member = (char *)options + row->offset;
    const char *wrong = NULL;
    switch (row->kind) {
    case KIND_TEXT:
        *(const char **)member = text;
        break;
    case KIND_MODE:
        options->mode = parse_mode(text);
        break;
    case KIND_WHOLE:
        *(uint32_t *)member = (uint32_t)parse_number(row, text); /* `core` too: its range is not negative */
        break;
    case KIND_REAL:
        *(double *)member = parse_number(row, text);
        break;
    case KIND_FLAG:
        *(bool *)member = true;
        break;
    case KIND_IDLE:
        options->mode = MODE_IDLE;
        break;
    case KIND_SOURCES:
        wrong = sources_parse(text, member);
        break;
    }
    if (wrong)
        refuse(row->name, text, wrong);
}

static void check(struct options *options)
{
    if (!options->target_text)
        refuse("target", "", "which server? say HOST:PORT or unix:PATH");
    const char *wrong = address_parse(options->target_text, &options->target);
    if (wrong)
        refuse("target", options->target_text, wrong);
    if (options->mode == MODE_RATE && options->rate == 0)
        refuse("mode", "rate", "say how many messages per second with --rate");
    if (options->verify && options->size < MESSAGE_HEADER_BYTES)
        refuse("verify", "--size below 16", "number and checksum need 16 bytes of each message");
    if (options->verify && options->answer)
        refuse("verify", "--answer", "answers are any bytes, only those of an echo can be checked");
    if (options->answer && options->size < EXCHANGE_HEADER_BYTES)
        refuse("answer", "--size below 16", "a message says in 16 bytes how long it and its answer are");
    if (options->reconnect && options->verify)
        refuse("reconnect", "--verify", "what was under way on a connection that ended cannot be checked");
    if (options->reconnect && options->mode == MODE_CONNECT)
        refuse("reconnect", "--mode connect", "there each message has a connection of its own");
    if (options->every_ms && options->duration_s * 1e3 / options->every_ms > TIMELINE_STRETCHES_MAX)
        refuse("every", "too many stretches", "a longer stretch, or a shorter --duration");
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .connections = 1, .size = 60, .duration_s = -1, .warmup_s = 0.5, .drain_s = 5, .core = -1};
}

static void fill_in(struct options *options)
{
    if (options->duration_s < 0)
        options->duration_s = options->mode == MODE_IDLE ? 0 : 2;
    if (options->pipeline == 0)
        options->pipeline = options->mode == MODE_RATE ? RATE_PIPELINE : 1;
    if (options->mode == MODE_CONNECT)
        options->pipeline = 1;
}

void options_parse(struct options *options, int argc, char **argv)
{
    enum { HELP = ROWS };
    struct option table[ROWS + 2] = {[HELP] = {"help", no_argument, NULL, HELP}};
    for (int i = 0; i < ROWS; i++)
        table[i] = (struct option){rows[i].name, rows[i].metavar ? required_argument : no_argument, NULL, i};

    set_defaults(options);
    int chosen;
    while ((chosen = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (chosen == HELP)
            help();
        if (chosen == '?')
            exit(2); /* getopt said which */
        set(options, &rows[chosen], optarg);
    }
    if (optind < argc)
        refuse("target", argv[optind], "every argument has a name");
    fill_in(options);
    check(options);
}

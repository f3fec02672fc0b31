/* See report.h. */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
    const char *name;
    double percent;
} percentiles[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}};

enum { PERCENTILES = sizeof percentiles / sizeof percentiles[0] };

static double measured_s(const struct run *run)
{
    return (double)(run->measure_end_ns - run->measure_ns) / 1e9;
}

static double per_second(const struct run *run)
{
    double seconds = measured_s(run);
    return seconds > 0 ? (double)run->counters.answered_measured / seconds : 0;
}

static uint64_t still_open(const struct run *run)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < run->options.connections; i++)
        open += run->clients[i].state == CLIENT_OPEN;
    return open;
}

static void print_json_latency(const struct run *run)
{
    printf("\"latency_ns\": {");
    for (int i = 0; i < PERCENTILES; i++)
        printf("\"%s\": %" PRIu64 ", ", percentiles[i].name, histogram_percentile(&run->latency, percentiles[i].percent));
    printf("\"max\": %" PRIu64 ", \"mean\": %.0f, \"count\": %" PRIu64 "}", run->latency.max,
           histogram_mean(&run->latency), run->latency.count);
}

/* The texts are ours and the system's error messages: nothing in them needs escaping. */
static void print_json_incidents(const struct run *run)
{
    printf("\"incident_count\": %u, \"incidents\": [", run->incident_count);
    for (uint32_t i = 0; i < run->incident_count && i < INCIDENTS_MAX; i++) {
        const struct incident *incident = &run->incidents[i];
        printf("%s{\"connection\": %u, \"local\": \"%s\", \"text\": \"%s\"}", i ? ", " : "", incident->connection,
               incident->local, incident->text);
    }
    printf("]");
}

static void print_json(const struct run *run)
{
    const struct options *options = &run->options;
    const struct counters *c = &run->counters;
    char target[ADDRESS_TEXT_MAX];
    address_format(&options->target, target);
    printf("{\"target\": \"%s\", \"mode\": \"%s\", \"size\": %u, \"pipeline\": %u, \"verify\": %s, \"duration_s\": %.3f, ",
           target, mode_name(options->mode), options->size, options->pipeline, options->verify ? "true" : "false",
           measured_s(run));
    printf("\"connections\": {\"asked\": %u, \"opened\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"reset\": %" PRIu64
           ", \"closed_by_peer\": %" PRIu64 ", \"open\": %" PRIu64 "}, ",
           options->connections, c->opened, c->failed, c->resets, c->closed_by_peer, still_open(run));
    printf("\"messages\": {\"sent\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"unanswered\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"repeated\": %" PRIu64 ", \"reordered\": %" PRIu64 ", \"corrupted\": %" PRIu64 ", \"misdelivered\": %" PRIu64
           ", \"surplus\": %" PRIu64 "}, ",
           c->sent, c->answered, c->unanswered, c->lost, c->repeated, c->reordered, c->corrupted, c->misdelivered, c->surplus);
    printf("\"bytes_sent\": %" PRIu64 ", \"bytes_received\": %" PRIu64 ", \"throughput\": %.1f, ", c->bytes_sent,
           c->bytes_received, per_second(run));
    print_json_latency(run);
    printf(", ");
    print_json_incidents(run);
    printf("}\n");
}

static void print_traffic(const struct run *run)
{
    double rate = per_second(run);
    printf("throughput   %.0f %s/s, %.2f MB/s each way, over %.2f s\n", rate,
           run->options.mode == MODE_CONNECT ? "connections" : "messages", rate * run->options.size / 1e6,
           measured_s(run));
    printf("latency us  ");
    for (int i = 0; i < PERCENTILES; i++)
        printf(" %s %.1f ", percentiles[i].name,
               (double)histogram_percentile(&run->latency, percentiles[i].percent) / 1e3);
    printf(" max %.1f  mean %.1f\n", (double)run->latency.max / 1e3, histogram_mean(&run->latency) / 1e3);
}

static void print_text(const struct run *run)
{
    const struct options *options = &run->options;
    const struct counters *c = &run->counters;
    char target[ADDRESS_TEXT_MAX];
    address_format(&options->target, target);
    printf("target       %s, %u connections, %u bytes, mode %s, pipeline %u\n", target, options->connections,
           options->size, mode_name(options->mode), options->pipeline);
    if (options->mode != MODE_IDLE)
        print_traffic(run);
    printf("connections  %" PRIu64 " opened, %" PRIu64 " failed, %" PRIu64 " reset, %" PRIu64 " closed by the peer, %" PRIu64
           " open at the end\n",
           c->opened, c->failed, c->resets, c->closed_by_peer, still_open(run));
    if (options->mode != MODE_IDLE)
        printf("messages     %" PRIu64 " sent, %" PRIu64 " answered, %" PRIu64 " unanswered, %" PRIu64 " surplus\n", c->sent,
               c->answered, c->unanswered, c->surplus);
    if (options->verify)
        printf("verify       %" PRIu64 " lost, %" PRIu64 " repeated, %" PRIu64 " reordered, %" PRIu64
               " corrupted, %" PRIu64 " misdelivered\n",
               c->lost, c->repeated, c->reordered, c->corrupted, c->misdelivered);
    for (uint32_t i = 0; i < run->incident_count && i < INCIDENTS_MAX; i++)
        printf("incident     connection %u %s: %s\n", run->incidents[i].connection, run->incidents[i].local,
               run->incidents[i].text);
}

void report_print(const struct run *run)
{
    if (run->options.json)
        print_json(run);
    else
        print_text(run);
}

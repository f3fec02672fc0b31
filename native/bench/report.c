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

static unsigned long long still_open(const struct run *run)
{
    unsigned long long open = 0;
    for (uint32_t i = 0; i < run->options.connections; i++)
        open += run->clients[i].state == CLIENT_OPEN;
    return open;
}

static unsigned long long percentile_ns(const struct run *run, int i)
{
    return histogram_percentile(&run->latency, percentiles[i].percent);
}

static uint32_t answer_bytes(const struct options *options)
{
    return options->answer ? options->answer : options->size;
}

/* JSON. */

static void print_json_run(const struct run *run)
{
    const struct options *options = &run->options;
    char target[ADDRESS_TEXT_MAX];
    address_format(&options->target, target);
    printf("\"target\": \"%s\", \"mode\": \"%s\", \"size\": %u, \"answer\": %u, \"pipeline\": %u, \"verify\": %s, ",
           target, mode_name(options->mode), options->size, answer_bytes(options), options->pipeline,
           options->verify ? "true" : "false");
    printf("\"duration_s\": %.3f, \"throughput\": %.1f, ", measured_s(run), per_second(run));
}

static void print_json_counters(const struct run *run)
{
    const struct counters *c = &run->counters;
    printf("\"connections\": {\"asked\": %u, \"opened\": %llu, \"failed\": %llu, \"reset\": %llu, ",
           run->options.connections, c->opened, c->failed, c->resets);
    printf("\"closed_by_peer\": %llu, \"open\": %llu}, ", c->closed_by_peer, still_open(run));
    printf("\"messages\": {\"sent\": %llu, \"answered\": %llu, \"unanswered\": %llu, \"lost\": %llu, ", c->sent,
           c->answered, c->unanswered, c->lost);
    printf("\"repeated\": %llu, \"reordered\": %llu, \"corrupted\": %llu, \"misdelivered\": %llu, ", c->repeated,
           c->reordered, c->corrupted, c->misdelivered);
    printf("\"surplus\": %llu}, \"bytes_sent\": %llu, \"bytes_received\": %llu, ", c->surplus, c->bytes_sent,
           c->bytes_received);
}

static void print_json_latency(const struct run *run)
{
    printf("\"latency_ns\": {");
    for (int i = 0; i < PERCENTILES; i++)
        printf("\"%s\": %llu, ", percentiles[i].name, percentile_ns(run, i));
    printf("\"max\": %" PRIu64 ", \"mean\": %.0f, \"count\": %" PRIu64 "}, ", run->latency.max,
           histogram_mean(&run->latency), run->latency.count);
}

/* [largest value, count] of each bucket that is not empty. */
static void print_json_histogram(const struct run *run)
{
    const char *before = "";
    printf("\"histogram_ns\": [");
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        if (run->latency.buckets[bucket] == 0)
            continue;
        printf("%s[%" PRIu64 ", %" PRIu64 "]", before, histogram_edge(bucket), run->latency.buckets[bucket]);
        before = ", ";
    }
    printf("], ");
}

/* `start_ns` is of CLOCK_MONOTONIC, so that others can say when in this they did what. */
static void print_json_timeline(const struct run *run)
{
    printf("\"timeline\": {\"every_ms\": %u, \"start_ns\": %" PRIu64 ", \"answers\": [", run->options.every_ms,
           run->measure_ns);
    for (uint32_t i = 0; i < run->timeline.count; i++)
        printf("%s%u", i ? ", " : "", run->timeline.answers[i]);
    printf("]}, ");
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
    printf("{");
    print_json_run(run);
    print_json_counters(run);
    print_json_latency(run);
    if (run->options.histogram)
        print_json_histogram(run);
    if (run->options.every_ms)
        print_json_timeline(run);
    print_json_incidents(run);
    printf("}\n");
}

/* Text. */

static void print_text_run(const struct run *run)
{
    const struct options *options = &run->options;
    char target[ADDRESS_TEXT_MAX];
    address_format(&options->target, target);
    printf("target       %s, %u connections, %u bytes, answers of %u, mode %s, pipeline %u\n", target,
           options->connections, options->size, answer_bytes(options), mode_name(options->mode), options->pipeline);
}

static void print_text_traffic(const struct run *run)
{
    double rate = per_second(run);
    const char *what = run->options.mode == MODE_CONNECT ? "connections" : "messages";
    printf("throughput   %.0f %s/s, %.2f MB/s up, %.2f MB/s down, over %.2f s\n", rate, what,
           rate * run->options.size / 1e6, rate * answer_bytes(&run->options) / 1e6, measured_s(run));
    printf("latency us  ");
    for (int i = 0; i < PERCENTILES; i++)
        printf(" %s %.1f ", percentiles[i].name, (double)percentile_ns(run, i) / 1e3);
    printf(" max %.1f  mean %.1f\n", (double)run->latency.max / 1e3, histogram_mean(&run->latency) / 1e3);
}

static void print_text_counters(const struct run *run)
{
    const struct counters *c = &run->counters;
    printf("connections  %llu opened, %llu failed, %llu reset, %llu closed by the peer, %llu open at the end\n",
           c->opened, c->failed, c->resets, c->closed_by_peer, still_open(run));
    if (run->options.mode != MODE_IDLE)
        printf("messages     %llu sent, %llu answered, %llu unanswered, %llu surplus\n", c->sent, c->answered,
               c->unanswered, c->surplus);
    if (run->options.verify)
        printf("verify       %llu lost, %llu repeated, %llu reordered, %llu corrupted, %llu misdelivered\n", c->lost,
               c->repeated, c->reordered, c->corrupted, c->misdelivered);
}

static void print_text(const struct run *run)
{
    print_text_run(run);
    if (run->options.mode != MODE_IDLE)
        print_text_traffic(run);
    print_text_counters(run);
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

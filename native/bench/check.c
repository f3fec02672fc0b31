/* See check.h. */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

void incident_add(struct run *run, const struct client *client, const char *text)
{
    if (run->incident_count++ >= INCIDENTS_MAX)
        return;
    struct incident *incident = &run->incidents[run->incident_count - 1];
    struct address local = {.length = sizeof local.socket};
    incident->connection = client->number;
    if (client->fd >= 0 && getsockname(client->fd, (struct sockaddr *)&local.socket, &local.length) == 0)
        address_format(&local, incident->local);
    snprintf(incident->text, sizeof incident->text, "%s", text);
}

static void incident_of(struct run *run, const struct client *client, const char *what, uint64_t sequence)
{
    char text[INCIDENT_TEXT_MAX];
    snprintf(text, sizeof text, "%s: message %" PRIu64 " (%" PRIu64 " answered before)", what, sequence,
             client->answered);
    incident_add(run, client, text);
}

/* The message that should have come is made again, to say where the one that came differs. */
static void describe_corruption(struct run *run, const struct client *client, const unsigned char *bytes)
{
    unsigned char *expected = run->send_buffer; /* nothing is being sent while something is received */
    size_t at = 0;
    message_write(expected, run->options.size, client->number, client->answered);
    while (at + 1 < run->options.size && bytes[at] == expected[at])
        at++;
    char text[INCIDENT_TEXT_MAX];
    snprintf(text, sizeof text, "corrupted: message %" PRIu64 ", byte %zu is 0x%02x and was sent as 0x%02x",
             client->answered, at, bytes[at], expected[at]);
    incident_add(run, client, text);
}

enum verdict check_message(struct run *run, struct client *client, const unsigned char *bytes, uint64_t *sequence)
{
    struct message message;
    if (!message_read(bytes, run->options.size, &message)) {
        describe_corruption(run, client, bytes);
        return VERDICT_BROKEN;
    }
    uint64_t number = *sequence = message.sequence;
    if (message.connection != client->number) {
        run->counters.misdelivered++;
        incident_of(run, client, "misdelivered", number);
        return VERDICT_IGNORE;
    }
    if (number >= client->begun) {
        run->counters.surplus++;
        incident_of(run, client, "surplus", number);
        return VERDICT_IGNORE;
    }
    if (number < client->answered || client->window[number & run->window_mask] == 0) {
        run->counters.repeated++;
        incident_of(run, client, "repeated", number);
        return VERDICT_IGNORE;
    }
    if (number < client->received_end) {
        run->counters.reordered++;
        incident_of(run, client, "reordered", number);
    } else {
        client->received_end = number + 1;
    }
    return VERDICT_ANSWER;
}

uint64_t check_unanswered(const struct run *run, const struct client *client)
{
    uint64_t unanswered = 0;
    for (uint64_t i = client->answered; i < client->begun; i++)
        unanswered += client->window[i & run->window_mask] != 0;
    return unanswered;
}

void check_lost(struct run *run, const struct client *client)
{
    for (uint64_t i = client->answered; i < client->begun; i++) {
        if (client->window[i & run->window_mask] == 0)
            continue;
        run->counters.lost++;
        incident_of(run, client, "lost", i);
    }
}

bool check_failed(const struct run *run)
{
    const struct counters *c = &run->counters;
    unsigned long long answers = c->lost + c->repeated + c->reordered + c->corrupted + c->misdelivered + c->surplus;
    unsigned long long connections = c->failed + c->resets + c->closed_by_peer;
    return answers + connections + c->unanswered > 0;
}

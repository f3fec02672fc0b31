/* See stack_setup.h. */
#include "engine/stack_setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UN_TEXT_MAX 64 /* of one address with prefix or port */

/* A page of a TAP's 64 KiB: such a packet is a chain of 17 frames, a small one wastes little cache. */
#define UN_STACK_FRAME_BYTES 4096u
/* 32 MiB of packets and payload under way while connections are few; memory is taken when it is first used. */
#define UN_STACK_FRAMES_MIN 8192u
/* Most connections are idle at any moment; those that are not get a fair share, and the rest waits (P5). */
#define UN_STACK_FRAMES_PER_CONN 2u
#define UN_STACK_FRAMES_LIMIT (1u << 20)
/* What one connection's buffers grow to: a network process that was away for a quarter of a millisecond has missed no
 * more of 35 Gbit/s; more does not stay in the cache that is next to it. */
#define UN_STACK_LIMIT_MAX (1024u * 1024)
/* Records of lent pieces: a quarter of a GiB of send frames that wait to be acknowledged. */
#define UN_STACK_LENT_MAX 16384u
/* Connections that are not the application's: in the backlog, closing, in TIME-WAIT. */
#define UN_STACK_ENDING_MIN 1024u
#define UN_STACK_ENDING_MAX 65536u

static bool parse_ip(const char *text, struct un_ip *ip)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1)
        *ip = un_ip_from_v4(bytes);
    else if (inet_pton(AF_INET6, text, bytes) == 1)
        *ip = un_ip_from_v6(bytes);
    else
        return false;
    return true;
}

static bool parse_number(const char *text, unsigned long most, unsigned long *number)
{
    char *end;
    errno = 0;
    *number = strtoul(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && *number <= most;
}

static bool parse_address(char *text, struct un_own_address *address)
{
    unsigned long prefix;
    char *slash = strchr(text, '/');
    if (!slash)
        return false;
    *slash = 0;
    if (!parse_ip(text, &address->ip) ||
        !parse_number(slash + 1, un_ip_is_v4(&address->ip) ? 32 : 128, &prefix))
        return false;
    address->prefix = (uint8_t)prefix;
    return true;
}

static bool parse_listener(char *text, struct un_stack_peer *listener)
{
    unsigned long port;
    char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return false;
    *colon = 0;
    if (*text == '[' && colon[-1] == ']') {
        colon[-1] = 0;
        text++;
    }
    if (!parse_ip(text, &listener->ip) || !parse_number(colon + 1, UINT16_MAX, &port) || port == 0)
        return false;
    listener->port = (uint16_t)port;
    return true;
}

/* The next item of a list into `item`, *text behind it; false at the end. What is too long becomes an item that no
 * parser takes. */
static bool next_item(const char **text, char item[UN_TEXT_MAX])
{
    size_t length = strcspn(*text, ",");
    if (**text == 0)
        return false;
    item[0] = 0;
    if (length < UN_TEXT_MAX)
        memcpy(item, *text, length), item[length] = 0;
    *text += length + ((*text)[length] == ',');
    return true;
}

int un_stack_setup_addresses(struct un_stack_setup *setup, const char *text)
{
    char item[UN_TEXT_MAX];
    while (next_item(&text, item)) {
        if (setup->address_count == UN_STACK_ADDRESSES_MAX ||
            !parse_address(item, &setup->addresses[setup->address_count]))
            return -EINVAL;
        setup->address_count++;
    }
    return setup->address_count ? 0 : -EINVAL;
}

int un_stack_setup_gateways(struct un_stack_setup *setup, const char *text)
{
    char item[UN_TEXT_MAX];
    while (next_item(&text, item)) {
        if (setup->gateway_count == UN_GATEWAYS_MAX || !parse_ip(item, &setup->gateways[setup->gateway_count]))
            return -EINVAL;
        setup->gateway_count++;
    }
    return 0;
}

int un_stack_setup_listeners(struct un_stack_setup *setup, const char *text)
{
    char item[UN_TEXT_MAX];
    while (next_item(&text, item)) {
        if (setup->listener_count == UN_LISTENERS_MAX ||
            !parse_listener(item, &setup->listeners[setup->listener_count]))
            return -EINVAL;
        setup->listener_count++;
    }
    return 0;
}

static uint32_t within(uint32_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : value;
}

void un_stack_setup_sizes(struct un_stack_setup *setup, uint32_t connections, uint32_t tx_frames)
{
    struct un_stack_config *config = &setup->config;
    uint32_t ending = within(connections / 2, UN_STACK_ENDING_MIN, UN_STACK_ENDING_MAX);
    uint32_t waiting = within(setup->backlog, 1, UN_STACK_ENDING_MAX);
    un_stack_defaults(config, connections + ending + waiting);
    config->frame_bytes = UN_STACK_FRAME_BYTES;
    config->frames = within(UN_STACK_FRAMES_PER_CONN * connections, UN_STACK_FRAMES_MIN, UN_STACK_FRAMES_LIMIT);
    config->sents = config->frames;
    config->lent = within(tx_frames / 2, 1, UN_STACK_LENT_MAX);
    config->time_wait_max = ending;
    config->tcp.rcv_limit_max = config->tcp.snd_limit_max = UN_STACK_LIMIT_MAX;
    config->accept_partial_checksum = true; /* a TAP is a link within one host */
}

uint64_t un_stack_setup_bytes(const struct un_stack_setup *setup)
{
    const char *why;
    int64_t bytes = un_stack_bytes(&setup->config, &why);
    un_assert(bytes > 0); /* the sizes are ours */
    return UN_STACK_HEAD_BYTES + (uint64_t)bytes;
}

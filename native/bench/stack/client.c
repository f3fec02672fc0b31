/* See client.h. */
#include "client.h"

#include <stdlib.h>

#include "base/assert.h"

enum { PORTS_EACH = 60000, PORT_FIRST = 1024, TURNS_MAX = 100000, CHUNK = 65536, PIECES = 64 };

void client_start(struct client *client, struct un_device *device, struct host_size size)
{
    host_start(&client->host, device, size, 1);
    client->handles = calloc(size.connections, sizeof *client->handles);
    un_assert(client->handles != NULL);
    client->count = 0;
    for (uint8_t i = 0; i < CLIENT_ADDRESSES; i++) {
        struct un_ip ip = host_address(0, (uint8_t)(100 + i));
        un_assert(un_stack_add_address(&client->host.stack, &ip, 16) >= 0);
    }
}

void client_stop(struct client *client)
{
    host_stop(&client->host);
    free(client->handles);
}

static uint32_t take_events(struct client *client)
{
    struct un_stack_event event;
    uint32_t connected = 0;
    while (un_stack_next_event(&client->host.stack, &event)) {
        connected += (event.events & UN_TCP_EVENT_CONNECTED) != 0;
        un_assert(!(event.events & UN_TCP_EVENT_CLOSED));
    }
    return connected;
}

void client_turn(struct client *client)
{
    host_turn(&client->host);
    take_events(client);
}

static void begin(struct client *client)
{
    struct un_stack *stack = &client->host.stack;
    uint32_t at = client->count++, address = at / PORTS_EACH;
    struct un_stack_peer remote = {host_address(0, 1), (uint16_t)(SERVER_PORT + address / CLIENT_ADDRESSES)};
    struct un_stack_peer local = {host_address(0, (uint8_t)(100 + address % CLIENT_ADDRESSES)),
                                  (uint16_t)(PORT_FIRST + at % PORTS_EACH)};
    un_assert(un_stack_connect(stack, &remote, &local, at, &client->handles[at]) == 0);
    un_stack_set_option(stack, client->handles[at], UN_OPTION_NODELAY, 1);
}

static void open_some(struct client *client, uint32_t count, void (*serve)(void))
{
    uint32_t connected = 0;
    for (uint32_t i = 0; i < count; i++)
        begin(client);
    for (int i = 0; connected < count; i++) {
        un_assert(i < TURNS_MAX);
        host_turn(&client->host);
        connected += take_events(client);
        serve();
    }
    for (int i = 0; i < OPENED_AT_ONCE; i++) /* a turn takes a batch: until all handshakes are over */
        serve();
}

void client_open(struct client *client, uint32_t count, void (*serve)(void))
{
    for (uint32_t i = 0; i < count; i += OPENED_AT_ONCE)
        open_some(client, count - i < OPENED_AT_ONCE ? count - i : OPENED_AT_ONCE, serve);
}

static void write_message(struct client *client, uint64_t handle)
{
    static const uint8_t message[MESSAGE_BYTES] = "a message of sixty bytes";
    struct un_piece piece = {message, MESSAGE_BYTES, UN_NONE};
    un_assert(un_stack_write(&client->host.stack, handle, &piece, 1) == MESSAGE_BYTES);
}

void client_send(struct client *client, uint64_t handle)
{
    write_message(client, handle);
    host_turn(&client->host);
}

bool client_take(struct client *client, uint64_t handle)
{
    uint8_t bytes[2048];
    client_turn(client);
    return un_stack_read(&client->host.stack, handle, bytes, sizeof bytes) == MESSAGE_BYTES;
}

static uint64_t one_of(const struct client *client, const struct client_some *some, uint32_t number)
{
    return client->handles[(some->first + number * some->step) % client->count];
}

void client_ask(struct client *client, const struct client_some *some)
{
    for (uint32_t i = 0; i < some->count; i++)
        write_message(client, one_of(client, some, i));
    host_turn(&client->host);
}

uint32_t client_answers(struct client *client, const struct client_some *some)
{
    uint8_t bytes[2048];
    uint32_t answers = 0;
    client_turn(client);
    for (uint32_t i = 0; i < some->count; i++)
        answers += un_stack_read(&client->host.stack, one_of(client, some, i), bytes, sizeof bytes) == MESSAGE_BYTES;
    return answers;
}

uint64_t client_pour(struct client *client, uint64_t most)
{
    static const uint8_t chunk[CHUNK];
    struct un_piece piece = {chunk, most < CHUNK ? (uint32_t)most : CHUNK, UN_NONE};
    int64_t wrote = most > 0 ? un_stack_write(&client->host.stack, client->handles[0], &piece, 1) : 0;
    client_turn(client);
    return wrote > 0 ? (uint64_t)wrote : 0;
}

uint64_t client_drain(struct client *client)
{
    struct un_stack *stack = &client->host.stack;
    struct un_piece pieces[PIECES];
    uint64_t total = 0;
    client_turn(client);
    for (int count; (count = un_stack_peek(stack, client->handles[0], pieces, PIECES)) > 0;) {
        uint32_t bytes = 0;
        for (int i = 0; i < count; i++)
            bytes += pieces[i].length;
        un_assert(un_stack_consume(stack, client->handles[0], bytes) == 0);
        total += bytes;
    }
    host_turn(&client->host);
    return total;
}

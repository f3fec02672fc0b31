/* See address.h. */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SOURCES_MAX 65536

static const char *parse_unix(const char *path, struct address *address)
{
    struct sockaddr_un *name = (struct sockaddr_un *)&address->socket;
    if (*path == '\0' || strlen(path) >= sizeof name->sun_path)
        return "the path is empty or too long";
    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path, strlen(path) + 1);
    address->length = sizeof *name;
    return NULL;
}

/* Splits HOST:PORT at the last colon and takes the brackets off an IPv6 address. */
static const char *split_host(const char *text, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || colon[1] == '\0')
        return "expected HOST:PORT, [ADDRESS]:PORT or unix:PATH";
    size_t length = (size_t)(colon - text);
    if (text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= size)
        return "the host is too long";
    memcpy(host, text, length);
    host[length] = '\0';
    *port = colon + 1;
    char *end;
    if (strtoul(*port, &end, 10) > UINT16_MAX || *end != '\0') /* getaddrinfo would take it modulo 65536 */
        return "the port is not a number up to 65535";
    return NULL;
}

const char *address_parse(const char *text, struct address *address)
{
    memset(address, 0, sizeof *address);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, address);

    char host[256];
    const char *port;
    const char *wrong = split_host(text, host, sizeof host, &port);
    if (wrong)
        return wrong;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    int code = getaddrinfo(host, port, &hints, &found);
    if (code != 0)
        return gai_strerror(code);
    memcpy(&address->socket, found->ai_addr, found->ai_addrlen);
    address->length = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

void address_format(const struct address *address, char *text)
{
    text[0] = '\0';
    if (address->socket.ss_family == AF_UNIX) {
        const struct sockaddr_un *name = (const struct sockaddr_un *)&address->socket;
        if (address->length > sizeof name->sun_family && name->sun_path[0] != '\0')
            snprintf(text, ADDRESS_TEXT_MAX, "unix:%s", name->sun_path);
        return;
    }
    char host[INET6_ADDRSTRLEN], port[8];
    if (getnameinfo((const struct sockaddr *)&address->socket, address->length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    const char *format = address->socket.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s";
    snprintf(text, ADDRESS_TEXT_MAX, format, host, port);
}

const char *sources_parse(const char *text, struct sources *sources)
{
    char network[INET_ADDRSTRLEN + 4];
    if (strlen(text) >= sizeof network)
        return "expected A.B.C.D/N";
    memcpy(network, text, strlen(text) + 1);
    char *slash = strchr(network, '/');
    struct in_addr address;
    if (!slash)
        return "expected A.B.C.D/N";
    *slash = '\0';
    char *end;
    unsigned long prefix = strtoul(slash + 1, &end, 10);
    if (inet_pton(AF_INET, network, &address) != 1 || end == slash + 1 || *end != '\0' || prefix > 32)
        return "expected A.B.C.D/N";
    uint32_t all = prefix == 0 ? UINT32_MAX : (uint32_t)(((uint64_t)1 << (32 - prefix)) - 1);
    if (all >= SOURCES_MAX)
        return "more than 65536 addresses";
    uint32_t first = ntohl(address.s_addr) & ~all;
    bool has_broadcast = all > 1; /* a network of more than two addresses loses its first and its last */
    sources->first = has_broadcast ? first + 1 : first;
    sources->count = has_broadcast ? all - 1 : all + 1;
    return NULL;
}

/* IP_BIND_ADDRESS_NO_PORT leaves the choice of the port to connect, where only the whole 4-tuple must be new. */
static int bind_source(int fd, uint32_t address)
{
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    return bind(fd, (const struct sockaddr *)&source, sizeof source) < 0 ? -errno : 0;
}

int socket_open(const struct address *target, const struct sources *sources, uint32_t number)
{
    int family = target->socket.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    if (family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (family == AF_INET && sources->count > 0) {
        int error = bind_source(fd, sources->first + number % sources->count);
        if (error < 0) {
            close(fd);
            return error;
        }
    }
    return fd;
}

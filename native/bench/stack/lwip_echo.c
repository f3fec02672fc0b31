/* See lwip_echo.h. */
#include "lwip_echo.h"

#include <stdlib.h>

enum { BACKLOG = 255 };

struct echo {
    struct tcp_pcb *pcb;
    struct pbuf *waiting; /* what is to be sent, from `offset` of the first one */
    u16_t offset;
};

static void let_go(struct echo *echo)
{
    tcp_arg(echo->pcb, NULL);
    tcp_recv(echo->pcb, NULL);
    tcp_sent(echo->pcb, NULL);
    tcp_err(echo->pcb, NULL);
    if (echo->waiting)
        pbuf_free(echo->waiting);
    free(echo);
}

/* The first of the waiting ones is sent; who comes next has a chain of his own. */
static void drop_first(struct echo *echo)
{
    struct pbuf *first = echo->waiting;
    echo->waiting = first->next;
    echo->offset = 0;
    if (first->next)
        pbuf_ref(first->next);
    pbuf_free(first);
}

static void send_waiting(struct echo *echo)
{
    while (echo->waiting) {
        struct pbuf *first = echo->waiting;
        u32_t left = (u32_t)first->len - echo->offset, room = tcp_sndbuf(echo->pcb);
        u16_t length = (u16_t)(left < room ? left : room);
        if (length == 0 ||
            tcp_write(echo->pcb, (char *)first->payload + echo->offset, length, TCP_WRITE_FLAG_COPY) != ERR_OK)
            return;
        tcp_recved(echo->pcb, length);
        echo->offset = (u16_t)(echo->offset + length);
        if (echo->offset == first->len)
            drop_first(echo);
    }
}

static err_t received(void *argument, struct tcp_pcb *pcb, struct pbuf *pbuf, err_t error)
{
    struct echo *echo = argument;
    (void)error;
    if (!pbuf) {
        let_go(echo);
        return tcp_close(pcb);
    }
    if (echo->waiting)
        pbuf_cat(echo->waiting, pbuf);
    else
        echo->waiting = pbuf;
    send_waiting(echo);
    return ERR_OK;
}

static err_t sent(void *argument, struct tcp_pcb *pcb, u16_t length)
{
    (void)pcb, (void)length;
    send_waiting(argument);
    return ERR_OK;
}

/* lwIP has freed the connection. */
static void failed(void *argument, err_t error)
{
    struct echo *echo = argument;
    (void)error;
    if (echo->waiting)
        pbuf_free(echo->waiting);
    free(echo);
}

static err_t accepted(void *argument, struct tcp_pcb *pcb, err_t error)
{
    struct echo *echo = error == ERR_OK ? calloc(1, sizeof *echo) : NULL;
    (void)argument;
    if (!echo)
        return ERR_MEM;
    echo->pcb = pcb;
    tcp_nagle_disable(pcb);
    tcp_arg(pcb, echo);
    tcp_recv(pcb, received);
    tcp_sent(pcb, sent);
    tcp_err(pcb, failed);
    return ERR_OK;
}

struct tcp_pcb *lwip_echo_open(u16_t port)
{
    struct tcp_pcb *pcb = tcp_new();
    if (!pcb || tcp_bind(pcb, IP4_ADDR_ANY, port) != ERR_OK)
        return NULL;
    struct tcp_pcb *listener = tcp_listen_with_backlog(pcb, BACKLOG);
    if (listener)
        tcp_accept(listener, accepted);
    return listener;
}

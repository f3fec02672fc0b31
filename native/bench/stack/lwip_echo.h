/* An echo server on lwIP's raw API. What does not fit into the send buffer waits where it came, and closes the window.
 */
#ifndef LWIP_ECHO_H
#define LWIP_ECHO_H

#include <lwip/tcp.h>

/* Listens on all addresses until it is closed. NULL: lwIP did not let us. */
struct tcp_pcb *lwip_echo_open(u16_t port);

#endif

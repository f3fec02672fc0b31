/* Scripts that run on our sockets and on the kernel's, level-triggered and edge-triggered, and say the same after every
 * step: results, errors, and what epoll tells. */
#ifndef UN_TEST_SCRIPT_H
#define UN_TEST_SCRIPT_H

#include "oracle.h"

struct script {
    const char *name;
    void (*play)(void);
};
#define SCRIPT(name) {#name, name}

void scripts_compare(const struct script *scripts, size_t count);

/* What the script that runs works with. */
extern struct run {
    const struct calls *calls;
    uint32_t trigger; /* ET or 0 */
    int listener, client, server;
    uint16_t port;
} run;

/* A call, whose result is compared. */
#define CALL(name, ...) result_of(#name, run.calls->name(__VA_ARGS__))
void result_of(const char *what, int64_t result);

/* What epoll says of a descriptor: compared. */
void look(const char *who, int side, int fd);
void look_client(void);
void look_server(void);

/* Without comparison. */
void watch(int side, int fd, uint32_t events); /* with the trigger of this run */
void set_up_listener(void);
void set_up_client(void);
void set_up_pair(void); /* not watched yet */
void set_up_watched(void); /* and what they are ready for at the beginning has been told */
uint16_t closed_port(void); /* where nobody listens */

/* Compared too. */
void write_to(int side, int fd, const char *text);
void read_some(int side, int fd, size_t most);
void reset(int side, int fd);
void fill(int side, int fd);  /* until no more is taken */
void drain(int side, int fd); /* until epoll says something of the client, who has room again */

#endif

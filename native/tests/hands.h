/* The hand-over of a seat as tests drive it: two workers, which are hands of this process, at the two ports of the
 * arena's honest seat; its peers check every byte of their echoes. */
#ifndef UN_TEST_HANDS_H
#define UN_TEST_HANDS_H

#include "../fuzz/arena.h"
#include "check.h"

enum manner { RELEASES, KEEPS, IS_SILENT };

/* A worker: echoes, and answers questions in its manner. */
struct hand {
    uint32_t port;
    uint32_t serial;
    struct un_port end;
    bool sits;
    enum manner manner;
    uint64_t knows[CONN_MAX]; /* by slot */
    uint32_t resumed, asked, heard, closed;
};

extern struct hand hands[UN_PORTS];
static struct hand *const left = &hands[0], *const right = &hands[1];
extern const struct carrier *carrier; /* of the peers */

/* A worker at the left that knows all connections of the seat. */
void open_seat(void);
void close_seat(void);

uint32_t serve_some(struct hand *hand, uint32_t most); /* so many events at most; how many they were */
void serve(struct hand *hand);
void turns(uint32_t count);  /* of the engine alone */
void rounds(uint32_t count); /* turns, and both workers serve */

/* The supervisor. */
int try_to_sit(struct hand *hand, bool resumes); /* 0, or -EBUSY */
void sit(struct hand *hand);
void die(struct hand *hand);
uint32_t vacancies(const struct hand *hand); /* how often it was told of since it was asked last */

/* Peers of the honest seat. */
uint32_t peer_count(void);
struct peer *peer_at(uint32_t number);
struct un_conn *conn_of(const struct peer *peer);
struct un_work *work_of(const struct peer *peer);
bool is_at(const struct peer *peer, const struct hand *hand);
void say(struct peer *peer, uint32_t length);
void hear_echoes(void); /* all that was said comes back */
void all_go_on(void);   /* each says something and hears its echo */
void all_are_at(const struct hand *hand);

#endif

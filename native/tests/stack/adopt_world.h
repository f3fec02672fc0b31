/* Two stacks whose connections are in every kind of trouble, for adoption tests: `it`, whose process dies, and an
 * honest peer, which lives on with the wire between them. `it` has a device that ends with its process, or one whose
 * rings outlive it (card.h).
 *
 * Nothing of the application is remembered: what it has written and read is told by the connection blocks, and what the
 * bytes of a stream are by the connection's number (the client's port) and direction. So the application of a stack
 * that was adopted goes on from the arena alone, as the stack does. It acts on events only, all of which it had fetched
 * before its process died: what adoption does not tell again never happens. */
#ifndef UN_TEST_ADOPT_WORLD_H
#define UN_TEST_ADOPT_WORLD_H

#include "card.h"
#include "net.h"
#include "stack/arena.h"

/* Connections by what it is to its end of them. All but those to the listener's back (ACTIVE) were opened by
 * the peer. */
enum conn_number {
    IDLE,
    FLIGHT,       /* what it sent is lost on the wire */
    HOLES,        /* the first of three segments from the peer is lost */
    CLOSE_WAIT,   /* the peer has sent all and its FIN */
    FIN_WAIT,     /* it has sent all and its FIN */
    TIME_WAIT,
    SYN_RECEIVED, /* the last ACK of the handshake is lost */
    READY,        /* not accepted, with something to read */
    SYN_SENT,     /* its SYN is lost */
    UNREAD,       /* the application has not read what is there */
    BLOCKED,      /* the application was refused room to write, and has been told that there is some */
    CONNS,
    NEW = CONNS,  /* does not exist yet */
};

enum { SERVER_PORT = 80, CLIENT_PORT = 1000, UDP_PORT = 53, WIRE_SLOTS = 32, WIRE_PACKET_MAX = 1600 };

struct wire {
    uint32_t put;
    uint32_t taken;
    struct {
        uint32_t length;
        uint8_t bytes[WIRE_PACKET_MAX];
    } packets[WIRE_SLOTS];
};

/* What outlives the process of `it`: shared memory. */
struct remains {
    struct wire to_it;
    struct wire to_peer;
    struct card_memory card;
    uint8_t lent[4096]; /* what the application lends */
    uint8_t arena[]; /* and over a card, the frames */
};

struct wire_device {
    struct un_device device; /* first */
    struct wire *in;
    struct wire *out;
};

enum { SLOTS = 16 };

struct side {
    struct un_stack stack;
    struct wire_device wire;
    struct un_device *device; /* that one, or the card's */
    bool by_events;        /* the application looks only at connections that an event named … */
    bool named[SLOTS];     /* … these … */
    bool connected[SLOTS]; /* … and at those it opened itself once they are connected … */
    bool writable[SLOTS];  /* … and writes as long as there is room, and then when it is told so */
};

struct adopt_world {
    struct side it;
    struct side peer;
    uint64_t now_ns;
    struct remains *remains;
    uint64_t remains_bytes;
    uint64_t arena_bytes;
    uint64_t frames_bytes; /* behind the arena; 0: they lie in it */
    bool over_card;
    bool is_special; /* not as the tests have it first */
    struct card_device card;
    bool done[CONNS + 1][2]; /* the receiver saw the whole stream and its end; from it, from the peer */
    uint32_t streams;        /* so many of them have to come to their end: with NEW, one more */
    const uint8_t *lenders[1];
};
extern struct adopt_world world;

/* over_card: the device of `it` is a card. is_crowded: a connection holds few frames before payload is copied together,
 * or out of order thrown away. */
void world_open(bool over_card, bool is_crowded);
struct un_stack_place world_place(void); /* of `it` */

/* In a process that is to judge: `it` goes on from these remains, in memory of its own; then with its device. */
void world_adopt(const struct remains *remains);
void world_go_on(void);
void world_finish(void); /* applications work until everything is done, or two minutes have passed */
void world_settle(void); /* without applications */
void world_card(void);   /* the card works, if there is one */
uint32_t world_card_frames(void); /* those that the card or its rings hold */

uint32_t slot_of(const struct side *side, uint32_t number); /* UN_NONE */
uint64_t handle_of(struct side *side, uint32_t number);
void side_write(struct side *side, uint32_t number, uint32_t bytes);
void side_lend(struct side *side, uint32_t number, uint32_t bytes); /* in one piece */
void side_read(struct side *side, uint32_t number, uint32_t bytes);
void side_poll(struct side *side);
void fetch_events(struct side *side); /* the application hears of them, and does nothing before it dies */
void peer_connect(uint32_t number);
void world_inject(const uint8_t *packet, uint32_t length); /* to `it`, from whoever it says */
/* A segment of the peer's stream, so many bytes from where `it` has received all. */
void world_segment(uint32_t number, uint32_t offset, uint32_t length);
void world_ack(uint32_t number, uint32_t bytes); /* the peer acknowledges so many more */
/* What the application of `it` has taken and given, as the blocks say it, is what the stack says. */
void world_check_counts(void);
extern const struct un_device_operations world_wire_operations;
void lose(struct wire *wire, uint32_t packets); /* the oldest that are on their way */

#endif

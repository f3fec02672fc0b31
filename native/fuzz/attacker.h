/* What the attacker of fuzz_frames can send: see frames.c for the script, world.h for who is who. */
#ifndef UN_FUZZ_ATTACKER_H
#define UN_FUZZ_ATTACKER_H

#include "../tests/stack/world.h"

/* A connection that is not the bystander's; NULL: there is none. */
struct un_tcb *choose_conn(struct script *script);

/* An address of the stack's that he says is his; nobody else uses it. */
struct un_ip attacker_claim(bool is_v6);

/* He has a connection from this port. */
void attacker_connect(uint16_t port, bool is_v6);

void send_raw(struct script *script);       /* frames as they are */
void send_transport(struct script *script); /* packets whose checksums are right, with anything in them */
void send_segment(struct script *script);   /* from a connection's peer, about where the connection is */
void send_next(struct script *script);      /* from a peer who behaves: the next in order, an end, a new beginning */
void send_syn(struct script *script);
void send_syns(struct script *script);      /* as many as fill the backlog, and more */
void send_ack_of_syn(struct script *script); /* the end of the last handshake: also one with a cookie */
void send_spoofed(struct script *script);   /* in the name of the friend's end, by somebody who has to guess */
void send_error(struct script *script);     /* ICMP about a segment */
void send_datagram(struct script *script);
void send_fragment(struct script *script);  /* anything */
void send_in_fragments(struct script *script); /* a whole datagram, cut */
void send_discovery(struct script *script); /* as a neighbour, about himself and about nobody that anyone talks to */
void send_claim(struct script *script);     /* as the owner of that address */
void send_query(struct script *script);     /* as a router that asks who is in which group */
void choose_offloads(struct script *script); /* what the device says of the packets that follow */

#endif

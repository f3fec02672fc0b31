/* Numbers that cannot be guessed without the secret: keyed hashes of a connection's ends. The look-up table and the
 * cookies have keys of their own from the same secret (flows.h, tcp/cookie.h). */
#ifndef UN_SECRETS_H
#define UN_SECRETS_H

#include "stack/arena.h"

/* RFC 6528: the clock of RFC 9293 section 3.4.1, and an offset of the connection. */
uint32_t un_initial_sequence(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port);
uint32_t un_timestamp_offset(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port);
/* RFC 6056 section 3.3.4: where the search for a free port begins, and which counter moves it on. */
uint32_t un_port_offset(const struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                        uint16_t peer_port);
uint32_t un_port_counter(const struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                         uint16_t peer_port);

#endif

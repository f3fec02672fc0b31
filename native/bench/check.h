/* What --verify knows about the answers of a connection: an echo brings back each message once, in order, unchanged.
 *
 *   corrupted     a checksum is wrong (bytes changed, lost or inserted); the connection cannot be read any further
 *   misdelivered  a sound message of another connection
 *   repeated      an answer to a message that was answered already
 *   reordered     a message that came after a later one
 *   surplus       a sound message of this connection that was not sent yet
 *   lost          at the end: a message without an answer on a connection that
 * is open */
#ifndef CHECK_H
#define CHECK_H

#include "client.h"

enum verdict { VERDICT_ANSWER, VERDICT_IGNORE, VERDICT_BROKEN };

/* One whole message has come. With VERDICT_ANSWER `sequence` says which; all but VERDICT_BROKEN are counted here. */
enum verdict check_message(struct run *run, struct client *client, const unsigned char *bytes, uint64_t *sequence);

/* Messages that were begun and are unanswered. */
uint64_t check_unanswered(const struct run *run, const struct client *client);

/* The run is over and the connection is open: what is unanswered is lost. */
void check_lost(struct run *run, const struct client *client);

/* Any answer that was not right, or a connection that did not last. */
bool check_failed(const struct run *run);

void incident_add(struct run *run, const struct client *client, const char *text);

#endif

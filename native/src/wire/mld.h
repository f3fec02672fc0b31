/* Multicast listener discovery: which groups of the link we are in (RFC 3810; RFC 2710 where a router speaks only
 * that).
 *
 * Switches that snoop send a group only to those who have reported it, and neighbour discovery is sent to groups.
 * Queries are read by un_icmp_parse, which calls this; reports are written here: a hop-by-hop header with the router
 * alert option in front, without which no router looks at them. */
#ifndef UN_MLD_H
#define UN_MLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/drop.h"
#include "wire/icmp.h"
#include "wire/ip.h"

/* Whether a report answers a query or says that groups were joined. */
enum un_mld_record { UN_MLD_IS_MEMBER = 2, UN_MLD_JOINED = 4 };

#define UN_MLD_ALERT_BYTES 8u  /* the hop-by-hop header */
#define UN_MLD_REPORT_BYTES (UN_MLD_ALERT_BYTES + 8u)      /* in front of the records */
#define UN_MLD_OLD_REPORT_BYTES (UN_MLD_ALERT_BYTES + 24u) /* of one group, for version 1 */
#define UN_MLD_RECORD_BYTES 20u

/* Into target, max_response_ms and is_old of icmp, which knows its kind. */
enum un_drop un_mld_parse_query(struct un_icmp *icmp, uint8_t hop_limit, const uint8_t *at, uint32_t length);

/* A report of `count` groups, whose records follow it; to ff02::16. */
void un_mld_emit_report(uint8_t *at, uint16_t count);
void un_mld_emit_record(uint8_t *at, enum un_mld_record kind, const struct un_ip *group);
/* A report of one group in version 1; to the group. */
void un_mld_emit_old_report(uint8_t *at, const struct un_ip *group);

#endif

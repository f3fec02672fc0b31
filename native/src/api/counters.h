/* Counters by name: their structs hold nothing else, so they are read as arrays.
 *
 * The macros that define them make the tables of names, too. */
#ifndef UN_API_COUNTERS_H
#define UN_API_COUNTERS_H

#include <stdint.h>

struct un_api_counter {
    const char *name;
    const char *help;
};

#define UN_API_COUNTER(name, text) {#name, text},
#define UN_API_LENGTH(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

#endif

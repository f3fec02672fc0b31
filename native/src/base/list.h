/* Lists linked by index: what is listed lies in a table, and a field of each entry names the next one.
 *
 * Nothing here is a pointer, so a list means the same in every process that maps its table. UN_NONE ends a list. */
#ifndef UN_LIST_H
#define UN_LIST_H

#include <stdint.h>

#define UN_NONE UINT32_MAX

/* First in, first out. `tail` counts only while `head` is not UN_NONE. */
struct un_list {
    uint32_t head;
    uint32_t tail;
};
#define UN_LIST_EMPTY ((struct un_list){UN_NONE, UN_NONE})

#endif

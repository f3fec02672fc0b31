/* Lists linked by index: what is listed lies in a table, and a field of each entry names the next one.
 *
 * Nothing here is a pointer, so a list means the same in every process that maps its table. UN_NONE ends a list.
 * The verbs are told where the links lie: the field of the table's entry 0, and the bytes from one entry to the next.
 * An entry stands at most once in a list; the caller knows whether it does. */
#ifndef UN_LIST_H
#define UN_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

#define UN_NONE UINT32_MAX

/* First in, first out. `tail` counts only while `head` is not UN_NONE. */
struct un_list {
    uint32_t head;
    uint32_t tail;
};
#define UN_LIST_EMPTY ((struct un_list){UN_NONE, UN_NONE})

static inline bool un_list_is_empty(const struct un_list *list)
{
    return list->head == UN_NONE;
}

static inline uint32_t *un_list_link(uint32_t *links, size_t stride, uint32_t entry)
{
    return (uint32_t *)(void *)((char *)links + entry * stride);
}

static inline void un_list_append(struct un_list *list, uint32_t *links, size_t stride, uint32_t entry)
{
    *un_list_link(links, stride, entry) = UN_NONE;
    if (un_list_is_empty(list))
        list->head = entry;
    else
        *un_list_link(links, stride, list->tail) = entry;
    list->tail = entry;
}

/* All of `behind` behind `list`; `behind` is empty then. */
static inline void un_list_join(struct un_list *list, struct un_list *behind, uint32_t *links, size_t stride)
{
    if (un_list_is_empty(behind))
        return;
    if (un_list_is_empty(list))
        list->head = behind->head;
    else
        *un_list_link(links, stride, list->tail) = behind->head;
    list->tail = behind->tail;
    behind->head = UN_NONE;
}

/* The first entry, which the list has no more. */
static inline uint32_t un_list_take(struct un_list *list, uint32_t *links, size_t stride)
{
    uint32_t entry = list->head;
    un_assert(entry != UN_NONE);
    list->head = *un_list_link(links, stride, entry);
    return entry;
}

#endif

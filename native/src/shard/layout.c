/* The fields of all structs that cross a process, and the hash over them: see layout.h. */
#include <string.h>

#include "shard/segment.h"

#define UN_ROW(S, type, name, count, line)                                                                             \
    {#S, #name, (uint32_t)offsetof(struct S, name), (uint32_t)sizeof(((struct S *)0)->name)},
#define UN_ROWS(S, fields) fields(UN_ROW, S)
#define UN_ROW_OF_ENGINE(name, text) UN_ROW(un_engine_counters, , name, , )
#define UN_ROW_OF_WORKER(name, text) UN_ROW(un_worker_counters, , name, , )
#define UN_ROW_OF_OPTION(name, most, meaning) UN_ROW(un_engine_options, , name, , )
#define UN_ROW_OF_ADDRESSES(name, room) UN_ROW(un_engine_options, , name, , )

const struct un_layout_field un_layout_fields[] = {
    UN_SHARED_STRUCTS(UN_ROWS)
    UN_ENGINE_COUNTERS(UN_ROW_OF_ENGINE)
    UN_WORKER_COUNTERS(UN_ROW_OF_WORKER)
    UN_ENGINE_OPTIONS(UN_ROW_OF_OPTION)
    UN_ADDRESS_OPTIONS(UN_ROW_OF_ADDRESSES)
};

const uint32_t un_layout_field_count = sizeof un_layout_fields / sizeof *un_layout_fields;

/* FNV-1a. */
static uint64_t add(uint64_t hash, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t un_layout_hash_text(uint64_t hash, const char *text)
{
    return add(hash, text, strlen(text) + 1);
}

uint64_t un_layout_hash_number(uint64_t hash, uint64_t number)
{
    return add(hash, &number, sizeof number);
}

uint64_t un_layout_hash(void)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < un_layout_field_count; i++) {
        const struct un_layout_field *field = &un_layout_fields[i];
        hash = un_layout_hash_text(un_layout_hash_text(hash, field->of), field->name);
        hash = add(hash, &field->offset, sizeof field->offset);
        hash = add(hash, &field->bytes, sizeof field->bytes);
    }
#define UN_FIELD(name, memory, writer, parts, items, item_bytes, align, holds)                                         \
    hash = un_layout_hash_text(hash, #name " " #memory " " #parts " " #items " " #item_bytes " " #align);
    UN_REGIONS(UN_FIELD)
#undef UN_FIELD
    return hash;
}

/* The memory of a capture, from an engine's end to the reader's: records come out as they went in, in order, whatever
 * their sizes; what finds no room is counted; what was dropped leaves no trace; and neither side believes the other. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "engine/capture_ring.h"
#include "usnet_capture.h"

enum { SNAPLEN = 3000, RECORDS = 4096, READ_BYTES = 1 << 17 };

static const uint64_t bytes = sizeof(struct un_capture_ring) + UN_CAPTURE_DATA_MIN;
static struct un_capture_ring *ring;
static struct un_capture_end end;
static uint8_t packet[2 * SNAPLEN], out[READ_BYTES];
static uint64_t state = 7;

static void begin(void)
{
    ring = aligned_alloc(UN_CACHE_LINE, bytes);
    CHECK(ring != NULL);
    memset(ring, 0, bytes);
    CHECK_EQ(usnet_capture_bytes(UN_CAPTURE_DATA_MIN), bytes);
    CHECK_EQ(usnet_capture_format(ring, bytes, SNAPLEN, 0, NULL, 0), 0);
    CHECK_EQ(un_capture_end_open(&end, ring, bytes), 0);
}

/* The bytes say which one it is. */
static struct un_captured *write_one(uint64_t number, uint32_t length)
{
    struct iovec pieces[2] = {{packet, length / 3}, {packet + length / 3, length - length / 3}};
    memset(packet, (int)number, sizeof packet);
    struct un_captured *record = un_capture_write(&end, UN_CAPTURED_IN, pieces, 2, length);
    if (record)
        record->conn = number;
    return record;
}

static uint32_t length_of(uint64_t number)
{
    return (uint32_t)(number * 2654435761u % (SNAPLEN + 500));
}

/* Every record that can be read is the next one; returns the one behind. */
static uint64_t read_from(uint64_t number)
{
    int64_t got = usnet_capture_read(ring, bytes, out, sizeof out);
    CHECK(got >= 0);
    for (int64_t at = 0; at < got; number++) {
        struct un_captured record;
        memcpy(&record, out + at, sizeof record);
        uint32_t length = length_of(number), captured = length < SNAPLEN ? length : SNAPLEN;
        CHECK_EQ(record.conn, number);
        CHECK_EQ(record.original, length);
        CHECK_EQ(record.captured, captured);
        for (uint32_t i = 0; i < captured; i++)
            CHECK_EQ(out[at + (int64_t)sizeof record + i], (uint8_t)number);
        at += record.bytes;
    }
    return number;
}

static void records_come_out_as_they_went_in(void)
{
    begin();
    uint64_t written = 0, published = 0, read = 0;
    while (read < RECORDS) {
        for (uint32_t batch = random_below(&state, 40); batch > 0; batch--) {
            bool fits = write_one(written, length_of(written)) != NULL;
            written += fits;
            if (!fits)
                break;
        }
        read = read_from(read);
        CHECK(read <= published);
        if (random_below(&state, 3)) {
            un_capture_publish(&end);
            published = written;
        }
    }
    while (read < published)
        read = read_from(read);
    free(ring);
}

static void what_finds_no_room_is_counted(void)
{
    struct usnet_capture_counts counts;
    begin();
    uint64_t written = 0;
    for (const struct un_captured *record; (record = write_one(written, length_of(written))) != NULL; written++)
        un_capture_keep(&end, record);
    un_capture_keep(&end, NULL);
    un_capture_publish(&end);
    usnet_capture_count(ring, &counts);
    CHECK_EQ(counts.matched, written + 1);
    CHECK_EQ(counts.lost, 1);
    CHECK(written * (SNAPLEN / 2) > UN_CAPTURE_DATA_MIN / 2);
    CHECK(read_from(0) > 0);
    CHECK(write_one(written, length_of(written)) != NULL);
    free(ring);
}

/* The last one, and one with another behind it. */
static void what_is_dropped_leaves_no_trace(void)
{
    begin();
    uint64_t before = un_capture_mark(&end);
    struct un_captured *first = write_one(99, 500);
    un_capture_drop(&end, first, before, un_capture_mark(&end));
    CHECK_EQ(un_capture_mark(&end), before);
    first = write_one(99, 500);
    uint64_t behind = un_capture_mark(&end);
    CHECK(write_one(0, length_of(0)) != NULL);
    un_capture_drop(&end, first, before, behind);
    CHECK(write_one(1, length_of(1)) != NULL);
    un_capture_publish(&end);
    CHECK_EQ(read_from(0), 2);
    free(ring);
}

/* The record that its predecessor was writing is not there. */
static void a_successor_goes_on(void)
{
    begin();
    write_one(0, length_of(0));
    un_capture_publish(&end);
    write_one(99, 500);
    CHECK_EQ(un_capture_end_open(&end, ring, bytes), 0);
    write_one(1, length_of(1));
    un_capture_publish(&end);
    CHECK_EQ(read_from(0), 2);
    free(ring);
}

static void a_reader_believes_nothing(void)
{
    begin();
    uint8_t *data = (uint8_t *)(ring + 1);
    for (int round = 0; round < 20000; round++) {
        for (int i = 0; i < 64; i++) {
            uint32_t words[2] = {random_below(&state, 8) * (random_below(&state, 4) ? 8 : 1), random_below(&state, 3)};
            memcpy(data + 8 * random_below(&state, 32), words, sizeof words);
        }
        un_store(&ring->consumed, random_below(&state, 4) ? 8 * random_below(&state, 16) : random_next(&state));
        un_store(&ring->produced, un_load(&ring->consumed) + (random_below(&state, 4) ? random_below(&state, 512)
                                                                                      : random_next(&state)));
        int64_t got = usnet_capture_read(ring, bytes, out, sizeof out);
        CHECK(got == -EINVAL || (got >= 0 && got <= (int64_t)sizeof out));
    }
    free(ring);
}

/* Whatever stands in the reader's part: nothing beyond the memory is written, which the sanitizers watch. */
static void an_engine_believes_nothing(void)
{
    begin();
    for (int round = 0; round < 20000; round++) {
        un_store(&ring->consumed, random_below(&state, 2) ? random_next(&state)
                                                          : un_capture_mark(&end) - random_below(&state, 1 << 21));
        struct un_captured *record = write_one(1, random_below(&state, SNAPLEN));
        CHECK(!record || ((uint8_t *)record >= (uint8_t *)(ring + 1) &&
                          (uint8_t *)record + record->bytes <= (uint8_t *)ring + bytes));
    }
    free(ring);
}

static void what_is_no_memory_is_refused(void)
{
    const struct sock_filter endless = {.code = BPF_JMP | BPF_JA, .k = UINT32_MAX};
    begin();
    CHECK_EQ(usnet_capture_format(ring, bytes, SNAPLEN, 0, &endless, 1), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, bytes, SNAPLEN, 0, &endless, UN_CAPTURE_PROGRAM_MAX + 1), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, bytes, 0, 0, NULL, 0), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, bytes, UN_CAPTURE_SNAPLEN_MAX + 1, 0, NULL, 0), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, bytes - 64, SNAPLEN, 0, NULL, 0), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, 4096, SNAPLEN, 0, NULL, 0), -EINVAL);
    CHECK_EQ(usnet_capture_format(ring, bytes, SNAPLEN, 0, NULL, 0), 0);
    ring->magic++;
    CHECK_EQ(un_capture_end_open(&end, ring, bytes), -EINVAL);
    free(ring);
}

int main(void)
{
    RUN(records_come_out_as_they_went_in);
    RUN(what_finds_no_room_is_counted);
    RUN(what_is_dropped_leaves_no_trace);
    RUN(a_successor_goes_on);
    RUN(a_reader_believes_nothing);
    RUN(an_engine_believes_nothing);
    RUN(what_is_no_memory_is_refused);
    return 0;
}

/* Capture: the file, read back block by block. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../check.h"
#include "far_end.h"

static char path[64]; /* of a file that nobody has to remove */
static uint64_t now_ns;
static uint8_t bytes[70000], got[70000];

static uint64_t clock_ns(void *context)
{
    CHECK(context == &now_ns);
    return now_ns;
}

static struct un_device *wrap(struct un_device *inner, const char *file)
{
    const char *why = NULL;
    struct un_device *device = un_pcap_wrap(inner, file, clock_ns, &now_ns, &why);
    CHECK(device != NULL);
    return device;
}

/* The file, block by block. */
static FILE *file;
static uint8_t block[140000];
static uint32_t block_bytes;

static uint32_t word(uint32_t at)
{
    uint32_t value;
    memcpy(&value, block + at, 4);
    return value;
}

/* The type of the next block, 0 at the end. */
static uint32_t next_block(void)
{
    if (fread(block, 1, 8, file) == 0)
        return 0;
    block_bytes = word(4);
    CHECK(block_bytes >= 12 && block_bytes % 4 == 0 && block_bytes <= sizeof block);
    CHECK_EQ(fread(block + 8, 1, block_bytes - 8, file), block_bytes - 8);
    CHECK_EQ(word(block_bytes - 4), block_bytes);
    return word(0);
}

static void expect_packet(uint64_t time_ns, uint32_t number, uint32_t length, uint32_t direction)
{
    CHECK_EQ(next_block(), 6);
    CHECK_EQ(word(8), 0);
    CHECK_EQ((uint64_t)word(12) << 32 | word(16), time_ns);
    CHECK_EQ(word(20), length);
    CHECK_EQ(word(24), length);
    CHECK(fixture_packet_is(block + 28, length, number));
    uint32_t options = 28 + (length + 3) / 4 * 4;
    CHECK_EQ(word(options), 2 | 4 << 16);
    CHECK_EQ(word(options + 4), direction);
    CHECK_EQ(word(options + 8), 0);
    CHECK_EQ(options + 16, block_bytes);
}

static void open_file(void)
{
    file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK_EQ(next_block(), 0x0a0d0d0a);
    CHECK_EQ(word(8), 0x1a2b3c4d);
    CHECK_EQ(next_block(), 1);
    CHECK_EQ(word(8), 1); /* Ethernet */
    CHECK_EQ(word(16), 9 | 1 << 16);
    CHECK_EQ(block[20], 9); /* nanoseconds */
}

static void close_file(void)
{
    CHECK_EQ(next_block(), 0);
    fclose(file);
}

static struct fixture_link link_now;
static struct un_pool pool;

static void open_device(const char *to)
{
    pool = fixture_pool(256, 256);
    far_end_open(&link_now, &far_end_offloads);
    link_now.device = wrap(link_now.device, to);
    link_now.pool = &pool;
    un_device_attach(link_now.device, &pool);
}

static void close_device(void)
{
    link_now.device->operations->close(link_now.device);
    far_end_close(&link_now);
    CHECK_EQ(pool.own->free_count, pool.own->count);
    fixture_pool_free(&pool);
}

static void send_packet(uint32_t number, uint32_t length)
{
    fixture_packet(bytes, length, number);
    fixture_submit(link_now.device, bytes, length);
    CHECK_EQ(far_end_receive(&link_now, got, sizeof got), length);
}

static void receive_packet(uint32_t number, uint32_t length)
{
    fixture_packet(bytes, length, number);
    CHECK(far_end_send(&link_now, bytes, length));
    CHECK_EQ(fixture_receive(&link_now, got, NULL), length);
}

static void every_packet_is_in_the_file_with_its_time_and_direction(void)
{
    open_device(path);
    for (uint32_t i = 0; i < 40; i++) {
        now_ns = UINT64_C(1700000000000000001) + i * UINT64_C(3000000007);
        if (i % 2)
            send_packet(i, 60 + i);
        else
            receive_packet(i, 1400 + i);
    }
    close_device();
    open_file();
    for (uint32_t i = 0; i < 40; i++)
        expect_packet(UINT64_C(1700000000000000001) + i * UINT64_C(3000000007), i, i % 2 ? 60 + i : 1400 + i,
                      i % 2 ? 2 : 1);
    close_file();
}

static void the_buffer_is_written_when_it_is_full(void)
{
    open_device(path);
    now_ns = 5;
    for (uint32_t i = 0; i < 1000; i++)
        send_packet(i, 1500);
    struct stat status;
    CHECK_EQ(stat(path, &status), 0);
    CHECK(status.st_size > 700 * 1500);
    close_device();
    open_file();
    for (uint32_t i = 0; i < 1000; i++)
        expect_packet(5, i, 1500, 2);
    close_file();
}

static void a_super_segment_is_one_packet(void)
{
    struct un_piece pieces[2] = {{bytes, 54, UN_NONE}, {bytes + 54, 65000, UN_NONE}};
    struct un_tx packet = {.pieces = pieces, .count = 2, .length = 65054, .flags = UN_TX_SEGMENT, .segment_bytes = 1446,
                           .header_length = 54};
    open_device(path);
    fixture_packet(bytes, 65054, 1);
    for (uint32_t i = 0; i < 20; i++) {
        link_now.device->operations->submit(link_now.device, &packet, 1);
        CHECK_EQ(far_end_receive(&link_now, got, sizeof got), 65054);
    }
    close_device();
    open_file();
    for (uint32_t i = 0; i < 20; i++)
        expect_packet(5, 1, 65054, 2);
    close_file();
}

static void before_sleep_all_is_in_the_file(void)
{
    open_device(path);
    send_packet(3, 100);
    CHECK(link_now.device->operations->sleep(link_now.device));
    open_file();
    expect_packet(5, 3, 100, 2);
    close_file();
    close_device();
}

static void when_the_file_cannot_be_written_traffic_goes_on(void)
{
    open_device("/dev/full");
    send_packet(1, 100);
    CHECK(link_now.device->operations->sleep(link_now.device));
    send_packet(2, 100);
    receive_packet(3, 100);
    close_device();
}

static void a_file_that_cannot_be_made_is_said(void)
{
    struct fixture_link link;
    const char *why = NULL;
    far_end_open(&link, &far_end_plain);
    CHECK(un_pcap_wrap(link.device, "/nonexistent/file.pcapng", clock_ns, &now_ns, &why) == NULL);
    CHECK(strstr(why, "/nonexistent/file.pcapng: No such file") != NULL);
    link.device->operations->close(link.device);
    far_end_close(&link);
}

int main(void)
{
    int fd = memfd_create("capture", MFD_CLOEXEC);
    CHECK(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    RUN(every_packet_is_in_the_file_with_its_time_and_direction);
    RUN(the_buffer_is_written_when_it_is_full);
    RUN(a_super_segment_is_one_packet);
    RUN(before_sleep_all_is_in_the_file);
    RUN(when_the_file_cannot_be_written_traffic_goes_on);
    RUN(a_file_that_cannot_be_made_is_said);
    close(fd);
    return 0;
}

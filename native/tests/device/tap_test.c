/* A TAP queue: what it says about itself; how it reads; and the sentences for those who name the wrong interface. */
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"
#include "tap_link.h"

#define EXPERIMENTAL 0x88b5

static void close_device(struct un_device *device)
{
    device->operations->close(device);
}

static void it_says_what_is_in_force(void)
{
    struct un_device *device = tap_open(false);
    CHECK_EQ(device->capabilities.mtu, 1500);
    CHECK(device->capabilities.tx_checksum && device->capabilities.rx_checksum && device->capabilities.rx_coalesce);
    CHECK(device->capabilities.tx_segment_bytes > 60000);
    CHECK_EQ(device->capabilities.queues, 1);
    CHECK_EQ(device->capabilities.queue, 0);
    close_device(device);
    device = tap_open(true);
    tap_ip("link set " TAP_NAME " mtu 9000");
    struct un_device *second = tap_join(1, 2);
    CHECK_EQ(second->capabilities.mtu, 9000);
    CHECK_EQ(second->capabilities.queues, 2);
    CHECK_EQ(second->capabilities.queue, 1);
    close_device(device);
    close_device(second);
}

static void our_station_is_one_for_all_queues_and_every_start(void)
{
    uint8_t mac[6], kernel[6];
    struct un_device *device = tap_open(true), *second = tap_join(1, 2);
    memcpy(mac, device->capabilities.mac, 6);
    tap_kernel_mac(kernel);
    CHECK_EQ(mac[0] & 3, 2); /* locally administered, one station */
    CHECK_EQ(memcmp(mac, second->capabilities.mac, 6), 0);
    CHECK(memcmp(mac, kernel, 6) != 0);
    close_device(device);
    close_device(second);
    device = tap_open(true);
    CHECK_EQ(memcmp(mac, device->capabilities.mac, 6), 0);
    char command[128];
    snprintf(command, sizeof command, "link set " TAP_NAME " address %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
             mac[2], mac[3], mac[4], mac[5]);
    tap_ip(command); /* the kernel's end takes ours */
    second = tap_join(1, 2);
    CHECK(memcmp(mac, second->capabilities.mac, 6) != 0);
    close_device(device);
    close_device(second);
}

static void refused(const char *name, bool multi_queue, int error, const char *text)
{
    const char *why = NULL;
    CHECK_EQ(un_tap_queue(name, multi_queue, &why), (uint64_t)error);
    if (!strstr(why, text))
        fprintf(stderr, "%s\n", why);
    CHECK(strstr(why, text) != NULL);
}

static void a_wrong_name_is_said(void)
{
    refused("", false, -EINVAL, "cannot be the name");
    refused("sixteen-letters-", false, -EINVAL, "cannot be the name");
    refused("a/b", false, -EINVAL, "cannot be the name");
    refused("tap%d", false, -EINVAL, "cannot be the name");
    refused("lo", false, -EINVAL, "no TAP interface");
    refused("lo", true, -EINVAL, "no TAP interface");
    CHECK_EQ(if_nametoindex("tap0"), 0);
}

static void an_interface_of_the_other_kind_is_said(void)
{
    struct un_device *device = tap_open(false);
    refused(TAP_NAME, true, -EINVAL, "single queue");
    refused(TAP_NAME, false, -EBUSY, "used by another process");
    close_device(device);
    device = tap_open(true);
    refused(TAP_NAME, false, -EINVAL, "several queues");
    close_device(device);
}

static void without_the_right_it_is_said(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        const char *why = NULL;
        CHECK_EQ(setresuid(65534, 65534, 65534), 0);
        int error = un_tap_queue(TAP_NAME, false, &why);
        CHECK(error == -EPERM || error == -EACCES);
        CHECK(strstr(why, error == -EPERM ? "CAP_NET_ADMIN" : "cannot be opened") != NULL);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void another_descriptor_is_said(void)
{
    const char *why = NULL;
    CHECK(un_tap_open(0, 0, 1, &why) == NULL);
    CHECK(strstr(why, "no queue of a TAP interface") != NULL);
}

/* An interface that is down takes nothing: errors, not a hang, and it works again when it is up. */
static void an_interface_that_is_down_is_counted(void)
{
    struct un_pool pool = fixture_pool(64, 2048);
    struct fixture_link link = {.device = tap_open(false), .pool = &pool};
    uint8_t bytes[100], got[2048];
    un_device_attach(link.device, &pool);
    tap_far_attach(&link, tap_far_open(EXPERIMENTAL, false));
    fixture_packet(bytes, sizeof bytes, 1);
    tap_ip("link set " TAP_NAME " down");
    fixture_submit(link.device, bytes, sizeof bytes);
    CHECK_EQ(link.device->counters->tx_errors, 1);
    CHECK_EQ(link.device->operations->reserve(link.device, 1), 1);
    close((int)(intptr_t)link.far); /* a packet socket does not survive it */
    tap_ip("link set " TAP_NAME " up");
    tap_far_attach(&link, tap_far_open(EXPERIMENTAL, false));
    fixture_submit(link.device, bytes, sizeof bytes);
    CHECK_EQ(tap_far_receive(&link, got, sizeof got), sizeof bytes);
    close_device(link.device);
    tap_far_close(&link);
    CHECK_EQ(pool.own->free_count, 64);
    fixture_pool_free(&pool);
}

static uint32_t take(struct fixture_link *link)
{
    struct un_rx packets[64];
    if (!fixture_wait(link->device, 1000))
        return 0;
    uint32_t count = link->device->operations->peek(link->device, packets, 64);
    link->device->operations->release(link->device, count);
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop_chain(link->pool, packets[i].frame);
    return count;
}

/* Then there is no look for a second one, which costs a system call; where there is one, it comes all the same, and
 * after some of them packets come together again. */
static void packets_that_come_alone_are_read_alone(void)
{
    enum { ALONE = 8, TOGETHER = 100 };
    struct un_pool pool = fixture_pool(1024, 2048);
    struct fixture_link link = {.device = tap_open(false), .pool = &pool};
    uint8_t bytes[100];
    un_device_attach(link.device, &pool);
    tap_far_attach(&link, tap_far_open(EXPERIMENTAL, false));
    fixture_packet(bytes, sizeof bytes, 1);
    for (uint32_t i = 0; i < ALONE; i++) {
        CHECK(tap_far_send(&link, bytes, sizeof bytes));
        CHECK_EQ(take(&link), 1);
    }
    for (uint32_t i = 0; i < TOGETHER; i++)
        CHECK(tap_far_send(&link, bytes, sizeof bytes));
    CHECK_EQ(take(&link), 1);
    uint32_t turns = 1, got = 1, largest = 1;
    while (got < TOGETHER) {
        uint32_t count = take(&link);
        CHECK(count > 0);
        got += count;
        largest = count > largest ? count : largest;
        turns++;
    }
    CHECK_EQ(got, TOGETHER);
    CHECK_EQ(largest, 64);
    CHECK(turns < 20);
    close_device(link.device);
    tap_far_close(&link);
    CHECK_EQ(pool.own->free_count, 1024);
    fixture_pool_free(&pool);
}

/* Then its owner sleeps for a while, as the descriptor tells of them all the time. */
static void packets_without_frames_are_not_waited_for(void)
{
    enum { FRAMES = 64, SENT = FRAMES + 8 };
    struct un_pool pool = fixture_pool(FRAMES, 2048);
    struct fixture_link link = {.device = tap_open(false), .pool = &pool};
    const struct un_device_operations *verbs = link.device->operations;
    struct un_rx held[FRAMES], later[FRAMES];
    uint8_t bytes[100];
    un_device_attach(link.device, &pool);
    tap_far_attach(&link, tap_far_open(EXPERIMENTAL, false));
    fixture_packet(bytes, sizeof bytes, 1);
    for (uint32_t i = 0; i < SENT; i++)
        CHECK(tap_far_send(&link, bytes, sizeof bytes));
    CHECK_EQ(verbs->peek(link.device, held, FRAMES), FRAMES);
    verbs->release(link.device, FRAMES);
    CHECK_EQ(un_device_wait_fd(link.device), link.device->fd);
    CHECK_EQ(verbs->peek(link.device, later, FRAMES), 0);
    CHECK(verbs->sleep(link.device) && link.device->lacks_frames);
    CHECK_EQ(un_device_wait_fd(link.device), -1);
    for (uint32_t i = 0; i < FRAMES; i++)
        un_pool_drop_chain(&pool, held[i].frame);
    uint32_t count = verbs->peek(link.device, later, FRAMES);
    CHECK_EQ(count, SENT - FRAMES);
    CHECK_EQ(un_device_wait_fd(link.device), link.device->fd);
    verbs->release(link.device, count);
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop_chain(&pool, later[i].frame);
    close_device(link.device);
    tap_far_close(&link);
    CHECK_EQ(pool.own->free_count, FRAMES);
    fixture_pool_free(&pool);
}

int main(void)
{
    tap_enter_namespace();
    RUN(it_says_what_is_in_force);
    RUN(our_station_is_one_for_all_queues_and_every_start);
    RUN(a_wrong_name_is_said);
    RUN(an_interface_of_the_other_kind_is_said);
    RUN(without_the_right_it_is_said);
    RUN(another_descriptor_is_said);
    RUN(an_interface_that_is_down_is_counted);
    RUN(packets_that_come_alone_are_read_alone);
    RUN(packets_without_frames_are_not_waited_for);
    return 0;
}

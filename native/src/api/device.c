/* Devices as the public API hands them out. A `struct usnet_device` is a `struct un_device` under another name. */
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "api/view.h"

static struct usnet_device *outer(struct un_device *device)
{
    return (struct usnet_device *)device;
}

static struct un_device *inner(struct usnet_device *device)
{
    return (struct un_device *)device;
}

static struct usnet_device *refuse(const char *text, const char **why)
{
    *why = text;
    errno = EFAULT;
    return NULL;
}

struct usnet_device *usnet_device_tap(const char *name, const char **why)
{
    const char *unread;
    why = why ? why : &unread;
    if (!name)
        return refuse("there is no name", why);
    int fd = un_tap_queue(name, false, why);
    if (fd < 0) {
        errno = -fd;
        return NULL;
    }
    struct un_device *device = un_tap_open(fd, 0, 1, why);
    if (!device)
        close(fd);
    return outer(device);
}

int usnet_device_memory(struct usnet_device *ends[2], const struct usnet_link *link)
{
    if (!ends || !link)
        return -EFAULT;
    struct un_device_capabilities capabilities[2] = {un_api_capabilities(link), un_api_capabilities(link)};
    struct un_device *made[2];
    capabilities[1].mac[5] ^= 1; /* two stations */
    int status = un_memory_pair(made, capabilities, link->slots);
    if (status < 0)
        return status;
    ends[0] = outer(made[0]);
    ends[1] = outer(made[1]);
    return 0;
}

struct usnet_device *usnet_device_hand(const struct usnet_link *link)
{
    const char *unread;
    if (!link)
        return refuse("", &unread);
    struct un_device_capabilities capabilities = un_api_capabilities(link);
    return outer(un_hand_open(&capabilities, link->slots));
}

static bool is_hand(struct usnet_device *device)
{
    return device && un_hand_is(inner(device));
}

int usnet_device_input(struct usnet_device *device, const uint8_t *frame, uint32_t length, uint32_t flags,
                       uint32_t segment_bytes)
{
    if (!is_hand(device))
        return -EINVAL;
    if (!frame && length > 0)
        return -EFAULT;
    return un_hand_input(inner(device), frame, length, (uint16_t)flags, (uint16_t)segment_bytes);
}

int usnet_device_output(struct usnet_device *device, uint8_t *frame, uint32_t most, struct usnet_output *output)
{
    if (!is_hand(device))
        return -EINVAL;
    return frame || most == 0 ? un_api_output(inner(device), frame, most, output) : -EFAULT;
}

static uint64_t unix_time_ns(void *argument)
{
    struct timespec now;
    (void)argument;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * UN_SECOND_NS + (uint64_t)now.tv_nsec;
}

struct usnet_device *usnet_device_pcap(struct usnet_device *device, const char *path,
                                       uint64_t (*clock_ns)(void *argument), void *argument, const char **why)
{
    const char *unread;
    why = why ? why : &unread;
    if (!device || !path)
        return refuse(device ? "there is no path" : "there is no device", why);
    return outer(un_pcap_wrap(inner(device), path, clock_ns ? clock_ns : unix_time_ns, argument, why));
}

struct usnet_device *usnet_device_fault(struct usnet_device *device, const struct usnet_faults *faults)
{
    const char *unread;
    if (!device || !faults)
        return refuse("", &unread);
    struct un_fault_profile profile = {.seed = faults->seed, .loss = faults->loss, .duplicate = faults->duplicate,
                                       .corrupt = faults->corrupt, .reorder = faults->reorder};
    return outer(un_fault_wrap(inner(device), &profile));
}

void usnet_device_close(struct usnet_device *device)
{
    if (device)
        inner(device)->operations->close(inner(device));
}

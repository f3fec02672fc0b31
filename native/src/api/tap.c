/* The exported symbols of TAP interfaces: see usnet_tap.h. */
#include "usnet_tap.h"

#include "device/device.h"

int usnet_tap_queue(const char *name, bool multi_queue, const char **why)
{
    return un_tap_queue(name, multi_queue, why);
}

int usnet_tap_steer(int fd, uint16_t queues, const char **why)
{
    return un_tap_steer(fd, queues, why);
}

struct usnet_device *usnet_tap_device(int fd, uint16_t queue, uint16_t queues, const char **why)
{
    const char *unread;
    return (struct usnet_device *)un_tap_open(fd, queue, queues, why ? why : &unread);
}

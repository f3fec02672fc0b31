/* See wake.h. */
#include "base/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define READS_MAX 16 /* of a page each: all that a pipe of the largest default size holds, while somebody fills it */

bool un_wake_send(int fd)
{
    const char byte = 0;
    return write(fd, &byte, 1) == 1;
}

void un_wake_drain(int fd)
{
    char waste[4096];
    for (int i = 0; i < READS_MAX && read(fd, waste, sizeof waste) == (ssize_t)sizeof waste; i++)
        continue;
}

int un_wake_prepare(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

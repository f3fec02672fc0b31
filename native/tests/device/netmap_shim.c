/* What stands for /dev/netmap in programs that are preloaded with this (LD_PRELOAD): tests/support/netmap.py answers.
 *
 * Nothing of the programs knows of it: it stands in for three functions of the C library. open of /dev/netmap connects
 * a socket to the path in TEST_NETMAP; ioctl sends a request through it and waits for the answer; mmap asks for the
 * memory of the port and maps that. The descriptor becomes readable when packets come, by a word that the next ioctl
 * takes away. Everything is in the descriptor, so it may be inherited and sent along as the real one.
 *
 * Each ioctl is made first, so that filters of system calls see it as well. */
#undef _FILE_OFFSET_BITS /* which gives the functions other names */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "device/netmap_abi.h"

#define EXPORTED __attribute__((visibility("default")))

enum what { NOTIFY, REGISTER, SYNC_TX, SYNC_RX, MAP };

struct message {
    uint32_t what;
    uint32_t id;
    int32_t status; /* of the answer: 0 or -errno */
    uint32_t version;
    char name[UN_NETMAP_NAME_BYTES];
    struct un_netmap_register port;
};

static int connect_to_stand_in(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* The next message, and the descriptor that comes with it. */
static ssize_t receive(int fd, struct message *message, int *memory)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {message, sizeof *message};
    struct msghdr header = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    struct cmsghdr *with = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (with && with->cmsg_type == SCM_RIGHTS)
        memcpy(memory, CMSG_DATA(with), sizeof *memory);
    return got;
}

/* 0, or -1 with errno; ENXIO: the stand-in is gone, as an interface may be. */
static int call(int fd, struct message *message, int *memory)
{
    static uint32_t calls;
    uint32_t id = message->id = (uint32_t)getpid() << 16 | (++calls & 0xffff);
    ssize_t got = send(fd, message, sizeof *message, MSG_NOSIGNAL);
    while (got > 0 && ((got = receive(fd, message, memory)) > 0 || (got < 0 && errno == EINTR))) {
        if (got > 0 && message->what != NOTIFY && message->id == id) {
            errno = -message->status;
            return message->status < 0 ? -1 : 0;
        }
        got = 1; /* a word that packets came, or an answer to a process that was killed */
    }
    errno = ENXIO;
    return -1;
}

static int register_port(int fd, struct un_netmap_header *header)
{
    struct un_netmap_register *port = (struct un_netmap_register *)(uintptr_t)header->body;
    struct message message = {.what = REGISTER, .version = header->version, .port = *port};
    memcpy(message.name, header->name, sizeof message.name);
    if (header->type != UN_NETMAP_REGISTER) {
        errno = EINVAL;
        return -1;
    }
    int status = call(fd, &message, &(int){-1});
    if (status == 0)
        *port = message.port;
    return status;
}

EXPORTED int open(const char *path, int flags, ...)
{
    const char *stand_in = getenv("TEST_NETMAP");
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (stand_in && strcmp(path, UN_NETMAP_PATH) == 0)
        return connect_to_stand_in(stand_in);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

EXPORTED int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    int status = (int)syscall(SYS_ioctl, fd, request, argument);
    bool is_ours = request == UN_NETMAP_CONTROL || request == UN_NETMAP_SYNC_TX || request == UN_NETMAP_SYNC_RX;
    if (status == 0 || !is_ours || errno == EPERM || errno == EBADF)
        return status;
    if (request == UN_NETMAP_CONTROL)
        return register_port(fd, argument);
    return call(fd, &(struct message){.what = request == UN_NETMAP_SYNC_TX ? SYNC_TX : SYNC_RX}, &(int){-1});
}

EXPORTED void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t at)
{
    void *map = (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, at);
    int memory = -1;
    if (map != MAP_FAILED || errno != ENODEV) /* as of a socket */
        return map;
    if (call(fd, &(struct message){.what = MAP}, &memory) < 0 || memory < 0)
        return MAP_FAILED;
    map = (void *)syscall(SYS_mmap, address, bytes, protection, flags, memory, at);
    close(memory);
    return map;
}

/* As they are called where files may be large. */
EXPORTED int open64(const char *path, int flags, ...) __attribute__((alias("open")));
EXPORTED void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t at)
    __attribute__((alias("mmap")));

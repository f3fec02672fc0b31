/* See capture.h. */
#include "engine/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/hand.h"

/* A child that the process forks has no part in it. */
static int open_memory(struct un_capture *capture, int fd, uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    madvise(memory, bytes, MADV_DONTFORK);
    capture->bytes = bytes;
    int status = un_capture_end_open(&capture->end, memory, bytes);
    if (status < 0)
        munmap(memory, bytes);
    return status;
}

static int begin(struct un_engine *engine, int fd, uint64_t bytes)
{
    struct un_capture *capture = calloc(1, sizeof *capture);
    int status = capture ? open_memory(capture, fd, bytes) : -ENOMEM;
    if (status == 0 && !engine->setup.stack && (status = un_capture_sockets_begin(engine, capture)) < 0)
        munmap(capture->end.ring, bytes);
    if (status < 0) {
        free(capture);
        return status;
    }
    if (engine->setup.stack)
        un_capture_packets_begin(engine, capture);
    engine->capture = capture;
    return 0;
}

int un_capture_start(struct un_engine *engine, uint32_t serial, int fd, uint64_t bytes)
{
    struct un_capturing *noted = &engine->own->capturing;
    if (engine->capture)
        return noted->serial == serial ? -EALREADY : -EBUSY;
    int status = begin(engine, fd, bytes);
    if (status < 0)
        return status;
    noted->serial = serial;
    noted->bytes = bytes;
    un_compiler_fence();
    noted->fd = (uint32_t)fd + 1;
    return 0;
}

void un_capture_leave(struct un_engine *engine)
{
    struct un_capture *capture = engine->capture;
    if (!capture)
        return;
    engine->capture = NULL;
    if (engine->setup.stack)
        un_capture_packets_end(engine, capture);
    else
        un_capture_sockets_end(engine, capture);
    munmap(capture->end.ring, capture->bytes);
    free(capture);
}

void un_capture_stop(struct un_engine *engine)
{
    struct un_capturing *noted = &engine->own->capturing;
    un_capture_leave(engine);
    if (noted->fd == 0)
        return;
    un_hand_take(engine, (int)noted->fd - 1);
    noted->fd = 0;
    un_compiler_fence();
    un_hand_close(engine);
}

void un_capture_resume(struct un_engine *engine)
{
    const struct un_capturing *noted = &engine->own->capturing;
    if (noted->fd != 0 && begin(engine, (int)noted->fd - 1, noted->bytes) < 0)
        un_capture_stop(engine);
}

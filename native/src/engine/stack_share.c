/* A stack on the addresses of an interface, which the kernel has as well: where it learns what the kernel knows
 * (usnet_kernel.h), and how it asks for more. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/control.h"
#include "engine/link.h"
#include "stack/kernel_table.h"

#define QUESTIONS_AT_ONCE 32u /* a turn has other work, too */

/* Behind those of the device; -1: there is none. */
static int table_fd(const struct un_engine *engine)
{
    const struct un_device_parts *parts = &engine->setup.stack->parts;
    return parts->fd_count > 0 ? parts->fds[parts->fd_count - 1] : -1;
}

int un_link_open_table(struct un_engine *engine)
{
    struct stat status;
    if (!engine->options->shared)
        return 0;
    if (fstat(table_fd(engine), &status) < 0)
        return -errno;
    if (status.st_size < (off_t)sizeof(struct un_kernel_table))
        return -EINVAL;
    const void *memory = mmap(NULL, sizeof(struct un_kernel_table), PROT_READ, MAP_SHARED, table_fd(engine), 0);
    if (memory == MAP_FAILED)
        return -errno;
    engine->link->kernel = memory;
    return 0;
}

void un_link_close_table(struct un_engine *engine)
{
    if (!engine->link->kernel)
        return;
    munmap((void *)(uintptr_t)engine->link->kernel, sizeof *engine->link->kernel);
    close(table_fd(engine));
}

void un_link_share(struct un_link *link)
{
    if (link->kernel)
        un_stack_share(&link->stack, link->kernel);
}

int un_link_adopt(struct un_link *link, const struct un_stack_place *place)
{
    int status = un_stack_adopt(&link->stack, place);
    if (status == 0)
        un_link_share(link);
    return status;
}

/* Those that are left are told the next time. The supervisor may be busy and its socket full: nobody waits for that. */
void un_link_tell_questions(struct un_engine *engine)
{
    struct un_stack *stack = &engine->link->stack;
    struct un_ip ip;
    for (uint32_t left = QUESTIONS_AT_ONCE; left > 0 && un_stack_next_question(stack, &ip); left--) {
        uint64_t address[2];
        memcpy(address, ip.bytes, sizeof address);
        if (un_control_offer(engine, UN_CONTROL_ASKS, address[0], address[1]))
            continue;
        un_stack_ask_again(stack, &ip);
        return;
    }
}

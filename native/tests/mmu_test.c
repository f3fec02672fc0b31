/* The MMU keeps workers out of the public memory (P4): what a sealed memfd refuses, and what a stray write costs.
 *
 * The keeper maps the memfd, then seals it against further writable maps. A worker that has the descriptor can map it
 * to read; every way to write it fails, and a write through the read-only map is the end of that
 * process alone. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "model.h"
#include "shard/port.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static int public_fd, port_fd;
static void *keeper_map; /* of the public memory, from before the seal */
static struct un_segment_layout layout;

static int memory_file(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    return fd;
}

static void open_segment(void)
{
    const char *why;
    struct un_segment_config config = model_config();
    CHECK_EQ(un_segment_plan(&config, &layout, &why), 0);
    public_fd = memory_file("public", layout.public_bytes);
    port_fd = memory_file("seat", layout.port_bytes);
    keeper_map = mmap(NULL, layout.public_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, public_fd, 0);
    CHECK(keeper_map != MAP_FAILED);
    un_segment_format(keeper_map, &config, &layout, NULL);
    CHECK_EQ(fcntl(public_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
}

static void close_segment(void)
{
    munmap(keeper_map, layout.public_bytes);
    close(public_fd);
    close(port_fd);
}

static void a_second_writable_map_is_refused(void)
{
    open_segment();
    CHECK(mmap(NULL, layout.public_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, public_fd, 0) == MAP_FAILED);
    CHECK_EQ(errno, EPERM);
    close_segment();
}

static void a_descriptor_opened_anew_is_no_way_round(void)
{
    char path[64];
    open_segment();
    snprintf(path, sizeof path, "/proc/self/fd/%d", public_fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    CHECK(again >= 0);
    CHECK(mmap(NULL, layout.public_bytes, PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
    CHECK_EQ(errno, EPERM);
    close(again);
    close_segment();
}

static void a_map_to_read_does_not_become_writable(void)
{
    open_segment();
    void *map = mmap(NULL, layout.public_bytes, PROT_READ, MAP_SHARED, public_fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQ(mprotect(map, layout.public_bytes, PROT_READ | PROT_WRITE), -1);
    CHECK_EQ(errno, EACCES);
    munmap(map, layout.public_bytes);
    close_segment();
}

static void files_calls_do_not_write_it_either(void)
{
    open_segment();
    CHECK_EQ(pwrite(public_fd, "x", 1, 0), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(fallocate(public_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(ftruncate(public_fd, 0), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(un_header(keeper_map)->magic, UN_SEGMENT_MAGIC);
    close_segment();
}

static void the_keepers_map_goes_on_and_is_inherited(void)
{
    int status;
    open_segment();
    pid_t engine = fork();
    if (engine == 0) {
        un_store(&un_port_public(keeper_map, 0)->serial, 42);
        _exit(0);
    }
    CHECK_EQ(waitpid(engine, &status, 0), engine);
    CHECK_EQ(status, 0);
    CHECK_EQ(un_load(&un_port_public(keeper_map, 0)->serial), 42);
    close_segment();
}

/* As a worker does, over the descriptors; exits 0 when its port opened and the write was possible. */
static _Noreturn void write_through_the_port(void)
{
    struct un_port port;
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would report instead */
    const char *why;
    if (un_port_open(&port, public_fd, port_fd, 0, -1, -1, &why) < 0)
        _exit(1);
    un_store(&port.mine->sleeping, 1); /* its own memory */
    un_store((un_shared32 *)(uintptr_t)&port.published->serial, 7);
    _exit(0);
}

static void a_worker_that_writes_there_dies_of_sigsegv(void)
{
    int status;
    open_segment();
    pid_t worker = fork();
    if (worker == 0)
        write_through_the_port();
    CHECK_EQ(waitpid(worker, &status, 0), worker);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGSEGV);
    CHECK_EQ(un_load(&un_port_public(keeper_map, 0)->serial), 0);
    close_segment();
}

int main(void)
{
    RUN(a_second_writable_map_is_refused);
    RUN(a_descriptor_opened_anew_is_no_way_round);
    RUN(a_map_to_read_does_not_become_writable);
    RUN(files_calls_do_not_write_it_either);
    RUN(the_keepers_map_goes_on_and_is_inherited);
    RUN(a_worker_that_writes_there_dies_of_sigsegv);
    return 0;
}

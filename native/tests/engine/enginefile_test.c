/* What the keeper believes of a file that engines come out of (engine/enginefile.h). */
#include "engine/enginefile.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static char one_path[] = "/tmp/usnet-one-XXXXXX", other_path[] = "/tmp/usnet-other-XXXXXX";

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_again(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static void a_file_that_is_none_is_not_taken(void)
{
    struct un_engine_file file;
    int folder = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK(!un_engine_file_open(&file, folder));
    CHECK(!un_engine_file_open(&file, pair[0]));
    CHECK(!un_engine_file_open(&file, -1));
    close(folder);
    close(pair[0]);
    close(pair[1]);
}

static void another_file_behind_its_descriptor_is_noticed(void)
{
    struct un_engine_file file;
    int fd = open_again(one_path), other = open_again(other_path);
    CHECK(un_engine_file_open(&file, fd));
    CHECK(un_engine_file_is_same(&file));
    CHECK_EQ(dup2(other, fd), fd);
    CHECK(!un_engine_file_is_same(&file));
    close(fd);
    CHECK(!un_engine_file_is_same(&file));
    close(other);
}

static void a_file_has_one_name(void)
{
    struct un_engine_file one, other;
    CHECK(un_engine_file_open(&one, open_again(one_path)));
    CHECK(un_engine_file_open(&other, open_again(other_path)));
    CHECK(un_engine_file_has_name(&one, &one.name));
    CHECK(!un_engine_file_has_name(&one, &other.name));
    struct un_engine_name elsewhere = {one.name.device + 1, one.name.inode};
    CHECK(!un_engine_file_has_name(&one, &elsewhere));
    close(one.fd);
    close(other.fd);
}

static void what_a_dead_engine_left_is_closed_and_nothing_else(void)
{
    struct un_engine_file engine, sent;
    const struct un_engine_file none = {.fd = -1};
    CHECK(un_engine_file_open(&engine, open_again(one_path)));
    CHECK(un_engine_file_open(&sent, open_again(other_path)));
    int left[] = {open_again(one_path), open_again(other_path), open_again("/proc/self/fd")};
    int memory = memfd_create("memory", MFD_CLOEXEC), pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    un_engine_file_close_others(&engine, &none, &sent.name);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(!is_open(left[i]));
    CHECK(!is_open(sent.fd)); /* nobody has noted it */
    CHECK(is_open(engine.fd) && is_open(memory) && is_open(pair[0]) && is_open(pair[1]));
    CHECK(is_open(STDOUT_FILENO) && is_open(STDERR_FILENO));
    close(engine.fd);
    close(memory);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    close(mkstemp(one_path));
    close(mkstemp(other_path));
    RUN(a_file_that_is_none_is_not_taken);
    RUN(another_file_behind_its_descriptor_is_noticed);
    RUN(a_file_has_one_name);
    RUN(what_a_dead_engine_left_is_closed_and_nothing_else);
    unlink(one_path);
    unlink(other_path);
    return 0;
}

/* See enginefile.h. */
#include "engine/enginefile.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_named(const struct stat *status, const struct un_engine_name *name)
{
    return (uint64_t)status->st_dev == name->device && (uint64_t)status->st_ino == name->inode;
}

bool un_engine_file_open(struct un_engine_file *file, int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    *file = (struct un_engine_file){fd, {(uint64_t)status.st_dev, (uint64_t)status.st_ino}};
    return true;
}

bool un_engine_file_is_same(const struct un_engine_file *file)
{
    struct stat status;
    return fstat(file->fd, &status) == 0 && is_named(&status, &file->name);
}

bool un_engine_file_has_name(const struct un_engine_file *file, const struct un_engine_name *name)
{
    return file->name.device == name->device && file->name.inode == name->inode;
}

void un_engine_file_close_others(const struct un_engine_file *engine, const struct un_engine_file *proven,
                                 const struct un_engine_name *sent)
{
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        struct stat status;
        bool is_kept = fd <= STDERR_FILENO || fd == dirfd(directory) || fd == engine->fd || fd == proven->fd;
        if (is_kept || fstat(fd, &status) < 0)
            continue;
        bool is_engine =
            is_named(&status, &engine->name) || is_named(&status, &proven->name) || is_named(&status, sent);
        if (S_ISDIR(status.st_mode) || is_engine)
            close(fd);
    }
    if (directory)
        closedir(directory);
}

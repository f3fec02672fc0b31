/* A file that engines come out of, as the keeper knows it: by a descriptor, and by what it is.
 *
 * Engines share the keeper's descriptors, so one that strangers took over might put another file in the place of a
 * descriptor. What the keeper remembers is its own; which file it may take besides, the supervisor says in a page that
 * nobody else can write. Before an engine is loaded, the descriptor is compared with both. */
#ifndef UN_ENGINEFILE_H
#define UN_ENGINEFILE_H

#include <stdbool.h>
#include <stdint.h>

struct un_engine_name {
    uint64_t device;
    uint64_t inode;
};

struct un_engine_file {
    int fd;
    struct un_engine_name name; /* as it was when it was opened */
};

bool un_engine_file_open(struct un_engine_file *file, int fd); /* false: it is no regular file */
bool un_engine_file_is_same(const struct un_engine_file *file); /* still */
bool un_engine_file_has_name(const struct un_engine_file *file, const struct un_engine_name *name);

/* Close what else is open of these files, and folders: what an engine leaves that dies in dlopen or opendir, or before
 * it has noted what it was sent. */
void un_engine_file_close_others(const struct un_engine_file *engine, const struct un_engine_file *proven,
                                 const struct un_engine_name *sent);

#endif

/* SPDX-License-Identifier: MIT
 *
 * resolve_file - see resolve_file.h. Called by resolve (resolv.conf) and resolve_hosts. Owns
 * nothing.
 */
#include "resolve_file.h"

#include <string.h>
#include <sys/stat.h>

struct resolve_mark resolve_mark_of(const char *path)
{
    struct resolve_mark mark;
    struct stat st;
    memset(&mark, 0, sizeof mark);
    if (stat(path, &st) < 0)
        return mark;
    mark.device = st.st_dev;
    mark.inode = st.st_ino;
    mark.size = st.st_size;
    mark.changed = st.st_mtim;
    return mark;
}

bool resolve_mark_same(const struct resolve_mark *a, const struct resolve_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

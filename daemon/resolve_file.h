/* SPDX-License-Identifier: MIT
 *
 * resolve_file - what tells one version of a small system file from the next, by one stat(2).
 */
#ifndef GATHERD_RESOLVE_FILE_H
#define GATHERD_RESOLVE_FILE_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct resolve_mark {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

/* All zero when there is no such file. */
struct resolve_mark resolve_mark_of(const char *path);
bool resolve_mark_same(const struct resolve_mark *a, const struct resolve_mark *b);

#endif

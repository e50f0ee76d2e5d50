/* SPDX-License-Identifier: MIT
 *
 * arena - bump allocation with one release; a batch and everything that was parsed for it live in
 * one. Chunks double from 4 KiB to 256 KiB; larger requests get a chunk of their own. Memory is
 * aligned for any type, texts excepted, which are packed. Nothing is freed singly. Belongs to one
 * thread at a time.
 */
#ifndef GATHERD_ARENA_H
#define GATHERD_ARENA_H

#include <stddef.h>

struct arena {
    struct arena_chunk *chunks;
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a); /* frees everything; the arena may be used again */

/* n bytes, not zeroed / zeroed; NULL when memory runs out (or count * size overflows). */
void *arena_alloc(struct arena *a, size_t n);
void *arena_calloc(struct arena *a, size_t count, size_t size);

/* Makes one chunk for the next n bytes where there is none: a batch knows about how much it will
 * need. When memory runs out nothing is done. */
void arena_reserve(struct arena *a, size_t n);

/* A block that may be resized, alone in its chunk, and aligned; the first time p is NULL. It may
 * move. NULL when memory runs out: then p is as it was. */
void *arena_resize(struct arena *a, void *p, size_t n);

/* All of b belongs to a from now on; b is empty. */
void arena_join(struct arena *a, struct arena *b);

/* n bytes of any alignment; NULL when memory runs out. */
char *arena_text(struct arena *a, size_t n);

/* A NUL-terminated copy of n bytes of s, not aligned; NULL when memory runs out. */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);

#endif

/* SPDX-License-Identifier: MIT
 *
 * arena - bump allocation for a batch: its members, their strings, what was parsed for them, and
 * the texts of its results. Called by request and target on the thread that reads the body, by
 * fetch on its own, and by resolve for servers and hosts; owns its chunks until arena_fini().
 *
 * The first chunk of the list is the one that is bumped: aligned memory from its front, texts,
 * which need no alignment, from its end. A request that would waste half a new chunk gets one of
 * its own, which is linked behind the first, so that the room left there is not lost. Each chunk
 * knows how large the next ordinary one shall be.
 */
#include "arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_CHUNK_MIN ((size_t)4096)
#define ARENA_CHUNK_MAX ((size_t)256 * 1024)
#define ARENA_ALIGN (_Alignof(max_align_t))

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size; /* bytes of data: handed out from the front; left of those texts took */
    size_t next_bytes; /* size of the next ordinary chunk, this header included */
    max_align_t data[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

void arena_fini(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    arena_init(a);
}

/* A chunk with room for `size` bytes, not yet linked. */
static struct arena_chunk *chunk_create(size_t size, size_t next_bytes)
{
    struct arena_chunk *c = malloc(sizeof *c + size);
    if (!c)
        return NULL;
    *c = (struct arena_chunk){.size = size, .next_bytes = next_bytes};
    return c;
}

static void *chunk_bump(struct arena_chunk *c, size_t n)
{
    void *p = (char *)c->data + c->used;
    c->used += n;
    return p;
}

/* Behind the first chunk, so that the room left there is not lost. */
static void link_own(struct arena *a, struct arena_chunk *c)
{
    struct arena_chunk **link = a->chunks ? &a->chunks->next : &a->chunks;
    c->next = *link;
    *link = c;
}

/* n is aligned and does not fit into the first chunk. */
static void *alloc_slow(struct arena *a, size_t n)
{
    size_t bytes = a->chunks ? a->chunks->next_bytes : ARENA_CHUNK_MIN;
    size_t room = bytes - sizeof(struct arena_chunk);
    bool own = n > room / 2;
    size_t next_bytes = own || bytes >= ARENA_CHUNK_MAX ? bytes : bytes * 2;
    struct arena_chunk *c = chunk_create(own ? n : room, next_bytes);
    if (!c)
        return NULL;
    if (own) {
        link_own(a, c);
    } else {
        c->next = a->chunks;
        a->chunks = c;
    }
    return chunk_bump(c, n);
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > SIZE_MAX - sizeof(struct arena_chunk) - ARENA_ALIGN)
        return NULL;
    n = n > 0 ? (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1) : ARENA_ALIGN;
    struct arena_chunk *c = a->chunks;
    if (c && n <= c->size - c->used)
        return chunk_bump(c, n);
    return alloc_slow(a, n);
}

void arena_reserve(struct arena *a, size_t n)
{
    size_t ordinary = a->chunks ? a->chunks->next_bytes : ARENA_CHUNK_MIN;
    size_t room =
        a->chunks ? a->chunks->size - a->chunks->used : ordinary - sizeof(struct arena_chunk);
    if (n <= room || n > SIZE_MAX / 2)
        return;
    struct arena_chunk *c = chunk_create(n, ordinary);
    if (!c)
        return;
    c->next = a->chunks;
    a->chunks = c;
}

void *arena_resize(struct arena *a, void *p, size_t n)
{
    struct arena_chunk **link = &a->chunks, *c;
    if (n > SIZE_MAX - sizeof *c)
        return NULL;
    if (!p) {
        c = chunk_create(n, ARENA_CHUNK_MIN);
        if (c)
            link_own(a, c);
    } else {
        while ((void *)(*link)->data != p)
            link = &(*link)->next;
        c = realloc(*link, sizeof *c + n);
        if (c)
            *link = c;
    }
    if (!c)
        return NULL;
    c->used = c->size = n; /* nothing else is put there */
    return c->data;
}

void arena_join(struct arena *a, struct arena *b)
{
    struct arena_chunk **end = &a->chunks;
    while (*end)
        end = &(*end)->next;
    *end = b->chunks;
    arena_init(b);
}

char *arena_text(struct arena *a, size_t n)
{
    struct arena_chunk *c = a->chunks;
    if (!c || n > c->size - c->used)
        return arena_alloc(a, n);
    c->size -= n;
    return (char *)c->data + c->size;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
    if (size > 0 && count > SIZE_MAX / size)
        return NULL;
    void *p = arena_alloc(a, count * size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? arena_text(a, n + 1) : NULL;
    if (!p)
        return NULL;
    if (n > 0)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

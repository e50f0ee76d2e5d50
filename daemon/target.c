/* SPDX-License-Identifier: MIT
 *
 * target - see target.h.
 */
#include "target.h"

#include <stdlib.h>
#include <string.h>

#include "url.h"

#define LINEAR_MAX 8 /* so many origins are looked through one by one */

struct origin_node {
    struct table_node in_table; /* beyond LINEAR_MAX */
    struct origin_node *next;
    struct origin origin;
};

void origins_init(struct origins *o, struct arena *arena)
{
    *o = (struct origins){.arena = arena};
}

void origins_fini(struct origins *o)
{
    table_fini(&o->table);
}

static struct origin_node *find(struct origins *o, const char *key)
{
    for (struct origin_node *n = o->first; n; n = n->next) {
        if (strcmp(n->origin.key, key) == 0)
            return n;
    }
    return NULL;
}

static struct origin_node *add(struct origins *o, const struct url *u)
{
    size_t key_len = strlen(u->origin), host_len = strlen(u->host);
    struct origin_node *n = arena_calloc(o->arena, 1, sizeof *n);
    static const struct table unkeyed;
    char *text = arena_alloc(o->arena, key_len + host_len + 2);
    if (!n || !text)
        return NULL;
    memcpy(text, u->origin, key_len + 1);
    memcpy(text + key_len + 1, u->host, host_len + 1);
    n->origin = (struct origin){
        .key = text,
        .host = text + key_len + 1,
        .hash = table_hash(&unkeyed, text, key_len),
        .index = o->count++,
        .key_len = (uint16_t)key_len,
        .text_len = (uint16_t)(strchr(u->text + 8, '/') - u->text),
        .port = u->port,
        .https = u->https,
        .ip = u->ip,
    };
    n->next = o->first;
    o->first = n;
    return n;
}

bool target_parse(struct origins *o, const char *s, size_t n, struct target *out, const char **why)
{
    struct url u;
    *out = (struct target){0};
    if (!url_parse(s, n, &u, why))
        return false;
    struct origin_node *node = find(o, u.origin);
    if (!node)
        node = add(o, &u);
    out->len = (uint32_t)strlen(u.text);
    out->text = out->len == n && memcmp(s, u.text, n) == 0 ? s : arena_strdup(o->arena, u.text);
    url_fini(&u);
    *why = node && out->text ? NULL : url_no_memory;
    if (*why)
        *out = (struct target){0};
    else
        out->origin = &node->origin;
    return *why == NULL;
}

bool target_resolve(const struct target *base, const char *location, size_t n, struct target *out,
                    const char **why)
{
    struct url b = {.text = (char *)(uintptr_t)base->text, .https = base->origin->https}, u;
    struct arena arena;
    struct origins o;
    *out = (struct target){0};
    arena_init(&arena);
    origins_init(&o, &arena);
    if (!url_resolve(&b, location, n, &u, why))
        return false;
    struct origin_node *node = add(&o, &u);
    size_t len = strlen(u.text);
    struct origin *own = node ? malloc(sizeof *own + node->origin.key_len +
                                       strlen(node->origin.host) + len + 3) : NULL;
    *why = own ? NULL : url_no_memory;
    if (own) {
        char *at = (char *)(own + 1);
        *own = node->origin;
        own->key = memcpy(at, node->origin.key, own->key_len + 1u);
        own->host = memcpy(at + own->key_len + 1, u.host, strlen(u.host) + 1);
        at += own->key_len + 2 + strlen(u.host);
        *out = (struct target){own, memcpy(at, u.text, len + 1), (uint32_t)len};
    }
    arena_fini(&arena);
    url_fini(&u);
    return own != NULL;
}

void target_fini(struct target *t)
{
    free((void *)(uintptr_t)t->origin);
    *t = (struct target){0};
}

bool target_same_origin(const struct target *a, const struct target *b)
{
    return a->origin == b->origin ||
           (a->origin->hash == b->origin->hash && strcmp(a->origin->key, b->origin->key) == 0);
}

/* SPDX-License-Identifier: MIT
 *
 * resolve_cache - see resolve_cache.h. Called by resolve on the threads of all loops. Owns the
 * entries, one allocation each (about 110 bytes for a name with one address), in a table by name
 * and on a list, coldest first.
 *
 * What costs time is done outside the lock: the hash (the table's key never changes), the copy of
 * the answer that is to be kept, and freeing what it pushed out, which is put on a list of its own
 * under the lock. A new generation is one number, under which older entries are no longer found;
 * they are then taken out in lots, so that no other loop waits for 10,000 of them.
 */
#include "resolve_cache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "list.h"
#include "table.h"

#define COLD_CHECKED 2 /* useless entries taken out for each new one */
#define LOT 64         /* taken out at a time by a new generation */

struct resolve_cache {
    uv_mutex_t lock; /* of all that follows; the table's key is only read */
    struct table table;
    struct list cold_first;
    _Atomic uint64_t generation; /* written under the lock */
};

struct entry {
    struct table_node in_table;
    struct list node;
    uint64_t until_ms;
    uint64_t generation;
    const char *message;
    uint8_t error;
    uint8_t count;
    struct ip_addr addresses[]; /* the name's text comes after them */
};

_Static_assert(RESOLVE_ADDRESSES_MAX <= UINT8_MAX && ERR_COUNT <= UINT8_MAX, "fit an entry");

static const char *entry_name(const struct entry *e)
{
    return (const char *)&e->addresses[e->count];
}

static bool same_name(const struct table_node *node, const void *name)
{
    return strcmp(entry_name(LIST_CONTAINER(node, struct entry, in_table)), name) == 0;
}

static struct entry *entry_create(const char *name, const struct resolve_answer *answer)
{
    size_t n = strlen(name) + 1, bytes = answer->count * sizeof answer->addresses[0];
    struct entry *e = malloc(offsetof(struct entry, addresses) + bytes + n);
    if (e == NULL)
        return NULL;
    list_init(&e->node);
    e->message = answer->message;
    e->error = (uint8_t)answer->error;
    e->count = (uint8_t)answer->count;
    if (bytes > 0)
        memcpy(e->addresses, answer->addresses, bytes);
    memcpy((char *)e->addresses + bytes, name, n);
    return e;
}

/* Out of the cache and onto the list of what is freed without the lock. */
static void entry_discard(struct resolve_cache *c, struct entry *e, struct list *garbage)
{
    table_remove(&c->table, &e->in_table);
    list_remove(&e->node);
    list_append(garbage, &e->node);
}

static void free_all(struct list *garbage)
{
    struct list *node;
    while ((node = list_pop(garbage)) != NULL)
        free(LIST_CONTAINER(node, struct entry, node));
}

static struct entry *coldest(struct resolve_cache *c)
{
    struct list *head = &c->cold_first;
    return list_empty(head) ? NULL : LIST_CONTAINER(head->next, struct entry, node);
}

static struct entry *find(struct resolve_cache *c, uint64_t hash, const char *name)
{
    struct table_node *node = table_find(&c->table, hash, same_name, name);
    return node != NULL ? LIST_CONTAINER(node, struct entry, in_table) : NULL;
}

static bool is_good(const struct resolve_cache *c, const struct entry *e, uint64_t now_ms)
{
    return e->generation == c->generation && e->until_ms > now_ms;
}

bool resolve_cache_get(struct resolve_cache *c, const char *name, uint64_t now_ms,
                       struct resolve_answer *out)
{
    uint64_t hash = table_hash(&c->table, name, strlen(name));
    uv_mutex_lock(&c->lock);
    struct entry *e = find(c, hash, name);
    bool good = e != NULL && is_good(c, e, now_ms);
    if (good) {
        list_remove(&e->node);
        list_append(&c->cold_first, &e->node);
        out->error = (enum err_type)e->error;
        out->message = e->message;
        out->count = e->count;
        memcpy(out->addresses, e->addresses, e->count * sizeof e->addresses[0]);
    }
    uv_mutex_unlock(&c->lock);
    return good;
}

static void make_room(struct resolve_cache *c, uint64_t now_ms, struct list *garbage)
{
    struct entry *e;
    for (int i = 0; i < COLD_CHECKED && (e = coldest(c)) != NULL; i++) {
        if (is_good(c, e, now_ms) && c->table.count < RESOLVE_CACHE_NAMES)
            return;
        entry_discard(c, e, garbage);
    }
}

void resolve_cache_put(struct resolve_cache *c, const char *name, uint64_t generation,
                       uint64_t now_ms, uint64_t until_ms, const struct resolve_answer *answer)
{
    struct list garbage;
    struct entry *e = entry_create(name, answer);
    if (e == NULL)
        return;
    e->until_ms = until_ms;
    e->generation = generation;
    list_init(&garbage);
    uint64_t hash = table_hash(&c->table, name, strlen(name));
    uv_mutex_lock(&c->lock);
    if (generation == c->generation) {
        struct entry *old = find(c, hash, name);
        if (old != NULL)
            entry_discard(c, old, &garbage);
        make_room(c, now_ms, &garbage);
        table_insert(&c->table, &e->in_table, hash);
        list_append(&c->cold_first, &e->node);
    } else {
        list_append(&garbage, &e->node);
    }
    uv_mutex_unlock(&c->lock);
    free_all(&garbage);
}

uint64_t resolve_cache_generation(const struct resolve_cache *c)
{
    return c->generation;
}

/* Takes out up to a lot of what an older generation left; false when there is no more. Such entries
 * are the coldest: nobody finds them, and new ones join at the warm end. */
static bool drop_lot(struct resolve_cache *c)
{
    struct list garbage;
    struct entry *e = NULL;
    list_init(&garbage);
    uv_mutex_lock(&c->lock);
    for (int i = 0; i < LOT && (e = coldest(c)) != NULL && e->generation != c->generation; i++)
        entry_discard(c, e, &garbage);
    bool more = e != NULL && !list_empty(&garbage);
    uv_mutex_unlock(&c->lock);
    free_all(&garbage);
    return more;
}

void resolve_cache_renew(struct resolve_cache *c, uint64_t seen)
{
    uv_mutex_lock(&c->lock);
    bool mine = seen == 0 || seen == c->generation;
    if (mine)
        c->generation++;
    uv_mutex_unlock(&c->lock);
    while (mine && drop_lot(c))
        ;
}

struct resolve_cache *resolve_cache_create(void)
{
    struct resolve_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    if (!table_init(&c->table) || uv_mutex_init(&c->lock) != 0) {
        table_fini(&c->table);
        free(c);
        return NULL;
    }
    list_init(&c->cold_first);
    c->generation = 1;
    return c;
}

void resolve_cache_destroy(struct resolve_cache *c)
{
    if (c == NULL)
        return;
    free_all(&c->cold_first);
    table_fini(&c->table);
    uv_mutex_destroy(&c->lock);
    free(c);
}

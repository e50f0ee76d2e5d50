/* SPDX-License-Identifier: MIT
 *
 * upstream - see upstream.h. Called by the engine (fetch_hop) when a hop starts and ends, and by
 * its sockets' opening and closing; owns the table.
 */
#include "upstream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "list.h"

#define UPSTREAM_OF(node) LIST_CONTAINER(node, struct upstream, in_table)

bool upstreams_init(struct upstreams *all)
{
    return table_init(&all->table);
}

void upstreams_fini(struct upstreams *all)
{
    assert(all->table.count == 0);
    table_fini(&all->table);
}

static bool same_key(const struct table_node *node, const void *key)
{
    return strcmp(UPSTREAM_OF(node)->key, key) == 0;
}

struct upstream *upstream_transfer_starts(struct upstreams *all, const struct origin *origin)
{
    uint64_t hash = table_hash(&all->table, origin->key, origin->key_len);
    struct table_node *node = table_find(&all->table, hash, same_key, origin->key);
    if (node != NULL) {
        UPSTREAM_OF(node)->transfers++;
        return UPSTREAM_OF(node);
    }
    struct upstream *u = calloc(1, sizeof *u + origin->key_len + 1U);
    if (u == NULL)
        return NULL;
    memcpy(u->key, origin->key, origin->key_len + 1U);
    u->all = all;
    u->transfers = 1;
    table_insert(&all->table, &u->in_table, hash);
    return u;
}

static void drop_unused(struct upstream *u)
{
    if (u->sockets > 0 || u->transfers > 0)
        return;
    table_remove(&u->all->table, &u->in_table);
    free(u);
}

void upstream_transfer_ended(struct upstream *u)
{
    if (u == NULL)
        return;
    u->transfers--;
    drop_unused(u);
}

void upstream_socket_opened(struct upstream *u)
{
    u->sockets++;
}

void upstream_socket_closed(struct upstream *u)
{
    u->sockets--;
    drop_unused(u);
}

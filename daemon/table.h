/* SPDX-License-Identifier: MIT
 *
 * table - intrusive hash table, chained, with a random key per table.
 *
 * An element embeds a `struct table_node`; the table owns its buckets only. Keys come from clients
 * (host names, origins), so the hash is SipHash-1-3 under a key nobody outside knows: no choice of
 * names makes chains long. Buckets double and halve with the count; when memory for that runs out
 * the table goes on with what it has. An element may be in the table once; equal keys are the
 * caller's affair. Belongs to one thread.
 */
#ifndef GATHERD_TABLE_H
#define GATHERD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_node {
    struct table_node *next;
    uint64_t hash;
};

struct table {
    struct table_node **buckets;
    size_t size; /* buckets, a power of two */
    size_t count;
    uint64_t key[2];
};

/* False when memory runs out. fini: frees the buckets; {0} is fine. */
bool table_init(struct table *t) __attribute__((warn_unused_result));
void table_fini(struct table *t);

/* The hash of n bytes in this table. */
uint64_t table_hash(const struct table *t, const void *bytes, size_t n);

/* The first element with this hash for which same(element, key) holds, or NULL. */
struct table_node *table_find(const struct table *t, uint64_t hash,
                              bool (*same)(const struct table_node *node, const void *key),
                              const void *key);

void table_insert(struct table *t, struct table_node *node, uint64_t hash);
void table_remove(struct table *t, struct table_node *node); /* node is in t */

/* Calls visit for every element, in no order. visit neither inserts nor removes; it may free the
 * element when table_fini() comes next. */
void table_each(struct table *t, void (*visit)(struct table_node *node, void *arg), void *arg);

#endif

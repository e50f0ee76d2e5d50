/* SPDX-License-Identifier: MIT
 *
 * heap - deadlines: a binary min-heap of intrusive nodes keyed by microseconds, one per loop.
 * The owner looks at heap_min() to arm its single timer. Push and remove are O(log n); a node
 * knows its place, so it can be removed at any time. No thread safety.
 */
#ifndef GATHERD_HEAP_H
#define GATHERD_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;  /* microseconds of the monotonic clock */
    size_t place; /* index + 1 in the heap; 0 = in none */
};

struct heap {
    struct heap_node **nodes;
    size_t count, cap;
};

void heap_fini(struct heap *h); /* frees the array; nodes are the caller's. {0} is an empty heap. */

/* Adds (or, when it is in already, moves) node under key. False when memory runs out. */
bool heap_set(struct heap *h, struct heap_node *node, int64_t key)
    __attribute__((warn_unused_result));

void heap_remove(struct heap *h, struct heap_node *node); /* a node in no heap is left alone */

/* The node with the smallest key, or NULL. */
struct heap_node *heap_min(const struct heap *h);

#endif

/* SPDX-License-Identifier: MIT
 *
 * heap - the deadlines of a loop: batches, members, client connections. Called on the loop's
 * thread; owns the array of pointers, never the nodes.
 *
 * A node carries its index + 1, kept true by put(), the only function that writes into the array;
 * that is what makes removal from the middle O(log n). The order of equal keys is not defined.
 */
#include "heap.h"

#include <stdlib.h>

#define HEAP_FIRST_CAP ((size_t)64)

void heap_fini(struct heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->nodes[i]->place = 0;
    free(h->nodes);
    *h = (struct heap){0};
}

static void put(struct heap *h, size_t i, struct heap_node *node)
{
    h->nodes[i] = node;
    node->place = i + 1;
}

/* Places node at hole i or above it. */
static void sift_up(struct heap *h, size_t i, struct heap_node *node)
{
    while (i > 0 && h->nodes[(i - 1) / 2]->key > node->key) {
        put(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(h, i, node);
}

/* Places node at hole i or below it. */
static void sift_down(struct heap *h, size_t i, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < h->count && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (child >= h->count || h->nodes[child]->key >= node->key)
            break;
        put(h, i, h->nodes[child]);
        i = child;
    }
    put(h, i, node);
}

static void sift(struct heap *h, size_t i, struct heap_node *node)
{
    if (i > 0 && h->nodes[(i - 1) / 2]->key > node->key)
        sift_up(h, i, node);
    else
        sift_down(h, i, node);
}

static bool make_room(struct heap *h)
{
    if (h->count < h->cap)
        return true;
    size_t cap = h->cap > 0 ? h->cap * 2 : HEAP_FIRST_CAP;
    if (cap > SIZE_MAX / sizeof *h->nodes)
        return false;
    struct heap_node **nodes = realloc(h->nodes, cap * sizeof *nodes);
    if (!nodes)
        return false;
    h->nodes = nodes;
    h->cap = cap;
    return true;
}

bool heap_set(struct heap *h, struct heap_node *node, int64_t key)
{
    if (node->place > 0) {
        node->key = key;
        sift(h, node->place - 1, node);
        return true;
    }
    if (!make_room(h))
        return false;
    node->key = key;
    sift_up(h, h->count++, node);
    return true;
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->place == 0)
        return;
    size_t i = node->place - 1;
    struct heap_node *last = h->nodes[--h->count];
    if (last != node)
        sift(h, i, last);
    node->place = 0;
}

struct heap_node *heap_min(const struct heap *h)
{
    return h->count > 0 ? h->nodes[0] : NULL;
}

/* SPDX-License-Identifier: MIT
 *
 * list - intrusive doubly linked list.
 *
 * A list is a `struct list` head that points at itself when empty; an element embeds a
 * `struct list` node. In this program a state is a list: the function that changes an object's
 * state is the one that moves its node. A node that is on no list points at itself too, so that
 * list_remove() is idempotent and list_linked() answers "is it on one".
 *
 * No allocation, no thread safety: a list belongs to one loop.
 */
#ifndef GATHERD_LIST_H
#define GATHERD_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_CONTAINER(node, type, member) \
    ((type *)(void *)((char *)(node) - offsetof(type, member)))

/* Iterates; `it` may be removed (and freed) by the body, its successor may not. */
#define LIST_FOREACH_SAFE(it, tmp, head) \
    for ((it) = (head)->next, (tmp) = (it)->next; (it) != (head); (it) = (tmp), (tmp) = (it)->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Whether a node is on a list (the same test, read from the other end). */
static inline bool list_linked(const struct list *node)
{
    return node->next != node;
}

static inline void list_insert_between(struct list *node, struct list *prev, struct list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
    list_insert_between(node, head->prev, head);
}

static inline void list_prepend(struct list *head, struct list *node)
{
    list_insert_between(node, head, head->next);
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Takes the first node off; NULL when the list is empty. */
static inline struct list *list_pop(struct list *head)
{
    if (list_empty(head))
        return NULL;
    struct list *node = head->next;
    list_remove(node);
    return node;
}

/* Moves all of `from` to the end of `to`; `from` is empty afterwards. O(1). */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * quota - see quota.h. Asked by http_routes_batch at a batch's head, at its body, and told when its
 * answer was read or dropped, on the front's thread. Owns an entry for each identity that has a
 * batch, or that owes.
 *
 * Identities are the clients' to choose where an address is one, so entries are not kept for long:
 * at each new one some of the oldest are looked at, and those that have nothing left to remember
 * go. With a quota changed by a reload the entries of before still count what they hold.
 */
#include "quota.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "list.h"
#include "table.h"

enum { LOOKED_AT = 2 }; /* old entries at each new one: more than come in */

#define ONE_MEMBER (1 - 1e-6) /* what is added up in small parts may lack that much */

struct quota {
    struct table_node in_table;
    struct list node; /* all->entries, the oldest first */
    size_t batches, members;
    double left;     /* of the rate, members; negative = owed */
    int64_t seen_us; /* when `left` was right */
    bool rated;      /* left is of a rate */
    char identity[];
};

struct quotas {
    struct table table;
    struct list entries;
};

struct quotas *quotas_create(void)
{
    struct quotas *all = calloc(1, sizeof *all);
    if (all == NULL || !table_init(&all->table)) {
        free(all);
        return NULL;
    }
    list_init(&all->entries);
    return all;
}

static void entry_free(struct quotas *all, struct quota *q)
{
    table_remove(&all->table, &q->in_table);
    list_remove(&q->node);
    free(q);
}

void quotas_destroy(struct quotas *all)
{
    struct list *node;
    if (all == NULL)
        return;
    while ((node = list_pop(&all->entries)) != NULL) {
        struct quota *q = LIST_CONTAINER(node, struct quota, node);
        table_remove(&all->table, &q->in_table);
        free(q);
    }
    table_fini(&all->table);
    free(all);
}

size_t quotas_known(const struct quotas *all)
{
    return all->table.count;
}

/* Members that the bucket holds when it is full. */
static double burst_of(const struct config_limits *limits)
{
    return (double)(limits->per_client_rate < 0 ? -limits->per_client_rate
                                                : limits->per_client_rate);
}

static double members_per_us(const struct config_limits *limits)
{
    double seconds = limits->per_client_rate < 0 ? 60 : 1;
    return burst_of(limits) / (seconds * (double)US_PER_S);
}

static void refill(struct quota *q, const struct config_limits *limits, int64_t now_us)
{
    double burst = burst_of(limits);
    if (limits->per_client_rate == 0) {
        q->rated = false;
        return;
    }
    if (!q->rated)
        q->left = burst;
    else if (now_us > q->seen_us)
        q->left += (double)(now_us - q->seen_us) * members_per_us(limits);
    if (q->left > burst)
        q->left = burst;
    q->rated = true;
    q->seen_us = now_us;
}

static bool is_idle(struct quota *q, const struct config_limits *limits, int64_t now_us)
{
    if (q->batches > 0)
        return false;
    refill(q, limits, now_us);
    return !q->rated || q->left >= burst_of(limits);
}

/* Looks at the oldest; one that is still needed goes to the end. */
static void forget_some(struct quotas *all, const struct config_limits *limits, int64_t now_us)
{
    for (int i = 0; i < LOOKED_AT && !list_empty(&all->entries); i++) {
        struct quota *q = LIST_CONTAINER(all->entries.next, struct quota, node);
        if (is_idle(q, limits, now_us)) {
            entry_free(all, q);
            continue;
        }
        list_remove(&q->node);
        list_append(&all->entries, &q->node);
    }
}

static bool same_identity(const struct table_node *node, const void *key)
{
    return strcmp(LIST_CONTAINER(node, struct quota, in_table)->identity, key) == 0;
}

static struct quota *find(const struct quotas *all, const char *identity)
{
    uint64_t hash = table_hash(&all->table, identity, strlen(identity));
    struct table_node *node = table_find(&all->table, hash, same_identity, identity);
    return node != NULL ? LIST_CONTAINER(node, struct quota, in_table) : NULL;
}

static struct quota *add(struct quotas *all, const char *identity,
                         const struct config_limits *limits, int64_t now_us)
{
    size_t n = strlen(identity);
    forget_some(all, limits, now_us);
    struct quota *q = calloc(1, sizeof *q + n + 1);
    if (q == NULL)
        return NULL;
    memcpy(q->identity, identity, n + 1);
    table_insert(&all->table, &q->in_table, table_hash(&all->table, identity, n));
    list_append(&all->entries, &q->node);
    refill(q, limits, now_us);
    return q;
}

static bool any_is_set(const struct config_limits *limits)
{
    return limits->per_client_batches > 0 || limits->per_client_members > 0 ||
           limits->per_client_rate != 0;
}

struct quota_answer quota_check_members(struct quota *q, size_t members,
                                        const struct config_limits *limits, int64_t now_us)
{
    struct quota_answer a = {.verdict = QUOTA_OK};
    size_t most = (size_t)limits->per_client_members;
    if (q == NULL)
        return a;
    refill(q, limits, now_us);
    if (most > 0 && q->members + members > most) {
        a.verdict = QUOTA_MEMBERS;
        a.excess = q->members + members - most;
    } else if (q->rated && q->left < ONE_MEMBER) {
        a.verdict = QUOTA_RATE;
        a.wait_us = (int64_t)((1 - q->left) / members_per_us(limits)) + 1;
    }
    return a;
}

/* Of an identity that nothing is known of, all is free. */
struct quota_answer quota_check(struct quotas *all, const char *identity,
                                const struct config_limits *limits, int64_t now_us)
{
    struct quota *q = any_is_set(limits) ? find(all, identity) : NULL;
    size_t most = (size_t)limits->per_client_batches;
    if (q != NULL && most > 0 && q->batches >= most)
        return (struct quota_answer){.verdict = QUOTA_BATCHES};
    return quota_check_members(q, 1, limits, now_us); /* none has less */
}

struct quota *quota_take(struct quotas *all, const char *identity,
                         const struct config_limits *limits, int64_t now_us, bool *ok)
{
    *ok = true;
    if (!any_is_set(limits))
        return NULL;
    struct quota *q = find(all, identity);
    if (q == NULL)
        q = add(all, identity, limits, now_us);
    *ok = q != NULL;
    if (q != NULL)
        q->batches++;
    return q;
}

void quota_take_members(struct quota *q, size_t members, const struct config_limits *limits,
                        int64_t now_us)
{
    if (q == NULL)
        return;
    refill(q, limits, now_us);
    q->members += members;
    if (q->rated)
        q->left -= (double)members;
}

void quota_give_back(struct quotas *all, struct quota *q, size_t members)
{
    if (q == NULL)
        return;
    q->batches--;
    q->members -= members;
    if (q->batches == 0 && !q->rated)
        entry_free(all, q);
}

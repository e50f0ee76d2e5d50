/* SPDX-License-Identifier: MIT
 *
 * sched_lane - what has a name: see sched_internal.h. Called by sched.c on the scheduler's thread;
 * owns identities, origins, queues and lanes, each from the first that uses it to the last.
 *
 * A batch pushes the same few origins over and over, so it remembers some lanes by a cheap mix of
 * the name, and only what is not there costs the two keyed hashes of the tables. The mix decides
 * nothing but the place: names chosen to collide bring back the tables' cost and no more.
 */
#include <stdlib.h>
#include <string.h>

#include "sched_internal.h"

struct pair {
    const void *owner;
    const struct sched_origin *origin;
};

struct name {
    const char *text;
    size_t len;
};

bool sched_tables_init(struct sched *s)
{
    bool ok = table_init(&s->origins);
    ok = table_init(&s->identities) && ok;
    ok = table_init(&s->lanes) && ok;
    return table_init(&s->queues) && ok;
}

void sched_tables_fini(struct sched *s)
{
    table_fini(&s->origins);
    table_fini(&s->identities);
    table_fini(&s->lanes);
    table_fini(&s->queues);
}

/* Identities */

static bool same_identity(const struct table_node *node, const void *name)
{
    return strcmp(OWNER(node, sched_identity, in_table)->name, name) == 0;
}

struct sched_identity *sched_identity_get(struct sched *s, const char *name)
{
    size_t n = strlen(name);
    uint64_t hash = table_hash(&s->identities, name, n);
    struct table_node *node = table_find(&s->identities, hash, same_identity, name);
    struct sched_identity *identity;
    if (node) {
        identity = OWNER(node, sched_identity, in_table);
    } else {
        identity = calloc(1, sizeof *identity + n + 1);
        if (!identity)
            return NULL;
        memcpy(identity->name, name, n + 1);
        list_init(&identity->node);
        list_init(&identity->runnable);
        table_insert(&s->identities, &identity->in_table, hash);
    }
    identity->batches++;
    return identity;
}

void sched_identity_put(struct sched *s, struct sched_identity *identity)
{
    if (--identity->batches > 0)
        return;
    table_remove(&s->identities, &identity->in_table);
    free(identity);
}

/* Origins */

static bool is_named(const struct sched_origin *o, const struct name *name)
{
    return o->len == name->len && memcmp(o->name, name->text, name->len) == 0;
}

static bool same_origin(const struct table_node *node, const void *name)
{
    return is_named(OWNER(node, sched_origin, in_table), name);
}

static struct sched_origin *origin_get(struct sched *s, const struct name *name)
{
    uint64_t hash = table_hash(&s->origins, name->text, name->len);
    struct table_node *node = table_find(&s->origins, hash, same_origin, name);
    if (node)
        return OWNER(node, sched_origin, in_table);
    struct sched_origin *o = calloc(1, sizeof *o + name->len + 1);
    if (!o)
        return NULL;
    memcpy(o->name, name->text, name->len + 1);
    o->len = name->len;
    list_init(&o->blocked);
    table_insert(&s->origins, &o->in_table, hash);
    return o;
}

static void origin_put(struct sched *s, struct sched_origin *o)
{
    if (o->queues > 0)
        return;
    table_remove(&s->origins, &o->in_table);
    free(o);
}

/* Queues */

static bool same_queue(const struct table_node *node, const void *key)
{
    const struct sched_queue *q = OWNER(node, sched_queue, in_table);
    const struct pair *pair = key;
    return q->identity == pair->owner && q->origin == pair->origin;
}

static struct sched_queue *queue_get(struct sched *s, struct sched_identity *identity,
                                     struct sched_origin *o)
{
    struct pair pair = {identity, o};
    uint64_t hash = table_hash(&s->queues, &pair, sizeof pair);
    struct table_node *node = table_find(&s->queues, hash, same_queue, &pair);
    if (node)
        return OWNER(node, sched_queue, in_table);
    struct sched_queue *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->identity = identity;
    q->origin = o;
    list_init(&q->node);
    list_init(&q->lanes);
    o->queues++;
    table_insert(&s->queues, &q->in_table, hash);
    return q;
}

static void queue_put(struct sched *s, struct sched_queue *q)
{
    if (q->refs > 0)
        return;
    struct sched_origin *o = q->origin;
    o->queues--;
    table_remove(&s->queues, &q->in_table);
    free(q);
    origin_put(s, o);
}

/* Lanes */

static bool same_lane(const struct table_node *node, const void *key)
{
    const struct sched_lane *lane = OWNER(node, sched_lane, in_table);
    const struct pair *pair = key;
    return lane->batch == pair->owner && lane->queue->origin == pair->origin;
}

static struct sched_lane *lane_create(struct sched_batch *b, struct sched_origin *o, uint64_t hash)
{
    struct sched_queue *q = queue_get(b->sched, b->identity, o);
    if (!q)
        return NULL;
    struct sched_lane *lane = calloc(1, sizeof *lane);
    if (!lane) {
        queue_put(b->sched, q);
        return NULL;
    }
    lane->batch = b;
    lane->queue = q;
    q->refs++;
    list_init(&lane->entries);
    list_init(&lane->node);
    list_init(&lane->promised);
    table_insert(&b->sched->lanes, &lane->in_table, hash);
    return lane;
}

static struct sched_lane *lane_find(struct sched_batch *b, const struct name *name)
{
    struct sched *s = b->sched;
    struct sched_origin *o = origin_get(s, name);
    if (!o)
        return NULL;
    struct pair pair = {b, o};
    uint64_t hash = table_hash(&s->lanes, &pair, sizeof pair);
    struct table_node *node = table_find(&s->lanes, hash, same_lane, &pair);
    if (node)
        return OWNER(node, sched_lane, in_table);
    o->queues++; /* held: a failure below frees what nobody uses */
    struct sched_lane *lane = lane_create(b, o, hash);
    o->queues--;
    origin_put(s, o);
    return lane;
}

/* The words overlap at the end. */
static uint64_t mix_of(const struct name *name)
{
    uint64_t word = 0, mix = name->len;
    if (name->len < sizeof word)
        return 0; /* no origin is that short */
    const char *last = name->text + name->len - sizeof word;
    for (const char *p = name->text; p < last; p += sizeof word) {
        memcpy(&word, p, sizeof word);
        mix = (mix ^ word) * 0x9e3779b97f4a7c15U;
    }
    memcpy(&word, last, sizeof word);
    mix = (mix ^ word) * 0x9e3779b97f4a7c15U;
    return mix;
}

/* The pair of places for lanes of that mix. */
static struct sched_lane **pair_of(struct sched_batch *b, uint64_t mix)
{
    return &b->recent[(mix >> 60) % (SCHED_RECENT / 2) * 2];
}

static void remember(struct sched_lane *lane)
{
    struct sched_lane **pair = pair_of(lane->batch, lane->mix);
    pair[1] = pair[0];
    pair[0] = lane;
}

static void forget(struct sched_lane *lane)
{
    struct sched_lane **pair = pair_of(lane->batch, lane->mix);
    for (int i = 0; i < 2; i++) {
        if (pair[i] == lane)
            pair[i] = NULL;
    }
}

struct sched_lane *sched_lane_get(struct sched_batch *b, const char *origin)
{
    const struct name name = {origin, strlen(origin)};
    uint64_t mix = mix_of(&name);
    struct sched_lane **pair = pair_of(b, mix);
    for (int i = 0; i < 2; i++) {
        if (pair[i] && pair[i]->mix == mix && is_named(pair[i]->queue->origin, &name))
            return pair[i];
    }
    struct sched_lane *lane = lane_find(b, &name);
    if (!lane)
        return NULL;
    lane->mix = mix;
    remember(lane);
    return lane;
}

void sched_lane_drop(struct sched_lane *lane)
{
    struct sched *s = lane->batch->sched;
    struct sched_queue *q = lane->queue;
    forget(lane);
    q->refs--;
    table_remove(&s->lanes, &lane->in_table);
    free(lane);
    queue_put(s, q);
}

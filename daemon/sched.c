/* SPDX-License-Identifier: MIT
 *
 * sched - see sched.h. Called by the engine (fetch) on its loop's thread; owns all but the entries.
 *
 * A lane that has entries is in one of three places, and each is left by one event only:
 *   RUNNABLE  on its batch's list. The batch is on its identity's list while it also has a free
 *             slot, the identity on the scheduler's while it has such a batch. Left by being tried.
 *   PARKED    on no list: the batch's share of the origin is used up. Left by its own release.
 *   BLOCKED   the origin is full: on the list of its identity's queue for the origin, and the queue
 *             on the origin's list, so that identities take turns there too, however many batches
 *             each has. Left by a release of the origin's slot.
 * The trick is the promise. A freed slot is promised to the first blocked lane whose batch has a
 * slot; the lane is RUNNABLE again and gets its turn, and until then others see the slot as taken
 * and queue up behind: no newcomer overtakes. A batch that becomes full gives its promises up, so
 * a promise never keeps a slot idle. The invariant: active + promised < limit only where nobody is
 * blocked. Lanes of full batches that a release meets on the way go to their batch's list and try
 * again when it has a slot; that scan is one step per such batch, all else is O(1).
 */
#include "sched.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "slots.h"
#include "table.h"

struct sched {
    struct table origins, identities; /* by name */
    struct table lanes, queues;       /* by pair: batch and origin, identity and origin */
    struct list runnable;             /* identities */
    struct list lenders;              /* batches */
    struct slots_taker slots;         /* the daemon's */
    struct slots_inbox inbox;
    bool starved; /* refused a slot of the daemon, and not told of one since */
    size_t limit_origin;
    size_t waiting, running;
    void (*wake_others)(void *arg, uint64_t loops);
    void *arg;
};

struct sched_identity {
    struct table_node in_table;
    struct list node;     /* on sched.runnable */
    struct list runnable; /* batches */
    size_t batches;
    char name[];
};

struct sched_batch {
    struct sched *sched;
    struct sched_identity *identity;
    struct list node;     /* on identity.runnable */
    struct list runnable; /* lanes */
    struct list promised; /* lanes */
    struct list lends;    /* on sched.lenders */
    struct slots_taker slots;
    size_t limit_per_origin;
    size_t waiting, active;
    bool paused;
    bool starved; /* refused one of its slots, and not told of one since */
};

struct sched_origin {
    struct table_node in_table;
    struct list blocked; /* queues that have lanes */
    size_t active, promised, waiting;
    size_t queues; /* of any identity; it lives while there is one */
    char name[];
};

struct sched_queue {
    struct table_node in_table;
    struct sched_identity *identity;
    struct sched_origin *origin;
    struct list node;  /* on origin.blocked */
    struct list lanes; /* blocked */
    size_t refs;       /* lanes, wherever they are */
};

enum lane_state { LANE_EMPTY, LANE_RUNNABLE, LANE_PARKED, LANE_BLOCKED };

struct sched_lane {
    struct table_node in_table;
    struct sched_batch *batch;
    struct sched_queue *queue;
    struct list entries;
    struct list node;     /* on batch.runnable or queue.lanes */
    struct list promised; /* on batch.promised */
    enum lane_state state;
    size_t active;
};

#define OWNER(ptr, type, member) LIST_CONTAINER(ptr, struct type, member)

/* Tables */

struct pair {
    const void *owner;
    const struct sched_origin *origin;
};

static bool same_origin(const struct table_node *node, const void *name)
{
    return strcmp(OWNER(node, sched_origin, in_table)->name, name) == 0;
}

static bool same_identity(const struct table_node *node, const void *name)
{
    return strcmp(OWNER(node, sched_identity, in_table)->name, name) == 0;
}

static bool same_queue(const struct table_node *node, const void *key)
{
    const struct sched_queue *q = OWNER(node, sched_queue, in_table);
    const struct pair *pair = key;
    return q->identity == pair->owner && q->origin == pair->origin;
}

static bool same_lane(const struct table_node *node, const void *key)
{
    const struct sched_lane *lane = OWNER(node, sched_lane, in_table);
    const struct pair *pair = key;
    return lane->batch == pair->owner && lane->queue->origin == pair->origin;
}

static struct sched_origin *origin_get(struct sched *s, const char *name)
{
    size_t n = strlen(name);
    uint64_t hash = table_hash(&s->origins, name, n);
    struct table_node *node = table_find(&s->origins, hash, same_origin, name);
    if (node)
        return OWNER(node, sched_origin, in_table);
    struct sched_origin *o = calloc(1, sizeof *o + n + 1);
    if (!o)
        return NULL;
    memcpy(o->name, name, n + 1);
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

static struct sched_lane *lane_get(struct sched_batch *b, const char *origin)
{
    struct sched *s = b->sched;
    struct sched_origin *o = origin_get(s, origin);
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

static void lane_put(struct sched_lane *lane)
{
    if (lane->active > 0 || !list_empty(&lane->entries))
        return;
    struct sched *s = lane->batch->sched;
    struct sched_queue *q = lane->queue;
    q->refs--;
    table_remove(&s->lanes, &lane->in_table);
    free(lane);
    queue_put(s, q);
}

/* Places */

static bool batch_full(const struct sched_batch *b)
{
    return b->paused || b->starved || !slots_may(&b->slots);
}

/* What is free and not taken here others may take. */
static void tell(const struct sched *s, struct slots_taker *slots)
{
    uint64_t loops = slots_tell(slots);
    if (loops != 0)
        s->wake_others(s->arg, loops);
}

/* The batch could start something, but not before the daemon has a slot for this loop. */
static void batch_lend(struct sched_batch *b)
{
    list_remove(&b->lends);
    slots_withdraw(&b->slots);
    tell(b->sched, &b->slots);
}

/* Other loops are concerned: the batch waits itself, or others do for what it leaves. */
static void batch_share(struct sched_batch *b)
{
    struct sched *s = b->sched;
    if (!list_linked(&b->node))
        tell(s, &b->slots);
    else if (s->starved)
        batch_lend(b);
    else if (!list_linked(&b->lends))
        list_append(&s->lenders, &b->lends);
}

/* Whether the daemon's slots are wanted, waited for or left to others. */
static void sched_settle(struct sched *s)
{
    if (list_empty(&s->runnable)) {
        s->starved = false;
        slots_withdraw(&s->slots);
        tell(s, &s->slots);
        return;
    }
    if (!s->starved)
        s->starved = slots_wait(&s->slots);
    if (!s->starved)
        return;
    tell(s, &s->slots);
    while (!list_empty(&s->lenders))
        batch_lend(OWNER(s->lenders.next, sched_batch, lends));
}

/* Puts the batch and its identity on the runnable lists or takes them off. */
static void batch_link(struct sched_batch *b, bool runnable)
{
    struct sched_identity *identity = b->identity;
    if (runnable) {
        list_append(&identity->runnable, &b->node);
    } else {
        list_remove(&b->node);
        list_remove(&b->lends);
    }
    bool want = !list_empty(&identity->runnable);
    if (want == list_linked(&identity->node))
        return;
    if (want)
        list_append(&b->sched->runnable, &identity->node);
    else
        list_remove(&identity->node);
    sched_settle(b->sched);
}

/* Runnable or not, as it deserves. */
static void batch_relink(struct sched_batch *b)
{
    bool want = !b->paused && !list_empty(&b->runnable);
    if (!want) {
        b->starved = false;
        slots_withdraw(&b->slots);
    } else if (!b->starved && !list_linked(&b->node)) {
        b->starved = slots_wait(&b->slots);
    }
    bool runnable = want && !b->starved;
    if (runnable != list_linked(&b->node))
        batch_link(b, runnable);
    if (b->slots.registered || slots_others_wait(&b->slots))
        batch_share(b);
}

static void lane_run(struct sched_lane *lane)
{
    lane->state = LANE_RUNNABLE;
    list_append(&lane->batch->runnable, &lane->node);
    batch_relink(lane->batch);
}

static void lane_block(struct sched_lane *lane, bool front)
{
    struct sched_queue *q = lane->queue;
    lane->state = LANE_BLOCKED;
    if (front)
        list_prepend(&q->lanes, &lane->node);
    else
        list_append(&q->lanes, &lane->node);
    if (front) {
        list_remove(&q->node);
        list_prepend(&q->origin->blocked, &q->node);
    } else if (!list_linked(&q->node)) {
        list_append(&q->origin->blocked, &q->node);
    }
}

/* Takes the lane off the list it is on. */
static void lane_unlink(struct sched_lane *lane, enum lane_state next)
{
    enum lane_state state = lane->state;
    lane->state = next;
    list_remove(&lane->node);
    if (state == LANE_RUNNABLE)
        batch_relink(lane->batch);
    else if (state == LANE_BLOCKED && list_empty(&lane->queue->lanes))
        list_remove(&lane->queue->node);
}

/* Promises */

static bool origin_free(const struct sched *s, const struct sched_origin *o)
{
    return o->active + o->promised < s->limit_origin;
}

static void promise_take(struct sched_lane *lane)
{
    if (!list_linked(&lane->promised))
        return;
    list_remove(&lane->promised);
    lane->queue->origin->promised--;
}

/* Promises the origin's free slots to the lanes that wait for them; restores the invariant. */
static void origin_wake(struct sched *s, struct sched_origin *o)
{
    while (origin_free(s, o) && !list_empty(&o->blocked)) {
        struct sched_queue *q = OWNER(o->blocked.next, sched_queue, node);
        struct sched_lane *lane = OWNER(q->lanes.next, sched_lane, node);
        lane_unlink(lane, LANE_EMPTY);
        if (!batch_full(lane->batch)) {
            list_append(&lane->batch->promised, &lane->promised);
            o->promised++;
            if (list_linked(&q->node)) {
                list_remove(&q->node);
                list_append(&o->blocked, &q->node);
            }
        }
        lane_run(lane);
    }
}

/* A batch that can start nothing must not keep others waiting. */
static void batch_give_up_promises(struct sched_batch *b)
{
    while (!list_empty(&b->promised)) {
        struct sched_lane *lane = OWNER(b->promised.next, sched_lane, promised);
        promise_take(lane);
        origin_wake(b->sched, lane->queue->origin);
    }
}

/* A runnable batch whose slots are used up leaves the lists until it has one. */
static void batch_settle(struct sched_batch *b)
{
    if (!list_linked(&b->node) || !slots_wait(&b->slots))
        return;
    b->starved = true;
    batch_relink(b);
    batch_give_up_promises(b);
}

/* The scheduler */

struct sched *sched_create(const struct sched_params *params)
{
    struct sched *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    list_init(&s->runnable);
    list_init(&s->lenders);
    s->wake_others = params->wake_others;
    s->arg = params->arg;
    s->limit_origin = (size_t)params->limit_origin;
    slots_join(&s->slots, params->daemon, params->loop, &s->inbox);
    bool ok = table_init(&s->origins);
    ok = table_init(&s->identities) && ok;
    ok = table_init(&s->lanes) && ok;
    ok = table_init(&s->queues) && ok;
    if (ok)
        return s;
    sched_destroy(s);
    return NULL;
}

void sched_destroy(struct sched *s)
{
    if (!s)
        return;
    assert(s->waiting == 0 && s->running == 0 && s->identities.count == 0);
    while (!slots_leave(&s->slots))
        sched_wake(s);
    table_fini(&s->origins);
    table_fini(&s->identities);
    table_fini(&s->lanes);
    table_fini(&s->queues);
    free(s);
}

static void on_limit(struct table_node *node, void *arg)
{
    origin_wake(arg, OWNER(node, sched_origin, in_table));
}

void sched_set_limit_origin(struct sched *s, int limit)
{
    assert(limit >= 1);
    s->limit_origin = (size_t)limit;
    table_each(&s->origins, on_limit, s);
    s->starved = false;
    sched_settle(s);
}

void sched_wake(struct sched *s)
{
    struct slots_taker *told = slots_inbox_take(&s->inbox);
    while (told) {
        struct slots_taker *next = slots_inbox_next(told);
        if (told == &s->slots) {
            s->starved = false;
            sched_settle(s);
        } else {
            struct sched_batch *b = OWNER(told, sched_batch, slots);
            b->starved = false;
            batch_relink(b);
        }
        told = next;
    }
}

static struct sched_identity *identity_get(struct sched *s, const char *name)
{
    size_t n = strlen(name);
    uint64_t hash = table_hash(&s->identities, name, n);
    struct table_node *node = table_find(&s->identities, hash, same_identity, name);
    if (node)
        return OWNER(node, sched_identity, in_table);
    struct sched_identity *identity = calloc(1, sizeof *identity + n + 1);
    if (!identity)
        return NULL;
    memcpy(identity->name, name, n + 1);
    list_init(&identity->node);
    list_init(&identity->runnable);
    table_insert(&s->identities, &identity->in_table, hash);
    return identity;
}

struct sched_batch *sched_batch_join(struct sched *s, const char *identity, struct slots *slots,
                                     int limit_per_origin)
{
    assert(limit_per_origin >= 1);
    struct sched_batch *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->identity = identity_get(s, identity);
    if (!b->identity) {
        free(b);
        return NULL;
    }
    b->identity->batches++;
    b->sched = s;
    b->limit_per_origin = (size_t)limit_per_origin;
    list_init(&b->node);
    list_init(&b->runnable);
    list_init(&b->promised);
    list_init(&b->lends);
    slots_join(&b->slots, slots, s->slots.index, &s->inbox);
    return b;
}

void sched_batch_leave(struct sched_batch *b)
{
    if (!b)
        return;
    assert(b->waiting == 0 && b->active == 0);
    while (!slots_leave(&b->slots))
        sched_wake(b->sched);
    struct sched_identity *identity = b->identity;
    if (--identity->batches == 0) {
        table_remove(&b->sched->identities, &identity->in_table);
        free(identity);
    }
    free(b);
}

void sched_batch_pause(struct sched_batch *b, bool paused)
{
    b->paused = paused;
    batch_relink(b);
    if (paused)
        batch_give_up_promises(b);
}

bool sched_push(struct sched_batch *b, const char *origin, struct sched_entry *e, bool front)
{
    assert(e->state == ENTRY_IDLE);
    struct sched_lane *lane = lane_get(b, origin);
    if (!lane)
        return false;
    if (front)
        list_prepend(&lane->entries, &e->node);
    else
        list_append(&lane->entries, &e->node);
    e->lane = lane;
    e->state = ENTRY_WAITING;
    b->sched->waiting++;
    b->waiting++;
    lane->queue->origin->waiting++;
    if (lane->state == LANE_EMPTY && lane->active < b->limit_per_origin)
        lane_run(lane);
    else if (lane->state == LANE_EMPTY)
        lane->state = LANE_PARKED;
    return true;
}

/* Takes the lane's first entry out of the waiting ones. */
static struct sched_entry *lane_pop(struct sched_lane *lane)
{
    struct sched_entry *e = OWNER(list_pop(&lane->entries), sched_entry, node);
    lane->batch->sched->waiting--;
    lane->batch->waiting--;
    lane->queue->origin->waiting--;
    return e;
}

/* Starts the first entry of a runnable lane and sends lane, batch and identity to the ends of
 * their lists. */
static struct sched_entry *lane_start(struct sched_lane *lane)
{
    struct sched_batch *b = lane->batch;
    struct sched *s = b->sched;
    struct sched_entry *e = lane_pop(lane);
    e->state = ENTRY_RUNNING;
    promise_take(lane);
    lane->queue->origin->active++;
    lane->active++;
    s->running++;
    b->active++;
    list_remove(&b->identity->node);
    list_append(&s->runnable, &b->identity->node);
    list_remove(&b->node);
    list_append(&b->identity->runnable, &b->node);
    list_remove(&lane->node);
    lane->state = list_empty(&lane->entries)             ? LANE_EMPTY
                  : lane->active < b->limit_per_origin ? LANE_RUNNABLE
                                                         : LANE_PARKED;
    if (lane->state == LANE_RUNNABLE)
        list_append(&b->runnable, &lane->node);
    batch_relink(b);
    batch_settle(b);
    sched_settle(s);
    return e;
}

/* Takes the daemon's slot and the batch's, or neither; who was refused is settled. */
static bool take_slots(struct sched *s, struct sched_batch *b)
{
    if (!slots_take(&s->slots)) {
        sched_settle(s);
        return false;
    }
    if (slots_take(&b->slots))
        return true;
    slots_give(&s->slots);
    batch_settle(b);
    return false;
}

struct sched_entry *sched_next(struct sched *s)
{
    while (sched_ready(s)) {
        struct sched_identity *identity = OWNER(s->runnable.next, sched_identity, node);
        struct sched_batch *b = OWNER(identity->runnable.next, sched_batch, node);
        struct sched_lane *lane = OWNER(b->runnable.next, sched_lane, node);
        struct sched_origin *o = lane->queue->origin;
        bool promised = list_linked(&lane->promised);
        if (promised ? o->active < s->limit_origin : origin_free(s, o)) {
            if (take_slots(s, b))
                return lane_start(lane);
            continue;
        }
        promise_take(lane); /* the limit was lowered meanwhile: first in line again */
        lane_unlink(lane, LANE_BLOCKED);
        lane_block(lane, promised);
    }
    return NULL;
}

bool sched_ready(const struct sched *s)
{
    return !s->starved && !list_empty(&s->runnable);
}

static void release_waiting(struct sched_entry *e, struct sched_lane *lane)
{
    struct sched_batch *b = lane->batch;
    struct sched_origin *o = lane->queue->origin;
    list_remove(&e->node);
    b->sched->waiting--;
    b->waiting--;
    o->waiting--;
    if (!list_empty(&lane->entries))
        return;
    promise_take(lane);
    lane_unlink(lane, LANE_EMPTY);
    origin_wake(b->sched, o);
}

static void release_running(struct sched_lane *lane)
{
    struct sched_batch *b = lane->batch;
    struct sched_origin *o = lane->queue->origin;
    struct sched *s = b->sched;
    s->running--;
    b->active--;
    lane->active--;
    o->active--;
    slots_give(&b->slots);
    slots_give(&s->slots);
    b->starved = false;
    s->starved = false;
    if (lane->state == LANE_PARKED)
        lane_run(lane);
    batch_relink(b);
    origin_wake(s, o);
    sched_settle(s);
}

void sched_release(struct sched_entry *e)
{
    struct sched_lane *lane = e->lane;
    enum sched_state state = e->state;
    e->lane = NULL;
    e->state = ENTRY_IDLE;
    if (state == ENTRY_WAITING)
        release_waiting(e, lane);
    else if (state == ENTRY_RUNNING)
        release_running(lane);
    if (lane)
        lane_put(lane);
}

void sched_move(struct sched_entry *from, struct sched_entry *to)
{
    assert(from->state == ENTRY_RUNNING && to->state == ENTRY_IDLE);
    to->lane = from->lane;
    to->state = ENTRY_RUNNING;
    from->lane = NULL;
    from->state = ENTRY_IDLE;
}

size_t sched_waiting(const struct sched *s)
{
    return s->waiting;
}

size_t sched_running(const struct sched *s)
{
    return s->running;
}

size_t sched_batch_running(const struct sched_batch *b)
{
    return b->active;
}

size_t sched_batch_peak(const struct sched_batch *b)
{
    return slots_peak(b->slots.slots);
}

size_t sched_origin_waiting(const struct sched_entry *e)
{
    return e->lane->queue->origin->waiting;
}

size_t sched_origin_running(const struct sched_entry *e)
{
    return e->lane->queue->origin->active;
}

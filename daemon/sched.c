/* SPDX-License-Identifier: MIT
 *
 * sched - see sched.h. Called by the engine (fetch) on its loop's thread; owns all but the entries
 * and the slots. What has a name (identities, origins, lanes) is in sched_lane.c.
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
 *
 * Slots that loops share (slots.h) may be used up elsewhere. A batch that was refused one is
 * starved: like a full one it leaves the runnable lists and gives its promises up, until it is told
 * of a slot or gives one back itself. The scheduler is starved likewise when it was refused one of
 * the daemon's. A slot that is left free here is told of, unless it will be taken here: by a batch
 * that is runnable while the scheduler is not starved. Batches that keep others waiting so are
 * lenders; when the scheduler starves, all of them give up what they claim and tell: a slot of a
 * batch must not wait for a loop that has no slot of the daemon to go with it.
 */
#include "sched.h"

#include <assert.h>
#include <stdlib.h>

#include "sched_internal.h"

/* Places */

/* It can start nothing now. */
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

/* The batch waits itself, or another loop does for what this one leaves. */
static bool concerns_others(const struct sched_batch *b)
{
    return b->slots.registered || slots_others_wait(&b->slots);
}

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
    if (s->slots.alone)
        return; /* sched_ready() looks itself */
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
    if (concerns_others(b))
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
    while (!list_empty(&o->blocked) && origin_free(s, o)) {
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
    if (!list_linked(&b->node))
        return;
    b->starved = slots_wait(&b->slots);
    if (b->starved)
        batch_link(b, false);
    if (concerns_others(b))
        batch_share(b);
    if (b->starved)
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
    if (sched_tables_init(s))
        return s;
    sched_destroy(s);
    return NULL;
}

void sched_destroy(struct sched *s)
{
    if (!s)
        return;
    assert(s->running == 0 && s->identities.count == 0);
    while (!slots_leave(&s->slots))
        sched_wake(s);
    sched_tables_fini(s);
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

struct sched_batch *sched_batch_join(struct sched *s, const char *identity, struct slots *slots,
                                     int limit_per_origin)
{
    assert(limit_per_origin >= 1);
    struct sched_batch *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->identity = sched_identity_get(s, identity);
    if (!b->identity) {
        free(b);
        return NULL;
    }
    b->sched = s;
    b->limit_per_origin = (size_t)limit_per_origin;
    list_init(&b->node);
    list_init(&b->runnable);
    list_init(&b->promised);
    list_init(&b->lends);
    slots_join(&b->slots, slots, slots->takers == 1 ? 0 : s->slots.index, &s->inbox);
    return b;
}

void sched_batch_leave(struct sched_batch *b)
{
    if (!b)
        return;
    assert(b->waiting == 0 && b->active == 0);
    while (!slots_leave(&b->slots))
        sched_wake(b->sched);
    sched_identity_put(b->sched, b->identity);
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
    struct sched_lane *lane = sched_lane_get(b, origin);
    if (!lane)
        return false;
    if (front)
        list_prepend(&lane->entries, &e->node);
    else
        list_append(&lane->entries, &e->node);
    e->lane = lane;
    e->state = ENTRY_WAITING;
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
    lane->batch->waiting--;
    lane->queue->origin->waiting--;
    return e;
}

static void to_end(struct list *head, struct list *node)
{
    if (node->next == head)
        return;
    list_remove(node);
    list_append(head, node);
}

/* The lane has started an entry: where it goes now. */
static void lane_next_place(struct sched_lane *lane)
{
    struct sched_batch *b = lane->batch;
    if (!list_empty(&lane->entries) && lane->active < b->limit_per_origin) {
        to_end(&b->runnable, &lane->node);
        return;
    }
    lane->state = list_empty(&lane->entries) ? LANE_EMPTY : LANE_PARKED;
    list_remove(&lane->node);
    if (list_empty(&b->runnable))
        batch_relink(b);
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
    to_end(&s->runnable, &b->identity->node);
    to_end(&b->identity->runnable, &b->node);
    lane_next_place(lane);
    if (!b->slots.alone || !slots_may(&b->slots))
        batch_settle(b);
    if (!s->slots.alone && !slots_may(&s->slots))
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
    return !list_empty(&s->runnable) && (s->slots.alone ? slots_may(&s->slots) : !s->starved);
}

static void release_waiting(struct sched_entry *e, struct sched_lane *lane)
{
    struct sched_batch *b = lane->batch;
    struct sched_origin *o = lane->queue->origin;
    list_remove(&e->node);
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
    bool unsettled = s->starved;
    b->starved = false;
    s->starved = false;
    if (lane->state == LANE_PARKED)
        lane_run(lane);
    else if (!list_linked(&b->node) || concerns_others(b))
        batch_relink(b);
    if (!list_empty(&o->blocked))
        origin_wake(s, o);
    if (unsettled || list_empty(&s->runnable))
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
    if (lane && lane->active == 0 && list_empty(&lane->entries))
        sched_lane_drop(lane);
}

void sched_move(struct sched_entry *from, struct sched_entry *to)
{
    assert(from->state == ENTRY_RUNNING && to->state == ENTRY_IDLE);
    to->lane = from->lane;
    to->state = ENTRY_RUNNING;
    from->lane = NULL;
    from->state = ENTRY_IDLE;
}

size_t sched_running(const struct sched *s)
{
    return s->running;
}

size_t sched_batch_running(const struct sched_batch *b)
{
    return b->active;
}

size_t sched_origin_waiting(const struct sched_entry *e)
{
    return e->lane->queue->origin->waiting;
}

/* SPDX-License-Identifier: MIT
 *
 * test_sched_loops - several schedulers that share slots, on one thread: whom is told what when.
 *
 * A loop is played as the engine plays it and no better: sched_wake() only when another loop named
 * it, sched_next() only while sched_ready(). So a wake-up that is missing shows as an entry that
 * could run and does not. The property test plays random operations and lets the loops come to rest
 * now and then; a model that knows the limits and nothing of loops must then find nothing to start.
 * The last test does the same with threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sched.h"
#include "slots.h"

#define LOOPS_MAX 4
#define MANY 1000000

struct item {
    struct sched_entry entry;
    struct list node; /* running here, or free */
    int loop, batch, origin;
};

struct world {
    struct slots *daemon;
    struct sched *loops[LOOPS_MAX];
    int count;
    uint64_t named; /* loops to be woken */
    size_t wakes;
};

static void on_wake_others(void *arg, uint64_t loops)
{
    struct world *w = arg;
    assert_true(loops != 0 && loops < UINT64_C(1) << w->count);
    w->named |= loops;
    w->wakes++;
}

static void open_world(struct world *w, int count, int daemon, int origin)
{
    *w = (struct world){.count = count, .daemon = slots_create(daemon, count)};
    assert_non_null(w->daemon);
    for (int i = 0; i < count; i++) {
        const struct sched_params params = {w->daemon, i, origin, on_wake_others, w};
        w->loops[i] = sched_create(&params);
        assert_non_null(w->loops[i]);
    }
}

static void close_world(struct world *w)
{
    assert_int_equal(slots_used(w->daemon), 0);
    for (int i = 0; i < w->count; i++)
        sched_destroy(w->loops[i]);
    slots_destroy(w->daemon);
}

/* A batch on all loops. */
struct wide {
    struct slots *slots;
    struct sched_batch *joins[LOOPS_MAX];
};

static void join_wide(struct world *w, struct wide *b, const char *identity, int limit, int share)
{
    *b = (struct wide){.slots = slots_create(limit, w->count)};
    assert_non_null(b->slots);
    for (int i = 0; i < w->count; i++) {
        b->joins[i] = sched_batch_join(w->loops[i], identity, b->slots, share);
        assert_non_null(b->joins[i]);
    }
}

/* On one loop only. */
static void join_one(struct world *w, struct wide *b, int loop, const char *identity, int limit,
                     int share)
{
    *b = (struct wide){.slots = slots_create(limit, 1)};
    assert_non_null(b->slots);
    b->joins[loop] = sched_batch_join(w->loops[loop], identity, b->slots, share);
    assert_non_null(b->joins[loop]);
}

static void leave_wide(struct world *w, struct wide *b)
{
    assert_int_equal(slots_used(b->slots), 0);
    for (int i = 0; i < w->count; i++)
        sched_batch_leave(b->joins[i]);
    slots_destroy(b->slots);
}

static void push(struct wide *b, int loop, int origin, struct item *item)
{
    char name[40];
    snprintf(name, sizeof name, "http://%d-%d.test:80", loop, origin);
    assert_true(sched_push(b->joins[loop], name, &item->entry, false));
    item->loop = loop;
    item->origin = origin;
}

/* What the engine of that loop does in a turn, but for one start at most. */
static struct item *turn(struct world *w, int loop)
{
    struct sched *s = w->loops[loop];
    if (w->named & UINT64_C(1) << loop) {
        w->named &= ~(UINT64_C(1) << loop);
        sched_wake(s);
    }
    struct sched_entry *e = sched_ready(s) ? sched_next(s) : NULL;
    return e ? LIST_CONTAINER(e, struct item, entry) : NULL;
}

static bool busy(const struct world *w, int loop)
{
    return (w->named & UINT64_C(1) << loop) != 0 || sched_ready(w->loops[loop]);
}

static bool any_busy(const struct world *w)
{
    for (int l = 0; l < w->count; l++) {
        if (busy(w, l))
            return true;
    }
    return false;
}

static void release(struct item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sched_release(&items[i].entry);
}

/* Scripts */

static void test_batch_limit_over_two_loops(void **state)
{
    (void)state;
    struct world w;
    struct wide b;
    struct item items[4] = {0};
    open_world(&w, 2, 10, 10);
    join_wide(&w, &b, "x", 1, 10);
    for (int i = 0; i < 4; i++)
        push(&b, i % 2, 0, &items[i]);
    assert_ptr_equal(turn(&w, 0), &items[0]);
    assert_null(turn(&w, 0));
    assert_null(turn(&w, 1));
    assert_int_equal(w.named, 0);
    sched_release(&items[0].entry);
    assert_null(turn(&w, 0)); /* the other one waits longer */
    assert_int_equal(w.named, 2);
    assert_ptr_equal(turn(&w, 1), &items[1]);
    sched_release(&items[1].entry);
    assert_null(turn(&w, 1));
    assert_int_equal(w.named, 1);
    assert_ptr_equal(turn(&w, 0), &items[2]);
    sched_release(&items[2].entry);
    assert_int_equal(w.named, 2); /* nothing left here: told at once */
    assert_ptr_equal(turn(&w, 1), &items[3]);
    assert_int_equal(slots_peak(b.slots), 1);
    assert_int_equal(sched_batch_running(b.joins[0]), 0);
    assert_int_equal(sched_batch_running(b.joins[1]), 1);
    release(items, 4);
    leave_wide(&w, &b);
    close_world(&w);
}

static void test_daemon_limit_over_two_loops(void **state)
{
    (void)state;
    struct world w;
    struct wide b[2];
    struct item items[2][10] = {0};
    int started[2] = {0, 0};
    open_world(&w, 2, 1, 10);
    for (int l = 0; l < 2; l++) {
        join_wide(&w, &b[l], "x", 10, 10);
        for (int i = 0; i < 10; i++)
            push(&b[l], l, 0, &items[l][i]);
    }
    for (int n = 0, loop = 0; n < 20; loop ^= 1) {
        struct item *item = turn(&w, loop);
        if (!item) {
            assert_true(busy(&w, loop ^ 1));
            continue;
        }
        n++;
        started[item->loop]++;
        assert_in_range(started[0] - started[1] + 1, 0, 2);
        assert_null(turn(&w, loop ^ 1));
        sched_release(&item->entry);
    }
    assert_int_equal(slots_peak(w.daemon), 1);
    for (int l = 0; l < 2; l++)
        leave_wide(&w, &b[l]);
    close_world(&w);
}

/* Four loops that all want more than there is: each holds a quarter, whoever came first. */
static void fair_shares(bool of_batch)
{
    enum { EACH = 400, LIMIT = 40, LOOPS = 4 };
    struct world w;
    struct wide b;
    struct item *items = calloc(LOOPS * EACH, sizeof *items);
    struct item *running[LOOPS * EACH];
    int count[LOOPS] = {0}, head = 0, tail = 0;
    assert_non_null(items);
    open_world(&w, LOOPS, of_batch ? MANY : LIMIT, MANY);
    join_wide(&w, &b, "x", of_batch ? LIMIT : MANY, MANY);
    for (int l = 0; l < LOOPS; l++) {
        for (int i = 0; i < EACH; i++)
            push(&b, l, i % 3, &items[l * EACH + i]);
        for (struct item *item; (item = turn(&w, l)) != NULL; count[l]++)
            running[tail++] = item;
    }
    assert_int_equal(count[0], LIMIT);
    while (tail < LOOPS * EACH / 2) {
        int loop = running[head]->loop;
        sched_release(&running[head++]->entry);
        count[loop]--;
        for (int l = loop; any_busy(&w); l = (l + 1) % LOOPS) {
            struct item *item = turn(&w, l);
            if (item)
                count[l]++;
            if (item)
                running[tail++] = item;
        }
        assert_int_equal(tail - head, LIMIT);
        if (head == LIMIT)
            w.wakes = 0;
        assert_true(head < LIMIT || count[loop] == LIMIT / LOOPS);
    }
    assert_int_equal(w.wakes, 0); /* at rest each keeps its own */
    release(items, LOOPS * EACH);
    leave_wide(&w, &b);
    close_world(&w);
    free(items);
}

static void test_fair_shares(void **state)
{
    (void)state;
    fair_shares(false);
    fair_shares(true);
}

/* The slot is offered to the loop that waits; it does not want it any more: the next one has it. */
static void test_offer_declined(void **state)
{
    (void)state;
    struct world w;
    struct wide b;
    struct item items[3] = {0}, second = {0};
    open_world(&w, 3, 10, 10);
    join_wide(&w, &b, "x", 1, 10);
    for (int i = 0; i < 3; i++)
        push(&b, i, 0, &items[i]);
    assert_ptr_equal(turn(&w, 0), &items[0]);
    assert_null(turn(&w, 1));
    assert_null(turn(&w, 2));
    push(&b, 0, 0, &second);
    sched_release(&items[0].entry);
    assert_int_equal(w.named, 2); /* one slot, one offer */
    assert_null(turn(&w, 0));
    sched_release(&items[1].entry);
    assert_int_equal(w.named, 6);
    sched_batch_pause(b.joins[2], true);
    assert_int_equal(w.named, 7);
    assert_null(turn(&w, 2));
    assert_null(turn(&w, 1));
    assert_ptr_equal(turn(&w, 0), &second);
    sched_batch_pause(b.joins[2], false);
    assert_null(turn(&w, 2));
    sched_release(&second.entry);
    assert_ptr_equal(turn(&w, 2), &items[2]);
    release(items, 3);
    leave_wide(&w, &b);
    close_world(&w);
}

static void test_limit_changes(void **state)
{
    (void)state;
    struct world w;
    struct wide b;
    struct item items[2][4] = {0};
    open_world(&w, 2, 4, 10);
    join_wide(&w, &b, "x", 10, 10);
    for (int l = 0; l < 2; l++) {
        for (int i = 0; i < 4; i++)
            push(&b, l, 0, &items[l][i]);
    }
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(turn(&w, 0), &items[0][i]);
    assert_null(turn(&w, 1));
    slots_set_limit(w.daemon, 2);
    sched_set_limit_origin(w.loops[0], 10);
    sched_set_limit_origin(w.loops[1], 10);
    for (int i = 0; i < 2; i++) {
        sched_release(&items[0][i].entry);
        assert_int_equal(w.named, 0);
        assert_null(turn(&w, 1));
    }
    sched_release(&items[0][2].entry);
    assert_ptr_equal(turn(&w, 1), &items[1][0]);
    assert_null(turn(&w, 1));
    slots_set_limit(w.daemon, 3);
    assert_null(turn(&w, 1));
    sched_set_limit_origin(w.loops[1], 10);
    assert_ptr_equal(turn(&w, 1), &items[1][1]);
    assert_null(turn(&w, 1));
    assert_int_equal(slots_peak(w.daemon), 4);
    for (int l = 0; l < 2; l++)
        release(items[l], 4);
    leave_wide(&w, &b);
    close_world(&w);
}

/* A batch whose slots are on another loop is promised an origin's slot: somebody else of this loop
 * has that, and the batch its turn when it is told. */
static void test_starved_batch_gives_its_promise_up(void **state)
{
    (void)state;
    struct world w;
    struct wide b, other;
    struct item far = {0}, held = {0}, waits = {0}, third = {0};
    open_world(&w, 2, 10, 1);
    join_wide(&w, &b, "x", 1, 10);
    join_wide(&w, &other, "y", 10, 10);
    push(&other, 0, 0, &held);
    assert_ptr_equal(turn(&w, 0), &held);
    push(&b, 0, 0, &waits);
    push(&other, 0, 0, &third);
    assert_null(turn(&w, 0));   /* both wait for the origin, b first */
    sched_release(&held.entry); /* promised to b */
    push(&b, 1, 0, &far);
    assert_ptr_equal(turn(&w, 1), &far);
    assert_ptr_equal(turn(&w, 0), &third);
    sched_release(&third.entry);
    assert_null(turn(&w, 0));
    sched_release(&far.entry);
    assert_int_equal(w.named, 1);
    assert_ptr_equal(turn(&w, 0), &waits);
    sched_release(&waits.entry);
    leave_wide(&w, &b);
    leave_wide(&w, &other);
    close_world(&w);
}

/* A batch's free slot must not wait for a loop that has no slot of the daemon to go with it. */
static void test_batch_slot_is_lent(void **state)
{
    (void)state;
    struct world w;
    struct wide b, slow, fast;
    struct item near[2] = {0}, far = {0}, slows[4] = {0}, fasts[4] = {0};
    open_world(&w, 2, 4, 10);
    join_wide(&w, &slow, "s", 10, 10);
    join_wide(&w, &b, "x", 1, 10);
    join_wide(&w, &fast, "f", 10, 10);
    push(&b, 0, 0, &near[0]);
    push(&b, 0, 0, &near[1]);
    assert_ptr_equal(turn(&w, 0), &near[0]);
    for (int i = 0; i < 4; i++)
        push(&slow, 0, 1, &slows[i]);
    for (int i = 0; i < 2; i++)
        assert_ptr_equal(turn(&w, 0), &slows[i]);
    push(&b, 1, 0, &far);
    assert_null(turn(&w, 1)); /* waits for near[0] */
    for (int i = 0; i < 4; i++)
        push(&fast, 1, 1, &fasts[i]);
    assert_ptr_equal(turn(&w, 1), &fasts[0]);
    assert_null(turn(&w, 1));
    assert_null(turn(&w, 0));
    sched_release(&near[0].entry);
    assert_null(turn(&w, 0)); /* loop 1 holds less: it has the daemon's slot */
    assert_ptr_equal(turn(&w, 1), &fasts[1]);
    assert_null(turn(&w, 1));
    assert_null(turn(&w, 0));
    sched_release(&fasts[1].entry);
    assert_ptr_equal(turn(&w, 1), &far);
    release(near, 2);
    release(&far, 1);
    release(slows, 4);
    release(fasts, 4);
    leave_wide(&w, &b);
    leave_wide(&w, &slow);
    leave_wide(&w, &fast);
    close_world(&w);
}

/* The same for a slot that the loop meant to take next when somebody else's entry had the last slot
 * of the daemon. */
static void test_lender_starves(void **state)
{
    (void)state;
    struct world w;
    struct wide b, slow, fast;
    struct item near[2] = {0}, far[2] = {0}, slows[3] = {0}, once = {0};
    open_world(&w, 2, 5, 10);
    join_wide(&w, &b, "x", 2, 10);
    join_wide(&w, &slow, "s", 10, 10);
    join_wide(&w, &fast, "f", 10, 10);
    for (int i = 0; i < 3; i++)
        push(&slow, 0, 1, &slows[i]);
    assert_ptr_equal(turn(&w, 0), &slows[0]);
    push(&fast, 1, 1, &once);
    assert_ptr_equal(turn(&w, 1), &once);
    for (int i = 0; i < 2; i++) {
        push(&b, 0, 0, &near[i]);
        push(&b, 1, 0, &far[i]);
    }
    assert_ptr_equal(turn(&w, 0), &slows[1]);
    assert_ptr_equal(turn(&w, 0), &near[0]);
    assert_ptr_equal(turn(&w, 1), &far[0]);
    assert_null(turn(&w, 1));
    sched_release(&near[0].entry); /* loop 0 holds less of b and may have it again */
    assert_null(turn(&w, 1));
    assert_ptr_equal(turn(&w, 0), &slows[2]);
    assert_null(turn(&w, 0));
    assert_null(turn(&w, 1));
    sched_release(&once.entry);
    assert_ptr_equal(turn(&w, 1), &far[1]);
    release(near, 2);
    release(far, 2);
    release(slows, 3);
    leave_wide(&w, &b);
    leave_wide(&w, &slow);
    leave_wide(&w, &fast);
    close_world(&w);
}

/* A batch that is on one loop has its slots for itself; the daemon's are shared as ever. */
static void test_batch_of_one_loop(void **state)
{
    (void)state;
    struct world w;
    struct wide own, other;
    struct item items[3] = {0}, far[2] = {0};
    open_world(&w, 2, 2, 10);
    join_wide(&w, &other, "x", 10, 10);
    join_one(&w, &own, 1, "y", 1, 10);
    for (int i = 0; i < 3; i++)
        push(&own, 1, 0, &items[i]);
    for (int i = 0; i < 2; i++)
        push(&other, 0, 0, &far[i]);
    assert_ptr_equal(turn(&w, 1), &items[0]);
    assert_null(turn(&w, 1));
    assert_ptr_equal(turn(&w, 0), &far[0]);
    assert_null(turn(&w, 0));
    sched_release(&items[0].entry);
    assert_ptr_equal(turn(&w, 1), &items[1]);
    sched_release(&items[1].entry);
    sched_release(&items[2].entry);
    assert_ptr_equal(turn(&w, 0), &far[1]);
    assert_int_equal(slots_peak(own.slots), 1);
    release(far, 2);
    leave_wide(&w, &own);
    leave_wide(&w, &other);
    close_world(&w);
}

/* A cancelled job is done while its transfer still holds the slots. */
static void test_move(void **state)
{
    (void)state;
    struct world w;
    struct wide b;
    struct item items[2] = {0};
    struct sched_entry rest = {0};
    open_world(&w, 1, 10, 10);
    join_wide(&w, &b, "x", 1, 10);
    push(&b, 0, 0, &items[0]);
    push(&b, 0, 0, &items[1]);
    assert_ptr_equal(turn(&w, 0), &items[0]);
    sched_move(&items[0].entry, &rest);
    assert_int_equal(items[0].entry.state, ENTRY_IDLE);
    assert_int_equal(rest.state, ENTRY_RUNNING);
    sched_release(&items[0].entry);
    assert_null(turn(&w, 0));
    assert_int_equal(sched_running(w.loops[0]), 1);
    push(&b, 0, 0, &items[0]); /* it may be used again */
    sched_release(&rest);
    assert_ptr_equal(turn(&w, 0), &items[1]);
    sched_release(&items[1].entry);
    assert_ptr_equal(turn(&w, 0), &items[0]);
    sched_release(&items[0].entry);
    leave_wide(&w, &b);
    close_world(&w);
}

/* Property: random operations against a model */

#define BATCHES 7
#define ORIGINS 3
#define ITEMS 250

struct model {
    struct world w;
    int limit_daemon, limit_origin, highest_daemon;
    struct wide batches[BATCHES];
    int limit[BATCHES], share[BATCHES];
    bool paused[BATCHES][LOOPS_MAX];
    int waiting[BATCHES][LOOPS_MAX][ORIGINS], running_lane[BATCHES][LOOPS_MAX][ORIGINS];
    int running, running_batch[BATCHES], running_origin[LOOPS_MAX][ORIGINS];
    struct item items[ITEMS];
    uint64_t random;
};

static int chance(uint64_t *random, int n)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (int)((*random >> 20) % (uint64_t)n);
}

static bool may_start(const struct model *m, int b, int l, int o)
{
    return m->waiting[b][l][o] > 0 && !m->paused[b][l] && m->running < m->limit_daemon &&
           m->running_batch[b] < m->limit[b] && m->running_lane[b][l][o] < m->share[b] &&
           m->running_origin[l][o] < m->limit_origin;
}

static void count_running(struct model *m, const struct item *item, int change)
{
    m->running += change;
    m->running_batch[item->batch] += change;
    m->running_origin[item->loop][item->origin] += change;
    m->running_lane[item->batch][item->loop][item->origin] += change;
}

static bool play_turn(struct model *m, int loop)
{
    struct item *item = turn(&m->w, loop);
    if (!item)
        return false;
    int b = item->batch, o = item->origin;
    assert_int_equal(item->loop, loop);
    assert_true(may_start(m, b, loop, o));
    m->waiting[b][loop][o]--;
    count_running(m, item, 1);
    return true;
}

/* All loops turn, in any order, until none has anything to do; the model agrees. */
static void come_to_rest(struct model *m)
{
    while (any_busy(&m->w)) {
        int first = chance(&m->random, m->w.count);
        for (int i = 0; i < m->w.count; i++) {
            int loop = (first + i) % m->w.count;
            for (int n = 1 + chance(&m->random, 4); n > 0 && busy(&m->w, loop); n--)
                (void)play_turn(m, loop);
        }
    }
    assert_int_equal(slots_used(m->w.daemon), m->running);
    for (int b = 0; b < BATCHES; b++) {
        assert_int_equal(slots_used(m->batches[b].slots), m->running_batch[b]);
        for (int l = 0; l < m->w.count; l++)
            for (int o = 0; o < ORIGINS; o++)
                assert_false(may_start(m, b, l, o));
    }
}

static void op_push(struct model *m)
{
    struct item *item = &m->items[chance(&m->random, ITEMS)];
    int b = chance(&m->random, BATCHES), l = chance(&m->random, m->w.count);
    int o = chance(&m->random, ORIGINS);
    if (item->entry.state != ENTRY_IDLE || !m->batches[b].joins[l])
        return;
    push(&m->batches[b], l, o, item);
    item->batch = b;
    m->waiting[b][l][o]++;
}

static void op_release(struct model *m, enum sched_state wanted)
{
    struct item *item = &m->items[chance(&m->random, ITEMS)];
    int b = item->batch, l = item->loop, o = item->origin;
    if (item->entry.state != wanted)
        return;
    if (wanted == ENTRY_WAITING)
        m->waiting[b][l][o]--;
    else
        count_running(m, item, -1);
    sched_release(&item->entry);
}

static void op_pause(struct model *m)
{
    int b = chance(&m->random, BATCHES), l = chance(&m->random, m->w.count);
    if (!m->batches[b].joins[l])
        return;
    m->paused[b][l] = !m->paused[b][l];
    sched_batch_pause(m->batches[b].joins[l], m->paused[b][l]);
}

static void op_limits(struct model *m)
{
    m->limit_daemon = 1 + chance(&m->random, 25);
    m->limit_origin = 1 + chance(&m->random, 7);
    slots_set_limit(m->w.daemon, m->limit_daemon);
    if (m->limit_daemon > m->highest_daemon)
        m->highest_daemon = m->limit_daemon;
    for (int l = 0; l < m->w.count; l++)
        sched_set_limit_origin(m->w.loops[l], m->limit_origin);
}

static void open_model(struct model *m, uint64_t seed)
{
    m->random = seed * 0x9e3779b97f4a7c15U;
    m->limit_daemon = m->highest_daemon = 1 + chance(&m->random, 25);
    m->limit_origin = 1 + chance(&m->random, 7);
    open_world(&m->w, 1 + chance(&m->random, LOOPS_MAX), m->limit_daemon, m->limit_origin);
    for (int b = 0; b < BATCHES; b++) {
        char identity[2] = {(char)('a' + chance(&m->random, 3)), 0};
        m->limit[b] = 1 + chance(&m->random, 8);
        m->share[b] = 1 + chance(&m->random, 4);
        if (chance(&m->random, 4) > 0)
            join_wide(&m->w, &m->batches[b], identity, m->limit[b], m->share[b]);
        else
            join_one(&m->w, &m->batches[b], chance(&m->random, m->w.count), identity, m->limit[b],
                     m->share[b]);
    }
}

/* Everything that waits is started and ends. */
static void close_model(struct model *m)
{
    for (int b = 0; b < BATCHES; b++) {
        for (int l = 0; l < m->w.count; l++) {
            if (m->paused[b][l])
                sched_batch_pause(m->batches[b].joins[l], false);
            m->paused[b][l] = false;
        }
    }
    come_to_rest(m);
    while (m->running > 0) {
        op_release(m, ENTRY_RUNNING);
        come_to_rest(m);
    }
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(m->items[i].entry.state, ENTRY_IDLE);
    assert_in_range(slots_peak(m->w.daemon), 0, m->highest_daemon);
    for (int b = 0; b < BATCHES; b++) {
        assert_in_range(slots_peak(m->batches[b].slots), 0, m->limit[b]);
        leave_wide(&m->w, &m->batches[b]);
    }
    close_world(&m->w);
}

static void test_property(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct model *m = calloc(1, sizeof *m);
        assert_non_null(m);
        open_model(m, seed);
        int pushes = 1 + chance(&m->random, 30), turns = 1 + chance(&m->random, 60);
        int ends = 1 + chance(&m->random, 60), rests = 1 + chance(&m->random, 9);
        for (int i = 0; i < 3000; i++) {
            int what = chance(&m->random, pushes + turns + ends + rests + 4);
            if (what < pushes)
                op_push(m);
            else if ((what -= pushes) < turns)
                (void)play_turn(m, chance(&m->random, m->w.count));
            else if ((what -= turns) < ends)
                op_release(m, ENTRY_RUNNING);
            else if ((what -= ends) < rests)
                come_to_rest(m);
            else if (what - rests < 2)
                op_release(m, ENTRY_WAITING);
            else if (chance(&m->random, 4) == 0)
                op_pause(m);
            else if (chance(&m->random, 20) == 0)
                op_limits(m);
        }
        close_model(m);
        free(m);
    }
}

/* Threads: each plays an engine of its own, joins and leaves batches that the others still use, and
 * sleeps when nothing of it runs and nothing may start. */

#define WIDE 3
#define EACH 400

struct crowd;

struct player {
    struct crowd *all;
    struct sched *sched;
    int loop;
    struct sched_batch *joins[WIDE];
    struct item items[EACH];
    struct list running;
    int left; /* items that have not ended */
    uint64_t random;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool woken; /* under the lock */
};

struct crowd {
    struct slots *daemon, *batches[WIDE];
    int limit_daemon, limit[WIDE];
    _Atomic int in_use, in_use_of[WIDE], over, hung;
    struct player players[LOOPS_MAX];
};

static void on_wake_players(void *arg, uint64_t loops)
{
    struct crowd *all = arg;
    for (int i = 0; i < LOOPS_MAX; i++) {
        struct player *p = &all->players[i];
        if ((loops & UINT64_C(1) << i) == 0)
            continue;
        pthread_mutex_lock(&p->lock);
        p->woken = true;
        pthread_cond_signal(&p->cond);
        pthread_mutex_unlock(&p->lock);
    }
}

static void player_wait(struct player *p)
{
    bool sleeps = p->left > 0 && list_empty(&p->running) && !sched_ready(p->sched);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&p->lock);
    while (sleeps && !p->woken && p->all->hung == 0) {
        if (pthread_cond_timedwait(&p->cond, &p->lock, &until) != 0)
            p->all->hung++;
    }
    bool woken = p->woken;
    p->woken = false;
    pthread_mutex_unlock(&p->lock);
    if (woken)
        sched_wake(p->sched);
}

static void player_start(struct player *p)
{
    struct crowd *all = p->all;
    struct sched_entry *e;
    for (int n = chance(&p->random, 8); n > 0 && (e = sched_next(p->sched)) != NULL; n--) {
        struct item *item = LIST_CONTAINER(e, struct item, entry);
        if (++all->in_use > all->limit_daemon ||
            ++all->in_use_of[item->batch] > all->limit[item->batch])
            all->over++;
        list_append(&p->running, &item->node);
    }
}

static void player_end(struct player *p)
{
    struct list *node;
    for (int n = chance(&p->random, 5); n > 0 && (node = list_pop(&p->running)) != NULL; n--) {
        struct item *item = LIST_CONTAINER(node, struct item, node);
        p->all->in_use--;
        p->all->in_use_of[item->batch]--;
        p->left--;
        sched_release(&item->entry);
    }
}

static void player_push(struct player *p)
{
    for (int i = 0; i < EACH; i++) {
        struct item *item = &p->items[i];
        char name[40];
        item->batch = chance(&p->random, WIDE);
        snprintf(name, sizeof name, "http://%d-%d.test:80", p->loop, chance(&p->random, 4));
        if (!sched_push(p->joins[item->batch], name, &item->entry, false))
            p->all->hung++;
    }
    p->left = EACH;
}

static void *play_player(void *arg)
{
    static const char *const identities[WIDE] = {"x", "x", "y"};
    struct player *p = arg;
    for (int i = 0; i < WIDE; i++)
        p->joins[i] = sched_batch_join(p->sched, identities[i], p->all->batches[i], 1 + 2 * i);
    player_push(p);
    while (p->left > 0 && p->all->hung == 0) {
        player_start(p);
        player_end(p);
        player_wait(p);
    }
    for (int i = 0; i < EACH; i++)
        sched_release(&p->items[i].entry); /* nothing to do, unless it hung */
    for (int i = 0; i < WIDE; i++)
        sched_batch_leave(p->joins[i]);
    sched_destroy(p->sched);
    return NULL;
}

static void open_player(struct crowd *all, int i, uint64_t seed)
{
    struct player *p = &all->players[i];
    const struct sched_params params = {all->daemon, i, 6, on_wake_players, all};
    p->all = all;
    p->loop = i;
    p->random = seed * 0x9e3779b97f4a7c15U + (uint64_t)i + 1;
    list_init(&p->running);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->cond, NULL);
    p->sched = sched_create(&params);
    assert_non_null(p->sched);
}

static void play_crowd(uint64_t seed)
{
    struct crowd *all = calloc(1, sizeof *all);
    assert_non_null(all);
    all->limit_daemon = 1 + (int)(seed * 3 % 17);
    all->daemon = slots_create(all->limit_daemon, LOOPS_MAX);
    assert_non_null(all->daemon);
    for (int i = 0; i < WIDE; i++) {
        all->limit[i] = 1 + (int)(seed * 5 % 7) * i;
        all->batches[i] = slots_create(all->limit[i], LOOPS_MAX);
        assert_non_null(all->batches[i]);
    }
    for (int i = 0; i < LOOPS_MAX; i++)
        open_player(all, i, seed);
    for (int i = 0; i < LOOPS_MAX; i++) {
        struct player *p = &all->players[i];
        assert_int_equal(pthread_create(&p->thread, NULL, play_player, p), 0);
    }
    for (int i = 0; i < LOOPS_MAX; i++)
        pthread_join(all->players[i].thread, NULL);
    assert_int_equal(all->hung, 0);
    assert_int_equal(all->over, 0);
    for (int i = 0; i < WIDE; i++)
        slots_destroy(all->batches[i]);
    slots_destroy(all->daemon);
    for (int i = 0; i < LOOPS_MAX; i++) {
        pthread_mutex_destroy(&all->players[i].lock);
        pthread_cond_destroy(&all->players[i].cond);
    }
    free(all);
}

static void test_threads(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++)
        play_crowd(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_limit_over_two_loops),
        cmocka_unit_test(test_daemon_limit_over_two_loops),
        cmocka_unit_test(test_fair_shares),
        cmocka_unit_test(test_offer_declined),
        cmocka_unit_test(test_limit_changes),
        cmocka_unit_test(test_starved_batch_gives_its_promise_up),
        cmocka_unit_test(test_batch_slot_is_lent),
        cmocka_unit_test(test_lender_starves),
        cmocka_unit_test(test_batch_of_one_loop),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

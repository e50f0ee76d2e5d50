/* SPDX-License-Identifier: MIT
 *
 * test_sched - the scheduler by script and by chance, on one thread and without a clock.
 *
 * The scripts name what is promised: limits, order, turns, who gets a freed slot. The property test
 * plays random operations against a model that knows the rules and nothing of lists: whatever
 * starts must be the first of its lane and within the limits, and when nothing starts the model
 * must not find an entry that could. sched_destroy() frees no lane and no origin, so under a leak
 * checker every test also shows that they go when they are empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sched.h"
#include "slots.h"

#define A "http://a.test:80"
#define B "http://b.test:80"
#define C "http://c.test:80"
#define MANY 1000000

struct item {
    struct sched_entry entry;
    int batch, origin; /* for the tests that ask whose it was */
};

static struct item *item_of(struct sched_entry *e)
{
    return e ? LIST_CONTAINER(e, struct item, entry) : NULL;
}

static struct item *next(struct sched *s)
{
    return item_of(sched_next(s));
}

/* Whose slots are whose: a scheduler and a batch borrow them. */
struct owned {
    struct list node;
    const void *owner;
    struct slots *slots;
};

static struct list all_owned = {&all_owned, &all_owned};

static struct slots *make_slots(int limit)
{
    struct slots *slots = slots_create(limit, 1);
    assert_non_null(slots);
    return slots;
}

static void own(const void *owner, struct slots *slots)
{
    struct owned *o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->owner = owner;
    o->slots = slots;
    list_prepend(&all_owned, &o->node);
}

static struct owned *owned_by(const void *owner)
{
    struct list *node = all_owned.next;
    while (LIST_CONTAINER(node, struct owned, node)->owner != owner)
        node = node->next;
    return LIST_CONTAINER(node, struct owned, node);
}

static void disown(const void *owner)
{
    struct owned *o = owned_by(owner);
    list_remove(&o->node);
    slots_destroy(o->slots);
    free(o);
}

static struct sched *create(int daemon, int origin)
{
    struct slots *slots = make_slots(daemon);
    struct sched_params params = {.daemon = slots, .limit_origin = origin};
    struct sched *s = sched_create(&params);
    assert_non_null(s);
    own(s, slots);
    return s;
}

static void destroy(struct sched *s)
{
    sched_destroy(s);
    if (s)
        disown(s);
}

static void set_limits(struct sched *s, int daemon, int origin)
{
    slots_set_limit(owned_by(s)->slots, daemon);
    sched_set_limit_origin(s, origin);
}

static struct sched_batch *join(struct sched *s, const char *identity, int limit, int per_origin)
{
    struct slots *slots = make_slots(limit);
    struct sched_batch *b = sched_batch_join(s, identity, slots, per_origin);
    assert_non_null(b);
    own(b, slots);
    return b;
}

static void leave(struct sched_batch *b)
{
    sched_batch_leave(b);
    if (b)
        disown(b);
}

static void push(struct sched_batch *b, const char *origin, struct item *item)
{
    assert_true(sched_push(b, origin, &item->entry, false));
}

static void release(struct item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sched_release(&items[i].entry);
}

/* Scripts */

static void test_empty(void **state)
{
    (void)state;
    struct sched *s = create(1, 1);
    struct item item = {0};
    assert_false(sched_ready(s));
    assert_null(next(s));
    sched_release(&item.entry);
    assert_int_equal(item.entry.state, ENTRY_IDLE);
    leave(join(s, "x", 1, 1));
    destroy(s);
    destroy(NULL);
    leave(NULL);
}

static void test_gauges(void **state)
{
    (void)state;
    struct sched *s = create(10, 10);
    struct sched_batch *b = join(s, "x", 10, 10), *other = join(s, "x", 10, 10);
    struct item items[4] = {0};
    push(b, A, &items[0]);
    push(b, A, &items[1]);
    push(other, A, &items[2]);
    push(b, B, &items[3]);
    assert_int_equal(sched_origin_waiting(&items[0].entry), 3);
    assert_int_equal(sched_origin_waiting(&items[3].entry), 1);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &items[2]);
    assert_int_equal(items[0].entry.state, ENTRY_RUNNING);
    assert_int_equal(sched_origin_waiting(&items[0].entry), 1);
    assert_int_equal(sched_running(s), 2);
    assert_int_equal(sched_batch_running(b), 1);
    assert_non_null(next(s));
    assert_non_null(next(s));
    assert_int_equal(sched_batch_running(b), 3);
    release(items, 4);
    assert_int_equal(sched_running(s) + sched_batch_running(b), 0);
    assert_int_equal(slots_peak(owned_by(b)->slots), 3);
    assert_int_equal(slots_peak(owned_by(other)->slots), 1);
    leave(b);
    leave(other);
    destroy(s);
}

static void test_limit_daemon(void **state)
{
    (void)state;
    struct sched *s = create(2, 10);
    struct sched_batch *b = join(s, "x", 10, 10), *other = join(s, "y", 10, 10);
    struct item items[4] = {0};
    push(b, A, &items[0]);
    push(b, B, &items[1]);
    push(other, A, &items[2]);
    push(other, B, &items[3]);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &items[2]);
    assert_false(sched_ready(s));
    assert_null(next(s));
    sched_release(&items[2].entry);
    assert_true(sched_ready(s));
    assert_ptr_equal(next(s), &items[1]);
    assert_null(next(s));
    release(items, 4);
    leave(b);
    leave(other);
    destroy(s);
}

static void test_limit_batch(void **state)
{
    (void)state;
    struct sched *s = create(10, 10);
    struct sched_batch *b = join(s, "x", 1, 10), *other = join(s, "x", 10, 10);
    struct item items[3] = {0};
    push(b, A, &items[0]);
    push(b, B, &items[1]);
    push(other, B, &items[2]);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &items[2]);
    assert_null(next(s));
    sched_release(&items[2].entry);
    assert_null(next(s));
    sched_release(&items[0].entry);
    assert_ptr_equal(next(s), &items[1]);
    release(items, 3);
    leave(b);
    leave(other);
    destroy(s);
}

/* A batch's own share of an origin holds that origin's lane back and no other. */
static void test_limit_share(void **state)
{
    (void)state;
    struct sched *s = create(10, 10);
    struct sched_batch *b = join(s, "x", 10, 1), *other = join(s, "x", 10, 10);
    struct item items[5] = {0};
    push(b, A, &items[0]);
    push(b, A, &items[1]);
    push(b, B, &items[2]);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &items[2]);
    assert_null(next(s));
    push(other, A, &items[3]);
    assert_ptr_equal(next(s), &items[3]);
    sched_release(&items[3].entry);
    assert_null(next(s));
    sched_release(&items[1].entry); /* the lane is empty, its share still used up */
    push(b, A, &items[4]);
    assert_null(next(s));
    sched_release(&items[0].entry);
    assert_ptr_equal(next(s), &items[4]);
    release(items, 5);
    leave(b);
    leave(other);
    destroy(s);
}

/* Over all batches, and a full origin holds up nobody who wants another one. */
static void test_limit_origin(void **state)
{
    (void)state;
    struct sched *s = create(10, 2);
    struct sched_batch *b = join(s, "x", 10, 10), *other = join(s, "y", 10, 10);
    struct item items[5] = {0};
    push(b, A, &items[0]);
    push(b, A, &items[1]);
    push(b, B, &items[2]);
    push(other, A, &items[3]);
    push(other, B, &items[4]);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &items[3]);
    assert_ptr_equal(next(s), &items[2]);
    assert_ptr_equal(next(s), &items[4]);
    assert_null(next(s));
    sched_release(&items[2].entry);
    assert_null(next(s));
    sched_release(&items[3].entry);
    assert_ptr_equal(next(s), &items[1]);
    release(items, 5);
    leave(b);
    leave(other);
    destroy(s);
}

static void test_fifo_and_front(void **state)
{
    (void)state;
    struct sched *s = create(10, 10);
    struct sched_batch *b = join(s, "x", 10, 10);
    struct item items[5] = {0};
    for (int i = 0; i < 3; i++)
        push(b, A, &items[i]);
    assert_true(sched_push(b, A, &items[3].entry, true));
    assert_true(sched_push(b, A, &items[4].entry, true));
    const int order[] = {4, 3, 0, 1, 2};
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(next(s), &items[order[i]]);
    release(items, 5);
    leave(b);
    destroy(s);
}

static void test_lanes_take_turns(void **state)
{
    (void)state;
    struct sched *s = create(100, 100);
    struct sched_batch *b = join(s, "x", 100, 100);
    static const char *const origins[] = {A, B, C};
    struct item items[30] = {0};
    for (int o = 0; o < 3; o++) {
        for (int i = 0; i < 10; i++) {
            items[o * 10 + i].origin = o;
            push(b, origins[o], &items[o * 10 + i]);
        }
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(next(s)->origin, i % 3);
    release(items, 30);
    leave(b);
    destroy(s);
}

/* Ten batches of one identity have one turn together; the other identity's batch has as many. */
static void identities_take_turns(int daemon, int origin)
{
    struct sched *s = create(daemon, origin);
    struct sched_batch *batches[11];
    struct item *items = calloc(11 * 100, sizeof *items);
    int started[2] = {0, 0};
    assert_non_null(items);
    for (int b = 0; b < 11; b++) {
        batches[b] = join(s, b < 10 ? "many" : "one", MANY, MANY);
        for (int i = 0; i < 100; i++) {
            items[b * 100 + i].batch = b;
            push(batches[b], A, &items[b * 100 + i]);
        }
    }
    for (int i = 0; i < 100; i++) {
        struct item *item = next(s);
        assert_non_null(item);
        started[item->batch < 10 ? 0 : 1]++;
        assert_in_range(started[0] - started[1] + 1, 0, 2);
        sched_release(&item->entry);
    }
    release(items, 11 * 100);
    for (int b = 0; b < 11; b++)
        leave(batches[b]);
    destroy(s);
    free(items);
}

static void test_identities_take_turns(void **state)
{
    (void)state;
    identities_take_turns(1, MANY);
    identities_take_turns(MANY, MANY);
}

/* Also where all of them wait for one origin. */
static void test_identities_take_turns_at_a_full_origin(void **state)
{
    (void)state;
    struct sched *s = create(MANY, 1);
    struct sched_batch *batches[11];
    struct item items[110] = {0}, first = {0};
    int started[2] = {0, 0};
    for (int b = 0; b < 11; b++)
        batches[b] = join(s, b < 10 ? "many" : "one", MANY, MANY);
    push(batches[0], A, &first);
    assert_ptr_equal(next(s), &first);
    for (int b = 0; b < 11; b++) {
        for (int i = 0; i < 10; i++) {
            items[b * 10 + i].batch = b;
            push(batches[b], A, &items[b * 10 + i]);
        }
    }
    assert_null(next(s));
    sched_release(&first.entry);
    for (int i = 0; i < 20; i++) {
        struct item *item = next(s);
        assert_non_null(item);
        assert_null(next(s));
        started[item->batch < 10 ? 0 : 1]++;
        assert_in_range(started[0] - started[1] + 1, 0, 2);
        sched_release(&item->entry);
    }
    release(items, 110);
    for (int b = 0; b < 11; b++)
        leave(batches[b]);
    destroy(s);
}

static void test_big_does_not_starve_small(void **state)
{
    (void)state;
    struct sched *s = create(50, 100);
    struct sched_batch *big = join(s, "x", MANY, MANY), *small = join(s, "x", MANY, MANY);
    struct item *items = calloc(10000, sizeof *items), two[2] = {0};
    assert_non_null(items);
    for (int i = 0; i < 10000; i++)
        push(big, A, &items[i]);
    for (int i = 0; i < 50; i++)
        assert_ptr_equal(next(s), &items[i]);
    push(small, A, &two[0]);
    push(small, A, &two[1]);
    for (int i = 0; i < 4; i++) {
        sched_release(&items[i].entry);
        assert_non_null(next(s));
    }
    assert_int_equal(two[0].entry.state, ENTRY_RUNNING);
    assert_int_equal(two[1].entry.state, ENTRY_RUNNING);
    release(items, 10000);
    release(two, 2);
    leave(big);
    leave(small);
    destroy(s);
    free(items);
}

/* k batches with enough to do: after any number of starts none is ahead of another by more than 1,
 * whichever limit is the scarce one. */
static void shares(int daemon, int origin, bool one_identity)
{
    enum { BATCHES = 7, EACH = 60 };
    struct sched *s = create(daemon, origin);
    struct sched_batch *batches[BATCHES];
    struct item *items = calloc(BATCHES * EACH, sizeof *items), *running[BATCHES * EACH];
    int started[BATCHES] = {0}, head = 0, tail = 0;
    assert_non_null(items);
    for (int b = 0; b < BATCHES; b++) {
        char name[32];
        snprintf(name, sizeof name, "%d", one_identity ? 0 : b);
        batches[b] = join(s, name, MANY, MANY);
        for (int i = 0; i < EACH; i++) {
            items[b * EACH + i].batch = b;
            push(batches[b], A, &items[b * EACH + i]);
        }
    }
    while (tail < BATCHES * EACH - BATCHES) {
        struct item *item = next(s);
        if (!item) {
            assert_true(head < tail);
            sched_release(&running[head++]->entry);
            continue;
        }
        running[tail++] = item;
        started[item->batch]++;
        for (int b = 0; b < BATCHES; b++)
            assert_in_range(started[item->batch] - started[b] + 1, 0, 2);
    }
    release(items, BATCHES * EACH);
    for (int b = 0; b < BATCHES; b++)
        leave(batches[b]);
    destroy(s);
    free(items);
}

static void test_shares(void **state)
{
    (void)state;
    shares(1, MANY, true);
    shares(10, MANY, false);
    shares(MANY, 1, true);
    shares(MANY, 10, false);
    shares(5, 3, true);
    shares(3, 5, false);
}

/* The daemon is full all the time and new batches keep coming: who waited for the origin first has
 * its slot first. */
static void test_newcomers_do_not_overtake(void **state)
{
    (void)state;
    struct sched *s = create(2, 1);
    struct sched_batch *old = join(s, "old", MANY, MANY), *busy = join(s, "busy", MANY, MANY);
    struct sched_batch *fresh[10];
    struct item holder = {0}, waits = {0}, items[20] = {0}, new_items[10] = {0};
    push(busy, A, &holder);
    assert_ptr_equal(next(s), &holder);
    push(old, A, &waits);
    assert_null(next(s)); /* it has been tried: it waits for A */
    for (int i = 0; i < 20; i++)
        push(busy, i % 2 ? B : C, &items[i]);
    struct item *other = next(s);
    assert_non_null(other);
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "fresh-%d", i);
        fresh[i] = join(s, name, MANY, MANY);
        push(fresh[i], A, &new_items[i]);
    }
    sched_release(&holder.entry);
    while (waits.entry.state == ENTRY_WAITING) {
        struct item *item = next(s);
        assert_non_null(item);
        assert_true(item == &waits || (item >= items && item < items + 20));
        if (item != &waits)
            sched_release(&item->entry);
    }
    release(&waits, 1);
    release(items, 20);
    release(new_items, 10);
    for (int i = 0; i < 10; i++)
        leave(fresh[i]);
    leave(old);
    leave(busy);
    destroy(s);
}

/* One batch of one slot is promised two origins; when it starts on the first, the second origin's
 * slot goes to the next who waits. */
static void test_promise_given_up(void **state)
{
    (void)state;
    struct sched *s = create(MANY, 1);
    struct sched_batch *holder = join(s, "h", MANY, MANY), *narrow = join(s, "n", 1, MANY);
    struct sched_batch *third = join(s, "t", MANY, MANY);
    struct item held[2] = {0}, items[2] = {0}, other = {0};
    push(holder, A, &held[0]);
    push(holder, B, &held[1]);
    assert_ptr_equal(next(s), &held[0]);
    assert_ptr_equal(next(s), &held[1]);
    push(narrow, A, &items[0]);
    push(narrow, B, &items[1]);
    push(third, B, &other);
    assert_null(next(s));
    release(held, 2);
    assert_ptr_equal(next(s), &items[0]);
    assert_ptr_equal(next(s), &other);
    assert_null(next(s));
    sched_release(&items[0].entry);
    assert_null(next(s)); /* narrow has a slot again, B has not */
    sched_release(&other.entry);
    assert_ptr_equal(next(s), &items[1]);
    release(items, 2);
    leave(holder);
    leave(narrow);
    leave(third);
    destroy(s);
}

/* A waiting entry leaves from each place a lane can be in. */
static void test_release_of_waiting(void **state)
{
    (void)state;
    struct sched *s = create(MANY, 1);
    struct sched_batch *b = join(s, "x", MANY, 1), *other = join(s, "y", MANY, MANY);
    struct sched_batch *third = join(s, "z", MANY, MANY);
    struct item items[5] = {0};
    push(b, A, &items[0]);
    sched_release(&items[0].entry); /* runnable */
    assert_null(next(s));
    push(b, A, &items[0]);
    assert_ptr_equal(next(s), &items[0]);
    push(b, A, &items[1]);
    sched_release(&items[1].entry); /* parked */
    push(other, A, &items[2]);
    assert_null(next(s));
    sched_release(&items[2].entry); /* blocked */
    push(other, A, &items[3]);
    assert_null(next(s));
    push(third, A, &items[4]);
    assert_null(next(s));
    sched_release(&items[0].entry);
    sched_release(&items[3].entry); /* promised: the next one has it */
    assert_ptr_equal(next(s), &items[4]);
    assert_int_equal(sched_origin_waiting(&items[4].entry), 0);
    sched_release(&items[4].entry);
    leave(b);
    leave(other);
    leave(third);
    destroy(s);
}

static void test_limits_change(void **state)
{
    (void)state;
    struct sched *s = create(2, 1);
    struct sched_batch *b = join(s, "x", MANY, MANY), *other = join(s, "y", MANY, MANY);
    struct item items[6] = {0};
    for (int i = 0; i < 3; i++)
        push(b, A, &items[i]);
    for (int i = 3; i < 6; i++)
        push(other, A, &items[i]);
    assert_ptr_equal(next(s), &items[0]);
    assert_null(next(s));
    set_limits(s, 3, 2);
    assert_ptr_equal(next(s), &items[3]);
    assert_null(next(s));
    set_limits(s, 3, 9);
    assert_non_null(next(s));
    assert_null(next(s));
    set_limits(s, 9, 1);
    sched_release(&items[0].entry);
    assert_null(next(s));
    sched_release(&items[3].entry);
    assert_null(next(s));
    release(items, 6);
    leave(b);
    leave(other);
    destroy(s);
}

/* The slot is promised, the limit lowered, the lane tried in vain: it is first in line again. */
static void test_limit_lowered_under_a_promise(void **state)
{
    (void)state;
    struct sched *s = create(MANY, 2);
    struct sched_batch *b = join(s, "x", MANY, MANY), *other = join(s, "y", MANY, MANY);
    struct item held[2] = {0}, first = {0}, second = {0};
    push(b, A, &held[0]);
    push(b, A, &held[1]);
    assert_non_null(next(s));
    assert_non_null(next(s));
    push(b, A, &first);
    assert_null(next(s));
    push(other, A, &second);
    assert_null(next(s));
    sched_release(&held[0].entry);
    set_limits(s, MANY, 1);
    assert_null(next(s));
    sched_release(&held[1].entry);
    assert_ptr_equal(next(s), &first);
    assert_null(next(s));
    sched_release(&first.entry);
    assert_ptr_equal(next(s), &second);
    sched_release(&second.entry);
    leave(b);
    leave(other);
    destroy(s);
}

/* Property: random operations against a model */

#define BATCHES 9
#define ORIGINS 6
#define ITEMS 300

struct model_lane {
    int fifo[ITEMS], n;
    int running;
};

struct model {
    struct sched *s;
    int limit_daemon, limit_origin;
    struct sched_batch *batches[BATCHES];
    int limit[BATCHES], share[BATCHES];
    struct model_lane lanes[BATCHES][ORIGINS];
    struct item items[ITEMS];
    uint64_t random;
};

static int chance(struct model *m, int n)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (int)((m->random >> 20) % (uint64_t)n);
}

static int batch_running(const struct model *m, int b)
{
    int n = 0;
    for (int o = 0; o < ORIGINS; o++)
        n += m->lanes[b][o].running;
    return n;
}

static int batch_waiting(const struct model *m, int b)
{
    int n = 0;
    for (int o = 0; o < ORIGINS; o++)
        n += m->lanes[b][o].n;
    return n;
}

static int origin_running(const struct model *m, int o)
{
    int n = 0;
    for (int b = 0; b < BATCHES; b++)
        n += m->lanes[b][o].running;
    return n;
}

static int origin_waiting(const struct model *m, int o)
{
    int n = 0;
    for (int b = 0; b < BATCHES; b++)
        n += m->lanes[b][o].n;
    return n;
}

static int all_running(const struct model *m)
{
    int n = 0;
    for (int b = 0; b < BATCHES; b++)
        n += batch_running(m, b);
    return n;
}

static bool may_start(const struct model *m, int b, int o)
{
    return m->lanes[b][o].n > 0 && all_running(m) < m->limit_daemon &&
           batch_running(m, b) < m->limit[b] && m->lanes[b][o].running < m->share[b] &&
           origin_running(m, o) < m->limit_origin;
}

static void model_remove(struct model_lane *lane, int place)
{
    lane->n--;
    memmove(&lane->fifo[place], &lane->fifo[place + 1],
            (size_t)(lane->n - place) * sizeof lane->fifo[0]);
}

static void op_join_or_leave(struct model *m)
{
    int b = chance(m, BATCHES);
    if (!m->batches[b]) {
        char identity[2] = {(char)('a' + chance(m, 3)), 0};
        m->limit[b] = 1 + chance(m, 8);
        m->share[b] = 1 + chance(m, 4);
        m->batches[b] = join(m->s, identity, m->limit[b], m->share[b]);
    } else if (batch_running(m, b) == 0 && batch_waiting(m, b) == 0) {
        leave(m->batches[b]);
        m->batches[b] = NULL;
    }
}

static void op_push(struct model *m)
{
    int b = chance(m, BATCHES), o = chance(m, ORIGINS), i = chance(m, ITEMS);
    bool front = chance(m, 8) == 0;
    char origin[40];
    if (!m->batches[b] || m->items[i].entry.state != ENTRY_IDLE)
        return;
    struct model_lane *lane = &m->lanes[b][o];
    snprintf(origin, sizeof origin, "http://%d.test:80", o);
    assert_true(sched_push(m->batches[b], origin, &m->items[i].entry, front));
    m->items[i].batch = b;
    m->items[i].origin = o;
    memmove(&lane->fifo[front], &lane->fifo[0], front ? (size_t)lane->n * sizeof lane->fifo[0] : 0);
    lane->fifo[front ? 0 : lane->n] = i;
    lane->n++;
}

static void op_next(struct model *m)
{
    bool ready = sched_ready(m->s);
    struct item *item = next(m->s);
    if (!item) {
        for (int b = 0; b < BATCHES; b++) {
            for (int o = 0; o < ORIGINS; o++)
                assert_false(may_start(m, b, o));
        }
        return;
    }
    struct model_lane *lane = &m->lanes[item->batch][item->origin];
    assert_true(ready);
    assert_true(may_start(m, item->batch, item->origin));
    assert_ptr_equal(item, &m->items[lane->fifo[0]]);
    assert_int_equal(item->entry.state, ENTRY_RUNNING);
    model_remove(lane, 0);
    lane->running++;
}

static void op_release(struct model *m, enum sched_state wanted)
{
    int i = chance(m, ITEMS);
    struct item *item = &m->items[i];
    if (item->entry.state != wanted)
        return;
    struct model_lane *lane = &m->lanes[item->batch][item->origin];
    sched_release(&item->entry);
    assert_int_equal(item->entry.state, ENTRY_IDLE);
    if (wanted == ENTRY_RUNNING) {
        lane->running--;
        return;
    }
    int place = 0;
    while (lane->fifo[place] != i)
        place++;
    model_remove(lane, place);
}

static void op_limits(struct model *m)
{
    m->limit_daemon = 1 + chance(m, 25);
    m->limit_origin = 1 + chance(m, 7);
    set_limits(m->s, m->limit_daemon, m->limit_origin);
}

static void check_gauges(const struct model *m)
{
    for (int b = 0; b < BATCHES; b++) {
        if (m->batches[b])
            assert_int_equal(sched_batch_running(m->batches[b]), batch_running(m, b));
    }
    for (int i = 0; i < ITEMS; i++) {
        const struct item *item = &m->items[i];
        if (item->entry.state != ENTRY_IDLE)
            assert_int_equal(sched_origin_waiting(&item->entry), origin_waiting(m, item->origin));
    }
    assert_int_equal(sched_running(m->s), all_running(m));
}

/* The seed also decides how busy it is: few to many operations of each kind. */
static void play(struct model *m, int rounds)
{
    int pushes = 1 + chance(m, 30), starts = 1 + chance(m, 30), ends = 1 + chance(m, 60);
    int cancels = 1 + chance(m, 10);
    for (int i = 0; i < rounds; i++) {
        int what = chance(m, pushes + starts + ends + cancels + 3);
        if (what < pushes)
            op_push(m);
        else if (what < pushes + starts)
            op_next(m);
        else if (what < pushes + starts + ends)
            op_release(m, ENTRY_RUNNING);
        else if (what < pushes + starts + ends + cancels)
            op_release(m, ENTRY_WAITING);
        else if (what < pushes + starts + ends + cancels + 2)
            op_join_or_leave(m);
        else if (chance(m, 20) == 0)
            op_limits(m);
        if (i % 64 == 0)
            check_gauges(m);
    }
}

static void test_property(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct model *m = calloc(1, sizeof *m);
        assert_non_null(m);
        m->random = seed * 0x9e3779b97f4a7c15U;
        m->limit_daemon = 1 + chance(m, 25);
        m->limit_origin = 1 + chance(m, 7);
        m->s = create(m->limit_daemon, m->limit_origin);
        for (int i = 0; i < BATCHES; i++)
            op_join_or_leave(m);
        play(m, 3000);
        release(m->items, ITEMS);
        for (int b = 0; b < BATCHES; b++)
            leave(m->batches[b]);
        destroy(m->s);
        free(m);
    }
}

/* Cost */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Nanoseconds per entry: everything is pushed, then started and released with `running` at once. */
static double cost_of(int entries, int origins, int running, int limit_origin, int batches)
{
    struct sched *s = create(running, limit_origin);
    struct sched_batch **b = calloc((size_t)batches, sizeof(struct sched_batch *));
    struct item *items = calloc((size_t)entries, sizeof *items);
    struct item **slots = calloc((size_t)running, sizeof(struct item *));
    assert_true(b && items && slots);
    for (int i = 0; i < batches; i++)
        b[i] = join(s, i % 2 ? "x" : "y", MANY, MANY);
    double start = seconds();
    for (int i = 0; i < entries; i++) {
        char origin[40];
        snprintf(origin, sizeof origin, "http://host-%d.test:80", i % origins);
        push(b[i % batches], origin, &items[i]);
    }
    int head = 0, tail = 0;
    while (head < entries) {
        struct item *item = next(s);
        if (item)
            slots[tail++ % running] = item;
        else
            sched_release(&slots[head++ % running]->entry);
    }
    double ns = (seconds() - start) * 1e9 / entries;
    assert_int_equal(tail, entries);
    for (int i = 0; i < batches; i++)
        leave(b[i]);
    destroy(s);
    free(slots);
    free(items);
    free(b);
    return ns;
}

/* An O(n) step anywhere would show as a factor of hundreds. */
static void test_cost_is_flat(void **state)
{
    (void)state;
    static const struct {
        int origins, running, limit_origin, batches;
    } cases[] = {{1, 200, 100, 1},  {10, 200, 100, 1},   {10000, 200, 100, 1}, {1, 200, 100, 1000},
                 {10, 200, 5, 100}, {10000, 200, 1, 10}, {100, 200, 1, 1000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double few =
            cost_of(2000, cases[i].origins < 200 ? cases[i].origins : 200, cases[i].running,
                    cases[i].limit_origin, cases[i].batches < 20 ? cases[i].batches : 20);
        double many = cost_of(100000, cases[i].origins, cases[i].running, cases[i].limit_origin,
                              cases[i].batches);
        printf("# 100000 entries, %d origins of %d, %d batches: %.0f ns each (2000: %.0f)\n",
               cases[i].origins, cases[i].limit_origin, cases[i].batches, many, few);
        assert_true(many < 40 * few);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_gauges),
        cmocka_unit_test(test_limit_daemon),
        cmocka_unit_test(test_limit_batch),
        cmocka_unit_test(test_limit_share),
        cmocka_unit_test(test_limit_origin),
        cmocka_unit_test(test_fifo_and_front),
        cmocka_unit_test(test_lanes_take_turns),
        cmocka_unit_test(test_identities_take_turns),
        cmocka_unit_test(test_identities_take_turns_at_a_full_origin),
        cmocka_unit_test(test_big_does_not_starve_small),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_newcomers_do_not_overtake),
        cmocka_unit_test(test_promise_given_up),
        cmocka_unit_test(test_release_of_waiting),
        cmocka_unit_test(test_limits_change),
        cmocka_unit_test(test_limit_lowered_under_a_promise),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_cost_is_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * test_slots - one limit and several takers: turns, who is told what, and the same with threads.
 * It includes the module, so that each race that loses a wake-up can be played on one thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "slots.h"

/* Called once, just before the next change of the bits: what another thread might do just then. */
static void (*meanwhile)(void);

static void let_others(void)
{
    void (*call)(void) = meanwhile;
    if (!call)
        return;
    meanwhile = NULL;
    call();
}

#undef atomic_fetch_or
#undef atomic_fetch_and
#define atomic_fetch_or(bits, one) \
    (let_others(), atomic_fetch_or_explicit(bits, one, memory_order_seq_cst))
#define atomic_fetch_and(bits, rest) \
    (let_others(), atomic_fetch_and_explicit(bits, rest, memory_order_seq_cst))
#include "slots.c"

#define TAKERS 4

struct group {
    struct slots *slots;
    struct slots_inbox inboxes[TAKERS];
    struct slots_taker takers[TAKERS];
    int count;
};

static void open_group(struct group *g, int limit, int takers)
{
    *g = (struct group){.slots = slots_create(limit, takers), .count = takers};
    assert_non_null(g->slots);
    for (int i = 0; i < takers; i++)
        slots_join(&g->takers[i], g->slots, i, &g->inboxes[i]);
}

static void close_group(struct group *g)
{
    assert_int_equal(slots_used(g->slots), 0);
    for (int i = 0; i < g->count; i++)
        assert_true(slots_leave(&g->takers[i]));
    slots_destroy(g->slots);
}

/* The inbox holds this taker and no other. */
static void assert_told(struct group *g, int taker)
{
    assert_ptr_equal(slots_inbox_take(&g->inboxes[taker]), &g->takers[taker]);
    assert_null(slots_inbox_next(&g->takers[taker]));
    assert_null(slots_inbox_take(&g->inboxes[taker]));
}

static void test_alone(void **state)
{
    (void)state;
    struct group g;
    open_group(&g, 2, 1);
    struct slots_taker *t = &g.takers[0];
    assert_true(slots_may(t));
    assert_false(slots_wait(t));
    assert_true(slots_take(t));
    assert_true(slots_take(t));
    assert_false(slots_may(t));
    assert_false(slots_take(t));
    assert_true(slots_wait(t));
    assert_false(t->registered); /* it hears of its own slots_give() without that */
    assert_false(slots_others_wait(t));
    assert_int_equal(slots_used(g.slots), 2);
    slots_give(t);
    assert_int_equal(slots_tell(t), 0);
    assert_int_equal(slots_used(g.slots), 1);
    assert_int_equal(slots_peak(g.slots), 2);
    assert_true(slots_take(t));
    slots_give(t);
    slots_give(t);
    close_group(&g);
    slots_destroy(NULL);
}

static void limit_changes(int takers)
{
    struct group g;
    open_group(&g, 3, takers);
    struct slots_taker *t = &g.takers[0];
    for (int i = 0; i < 3; i++)
        assert_true(slots_take(t));
    slots_set_limit(g.slots, 2);
    assert_false(slots_take(t));
    slots_give(t);
    assert_false(slots_take(t));
    slots_give(t);
    assert_true(slots_take(t));
    assert_false(slots_take(t));
    slots_set_limit(g.slots, 4);
    assert_true(slots_take(t));
    assert_true(slots_take(t));
    assert_false(slots_take(t));
    assert_int_equal(slots_peak(g.slots), 4);
    for (int i = 0; i < 4; i++)
        slots_give(t);
    close_group(&g);
}

static void test_limit_changes(void **state)
{
    (void)state;
    limit_changes(1);
    limit_changes(2);
}

/* A limit of 1 goes round, whoever asks first when it is free. */
static void test_one_slot_goes_round(void **state)
{
    (void)state;
    struct group g;
    open_group(&g, 1, 3);
    assert_true(slots_take(&g.takers[0]));
    assert_true(slots_wait(&g.takers[0])); /* already wants the next */
    assert_true(slots_wait(&g.takers[1]));
    assert_true(slots_wait(&g.takers[2]));
    for (int i = 0; i < 9; i++) {
        struct slots_taker *has = &g.takers[i % 3], *next = &g.takers[(i + 1) % 3];
        slots_give(has);
        assert_false(slots_take(has));
        assert_true(slots_wait(has));
        assert_false(slots_take(&g.takers[(i + 2) % 3]));
        assert_int_equal(slots_tell(has), 1 << next->index);
        assert_told(&g, next->index);
        assert_true(slots_take(next));
        assert_true(slots_wait(next));
    }
    slots_give(&g.takers[0]);
    close_group(&g);
}

static void test_who_holds_less_comes_first(void **state)
{
    (void)state;
    struct group g;
    open_group(&g, 4, 2);
    struct slots_taker *a = &g.takers[0], *b = &g.takers[1];
    for (int i = 0; i < 4; i++)
        assert_true(slots_take(a));
    assert_true(slots_wait(a));
    assert_true(slots_wait(b));
    for (int i = 0; i < 2; i++) {
        slots_give(a);
        assert_false(slots_may(a));
        assert_true(slots_take(b));
        assert_true(slots_wait(b));
    }
    slots_give(a); /* 1 and 2: its own again */
    assert_false(slots_may(b));
    assert_true(slots_take(a));
    slots_give(b);
    slots_withdraw(b);
    assert_true(slots_take(a)); /* 3 and 1, but nobody waits */
    for (int i = 0; i < 3; i++)
        slots_give(a);
    assert_true(slots_wait(b) || slots_take(b));
    for (int i = 0; i < 2; i++)
        slots_give(b);
    close_group(&g);
}

static void test_tell(void **state)
{
    (void)state;
    struct group g;
    open_group(&g, 2, 4);
    struct slots_taker *t = g.takers;
    assert_true(slots_take(&t[0]));
    assert_true(slots_take(&t[0]));
    assert_int_equal(slots_tell(&t[0]), 0); /* nobody waits */
    assert_true(slots_wait(&t[2]));
    assert_true(slots_wait(&t[3]));
    assert_true(slots_wait(&t[1]));
    assert_true(slots_others_wait(&t[0]));
    assert_int_equal(slots_tell(&t[0]), 0); /* nothing is free */
    slots_give(&t[0]);
    assert_int_equal(slots_tell(&t[0]), 1 << 2);
    assert_int_equal(slots_tell(&t[0]), 0); /* it will look */
    slots_give(&t[0]);
    assert_int_equal(slots_tell(&t[0]), 1 << 3);
    assert_told(&g, 2);
    slots_withdraw(&t[2]);
    assert_int_equal(slots_tell(&t[2]), 1 << 1);
    assert_told(&g, 1);
    assert_true(slots_take(&t[1]));
    assert_false(t[1].registered);
    assert_false(slots_take(&t[1])); /* the second one is for 3, which has not looked yet */
    assert_int_equal(slots_tell(&t[1]), 0);
    assert_told(&g, 3);
    assert_int_equal(slots_tell(&t[1]), 1 << 3);
    assert_told(&g, 3);
    assert_true(slots_take(&t[3]));
    slots_give(&t[1]);
    slots_give(&t[3]);
    close_group(&g);
}

/* Several slots objects share an inbox; the first and the last taker of the most there can be. */
static void test_inbox(void **state)
{
    (void)state;
    struct slots *slots[2];
    struct slots_inbox inboxes[2] = {{NULL}};
    struct slots_taker t[2][2];
    for (int i = 0; i < 2; i++) {
        slots[i] = slots_create(1, SLOTS_TAKERS_MAX);
        assert_non_null(slots[i]);
        slots_join(&t[i][0], slots[i], 0, &inboxes[0]);
        slots_join(&t[i][1], slots[i], SLOTS_TAKERS_MAX - 1, &inboxes[1]);
        assert_true(slots_take(&t[i][0]));
        assert_true(slots_wait(&t[i][1]));
        slots_give(&t[i][0]);
        assert_true(slots_tell(&t[i][0]) == UINT64_C(1) << (SLOTS_TAKERS_MAX - 1));
    }
    assert_null(slots_inbox_take(&inboxes[0]));
    struct slots_taker *first = slots_inbox_take(&inboxes[1]);
    assert_ptr_equal(first, &t[1][1]);
    assert_ptr_equal(slots_inbox_next(first), &t[0][1]);
    assert_null(slots_inbox_next(&t[0][1]));
    for (int i = 0; i < 2; i++) {
        assert_true(slots_leave(&t[i][0]));
        assert_true(slots_leave(&t[i][1]));
        slots_destroy(slots[i]);
    }
}

/* Who was told empties its inbox before it leaves; who has left is told no more; another may join
 * in its place. */
static void test_leave(void **state)
{
    (void)state;
    struct group g;
    open_group(&g, 1, 2);
    struct slots_taker *a = &g.takers[0], *b = &g.takers[1];
    assert_true(slots_take(a));
    assert_true(slots_wait(b));
    slots_give(a);
    assert_int_equal(slots_tell(a), 2);
    assert_false(slots_leave(b));
    assert_told(&g, 1);
    assert_true(slots_leave(b));
    assert_int_equal(slots_tell(a), 0);
    assert_true(slots_take(a));
    slots_join(b, g.slots, 1, &g.inboxes[1]);
    assert_true(slots_wait(b));
    slots_give(a);
    assert_int_equal(slots_tell(a), 2);
    assert_told(&g, 1);
    assert_true(slots_take(b));
    slots_give(b);
    close_group(&g);
}

/* Races, played step by step: two takers, one slot unless the test says more. */

static struct group race;
static uint64_t woken;

static void give_first(void)
{
    slots_give(&race.takers[0]);
    woken = slots_tell(&race.takers[0]);
}

static void wait_third(void)
{
    assert_true(slots_wait(&race.takers[2]));
}

static void leave_second(void)
{
    assert_true(slots_leave(&race.takers[1]));
}

/* The slot is given back between the look that finds none and the bit that says so. */
static void test_given_before_registered(void **state)
{
    (void)state;
    open_group(&race, 1, 2);
    assert_true(slots_take(&race.takers[0]));
    meanwhile = give_first;
    assert_false(slots_wait(&race.takers[1]));
    assert_int_equal(woken, 0);
    assert_true(slots_take(&race.takers[1]));
    slots_give(&race.takers[1]);
    close_group(&race);
}

/* Another one begins to wait for what is reserved just before that is not wanted any more. */
static void test_waits_before_withdrawn(void **state)
{
    (void)state;
    open_group(&race, 1, 3);
    assert_true(slots_take(&race.takers[0]));
    assert_true(slots_wait(&race.takers[1]));
    give_first();
    assert_int_equal(woken, 2);
    meanwhile = wait_third;
    slots_withdraw(&race.takers[1]);
    assert_int_equal(slots_tell(&race.takers[1]), 4);
    assert_told(&race, 1);
    assert_told(&race, 2);
    assert_true(slots_take(&race.takers[2]));
    slots_give(&race.takers[2]);
    close_group(&race);
}

/* More is given while who was told of one empties its inbox: it is not told again, it will see. */
static void test_given_before_heard(void **state)
{
    (void)state;
    open_group(&race, 2, 2);
    assert_true(slots_take(&race.takers[0]));
    assert_true(slots_take(&race.takers[0]));
    assert_true(slots_wait(&race.takers[1]));
    give_first();
    assert_int_equal(woken, 2);
    meanwhile = give_first;
    assert_told(&race, 1);
    assert_int_equal(woken, 0);
    assert_true(slots_take(&race.takers[1]));
    assert_true(slots_take(&race.takers[1]));
    slots_give(&race.takers[1]);
    slots_give(&race.takers[1]);
    close_group(&race);
}

/* The one who waits leaves when it is about to be told: it is not touched any more. */
static void test_leaves_before_told(void **state)
{
    (void)state;
    open_group(&race, 1, 2);
    assert_true(slots_take(&race.takers[0]));
    assert_true(slots_wait(&race.takers[1]));
    meanwhile = leave_second;
    give_first();
    assert_int_equal(woken, 0);
    assert_null(slots_inbox_take(&race.inboxes[1]));
    assert_true(slots_leave(&race.takers[0]));
    slots_destroy(race.slots);
}

/* Threads: each takes and gives at random and sleeps when it was refused and holds nothing, until
 * it is woken. A lost wake-up shows as a sleep that does not end. */

struct bell {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool rung;
};

struct stress {
    struct group g;
    struct bell bells[TAKERS];
    size_t limit;
    int each;   /* slots that each takes in a round */
    int rounds; /* all begin one together, and nobody holds a slot between two */
    _Atomic int arrived;
    _Atomic size_t in_use, taken;
    _Atomic size_t over, hung, overtaken_most;
};

struct player {
    struct stress *all;
    struct slots_taker *slots;
    uint64_t random;
    size_t held, taken_before;
    bool starved;
};

static void ring(struct stress *all, uint64_t takers)
{
    for (int i = 0; i < TAKERS; i++) {
        if ((takers & UINT64_C(1) << i) == 0)
            continue;
        pthread_mutex_lock(&all->bells[i].lock);
        all->bells[i].rung = true;
        pthread_cond_signal(&all->bells[i].cond);
        pthread_mutex_unlock(&all->bells[i].lock);
    }
}

static void listen(struct player *p, bool sleeps)
{
    struct bell *bell = &p->all->bells[p->slots->index];
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&bell->lock);
    while (sleeps && !bell->rung) {
        if (pthread_cond_timedwait(&bell->cond, &bell->lock, &until) != 0) {
            p->all->hung++;
            break;
        }
    }
    bell->rung = false;
    pthread_mutex_unlock(&bell->lock);
    struct slots_taker *told = slots_inbox_take(&p->all->g.inboxes[p->slots->index]);
    if (told) {
        (void)slots_inbox_next(told);
        p->starved = false;
    }
}

/* With one slot, who waits can be overtaken by each other taker once for an older ticket, once for
 * a look at the turns from before, and once for a count that came late. */
static void note_overtaking(struct player *p)
{
    size_t by = p->all->taken - p->taken_before;
    size_t most = p->all->overtaken_most;
    while (by > most && !atomic_compare_exchange_weak(&p->all->overtaken_most, &most, by))
        continue;
}

static bool try_take(struct player *p)
{
    struct stress *all = p->all;
    bool waited = p->slots->registered && p->held == 0;
    if (!slots_take(p->slots)) {
        bool news = !p->slots->registered;
        p->starved = slots_wait(p->slots);
        if (news)
            p->taken_before = all->taken;
        ring(all, slots_tell(p->slots));
        return false;
    }
    if (waited)
        note_overtaking(p);
    if (++all->in_use > all->limit)
        all->over++;
    all->taken++;
    p->held++;
    return true;
}

static void give(struct player *p, bool wants)
{
    p->all->in_use--;
    slots_give(p->slots);
    p->held--;
    p->starved = false;
    p->taken_before = p->all->taken;
    if (!wants)
        ring(p->all, slots_tell(p->slots));
}

/* Spins, so that all go on at the same moment. */
static void meet(struct stress *all, int round)
{
    all->arrived++;
    while (all->arrived < TAKERS * (round + 1) && all->hung == 0)
        (void)sched_yield();
}

static void play_round(struct player *p)
{
    for (int left = p->all->each; left > 0 && p->all->hung == 0;) {
        p->random = p->random * 6364136223846793005U + 1442695040888963407U;
        if (!p->starved && p->random >> 63 && try_take(p))
            left--;
        if (p->held > 0 && (p->starved || p->random >> 62 & 1))
            give(p, left > 0);
        listen(p, p->starved && p->held == 0);
    }
    slots_withdraw(p->slots);
    while (p->held > 0)
        give(p, false);
    ring(p->all, slots_tell(p->slots));
}

static void *play(void *arg)
{
    struct player *p = arg;
    for (int round = 0; round < p->all->rounds; round++) {
        meet(p->all, round);
        play_round(p);
    }
    while (!slots_leave(p->slots))
        listen(p, false);
    return NULL;
}

static void stress(int limit, int each, int rounds)
{
    struct stress all = {.limit = (size_t)limit, .each = each, .rounds = rounds};
    struct player players[TAKERS];
    pthread_t threads[TAKERS];
    open_group(&all.g, limit, TAKERS);
    for (int i = 0; i < TAKERS; i++) {
        pthread_mutex_init(&all.bells[i].lock, NULL);
        pthread_cond_init(&all.bells[i].cond, NULL);
        players[i] = (struct player){&all, &all.g.takers[i], .random = (uint64_t)(limit * 10 + i)};
        assert_int_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    }
    for (int i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(all.over, 0);
    assert_int_equal(all.hung, 0);
    assert_int_equal(all.taken, TAKERS * each * rounds);
    assert_true(limit > 1 || all.overtaken_most <= 3 * (TAKERS - 1));
    assert_int_equal(slots_used(all.g.slots), 0);
    assert_in_range(slots_peak(all.g.slots), 1, limit);
    for (int i = 0; i < TAKERS; i++) {
        pthread_mutex_destroy(&all.bells[i].lock);
        pthread_cond_destroy(&all.bells[i].cond);
    }
    slots_destroy(all.g.slots);
}

static void test_threads(void **state)
{
    (void)state;
    stress(1, 4000, 1);
    stress(2, 8000, 1);
    stress(3, 8000, 1);
    stress(7, 8000, 1);
    stress(100, 8000, 1);
}

/* The last ones to give and to wait: nobody comes after them who would heal what was missed. */
static void test_many_ends(void **state)
{
    (void)state;
    stress(1, 1, 4000);
    stress(3, 1, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_limit_changes),
        cmocka_unit_test(test_one_slot_goes_round),
        cmocka_unit_test(test_who_holds_less_comes_first),
        cmocka_unit_test(test_tell),
        cmocka_unit_test(test_inbox),
        cmocka_unit_test(test_leave),
        cmocka_unit_test(test_given_before_registered),
        cmocka_unit_test(test_waits_before_withdrawn),
        cmocka_unit_test(test_given_before_heard),
        cmocka_unit_test(test_leaves_before_told),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_many_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

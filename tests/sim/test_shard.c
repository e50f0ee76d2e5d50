/* SPDX-License-Identifier: MIT
 *
 * test_shard - the fetch loops as they are, with 0 (all on the front's), 1, 2 and 4 threads: every
 * job comes back exactly once, no limit is ever exceeded as the upstreams see it, and whatever
 * happens while they run (cancel, pause, reload, another policy, the end) nothing is lost and
 * nothing is left. The thread sanitizer's test above all. See shard_fixture.h for upstreams, front
 * and batches.
 *
 * shard.c and shard_lane.c are included, so that a test can stop a loop in the middle of its mail.
 */
#include "bell.h"
#include "fetch.h"
#include "turn.h"

static void stopping_pause(struct fetch *f, struct fetch_group *group, bool paused);
static void stopping_wake(struct turn *t);
static void stopping_ring(struct bell *b);
static struct fetch *failing_create(const struct fetch_params *params, const char **why);
static int failing_thread(uv_thread_t *thread, uv_thread_cb entry, void *arg);

#define fetch_create failing_create
#define uv_thread_create failing_thread
#define fetch_pause stopping_pause
#define turn_wake stopping_wake
#define bell_ring stopping_ring
#include "shard.c"
#include "shard_lane.c"
#undef fetch_pause
#undef turn_wake
#undef bell_ring
#undef fetch_create
#undef uv_thread_create

#include "shard_fixture.h"

static int loops_of(void **state)
{
    return *(const int *)*state;
}

/* Stops a loop's thread where the test wants, until the test lets it go on. */
static struct {
    uv_thread_t test;
    const struct bell *front;
    atomic_bool in_wake, in_pause, after_done, before_tell; /* stop there, once */
    uv_sem_t stopped, go_on;
} hook;

static void hook_open(void)
{
    hook.test = uv_thread_self();
    assert_int_equal(uv_sem_init(&hook.stopped, 0) + uv_sem_init(&hook.go_on, 0), 0);
}

static void hook_close(void)
{
    uv_sem_destroy(&hook.stopped);
    uv_sem_destroy(&hook.go_on);
}

static void stop_if(atomic_bool *wanted)
{
    uv_thread_t self = uv_thread_self();
    if (uv_thread_equal(&self, &hook.test) || !atomic_exchange(wanted, false))
        return;
    uv_sem_post(&hook.stopped);
    uv_sem_wait(&hook.go_on);
}

/* For a signal: the loop has woken, and has not looked why. */
static void stopping_wake(struct turn *t)
{
    stop_if(&hook.in_wake);
    turn_wake(t);
}

/* For each cancel or pause in the mail. */
static void stopping_pause(struct fetch *f, struct fetch_group *group, bool paused)
{
    stop_if(&hook.in_pause);
    fetch_pause(f, group, paused);
}

/* A loop has handed results back, or is about to tell another one of free slots. */
static void stopping_ring(struct bell *b)
{
    if (b != hook.front)
        stop_if(&hook.before_tell);
    bell_ring(b);
    if (b == hook.front)
        stop_if(&hook.after_done);
}

static int engines_left = -1, threads_left = -1; /* that many are to be had; -1 = all */

static struct fetch *failing_create(const struct fetch_params *params, const char **why)
{
    *why = "for a test";
    return engines_left >= 0 && engines_left-- == 0 ? NULL : fetch_create(params, why);
}

static int failing_thread(uv_thread_t *thread, uv_thread_cb entry, void *arg)
{
    bool fails = threads_left >= 0 && threads_left-- == 0;
    return fails ? UV_EAGAIN : uv_thread_create(thread, entry, arg);
}

static void on_sync(struct lane *lane, void *arg)
{
    (void)lane;
    (void)arg;
}

/* When it returns every loop has seen what was sent before. */
static void sync_lanes(struct front *f)
{
    turn_wake(&f->turn);
    spin(f);
    call_all(f->shard, on_sync, NULL);
}

/* Plain work */

static const char *const narrow[] = {"limits.in_flight=32", "limits.per_host=6", NULL};

static void test_all_done(void **state)
{
    enum { COUNT = 2000 };
    struct front *f = front_open(loops_of(state), narrow);
    struct server *s = f->server;
    atomic_store(&s->limit_all, 32);
    atomic_store(&s->limit_origin, 6);
    atomic_store(&s->hold, 32); /* the limit is reached, too */
    struct run *run = run_open(f, &(struct plan){.count = COUNT});
    assert_int_equal(shard_waiting(f->shard), COUNT);
    run_until(run, COUNT);
    check_all_ok(run);
    assert_int_equal(atomic_load(&s->asked[run->id]), COUNT);
    assert_int_equal(atomic_load(&s->most_all), 32);
    assert_int_equal(slots_peak(run->group->slots), 32);
    assert_int_equal(shard_active(f->shard) + shard_waiting(f->shard), 0);
    assert_true(shard_rate(f->shard) > 1);
    struct metrics sum = f->metrics;
    shard_metrics(f->shard, &sum);
    assert_int_equal(metrics_get(&sum, METRIC_MEMBERS_DONE), COUNT);
    assert_int_equal(metrics_get(&sum, METRIC_FETCH_HOPS), COUNT);
    assert_int_equal(metrics_get(&sum, METRIC_FETCH_BYTES_DELIVERED), 5 * COUNT);
    assert_int_equal(metrics_get(&sum, METRIC_ANSWER_BYTES_HELD), 5 * COUNT);
    for (int i = 0; i < loops_of(state); i++) /* each has its share */
        assert_int_equal(metrics_get(&f->shard->lanes[i].metrics, METRIC_MEMBERS_DONE),
                         COUNT / f->shard->lane_count);
    assert_true(shard_lag_max_since(f->shard, 0) > 0);
    assert_int_equal(shard_lag_max_since(f->shard, clock_us() + US_PER_S), 0);
    run_close(run);
    assert_int_equal(atomic_load(&f->shard->answer_held), 0);
    front_close(f);
}

/* A batch's concurrency is one for all loops, and its share of an origin the origin's loop's. */
static void test_limits_of_batches(void **state)
{
    struct front *f = front_open(loops_of(state), NULL);
    atomic_store(&f->server->limit_all, 256);
    struct run *wide = run_make(f, &(struct plan){.count = 300, .limit = 24});
    struct run *one = run_make(f, &(struct plan){.count = 50, .limit = 1});
    atomic_store(&f->server->hold, 25);
    run_submit(wide);
    run_submit(one);
    run_until(wide, 300);
    run_until(one, 50);
    check_all_ok(wide);
    check_all_ok(one);
    assert_int_equal(atomic_load(&f->server->most_runs[wide->id]), 24);
    assert_int_equal(atomic_load(&f->server->most_runs[one->id]), 1);
    run_close(wide);
    run_close(one);
    atomic_store(&f->server->limit_origin, 3);
    struct run *shared = run_make(f, &(struct plan){.count = 200, .limit_per_host = 3});
    atomic_store(&f->server->hold, 3 * ORIGINS);
    run_submit(shared);
    run_until(shared, 200);
    check_all_ok(shared);
    run_close(shared);
    front_close(f);
}

/* One at a time: the members of an origin are asked for in their order. */
static void test_order(void **state)
{
    struct front *f = front_open(loops_of(state), (const char *const[]){"limits.per_host=1", NULL});
    atomic_store(&f->server->limit_origin, 1);
    struct run *run = run_open(f, &(struct plan){.count = 400});
    run_until(run, 400);
    check_all_ok(run);
    assert_int_equal(atomic_load(&f->server->disorder), 0);
    run_close(run);
    front_close(f);
}

/* Redirects */

/* Twice, to other origins each time. */
static void what_of_redirects(int member, char *out, size_t size)
{
    snprintf(out, size, "to/%d/to/%d/ok", (member * 3 + 1) % ORIGINS, (member * 5 + 2) % ORIGINS);
}

static void test_redirects(void **state)
{
    enum { COUNT = 400 };
    struct front *f = front_open(loops_of(state), narrow);
    struct server *s = f->server;
    atomic_store(&s->limit_all, 32);
    atomic_store(&s->limit_origin, 6);
    struct run *run = run_open(f, &(struct plan){.count = COUNT, .what_of = what_of_redirects});
    run_until(run, COUNT);
    check_all_ok(run);
    assert_int_equal(atomic_load(&s->asked[run->id]), 3 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        const struct result *r = &run->jobs[i].job.result;
        assert_int_equal(r->num_redirects, 2);
        assert_int_equal(r->extra->hop_count, 2);
        assert_int_equal(r->remote_port, s->listeners[(i * 5 + 2) % ORIGINS].port);
        assert_int_equal(r->extra->hops[0].remote_port, s->listeners[i % ORIGINS].port);
        assert_int_equal(r->extra->hops[1].remote_port, s->listeners[(i * 3 + 1) % ORIGINS].port);
    }
    run_close(run);
    front_close(f);
}

/* Cancel */

static void what_of_some_never(int member, char *out, size_t size)
{
    snprintf(out, size, "%s", member % 3 == 0 ? "never" : "ok");
}

/* In the middle, with members in all places, and others that go on. */
static void test_cancel(void **state)
{
    struct front *f = front_open(loops_of(state), narrow);
    struct server *s = f->server;
    atomic_store(&s->limit_all, 32);
    atomic_store(&s->limit_origin, 6);
    struct run *cut =
        run_open(f, &(struct plan){.count = 300, .limit = 20, .what_of = what_of_some_never});
    struct run *other = run_open(f, &(struct plan){.count = 300, .limit = 20});
    run_until(cut, 15);
    shard_group_cancel(f->shard, cut->group, ERR_DEADLINE_EXCEEDED);
    run_until(cut, 300);
    assert_int_equal(cut->states[MEMBER_DONE] + cut->states[MEMBER_CANCELLED], 300);
    assert_true(cut->states[MEMBER_CANCELLED] > 0);
    for (int i = 0; i < 300; i++) {
        const struct result *r = &cut->jobs[i].job.result;
        assert_int_equal(r->error.type, r->ok ? ERR_NONE : ERR_DEADLINE_EXCEEDED);
        assert_int_equal(cut->jobs[i].dones, 1);
    }
    run_close(cut); /* its transfers may still be there */
    run_until(other, 300);
    check_all_ok(other);
    run_close(other);
    struct run *after = run_open(f, &(struct plan){.count = 200});
    run_until(after, 200);
    check_all_ok(after);
    run_close(after);
    run_out(f);
    front_close(f);
}

/* At any moment, also when jobs are on their way between loops; the memory goes with the last. */
static void test_cancel_at_any_moment(void **state)
{
    enum { ROUNDS = 12, COUNT = 60 };
    struct front *f = front_open(loops_of(state), narrow);
    atomic_store(&f->server->limit_all, 32);
    atomic_store(&f->server->limit_origin, 6);
    struct run *last = NULL;
    int cancelled = 0;
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&f->server->hold, round == 0 ? NO_LIMIT : 0); /* all of these are cut */
        struct run *run = run_open(f, &(struct plan){.count = COUNT, .what_of = what_of_redirects});
        run_until(run, 5 * round);
        shard_group_cancel(f->shard, run->group, ERR_CANCELLED);
        if (last != NULL)
            run_close(last); /* as the next is being cut */
        last = run;
        run_until(run, COUNT);
        cancelled += run->states[MEMBER_CANCELLED];
        assert_int_equal(run->states[MEMBER_DONE] + run->states[MEMBER_CANCELLED], COUNT);
    }
    run_close(last);
    assert_true(cancelled > COUNT);
    run_out(f);
    front_close(f);
}

/* With one at a time nothing is started after the first that is not ok, in no loop. */
static void test_stop_on_error(void **state)
{
    struct front *f = front_open(loops_of(state), NULL);
    for (int round = 0; round < 20; round++) {
        struct run *run = run_open(
            f, &(struct plan){.count = 100, .limit = 1, .stop_on_error = true, .what = "404"});
        run_until(run, 100);
        assert_int_equal(run->states[MEMBER_DONE], 1);
        assert_int_equal(run->states[MEMBER_CANCELLED], 99);
        assert_int_equal(atomic_load(&f->server->asked[run->id]), 1);
        run_close(run);
    }
    front_close(f);
}

/* The shard is closed while transfers of a batch that is gone are still to be. */
static void test_close_with_transfers(void **state)
{
    enum { COUNT = 200 };
    struct front *f = front_open(loops_of(state), NULL);
    struct run *run = run_open(f, &(struct plan){.count = COUNT, .what = "never"});
    while (atomic_load(&f->server->waiting) < COUNT)
        spin(f);
    shard_group_cancel(f->shard, run->group, ERR_CANCELLED);
    run_close(run);
    front_close(f);
}

/* Cancels and pauses that no loop has looked at yet are no reason to keep the batch. */
static void test_close_with_mail(void **state)
{
    struct front *f = front_open(loops_of(state), NULL);
    struct run *run = run_open(f, &(struct plan){.count = 10});
    run_until(run, 10);
    struct fetch_group *group = run->group;
    fetch_group_ref(group);
    shard_group_pause(f->shard, group, true);
    run_close(run);
    struct shard *shard = f->shard;
    f->shard = NULL;
    shard_close(shard, on_shard_closed, f);
    while (!f->closed)
        spin(f);
    assert_int_equal(atomic_load(&group->refs), 1);
    fetch_group_unref(group);
    front_close(f);
}

/* Pause */

static void test_pause(void **state)
{
    enum { COUNT = 300 };
    struct front *f = front_open(loops_of(state), NULL);
    struct run *run = run_open(f, &(struct plan){.count = COUNT, .limit = 30});
    run_until(run, 20);
    for (int round = 0; round < 5; round++) {
        shard_group_pause(f->shard, run->group, true);
        sync_lanes(f);
        while (slots_used(run->group->slots) > 0) /* what runs goes on */
            spin(f);
        int asked = atomic_load(&f->server->asked[run->id]);
        run_until(run, asked); /* every one that ran is handed back */
        int dones = run->dones;
        struct run *other = run_open(f, &(struct plan){.count = 100});
        run_until(other, 100);
        check_all_ok(other);
        run_close(other);
        assert_int_equal(run->dones, dones);
        assert_int_equal(atomic_load(&f->server->asked[run->id]), asked);
        shard_group_pause(f->shard, run->group, false);
        turn_wake(&f->turn);
        run_until(run, dones < COUNT - 40 ? dones + 40 : COUNT);
    }
    shard_group_pause(f->shard, run->group, true);
    shard_group_pause(f->shard, run->group, false); /* one letter, and the last word counts */
    turn_wake(&f->turn);
    run_until(run, COUNT);
    check_all_ok(run);
    run_close(run);
    struct run *paused = run_make(f, &(struct plan){.count = 50});
    shard_group_pause(f->shard, paused->group, true);
    run_submit(paused);
    sync_lanes(f);
    sync_lanes(f);
    assert_int_equal(paused->dones, 0);
    assert_int_equal(slots_peak(paused->group->slots), 0);
    shard_group_cancel(f->shard, paused->group, ERR_CANCELLED);
    turn_wake(&f->turn);
    run_until(paused, 50);
    assert_int_equal(paused->states[MEMBER_CANCELLED], 50);
    run_close(paused);
    front_close(f);
}

/* Reload */

/* When the calls return the old ones may go. */
static void take_config(struct front *f, const char *const *overrides)
{
    struct config *config = make_config((int)f->config->daemon.loops, overrides);
    struct policy *policy = make_policy(config);
    shard_reload(f->shard, config);
    config_destroy(f->config);
    f->config = config;
    shard_pool_set_policy(f->pool, policy, true);
    policy_destroy(f->policy);
    f->policy = policy;
}

static void check_and_close(struct run *run)
{
    run_until(run, run->count);
    assert_int_equal(run->states[MEMBER_DONE], run->count);
    run_close(run);
}

static void test_reload(void **state)
{
    const int most = loops_of(state) == 2 ? 200 : 50;
    static const char *const low[] = {"limits.in_flight=16", "limits.per_host=4",
                                      "fetch.idle_connections=8", NULL};
    struct front *f = front_open(loops_of(state), narrow);
    atomic_store(&f->server->limit_all, 32);
    atomic_store(&f->server->limit_origin, 6);
    struct shard_pool *second = NULL;
    struct run *runs[2] = {NULL, NULL};
    int swaps = 0;
    for (; swaps < most; swaps++) {
        struct run **at = &runs[swaps % 2];
        if (*at != NULL && (*at)->dones == (*at)->count) {
            check_and_close(*at);
            *at = NULL;
        }
        if (*at == NULL)
            *at = run_open(f, &(struct plan){.count = 100, .what_of = what_of_redirects});
        spin(f);
        take_config(f, swaps % 2 == 0 ? low : narrow);
        if (swaps == most / 2) {
            second = shard_pool_open(f->shard, f->policy);
            assert_non_null(second);
        }
        if (second != NULL)
            shard_pool_set_policy(second, f->policy, true);
    }
    check_and_close(runs[0]);
    check_and_close(runs[1]);
    check_and_close(run_open(f, &(struct plan){.count = 100, .pool = second}));
    front_close(f);
}

/* Raised limits hold at once, for members that wait; lowered ones for all that start from then
 * on. */
static void test_reload_limits(void **state)
{
    static const char *const high[] = {"limits.in_flight=40", "limits.per_host=20", NULL};
    static const char *const low[] = {"limits.in_flight=3", "limits.per_host=2", NULL};
    struct front *f = front_open(loops_of(state), low);
    struct server *s = f->server;
    atomic_store(&s->limit_all, 3);
    atomic_store(&s->limit_origin, 2);
    struct run *run = run_open(f, &(struct plan){.count = 400});
    run_until(run, 30);
    atomic_store(&s->limit_all, 40);
    atomic_store(&s->limit_origin, 20);
    atomic_store(&s->hold, 40); /* those that wait are 3, until the limits are raised */
    take_config(f, high);
    run_until(run, 400);
    check_all_ok(run);
    run_close(run);
    assert_int_equal(atomic_load(&s->most_all), 40);
    take_config(f, low);
    atomic_store(&s->limit_all, 3);
    atomic_store(&s->limit_origin, 2);
    check_and_close(run_open(f, &(struct plan){.count = 60}));
    front_close(f);
}

/* Another policy holds in every loop when the call returns, for connections that are kept, too. */
static void test_policy(void **state)
{
    static const char *const none[] = {"policy.default.deny=127.0.0.1", NULL};
    struct front *f = front_open(loops_of(state), NULL);
    for (int round = 0; round < 10; round++) {
        check_and_close(run_open(f, &(struct plan){.count = 64}));
        take_config(f, none);
        struct run *run = run_open(f, &(struct plan){.count = 64});
        run_until(run, 64);
        assert_int_equal(run->states[MEMBER_DENIED], 64);
        assert_int_equal(atomic_load(&f->server->asked[run->id]), 0);
        run_close(run);
        take_config(f, NULL);
    }
    front_close(f);
}

/* A reload asks for names anew. */
static void test_reload_forgets_names(void **state)
{
    struct front *f = front_open(loops_of(state), NULL);
    for (int round = 0; round < 3; round++) {
        uint64_t before = resolve_cache_generation(f->shard->names);
        take_config(f, NULL);
        /* once, however many loops there are */
        assert_int_equal(resolve_cache_generation(f->shard->names), before + 1);
    }
    front_close(f);
}

/* Mail */

/* Jobs that come while a loop reads cancels and pauses, of which none makes it look again. */
static void test_jobs_come_while_mail_is_read(void **state)
{
    (void)state;
    struct front *f = front_open(1, NULL);
    struct run *told[3];
    hook_open();
    for (int i = 0; i < 3; i++) {
        told[i] = run_make(f, &(struct plan){.count = 5});
        shard_group_cancel(f->shard, told[i]->group, ERR_CANCELLED);
    }
    sync_lanes(f);
    atomic_store(&hook.in_wake, true);
    shard_group_pause(f->shard, told[0]->group, true);
    uv_sem_wait(&hook.stopped); /* awake, and no other signal is under way */
    shard_group_pause(f->shard, told[1]->group, true);
    shard_group_pause(f->shard, told[2]->group, true);
    atomic_store(&hook.in_pause, true);
    uv_sem_post(&hook.go_on);
    uv_sem_wait(&hook.stopped); /* at the first of three */
    struct run *run = run_open(f, &(struct plan){.count = 20});
    shard_flush(f->shard);
    uv_sem_post(&hook.go_on);
    f->guard_ms = uv_now(&f->loop) + 5000;
    run_until(run, 20);
    check_all_ok(run);
    run_close(run);
    for (int i = 0; i < 3; i++) {
        run_submit(told[i]);
        run_until(told[i], 5);
        assert_int_equal(told[i]->states[MEMBER_CANCELLED], 5);
        run_close(told[i]);
    }
    hook_close();
    front_close(f);
}

/* Lets the loop go on that is stopped, once the shard asks it to close and has closed the other
 * one, if it does that without it. */
static void let_go_on(void *arg)
{
    struct shard *s = arg;
    struct lane *stopped = &s->lanes[1];
    bool asked = false;
    while (!asked) {
        pthread_mutex_lock(&stopped->lock);
        asked = stopped->call != NULL;
        pthread_mutex_unlock(&stopped->lock);
        (void)sched_yield();
    }
    for (int64_t end_us = clock_us() + 50000; clock_us() < end_us && atomic_load(&s->ended) == 0;)
        (void)sched_yield();
    uv_sem_post(&hook.go_on);
}

/* All jobs are done, a transfer is being closed, and its slot is told to a loop that waited a
 * moment ago: the shard is closed before that one hears of it. */
static void test_close_while_a_loop_is_told(void **state)
{
    (void)state;
    enum { SLOTS = 33 }; /* one more than are closed in a turn */
    struct front *f =
        front_open(2, (const char *const[]){"limits.in_flight=33", "limits.per_host=33", NULL});
    struct shard *s = f->shard;
    uv_thread_t helper;
    hook_open();
    hook.front = &s->bell;
    atomic_store(&f->server->hold, NO_LIMIT);
    struct run *cut = run_open(f, &(struct plan){.count = SLOTS, .origin = 1, .what = "never"});
    while (atomic_load(&f->server->waiting) < SLOTS)
        spin(f);
    struct run *other = run_open(f, &(struct plan){.count = 60, .origin = ORIGINS});
    sync_lanes(f);
    atomic_store(&hook.after_done, true);
    shard_group_cancel(s, cut->group, ERR_CANCELLED);
    uv_sem_wait(&hook.stopped); /* 32 slots are free, the last is not */
    while (slots_used(s->slots) < SLOTS)
        (void)sched_yield();
    lane_call(&s->lanes[0], on_sync, NULL); /* has them, and waits for more */
    atomic_store(&hook.before_tell, true);
    uv_sem_post(&hook.go_on);
    uv_sem_wait(&hook.stopped);
    atomic_store(&f->server->hold, 0);
    run_close(other);
    run_close(cut);
    assert_int_equal(uv_thread_create(&helper, let_go_on, s), 0);
    front_close(f);
    uv_thread_join(&helper);
    hook.front = NULL;
    hook_close();
}

/* More than a loop accepts, and hands back, in a turn. */
static void test_bad_urls(void **state)
{
    enum { COUNT = MEMBERS };
    struct front *f = front_open(loops_of(state), NULL);
    struct run *run = run_make(f, &(struct plan){.count = COUNT});
    for (int i = 0; i < COUNT; i++) {
        run->jobs[i].member.origin = NULL;
        run->jobs[i].member.why = "for a test";
    }
    run_submit(run);
    run_until(run, COUNT);
    assert_int_equal(run->states[MEMBER_FAILED], COUNT);
    assert_string_equal(run->jobs[0].job.result.error.message, "for a test");
    run_close(run);
    front_close(f);
}

/* Everything */

static void random_plan(struct plan *plan)
{
    *plan = (struct plan){
        .count = 1 + rand() % 80,
        .limit = rand() % 3 == 0 ? 1 + rand() % 10 : 0,
        .limit_per_host = rand() % 3 == 0 ? 1 + rand() % 3 : 0,
        .stop_on_error = rand() % 5 == 0,
        .what_of = rand() % 2 == 0 ? what_of_redirects : NULL,
        .what = rand() % 4 == 0 ? "404" : "ok",
    };
}

static void random_step(struct front *f, struct run **at)
{
    struct plan plan;
    if (*at == NULL) {
        random_plan(&plan);
        *at = run_open(f, &plan);
    } else if ((*at)->dones == (*at)->count) {
        run_close(*at);
        *at = NULL;
    } else if (rand() % 4 == 0) {
        shard_group_cancel(f->shard, (*at)->group, ERR_CANCELLED);
    } else {
        shard_group_pause(f->shard, (*at)->group, rand() % 2 == 0);
    }
    turn_wake(&f->turn);
}

static void test_random(void **state)
{
    enum { STEPS = 300, AT_ONCE = RUNS };
    struct front *f = front_open(loops_of(state), narrow);
    struct run *runs[AT_ONCE] = {NULL};
    srand(7);
    atomic_store(&f->server->limit_all, 32);
    atomic_store(&f->server->limit_origin, 6);
    for (int step = 0; step < STEPS; step++) {
        int i = rand() % AT_ONCE;
        /* the server knows AT_ONCE batches: a new one has the number of the one it replaces */
        f->runs = i;
        random_step(f, &runs[i]);
        if (rand() % 4 == 0)
            spin(f);
        if (rand() % 50 == 0)
            take_config(f, narrow);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        if (runs[i] == NULL)
            continue;
        shard_group_cancel(f->shard, runs[i]->group, ERR_CANCELLED);
        turn_wake(&f->turn);
        run_close(runs[i]);
    }
    front_close(f);
}

/* A start that fails: what was begun is closed by the front's loop, and a reason is given. */
static void test_no_start(void **state)
{
    const char *why = NULL;
    struct front *f = front_prepare(loops_of(state), NULL);
    free(f->config->fetch.dns_servers.items[0]);
    f->config->fetch.dns_servers.items[0] = strdup("no address");
    assert_null(create_shard(f, &why));
    assert_non_null(why);
    front_close(f);
}

/* The first, a middle or the last of the loops. */
static void test_no_start_of_one(void **state)
{
    (void)state;
    for (int n = 0; n < 8; n++) {
        const char *why = NULL;
        struct front *f = front_prepare(4, NULL);
        engines_left = n < 4 ? n : -1;
        threads_left = n < 4 ? -1 : n - 4;
        assert_null(create_shard(f, &why));
        engines_left = threads_left = -1;
        assert_string_equal(why, n < 4 ? "for a test" : "no thread");
        front_close(f);
    }
}

static int loop_counts[] = {0, 1, 2, 4};

#define WITH(test, i, n) \
    {                    \
        .name = #test "_" #n, .test_func = test, .initial_state = &loop_counts[i] \
    }
#define EACH(test) WITH(test, 0, 0), WITH(test, 1, 1), WITH(test, 2, 2), WITH(test, 3, 4)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_all_done),
        EACH(test_limits_of_batches),
        EACH(test_order),
        EACH(test_redirects),
        EACH(test_cancel),
        EACH(test_cancel_at_any_moment),
        EACH(test_stop_on_error),
        EACH(test_close_with_transfers),
        EACH(test_close_with_mail),
        EACH(test_pause),
        EACH(test_reload),
        EACH(test_reload_limits),
        EACH(test_policy),
        EACH(test_reload_forgets_names),
        EACH(test_bad_urls),
        EACH(test_random),
        EACH(test_no_start),
        cmocka_unit_test(test_no_start_of_one),
        cmocka_unit_test(test_jobs_come_while_mail_is_read),
        cmocka_unit_test(test_close_while_a_loop_is_told),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("shard", tests, libraries_up, libraries_down);
}

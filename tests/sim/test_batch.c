/* SPDX-License-Identifier: MIT
 *
 * test_batch - the batch's state machine on a clock that only the test moves, over an engine that
 * does what the test says and when: it keeps fetch.h's promises (done is always later, the result
 * of a cancelled job is final at once) with the real scheduler, and sends nothing. batch.c is
 * included, so that its allocations can fail.
 *
 * What a batch promises its owner is asserted in the callbacks themselves, so in every test: each
 * member is reported once, the end is told once and last, neither from inside a call into the
 * batch, and every member's phases add up to its time since the start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "batch.h"
#include "clock.h"
#include "log.h"
#include "slots.h"

static int allocations_left = -1; /* that many succeed; -1 = all do */

static bool may_allocate(void)
{
    if (allocations_left == 0)
        return false;
    if (allocations_left > 0)
        allocations_left--;
    return true;
}

static void *test_batch_calloc(size_t n, size_t size)
{
    return may_allocate() ? calloc(n, size) : NULL;
}

static char *test_batch_strdup(const char *s)
{
    return may_allocate() ? strdup(s) : NULL;
}

#define calloc test_batch_calloc
#define strdup test_batch_strdup
#include "batch.c"
#undef calloc
#undef strdup

#define A "http://a.test:80"
#define B "http://b.test:80"
#define BAD_URL "what is this"
#define MS INT64_C(1000)
#define LEAD (10 * MS)
#define WALL INT64_C(1793534400000000)
#define MOST_A_TURN 512

/* The clock */

static int64_t now_us, step_us; /* step: what each look at the clock takes */

int64_t clock_us(void)
{
    now_us += step_us;
    return now_us;
}

int64_t clock_wall_us(void)
{
    return WALL + now_us;
}

/* The engine */

struct fetch {
    struct slots *slots;
    struct sched *sched;
    struct list active, closing, ended; /* struct fetch_job */
    size_t submitted, in_hand, freed;
    bool refuses; /* the next one who wants to join */
};

static void job_end(struct fetch *f, struct fetch_job *job)
{
    list_remove(&job->node);
    sched_release(&job->entry);
    job->state = FETCH_ENDED;
    list_append(&f->ended, &job->node);
}

static void account(struct fetch_job *job, enum phase p, int64_t since_us, int64_t end_us)
{
    timings_add(&job->result.timings, p, end_us - since_us);
    job->result.end_us = end_us;
}

struct sched_batch *fetch_join(struct fetch *f, const char *identity, struct slots *slots,
                               int limit_per_host)
{
    return f->refuses ? NULL : sched_batch_join(f->sched, identity, slots, limit_per_host);
}

void fetch_submit(struct fetch *f, struct fetch_job *job)
{
    assert_int_equal(job->state, FETCH_IDLE);
    result_init(&job->result);
    list_init(&job->node);
    list_init(&job->entry.node);
    job->waiting_since_us = job->queued_us;
    job->state = FETCH_QUEUED;
    f->submitted++;
    f->in_hand++;
    if (strcmp(job->member->url, BAD_URL) != 0) {
        assert_true(sched_push(job->batch, job->member->url, &job->entry, false));
        return;
    }
    account(job, PHASE_QUEUE, job->waiting_since_us, clock_us());
    job->result.state = MEMBER_FAILED;
    job->result.error = (struct result_error){.type = ERR_URL_INVALID, .phase = PHASE_QUEUE};
    job_end(f, job);
}

void fetch_cancel(struct fetch *f, struct fetch_job *job, enum err_type why, int64_t at_us)
{
    if (job->result.state != MEMBER_PENDING || job->state == FETCH_IDLE)
        return;
    bool waits = job->state == FETCH_QUEUED;
    enum phase last = waits ? PHASE_QUEUE : PHASE_WAIT;
    account(job, last, waits ? job->waiting_since_us : job->dispatched_us, at_us);
    job->result.state = MEMBER_CANCELLED;
    job->result.error = (struct result_error){.type = why, .phase = last};
    if (waits) {
        job_end(f, job);
        return;
    }
    list_remove(&job->node);
    job->state = FETCH_CLOSING;
    list_append(&f->closing, &job->node);
}

void fetch_content_free(struct fetch *f, struct result *r)
{
    (void)f;
    result_drop_extra(r);
}

void fetch_result_free(struct fetch *f, struct result *r)
{
    f->freed++;
    result_fini(r);
}

/* Starts what the scheduler lets start. */
static size_t engine_launch(struct fetch *f)
{
    struct sched_entry *e;
    size_t n = 0;
    for (; (e = sched_next(f->sched)) != NULL; n++) {
        struct fetch_job *job = LIST_CONTAINER(e, struct fetch_job, entry);
        assert_int_equal(job->state, FETCH_QUEUED);
        job->state = FETCH_ACTIVE;
        job->dispatched_us = now_us;
        job->result.start_us = now_us;
        account(job, PHASE_QUEUE, job->waiting_since_us, now_us);
        list_append(&f->active, &job->node);
    }
    return n;
}

/* An answer came. status 0: none did, the connection was lost. */
static void engine_answer(struct fetch *f, struct fetch_job *job, int status)
{
    assert_int_equal(job->state, FETCH_ACTIVE);
    account(job, PHASE_WAIT, job->dispatched_us, now_us);
    job->result.status = status;
    job->result.ok = status > 0 && status < 400;
    job->result.state = status > 0 ? MEMBER_DONE : MEMBER_FAILED;
    if (status == 0)
        job->result.error = (struct result_error){ERR_CONNECTION_TERMINATED, .phase = PHASE_WAIT};
    job_end(f, job);
}

/* Takes transfers of cancelled jobs down. */
static void engine_close(struct fetch *f, size_t n)
{
    struct list *node;
    for (; n > 0 && (node = list_pop(&f->closing)) != NULL; n--)
        job_end(f, LIST_CONTAINER(node, struct fetch_job, node));
}

/* Gives ended jobs back. */
static size_t engine_deliver(struct fetch *f, size_t n)
{
    struct list *node;
    size_t given = 0;
    for (; given < n && (node = list_pop(&f->ended)) != NULL; given++) {
        struct fetch_job *job = LIST_CONTAINER(node, struct fetch_job, node);
        job->state = FETCH_IDLE;
        f->in_hand--;
        batches_job_done(job);
    }
    return given;
}

/* The world: a runner, an engine, a loop that only closes handles. */

struct world {
    uv_loop_t loop;
    struct fetch fetch;
    struct metrics metrics;
    struct lag lag;
    struct batches *batches;
    size_t woken;
    bool closed;
    bool in_call; /* into a batch: nobody may be called back */
    bool stalls;  /* turns come as they come: no deadline can be kept */
};

static void on_wake(void *arg)
{
    struct world *w = arg;
    w->woken++;
}

static void open_world(struct world *w, int in_flight, int per_host)
{
    *w = (struct world){.woken = 0};
    now_us = 1000 * MS;
    step_us = 0;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->fetch.slots = slots_create(in_flight, 1);
    assert_non_null(w->fetch.slots);
    const struct sched_params sched = {.daemon = w->fetch.slots, .limit_origin = per_host};
    w->fetch.sched = sched_create(&sched);
    assert_non_null(w->fetch.sched);
    list_init(&w->fetch.active);
    list_init(&w->fetch.closing);
    list_init(&w->fetch.ended);
    const struct batches_params params = {
        .loop = &w->loop,
        .fetch = &w->fetch,
        .metrics = &w->metrics,
        .lag = &w->lag,
        .wake = on_wake,
        .arg = w,
    };
    w->batches = batches_create(&params);
    assert_non_null(w->batches);
}

static void on_runner_closed(void *arg)
{
    struct world *w = arg;
    w->closed = true;
}

/* Every test ends here: no batch, no job, no entry and no handle is left. */
static void close_world(struct world *w)
{
    assert_int_equal(batches_alive(w->batches), 0);
    assert_int_equal(batches_running(w->batches), 0);
    assert_int_equal(batches_unsubmitted(w->batches), 0);
    assert_int_equal(w->fetch.in_hand, 0);
    assert_int_equal(sched_waiting(w->fetch.sched) + sched_running(w->fetch.sched), 0);
    sched_destroy(w->fetch.sched);
    slots_destroy(w->fetch.slots);
    batches_close(w->batches, on_runner_closed, w);
    assert_false(w->closed);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* A turn of the runner. Returns how many members it handed to the engine. */
static size_t turn(struct world *w)
{
    size_t submitted = w->fetch.submitted, left = batches_unsubmitted(w->batches);
    bool more = batches_turn(w->batches);
    size_t n = w->fetch.submitted - submitted;
    assert_true(n <= MOST_A_TURN);
    assert_true(batches_unsubmitted(w->batches) + n <= left);
    assert_int_equal(more, batches_unsubmitted(w->batches) > 0);
    return n;
}

/* Lets everything happen that needs no answer. */
static void settle_all(struct world *w)
{
    size_t again;
    do {
        again = turn(w);
        again += engine_launch(&w->fetch);
        engine_close(&w->fetch, SIZE_MAX);
        again += engine_deliver(&w->fetch, SIZE_MAX);
        turn(w);
    } while (again > 0);
}

/* A batch and what its owner saw */

struct script {
    size_t count;
    int concurrency;      /* 0 = no limit worth the name */
    int64_t deadline_us;  /* 0 = 60 s */
    bool stop_on_error;
    const char *identity; /* NULL = "x" */
    const char *url;      /* of all members; NULL = A */
};

enum { RELEASE_NEVER, RELEASE_IN_ITEM, RELEASE_IN_END };

struct run {
    struct world *w;
    struct batch *batch; /* NULL when released */
    size_t count, calls;
    uint8_t *reported;   /* by member */
    size_t *order;       /* the members as they were reported */
    int ends, release;
    size_t release_at;   /* RELEASE_IN_ITEM: in that call */
    struct view_summary summary;
};

static void release(struct run *r)
{
    bool outer = r->w->in_call;
    r->w->in_call = true;
    batch_release(r->batch);
    r->w->in_call = outer;
    r->batch = NULL;
}

static void check_result(const struct batch_view *v, const struct result *r)
{
    assert_int_not_equal(r->state, MEMBER_PENDING);
    assert_int_equal(timings_total(&r->timings), r->end_us - v->started_us);
    assert_true(r->end_us <= now_us);
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_true(r->timings.us[p] >= TIME_NULL);
    assert_int_equal(r->ok, r->state == MEMBER_DONE && r->status < 400);
    assert_int_equal(r->error.type == ERR_NONE, r->state == MEMBER_DONE);
}

static void on_item(void *arg, size_t index)
{
    struct run *r = arg;
    assert_false(r->w->in_call);
    assert_non_null(r->batch); /* not after release */
    assert_int_equal(r->ends, 0);
    assert_true(index < r->count);
    assert_int_equal(r->reported[index]++, 0);
    const struct batch_view *v = batch_view(r->batch);
    assert_null(v->summary);
    check_result(v, view_result(v, index));
    r->order[r->calls++] = index;
    if (r->release == RELEASE_IN_ITEM && r->calls == r->release_at)
        release(r);
}

static void check_counts(const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    int64_t states[MEMBER_STATE_COUNT] = {0}, ok = 0;
    for (size_t i = 0; i < v->spec->count; i++) {
        const struct result *r = view_result(v, i);
        check_result(v, r);
        states[r->state]++;
        ok += r->ok;
    }
    assert_int_equal(s->done, states[MEMBER_DONE]);
    assert_int_equal(s->failed, states[MEMBER_FAILED]);
    assert_int_equal(s->denied, states[MEMBER_DENIED]);
    assert_int_equal(s->cancelled, states[MEMBER_CANCELLED]);
    assert_int_equal(s->n_ok, ok);
    assert_int_equal(s->ok, ok == (int64_t)v->spec->count);
}

static void on_end(void *arg)
{
    struct run *r = arg;
    assert_false(r->w->in_call);
    assert_non_null(r->batch);
    assert_int_equal(r->ends++, 0);
    assert_int_equal(r->calls, r->count);
    const struct batch_view *v = batch_view(r->batch);
    assert_non_null(v->summary);
    assert_true(r->w->stalls || v->summary->total_us <= v->spec->deadline_us);
    assert_int_equal(v->summary->concurrency_limit, v->spec->concurrency);
    assert_true(v->summary->concurrency_peak <= v->summary->concurrency_limit);
    check_counts(v);
    r->summary = *v->summary;
    if (r->release == RELEASE_IN_END)
        release(r);
}

static const struct member_opts options = {.method = "GET", .queue_timeout_us = -1};

static struct batch_spec *make_spec(const struct script *script)
{
    struct batch_spec *spec = calloc(1, sizeof *spec);
    assert_non_null(spec);
    arena_init(&spec->arena);
    spec->members = arena_calloc(&spec->arena, script->count, sizeof *spec->members);
    assert_non_null(spec->members);
    spec->count = script->count;
    spec->concurrency = script->concurrency > 0 ? script->concurrency : 1000000;
    spec->concurrency_per_host = spec->concurrency;
    spec->deadline_us = script->deadline_us > 0 ? script->deadline_us : 60 * US_PER_S;
    spec->stop_on_error = script->stop_on_error;
    for (size_t i = 0; i < script->count; i++) {
        const char *url = script->url ? script->url : A;
        spec->members[i] = (struct member){
            .url = url, .url_len = (uint32_t)strlen(url), .opts = &options};
    }
    return spec;
}

static bool try_start(struct world *w, struct run *r, const struct script *script)
{
    const struct batch_params params = {
        .spec = make_spec(script),
        .identity = script->identity ? script->identity : "x",
        .parse_us = 7,
        .on_item = on_item,
        .on_end = on_end,
        .arg = r,
    };
    *r = (struct run){.w = w, .count = script->count};
    w->in_call = true;
    r->batch = batch_start(w->batches, &params);
    w->in_call = false;
    if (r->batch == NULL)
        return false;
    r->reported = calloc(script->count, sizeof *r->reported);
    r->order = calloc(script->count, sizeof *r->order);
    assert_true(r->reported && r->order);
    return true;
}

static void start(struct world *w, struct run *r, const struct script *script)
{
    size_t woken = w->woken;
    assert_true(try_start(w, r, script));
    assert_true(w->woken > woken);
}

/* Forgets what the owner saw, and releases the batch if that is still to be done. */
static void end_run(struct run *r)
{
    if (r->batch)
        release(r);
    free(r->reported);
    free(r->order);
}

static void cancel(struct run *r)
{
    size_t woken = r->w->woken;
    bool running = batch_view(r->batch)->summary == NULL;
    r->w->in_call = true;
    batch_cancel(r->batch);
    r->w->in_call = false;
    assert_true(!running || r->w->woken > woken); /* or the loop would sleep over it */
}

static struct fetch_job *job_of(const struct run *r, size_t i)
{
    const struct result *result = view_result(batch_view(r->batch), i);
    return LIST_CONTAINER(result, struct fetch_job, result);
}

static const struct result *result_of(const struct run *r, size_t i)
{
    return &job_of(r, i)->result;
}

static void answer(struct run *r, size_t i, int status)
{
    engine_answer(&r->w->fetch, job_of(r, i), status);
}

/* The plain life */

static void test_all_done(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 3});
    assert_int_equal(w.metrics.value[METRIC_BATCHES_ACCEPTED], 1);
    assert_int_equal(batches_running(w.batches), 1);
    assert_int_equal(batches_unsubmitted(w.batches), 3);
    assert_int_equal(w.fetch.submitted, 0); /* submitting is a turn's affair */
    assert_int_equal(turn(&w), 3);
    assert_int_equal(engine_launch(&w.fetch), 3);
    now_us += 20 * MS;
    for (size_t i = 0; i < 3; i++)
        answer(&r, i, 200);
    assert_int_equal(r.calls, 0);
    size_t woken = w.woken;
    engine_deliver(&w.fetch, SIZE_MAX);
    assert_int_equal(r.calls, 3);
    /* The end is told in the runner's turn, and the loop must not sleep before it. */
    assert_int_equal(r.ends, 0);
    assert_true(w.woken > woken);
    assert_int_equal(batches_running(w.batches), 0);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.ok && r.summary.complete);
    assert_int_equal(r.summary.total_us, 20 * MS);
    assert_int_equal(r.summary.sequential_us, 60 * MS);
    assert_int_equal(r.summary.concurrency_peak, 3);
    assert_int_equal(batches_alive(w.batches), 1);
    end_run(&r);
    turn(&w);
    assert_int_equal(w.fetch.freed, 3);
    close_world(&w);
}

static void test_some_fail(void **state)
{
    (void)state;
    struct world w;
    struct run r, bad;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 4});
    start(&w, &bad, &(struct script){.count = 2, .url = BAD_URL});
    turn(&w);
    assert_int_equal(bad.calls, 0);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    answer(&r, 1, 503);
    answer(&r, 2, 0);
    answer(&r, 3, 404);
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.complete); /* failures do not cut a batch */
    assert_false(r.summary.ok);
    assert_int_equal(r.summary.done, 3);
    assert_int_equal(r.summary.http_error, 2);
    assert_int_equal(r.summary.failed, 1);
    assert_int_equal(r.summary.errors[ERR_CONNECTION_TERMINATED], 1);
    assert_int_equal(bad.ends, 1);
    assert_int_equal(bad.summary.errors[ERR_URL_INVALID], 2);
    assert_int_equal(bad.summary.concurrency_peak, 0);
    end_run(&r);
    end_run(&bad);
    turn(&w);
    close_world(&w);
}

static void test_results_in_the_order_of_their_end(void **state)
{
    (void)state;
    static const size_t order[] = {3, 0, 4, 1, 2};
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 5});
    turn(&w);
    engine_launch(&w.fetch);
    for (size_t i = 0; i < 5; i++) {
        now_us += MS;
        answer(&r, order[i], 200 + (int)order[i]);
        engine_deliver(&w.fetch, 1);
        assert_int_equal(r.calls, i + 1);
    }
    assert_memory_equal(r.order, order, sizeof order);
    turn(&w);
    for (size_t i = 0; i < 5; i++) /* and in their places */
        assert_int_equal(result_of(&r, i)->status, 200 + (int)i);
    assert_int_equal(r.summary.critical_index, 2);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

static void test_limits_and_peak(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 7, .concurrency = 3});
    turn(&w);
    assert_int_equal(engine_launch(&w.fetch), 3);
    answer(&r, 0, 200);
    answer(&r, 1, 200);
    engine_deliver(&w.fetch, SIZE_MAX);
    assert_int_equal(engine_launch(&w.fetch), 2);
    for (size_t i = 2; i < 7; i++) {
        answer(&r, i, 200);
        settle_all(&w);
    }
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.concurrency_limit, 3);
    assert_int_equal(r.summary.concurrency_peak, 3);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

/* What gatherd says of its own share: reading, submitting, and from the last answer to the end. */
static void test_overhead_and_lag(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    lag_note(&w.lag, now_us - 1, 900 * MS); /* before it began */
    start(&w, &r, &(struct script){.count = 2});
    step_us = 3;
    turn(&w);
    step_us = 0;
    engine_launch(&w.fetch);
    now_us += 5 * MS;
    lag_note(&w.lag, now_us, 4 * MS);
    answer(&r, 0, 200);
    answer(&r, 1, 200);
    now_us += 11;
    settle_all(&w);
    assert_int_equal(r.summary.loop_lag_max_us, 4 * MS);
    assert_int_equal(r.summary.overhead_us, 7 + 3 + 11);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

static void test_view(void **state)
{
    (void)state;
    struct world w;
    struct run r, other;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1});
    start(&w, &other, &(struct script){.count = 1});
    const struct batch_view *v = batch_view(r.batch);
    assert_string_equal(v->id, batch_id(r.batch));
    assert_int_equal(strlen(v->id), 16);
    assert_int_equal(strspn(v->id, "0123456789abcdef"), 16);
    assert_string_not_equal(v->id, batch_id(other.batch));
    assert_int_equal(v->started_us, now_us);
    assert_int_equal(v->started_wall_us, WALL + now_us);
    assert_int_equal(v->spec->count, 1);
    end_run(&r);
    end_run(&other);
    settle_all(&w);
    close_world(&w);
}

/* The deadline */

/* Members in all three places, one done before: 10 ms early, not a microsecond earlier. */
static void test_deadline(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    int64_t began = now_us, deadline = 500 * MS;
    start(&w, &r, &(struct script){.count = COUNT, .concurrency = 3, .deadline_us = deadline});
    turn(&w);
    engine_launch(&w.fetch);
    now_us += 30 * MS;
    answer(&r, 1, 200);
    engine_deliver(&w.fetch, 1);
    now_us = began + deadline - LEAD - 1;
    turn(&w);
    assert_int_equal(r.calls, 1);
    assert_int_equal(batches_running(w.batches), 1);
    now_us++;
    size_t unsubmitted = batches_unsubmitted(w.batches);
    assert_int_equal(unsubmitted, COUNT - 2 * MOST_A_TURN);
    assert_int_equal(turn(&w), 0);
    assert_int_equal(r.ends, 1);
    assert_int_equal(batches_unsubmitted(w.batches), 0);
    assert_false(r.summary.complete || r.summary.ok);
    assert_int_equal(r.summary.total_us, deadline - LEAD);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.cancelled, COUNT - 1);
    assert_int_equal(r.summary.errors[ERR_DEADLINE_EXCEEDED], COUNT - 1);
    assert_int_equal(r.summary.timed_out, 0);
    for (size_t i = 0; i < COUNT; i++) {
        const struct result *result = result_of(&r, i);
        if (i == 1)
            continue;
        assert_int_equal(result->state, MEMBER_CANCELLED);
        assert_int_equal(result->error.type, ERR_DEADLINE_EXCEEDED);
        assert_int_equal(result->error.phase, i < 3 ? PHASE_WAIT : PHASE_QUEUE);
        assert_int_equal(result->end_us, began + deadline - LEAD);
        assert_int_equal(result->start_us == TIME_NULL, i >= 3);
        assert_int_equal(result_work_us(result), i < 3 ? deadline - LEAD : TIME_NULL);
    }
    end_run(&r);
    settle_all(&w);
    assert_int_equal(w.fetch.freed, COUNT);
    close_world(&w);
}

/* On a clock that goes on while the states are taken the end is still in time. */
static void test_deadline_while_time_passes(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1000, .deadline_us = 50 * MS});
    turn(&w);
    engine_launch(&w.fetch);
    now_us += 40 * MS;
    step_us = 100;
    turn(&w);
    step_us = 0;
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.total_us > 40 * MS); /* not above 50 ms: on_end() looks */
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

static void test_deadlines_shorter_than_the_lead(void **state)
{
    (void)state;
    static const int64_t deadlines[] = {1, 2, MS, 15 * MS, 20 * MS};
    for (size_t i = 0; i < sizeof deadlines / sizeof deadlines[0]; i++) {
        struct world w;
        struct run r;
        open_world(&w, 100, 100);
        start(&w, &r, &(struct script){.count = 2, .deadline_us = deadlines[i]});
        int64_t lead = deadlines[i] / 2;
        now_us += deadlines[i] - lead - 1;
        turn(&w);
        assert_int_equal(r.ends, 0);
        now_us++;
        turn(&w);
        assert_int_equal(r.ends, 1);
        assert_int_equal(r.summary.total_us, deadlines[i] - lead);
        end_run(&r);
        settle_all(&w);
        close_world(&w);
    }
}

/* The loop's timer stands on the earliest deadline, and stops with the last. */
static void test_timer(void **state)
{
    (void)state;
    struct world w;
    struct run late, early;
    open_world(&w, 100, 100);
    assert_false(uv_is_active((uv_handle_t *)&w.batches->timer));
    start(&w, &late, &(struct script){.count = 1, .deadline_us = 900 * MS});
    turn(&w);
    assert_int_equal(uv_timer_get_due_in(&w.batches->timer), 890);
    start(&w, &early, &(struct script){.count = 1, .deadline_us = 300 * MS + 1});
    turn(&w);
    /* rounded up: never a look too early */
    assert_int_equal(uv_timer_get_due_in(&w.batches->timer), 291);
    engine_launch(&w.fetch);
    answer(&early, 0, 200);
    settle_all(&w);
    assert_int_equal(uv_timer_get_due_in(&w.batches->timer), 890);
    now_us += 890 * MS;
    turn(&w);
    assert_int_equal(late.ends, 1);
    assert_false(uv_is_active((uv_handle_t *)&w.batches->timer));
    end_run(&early);
    end_run(&late);
    settle_all(&w);
    close_world(&w);
}

/* What the engine hands back after the end counts down, and changes nothing. */
static void test_late_done(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 3, .deadline_us = 100 * MS});
    turn(&w);
    engine_launch(&w.fetch);
    now_us += 95 * MS;
    turn(&w);
    assert_int_equal(r.ends, 1);
    now_us += 500 * MS;
    engine_close(&w.fetch, 2);
    assert_int_equal(engine_deliver(&w.fetch, SIZE_MAX), 2);
    turn(&w);
    assert_int_equal(r.calls, 3);
    assert_int_equal(result_of(&r, 0)->end_us, result_of(&r, 2)->end_us);
    end_run(&r);
    turn(&w);
    assert_int_equal(batches_alive(w.batches), 1); /* one is still out */
    assert_int_equal(w.fetch.freed, 0);
    engine_close(&w.fetch, 1);
    engine_deliver(&w.fetch, 1);
    assert_int_equal(batches_alive(w.batches), 0);
    assert_int_equal(w.fetch.freed, 3);
    close_world(&w);
}

/* An answer that came before the deadline counts, although it is handed over after it. */
static void test_answer_before_the_deadline_delivered_after(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 2, .deadline_us = 100 * MS});
    turn(&w);
    engine_launch(&w.fetch);
    now_us += 80 * MS;
    answer(&r, 1, 200);
    now_us += 15 * MS;
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.cancelled, 1);
    assert_int_equal(result_of(&r, 1)->state, MEMBER_DONE);
    settle_all(&w);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* Cancel and release */

static void test_cancel(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 600, .concurrency = 2});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    engine_deliver(&w.fetch, 1);
    now_us += MS;
    cancel(&r);
    cancel(&r);
    assert_int_equal(r.calls, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_false(r.summary.complete);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.errors[ERR_CANCELLED], 599);
    cancel(&r);
    turn(&w);
    assert_int_equal(batches_alive(w.batches), 1);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

static void test_cancel_before_the_first_turn(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1000});
    cancel(&r);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.errors[ERR_CANCELLED], 1000);
    assert_int_equal(r.summary.total_us, 0);
    assert_int_equal(r.summary.critical_index, -1);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* All members come in while the cancel waits for its turn: nothing was cut. */
static void test_cancel_comes_too_late(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    cancel(&r);
    engine_deliver(&w.fetch, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.complete && r.summary.ok);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

/* The client is gone: nobody is called, and the memory goes with the last job. */
static void test_client_gone(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 700, .concurrency = 2});
    turn(&w);
    engine_launch(&w.fetch);
    size_t woken = w.woken;
    release(&r);
    assert_true(w.woken > woken);
    turn(&w);
    assert_int_equal(batches_running(w.batches), 0);
    assert_int_equal(batches_alive(w.batches), 1);
    engine_deliver(&w.fetch, SIZE_MAX); /* those that waited */
    assert_int_equal(batches_alive(w.batches), 1);
    engine_close(&w.fetch, 1);
    engine_deliver(&w.fetch, 1);
    assert_int_equal(batches_alive(w.batches), 1);
    engine_close(&w.fetch, 1);
    engine_deliver(&w.fetch, 1);
    assert_int_equal(batches_alive(w.batches), 0);
    assert_int_equal(r.calls, 0);
    assert_int_equal(r.ends, 0);
    end_run(&r);
    close_world(&w);
}

static void test_release_before_the_first_turn(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 5});
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* Its last job comes back between release and the turn that would have cancelled it. */
static void test_release_as_the_last_job_comes(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    end_run(&r);
    engine_deliver(&w.fetch, 1);
    assert_int_equal(batches_alive(w.batches), 0);
    turn(&w);
    close_world(&w);
}

/* Between the end and its being told. */
static void test_release_before_the_end_is_told(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    engine_deliver(&w.fetch, 1);
    release(&r);
    turn(&w);
    assert_int_equal(r.ends, 0);
    assert_int_equal(batches_alive(w.batches), 0);
    end_run(&r);
    close_world(&w);
}

static void test_release_inside_on_end(void **state)
{
    (void)state;
    struct world w;
    struct run r, cut;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1});
    start(&w, &cut, &(struct script){.count = 2, .deadline_us = 50 * MS});
    r.release = cut.release = RELEASE_IN_END;
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 200);
    engine_deliver(&w.fetch, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(batches_alive(w.batches), 1);
    now_us += 45 * MS;
    turn(&w);
    assert_int_equal(cut.ends, 1);
    assert_int_equal(batches_alive(w.batches), 1); /* its two jobs */
    settle_all(&w);
    assert_int_equal(batches_alive(w.batches), 0);
    end_run(&r);
    end_run(&cut);
    close_world(&w);
}

/* In the first, a middle and the last report, by an answer and by a deadline. */
static void test_release_inside_on_item(void **state)
{
    (void)state;
    for (size_t at = 1; at <= 3; at++) {
        struct world w;
        struct run r, cut;
        open_world(&w, 100, 100);
        start(&w, &r, &(struct script){.count = 3});
        start(&w, &cut, &(struct script){.count = 3, .deadline_us = 50 * MS});
        r.release = cut.release = RELEASE_IN_ITEM;
        r.release_at = cut.release_at = at;
        turn(&w);
        engine_launch(&w.fetch);
        for (size_t i = 0; i < 3; i++)
            answer(&r, i, 200);
        engine_deliver(&w.fetch, SIZE_MAX);
        assert_int_equal(r.calls, at);
        now_us += 45 * MS;
        turn(&w);
        assert_int_equal(cut.calls, at);
        settle_all(&w);
        assert_int_equal(r.ends + cut.ends, 0);
        end_run(&r);
        end_run(&cut);
        close_world(&w);
    }
}

static void test_nobody_wants_items(void **state)
{
    (void)state;
    struct world w;
    struct run r = {.w = &w, .count = 0};
    open_world(&w, 100, 100);
    const struct batch_params params = {
        .spec = make_spec(&(struct script){.count = 2, .deadline_us = 50 * MS}),
        .identity = "",
        .on_end = on_end,
        .arg = &r,
    };
    r.batch = batch_start(w.batches, &params);
    assert_non_null(r.batch);
    now_us += 45 * MS;
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.cancelled, 2);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* stop_on_error */

static void test_stop_on_error(void **state)
{
    (void)state;
    static const int statuses[] = {0, 404, 500}; /* 0: the connection was lost */
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct world w;
        struct run r;
        open_world(&w, 100, 100);
        start(&w, &r, &(struct script){.count = 600, .concurrency = 3, .stop_on_error = true});
        turn(&w);
        engine_launch(&w.fetch);
        answer(&r, 0, 200);
        engine_deliver(&w.fetch, 1);
        assert_int_equal(batches_running(w.batches), 1);
        answer(&r, 1, statuses[i]);
        answer(&r, 2, 201); /* final as well, and not yet handed over */
        engine_deliver(&w.fetch, 1);
        assert_int_equal(r.calls, 600);
        turn(&w);
        assert_int_equal(r.ends, 1);
        assert_false(r.summary.complete);
        assert_int_equal(r.summary.cancelled, 597);
        assert_int_equal(r.summary.errors[ERR_CANCELLED], 597);
        assert_int_equal(result_of(&r, 2)->status, 201);
        end_run(&r);
        settle_all(&w);
        close_world(&w);
    }
}

/* Nothing was left to stop. */
static void test_stop_on_error_at_the_last(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1, .stop_on_error = true});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&r, 0, 0);
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.complete);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* A URL that is refused at once stops the batch while the rest is still being submitted. */
static void test_stop_on_error_while_submitting(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 2000, .stop_on_error = true, .url = BAD_URL});
    turn(&w);
    engine_deliver(&w.fetch, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.failed, MOST_A_TURN);
    assert_int_equal(r.summary.cancelled, 2000 - MOST_A_TURN);
    assert_int_equal(w.fetch.submitted, MOST_A_TURN);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* Slices */

static void test_100000_members(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct world w;
    struct run r;
    struct list *node;
    open_world(&w, 256, 256);
    start(&w, &r, &(struct script){.count = COUNT, .concurrency = 256, .stop_on_error = true});
    for (size_t given = 0; given < COUNT; given += MOST_A_TURN) {
        size_t n = COUNT - given < MOST_A_TURN ? COUNT - given : MOST_A_TURN;
        assert_int_equal(batches_unsubmitted(w.batches), COUNT - given);
        assert_int_equal(turn(&w), n);
    }
    assert_int_equal(batches_unsubmitted(w.batches), 0);
    assert_int_equal(w.fetch.submitted, COUNT);
    while (engine_launch(&w.fetch) > 0) {
        now_us += MS;
        while ((node = list_pop(&w.fetch.active)) != NULL)
            engine_answer(&w.fetch, LIST_CONTAINER(node, struct fetch_job, node), 200);
        engine_deliver(&w.fetch, SIZE_MAX);
    }
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.ok && r.summary.complete);
    assert_int_equal(r.summary.done, COUNT);
    assert_int_equal(r.summary.concurrency_peak, 256);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

/* A small batch does not wait for a large one to be submitted; together they stay in the budget. */
static void test_batches_share_the_submits(void **state)
{
    (void)state;
    struct world w;
    struct run large, small;
    open_world(&w, 100, 100);
    start(&w, &large, &(struct script){.count = 5000});
    turn(&w);
    start(&w, &small, &(struct script){.count = 100});
    assert_int_equal(turn(&w), MOST_A_TURN);
    assert_int_equal(job_of(&small, 99)->state, FETCH_QUEUED);
    assert_int_equal(batches_unsubmitted(w.batches), 5100 - 2 * MOST_A_TURN);
    end_run(&large);
    end_run(&small);
    settle_all(&w);
    close_world(&w);
}

/* Several at once */

static void test_two_batches(void **state)
{
    (void)state;
    struct world w;
    struct run first, second;
    open_world(&w, 4, 100);
    start(&w, &first, &(struct script){.count = 10, .identity = "one"});
    start(&w, &second, &(struct script){.count = 2, .identity = "two", .url = B});
    turn(&w);
    assert_int_equal(engine_launch(&w.fetch), 4);
    now_us += 5 * MS;
    answer(&second, 0, 200);
    answer(&second, 1, 200);
    settle_all(&w);
    assert_int_equal(second.ends, 1);
    assert_int_equal(first.calls, 0);
    assert_int_equal(batches_running(w.batches), 1);
    assert_int_equal(second.summary.concurrency_peak, 2);
    for (size_t i = 0; i < 10; i++) {
        answer(&first, i, 200);
        settle_all(&w);
    }
    assert_int_equal(first.ends, 1);
    assert_int_equal(first.summary.concurrency_peak, 4);
    end_run(&first);
    end_run(&second);
    turn(&w);
    close_world(&w);
}

static void test_pause(void **state)
{
    (void)state;
    struct world w;
    struct run r, other;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 6, .concurrency = 2, .deadline_us = 100 * MS});
    turn(&w);
    engine_launch(&w.fetch);
    batch_pause(r.batch, true);
    answer(&r, 0, 200);
    engine_deliver(&w.fetch, 1);
    assert_int_equal(r.calls, 1); /* what runs goes on */
    assert_int_equal(engine_launch(&w.fetch), 0);
    start(&w, &other, &(struct script){.count = 1});
    turn(&w);
    assert_int_equal(engine_launch(&w.fetch), 1); /* others are not held up */
    size_t woken = w.woken;
    batch_pause(r.batch, false);
    assert_true(w.woken > woken); /* nothing else tells the engine */
    assert_int_equal(engine_launch(&w.fetch), 1);
    batch_pause(r.batch, true);
    now_us += 95 * MS;
    turn(&w);
    assert_int_equal(r.ends, 1); /* nor does the deadline wait */
    batch_pause(r.batch, false);
    end_run(&r);
    answer(&other, 0, 200);
    end_run(&other);
    settle_all(&w);
    close_world(&w);
}

static void test_cancel_all(void **state)
{
    (void)state;
    struct world w;
    struct run submitting, running, ended;
    open_world(&w, 100, 100);
    batches_cancel_all(w.batches);
    start(&w, &ended, &(struct script){.count = 1});
    start(&w, &running, &(struct script){.count = 2});
    turn(&w);
    engine_launch(&w.fetch);
    answer(&ended, 0, 200);
    settle_all(&w);
    start(&w, &submitting, &(struct script){.count = 1000});
    turn(&w);
    size_t woken = w.woken;
    w.in_call = true;
    batches_cancel_all(w.batches);
    w.in_call = false;
    assert_true(w.woken > woken);
    assert_int_equal(batches_running(w.batches), 2);
    turn(&w);
    assert_int_equal(batches_running(w.batches), 0);
    assert_int_equal(submitting.ends + running.ends + ended.ends, 3);
    assert_int_equal(submitting.summary.cancelled, 1000);
    assert_int_equal(running.summary.cancelled, 2);
    assert_true(ended.summary.complete);
    end_run(&submitting);
    end_run(&running);
    end_run(&ended);
    settle_all(&w);
    close_world(&w);
}

/* Content */

static void test_drop_content(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 2, .deadline_us = 50 * MS});
    turn(&w);
    engine_launch(&w.fetch);
    for (size_t i = 0; i < 2; i++) {
        struct result_extra *x = result_extra(&job_of(&r, i)->result);
        assert_non_null(x);
        buf_add_str(&x->body, "body");
    }
    answer(&r, 0, 200);
    engine_deliver(&w.fetch, 1);
    now_us += 45 * MS;
    turn(&w);
    batch_drop_content(r.batch, 0);
    assert_null(result_of(&r, 0)->extra);
    assert_int_equal(result_of(&r, 0)->status, 200);
    batch_drop_content(r.batch, 1); /* its transfer is not down yet and may write to it */
    assert_non_null(result_of(&r, 1)->extra);
    end_run(&r);
    settle_all(&w);
    close_world(&w);
}

/* No memory */

static void test_no_memory(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    for (int n = 0; n < 3; n++) { /* the batch, its items, its identity */
        allocations_left = n;
        assert_false(try_start(&w, &r, &(struct script){.count = 3}));
        assert_int_equal(batches_alive(w.batches), 0);
    }
    allocations_left = -1;
    w.fetch.refuses = true;
    assert_false(try_start(&w, &r, &(struct script){.count = 3}));
    w.fetch.refuses = false;
    assert_int_equal(batches_unsubmitted(w.batches) + batches_running(w.batches), 0);
    assert_int_equal(w.metrics.value[METRIC_BATCHES_ACCEPTED], 0);
    start(&w, &r, &(struct script){.count = 3});
    end_run(&r);
    settle_all(&w);
    allocations_left = 0;
    assert_null(batches_create(&(struct batches_params){.loop = &w.loop}));
    allocations_left = -1;
    close_world(&w);
}

/* Whatever comes, in whatever order */

enum { RUNS = 8, STEPS = 4000 };

static void random_start(struct world *w, struct run *r, bool *used)
{
    if (*used && r->batch)
        return;
    if (*used)
        end_run(r);
    *used = true;
    start(w, r, &(struct script){
                    .count = (size_t)(rand() % 4 == 0 ? 500 + rand() % 1000 : 1 + rand() % 9),
                    .concurrency = 1 + rand() % 4,
                    .deadline_us = 1 + rand() % (200 * MS),
                    .stop_on_error = rand() % 4 == 0,
                    .identity = rand() % 2 ? "x" : "y",
                    .url = rand() % 6 == 0 ? BAD_URL : rand() % 2 ? A : B,
                });
    r->release = rand() % 4;
    r->release_at = (size_t)(1 + rand() % 9);
}

static void random_owner(struct run *r)
{
    if (!r->batch)
        return;
    if (rand() % 8 == 0)
        release(r);
    else if (rand() % 4 == 0)
        cancel(r);
    else
        batch_pause(r->batch, rand() % 2);
}

static void random_engine(struct fetch *f)
{
    engine_launch(f);
    engine_close(f, (size_t)(rand() % 3));
    engine_deliver(f, (size_t)(rand() % 40));
    for (int i = rand() % 3; i > 0 && !list_empty(&f->active); i--)
        engine_answer(f, LIST_CONTAINER(f->active.next, struct fetch_job, node),
                      rand() % 5 == 0 ? 0 : 200 + rand() % 300);
}

static void test_random(void **state)
{
    (void)state;
    static struct run runs[RUNS];
    bool used[RUNS] = {false};
    size_t ends = 0;
    struct world w;
    srand(1);
    open_world(&w, 5, 3);
    w.stalls = true;
    for (int step = 0; step < STEPS; step++) {
        int which = rand() % RUNS;
        now_us += rand() % (4 * MS);
        switch (rand() % 6) {
        case 0:
            ends += used[which] && runs[which].ends && !runs[which].batch;
            random_start(&w, &runs[which], &used[which]);
            break;
        case 1:
            if (used[which])
                random_owner(&runs[which]);
            break;
        case 2:
            if (rand() % 100 == 0)
                batches_cancel_all(w.batches);
            break;
        case 3:
            turn(&w);
            break;
        default:
            random_engine(&w.fetch);
        }
    }
    for (int i = 0; i < RUNS; i++)
        if (used[i])
            end_run(&runs[i]);
    settle_all(&w);
    assert_true(ends > 50); /* it was not all releases */
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_done),
        cmocka_unit_test(test_some_fail),
        cmocka_unit_test(test_results_in_the_order_of_their_end),
        cmocka_unit_test(test_limits_and_peak),
        cmocka_unit_test(test_overhead_and_lag),
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deadline_while_time_passes),
        cmocka_unit_test(test_deadlines_shorter_than_the_lead),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_late_done),
        cmocka_unit_test(test_answer_before_the_deadline_delivered_after),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_before_the_first_turn),
        cmocka_unit_test(test_cancel_comes_too_late),
        cmocka_unit_test(test_client_gone),
        cmocka_unit_test(test_release_before_the_first_turn),
        cmocka_unit_test(test_release_as_the_last_job_comes),
        cmocka_unit_test(test_release_before_the_end_is_told),
        cmocka_unit_test(test_release_inside_on_end),
        cmocka_unit_test(test_release_inside_on_item),
        cmocka_unit_test(test_nobody_wants_items),
        cmocka_unit_test(test_stop_on_error),
        cmocka_unit_test(test_stop_on_error_at_the_last),
        cmocka_unit_test(test_stop_on_error_while_submitting),
        cmocka_unit_test(test_100000_members),
        cmocka_unit_test(test_batches_share_the_submits),
        cmocka_unit_test(test_two_batches),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_cancel_all),
        cmocka_unit_test(test_drop_content),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_random),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT); /* not a line for each batch */
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}

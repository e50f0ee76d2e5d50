/* SPDX-License-Identifier: MIT
 *
 * test_batch - the batch's state machine on a clock that only the test moves, over fetch loops
 * that do what the test says and when: one loop, which looks into its mail when the test lets it,
 * keeps shard.h's promises (each job comes back once, later and whatever ends it; a cancelled one
 * at once, its slot when its transfer is taken down) with the real scheduler, and sends nothing.
 * batch.c is included, so that its allocations can fail.
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
#define LEAD_1000 (2 * MS)
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

/* The fetch loops: one */

struct transfer { /* of a job that was cut: what is left to be taken down */
    struct list node;
    struct sched_entry slots;
    struct fetch_group *group;
};

enum { GROUPS_MAX = 4000, ACTIVE_MAX = 1024 };

struct shard {
    struct slots *slots;
    struct sched *sched;
    struct list outgoing;   /* submitted, not flushed */
    struct list jobs, mail; /* flushed; groups with a cancel or a pause */
    struct list ended;      /* struct fetch_job */
    struct list closing;    /* struct transfer */
    struct fetch_job *active[ACTIVE_MAX];
    size_t active_count;
    struct lag lag;
    atomic_llong held;
    size_t submitted, started, in_hand, freed, signals, cancels;
    bool refuses;                           /* the next group */
    struct fetch_group *groups[GROUPS_MAX]; /* each has a reference more than it would have */
    size_t group_count;
};

static struct fetch_part *part_of(struct fetch_group *group)
{
    return &group->parts[0];
}

/* The real engine does the same: a part is in the queue while something of the group is here. */
static void part_leave_if_empty(struct fetch_group *group)
{
    struct fetch_part *part = part_of(group);
    if (part->sched == NULL || !list_empty(&part->jobs) || sched_batch_running(part->sched) > 0)
        return;
    sched_batch_leave(part->sched);
    part->sched = NULL;
    fetch_group_unref(group);
}

static void part_join(struct shard *s, struct fetch_group *group)
{
    struct fetch_part *part = part_of(group);
    if (part->sched != NULL)
        return;
    part->sched =
        sched_batch_join(s->sched, group->identity, group->slots, group->limit_per_host);
    assert_non_null(part->sched);
    sched_batch_pause(part->sched, part->paused);
    fetch_group_ref(group);
}

static void account(struct fetch_job *job, enum phase p, int64_t since_us, int64_t end_us)
{
    timings_add(&job->result.timings, p, end_us - since_us);
    job->result.end_us = end_us;
}

static void active_remove(struct shard *s, const struct fetch_job *job)
{
    for (size_t i = 0; i < s->active_count; i++) {
        if (s->active[i] != job)
            continue;
        s->active_count--;
        memmove(&s->active[i], &s->active[i + 1], (s->active_count - i) * sizeof s->active[0]);
        return;
    }
}

static void job_end(struct shard *s, struct fetch_job *job)
{
    list_remove(&job->node);
    active_remove(s, job);
    if (job->group->stop_on_error && !job->result.ok)
        atomic_store(&job->group->stopped, true);
    sched_release(&job->entry);
    job->state = FETCH_ENDED;
    list_append(&s->ended, &job->node);
}

static void job_cancel(struct shard *s, struct fetch_job *job, enum err_type why)
{
    bool waits = job->state == FETCH_QUEUED;
    enum phase last = waits ? PHASE_QUEUE : PHASE_WAIT;
    account(job, last, waits ? job->waiting_since_us : job->dispatched_us, clock_us());
    job->result.state = MEMBER_CANCELLED;
    job->result.error = (struct result_error){.type = why, .phase = last};
    if (!waits) {
        struct transfer *t = calloc(1, sizeof *t);
        assert_non_null(t);
        t->group = job->group;
        sched_move(&job->entry, &t->slots);
        list_append(&s->closing, &t->node);
    }
    job_end(s, job);
}

static void job_accept(struct shard *s, struct fetch_job *job)
{
    struct fetch_group *group = job->group;
    result_init(&job->result);
    list_init(&job->entry.node);
    job->waiting_since_us = group->queued_us;
    job->state = FETCH_QUEUED;
    list_append(&part_of(group)->jobs, &job->node);
    if (part_of(group)->cancelled != ERR_NONE) {
        job_cancel(s, job, part_of(group)->cancelled);
    } else if (strcmp(job->member->url, BAD_URL) == 0) {
        account(job, PHASE_QUEUE, job->waiting_since_us, clock_us());
        job->result.state = MEMBER_FAILED;
        job->result.error = (struct result_error){.type = ERR_URL_INVALID, .phase = PHASE_QUEUE};
        job_end(s, job);
    } else {
        part_join(s, group);
        assert_true(sched_push(part_of(group)->sched, job->member->url, &job->entry, false));
    }
}

static void take_flags(struct shard *s, struct fetch_mail *mail)
{
    struct fetch_part *part = part_of(mail->group);
    if (part->cancelled == ERR_NONE) {
        part->paused = mail->paused;
        if (part->sched != NULL)
            sched_batch_pause(part->sched, part->paused);
    }
    if (mail->cancel != ERR_NONE && part->cancelled == ERR_NONE) {
        part->cancelled = mail->cancel;
        if (part->sched != NULL)
            sched_batch_pause(part->sched, true);
        while (!list_empty(&part->jobs))
            job_cancel(s, LIST_CONTAINER(part->jobs.next, struct fetch_job, node), mail->cancel);
    }
    fetch_group_unref(mail->group);
}

/* The loop looks into its mail: jobs are accepted, cancels and pauses done. */
static void engine_mail(struct shard *s)
{
    struct list *node;
    while ((node = list_pop(&s->mail)) != NULL)
        take_flags(s, LIST_CONTAINER(node, struct fetch_mail, node));
    while ((node = list_pop(&s->jobs)) != NULL)
        job_accept(s, LIST_CONTAINER(node, struct fetch_job, node));
}

/* What batch calls */

struct fetch_group *shard_group_create(struct shard *s, const struct shard_group_params *params)
{
    struct fetch_group *group = s->refuses ? NULL : fetch_group_create(1, params->limit);
    if (group == NULL)
        return NULL;
    group->identity = params->identity;
    group->limit_per_host = params->limit_per_host;
    group->stop_on_error = params->stop_on_error;
    group->queued_us = params->queued_us;
    group->owner = params->owner;
    assert_true(s->group_count < GROUPS_MAX);
    s->groups[s->group_count++] = group;
    fetch_group_ref(group);
    return group;
}

void shard_group_release(struct fetch_group *group)
{
    if (group == NULL)
        return;
    assert_non_null(group->owner); /* once */
    group->owner = NULL;
    fetch_group_unref(group);
}

void shard_submit(struct shard *s, struct fetch_job *job)
{
    assert_int_equal(job->state, FETCH_IDLE);
    assert_non_null(job->group->owner);
    s->submitted++;
    s->in_hand++;
    list_append(&s->outgoing, &job->node);
}

void shard_flush(struct shard *s)
{
    s->signals += !list_empty(&s->outgoing);
    list_splice(&s->jobs, &s->outgoing);
}

static void send_flags(struct shard *s, struct fetch_group *group, enum err_type cancel,
                       bool paused)
{
    struct fetch_mail *mail = &part_of(group)->mail;
    assert_non_null(group->owner); /* not released */
    if (cancel != ERR_NONE)
        mail->cancel = cancel;
    mail->paused = paused;
    s->signals++;
    if (list_linked(&mail->node))
        return;
    list_append(&s->mail, &mail->node);
    fetch_group_ref(group);
}

void shard_group_cancel(struct shard *s, struct fetch_group *group, enum err_type why)
{
    assert_int_equal(part_of(group)->mail.cancel, ERR_NONE); /* once */
    shard_flush(s);
    s->cancels++;
    send_flags(s, group, why, false);
}

void shard_group_pause(struct shard *s, struct fetch_group *group, bool paused)
{
    send_flags(s, group, ERR_NONE, paused);
}

int64_t shard_lag_max_since(struct shard *s, int64_t since_us)
{
    return lag_max_since(&s->lag, since_us);
}

void shard_content_free(struct shard *s, struct result *r)
{
    s->freed++;
    fetch_content_free(r, &s->held);
}

/* What the test makes the loop do */

/* Takes its mail and starts what the scheduler lets start. */
static size_t engine_launch(struct shard *s)
{
    struct sched_entry *e;
    size_t n = 0;
    engine_mail(s);
    while ((e = sched_next(s->sched)) != NULL) {
        struct fetch_job *job = LIST_CONTAINER(e, struct fetch_job, entry);
        assert_int_equal(job->state, FETCH_QUEUED);
        if (atomic_load(&job->group->stopped)) {
            job_cancel(s, job, ERR_CANCELLED);
            continue;
        }
        job->state = FETCH_ACTIVE;
        job->dispatched_us = now_us;
        job->result.start_us = now_us;
        account(job, PHASE_QUEUE, job->waiting_since_us, now_us);
        assert_true(s->active_count < ACTIVE_MAX);
        s->active[s->active_count++] = job;
        s->started++;
        n++;
    }
    return n;
}

/* An answer came. status 0: none did, the connection was lost. */
static void engine_answer(struct shard *s, struct fetch_job *job, int status)
{
    assert_int_equal(job->state, FETCH_ACTIVE);
    account(job, PHASE_WAIT, job->dispatched_us, now_us);
    job->result.status = status;
    job->result.ok = status > 0 && status < 400;
    job->result.state = status > 0 ? MEMBER_DONE : MEMBER_FAILED;
    if (status == 0)
        job->result.error = (struct result_error){ERR_CONNECTION_TERMINATED, .phase = PHASE_WAIT};
    job_end(s, job);
}

/* Takes transfers of cancelled jobs down. */
static void engine_close(struct shard *s, size_t n)
{
    struct list *node;
    for (; n > 0 && (node = list_pop(&s->closing)) != NULL; n--) {
        struct transfer *t = LIST_CONTAINER(node, struct transfer, node);
        sched_release(&t->slots);
        part_leave_if_empty(t->group);
        free(t);
    }
}

/* Hands ended jobs back. */
static size_t engine_deliver(struct shard *s, size_t n)
{
    struct list *node;
    size_t given = 0;
    for (; given < n && (node = list_pop(&s->ended)) != NULL; given++) {
        struct fetch_job *job = LIST_CONTAINER(node, struct fetch_job, node);
        job->state = FETCH_IDLE;
        s->in_hand--;
        part_leave_if_empty(job->group);
        batches_job_done(job);
    }
    return given;
}

/* The world: a runner, a fetch loop, a loop that only closes handles. */

struct world {
    uv_loop_t loop;
    struct shard shard;
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
    struct shard *s = &w->shard;
    s->slots = slots_create(in_flight, 1);
    assert_non_null(s->slots);
    const struct sched_params sched = {.daemon = s->slots, .limit_origin = per_host};
    s->sched = sched_create(&sched);
    assert_non_null(s->sched);
    list_init(&s->outgoing);
    list_init(&s->jobs);
    list_init(&s->mail);
    list_init(&s->ended);
    list_init(&s->closing);
    const struct batches_params params = {
        .loop = &w->loop,
        .shard = &w->shard,
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

/* Released by its batch, and left by the loop. */
static void check_groups(struct shard *s)
{
    for (size_t i = 0; i < s->group_count; i++) {
        assert_null(s->groups[i]->owner);
        assert_int_equal(atomic_load(&s->groups[i]->refs), 1);
        fetch_group_unref(s->groups[i]);
    }
}

/* Every test ends here: no batch, job, entry, group, held byte or handle is left. */
static void close_world(struct world *w)
{
    assert_int_equal(batches_alive(w->batches), 0);
    assert_int_equal(batches_running(w->batches), 0);
    assert_int_equal(batches_unsubmitted(w->batches), 0);
    engine_mail(&w->shard);
    engine_close(&w->shard, SIZE_MAX);
    assert_int_equal(w->shard.in_hand, 0);
    assert_int_equal(atomic_load(&w->shard.held), 0);
    assert_int_equal(sched_running(w->shard.sched), 0);
    check_groups(&w->shard);
    sched_destroy(w->shard.sched);
    slots_destroy(w->shard.slots);
    batches_close(w->batches, on_runner_closed, w);
    assert_false(w->closed);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* The front's turn without the loop's mail. Returns how many members it handed to the loop. */
static size_t turn(struct world *w)
{
    size_t submitted = w->shard.submitted, left = batches_unsubmitted(w->batches);
    size_t woken = w->woken;
    bool more = batches_turn(w->batches);
    for (int round = 1; !more && w->woken > woken && round < 4; round++) {
        woken = w->woken;
        more = batches_turn(w->batches);
    }
    shard_flush(&w->shard);
    size_t n = w->shard.submitted - submitted;
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
        again += engine_launch(&w->shard);
        engine_close(&w->shard, SIZE_MAX);
        again += engine_deliver(&w->shard, SIZE_MAX);
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
    engine_answer(&r->w->shard, job_of(r, i), status);
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
    assert_int_equal(w.shard.submitted, 0); /* submitting is a turn's affair */
    assert_int_equal(turn(&w), 3);
    assert_int_equal(engine_launch(&w.shard), 3);
    now_us += 20 * MS;
    for (size_t i = 0; i < 3; i++)
        answer(&r, i, 200);
    assert_int_equal(r.calls, 0);
    size_t woken = w.woken;
    engine_deliver(&w.shard, SIZE_MAX);
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
    assert_int_equal(w.shard.freed, 3);
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
    engine_launch(&w.shard);
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
    engine_launch(&w.shard);
    for (size_t i = 0; i < 5; i++) {
        now_us += MS;
        answer(&r, order[i], 200 + (int)order[i]);
        engine_deliver(&w.shard, 1);
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
    assert_int_equal(engine_launch(&w.shard), 3);
    answer(&r, 0, 200);
    answer(&r, 1, 200);
    engine_deliver(&w.shard, SIZE_MAX);
    assert_int_equal(engine_launch(&w.shard), 2);
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
    engine_launch(&w.shard);
    now_us += 5 * MS;
    lag_note(&w.lag, now_us, 4 * MS);
    answer(&r, 0, 200);
    answer(&r, 1, 200);
    now_us += 11;
    settle_all(&w);
    assert_int_equal(r.summary.loop_lag_max_us, 4 * MS);
    assert_int_equal(r.summary.overhead_us, 7 + 3 + 11);
    end_run(&r);
    /* Of the fetch loops, too. */
    start(&w, &r, &(struct script){.count = 1, .url = BAD_URL});
    lag_note(&w.shard.lag, now_us - 1, 800 * MS);
    lag_note(&w.shard.lag, now_us, 6 * MS);
    settle_all(&w);
    assert_int_equal(r.summary.loop_lag_max_us, 6 * MS);
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

/* Members in all three places, one done before: 10 ms early, not a microsecond earlier. The batch
 * ends with the last that the loops hand back. */
static void test_deadline(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    int64_t began = now_us, deadline = 500 * MS, lead = LEAD + COUNT / 1000 * LEAD_1000;
    start(&w, &r, &(struct script){.count = COUNT, .concurrency = 3, .deadline_us = deadline});
    turn(&w);
    engine_launch(&w.shard);
    now_us += 30 * MS;
    answer(&r, 1, 200);
    engine_deliver(&w.shard, 1);
    now_us = began + deadline - lead - 1;
    turn(&w);
    assert_int_equal(r.calls, 1);
    assert_int_equal(batches_running(w.batches), 1);
    now_us++;
    size_t unsubmitted = batches_unsubmitted(w.batches);
    assert_int_equal(unsubmitted, COUNT - 2 * MOST_A_TURN);
    assert_int_equal(turn(&w), 0);
    assert_int_equal(batches_unsubmitted(w.batches), 0);
    assert_int_equal(r.calls, 1 + unsubmitted); /* the loops have the others */
    assert_int_equal(w.shard.cancels, 1);
    engine_mail(&w.shard);
    assert_int_equal(engine_deliver(&w.shard, SIZE_MAX), COUNT - 1 - unsubmitted);
    assert_int_equal(batches_running(w.batches), 0);
    assert_int_equal(r.ends, 0);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(w.shard.started, 3); /* a slot that was left started nothing */
    assert_false(r.summary.complete || r.summary.ok);
    assert_int_equal(r.summary.total_us, deadline - lead);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.cancelled, COUNT - 1);
    assert_int_equal(r.summary.errors[ERR_DEADLINE_EXCEEDED], COUNT - 1);
    assert_int_equal(r.summary.timed_out, 0);
    /* those that no loop has seen are counted here; the loops count the others */
    assert_int_equal(w.metrics.value[METRIC_MEMBERS_CANCELLED], unsubmitted);
    assert_int_equal(w.metrics.errors[ERR_DEADLINE_EXCEEDED], unsubmitted);
    assert_int_equal(w.metrics.value[METRIC_QUEUE_SECONDS], (int64_t)unsubmitted * (deadline - lead));
    for (size_t i = 0; i < COUNT; i++) {
        const struct result *result = result_of(&r, i);
        if (i == 1)
            continue;
        assert_int_equal(result->state, MEMBER_CANCELLED);
        assert_int_equal(result->error.type, ERR_DEADLINE_EXCEEDED);
        assert_int_equal(result->error.phase, i < 3 ? PHASE_WAIT : PHASE_QUEUE);
        assert_int_equal(result->end_us, began + deadline - lead);
        assert_int_equal(result->start_us == TIME_NULL, i >= 3);
        assert_int_equal(result_work_us(result), i < 3 ? deadline - lead : TIME_NULL);
    }
    end_run(&r);
    settle_all(&w);
    assert_int_equal(w.shard.freed, COUNT);
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
    engine_launch(&w.shard);
    now_us += 40 * MS;
    step_us = 8;
    turn(&w);
    engine_mail(&w.shard);
    engine_deliver(&w.shard, SIZE_MAX);
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
        settle_all(&w);
        assert_int_equal(r.calls, 0);
        now_us++;
        settle_all(&w);
        assert_int_equal(r.ends, 1);
        assert_int_equal(r.summary.total_us, deadlines[i] - lead);
        end_run(&r);
        settle_all(&w);
        close_world(&w);
    }
}

/* It passed before the batch's first turn: the loops never hear of it. */
static void test_deadline_before_the_first_turn(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 1000, .deadline_us = 20 * MS});
    now_us += 10 * MS;
    assert_int_equal(turn(&w), 0);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.errors[ERR_DEADLINE_EXCEEDED], 1000);
    assert_int_equal(w.shard.signals, 0);
    end_run(&r);
    turn(&w);
    close_world(&w);
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
    engine_launch(&w.shard);
    answer(&early, 0, 200);
    settle_all(&w);
    assert_int_equal(uv_timer_get_due_in(&w.batches->timer), 890);
    now_us += 890 * MS;
    turn(&w);
    assert_false(uv_is_active((uv_handle_t *)&w.batches->timer)); /* once is enough */
    settle_all(&w);
    assert_int_equal(late.ends, 1);
    assert_false(uv_is_active((uv_handle_t *)&w.batches->timer));
    end_run(&early);
    end_run(&late);
    settle_all(&w);
    close_world(&w);
}

/* A loop is late with what it hands back: the batch waits for the last. Then its memory goes,
 * although the transfers are not yet taken down. */
static void test_late_done(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    w.stalls = true;
    start(&w, &r, &(struct script){.count = 3, .deadline_us = 100 * MS});
    turn(&w);
    engine_launch(&w.shard);
    now_us += 95 * MS;
    turn(&w);
    assert_int_equal(r.calls, 0);
    engine_mail(&w.shard);
    now_us += 500 * MS;
    assert_int_equal(engine_deliver(&w.shard, 2), 2);
    turn(&w);
    assert_int_equal(r.calls, 2);
    assert_int_equal(r.ends, 0);
    assert_int_equal(batches_running(w.batches), 1);
    assert_int_equal(engine_deliver(&w.shard, 2), 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.total_us, 595 * MS);
    assert_int_equal(result_of(&r, 0)->end_us, result_of(&r, 2)->end_us);
    assert_int_equal(result_work_us(result_of(&r, 0)), 95 * MS);
    end_run(&r);
    turn(&w);
    assert_int_equal(batches_alive(w.batches), 0);
    assert_int_equal(w.shard.freed, 3);
    assert_int_equal(slots_used(w.shard.slots), 3);
    engine_close(&w.shard, 3);
    assert_int_equal(slots_used(w.shard.slots), 0);
    close_world(&w);
}

/* Two things end it: the first is the reason, and the loops are told once. */
static void test_first_reason_stays(void **state)
{
    (void)state;
    struct world w;
    struct run gone, late;
    open_world(&w, 100, 100);
    start(&w, &gone, &(struct script){.count = 2, .deadline_us = 100 * MS});
    start(&w, &late, &(struct script){.count = 2, .deadline_us = 200 * MS});
    turn(&w);
    engine_launch(&w.shard);
    cancel(&gone);
    turn(&w);
    now_us += 95 * MS;
    turn(&w);
    now_us += 96 * MS;
    turn(&w);
    cancel(&late);
    turn(&w);
    w.stalls = true;
    settle_all(&w);
    assert_int_equal(gone.summary.errors[ERR_CANCELLED], 2);
    assert_int_equal(late.summary.errors[ERR_DEADLINE_EXCEEDED], 2);
    assert_int_equal(w.shard.cancels, 2);
    end_run(&gone);
    end_run(&late);
    turn(&w);
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
    engine_launch(&w.shard);
    now_us += 80 * MS;
    answer(&r, 1, 200);
    now_us += 15 * MS;
    turn(&w);
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.cancelled, 1);
    assert_int_equal(result_of(&r, 1)->state, MEMBER_DONE);
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
    start(&w, &r, &(struct script){.count = 1200, .concurrency = 2});
    turn(&w);
    engine_launch(&w.shard);
    answer(&r, 0, 200);
    engine_deliver(&w.shard, 1);
    now_us += MS;
    cancel(&r);
    cancel(&r);
    assert_int_equal(r.calls, 1);
    turn(&w);
    assert_int_equal(r.calls, 1 + 1200 - 2 * MOST_A_TURN);
    assert_int_equal(r.ends, 0);
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(w.shard.started, 2);
    assert_false(r.summary.complete);
    assert_int_equal(r.summary.done, 1);
    assert_int_equal(r.summary.errors[ERR_CANCELLED], 1199);
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
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(w.shard.started, 0);
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
    engine_launch(&w.shard);
    answer(&r, 0, 200);
    cancel(&r);
    engine_deliver(&w.shard, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_true(r.summary.complete && r.summary.ok);
    end_run(&r);
    turn(&w);
    close_world(&w);
}

/* The client is gone: nobody is called, and the memory goes with the last job that is handed back,
 * whatever its transfers do. */
static void test_client_gone(void **state)
{
    (void)state;
    struct world w;
    struct run r;
    open_world(&w, 100, 100);
    start(&w, &r, &(struct script){.count = 700, .concurrency = 2});
    turn(&w);
    engine_launch(&w.shard);
    size_t woken = w.woken;
    release(&r);
    assert_true(w.woken > woken);
    turn(&w);
    assert_int_equal(batches_running(w.batches), 1);
    engine_mail(&w.shard);
    assert_int_equal(engine_deliver(&w.shard, 699), 699);
    turn(&w);
    assert_int_equal(batches_running(w.batches), 1);
    woken = w.woken;
    engine_deliver(&w.shard, 1);
    assert_int_equal(batches_running(w.batches), 0);
    assert_true(w.woken > woken);
    turn(&w);
    assert_int_equal(batches_alive(w.batches), 0);
    assert_int_equal(w.shard.freed, 700);
    assert_int_equal(slots_used(w.shard.slots), 2);
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
    engine_launch(&w.shard);
    answer(&r, 0, 200);
    end_run(&r);
    size_t woken = w.woken;
    engine_deliver(&w.shard, 1);
    assert_int_equal(batches_running(w.batches), 0);
    assert_true(w.woken > woken);
    turn(&w);
    assert_int_equal(batches_alive(w.batches), 0);
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
    engine_launch(&w.shard);
    answer(&r, 0, 200);
    engine_deliver(&w.shard, 1);
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
    engine_launch(&w.shard);
    answer(&r, 0, 200);
    engine_deliver(&w.shard, 1);
    turn(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(batches_alive(w.batches), 1);
    now_us += 45 * MS;
    turn(&w);
    assert_int_equal(cut.ends, 0);
    engine_mail(&w.shard);
    engine_deliver(&w.shard, SIZE_MAX);
    turn(&w);
    assert_int_equal(cut.ends, 1);
    assert_int_equal(batches_alive(w.batches), 0);
    assert_int_equal(slots_used(w.shard.slots), 2);
    end_run(&r);
    end_run(&cut);
    close_world(&w);
}

/* In the first, a middle and the last report, by an answer and by a deadline; of members that never
 * were submitted, too. */
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
        engine_launch(&w.shard);
        for (size_t i = 0; i < 3; i++)
            answer(&r, i, 200);
        engine_deliver(&w.shard, SIZE_MAX);
        assert_int_equal(r.calls, at);
        now_us += 45 * MS;
        turn(&w);
        engine_mail(&w.shard);
        engine_deliver(&w.shard, SIZE_MAX);
        assert_int_equal(cut.calls, at);
        settle_all(&w);
        assert_int_equal(r.ends + cut.ends, 0);
        assert_int_equal(batches_alive(w.batches), 0);
        end_run(&r);
        end_run(&cut);
        start(&w, &cut, &(struct script){.count = 3, .deadline_us = 50 * MS});
        cut.release = RELEASE_IN_ITEM;
        cut.release_at = at;
        now_us += 45 * MS;
        turn(&w);
        assert_int_equal(cut.calls, at);
        assert_int_equal(batches_alive(w.batches), 0);
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
    settle_all(&w);
    now_us += 45 * MS;
    settle_all(&w);
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
        engine_launch(&w.shard);
        answer(&r, 0, 200);
        engine_deliver(&w.shard, 1);
        assert_int_equal(batches_running(w.batches), 1);
        answer(&r, 1, statuses[i]);
        answer(&r, 2, 201); /* final as well, and not yet handed over */
        engine_deliver(&w.shard, 1);
        assert_int_equal(r.calls, 2 + 600 - MOST_A_TURN);
        assert_int_equal(w.shard.cancels, 1);
        settle_all(&w);
        assert_int_equal(r.ends, 1);
        assert_int_equal(w.shard.started, 3);
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
    engine_launch(&w.shard);
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
    engine_mail(&w.shard);
    engine_deliver(&w.shard, 1);
    assert_int_equal(r.calls, 1 + 2000 - MOST_A_TURN);
    settle_all(&w);
    assert_int_equal(r.ends, 1);
    assert_int_equal(r.summary.failed, MOST_A_TURN);
    assert_int_equal(r.summary.cancelled, 2000 - MOST_A_TURN);
    assert_int_equal(w.shard.submitted, MOST_A_TURN);
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
    open_world(&w, 256, 256);
    start(&w, &r, &(struct script){.count = COUNT, .concurrency = 256, .stop_on_error = true});
    for (size_t given = 0; given < COUNT; given += MOST_A_TURN) {
        size_t n = COUNT - given < MOST_A_TURN ? COUNT - given : MOST_A_TURN;
        assert_int_equal(batches_unsubmitted(w.batches), COUNT - given);
        assert_int_equal(turn(&w), n);
    }
    assert_int_equal(batches_unsubmitted(w.batches), 0);
    assert_int_equal(w.shard.submitted, COUNT);
    while (engine_launch(&w.shard) > 0) {
        now_us += MS;
        while (w.shard.active_count > 0)
            engine_answer(&w.shard, w.shard.active[w.shard.active_count - 1], 200);
        engine_deliver(&w.shard, SIZE_MAX);
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
    engine_mail(&w.shard);
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
    assert_int_equal(engine_launch(&w.shard), 4);
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
    engine_launch(&w.shard);
    batch_pause(r.batch, true);
    answer(&r, 0, 200);
    engine_deliver(&w.shard, 1);
    assert_int_equal(r.calls, 1); /* what runs goes on */
    assert_int_equal(engine_launch(&w.shard), 0);
    start(&w, &other, &(struct script){.count = 1});
    turn(&w);
    assert_int_equal(engine_launch(&w.shard), 1); /* others are not held up */
    size_t signals = w.shard.signals;
    batch_pause(r.batch, false);
    assert_true(w.shard.signals > signals); /* nothing else tells the loop */
    assert_int_equal(engine_launch(&w.shard), 1);
    batch_pause(r.batch, true);
    now_us += 95 * MS;
    settle_all(&w);
    assert_int_equal(r.ends, 1); /* nor does the deadline wait */
    signals = w.shard.signals;
    batch_pause(r.batch, false);
    assert_int_equal(w.shard.signals, signals); /* there is nothing to be started */
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
    engine_launch(&w.shard);
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
    settle_all(&w);
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
    engine_launch(&w.shard);
    for (size_t i = 0; i < 2; i++) {
        struct result_extra *x = result_extra(&job_of(&r, i)->result);
        assert_non_null(x);
        buf_add_str(&x->body, "body");
        x->held_bytes = 4;
        w.shard.held += 4;
    }
    answer(&r, 0, 200);
    engine_deliver(&w.shard, 1);
    batch_drop_content(r.batch, 0);
    assert_null(result_of(&r, 0)->extra);
    assert_int_equal(result_of(&r, 0)->status, 200);
    assert_int_equal(w.shard.held, 4);
    now_us += 45 * MS;
    turn(&w);
    engine_mail(&w.shard);
    engine_deliver(&w.shard, 1);
    batch_drop_content(r.batch, 1); /* its transfer, not down yet, has nothing to do with it */
    assert_null(result_of(&r, 1)->extra);
    assert_int_equal(w.shard.held, 0);
    assert_int_equal(slots_used(w.shard.slots), 1);
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
    w.shard.refuses = true;
    assert_false(try_start(&w, &r, &(struct script){.count = 3}));
    w.shard.refuses = false;
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

static void random_engine(struct shard *s)
{
    engine_launch(s);
    engine_close(s, (size_t)(rand() % 3));
    engine_deliver(s, (size_t)(rand() % 40));
    for (int i = rand() % 3; i > 0 && s->active_count > 0; i--)
        engine_answer(s, s->active[0], rand() % 5 == 0 ? 0 : 200 + rand() % 300);
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
            random_engine(&w.shard);
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
        cmocka_unit_test(test_deadline_before_the_first_turn),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_late_done),
        cmocka_unit_test(test_first_reason_stays),
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

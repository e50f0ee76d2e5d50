/* SPDX-License-Identifier: MIT
 *
 * batch - see batch.h. Called by http_routes (start, cancel, release) and by the turn's end, on the
 * loop's thread; calls routes back through on_item and on_end, and the engine through fetch.h.
 *
 * Owns the spec, one item a member (the engine's job with the result in it) and the summary. Each
 * item is reported exactly once, by the first of `done`, deadline or cancel; a job that the engine
 * hands back later only counts down. So the answer leaves in time, and memory goes when the last
 * job is back, whichever comes last.
 */
#include "batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "buf.h"
#include "clock.h"
#include "log.h"
#include "slots.h"
#include "summary.h"

enum {
    SUBMITS_A_TURN = 512,     /* members handed to the queue in a turn: some 2 us each */
    DEADLINE_LEAD_US = 10000, /* the states are taken this long before the deadline */
    ID_HEX_MAX = 17,
};

struct batch_item {
    struct fetch_job job; /* first: the view's stride runs over items */
    struct batch *batch;
    bool reported;
};

enum batch_state { BATCH_SUBMITTING, BATCH_RUNNING, BATCH_ENDED };

struct batch {
    struct list node;  /* all->submitting, all->running or all->ended, by state */
    struct list work;  /* all->work while something is to be done for it in the next turn */
    struct batches *all;
    enum batch_state state;
    struct batch_params params;
    struct batch_spec *spec;
    struct batch_item *items;
    struct slots *slots; /* the batch's concurrency */
    struct sched_batch *sched;
    struct heap_node deadline;
    size_t submitted;   /* items handed to the engine */
    size_t outstanding; /* of those, not yet back */
    size_t unreported;  /* results not yet final */
    bool complete;
    bool cancel_asked;  /* do it in the next turn */
    bool end_told, released;
    int64_t submit_us, last_end_us;
    char id[ID_HEX_MAX];
    char *identity;
    struct view_summary summary;
    struct batch_view view;
};

struct batches {
    struct batches_params params;
    struct list submitting, running, ended, work;
    size_t running_count, alive, unsubmitted;
    struct heap deadlines;
    uv_timer_t timer;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- states --- */

/* The next turn looks at it: a cancel, an end to be told, memory to be freed. */
static void touch(struct batch *b)
{
    if (!list_linked(&b->work))
        list_append(&b->all->work, &b->work);
    b->all->params.wake(b->all->params.arg);
}

static void move(struct batch *b, enum batch_state state)
{
    assert(state >= b->state);
    list_remove(&b->node);
    if (b->state != BATCH_ENDED && state == BATCH_ENDED)
        b->all->running_count--;
    b->state = state;
    struct batches *all = b->all;
    list_append(state == BATCH_SUBMITTING ? &all->submitting
                : state == BATCH_RUNNING  ? &all->running
                                          : &all->ended,
                &b->node);
}

static void batch_free(struct batch *b)
{
    struct batches *all = b->all;
    list_remove(&b->node);
    list_remove(&b->work);
    for (size_t i = 0; b->items != NULL && i < b->submitted; i++)
        fetch_result_free(all->params.fetch, &b->items[i].job.result);
    sched_batch_leave(b->sched);
    slots_destroy(b->slots);
    heap_remove(&all->deadlines, &b->deadline);
    spec_destroy(b->spec);
    free(b->items);
    free(b->identity);
    free(b);
    all->alive--;
}

static void free_if_over(struct batch *b)
{
    if (b->state == BATCH_ENDED && b->released && b->outstanding == 0)
        batch_free(b);
}

/* --- the end --- */

static void log_batch(const struct batch *b)
{
    const struct view_summary *s = &b->summary;
    LOG_INFO("batch",
             "id=%s identity=%s requests=%zu done=%lld ok=%lld failed=%lld denied=%lld "
             "cancelled=%lld total_ms=%.3f work_ms=%.3f peak=%lld bytes=%lld overhead_ms=%.3f",
             b->id, b->identity, b->spec->count, (long long)s->done, (long long)s->n_ok,
             (long long)s->failed, (long long)s->denied, (long long)s->cancelled,
             (double)s->total_us / 1e3, (double)s->sequential_us / 1e3,
             (long long)s->concurrency_peak, (long long)s->sizes.delivered,
             (double)s->overhead_us / 1e3);
}

static void end_batch(struct batch *b)
{
    int64_t now = clock_us();
    const struct summary_input in = {
        .total_us = now - b->view.started_us,
        .concurrency_limit = b->spec->concurrency,
        .concurrency_peak = (int64_t)sched_batch_peak(b->sched),
        .loop_lag_max_us = lag_max_since(b->all->params.lag, b->view.started_us),
        .overhead_us = b->params.parse_us + b->submit_us + (now - b->last_end_us),
        .complete = b->complete,
    };
    move(b, BATCH_ENDED);
    heap_remove(&b->all->deadlines, &b->deadline);
    if (!summary_compute(&b->summary, &b->view, &in))
        LOG_ERROR("batch", "id=%s error=\"no memory for percentiles\"", b->id);
    b->view.summary = &b->summary;
    log_batch(b);
    touch(b);
}

static void report(struct batch *b, struct batch_item *item)
{
    if (item->reported)
        return;
    item->reported = true;
    b->unreported--;
    if (item->job.result.end_us > b->last_end_us)
        b->last_end_us = item->job.result.end_us;
    if (b->params.on_item != NULL && !b->released)
        b->params.on_item(b->params.arg, (size_t)(item - b->items));
}

/* A member that never reached the engine, because the batch ended first. */
static void cancel_unsubmitted(struct batch *b, struct batch_item *item, enum err_type why,
                               int64_t now_us)
{
    struct result *r = &item->job.result;
    result_init(r);
    r->state = MEMBER_CANCELLED;
    r->error.type = why;
    r->error.phase = PHASE_QUEUE;
    r->end_us = now_us;
    timings_add(&r->timings, PHASE_QUEUE, now_us - b->view.started_us);
}

static void cancel_rest(struct batch *b, enum err_type why)
{
    int64_t now = clock_us();
    if (b->state == BATCH_ENDED)
        return;
    b->complete = false;
    for (; b->submitted < b->spec->count; b->submitted++, b->all->unsubmitted--)
        cancel_unsubmitted(b, &b->items[b->submitted], why, now);
    for (size_t i = 0; i < b->spec->count; i++) {
        fetch_cancel(b->all->params.fetch, &b->items[i].job, why, now);
        report(b, &b->items[i]);
    }
    end_batch(b);
}

static void react(struct batch *b, const struct batch_item *item)
{
    if (b->state == BATCH_ENDED)
        return;
    if (b->unreported == 0)
        end_batch(b);
    else if (b->spec->stop_on_error && !item->job.result.ok)
        cancel_rest(b, ERR_CANCELLED);
}

void batches_job_done(struct fetch_job *job)
{
    struct batch_item *item = LIST_CONTAINER(job, struct batch_item, job);
    struct batch *b = item->batch;
    b->outstanding--;
    report(b, item);
    react(b, item);
    free_if_over(b);
}

/* --- start --- */

static void make_id(char id[ID_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[8] = {0};
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) {
        uint64_t fallback = (uint64_t)clock_wall_us();
        memcpy(bytes, &fallback, sizeof bytes);
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = digits[bytes[i] >> 4];
        id[2 * i + 1] = digits[bytes[i] & 15];
    }
    id[2 * sizeof bytes] = '\0';
}

static bool prepare(struct batch *b)
{
    int64_t lead = b->spec->deadline_us / 2;
    if (lead > DEADLINE_LEAD_US)
        lead = DEADLINE_LEAD_US;
    b->items = calloc(b->spec->count, sizeof *b->items);
    b->identity = strdup(b->params.identity);
    b->slots = slots_create(b->spec->concurrency, 1);
    if (b->items == NULL || b->identity == NULL || b->slots == NULL)
        return false;
    b->sched = fetch_join(b->all->params.fetch, b->identity, b->slots,
                          b->spec->concurrency_per_host);
    return b->sched != NULL &&
           heap_set(&b->all->deadlines, &b->deadline,
                    b->view.started_us + b->spec->deadline_us - lead);
}

static void init_view(struct batch *b)
{
    make_id(b->id);
    b->view = (struct batch_view){
        .id = b->id,
        .started_us = clock_us(),
        .started_wall_us = clock_wall_us(),
        .spec = b->spec,
        .stride = sizeof(struct batch_item),
    };
    b->last_end_us = b->view.started_us;
}

struct batch *batch_start(struct batches *all, const struct batch_params *params)
{
    struct batch *b = calloc(1, sizeof *b);
    if (b == NULL) {
        spec_destroy(params->spec);
        return NULL;
    }
    b->all = all;
    b->params = *params;
    b->spec = params->spec;
    b->complete = true;
    list_init(&b->node);
    list_init(&b->work);
    init_view(b);
    all->alive++;
    if (!prepare(b)) {
        batch_free(b);
        return NULL;
    }
    b->view.results = &b->items[0].job.result;
    b->unreported = b->spec->count;
    all->unsubmitted += b->spec->count;
    all->running_count++;
    list_append(&all->submitting, &b->node);
    metrics_add(all->params.metrics, METRIC_BATCHES_ACCEPTED, 1);
    all->params.wake(all->params.arg);
    return b;
}

void batch_cancel(struct batch *b)
{
    if (b->state == BATCH_ENDED)
        return;
    b->cancel_asked = true;
    touch(b);
}

void batch_release(struct batch *b)
{
    b->released = true;
    b->cancel_asked = true;
    touch(b);
}

void batch_pause(struct batch *b, bool paused)
{
    if (b->state == BATCH_ENDED)
        return;
    sched_batch_pause(b->sched, paused);
    b->all->params.wake(b->all->params.arg); /* it may launch now: nothing else would say so */
}

void batch_drop_content(struct batch *b, size_t index)
{
    struct fetch_job *job = &b->items[index].job;
    if (job->state == FETCH_IDLE) /* else its transfer may still point at it */
        fetch_content_free(b->all->params.fetch, &job->result);
}

const struct batch_view *batch_view(const struct batch *b)
{
    return &b->view;
}

const char *batch_id(const struct batch *b)
{
    return b->id;
}

/* --- the turn --- */

static void submit_item(struct batch *b, struct batch_item *item, const struct member *member)
{
    item->batch = b;
    item->job.member = member;
    item->job.pool = b->params.pool;
    item->job.batch = b->sched;
    item->job.include = b->spec->include;
    item->job.traceparent = b->spec->traceparent;
    item->job.queued_us = b->view.started_us;
    b->outstanding++;
    fetch_submit(b->all->params.fetch, &item->job);
}

/* Hands over at most n members; moves on when all are. */
static size_t submit_some(struct batch *b, size_t n)
{
    int64_t begin = clock_us();
    size_t left = b->spec->count - b->submitted;
    if (n > left)
        n = left;
    for (size_t i = 0; i < n; i++, b->submitted++)
        submit_item(b, &b->items[b->submitted], &b->spec->members[b->submitted]);
    b->all->unsubmitted -= n;
    if (b->submitted == b->spec->count)
        move(b, BATCH_RUNNING);
    else
        list_append(&b->all->submitting, &b->node);
    b->submit_us += clock_us() - begin;
    return n;
}

static void run_submits(struct batches *all)
{
    size_t budget = SUBMITS_A_TURN;
    struct list *node;
    while (budget > 0 && (node = list_pop(&all->submitting)) != NULL) {
        struct batch *b = LIST_CONTAINER(node, struct batch, node);
        size_t share = budget < 128 ? budget : 128; /* several batches take turns within the budget */
        budget -= submit_some(b, share);
    }
}

static void run_deadlines(struct batches *all)
{
    int64_t now = clock_us();
    struct heap_node *first;
    while ((first = heap_min(&all->deadlines)) != NULL && first->key <= now) {
        heap_remove(&all->deadlines, first);
        cancel_rest(LIST_CONTAINER(first, struct batch, deadline), ERR_DEADLINE_EXCEEDED);
    }
}

static void work_on(struct batch *b)
{
    if (b->cancel_asked)
        cancel_rest(b, ERR_CANCELLED);
    if (b->state == BATCH_ENDED && !b->end_told) {
        b->end_told = true;
        if (!b->released)
            b->params.on_end(b->params.arg);
    }
    free_if_over(b);
}

static void run_work(struct batches *all)
{
    struct list *node;
    while ((node = list_pop(&all->work)) != NULL)
        work_on(LIST_CONTAINER(node, struct batch, work));
}

static void on_timer(uv_timer_t *timer)
{
    struct batches *all = timer->data;
    all->params.wake(all->params.arg);
}

static void arm_timer(struct batches *all)
{
    const struct heap_node *first = heap_min(&all->deadlines);
    if (first == NULL) {
        uv_timer_stop(&all->timer);
        return;
    }
    int64_t wait_us = first->key - clock_us();
    uv_update_time(all->params.loop);
    uv_timer_start(&all->timer, on_timer,
                   wait_us <= 0 ? 0 : (uint64_t)((wait_us + US_PER_MS - 1) / US_PER_MS), 0);
}

bool batches_turn(struct batches *all)
{
    run_deadlines(all);
    run_submits(all);
    run_work(all);
    arm_timer(all);
    return !list_empty(&all->submitting);
}

/* --- the runner --- */

struct batches *batches_create(const struct batches_params *params)
{
    struct batches *all = calloc(1, sizeof *all);
    if (all == NULL)
        return NULL;
    all->params = *params;
    list_init(&all->submitting);
    list_init(&all->running);
    list_init(&all->ended);
    list_init(&all->work);
    uv_timer_init(params->loop, &all->timer);
    all->timer.data = all;
    return all;
}

static void on_closed(uv_handle_t *handle)
{
    struct batches *all = handle->data;
    void (*closed)(void *arg) = all->closed;
    void *arg = all->closed_arg;
    heap_fini(&all->deadlines);
    free(all);
    closed(arg);
}

void batches_close(struct batches *all, void (*closed)(void *arg), void *arg)
{
    assert(all->alive == 0);
    all->closed = closed;
    all->closed_arg = arg;
    uv_close((uv_handle_t *)&all->timer, on_closed);
}

size_t batches_running(const struct batches *all)
{
    return all->running_count;
}

size_t batches_alive(const struct batches *all)
{
    return all->alive;
}

size_t batches_unsubmitted(const struct batches *all)
{
    return all->unsubmitted;
}

void batches_cancel_all(struct batches *all)
{
    struct list *const lists[] = {&all->submitting, &all->running};
    for (size_t i = 0; i < 2; i++) {
        struct list *node, *next;
        LIST_FOREACH_SAFE(node, next, lists[i])
            batch_cancel(LIST_CONTAINER(node, struct batch, node));
    }
}

/* SPDX-License-Identifier: MIT
 *
 * batch - see batch.h. Called by http_routes (start, cancel, release) and by the turn's end, on the
 * front's thread; calls routes back through on_item and on_end, and the fetch loops through
 * shard.h.
 *
 * Owns the spec, one job a member (with its result in it) and the summary. Each job comes back from
 * the fetch loops exactly once, whatever ends it, and the batch ends with the last: a deadline or a
 * cancel only has the loops hand back early what they have. So a result is read by one thread at a
 * time, and memory goes as soon as the batch has ended and nobody wants it.
 */
#include "batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "buf.h"
#include "clock.h"
#include "log.h"
#include "summary.h"

enum {
    SUBMITS_A_TURN = 512,         /* members handed to the queue in a turn: some 2 us each */
    DEADLINE_LEAD_US = 10000,     /* the states are taken this long before the deadline ... */
    DEADLINE_LEAD_1000_US = 2000, /* ... and this for every 1,000 members */
    ID_HEX_MAX = 17,
    ID_BYTES = 8,
    IDS_AT_ONCE = 64, /* random numbers are asked of the kernel for so many */
};

enum batch_state { BATCH_SUBMITTING, BATCH_RUNNING, BATCH_ENDED };

struct batch {
    struct list node; /* all->submitting, all->running or all->ended, by state */
    struct list work; /* all->work while something is to be done for it in the next turn */
    struct batches *all;
    enum batch_state state;
    struct batch_params params;
    struct batch_spec *spec;
    struct fetch_job *jobs; /* one a member */
    struct fetch_group *group;
    struct heap_node deadline;
    size_t submitted;  /* jobs handed to the fetch loops */
    size_t unfinished; /* results not yet final */
    size_t unread;     /* final ones, until the batch is released */
    bool complete;     /* until something is cut */
    bool was_cut;      /* the fetch loops were told, and what they did not have is cancelled */
    bool cancel_asked; /* do it in the next turn */
    bool end_told, logged, released;
    int64_t submit_us, last_end_us;
    char id[ID_HEX_MAX];
    char *identity;
    struct view_summary summary;
    struct batch_view view;
};

struct batches {
    struct batches_params params;
    struct list submitting, running, ended, work;
    size_t running_count, alive, unsubmitted, unread;
    struct heap deadlines;
    uv_timer_t timer;
    uint8_t ids[IDS_AT_ONCE][ID_BYTES];
    size_t ids_left;
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
    for (size_t i = 0; b->jobs != NULL && i < b->submitted; i++)
        shard_content_free(all->params.shard, &b->jobs[i].result);
    shard_group_release(b->group);
    heap_remove(&all->deadlines, &b->deadline);
    spec_destroy(b->spec);
    free(b->jobs);
    free(b->identity);
    free(b);
    all->alive--;
}

static void free_if_over(struct batch *b)
{
    if (b->state == BATCH_ENDED && b->released)
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
    int64_t lag = lag_max_since(b->all->params.lag, b->view.started_us);
    int64_t fetch_lag = shard_lag_max_since(b->all->params.shard, b->view.started_us);
    const struct summary_input in = {
        .total_us = now - b->view.started_us,
        .concurrency_limit = b->spec->concurrency,
        .concurrency_peak = (int64_t)slots_peak(b->group->slots),
        .loop_lag_max_us = lag > fetch_lag ? lag : fetch_lag,
        .overhead_us = b->params.parse_us + b->submit_us + (now - b->last_end_us),
        .complete = b->complete,
    };
    move(b, BATCH_ENDED);
    heap_remove(&b->all->deadlines, &b->deadline);
    if (!summary_compute(&b->summary, &b->view, &in))
        LOG_ERROR("batch", "id=%s error=\"no memory for percentiles\"", b->id);
    b->view.summary = &b->summary;
    touch(b);
}

/* A result is final. */
static void report(struct batch *b, const struct fetch_job *job)
{
    b->unfinished--;
    if (!b->released) {
        b->unread++;
        b->all->unread++;
    }
    if (job->result.end_us > b->last_end_us)
        b->last_end_us = job->result.end_us;
    if (b->params.on_item != NULL && !b->released)
        b->params.on_item(b->params.arg, (size_t)(job - b->jobs));
}

/* As the fetch loops count theirs. */
static void count_unsubmitted(struct metrics *m, const struct result *r)
{
    metrics_add(m, METRIC_MEMBERS_CANCELLED, 1);
    metrics_add_error(m, r->error.type);
    metrics_add(m, METRIC_QUEUE_SECONDS, r->timings.us[PHASE_QUEUE]);
}

/* A member that never reached a fetch loop, because the batch was cut first. */
static void cancel_unsubmitted(struct batch *b, struct fetch_job *job, const struct member *member,
                               enum err_type why, int64_t now_us)
{
    struct result *r = &job->result;
    result_init(r);
    r->state = MEMBER_CANCELLED;
    r->error.type = why;
    r->error.phase = PHASE_QUEUE;
    r->end_us = now_us;
    r->url_effective = target_of(member).text;
    r->https = member->origin != NULL && member->origin->https;
    timings_add(&r->timings, PHASE_QUEUE, now_us - b->view.started_us);
    count_unsubmitted(b->all->params.metrics, r);
    report(b, job);
}

/* Cuts what is unfinished; the batch ends when all of it is back. Once: what cut it first is the
 * reason. */
static void cut(struct batch *b, enum err_type why)
{
    int64_t now = clock_us();
    if (b->state == BATCH_ENDED || b->was_cut)
        return;
    b->complete = false;
    b->was_cut = true;
    heap_remove(&b->all->deadlines, &b->deadline);
    if (b->submitted > 0)
        shard_group_cancel(b->all->params.shard, b->group, why);
    for (; b->submitted < b->spec->count; b->submitted++, b->all->unsubmitted--)
        cancel_unsubmitted(b, &b->jobs[b->submitted], &b->spec->members[b->submitted], why, now);
    if (b->state == BATCH_SUBMITTING)
        move(b, BATCH_RUNNING);
    if (b->unfinished == 0)
        end_batch(b);
}

void batches_job_done(struct fetch_job *job)
{
    struct batch *b = job->group->owner;
    if (job->result.state == MEMBER_CANCELLED) /* the loops keep the deadline themselves */
        b->complete = false;
    report(b, job);
    if (b->unfinished == 0)
        end_batch(b);
    else if (b->spec->stop_on_error && !job->result.ok)
        cut(b, ERR_CANCELLED);
}

/* --- start --- */

/* Nobody can guess the next one: later versions ask for batches by it. */
static void make_id(struct batches *all, char id[ID_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    if (all->ids_left == 0) {
        if (getrandom(all->ids, sizeof all->ids, GRND_NONBLOCK) != (ssize_t)sizeof all->ids)
            for (size_t i = 0; i < IDS_AT_ONCE; i++) { /* in early boot: better than to hang */
                uint64_t fallback = (uint64_t)clock_wall_us() + i;
                memcpy(all->ids[i], &fallback, sizeof fallback);
            }
        all->ids_left = IDS_AT_ONCE;
    }
    const uint8_t *bytes = all->ids[--all->ids_left];
    for (size_t i = 0; i < ID_BYTES; i++) {
        id[2 * i] = digits[bytes[i] >> 4];
        id[2 * i + 1] = digits[bytes[i] & 15];
    }
    id[2 * ID_BYTES] = '\0';
}

/* How long before its deadline a batch is cut: what is unfinished has to come back, and be
 * answered. */
static int64_t deadline_lead_us(const struct batch_spec *spec)
{
    int64_t wanted = DEADLINE_LEAD_US + (int64_t)(spec->count / 1000) * DEADLINE_LEAD_1000_US;
    int64_t most = spec->deadline_us / 2;
    return wanted < most ? wanted : most;
}

static bool prepare(struct batch *b)
{
    b->jobs = calloc(b->spec->count, sizeof *b->jobs);
    b->identity = strdup(b->params.identity);
    if (b->jobs == NULL || b->identity == NULL)
        return false;
    const struct shard_group_params group = {
        .identity = b->identity,
        .traceparent = b->spec->traceparent,
        .pool = b->params.pool,
        .limit = b->spec->concurrency,
        .limit_per_host = b->spec->concurrency_per_host,
        .include = b->spec->include,
        .stop_on_error = b->spec->stop_on_error,
        .queued_us = b->view.started_us,
        .cut_us = b->view.started_us + b->spec->deadline_us - deadline_lead_us(b->spec),
        .owner = b,
    };
    b->group = shard_group_create(b->all->params.shard, &group);
    return b->group != NULL && heap_set(&b->all->deadlines, &b->deadline, group.cut_us);
}

static void init_view(struct batch *b)
{
    make_id(b->all, b->id);
    b->view = (struct batch_view){
        .id = b->id,
        .started_us = clock_us(),
        .started_wall_us = clock_wall_us(),
        .spec = b->spec,
        .stride = sizeof(struct fetch_job),
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
    b->view.results = &b->jobs[0].result;
    b->unfinished = b->spec->count;
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
    b->all->unread -= b->unread;
    b->unread = 0;
    touch(b);
}

void batch_pause(struct batch *b, bool paused)
{
    if (b->state == BATCH_ENDED)
        return;
    shard_group_pause(b->all->params.shard, b->group, paused);
}

void batch_drop_content(struct batch *b, size_t index)
{
    shard_content_free(b->all->params.shard, &b->jobs[index].result);
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

/* Hands over at most n members; moves on when all are. */
static size_t submit_some(struct batch *b, size_t n)
{
    int64_t begin = clock_us();
    size_t left = b->spec->count - b->submitted;
    if (n > left)
        n = left;
    for (size_t i = 0; i < n; i++, b->submitted++) {
        struct fetch_job *job = &b->jobs[b->submitted];
        job->member = &b->spec->members[b->submitted];
        job->group = b->group;
        shard_submit(b->all->params.shard, job);
    }
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
        size_t share = budget < 128 ? budget : 128; /* several take turns within the budget */
        budget -= submit_some(b, share);
    }
}

static void run_deadlines(struct batches *all)
{
    int64_t now = clock_us();
    struct heap_node *first;
    while ((first = heap_min(&all->deadlines)) != NULL && first->key <= now) {
        heap_remove(&all->deadlines, first);
        cut(LIST_CONTAINER(first, struct batch, deadline), ERR_DEADLINE_EXCEEDED);
    }
}

static void work_on(struct batch *b)
{
    if (b->cancel_asked)
        cut(b, ERR_CANCELLED);
    if (b->state == BATCH_ENDED && !b->end_told) {
        b->end_told = true;
        if (!b->released)
            b->params.on_end(b->params.arg);
        touch(b); /* the answer goes first: a line takes longer to write than a small answer */
    } else if (b->state == BATCH_ENDED && !b->logged) {
        b->logged = true;
        log_batch(b);
    }
    if (b->logged)
        free_if_over(b);
}

/* What is touched meanwhile has its turn in the next round, after the front. */
static void run_work(struct batches *all)
{
    struct list now, *node;
    list_init(&now);
    list_splice(&now, &all->work);
    while ((node = list_pop(&now)) != NULL)
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

size_t batches_unread(const struct batches *all)
{
    return all->unread;
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

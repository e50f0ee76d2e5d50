/* SPDX-License-Identifier: MIT
 *
 * shard - see shard.h. Called by batch (jobs, groups), http_routes (figures) and gatherd (life, turn) on
 * the front's thread; its lanes run on threads of their own.
 *
 * A lane is an engine with its loop, its turn and its mail. Each list has one place at a time: outgoing
 * (front's thread) -> jobs (under the lane's lock) -> arrived (lane's thread) -> the engine -> done (lane's
 * thread) -> finished (under the shard's lock) -> arrived (front's thread). Cancel and pause are flags of
 * the group's part, which stands on the lane's list of groups while one is set: mail without memory.
 *
 * What is rare (a pool, a reload, the end) is called on the lane's thread while the front waits: no old
 * policy or configuration is left in use when the call returns. Lanes never wait for the front, so that
 * cannot lock up.
 */
#include "shard.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "clock.h"
#include "lag.h"
#include "log.h"
#include "turn.h"

enum {
    LANES_MAX = 64,             /* slots.h has a bit for each */
    ACCEPTS_MAX = 1024,         /* jobs that enter an engine in a turn, some 0.5 us each */
    DONES_MAX = 4096,           /* `done` calls in a turn of the front */
    RATE_WINDOW_MIN_US = 20000, /* a shorter burst says too little */
};

struct lane;

struct call {
    void (*fn)(struct lane *lane, void *arg);
    void *arg;
    bool done;
};

struct lane {
    struct shard *shard;
    unsigned index;
    struct fetch *engine;
    struct list outgoing; /* front's thread: jobs to be sent */
    struct list arrived;  /* lane's thread: jobs to be submitted */
    struct list done;     /* lane's thread: jobs to be handed back */

    pthread_mutex_t lock;
    pthread_cond_t called;
    struct list jobs;   /* under lock: for this lane */
    struct list groups; /* under lock: parts with a cancel or a pause */
    bool signalled;     /* under lock: it will look at both again from the start */
    struct call *call;  /* under lock */
    struct lag lag;     /* under lock */
    atomic_bool slots_came; /* fetch_wake() is wanted */

    /* of a lane with a thread */
    uv_loop_t loop;
    uv_async_t async;
    struct turn turn;
    struct metrics metrics;
    uv_thread_t thread;
    bool running;
    bool engine_closed, ending; /* lane's thread: with both its loop runs out */
};

struct shard_pool {
    struct shard *shard;
    int id;
    const struct policy *policy;
    bool ok;
};

struct shard {
    struct shard_params params;
    struct slots *slots; /* the daemon's */
    struct resolve_cache *names;
    atomic_llong answer_held;
    unsigned lane_count;
    bool threads;
    struct lane *lanes;
    struct shard_pool pools[CONFIG_NAMED_MAX];
    int pool_count;
    uv_async_t async; /* of the front: mail came, or a lane ended */
    pthread_mutex_t lock;
    struct list finished; /* under lock: jobs that lanes are done with */
    struct list arrived;  /* front's thread: those taken from there */
    atomic_uint ended;    /* lanes that have ended */
    size_t outstanding;   /* jobs submitted, not yet done */
    int64_t done_count, rate_done, rate_since_us; /* throughput, for Retry-After */
    double rate;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- mail --- */

/* The receiver has something to do: a thread is woken, on the front's own loop its turn is. */
static void signal_lane(struct lane *lane)
{
    if (lane->running)
        uv_async_send(&lane->async);
    else
        turn_wake(lane->shard->params.turn);
}

/* Mail was put down, the lock is held: whether a signal has to follow. Not while one is on its way; that
 * a list is not empty would not do: the lane may be past it, reading the other. */
static bool wants_signal(struct lane *lane)
{
    bool wants = !lane->signalled;
    lane->signalled = true;
    return wants;
}

static void send_jobs(struct lane *lane, struct list *jobs)
{
    pthread_mutex_lock(&lane->lock);
    list_splice(&lane->jobs, jobs);
    bool signal = wants_signal(lane);
    pthread_mutex_unlock(&lane->lock);
    if (signal)
        signal_lane(lane);
}

/* One cancel or pause for one lane; the group stays while it is on its way. */
static void send_flags(struct lane *lane, struct fetch_group *group, enum err_type cancel, bool paused)
{
    struct fetch_mail *mail = &group->parts[lane->index].mail;
    pthread_mutex_lock(&lane->lock);
    if (cancel != ERR_NONE)
        mail->cancel = cancel;
    mail->paused = paused;
    if (!list_linked(&mail->node)) {
        list_append(&lane->groups, &mail->node);
        fetch_group_ref(group);
    }
    bool signal = wants_signal(lane);
    pthread_mutex_unlock(&lane->lock);
    if (signal)
        signal_lane(lane);
}

static struct fetch_mail *pop_flags(struct lane *lane, struct fetch_mail *copy)
{
    pthread_mutex_lock(&lane->lock);
    struct list *node = list_pop(&lane->groups);
    struct fetch_mail *mail = node != NULL ? LIST_CONTAINER(node, struct fetch_mail, node) : NULL;
    if (mail != NULL)
        *copy = *mail;
    pthread_mutex_unlock(&lane->lock);
    return mail;
}

static void take_flags(struct lane *lane)
{
    struct fetch_mail mail;
    while (pop_flags(lane, &mail) != NULL) {
        fetch_pause(lane->engine, mail.group, mail.paused);
        if (mail.cancel != ERR_NONE)
            fetch_cancel(lane->engine, mail.group, mail.cancel);
        fetch_group_unref(mail.group);
    }
}

static void take_call(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    struct call *call = lane->call;
    lane->call = NULL;
    pthread_mutex_unlock(&lane->lock);
    if (call == NULL)
        return;
    call->fn(lane, call->arg);
    pthread_mutex_lock(&lane->lock);
    call->done = true;
    pthread_cond_signal(&lane->called);
    pthread_mutex_unlock(&lane->lock);
}

/* Runs fn on the lane's thread and waits for it. */
static void call_lane(struct lane *lane, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    struct call call = {fn, arg, false};
    if (!lane->running) {
        fn(lane, arg);
        return;
    }
    pthread_mutex_lock(&lane->lock);
    lane->call = &call;
    uv_async_send(&lane->async);
    while (!call.done)
        pthread_cond_wait(&lane->called, &lane->lock);
    pthread_mutex_unlock(&lane->lock);
}

static void call_all(struct shard *s, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        call_lane(&s->lanes[i], fn, arg);
}

/* --- a lane's turn --- */

static void take_mail(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->signalled = false;
    list_splice(&lane->arrived, &lane->jobs);
    bool flags = !list_empty(&lane->groups), called = lane->call != NULL;
    pthread_mutex_unlock(&lane->lock);
    if (atomic_exchange_explicit(&lane->slots_came, false, memory_order_acquire) &&
        lane->engine != NULL)
        fetch_wake(lane->engine);
    if (flags)
        take_flags(lane);
    if (called)
        take_call(lane);
}

static void accept_jobs(struct lane *lane)
{
    struct list *node;
    for (int i = 0; i < ACCEPTS_MAX && (node = list_pop(&lane->arrived)) != NULL; i++)
        fetch_submit(lane->engine, LIST_CONTAINER(node, struct fetch_job, node));
}

static void send_done(struct lane *lane)
{
    struct shard *s = lane->shard;
    if (list_empty(&lane->done))
        return;
    pthread_mutex_lock(&s->lock);
    bool was_empty = list_empty(&s->finished);
    list_splice(&s->finished, &lane->done);
    pthread_mutex_unlock(&s->lock);
    if (was_empty && lane->running)
        uv_async_send(&s->async);
}

static bool lane_act(void *arg)
{
    struct lane *lane = arg;
    take_mail(lane);
    if (lane->engine == NULL) /* closed by a call just now */
        return false;
    accept_jobs(lane);
    bool again = fetch_turn(lane->engine);
    fetch_gauge(lane->engine);
    send_done(lane);
    return again || !list_empty(&lane->arrived);
}

static void on_turn_ended(void *arg, int64_t now_us, int64_t busy_us)
{
    struct lane *lane = arg;
    pthread_mutex_lock(&lane->lock);
    lag_note(&lane->lag, now_us, busy_us);
    pthread_mutex_unlock(&lane->lock);
}

static void on_lane_async(uv_async_t *async)
{
    struct lane *lane = async->data;
    turn_wake(&lane->turn);
}

/* --- what an engine calls --- */

static void on_wake(void *arg)
{
    struct lane *lane = arg;
    turn_wake(lane->running ? &lane->turn : lane->shard->params.turn);
}

static void on_done(void *arg, struct fetch_job *job)
{
    struct lane *lane = arg;
    list_append(&lane->done, &job->node);
}

static struct lane *lane_of(struct shard *s, const struct origin *origin)
{
    return &s->lanes[origin != NULL ? origin->hash % s->lane_count : 0];
}

static bool on_moves(void *arg, struct fetch_job *job, const struct origin *origin)
{
    struct lane *lane = arg, *to = lane_of(lane->shard, origin);
    struct list one;
    if (to == lane)
        return false;
    list_init(&one);
    list_append(&one, &job->node);
    send_jobs(to, &one);
    return true;
}

static void on_wake_others(void *arg, uint64_t engines)
{
    struct shard *s = ((struct lane *)arg)->shard;
    for (unsigned i = 0; i < s->lane_count; i++) {
        if ((engines >> i & 1) == 0)
            continue;
        atomic_store_explicit(&s->lanes[i].slots_came, true, memory_order_release);
        signal_lane(&s->lanes[i]);
    }
}

/* --- life of a lane --- */

static void lane_main(void *arg)
{
    struct lane *lane = arg;
    struct shard *s = lane->shard;
    uv_run(&lane->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&lane->loop);
    if (rc != 0)
        LOG_ERROR("shard", "lane=%u step=loop_close error=\"%s\"", lane->index, uv_strerror(rc));
    atomic_fetch_add(&s->ended, 1);
    uv_async_send(&s->async);
}

static bool create_engine(struct lane *lane, uv_loop_t *loop, struct metrics *metrics,
                          const char **why)
{
    struct shard *s = lane->shard;
    const struct fetch_params params = {
        .loop = loop,
        .index = lane->index,
        .engines = s->lane_count,
        .config = &s->params.config->fetch,
        .limits = &s->params.config->limits,
        .metrics = metrics,
        .slots = s->slots,
        .names = s->names,
        .answer_held = &s->answer_held,
        .arg = lane,
        .wake = on_wake,
        .done = on_done,
        .moves = on_moves,
        .wake_others = on_wake_others,
    };
    lane->engine = fetch_create(&params, why);
    return lane->engine != NULL;
}

static void lane_init(struct lane *lane, struct shard *s, unsigned index)
{
    lane->shard = s;
    lane->index = index;
    list_init(&lane->outgoing);
    list_init(&lane->arrived);
    list_init(&lane->done);
    list_init(&lane->jobs);
    list_init(&lane->groups);
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->called, NULL);
}

/* Signals are the front's: a thread that took one would only pass it on. */
static int start_thread(struct lane *lane)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = uv_thread_create(&lane->thread, lane_main, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* A loop that was begun and has no thread is run here until it is empty. */
static bool drop_loop(struct lane *lane)
{
    turn_close(&lane->turn);
    uv_close((uv_handle_t *)&lane->async, NULL);
    uv_run(&lane->loop, UV_RUN_DEFAULT);
    uv_loop_close(&lane->loop);
    return false;
}

static void on_unstarted_closed(void *arg)
{
    (void)arg;
}

static bool lane_start(struct lane *lane, const char **why)
{
    const struct turn_params turn = {
        .loop = &lane->loop,
        .act = lane_act,
        .ended = on_turn_ended,
        .arg = lane,
        .metrics = &lane->metrics,
    };
    *why = "no loop";
    if (uv_loop_init(&lane->loop) != 0)
        return false;
    turn_init(&lane->turn, &turn);
    uv_async_init(&lane->loop, &lane->async, on_lane_async);
    lane->async.data = lane;
    if (!create_engine(lane, &lane->loop, &lane->metrics, why))
        return drop_loop(lane);
    lane->running = true;
    if (start_thread(lane) == 0)
        return true;
    *why = "no thread";
    lane->running = false;
    fetch_close(lane->engine, on_unstarted_closed, NULL);
    lane->engine = NULL;
    return drop_loop(lane);
}

static void lane_fini(struct lane *lane)
{
    pthread_cond_destroy(&lane->called);
    pthread_mutex_destroy(&lane->lock);
}

/* --- life --- */

static void shard_free(struct shard *s)
{
    for (unsigned i = 0; s->lanes != NULL && i < s->lane_count; i++)
        lane_fini(&s->lanes[i]);
    resolve_cache_destroy(s->names);
    slots_destroy(s->slots);
    pthread_mutex_destroy(&s->lock);
    free(s->lanes);
    free(s);
}

static void on_async_closed(uv_handle_t *handle)
{
    struct shard *s = handle->data;
    void (*closed)(void *arg) = s->closed;
    void *arg = s->closed_arg;
    shard_free(s);
    closed(arg);
}

static void finish_close(struct shard *s)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        if (s->lanes[i].running)
            uv_thread_join(&s->lanes[i].thread);
    uv_close((uv_handle_t *)&s->async, on_async_closed);
}

/* The loop runs out when its engine is closed and nobody will signal it any more; lane_main() goes on. */
static void run_out_if_over(struct lane *lane)
{
    if (!lane->engine_closed || !lane->ending)
        return;
    turn_close(&lane->turn);
    uv_close((uv_handle_t *)&lane->async, NULL);
}

static void on_engine_closed(void *arg)
{
    struct lane *lane = arg;
    lane->engine_closed = true;
    if (lane->running) {
        run_out_if_over(lane);
        return;
    }
    atomic_fetch_add(&lane->shard->ended, 1);
    uv_async_send(&lane->shard->async);
}

/* On the front's loop the lane may not have had a turn since the last cancel or pause, and that has a
 * reference to its group. */
static void begin_close(struct lane *lane, void *arg)
{
    struct fetch *engine = lane->engine;
    (void)arg;
    take_flags(lane);
    lane->engine = NULL;
    fetch_close(engine, on_engine_closed, lane);
}

static void end_lane(struct lane *lane, void *arg)
{
    (void)arg;
    lane->ending = true;
    run_out_if_over(lane);
}

/* Lanes that never started count as ended. An engine tells others of the slots that it gives up as it is
 * closed, and may have been about to for a while: no loop ends before all engines are closed. */
static void close_lanes(struct shard *s)
{
    for (unsigned i = 0; i < s->lane_count; i++) {
        if (s->lanes[i].engine != NULL)
            call_lane(&s->lanes[i], begin_close, NULL);
        else
            atomic_fetch_add(&s->ended, 1);
    }
    for (unsigned i = 0; i < s->lane_count; i++)
        if (s->lanes[i].running)
            call_lane(&s->lanes[i], end_lane, NULL);
    uv_async_send(&s->async);
}

void shard_close(struct shard *s, void (*closed)(void *arg), void *arg)
{
    assert(s->outstanding == 0);
    s->closed = closed;
    s->closed_arg = arg;
    close_lanes(s);
}

static void on_front_async(uv_async_t *async)
{
    struct shard *s = async->data;
    if (s->closed == NULL)
        turn_wake(s->params.turn);
    else if (atomic_load(&s->ended) == s->lane_count && !uv_is_closing((uv_handle_t *)async))
        finish_close(s);
}

static void on_failed_start_closed(void *arg)
{
    (void)arg;
}

static bool start_lanes(struct shard *s, const char **why)
{
    if (!s->threads)
        return create_engine(&s->lanes[0], s->params.loop, s->params.metrics, why);
    for (unsigned i = 0; i < s->lane_count; i++)
        if (!lane_start(&s->lanes[i], why))
            return false;
    return true;
}

static unsigned wanted_loops(const struct config *config)
{
    unsigned n = config->daemon.loops == CONFIG_AUTO ? uv_available_parallelism()
                                                     : (unsigned)config->daemon.loops;
    return n > LANES_MAX ? LANES_MAX : n;
}

static struct shard *shard_alloc(const struct shard_params *params)
{
    struct shard *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    unsigned loops = wanted_loops(params->config);
    s->params = *params;
    s->threads = loops > 0;
    s->lane_count = loops > 0 ? loops : 1;
    list_init(&s->finished);
    list_init(&s->arrived);
    pthread_mutex_init(&s->lock, NULL);
    s->rate_since_us = clock_us();
    s->names = resolve_cache_create();
    s->lanes = calloc(s->lane_count, sizeof *s->lanes);
    s->slots = slots_create((int)params->config->limits.in_flight, (int)s->lane_count);
    if (s->names == NULL || s->lanes == NULL || s->slots == NULL) {
        shard_free(s);
        return NULL;
    }
    for (unsigned i = 0; i < s->lane_count; i++)
        lane_init(&s->lanes[i], s, i);
    return s;
}

struct shard *shard_create(const struct shard_params *params, const char **why)
{
    *why = "out of memory";
    struct shard *s = shard_alloc(params);
    if (s == NULL)
        return NULL;
    if (uv_async_init(params->loop, &s->async, on_front_async) != 0) {
        shard_free(s);
        return NULL;
    }
    s->async.data = s;
    if (start_lanes(s, why))
        return s;
    shard_close(s, on_failed_start_closed, NULL); /* ends when the front's loop is run out */
    return NULL;
}

/* --- pools and reload --- */

static void open_pool(struct lane *lane, void *arg)
{
    struct shard_pool *p = arg;
    p->ok = p->ok && fetch_pool_open(lane->engine, p->id, p->policy);
}

struct shard_pool *shard_pool_open(struct shard *s, const struct policy *policy)
{
    if (s->pool_count == CONFIG_NAMED_MAX)
        return NULL;
    struct shard_pool *p = &s->pools[s->pool_count];
    *p = (struct shard_pool){.shard = s, .id = s->pool_count, .policy = policy, .ok = true};
    call_all(s, open_pool, p);
    if (!p->ok)
        return NULL; /* what some lanes opened serves the next one that asks */
    s->pool_count++;
    return p;
}

static void set_policy(struct lane *lane, void *arg)
{
    const struct shard_pool *p = arg;
    fetch_pool_set_policy(lane->engine, p->id, p->policy);
}

void shard_pool_set_policy(struct shard_pool *p, const struct policy *policy)
{
    p->policy = policy;
    call_all(p->shard, set_policy, p);
}

static void reload_lane(struct lane *lane, void *arg)
{
    const struct config *config = arg;
    fetch_reload(lane->engine, &config->fetch, &config->limits);
}

void shard_reload(struct shard *s, const struct config *config)
{
    struct config *borrowed = (struct config *)(uintptr_t)config; /* only read; an arg has no const */
    s->params.config = config;
    slots_set_limit(s->slots, (int)config->limits.in_flight);
    resolve_cache_renew(s->names, 0); /* once; each engine follows */
    call_all(s, reload_lane, borrowed);
}

/* --- batches --- */

struct fetch_group *shard_group_create(struct shard *s, const struct shard_group_params *params)
{
    struct fetch_group *group = fetch_group_create(s->lane_count, params->limit);
    if (group == NULL)
        return NULL;
    group->identity = params->identity;
    group->traceparent = params->traceparent;
    group->limit_per_host = params->limit_per_host;
    group->pool = params->pool->id;
    group->include = params->include;
    group->stop_on_error = params->stop_on_error;
    group->queued_us = params->queued_us;
    group->cut_us = params->cut_us;
    group->owner = params->owner;
    return group;
}

void shard_group_release(struct fetch_group *group)
{
    if (group != NULL)
        fetch_group_unref(group);
}

void shard_submit(struct shard *s, struct fetch_job *job)
{
    s->outstanding++;
    list_append(&lane_of(s, job->member->origin)->outgoing, &job->node);
}

void shard_group_cancel(struct shard *s, struct fetch_group *group, enum err_type why)
{
    shard_flush(s);
    for (unsigned i = 0; i < s->lane_count; i++)
        send_flags(&s->lanes[i], group, why, false);
}

void shard_group_pause(struct shard *s, struct fetch_group *group, bool paused)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        send_flags(&s->lanes[i], group, ERR_NONE, paused);
}

/* --- the turn --- */

/* Members a second while there is work; idle time says nothing. A window ends after a second, or when
 * the last member has. */
static void measure_rate(struct shard *s)
{
    int64_t now = clock_us(), passed = now - s->rate_since_us;
    int64_t n = s->done_count - s->rate_done;
    bool idle = s->outstanding == 0;
    bool full = passed >= US_PER_S || (idle && passed >= RATE_WINDOW_MIN_US);
    if (!full && !idle)
        return;
    if (full && n > 0) {
        double seen = (double)n * 1e6 / (double)passed;
        s->rate = s->rate == 0 ? seen : 0.7 * s->rate + 0.3 * seen;
    }
    s->rate_done = s->done_count;
    s->rate_since_us = now;
}

static void take_finished(struct shard *s)
{
    pthread_mutex_lock(&s->lock);
    list_splice(&s->arrived, &s->finished);
    pthread_mutex_unlock(&s->lock);
}

bool shard_turn(struct shard *s)
{
    struct list *node;
    bool again = !s->threads && lane_act(&s->lanes[0]);
    take_finished(s);
    for (int i = 0; i < DONES_MAX && (node = list_pop(&s->arrived)) != NULL; i++) {
        s->outstanding--;
        s->done_count++;
        s->params.done(LIST_CONTAINER(node, struct fetch_job, node));
    }
    measure_rate(s);
    return again || !list_empty(&s->arrived);
}

void shard_flush(struct shard *s)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        if (!list_empty(&s->lanes[i].outgoing))
            send_jobs(&s->lanes[i], &s->lanes[i].outgoing);
}

/* --- results --- */

void shard_result_free(struct shard *s, struct result *r)
{
    fetch_result_free(r, &s->answer_held);
}

void shard_content_free(struct shard *s, struct result *r)
{
    fetch_content_free(r, &s->answer_held);
}

/* --- figures --- */

size_t shard_loops(const struct shard *s)
{
    return s->threads ? s->lane_count : 0;
}

size_t shard_active(const struct shard *s)
{
    return (size_t)slots_used(s->slots);
}

size_t shard_waiting(const struct shard *s)
{
    size_t active = shard_active(s);
    return s->outstanding > active ? s->outstanding - active : 0;
}

double shard_rate(const struct shard *s)
{
    int64_t passed = clock_us() - s->rate_since_us, n = s->done_count - s->rate_done;
    double live = passed >= RATE_WINDOW_MIN_US ? (double)n * 1e6 / (double)passed : 0;
    double rate = live > s->rate ? live : s->rate;
    return rate > 1 ? rate : 1;
}

int64_t shard_lag_max_since(struct shard *s, int64_t since_us)
{
    int64_t longest = 0;
    for (unsigned i = 0; i < s->lane_count; i++) {
        pthread_mutex_lock(&s->lanes[i].lock);
        int64_t us = lag_max_since(&s->lanes[i].lag, since_us);
        pthread_mutex_unlock(&s->lanes[i].lock);
        longest = us > longest ? us : longest;
    }
    return longest;
}

void shard_metrics(struct shard *s, struct metrics *out)
{
    for (unsigned i = 0; s->threads && i < s->lane_count; i++)
        metrics_sum(out, &s->lanes[i].metrics);
    metrics_set(out, METRIC_MEMBERS_QUEUED, (int64_t)shard_waiting(s));
    metrics_set(out, METRIC_MEMBERS_ACTIVE, (int64_t)shard_active(s));
    metrics_set(out, METRIC_ANSWER_BYTES_HELD, (int64_t)atomic_load(&s->answer_held));
}

/* SPDX-License-Identifier: MIT
 *
 * shard - see shard.h, and shard_lane.c for what happens on the fetch loops. Called by batch (jobs,
 * groups), http_routes (figures) and gatherd (life, turn) on the front's thread.
 *
 * A lane is an engine with its loop, its turn and its mail. A job has one place at a time: outgoing
 * (front's thread) -> jobs (under the lane's lock) -> arrived (lane's thread) -> the engine -> done
 * (lane's thread) -> finished (under the shard's lock) -> arrived (front's thread). Cancel and
 * pause are flags of the group's part, which stands on the lane's list of groups while one is set:
 * mail without memory.
 *
 * What is rare (a pool, a reload, the end) is called on the lane's thread while the front waits: no
 * old policy or configuration is left in use when the call returns. Lanes never wait for the front,
 * so that cannot lock up.
 */
#include "shard_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"

enum {
    LANES_MAX = 64,             /* slots.h has a bit for each */
    DONES_MAX = 4096,           /* `done` calls in a turn of the front */
    RATE_WINDOW_MIN_US = 20000, /* a shorter burst says too little */
};

static void call_all(struct shard *s, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        lane_call(&s->lanes[i], fn, arg);
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

static void on_bell_closed(void *shard)
{
    struct shard *s = shard;
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
    bell_close(&s->bell, on_bell_closed);
}

/* Lanes that never started count as ended. An engine tells others of the slots that it gives up as
 * it is closed, and may have been about to for a while: no loop ends before all engines are
 * closed. */
static void close_lanes(struct shard *s)
{
    for (unsigned i = 0; i < s->lane_count; i++) {
        if (s->lanes[i].engine != NULL)
            lane_call(&s->lanes[i], lane_begin_close, NULL);
        else
            atomic_fetch_add(&s->ended, 1);
    }
    for (unsigned i = 0; i < s->lane_count; i++)
        if (s->lanes[i].running)
            lane_call(&s->lanes[i], lane_end, NULL);
    bell_ring(&s->bell);
}

void shard_close(struct shard *s, void (*closed)(void *arg), void *arg)
{
    assert(s->outstanding == 0);
    s->closed = closed;
    s->closed_arg = arg;
    close_lanes(s);
}

static void on_front_rung(void *shard)
{
    struct shard *s = shard;
    if (s->closed == NULL)
        turn_wake(s->params.turn);
    else if (atomic_load(&s->ended) == s->lane_count && !bell_closing(&s->bell))
        finish_close(s);
}

static void on_failed_start_closed(void *arg)
{
    (void)arg;
}

static bool start_lanes(struct shard *s, const char **why)
{
    if (!s->threads)
        return lane_create_engine(&s->lanes[0], s->params.loop, s->params.metrics, why);
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
    int rc = bell_init(&s->bell, params->loop, on_front_rung, s);
    if (rc != 0) {
        *why = uv_strerror(rc);
        shard_free(s);
        return NULL;
    }
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
    fetch_pool_set_policy(lane->engine, p->id, p->policy, p->renew);
}

const struct policy *shard_pool_policy(const struct shard_pool *p)
{
    return p->policy;
}

void shard_pool_set_policy(struct shard_pool *p, const struct policy *policy, bool renew)
{
    p->renew = renew;
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
    struct config *borrowed =
        (struct config *)(uintptr_t)config; /* only read; an arg has no const */
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
        lane_send_flags(&s->lanes[i], group, why, false);
}

void shard_group_pause(struct shard *s, struct fetch_group *group, bool paused)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        lane_send_flags(&s->lanes[i], group, ERR_NONE, paused);
}

/* --- the turn --- */

/* Members a second while there is work; idle time says nothing. A window ends after a second, or
 * when the last member has. */
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
    if (atomic_exchange(&s->rested, false))
        s->params.rested(s->params.arg);
    return again || !list_empty(&s->arrived);
}

void shard_flush(struct shard *s)
{
    for (unsigned i = 0; i < s->lane_count; i++)
        if (!list_empty(&s->lanes[i].outgoing))
            lane_send_jobs(&s->lanes[i], &s->lanes[i].outgoing);
}

/* --- results --- */

void shard_content_free(struct shard *s, struct result *r)
{
    fetch_content_free(r, &s->answer_held);
}

/* --- figures --- */

size_t shard_active(const struct shard *s)
{
    return (size_t)slots_used(s->slots);
}

size_t shard_waiting(const struct shard *s)
{
    size_t active = shard_active(s);
    return s->outstanding > active ? s->outstanding - active : 0;
}

int64_t shard_silent_us(struct shard *s)
{
    int64_t longest = 0, now = clock_us();
    for (unsigned i = 0; i < s->lane_count; i++) {
        int64_t us = lane_ask(&s->lanes[i], now);
        longest = us > longest ? us : longest;
    }
    return longest;
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

/* SPDX-License-Identifier: MIT
 *
 * fetch - the engine; see fetch.h, and fetch_hop.c for what happens to a job that runs. Called by batch (submit, cancel) and by the turn's end
 * (fetch_turn), on the loop's thread; calls batch back through `done`.
 *
 * A job moves QUEUED -> ACTIVE -> (QUEUED again for the next hop of a redirect) -> ENDED -> IDLE, or
 * through CLOSING when it is cut while active. Its list is its state. A waiting job holds no slot;
 * an active one holds daemon, batch and origin slot from dispatch to the end of the hop.
 *
 * Time is tiled: a hop ends at the microsecond at which the next wait begins, so queue and work sum
 * up to the member's total without a gap. Deadlines are ours (one heap, one timer): the earliest that
 * can apply is set at dispatch and judged again when it fires, so that the common transfer, which
 * ends long before, costs one insertion and one removal.
 */
#include "fetch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fetch_internal.h"
#include "slots.h"

/* Bounds of one turn: launches by what they cost, messages, removals (12 us plain, 57 us TLS) and `done` calls. */
enum {
    LAUNCH_BUDGET = 64,
    MESSAGES_MAX = 128,
    CLOSINGS_MAX = 32,
    DONES_MAX = 512,
    STARVED_US = 10000000, /* how long the want of descriptors is remembered */
    RATE_WINDOW_MIN_US = 20000, /* a shorter burst says too little */
    URLS_KEPT_MAX = 2048, /* parsed URLs kept for waiting jobs; beyond, they are parsed again */
};

/* --- pools of transfers --- */

static long max_connects(const struct fetch *f)
{
    return (long)(f->params.limits->in_flight + f->params.config->idle_connections);
}

static void pool_drop_idle(struct fetch_pool *p)
{
    struct list *node;
    while ((node = list_pop(&p->idle)) != NULL)
        transfer_destroy(LIST_CONTAINER(node, struct transfer, node));
    p->idle_count = 0;
}

/* Frees the pool; closed is called with the engine once for each multi it had. */
static void pool_close(struct fetch_pool *p, void (*closed)(void *arg))
{
    pool_drop_idle(p);
    for (int lane = 0; lane < TRANSFER_LANES; lane++)
        if (p->env.multis[lane] != NULL)
            curl_uv_close(p->env.multis[lane], closed, p->engine);
    free(p);
}

static void on_nothing(void *arg)
{
    (void)arg;
}

struct fetch_pool *fetch_pool_open(struct fetch *f, const struct policy *policy)
{
    struct fetch_pool *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    const struct curl_uv_params params = {
        .loop = f->params.loop,
        .max_connects = max_connects(f),
        .wake = f->params.wake,
        .arg = f->params.wake_arg,
    };
    p->env = (struct transfer_env){
        .libcurl_8_1 = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080100,
        .policy = policy,
        .fetch = f->params.config,
        .limits = f->params.limits,
        .answer_held = &f->answer_held,
    };
    p->engine = f;
    list_init(&p->idle);
    for (int lane = 0; lane < TRANSFER_LANES; lane++) {
        p->env.multis[lane] = curl_uv_create(&params);
        if (p->env.multis[lane] == NULL) {
            pool_close(p, on_nothing);
            return NULL;
        }
    }
    list_append(&f->pools, &p->node);
    return p;
}

void fetch_pool_set_policy(struct fetch_pool *p, const struct policy *policy)
{
    p->env.policy = policy;
}

void fetch_reload(struct fetch *f, const struct config_fetch *config,
                  const struct config_limits *limits)
{
    struct list *node, *next;
    f->params.config = config;
    f->params.limits = limits;
    LIST_FOREACH_SAFE(node, next, &f->pools) {
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        p->env.fetch = config;
        p->env.limits = limits;
        for (int lane = 0; lane < TRANSFER_LANES; lane++)
            curl_uv_set_max_connects(p->env.multis[lane], max_connects(f));
    }
    slots_set_limit(f->slots, (int)limits->in_flight);
    sched_set_limit_origin(f->sched, (int)limits->per_host);
    resolve_reload(f->resolve);
    f->params.wake(f->params.wake_arg);
}

struct transfer *fetch_take_transfer(struct fetch_pool *p)
{
    struct list *node = list_pop(&p->idle);
    if (node == NULL)
        return transfer_create(&p->env);
    p->idle_count--;
    return LIST_CONTAINER(node, struct transfer, node);
}

void fetch_give_back_transfer(struct fetch_pool *p, struct transfer *t)
{
    transfer_end(t);
    if (p->idle_count >= (size_t)p->env.limits->in_flight) {
        transfer_destroy(t);
        return;
    }
    list_prepend(&p->idle, &t->node);
    p->idle_count++;
}

/* --- states --- */

void fetch_drop_url(struct fetch *f, struct fetch_job *job)
{
    if (job->url == NULL)
        return;
    url_fini(job->url);
    free(job->url);
    job->url = NULL;
    f->urls_kept--;
}

static bool job_keep_url(struct fetch *f, struct fetch_job *job, struct url *url)
{
    job->url = malloc(sizeof *job->url);
    if (job->url == NULL)
        return false;
    *job->url = *url;
    *url = (struct url){0};
    f->urls_kept++;
    return true;
}

/* The mover: from whatever state to ENDED; the result is final. */
void fetch_end_job(struct fetch *f, struct fetch_job *job)
{
    assert(job->result.state != MEMBER_PENDING);
    assert(job->state != FETCH_ENDED && job->state != FETCH_IDLE);
    list_remove(&job->node);
    heap_remove(&f->deadlines, &job->deadline);
    sched_release(&job->entry);
    fetch_drop_url(f, job);
    if (job->transfer != NULL)
        fetch_give_back_transfer(job->pool, job->transfer);
    job->transfer = NULL;
    job->state = FETCH_ENDED;
    list_append(&f->ended, &job->node);
}

void fetch_set_error(struct result *r, enum err_type type, enum phase phase)
{
    r->ok = false;
    r->error.type = type;
    r->error.phase = phase;
}

void fetch_set_message(struct result *r, const char *text)
{
    free(r->error.message);
    r->error.message = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
}

void fetch_set_denial(struct result *r, const struct verdict *v, enum phase phase)
{
    r->state = MEMBER_DENIED;
    fetch_set_error(r, v->type, phase);
    fetch_set_message(r, v->message);
    free(r->error.rule);
    r->error.rule = strdup(v->rule);
}

/* Closes the account of a job that is waiting: what passed since it joined the queue is queue. */
void fetch_account_wait(struct fetch_job *job, int64_t now_us)
{
    timings_add(&job->result.timings, PHASE_QUEUE, now_us - job->waiting_since_us);
    job->waiting_since_us = now_us;
    job->result.end_us = now_us;
}

void fetch_fail_waiting(struct fetch *f, struct fetch_job *job, enum err_type type,
                         const char *message)
{
    fetch_account_wait(job, clock_us());
    job->result.state = MEMBER_FAILED;
    fetch_set_error(&job->result, type, PHASE_QUEUE);
    fetch_set_message(&job->result, message);
    fetch_end_job(f, job);
}

/* --- submit --- */

void fetch_note_url(struct fetch_job *job, const struct url *url)
{
    free(job->result.url_effective);
    job->result.url_effective = strdup(url->text);
    job->result.https = url->https;
}

bool fetch_queue_job(struct fetch *f, struct fetch_job *job, struct url *url, bool front)
{
    if (!sched_push(job->batch, url->origin, &job->entry, front))
        return false;
    if ((f->urls_kept < URLS_KEPT_MAX || front) && !job_keep_url(f, job, url))
        return false;
    job->state = FETCH_QUEUED;
    const int64_t wait_us = job->member->opts->queue_timeout_us;
    if (wait_us >= 0 && !heap_set(&f->deadlines, &job->deadline, job->waiting_since_us + wait_us))
        return false;
    return true;
}

static void submit_url(struct fetch *f, struct fetch_job *job)
{
    struct url url;
    struct verdict v;
    const char *why = NULL;
    if (!url_parse(job->member->url, job->member->url_len, &url, &why)) {
        fetch_fail_waiting(f, job, ERR_URL_INVALID, why);
        return;
    }
    fetch_note_url(job, &url);
    if (!policy_check_host(job->pool->env.policy, url.host, &url.ip, url.port, &v)) {
        fetch_account_wait(job, clock_us());
        fetch_set_denial(&job->result, &v, PHASE_QUEUE);
        fetch_end_job(f, job);
    } else if (!fetch_queue_job(f, job, &url, false)) {
        fetch_fail_waiting(f, job, ERR_PROXY_INTERNAL_ERROR, "out of memory");
    }
    url_fini(&url);
}

void fetch_submit(struct fetch *f, struct fetch_job *job)
{
    assert(job->state == FETCH_IDLE);
    result_init(&job->result);
    list_init(&job->node);
    list_init(&job->entry.node);
    job->method = job->member->opts->method;
    job->waiting_since_us = job->queued_us;
    job->state = FETCH_QUEUED;
    submit_url(f, job);
    f->params.wake(f->params.wake_arg);
}

/* --- deadlines --- */

static void on_timer(uv_timer_t *timer);

/* One uv timer serves the heap; it is only ever moved to an earlier time, a late look is corrected
 * when it fires. */
static void arm_timer(struct fetch *f)
{
    const struct heap_node *first = heap_min(&f->deadlines);
    if (first == NULL || (f->timer_at_us != TIME_NULL && f->timer_at_us <= first->key))
        return;
    int64_t wait_us = first->key - clock_us();
    f->timer_at_us = first->key;
    uv_update_time(f->params.loop);
    uv_timer_start(&f->timer, on_timer,
                   wait_us <= 0 ? 0 : (uint64_t)((wait_us + US_PER_MS - 1) / US_PER_MS), 0);
}

static enum err_type timeout_type(enum phase phase)
{
    switch (phase) {
    case PHASE_DNS:
        return ERR_DNS_TIMEOUT;
    case PHASE_CONNECT:
    case PHASE_TLS:
        return ERR_CONNECTION_TIMEOUT;
    case PHASE_SEND:
        return ERR_CONNECTION_WRITE_TIMEOUT;
    default:
        return ERR_HTTP_RESPONSE_TIMEOUT;
    }
}

static void time_out(struct fetch *f, struct fetch_job *job, int64_t now_us)
{
    bool whole = now_us >= fetch_timeout_at(job);
    enum phase last = fetch_account_hop(f, job, now_us);
    fetch_finish_failed(f, job, timeout_type(last), last,
                  whole ? "timeout_ms passed" : "connect_timeout_ms passed");
}

static void deadline_passed(struct fetch *f, struct fetch_job *job, int64_t now_us)
{
    if (job->state == FETCH_QUEUED) {
        fetch_fail_waiting(f, job, ERR_QUEUE_TIMEOUT, NULL);
        return;
    }
    bool connecting = !transfer_connected(job->transfer);
    if (now_us >= fetch_timeout_at(job) || (connecting && now_us >= fetch_connect_timeout_at(job)))
        time_out(f, job, now_us);
    else if (!fetch_set_deadline(f, job))
        time_out(f, job, now_us); /* cannot happen: a node that was in has room */
}

static void run_deadlines(struct fetch *f)
{
    int64_t now = clock_us();
    struct heap_node *first;
    while ((first = heap_min(&f->deadlines)) != NULL && first->key <= now) {
        heap_remove(&f->deadlines, first);
        deadline_passed(f, LIST_CONTAINER(first, struct fetch_job, deadline), now);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct fetch *f = timer->data;
    f->timer_at_us = TIME_NULL;
    f->params.wake(f->params.wake_arg);
}

/* --- cancel --- */

static void cancel_waiting(struct fetch *f, struct fetch_job *job, enum err_type why, int64_t now_us)
{
    fetch_account_wait(job, now_us);
    job->result.state = MEMBER_CANCELLED;
    fetch_set_error(&job->result, why, PHASE_QUEUE);
    fetch_end_job(f, job);
}

void fetch_cancel(struct fetch *f, struct fetch_job *job, enum err_type why, int64_t now_us)
{
    if (job->result.state != MEMBER_PENDING || job->state == FETCH_IDLE)
        return;
    f->params.wake(f->params.wake_arg);
    if (job->state == FETCH_QUEUED) {
        cancel_waiting(f, job, why, now_us > job->waiting_since_us ? now_us : job->waiting_since_us);
        return;
    }
    enum phase last = fetch_account_hop(f, job, now_us > job->dispatched_us ? now_us : job->dispatched_us);
    job->result.state = MEMBER_CANCELLED;
    fetch_set_error(&job->result, why, last);
    heap_remove(&f->deadlines, &job->deadline);
    job->state = FETCH_CLOSING;
    job->transfer->cut = CUT_CLOSED;
    list_append(&f->closing, &job->node);
}

static void run_closings(struct fetch *f)
{
    struct list *node;
    for (int i = 0; i < CLOSINGS_MAX && (node = list_pop(&f->closing)) != NULL; i++)
        fetch_end_job(f, LIST_CONTAINER(node, struct fetch_job, node));
}

/* --- idle connections --- */

static long idle_s(const struct fetch *f)
{
    return (long)(f->params.config->idle_time_us / US_PER_S);
}

static void on_sweep_timer(uv_timer_t *timer)
{
    struct fetch *f = timer->data;
    struct list *node, *next;
    size_t sockets = 0;
    LIST_FOREACH_SAFE(node, next, &f->pools) {
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        for (int lane = 0; lane < TRANSFER_LANES; lane++) {
            struct curl_uv *m = p->env.multis[lane];
            if (curl_uv_sockets(m) > 0)
                curl_uv_sweep(m, idle_s(f));
            sockets += curl_uv_sockets(m);
        }
    }
    if (sockets == 0)
        uv_timer_stop(timer);
    f->params.wake(f->params.wake_arg);
}

/* Runs while there may be a connection to be closed: from a launch until none is open. */
static void arm_sweep(struct fetch *f)
{
    uint64_t every_ms = (uint64_t)(f->params.config->idle_time_us / US_PER_MS / 4);
    if (every_ms < 1000)
        every_ms = 1000;
    if (!uv_is_active((uv_handle_t *)&f->sweep_timer))
        uv_timer_start(&f->sweep_timer, on_sweep_timer, every_ms, every_ms);
}

/* --- the turn --- */

static void dispatch_ready(struct fetch *f)
{
    struct sched_entry *e;
    for (int spent = 0; spent < LAUNCH_BUDGET && (e = sched_next(f->sched)) != NULL;)
        spent += fetch_dispatch(f, LIST_CONTAINER(e, struct fetch_job, entry));
}

static void count_job(struct fetch *f, const struct result *r)
{
    struct metrics *m = f->params.metrics;
    f->finished++;
    metrics_add(m, r->state == MEMBER_DONE     ? METRIC_MEMBERS_DONE
                   : r->state == MEMBER_FAILED ? METRIC_MEMBERS_FAILED
                   : r->state == MEMBER_DENIED ? METRIC_MEMBERS_DENIED
                                               : METRIC_MEMBERS_CANCELLED, 1);
    if (r->error.type != ERR_NONE)
        m->errors[r->error.type]++;
    metrics_add(m, METRIC_FETCH_BYTES_RECEIVED, r->sizes.download);
    metrics_add(m, METRIC_FETCH_BYTES_DELIVERED, r->sizes.delivered);
    int64_t queue = r->timings.us[PHASE_QUEUE];
    metrics_add(m, METRIC_QUEUE_SECONDS, queue > 0 ? queue : 0);
    metrics_add(m, METRIC_FETCH_SECONDS, r->start_us == TIME_NULL ? 0 : result_work_us(r));
}

/* Every result that leaves adds up: queue + work = end - start of waiting, to the microsecond. */
static void check_sum(const struct fetch_job *job)
{
#ifndef NDEBUG
    int64_t total = timings_total(&job->result.timings);
    assert(total == job->result.end_us - job->queued_us);
#endif
    (void)job;
}

static void run_ended(struct fetch *f)
{
    struct list *node;
    for (int i = 0; i < DONES_MAX && (node = list_pop(&f->ended)) != NULL; i++) {
        struct fetch_job *job = LIST_CONTAINER(node, struct fetch_job, node);
        check_sum(job);
        count_job(f, &job->result);
        job->state = FETCH_IDLE;
        f->params.done(job);
    }
}

/* No descriptor was left for a connection: for a while each start first closes what is idle. (libcurl looks
 * once a second, when a transfer starts, so a sweep now would come to nothing.) */
static void make_room(struct fetch *f)
{
    struct list *node, *next;
    LIST_FOREACH_SAFE(node, next, &f->pools)
        LIST_CONTAINER(node, struct fetch_pool, node)->env.starved_until_us =
            clock_us() + STARVED_US;
}

static bool run_pools(struct fetch *f)
{
    struct list *node, *next;
    bool pending = false, starved = false;
    LIST_FOREACH_SAFE(node, next, &f->pools) {
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        for (int lane = 0; lane < TRANSFER_LANES; lane++) {
            curl_uv_turn(p->env.multis[lane], MESSAGES_MAX, fetch_transfer_done, f);
            starved |= curl_uv_starved(p->env.multis[lane]);
            pending |= curl_uv_pending(p->env.multis[lane]);
        }
    }
    if (starved)
        make_room(f);
    return pending;
}

/* Members a second while there is work; idle time says nothing. A window ends after a second, or when
 * the last member has. */
static void measure_rate(struct fetch *f)
{
    int64_t now = clock_us(), passed = now - f->rate_since_us;
    int64_t n = f->finished - f->rate_finished;
    bool idle = sched_running(f->sched) == 0;
    bool full = passed >= US_PER_S || (idle && passed >= RATE_WINDOW_MIN_US);
    if (!full && !idle)
        return;
    if (full && n > 0) {
        double seen = (double)n * 1e6 / (double)passed;
        f->rate = f->rate == 0 ? seen : 0.7 * f->rate + 0.3 * seen;
    }
    f->rate_finished = f->finished;
    f->rate_since_us = now;
}

bool fetch_turn(struct fetch *f)
{
    resolve_turn(f->resolve);
    bool pending = run_pools(f);
    run_deadlines(f);
    run_closings(f);
    run_ended(f);
    dispatch_ready(f);
    arm_timer(f);
    if (sched_running(f->sched) > 0)
        arm_sweep(f);
    measure_rate(f);
    return pending || !list_empty(&f->closing) || !list_empty(&f->ended) || sched_ready(f->sched);
}

/* --- life --- */

static struct resolve *create_resolver(struct fetch *f, const char **why)
{
    const struct resolve_params params = {
        .loop = f->params.loop,
        .lookups = (int)f->params.limits->lookups,
        .servers = (const char *const *)f->params.config->dns_servers.items,
        .server_count = f->params.config->dns_servers.count,
        .wake = f->params.wake,
        .arg = f->params.wake_arg,
    };
    return resolve_create(&params, why);
}

struct fetch *fetch_create(const struct fetch_params *params, const char **why)
{
    struct fetch *f = calloc(1, sizeof *f);
    *why = "out of memory";
    if (f == NULL)
        return NULL;
    f->params = *params;
    f->slots = slots_create((int)params->limits->in_flight, 1);
    const struct sched_params sched = {f->slots, .limit_origin = (int)params->limits->per_host};
    f->sched = f->slots != NULL ? sched_create(&sched) : NULL;
    f->resolve = f->sched != NULL ? create_resolver(f, why) : NULL;
    if (f->resolve == NULL) {
        sched_destroy(f->sched);
        slots_destroy(f->slots);
        free(f);
        return NULL;
    }
    list_init(&f->pools);
    list_init(&f->closing);
    list_init(&f->ended);
    uv_timer_init(params->loop, &f->timer);
    uv_timer_init(params->loop, &f->sweep_timer);
    f->timer.data = f->sweep_timer.data = f;
    f->timer_at_us = TIME_NULL;
    f->rate_since_us = clock_us();
    return f;
}

static void part_closed(void *arg)
{
    struct fetch *f = arg;
    if (--f->open_parts > 0)
        return;
    void (*closed)(void *arg) = f->closed;
    void *closed_arg = f->closed_arg;
    heap_fini(&f->deadlines);
    sched_destroy(f->sched);
    slots_destroy(f->slots);
    free(f);
    closed(closed_arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

void fetch_close(struct fetch *f, void (*closed)(void *arg), void *arg)
{
    struct list *node;
    assert(list_empty(&f->ended) && list_empty(&f->closing));
    f->closed = closed;
    f->closed_arg = arg;
    f->open_parts = 4; /* two timers, the resolver, and this function */
    while ((node = list_pop(&f->pools)) != NULL) {
        f->open_parts += TRANSFER_LANES;
        pool_close(LIST_CONTAINER(node, struct fetch_pool, node), part_closed);
    }
    resolve_close(f->resolve, part_closed, f);
    uv_close((uv_handle_t *)&f->timer, on_timer_closed);
    uv_close((uv_handle_t *)&f->sweep_timer, on_timer_closed);
    part_closed(f);
}

struct sched_batch *fetch_join(struct fetch *f, const char *identity, struct slots *slots,
                               int limit_per_host)
{
    return sched_batch_join(f->sched, identity, slots, limit_per_host);
}

void fetch_content_free(struct fetch *f, struct result *r)
{
    if (r->extra != NULL)
        f->answer_held -= (int64_t)r->extra->held_bytes;
    result_drop_extra(r);
}

void fetch_result_free(struct fetch *f, struct result *r)
{
    fetch_content_free(f, r);
    result_fini(r);
}

size_t fetch_waiting(const struct fetch *f)
{
    return sched_waiting(f->sched);
}

size_t fetch_active(const struct fetch *f)
{
    return sched_running(f->sched);
}

double fetch_rate(const struct fetch *f)
{
    int64_t passed = clock_us() - f->rate_since_us, n = f->finished - f->rate_finished;
    double live = passed >= RATE_WINDOW_MIN_US ? (double)n * 1e6 / (double)passed : 0;
    double rate = live > f->rate ? live : f->rate;
    return rate > 1 ? rate : 1;
}

void fetch_gauge(struct fetch *f)
{
    struct metrics *m = f->params.metrics;
    struct resolve_stats dns;
    resolve_get_stats(f->resolve, &dns);
    metrics_set(m, METRIC_MEMBERS_QUEUED, (int64_t)fetch_waiting(f));
    metrics_set(m, METRIC_MEMBERS_ACTIVE, (int64_t)fetch_active(f));
    metrics_set(m, METRIC_DNS_LOOKUPS, dns.lookups);
    metrics_set(m, METRIC_DNS_CACHE_HITS, dns.cache_hits);
    metrics_set(m, METRIC_ANSWER_BYTES_HELD, f->answer_held);
}

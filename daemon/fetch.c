/* SPDX-License-Identifier: MIT
 *
 * fetch - the engine; see fetch.h, fetch_group.c for what the jobs of a batch have in common,
 * fetch_hop.c for what happens to a job that runs, and fetch_pool.c for what it runs on. Called by
 * shard on the engine's thread; calls shard back.
 *
 * A job moves QUEUED -> ACTIVE -> (QUEUED again for the next hop of a redirect, here or in another
 * engine, or for the same one) -> ENDED -> IDLE. While QUEUED or ACTIVE it stands on its group's
 * part, so that a batch's deadline finds its jobs; a waiting job holds no slot, an active one holds
 * daemon, batch and origin slot from dispatch to the end of the hop. A job that is cut while active
 * ends at once: its slots and what libcurl still does for it stay with the transfer, on a list of
 * its own, and are given up in slices.
 *
 * Time is tiled: a hop ends at the microsecond at which the next wait begins, so queue and work sum
 * up to the member's total without a gap. Deadlines are ours (one heap, one timer): the earliest
 * that can apply is set at dispatch and judged again when it fires, so that the common transfer,
 * which ends long before, costs one insertion and one removal.
 */
#include "fetch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fetch_internal.h"
#include "held.h"
#include "log.h"

/* Bounds of one turn: launches by what they cost, cancels, removals (12 us plain, 57 us TLS),
 * `done` calls. */
enum { CANCELS_MAX = 4096, CLOSINGS_MAX = 32, DONES_MAX = 2048 };

enum {
    HOLD_US = 100 * US_PER_MS,     /* after a want of descriptors, before the next starts */
    SAID_AGAIN_US = 10 * US_PER_S, /* without one, before another is news */
};

/* --- states --- */

struct target fetch_target(const struct fetch_job *job)
{
    return job->next != NULL ? *job->next : target_of(job->member);
}

/* What the result says of the last hop outlives it, and so does what was charged for it. */
static void drop_next(struct fetch *f, struct fetch_job *job)
{
    if (job->next == NULL)
        return;
    job->result.url_effective = fetch_keep_text(f, job, job->next->text);
    target_fini(job->next);
    free(job->next);
    job->next = NULL;
}

/* The mover: from whatever state to ENDED; the result is final. Another engine may take the slots
 * the moment they are released: what this one did with them is over by then. */
void fetch_end_job(struct fetch *f, struct fetch_job *job)
{
    assert(job->result.state != MEMBER_PENDING);
    assert(job->state != FETCH_ENDED);
    list_remove(&job->node);
    heap_remove(&f->deadlines, &job->deadline);
    if (job->group->stop_on_error && !job->result.ok)
        atomic_store(&job->group->stopped, true);
    drop_next(f, job);
    if (job->transfer != NULL)
        fetch_give_back_transfer(fetch_pool_of(f, job), job->transfer);
    job->transfer = NULL;
    sched_release(&job->entry);
    job->state = FETCH_ENDED;
    list_append(&f->ended, &job->node);
}

/* A running job leaves its slots, and what it still holds of libcurl is given back later. */
static void abandon_transfer(struct fetch *f, struct fetch_job *job)
{
    struct transfer *t = job->transfer;
    job->transfer = NULL;
    transfer_abandon(t);
    t->group = job->group;
    sched_move(&job->entry, &t->slots);
    list_remove(&t->node);
    list_append(&f->closing, &t->node);
}

void fetch_set_error(struct result *r, enum err_type type, enum phase phase)
{
    r->ok = false;
    r->error.type = type;
    r->error.phase = phase;
}

void fetch_set_denial(struct fetch *f, struct fetch_job *job, const struct verdict *v,
                      enum phase phase)
{
    struct result *r = &job->result;
    r->state = MEMBER_DENIED;
    fetch_set_error(r, v->type, phase);
    r->error.message = fetch_keep_text(f, job, v->message);
    r->error.rule = fetch_keep_text(f, job, v->rule);
}

/* Closes the account of a job that is waiting: what passed since it joined the queue is queue. */
void fetch_account_wait(struct fetch_job *job, int64_t now_us)
{
    if (now_us < job->waiting_since_us)
        now_us = job->waiting_since_us;
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
    job->result.error.message = message;
    fetch_end_job(f, job);
}

/* --- submit --- */

bool fetch_queue_job(struct fetch *f, struct fetch_job *job, bool front)
{
    struct fetch_part *part = fetch_part_of(f, job->group);
    if (!fetch_join_part(f, job->group) ||
        !sched_push(part->sched, fetch_target(job).origin->key, &job->entry, front))
        return false;
    job->state = FETCH_QUEUED;
    const int64_t wait_us = job->member->opts->queue_timeout_us;
    return wait_us < 0 ||
           heap_set(&f->deadlines, &job->deadline,
                    (job->starved_since_us > 0 ? job->starved_since_us : job->waiting_since_us) +
                        wait_us);
}

static void cancel_waiting(struct fetch *f, struct fetch_job *job, enum err_type why)
{
    fetch_account_wait(job, clock_us());
    job->result.state = MEMBER_CANCELLED;
    fetch_set_error(&job->result, why, PHASE_QUEUE);
    fetch_end_job(f, job);
}

/* The first of the four checks, on what stands in the URL; for a redirect it was asked already. */
static bool may_fetch(struct fetch *f, const struct fetch_job *job, struct verdict *v)
{
    const struct policy_hop hop = fetch_policy_hop(job);
    return job->next != NULL || policy_check_host(fetch_pool_of(f, job)->env.policy, &hop,
                                                  &fetch_target(job).origin->ip, v);
}

static void begin_job(struct fetch_job *job)
{
    struct result *r = &job->result;
    struct target to = target_of(job->member);
    result_init(r);
    list_init(&job->entry.node);
    job->method = job->member->opts->method;
    job->waiting_since_us = job->group->queued_us;
    job->starved_since_us = 0;
    if (to.origin == NULL)
        return;
    r->url_effective = to.text;
    r->https = to.origin->https;
}

void fetch_submit(struct fetch *f, struct fetch_job *job)
{
    struct fetch_part *part = fetch_part_of(f, job->group);
    struct verdict v;
    assert(job->state == FETCH_IDLE);
    if (job->next == NULL)
        begin_job(job);
    job->state = FETCH_QUEUED;
    list_append(&part->jobs, &job->node);
    if (part->cancelled != ERR_NONE) {
        cancel_waiting(f, job, part->cancelled);
    } else if (fetch_target(job).origin == NULL) {
        fetch_fail_waiting(f, job, ERR_URL_INVALID, job->member->why);
    } else if (!may_fetch(f, job, &v)) {
        fetch_account_wait(job, clock_us());
        fetch_set_denial(f, job, &v, PHASE_QUEUE);
        fetch_end_job(f, job);
    } else if (!fetch_queue_job(f, job, job->next != NULL)) {
        fetch_fail_waiting(f, job, ERR_PROXY_INTERNAL_ERROR, "out of memory");
    }
    f->params.wake(f->params.arg);
}

bool fetch_move_job(struct fetch *f, struct fetch_job *job)
{
    struct fetch_group *group = job->group;
    enum fetch_state state = job->state;
    list_remove(&job->node);
    job->state = FETCH_IDLE;
    if (f->params.moves(f->params.arg, job, fetch_target(job).origin)) {
        fetch_leave_part(f, group);
        return true;
    }
    job->state = state;
    list_append(&fetch_part_of(f, group)->jobs, &job->node);
    return false;
}

/* --- deadlines --- */

static void on_timer(uv_timer_t *timer);

/* One uv timer serves the heap; it is only ever moved to an earlier time, a late look is corrected
 * when it fires. */
static void arm_timer(struct fetch *f)
{
    const struct heap_node *first = heap_min(&f->deadlines), *cut = heap_min(&f->cuts);
    int64_t at_us = f->held_until_us != 0 ? f->held_until_us : INT64_MAX;
    if (first != NULL && first->key < at_us)
        at_us = first->key;
    if (cut != NULL && cut->key < at_us)
        at_us = cut->key;
    if (at_us == INT64_MAX || (f->timer_at_us != TIME_NULL && f->timer_at_us <= at_us))
        return;
    int64_t wait_us = at_us - clock_us();
    f->timer_at_us = at_us;
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
    abandon_transfer(f, job); /* hundreds may be due at once */
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

/* A batch's deadline is kept by each engine for what it has of it: nobody waits to be told. */
static void run_cuts(struct fetch *f)
{
    int64_t now = clock_us();
    struct heap_node *first;
    while ((first = heap_min(&f->cuts)) != NULL && first->key <= now) {
        struct fetch_part *part = LIST_CONTAINER(first, struct fetch_part, cut);
        heap_remove(&f->cuts, first);
        fetch_cancel(f, part->group, ERR_DEADLINE_EXCEEDED);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct fetch *f = timer->data;
    f->timer_at_us = TIME_NULL;
    f->params.wake(f->params.arg);
}

/* --- cancel --- */

static void cancel_active(struct fetch *f, struct fetch_job *job, enum err_type why)
{
    enum phase last = fetch_account_hop(f, job, clock_us());
    job->result.state = MEMBER_CANCELLED;
    fetch_set_error(&job->result, why, last);
    abandon_transfer(f, job);
    fetch_end_job(f, job);
}

static void pause_part(struct fetch_part *part, bool paused)
{
    if (part->sched != NULL)
        sched_batch_pause(part->sched, paused);
}

/* From now on nothing of it starts, however many turns the cancels take: neither on a slot that is
 * free nor on one that an active job leaves. */
void fetch_cancel(struct fetch *f, struct fetch_group *group, enum err_type why)
{
    struct fetch_part *part = fetch_part_of(f, group);
    if (part->cancelled != ERR_NONE)
        return;
    part->cancelled = why;
    pause_part(part, true);
    if (!list_empty(&part->jobs))
        list_append(&f->cancelling, &part->cancelling);
    f->params.wake(f->params.arg);
}

static void cancel_job(struct fetch *f, struct fetch_job *job, enum err_type why)
{
    if (job->state == FETCH_QUEUED)
        cancel_waiting(f, job, why);
    else
        cancel_active(f, job, why);
}

/* At most n of the part's jobs; returns how many are left of n. */
static size_t cancel_some(struct fetch *f, struct fetch_part *part, size_t n)
{
    while (n > 0 && !list_empty(&part->jobs)) {
        cancel_job(f, LIST_CONTAINER(part->jobs.next, struct fetch_job, node), part->cancelled);
        n--;
    }
    return n;
}

static void run_cancels(struct fetch *f)
{
    size_t budget = CANCELS_MAX;
    while (budget > 0 && !list_empty(&f->cancelling)) {
        struct fetch_part *part =
            LIST_CONTAINER(f->cancelling.next, struct fetch_part, cancelling);
        budget = cancel_some(f, part, budget);
        if (list_empty(&part->jobs))
            list_remove(&part->cancelling);
    }
}

/* The transfer may be freed with it, so its slots are in other hands until it is closed. */
static void close_transfer(struct fetch *f, struct transfer *t)
{
    struct fetch_group *group = t->group;
    struct sched_entry slots = {.state = ENTRY_IDLE};
    sched_move(&t->slots, &slots);
    t->group = NULL;
    fetch_give_back_transfer(&f->pools[group->pool], t);
    sched_release(&slots);
    fetch_leave_part(f, group);
}

static void run_closings(struct fetch *f)
{
    struct list *node;
    for (int i = 0; i < CLOSINGS_MAX && (node = list_pop(&f->closing)) != NULL; i++)
        close_transfer(f, LIST_CONTAINER(node, struct transfer, node));
}

void fetch_pause(struct fetch *f, struct fetch_group *group, bool paused)
{
    struct fetch_part *part = fetch_part_of(f, group);
    if (part->cancelled != ERR_NONE)
        return;
    part->paused = paused;
    pause_part(part, paused);
    f->params.wake(f->params.arg); /* it may launch now: nothing else would say so */
}

void fetch_wake(struct fetch *f)
{
    sched_wake(f->sched);
    f->params.wake(f->params.arg);
}

/* --- idle connections --- */

static void on_sweep_timer(uv_timer_t *timer);

/* Runs while there may be a connection to be closed: from a launch until none is open. */
static void arm_sweep(struct fetch *f)
{
    uint64_t every_ms = (uint64_t)(f->params.config->idle_time_us / US_PER_MS / 4);
    if (every_ms < 1000 || fetch_has_retired(f))
        every_ms = 1000;
    if (!uv_is_active((uv_handle_t *)&f->sweep_timer))
        uv_timer_start(&f->sweep_timer, on_sweep_timer, every_ms, 0);
}

static void on_sweep_timer(uv_timer_t *timer)
{
    struct fetch *f = timer->data;
    if (fetch_sweep_pools(f))
        arm_sweep(f);
    else
        f->params.rested(f->params.arg);
    f->params.wake(f->params.arg);
}

void fetch_rearm_sweep(struct fetch *f)
{
    if (!uv_is_active((uv_handle_t *)&f->sweep_timer))
        return;
    uv_timer_stop(&f->sweep_timer);
    arm_sweep(f);
}

/* --- the turn --- */

void fetch_hold_starts(struct fetch *f, bool starved)
{
    int64_t now = clock_us();
    f->held_until_us = now + HOLD_US;
    if (!starved)
        return;
    if (f->starved_us == 0 || now - f->starved_us > SAID_AGAIN_US)
        LOG_WARN("fetch", "error=\"no descriptor left for a connection\" "
                          "action=\"idle ones are closed, members wait\"");
    f->starved_us = now;
}

bool fetch_is_held(const struct fetch *f)
{
    return f->held_until_us != 0 && clock_us() < f->held_until_us;
}

bool fetch_is_starved(const struct fetch *f)
{
    return f->starved_us != 0 && clock_us() - f->starved_us < US_PER_S;
}

/* Those looked up already wait in the queue meanwhile, where no time-out of theirs runs. */
static void put_named_back(struct fetch *f)
{
    while (!list_empty(&f->named)) { /* each before the others of its origin: the last one first */
        struct list *node = f->named.prev;
        list_remove(node);
        fetch_put_back(f, LIST_CONTAINER(node, struct transfer, node)->owner);
    }
}

static void dispatch_ready(struct fetch *f)
{
    struct sched_entry *e;
    struct list *node;
    if (fetch_is_held(f)) {
        put_named_back(f);
        return;
    }
    f->held_until_us = 0;
    while (f->launch_spent < FETCH_LAUNCH_BUDGET && (node = list_pop(&f->named)) != NULL) {
        struct transfer *t = LIST_CONTAINER(node, struct transfer, node);
        f->launch_spent += fetch_launch_named(f, t->owner);
    }
    while (f->launch_spent < FETCH_LAUNCH_BUDGET && (e = sched_next(f->sched)) != NULL) {
        struct fetch_job *job = LIST_CONTAINER(e, struct fetch_job, entry);
        if (atomic_load(&job->group->stopped)) {
            cancel_waiting(f, job, ERR_CANCELLED);
            f->launch_spent++;
        } else {
            f->launch_spent += fetch_dispatch(f, job);
        }
    }
}

static void count_job(struct fetch *f, const struct result *r)
{
    struct metrics *m = f->params.metrics;
    metrics_add(m, r->state == MEMBER_DONE     ? METRIC_MEMBERS_DONE
                   : r->state == MEMBER_FAILED ? METRIC_MEMBERS_FAILED
                   : r->state == MEMBER_DENIED ? METRIC_MEMBERS_DENIED
                                               : METRIC_MEMBERS_CANCELLED, 1);
    if (r->error.type != ERR_NONE)
        metrics_add_error(m, r->error.type);
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
    assert(total == job->result.end_us - job->group->queued_us);
#endif
    (void)job;
}

static void run_ended(struct fetch *f)
{
    struct list *node;
    for (int i = 0; i < DONES_MAX && (node = list_pop(&f->ended)) != NULL; i++) {
        struct fetch_job *job = LIST_CONTAINER(node, struct fetch_job, node);
        struct fetch_group *group = job->group;
        check_sum(job);
        count_job(f, &job->result);
        job->state = FETCH_IDLE;
        fetch_leave_part(f, group);
        f->params.done(f->params.arg, job);
    }
}

bool fetch_turn(struct fetch *f)
{
    f->launch_spent = 0;
    resolve_turn(f->resolve);
    bool pending = fetch_run_pools(f);
    run_deadlines(f);
    run_cuts(f);
    run_cancels(f);
    run_closings(f);
    run_ended(f);
    dispatch_ready(f);
    arm_timer(f);
    if (sched_running(f->sched) > 0)
        arm_sweep(f);
    return pending || !list_empty(&f->closing) || !list_empty(&f->ended) ||
           !list_empty(&f->cancelling) ||
           (f->held_until_us == 0 && (!list_empty(&f->named) || sched_ready(f->sched)));
}

/* --- life --- */

/* Shared out among the engines so that they have no more together, but each at least one. */
static int share_of_lookups(const struct fetch *f)
{
    int64_t share = f->params.limits->lookups / (int64_t)f->params.engines;
    return share > 0 ? (int)share : 1;
}

static struct resolve *create_resolver(struct fetch *f, const char **why)
{
    const struct resolve_params params = {
        .loop = f->params.loop,
        .lookups = share_of_lookups(f),
        .servers = (const char *const *)f->params.config->dns_servers.items,
        .server_count = f->params.config->dns_servers.count,
        .cache = f->params.names,
        .wake = f->params.wake,
        .arg = f->params.arg,
    };
    return resolve_create(&params, why);
}

static struct sched *create_sched(const struct fetch_params *params)
{
    const struct sched_params sched = {
        .daemon = params->slots,
        .loop = (int)params->index,
        .limit_origin = (int)params->limits->per_host,
        .wake_others = params->wake_others,
        .arg = params->arg,
    };
    return sched_create(&sched);
}

struct fetch *fetch_create(const struct fetch_params *params, const char **why)
{
    struct fetch *f = calloc(1, sizeof *f);
    *why = "out of memory";
    if (f == NULL)
        return NULL;
    f->params = *params;
    f->sched = create_sched(params);
    bool ready = upstreams_init(&f->upstreams) && f->sched != NULL;
    f->resolve = ready ? create_resolver(f, why) : NULL;
    if (f->resolve == NULL) {
        upstreams_fini(&f->upstreams);
        sched_destroy(f->sched);
        free(f);
        return NULL;
    }
    local_init(&f->local);
    list_init(&f->ended);
    list_init(&f->cancelling);
    list_init(&f->closing);
    list_init(&f->named);
    uv_timer_init(params->loop, &f->timer);
    uv_timer_init(params->loop, &f->sweep_timer);
    f->timer.data = f->sweep_timer.data = f;
    f->timer_at_us = TIME_NULL;
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
    heap_fini(&f->cuts);
    upstreams_fini(&f->upstreams);
    sched_destroy(f->sched);
    local_fini(&f->local);
    free(f);
    closed(closed_arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

void fetch_close(struct fetch *f, void (*closed)(void *arg), void *arg)
{
    while (!list_empty(&f->closing))
        run_closings(f);
    assert(list_empty(&f->ended));
    f->closed = closed;
    f->closed_arg = arg;
    f->open_parts = 4; /* two timers, the resolver, and this function */
    f->open_parts += fetch_close_pools(f, part_closed); /* they call back in a later turn */
    resolve_close(f->resolve, part_closed, f);
    uv_close((uv_handle_t *)&f->timer, on_timer_closed);
    uv_close((uv_handle_t *)&f->sweep_timer, on_timer_closed);
    part_closed(f);
}

void fetch_reload(struct fetch *f, const struct config_fetch *config,
                  const struct config_limits *limits)
{
    f->params.config = config;
    f->params.limits = limits;
    fetch_reload_pools(f);
    fetch_rearm_sweep(f);
    sched_set_limit_origin(f->sched, (int)limits->per_host);
    resolve_reload(f->resolve);
    f->params.wake(f->params.arg);
}

void fetch_content_free(struct result *r, atomic_llong *held)
{
    if (r->extra != NULL)
        held_let_go(held, (long long)r->extra->held_bytes);
    result_drop_extra(r);
}

void fetch_gauge(struct fetch *f)
{
    struct metrics *m = f->params.metrics;
    struct resolve_stats dns;
    resolve_get_stats(f->resolve, &dns);
    metrics_set(m, METRIC_DNS_LOOKUPS, dns.lookups);
    metrics_set(m, METRIC_DNS_CACHE_HITS, dns.cache_hits);
}

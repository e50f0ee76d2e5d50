/* SPDX-License-Identifier: MIT
 *
 * fetch - the engine; see fetch.h. Called by batch (submit, cancel) and by the turn's end
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
#include <strings.h>

#include "clock.h"
#include "curl_err.h"
#include "curl_uv.h"
#include "log.h"
#include "resolve.h"
#include "transfer.h"
#include "url.h"

/* Bounds of one turn: launches by what they cost (a warm start some 20 us, a TLS handshake 400 to 900
 * us), messages, removals (12 us plain, 57 us TLS) and `done` calls. */
enum {
    LAUNCH_BUDGET = 64,
    LAUNCH_COST_PLAIN = 1,
    LAUNCH_COST_TLS = 4,
    MESSAGES_MAX = 128,
    CLOSINGS_MAX = 32,
    DONES_MAX = 512,
    URLS_KEPT_MAX = 2048, /* parsed URLs kept for waiting jobs; beyond, they are parsed again */
};

struct fetch_pool {
    struct list node;
    struct fetch *engine;
    struct transfer_env env;
    struct list idle; /* struct transfer */
    size_t idle_count;
};

struct fetch {
    struct fetch_params params;
    struct sched *sched;
    struct resolve *resolve;
    struct list pools;
    struct list closing, ended; /* struct fetch_job */
    struct heap deadlines;
    uv_timer_t timer, sweep_timer;
    int64_t timer_at_us; /* TIME_NULL = not armed */
    int64_t answer_held;
    size_t urls_kept;
    int64_t finished, rate_finished, rate_since_us; /* throughput, for Retry-After */
    double rate;
    size_t open_parts; /* parts of the engine not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- pools of transfers --- */

static long max_connects(const struct fetch *f)
{
    return (long)(f->params.limits->in_flight + f->params.config->idle_connections);
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
        .multi = curl_uv_create(&params),
        .policy = policy,
        .fetch = f->params.config,
        .limits = f->params.limits,
        .answer_held = &f->answer_held,
    };
    if (p->env.multi == NULL) {
        free(p);
        return NULL;
    }
    p->engine = f;
    list_init(&p->idle);
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
    const struct sched_limits sched = {(int)limits->in_flight, (int)limits->per_host};
    struct list *node, *next;
    f->params.config = config;
    f->params.limits = limits;
    LIST_FOREACH_SAFE(node, next, &f->pools) {
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        p->env.fetch = config;
        p->env.limits = limits;
        curl_uv_set_max_connects(p->env.multi, max_connects(f));
    }
    sched_set_limits(f->sched, &sched);
    resolve_reload(f->resolve);
    f->params.wake(f->params.wake_arg);
}

static struct transfer *transfer_take(struct fetch_pool *p)
{
    struct list *node = list_pop(&p->idle);
    if (node == NULL)
        return transfer_create(&p->env);
    p->idle_count--;
    return LIST_CONTAINER(node, struct transfer, node);
}

static void transfer_give_back(struct fetch_pool *p, struct transfer *t)
{
    transfer_end(t);
    if (p->idle_count >= (size_t)p->env.limits->in_flight) {
        transfer_destroy(t);
        return;
    }
    list_prepend(&p->idle, &t->node);
    p->idle_count++;
}

static void pool_drop_idle(struct fetch_pool *p)
{
    struct list *node;
    while ((node = list_pop(&p->idle)) != NULL)
        transfer_destroy(LIST_CONTAINER(node, struct transfer, node));
    p->idle_count = 0;
}

/* --- states --- */

static void job_drop_url(struct fetch *f, struct fetch_job *job)
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
static void job_end(struct fetch *f, struct fetch_job *job)
{
    assert(job->result.state != MEMBER_PENDING);
    assert(job->state != FETCH_ENDED && job->state != FETCH_IDLE);
    list_remove(&job->node);
    heap_remove(&f->deadlines, &job->deadline);
    sched_release(&job->entry);
    job_drop_url(f, job);
    if (job->transfer != NULL)
        transfer_give_back(job->pool, job->transfer);
    job->transfer = NULL;
    job->state = FETCH_ENDED;
    list_append(&f->ended, &job->node);
}

static void set_error(struct result *r, enum err_type type, enum phase phase)
{
    r->ok = false;
    r->error.type = type;
    r->error.phase = phase;
}

static void set_message(struct result *r, const char *text)
{
    free(r->error.message);
    r->error.message = text != NULL && text[0] != '\0' ? strdup(text) : NULL;
}

static void set_denial(struct result *r, const struct verdict *v, enum phase phase)
{
    r->state = MEMBER_DENIED;
    set_error(r, v->type, phase);
    set_message(r, v->message);
    free(r->error.rule);
    r->error.rule = strdup(v->rule);
}

/* Closes the account of a job that is waiting: what passed since it joined the queue is queue. */
static void account_wait(struct fetch_job *job, int64_t now_us)
{
    timings_add(&job->result.timings, PHASE_QUEUE, now_us - job->waiting_since_us);
    job->waiting_since_us = now_us;
    job->result.end_us = now_us;
}

static void fail_waiting(struct fetch *f, struct fetch_job *job, enum err_type type,
                         const char *message)
{
    account_wait(job, clock_us());
    job->result.state = MEMBER_FAILED;
    set_error(&job->result, type, PHASE_QUEUE);
    set_message(&job->result, message);
    job_end(f, job);
}

/* --- submit --- */

static void note_url(struct fetch_job *job, const struct url *url)
{
    free(job->result.url_effective);
    job->result.url_effective = strdup(url->text);
    job->result.https = url->https;
}

static bool queue_job(struct fetch *f, struct fetch_job *job, struct url *url, bool front)
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
        fail_waiting(f, job, ERR_URL_INVALID, why);
        return;
    }
    note_url(job, &url);
    if (!policy_check_host(job->pool->env.policy, url.host, &url.ip, url.port, &v)) {
        account_wait(job, clock_us());
        set_denial(&job->result, &v, PHASE_QUEUE);
        job_end(f, job);
    } else if (!queue_job(f, job, &url, false)) {
        fail_waiting(f, job, ERR_PROXY_INTERNAL_ERROR, "out of memory");
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

/* --- the end of a hop --- */

static struct result_hop *add_hop(struct result *r)
{
    struct result_extra *x = result_extra(r);
    if (x == NULL)
        return NULL;
    struct result_hop *hops = realloc(x->hops, (x->hop_count + 1) * sizeof *hops);
    if (hops == NULL)
        return NULL;
    x->hops = hops;
    return &hops[x->hop_count++];
}

/* include=redirects: the hop as it was, before the next one changes the result's fields. */
static void record_hop(struct fetch_job *job, const struct transfer *t, enum phase last)
{
    struct result *r = &job->result;
    struct result_hop *hop = (job->include & INCLUDE_REDIRECTS) != 0 ? add_hop(r) : NULL;
    if (hop == NULL)
        return;
    *hop = (struct result_hop){
        .url = strdup(t->url.text),
        .status = t->status,
        .remote_ip = r->remote_ip,
        .remote_port = r->remote_port,
    };
    timings_clear(&hop->timings);
    hop_timings(&t->marks, last, &hop->timings);
}

/* Takes the hop's time and sizes; the transfer still exists. */
static enum phase account_hop(struct fetch *f, struct fetch_job *job, int64_t now_us)
{
    struct transfer *t = job->transfer;
    enum phase last = transfer_account(t, now_us);
    if (t->marks.first_byte != TIME_NULL) {
        int64_t first = t->marks.first_byte < now_us ? t->marks.first_byte : now_us;
        job->result.ttfb_us = job->work_us + (first - job->dispatched_us);
    }
    job->result.error.sent |= t->sends > 0;
    job->work_us += now_us - job->dispatched_us;
    job->result.end_us = now_us;
    metrics_add(f->params.metrics, METRIC_FETCH_HOPS, t->sends);
    if (t->opened_us != TIME_NULL)
        metrics_add(f->params.metrics, METRIC_FETCH_CONNECTS, 1);
    else if (t->sends > 0)
        metrics_add(f->params.metrics, METRIC_FETCH_REUSED, 1);
    return last;
}

static void finish_done(struct fetch *f, struct fetch_job *job)
{
    struct result *r = &job->result;
    transfer_finish_content(job->transfer);
    r->truncated = job->transfer->cut == CUT_BODY;
    r->state = MEMBER_DONE;
    r->ok = r->status < 400;
    r->error = (struct result_error){.type = ERR_NONE};
    job_end(f, job);
}

static void finish_failed(struct fetch *f, struct fetch_job *job, enum err_type type,
                          enum phase phase, const char *message)
{
    struct result *r = &job->result;
    r->state = MEMBER_FAILED;
    set_error(r, type, phase);
    set_message(r, message);
    job_end(f, job);
}

/* --- redirects --- */

/* RFC 9110, 15.4, as browsers do it: 303 makes everything but HEAD a GET, 301 and 302 make a POST one. */
static void redirect_method(struct fetch_job *job, int status)
{
    bool head = strcmp(job->method, "HEAD") == 0;
    bool post = strcmp(job->method, "POST") == 0;
    if ((status == 303 && !head) || ((status == 301 || status == 302) && post)) {
        job->method = "GET";
        job->without_body = true;
    }
}

static bool redirect_wanted(const struct fetch_job *job, const struct transfer *t)
{
    int s = t->status;
    bool is_redirect = s == 301 || s == 302 || s == 303 || s == 307 || s == 308;
    return is_redirect && t->location != NULL && job->member->opts->max_redirects > 0;
}

/* What described the answer that led on; the next hop fills it anew. */
static void forget_answer(struct result *r)
{
    r->status = 0;
    r->http_version = 0;
    r->remote_ip = (struct ip_addr){0};
    r->remote_port = 0;
    r->ttfb_us = TIME_NULL;
}

/* Out of libcurl, slots given back, into the queue again for the next hop's origin. */
static void requeue(struct fetch *f, struct fetch_job *job, struct url *next)
{
    heap_remove(&f->deadlines, &job->deadline);
    sched_release(&job->entry);
    transfer_give_back(job->pool, job->transfer);
    job->transfer = NULL;
    job->waiting_since_us = job->result.end_us;
    job->state = FETCH_QUEUED;
    if (!queue_job(f, job, next, true))
        fail_waiting(f, job, ERR_PROXY_INTERNAL_ERROR, "out of memory");
}

static void follow_redirect(struct fetch *f, struct fetch_job *job, enum phase last)
{
    struct transfer *t = job->transfer;
    struct url next;
    struct verdict v;
    const char *why = NULL;
    if (job->result.num_redirects >= job->member->opts->max_redirects) {
        finish_failed(f, job, ERR_TOO_MANY_REDIRECTS, last, NULL);
        return;
    }
    if (!url_resolve(&t->url, t->location, strlen(t->location), &next, &why)) {
        finish_failed(f, job, ERR_URL_INVALID, last, why);
        return;
    }
    record_hop(job, t, last);
    job->result.num_redirects++;
    job->left_origin |= !url_same_origin(&t->url, &next);
    redirect_method(job, t->status);
    forget_answer(&job->result);
    note_url(job, &next);
    if (!policy_check_host(job->pool->env.policy, next.host, &next.ip, next.port, &v)) {
        set_denial(&job->result, &v, PHASE_QUEUE);
        job_end(f, job);
    } else {
        requeue(f, job, &next);
    }
    url_fini(&next);
}

/* --- a transfer has ended --- */

static void end_cut(struct fetch *f, struct fetch_job *job, enum phase last)
{
    struct transfer *t = job->transfer;
    switch (t->cut) {
    case CUT_POLICY:
        set_denial(&job->result, &t->verdict, last);
        job_end(f, job);
        return;
    case CUT_HEAD:
        finish_failed(f, job, ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, last, NULL);
        return;
    case CUT_FOLDED:
        finish_failed(f, job, ERR_HTTP_PROTOCOL_ERROR, last, "the head begins with a folded line");
        return;
    case CUT_RESENT:
        finish_failed(f, job, ERR_CONNECTION_TERMINATED, last,
                      "the connection died after the request was sent; it is not idempotent, so it "
                      "was not sent again");
        return;
    default:
        finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, last, "out of memory");
    }
}

/* libcurl keeps the errno of earlier transfers of a handle: only a failed system call has one. */
static int os_errno_of(const struct transfer *t, CURLcode code)
{
    long os_errno = t->os_errno;
    bool lost = code == CURLE_RECV_ERROR && strncmp(t->message, "Recv failure", 12) == 0;
    if (os_errno == 0 && (code == CURLE_COULDNT_CONNECT || code == CURLE_SEND_ERROR || lost))
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
    return (int)os_errno;
}

static void end_error(struct fetch *f, struct fetch_job *job, CURLcode code, enum phase last)
{
    struct transfer *t = job->transfer;
    int os_errno = os_errno_of(t, code);
    job->result.error.exitcode = (int)code;
    job->result.error.os_errno = os_errno;
    enum err_type type = curl_err_type(code, last, os_errno, t->message);
    finish_failed(f, job, type, last, t->message[0] ? t->message : curl_easy_strerror(code));
}

static void on_transfer_done(void *arg, CURL *easy, CURLcode code)
{
    struct fetch *f = arg;
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct transfer *t = (struct transfer *)(void *)private;
    struct fetch_job *job = t->owner;
    if (job == NULL || job->state != FETCH_ACTIVE)
        return; /* cut already; its removal is on the closing list */
    enum phase last = account_hop(f, job, clock_us());
    bool cut_on_purpose = t->cut == CUT_BODY || t->cut == CUT_REDIRECT;
    if (code != CURLE_OK && t->cut != CUT_NONE && !cut_on_purpose)
        end_cut(f, job, last);
    else if (code != CURLE_OK && !cut_on_purpose)
        end_error(f, job, code, last);
    else if (redirect_wanted(job, t))
        follow_redirect(f, job, last);
    else
        finish_done(f, job);
}

/* --- dispatch --- */

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

static int64_t timeout_at(const struct fetch_job *job)
{
    return job->dispatched_us + job->member->opts->timeout_us - job->work_us;
}

static int64_t connect_timeout_at(const struct fetch_job *job)
{
    return job->dispatched_us + job->member->opts->connect_timeout_us;
}

static bool set_deadline(struct fetch *f, struct fetch_job *job)
{
    int64_t whole = timeout_at(job), connect = connect_timeout_at(job);
    bool connected = transfer_connected(job->transfer);
    return heap_set(&f->deadlines, &job->deadline, connected || whole < connect ? whole : connect);
}

/* The second of the four checks: only allowed addresses reach libcurl. */
static size_t allowed_addresses(const struct fetch_job *job, const struct resolve_answer *answer,
                                struct ip_addr *out, struct verdict *v)
{
    size_t n = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (policy_check_address(job->pool->env.policy, &answer->addresses[i],
                                 job->transfer->url.port, v))
            out[n++] = answer->addresses[i];
    return n;
}

static void launch(struct fetch *f, struct fetch_job *job, const struct ip_addr *addresses, size_t n)
{
    if (transfer_launch(job->transfer, addresses, n))
        return;
    account_hop(f, job, clock_us());
    finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_CONNECT, "out of memory");
}

static void launch_answer(struct fetch *f, struct fetch_job *job,
                          const struct resolve_answer *answer)
{
    struct ip_addr addresses[RESOLVE_ADDRESSES_MAX];
    struct verdict v;
    if (answer->error != ERR_NONE) {
        account_hop(f, job, clock_us());
        finish_failed(f, job, answer->error, PHASE_DNS, answer->message);
        return;
    }
    size_t n = allowed_addresses(job, answer, addresses, &v);
    if (n == 0) {
        account_hop(f, job, clock_us());
        set_denial(&job->result, &v, PHASE_DNS);
        job_end(f, job);
        return;
    }
    launch(f, job, addresses, n);
}

static void on_resolved(struct resolve_query *q, const struct resolve_answer *answer)
{
    struct transfer *t = LIST_CONTAINER(q, struct transfer, query);
    struct fetch_job *job = t->owner;
    t->marks.dns_end = clock_us();
    launch_answer(job->pool->engine, job, answer);
}

static void look_up(struct fetch *f, struct fetch_job *job)
{
    struct transfer *t = job->transfer;
    bool failed = false;
    t->query.done = on_resolved;
    const struct resolve_answer *answer = resolve_start(f->resolve, &t->query, t->url.host, &failed);
    if (answer != NULL) {
        launch_answer(f, job, answer);
    } else if (failed) {
        account_hop(f, job, clock_us());
        finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_DNS, "out of memory");
    }
}

/* The URL of the hop: kept from submit, or parsed again from the same text. */
static bool take_url(struct fetch *f, struct fetch_job *job, struct url *out, const char **why)
{
    if (job->url == NULL)
        return url_parse(job->member->url, job->member->url_len, out, why);
    *out = *job->url;
    *job->url = (struct url){0};
    job_drop_url(f, job);
    return true;
}

static bool begin_hop(struct fetch *f, struct fetch_job *job)
{
    const struct member_opts *opts = job->member->opts;
    struct transfer_hop hop = {
        .opts = opts,
        .method = job->method,
        .send_body = opts->body != NULL && !job->without_body,
        .first_hop_origin = !job->left_origin,
        .may_follow = opts->max_redirects > 0,
        .include = job->include,
        .traceparent = job->traceparent,
        .body_cap = opts->max_response_bytes,
        .result = &job->result,
        .dispatched_us = job->dispatched_us,
    };
    const char *why = NULL;
    if (!take_url(f, job, &hop.url, &why))
        return false;
    job->transfer = transfer_take(job->pool);
    if (job->transfer == NULL) {
        url_fini(&hop.url);
        return false;
    }
    job->transfer->owner = job;
    transfer_begin(job->transfer, &hop);
    return true;
}

/* A job got its slots: its clock starts. Returns what the launch costs of the turn's budget. */
static int dispatch(struct fetch *f, struct fetch_job *job)
{
    int64_t now = clock_us();
    account_wait(job, now);
    job->state = FETCH_ACTIVE;
    job->dispatched_us = now;
    if (job->result.start_us == TIME_NULL)
        job->result.start_us = now;
    if (!begin_hop(f, job) || !set_deadline(f, job)) {
        timings_add(&job->result.timings, PHASE_CONNECT, 0);
        finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_CONNECT, "out of memory");
        return LAUNCH_COST_PLAIN;
    }
    int cost = job->transfer->url.https ? LAUNCH_COST_TLS : LAUNCH_COST_PLAIN;
    if (job->transfer->url.ip.family != 0)
        launch(f, job, NULL, 0);
    else
        look_up(f, job);
    return cost;
}

static void dispatch_ready(struct fetch *f)
{
    struct sched_entry *e;
    for (int spent = 0; spent < LAUNCH_BUDGET && (e = sched_next(f->sched)) != NULL;)
        spent += dispatch(f, LIST_CONTAINER(e, struct fetch_job, entry));
}

/* --- deadlines --- */

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
    bool whole = now_us >= timeout_at(job);
    enum phase last = account_hop(f, job, now_us);
    finish_failed(f, job, timeout_type(last), last,
                  whole ? "timeout_ms passed" : "connect_timeout_ms passed");
}

static void deadline_passed(struct fetch *f, struct fetch_job *job, int64_t now_us)
{
    if (job->state == FETCH_QUEUED) {
        fail_waiting(f, job, ERR_QUEUE_TIMEOUT, NULL);
        return;
    }
    bool connecting = !transfer_connected(job->transfer);
    if (now_us >= timeout_at(job) || (connecting && now_us >= connect_timeout_at(job)))
        time_out(f, job, now_us);
    else if (!set_deadline(f, job))
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
    account_wait(job, now_us);
    job->result.state = MEMBER_CANCELLED;
    set_error(&job->result, why, PHASE_QUEUE);
    job_end(f, job);
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
    enum phase last = account_hop(f, job, now_us > job->dispatched_us ? now_us : job->dispatched_us);
    job->result.state = MEMBER_CANCELLED;
    set_error(&job->result, why, last);
    heap_remove(&f->deadlines, &job->deadline);
    job->state = FETCH_CLOSING;
    job->transfer->cut = CUT_CLOSED;
    list_append(&f->closing, &job->node);
}

static void run_closings(struct fetch *f)
{
    struct list *node;
    for (int i = 0; i < CLOSINGS_MAX && (node = list_pop(&f->closing)) != NULL; i++)
        job_end(f, LIST_CONTAINER(node, struct fetch_job, node));
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
        if (curl_uv_sockets(p->env.multi) > 0)
            curl_uv_sweep(p->env.multi, idle_s(f));
        sockets += curl_uv_sockets(p->env.multi);
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

static bool run_pools(struct fetch *f)
{
    struct list *node, *next;
    bool pending = false;
    LIST_FOREACH_SAFE(node, next, &f->pools) {
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        curl_uv_turn(p->env.multi, MESSAGES_MAX, on_transfer_done, f);
        pending |= curl_uv_pending(p->env.multi);
    }
    return pending;
}

static void measure_rate(struct fetch *f)
{
    int64_t now = clock_us(), passed = now - f->rate_since_us;
    if (passed < US_PER_S)
        return;
    double seen = (double)(f->finished - f->rate_finished) * 1e6 / (double)passed;
    f->rate = f->rate == 0 ? seen : 0.7 * f->rate + 0.3 * seen;
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
    const struct sched_limits limits = {
        .daemon = (int)params->limits->in_flight,
        .origin = (int)params->limits->per_host,
    };
    struct fetch *f = calloc(1, sizeof *f);
    *why = "out of memory";
    if (f == NULL)
        return NULL;
    f->params = *params;
    f->sched = sched_create(&limits);
    f->resolve = f->sched != NULL ? create_resolver(f, why) : NULL;
    if (f->resolve == NULL) {
        sched_destroy(f->sched);
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
        struct fetch_pool *p = LIST_CONTAINER(node, struct fetch_pool, node);
        pool_drop_idle(p);
        f->open_parts++;
        curl_uv_close(p->env.multi, part_closed, f);
        free(p);
    }
    resolve_close(f->resolve, part_closed, f);
    uv_close((uv_handle_t *)&f->timer, on_timer_closed);
    uv_close((uv_handle_t *)&f->sweep_timer, on_timer_closed);
    part_closed(f);
}

struct sched_batch *fetch_join(struct fetch *f, const char *identity, int limit, int limit_per_host)
{
    return sched_batch_join(f->sched, identity, limit, limit_per_host);
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
    return f->rate > 1 ? f->rate : 1;
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

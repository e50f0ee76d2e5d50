/* SPDX-License-Identifier: MIT
 *
 * fetch_hop - one hop of one job: begun with its slots in hand, named, launched, and ended in one
 * of five ways: done, failed, denied, on to the next hop of a redirect, or to be begun once more
 * (on a connection of its own, or when there is a descriptor for it). Called by the turn of
 * fetch.c; the resolver and curl_uv call back within that turn.
 *
 * Each end goes through fetch_account_hop() exactly once, so the hop's time is in the result before
 * anything else is decided; the next hop begins to wait at that same microsecond.
 */
#include "fetch_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "curl_err.h"
#include "log.h"

/* What a launch costs of a turn's budget: a start on a kept connection takes some 20 us, a new one
 * 40, and a new one with TLS begins a handshake of 400 to 900 us. */
enum { LAUNCH_COST_WARM = 1, LAUNCH_COST_TCP = 2, LAUNCH_COST_TLS = 16 };

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
static void record_hop(struct fetch *f, struct fetch_job *job, const struct transfer *t,
                       enum phase last)
{
    struct result *r = &job->result;
    if ((job->group->include & INCLUDE_REDIRECTS) == 0)
        return;
    const struct target at = fetch_target(job);
    bool held = fetch_hold(f, at.len);
    r->extra->held_bytes += held ? at.len : 0; /* made when the hop began */
    char *url = held ? strdup(at.text) : NULL;
    struct result_hop *hop = url != NULL ? add_hop(r) : NULL;
    if (hop == NULL) {
        free(url);
        r->extra->lacks = true;
        return;
    }
    *hop = (struct result_hop){
        .url = url,
        .status = t->status,
        .remote_ip = r->remote_ip,
        .remote_port = r->remote_port,
    };
    timings_clear(&hop->timings);
    hop_timings(&t->marks, last, &hop->timings);
}

/* mode = report: once a hop, in place of the denial. */
static void report_hop(struct fetch *f, const struct transfer *t)
{
    metrics_add(f->params.metrics, METRIC_POLICY_REPORTED, 1);
    LOG_WARN("policy", "policy=%s would_deny=\"%s\" host=%s port=%u", policy_name(t->env->policy),
             t->would_deny, t->target.origin->host, (unsigned)t->target.origin->port);
}

/* Takes the hop's time and sizes; the transfer still exists. */
enum phase fetch_account_hop(struct fetch *f, struct fetch_job *job, int64_t now_us)
{
    struct transfer *t = job->transfer;
    enum phase last = transfer_account(t, now_us);
    if (t->would_deny[0] != '\0')
        report_hop(f, t);
    if (last == PHASE_TLS)
        tls_sessions_forget(t->env->sessions, t->target.origin);
    if (t->marks.first_byte != TIME_NULL) {
        int64_t first = t->marks.first_byte < now_us ? t->marks.first_byte : now_us;
        job->result.ttfb_us = job->work_us + (first - job->dispatched_us);
    }
    job->result.error.sent |= t->sends > 0;
    job->work_us += now_us - job->dispatched_us;
    job->result.end_us = now_us;
    metrics_add(f->params.metrics, METRIC_FETCH_HOPS, t->sends);
    metrics_add(f->params.metrics, METRIC_FETCH_CONNECTS, t->connects);
    if (!transfer_opened(t) && t->sends > 0)
        metrics_add(f->params.metrics, METRIC_FETCH_REUSED, 1);
    return last;
}

static void finish_done(struct fetch *f, struct fetch_job *job)
{
    struct result *r = &job->result;
    const char *type = transfer_finish_content(job->transfer);
    r->content_type = type != NULL ? fetch_keep_type(f, job, type) : NULL;
    r->truncated = job->transfer->cut == CUT_BODY || (type != NULL && r->content_type == NULL);
    r->state = MEMBER_DONE;
    r->ok = r->status < 400;
    r->error = (struct result_error){.type = ERR_NONE};
    fetch_end_job(f, job);
}

void fetch_finish_failed(struct fetch *f, struct fetch_job *job, enum err_type type,
                          enum phase phase, const char *message)
{
    struct result *r = &job->result;
    r->state = MEMBER_FAILED;
    fetch_set_error(r, type, phase);
    r->error.message = message;
    fetch_end_job(f, job);
}

/* --- redirects --- */

/* RFC 9110, 15.4, as browsers do it: 303 makes everything but HEAD a GET, 301 and 302 make a POST
 * one. */
static void redirect_method(struct fetch_job *job, int status)
{
    bool head = strcmp(job->method, "HEAD") == 0;
    bool post = strcmp(job->method, "POST") == 0;
    if ((status == 303 && !head) || ((status == 301 || status == 302) && post)) {
        job->method = "GET";
        job->without_body = true;
    }
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

/* Out of libcurl, slots given back. */
static void leave_slots(struct fetch *f, struct fetch_job *job)
{
    heap_remove(&f->deadlines, &job->deadline);
    fetch_give_back_transfer(fetch_pool_of(f, job), job->transfer);
    job->transfer = NULL;
    sched_release(&job->entry);
    job->waiting_since_us = job->result.end_us;
}

static void queue_again(struct fetch *f, struct fetch_job *job)
{
    job->state = FETCH_QUEUED;
    if (!fetch_queue_job(f, job, true))
        fetch_fail_waiting(f, job, ERR_PROXY_INTERNAL_ERROR, "out of memory");
}

/* Into the queue again for the next hop's origin, which may be another engine's. */
static void requeue(struct fetch *f, struct fetch_job *job)
{
    leave_slots(f, job);
    job->starved_since_us = 0;
    if (!fetch_move_job(f, job))
        queue_again(f, job);
}

/* The same hop again, on a connection of its own: nothing was sent, or what may be sent twice. */
static void ask_again(struct fetch *f, struct fetch_job *job)
{
    if (job->transfer->sends > 0)
        job->result.num_retries++;
    job->fresh = true;
    requeue(f, job);
}

/* The same hop once more, when there may be a descriptor for it: nothing was sent. */
static void wait_for_descriptor(struct fetch *f, struct fetch_job *job)
{
    job->fresh = job->transfer->fresh;
    if (job->starved_since_us == 0)
        job->starved_since_us = job->dispatched_us;
    leave_slots(f, job);
    queue_again(f, job);
}

void fetch_put_back(struct fetch *f, struct fetch_job *job)
{
    fetch_account_hop(f, job, clock_us());
    wait_for_descriptor(f, job);
}

/* Puts the target of the next hop in place of the last one's; thousands of them may wait for an
 * origin. */
static bool set_next(struct fetch *f, struct fetch_job *job, struct target *next)
{
    struct result *r = &job->result;
    bool held = fetch_hold_text(f, job, next->len);
    if (held && job->next != NULL)
        fetch_let_text_go(f, job, job->next->len);
    else if (held)
        job->next = calloc(1, sizeof *job->next);
    if (!held || job->next == NULL) {
        target_fini(next);
        return false;
    }
    target_fini(job->next);
    *job->next = *next;
    r->url_effective = next->text; /* kept when the job ends */
    r->https = next->origin->https;
    return true;
}

static bool may_follow(const struct transfer *t, const struct fetch_job *job, struct verdict *v)
{
    const struct policy_hop hop = fetch_policy_hop(job);
    return policy_check_host(t->env->policy, &hop, &job->next->origin->ip, v);
}

static void follow_redirect(struct fetch *f, struct fetch_job *job, enum phase last)
{
    struct transfer *t = job->transfer;
    const struct target from = fetch_target(job);
    struct target next;
    struct verdict v;
    const char *why = NULL;
    if (job->result.num_redirects >= job->member->opts->max_redirects) {
        fetch_finish_failed(f, job, ERR_TOO_MANY_REDIRECTS, last, NULL);
        return;
    }
    if (!target_resolve(&from, t->location, strlen(t->location), &next, &why)) {
        fetch_finish_failed(f, job, ERR_URL_INVALID, last, why);
        return;
    }
    record_hop(f, job, t, last);
    job->result.num_redirects++;
    job->left_origin |= !target_same_origin(&from, &next);
    job->from = policy_from(job->from, &t->peer);
    redirect_method(job, t->status);
    forget_answer(&job->result);
    if (!set_next(f, job, &next)) {
        fetch_finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, last,
                            "no room for the next URL in limits.answer_bytes, or no memory");
    } else if (!may_follow(t, job, &v)) {
        fetch_set_denial(f, job, &v, PHASE_QUEUE);
        fetch_end_job(f, job);
    } else {
        requeue(f, job);
    }
}

/* --- a transfer has ended --- */

/* What is told of an answer that we refused; NULL = the error type says all there is. */
static const struct {
    enum err_type type;
    const char *message;
} refusals[] = {
    [CUT_HEAD] = {ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, NULL},
    [CUT_FIELDS] = {ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE,
                    "the answer's head and trailers have more than 1000 fields"},
    [CUT_LOCATION] = {ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, "Location is longer than 16 KiB"},
    [CUT_VERSION] = {ERR_HTTP_PROTOCOL_ERROR,
                     "the status line names a version of HTTP that the connection is not of"},
    [CUT_STATUS] = {ERR_HTTP_PROTOCOL_ERROR, "the status is no number of three digits"},
    [CUT_UPGRADE] = {ERR_HTTP_PROTOCOL_ERROR, "status 101, but no upgrade was asked for"},
    [CUT_FOLDED] = {ERR_HTTP_PROTOCOL_ERROR, "the head begins with a folded line"},
    [CUT_NUL] = {ERR_HTTP_PROTOCOL_ERROR, "Nul byte in header"},
    [CUT_FRAMING] = {ERR_HTTP_PROTOCOL_ERROR,
                     "a field that says how the body is to be read has a folded line"},
    [CUT_LENGTH] = {ERR_HTTP_PROTOCOL_ERROR,
                    "Content-Length is no number below 2^63, or two of them differ"},
    [CUT_CODINGS] = {ERR_HTTP_RESPONSE_CONTENT_CODING,
                     "more content codings than two, or two that are not gzip or deflate"},
    [CUT_SHARED_CODINGS] = {ERR_HTTP_RESPONSE_CONTENT_CODING,
                            "brotli, or more than one content coding, is not taken over HTTP/2"},
    [CUT_RESENT] = {ERR_CONNECTION_TERMINATED,
                    "the connection died when the request, or some of it, was sent; it is not "
                    "idempotent, so it was not sent again"},
    [CUT_BROKEN_OFF] = {ERR_HTTP_RESPONSE_INCOMPLETE,
                        "the upstream broke the answer off, and it is not asked for again"},
    [CUT_LOST] = {ERR_CONNECTION_TERMINATED,
                  "the connection was closed before the request was sent"},
    [CUT_FORGOTTEN] = {ERR_PROXY_INTERNAL_ERROR, "libcurl has lost the host's addresses"},
    [CUT_CA_FILE] = {ERR_PROXY_INTERNAL_ERROR, "fetch.ca_file is no regular file any more"},
    [CUT_MEMORY] = {ERR_PROXY_INTERNAL_ERROR, "out of memory"},
};

static void end_cut(struct fetch *f, struct fetch_job *job, enum phase last)
{
    struct transfer *t = job->transfer;
    if (t->cut == CUT_POLICY) {
        fetch_set_denial(f, job, &t->verdict, last);
        fetch_end_job(f, job);
        return;
    }
    fetch_finish_failed(f, job, refusals[t->cut].type, last, refusals[t->cut].message);
}

/* libcurl keeps the errno of earlier transfers of a handle: only a failed system call has one. */
static int os_errno_of(const struct transfer *t, CURLcode code)
{
    long os_errno = code == CURLE_COULDNT_CONNECT ? t->os_errno : 0;
    if (code == CURLE_RECV_ERROR)
        return t->lost_errno;
    if (os_errno == 0 && (code == CURLE_COULDNT_CONNECT || code == CURLE_SEND_ERROR))
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
    return (int)os_errno;
}

/* libcurl's words. It has none for a request that it sent again, nor for an HTTP/2 connection that
 * ended; what its code is called by would mislead then, as it does where bytes come behind a coding
 * or nothing does behind a 1xx answer. NULL = the error type says all there is. */
static const char *message_of(struct fetch *f, struct fetch_job *job, CURLcode code)
{
    struct transfer *t = job->transfer;
    if (t->message[0] == '\0' && (code == CURLE_RECV_ERROR || code == CURLE_HTTP2)) {
        if (t->lost_errno == 0)
            return NULL;
        snprintf(t->message, sizeof t->message, "Recv failure: %s", strerror(t->lost_errno));
    }
    if (t->message[0] == '\0' && code == CURLE_HTTP2_STREAM && !t->mute)
        return "the stream was ended before the request was sent whole";
    if (code == CURLE_WRITE_ERROR && t->reply.codings > 0)
        return "bytes come behind the end of the content coding";
    if (code == CURLE_GOT_NOTHING && t->head_bytes > 0)
        return "the connection was closed behind an informational answer";
    const char *kept = fetch_keep_text(f, job, t->message);
    return kept != NULL ? kept : curl_easy_strerror(code);
}

/* libcurl says that a time is out when the handle saw the system's time-out once, whatever came of
 * it then. */
static bool lacks_socket(const struct transfer *t, CURLcode code)
{
    return t->sends == 0 && (code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT) &&
           (t->os_errno == EMFILE || t->os_errno == ENFILE);
}

/* The trusted certificates of a multi that was made anew to have room are read with the next
 * connection; why they were not, libcurl does not tell. */
static bool lacks_ca_file(const struct fetch *f, const struct transfer *t, CURLcode code)
{
    return t->sends == 0 && code == CURLE_SSL_CACERT_BADFILE && fetch_is_starved(f);
}

static void end_error(struct fetch *f, struct fetch_job *job, CURLcode code, enum phase last)
{
    struct transfer *t = job->transfer;
    int os_errno = os_errno_of(t, code);
    job->result.error.exitcode = (int)code;
    job->result.error.os_errno = os_errno;
    if (code == CURLE_OUT_OF_MEMORY && t->in_head && last >= PHASE_WAIT) {
        /* how libcurl before 8.6 says that a line is longer than its 100 KB */
        fetch_finish_failed(f, job, ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, last,
                            "a line of the answer's head is longer than 100 KB");
        return;
    }
    const struct curl_err_facts facts = {
        .phase = last,
        .os_errno = os_errno,
        .lost = t->lost,
        .http2 = job->result.http_version == 20,
        .message = t->message,
        .mute = t->mute,
    };
    enum err_type type = curl_err_type(code, &facts);
    fetch_finish_failed(f, job, type, last, message_of(f, job, code));
}

/* A new connection that nothing was sent on uses addresses as soon as libcurl has them: should it
 * lose them even so, the next one would. */
static bool is_to_ask_again(const struct transfer *t)
{
    return t->cut == CUT_SHARED || t->cut == CUT_ANEW ||
           (t->cut == CUT_FORGOTTEN && (t->sends > 0 || !t->fresh));
}

void fetch_transfer_done(void *arg, CURL *easy, CURLcode code)
{
    struct fetch *f = arg;
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct transfer *t = (struct transfer *)(void *)private;
    struct fetch_job *job = t->owner;
    if (job == NULL)
        return; /* abandoned: its removal is on the closing list */
    enum phase last = fetch_account_hop(f, job, clock_us());
    bool cut_on_purpose = t->cut == CUT_BODY || t->cut == CUT_REDIRECT || t->cut == CUT_WHOLE;
    bool starved = lacks_socket(t, code);
    if (code != CURLE_OK && is_to_ask_again(t))
        ask_again(f, job);
    else if (code != CURLE_OK && t->cut != CUT_NONE && !cut_on_purpose)
        end_cut(f, job, last);
    else if (starved || lacks_ca_file(f, t, code)) {
        fetch_hold_starts(f, starved);
        wait_for_descriptor(f, job);
    } else if (code != CURLE_OK && !cut_on_purpose)
        end_error(f, job, code, last);
    else if (t->in_head) /* libcurl takes the end of the connection for that of the head */
        fetch_finish_failed(f, job, ERR_HTTP_RESPONSE_INCOMPLETE, last,
                            "the connection was closed within the answer's head");
    else if (code == CURLE_OK && transfer_is_cut_short(t)) /* see transfer_stream.h */
        fetch_finish_failed(f, job, ERR_HTTP_RESPONSE_INCOMPLETE, last,
                            "the answer's HTTP/2 stream was broken off");
    else if (transfer_redirects(t))
        follow_redirect(f, job, last);
    else
        finish_done(f, job);
}

/* --- dispatch --- */

struct policy_hop fetch_policy_hop(const struct fetch_job *job)
{
    const struct origin *to = fetch_target(job).origin;
    return (struct policy_hop){
        .host = to->host,
        .port = to->port,
        .from = job->from,
        .insecure = job->member->opts->insecure,
    };
}

int64_t fetch_timeout_at(const struct fetch_job *job)
{
    return job->dispatched_us + job->member->opts->timeout_us - job->work_us;
}

int64_t fetch_connect_timeout_at(const struct fetch_job *job)
{
    return job->dispatched_us + job->member->opts->connect_timeout_us;
}

static int64_t connect_until(const struct fetch_job *job)
{
    const int64_t whole = fetch_timeout_at(job), connect = fetch_connect_timeout_at(job);
    return whole < connect ? whole : connect;
}

bool fetch_set_deadline(struct fetch *f, struct fetch_job *job)
{
    bool connected = transfer_connected(job->transfer);
    return heap_set(&f->deadlines, &job->deadline,
                    connected ? fetch_timeout_at(job) : connect_until(job));
}

/* The second of the four checks: only allowed addresses reach libcurl. A name that leads to gatherd
 * itself by one of its addresses is refused whole. */
static size_t allowed_addresses(const struct fetch_job *job, const struct resolve_answer *answer,
                                struct ip_addr *out, struct verdict *v)
{
    const struct policy_hop hop = fetch_policy_hop(job);
    size_t n = 0;
    for (size_t i = 0; i < answer->count; i++) {
        if (policy_check_address(job->transfer->env->policy, &hop, &answer->addresses[i], v))
            out[n++] = answer->addresses[i];
        else if (v->type == ERR_PROXY_LOOP_DETECTED)
            return 0;
    }
    return n;
}

/* Whether the connection is better closed after this hop. To keep it would push out another (for
 * which libcurl looks through all it has, some 50 us for 600), and it is not worth that: nobody
 * waits for the origin and none was open to it, or it had to be a new one beside others that are
 * idle. */
static bool is_once(const struct fetch_job *job, const struct upstream *u)
{
    if (!curl_uv_is_full(transfer_multi(job->transfer)))
        return false;
    if (job->transfer->fresh)
        return u->sockets >= u->transfers;
    return u->sockets == 0 && u->transfers == 1 && sched_origin_waiting(&job->entry) == 0;
}

/* Returns what it costs of the turn's budget. */
static int launch(struct fetch *f, struct fetch_job *job, const struct ip_addr *addresses, size_t n)
{
    const struct origin *to = job->transfer->target.origin;
    bool ready = fetch_has_multi(f, fetch_pool_of(f, job), (int)job->transfer->kind);
    struct upstream *u = ready ? upstream_transfer_starts(&f->upstreams, to) : NULL;
    bool warm = u != NULL && u->sockets >= u->transfers && !job->transfer->fresh;
    if (u != NULL && transfer_launch(job->transfer, addresses, n, u, is_once(job, u)))
        return warm ? LAUNCH_COST_WARM : to->https ? LAUNCH_COST_TLS : LAUNCH_COST_TCP;
    fetch_account_hop(f, job, clock_us());
    fetch_finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_CONNECT, "out of memory");
    return LAUNCH_COST_WARM;
}

static int deny(struct fetch *f, struct fetch_job *job, const struct verdict *v, enum phase phase)
{
    fetch_account_hop(f, job, clock_us());
    fetch_set_denial(f, job, v, phase);
    fetch_end_job(f, job);
    return LAUNCH_COST_WARM;
}

static int launch_answer(struct fetch *f, struct fetch_job *job,
                         const struct resolve_answer *answer)
{
    struct ip_addr addresses[RESOLVE_ADDRESSES_MAX];
    struct verdict v;
    if (answer->error != ERR_NONE) {
        fetch_account_hop(f, job, clock_us());
        fetch_finish_failed(f, job, answer->error, PHASE_DNS, answer->message);
        return LAUNCH_COST_WARM;
    }
    size_t n = allowed_addresses(job, answer, addresses, &v);
    if (n > 0)
        return launch(f, job, addresses, n);
    return deny(f, job, &v, PHASE_DNS);
}

/* A policy that a reload has changed or taken away while the job waited may have no multi for it
 * any more: that is to be a denial, not a want of memory. */
static int launch_literal(struct fetch *f, struct fetch_job *job)
{
    const struct policy_hop hop = fetch_policy_hop(job);
    const struct ip_addr *ip = &job->transfer->target.origin->ip;
    struct verdict v;
    if ((hop.insecure || transfer_multi(job->transfer) == NULL) &&
        !policy_check_address(job->transfer->env->policy, &hop, ip, &v))
        return deny(f, job, &v, PHASE_CONNECT);
    return launch(f, job, NULL, 0);
}

static void on_resolved(struct resolve_query *q, const struct resolve_answer *answer)
{
    struct transfer *t = LIST_CONTAINER(q, struct transfer, query);
    struct fetch *f = t->engine;
    t->marks.dns_end = clock_us();
    bool may_launch = f->launch_spent < FETCH_LAUNCH_BUDGET && !fetch_is_held(f);
    if (may_launch || answer->error != ERR_NONE)
        f->launch_spent += launch_answer(f, t->owner, answer);
    else
        list_append(&f->named, &t->node);
}

static int look_up(struct fetch *f, struct fetch_job *job)
{
    struct transfer *t = job->transfer;
    bool failed = false;
    t->query.done = on_resolved;
    const struct resolve_answer *answer =
        resolve_start(f->resolve, &t->query, t->target.origin->host, &failed);
    if (answer != NULL)
        return launch_answer(f, job, answer);
    if (failed) {
        fetch_account_hop(f, job, clock_us());
        fetch_finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_DNS, "out of memory");
    }
    return LAUNCH_COST_WARM;
}

/* The answer is in the cache; should it be gone from there, it is looked up again. */
int fetch_launch_named(struct fetch *f, struct fetch_job *job)
{
    return look_up(f, job);
}

static bool begin_hop(struct fetch *f, struct fetch_job *job)
{
    const struct member_opts *opts = job->member->opts;
    if (job->group->include != 0 && result_extra(&job->result) == NULL)
        return false;
    const struct transfer_hop hop = {
        .target = fetch_target(job),
        .opts = opts,
        .method = job->method,
        .send_body = opts->body != NULL && !job->without_body,
        .first_hop_origin = !job->left_origin,
        .from = job->from,
        .may_follow = opts->max_redirects > 0,
        .fresh = opts->fresh_connection || job->fresh,
        .include = job->group->include,
        .traceparent = job->group->traceparent,
        .body_cap = opts->max_response_bytes,
        .result = &job->result,
        .dispatched_us = job->dispatched_us,
        .connect_until_us = connect_until(job),
    };
    job->transfer = fetch_take_transfer(fetch_pool_of(f, job));
    if (job->transfer == NULL)
        return false;
    job->transfer->owner = job;
    job->transfer->engine = f;
    job->fresh = false;
    transfer_begin(job->transfer, &hop);
    return true;
}

int fetch_dispatch(struct fetch *f, struct fetch_job *job)
{
    int64_t now = clock_us();
    fetch_account_wait(job, now);
    job->state = FETCH_ACTIVE;
    job->dispatched_us = now;
    if (job->result.start_us == TIME_NULL)
        job->result.start_us = now;
    if (!begin_hop(f, job) || !fetch_set_deadline(f, job)) {
        timings_add(&job->result.timings, PHASE_CONNECT, 0);
        fetch_finish_failed(f, job, ERR_PROXY_INTERNAL_ERROR, PHASE_CONNECT, "out of memory");
        return LAUNCH_COST_WARM;
    }
    if (job->transfer->target.origin->ip.family != 0)
        return launch_literal(f, job);
    return look_up(f, job);
}

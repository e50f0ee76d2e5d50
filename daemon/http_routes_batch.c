/* SPDX-License-Identifier: MIT
 *
 * http_routes_batch - POST /v1/batch: what is judged before the body, admission, the batch's start,
 * and its answer. Called by http_routes (head, request, release), http_routes_read (spec) and
 * batch (item, end), on the loop's thread.
 *
 * A call ties exchange, encoder and batch together. The answer is never held whole: every view is
 * encoded piece by piece as the client takes it, or sent at once when it fits one piece. A view
 * that streams takes the members in the order in which they end, and its batch is paused while the
 * client leaves 1 MiB unread. What is held meanwhile are the bodies as they came, which
 * limits.answer_bytes counts, and for each client at most a piece and what one field may take
 * beyond it.
 */
#include "http_routes_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "parse.h"

enum {
    PIECE_BYTES = 65536,      /* of an answer, encoded at a time */
    SUMMARY_BYTES = 1536,     /* about; to begin with a buffer that need not grow */
    MEMBER_BYTES = 1024,
    UNREAD_PAUSE = 1 << 20,   /* a streaming client this far behind holds its batch up ... */
    UNREAD_RESUME = 1 << 18,  /* ... until it has read down to this */
    PING_AFTER_US = 5000000,
    PING_TICK_MS = 1000,
    RETRY_AFTER_MAX_S = 3600,
};

/* --- before the body --- */

/* The value of ?format=, which the view is chosen by before the body is read. Returns how often it
 * was given; a name that does not fit or has escapes is no view's. */
static int get_format(const char *query, char *out, size_t max)
{
    static const char key[] = "format";
    const size_t key_len = sizeof key - 1;
    int times = 0;
    for (const char *at = query; at != NULL; at = strchr(at, '&')) {
        at += *at == '&';
        if (strncmp(at, key, key_len) != 0 || strchr("=&", at[key_len]) == NULL)
            continue;
        const char *value = at + key_len + (at[key_len] == '=');
        size_t n = strcspn(value, "&");
        if (n >= max)
            n = max - 1;
        memcpy(out, value, n);
        out[n] = '\0';
        times++;
    }
    return times;
}

/* All Accept fields as one list (RFC 9110, 5.3). */
static const char *join_accept(const struct http_head *head, struct buf *out)
{
    bool any = false;
    for (size_t i = 0; i < head->count; i++) {
        const struct http_field *f = &head->fields[i];
        if (!parse_equal_nocase(f->name, f->name_len, "Accept"))
            continue;
        if (any)
            BUF_ADD_LITERAL(out, ", ");
        buf_add(out, f->value, f->value_len);
        any = true;
    }
    return any ? buf_cstr(out) : NULL;
}

static bool choose_view(struct call *c, const struct http_head *head, struct problem *p)
{
    char format[16] = "";
    struct buf accept;
    buf_init(&accept, 0);
    int times = get_format(exchange_query(c->exchange), format, sizeof format);
    bool by_format = times > 0;
    if (times > 1) {
        problem_set(p, 400, "format is given twice");
        return false;
    }
    const char *wanted = join_accept(head, &accept);
    c->encoder = encode_pick(wanted, by_format ? format : NULL);
    buf_fini(&accept);
    if (c->encoder != NULL)
        return true;
    /* Of a URL by mistake only its scheme is said. */
    problem_set(p, by_format ? 400 : 406,
                by_format ? "format=%.*s is not known; answers are made as %s (json, ndjson, text)"
                          : "no view fits Accept%.*s; answers are made as %s",
                by_format ? (int)strcspn(format, "%:@/") : 0, format, encode_media_types());
    return false;
}

static bool choose_type(struct call *c, const struct http_head *head, struct problem *p)
{
    const struct http_field *f = http_find(head, "Content-Type");
    c->type = request_type(f != NULL ? f->value : NULL);
    if (http_find(head, "Content-Encoding") != NULL) {
        problem_set(p, 415, "Content-Encoding is not supported; send the body as it is");
        return false;
    }
    if (c->type != REQUEST_UNSUPPORTED)
        return true;
    problem_set(p, 415, "this Content-Type is not supported; use curl --json (application/json), "
                        "application/x-ndjson, text/uri-list or text/plain");
    return false;
}

void routes_batch_refuse_draining(struct call *c)
{
    struct problem p;
    problem_set(&p, 503, "gatherd is shutting down");
    p.retry_after_s = 1;
    metrics_add(c->routes->params.metrics, METRIC_BATCHES_REFUSED_DRAINING, 1);
    routes_answer_problem(c, &p);
}

/* --- quotas --- */

/* Seconds until `count` more members may find room, from the measured rate. */
static int retry_after_s(const struct routes *r, size_t excess)
{
    double seconds = (double)excess / shard_rate(r->params.shard) + 1;
    return seconds > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int)seconds;
}

static int seconds_up(int64_t us)
{
    int64_t s = (us + US_PER_S - 1) / US_PER_S;
    return s > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int)s;
}

static void say_quota(const struct call *c, const struct quota_answer *a, struct problem *p)
{
    const struct config_limits *l = &c->routes->params.config->limits;
    const char *who = exchange_identity(c->exchange);
    int64_t rate = l->per_client_rate;
    if (a->verdict == QUOTA_BATCHES) {
        problem_set(p, 429,
                    "%s has as many batches as limits.per_client_batches allows: %lld; one counts "
                    "until its answer is read", who, (long long)l->per_client_batches);
        p->retry_after_s = retry_after_s(c->routes, 1);
    } else if (a->verdict == QUOTA_MEMBERS) {
        problem_set(p, 429,
                    "%s would have %zu members more than limits.per_client_members: %lld; they "
                    "count until their answer is read",
                    who, a->excess, (long long)l->per_client_members);
        p->retry_after_s = retry_after_s(c->routes, a->excess);
    } else {
        problem_set(p, 429, "%s has used up limits.per_client_rate: %lld members a %s", who,
                    (long long)(rate < 0 ? -rate : rate), rate < 0 ? "minute" : "second");
        p->retry_after_s = seconds_up(a->wait_us);
    }
}

static bool quota_fits(const struct call *c, const struct quota_answer *a, struct problem *p)
{
    if (a->verdict == QUOTA_OK)
        return true;
    say_quota(c, a, p);
    metrics_add(c->routes->params.metrics, METRIC_BATCHES_REFUSED_QUOTA, 1);
    return false;
}

/* What a client holds of the limits that all share counts as its own for as long: its body, by the
 * batch, from the head on; its members until their answer was read to the end, or dropped. */
static bool take_batch(struct call *c, struct problem *p)
{
    struct routes *r = c->routes;
    const struct config_limits *l = &r->params.config->limits;
    const char *who = exchange_identity(c->exchange);
    int64_t now = clock_us();
    bool ok;
    if (c->quota != NULL)
        return true;
    struct quota_answer a = quota_check(r->quotas, who, l, now);
    if (!quota_fits(c, &a, p))
        return false;
    c->quota = quota_take(r->quotas, who, l, now, &ok);
    if (!ok)
        problem_set(p, 500, "out of memory");
    return ok;
}

static bool members_fit(const struct call *c, size_t members, struct problem *p)
{
    const struct config_limits *l = &c->routes->params.config->limits;
    if (l->per_client_members > 0 && members > (size_t)l->per_client_members) {
        problem_set(p, 400, "%zu members, limits.per_client_members is %lld", members,
                    (long long)l->per_client_members); /* there is no use in waiting */
        return false;
    }
    struct quota_answer a = quota_check_members(c->quota, members, l, clock_us());
    return quota_fits(c, &a, p);
}

static void take_members(struct call *c, size_t members)
{
    c->quota_members = members;
    quota_take_members(c->quota, members, &c->routes->params.config->limits, clock_us());
}

static void give_quota_back(struct call *c)
{
    quota_give_back(c->routes->quotas, c->quota, c->quota_members);
    c->quota = NULL;
}

/* --- before the body, all of it --- */

/* Whether the name is one of a list of NAME[=VALUE][;PARAMETER...], in any case (RFC 7240). */
static bool is_preferred(const char *list, const char *name)
{
    bool begins = true, quoted = false;
    for (const char *s = list; *s != '\0'; s++) {
        if (begins && strchr(" \t,", *s) == NULL) {
            if (parse_equal_nocase(s, strcspn(s, " \t=;,"), name))
                return true;
            begins = false;
        }
        if (*s == '"')
            quoted = !quoted;
        else if (quoted && *s == '\\' && s[1] != '\0')
            s++;
        else if (!quoted && *s == ',')
            begins = true;
    }
    return false;
}

static bool is_supported(const struct http_head *head, struct problem *p)
{
    for (size_t i = 0; i < head->count; i++) {
        const struct http_field *f = &head->fields[i];
        if (!parse_equal_nocase(f->name, f->name_len, "Prefer") ||
            !is_preferred(f->value, "respond-async"))
            continue;
        problem_set(p, 400, "Prefer: respond-async is not supported yet by this version");
        return false;
    }
    return true;
}

void routes_batch_on_head(struct call *c)
{
    const struct http_head *head = exchange_head(c->exchange);
    struct problem p;
    if (c->routes->draining)
        routes_batch_refuse_draining(c);
    else if (!choose_type(c, head, &p) || !choose_view(c, head, &p) || !is_supported(head, &p) ||
             !take_batch(c, &p))
        routes_answer_problem(c, &p);
}

/* --- the answer --- */

static void add_server_timing(struct answer *a, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    if (s->critical_index < 0)
        return;
    const struct result *r = view_result(v, (size_t)s->critical_index);
    int64_t queue = r->timings.us[PHASE_QUEUE], work = result_work_us(r);
    char text[96];
    struct buf value = {.data = text, .cap = sizeof text - 1, .limit = sizeof text - 1};
    BUF_ADD_LITERAL(&value, "queue;dur=");
    buf_add_ms(&value, queue > 0 ? queue : 0);
    BUF_ADD_LITERAL(&value, ", fetch;dur=");
    buf_add_ms(&value, work > 0 ? work : 0);
    answer_header(a, "Server-Timing", "%s", buf_cstr(&value));
}

static int envelope_status(const struct call *c, const struct view_summary *s)
{
    size_t count = batch_view(c->batch)->spec->count;
    bool failed = (c->fail == FAIL_ANY && !s->ok) ||
                  (c->fail == FAIL_ALL && s->n_ok == 0 && count > 0);
    return failed ? 502 : 200;
}

/* A member is written: what it holds of limits.answer_bytes is free. */
static void member_written(struct call *c)
{
    if (batch_view(c->batch)->spec->include != 0)
        batch_drop_content(c->batch, c->at.index);
}

/* Writes members until a piece is full. */
static enum fill fill_whole(void *arg, struct buf *out)
{
    struct call *c = arg;
    const struct batch_view *v = batch_view(c->batch);
    while (c->at.index < v->spec->count && out->len < PIECE_BYTES - MEMBER_BYTES) {
        if (!c->encoder->item(out, v, &c->at))
            continue;
        member_written(c);
        c->at = (struct encode_at){.index = c->at.index + 1};
    }
    if (c->at.index < v->spec->count)
        return FILL_MORE;
    c->encoder->end(out, v);
    return FILL_END;
}

static enum fill fill_nothing(void *arg, struct buf *out)
{
    (void)arg;
    (void)out;
    return FILL_END;
}

/* About what a whole answer, or its first piece, will take. */
static void reserve_piece(struct buf *out, size_t members)
{
    size_t most = (PIECE_BYTES - SUMMARY_BYTES) / MEMBER_BYTES;
    buf_reserve(out, SUMMARY_BYTES + MEMBER_BYTES * (members < most ? members : most));
}

static void answer_whole(struct call *c)
{
    const struct batch_view *v = batch_view(c->batch);
    struct answer a = {.status = envelope_status(c, v->summary),
                       .content_type = c->encoder->media_type};
    add_server_timing(&a, v);
    buf_init(&a.body, 0);
    reserve_piece(&a.body, v->spec->count);
    c->encoder->begin(&a.body, v);
    if (fill_whole(c, &a.body) == FILL_MORE)
        a.fill = fill_whole;
    else if (a.body.len > 2 * PIECE_BYTES)
        a.fill = fill_nothing; /* large without bodies, too: send_timeout is for a part */
    a.arg = c;
    routes_answer(c, &a);
}

/* About what a member takes of the answer; the same for as long as its content is there. */
static size_t member_weight(const struct call *c, size_t index)
{
    const struct result_extra *x = view_result(batch_view(c->batch), index)->extra;
    return MEMBER_BYTES + (x != NULL ? x->headers.len + x->body.len : 0);
}

/* Writes a piece of the member whose turn it is. */
static void stream_member(struct call *c, struct buf *out)
{
    c->at.index = c->ready[c->ready_taken];
    if (!c->encoder->item(out, batch_view(c->batch), &c->at))
        return;
    c->unread_bytes -= member_weight(c, c->at.index);
    member_written(c);
    c->at = (struct encode_at){0};
    c->ready_taken++;
}

/* Streaming: members are written when the client takes them, not when they end, so that what it
 * leaves unread is held once, and where limits.answer_bytes counts it. */
static enum fill fill_stream(void *arg, struct buf *out)
{
    struct call *c = arg;
    while (c->ready_taken < c->ready_count && out->len < PIECE_BYTES - MEMBER_BYTES)
        stream_member(c, out);
    if (c->paused && c->unread_bytes <= UNREAD_RESUME) {
        c->paused = false;
        batch_pause(c->batch, false);
    }
    if (c->ready_taken < c->ready_count)
        return FILL_MORE;
    if (c->ended) {
        c->encoder->end(out, batch_view(c->batch));
        return FILL_END;
    }
    if (c->ping)
        BUF_ADD_LITERAL(out, "{\"type\":\"ping\"}\n");
    c->ping = false;
    return out->len > 0 ? FILL_MORE : FILL_WAIT;
}

static void stream_wrote(struct call *c)
{
    c->last_write_us = clock_us();
    if (!c->paused && !c->ended && c->unread_bytes > UNREAD_PAUSE) {
        c->paused = true;
        batch_pause(c->batch, true);
    }
    front_wake(c->exchange);
}

static void on_item(void *arg, size_t index)
{
    struct call *c = arg;
    c->ready[c->ready_count++] = (uint32_t)index;
    c->unread_bytes += member_weight(c, index);
    stream_wrote(c);
}

static void on_ping_timer(uv_timer_t *timer)
{
    struct routes *r = timer->data;
    int64_t now = clock_us();
    struct list *node, *next;
    if (list_empty(&r->streams))
        uv_timer_stop(timer);
    LIST_FOREACH_SAFE(node, next, &r->streams) {
        struct call *c = LIST_CONTAINER(node, struct call, node);
        if (c->ended || c->ready_taken < c->ready_count || now - c->last_write_us < PING_AFTER_US)
            continue;
        c->ping = true;
        stream_wrote(c);
    }
}

static void begin_stream(struct call *c)
{
    struct answer a = {.status = 200,
                       .content_type = c->encoder->media_type,
                       .fill = fill_stream,
                       .arg = c};
    buf_init(&a.body, 0);
    c->encoder->begin(&a.body, batch_view(c->batch));
    c->last_write_us = clock_us();
    list_append(&c->routes->streams, &c->node);
    if (!uv_is_active((uv_handle_t *)&c->routes->ping_timer))
        uv_timer_start(&c->routes->ping_timer, on_ping_timer, PING_TICK_MS, PING_TICK_MS);
    routes_answer(c, &a);
}

static void on_batch_end(void *arg)
{
    struct call *c = arg;
    c->ended = true;
    if (c->encoder->streams)
        stream_wrote(c);
    else
        answer_whole(c);
}

/* --- the body is in --- */

/* A member takes memory until its answer is read; clients that do not read may hold as many as may
 * wait. */
static bool answers_are_read(struct call *c, struct problem *p)
{
    struct routes *r = c->routes;
    size_t unread = batches_unread(r->params.batches);
    if (unread < (size_t)r->params.config->limits.queued)
        return true;
    problem_set(p, 503, "the answers of %zu members are not read yet, limits.queued is %lld",
                unread, (long long)r->params.config->limits.queued);
    p->retry_after_s = 1;
    metrics_add(r->params.metrics, METRIC_BATCHES_REFUSED_UNREAD, 1);
    return false;
}

static bool admit(struct call *c, const struct batch_spec *spec, struct problem *p)
{
    struct routes *r = c->routes;
    size_t limit = (size_t)r->params.config->limits.queued;
    size_t wanted = routes_members_queued(r) + spec->count;
    if (!exchange_may_still_ask(c->exchange, p) || !take_batch(c, p) ||
        !members_fit(c, spec->count, p) || !answers_are_read(c, p))
        return false;
    if (wanted <= limit)
        return true;
    problem_set(p, 503, "the queue is full: %zu members wait, limits.queued is %zu",
                routes_members_queued(r), limit);
    p->retry_after_s = retry_after_s(r, wanted - limit);
    metrics_add(r->params.metrics, METRIC_BATCHES_REFUSED_FULL, 1);
    return false;
}

/* "00-" 32 hex "-" 16 hex "-" 2 hex, lower case; all else is left out, as the standard says. */
static bool is_traceparent(const struct http_field *f)
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (f == NULL || f->value_len != sizeof form - 1 || memcmp(f->value, "00-", 3) != 0)
        return false;
    for (size_t i = 0; i < sizeof form - 1; i++) {
        char c = f->value[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (form[i] == 'x' ? !hex : c != '-')
            return false;
    }
    return strspn(f->value + 3, "0") < 32;
}

static void take_trace(struct call *c)
{
    const struct http_field *f = http_find(exchange_head(c->exchange), "traceparent");
    if (is_traceparent(f))
        memcpy(c->traceparent, f->value, f->value_len); /* the call is zeroed */
}

/* What the call itself needs for so many members. */
static bool reserve(struct call *c, size_t count)
{
    if (c->encoder->streams && (c->ready = calloc(count, sizeof *c->ready)) == NULL)
        return false;
    take_members(c, count);
    return true;
}

static void start_batch(struct call *c, struct batch_spec *spec, int64_t parse_us)
{
    const struct batch_params params = {
        .spec = spec,
        .identity = exchange_identity(c->exchange),
        .pool = exchange_listener_data(c->exchange),
        .parse_us = parse_us,
        .on_item = c->encoder->streams ? on_item : NULL,
        .on_end = on_batch_end,
        .arg = c,
    };
    struct problem p;
    const size_t count = spec->count;
    c->fail = spec->fail;
    if (c->traceparent[0] != '\0')
        spec->traceparent = arena_strndup(&spec->arena, c->traceparent, strlen(c->traceparent));
    if (reserve(c, count))
        c->batch = batch_start(c->routes->params.batches, &params);
    else
        spec_destroy(spec);
    exchange_drop_body(c->exchange);
    if (c->batch == NULL) {
        problem_set(&p, 500, "out of memory");
        routes_answer_problem(c, &p);
        return;
    }
    if (c->request_id[0] == '\0')
        memcpy(c->request_id, batch_id(c->batch), strlen(batch_id(c->batch)) + 1);
    if (c->encoder->streams)
        begin_stream(c);
}

/* A status that waits for the whole answer goes with no view that streams. */
static bool fail_fits(const struct call *c, const struct batch_spec *spec, struct problem *p)
{
    if (spec->fail == FAIL_NEVER || !c->encoder->streams)
        return true;
    problem_set(p, 400, "fail needs the whole answer before its status; it cannot go with %s",
                c->encoder->media_type);
    return false;
}

void routes_batch_on_spec(struct call *c, struct batch_spec *spec, struct problem *p,
                          int64_t begin_us)
{
    if (spec != NULL && fail_fits(c, spec, p) && admit(c, spec, p)) {
        start_batch(c, spec, clock_us() - begin_us);
        return;
    }
    if (spec != NULL)
        spec_destroy(spec);
    routes_answer_problem(c, p);
}

void routes_batch_on_request(struct call *c)
{
    if (c->routes->draining) {
        routes_batch_refuse_draining(c);
        return;
    }
    take_trace(c);
    routes_read(c);
}

void routes_batch_release(struct call *c)
{
    if (c->batch != NULL)
        batch_release(c->batch);
    c->batch = NULL;
    give_quota_back(c);
}

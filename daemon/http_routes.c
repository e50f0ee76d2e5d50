/* SPDX-License-Identifier: MIT
 *
 * http_routes - see http_routes.h. Called by http_front (head, request, gone, finished) and by batch
 * (item, end), on the loop's thread.
 *
 * A `call` is what an exchange is about; for a batch it ties exchange, encoder and batch together. The
 * answer is never held whole: a view that streams is encoded member by member as they end, and its batch
 * is paused while the client leaves 1 MiB unread; every other view is encoded piece by piece as the
 * client takes it, or sent at once when it fits one piece.
 */
#include "http_routes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "encode.h"
#include "list.h"
#include "parse.h"
#include "problem.h"
#include "request.h"

enum {
    PARAMS_MAX = 64,          /* query parameters */
    PIECE_BYTES = 65536,      /* of an answer, encoded at a time */
    SUMMARY_BYTES = 1536,     /* about; to begin with a buffer that need not grow */
    MEMBER_BYTES = 1024,
    UNREAD_PAUSE = 1 << 20,   /* a streaming client this far behind holds its batch up ... */
    UNREAD_RESUME = 1 << 18,  /* ... until it has read down to this */
    PING_AFTER_US = 5000000,
    PING_TICK_MS = 1000,
    REQUEST_ID_MAX = 128,
    RETRY_AFTER_MAX_S = 3600,
};

struct routes {
    struct routes_params params;
    const struct front *front;
    struct list streams; /* calls whose answer is being streamed */
    uv_timer_t ping_timer;
    bool draining;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct call {
    struct list node; /* routes->streams */
    struct routes *routes;
    struct exchange *exchange;
    const struct route *route;
    char request_id[REQUEST_ID_MAX + 1];
    const struct encoder *encoder;
    enum request_type type;
    struct batch *batch;
    struct buf pending;  /* streaming: encoded, not yet taken */
    bool paused, ended;
    int64_t last_write_us;
    size_t next; /* other views: the next member to encode */
    enum fail_mode fail;
};

struct route {
    const char *path, *method, *allow;
    void (*on_head)(struct call *c); /* NULL = nothing to check before the body */
    void (*on_request)(struct call *c);
};

/* --- small answers --- */

static void answer_now(struct call *c, struct answer *a)
{
    if (c->request_id[0] != '\0')
        answer_header(a, "X-Request-Id", "%s", c->request_id);
    front_answer(c->exchange, a);
}

static void answer_problem(struct call *c, const struct problem *p)
{
    struct answer a = {.status = p->status, .content_type = PROBLEM_MEDIA_TYPE};
    buf_init(&a.body, 0);
    problem_print(p, &a.body);
    if (p->retry_after_s > 0)
        answer_header(&a, "Retry-After", "%d", p->retry_after_s);
    if (p->allow != NULL)
        answer_header(&a, "Allow", "%s", p->allow);
    a.close = c->routes->draining;
    answer_now(c, &a);
}

static void answer_text(struct call *c, int status, const char *type, struct buf *body)
{
    struct answer a = {.status = status, .content_type = type, .body = *body};
    answer_now(c, &a);
}

static void answer_word(struct call *c, int status, const char *word)
{
    struct buf body;
    buf_init(&body, 0);
    buf_add_str(&body, word);
    answer_text(c, status, "text/plain; charset=utf-8", &body);
}

/* --- probes, metrics, the page --- */

static size_t members_queued(const struct routes *r)
{
    return shard_waiting(r->params.shard) + batches_unsubmitted(r->params.batches);
}

static void on_healthy(struct call *c)
{
    answer_word(c, 200, "ok\n");
}

static void on_ready(struct call *c)
{
    const struct routes *r = c->routes;
    if (r->draining)
        answer_word(c, 503, "draining\n");
    else if (members_queued(r) >= (size_t)r->params.config->limits.queued)
        answer_word(c, 503, "full\n");
    else
        answer_word(c, 200, "ready\n");
}

static void on_metrics(struct call *c)
{
    struct routes *r = c->routes;
    struct metrics sum = {.value = {0}};
    struct buf body;
    metrics_sum(&sum, r->params.metrics);
    shard_metrics(r->params.shard, &sum);
    metrics_set(&sum, METRIC_BATCHES_RUNNING, (int64_t)batches_running(r->params.batches));
    metrics_set(&sum, METRIC_CLIENTS, r->front != NULL ? (int64_t)front_clients(r->front) : 0);
    buf_init(&body, 0);
    metrics_print(&sum, &body);
    answer_text(c, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void on_index(struct call *c)
{
    answer_word(c, 200,
                "gatherd: a list of URLs in, one summary out.\n\n"
                "  curl --json '[\"https://a.example/\",\"https://b.example/\"]' "
                "http://localhost:4284/v1/batch\n"
                "  curl --data-binary @urls.txt -H 'Accept: text/plain' "
                "http://localhost:4284/v1/batch\n\n"
                "POST /v1/batch    fetch a batch; see gatherd-api(7)\n"
                "GET  /metrics     Prometheus metrics\n"
                "GET  /-/healthy   200 while the loop turns\n"
                "GET  /-/ready     200 while batches are taken\n");
}

/* --- POST /v1/batch: before the body --- */

static void get_field(const struct http_head *head, const char *name, char *out, size_t max)
{
    const struct http_field *f = http_find(head, name);
    size_t n = f != NULL && f->value_len < max ? f->value_len : 0;
    if (n > 0)
        memcpy(out, f->value, n);
    out[n] = '\0';
}

/* The value of ?format=, which the view is chosen by before the body is read. Returns how often it was
 * given; a name that does not fit or has escapes is no view's. */
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
    char format[16];
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
    problem_set(p, by_format ? 400 : 406,
                by_format ? "format=%s is not known; answers are made as %s (json, ndjson, text)"
                          : "no view fits Accept%s; answers are made as %s",
                by_format ? format : "", encode_media_types());
    return false;
}

static bool choose_type(struct call *c, const struct http_head *head, struct problem *p)
{
    char type[256];
    const struct http_field *f = http_find(head, "Content-Type");
    get_field(head, "Content-Type", type, sizeof type);
    c->type = request_type(f != NULL ? type : NULL);
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

static bool not_draining(struct call *c, struct problem *p)
{
    if (!c->routes->draining)
        return true;
    problem_set(p, 503, "gatherd is shutting down");
    p->retry_after_s = 1;
    metrics_add(c->routes->params.metrics, METRIC_BATCHES_REFUSED_DRAINING, 1);
    return false;
}

static bool is_supported(const struct http_head *head, struct problem *p)
{
    const struct http_field *f = http_find(head, "Prefer");
    if (f == NULL || strstr(f->value, "respond-async") == NULL)
        return true;
    problem_set(p, 400, "Prefer: respond-async is not supported yet by this version");
    return false;
}

static void batch_on_head(struct call *c)
{
    const struct http_head *head = exchange_head(c->exchange);
    struct problem p;
    if (!not_draining(c, &p) || !choose_type(c, head, &p) || !choose_view(c, head, &p) ||
        !is_supported(head, &p))
        answer_problem(c, &p);
}

/* --- POST /v1/batch: the answer --- */

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
    bool failed = (c->fail == FAIL_ANY && !s->ok) || (c->fail == FAIL_ALL && s->n_ok == 0 && count > 0);
    return failed ? 502 : 200;
}

static enum fill fill_whole(void *arg, struct buf *out)
{
    struct call *c = arg;
    const struct batch_view *v = batch_view(c->batch);
    while (c->next < v->spec->count && out->len < PIECE_BYTES - MEMBER_BYTES)
        c->encoder->item(out, v, c->next++);
    if (c->next < v->spec->count)
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
        a.fill = fill_nothing; /* a piece may be one large body: send_timeout is for each part taken */
    a.arg = c;
    answer_now(c, &a);
}

/* Streaming: what was encoded since the last piece. */
static enum fill fill_stream(void *arg, struct buf *out)
{
    struct call *c = arg;
    struct buf taken = c->pending;
    c->pending = *out;
    *out = taken;
    if (c->pending.cap > PIECE_BYTES) /* a stream may be quiet for long now */
        buf_fini(&c->pending);
    buf_clear(&c->pending);
    if (c->paused && out->len <= UNREAD_RESUME) {
        c->paused = false;
        batch_pause(c->batch, false);
    }
    if (out->len > 0)
        return c->ended ? FILL_END : FILL_MORE;
    return c->ended ? FILL_END : FILL_WAIT;
}

static void stream_wrote(struct call *c)
{
    c->last_write_us = clock_us();
    if (!c->paused && !c->ended && c->pending.len > UNREAD_PAUSE) {
        c->paused = true;
        batch_pause(c->batch, true);
    }
    front_wake(c->exchange);
}

static void on_item(void *arg, size_t index)
{
    struct call *c = arg;
    c->encoder->item(&c->pending, batch_view(c->batch), index);
    batch_drop_content(c->batch, index);
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
        if (c->ended || c->pending.len > 0 || now - c->last_write_us < PING_AFTER_US)
            continue;
        BUF_ADD_LITERAL(&c->pending, "{\"type\":\"ping\"}\n");
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
    buf_init(&c->pending, 0);
    c->encoder->begin(&c->pending, batch_view(c->batch));
    c->last_write_us = clock_us();
    list_append(&c->routes->streams, &c->node);
    if (!uv_is_active((uv_handle_t *)&c->routes->ping_timer))
        uv_timer_start(&c->routes->ping_timer, on_ping_timer, PING_TICK_MS, PING_TICK_MS);
    answer_now(c, &a);
}

static void on_batch_end(void *arg)
{
    struct call *c = arg;
    if (!c->encoder->streams) {
        answer_whole(c);
        return;
    }
    c->encoder->end(&c->pending, batch_view(c->batch));
    c->ended = true;
    stream_wrote(c);
}

/* --- POST /v1/batch: the body is in --- */

static bool split_query(char *query, struct request_param *params, size_t *count, struct problem *p)
{
    char *at;
    *count = 0;
    while ((at = strsep(&query, "&")) != NULL) {
        if (*at == '\0')
            continue;
        char *equals = strchr(at, '=');
        char *value = equals != NULL ? equals + 1 : at + strlen(at);
        if (equals != NULL)
            *equals = '\0';
        if (*count == PARAMS_MAX) {
            problem_set(p, 400, "more than %d query parameters", PARAMS_MAX);
            return false;
        }
        size_t name_len = parse_percent_decode(at, strlen(at));
        size_t value_len = parse_percent_decode(value, strlen(value));
        if (name_len == (size_t)-1 || value_len == (size_t)-1) {
            problem_set(p, 400, "a query parameter has a broken %%-escape");
            return false;
        }
        at[name_len] = value[value_len] = '\0';
        params[(*count)++] = (struct request_param){at, value};
    }
    return true;
}

static struct batch_spec *parse_spec(struct call *c, const struct request_param *params, size_t count,
                                     struct problem *p)
{
    struct request_error error;
    struct request_input in = {
        .type = c->type, .params = params, .param_count = count, .config = c->routes->params.config};
    in.body = exchange_body(c->exchange, &in.body_len);
    struct batch_spec *spec = request_parse(&in, &error);
    if (spec != NULL)
        return spec;
    problem_set(p, error.status, "%s", error.detail);
    memcpy(p->pointer, error.pointer, sizeof p->pointer);
    p->offset = error.offset;
    return NULL;
}

static struct batch_spec *read_spec(struct call *c, struct problem *p)
{
    struct request_param params[PARAMS_MAX];
    size_t count;
    char *query = strdup(exchange_query(c->exchange));
    if (query == NULL) {
        problem_set(p, 500, "out of memory");
        return NULL;
    }
    struct batch_spec *spec =
        split_query(query, params, &count, p) ? parse_spec(c, params, count, p) : NULL;
    free(query);
    if (spec != NULL && spec->fail != FAIL_NEVER && c->encoder->streams) {
        spec_destroy(spec);
        problem_set(p, 400, "fail needs the whole answer before its status; it cannot go with %s",
                    c->encoder->media_type);
        return NULL;
    }
    return spec;
}

/* Seconds until `count` more members may find room, from the measured rate. */
static int retry_after_s(const struct routes *r, size_t excess)
{
    double seconds = (double)excess / shard_rate(r->params.shard) + 1;
    return seconds > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int)seconds;
}

static bool admit(struct call *c, const struct batch_spec *spec, struct problem *p)
{
    struct routes *r = c->routes;
    size_t limit = (size_t)r->params.config->limits.queued;
    size_t wanted = members_queued(r) + spec->count;
    if (!not_draining(c, p))
        return false;
    if (wanted <= limit)
        return true;
    problem_set(p, 503, "the queue is full: %zu members wait, limits.queued is %zu",
                members_queued(r), limit);
    p->retry_after_s = retry_after_s(r, wanted - limit);
    metrics_add(r->params.metrics, METRIC_BATCHES_REFUSED_FULL, 1);
    return false;
}

/* "00-" 32 hex "-" 16 hex "-" 2 hex, lower case; anything else is left out, as the standard says. */
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

static void take_trace(struct call *c, struct batch_spec *spec)
{
    const struct http_field *f = http_find(exchange_head(c->exchange), "traceparent");
    if (is_traceparent(f))
        spec->traceparent = arena_strndup(&spec->arena, f->value, f->value_len);
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
    c->fail = spec->fail;
    take_trace(c, spec);
    c->batch = batch_start(c->routes->params.batches, &params);
    exchange_drop_body(c->exchange);
    if (c->batch == NULL) {
        problem_set(&p, 500, "out of memory");
        answer_problem(c, &p);
        return;
    }
    if (c->request_id[0] == '\0')
        memcpy(c->request_id, batch_id(c->batch), strlen(batch_id(c->batch)) + 1);
    if (c->encoder->streams)
        begin_stream(c);
}

static void batch_on_request(struct call *c)
{
    struct problem p;
    int64_t begin = clock_us();
    struct batch_spec *spec = read_spec(c, &p);
    if (spec == NULL) {
        answer_problem(c, &p);
    } else if (!admit(c, spec, &p)) {
        spec_destroy(spec);
        answer_problem(c, &p);
    } else {
        start_batch(c, spec, clock_us() - begin);
    }
}

/* --- the table --- */

static const struct route route_table[] = {
    {"/v1/batch", "POST", "POST", batch_on_head, batch_on_request},
    {"/metrics", "GET", "GET, HEAD", NULL, on_metrics},
    {"/-/healthy", "GET", "GET, HEAD", NULL, on_healthy},
    {"/-/ready", "GET", "GET, HEAD", NULL, on_ready},
    {"/", "GET", "GET, HEAD", NULL, on_index},
};

static bool method_fits(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static const struct route *find_route(struct exchange *ex, struct problem *p)
{
    const char *path = exchange_path(ex);
    for (size_t i = 0; i < sizeof route_table / sizeof route_table[0]; i++) {
        const struct route *route = &route_table[i];
        if (strcmp(route->path, path) != 0)
            continue;
        if (method_fits(route, exchange_head(ex)->method))
            return route;
        problem_set(p, 405, "this path takes %s", route->allow);
        p->allow = route->allow;
        return NULL;
    }
    problem_set(p, 404, "no such path; the API begins at /v1/batch");
    return NULL;
}

/* Echoed when it is short and harmless, else the batch's id stands in. */
static void take_request_id(struct call *c, const struct http_head *head)
{
    get_field(head, "X-Request-Id", c->request_id, sizeof c->request_id);
    for (const char *s = c->request_id; *s != '\0'; s++)
        if (*s <= ' ' || *s >= 0x7f)
            c->request_id[0] = '\0';
}

static void on_head(void *arg, struct exchange *ex)
{
    struct routes *r = arg;
    struct problem p;
    struct call *c = calloc(1, sizeof *c);
    if (c == NULL) {
        struct answer a = {.status = 503, .close = true};
        front_answer(ex, &a);
        return;
    }
    c->routes = r;
    c->exchange = ex;
    list_init(&c->node);
    exchange_set_data(ex, c);
    take_request_id(c, exchange_head(ex));
    c->route = find_route(ex, &p);
    if (c->route == NULL)
        answer_problem(c, &p);
    else if (c->route->on_head != NULL)
        c->route->on_head(c);
}

static void on_request(void *arg, struct exchange *ex)
{
    struct call *c = exchange_data(ex);
    (void)arg;
    c->route->on_request(c);
}

static void release_batch(struct call *c)
{
    if (c->batch != NULL)
        batch_release(c->batch);
    c->batch = NULL;
}

static void on_gone(void *arg, struct exchange *ex)
{
    struct routes *r = arg;
    struct call *c = exchange_data(ex);
    if (c == NULL || c->batch == NULL)
        return;
    metrics_add(r->params.metrics, METRIC_BATCHES_CLIENT_GONE, 1);
    release_batch(c);
}

static void on_finished(void *arg, struct exchange *ex)
{
    struct call *c = exchange_data(ex);
    (void)arg;
    if (c == NULL)
        return;
    release_batch(c);
    list_remove(&c->node);
    buf_fini(&c->pending);
    free(c);
}

struct front_handler routes_handler(struct routes *r)
{
    return (struct front_handler){r, on_head, on_request, on_gone, on_finished};
}

/* --- life --- */

struct routes *routes_create(const struct routes_params *params)
{
    struct routes *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->params = *params;
    list_init(&r->streams);
    uv_timer_init(params->loop, &r->ping_timer);
    r->ping_timer.data = r;
    return r;
}

static void on_closed(uv_handle_t *handle)
{
    struct routes *r = handle->data;
    void (*closed)(void *arg) = r->closed;
    void *arg = r->closed_arg;
    free(r);
    closed(arg);
}

void routes_close(struct routes *r, void (*closed)(void *arg), void *arg)
{
    assert(list_empty(&r->streams));
    r->closed = closed;
    r->closed_arg = arg;
    uv_close((uv_handle_t *)&r->ping_timer, on_closed);
}

void routes_set_front(struct routes *r, const struct front *front)
{
    r->front = front;
}

void routes_drain(struct routes *r)
{
    r->draining = true;
}

void routes_reload(struct routes *r, const struct config *config)
{
    r->params.config = config;
}

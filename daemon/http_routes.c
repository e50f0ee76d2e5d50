/* SPDX-License-Identifier: MIT
 *
 * http_routes - see http_routes.h. Called by http_front (head, request, gone, finished), on the
 * loop's thread.
 *
 * A `call` is what an exchange is about: made when its head is there, freed when the front is done
 * with the exchange, however that ended. A route is a row of the table: a step before the body and
 * one when it is in. Probes, metrics and the page are here; http_routes_batch.c has POST /v1/batch,
 * and http_routes_read.c how its body is read.
 */
#include "http_routes_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { SILENT_US = 5 * US_PER_S }; /* a fetch loop that has not turned for so long is stuck */

struct route {
    const char *path, *method, *allow;
    void (*on_head)(struct call *c); /* before the body */
    void (*on_request)(struct call *c);
};

/* --- what both halves use --- */

void routes_answer(struct call *c, struct answer *a)
{
    if (c->request_id[0] != '\0')
        answer_header(a, "X-Request-Id", "%s", c->request_id);
    front_answer(c->exchange, a);
}

void routes_answer_problem(struct call *c, const struct problem *p)
{
    struct answer a = answer_of_problem(p);
    routes_answer(c, &a);
}

size_t routes_members_queued(const struct routes *r)
{
    return shard_waiting(r->params.shard) + batches_unsubmitted(r->params.batches);
}

/* --- probes, metrics, the page --- */

/* They know no use for a body. Were one read for them, who needs no token for the probes could fill
 * limits.request_bytes by it. */
static void on_head_of_no_body(struct call *c)
{
    const struct http_head *head = exchange_head(c->exchange);
    struct problem p;
    if (http_content_length(head) <= 0 && http_find(head, "Transfer-Encoding") == NULL)
        return;
    problem_set(&p, 413, "this path takes no body");
    routes_answer_problem(c, &p);
}

static void answer_text(struct call *c, int status, const char *type, struct buf *body)
{
    struct answer a = {.status = status, .content_type = type, .body = *body};
    routes_answer(c, &a);
}

static void answer_word(struct call *c, int status, const char *word)
{
    struct buf body;
    buf_init(&body, 0);
    buf_add_str(&body, word);
    answer_text(c, status, "text/plain; charset=utf-8", &body);
}

static void on_healthy(struct call *c)
{
    answer_word(c, 200, "ok\n");
}

/* Also asks the fetch loops whether they turn, for the next one who asks here. */
static void on_ready(struct call *c)
{
    const struct routes *r = c->routes;
    if (r->draining)
        answer_word(c, 503, "draining\n");
    else if (routes_members_queued(r) >= (size_t)r->params.config->limits.queued)
        answer_word(c, 503, "full\n");
    else if (shard_silent_us(r->params.shard) >= SILENT_US)
        answer_word(c, 503, "stuck\n");
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
    metrics_set(&sum, METRIC_MEMBERS_UNREAD, (int64_t)batches_unread(r->params.batches));
    metrics_set(&sum, METRIC_BATCHES_RUNNING, (int64_t)batches_running(r->params.batches));
    if (r->front != NULL) {
        metrics_set(&sum, METRIC_CLIENTS, (int64_t)front_clients(r->front));
        metrics_set(&sum, METRIC_REQUEST_BYTES_HELD, (int64_t)front_request_bytes(r->front));
    }
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
                "GET  /-/healthy   200 while clients are served\n"
                "GET  /-/ready     200 while batches are taken\n");
}

/* --- the table --- */

static const struct route route_table[] = {
    {"/v1/batch", "POST", "POST", routes_batch_on_head, routes_batch_on_request},
    {"/metrics", "GET", "GET, HEAD", on_head_of_no_body, on_metrics},
    {"/-/healthy", "GET", "GET, HEAD", on_head_of_no_body, on_healthy},
    {"/-/ready", "GET", "GET, HEAD", on_head_of_no_body, on_ready},
    {"/", "GET", "GET, HEAD", on_head_of_no_body, on_index},
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
    const struct http_field *f = http_find(head, "X-Request-Id");
    if (f == NULL || f->value_len > REQUEST_ID_MAX)
        return;
    memcpy(c->request_id, f->value, f->value_len); /* the call is zeroed */
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
        routes_answer_problem(c, &p);
    else
        c->route->on_head(c);
}

static void on_request(void *arg, struct exchange *ex)
{
    struct call *c = exchange_data(ex);
    (void)arg;
    c->route->on_request(c);
}

/* One that had not ended is cancelled with it. */
static void release(struct call *c)
{
    if (c->batch != NULL && !c->ended)
        metrics_add(c->routes->params.metrics, METRIC_BATCHES_CLIENT_GONE, 1);
    routes_batch_release(c);
}

static void on_gone(void *arg, struct exchange *ex)
{
    struct call *c = exchange_data(ex);
    (void)arg;
    if (c != NULL)
        release(c);
}

static void on_finished(void *arg, struct exchange *ex)
{
    struct call *c = exchange_data(ex);
    (void)arg;
    if (c == NULL)
        return;
    routes_read_leave(c);
    release(c);
    list_remove(&c->node);
    free(c->ready);
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
    r->quotas = quotas_create();
    if (r->quotas == NULL || aside_init(&r->aside, params->loop) != 0) {
        quotas_destroy(r->quotas);
        free(r);
        return NULL;
    }
    list_init(&r->streams);
    list_init(&r->unread);
    uv_timer_init(params->loop, &r->ping_timer);
    r->ping_timer.data = r;
    r->open_handles = 2;
    return r;
}

static void on_one_closed(void *arg)
{
    struct routes *r = arg;
    if (--r->open_handles > 0)
        return;
    void (*closed)(void *arg) = r->closed;
    void *closed_arg = r->closed_arg;
    quotas_destroy(r->quotas);
    free(r);
    closed(closed_arg);
}

static void on_handle_closed(uv_handle_t *handle)
{
    on_one_closed(handle->data);
}

void routes_close(struct routes *r, void (*closed)(void *arg), void *arg)
{
    assert(list_empty(&r->streams));
    r->closed = closed;
    r->closed_arg = arg;
    uv_close((uv_handle_t *)&r->ping_timer, on_handle_closed);
    aside_close(&r->aside, on_one_closed, r);
}

void routes_set_front(struct routes *r, struct front *front)
{
    r->front = front;
}

void routes_drain(struct routes *r)
{
    r->draining = true;
    routes_read_drain(r);
}

void routes_reload(struct routes *r, const struct config *config)
{
    r->params.config = config;
}

/* SPDX-License-Identifier: MIT
 *
 * http_routes_read - the body and the query of POST /v1/batch to a spec. Called by
 * http_routes_batch when a body is in, and by http_routes when a call ends and when the draining
 * begins, on the loop's thread; request_parse() itself may run on a thread of its own.
 *
 * One byte of a body that was made to be dear takes up to 0.2 us, so 4 MiB would hold up everybody
 * for most of a second. Short bodies are read at once. Long ones are read aside, one at a time, and
 * so are those of middling length while others have taken their part of this turn. Identities take
 * turns at that, so that who sends many long ones makes others wait for one of them only.
 *
 * What is read aside belongs to a `reading` with copies of all it needs: its call may end or be
 * refused, and the configuration be replaced meanwhile. A body is read by the configuration of when
 * that begins; it is admitted, and its batch started, by that of when it ends. The call learns of
 * it only here, on the loop.
 */
#include "http_routes_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "parse.h"

enum {
    PARAMS_MAX = 64,       /* query parameters */
    SHORT_BODY = 4096,     /* up to that it is always read at once: 1 ms at most */
    LONG_BODY = 32768,     /* more than that never: 8 ms */
    READ_TURN_US = 4000,   /* of a turn, from then on short ones only */
};

struct query { /* a copy, cut into parameters */
    char *text;
    struct request_param params[PARAMS_MAX];
    size_t count;
};

struct queue { /* of an identity that has bodies to be read aside */
    struct list node;  /* routes->unread, the next one first; none while a body is read */
    struct list calls; /* in the order in which they came */
    char identity[];
};

struct reading { /* of a body, aside */
    struct routes *routes;
    struct queue *queue;
    struct call *call; /* NULL: it has ended, or was refused */
    size_t charged;    /* of the body, from then on */
    struct buf body;
    struct query query;
    struct config config; /* by request_copy_config() */
    struct request_input in;
    struct request_error error;
    struct batch_spec *spec; /* NULL: refused */
    int64_t took_us;
};

/* --- the query --- */

/* "name=value" or "name", decoded in place. */
static bool query_add(struct query *q, char *name, struct problem *p)
{
    char *equals = strchr(name, '=');
    char *value = equals != NULL ? equals + 1 : name + strlen(name);
    if (equals != NULL)
        *equals = '\0';
    bool is_format = strcmp(name, "format") == 0; /* as http_routes_batch has seen it */
    size_t name_len = parse_percent_decode(name, strlen(name));
    size_t value_len = parse_percent_decode(value, strlen(value));
    if (name_len == (size_t)-1 || value_len == (size_t)-1) {
        problem_set(p, 400, "a query parameter has a broken %%-escape, or %%00");
        return false;
    }
    name[name_len] = value[value_len] = '\0';
    if (!is_format && strcmp(name, "format") == 0) {
        problem_set(p, 400, "the query parameter \"format\" is written without escapes");
        return false;
    }
    q->params[q->count++] = (struct request_param){name, value};
    return true;
}

static bool query_split(struct query *q, struct problem *p)
{
    char *rest = q->text, *at;
    while ((at = strsep(&rest, "&")) != NULL) {
        if (*at == '\0')
            continue;
        if (q->count == PARAMS_MAX) {
            problem_set(p, 400, "more than %d query parameters", PARAMS_MAX);
            return false;
        }
        if (!query_add(q, at, p))
            return false;
    }
    return true;
}

/* q->text is to be freed, whatever comes of it. */
static bool query_take(struct query *q, const struct call *c, struct problem *p)
{
    q->count = 0;
    q->text = strdup(exchange_query(c->exchange));
    if (q->text != NULL)
        return query_split(q, p);
    problem_set(p, 500, "out of memory");
    return false;
}

/* --- at once --- */

static void say_error(const struct request_error *error, struct problem *p)
{
    problem_set(p, error->status, "%s", error->detail);
    memcpy(p->pointer, error->pointer, sizeof p->pointer);
    p->offset = error->offset;
}

/* All but the body and the configuration. */
static struct request_input input_of(const struct call *c, const struct query *q)
{
    const struct shard_pool *pool = exchange_listener_data(c->exchange);
    return (struct request_input){.type = c->type,
                                  .params = q->params,
                                  .param_count = q->count,
                                  .userinfo = policy_takes_userinfo(shard_pool_policy(pool))};
}

static struct batch_spec *parse_spec(const struct call *c, const struct query *q, struct problem *p)
{
    struct request_error error;
    struct request_input in = input_of(c, q);
    in.config = c->routes->params.config;
    in.body = exchange_body(c->exchange, &in.body_len);
    struct batch_spec *spec = request_parse(&in, &error);
    if (spec == NULL)
        say_error(&error, p);
    return spec;
}

static void read_now(struct call *c)
{
    struct routes *r = c->routes;
    struct query q;
    struct problem p;
    int64_t begin = clock_us();
    struct batch_spec *spec = query_take(&q, c, &p) ? parse_spec(c, &q, &p) : NULL;
    free(q.text);
    r->read_us += clock_us() - begin;
    routes_batch_on_spec(c, spec, &p, begin);
}

/* --- aside --- */

static void reading_free(struct reading *g)
{
    buf_fini(&g->body);
    free(g->query.text);
    free(g);
}

static struct reading *reading_create(struct call *c, struct problem *p)
{
    struct reading *g = calloc(1, sizeof *g);
    if (g == NULL) {
        problem_set(p, 500, "out of memory");
        return NULL;
    }
    if (!query_take(&g->query, c, p)) {
        reading_free(g);
        return NULL;
    }
    g->routes = c->routes;
    g->call = c;
    exchange_take_body(c->exchange, &g->body);
    request_copy_config(&g->config, c->routes->params.config);
    g->in = input_of(c, &g->query);
    g->in.body = g->body.data;
    g->in.body_len = g->body.len;
    g->in.config = &g->config;
    return g;
}

/* On the other thread. The body is freed there, too: 4 MiB take a while. */
static void on_work(void *arg)
{
    struct reading *g = arg;
    int64_t begin = clock_us();
    g->spec = request_parse(&g->in, &g->error);
    buf_fini(&g->body);
    g->took_us = clock_us() - begin;
}

static void deliver(struct reading *g)
{
    struct routes *r = g->routes;
    struct problem p;
    if (g->call == NULL) {
        if (g->spec != NULL)
            spec_destroy(g->spec);
        if (r->front != NULL)
            front_uncharge(r->front, g->charged);
        return;
    }
    if (g->spec == NULL)
        say_error(&g->error, &p);
    routes_batch_on_spec(g->call, g->spec, &p, clock_us() - g->took_us);
}

/* --- turns --- */

static bool is_of(const struct queue *q, const char *identity)
{
    return strcmp(q->identity, identity) == 0;
}

/* NULL when memory runs out. */
static struct queue *queue_of(struct routes *r, const char *identity)
{
    struct list *node, *next;
    size_t n = strlen(identity) + 1;
    if (r->reading != NULL && is_of(r->reading->queue, identity))
        return r->reading->queue;
    LIST_FOREACH_SAFE(node, next, &r->unread)
        if (is_of(LIST_CONTAINER(node, struct queue, node), identity))
            return LIST_CONTAINER(node, struct queue, node);
    struct queue *q = malloc(sizeof *q + n);
    if (q == NULL)
        return NULL;
    memcpy(q->identity, identity, n);
    list_init(&q->calls);
    list_append(&r->unread, &q->node);
    return q;
}

/* The next one is after those of all others; without a body there is none. */
static void queue_end(struct routes *r, struct queue *q)
{
    if (list_empty(&q->calls))
        free(q);
    else
        list_append(&r->unread, &q->node);
}

static void read_next(struct routes *r);

static void on_done(void *arg)
{
    struct reading *g = arg;
    struct routes *r = g->routes;
    r->reading = NULL;
    queue_end(r, g->queue);
    deliver(g);
    reading_free(g);
    read_next(r);
}

/* Begins to read a body of that identity, if one waits: the calls may have ended. */
static void read_of(struct routes *r, struct queue *q)
{
    struct list *node;
    struct problem p;
    while (r->reading == NULL && (node = list_pop(&q->calls)) != NULL) {
        struct call *c = LIST_CONTAINER(node, struct call, node);
        r->reading = reading_create(c, &p);
        if (r->reading == NULL)
            routes_answer_problem(c, &p);
    }
    if (r->reading == NULL) {
        free(q);
        return;
    }
    r->reading->queue = q;
    aside_run(&r->aside, on_work, on_done, r->reading);
}

static void read_next(struct routes *r)
{
    struct list *node;
    while (r->reading == NULL && (node = list_pop(&r->unread)) != NULL)
        read_of(r, LIST_CONTAINER(node, struct queue, node));
}

/* --- the choice --- */

/* Whether bodies have taken their part of this turn; uv_now() is another one in the next, or they
 * took less than a millisecond. */
static bool has_read_enough(struct routes *r)
{
    uint64_t now = uv_now(r->params.loop);
    if (now != r->read_at_ms) {
        r->read_at_ms = now;
        r->read_us = 0;
    }
    return r->read_us >= READ_TURN_US;
}

void routes_read(struct call *c)
{
    struct routes *r = c->routes;
    size_t n;
    (void)exchange_body(c->exchange, &n);
    bool enough = has_read_enough(r);
    if (n <= SHORT_BODY || (n <= LONG_BODY && !enough)) {
        read_now(c);
        return;
    }
    struct queue *queue = queue_of(r, exchange_identity(c->exchange));
    if (queue == NULL) {
        struct problem p;
        problem_set(&p, 500, "out of memory");
        routes_answer_problem(c, &p);
        return;
    }
    list_append(&queue->calls, &c->node);
    read_next(r);
}

void routes_read_leave(struct call *c)
{
    struct reading *g = c->routes->reading;
    if (g == NULL || g->call != c)
        return;
    g->call = NULL;
    g->charged = exchange_leave_charge(c->exchange);
}

static void refuse_all(struct queue *q)
{
    struct list *node;
    while ((node = list_pop(&q->calls)) != NULL)
        routes_batch_refuse_draining(LIST_CONTAINER(node, struct call, node));
}

void routes_read_drain(struct routes *r)
{
    struct list *node;
    struct call *c = r->reading != NULL ? r->reading->call : NULL;
    if (c != NULL) {
        routes_read_leave(c);
        routes_batch_refuse_draining(c);
    }
    if (r->reading != NULL)
        refuse_all(r->reading->queue);
    while ((node = list_pop(&r->unread)) != NULL) {
        struct queue *q = LIST_CONTAINER(node, struct queue, node);
        refuse_all(q);
        free(q);
    }
}

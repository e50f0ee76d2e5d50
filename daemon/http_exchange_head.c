/* SPDX-License-Identifier: MIT
 *
 * http_exchange_head - what is made of a request's head before its body is read: its fields,
 * whether it may be asked at all (http_check, tokens, peers), who asks, and whether there is room
 * for it. Called by http_exchange, inside MHD_run().
 */
#include "http_internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    VALUE_BYTES = 64,         /* libmicrohttpd's struct for a field or cookie */
    ANSWER_HEAD_BYTES = 1024, /* it has 450 at most; the rest for chunks of a body */
    ERROR_HEAD_BYTES = 512,   /* of an answer before the body: it has 300 at most */
};

struct collect {
    struct http_field *fields;
    size_t count, max;
};

static enum MHD_Result on_field(void *arg, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len)
{
    struct collect *c = arg;
    (void)kind;
    if (c->count == c->max)
        return MHD_NO;
    c->fields[c->count++] =
        (struct http_field){name, value != NULL ? value : "", name_len, value_len};
    return MHD_YES;
}

void exchange_collect_head(struct exchange *ex, struct http_field *fields, const char *method,
                           const char *version)
{
    struct collect c = {fields, 0, HTTP_FIELDS_MAX + 1}; /* one more: too many shows */
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(ex->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    MHD_get_connection_values_n(ex->connection, MHD_HEADER_KIND, on_field, &c);
    ex->head = (struct http_head){
        .method = method,
        .target = ex->target,
        .version = version,
        .fields = fields,
        .count = c.count,
        .head_bytes = size != NULL ? size->header_size : 0,
        .in_place = MHD_VERSION < 0x01000000,
    };
}

static const char *bearer(const struct http_head *head, size_t *n)
{
    static const char scheme[] = "Bearer ";
    const struct http_field *f = http_find(head, "Authorization");
    *n = 0;
    if (f == NULL || f->value_len < sizeof scheme || strncasecmp(f->value, scheme, 7) != 0)
        return "";
    *n = f->value_len - 7;
    return f->value + 7;
}

/* Probes may ask without a token; by exact path only. */
static bool is_exempt(const struct exchange *ex)
{
    return strcmp(ex->target, "/-/healthy") == 0 || strcmp(ex->target, "/-/ready") == 0;
}

/* Who asks when no token says so, with a colon, which no token's name has: uid:N or ip:ADDRESS. A
 * process of this machine has some 2^24 loopback addresses to call from; they are one client, or
 * quotas and turns would mean nothing. */
static void set_identity(struct exchange *ex)
{
    const struct client *c = ex->client;
    const struct http_socket *s = &c->server->socket;
    bool loopback = s->family != AF_UNIX && ip_is_loopback(&s->address);
    snprintf(ex->identity, sizeof ex->identity, "%s%s", s->family == AF_UNIX ? "" : "ip:",
             loopback ? "loopback" : c->address);
}

static bool check_token(struct exchange *ex, struct problem *p)
{
    const struct tokens *tokens = ex->client->server->tokens;
    size_t n;
    set_identity(ex);
    if (tokens == NULL || is_exempt(ex))
        return true;
    const char *token = bearer(&ex->head, &n);
    const char *name = tokens_find(tokens, token, n);
    if (name == NULL) {
        problem_set(p, 401, "a valid token is needed: Authorization: Bearer TOKEN");
        return false;
    }
    snprintf(ex->identity, sizeof ex->identity, "%s", name);
    return true;
}

/* On a Unix socket the kernel says who asks; there is no exemption, not for probes either. */
static bool check_peer(const struct exchange *ex, struct problem *p)
{
    const struct client *c = ex->client;
    const struct server *s = c->server;
    if (s->socket.family != AF_UNIX || s->peers == NULL)
        return true;
    if (c->uid != (uid_t)-1 && peers_has(s->peers, c->uid))
        return true;
    problem_set(p, 403, "this user may not ask here; `peers` of the listener names those that may");
    return false;
}

static int count_values(const struct exchange *ex)
{
    return MHD_get_connection_values(ex->connection, MHD_HEADER_KIND | MHD_COOKIE_KIND, NULL, NULL);
}

/* Everything that libmicrohttpd keeps of a head is in the connection's pool. */
static bool has_room(const struct exchange *ex, size_t bytes)
{
    const struct http_field *cookie = http_find(&ex->head, "Cookie"); /* is copied */
    size_t used = ex->head.head_bytes + (cookie != NULL ? cookie->value_len : 0) +
                  (size_t)count_values(ex) * VALUE_BYTES;
    return used + bytes <= ex->client->server->pool_bytes;
}

/* Our answer's head must go there too, or the request would be worked on for nothing. */
static bool check_room(struct exchange *ex, struct problem *p)
{
    if (has_room(ex, ANSWER_HEAD_BYTES))
        return true;
    problem_set(p, 431, "the request's head has %zu bytes and %d header fields and cookies, each "
                        "of which takes %d bytes more: that is too much together",
                ex->head.head_bytes, count_values(ex), VALUE_BYTES);
    return false;
}

/* One body that may be sent must find room. */
static int64_t most_memory(const struct front *f)
{
    const struct config_limits *l = f->params.limits;
    return l->request_bytes > l->body_bytes ? l->request_bytes : l->body_bytes;
}

bool front_has_memory(const struct front *f, size_t n)
{
    return n == 0 || f->request_bytes + n <= (size_t)most_memory(f);
}

void exchange_refuse_memory(const struct exchange *ex, struct problem *p)
{
    const struct front *f = ex->front;
    problem_set(p, 503, "request bodies of %zu bytes are held, of at most %lld "
                        "(limits.request_bytes, or limits.body_bytes where that is more)",
                f->request_bytes, (long long)most_memory(f));
    p->retry_after_s = 1;
    metrics_add(f->params.metrics, METRIC_HTTP_REFUSED_MEMORY, 1);
}

/* What a body's announced length says before it is read. */
static bool check_length(struct exchange *ex, struct problem *p)
{
    const struct front *f = ex->front;
    int64_t length = ex->body_bytes = http_content_length(&ex->head);
    ex->chunked = http_find(&ex->head, "Transfer-Encoding") != NULL;
    if (length > f->params.limits->body_bytes)
        problem_set(p, 413, "the body has %lld bytes, limits.body_bytes is %lld", (long long)length,
                    (long long)f->params.limits->body_bytes);
    else if (length > 0 && !front_has_memory(f, (size_t)length))
        exchange_refuse_memory(ex, p);
    else
        return true;
    return false;
}

/* By the listener's rules of now. */
static bool may_ask(struct exchange *ex, struct problem *p)
{
    const struct server *s = ex->client->server;
    bool tcp = s->socket.family != AF_UNIX;
    return (!tcp || http_check_host(&ex->head, &s->conf->hosts, p)) &&
           http_check_site(&ex->head, p) && check_peer(ex, p) && check_token(ex, p);
}

bool exchange_may_still_ask(struct exchange *ex, struct problem *p)
{
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    const struct http_head head = ex->head;
    char identity[sizeof ex->identity];
    if (ex->rules == ex->client->server->rules)
        return true; /* no reload since */
    memcpy(identity, ex->identity, sizeof identity);
    exchange_collect_head(ex, fields, head.method, head.version);
    bool may = may_ask(ex, p);
    ex->head = head;
    memcpy(ex->identity, identity, sizeof identity);
    return may;
}

bool exchange_check_head(struct exchange *ex, struct problem *p)
{
    ex->cramped = !has_room(ex, ERROR_HEAD_BYTES);
    ex->rules = ex->client->server->rules;
    if (!http_check_shape(&ex->head, p) || !may_ask(ex, p))
        return false;
    if (ex->head.head_bytes > (size_t)ex->front->head_bytes) {
        problem_set(p, 431, "the request's head has %zu bytes, limits.head_bytes is %lld",
                    ex->head.head_bytes, (long long)ex->front->head_bytes);
        return false;
    }
    return check_room(ex, p) && check_length(ex, p);
}

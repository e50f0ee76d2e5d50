/* SPDX-License-Identifier: MIT
 *
 * http_front - see http_front.h. Called by gatherd (life, turn) and http_routes (answers), on the
 * loop's thread.
 *
 * Owns one MHD daemon a listening socket, one `client` a connection and one `exchange` a request. An
 * exchange is suspended from the end of its body until its answer is there; libmicrohttpd is blind
 * then, so a duplicate of its descriptor is watched for the hang-up, from 30 ms on, which spares the short
 * requests the system calls.
 *
 * Deadlines are absolute and ours, because libmicrohttpd's count from the last byte and so never end for
 * a client that sends one byte at a time: head, body, idle, and for each piece of the answer. A deadline
 * that passes shuts the socket down; libmicrohttpd sees the end and cleans up.
 */
#include "http_front.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "clock.h"
#include "heap.h"
#include "http_listen.h"
#include "list.h"
#include "log.h"

enum {
    SERVERS_MAX = 64,
    POOL_BYTES_OVER_HEAD = 8192,  /* connection memory beyond limits.head_bytes */
    STREAM_CHUNK = 32768,         /* asked of fill() at a time, about */
    WATCH_AFTER_US = 30000,       /* a suspended exchange is watched for hang-up from then on */
    OVERLONG_BODY_SWALLOWED = 65536, /* read beyond limits.body_bytes, to be able to say 413 */
};

struct server { /* one listening socket */
    struct front *front;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    struct http_socket socket;
    const struct config_listener *conf;
    const struct tokens *tokens;
    void *data;
    char listener[64]; /* its name; the configuration it stands in may be replaced */
    bool open;
};

struct client { /* one connection */
    struct front *front;
    struct server *server;
    struct list node;
    struct heap_node deadline;
    int fd;
    char address[64];
    struct exchange *exchange; /* the request being worked on */
};

struct watch { /* of a suspended exchange's client */
    uv_poll_t poll;
    struct exchange *exchange; /* NULL = the exchange has gone on without it */
    struct front *front;
    int fd;
};

struct exchange {
    struct list node;    /* front->suspended, front->resuming or none */
    struct front *front;
    struct client *client;
    struct MHD_Connection *connection;
    char *target; /* raw */
    char *query;  /* in target */
    struct http_head head;
    struct buf body;
    char identity[72]; /* a token's name has 64 bytes at most, an address fewer */
    bool head_seen, body_too_large, told_handler, answered, queued, gone, suspended;
    int64_t suspended_us;
    struct watch *watch;
    struct answer answer;
    size_t unread_from; /* of answer.body, when streaming */
    bool stream_ended;
    void *data;
};

struct front {
    struct front_params params;
    struct server servers[SERVERS_MAX];
    size_t server_count;
    struct list clients, suspended, resuming;
    size_t client_count, exchange_count;
    struct heap deadlines;
    uv_timer_t deadline_timer, watch_timer;
    bool dirty, draining;
    size_t open_handles; /* uv handles not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
};

static void wake(struct front *f)
{
    f->dirty = true;
    f->params.wake(f->params.arg);
}

/* --- deadlines --- */

static void set_deadline(struct client *c, int64_t after_us)
{
    if (!heap_set(&c->front->deadlines, &c->deadline, clock_us() + after_us))
        LOG_ERROR("front", "client=%s error=\"no memory for a deadline\"", c->address);
}

static void clear_deadline(struct client *c)
{
    heap_remove(&c->front->deadlines, &c->deadline);
}

static void run_deadlines(struct front *f)
{
    int64_t now = clock_us();
    struct heap_node *first;
    while ((first = heap_min(&f->deadlines)) != NULL && first->key <= now) {
        struct client *c = LIST_CONTAINER(first, struct client, deadline);
        heap_remove(&f->deadlines, first);
        LOG_DEBUG("front", "client=%s closed=deadline", c->address);
        shutdown(c->fd, SHUT_RDWR);
        f->dirty = true;
    }
}

static void on_front_timer(uv_timer_t *timer)
{
    struct front *f = timer->data;
    f->params.wake(f->params.arg);
}

static void arm_deadline_timer(struct front *f)
{
    const struct heap_node *first = heap_min(&f->deadlines);
    if (first == NULL) {
        uv_timer_stop(&f->deadline_timer);
        return;
    }
    int64_t wait_us = first->key - clock_us();
    /* to the next 100 ms: a crowd of clients shares its wake-ups */
    uint64_t wait_ms = wait_us <= 0 ? 0 : (uint64_t)(wait_us / (100 * US_PER_MS) + 1) * 100;
    if (!uv_is_active((uv_handle_t *)&f->deadline_timer) ||
        uv_timer_get_due_in(&f->deadline_timer) > wait_ms)
        uv_timer_start(&f->deadline_timer, on_front_timer, wait_ms, 0);
}

/* --- clients that leave --- */

static void handle_closed(struct front *f)
{
    if (--f->open_handles > 0)
        return;
    void (*closed)(void *arg) = f->closed;
    void *arg = f->closed_arg;
    heap_fini(&f->deadlines);
    free(f);
    closed(arg);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *w = handle->data;
    struct front *f = w->front;
    close(w->fd);
    free(w);
    handle_closed(f);
}

static void watch_stop(struct exchange *ex)
{
    struct watch *w = ex->watch;
    if (w == NULL)
        return;
    ex->watch = NULL;
    w->exchange = NULL;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static void resume(struct exchange *ex)
{
    if (!ex->suspended)
        return;
    ex->suspended = false;
    list_remove(&ex->node);
    list_append(&ex->front->resuming, &ex->node);
    wake(ex->front);
}

static void on_hang_up(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    struct exchange *ex = w->exchange;
    if (status == 0 && (events & UV_DISCONNECT) == 0)
        return;
    ex->gone = true;
    watch_stop(ex);
    resume(ex);
}

static void watch_start(struct exchange *ex)
{
    struct front *f = ex->front;
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return;
    w->fd = fcntl(ex->client->fd, F_DUPFD_CLOEXEC, 0);
    if (w->fd < 0 || uv_poll_init(f->params.loop, &w->poll, w->fd) != 0) {
        if (w->fd >= 0)
            close(w->fd);
        free(w);
        return;
    }
    w->front = f;
    w->exchange = ex;
    w->poll.data = w;
    ex->watch = w;
    f->open_handles++;
    uv_poll_start(&w->poll, UV_DISCONNECT, on_hang_up);
}

/* The suspended list is in order of time: those that are old enough stand in front. */
static void on_watch_timer(uv_timer_t *timer)
{
    struct front *f = timer->data;
    int64_t old = clock_us() - WATCH_AFTER_US;
    struct list *node, *next;
    LIST_FOREACH_SAFE(node, next, &f->suspended) {
        struct exchange *ex = LIST_CONTAINER(node, struct exchange, node);
        if (ex->suspended_us > old) {
            uv_timer_start(&f->watch_timer, on_watch_timer, WATCH_AFTER_US / 1000, 0);
            return;
        }
        if (ex->watch == NULL)
            watch_start(ex);
    }
}

static void suspend(struct exchange *ex)
{
    struct front *f = ex->front;
    ex->suspended = true;
    ex->suspended_us = clock_us();
    list_append(&f->suspended, &ex->node);
    clear_deadline(ex->client);
    MHD_suspend_connection(ex->connection);
    if (!uv_is_active((uv_handle_t *)&f->watch_timer)) {
        uv_update_time(f->params.loop);
        uv_timer_start(&f->watch_timer, on_watch_timer, WATCH_AFTER_US / 1000 + 1, 0);
    }
}

/* --- answers --- */

void answer_header(struct answer *a, const char *name, const char *fmt, ...)
{
    va_list args;
    assert(a->header_count < FRONT_HEADERS_MAX);
    a->headers[a->header_count].name = name;
    va_start(args, fmt);
    vsnprintf(a->headers[a->header_count].value, sizeof a->headers[0].value, fmt, args);
    va_end(args);
    a->header_count++;
}

static void count_answer(struct front *f, int status)
{
    metrics_add(f->params.metrics, status < 400   ? METRIC_HTTP_2XX
                                   : status < 500 ? METRIC_HTTP_4XX
                                                  : METRIC_HTTP_5XX, 1);
}

void front_answer(struct exchange *ex, struct answer *a)
{
    assert(!ex->answered);
    ex->answer = *a;
    ex->answered = true;
    a->body = (struct buf){0};
    count_answer(ex->front, a->status);
    resume(ex);
}

void front_wake(struct exchange *ex)
{
    if (ex->queued)
        resume(ex);
}

static void answer_problem(struct exchange *ex, const struct problem *p)
{
    struct answer a = {.status = p->status, .content_type = PROBLEM_MEDIA_TYPE, .close = true};
    buf_init(&a.body, 0);
    problem_print(p, &a.body);
    if (p->status == 401)
        answer_header(&a, "WWW-Authenticate", "Bearer");
    front_answer(ex, &a);
}

/* Moves what fill() makes into libmicrohttpd's buffer; suspends when there is nothing. */
static ssize_t on_stream_read(void *arg, uint64_t pos, char *to, size_t max)
{
    struct exchange *ex = arg;
    struct buf *b = &ex->answer.body;
    (void)pos;
    if (ex->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    while (ex->unread_from == b->len && !ex->stream_ended) {
        buf_clear(b);
        ex->unread_from = 0;
        enum fill state = ex->answer.fill(ex->answer.arg, b);
        ex->stream_ended = state == FILL_END;
        if (b->failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (b->len == 0 && state == FILL_WAIT) {
            suspend(ex);
            return 0;
        }
    }
    size_t n = b->len - ex->unread_from;
    if (n == 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n > max)
        n = max;
    memcpy(to, b->data + ex->unread_from, n);
    ex->unread_from += n;
    set_deadline(ex->client, ex->client->server->conf->send_timeout_us);
    return (ssize_t)n;
}

static struct MHD_Response *make_response(struct exchange *ex)
{
    struct answer *a = &ex->answer;
    struct MHD_Response *r;
    if (a->fill != NULL) {
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_CHUNK, on_stream_read, ex,
                                              NULL);
    } else {
        /* the exchange, and with it the body, outlives the response */
        r = MHD_create_response_from_buffer(a->body.len, a->body.data, MHD_RESPMEM_PERSISTENT);
    }
    if (r == NULL)
        return NULL;
    if (a->content_type != NULL)
        MHD_add_response_header(r, "Content-Type", a->content_type);
    for (size_t i = 0; i < a->header_count; i++)
        MHD_add_response_header(r, a->headers[i].name, a->headers[i].value);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (a->close || ex->front->draining)
        MHD_add_response_header(r, "Connection", "close");
    return r;
}

static enum MHD_Result queue_answer(struct exchange *ex)
{
    struct MHD_Response *r = make_response(ex);
    if (r == NULL)
        return MHD_NO;
    ex->queued = true;
    set_deadline(ex->client, ex->client->server->conf->send_timeout_us);
    enum MHD_Result rc = MHD_queue_response(ex->connection, (unsigned)ex->answer.status, r);
    MHD_destroy_response(r);
    return rc;
}

/* --- the head --- */

struct collect {
    struct http_field *fields;
    size_t count, max;
};

static enum MHD_Result on_field(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                const char *value, size_t value_len)
{
    struct collect *c = arg;
    (void)kind;
    if (c->count < c->max)
        c->fields[c->count] = (struct http_field){name, value != NULL ? value : "", name_len, value_len};
    c->count++;
    return MHD_YES;
}

static void collect_head(struct exchange *ex, struct http_field *fields, const char *method,
                         const char *version)
{
    struct collect c = {fields, 0, HTTP_FIELDS_MAX};
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

static bool check_token(struct exchange *ex, struct problem *p)
{
    const struct tokens *tokens = ex->client->server->tokens;
    size_t n;
    snprintf(ex->identity, sizeof ex->identity, "%s", ex->client->address);
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

static bool check_head(struct exchange *ex, struct problem *p)
{
    const struct server *s = ex->client->server;
    bool tcp = s->socket.family != AF_UNIX;
    if (!http_check_shape(&ex->head, p) ||
        (tcp && !http_check_host(&ex->head, &s->conf->hosts, p)) ||
        !http_check_site(&ex->head, p) || !check_token(ex, p))
        return false;
    int64_t length = http_content_length(&ex->head);
    if (length <= ex->front->params.limits->body_bytes)
        return true;
    problem_set(p, 413, "the body has %lld bytes, limits.body_bytes is %lld", (long long)length,
                (long long)ex->front->params.limits->body_bytes);
    return false;
}

static void split_target(struct exchange *ex)
{
    char *mark = strchr(ex->target, '?');
    ex->query = mark != NULL ? mark + 1 : ex->target + strlen(ex->target);
    if (mark != NULL)
        *mark = '\0';
}

static enum MHD_Result on_head(struct exchange *ex, const char *method, const char *version)
{
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct problem p;
    ex->head_seen = true;
    collect_head(ex, fields, method, version);
    set_deadline(ex->client, ex->client->server->conf->body_timeout_us);
    if (!check_head(ex, &p)) {
        answer_problem(ex, &p);
        return queue_answer(ex);
    }
    split_target(ex);
    ex->told_handler = true;
    ex->front->params.handler.on_head(ex->front->params.handler.arg, ex);
    ex->head.fields = NULL;
    ex->head.count = 0;
    return ex->answered ? queue_answer(ex) : MHD_YES;
}

/* --- the body --- */

static enum MHD_Result on_body(struct exchange *ex, const char *data, size_t n)
{
    size_t limit = (size_t)ex->front->params.limits->body_bytes;
    if (ex->body_too_large) {
        ex->unread_from += n; /* counts what is swallowed; the answer is not begun */
        return ex->unread_from > OVERLONG_BODY_SWALLOWED ? MHD_NO : MHD_YES;
    }
    if (ex->body.len + n > limit) {
        ex->body_too_large = true;
        buf_fini(&ex->body);
        return MHD_YES;
    }
    buf_add(&ex->body, data, n);
    return ex->body.failed ? MHD_NO : MHD_YES;
}

static void on_body_end(struct exchange *ex, const char *method, const char *version)
{
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct problem p;
    clear_deadline(ex->client);
    if (ex->body_too_large) {
        problem_set(&p, 413, "the body is larger than limits.body_bytes (%lld)",
                    (long long)ex->front->params.limits->body_bytes);
        ex->unread_from = 0;
        answer_problem(ex, &p);
        return;
    }
    collect_head(ex, fields, method, version);
    ex->front->params.handler.on_request(ex->front->params.handler.arg, ex);
    ex->head.fields = NULL;
    ex->head.count = 0;
}

/* libmicrohttpd calls this for the head, for each piece of the body, at its end, and after each resume. */
static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **con_cls)
{
    struct exchange *ex = *con_cls;
    (void)arg;
    (void)url;
    if (ex == NULL || ex->gone)
        return MHD_NO;
    ex->connection = connection;
    if (!ex->head_seen)
        return on_head(ex, method, version);
    if (*upload_size > 0) {
        size_t n = *upload_size;
        *upload_size = 0;
        return ex->queued ? MHD_YES : on_body(ex, upload, n);
    }
    if (!ex->answered)
        on_body_end(ex, method, version);
    if (ex->answered)
        return ex->queued ? MHD_YES : queue_answer(ex);
    suspend(ex);
    return MHD_YES;
}

/* --- life of clients and exchanges --- */

static struct client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The request line is in: the exchange begins here, with the target as it was sent. */
static void *on_request_line(void *arg, const char *target, struct MHD_Connection *connection)
{
    struct server *s = arg;
    struct client *c = client_of(connection);
    if (c == NULL)
        return NULL;
    struct exchange *ex = calloc(1, sizeof *ex);
    if (ex == NULL)
        return NULL;
    ex->target = strdup(target);
    if (ex->target == NULL) {
        free(ex);
        return NULL;
    }
    ex->front = s->front;
    ex->client = c;
    ex->connection = connection;
    list_init(&ex->node);
    buf_init(&ex->body, 0);
    c->exchange = ex;
    s->front->exchange_count++;
    return ex;
}

static void exchange_free(struct exchange *ex)
{
    watch_stop(ex);
    list_remove(&ex->node);
    buf_fini(&ex->body);
    buf_fini(&ex->answer.body);
    free(ex->target);
    ex->client->exchange = NULL;
    ex->front->exchange_count--;
    free(ex);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct server *s = arg;
    struct exchange *ex = *con_cls;
    (void)connection;
    (void)why;
    if (ex == NULL)
        return;
    *con_cls = NULL;
    set_deadline(ex->client, s->conf->keep_alive_us);
    if (ex->told_handler)
        s->front->params.handler.on_finished(s->front->params.handler.arg, ex);
    exchange_free(ex);
}

static void client_name(struct client *c, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct ip_addr ip;
    uint16_t port;
    struct ucred peer;
    socklen_t n = sizeof peer;
    if (info != NULL && info->client_addr != NULL && ip_from_sockaddr(info->client_addr, &ip, &port)) {
        char text[IP_TEXT_MAX];
        snprintf(c->address, sizeof c->address, "%s", ip_format(&ip, text));
    } else if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0) {
        snprintf(c->address, sizeof c->address, "uid:%ld", (long)peer.uid);
    }
}

static void client_open(struct server *s, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct client *c = calloc(1, sizeof *c);
    *context = c;
    if (c == NULL || info == NULL)
        return;
    c->front = s->front;
    c->server = s;
    c->fd = info->connect_fd;
    client_name(c, connection);
    list_append(&s->front->clients, &c->node);
    s->front->client_count++;
    set_deadline(c, s->conf->head_timeout_us);
}

static void client_close(struct server *s, struct client *c)
{
    if (c == NULL)
        return;
    clear_deadline(c);
    list_remove(&c->node);
    free(c);
    s->front->client_count--;
    wake(s->front); /* a full server takes the next one only in another MHD_run() */
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        client_open(arg, connection, context);
    else
        client_close(arg, *context);
}

static size_t on_unescape(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text); /* the path stays raw: /v1%2fbatch is not /v1/batch */
}

static void on_mhd_log(void *arg, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static void on_mhd_log(void *arg, const char *fmt, va_list args)
{
    char line[256];
    (void)arg;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    vsnprintf(line, sizeof line, fmt, args);
    line[strcspn(line, "\n")] = '\0';
    LOG_DEBUG("mhd", "%s", line);
}

/* --- servers --- */

static void on_server_event(uv_poll_t *poll, int status, int events)
{
    struct server *s = poll->data;
    (void)status;
    (void)events;
    wake(s->front);
}

static void on_server_timer(uv_timer_t *timer)
{
    struct server *s = timer->data;
    wake(s->front);
}

/* Far beyond our own deadlines: it only catches what they cannot see (CLOSE_WAIT, MHD bug 7192). */
static unsigned backstop_s(const struct config_listener *c)
{
    int64_t us = c->head_timeout_us;
    us = us > c->body_timeout_us ? us : c->body_timeout_us;
    us = us > c->send_timeout_us ? us : c->send_timeout_us;
    us = us > c->keep_alive_us ? us : c->keep_alive_us;
    return (unsigned)(us / US_PER_S + 2);
}

static struct MHD_Daemon *start_daemon(struct server *s)
{
    const struct config_limits *l = s->front->params.limits;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_access, s,
        MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, s->socket.fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)l->clients,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)l->head_bytes + POOL_BYTES_OVER_HEAD,
        MHD_OPTION_CONNECTION_TIMEOUT, backstop_s(s->conf),
        MHD_OPTION_URI_LOG_CALLBACK, on_request_line, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
        MHD_OPTION_END);
}

static bool server_start(struct server *s)
{
    struct front *f = s->front;
    s->daemon = start_daemon(s);
    if (s->daemon == NULL)
        return false;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || uv_poll_init(f->params.loop, &s->poll, info->epoll_fd) != 0) {
        MHD_stop_daemon(s->daemon);
        return false;
    }
    uv_timer_init(f->params.loop, &s->timer);
    s->poll.data = s->timer.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_server_event);
    f->open_handles += 2;
    s->open = true;
    wake(f); /* the listening socket joins MHD's epoll in its first MHD_run() */
    return true;
}

int front_listen(struct front *f, const struct config_listener *conf, const struct tokens *tokens,
                 void *data)
{
    struct http_socket sockets[SERVERS_MAX];
    size_t n = 0;
    int rc = http_listen_open(conf, sockets, SERVERS_MAX - f->server_count, &n);
    for (size_t i = 0; i < n; i++) {
        struct server *s = &f->servers[f->server_count];
        *s = (struct server){
            .front = f, .socket = sockets[i], .conf = conf, .tokens = tokens, .data = data};
        snprintf(s->listener, sizeof s->listener, "%s", conf->name);
        if (rc == 0 && server_start(s)) {
            f->server_count++;
            LOG_INFO("front", "listening address=%s listener=%s", s->socket.name, conf->name);
            continue;
        }
        http_socket_close(&sockets[i]);
        if (rc == 0)
            LOG_ERROR("front", "address=%s error=\"libmicrohttpd did not start\"", sockets[i].name);
        rc = rc != 0 ? rc : 71;
    }
    return rc;
}

void front_reload(struct front *f, const struct config_limits *limits)
{
    f->params.limits = limits;
}

void front_reload_listener(struct front *f, const struct config_listener *conf,
                           const struct tokens *tokens, void *data)
{
    for (size_t i = 0; i < f->server_count; i++) {
        struct server *s = &f->servers[i];
        if (strcmp(s->listener, conf->name) != 0)
            continue;
        s->conf = conf;
        s->tokens = tokens;
        s->data = data;
    }
}

size_t front_endpoints(const struct front *f, struct policy_endpoint *out, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < f->server_count && n < max; i++)
        if (f->servers[i].socket.family != AF_UNIX)
            out[n++] = (struct policy_endpoint){f->servers[i].socket.address,
                                                f->servers[i].socket.port};
    return n;
}

/* --- the turn --- */

static bool server_timeout(struct server *s, uint64_t *ms)
{
#if MHD_VERSION >= 0x01000000
    return MHD_get_timeout64(s->daemon, ms) == MHD_YES;
#else
    MHD_UNSIGNED_LONG_LONG value;
    if (MHD_get_timeout(s->daemon, &value) != MHD_YES)
        return false;
    *ms = value;
    return true;
#endif
}

/* Runs it and asks when it wants to be run again; true = at once. */
static bool server_run(struct server *s)
{
    uint64_t ms;
    MHD_run(s->daemon);
    if (!server_timeout(s, &ms)) {
        uv_timer_stop(&s->timer);
        return false;
    }
    if (ms > 0)
        uv_timer_start(&s->timer, on_server_timer, ms, 0);
    return ms == 0;
}

static void run_resumes(struct front *f)
{
    struct list *node;
    while ((node = list_pop(&f->resuming)) != NULL) {
        struct exchange *ex = LIST_CONTAINER(node, struct exchange, node);
        if (ex->gone && ex->told_handler && !ex->queued)
            f->params.handler.on_gone(f->params.handler.arg, ex);
        watch_stop(ex);
        MHD_resume_connection(ex->connection);
        f->dirty = true;
    }
}

bool front_turn(struct front *f)
{
    run_deadlines(f);
    run_resumes(f);
    bool again = false;
    if (f->dirty) {
        f->dirty = false;
        for (size_t i = 0; i < f->server_count; i++)
            if (f->servers[i].open)
                again |= server_run(&f->servers[i]);
        f->dirty |= again;
    }
    arm_deadline_timer(f);
    return f->dirty || !list_empty(&f->resuming);
}

/* --- life --- */

struct front *front_create(const struct front_params *params)
{
    struct front *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->params = *params;
    list_init(&f->clients);
    list_init(&f->suspended);
    list_init(&f->resuming);
    uv_timer_init(params->loop, &f->deadline_timer);
    uv_timer_init(params->loop, &f->watch_timer);
    f->deadline_timer.data = f->watch_timer.data = f;
    f->open_handles = 2;
    return f;
}

static void on_handle_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void server_close(struct server *s)
{
    uv_poll_stop(&s->poll);
    MHD_quiesce_daemon(s->daemon);
    MHD_stop_daemon(s->daemon);
    http_socket_close(&s->socket);
    s->open = false;
    s->poll.data = s->timer.data = s->front;
    uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

/* libmicrohttpd aborts the process when it is stopped with a suspended connection: all are resumed as
 * gone first, and run once so that their requests end. */
void front_close(struct front *f, void (*closed)(void *arg), void *arg)
{
    struct list *node;
    f->closed = closed;
    f->closed_arg = arg;
    while ((node = f->suspended.next) != &f->suspended) {
        struct exchange *ex = LIST_CONTAINER(node, struct exchange, node);
        ex->gone = true;
        resume(ex);
    }
    front_turn(f);
    for (size_t i = 0; i < f->server_count; i++)
        if (f->servers[i].open)
            server_close(&f->servers[i]);
    uv_close((uv_handle_t *)&f->deadline_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->watch_timer, on_handle_closed);
}

void front_drain(struct front *f)
{
    f->draining = true;
}

size_t front_clients(const struct front *f)
{
    return f->client_count;
}

size_t front_exchanges(const struct front *f)
{
    return f->exchange_count;
}

/* --- accessors --- */

const struct http_head *exchange_head(const struct exchange *ex)
{
    return &ex->head;
}

const char *exchange_path(const struct exchange *ex)
{
    return ex->target;
}

const char *exchange_query(const struct exchange *ex)
{
    return ex->query;
}

const char *exchange_body(const struct exchange *ex, size_t *n)
{
    *n = ex->body.len;
    return ex->body.data != NULL ? ex->body.data : "";
}

void exchange_drop_body(struct exchange *ex)
{
    buf_fini(&ex->body);
}

const char *exchange_identity(const struct exchange *ex)
{
    return ex->identity;
}

void *exchange_listener_data(const struct exchange *ex)
{
    return ex->client->server->data;
}

void exchange_set_data(struct exchange *ex, void *data)
{
    ex->data = data;
}

void *exchange_data(const struct exchange *ex)
{
    return ex->data;
}

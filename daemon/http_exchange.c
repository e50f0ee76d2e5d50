/* SPDX-License-Identifier: MIT
 *
 * http_exchange - one request of a client and its answer. Called by libmicrohttpd inside MHD_run(),
 * by http_routes with answers, and by the turn of http_front.c, on the loop's thread.
 *
 * Owns the exchange: target, body, answer. Suspending a connection costs eight system calls (out of
 * libmicrohttpd's epoll set, in again, a read that finds nothing, an event that says "writable"),
 * so an exchange whose body is in lingers first: its connection stays as it is, and libmicrohttpd
 * asks for the answer again in each MHD_run(). Only a few may linger, and for a millisecond,
 * because each of them is asked each time. Then it is suspended until its answer is there, and so
 * is a streamed answer that has nothing to send; libmicrohttpd is blind then, so a duplicate of its
 * descriptor is watched for the hang-up, from 30 ms on, which spares short requests the system
 * calls. Answers are queued only inside exchange_on_access(); everyone else marks and resumes.
 */
#include "http_internal.h"

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

enum {
    STREAM_CHUNK = 32768,   /* asked of fill() at a time, about */
    WATCH_AFTER_US = 30000, /* a suspended exchange is watched for hang-up from then on */
    WATCHES_A_TICK = 256,
    BODY_RESERVE = 65536,   /* for an announced body at its first byte, at most */
    LINGER_MAX = 4,         /* exchanges at a time */
    LINGER_US = 1000,
    OVERLONG_BODY_SWALLOWED = 65536, /* and limits.body_bytes again: read to be able to say 413 */
};

/* --- clients that leave --- */

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *w = handle->data;
    struct front *f = w->front;
    close(w->fd);
    free(w);
    front_handle_closed(f);
}

void exchange_stop_watch(struct exchange *ex)
{
    struct watch *w = ex->watch;
    if (w == NULL)
        return;
    ex->watch = NULL;
    w->exchange = NULL;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

void exchange_resume(struct exchange *ex)
{
    if (ex->lingers)
        front_wake_loop(ex->front);
    if (!ex->suspended)
        return;
    ex->suspended = false;
    list_remove(&ex->node);
    list_append(&ex->front->resuming, &ex->node);
    front_wake_loop(ex->front);
}

static void on_hang_up(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    struct exchange *ex = w->exchange;
    if (status == 0 && (events & UV_DISCONNECT) == 0)
        return;
    ex->gone = true;
    exchange_stop_watch(ex);
    exchange_resume(ex);
}

bool exchange_start_watch(struct exchange *ex, int events, uv_poll_cb on_event)
{
    struct front *f = ex->front;
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return false;
    w->fd = fcntl(ex->client->fd, F_DUPFD_CLOEXEC, 0);
    if (w->fd < 0 || uv_poll_init(f->params.loop, &w->poll, w->fd) != 0) {
        if (w->fd >= 0)
            close(w->fd);
        free(w);
        return false;
    }
    w->front = f;
    w->exchange = ex;
    w->poll.data = w;
    ex->watch = w;
    f->open_handles++;
    uv_poll_start(&w->poll, events, on_event);
    return true;
}

/* Those that are old enough stand in front. Where no watch can be had, it is tried again later. */
static void on_watch_timer(uv_timer_t *timer)
{
    struct front *f = timer->data;
    int64_t old = clock_us() - WATCH_AFTER_US;
    for (int n = 0; !list_empty(&f->suspended); n++) {
        struct exchange *ex = LIST_CONTAINER(f->suspended.next, struct exchange, node);
        bool enough = n == WATCHES_A_TICK;
        if (enough || ex->waits_since_us > old) {
            uv_timer_start(timer, on_watch_timer, enough ? 1 : WATCH_AFTER_US / 1000, 0);
            return;
        }
        if (ex->watch == NULL && !exchange_start_watch(ex, UV_DISCONNECT, on_hang_up))
            ex->waits_since_us = clock_us();
        list_remove(&ex->node);
        list_append(ex->watch != NULL ? &f->watched : &f->suspended, &ex->node);
    }
}

static void suspend(struct exchange *ex)
{
    struct front *f = ex->front;
    ex->suspended = true;
    ex->waits_since_us = f->now_us;
    list_append(&f->suspended, &ex->node);
    f->suspended_count++;
    client_clear_deadline(ex->client);
    MHD_suspend_connection(ex->connection);
    if (!uv_is_active((uv_handle_t *)&f->watch_timer)) {
        uv_update_time(f->params.loop);
        uv_timer_start(&f->watch_timer, on_watch_timer, WATCH_AFTER_US / 1000 + 1, 0);
    }
}

static void linger_end(struct exchange *ex)
{
    ex->front->lingering -= ex->lingers;
    ex->lingers = false;
}

/* Called by each MHD_run() while there is no answer, until it suspends. */
static void wait_for_answer(struct exchange *ex)
{
    struct front *f = ex->front;
    if (!ex->lingers && f->lingering < LINGER_MAX) {
        ex->lingers = true;
        ex->waits_since_us = f->now_us;
        f->lingering++;
    } else if (!ex->lingers || f->now_us - ex->waits_since_us >= LINGER_US) {
        linger_end(ex);
        suspend(ex);
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

void front_count_answer(struct front *f, int status)
{
    metrics_add(f->params.metrics, status < 400   ? METRIC_HTTP_2XX
                                   : status < 500 ? METRIC_HTTP_4XX
                                                  : METRIC_HTTP_5XX, 1);
    if (status == 414 || status == 431)
        metrics_add(f->params.metrics, METRIC_HTTP_REFUSED_HEAD, 1);
    else if (status == 413)
        metrics_add(f->params.metrics, METRIC_HTTP_REFUSED_BODY, 1);
}

struct answer answer_of_problem(const struct problem *p)
{
    struct answer a = {.status = p->status, .content_type = PROBLEM_MEDIA_TYPE, .close = true};
    buf_init(&a.body, 0);
    problem_print(p, &a.body);
    if (p->status == 401)
        answer_header(&a, "WWW-Authenticate", "Bearer");
    if (p->retry_after_s > 0)
        answer_header(&a, "Retry-After", "%d", p->retry_after_s);
    if (p->allow != NULL)
        answer_header(&a, "Allow", "%s", p->allow);
    return a;
}

/* A body that did not all fit into memory is no answer, and may be cut anywhere. */
static void replace_body(struct answer *a)
{
    struct problem p;
    problem_set(&p, 500, "out of memory for the answer");
    buf_fini(&a->body);
    *a = answer_of_problem(&p);
}

void front_answer(struct exchange *ex, struct answer *a)
{
    assert(!ex->answered);
    if (a->body.failed)
        replace_body(a);
    ex->answer = *a;
    ex->answered = true;
    a->body = (struct buf){0};
    front_count_answer(ex->front, a->status);
    exchange_resume(ex);
}

void front_wake(struct exchange *ex)
{
    if (ex->queued)
        exchange_resume(ex);
}

static void answer_problem(struct exchange *ex, const struct problem *p)
{
    struct answer a = answer_of_problem(p);
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
            buf_fini(b); /* it may be long until there is more */
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
    ex->front->moved = true;
    client_set_deadline(ex->client, ex->client->server->conf->send_timeout_us);
    return (ssize_t)n;
}

static struct MHD_Response *make_response(struct exchange *ex)
{
    struct answer *a = &ex->answer;
    struct MHD_Response *r;
    if (a->body.failed) /* nor was there memory to say so */
        return NULL;
    if (a->fill != NULL) {
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_CHUNK, on_stream_read, ex,
                                              NULL);
    } else {
        /* the exchange, and with it the body, outlives the response */
        r = MHD_create_response_from_buffer(a->body.len, a->body.data, MHD_RESPMEM_PERSISTENT);
    }
    if (r == NULL)
        return NULL;
    bool ok = a->content_type == NULL ||
              MHD_add_response_header(r, "Content-Type", a->content_type) == MHD_YES;
    for (size_t i = 0; i < a->header_count; i++)
        MHD_add_response_header(r, a->headers[i].name, a->headers[i].value);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (a->close || ex->chunked || ex->front->draining)
        ok &= MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    if (ok)
        return r;
    MHD_destroy_response(r);
    return NULL;
}

static enum MHD_Result queue_answer(struct exchange *ex)
{
    struct MHD_Response *r = make_response(ex);
    if (r == NULL)
        return MHD_NO;
    linger_end(ex);
    ex->queued = true;
    ex->front->moved = true;
    client_set_deadline(ex->client, ex->client->server->conf->send_timeout_us);
    enum MHD_Result rc = MHD_queue_response(ex->connection, (unsigned)ex->answer.status, r);
    MHD_destroy_response(r);
    return rc;
}

/* What refuses a head that left no room for it: libmicrohttpd would drop the answer, and with it
 * the connection. Few bytes, and before them the kernel has taken all; what it leaves is lost. */
static enum MHD_Result send_past(struct exchange *ex, const char *method)
{
    struct answer *a = &ex->answer;
    struct buf out;
    char date[32];
    struct tm tm;
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    buf_init(&out, 0);
    buf_printf(&out, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Type: %s\r\n",
               a->status, MHD_get_reason_phrase_for((unsigned)a->status), date, a->content_type);
    buf_printf(&out, "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n");
    for (size_t i = 0; i < a->header_count; i++)
        buf_printf(&out, "%s: %s\r\n", a->headers[i].name, a->headers[i].value);
    buf_printf(&out, "Content-Length: %zu\r\n\r\n", a->body.len);
    if (strcmp(method, "HEAD") != 0)
        buf_add(&out, a->body.data, a->body.len);
    if (!out.failed && !a->body.failed)
        send(ex->client->fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    buf_fini(&out);
    return MHD_NO; /* which ends the connection */
}

/* --- the body --- */

static void uncharge(struct exchange *ex)
{
    ex->front->request_bytes -= ex->charged;
    ex->charged = 0;
}

/* Of a body that was refused; the answer is not begun while more of it comes. */
static enum MHD_Result swallow(struct exchange *ex, size_t n)
{
    struct front *f = ex->front;
    ex->unread_from += n;
    if (ex->unread_from <= (size_t)f->params.limits->body_bytes + OVERLONG_BODY_SWALLOWED)
        return MHD_YES;
    metrics_add(f->params.metrics,
                ex->body_refused == 413 ? METRIC_HTTP_REFUSED_BODY : METRIC_HTTP_REFUSED_MEMORY, 1);
    return MHD_NO;
}

static enum MHD_Result on_body(struct exchange *ex, const char *data, size_t n)
{
    struct front *f = ex->front;
    size_t limit = (size_t)f->params.limits->body_bytes;
    f->moved |= ex->body_bytes < 0 || ex->body.len + n < (size_t)ex->body_bytes;
    ex->idle_looks = ex->parkings = 0;
    if (ex->body_refused != 0)
        return swallow(ex, n);
    if (ex->body.len + n > limit || !front_has_memory(f, n)) {
        ex->body_refused = ex->body.len + n > limit ? 413 : 503;
        uncharge(ex);
        buf_fini(&ex->body);
        return MHD_YES;
    }
    ex->charged += n;
    f->request_bytes += n;
    if (ex->body.len == 0 && ex->body_bytes > 0)
        buf_reserve(&ex->body,
                    (size_t)(ex->body_bytes < BODY_RESERVE ? ex->body_bytes : BODY_RESERVE));
    buf_add(&ex->body, data, n);
    return ex->body.failed ? MHD_NO : MHD_YES;
}

static void on_body_end(struct exchange *ex, const char *method, const char *version)
{
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct problem p;
    ex->asked_handler = true;
    client_clear_deadline(ex->client);
    if (ex->body_refused != 0) {
        if (ex->body_refused == 413)
            problem_set(&p, 413, "the body is larger than limits.body_bytes (%lld)",
                        (long long)ex->front->params.limits->body_bytes);
        else
            exchange_refuse_memory(ex, &p);
        ex->unread_from = 0;
        answer_problem(ex, &p);
        return;
    }
    exchange_collect_head(ex, fields, method, version);
    ex->front->params.handler.on_request(ex->front->params.handler.arg, ex);
    ex->head.fields = NULL;
    ex->head.count = 0;
}

/* --- the head --- */

static void split_target(struct exchange *ex)
{
    char *mark = strchr(ex->target, '?');
    ex->query = mark != NULL ? mark + 1 : ex->target + strlen(ex->target);
    if (mark != NULL)
        *mark = '\0';
}

/* A "100 Continue" is asked for, and nothing is to come after it: RFC 9110, 10.1.1 lets no client
 * do that, some do. libmicrohttpd 0.9.75 says it then, and takes for a body, of no length, whatever
 * comes: the next request. */
static bool expects_for_nothing(const struct exchange *ex)
{
    return ex->body_bytes <= 0 && !ex->chunked && http_find(&ex->head, "Expect") != NULL;
}

/* An answer from within the first call goes out in place of the "100 Continue", and ends the
 * connection. */
static enum MHD_Result answer_early(struct exchange *ex, const char *method, const char *version)
{
    on_body_end(ex, method, version);
    if (ex->answered)
        return queue_answer(ex);
    suspend(ex);
    return MHD_YES;
}

static enum MHD_Result on_head(struct exchange *ex, const char *method, const char *version)
{
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct problem p;
    ex->head_seen = true;
    exchange_collect_head(ex, fields, method, version);
    client_set_deadline(ex->client, ex->client->server->conf->body_timeout_us);
    if (!exchange_check_head(ex, &p)) {
        answer_problem(ex, &p);
        return ex->cramped ? send_past(ex, method) : queue_answer(ex);
    }
    bool early = expects_for_nothing(ex);
    split_target(ex);
    ex->told_handler = true;
    ex->front->params.handler.on_head(ex->front->params.handler.arg, ex);
    ex->head.fields = NULL;
    ex->head.count = 0;
    if (ex->answered)
        return queue_answer(ex);
    return early ? answer_early(ex, method, version) : MHD_YES;
}

/* libmicrohttpd calls this for the head, for each piece of the body, at its end, again and again
 * while the exchange lingers, and after each resume. */
enum MHD_Result exchange_on_access(void *arg, struct MHD_Connection *connection, const char *url,
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
    if (!ex->answered && !ex->asked_handler)
        on_body_end(ex, method, version);
    if (ex->answered)
        return ex->queued ? MHD_YES : queue_answer(ex);
    wait_for_answer(ex);
    return MHD_YES;
}

/* --- life --- */

/* libmicrohttpd would make a list of the parameters, 64 bytes for each from the connection's
 * memory; and when they do not fit, its error answer is lost. Nobody asks for the list. What it
 * parses next is what stands behind the question mark here, in its own, writable buffer. */
static void hide_parameters(const char *target)
{
    char *mark = strchr((char *)(uintptr_t)target, '?');
    if (mark != NULL)
        mark[1] = '\0';
}

/* The request line is in: the exchange begins here, with the target as it was sent. */
void *exchange_on_request_line(void *arg, const char *target, struct MHD_Connection *connection)
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
    hide_parameters(target);
    ex->front = s->front;
    ex->client = c;
    ex->connection = connection;
    list_init(&ex->node);
    buf_init(&ex->body, 0);
    if (c->requests++ > 0) /* the first one's head is timed from the accept */
        client_set_deadline(c, s->conf->head_timeout_us);
    c->exchange = ex;
    s->front->exchange_count++;
    return ex;
}

static void exchange_free(struct exchange *ex)
{
    exchange_stop_watch(ex);
    uncharge(ex);
    linger_end(ex);
    list_remove(&ex->node);
    buf_fini(&ex->body);
    buf_fini(&ex->answer.body);
    free(ex->target);
    ex->client->exchange = NULL;
    ex->front->exchange_count--;
    front_freed(ex->front);
    free(ex);
}

void exchange_finish(struct exchange *ex)
{
    const struct front_handler *handler = &ex->front->params.handler;
    if (ex->told_handler)
        handler->on_finished(handler->arg, ex);
    exchange_free(ex);
}

void exchange_on_completed(void *arg, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct server *s = arg;
    struct exchange *ex = *con_cls;
    (void)connection;
    (void)why;
    if (ex == NULL)
        return;
    *con_cls = NULL;
    client_set_deadline(ex->client, s->conf->keep_alive_us);
    exchange_finish(ex);
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

void exchange_take_body(struct exchange *ex, struct buf *body)
{
    *body = ex->body;
    buf_init(&ex->body, 0);
}

size_t exchange_leave_charge(struct exchange *ex)
{
    size_t bytes = ex->charged;
    ex->charged = 0;
    return bytes;
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

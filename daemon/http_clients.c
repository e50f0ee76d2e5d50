/* SPDX-License-Identifier: MIT
 *
 * http_clients - see http_internal.h: one `client` a connection, from accept() to its end, and
 * until when it is waited for. Called by http_front.c and the exchanges, on the loop's thread.
 *
 * Deadlines are absolute and ours, because libmicrohttpd's count from the last byte and so never
 * end for a client that sends one byte at a time: head, body, idle, and for the next part of the
 * answer. A deadline that passes shuts the socket down; libmicrohttpd sees the end and cleans up. A
 * client changes its deadline four times a request, nearly always to a later one, so the heap is
 * only told of an earlier one: it wakes the client at the first that there was, to find the one
 * that counts.
 *
 * Much of an answer waits in the kernel, so that only the kernel knows of who takes it slowly:
 * while one is sent, it is asked a few times in each send_timeout.
 *
 * A client that leaves right behind some bytes of a request is not seen to: libmicrohttpd polls by
 * edges, and takes a read that did not fill its buffer for the last of this edge, with the end of
 * the connection still in the kernel. So who is waited for is looked at after a second, and each
 * time after as long again as it has been waited for.
 *
 * libmicrohttpd 0.9.75 asks to be run again and again, and does nothing, while a line between the
 * chunks of a body fills the last of a connection's memory; it does not say of which one. So while
 * it asks, those are looked at of whose chunked body it has read nothing in several looks. Where
 * the kernel has more of it, there is no memory for that: the client is cut. Where it has nothing,
 * it may be that the client has sent nothing: it is parked, suspended until more comes.
 *
 * Nor does it say that a request has ended which it refuses for two reasons, by two of its own
 * answers, a cookie and a Content-Length: it closes the connection, and the request ends with that.
 */
#include "http_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "log.h"

enum {
    DEADLINES_A_TURN = 256,
    LOOK_AFTER_US = 1000000, /* whether a client that is waited for has left */
    LOOK_TAKEN_US = 500000,  /* what a client has taken of its answer: each time after so long, */
    LOOKS_A_TIMEOUT = 8,     /* but so often in a send_timeout */
    TAKEN_STEP = 32768,      /* bytes, that it has to take in one */
    IDLE_LOOK_US = 10000,    /* from one look for idle bodies to the next */
    IDLE_LOOKS = 4,          /* so many in a row after the first */
    PARK_MIN_US = 100000,    /* what is not watched is tried again after so long, */
    PARK_DOUBLINGS = 4,      /* then after twice as long, and so on */
};

#define NOT_SEEN INT64_MIN

/* --- deadlines --- */

/* libmicrohttpd sees the end in its next run; where it has no memory left to read it into, by its
 * own time-out in a second. */
static void client_end(struct client *c)
{
    heap_remove(&c->front->deadlines, &c->wake);
    MHD_set_connection_option(c->connection, MHD_CONNECTION_OPTION_TIMEOUT, 1U);
    shutdown(c->fd, SHUT_RDWR);
    c->front->dirty = true;
}

static bool is_sent_to(const struct client *c)
{
    return c->exchange != NULL && c->exchange->queued;
}

static int64_t look_after_us(const struct client *c)
{
    if (is_sent_to(c)) {
        int64_t part = c->server->conf->send_timeout_us / LOOKS_A_TIMEOUT;
        return part < LOOK_TAKEN_US ? part : LOOK_TAKEN_US;
    }
    int64_t waited = c->front->now_us - c->waits_since_us;
    return waited > LOOK_AFTER_US ? waited : LOOK_AFTER_US;
}

/* To be looked at, and at its deadline at the latest. */
static int64_t next_wake_us(const struct client *c)
{
    int64_t look = c->front->now_us + look_after_us(c);
    return look < c->deadline_us ? look : c->deadline_us;
}

void client_set_deadline(struct client *c, int64_t after_us)
{
    c->waits_since_us = c->front->now_us;
    c->deadline_us = c->front->now_us + after_us;
    c->taken_bytes = NOT_SEEN;
    int64_t wake_us = next_wake_us(c);
    if (c->wake.place > 0 && c->wake.key <= wake_us)
        return;
    if (heap_set(&c->front->deadlines, &c->wake, wake_us))
        return;
    LOG_WARN("front", "client=%s closed=\"no memory for its deadline\"", c->address);
    client_end(c);
}

void client_clear_deadline(struct client *c)
{
    c->deadline_us = INT64_MAX;
}

static enum metric cut_reason(const struct client *c)
{
    const struct exchange *ex = c->exchange;
    if (ex == NULL)
        return c->requests > 0 ? METRIC_CLIENTS_CUT_IDLE : METRIC_CLIENTS_CUT_HEAD;
    if (!ex->head_seen)
        return METRIC_CLIENTS_CUT_HEAD;
    return ex->queued ? METRIC_CLIENTS_CUT_ANSWER : METRIC_CLIENTS_CUT_BODY;
}

/* What the client did not take of an answer is not kept for it by the kernel either. */
static void client_cut(struct client *c, const char *why)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    enum metric reason = cut_reason(c);
    LOG_DEBUG("front", "client=%s closed=\"%s\"", c->address, why);
    metrics_add(c->front->params.metrics, reason, 1);
    if (reason == METRIC_CLIENTS_CUT_ANSWER)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_end(c);
}

static bool has_closed(const struct client *c)
{
    struct pollfd look = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) > 0;
}

/* Whether it has closed its side while a request, or the rest of one, is waited for. */
static bool has_left(const struct client *c)
{
    const struct exchange *ex = c->exchange;
    int unread = 0;
    if (ex != NULL && (ex->asked_handler || ex->answered))
        return false;
    return has_closed(c) && ioctl(c->fd, FIONREAD, &unread) == 0 && unread == 0;
}

/* Who has taken a step of what is in the kernel has the whole time for the next. */
static void look_at_taken(struct client *c)
{
    int64_t bytes;
    if (!is_sent_to(c) || c->deadline_us == INT64_MAX ||
        !http_socket_taken(&c->server->socket, c->fd, &bytes))
        return;
    if (c->taken_bytes != NOT_SEEN && bytes - c->taken_bytes < TAKEN_STEP)
        return;
    if (c->taken_bytes != NOT_SEEN)
        c->deadline_us = c->front->now_us + c->server->conf->send_timeout_us;
    c->taken_bytes = bytes;
}

/* It is parked until run_resumes() is done with it. */
static void unpark(struct exchange *ex)
{
    exchange_stop_watch(ex);
    list_remove(&ex->node);
    list_append(&ex->front->resuming, &ex->node);
    front_wake_loop(ex->front);
}

static void client_wake(struct client *c)
{
    struct front *f = c->front;
    if (c->exchange != NULL && c->exchange->parked)
        unpark(c->exchange);
    look_at_taken(c);
    bool wait = c->deadline_us > f->now_us && c->deadline_us != INT64_MAX;
    bool left = wait && has_left(c);
    if (wait && !left && heap_set(&f->deadlines, &c->wake, next_wake_us(c))) /* never fails here */
        return;
    heap_remove(&f->deadlines, &c->wake);
    if (left)
        client_end(c);
    else if (c->deadline_us <= f->now_us)
        client_cut(c, "deadline");
}

bool clients_run_deadlines(struct front *f)
{
    struct heap_node *first;
    for (int i = 0; i < DEADLINES_A_TURN; i++) {
        first = heap_min(&f->deadlines);
        if (first == NULL || first->key > f->now_us)
            return false;
        client_wake(LIST_CONTAINER(first, struct client, wake));
    }
    return true;
}

/* --- parking --- */

/* Not of a client that was ended: nothing would wake it. */
static bool waits_for_chunks(const struct client *c)
{
    const struct exchange *ex = c->exchange;
    return ex != NULL && ex->chunked && ex->head_seen && !ex->asked_handler && !ex->answered &&
           !ex->parked && c->wake.place > 0;
}

static void on_more(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    (void)status;
    (void)events;
    unpark(w->exchange);
}

/* Until more comes; where that cannot be watched, for a while, and where something is there, for
 * longer each time. */
static void park(struct exchange *ex, int64_t unread)
{
    struct front *f = ex->front;
    struct client *c = ex->client;
    int64_t until_us = f->now_us + (unread > 0 ? PARK_MIN_US << ex->parkings : PARK_MIN_US);
    if (unread == 0 && exchange_start_watch(ex, UV_READABLE, on_more))
        until_us = c->deadline_us;
    else if (until_us >= c->deadline_us)
        return;
    if (!heap_set(&f->deadlines, &c->wake, until_us)) { /* never: it is there */
        exchange_stop_watch(ex);
        return;
    }
    if (ex->parkings < PARK_DOUBLINGS)
        ex->parkings++;
    ex->parked = true;
    list_append(&f->parked, &ex->node);
    f->suspended_count++;
    MHD_suspend_connection(ex->connection);
}

/* Nothing is to come, and what came is not read, or is no whole request. */
static bool has_ended(const struct client *c, int64_t unread)
{
    return unread > 0 ? c->exchange->parkings > 1 && has_closed(c)
                      : c->exchange->parkings > 0 && has_left(c);
}

/* Bytes that came since the last look, when there were none, may have come after libmicrohttpd
 * read. */
static void look_at_idle(struct client *c)
{
    struct exchange *ex = c->exchange;
    int64_t unread, read_bytes;
    if (!http_socket_read(&c->server->socket, c->fd, &unread, &read_bytes))
        return;
    if (read_bytes > ex->read_bytes || (unread > 0) != ex->had_unread ||
        ex->looked_in_spin != c->server->spin)
        ex->idle_looks = 0;
    ex->read_bytes = read_bytes;
    ex->had_unread = unread > 0;
    ex->looked_in_spin = c->server->spin;
    if (++ex->idle_looks <= IDLE_LOOKS)
        return;
    if (unread > 0 && c->server->socket.family != AF_UNIX)
        client_cut(c, "a chunk line that does not fit");
    else if (has_ended(c, unread))
        client_end(c);
    else
        park(ex, unread);
}

void clients_look_at_idle(struct server *s)
{
    struct front *f = s->front;
    struct list *node, *next;
    if (f->now_us < s->idle_looks_from_us)
        return;
    s->idle_looks_from_us = f->now_us + IDLE_LOOK_US;
    LIST_FOREACH_SAFE(node, next, &f->clients) {
        struct client *c = LIST_CONTAINER(node, struct client, node);
        if (c->server == s && waits_for_chunks(c))
            look_at_idle(c);
    }
}

void clients_unpark(struct front *f)
{
    while (!list_empty(&f->parked))
        unpark(LIST_CONTAINER(f->parked.next, struct exchange, node));
}

/* --- from accept() to the end --- */

struct client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static void client_name(struct client *c, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct ip_addr ip;
    uint16_t port;
    struct ucred peer;
    socklen_t n = sizeof peer;
    c->uid = (uid_t)-1;
    if (info != NULL && info->client_addr != NULL &&
        ip_from_sockaddr(info->client_addr, &ip, &port)) {
        char text[IP_TEXT_MAX];
        snprintf(c->address, sizeof c->address, "%s", ip_format(&ip, text));
    } else if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0) {
        snprintf(c->address, sizeof c->address, "uid:%ld", (long)peer.uid);
        c->uid = peer.uid;
    }
}

void client_open(struct server *s, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct client *c = calloc(1, sizeof *c);
    *context = c;
    if (c == NULL) { /* it could stay for ever */
        LOG_WARN("front", "closed=\"no memory for a client\"");
        shutdown(info->connect_fd, SHUT_RDWR);
        return;
    }
    c->front = s->front;
    c->server = s;
    c->connection = connection;
    c->fd = info->connect_fd;
    client_name(c, connection);
    list_append(&s->front->clients, &c->node);
    s->front->client_count++;
    client_set_deadline(c, s->conf->head_timeout_us);
}

void client_close(struct server *s, struct client *c)
{
    if (c == NULL)
        return;
    if (c->exchange != NULL) /* see the top */
        exchange_finish(c->exchange);
    heap_remove(&s->front->deadlines, &c->wake);
    list_remove(&c->node);
    free(c);
    s->front->client_count--;
}

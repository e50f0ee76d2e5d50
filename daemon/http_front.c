/* SPDX-License-Identifier: MIT
 *
 * http_front - see http_front.h; http_clients.c for the connections, http_exchange.c for what
 * happens to a request. Called by gatherd (life, turn) on the loop's thread.
 *
 * Owns one MHD daemon a listening socket. MHD's epoll descriptor is polled by the loop; MHD_run()
 * is called in front_turn() only, whenever something marked the front dirty: an event, a timer, a
 * resume, and a connection that closed, because a full server accepts the next one only in another
 * run.
 */
#include "http_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"

enum {
    IDLE_RUNS_MAX = 16, /* of MHD_run() in a row, before something is wrong */
    POOL_OVER_HEAD = 2560, /* connection memory beyond limits.head_bytes; see pool_bytes() */
    POOL_LEAST = 9216,
    SUSPENDED_MANY = 1000, /* exchanges; from there on resumes are bundled */
    LINGER_TICK_MS = 1,
    IDLE_TICK_MS = 1000, /* after the last thing was freed, memory is given back */
    RESUME_WAIT_MAX_US = 5000,
    ACCEPT_PAUSE_MS = 100, /* after an accept() that found no descriptor */
    BACKSTOP_S = 86402, /* libmicrohttpd's own time-out: beyond the longest of ours (1 d) */
};

void front_wake_loop(struct front *f)
{
    f->dirty = true;
    f->params.wake(f->params.arg);
}

/* --- timers --- */

static void on_front_timer(uv_timer_t *timer)
{
    struct front *f = timer->data;
    f->params.wake(f->params.arg);
}

/* To the next 100 ms: a crowd of clients shares its wake-ups. One that is early finds nothing. */
static void arm_deadline_timer(struct front *f)
{
    const struct heap_node *first = heap_min(&f->deadlines);
    bool armed = uv_is_active((uv_handle_t *)&f->deadline_timer);
    if (first == NULL || (armed && f->armed_us <= first->key))
        return;
    int64_t wait_us = first->key - f->now_us;
    uint64_t wait_ms = wait_us <= 0 ? 0 : (uint64_t)(wait_us / (100 * US_PER_MS) + 1) * 100;
    f->armed_us = first->key;
    uv_timer_start(&f->deadline_timer, on_front_timer, wait_ms, 0);
}

void front_handle_closed(struct front *f)
{
    if (--f->open_handles > 0)
        return;
    void (*closed)(void *arg) = f->closed;
    void *arg = f->closed_arg;
    heap_fini(&f->deadlines);
    free(f);
    closed(arg);
}

/* --- memory --- */

static void on_idle_timer(uv_timer_t *timer)
{
    struct front *f = timer->data;
    if (f->exchange_count > 0) {
        front_freed(f);
        return;
    }
    memory_give_back(&f->memory, f->client_count, f->engines_rest);
    f->engines_rest = false;
}

void front_engines_rest(struct front *f)
{
    f->engines_rest = true;
    front_freed(f);
}

void front_freed(struct front *f)
{
    if (!uv_is_active((uv_handle_t *)&f->idle_timer))
        uv_timer_start(&f->idle_timer, on_idle_timer, IDLE_TICK_MS, 0);
}

/* --- what libmicrohttpd calls --- */

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = arg;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        client_open(s, connection, context);
        return;
    }
    client_close(s, *context);
    front_freed(s->front);
    front_wake_loop(s->front); /* a full server takes the next one only in another MHD_run() */
}

static size_t on_unescape(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text); /* the path stays raw: /v1%2fbatch is not /v1/batch */
}

static void on_mhd_log(void *arg, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void on_mhd_log(void *arg, const char *fmt, va_list args)
{
    static const char own_answer[] = "Error processing request (HTTP response code is %u";
    char line[256];
    struct server *s = arg;
    if (strncmp(fmt, own_answer, sizeof own_answer - 1) == 0) { /* nothing else tells of it */
        va_list copy;
        va_copy(copy, args);
        front_count_answer(s->front, (int)va_arg(copy, unsigned));
        va_end(copy);
    }
    s->busy_waits |= strstr(fmt, "resource limit at FIRST connection") != NULL;
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
    front_wake_loop(s->front);
}

static void on_server_timer(uv_timer_t *timer)
{
    struct server *s = timer->data;
    if (!uv_is_active((uv_handle_t *)&s->poll)) /* it paused */
        uv_poll_start(&s->poll, UV_READABLE, on_server_event);
    front_wake_loop(s->front);
}

/* Where accept() has no descriptor libmicrohttpd waits until one of its connections closes; when it
 * has none it tries again and again, as it says in its log only. It is asked a few times a second
 * then. */
static bool server_pauses(struct server *s)
{
    if (!s->busy_waits)
        return false;
    s->busy_waits = false;
    LOG_WARN("front", "address=%s error=\"no descriptor left for a client\"", s->socket.name);
    uv_poll_stop(&s->poll);
    uv_timer_start(&s->timer, on_server_timer, ACCEPT_PAUSE_MS, 0);
    return true;
}

/* From 1.0 on libmicrohttpd can refuse folded lines and bare LF by itself, and must: it unfolds a
 * line before we see it. Before 1.0 http_check measures them. */
#if MHD_VERSION >= 0x01000000
#define STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
#define STRICTNESS
#endif

/* What libmicrohttpd has for one connection: the request's head as it was read, 64 bytes for each
 * header field, the rest of it for reading the body and for the answer's head. It zeroes all of it
 * after each request, so an idle client has all of it in memory, and 2 KiB beside it: this is what
 * a client costs. */
static size_t pool_bytes(const struct config_limits *l)
{
    size_t n = (size_t)l->head_bytes + POOL_OVER_HEAD;
    return n > POOL_LEAST ? n : POOL_LEAST;
}

static struct MHD_Daemon *start_daemon(struct server *s)
{
    const struct config_limits *l = s->front->params.limits;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, exchange_on_access, s,
        MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s,
        MHD_OPTION_LISTEN_SOCKET, s->socket.fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)l->clients,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, s->pool_bytes,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)BACKSTOP_S,
        MHD_OPTION_URI_LOG_CALLBACK, exchange_on_request_line, s,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
        STRICTNESS
        MHD_OPTION_END);
}

/* libmicrohttpd would close the listening socket, which is ours. */
static void stop_daemon(struct server *s)
{
    MHD_quiesce_daemon(s->daemon);
    MHD_stop_daemon(s->daemon);
}

static bool server_start(struct server *s)
{
    struct front *f = s->front;
    s->pool_bytes = pool_bytes(f->params.limits);
    s->daemon = start_daemon(s);
    if (s->daemon == NULL)
        return false;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || uv_poll_init(f->params.loop, &s->poll, info->epoll_fd) != 0) {
        stop_daemon(s);
        return false;
    }
    uv_timer_init(f->params.loop, &s->timer);
    s->poll.data = s->timer.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_server_event);
    f->open_handles += 2;
    s->open = true;
    front_wake_loop(f); /* the listening socket joins MHD's epoll in its first MHD_run() */
    return true;
}

static void server_set(struct server *s, const struct config_listener *conf,
                       const struct front_access *access)
{
    s->conf = conf;
    s->tokens = access->tokens;
    s->peers = access->peers;
    if (access->data != NULL)
        s->data = access->data;
    s->rules++;
}

int front_listen(struct front *f, const struct config_listener *conf,
                 const struct front_access *access)
{
    struct http_socket sockets[CONFIG_ADDRESSES_MAX];
    size_t n = 0;
    int rc = http_listen_open(conf, sockets, CONFIG_ADDRESSES_MAX - f->server_count, &n);
    for (size_t i = 0; i < n; i++) {
        struct server *s = &f->servers[f->server_count];
        *s = (struct server){.front = f, .socket = sockets[i]};
        server_set(s, conf, access);
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
    if (limits->head_bytes < f->head_bytes)
        f->head_bytes = limits->head_bytes;
}

void front_reload_listener(struct front *f, const struct config_listener *conf,
                           const struct front_access *access)
{
    for (size_t i = 0; i < f->server_count; i++) {
        struct server *s = &f->servers[i];
        if (strcmp(s->listener, conf->name) == 0)
            server_set(s, conf, access);
    }
}

static enum front_reach reach_of(const struct http_socket *s)
{
    if (s->family == AF_UNIX)
        return REACH_UNIX;
    return ip_is_loopback(&s->address) ? REACH_MACHINE : REACH_NETWORK;
}

enum front_reach front_reach(const struct front *f, const char *name)
{
    enum front_reach farthest = REACH_NONE;
    for (size_t i = 0; i < f->server_count; i++) {
        enum front_reach reach = reach_of(&f->servers[i].socket);
        if (strcmp(f->servers[i].listener, name) == 0 && reach > farthest)
            farthest = reach;
    }
    return farthest;
}

const char *front_left_open(const struct front *f, const struct config_listener *conf)
{
    for (size_t i = 0; i < f->server_count; i++) {
        const struct server *s = &f->servers[i];
        if (strcmp(s->listener, conf->name) == 0 && !http_socket_is_named(&s->socket, conf))
            return s->socket.name;
    }
    return NULL;
}

int64_t front_head_bytes(const struct front *f)
{
    return f->head_bytes;
}

size_t front_addresses(const struct front *f)
{
    return f->server_count;
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

/* When a run moved nothing, another one at once would not either; in a millisecond, in case that
 * the rest of a long head waits. That is so while an exchange lingers; without one, only after
 * several. */
static bool should_wait(struct server *s)
{
    s->idle_runs = s->front->moved ? 0 : s->idle_runs + 1;
    clients_look_at_idle(s);
    return s->idle_runs >= IDLE_RUNS_MAX || (s->front->lingering > 0 && !s->front->moved);
}

/* It does not ask for another run at once. */
static void spin_ended(struct server *s)
{
    s->idle_runs = 0;
    s->spin++;
}

/* Runs it and asks when it wants to be run again; true = at once. */
static bool server_run(struct server *s)
{
    uint64_t ms;
    s->front->moved = false;
    MHD_run(s->daemon);
    if (server_pauses(s))
        return false;
    if (!server_timeout(s, &ms)) {
        uv_timer_stop(&s->timer);
        spin_ended(s);
        return false;
    }
    if (ms > 0)
        spin_ended(s);
    else if (should_wait(s))
        ms = LINGER_TICK_MS;
    if (ms > 0)
        uv_timer_start(&s->timer, on_server_timer, ms, 0);
    return ms == 0;
}

/* libmicrohttpd finds the resumed ones by looking at all that are suspended. Each lies in a page of
 * its own, which takes up to 1 us. So with thousands of them it is not asked in each turn, but
 * after 4 us for each, a fifth of the loop's time, and 5 ms at most: an answer at a deadline is in
 * time. */
static bool resumes_due(struct front *f)
{
    int64_t wait_us = f->resumes_from_us - f->now_us;
    if (wait_us <= 0)
        return true;
    if (!uv_is_active((uv_handle_t *)&f->resume_timer))
        uv_timer_start(&f->resume_timer, on_front_timer, (uint64_t)(wait_us / US_PER_MS) + 1, 0);
    return false;
}

static int64_t resume_wait_us(size_t suspended)
{
    int64_t us = 4 * (int64_t)suspended;
    return us < RESUME_WAIT_MAX_US ? us : RESUME_WAIT_MAX_US;
}

static void run_resumes(struct front *f)
{
    struct list *node;
    if (list_empty(&f->resuming) || !resumes_due(f))
        return;
    while ((node = list_pop(&f->resuming)) != NULL) {
        struct exchange *ex = LIST_CONTAINER(node, struct exchange, node);
        if (ex->gone && ex->told_handler && !ex->queued)
            f->params.handler.on_gone(f->params.handler.arg, ex);
        exchange_stop_watch(ex);
        ex->parked = false;
        ex->idle_looks = 0;
        MHD_resume_connection(ex->connection);
        f->suspended_count--;
        f->dirty = true;
    }
    f->resumes_from_us = 0;
    if (f->suspended_count >= SUSPENDED_MANY)
        f->resumes_from_us = f->now_us + resume_wait_us(f->suspended_count);
}

bool front_turn(struct front *f)
{
    f->now_us = clock_us();
    bool overdue = clients_run_deadlines(f);
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
    return overdue || f->dirty || (!list_empty(&f->resuming) && f->resumes_from_us <= f->now_us);
}

/* --- life --- */

struct front *front_create(const struct front_params *params)
{
    struct front *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->params = *params;
    f->head_bytes = params->limits->head_bytes;
    list_init(&f->clients);
    list_init(&f->suspended);
    list_init(&f->watched);
    list_init(&f->resuming);
    list_init(&f->parked);
    uv_timer_init(params->loop, &f->deadline_timer);
    uv_timer_init(params->loop, &f->watch_timer);
    uv_timer_init(params->loop, &f->idle_timer);
    uv_timer_init(params->loop, &f->resume_timer);
    f->deadline_timer.data = f->watch_timer.data = f->idle_timer.data = f->resume_timer.data = f;
    f->open_handles = 4;
    return f;
}

static void on_handle_closed(uv_handle_t *handle)
{
    front_handle_closed(handle->data);
}

static void server_close(struct server *s)
{
    uv_poll_stop(&s->poll);
    stop_daemon(s);
    http_socket_close(&s->socket);
    s->open = false;
    s->poll.data = s->timer.data = s->front;
    uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

static void resume_all_as_gone(struct front *f)
{
    struct list *node;
    clients_unpark(f);
    list_splice(&f->suspended, &f->watched);
    while ((node = f->suspended.next) != &f->suspended) {
        struct exchange *ex = LIST_CONTAINER(node, struct exchange, node);
        ex->gone = true;
        exchange_resume(ex);
    }
    f->resumes_from_us = 0;
}

/* libmicrohttpd aborts the process when it is stopped with a suspended connection: all are resumed
 * as gone first, and run once, which also takes the last answers along. That run may suspend
 * others, so they are resumed, too; no run is needed for that. */
void front_close(struct front *f, void (*closed)(void *arg), void *arg)
{
    f->closed = closed;
    f->closed_arg = arg;
    resume_all_as_gone(f);
    f->dirty = true;
    front_turn(f);
    resume_all_as_gone(f);
    run_resumes(f);
    for (size_t i = 0; i < f->server_count; i++)
        if (f->servers[i].open)
            server_close(&f->servers[i]);
    uv_close((uv_handle_t *)&f->deadline_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->watch_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->idle_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->resume_timer, on_handle_closed);
}

void front_drain(struct front *f)
{
    f->draining = true;
}

size_t front_clients(const struct front *f)
{
    return f->client_count;
}

size_t front_request_bytes(const struct front *f)
{
    return f->request_bytes;
}

void front_uncharge(struct front *f, size_t bytes)
{
    f->request_bytes -= bytes;
}

size_t front_exchanges(const struct front *f)
{
    return f->exchange_count;
}

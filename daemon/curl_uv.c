/* SPDX-License-Identifier: MIT
 *
 * curl_uv - libcurl's multi_socket interface on libuv. Called by the engine (fetch, transfer) on
 * the loop's thread.
 *
 * Owns the CURLM, its timer, and a table of sockets by descriptor. A socket is made by
 * curl_uv_open_socket() and lives until libcurl closes it; CURL_POLL_REMOVE only clears what is
 * wanted and leaves the watcher armed, because the next request on the connection wants the same
 * again. An event that nobody wants means that an idle connection was closed by its server (or is
 * being talked to out of turn): the watcher is stopped, libcurl finds the connection dead when it looks.
 *
 * The trick is in closing: uv_poll_stop() takes the descriptor out of epoll at once, so it may be
 * closed and reused immediately; only the memory waits for uv_close()'s callback. And not every socket
 * is closed through us: libcurl 7.88 closes one that never became a connection (a time-out while
 * connecting, the slower of two addresses) behind the callback's back. So when a socket is let go for
 * the first time, settle() looks whether it is still there; from then on it is in the connection
 * cache, which always tells.
 */
#include "curl_uv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "list.h"
#include "log.h"

struct socket_watch {
    uv_poll_t poll;
    struct list node; /* multi->unsettled, or none */
    struct curl_uv *multi;
    curl_socket_t fd;
    int wanted; /* what libcurl wants: UV_READABLE | UV_WRITABLE */
    int armed;  /* what the watcher waits for */
    bool ours;  /* opened by curl_uv_open_socket() */
    bool settled; /* was let go once and stayed open */
};

struct curl_uv {
    CURLM *handle;
    uv_loop_t *loop;
    uv_timer_t timer;
    bool timer_due;    /* the timer fired, or libcurl asked for 0 ms */
    bool may_have_msg; /* something ran since the messages were drained */
    struct socket_watch **table; /* by descriptor */
    size_t table_size;
    struct list unsettled; /* let go for the first time in this call of libcurl */
    size_t sockets;
    size_t open_handles; /* uv handles not yet closed */
    CURL *sweeper;       /* the transfer of a running sweep */
    bool starved;        /* no descriptor was left for a socket */
    bool closing;
    void (*wake)(void *arg);
    void *arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void work_appeared(struct curl_uv *m)
{
    m->may_have_msg = true;
    m->wake(m->arg);
}

static void handle_closed(struct curl_uv *m)
{
    if (--m->open_handles > 0 || !m->closing)
        return;
    void (*closed)(void *arg) = m->closed;
    void *arg = m->closed_arg;
    free(m->table);
    free(m);
    closed(arg);
}

/* --- sockets --- */

static struct socket_watch *watch_find(const struct curl_uv *m, curl_socket_t fd)
{
    return fd >= 0 && (size_t)fd < m->table_size ? m->table[fd] : NULL;
}

static bool table_reserve(struct curl_uv *m, curl_socket_t fd)
{
    size_t need = (size_t)fd + 1;
    if (need <= m->table_size)
        return true;
    size_t size = m->table_size > 0 ? m->table_size : 64;
    while (size < need)
        size *= 2;
    struct socket_watch **table = realloc(m->table, size * sizeof(struct socket_watch *));
    if (table == NULL)
        return false;
    memset(table + m->table_size, 0, (size - m->table_size) * sizeof(struct socket_watch *));
    m->table = table;
    m->table_size = size;
    return true;
}

static struct socket_watch *watch_create(struct curl_uv *m, curl_socket_t fd, bool ours)
{
    if (!table_reserve(m, fd))
        return NULL;
    struct socket_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    int rc = uv_poll_init(m->loop, &w->poll, fd);
    if (rc != 0) {
        LOG_WARN("curl_uv", "poll_init fd=%d error=%s", fd, uv_strerror(rc));
        free(w);
        errno = -rc;
        return NULL;
    }
    w->multi = m;
    w->fd = fd;
    w->ours = ours;
    w->poll.data = w;
    list_init(&w->node);
    m->table[fd] = w;
    m->sockets++;
    m->open_handles++;
    return w;
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct socket_watch *w = handle->data;
    struct curl_uv *m = w->multi;
    free(w);
    handle_closed(m);
}

static void watch_destroy(struct socket_watch *w)
{
    w->multi->table[w->fd] = NULL;
    w->multi->sockets--;
    list_remove(&w->node);
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

/* After each call of libcurl that may have closed sockets. */
static void settle(struct curl_uv *m)
{
    struct list *node;
    while ((node = list_pop(&m->unsettled)) != NULL) {
        struct socket_watch *w = LIST_CONTAINER(node, struct socket_watch, node);
        if (w->wanted != 0)
            continue;
        if (fcntl(w->fd, F_GETFD) < 0)
            watch_destroy(w);
        else
            w->settled = true;
    }
}

static void on_socket_event(uv_poll_t *poll, int status, int events);

static void watch_arm(struct socket_watch *w, int wanted)
{
    int rc = uv_poll_start(&w->poll, wanted, on_socket_event);
    if (rc == 0)
        w->armed = wanted;
    else
        LOG_WARN("curl_uv", "poll_start fd=%d error=%s", w->fd, uv_strerror(rc));
}

/* An error event (status < 0; libuv has stopped the watcher) is handed on as what was waited for: what
 * came before a reset is still to be read, and libcurl finds the error itself, with its errno. */
static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct socket_watch *w = poll->data;
    struct curl_uv *m = w->multi;
    const curl_socket_t fd = w->fd;
    if (status < 0) {
        w->armed = 0;
        events = w->wanted;
    } else if (w->wanted == 0) {
        uv_poll_stop(poll);
        w->armed = 0;
    }
    if (w->wanted == 0)
        return;
    int running;
    int action = ((events & UV_READABLE) ? CURL_CSELECT_IN : 0) |
                 ((events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(m->handle, fd, action, &running);
    settle(m);
    if (status < 0 && watch_find(m, fd) == w && w->armed == 0 && w->wanted != 0)
        watch_arm(w, w->wanted);
    work_appeared(m);
}

static void watch_want(struct socket_watch *w, int wanted)
{
    w->wanted = wanted;
    if (wanted != 0 && wanted != w->armed)
        watch_arm(w, wanted);
}

static void watch_let_go(struct socket_watch *w)
{
    w->wanted = 0;
    if (!w->settled && !list_linked(&w->node))
        list_append(&w->multi->unsettled, &w->node);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    (void)easy;
    (void)socket_arg;
    struct curl_uv *m = arg;
    struct socket_watch *w = watch_find(m, fd);
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL && !w->ours)
            watch_destroy(w);
        else if (w != NULL)
            watch_let_go(w);
        return 0;
    }
    if (w == NULL && (w = watch_create(m, fd, false)) == NULL)
        return -1;
    watch_want(w, ((what & CURL_POLL_IN) ? UV_READABLE : 0) |
                      ((what & CURL_POLL_OUT) ? UV_WRITABLE : 0));
    return 0;
}

curl_socket_t curl_uv_open_socket(struct curl_uv *m, const struct curl_sockaddr *address)
{
    int fd = socket(address->family, address->socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->protocol);
    if (fd < 0) {
        m->starved |= errno == EMFILE || errno == ENFILE;
        return CURL_SOCKET_BAD;
    }
    struct socket_watch *stale = watch_find(m, fd);
    if (stale != NULL)
        watch_destroy(stale); /* closed behind our back in this very call */
    if (watch_create(m, fd, true) == NULL) {
        int saved = errno;
        close(fd);
        errno = saved;
        return CURL_SOCKET_BAD;
    }
    return fd;
}

int curl_uv_close_socket(void *curl_uv, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(curl_uv, fd);
    if (w != NULL)
        watch_destroy(w);
    return close(fd);
}

/* --- timer --- */

static void on_timer(uv_timer_t *timer)
{
    struct curl_uv *m = timer->data;
    m->timer_due = true;
    work_appeared(m);
}

/* 0 must stay 0: it means "again, before you sleep". libcurl may not be called from here. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct curl_uv *m = arg;
    if (timeout_ms > 0) {
        m->timer_due = false;
        uv_timer_start(&m->timer, on_timer, (uint64_t)timeout_ms, 0);
        return 0;
    }
    uv_timer_stop(&m->timer);
    m->timer_due = timeout_ms == 0;
    if (m->timer_due)
        m->wake(m->arg);
    return 0;
}

/* --- the sweep --- */

static curl_socket_t on_sweep_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    (void)address;
    return CURL_SOCKET_BAD;
}

static void sweep_end(struct curl_uv *m)
{
    if (m->sweeper == NULL)
        return;
    curl_multi_remove_handle(m->handle, m->sweeper);
    curl_easy_cleanup(m->sweeper);
    m->sweeper = NULL;
}

void curl_uv_sweep(struct curl_uv *m, long max_age_s)
{
    if (m->sweeper != NULL || (m->sweeper = curl_easy_init()) == NULL)
        return;
    CURL *e = m->sweeper;
    curl_easy_setopt(e, CURLOPT_URL, "http://127.0.0.1:9/");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, max_age_s);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_sweep_socket);
    if (curl_multi_add_handle(m->handle, e) != CURLM_OK)
        sweep_end(m);
}

/* --- life --- */

struct curl_uv *curl_uv_create(const struct curl_uv_params *params)
{
    struct curl_uv *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->handle = curl_multi_init();
    if (m->handle == NULL) {
        free(m);
        return NULL;
    }
    m->loop = params->loop;
    m->wake = params->wake;
    m->arg = params->arg;
    list_init(&m->unsettled);
    uv_timer_init(m->loop, &m->timer);
    m->timer.data = m;
    m->open_handles = 1;
    curl_multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(m->handle, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(m->handle, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->handle, CURLMOPT_MAXCONNECTS, params->max_connects);
    return m;
}

void curl_uv_set_max_connects(struct curl_uv *m, long max_connects)
{
    curl_multi_setopt(m->handle, CURLMOPT_MAXCONNECTS, max_connects);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void curl_uv_close(struct curl_uv *m, void (*closed)(void *arg), void *arg)
{
    m->closed = closed;
    m->closed_arg = arg;
    sweep_end(m);
    curl_multi_cleanup(m->handle); /* closes its sockets through curl_uv_close_socket() */
    for (size_t fd = 0; fd < m->table_size; fd++)
        if (m->table[fd] != NULL)
            watch_destroy(m->table[fd]);
    m->closing = true;
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
}

CURLMcode curl_uv_add(struct curl_uv *m, CURL *easy)
{
    return curl_multi_add_handle(m->handle, easy);
}

void curl_uv_remove(struct curl_uv *m, CURL *easy)
{
    curl_multi_remove_handle(m->handle, easy);
    settle(m);
    m->may_have_msg = true;
}

size_t curl_uv_turn(struct curl_uv *m, size_t max,
                    void (*done)(void *arg, CURL *easy, CURLcode code), void *arg)
{
    if (m->timer_due) {
        int running;
        m->timer_due = false;
        curl_multi_socket_action(m->handle, CURL_SOCKET_TIMEOUT, 0, &running);
        settle(m);
        m->may_have_msg = true;
    }
    size_t n = 0;
    while (m->may_have_msg && n < max) {
        int left;
        CURLMsg *msg = curl_multi_info_read(m->handle, &left);
        m->may_have_msg = msg != NULL && left > 0;
        if (msg == NULL || msg->msg != CURLMSG_DONE)
            continue;
        if (msg->easy_handle == m->sweeper) {
            sweep_end(m);
            continue;
        }
        n++;
        done(arg, msg->easy_handle, msg->data.result);
    }
    return n;
}

bool curl_uv_pending(const struct curl_uv *m)
{
    return m->timer_due || m->may_have_msg;
}

bool curl_uv_starved(struct curl_uv *m)
{
    bool starved = m->starved;
    m->starved = false;
    return starved;
}

size_t curl_uv_sockets(const struct curl_uv *m)
{
    return m->sockets;
}

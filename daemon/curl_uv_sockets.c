/* SPDX-License-Identifier: MIT
 *
 * curl_uv_sockets - see curl_uv_internal.h. The sockets of a multi, by descriptor.
 *
 * A socket is made by curl_uv_open_socket() and lives until libcurl closes it; CURL_POLL_REMOVE
 * only clears what is wanted and leaves the watcher armed, because the next request on the
 * connection wants the same again. An event that nobody wants means that an idle connection was
 * closed by its server: the watcher is stopped, libcurl finds the connection dead when it looks. Or
 * it says what nobody asked for; see forsake().
 *
 * The trick is in closing: uv_poll_stop() takes the descriptor out of epoll at once, so it may be
 * closed and reused immediately; only the memory waits for uv_close()'s callback. And not every
 * socket is closed through us: libcurl 7.88 closes one that never became a connection (a time-out
 * while connecting, the slower of two addresses) behind the callback's back. So when a socket is
 * let go for the first time, curl_uv_settle() looks whether it is still there; from then on it is
 * in the connection cache, which always tells. That the descriptor is open says nothing: another
 * thread may have been given its number meanwhile. The socket is known by its inode.
 *
 * The loop's callbacks only put a socket on a list of those that are ready; libcurl is called for
 * them at the turn's end, for as long as the turn may take, and what is left waits for the next
 * turn. Sockets in a TLS handshake (0.4 to 0.9 ms a step) have a list of their own, behind the
 * others: five hundred of them do not hold up who has a connection. And one socket cannot keep the
 * turn: see curl_uv_recv.h.
 */
#include "curl_uv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "curl_uv_recv.h"
#include "log.h"

/* What a turn may take: for sockets that are ready, for handshakes, and for one socket. */
#define READY_NS UINT64_C(2000000)
#define HANDSHAKES_NS UINT64_C(1000000)
#define ONE_NS UINT64_C(500000)

#define IDLE_WRITES_MAX 8 /* in a row: then a socket that can be written to is left alone */

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

/* 0 = the descriptor is closed, or no socket any more. */
static ino_t inode_of(curl_socket_t fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
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
    w->inode = inode_of(fd);
    w->ours = ours;
    w->at_most = CURL_UV_RECV_FIRST;
    w->poll.data = w;
    list_init(&w->node);
    list_init(&w->ready);
    list_init(&w->rest);
    list_init(&w->again);
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
    curl_uv_handle_closed(m);
}

static void watch_destroy(struct socket_watch *w)
{
    struct curl_uv *m = w->multi;
    m->table[w->fd] = NULL;
    m->sockets--;
    list_remove(&w->node);
    list_remove(&w->ready);
    list_remove(&w->rest);
    list_remove(&w->again);
    if (w->tag != NULL)
        m->socket_closed(m->arg, w->tag);
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

void curl_uv_settle(struct curl_uv *m)
{
    struct list *node;
    while ((node = list_pop(&m->unsettled)) != NULL) {
        struct socket_watch *w = LIST_CONTAINER(node, struct socket_watch, node);
        if (w->wanted != 0)
            continue;
        if (inode_of(w->fd) != w->inode)
            watch_destroy(w);
        else
            w->settled = true;
    }
}

/* libcurl takes a kept connection for dead when the other side has closed it, and 7.88 for good in
 * any other case: what waits there, sent after an answer, would be the answer to the next request,
 * whoever asks. So it is made to look closed: no more comes in, and nothing is left to be read. */
static void forsake(struct socket_watch *w)
{
    char bytes[16384];
    shutdown(w->fd, SHUT_RDWR);
    while (recvfrom(w->fd, bytes, sizeof bytes, MSG_DONTWAIT, NULL, NULL) > 0)
        ;
}

/* A connection that nobody uses at the moment. */
static void check_idle(struct socket_watch *w)
{
    char byte;
    if (!w->ours || w->talks_idle)
        return;
    if (recvfrom(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) > 0)
        forsake(w);
}

/* All of them from within a call of libcurl, see curl_uv_recv.h. */
static void on_read(void *arg, int fd, size_t at_most, bool more)
{
    struct socket_watch *w = watch_find(arg, fd);
    if (w == NULL)
        return;
    if (w->wanted == 0 && more)
        check_idle(w);
    else if (w->wanted != 0 && w->at_most > CURL_UV_RECV_LAYERS)
        w->at_most = at_most;
}

/* Whether it is wanted is seen when it has its turn. */
void curl_uv_stir(struct curl_uv *m, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(m, fd);
    if (w == NULL)
        return;
    w->events |= UV_READABLE;
    if (!list_linked(&w->ready))
        list_append(&m->ready, &w->ready);
    m->wake(m->arg);
}

/* libcurl believes that it is empty. */
static void on_held_back(void *arg, int fd)
{
    curl_uv_stir(arg, fd);
}

static bool on_speaks(void *arg, int fd)
{
    const struct socket_watch *w = watch_find(arg, fd);
    return w != NULL && w->ours && w->wanted == 0 && !w->talks_idle;
}

static bool on_whole(void *arg, int fd)
{
    const struct curl_uv *m = arg;
    const struct socket_watch *w = watch_find(m, fd);
    return w != NULL ? w->talks_idle : m->shares;
}

void curl_uv_act(struct curl_uv *m, curl_socket_t fd, int action)
{
    int running;
    const struct socket_watch *w = watch_find(m, fd); /* CURL_SOCKET_TIMEOUT is negative */
    const size_t at_most = w != NULL ? w->at_most : CURL_UV_RECV_FIRST;
    const struct curl_uv_recv_told told = {.read = on_read,
                                           .held_back = on_held_back,
                                           .speaks = on_speaks,
                                           .whole = on_whole,
                                           .arg = m};
    curl_uv_recv_begin(fd, uv_hrtime() + ONE_NS, at_most, &told);
    CURLMcode code = curl_multi_socket_action(m->handle, fd, action, &running);
    curl_uv_recv_end();
    m->broken |= code == CURLM_OUT_OF_MEMORY;
    curl_uv_settle(m);
    m->may_have_msg = true;
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

/* An error event (status < 0; libuv has stopped the watcher) is handed on as what was waited for:
 * what came before a reset is still to be read, and libcurl finds the error itself, with its
 * errno. */
static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct socket_watch *w = poll->data;
    struct curl_uv *m = w->multi;
    if (status < 0) {
        w->armed = 0;
        events = w->wanted;
    } else if (w->wanted == 0) {
        uv_poll_stop(poll);
        w->armed = 0;
        check_idle(w);
    }
    if (w->wanted == 0)
        return;
    w->events |= events;
    if (!list_linked(&w->ready))
        list_append(w->handshaker != NULL ? &m->handshakes : &m->ready, &w->ready);
    m->wake(m->arg);
}

/* What the watcher is to wait for. */
static int wanted_now(const struct socket_watch *w)
{
    return list_linked(&w->rest) ? w->wanted & ~UV_WRITABLE : w->wanted;
}

static void rearm(struct socket_watch *w)
{
    const int wanted = wanted_now(w);
    if (wanted == w->armed)
        return;
    if (wanted != 0) {
        watch_arm(w, wanted);
        return;
    }
    uv_poll_stop(&w->poll);
    w->armed = 0;
}

void curl_uv_tick_sockets(struct curl_uv *m)
{
    struct list *node;
    while ((node = list_pop(&m->resting)) != NULL)
        rearm(LIST_CONTAINER(node, struct socket_watch, rest));
    while ((node = list_pop(&m->again)) != NULL)
        curl_uv_stir(m, LIST_CONTAINER(node, struct socket_watch, again)->fd);
}

/* That HTTP/2 broke libcurl (7.88) sees in the call in which it has sent its GOAWAY or in a later
 * one, which nothing else may bring about. */
static void look_again(struct socket_watch *w)
{
    if (!w->talks_idle || list_linked(&w->again))
        return;
    list_append(&w->multi->again, &w->again);
    curl_uv_want_tick(w->multi);
}

/* An HTTP/2 upload whose window is shut libcurl (7.88) wants to write, and does not: its socket,
 * which can be written to, would wake the loop again and again. What moves ends the rest. */
static void rest_if_idle(struct socket_watch *w, bool moved)
{
    w->idle_writes = moved ? 0 : w->idle_writes + 1;
    list_remove(&w->rest);
    if (w->idle_writes <= IDLE_WRITES_MAX || (w->wanted & UV_WRITABLE) == 0)
        return;
    list_append(&w->multi->resting, &w->rest);
    curl_uv_want_tick(w->multi);
}

static void run_socket(struct curl_uv *m, struct socket_watch *w)
{
    const curl_socket_t fd = w->fd;
    const bool writes = w->events == UV_WRITABLE;
    int action = ((w->events & UV_READABLE) ? CURL_CSELECT_IN : 0) |
                 ((w->events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0);
    w->events = 0;
    if (w->wanted == 0)
        return;
    curl_uv_act(m, fd, action);
    w = watch_find(m, fd); /* it may be another one by now, or none */
    if (w == NULL || w->wanted == 0)
        return;
    const bool moved = curl_uv_recv_moved();
    if (writes || moved)
        rest_if_idle(w, moved);
    if (moved)
        look_again(w);
    rearm(w);
}

/* Runs the sockets of a list for about so long, the first one in any case. */
static void run_sockets(struct curl_uv *m, struct list *list, uint64_t for_ns)
{
    struct list *node;
    uint64_t until_ns = 0;
    while (!m->broken && (node = list_pop(list)) != NULL) {
        run_socket(m, LIST_CONTAINER(node, struct socket_watch, ready));
        uint64_t now_ns = uv_hrtime();
        if (until_ns == 0)
            until_ns = now_ns + for_ns;
        else if (now_ns >= until_ns)
            return;
    }
}

/* Those that have to wait for the next turn would be reported by each poll until then: a hundred of
 * them cost 30 us a turn of 1 ms. Out of epoll with them, once; run_socket() puts them back. */
static void disarm_sockets(struct list *list)
{
    for (struct list *node = list->prev; node != list; node = node->prev) {
        struct socket_watch *w = LIST_CONTAINER(node, struct socket_watch, ready);
        if (w->armed == 0)
            return; /* and so are those before it */
        uv_poll_stop(&w->poll);
        w->armed = 0;
    }
}

void curl_uv_run_sockets(struct curl_uv *m)
{
    run_sockets(m, &m->ready, READY_NS);
    run_sockets(m, &m->handshakes, HANDSHAKES_NS);
    disarm_sockets(&m->handshakes);
}

static void watch_want(struct socket_watch *w, int wanted)
{
    w->wanted = wanted;
    w->idle_writes = 0;
    list_remove(&w->rest);
    if (wanted != 0 && wanted != w->armed)
        watch_arm(w, wanted);
}

static void watch_let_go(struct socket_watch *w)
{
    w->wanted = w->idle_writes = 0;
    list_remove(&w->rest);
    w->at_most = CURL_UV_RECV_FIRST;
    if (!w->settled && !list_linked(&w->node))
        list_append(&w->multi->unsettled, &w->node);
}

int curl_uv_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
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

curl_socket_t curl_uv_open_socket(struct curl_uv *m, const struct curl_sockaddr *address,
                                  const void *handshaker, void *tag)
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
    struct socket_watch *w = watch_create(m, fd, true);
    if (w == NULL) {
        int saved = errno;
        close(fd);
        errno = saved;
        return CURL_SOCKET_BAD;
    }
    w->handshaker = handshaker;
    w->talks_idle = m->shares; /* until it is known; who opened it may be gone by then */
    w->tag = tag;
    m->opened++;
    return fd;
}

void curl_uv_break_off(struct curl_uv *m, curl_socket_t fd)
{
    const struct socket_watch *w = watch_find(m, fd);
    if (w != NULL && w->ours)
        shutdown(fd, SHUT_RDWR);
}

bool curl_uv_handshake_done(struct curl_uv *m, curl_socket_t fd, const void *handshaker,
                            bool talks_idle)
{
    struct socket_watch *w = watch_find(m, fd);
    if (w == NULL || w->handshaker != handshaker)
        return false;
    w->handshaker = NULL;
    w->talks_idle = talks_idle;
    return inode_of(fd) == w->inode;
}

bool curl_uv_in_use(const struct curl_uv *m, curl_socket_t fd)
{
    const struct socket_watch *w = watch_find(m, fd);
    return w == NULL || w->wanted != 0;
}

int curl_uv_close_socket(void *curl_uv, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(curl_uv, fd);
    if (w != NULL)
        watch_destroy(w);
    curl_uv_recv_forget(fd);
    return close(fd);
}

void curl_uv_drop_sockets(struct curl_uv *m)
{
    for (size_t fd = 0; fd < m->table_size; fd++)
        if (m->table[fd] != NULL)
            watch_destroy(m->table[fd]);
}

/* SPDX-License-Identifier: MIT
 *
 * curl_uv - libcurl's multi_socket interface on libuv. Called by the engine (fetch, transfer) on
 * the loop's thread.
 *
 * Owns the CURLM, its timer, and a table of sockets by descriptor. A socket is made by
 * curl_uv_open_socket() and lives until libcurl closes it; CURL_POLL_REMOVE only clears what is
 * wanted and leaves the watcher armed, because the next request on the connection wants the same
 * again. An event that nobody wants means that an idle connection was closed by its server: the watcher is
 * stopped, libcurl finds the connection dead when it looks. Or it says what nobody asked for; see forsake().
 *
 * The trick is in closing: uv_poll_stop() takes the descriptor out of epoll at once, so it may be
 * closed and reused immediately; only the memory waits for uv_close()'s callback. And not every socket
 * is closed through us: libcurl 7.88 closes one that never became a connection (a time-out while
 * connecting, the slower of two addresses) behind the callback's back. So when a socket is let go for
 * the first time, settle() looks whether it is still there; from then on it is in the connection
 * cache, which always tells. That the descriptor is open says nothing: another thread may have been
 * given its number meanwhile. The socket is known by its inode.
 *
 * The loop's callbacks only put a socket on a list of those that are ready; libcurl is called for them at
 * the turn's end, for as long as the turn may take, and what is left waits for the next turn. Sockets in
 * a TLS handshake (0.4 to 0.9 ms a step) have a list of their own, behind the others: five hundred of them
 * do not hold up who has a connection. And one socket cannot keep the turn: see curl_uv_recv.h.
 *
 * When libcurl says CURLM_OUT_OF_MEMORY while it runs, it has forgotten a socket, or worse: 7.88 keeps an
 * entry of its table that it destroyed, and divides by its zero slots when the socket is next used. Such a
 * multi is not called any more: its transfers end with an error and it is made anew.
 *
 * libcurl names a new expiry at almost every step, mostly a later one than before: the uv timer is
 * only moved to an earlier time, and judged again when it fires.
 */
#include "curl_uv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "curl_uv_recv.h"
#include "list.h"
#include "log.h"

/* What a turn may take: for sockets that are ready, for handshakes, and for one socket. */
#define READY_NS UINT64_C(2000000)
#define HANDSHAKES_NS UINT64_C(1000000)
#define ONE_NS UINT64_C(500000)

#define NEVER UINT64_MAX

/* libcurl needs an address from a transfer's start until it is connected, and again when a kept
 * connection turns out to be dead: for about as long as a transfer takes. */
#define ADDRESSES_KEPT_S 60L

/* Connections opened after which a sweep is due for the addresses alone. */
#define OPENED_MAX 4096

struct socket_watch {
    uv_poll_t poll;
    struct list node;  /* multi->unsettled, or none */
    struct list ready; /* multi->ready or multi->handshakes, while there are events */
    struct curl_uv *multi;
    void *tag; /* the opener's; handed back when the socket is closed */
    curl_socket_t fd;
    ino_t inode; /* of the socket */
    int wanted; /* what libcurl wants: UV_READABLE | UV_WRITABLE */
    int armed;  /* what the watcher waits for */
    int events; /* what has come and libcurl was not told yet */
    size_t at_most; /* bytes that a read may take, see curl_uv_recv.h */
    bool ours;  /* opened by curl_uv_open_socket() */
    bool settled; /* was let go once and stayed open */
    bool handshaking; /* to have TLS, and does not have it yet */
};

struct curl_uv {
    CURLM *handle;
    uv_loop_t *loop;
    uv_timer_t timer;
    uint64_t due_ms;   /* loop time at which libcurl wants to be called; NEVER */
    uint64_t armed_ms; /* when the timer fires: not later than that; NEVER */
    bool timer_due;    /* the timer fired, or libcurl asked for 0 ms */
    bool may_have_msg; /* something ran since the messages were drained */
    struct socket_watch **table; /* by descriptor */
    size_t table_size;
    struct list unsettled; /* let go for the first time in this call of libcurl */
    struct list ready, handshakes; /* sockets with events */
    size_t sockets;
    size_t open_handles; /* uv handles not yet closed */
    CURL *sweeper;       /* the transfer of a running sweep */
    CURL **easies;       /* the handles added */
    size_t transfers;    /* of them */
    size_t easies_room;
    bool broken;         /* libcurl ran out of memory in the middle of something */
    size_t peak;         /* the most of them since the last sweep */
    size_t opened;       /* sockets since the last sweep */
    long max_idle, max_connects;
    bool few;            /* descriptors: max_idle bounds all that are not in use */
    bool talks_idle;     /* see struct curl_uv_params */
    bool starved;        /* no descriptor was left for a socket */
    bool closing;
    void (*wake)(void *arg);
    void (*socket_closed)(void *arg, void *tag);
    void *arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void handle_closed(struct curl_uv *m)
{
    if (--m->open_handles > 0 || !m->closing)
        return;
    void (*closed)(void *arg) = m->closed;
    void *arg = m->closed_arg;
    free(m->table);
    free(m->easies);
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
    struct curl_uv *m = w->multi;
    m->table[w->fd] = NULL;
    m->sockets--;
    list_remove(&w->node);
    list_remove(&w->ready);
    if (w->tag != NULL)
        m->socket_closed(m->arg, w->tag);
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
        if (inode_of(w->fd) != w->inode)
            watch_destroy(w);
        else
            w->settled = true;
    }
}

/* libcurl takes a kept connection for dead when the other side has closed it, and 7.88 for good in any other
 * case: what waits there, sent after an answer, would be the answer to the next request, whoever asks.
 * So it is made to look closed: no more comes in, and nothing is left to be read. */
static void forsake(struct socket_watch *w)
{
    char bytes[16384];
    shutdown(w->fd, SHUT_RDWR);
    while (recvfrom(w->fd, bytes, sizeof bytes, MSG_DONTWAIT, NULL, NULL) > 0)
        ;
}

void curl_uv_forsake(struct curl_uv *m, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(m, fd);
    if (w != NULL && w->ours && w->wanted == 0)
        forsake(w);
}

/* A connection that nobody uses at the moment. */
static void check_idle(struct socket_watch *w)
{
    char byte;
    if (!w->ours || w->multi->talks_idle)
        return;
    if (recvfrom(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) > 0)
        forsake(w);
}

/* After a call of libcurl that read. */
static void note_reading(struct curl_uv *m, const struct curl_uv_recv_end *end)
{
    struct socket_watch *w = watch_find(m, end->fd);
    if (w == NULL)
        return;
    if (w->wanted != 0)
        w->at_most = end->at_most;
    else if (end->more)
        check_idle(w);
}

/* One call of libcurl; how long it goes on reading is bounded. */
static void act(struct curl_uv *m, curl_socket_t fd, int action)
{
    int running;
    const struct socket_watch *w = watch_find(m, fd); /* CURL_SOCKET_TIMEOUT is negative */
    const size_t at_most = w != NULL ? w->at_most : CURL_UV_RECV_FIRST;
    curl_uv_recv_begin(fd, uv_hrtime() + ONE_NS, at_most);
    CURLMcode code = curl_multi_socket_action(m->handle, fd, action, &running);
    const struct curl_uv_recv_end end = curl_uv_recv_end();
    m->broken |= code == CURLM_OUT_OF_MEMORY;
    settle(m);
    note_reading(m, &end);
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

/* An error event (status < 0; libuv has stopped the watcher) is handed on as what was waited for: what
 * came before a reset is still to be read, and libcurl finds the error itself, with its errno. */
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
        list_append(w->handshaking ? &m->handshakes : &m->ready, &w->ready);
    m->wake(m->arg);
}

static void run_socket(struct curl_uv *m, struct socket_watch *w)
{
    const curl_socket_t fd = w->fd;
    int action = ((w->events & UV_READABLE) ? CURL_CSELECT_IN : 0) |
                 ((w->events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0);
    w->events = 0;
    if (w->wanted == 0)
        return;
    act(m, fd, action);
    w = watch_find(m, fd); /* it may be another one by now, or none */
    if (w != NULL && w->armed == 0 && w->wanted != 0)
        watch_arm(w, w->wanted);
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

/* Those that have to wait for the next turn would be reported by each poll until then: a hundred of them
 * cost 30 us a turn of 1 ms. Out of epoll with them, once; run_socket() puts them back. */
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

static void watch_want(struct socket_watch *w, int wanted)
{
    w->wanted = wanted;
    if (wanted != 0 && wanted != w->armed)
        watch_arm(w, wanted);
}

static void watch_let_go(struct socket_watch *w)
{
    w->wanted = 0;
    w->at_most = CURL_UV_RECV_FIRST;
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

curl_socket_t curl_uv_open_socket(struct curl_uv *m, const struct curl_sockaddr *address, bool tls,
                                  void *tag)
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
    w->handshaking = tls;
    w->tag = tag;
    m->opened++;
    return fd;
}

void curl_uv_handshake_done(struct curl_uv *m, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(m, fd);
    if (w != NULL)
        w->handshaking = false;
}

int curl_uv_close_socket(void *curl_uv, curl_socket_t fd)
{
    struct socket_watch *w = watch_find(curl_uv, fd);
    if (w != NULL)
        watch_destroy(w);
    curl_uv_recv_forget(fd);
    return close(fd);
}

/* --- timer --- */

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct curl_uv *m)
{
    uint64_t now = uv_now(m->loop);
    if (m->armed_ms <= m->due_ms)
        return;
    m->armed_ms = m->due_ms;
    uv_timer_start(&m->timer, on_timer, m->due_ms > now ? m->due_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct curl_uv *m = timer->data;
    m->armed_ms = NEVER;
    if (m->due_ms > uv_now(m->loop)) {
        arm_timer(m);
        return;
    }
    m->due_ms = NEVER;
    m->timer_due = true;
    m->wake(m->arg);
}

/* 0 must stay 0: it means "again, before you sleep". libcurl may not be called from here. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct curl_uv *m = arg;
    m->timer_due = timeout_ms == 0;
    /* a millisecond late, because libcurl before 8.4 forgets a time-out that it is called for too early */
    m->due_ms = timeout_ms > 0 ? uv_now(m->loop) + (uint64_t)timeout_ms + 1 : NEVER;
    arm_timer(m);
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
    if (m->broken || m->sweeper != NULL || (m->sweeper = curl_easy_init()) == NULL)
        return;
    CURL *e = m->sweeper;
    m->opened = 0;
    m->peak = m->transfers;
    curl_easy_setopt(e, CURLOPT_URL, "http://127.0.0.1:9/");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, max_age_s);
    /* the address table is looked through when a transfer ends, this one for all others */
    curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, m->transfers > 0 ? ADDRESSES_KEPT_S : 0L);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_sweep_socket);
    if (curl_multi_add_handle(m->handle, e) != CURLM_OK)
        sweep_end(m);
}

/* --- life --- */

/* libcurl bounds connections, running and idle together, when one becomes idle. Those that transfers used
 * a moment ago are not idle yet: else a thousand hosts that take turns would lose theirs each time. */
static long most_connects(const struct curl_uv *m)
{
    if (m->few) /* what is in use is bounded elsewhere; 0 would be no bound */
        return m->max_idle > 0 ? m->max_idle : 1;
    return (long)m->peak + m->max_idle;
}

static void bound_connects(struct curl_uv *m)
{
    if (m->transfers > m->peak)
        m->peak = m->transfers;
    long max = most_connects(m);
    if (max == m->max_connects)
        return;
    m->max_connects = max;
    curl_multi_setopt(m->handle, CURLMOPT_MAXCONNECTS, max);
}

static bool handle_create(struct curl_uv *m)
{
    CURLM *handle = curl_multi_init();
    if (handle == NULL)
        return false;
    m->handle = handle;
    m->max_connects = 0;
    curl_multi_setopt(handle, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(handle, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(handle, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(handle, CURLMOPT_TIMERDATA, m);
    bound_connects(m);
    return true;
}

/* Closes its sockets, through curl_uv_close_socket() as far as libcurl knows of them. */
static void handle_destroy(struct curl_uv *m, CURLM *handle)
{
    curl_multi_cleanup(handle);
    for (size_t fd = 0; fd < m->table_size; fd++)
        if (m->table[fd] != NULL)
            watch_destroy(m->table[fd]);
}

struct curl_uv *curl_uv_create(const struct curl_uv_params *params)
{
    struct curl_uv *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->loop = params->loop;
    m->wake = params->wake;
    m->socket_closed = params->socket_closed;
    m->arg = params->arg;
    m->talks_idle = params->talks_idle;
    m->max_idle = params->max_idle;
    m->few = params->few;
    m->due_ms = m->armed_ms = NEVER;
    list_init(&m->unsettled);
    list_init(&m->ready);
    list_init(&m->handshakes);
    if (!handle_create(m)) {
        free(m);
        return NULL;
    }
    uv_timer_init(m->loop, &m->timer);
    m->timer.data = m;
    m->open_handles = 1;
    return m;
}

void curl_uv_set_max_idle(struct curl_uv *m, long max_idle)
{
    m->max_idle = max_idle;
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
    handle_destroy(m, m->handle);
    m->closing = true;
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
}

static bool easies_reserve(struct curl_uv *m)
{
    if (m->transfers < m->easies_room)
        return true;
    size_t room = m->easies_room > 0 ? m->easies_room * 2 : 64;
    CURL **easies = reallocarray(m->easies, room, sizeof *easies);
    if (easies == NULL)
        return false;
    m->easies = easies;
    m->easies_room = room;
    return true;
}

CURLMcode curl_uv_add(struct curl_uv *m, CURL *easy)
{
    if (m->broken || !easies_reserve(m))
        return CURLM_OUT_OF_MEMORY;
    CURLMcode code = curl_multi_add_handle(m->handle, easy);
    if (code == CURLM_OK)
        m->easies[m->transfers++] = easy;
    return code;
}

void curl_uv_remove(struct curl_uv *m, CURL *easy)
{
    size_t at = m->transfers - 1; /* the youngest are looked at first */
    while (m->easies[at] != easy)
        at--;
    m->easies[at] = m->easies[--m->transfers];
    m->broken |= curl_multi_remove_handle(m->handle, easy) == CURLM_OUT_OF_MEMORY;
    settle(m);
    m->may_have_msg = true;
}

/* Ends what runs, and once that is taken out makes the multi anew. A later turn goes on with it. */
static size_t mend(struct curl_uv *m, void (*done)(void *arg, CURL *easy, CURLcode code), void *arg)
{
    size_t n = m->transfers;
    sweep_end(m);
    for (size_t at = n; at-- > 0;) /* done() may take out this one, in whose place comes a later one */
        done(arg, m->easies[at], CURLE_FAILED_INIT);
    CURLM *old = m->handle;
    if (m->transfers > 0 || !handle_create(m))
        return n;
    LOG_WARN("curl_uv", "error=\"libcurl ran out of memory\" ended=%zu", n);
    handle_destroy(m, old);
    m->broken = m->may_have_msg = m->timer_due = false;
    return n;
}

size_t curl_uv_turn(struct curl_uv *m, size_t max,
                    void (*done)(void *arg, CURL *easy, CURLcode code), void *arg)
{
    if (m->broken)
        return mend(m, done, arg);
    bound_connects(m);
    if (m->timer_due) {
        m->timer_due = false;
        act(m, CURL_SOCKET_TIMEOUT, 0);
    }
    run_sockets(m, &m->ready, READY_NS);
    run_sockets(m, &m->handshakes, HANDSHAKES_NS);
    disarm_sockets(&m->handshakes);
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
    return m->broken || m->timer_due || m->may_have_msg || !list_empty(&m->ready) ||
           !list_empty(&m->handshakes);
}

bool curl_uv_starved(struct curl_uv *m)
{
    bool starved = m->starved;
    m->starved = false;
    return starved;
}

bool curl_uv_sweep_is_due(const struct curl_uv *m)
{
    return m->opened >= OPENED_MAX;
}

bool curl_uv_is_full(const struct curl_uv *m)
{
    return m->sockets >= (size_t)most_connects(m);
}

size_t curl_uv_sockets(const struct curl_uv *m)
{
    return m->sockets;
}

size_t curl_uv_transfers(const struct curl_uv *m)
{
    return m->transfers;
}

/* SPDX-License-Identifier: MIT
 *
 * curl_uv - libcurl's multi_socket interface on libuv. Called by the engine (fetch, transfer) on
 * the loop's thread.
 *
 * Owns the CURLM, its timer and the list of its transfers; its sockets are curl_uv_sockets.c's.
 * Transfers run in curl_uv_turn() only, at the turn's end, never in a callback of the loop or of
 * libcurl.
 *
 * When libcurl says CURLM_OUT_OF_MEMORY while it runs, it has forgotten a socket, or worse: 7.88
 * keeps an entry of its table that it destroyed, and divides by its zero slots when the socket is
 * next used. Such a multi runs nothing any more: its transfers are taken out with an error and it
 * is made anew.
 *
 * Four times a second, while there are any, a tick sees to handles and sockets of which libcurl has
 * to be reminded, and to sockets of which it must not be.
 *
 * libcurl names a new expiry at almost every step, mostly a later one than before: the uv timer is
 * only moved to an earlier time, and judged again when it fires.
 */
#include "curl_uv_internal.h"

#include <stdlib.h>

#include "log.h"

#define NEVER UINT64_MAX
#define TICK_MS 250

/* libcurl needs an address from a transfer's start until it is connected, and again when a kept
 * connection turns out to be dead: for about as long as a transfer takes. */
#define ADDRESSES_KEPT_S 60L

/* Connections opened after which a sweep is due for the addresses alone. */
#define OPENED_MAX 4096

void curl_uv_handle_closed(struct curl_uv *m)
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
    /* a millisecond late, because libcurl before 8.4 forgets a time-out that it is called for too
     * early */
    m->due_ms = timeout_ms > 0 ? uv_now(m->loop) + (uint64_t)timeout_ms + 1 : NEVER;
    arm_timer(m);
    if (m->timer_due)
        m->wake(m->arg);
    return 0;
}

/* --- the tick --- */

static void remind_all(struct curl_uv *m)
{
    struct list *node, *next;
    LIST_FOREACH_SAFE(node, next, &m->reminders) {
        CURL *easy = LIST_CONTAINER(node, struct curl_uv_reminder, node)->easy;
        curl_easy_pause(easy, CURLPAUSE_ALL);
        curl_easy_pause(easy, CURLPAUSE_CONT); /* which has it run, whatever it waits for */
    }
}

static void on_tick(uv_timer_t *tick)
{
    struct curl_uv *m = tick->data;
    if (!m->broken)
        remind_all(m);
    curl_uv_tick_sockets(m);
    if (!list_empty(&m->reminders))
        curl_uv_want_tick(m);
    m->wake(m->arg);
}

void curl_uv_want_tick(struct curl_uv *m)
{
    if (!uv_is_active((uv_handle_t *)&m->tick))
        uv_timer_start(&m->tick, on_tick, TICK_MS, 0);
}

void curl_uv_remind(struct curl_uv *m, struct curl_uv_reminder *r)
{
    list_append(&m->reminders, &r->node);
    curl_uv_want_tick(m);
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

/* libcurl bounds connections, running and idle together, when one becomes idle. Those that
 * transfers used a moment ago are not idle yet: else a thousand hosts that take turns would lose
 * theirs each time. */
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
    curl_multi_setopt(handle, CURLMOPT_SOCKETFUNCTION, curl_uv_on_socket);
    curl_multi_setopt(handle, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(handle, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(handle, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(handle, CURLMOPT_PIPELINING,
                      m->shares ? CURLPIPE_MULTIPLEX : CURLPIPE_NOTHING);
    bound_connects(m);
    return true;
}

/* Closes its sockets, through curl_uv_close_socket() as far as libcurl knows of them. */
static void handle_destroy(struct curl_uv *m, CURLM *handle)
{
    curl_multi_cleanup(handle);
    curl_uv_drop_sockets(m);
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
    m->shares = params->shares;
    m->max_idle = params->max_idle;
    m->few = params->few;
    m->due_ms = m->armed_ms = NEVER;
    list_init(&m->unsettled);
    list_init(&m->ready);
    list_init(&m->handshakes);
    list_init(&m->resting);
    list_init(&m->again);
    list_init(&m->reminders);
    if (!handle_create(m)) {
        free(m);
        return NULL;
    }
    uv_timer_init(m->loop, &m->timer);
    uv_timer_init(m->loop, &m->tick);
    m->timer.data = m->tick.data = m;
    m->open_handles = 2;
    return m;
}

void curl_uv_set_max_idle(struct curl_uv *m, bool few, long max_idle)
{
    m->few = few;
    m->max_idle = max_idle;
}

static void on_timer_closed(uv_handle_t *handle)
{
    curl_uv_handle_closed(handle->data);
}

void curl_uv_close(struct curl_uv *m, void (*closed)(void *arg), void *arg)
{
    m->closed = closed;
    m->closed_arg = arg;
    sweep_end(m);
    handle_destroy(m, m->handle);
    m->closing = true;
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
    uv_close((uv_handle_t *)&m->tick, on_timer_closed);
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
    curl_uv_settle(m);
    m->may_have_msg = true;
}

/* Puts a new CURLM in place of the one that no transfer uses any more. */
static bool handle_renew(struct curl_uv *m)
{
    CURLM *old = m->handle;
    if (!handle_create(m))
        return false;
    handle_destroy(m, old);
    m->broken = m->may_have_msg = m->timer_due = false;
    return true;
}

void curl_uv_make_room(struct curl_uv *m)
{
    if (m->broken || m->sockets == 0)
        return;
    if (m->transfers > 0) {
        curl_uv_sweep(m, 1);
        return;
    }
    sweep_end(m);
    handle_renew(m); /* short of memory: the next one who asks, or the sweep */
}

/* Ends what runs, and once that is taken out makes the multi anew. A later turn goes on with it. */
static size_t mend(struct curl_uv *m, void (*done)(void *arg, CURL *easy, CURLcode code), void *arg)
{
    size_t n = m->transfers;
    sweep_end(m);
    for (size_t at = n; at-- > 0;) /* done() may take this one out; a later one moves in */
        done(arg, m->easies[at], CURLE_FAILED_INIT);
    if (m->transfers == 0 && handle_renew(m))
        LOG_WARN("curl_uv", "error=\"libcurl ran out of memory\" ended=%zu", n);
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
        curl_uv_act(m, CURL_SOCKET_TIMEOUT, 0);
    }
    curl_uv_run_sockets(m);
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

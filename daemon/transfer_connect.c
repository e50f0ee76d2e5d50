/* SPDX-License-Identifier: MIT
 *
 * transfer_connect - see transfer_connect.h. The callbacks that libcurl makes on the way to an
 * answer: an address or a socket is wanted, TLS begins, the request is about to be sent; and the
 * one after each run of the transfer, when the connection can still be looked at.
 *
 * The socket and pre-request callbacks are the last two of the four places where the policy is
 * asked. The pool has one policy, so even a callback on behalf of a connection that outlived its
 * transfer asks the right one. All of them take an abandoned transfer (CUT_CLOSED), whose result
 * and target are gone.
 */
#include "transfer_connect.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include <openssl/ssl.h>

#include "ca_file.h"
#include "clock.h"
#include "curl_uv_recv.h"
#include "local.h"
#include "tls_bounds.h"
#include "tls_trust.h"
#include "transfer_answer.h"
#include "transfer_stream.h"

/* Whether that is gatherd's own listener on all addresses, by one that is not listed as its own:
 * the machine got it later, or has it without an interface's having it. */
static bool is_own_port_here(const struct transfer_env *env, const struct ip_addr *ip,
                             uint16_t port, struct verdict *v)
{
    return !policy_check_self(env->policy, ip, port, v) && local_is_here(env->local, ip);
}

/* The last two of the four checks. The first rule that a reporting policy would deny by is kept. */
static bool may_connect(struct transfer *t, const struct ip_addr *ip, uint16_t port)
{
    const struct policy_hop hop = {
        .host = t->target.origin->host,
        .port = port,
        .from = t->from,
        .insecure = t->opts->insecure,
    };
    struct verdict v;
    bool allowed = policy_check_address(t->env->policy, &hop, ip, &v);
    if (v.reported && t->would_deny[0] == '\0')
        memcpy(t->would_deny, v.rule, sizeof t->would_deny);
    allowed = allowed && !is_own_port_here(t->env, ip, port, &v);
    if (!allowed) {
        t->cut = CUT_POLICY;
        t->verdict = v;
    }
    return allowed;
}

static bool is_unverified(const struct transfer *t)
{
    return t->kind == KIND_HTTP1_UNVERIFIED || t->kind == KIND_HTTP2_UNVERIFIED;
}

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(method, methods[i]) == 0)
            return true;
    return false;
}

/* libcurl sends it again, because a kept connection died, or because an HTTP/2 stream was refused
 * or is to be asked for by HTTP/1.1: a second POST would be a second order. That last one libcurl
 * does also when some of the answer has come, which would be put before the other one. */
static bool may_send_again(struct transfer *t)
{
    if (!is_idempotent(t->method))
        t->cut = CUT_RESENT;
    else if (t->head_bytes > 0)
        t->cut = CUT_BROKEN_OFF;
    return t->cut == CUT_NONE;
}

/* A kept connection died with the request. Nothing would make libcurl turn from one address to the
 * next any more, and it would share out among them what is no time for connecting. The hop that is
 * begun for it has a new connection, so it comes to this once. */
static bool must_begin_anew(struct transfer *t)
{
    if (!t->choices || t->opened_us != TIME_NULL)
        return false;
    t->cut = CUT_ANEW;
    return true;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = arg;
    struct ip_addr ip;
    uint16_t port = 0;
    (void)purpose;
    if (t->cut == CUT_CLOSED || (t->sends > 0 && (!may_send_again(t) || must_begin_anew(t))))
        return CURL_SOCKET_BAD;
    if (!ip_from_sockaddr(&address->addr, &ip, &port))
        ip = (struct ip_addr){0};
    if (!may_connect(t, &ip, port))
        return CURL_SOCKET_BAD;
    if (t->target.origin->https && !is_unverified(t) && !ca_file_opens(t->env->fetch->ca_file)) {
        t->cut = CUT_CA_FILE;
        return CURL_SOCKET_BAD;
    }
    if (t->opened_us == TIME_NULL)
        t->opened_us = clock_us();
    t->tls_us = t->ready_us = TIME_NULL; /* to send again; the connection before this one is dead */
    t->opening = true;
    const void *handshaker = t->target.origin->https ? t : NULL;
    curl_socket_t fd = curl_uv_open_socket(t->multi, address, handshaker, t->upstream);
    if (fd == CURL_SOCKET_BAD) {
        t->os_errno = errno;
        return fd;
    }
    upstream_socket_opened(t->upstream);
    t->opened[t->opened_count++ % RESOLVE_ADDRESSES_MAX] = fd;
    return fd;
}

/* libcurl tries several addresses; one of them is the connection. */
static void note_connected(struct transfer *t)
{
    t->connects += t->opening;
    t->opening = false;
}

/* Called when a new connection's TCP part stands and its TLS part begins. */
static CURLcode on_tls(CURL *easy, void *ssl_ctx, void *arg)
{
    struct transfer *t = arg;
    (void)easy;
    t->tls_us = clock_us();
    note_connected(t);
    tls_bounds_set(ssl_ctx);
    if (is_unverified(t))
        return CURLE_OK; /* nothing is trusted, and a session of it would be */
    tls_trust_watch(ssl_ctx, t->env->trust_spoilt);
    if (t->cut != CUT_CLOSED) /* else its origin may be gone */
        tls_sessions_attach(t->env->sessions, ssl_ctx, t->target.origin);
    return CURLE_OK;
}

static bool may_be_http2(const struct transfer *t)
{
    return t->kind == KIND_HTTP2 || t->kind == KIND_HTTP2_UNVERIFIED;
}

/* NULL = the connection has no TLS. */
static SSL *ssl_of(const struct transfer *t)
{
    struct curl_tlssessioninfo *tls = NULL;
    if (t->kind == KIND_PLAIN ||
        curl_easy_getinfo(t->easy, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK || tls == NULL)
        return NULL;
    return tls->backend == CURLSSLBACKEND_OPENSSL ? tls->internals : NULL;
}

bool transfer_is_http2(const struct transfer *t)
{
    const unsigned char *name = NULL;
    unsigned n = 0;
    const SSL *ssl = may_be_http2(t) ? ssl_of(t) : NULL;
    if (ssl != NULL)
        SSL_get0_alpn_selected(ssl, &name, &n);
    return n == 2 && memcmp(name, "h2", 2) == 0;
}

/* Which of them the connection uses libcurl does not tell before the end; the others are closed by
 * now. Returns it, or CURL_SOCKET_BAD where that is not certain. */
static curl_socket_t end_handshake(struct transfer *t, bool http2)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    unsigned open = 0;
    unsigned n = t->opened_count < RESOLVE_ADDRESSES_MAX ? t->opened_count : RESOLVE_ADDRESSES_MAX;
    for (unsigned i = 0; i < n; i++) {
        if (!curl_uv_handshake_done(t->multi, t->opened[i], t, http2))
            continue;
        open++;
        fd = t->opened[i];
    }
    t->opened_count = 0;
    return open == 1 ? fd : CURL_SOCKET_BAD;
}

static struct {
    pthread_once_t once;
    int index; /* of SSLs: 1 + the descriptor of one that is HTTP/1.1; negative = none */
} sockets = {.once = PTHREAD_ONCE_INIT};

static void take_index(void)
{
    sockets.index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* Where HTTP/2 is on offer libcurl before 8.5 gives a busy HTTP/1.1 connection to other transfers,
 * too, once it has seen "HTTP/2" from the same host, in the ALPN of another connection or in a
 * status line: whose answer is whose nobody knows then. It may also give away one that is not open
 * yet, of which it does not know what it will be. Only who is alone may send. */
static bool is_alone(struct transfer *t, bool opened, curl_socket_t fd)
{
    SSL *ssl = ssl_of(t);
    pthread_once(&sockets.once, take_index);
    const bool marks = ssl != NULL && sockets.index >= 0;
    if (!opened) {
        const intptr_t known = marks ? (intptr_t)SSL_get_ex_data(ssl, sockets.index) : 0;
        return known > 0 && !curl_uv_in_use(t->multi, (curl_socket_t)(known - 1));
    }
    if (fd == CURL_SOCKET_BAD || !marks ||
        SSL_set_ex_data(ssl, sockets.index, (void *)(intptr_t)(fd + 1)) != 1)
        transfer_forbid_reuse(t);
    return true;
}

/* A connection is about to be used. False when it is another's. */
static bool begin_use(struct transfer *t, bool http2)
{
    if (!t->target.origin->https)
        return true;
    const bool opened = t->opened_count > 0;
    const curl_socket_t fd = opened ? end_handshake(t, http2) : CURL_SOCKET_BAD;
    return http2 || !may_be_http2(t) || is_alone(t, opened, fd);
}

/* On a kept connection, which may be dead: if so, it is sent again on a new one. libcurl would take
 * the next kept one, which may have died of the same cause, and gives up when a sixth is dead, too.
 * Streams have a connection in common, which is not made anew for each of them. */
static void renew_if_dead(struct transfer *t)
{
    if (t->fresh || (t->sends == 0 && t->opened_us != TIME_NULL))
        return;
    curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
    t->renews = true;
}

void transfer_stir_streams(const struct transfer *t)
{
    if (t->sends > 0 && t->was_stream && t->stream != STREAM_ENDED)
        curl_uv_stir(t->multi, t->stream_fd);
}

static void begin_sending(struct transfer *t, bool http2)
{
    transfer_stir_streams(t); /* it leaves a connection that may be broken */
    t->is_stream = http2;
    t->broken_off = false;
    if (http2) {
        t->was_stream = true;
        t->stream_fd = CURL_SOCKET_BAD;
    } else {
        renew_if_dead(t);
    }
    if (t->sends > 0) {
        t->uploaded_before += t->uploaded;
        t->uploaded = 0;
        t->body_sent_us = TIME_NULL;
        t->body_read = 0; /* libcurl does not see to it where HTTP/1.1 is asked for after HTTP/2 */
    }
    t->mute |= t->message[0] != '\0';
    t->message[0] = '\0'; /* of what was tried before; libcurl writes one only, the first */
    t->ready_us = clock_us();
    list_remove(&t->reminder.node);
    if (t->choices) /* libcurl would count on when it is sent again; the hop's time-outs are ours */
        curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, TRANSFER_CONNECT_BACKSTOP_MS);
    curl_uv_recv_ask(); /* that was its handshake */
    t->read = (struct curl_uv_recv_sum){0};
    t->sends++;
    transfer_stream_begin(t);
}

/* Called when libcurl is about to look up a host whose addresses it does not have. A name's are
 * ours: it was given them, and a sweep has dropped them since, when a transfer was parked for long
 * or is sent again late. Its own look-up is not what the configuration says. A literal it only
 * reads. */
static int on_look_up(void *resolver, void *reserved, void *arg)
{
    struct transfer *t = arg;
    (void)resolver;
    (void)reserved;
    if (t->cut == CUT_CLOSED)
        return 1;
    if (t->target.origin->ip.family != 0)
        return 0;
    if (t->sends == 0 || may_send_again(t))
        t->cut = CUT_FORGOTTEN;
    return 1;
}

/* Asked before every request, also on a reused connection. */
static int on_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct transfer *t = arg;
    (void)local;
    (void)local_port;
    if (t->cut == CUT_CLOSED)
        return CURL_PREREQFUNC_ABORT;
    note_connected(t);
    if (t->sends > 0 && !may_send_again(t))
        return CURL_PREREQFUNC_ABORT;
    t->peer_port = (uint16_t)peer_port;
    if (!ip_parse(peer, &t->peer)) { /* it was reset before it could be asked for its address */
        t->peer = (struct ip_addr){0};
        t->cut = CUT_LOST;
        return CURL_PREREQFUNC_ABORT;
    }
    if (!may_connect(t, &t->peer, t->peer_port))
        return CURL_PREREQFUNC_ABORT;
    const bool http2 = transfer_is_http2(t);
    if (!begin_use(t, http2)) {
        t->cut = CUT_SHARED;
        return CURL_PREREQFUNC_ABORT;
    }
    begin_sending(t, http2);
    return CURL_PREREQFUNC_OK;
}

static void set_forbids(struct transfer *t, bool forbids)
{
    if (t->forbids != forbids)
        curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, forbids ? 1L : 0L);
    t->forbids = forbids;
}

void transfer_begin_connection(struct transfer *t)
{
    t->spoilt = false;
    set_forbids(t, t->once);
}

void transfer_forbid_reuse(struct transfer *t)
{
    t->spoilt = true;
    set_forbids(t, true);
}

/* What is cut libcurl closes, but not an HTTP/2 connection: it resets the stream, but sends that
 * only with whatever it sends next, and the upstream goes on until then. And a connection whose
 * frames could not be read libcurl (8.14) keeps, and fails the next requests on it, too. */
static bool is_spoilt(const struct transfer *t)
{
    return t->cut != CUT_NONE ||
           (t->message[0] != '\0' && strstr(t->message, "nghttp2") != NULL);
}

/* Which socket a stream has is known once its connection was read from. */
static void note_stream(struct transfer *t)
{
    const bool unknown = t->was_stream && !t->broken_off && t->stream_fd == CURL_SOCKET_BAD;
    const SSL *ssl = unknown ? ssl_of(t) : NULL;
    if (ssl != NULL)
        t->stream_fd = curl_uv_recv_socket_of(ssl);
}

/* Frames that could not be read: libcurl (7.88) tells only whose turn it was, and the others on the
 * connection would wait for what cannot come any more. */
static void break_off(struct transfer *t)
{
    if (!t->was_stream || t->broken_off || strstr(t->message, "nghttp2") == NULL)
        return;
    t->broken_off = true; /* the next one, to send it again, may have the same descriptor */
    curl_uv_break_off(t->multi, t->stream_fd);
}

/* What came in the same TLS record as the answer's end, and libcurl left there; it cannot be seen
 * from the socket. */
static bool has_more_in_tls(const struct transfer *t)
{
    const SSL *ssl = ssl_of(t);
    return ssl != NULL && SSL_pending(ssl) > 0;
}

/* Whether its connection says more than the answer, if that is whole. Where streams share one there
 * are frames between an answer and what comes next. */
static bool says_more(const struct transfer *t)
{
    const struct reply_read read = {
        .bytes = (int64_t)t->read.bytes,
        .head_bytes = t->head_bytes,
        .end = t->read.end,
        .end_len = t->read.end_len,
    };
    return !t->was_stream && !t->in_head &&
           (reply_has_surplus(&t->reply, &read, transfer_is_bodyless(t)) || has_more_in_tls(t));
}

/* At a NUL where a line begins libcurl (7.88) ends its look at what it has read and drops the rest:
 * fields, or the end of the head, would be missing. Other NULs in a head it refuses, as what else
 * it has words for. */
static bool has_lost_head(struct transfer *t)
{
    const bool lost = t->nul_read && t->in_head && !t->is_stream && t->message[0] == '\0';
    t->nul_read = false;
    return lost;
}

/* In a callback that libcurl does not end the transfer for: it goes on with another line, or with
 * another address, and between two of those it (7.88) may wait for good. */
static bool is_given_up(const struct transfer *t)
{
    return t->cut == CUT_NUL || t->cut == CUT_ANEW || t->cut == CUT_RESENT ||
           t->cut == CUT_BROKEN_OFF;
}

/* Called when libcurl has run the transfer, also when it has failed: if it read, then that was the
 * last read of this thread. And once more before its connection is kept or closed, but when a
 * callback gave it up: what is said of the connection then is what counts. Later would be too late,
 * the next transfer may run in the same call of libcurl. */
static int on_progress(void *arg, curl_off_t download_size, curl_off_t downloaded,
                       curl_off_t upload_size, curl_off_t uploaded)
{
    struct transfer *t = arg;
    (void)download_size;
    (void)downloaded;
    (void)upload_size;
    transfer_note_upload(t, uploaded);
    t->lost = curl_uv_recv_lost(&t->lost_errno);
    const struct curl_uv_recv_sum more = curl_uv_recv_ask();
    curl_uv_recv_join(&t->read, &more);
    note_stream(t);
    if (has_lost_head(t) && t->cut == CUT_NONE)
        t->cut = CUT_NUL;
    if (is_spoilt(t)) {
        transfer_forbid_reuse(t);
        break_off(t);
    } else {
        set_forbids(t, t->once || t->spoilt || says_more(t));
    }
    return is_given_up(t) ? 1 : 0;
}

void transfer_set_connect_callbacks(struct transfer *t)
{
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_RESOLVER_START_FUNCTION, on_look_up);
    curl_easy_setopt(e, CURLOPT_RESOLVER_START_DATA, t);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, curl_uv_close_socket);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, t->multi);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    if (t->target.origin->https) {
        curl_easy_setopt(e, CURLOPT_SSL_SESSIONID_CACHE, 0L); /* see tls_sessions.h */
        curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_tls);
        curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, t);
    }
}

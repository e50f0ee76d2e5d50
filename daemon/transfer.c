/* SPDX-License-Identifier: MIT
 *
 * transfer - see transfer.h. Called by fetch at the turn's end; its callbacks are called by libcurl
 * inside curl_multi_socket_action(), on the loop's thread, and only count, mark, copy and refuse.
 *
 * Owns the easy handle and the option lists of one hop. Marks come from our own
 * clock at our own callbacks (socket opened, TLS begun, request about to be sent, body read, first
 * byte). libcurl's times serve for one figure only, how long sending a request without a body took,
 * as the difference of two of its own marks: their zero is not known outside.
 *
 * The socket and pre-request callbacks are the last two of the four places where the policy is
 * asked. The pool has one policy, so even a callback on behalf of a connection that outlived its
 * transfer asks the right one.
 */
#include "transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "clock.h"
#include "curl_options.h"
#include "curl_uv_recv.h"
#include "parse.h"
#include "text_length.h"
#include "transfer_request.h"

/* A redirect's body is read so that the connection can be reused, but not further than this. */
#define REDIRECT_BODY_MAX 65536

/* Our own time-outs run first, also that for connecting; this only lifts libcurl's 300 s. */
#define CONNECT_BACKSTOP_MS (2L * 86400 * 1000)

/* What one read of a packed body shall come to unpacked (some 0.7 ms of zlib), and the bounds of such a
 * read. */
#define UNPACKED_BYTES 262144
#define PACKED_READ_MIN 512
#define PACKED_READ_MAX 65536

struct transfer *transfer_create(const struct transfer_env *env)
{
    struct transfer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->easy = curl_easy_init();
    if (t->easy == NULL) {
        free(t);
        return NULL;
    }
    t->env = env;
    list_init(&t->node);
    list_init(&t->query.node);
    return t;
}

static void free_hop(struct transfer *t)
{
    curl_slist_free_all(t->headers);
    curl_slist_free_all(t->resolve);
    free(t->location);
    EVP_MD_CTX_free(t->sha256);
    text_length_destroy(t->text);
    t->headers = t->resolve = NULL;
    t->location = NULL;
    t->sha256 = NULL;
    t->text = NULL;
}

void transfer_destroy(struct transfer *t)
{
    if (t == NULL)
        return;
    free_hop(t);
    curl_easy_cleanup(t->easy);
    free(t);
}

/* Those of an earlier hop, or of a 1xx answer. */
static void drop_headers(struct result *r)
{
    if (r->extra == NULL)
        return;
    buf_clear(&r->extra->headers);
    r->extra->has_headers = false;
}

static enum transfer_lane lane_of(const struct transfer *t)
{
    if (!t->target.origin->https)
        return LANE_PLAIN;
    return transfer_wants_http2(t) ? LANE_HTTP2 : LANE_HTTP1;
}

void transfer_begin(struct transfer *t, const struct transfer_hop *hop)
{
    t->target = hop->target;
    t->opts = hop->opts;
    t->method = hop->method;
    t->traceparent = hop->traceparent;
    t->send_body = hop->send_body;
    t->first_hop_origin = hop->first_hop_origin;
    t->from = hop->from;
    t->may_follow = hop->may_follow;
    t->include = hop->include;
    t->body_cap = hop->body_cap;
    t->result = hop->result;
    t->multi = t->env->multis[lane_of(t)];
    hop_marks_clear(&t->marks);
    t->marks.dispatched = hop->dispatched_us;
    t->opened_us = t->tls_us = t->ready_us = t->body_sent_us = TIME_NULL;
    t->retry_after_us = TIME_NULL;
    t->sends = t->os_errno = t->lost_errno = t->status = 0;
    t->lost = false;
    t->opened_count = 0;
    drop_headers(t->result);
    t->cut = CUT_NONE;
    t->verdict.type = ERR_NONE;
    t->would_deny[0] = '\0';
    t->body_read = 0;
    t->head_bytes = t->delivered = 0;
    t->recv_call = 0;
    t->has_more = false;
    t->in_head = true;
    reply_begin(&t->reply);
    t->head_begun = t->field_seen = t->body_started = false;
    t->message[0] = '\0';
}

/* --- callbacks: sockets and the moment before the request --- */

/* The last two of the four checks. The first rule that a reporting policy would deny by is kept. */
static bool may_connect(struct transfer *t, const struct ip_addr *ip, uint16_t port)
{
    const struct policy_hop hop = {t->target.origin->host, port, t->from};
    struct verdict v;
    bool allowed = policy_check_address(t->env->policy, &hop, ip, &v);
    if (v.reported && t->would_deny[0] == '\0')
        memcpy(t->would_deny, v.rule, sizeof t->would_deny);
    if (!allowed) {
        t->cut = CUT_POLICY;
        t->verdict = v;
    }
    return allowed;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = arg;
    struct ip_addr ip;
    uint16_t port = 0;
    (void)purpose;
    if (t->cut == CUT_CLOSED)
        return CURL_SOCKET_BAD;
    if (!ip_from_sockaddr(&address->addr, &ip, &port))
        ip = (struct ip_addr){0};
    if (!may_connect(t, &ip, port))
        return CURL_SOCKET_BAD;
    if (t->opened_us == TIME_NULL)
        t->opened_us = clock_us();
    t->tls_us = t->ready_us = TIME_NULL; /* to send again; the connection before this one is dead */
    curl_socket_t fd =
        curl_uv_open_socket(t->multi, address, t->target.origin->https, t->upstream);
    if (fd == CURL_SOCKET_BAD) {
        t->os_errno = errno;
        return fd;
    }
    upstream_socket_opened(t->upstream);
    t->opened[t->opened_count++ % TRANSFER_SOCKETS_MAX] = fd;
    return fd;
}

/* Called when a new connection's TCP part stands and its TLS part begins. */
static CURLcode on_tls(CURL *easy, void *ssl_ctx, void *arg)
{
    struct transfer *t = arg;
    (void)easy;
    (void)ssl_ctx;
    t->tls_us = clock_us();
    return CURLE_OK;
}

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(method, methods[i]) == 0)
            return true;
    return false;
}

/* Which of them the connection uses libcurl does not tell before the end; the others are closed by now. */
static void end_handshake(struct transfer *t)
{
    unsigned n = t->opened_count < TRANSFER_SOCKETS_MAX ? t->opened_count : TRANSFER_SOCKETS_MAX;
    for (unsigned i = 0; i < n; i++)
        curl_uv_handshake_done(t->multi, t->opened[i]);
    t->opened_count = 0;
}

/* Asked before every request, also on a reused connection, also when libcurl sends it again because a
 * kept-alive connection died: a second POST would be a second order. */
static int on_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct transfer *t = arg;
    (void)local_port;
    if (t->cut == CUT_CLOSED)
        return CURL_PREREQFUNC_ABORT;
    if (t->sends > 0 && !is_idempotent(t->method)) {
        t->cut = CUT_RESENT;
        return CURL_PREREQFUNC_ABORT;
    }
    t->peer_port = (uint16_t)peer_port;
    if (!ip_parse(peer, &t->peer))
        t->peer = (struct ip_addr){0};
    if (!may_connect(t, &t->peer, t->peer_port))
        return CURL_PREREQFUNC_ABORT;
    if (strcmp(peer, local) == 0 &&
        !policy_check_self(t->env->policy, &t->peer, t->peer_port, &t->verdict)) {
        t->cut = CUT_POLICY;
        return CURL_PREREQFUNC_ABORT;
    }
    t->ready_us = clock_us();
    t->message[0] = '\0'; /* of the sending before; libcurl writes one only, the first */
    t->sends++;
    if (t->tls_us != TIME_NULL)
        end_handshake(t);
    return CURL_PREREQFUNC_OK;
}

/* The hop's connection is closed after it, unless others use it. (HTTP/1.1's is closed where need be.) */
static void forbid_reuse(struct transfer *t)
{
    if (t->multi != t->env->multis[LANE_HTTP2])
        return;
    curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
    t->shape.plain = false; /* to be set anew for the next hop */
}

/* An HTTP/2 stream that is cut is reset, but libcurl sends that only with whatever it sends next on the
 * connection, and the upstream goes on until then. And a connection whose frames could not be read libcurl
 * (8.14) keeps, and fails the next requests on it, too. */
static bool is_spoilt(const struct transfer *t)
{
    return t->cut != CUT_NONE ||
           (t->message[0] != '\0' && strstr(t->message, "nghttp2") != NULL);
}

/* What came in the same TLS record as the answer's end, and libcurl left there; it cannot be seen from the
 * socket. */
static bool has_more_in_tls(const struct transfer *t)
{
    struct curl_tlssessioninfo *tls = NULL;
    if (t->multi == t->env->multis[LANE_PLAIN] || t->multi == t->env->multis[LANE_HTTP2] ||
        curl_easy_getinfo(t->easy, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK || tls == NULL)
        return false;
    return tls->backend == CURLSSLBACKEND_OPENSSL && tls->internals != NULL &&
           SSL_pending(tls->internals) > 0;
}

/* Called when libcurl has run the transfer, also when it has failed, before its connection is kept or closed:
 * the last read of this thread was its own. */
static int on_progress(void *arg, curl_off_t download_size, curl_off_t downloaded,
                       curl_off_t upload_size, curl_off_t uploaded)
{
    struct transfer *t = arg;
    (void)download_size;
    (void)downloaded;
    (void)upload_size;
    (void)uploaded;
    t->lost = curl_uv_recv_lost(&t->lost_errno);
    if (is_spoilt(t))
        forbid_reuse(t);
    t->has_more = has_more_in_tls(t);
    return 0;
}

/* --- callbacks: the answer's head and trailers --- */

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool will_follow(const struct transfer *t)
{
    return t->may_follow && t->location != NULL && is_redirect(t->status);
}

/* A Retry-After: seconds (a fraction is taken too) or an HTTP date. */
static int64_t parse_retry_after(const char *value)
{
    int64_t us;
    if (value[0] >= '0' && value[0] <= '9' && strspn(value, "0123456789.") == strlen(value))
        return parse_duration_us(value, &us) ? us : TIME_NULL;
    time_t at = curl_getdate(value, NULL);
    if (at == (time_t)-1)
        return TIME_NULL;
    us = (int64_t)at * US_PER_S - clock_wall_us();
    return us > 0 ? us : 0;
}

/* A server that wants HTTP/1.1 for one request (HTTP_1_1_REQUIRED) would get it for all later ones as well, as
 * long as that connection is kept. */
static void forbid_downgrade(struct transfer *t, const char *line, size_t n)
{
    if (t->sends > 1 && n > 6 && memcmp(line, "HTTP/1", 6) == 0)
        forbid_reuse(t);
}

static bool refuse(struct transfer *t, enum transfer_cut why)
{
    t->cut = why;
    return false;
}

/* The first line of a head. What is no status line with a status of three digits is refused here: of four
 * libcurl 8 reads the first three, and "http/1.1 200" and "HTTP/x y" it takes for answers, too. */
static bool begin_head(struct transfer *t, const char *line, size_t n)
{
    bool named = n > 5 && memcmp(line, "HTTP/", 5) == 0;
    const char *space = named ? memchr(line, ' ', n) : NULL;
    long status = space != NULL && n - (size_t)(space - line) > 3 ? strtol(space, NULL, 10) : 0;
    bool sound = status >= 100 && status <= 999;
    t->status = sound ? (int)status : 0;
    t->reply.length = -1;
    free(t->location);
    t->location = NULL;
    t->retry_after_us = TIME_NULL;
    drop_headers(t->result);
    if (!sound)
        return refuse(t, CUT_STATUS);
    return status != 101 || refuse(t, CUT_UPGRADE);
}

/* A continuation with nothing before it (RFC 9112, 5.2: to be rejected or ignored). */
static bool begins_folded(const struct transfer *t, const char *line, size_t n)
{
    return !t->field_seen && n > 0 && (line[0] == ' ' || line[0] == '\t');
}

/* Charges n more held bytes against limits.answer_bytes; false when they do not fit. */
static bool hold(struct transfer *t, struct result_extra *x, size_t n)
{
    const long long more = (long long)n;
    long long before = atomic_fetch_add_explicit(t->env->answer_held, more, memory_order_relaxed);
    if (before + more <= t->env->limits->answer_bytes) {
        x->held_bytes += n;
        return true;
    }
    atomic_fetch_sub_explicit(t->env->answer_held, more, memory_order_relaxed);
    return false;
}

/* They are not held any more. */
static void let_go(struct transfer *t, struct result_extra *x, size_t n)
{
    x->held_bytes -= n;
    atomic_fetch_sub_explicit(t->env->answer_held, (long long)n, memory_order_relaxed);
}

static void keep_header(struct transfer *t, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    struct result_extra *x = t->result->extra;
    if (x->headers_cut)
        return;
    if (!hold(t, x, name_len + value_len + 2)) {
        x->headers_cut = true;
        return;
    }
    x->has_headers = true;
    buf_add(&x->headers, name, name_len);
    buf_add_char(&x->headers, '\0');
    buf_add(&x->headers, value, value_len);
    buf_add_char(&x->headers, '\0');
    x->headers_cut = x->headers.failed;
}

static char *copy_bytes(const char *s, size_t n)
{
    char *copy = malloc(n + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

#define FIELD_NAME(text) (text), sizeof(text) - 1

/* Of the fields of an answer few are ours: their length tells most of them apart. */
static bool is_field(const char *name, size_t name_len, const char *wanted, size_t wanted_len)
{
    return name_len == wanted_len && strncasecmp(name, wanted, wanted_len) == 0;
}

/* libcurl undoes transfer codings whatever was asked, content codings unless the member brings an
 * Accept-Encoding of its own. */
static bool undoes_content_codings(const struct transfer *t)
{
    for (size_t i = 0; i < t->opts->header_count; i++)
        if (strcasecmp(t->opts->headers[i].name, "Accept-Encoding") == 0)
            return false;
    return true;
}

static bool take_location(struct transfer *t, const char *value, size_t n)
{
    if (n > REPLY_LOCATION_MAX && t->may_follow && is_redirect(t->status))
        return refuse(t, CUT_LOCATION);
    t->location = copy_bytes(value, n);
    return t->location != NULL || refuse(t, CUT_MEMORY);
}

static void take_retry_after(struct transfer *t, const char *value, size_t n)
{
    char text[64];
    if (n >= sizeof text)
        return;
    memcpy(text, value, n);
    text[n] = '\0';
    t->retry_after_us = parse_retry_after(text);
}

/* What a field of the head says to us; trailers say nothing. The first Location counts, as in browsers. */
static bool heed_field(struct transfer *t, const char *name, size_t name_len, const char *value,
                       size_t n)
{
    if (is_field(name, name_len, FIELD_NAME("Location")))
        return t->location != NULL || take_location(t, value, n);
    if (is_field(name, name_len, FIELD_NAME("Content-Length")))
        return reply_take_length(&t->reply, value, n) || refuse(t, CUT_LENGTH);
    if (is_field(name, name_len, FIELD_NAME("Transfer-Encoding")) ||
        (is_field(name, name_len, FIELD_NAME("Content-Encoding")) && undoes_content_codings(t)))
        return reply_take_codings(&t->reply, value, n) || refuse(t, CUT_CODINGS);
    if (is_field(name, name_len, FIELD_NAME("Retry-After")))
        take_retry_after(t, value, n);
    return true;
}

/* One header field or trailer, name and value trimmed. */
static bool take_field(struct transfer *t, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    if (!reply_take_field(&t->reply))
        return refuse(t, CUT_FIELDS);
    if (t->in_head && !heed_field(t, name, name_len, value, value_len))
        return false;
    if (t->include & INCLUDE_HEADERS)
        keep_header(t, name, name_len, value, value_len);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A blank line: of an informational head, or of the final one. */
static void end_head(struct transfer *t)
{
    t->head_begun = false;
    if (!t->in_head || t->status < 200)
        return;
    t->in_head = false;
    if (t->reply.codings > 1)
        curl_uv_recv_at_most(CURL_UV_RECV_LAYERS);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t n = size * count;
    if (t->cut == CUT_CLOSED)
        return 0;
    if (t->marks.first_byte == TIME_NULL)
        t->marks.first_byte = clock_us();
    t->head_bytes += (int64_t)n;
    if (t->head_bytes > t->env->limits->upstream_head_bytes) {
        t->cut = CUT_HEAD;
        return 0;
    }
    if (t->in_head && !t->head_begun) {
        t->head_begun = true;
        forbid_downgrade(t, line, n);
        return begin_head(t, line, n) ? n : 0;
    }
    if (begins_folded(t, line, n)) {
        t->cut = CUT_FOLDED;
        return 0;
    }
    if (line[0] != '\r' && line[0] != '\n')
        t->field_seen = true;
    else
        end_head(t);
    const char *colon = memchr(line, ':', n);
    if (colon == NULL || colon == line)
        return n;
    size_t end = n, start = (size_t)(colon - line) + 1;
    while (end > start && is_blank(line[end - 1]))
        end--;
    while (start < end && is_blank(line[start]))
        start++;
    return take_field(t, line, (size_t)(colon - line), line + start, end - start) ? n : 0;
}

/* --- callbacks: the answer's body --- */

/* What this hop must make of the body is known when its first byte comes. */
static bool begin_body(struct transfer *t)
{
    t->body_started = true;
    if (will_follow(t))
        return true;
    if (t->include & INCLUDE_BODY_SHA256) {
        t->sha256 = EVP_MD_CTX_new();
        if (t->sha256 == NULL || EVP_DigestInit_ex(t->sha256, EVP_sha256(), NULL) != 1)
            return false;
    }
    if (t->include & INCLUDE_TEXT_LENGTH) {
        char *type = NULL;
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
        t->text = text_length_create(type);
        if (t->text == NULL)
            return false;
    }
    return true;
}

static void keep_body(struct transfer *t, const char *data, size_t n)
{
    struct result_extra *x = t->result->extra;
    if (x->body_cut)
        return;
    if (hold(t, x, n)) {
        buf_add(&x->body, data, n);
        if (!x->body.failed)
            return;
        let_go(t, x, n);
    }
    x->body_cut = true;
    let_go(t, x, x->body.len);
    buf_fini(&x->body);
}

static void digest_body(struct transfer *t, const char *data, size_t n)
{
    if (t->sha256 != NULL)
        EVP_DigestUpdate(t->sha256, data, n);
    if (t->text != NULL)
        text_length_feed(t->text, data, n);
    if (t->include & INCLUDE_BODY)
        keep_body(t, data, n);
}

/* libcurl before 8.1 stores header fields for an API of its own, keeps a pointer to the last one over
 * curl_easy_reset(), and appends a folded line to it: a head that begins with a folded line writes
 * to freed memory (fixed by curl cd1c611b24). CURLOPT_HEADER has it show us each line of the head
 * before it stores it; such a line is refused here. With a newer one on_header() refuses it, so that
 * the outcome is the same. */
static size_t on_head_copy(struct transfer *t, const char *line, size_t n)
{
    if (!begins_folded(t, line, n))
        return n;
    t->cut = CUT_FOLDED;
    return 0;
}

/* From what this call of libcurl read and unpacked: how much the next reads may take. */
static void bound_reads(struct transfer *t, size_t n)
{
    uint64_t call;
    if (t->reply.codings == 0) {
        curl_uv_recv_at_most(SIZE_MAX);
        return;
    }
    size_t taken = curl_uv_recv_taken(&call);
    if (call != t->recv_call)
        t->unpacked = 0;
    t->recv_call = call;
    t->unpacked += n;
    size_t most = t->unpacked > 0 ? taken * UNPACKED_BYTES / t->unpacked : PACKED_READ_MAX;
    curl_uv_recv_at_most(most < PACKED_READ_MIN   ? PACKED_READ_MIN
                         : most > PACKED_READ_MAX ? PACKED_READ_MAX
                                                  : most);
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t n = size * count;
    if (t->cut == CUT_CLOSED)
        return 0;
    if (t->in_head && !t->env->libcurl_8_1)
        return on_head_copy(t, data, n);
    if (!t->body_started && !begin_body(t)) {
        t->cut = CUT_MEMORY;
        return 0;
    }
    bound_reads(t, n);
    bool following = will_follow(t);
    int64_t room = (following ? REDIRECT_BODY_MAX : t->body_cap) - t->delivered;
    size_t take = (int64_t)n > room ? (size_t)room : n;
    t->delivered += (int64_t)take;
    if (!following)
        digest_body(t, data, take);
    if (take < n)
        t->cut = following ? CUT_REDIRECT : CUT_BODY;
    return take < n ? 0 : n;
}

/* --- options --- */

static void set_callbacks(struct transfer *t)
{
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, curl_uv_close_socket);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, t->multi);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    if (!t->env->libcurl_8_1)
        curl_easy_setopt(e, CURLOPT_HEADER, 1L);
    if (t->target.origin->https) {
        curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_tls);
        curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, t);
    }
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->message);
    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
}

static struct transfer_shape shape_of(const struct transfer *t)
{
    return (struct transfer_shape){
        .multi = t->multi,
        .generation = t->env->generation,
        .plain = transfer_is_plain(t),
        .starved = t->marks.dispatched < t->env->starved_until_us,
        .fresh = t->opts->fresh_connection,
        .once = t->once,
    };
}

static bool same_shape(const struct transfer_shape *a, const struct transfer_shape *b)
{
    return a->plain && b->plain && a->multi == b->multi && a->generation == b->generation &&
           a->starved == b->starved && a->fresh == b->fresh && a->once == b->once;
}

/* Everything anew, for a handle that had other options. */
static bool set_all(struct transfer *t)
{
    const struct config_fetch *f = t->env->fetch;
    const struct curl_options options = {
        .ca_file = f->ca_file,
        .user_agent = f->user_agent,
        .max_age_s = t->shape.starved ? 1 : (long)(f->idle_time_us / US_PER_S + 1),
        .connect_timeout_ms = CONNECT_BACKSTOP_MS,
    };
    curl_easy_reset(t->easy);
    curl_options_set(t->easy, &options);
    /* its addresses are ours, so none is too old; curl_uv_sweep() drops them */
    curl_easy_setopt(t->easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    if (t->once)
        curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
    set_callbacks(t);
    return transfer_set_request(t);
}

/* The handles of a pool mostly fetch alike, hop after hop: then the URL is all that changes, which saves
 * some thirty options and a twentieth of what a fetch costs. */
static bool set_options(struct transfer *t, const struct ip_addr *addresses, size_t count)
{
    const struct transfer_shape shape = shape_of(t);
    bool same = same_shape(&shape, &t->shape);
    t->shape = shape;
    if (!same && !set_all(t)) {
        t->shape.plain = false; /* half set */
        return false;
    }
    curl_easy_setopt(t->easy, CURLOPT_URL, t->target.text);
    return transfer_set_addresses(t, addresses, count);
}

bool transfer_launch(struct transfer *t, const struct ip_addr *addresses, size_t count,
                     struct upstream *upstream, bool once)
{
    t->upstream = upstream;
    t->once = once;
    t->multi = t->env->multis[lane_of(t)]; /* a reload may have replaced it since the hop began */
    if (!set_options(t, addresses, count) || curl_uv_add(t->multi, t->easy) != CURLM_OK)
        return false;
    t->added = true;
    return true;
}

/* --- the end --- */

const char *transfer_finish_content(struct transfer *t)
{
    struct result *r = t->result;
    const unsigned asked = INCLUDE_BODY | INCLUDE_BODY_SHA256 | INCLUDE_TEXT_LENGTH;
    char *type = NULL;
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    r->retry_after_us = t->retry_after_us;
    if ((t->include & (asked | INCLUDE_HEADERS)) == 0 || t->status == 0)
        return type;
    struct result_extra *x = r->extra;
    if (!t->body_started && !begin_body(t)) {
        x->lacks = true;
        return type;
    }
    x->has_body = (t->include & INCLUDE_BODY) != 0;
    if (t->sha256 != NULL && EVP_DigestFinal_ex(t->sha256, x->sha256, NULL) == 1)
        x->has_sha256 = true;
    if (t->text != NULL) {
        x->text_length = text_length_finish(t->text);
        x->has_text_length = true;
    }
    return type;
}

void transfer_abandon(struct transfer *t)
{
    resolve_cancel(&t->query);
    t->cut = CUT_CLOSED;
    t->owner = NULL;
    t->result = NULL;
    t->opts = NULL;
    t->target = (struct target){0};
}

void transfer_end(struct transfer *t)
{
    resolve_cancel(&t->query);
    t->cut = CUT_CLOSED;
    if (t->added)
        curl_uv_remove(t->multi, t->easy);
    t->added = false;
    upstream_transfer_ended(t->upstream);
    t->upstream = NULL;
    /* libcurl counts over the transfers of a handle how often it sent one again, and gives up at the
     * fifth; only a reset forgets it */
    if (t->sends != 1 || t->marks.first_byte == TIME_NULL)
        t->shape.plain = false;
    if (t->resolve != NULL)
        curl_easy_setopt(t->easy, CURLOPT_RESOLVE, NULL); /* a hop cut early leaves it to be read */
    free_hop(t);
    t->owner = NULL;
    t->result = NULL;
}

/* SPDX-License-Identifier: MIT
 *
 * transfer_answer - see transfer_answer.h. libcurl's header and write callbacks. They count, copy,
 * mark and refuse: what an upstream may send is bounded here by bytes of head and trailers, number
 * of fields (reply), decoded bytes of the body, and bytes that are kept for answers
 * (limits.answer_bytes). Whoever is over ends with the matching transfer_cut. An abandoned transfer
 * (CUT_CLOSED) takes nothing: its result is gone.
 *
 * How much of a packed body the next reads may take is set from what the last ones came to
 * unpacked, and has a maximum for what is all tables and comes to nothing, so that one upstream's
 * turn is bounded in work, not in bytes of the wire. Such a maximum and no measuring of time: cheap
 * reads would earn the next, dear one its length.
 */
#include "transfer_answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "clock.h"
#include "curl_uv_recv.h"
#include "held.h"
#include "parse.h"
#include "text_length.h"
#include "transfer_connect.h"

/* A redirect's body is read so that the connection can be reused, but not further than this. */
#define REDIRECT_BODY_MAX 65536

/* What one read of a packed body shall come to unpacked (some 0.7 ms of zlib), and the bounds of
 * such a read: in the worst case zlib takes 0.35 us a byte, and brotli, of which 92 bytes can be
 * tables for one letter, 6. */
#define UNPACKED_BYTES 262144
#define PACKED_READ_MIN 512
#define PACKED_READ_MAX 8192
#define BROTLI_READ_MAX 1024

/* Charges n more held bytes against limits.answer_bytes; false when they do not fit. */
static bool hold(struct transfer *t, struct result_extra *x, size_t n)
{
    bool fits = held_take(t->env->answer_held, n, t->env->limits->answer_bytes);
    x->held_bytes += fits ? n : 0;
    return fits;
}

/* They are not held any more. */
static void let_go(struct transfer *t, struct result_extra *x, size_t n)
{
    x->held_bytes -= n;
    held_let_go(t->env->answer_held, (long long)n);
}

/* Those of an earlier hop, or of a 1xx answer. */
static void drop_headers(struct transfer *t)
{
    struct result_extra *x = t->result->extra;
    if (x == NULL)
        return;
    let_go(t, x, x->headers.len);
    buf_clear(&x->headers);
    x->has_headers = x->headers_cut = false;
}

void transfer_answer_begin(struct transfer *t)
{
    drop_headers(t);
    t->status = 0;
    t->retry_after_us = TIME_NULL;
    t->head_bytes = t->delivered = t->arrived = 0;
    t->recv_call = 0;
    t->in_head = true;
    t->nul_read = false;
    reply_begin(&t->reply);
    t->head_begun = t->typed = t->field_seen = t->last_kept = t->body_started = false;
    t->last = FIELD_NONE;
}

void transfer_answer_free(struct transfer *t)
{
    free(t->location);
    free(t->type);
    EVP_MD_CTX_free(t->sha256);
    text_length_destroy(t->text);
    t->location = t->type = NULL;
    t->sha256 = NULL;
    t->text = NULL;
}

/* --- the head and trailers --- */

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool transfer_is_bodyless(const struct transfer *t)
{
    return t->status == 204 || t->status == 304 || strcmp(t->method, "HEAD") == 0;
}

bool transfer_redirects(const struct transfer *t)
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
    if (at == (time_t)-1 || at > INT64_MAX / US_PER_S)
        return TIME_NULL;
    us = (int64_t)at * US_PER_S - clock_wall_us();
    return us > 0 ? us : 0;
}

/* A server that wants HTTP/1.1 for one request (HTTP_1_1_REQUIRED) would get it for all later ones
 * as well, as long as that connection is kept. */
static void forbid_downgrade(struct transfer *t, const char *line, size_t n)
{
    if (t->was_stream && n > 6 && memcmp(line, "HTTP/1", 6) == 0)
        transfer_forbid_reuse(t);
}

static bool refuse(struct transfer *t, enum transfer_cut why)
{
    t->cut = why;
    return false;
}

/* The first line of a head. What is no status line with a status of three digits is refused here:
 * of four libcurl 8 reads the first three, and "http/1.1 200" and "HTTP/x y" it takes for answers,
 * too. So is one that says HTTP/2 where that is not spoken: libcurl believes it, and before 8.5
 * shares connections for it. */
static bool begin_head(struct transfer *t, const char *line, size_t n)
{
    bool named = n > 5 && memcmp(line, "HTTP/", 5) == 0;
    bool spoken = named && (line[5] == '1' || transfer_is_http2(t));
    const char *space = spoken ? memchr(line, ' ', n) : NULL;
    long status = space != NULL && n - (size_t)(space - line) > 3 ? strtol(space, NULL, 10) : 0;
    bool sound = status >= 100 && status <= 999;
    t->status = sound ? (int)status : 0;
    reply_begin_head(&t->reply);
    t->typed = false;
    free(t->location);
    free(t->type);
    t->location = t->type = NULL;
    t->last = FIELD_NONE;
    t->retry_after_us = TIME_NULL;
    drop_headers(t);
    if (!sound)
        return refuse(t, named && !spoken ? CUT_VERSION : CUT_STATUS);
    return status != 101 || refuse(t, CUT_UPGRADE);
}

static bool is_folded(const char *line, size_t n)
{
    return n > 0 && (line[0] == ' ' || line[0] == '\t');
}

static bool keep_header(struct transfer *t, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    struct result_extra *x = t->result->extra;
    if (x->headers_cut)
        return false;
    if (!hold(t, x, name_len + value_len + 2)) {
        x->headers_cut = true;
        return false;
    }
    x->has_headers = true;
    buf_add(&x->headers, name, name_len);
    buf_add_char(&x->headers, '\0');
    buf_add(&x->headers, value, value_len);
    buf_add_char(&x->headers, '\0');
    x->headers_cut = x->headers.failed;
    return !x->headers_cut;
}

/* More of the value that was kept last. */
static bool extend_header(struct transfer *t, const char *more, size_t n)
{
    struct result_extra *x = t->result->extra;
    const bool begun = x->headers.data[x->headers.len - 2] != '\0';
    if (!hold(t, x, n + begun)) {
        x->headers_cut = true;
        return false;
    }
    x->headers.len--; /* its NUL */
    if (begun)
        buf_add_char(&x->headers, ' ');
    buf_add(&x->headers, more, n);
    buf_add_char(&x->headers, '\0');
    x->headers_cut = x->headers.failed;
    return !x->headers_cut;
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

/* Adds more to an owned text, after a space unless that is empty. */
static bool join(char **text, const char *more, size_t n)
{
    size_t len = strlen(*text);
    char *longer = realloc(*text, len + n + 2);
    if (longer == NULL)
        return false;
    if (len > 0)
        longer[len++] = ' ';
    memcpy(longer + len, more, n);
    longer[len + n] = '\0';
    *text = longer;
    return true;
}

#define FIELD_NAME(text) (text), sizeof(text) - 1

/* libcurl's may be that of a 1xx answer. */
static const char *content_type(const struct transfer *t)
{
    char *type = t->type;
    if (type == NULL && t->typed)
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    return type;
}

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
    t->last = FIELD_LOCATION;
    t->location = copy_bytes(value, n);
    return t->location != NULL || refuse(t, CUT_MEMORY);
}

static bool extend_location(struct transfer *t, const char *more, size_t n)
{
    if (strlen(t->location) + 1 + n > REPLY_LOCATION_MAX && t->may_follow && is_redirect(t->status))
        return refuse(t, CUT_LOCATION);
    return join(&t->location, more, n) || refuse(t, CUT_MEMORY);
}

static void take_retry_after(struct transfer *t, const char *value, size_t n)
{
    if (n >= sizeof t->retry_after)
        return;
    t->last = FIELD_RETRY_AFTER;
    memcpy(t->retry_after, value, n);
    t->retry_after[n] = '\0';
    t->retry_after_us = parse_retry_after(t->retry_after);
}

static void extend_retry_after(struct transfer *t, const char *more, size_t n)
{
    size_t len = strlen(t->retry_after);
    t->retry_after_us = TIME_NULL;
    if (len + 1 + n >= sizeof t->retry_after)
        return;
    if (len > 0)
        t->retry_after[len++] = ' ';
    memcpy(t->retry_after + len, more, n);
    t->retry_after[len + n] = '\0';
    t->retry_after_us = parse_retry_after(t->retry_after);
}

static void take_type(struct transfer *t, size_t n)
{
    t->last = FIELD_TYPE;
    t->first_typed = n > 0;
    t->typed |= n > 0;
    if (n > 0) { /* libcurl has it */
        free(t->type);
        t->type = NULL;
    }
}

static bool extend_type(struct transfer *t, const char *more, size_t n)
{
    if (t->type == NULL || !t->first_typed) {
        const char *first = t->first_typed ? content_type(t) : NULL;
        free(t->type);
        t->type = first != NULL ? copy_bytes(first, strlen(first)) : copy_bytes("", 0);
        t->first_typed = true;
    }
    return (t->type != NULL && join(&t->type, more, n)) || refuse(t, CUT_MEMORY);
}

/* The bounds on reading are a connection's. On HTTP/2 libcurl keeps for a stream what it has read
 * for others of the connection, and unpacks it in one call: 64 KiB, 23 ms of zlib and 180 of
 * brotli. So brotli and layers are for HTTP/1.1 only. */
static bool take_codings(struct transfer *t, bool transfer, const char *value, size_t n)
{
    t->last = FIELD_FRAMING;
    if (!reply_take_codings(&t->reply, transfer, value, n))
        return refuse(t, CUT_CODINGS);
    const bool dear = t->reply.brotli || t->reply.codings > 1;
    return !dear || !transfer_is_http2(t) || refuse(t, CUT_SHARED_CODINGS);
}

/* What a field of the head says to us; trailers say nothing. The first Location counts, as in
 * browsers. */
static bool heed_field(struct transfer *t, const char *name, size_t name_len, const char *value,
                       size_t n)
{
    if (is_field(name, name_len, FIELD_NAME("Location")))
        return t->location != NULL || take_location(t, value, n);
    if (is_field(name, name_len, FIELD_NAME("Content-Type")))
        take_type(t, n);
    if (is_field(name, name_len, FIELD_NAME("Content-Length"))) {
        t->last = FIELD_FRAMING;
        return reply_take_length(&t->reply, value, n) || refuse(t, CUT_LENGTH);
    }
    if (is_field(name, name_len, FIELD_NAME("Transfer-Encoding")))
        return take_codings(t, true, value, n);
    if (is_field(name, name_len, FIELD_NAME("Content-Encoding")) && undoes_content_codings(t))
        return take_codings(t, false, value, n);
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
    t->last = FIELD_OTHER;
    if (t->in_head && !heed_field(t, name, name_len, value, value_len))
        return false;
    t->last_kept =
        (t->include & INCLUDE_HEADERS) != 0 && keep_header(t, name, name_len, value, value_len);
    return true;
}

/* More of the field before, as if it had followed there after one space (RFC 9112, 5.2). But
 * libcurl reads a field by its first line: one that says how the body is to be read is refused,
 * because the body would be another one to libcurl. It counts as a field, because it costs as
 * much. */
static bool take_folded(struct transfer *t, const char *more, size_t n)
{
    if (!reply_take_field(&t->reply))
        return refuse(t, CUT_FIELDS);
    if (t->last == FIELD_NONE)
        return !t->in_head || refuse(t, CUT_FOLDED);
    if (n == 0)
        return true;
    if (t->last_kept)
        t->last_kept = extend_header(t, more, n);
    switch (t->last) {
    case FIELD_FRAMING:
        return refuse(t, CUT_FRAMING);
    case FIELD_LOCATION:
        return extend_location(t, more, n);
    case FIELD_TYPE:
        return extend_type(t, more, n);
    case FIELD_RETRY_AFTER:
        extend_retry_after(t, more, n);
        return true;
    default:
        return true;
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span {
    const char *text;
    size_t len;
};

/* What a line has from `start` on, without the blanks around it. */
static struct span trim(const char *line, size_t n, size_t start)
{
    while (n > start && is_blank(line[n - 1]))
        n--;
    while (start < n && is_blank(line[start]))
        start++;
    return (struct span){line + start, n - start};
}

/* A blank line: of an informational head, or of the final one. libcurl takes a HEAD that has a body
 * for something else, and its answer, too. */
static bool end_head(struct transfer *t)
{
    t->head_begun = false;
    t->last = FIELD_NONE;
    if (!t->in_head || t->status < 200)
        return true;
    t->in_head = false;
    if (t->reply.codings > 1)
        curl_uv_recv_at_most(CURL_UV_RECV_LAYERS);
    else if (t->reply.brotli)
        curl_uv_recv_at_most(BROTLI_READ_MAX);
    return !t->send_body || strcmp(t->method, "HEAD") != 0 || refuse(t, CUT_WHOLE);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t n = size * count;
    if (t->cut == CUT_CLOSED)
        return 0;
    if (t->marks.first_byte == TIME_NULL)
        t->marks.first_byte = clock_us();
    t->nul_read |= curl_uv_recv_has_nul();
    t->head_bytes += (int64_t)n;
    if (t->head_bytes > t->env->limits->upstream_head_bytes) {
        t->cut = CUT_HEAD;
        return 0;
    }
    t->reply.trailers |= !t->in_head;
    if (t->in_head && !t->head_begun) {
        t->head_begun = true;
        forbid_downgrade(t, line, n);
        return begin_head(t, line, n) ? n : 0;
    }
    if (is_folded(line, n)) {
        const struct span more = trim(line, n, 0);
        return take_folded(t, more.text, more.len) ? n : 0;
    }
    if (line[0] != '\r' && line[0] != '\n')
        t->field_seen = true;
    else if (!end_head(t))
        return 0;
    const char *colon = memchr(line, ':', n);
    if (colon == line) {
        t->last = FIELD_OTHER;
        t->last_kept = false;
    }
    if (colon == NULL || colon == line)
        return n;
    const struct span value = trim(line, n, (size_t)(colon - line) + 1);
    return take_field(t, line, (size_t)(colon - line), value.text, value.len) ? n : 0;
}

/* --- the body --- */

/* What this hop must make of the body is known when its first byte comes. */
static bool begin_body(struct transfer *t)
{
    t->body_started = true;
    if (transfer_redirects(t))
        return true;
    if (t->include & INCLUDE_BODY_SHA256) {
        t->sha256 = EVP_MD_CTX_new();
        if (t->sha256 == NULL || EVP_DigestInit_ex(t->sha256, EVP_sha256(), NULL) != 1)
            return false;
    }
    if (t->include & INCLUDE_TEXT_LENGTH) {
        t->text = text_length_create(content_type(t));
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

/* libcurl before 8.1 stores header fields for an API of its own, keeps a pointer to the last one
 * over curl_easy_reset(), and appends a folded line to it: a head that begins with a folded line
 * writes to freed memory (fixed by curl cd1c611b24). CURLOPT_HEADER has it show us each line of the
 * head before it stores it; such a line is refused here. With a newer one on_header() refuses it,
 * so that the outcome is the same. */
static size_t on_head_copy(struct transfer *t, const char *line, size_t n)
{
    if (t->field_seen || !is_folded(line, n))
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
    const size_t max = t->reply.brotli ? BROTLI_READ_MAX : PACKED_READ_MAX;
    size_t most = t->unpacked > 0 ? taken * UNPACKED_BYTES / t->unpacked : max;
    curl_uv_recv_at_most(most < PACKED_READ_MIN ? PACKED_READ_MIN : most > max ? max : most);
}

static void cut_body(struct transfer *t, enum transfer_cut cut)
{
    const struct curl_uv_recv_sum more = curl_uv_recv_ask();
    curl_uv_recv_join(&t->read, &more);
    t->cut = cut;
    if (!t->is_stream)
        t->arrived = (int64_t)t->read.bytes - t->head_bytes;
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
    bool following = transfer_redirects(t);
    int64_t room = (following ? REDIRECT_BODY_MAX : t->body_cap) - t->delivered;
    size_t take = (int64_t)n > room ? (size_t)room : n;
    t->delivered += (int64_t)take;
    if (!following)
        digest_body(t, data, take);
    if (take == n)
        return n;
    cut_body(t, following ? CUT_REDIRECT : CUT_BODY);
    return 0;
}

void transfer_set_answer_callbacks(struct transfer *t)
{
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    if (!t->env->libcurl_8_1)
        curl_easy_setopt(e, CURLOPT_HEADER, 1L);
}

/* --- the end --- */

const char *transfer_finish_content(struct transfer *t)
{
    struct result *r = t->result;
    const unsigned asked = INCLUDE_BODY | INCLUDE_BODY_SHA256 | INCLUDE_TEXT_LENGTH;
    const char *type = content_type(t);
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

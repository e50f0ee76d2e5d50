/* SPDX-License-Identifier: MIT
 *
 * transfer_request - see transfer_request.h. Called by transfer when a hop is launched, on the
 * loop's thread; its two callbacks hand the body to libcurl.
 *
 * The body goes through a read callback even where libcurl would take the bytes as they are: its
 * last call is the mark at which sending ended. After a redirect to another origin only fields
 * cross that say how to answer; who asks stays behind.
 */
#include "transfer_request.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "buf.h"
#include "clock.h"

/* --- the body --- */

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    if (t->cut == CUT_CLOSED)
        return CURL_READFUNC_ABORT;
    size_t n = t->opts->body_len - t->body_read;
    if (n > size * count)
        n = size * count;
    memcpy(to, t->opts->body + t->body_read, n);
    t->body_read += n;
    if (t->body_read == t->opts->body_len)
        t->body_sent_us = clock_us();
    return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (t->cut == CUT_CLOSED || origin != SEEK_SET || offset < 0 ||
        (size_t)offset > t->opts->body_len)
        return CURL_SEEKFUNC_FAIL;
    t->body_read = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* --- header fields --- */

/* Fields that may follow a redirect to another origin: they say how to answer, never who asks. */
static bool crosses_origin(const char *name)
{
    static const char *const names[] = {
        "Accept",        "Accept-Charset", "Accept-Encoding",     "Accept-Language",
        "Cache-Control", "Content-Type",   "Content-Language",    "Content-Encoding",
        "If-Match",      "If-None-Match",  "If-Modified-Since",   "If-Unmodified-Since",
        "If-Range",      "Pragma",         "Range",               "User-Agent",
        "traceparent",   "tracestate",     "Upgrade-Insecure-Requests",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_content_field(const char *name)
{
    return strncasecmp(name, "Content-", 8) == 0;
}

static bool add_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        return false;
    *list = longer;
    return true;
}

/* "Name: value", or libcurl's "Name;" for a field with an empty value. */
static bool add_field(struct curl_slist **list, const struct spec_header *h)
{
    struct buf line;
    buf_init(&line, 0);
    buf_add_str(&line, h->name);
    if (h->value[0] == '\0') {
        buf_add_char(&line, ';');
    } else {
        BUF_ADD_LITERAL(&line, ": ");
        buf_add_str(&line, h->value);
    }
    const char *text = buf_cstr(&line);
    bool ok = !line.failed && add_line(list, text);
    buf_fini(&line);
    return ok;
}

/* Which of the fields that libcurl or gatherd would add by themselves the member brings along. */
struct own_fields {
    bool accept_encoding, content_type, traceparent;
};

static bool add_member_fields(struct transfer *t, struct own_fields *own)
{
    for (size_t i = 0; i < t->opts->header_count; i++) {
        const struct spec_header *h = &t->opts->headers[i];
        if (!t->first_hop_origin && !crosses_origin(h->name))
            continue;
        if (!t->send_body && t->opts->body != NULL && is_content_field(h->name))
            continue;
        own->accept_encoding |= strcasecmp(h->name, "Accept-Encoding") == 0;
        own->content_type |= strcasecmp(h->name, "Content-Type") == 0;
        own->traceparent |= strcasecmp(h->name, "traceparent") == 0;
        if (!add_field(&t->headers, h))
            return false;
    }
    return true;
}

/* Of the URL's user name and password, which no other origin is told. */
static bool add_authorization(struct transfer *t)
{
    const struct spec_header field = {"Authorization", t->opts->authorization};
    return field.value == NULL || !t->first_hop_origin || add_field(&t->headers, &field);
}

/* The client's trace, with a span of this hop's own (W3C Trace Context: version, trace, span,
 * flags). */
static bool add_traceparent(struct transfer *t)
{
    enum { SPAN_AT = 36, FLAGS_AT = 52 };
    struct buf line;
    uint8_t span[8];
    if (getrandom(span, sizeof span, 0) != (ssize_t)sizeof span)
        return true;
    buf_init(&line, 0);
    BUF_ADD_LITERAL(&line, "traceparent: ");
    buf_add(&line, t->traceparent, SPAN_AT);
    buf_add_hex(&line, span, sizeof span);
    buf_add_str(&line, t->traceparent + FLAGS_AT);
    const char *text = buf_cstr(&line);
    bool ok = !line.failed && add_line(&t->headers, text);
    buf_fini(&line);
    return ok;
}

/* Methods for which "no body" is said by Content-Length: 0 (RFC 9110, 8.6). */
static bool method_expects_body(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

/* All that libcurl decodes ("") where brotli may be read; see transfer_answer.c. */
static const char *codings_of(const struct transfer *t)
{
    if (!transfer_wants_http2(t))
        return "";
    return t->env->zstd ? "deflate, gzip, zstd" : "deflate, gzip";
}

static bool set_headers(struct transfer *t)
{
    struct own_fields own = {false, false, false};
    if (!add_member_fields(t, &own) || !add_authorization(t))
        return false;
    if (t->traceparent != NULL && !own.traceparent && !add_traceparent(t))
        return false;
    /* no 100-continue: a server that ignores it costs a second */
    if (t->send_body && !add_line(&t->headers, "Expect:"))
        return false;
    if ((t->send_body || method_expects_body(t->method)) && !own.content_type &&
        !add_line(&t->headers, t->send_body && t->opts->body_is_json
                                   ? "Content-Type: application/json"
                                   : "Content-Type:")) /* else libcurl would make one up */
        return false;
    if (!own.accept_encoding)
        curl_easy_setopt(t->easy, CURLOPT_ACCEPT_ENCODING, codings_of(t));
    else
        curl_easy_setopt(t->easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    if (t->headers != NULL)
        curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    return true;
}

static void set_method(struct transfer *t)
{
    CURL *e = t->easy;
    if (t->send_body) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->opts->body_len);
        curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(e, CURLOPT_READDATA, t);
        curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
    } else if (strcmp(t->method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    } else if (method_expects_body(t->method)) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, 0L);
    } else if (strcmp(t->method, "GET") == 0) {
        return;
    }
    if (strcmp(t->method, "POST") != 0)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, t->method);
}

/* HTTP/2 by default only where the libcurl found at run time is 8.1 or newer: older ones lack fixes
 * for aborted streams that are reported as complete (curl #10693, #10715). */
bool transfer_wants_http2(const struct transfer *t)
{
    int version = t->opts->http_version;
    return t->target.origin->https &&
           (version == HTTP_VERSION_2 || (version == HTTP_VERSION_AUTO && t->env->libcurl_8_1));
}

static void set_http_version(struct transfer *t)
{
    bool two = transfer_wants_http2(t);
    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION,
                     (long)(two ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    t->multiplex = two && !t->fresh;
    if (t->multiplex)
        curl_easy_setopt(t->easy, CURLOPT_PIPEWAIT, 1L);
    if (t->fresh)
        curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
}

/* Of a kind of its own, so that the handle's other hops have these anew. Without a bundle: it is
 * not needed, and libcurl would parse it for each connection. */
static void set_trust(struct transfer *t)
{
    if (t->kind != KIND_HTTP1_UNVERIFIED && t->kind != KIND_HTTP2_UNVERIFIED)
        return;
    curl_easy_setopt(t->easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(t->easy, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(t->easy, CURLOPT_CAINFO, NULL);
}

bool transfer_set_addresses(struct transfer *t, const struct ip_addr *addresses, size_t count)
{
    if (count == 0)
        return true;
    struct buf line;
    buf_init(&line, 0);
    buf_printf(&line, "+%s:%u:", t->target.origin->host, t->target.origin->port);
    for (size_t i = 0; i < count; i++) {
        char text[IP_TEXT_MAX];
        ip_format(&addresses[i], text);
        buf_printf(&line, addresses[i].family == 6 ? "%s[%s]" : "%s%s", i > 0 ? "," : "", text);
    }
    const char *text = buf_cstr(&line);
    bool ok = !line.failed && add_line(&t->resolve, text);
    buf_fini(&line);
    curl_easy_setopt(t->easy, CURLOPT_RESOLVE, t->resolve);
    return ok;
}

bool transfer_is_plain(const struct transfer *t)
{
    const struct member_opts *o = t->opts;
    return o->header_count == 0 && o->authorization == NULL && o->body == NULL &&
           t->traceparent == NULL && strcmp(t->method, "GET") == 0;
}

bool transfer_set_request(struct transfer *t)
{
    set_method(t);
    set_http_version(t);
    set_trust(t);
    return set_headers(t);
}

/* SPDX-License-Identifier: MIT
 *
 * One member's object, for JSON and NDJSON. Called for each member of an answer by their `item`, so
 * this is what an answer costs: some 760 bytes in 25 fields, of which two thirds are the same in
 * each. They are written in runs (encode_internal.h): a few long ones and no check for each piece.
 *
 * Every field of the table in gatherd-api(7) is there for every member, null where it did not
 * happen or is not known; only what `include` names comes and goes.
 */
#include "encode.h"

#include "encode_internal.h"
#include "utf8.h"

/* "1.2.3.4", or what ip_format() makes; null for family 0. */
static char *put_ip(char *to, const struct ip_addr *ip)
{
    char text[IP_TEXT_MAX];
    if (ip->family == 0)
        return put_null(to);
    if (ip->family != 4)
        return put_word(to, ip_format(ip, text));
    to = put_char(to, '"');
    for (int i = 0; i < 4; i++)
        to = put_char(put_uint(to, ip->bytes[i]), i < 3 ? '.' : '"');
    return to;
}

/* Two JSON strings become one: the quotes where they meet go. */
static void add_url(struct buf *out, const char *url, size_t n, bool well_formed)
{
    size_t at;
    size_t secret = encode_userinfo(url, n, well_formed, &at);
    if (secret == 0) {
        buf_add_json(out, url, n);
        return;
    }
    buf_add_json(out, url, at);
    size_t seam = out->len - 1;
    buf_add_json(out, url + at + secret, n - at - secret);
    if (out->failed)
        return;
    memmove(out->data + seam, out->data + seam + 2, out->len - seam - 2);
    out->len -= 2;
}

/* As much of n bytes as is written at once: the cut halves neither a character nor what one U+FFFD
 * stands for. */
static size_t piece_of(const char *s, size_t n)
{
    const size_t most = ENCODE_BODY_PIECE;
    if (n <= most)
        return n;
    for (size_t back = 1; back <= 3; back++) {
        if (((unsigned char)s[most - back] & 0xC0) == 0x80)
            continue;
        int length = utf8_sequence(s + most - back, n - most + back);
        return (size_t)(length < 0 ? -length : length) > back ? most - back : most;
    }
    return most;
}

/* What is longer than a piece, and may be as long as a request, with escapes six times that. */
static void begin_url(struct buf *out, const struct member *m, struct encode_at *at)
{
    at->part = ENCODE_URL;
    at->len = m->url_len;
    at->secret_len = encode_userinfo(m->url, m->url_len, m->origin != NULL, &at->secret_at);
    if (at->secret_len == 0)
        at->secret_at = 0;
    at->done = at->secret_at == 0 ? at->secret_len : 0;
    buf_add_char(out, '"');
}

/* The next piece of it; true when there is no more. */
static bool add_url_piece(struct buf *out, const struct member *m, struct encode_at *at)
{
    size_t end = at->done < at->secret_at ? at->secret_at : at->len;
    size_t n = piece_of(m->url + at->done, end - at->done);
    buf_add_json_part(out, m->url + at->done, n);
    at->done += n;
    if (at->done == at->secret_at)
        at->done += at->secret_len;
    if (at->done < at->len && !out->failed)
        return false;
    buf_add_char(out, '"');
    at->part = ENCODE_FIELDS;
    return true;
}

static char *put_timings(char *to, const struct timings *t)
{
    static const struct run_key keys[PHASE_COUNT] = {
        RUN_KEY(",\"timings_ms\":{\"queue\":"), RUN_KEY(",\"dns\":"),
        RUN_KEY(",\"connect\":"),               RUN_KEY(",\"tls\":"),
        RUN_KEY(",\"send\":"),                  RUN_KEY(",\"wait\":"),
        RUN_KEY(",\"receive\":"),
    };
    for (enum phase p = PHASE_QUEUE; p < PHASE_COUNT; p++) {
        to = put_key(to, &keys[p]);
        to = put_ms_or_null(to, t->us[p]);
    }
    to = PUT_LITERAL(to, ",\"total\":");
    to = put_ms(to, timings_total(t));
    return put_char(to, '}');
}

/* What comes before the URL. */
static char *write_identity(struct run *run, char *to, const struct member *m,
                            const struct result *r, size_t index)
{
    to = PUT_LITERAL(to, "\"index\":");
    to = put_uint(to, index);
    to = PUT_LITERAL(to, ",\"id\":");
    to = m->id == NULL ? put_null(to) : run_json(run, to, m->id);
    to = r->ok ? PUT_LITERAL(to, ",\"ok\":true,\"state\":")
               : PUT_LITERAL(to, ",\"ok\":false,\"state\":");
    to = put_word(to, member_state_name(r->state));
    return PUT_LITERAL(to, ",\"url\":");
}

/* And what comes after it. */
static char *write_target(struct run *run, char *to, const struct member *m,
                          const struct result *r)
{
    to = PUT_LITERAL(to, ",\"url_effective\":");
    to = run_json(run, to, r->url_effective);
    to = PUT_LITERAL(to, ",\"method\":");
    to = run_json(run, to, m->opts->method);
    return r->url_effective == NULL ? PUT_LITERAL(to, ",\"scheme\":null")
           : r->https               ? PUT_LITERAL(to, ",\"scheme\":\"https\"")
                                    : PUT_LITERAL(to, ",\"scheme\":\"http\"");
}

static const char *http_version_text(uint8_t version)
{
    switch (version) {
    case 10:
        return "1.0";
    case 11:
        return "1.1";
    case 20:
        return "2";
    case 30:
        return "3";
    default:
        return NULL;
    }
}

static char *write_answer(struct run *run, char *to, const struct result *r)
{
    const char *version = http_version_text(r->http_version);
    to = PUT_LITERAL(to, ",\"status\":");
    to = put_int_unless_zero(to, r->status);
    to = PUT_LITERAL(to, ",\"http_version\":");
    to = version == NULL ? put_null(to) : put_word(to, version);
    to = PUT_LITERAL(to, ",\"content_type\":");
    to = r->content_type == NULL ? put_null(to) : run_json(run, to, r->content_type);
    to = PUT_LITERAL(to, ",\"remote_ip\":");
    to = put_ip(to, &r->remote_ip);
    to = PUT_LITERAL(to, ",\"remote_port\":");
    to = put_int_unless_zero(to, r->remote_port);
    to = PUT_LITERAL(to, ",\"num_connects\":");
    to = put_int(to, r->num_connects);
    to = PUT_LITERAL(to, ",\"num_redirects\":");
    to = put_int(to, r->num_redirects);
    to = PUT_LITERAL(to, ",\"num_retries\":");
    return put_int(to, r->num_retries);
}

static char *put_times(char *to, const struct batch_view *v, const struct result *r,
                       int64_t work_us)
{
    int64_t offset_us = r->start_us - v->started_us;
    if (r->start_us == TIME_NULL) {
        to = PUT_LITERAL(to, ",\"started_at\":null,\"start_offset_ms\":null,\"ttfb_ms\":");
    } else {
        to = PUT_LITERAL(to, ",\"started_at\":\"");
        to = put_rfc3339(to, v->started_wall_us + offset_us);
        to = PUT_LITERAL(to, "\",\"start_offset_ms\":");
        to = put_ms_or_null(to, offset_us);
        to = PUT_LITERAL(to, ",\"ttfb_ms\":");
    }
    to = put_ms_or_null(to, r->ttfb_us);
    to = PUT_LITERAL(to, ",\"total_ms\":");
    to = put_ms_or_null(to, work_us);
    return put_timings(to, &r->timings);
}

/* Bytes a second, rounded down. In double, for bytes * 1e6 may not fit; a rate that does not fit
 * either was not measured. */
static char *put_speed(char *to, const struct result *r, int64_t work_us)
{
    double speed = work_us > 0 ? (double)r->sizes.download * 1e6 / (double)work_us : -1.0;
    to = PUT_LITERAL(to, ",\"speed_download\":");
    return speed >= 0.0 && speed < 9e18 ? put_int(to, (int64_t)speed) : put_null(to);
}

static bool is_truncated(const struct result *r, unsigned include)
{
    if (r->truncated || r->extra == NULL)
        return r->truncated;
    return r->extra->lacks || ((include & INCLUDE_BODY) && r->extra->body_cut) ||
           ((include & INCLUDE_HEADERS) && r->extra->headers_cut);
}

static char *put_sizes(char *to, const struct result *r)
{
    if (r->start_us == TIME_NULL)
        return PUT_LITERAL(to, ",\"size_request\":null,\"size_upload\":null,\"size_header\":null,"
                               "\"size_download\":null,\"size_delivered\":null");
    to = PUT_LITERAL(to, ",\"size_request\":");
    to = put_int(to, r->sizes.request);
    to = PUT_LITERAL(to, ",\"size_upload\":");
    to = put_int(to, r->sizes.upload);
    to = PUT_LITERAL(to, ",\"size_header\":");
    to = put_int(to, r->sizes.header);
    to = PUT_LITERAL(to, ",\"size_download\":");
    to = put_int(to, r->sizes.download);
    to = PUT_LITERAL(to, ",\"size_delivered\":");
    return put_int(to, r->sizes.delivered);
}

static char *write_error(struct run *run, char *to, const struct result *r)
{
    const struct result_error *e = &r->error;
    if (e->type == ERR_NONE)
        return PUT_LITERAL(to, ",\"error\":null");
    to = PUT_LITERAL(to, ",\"error\":{\"type\":");
    to = put_word(to, err_name(e->type));
    to = PUT_LITERAL(to, ",\"phase\":");
    to = r->timings.us[e->phase] >= 0 ? put_word(to, phase_name(e->phase)) : put_null(to);
    to = PUT_LITERAL(to, ",\"message\":");
    to = run_json(run, to, e->message != NULL ? e->message : err_text(e->type));
    to = PUT_LITERAL(to, ",\"exitcode\":");
    to = put_int_unless_zero(to, e->exitcode);
    to = PUT_LITERAL(to, ",\"os_errno\":");
    to = put_int_unless_zero(to, e->os_errno);
    to = PUT_LITERAL(to, ",\"rule\":");
    to = run_json(run, to, e->rule);
    return e->sent ? PUT_LITERAL(to, ",\"sent\":true}") : PUT_LITERAL(to, ",\"sent\":false}");
}

static char *write_outcome(struct run *run, char *to, const struct result *r)
{
    to = PUT_LITERAL(to, ",\"retryable\":");
    to = put_bool(to, result_retryable(r));
    to = PUT_LITERAL(to, ",\"retry_after_ms\":");
    to = put_ms_or_null(to, r->retry_after_us);
    return write_error(run, to, r);
}

/* --- include --------------------------------------------------------------------------------- */

static void add_null(struct buf *out)
{
    BUF_ADD_LITERAL(out, "null");
}

/* The length of the NUL-terminated text at p, at most up to end. */
static size_t text_at(const char *p, const char *end)
{
    const char *nul = p < end ? memchr(p, '\0', (size_t)(end - p)) : NULL;
    return (size_t)((nul != NULL ? nul : end) - p);
}

static void add_headers(struct buf *out, const struct result_extra *x)
{
    BUF_ADD_LITERAL(out, ",\"headers\":");
    if (x == NULL || !x->has_headers || x->headers_cut) {
        add_null(out);
        return;
    }
    const char *p = x->headers.data;
    const char *end = p != NULL ? p + x->headers.len : p;
    buf_add_char(out, '[');
    while (p < end) {
        size_t name_len = text_at(p, end);
        const char *value = p + name_len < end ? p + name_len + 1 : end;
        size_t value_len = text_at(value, end);
        buf_add_str(out, p == x->headers.data ? "[" : ",[");
        buf_add_json(out, p, name_len);
        buf_add_char(out, ',');
        buf_add_json(out, value, value_len);
        buf_add_char(out, ']');
        p = value + value_len + 1;
    }
    buf_add_char(out, ']');
}

/* How much of a cut body is text: max_response_bytes knows nothing of characters, and a whole page
 * should not turn into base64 because its last character was halved. */
static size_t whole_characters(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        bool is_lead = c >= 0xC2 && c <= 0xF4;
        if (is_lead && utf8_sequence(s + n - back, back) == -(int)back)
            return n - back;
    }
    return n;
}

/* Decides how the body is written and writes what comes before it. */
static void begin_body(struct buf *out, const struct result *r, struct encode_at *at)
{
    const struct result_extra *x = r->extra;
    if (x == NULL || !x->has_body || x->body_cut) {
        BUF_ADD_LITERAL(out, ",\"body\":null");
        return;
    }
    const char *data = x->body.len > 0 ? x->body.data : "";
    size_t text_len = r->truncated ? whole_characters(data, x->body.len) : x->body.len;
    at->done = 0;
    if (utf8_valid(data, text_len)) {
        BUF_ADD_LITERAL(out, ",\"body\":\"");
        at->part = ENCODE_TEXT;
        at->len = text_len;
    } else {
        BUF_ADD_LITERAL(out, ",\"body_base64\":\"");
        at->part = ENCODE_BASE64;
        at->len = x->body.len;
    }
}

/* The next piece of it; true when there is no more. */
static bool add_body(struct buf *out, const struct result *r, struct encode_at *at)
{
    if (at->part == ENCODE_FIELDS)
        return true;
    size_t left = at->len - at->done;
    const char *from = left > 0 ? r->extra->body.data + at->done : "";
    size_t n = left < ENCODE_BODY_PIECE ? left : ENCODE_BODY_PIECE;
    if (at->part == ENCODE_BASE64) {
        buf_add_base64(out, from, n);
    } else {
        n = utf8_prefix(from, left, n);
        buf_add_json_part(out, from, n);
    }
    at->done += n;
    if (at->done < at->len && !out->failed)
        return false;
    buf_add_char(out, '"');
    return true;
}

static void add_sha256(struct buf *out, const struct result_extra *x)
{
    BUF_ADD_LITERAL(out, ",\"body_sha256\":");
    if (x == NULL || !x->has_sha256) {
        add_null(out);
        return;
    }
    buf_add_char(out, '"');
    buf_add_hex(out, x->sha256, sizeof x->sha256);
    buf_add_char(out, '"');
}

static void add_text_length(struct buf *out, const struct result_extra *x)
{
    BUF_ADD_LITERAL(out, ",\"text_length\":");
    if (x == NULL || !x->has_text_length || x->text_length < 0)
        add_null(out);
    else
        buf_add_int(out, x->text_length);
}

static char *put_endpoint(char *to, const struct ip_addr *ip, uint16_t port)
{
    to = put_ip(to, ip);
    to = PUT_LITERAL(to, ",\"remote_port\":");
    return put_int_unless_zero(to, port);
}

static void add_redirects(struct buf *out, const struct result_extra *x)
{
    size_t count = x != NULL ? x->hop_count : 0;
    struct run run;
    run.out = out;
    char *to = PUT_LITERAL(run_begin(&run), ",\"redirects\":[");
    for (size_t i = 0; i < count; i++) {
        const struct result_hop *hop = &x->hops[i];
        to = i == 0 ? PUT_LITERAL(to, "{\"url\":") : PUT_LITERAL(to, ",{\"url\":");
        to = run_json(&run, to, hop->url);
        to = PUT_LITERAL(to, ",\"status\":");
        to = put_int_unless_zero(to, hop->status);
        to = PUT_LITERAL(to, ",\"remote_ip\":");
        to = put_endpoint(to, &hop->remote_ip, hop->remote_port);
        to = put_timings(to, &hop->timings);
        to = put_char(to, '}');
    }
    run_end(&run, put_char(to, ']'));
}

static void add_curl(struct buf *out, const struct result_extra *x)
{
    static const struct run_key keys[] = {
        RUN_KEY("{\"time_namelookup\":"),    RUN_KEY(",\"time_connect\":"),
        RUN_KEY(",\"time_appconnect\":"),    RUN_KEY(",\"time_pretransfer\":"),
        RUN_KEY(",\"time_starttransfer\":"), RUN_KEY(",\"time_total\":"),
    };
    if (x == NULL || !x->has_curl) {
        BUF_ADD_LITERAL(out, ",\"curl\":null");
        return;
    }
    const struct result_curl *c = &x->curl;
    const int64_t times[] = {c->namelookup,  c->connect,       c->appconnect,
                             c->pretransfer, c->starttransfer, c->total};
    struct run run;
    run.out = out;
    char *to = PUT_LITERAL(run_begin(&run), ",\"curl\":");
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        to = put_key(to, &keys[i]);
        to = put_seconds_or_null(to, times[i]);
    }
    to = PUT_LITERAL(to, ",\"num_connects\":");
    to = put_int(to, c->num_connects);
    to = PUT_LITERAL(to, ",\"local_ip\":");
    to = put_ip(to, &c->local_ip);
    to = PUT_LITERAL(to, ",\"local_port\":");
    to = put_int_unless_zero(to, c->local_port);
    run_end(&run, put_char(to, '}'));
}

/* What stands behind the body. */
static void add_rest(struct buf *out, const struct result *r, unsigned include)
{
    if (include & INCLUDE_BODY_SHA256)
        add_sha256(out, r->extra);
    if (include & INCLUDE_TEXT_LENGTH)
        add_text_length(out, r->extra);
    if (include & INCLUDE_REDIRECTS)
        add_redirects(out, r->extra);
    if (include & INCLUDE_CURL)
        add_curl(out, r->extra);
}

/* Up to the URL, which is not written yet when it is long: at->part says so. */
static void add_head(struct buf *out, const struct batch_view *v, struct encode_at *at,
                     const char *type)
{
    const struct member *m = &v->spec->members[at->index];
    struct run run;
    run.out = out; /* and not its block: that is filled as far as it is used */
    char *to = put_char(run_begin(&run), '{');
    if (type != NULL) {
        to = PUT_LITERAL(to, "\"type\":");
        to = put_char(put_word(to, type), ',');
    }
    run_end(&run, write_identity(&run, to, m, view_result(v, at->index), at->index));
    if (m->url_len <= ENCODE_BODY_PIECE)
        add_url(out, m->url, m->url_len, m->origin != NULL);
    else
        begin_url(out, m, at);
}

/* All other fields that every member has. */
static void add_fields(struct buf *out, const struct batch_view *v, size_t index)
{
    const struct result *r = view_result(v, index);
    const int64_t work_us = result_work_us(r);
    struct run run;
    run.out = out;
    char *to = write_target(&run, run_begin(&run), &v->spec->members[index], r);
    to = write_answer(&run, to, r);
    to = put_times(to, v, r, work_us);
    to = put_sizes(to, r);
    to = PUT_LITERAL(to, ",\"truncated\":");
    to = put_bool(to, is_truncated(r, v->spec->include));
    to = put_speed(to, r, work_us);
    to = write_outcome(&run, to, r);
    run_end(&run, to);
}

bool encode_member_object(struct buf *out, const struct batch_view *v, struct encode_at *at,
                          const char *type)
{
    const struct result *r = view_result(v, at->index);
    const unsigned include = v->spec->include;
    if (at->part == ENCODE_FIELDS)
        add_head(out, v, at, type);
    if (at->part == ENCODE_URL && !add_url_piece(out, &v->spec->members[at->index], at))
        return false;
    if (at->part == ENCODE_FIELDS) {
        add_fields(out, v, at->index);
        if (include & INCLUDE_HEADERS)
            add_headers(out, r->extra);
        if (include & INCLUDE_BODY)
            begin_body(out, r, at);
    }
    if (!add_body(out, r, at))
        return false;
    if (include != 0)
        add_rest(out, r, include);
    buf_add_char(out, '}');
    return true;
}

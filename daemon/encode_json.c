/* SPDX-License-Identifier: MIT
 *
 * application/json, and the objects that NDJSON shares. Written straight from the results into the
 * buffer, without a tree: some 0.8 us a member, and it never fails on bytes that are no UTF-8.
 *
 * The view is one line for the summary and one for each member, so that an answer can be read in a
 * terminal and searched with grep; a line itself is compact, as NDJSON needs it. Every field of the
 * table in gatherd-api(7) is there for every member, null where it did not happen or is not known;
 * only what `include` names comes and goes. Durations are whole microseconds up to here and are
 * printed as milliseconds with three decimals, so sums that were exact stay exact for the reader.
 */
#include "encode.h"

#include <assert.h>
#include <string.h>

#include "utf8.h"

static void add_bool(struct buf *out, bool value)
{
    if (value)
        BUF_ADD_LITERAL(out, "true");
    else
        BUF_ADD_LITERAL(out, "false");
}

static void add_null(struct buf *out)
{
    BUF_ADD_LITERAL(out, "null");
}

static void add_ms(struct buf *out, int64_t us)
{
    if (us < 0)
        add_null(out);
    else
        buf_add_ms(out, us);
}

static void add_seconds(struct buf *out, int64_t us)
{
    if (us < 0)
        add_null(out);
    else
        buf_add_seconds(out, us);
}

static void add_int_unless_zero(struct buf *out, int64_t value)
{
    if (value == 0)
        add_null(out);
    else
        buf_add_int(out, value);
}

/* A string of ours, which needs no escape, in quotes and with `after` behind it. These are half of
 * all bytes of an answer: one reservation and not four. */
static void add_quoted(struct buf *out, const char *word, const char *after)
{
    size_t n = strlen(word);
    size_t after_len = strlen(after);
    char *p = buf_reserve(out, n + after_len + 2);
    if (p == NULL)
        return;
    p[0] = '"';
    memcpy(p + 1, word, n);
    p[n + 1] = '"';
    memcpy(p + n + 2, after, after_len);
    out->len += n + after_len + 2;
}

static void add_word(struct buf *out, const char *word)
{
    add_quoted(out, word, "");
}

static void add_key(struct buf *out, const char *key)
{
    add_quoted(out, key, ":");
}

static void add_ip(struct buf *out, const struct ip_addr *ip)
{
    char text[IP_TEXT_MAX];
    if (ip->family == 0)
        add_null(out);
    else
        add_word(out, ip_format(ip, text));
}

/* "remote_ip" and "remote_port", or the same of the local end. */
static void add_endpoint(struct buf *out, const char *side, const struct ip_addr *ip, uint16_t port)
{
    BUF_ADD_LITERAL(out, ",\"");
    buf_add_str(out, side);
    BUF_ADD_LITERAL(out, "_ip\":");
    add_ip(out, ip);
    BUF_ADD_LITERAL(out, ",\"");
    buf_add_str(out, side);
    BUF_ADD_LITERAL(out, "_port\":");
    add_int_unless_zero(out, port);
}

/* Two JSON strings become one: the quotes where they meet go. */
static void add_url(struct buf *out, const char *url, size_t n)
{
    size_t at;
    size_t secret = encode_userinfo(url, n, &at);
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

static void add_timings(struct buf *out, const struct timings *t)
{
    BUF_ADD_LITERAL(out, ",\"timings_ms\":{");
    for (enum phase p = PHASE_QUEUE; p < PHASE_COUNT; p++) {
        add_key(out, phase_name(p));
        add_ms(out, t->us[p]);
        buf_add_char(out, ',');
    }
    BUF_ADD_LITERAL(out, "\"total\":");
    buf_add_ms(out, timings_total(t));
    buf_add_char(out, '}');
}

static void add_identity(struct buf *out, const struct batch_view *v, size_t index)
{
    const struct member *m = &v->spec->members[index];
    const struct result *r = view_result(v, index);
    BUF_ADD_LITERAL(out, "\"index\":");
    buf_add_int(out, (int64_t)index);
    BUF_ADD_LITERAL(out, ",\"id\":");
    buf_add_json_str(out, m->id);
    BUF_ADD_LITERAL(out, ",\"ok\":");
    add_bool(out, r->ok);
    BUF_ADD_LITERAL(out, ",\"state\":");
    add_word(out, member_state_name(r->state));
    BUF_ADD_LITERAL(out, ",\"url\":");
    add_url(out, m->url, m->url_len);
    BUF_ADD_LITERAL(out, ",\"url_effective\":");
    buf_add_json_str(out, r->url_effective);
    BUF_ADD_LITERAL(out, ",\"method\":");
    buf_add_json_str(out, m->opts->method);
    BUF_ADD_LITERAL(out, ",\"scheme\":");
    buf_add_json_str(out, r->url_effective == NULL ? NULL : r->https ? "https" : "http");
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

static void add_answer(struct buf *out, const struct result *r)
{
    BUF_ADD_LITERAL(out, ",\"status\":");
    add_int_unless_zero(out, r->status);
    BUF_ADD_LITERAL(out, ",\"http_version\":");
    buf_add_json_str(out, http_version_text(r->http_version));
    BUF_ADD_LITERAL(out, ",\"content_type\":");
    buf_add_json_str(out, r->content_type);
    add_endpoint(out, "remote", &r->remote_ip, r->remote_port);
    BUF_ADD_LITERAL(out, ",\"num_connects\":");
    buf_add_int(out, r->num_connects);
    BUF_ADD_LITERAL(out, ",\"num_redirects\":");
    buf_add_int(out, r->num_redirects);
    BUF_ADD_LITERAL(out, ",\"num_retries\":");
    buf_add_int(out, r->num_retries);
}

static void add_times(struct buf *out, const struct batch_view *v, const struct result *r)
{
    bool dispatched = r->start_us != TIME_NULL;
    int64_t offset_us = r->start_us - v->started_us;
    BUF_ADD_LITERAL(out, ",\"started_at\":");
    if (dispatched) {
        buf_add_char(out, '"');
        buf_add_rfc3339(out, v->started_wall_us + offset_us);
        buf_add_char(out, '"');
    } else {
        add_null(out);
    }
    BUF_ADD_LITERAL(out, ",\"start_offset_ms\":");
    add_ms(out, dispatched ? offset_us : TIME_NULL);
    BUF_ADD_LITERAL(out, ",\"ttfb_ms\":");
    add_ms(out, r->ttfb_us);
    BUF_ADD_LITERAL(out, ",\"total_ms\":");
    add_ms(out, result_work_us(r));
    add_timings(out, &r->timings);
}

static void add_size(struct buf *out, int64_t bytes, bool dispatched)
{
    if (dispatched)
        buf_add_int(out, bytes);
    else
        add_null(out);
}

/* Bytes a second, rounded down. In double, for bytes * 1e6 may not fit; a rate that does not fit
 * either was not measured. */
static void add_speed(struct buf *out, const struct result *r)
{
    int64_t work_us = result_work_us(r);
    double speed = work_us > 0 ? (double)r->sizes.download * 1e6 / (double)work_us : -1.0;
    BUF_ADD_LITERAL(out, ",\"speed_download\":");
    if (speed >= 0.0 && speed < 9e18)
        buf_add_int(out, (int64_t)speed);
    else
        add_null(out);
}

static bool is_truncated(const struct result *r, unsigned include)
{
    if (r->truncated || r->extra == NULL)
        return r->truncated;
    return ((include & INCLUDE_BODY) && r->extra->body_cut) ||
           ((include & INCLUDE_HEADERS) && r->extra->headers_cut);
}

static void add_sizes(struct buf *out, const struct result *r, unsigned include)
{
    bool dispatched = r->start_us != TIME_NULL;
    BUF_ADD_LITERAL(out, ",\"size_request\":");
    add_size(out, r->sizes.request, dispatched);
    BUF_ADD_LITERAL(out, ",\"size_upload\":");
    add_size(out, r->sizes.upload, dispatched);
    BUF_ADD_LITERAL(out, ",\"size_header\":");
    add_size(out, r->sizes.header, dispatched);
    BUF_ADD_LITERAL(out, ",\"size_download\":");
    add_size(out, r->sizes.download, dispatched);
    BUF_ADD_LITERAL(out, ",\"size_delivered\":");
    add_size(out, r->sizes.delivered, dispatched);
    BUF_ADD_LITERAL(out, ",\"truncated\":");
    add_bool(out, is_truncated(r, include));
    add_speed(out, r);
}

static void add_error(struct buf *out, const struct result *r)
{
    const struct result_error *e = &r->error;
    if (e->type == ERR_NONE) {
        BUF_ADD_LITERAL(out, ",\"error\":null");
        return;
    }
    BUF_ADD_LITERAL(out, ",\"error\":{\"type\":");
    add_word(out, err_name(e->type));
    BUF_ADD_LITERAL(out, ",\"phase\":");
    buf_add_json_str(out, r->timings.us[e->phase] >= 0 ? phase_name(e->phase) : NULL);
    BUF_ADD_LITERAL(out, ",\"message\":");
    buf_add_json_str(out, e->message != NULL ? e->message : err_text(e->type));
    BUF_ADD_LITERAL(out, ",\"exitcode\":");
    add_int_unless_zero(out, e->exitcode);
    BUF_ADD_LITERAL(out, ",\"os_errno\":");
    add_int_unless_zero(out, e->os_errno);
    BUF_ADD_LITERAL(out, ",\"rule\":");
    buf_add_json_str(out, e->rule);
    BUF_ADD_LITERAL(out, ",\"sent\":");
    add_bool(out, e->sent);
    buf_add_char(out, '}');
}

static void add_outcome(struct buf *out, const struct result *r)
{
    BUF_ADD_LITERAL(out, ",\"retryable\":");
    add_bool(out, result_retryable(r));
    BUF_ADD_LITERAL(out, ",\"retry_after_ms\":");
    add_ms(out, r->retry_after_us);
    add_error(out, r);
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

static void add_body(struct buf *out, const struct result *r)
{
    const struct result_extra *x = r->extra;
    if (x == NULL || !x->has_body || x->body_cut) {
        BUF_ADD_LITERAL(out, ",\"body\":null");
        return;
    }
    const char *data = x->body.len > 0 ? x->body.data : "";
    size_t text_len = r->truncated ? whole_characters(data, x->body.len) : x->body.len;
    if (utf8_valid(data, text_len)) {
        BUF_ADD_LITERAL(out, ",\"body\":");
        buf_add_json(out, data, text_len);
    } else {
        BUF_ADD_LITERAL(out, ",\"body_base64\":\"");
        buf_add_base64(out, data, x->body.len);
        buf_add_char(out, '"');
    }
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

static void add_redirects(struct buf *out, const struct result_extra *x)
{
    size_t count = x != NULL ? x->hop_count : 0;
    BUF_ADD_LITERAL(out, ",\"redirects\":[");
    for (size_t i = 0; i < count; i++) {
        const struct result_hop *hop = &x->hops[i];
        buf_add_str(out, i == 0 ? "{\"url\":" : ",{\"url\":");
        buf_add_json_str(out, hop->url);
        BUF_ADD_LITERAL(out, ",\"status\":");
        add_int_unless_zero(out, hop->status);
        add_endpoint(out, "remote", &hop->remote_ip, hop->remote_port);
        add_timings(out, &hop->timings);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
}

static void add_curl(struct buf *out, const struct result_extra *x)
{
    if (x == NULL || !x->has_curl) {
        BUF_ADD_LITERAL(out, ",\"curl\":null");
        return;
    }
    const struct result_curl *c = &x->curl;
    BUF_ADD_LITERAL(out, ",\"curl\":{\"time_namelookup\":");
    add_seconds(out, c->namelookup);
    BUF_ADD_LITERAL(out, ",\"time_connect\":");
    add_seconds(out, c->connect);
    BUF_ADD_LITERAL(out, ",\"time_appconnect\":");
    add_seconds(out, c->appconnect);
    BUF_ADD_LITERAL(out, ",\"time_pretransfer\":");
    add_seconds(out, c->pretransfer);
    BUF_ADD_LITERAL(out, ",\"time_starttransfer\":");
    add_seconds(out, c->starttransfer);
    BUF_ADD_LITERAL(out, ",\"time_total\":");
    add_seconds(out, c->total);
    BUF_ADD_LITERAL(out, ",\"num_connects\":");
    buf_add_int(out, c->num_connects);
    add_endpoint(out, "local", &c->local_ip, c->local_port);
    buf_add_char(out, '}');
}

static void add_included(struct buf *out, const struct result *r, unsigned include)
{
    if (include & INCLUDE_HEADERS)
        add_headers(out, r->extra);
    if (include & INCLUDE_BODY)
        add_body(out, r);
    if (include & INCLUDE_BODY_SHA256)
        add_sha256(out, r->extra);
    if (include & INCLUDE_TEXT_LENGTH)
        add_text_length(out, r->extra);
    if (include & INCLUDE_REDIRECTS)
        add_redirects(out, r->extra);
    if (include & INCLUDE_CURL)
        add_curl(out, r->extra);
}

void encode_member_object(struct buf *out, const struct batch_view *v, size_t index,
                          const char *type)
{
    const struct result *r = view_result(v, index);
    unsigned include = v->spec->include;
    buf_add_char(out, '{');
    if (type != NULL) {
        BUF_ADD_LITERAL(out, "\"type\":");
        add_word(out, type);
        buf_add_char(out, ',');
    }
    add_identity(out, v, index);
    add_answer(out, r);
    add_times(out, v, r);
    add_sizes(out, r, include);
    add_outcome(out, r);
    if (include != 0)
        add_included(out, r, include);
    buf_add_char(out, '}');
}

static void add_count(struct buf *out, const char *name, int64_t count)
{
    buf_add_char(out, ',');
    add_key(out, name);
    buf_add_int(out, count);
}

static void add_counts(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    BUF_ADD_LITERAL(out, ",\"counts\":{\"requests\":");
    buf_add_int(out, (int64_t)v->spec->count);
    add_count(out, "done", s->done);
    add_count(out, "ok", s->n_ok);
    add_count(out, "http_error", s->http_error);
    add_count(out, "failed", s->failed);
    add_count(out, "timed_out", s->timed_out);
    add_count(out, "denied", s->denied);
    add_count(out, "cancelled", s->cancelled);
    add_count(out, "retried", s->retried);
    add_count(out, "reused_connections", s->reused);
    buf_add_char(out, '}');
}

static void add_status_codes(struct buf *out, const struct view_summary *s)
{
    bool first = true;
    BUF_ADD_LITERAL(out, ",\"status_codes\":{");
    for (int i = 100; i < VIEW_STATUS_END; i++) {
        if (s->status_codes[i] == 0)
            continue;
        buf_add_str(out, first ? "\"" : ",\"");
        buf_add_int(out, i);
        BUF_ADD_LITERAL(out, "\":");
        buf_add_int(out, s->status_codes[i]);
        first = false;
    }
    buf_add_char(out, '}');
}

static void add_errors(struct buf *out, const struct view_summary *s)
{
    bool first = true;
    BUF_ADD_LITERAL(out, ",\"errors\":{");
    for (enum err_type type = ERR_NONE; type < ERR_COUNT; type++) {
        if (type == ERR_NONE || s->errors[type] == 0)
            continue;
        if (!first)
            buf_add_char(out, ',');
        add_key(out, err_name(type));
        buf_add_int(out, s->errors[type]);
        first = false;
    }
    buf_add_char(out, '}');
}

static void add_summary_sizes(struct buf *out, const struct result_sizes *sizes)
{
    BUF_ADD_LITERAL(out, ",\"sizes\":{\"size_request\":");
    buf_add_int(out, sizes->request);
    add_count(out, "size_upload", sizes->upload);
    add_count(out, "size_header", sizes->header);
    add_count(out, "size_download", sizes->download);
    add_count(out, "size_delivered", sizes->delivered);
    buf_add_char(out, '}');
}

static void add_stats(struct buf *out, const struct view_stats *s)
{
    if (s->min < 0) {
        add_null(out);
        return;
    }
    BUF_ADD_LITERAL(out, "{\"min\":");
    buf_add_ms(out, s->min);
    BUF_ADD_LITERAL(out, ",\"mean\":");
    buf_add_ms(out, (int64_t)(s->mean + 0.5));
    BUF_ADD_LITERAL(out, ",\"p50\":");
    buf_add_ms(out, s->p50);
    BUF_ADD_LITERAL(out, ",\"p90\":");
    buf_add_ms(out, s->p90);
    BUF_ADD_LITERAL(out, ",\"p95\":");
    buf_add_ms(out, s->p95);
    BUF_ADD_LITERAL(out, ",\"p99\":");
    buf_add_ms(out, s->p99);
    BUF_ADD_LITERAL(out, ",\"max\":");
    buf_add_ms(out, s->max);
    buf_add_char(out, '}');
}

static void add_latency(struct buf *out, const struct view_summary *s)
{
    BUF_ADD_LITERAL(out, ",\"latency_ms\":{\"population\":\"done\",\"count\":");
    buf_add_int(out, s->latency_count);
    BUF_ADD_LITERAL(out, ",\"total\":");
    add_stats(out, &s->latency_total);
    BUF_ADD_LITERAL(out, ",\"ttfb\":");
    add_stats(out, &s->latency_ttfb);
    buf_add_char(out, '}');
}

static void add_concurrency(struct buf *out, const struct view_summary *s)
{
    BUF_ADD_LITERAL(out, ",\"concurrency\":{\"limit\":");
    buf_add_int(out, s->concurrency_limit);
    add_count(out, "peak", s->concurrency_peak);
    BUF_ADD_LITERAL(out, ",\"sequential_ms\":");
    buf_add_ms(out, s->sequential_us);
    BUF_ADD_LITERAL(out, ",\"speedup\":");
    /* Thousandths with three decimals are what buf_add_ms() writes. */
    add_ms(out, s->speedup > 0.0 ? (int64_t)(s->speedup * 1000.0 + 0.5) : TIME_NULL);
    buf_add_char(out, '}');
}

static void add_critical(struct buf *out, const struct view_summary *s)
{
    if (s->critical_index < 0) {
        BUF_ADD_LITERAL(out, ",\"critical_path\":null");
        return;
    }
    BUF_ADD_LITERAL(out, ",\"critical_path\":{\"index\":");
    buf_add_int(out, s->critical_index);
    BUF_ADD_LITERAL(out, ",\"phase\":");
    add_word(out, phase_name(s->critical_phase));
    BUF_ADD_LITERAL(out, ",\"ms\":");
    buf_add_ms(out, s->critical_us);
    BUF_ADD_LITERAL(out, ",\"saves_ms\":");
    buf_add_ms(out, s->critical_saves_us);
    buf_add_char(out, '}');
}

static void add_head(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    BUF_ADD_LITERAL(out, "\"schema_version\":1,\"batch_id\":");
    buf_add_json_str(out, v->id);
    BUF_ADD_LITERAL(out, ",\"ok\":");
    add_bool(out, s->ok);
    BUF_ADD_LITERAL(out, ",\"complete\":");
    add_bool(out, s->complete);
    BUF_ADD_LITERAL(out, ",\"started_at\":\"");
    buf_add_rfc3339(out, v->started_wall_us);
    BUF_ADD_LITERAL(out, "\",\"total_ms\":");
    buf_add_ms(out, s->total_us);
}

void encode_summary_fields(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    assert(s != NULL);
    add_head(out, v);
    add_counts(out, v);
    add_status_codes(out, s);
    add_errors(out, s);
    add_summary_sizes(out, &s->sizes);
    add_latency(out, s);
    add_concurrency(out, s);
    add_critical(out, s);
    BUF_ADD_LITERAL(out, ",\"daemon\":{\"loop_lag_max_ms\":");
    buf_add_ms(out, s->loop_lag_max_us);
    BUF_ADD_LITERAL(out, ",\"overhead_ms\":");
    buf_add_ms(out, s->overhead_us);
    buf_add_char(out, '}');
}

static void json_begin(struct buf *out, const struct batch_view *v)
{
    buf_add_char(out, '{');
    encode_summary_fields(out, v);
    BUF_ADD_LITERAL(out, ",\n\"results\":[\n");
}

static void json_item(struct buf *out, const struct batch_view *v, size_t index)
{
    if (index > 0)
        BUF_ADD_LITERAL(out, ",\n");
    encode_member_object(out, v, index, NULL);
}

static void json_end(struct buf *out, const struct batch_view *v)
{
    (void)v;
    BUF_ADD_LITERAL(out, "\n],\n\"retry\":null}\n");
}

const struct encoder encode_json = {
    .name = "json",
    .media_type = "application/json",
    .streams = false,
    .begin = json_begin,
    .item = json_item,
    .end = json_end,
};

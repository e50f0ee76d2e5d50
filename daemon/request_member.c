/* SPDX-License-Identifier: MIT
 *
 * request_member - one member of a batch, and the options that `defaults` and the query string
 * give to all. Called by request; what it makes lies in the spec's arena.
 *
 * A draft starts as a copy of the options that hold so far (configuration, query, defaults) and
 * is changed by the fields that the object has. When nothing differs in the end, the member points
 * to the shared block: 10,000 plain URLs share one. Headers are added to those of the draft, which
 * are replaced where the name is the same; a body of any kind replaces a body of any kind.
 */
#include "request_internal.h"

#include <string.h>

#include <jansson.h>

#include "list.h"
#include "parse.h"
#include "url.h"

#define METHOD_BYTES_MAX 64
#define HEADERS_MAX 100 /* lines of one member, those of `defaults` included */
#define HEADER_BYTES_MAX 65536
#define TIMEOUT_MS_MAX 86400000 /* a day */
#define REDIRECTS_MAX 100
#define DUMP_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

/* --- url, id, method -------------------------------------------------------------------------- */

void request_set_target(struct reader *r, struct member *m, const char *text, size_t n)
{
    struct target target;
    const char *why;
    if (target_parse(&r->origins, text, n, &target, &why)) {
        m->origin = target.origin;
        m->text = target.text;
        m->text_len = target.len;
        return;
    }
    if (why == url_no_memory)
        request_out_of_memory(r);
    m->why = why;
}

void request_set_url(struct reader *r, struct member *m, const char *url, size_t n)
{
    m->url = url;
    m->url_len = (uint32_t)n;
    request_set_target(r, m, url, n);
}

static bool set_url_text(struct reader *r, struct member *m, const json_t *value)
{
    size_t n = json_string_length(value);
    request_set_url(r, m, request_copy(r, json_string_value(value), n), n);
    return true;
}

static bool set_url(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    if (!d->member)
        return request_fail(r, at, "\"url\" has no default: each member has its own");
    return set_url_text(r, d->member, value);
}

struct id {
    struct table_node in_table;
    const char *text;
};

static bool same_id(const struct table_node *node, const void *key)
{
    return strcmp(LIST_CONTAINER(node, struct id, in_table)->text, key) == 0;
}

bool request_take_id(struct reader *r, const char *text)
{
    if (!r->ids.buckets && !table_init(&r->ids))
        request_out_of_memory(r);
    uint64_t hash = table_hash(&r->ids, text, strlen(text));
    if (table_find(&r->ids, hash, same_id, text))
        return false;
    struct id *id = arena_alloc(&r->budget.arena, sizeof *id);
    if (!id)
        request_out_of_memory(r);
    id->text = text;
    table_insert(&r->ids, &id->in_table, hash);
    return true;
}

static bool set_id(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    const char *id = json_string_value(value);
    size_t n = json_string_length(value);
    char quoted[REQUEST_QUOTE_MAX];
    if (!d->member)
        return request_fail(r, at, "\"id\" has no default: each member has its own");
    if (n > REQUEST_ID_BYTES_MAX)
        return request_fail(r, at, "\"id\" has %zu bytes, more than %d", n, REQUEST_ID_BYTES_MAX);
    d->member->id = request_copy(r, id, n);
    if (!request_take_id(r, d->member->id))
        return request_fail(r, at, "the id %s is taken by another member of this batch",
                            request_quote(quoted, id, n));
    return true;
}

static bool set_method(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    const char *s = json_string_value(value);
    size_t n = json_string_length(value);
    char quoted[REQUEST_QUOTE_MAX];
    if (!parse_is_token(s, n) || n > METHOD_BYTES_MAX)
        return request_fail(r, at,
                            "\"method\" must be a token such as GET or POST of at most %d bytes, "
                            "not %s",
                            METHOD_BYTES_MAX, request_quote(quoted, s, n));
    if (parse_equal_nocase(s, n, "CONNECT") || parse_equal_nocase(s, n, "TRACE"))
        return request_fail(r, at, "the method %s is refused", request_quote(quoted, s, n));
    d->opts.method = request_copy(r, s, n);
    return true;
}

/* --- headers ---------------------------------------------------------------------------------- */

struct header_list {
    struct spec_header *lines; /* the spec's */
    size_t count;
};

/* The names of an object of headers, copied out: they are looked through for each line that the
 * member inherits. */
struct header_names {
    struct {
        const char *name;
        size_t len;
    } of[HEADERS_MAX];
    size_t count;
    size_t lines; /* that the object makes: one for each string */
};

static bool is_refused_name(const char *name, size_t n)
{
    static const char *const refused[] = {
        "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE",
        "Trailer", "Upgrade", "Expect", "HTTP2-Settings",
    };
    if (n >= 6 && parse_equal_nocase(name, 6, "Proxy-"))
        return true;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (parse_equal_nocase(name, n, refused[i]))
            return true;
    }
    return false;
}

static bool add_header(struct reader *r, const struct place *at, struct header_list *list,
                       const char *name, const json_t *value)
{
    char quoted[REQUEST_QUOTE_MAX], got[REQUEST_QUOTE_MAX + 16];
    const char *s = json_string_value(value);
    size_t n = json_string_length(value);
    if (!s)
        return request_fail(r, at, "the header %s must be a string or an array of strings, not %s",
                            request_quote(quoted, name, strlen(name)),
                            request_describe(got, value));
    for (; n > 0 && (*s == ' ' || *s == '\t'); n--)
        s++;
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        n--;
    if (!parse_is_field_value(s, n))
        return request_fail(r, at,
                            "the value of the header %s has a control byte (CR and LF are refused "
                            "too)",
                            request_quote(quoted, name, strlen(name)));
    list->lines[list->count++] =
        (struct spec_header){.name = name, .value = request_copy(r, s, n)};
    return true;
}

/* One key of the object: a line, or one for each string of an array (none for an empty one). */
static bool add_headers(struct reader *r, const struct place *at, struct header_list *list,
                        const json_t *value)
{
    size_t n = strlen(at->key);
    char quoted[REQUEST_QUOTE_MAX];
    if (!parse_is_token(at->key, n))
        return request_fail(r, at, "%s is no header name", request_quote(quoted, at->key, n));
    if (is_refused_name(at->key, n))
        return request_fail(r, at, "the header %s is refused: gatherd and libcurl set it",
                            request_quote(quoted, at->key, n));
    const char *name = request_copy(r, at->key, n);
    if (!json_is_array(value))
        return add_header(r, at, list, name, value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct place here = {.up = at, .index = i};
        if (!add_header(r, &here, list, name, json_array_get(value, i)))
            return false;
    }
    return true;
}

/* False when there are too many. */
static bool list_names(struct header_names *names, json_t *object)
{
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const json_t *value = json_object_iter_value(it);
        if (names->count == HEADERS_MAX)
            return false;
        names->of[names->count].name = json_object_iter_key(it);
        names->of[names->count++].len = json_object_iter_key_len(it);
        names->lines += json_is_array(value) ? json_array_size(value) : 1;
    }
    return names->lines <= HEADERS_MAX;
}

static bool has_name(const struct header_names *names, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < names->count; i++) {
        if (names->of[i].len == n && parse_equal_nocase(name, n, names->of[i].name))
            return true;
    }
    return false;
}

/* Moderate figures, because each transfer in flight holds a copy of its headers. */
static bool check_header_size(struct reader *r, const struct place *at,
                              const struct header_list *list)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        bytes += strlen(list->lines[i].name) + strlen(list->lines[i].value);
    if (bytes > HEADER_BYTES_MAX)
        return request_fail(r, at, "\"headers\" has %zu bytes, more than %d", bytes,
                            HEADER_BYTES_MAX);
    return true;
}

static bool fail_header_count(struct reader *r, const struct place *at)
{
    return request_fail(r, at, "\"headers\" has more than %d lines, those of \"defaults\" included",
                        HEADERS_MAX);
}

static bool set_headers(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    struct header_list list = {0};
    struct header_names names;
    names.count = names.lines = 0;
    if (!list_names(&names, value))
        return fail_header_count(r, at);
    list.lines = request_alloc(r, d->opts.header_count + names.lines, sizeof *list.lines);
    for (size_t i = 0; i < d->opts.header_count; i++) {
        if (!has_name(&names, d->opts.headers[i].name))
            list.lines[list.count++] = d->opts.headers[i];
    }
    if (list.count + names.lines > HEADERS_MAX)
        return fail_header_count(r, at);
    for (void *it = json_object_iter(value); it; it = json_object_iter_next(value, it)) {
        struct place here = {.up = at, .key = json_object_iter_key(it)};
        if (!add_headers(r, &here, &list, json_object_iter_value(it)))
            return false;
    }
    d->opts.headers = list.lines;
    d->opts.header_count = list.count;
    return check_header_size(r, at, &list);
}

/* --- bodies ----------------------------------------------------------------------------------- */

static bool take_body(struct reader *r, const struct place *at, struct draft *d)
{
    if (d->body_field)
        return request_fail(r, at, "at most one of body, body_base64 and json: \"%s\" is given too",
                            d->body_field);
    d->body_field = at->key;
    d->opts.body_is_json = false;
    return true;
}

static bool set_body(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    if (!take_body(r, at, d))
        return false;
    d->opts.body_len = json_string_length(value);
    d->opts.body = request_copy(r, json_string_value(value), d->opts.body_len);
    return true;
}

static bool set_body_base64(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    size_t n = json_string_length(value);
    if (!take_body(r, at, d))
        return false;
    uint8_t *bytes = request_alloc(r, n / 4 * 3 + 1, 1);
    if (!parse_base64(json_string_value(value), n, bytes, &d->opts.body_len))
        return request_fail(r, at,
                            "\"body_base64\" is not base64 (RFC 4648: A-Z a-z 0-9 + /, padded with "
                            "=, no blanks)");
    d->opts.body = (const char *)bytes;
    return true;
}

static int append_text(const char *data, size_t n, void *arg)
{
    struct buf *text = arg;
    buf_add(text, data, n);
    return text->failed ? -1 : 0;
}

static bool set_json(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct draft *d = target;
    if (!take_body(r, at, d))
        return false;
    buf_clear(&r->text);
    if (json_dump_callback(value, append_text, &r->text, DUMP_FLAGS) != 0)
        request_out_of_memory(r);
    d->opts.body_len = r->text.len;
    d->opts.body = request_copy(r, r->text.data, r->text.len);
    d->opts.body_is_json = true;
    return true;
}

/* --- the table -------------------------------------------------------------------------------- */

/* In the order of enum config_http_version. */
static const char *const http_versions[] = {"auto", "1.1", "2", NULL};

#define OPTION(member) .offset = offsetof(struct draft, opts.member)

static const struct field fields[] = {
    {"url", FIELD_TEXT, .set = set_url},
    {"id", FIELD_TEXT, .set = set_id},
    {"method", FIELD_TEXT, .query = true, .set = set_method},
    {"headers", FIELD_OBJECT, .set = set_headers},
    {"body", FIELD_TEXT, .query = true, .set = set_body},
    {"body_base64", FIELD_TEXT, .query = true, .set = set_body_base64},
    {"json", FIELD_ANY, .set = set_json},
    {"timeout_ms", FIELD_MS, true, OPTION(timeout_us), .min = 1, .max = TIMEOUT_MS_MAX},
    {"connect_timeout_ms", FIELD_MS, true, OPTION(connect_timeout_us), .min = 1,
     .max = TIMEOUT_MS_MAX},
    {"queue_timeout_ms", FIELD_MS_OR_NULL, true, OPTION(queue_timeout_us), .min = 1,
     .max = TIMEOUT_MS_MAX},
    {"max_redirects", FIELD_INT, true, OPTION(max_redirects), .min = 0, .max = REDIRECTS_MAX},
    {"max_response_bytes", FIELD_INT64, true, OPTION(max_response_bytes), .min = 1,
     .limit = "response_bytes", .limit_offset = offsetof(struct config_limits, response_bytes)},
    {"http_version", FIELD_WORD, true, OPTION(http_version), .words = http_versions},
    {"fresh_connection", FIELD_BOOL, true, OPTION(fresh_connection)},
    {"insecure", FIELD_BOOL, true, OPTION(insecure)},
    {.name = "max_retries", .kind = FIELD_LATER},
    {.name = "retry_non_idempotent", .kind = FIELD_LATER},
    {.name = "expect", .kind = FIELD_LATER},
};

const struct field_table request_member_table = {
    .of = "member",
    .field_noun = "member field",
    .where = "into an element of \"requests\" or into \"defaults\"",
    .fields = fields,
    .count = sizeof fields / sizeof *fields,
};

/* --- members ---------------------------------------------------------------------------------- */

const struct member_opts *request_finish_opts(struct reader *r, const struct draft *d)
{
    struct member_opts *opts = request_alloc(r, 1, sizeof *opts);
    *opts = d->opts;
    if (!opts->method)
        opts->method = opts->body ? "POST" : "GET";
    return opts;
}

static bool read_object(struct reader *r, const struct place *at, json_t *object, struct member *m)
{
    const struct place at_url = {.up = at, .key = "url"};
    struct draft d;
    /* memcpy, so that the padding is equal too and memcmp() may tell whether anything changed. */
    memcpy(&d.opts, &r->base.opts, sizeof d.opts);
    d.member = m;
    d.body_field = NULL;
    if (!request_read_object(r, &request_member_table, at, object, &d))
        return false;
    if (!m->url)
        return request_fail(r, at, "the member has no \"url\"");
    bool changed = memcmp(&d.opts, &r->base.opts, sizeof d.opts) != 0;
    m->opts = changed ? request_finish_opts(r, &d) : r->shared;
    return request_take_userinfo(r, &at_url, m);
}

bool request_read_member(struct reader *r, const struct place *at, json_t *value, struct member *m)
{
    char got[REQUEST_QUOTE_MAX + 16];
    if (json_is_object(value))
        return read_object(r, at, value, m);
    if (!json_is_string(value))
        return request_fail(r, at, "a member is a URL string or an object with \"url\", not %s",
                            request_describe(got, value));
    m->opts = r->shared;
    return set_url_text(r, m, value) && request_take_userinfo(r, at, m);
}

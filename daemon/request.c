/* SPDX-License-Identifier: MIT
 *
 * request - the body and the query string of POST /v1/batch to a batch_spec. Called by the routes
 * once the body is whole, on the HTTP loop's thread or, where it is long, on another; the spec is
 * the caller's, all else is released before it returns.
 *
 * Options come in layers: the configuration, the query string, `defaults`, the member. The first
 * three make r->base before any member is read, wherever `defaults` stands in the object. Every
 * kind of body ends in request_read_member(), a line of a URL list excepted.
 *
 * Memory that runs out jumps to guarded_read(), see request_json.c. A fault is an ordinary false.
 */
#include "request.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "parse.h"
#include "request_internal.h"

#define CONCURRENCY 50
#define DEADLINE_MS_MAX 86400000 /* a day */
#define BLANKS " \t\r\n"

/* --- content types ---------------------------------------------------------------------------- */

enum request_type request_type(const char *content_type)
{
    static const struct {
        const char *name;
        enum request_type type;
    } types[] = {
        {"", REQUEST_GUESS},
        {"application/x-www-form-urlencoded", REQUEST_GUESS},
        {"application/json", REQUEST_JSON},
        {"application/x-ndjson", REQUEST_NDJSON},
        {"text/uri-list", REQUEST_URI_LIST},
        {"text/plain", REQUEST_URI_LIST},
    };
    const char *s = content_type ? content_type : "";
    s += strspn(s, " \t");
    size_t n = strcspn(s, ";");
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        n--;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (parse_equal_nocase(s, n, types[i].name))
            return types[i].type;
    }
    return REQUEST_UNSUPPORTED;
}

/* A byte order mark is no part of the text; some editors write one. */
static size_t mark_len(const struct request_input *in)
{
    return in->body_len >= 3 && memcmp(in->body, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/* The index of the first byte that says something; body_len for an empty body. */
static size_t text_begin(const struct request_input *in)
{
    size_t i = mark_len(in);
    while (i < in->body_len && memchr(BLANKS, in->body[i], sizeof BLANKS - 1))
        i++;
    return i;
}

static enum request_type guess(const struct request_input *in)
{
    size_t i = text_begin(in);
    bool json = i < in->body_len && (in->body[i] == '[' || in->body[i] == '{');
    return json ? REQUEST_JSON : REQUEST_URI_LIST;
}

/* --- batch fields ----------------------------------------------------------------------------- */

static bool set_requests(struct reader *r, const struct place *at, json_t *value, void *target)
{
    (void)at;
    (void)target;
    r->requests = value;
    return true;
}

static bool set_defaults(struct reader *r, const struct place *at, json_t *value, void *target)
{
    (void)at;
    (void)target;
    r->defaults = value;
    return true;
}

static const char *const include_words[] = { /* word i is bit 1 << i of enum include */
    "headers", "body", "body_sha256", "text_length", "redirects", "curl", NULL,
};
static const char *const include_later[] = {"attempts", "tls", NULL};

static int find_word(const char *const *words, const char *s)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], s) == 0)
            return i;
    }
    return -1;
}

static bool fail_include(struct reader *r, const struct place *at, const json_t *value)
{
    char room[REQUEST_QUOTE_MAX + 16];
    const char *s = json_string_value(value);
    const char *near = s ? request_nearest(include_words, s) : NULL;
    const char *got = request_describe(room, value);
    if (s && find_word(include_later, s) >= 0)
        return request_fail(r, at, "\"include\" of \"%s\" is not supported yet by this version", s);
    if (near)
        return request_fail(r, at, "\"include\" does not know %s; did you mean \"%s\"?", got, near);
    return request_fail(r, at, "\"include\" takes \"headers\", \"body\", \"body_sha256\", "
                               "\"text_length\", \"redirects\" and \"curl\", not %s", got);
}

static bool set_include(struct reader *r, const struct place *at, json_t *value, void *target)
{
    struct batch_spec *spec = target;
    spec->include = 0; /* the body's list replaces the query's */
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct place here = {.up = at, .index = i};
        const json_t *word = json_array_get(value, i);
        int bit = json_is_string(word) ? find_word(include_words, json_string_value(word)) : -1;
        if (bit < 0)
            return fail_include(r, at->query ? at : &here, word);
        spec->include |= 1U << bit;
    }
    return true;
}

/* In the order of enum fail_mode. */
static const char *const fail_words[] = {"never", "any", "all", NULL};

#define AT(member) .offset = offsetof(struct batch_spec, member)

static const struct field fields[] = {
    {"requests", FIELD_ARRAY, .set = set_requests},
    {"defaults", FIELD_OBJECT, .set = set_defaults},
    {"concurrency", FIELD_INT, true, AT(concurrency), .min = 1, .max = INT32_MAX},
    {"concurrency_per_host", FIELD_INT, true, AT(concurrency_per_host), .min = 1,
     .max = INT32_MAX},
    {"deadline_ms", FIELD_MS, true, AT(deadline_us), .min = 1, .max = DEADLINE_MS_MAX},
    {"stop_on_error", FIELD_BOOL, true, AT(stop_on_error)},
    {"fail", FIELD_WORD, true, AT(fail), .words = fail_words},
    {"include", FIELD_ARRAY, .query = true, .set = set_include},
    {.name = "not_before", .kind = FIELD_LATER},
    {.name = "rate", .kind = FIELD_LATER},
    {.name = "until", .kind = FIELD_LATER},
    {.name = "dedupe", .kind = FIELD_LATER},
};

const struct field_table request_batch_table = {
    .of = "batch",
    .field_noun = "batch field",
    .where = "beside \"requests\" or into the query",
    .fields = fields,
    .count = sizeof fields / sizeof *fields,
};

/* --- layers of options ------------------------------------------------------------------------ */

void request_copy_config(struct config *to, const struct config *from)
{
    *to = (struct config){.limits = from->limits};
    to->fetch.http_version = from->fetch.http_version;
    to->fetch.max_redirects = from->fetch.max_redirects;
    to->fetch.timeout_us = from->fetch.timeout_us;
    to->fetch.connect_timeout_us = from->fetch.connect_timeout_us;
    to->fetch.deadline_us = from->fetch.deadline_us;
}

static void read_config(struct reader *r)
{
    const struct config *c = r->in->config;
    struct member_opts *opts = &r->base.opts;
    opts->http_version = (int)c->fetch.http_version;
    opts->max_redirects = (int)c->fetch.max_redirects;
    opts->timeout_us = c->fetch.timeout_us;
    opts->connect_timeout_us = c->fetch.connect_timeout_us;
    opts->queue_timeout_us = -1;
    opts->max_response_bytes = c->limits.response_bytes;
    r->spec->concurrency = CONCURRENCY;
    r->spec->concurrency_per_host = INT32_MAX;
    r->spec->deadline_us = c->fetch.deadline_us;
    r->spec->fail = FAIL_NEVER;
}

static bool read_param(struct reader *r, const struct place *at, const char *text)
{
    const struct field *option = request_find_field(&request_member_table, at->key);
    const struct field *f =
        option ? option : request_find_field(&request_batch_table, at->key);
    if (!f)
        return request_fail_unknown(r, &request_batch_table, at);
    if (!f->query && f->kind != FIELD_LATER)
        return request_fail(r, at, "\"%s\" cannot be a query parameter: it belongs into the body",
                            f->name);
    json_t *value = request_param_value(f, text ? text : "");
    if (!value)
        return request_fail(r, at, "the query parameter \"%s\" is not UTF-8", f->name);
    return request_set_field(r, f, at, value, option ? (void *)&r->base : (void *)r->spec);
}

static bool read_params(struct reader *r)
{
    const struct request_param *params = r->in->params;
    for (size_t i = 0; i < r->in->param_count; i++) {
        struct place at = {.key = params[i].name, .query = true};
        if (strcmp(params[i].name, "format") == 0)
            continue;
        /* Quadratic in known names only: an unknown one and a second one end the loop. */
        for (size_t j = 0; j < i; j++) {
            if (strcmp(params[j].name, params[i].name) == 0)
                return request_fail(r, &at, "the query parameter \"%s\" is given twice", at.key);
        }
        if (!read_param(r, &at, params[i].value))
            return false;
    }
    r->base.body_field = NULL; /* `defaults` may have a body of another kind */
    return true;
}

/* Ends the layers: from now on r->base does not change. */
static bool read_defaults(struct reader *r)
{
    static const struct place at = {.key = "defaults"};
    if (r->defaults && !request_read_object(r, &request_member_table, &at, r->defaults, &r->base))
        return false;
    r->shared = request_finish_opts(r, &r->base);
    return true;
}

/* --- members ---------------------------------------------------------------------------------- */

static bool fail_count(struct reader *r, const struct place *at)
{
    return request_fail(r, at,
                        "more members than limits.requests of this daemon, which is %lld: split "
                        "the batch",
                        (long long)r->limits->requests);
}

/* The members that request_plain.c has read become the spec's. */
static bool keep_plain(struct reader *r)
{
    struct batch_spec *spec = r->spec;
    if (!read_defaults(r))
        return false;
    spec->members = arena_resize(&spec->arena, r->list, r->list_count * sizeof *spec->members);
    if (!spec->members)
        request_out_of_memory(r);
    for (; spec->count < r->list_count; spec->count++)
        spec->members[spec->count].opts = r->shared;
    return true;
}

static bool read_array(struct reader *r, const struct place *at, const json_t *array)
{
    struct batch_spec *spec = r->spec;
    size_t count = json_array_size(array);
    if (r->plain)
        return keep_plain(r);
    if (count == 0)
        return request_fail(r, at, "there is no member: a batch has 1 to %lld",
                            (long long)r->limits->requests);
    if (count > (size_t)r->limits->requests)
        return fail_count(r, at);
    if (!read_defaults(r))
        return false;
    spec->members = request_alloc(r, count, sizeof *spec->members);
    for (; spec->count < count; spec->count++) {
        struct place here = {.up = at, .index = spec->count};
        if (!request_read_member(r, &here, json_array_get(array, spec->count),
                                 &spec->members[spec->count]))
            return false;
    }
    return true;
}

/* The document with an empty array where the members were; NULL when there is none like that. */
static json_t *load_plain(struct reader *r, const char *text, size_t len)
{
    size_t begin, end;
    if (r->in->by_jansson || !request_read_plain(r, text, len, &begin, &end))
        return NULL;
    buf_clear(&r->text);
    buf_add(&r->text, text, begin);
    buf_add(&r->text, "[]", 2);
    buf_add(&r->text, text + end, len - end);
    if (r->text.failed)
        request_out_of_memory(r);
    json_t *doc = request_load(r, NULL, r->text.data, r->text.len, 0);
    const json_t *members = json_is_object(doc) ? json_object_get(doc, "requests") : doc;
    return json_is_array(members) && json_array_size(members) == 0 ? doc : NULL;
}

/* As if load_plain() had never been: what it made does not stay in the spec. */
static void forget_plain(struct reader *r)
{
    struct arena *arena = &r->spec->arena;
    origins_fini(&r->origins);
    origins_init(&r->origins, arena);
    table_fini(&r->ids);
    arena_fini(arena);
    arena_join(arena, &r->held);
    r->containers = r->commas = 0;
    *r->error = (struct request_error){.offset = -1};
}

static json_t *load_document(struct reader *r)
{
    size_t skip = mark_len(r->in), len = r->in->body_len - skip;
    const char *text = r->in->body + skip;
    r->held = r->spec->arena;
    arena_init(&r->spec->arena);
    arena_reserve(&r->spec->arena, len); /* URLs and ids are most of it */
    json_t *doc = load_plain(r, text, len);
    r->plain = doc != NULL;
    if (doc) {
        arena_join(&r->spec->arena, &r->held);
        return doc;
    }
    forget_plain(r);
    return request_load(r, NULL, text, len, skip);
}

static bool read_json(struct reader *r)
{
    static const struct place at = {.key = "requests"};
    char got[REQUEST_QUOTE_MAX + 16];
    if (text_begin(r->in) == r->in->body_len)
        return request_fail(r, NULL, "the body is empty: an array of URLs is wanted");
    json_t *doc = load_document(r);
    if (!doc)
        return false;
    if (json_is_array(doc))
        return read_array(r, NULL, doc);
    if (!json_is_object(doc))
        return request_fail(r, NULL, "the body must be an array of members or an object with "
                                     "\"requests\", not %s", request_describe(got, doc));
    if (!request_read_object(r, &request_batch_table, NULL, doc, r->spec))
        return false;
    if (!r->requests)
        return request_fail(r, NULL, "the object has no \"requests\", the array of members");
    return read_array(r, &at, r->requests);
}

/* --- lines ------------------------------------------------------------------------------------ */

struct lines {
    const char *next, *end;
    bool comments;    /* a # begins a line that is none */
    size_t number;    /* of the line after this one */
    const char *text; /* this line, without blanks around it */
    size_t len;
};

static void lines_init(struct lines *l, const struct request_input *in, bool comments)
{
    size_t skip = mark_len(in);
    *l = (struct lines){
        .next = in->body + skip, .end = in->body + in->body_len, .comments = comments};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next line that has something to say; false at the end. */
static bool lines_next(struct lines *l)
{
    while (l->next < l->end) {
        const char *s = l->next;
        const char *newline = memchr(s, '\n', (size_t)(l->end - s));
        const char *e = newline ? newline : l->end;
        l->next = newline ? newline + 1 : l->end;
        l->number++;
        while (s < e && is_blank(*s))
            s++;
        while (s < e && is_blank(e[-1]))
            e--;
        if (s == e || (l->comments && *s == '#'))
            continue;
        l->text = s;
        l->len = (size_t)(e - s);
        return true;
    }
    return false;
}

static bool read_line(struct reader *r, const struct lines *l, struct member *m)
{
    struct place at = {.index = l->number - 1};
    if (l->comments) {
        request_set_url(r, m, request_copy(r, l->text, l->len), l->len);
        m->opts = r->shared;
        return request_take_userinfo(r, &at, m);
    }
    if (!r->in->by_jansson && request_read_plain_line(r, l->text, l->len, m)) {
        m->opts = r->shared;
        return true;
    }
    json_t *value = request_load(r, &at, l->text, l->len, (size_t)(l->text - r->in->body));
    return value && request_read_member(r, &at, value, m);
}

/* Counts the lines first, so that the members are one array of the right size. */
static bool read_lines(struct reader *r, bool comments)
{
    struct batch_spec *spec = r->spec;
    struct lines l;
    size_t count = 0;
    for (lines_init(&l, r->in, comments); lines_next(&l); count++) {
        struct place at = {.index = l.number - 1};
        if (count == (size_t)r->limits->requests)
            return fail_count(r, &at);
    }
    if (count == 0)
        return request_fail(r, NULL, "there is no %s in the body: one a line is wanted",
                            comments ? "URL" : "member");
    if (!read_defaults(r))
        return false;
    arena_reserve(&spec->arena, r->in->body_len); /* URLs are most of it */
    spec->members = request_alloc(r, count, sizeof *spec->members);
    for (lines_init(&l, r->in, comments); lines_next(&l); spec->count++) {
        if (!read_line(r, &l, &spec->members[spec->count]))
            return false;
    }
    return true;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int lowered(int value, int64_t limit)
{
    return value > limit ? (int)limit : value;
}

static bool read_all(struct reader *r)
{
    struct batch_spec *spec = r->spec;
    enum request_type type = r->in->type == REQUEST_GUESS ? guess(r->in) : r->in->type;
    read_config(r);
    if (!read_params(r))
        return false;
    if (!(type == REQUEST_JSON ? read_json(r) : read_lines(r, type != REQUEST_NDJSON)))
        return false;
    spec->concurrency = lowered(spec->concurrency, r->limits->in_flight);
    spec->concurrency_per_host = lowered(spec->concurrency_per_host, r->limits->per_host);
    return true;
}

static bool fail_memory(struct reader *r)
{
    if (r->budget.exhausted) {
        (void)request_fail(r, NULL,
                           "reading this JSON takes more than the %zu KiB that a body of its size "
                           "may use: split the batch, or send large payloads as `body` instead of "
                           "`json`",
                           r->budget.limit / 1024);
        r->error->status = 413;
        return false;
    }
    (void)request_fail(r, NULL, "out of memory");
    r->error->status = 500;
    return false;
}

/* A function of its own, so that the jump finds no changed local variables. */
static bool guarded_read(struct reader *r)
{
    if (setjmp(r->budget.out) != 0)
        return fail_memory(r);
    return read_all(r);
}

struct batch_spec *request_parse(const struct request_input *in, struct request_error *error)
{
    struct request_input input = *in;
    struct reader r = {.in = &input, .limits = &in->config->limits, .error = error};
    if (!input.body)
        input.body = "";
    *error = (struct request_error){.offset = -1};
    r.spec = calloc(1, sizeof *r.spec);
    if (!r.spec) {
        (void)fail_memory(&r);
        return NULL;
    }
    arena_init(&r.spec->arena);
    origins_init(&r.origins, &r.spec->arena);
    request_memory_begin(&r);
    bool ok = guarded_read(&r);
    request_memory_end(&r);
    buf_fini(&r.text);
    table_fini(&r.ids);
    arena_fini(&r.held);
    origins_fini(&r.origins);
    if (ok)
        return r.spec;
    spec_destroy(r.spec);
    return NULL;
}

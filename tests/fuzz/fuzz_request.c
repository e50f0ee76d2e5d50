/* SPDX-License-Identifier: MIT
 *
 * fuzz_request - bodies and query strings of POST /v1/batch through request_parse(), twice: with
 * the short way for plain members, and by jansson alone. Nobody may be able to tell which of the
 * two read a body.
 *
 * The input is one line, its first byte the kind of body (j JSON, n NDJSON, u URL list, anything
 * else a guess; J, N, U, G: and URLs may have a user name and a password) and the rest the query
 * string, and behind the line feed the body.
 *
 * Promised: a refusal has a status, words in UTF-8, an offset that lies in the body and a pointer
 * that leads to something in it; what is taken is within its limits: members have a URL that can
 * be fetched or a reason, methods and header fields that may be sent, ids of their own; credentials
 * are Basic ones, there only where a URL may have some, beside no other Authorization, and what an
 * answer shows of such a URL is the one that is fetched; and 24 times the body's size and 1 MiB of
 * memory are enough to read it, of which nothing is left.
 */
#include "fuzz.h"

#include <strings.h>

#include <jansson.h>

#include "buf.h"
#include "config.h"
#include "encode.h"
#include "parse.h"
#include "request.h"
#include "target.h"
#include "utf8.h"

#define PARAMS_MAX 64
#define DAY_US INT64_C(86400000000)

static struct config *config;

static void make_config(void)
{
    static const char *const overrides[] = {
        "limits.requests=40", "limits.queued=1000", "limits.in_flight=20", "limits.per_host=10",
    };
    struct buf errors;
    if (config != NULL)
        return;
    buf_init(&errors, 0);
    config = config_load(NULL, overrides, sizeof overrides / sizeof *overrides, &errors);
    FUZZ_ASSERT(config != NULL);
    buf_fini(&errors);
}

/* --- a refusal --- */

static const json_t *step(const json_t *value, const char *token, size_t n)
{
    char key[200];
    int64_t index;
    FUZZ_ASSERT(n < sizeof key);
    memcpy(key, token, n);
    key[n] = '\0';
    if (json_is_array(value) && parse_int(key, 0, INT32_MAX, &index))
        return json_array_get(value, (size_t)index);
    return json_object_get(value, key);
}

/* All of the pointer but its last step leads somewhere: the last may be a field that is missing. */
static void check_pointer(const char *pointer, const char *body, size_t len)
{
    json_error_t e;
    json_t *doc = json_loadb(body, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    const json_t *at = doc;
    while (doc != NULL && *pointer == '/') {
        size_t n = strcspn(++pointer, "/");
        FUZZ_ASSERT(at != NULL);
        at = step(at, pointer, n);
        pointer += n;
    }
    json_decref(doc);
}

static void check_error(const struct request_input *in, const struct request_error *e)
{
    size_t pointer = strnlen(e->pointer, sizeof e->pointer);
    size_t detail = strnlen(e->detail, sizeof e->detail);
    FUZZ_ASSERT(e->status == 400 || e->status == 413);
    FUZZ_ASSERT(e->offset >= -1 && e->offset <= (int64_t)in->body_len);
    FUZZ_ASSERT(pointer < sizeof e->pointer && detail < sizeof e->detail && detail > 0);
    FUZZ_ASSERT(utf8_valid(e->pointer, pointer) && utf8_valid(e->detail, detail));
    FUZZ_ASSERT(pointer == 0 || e->pointer[0] == '/' || e->pointer[0] == '?');
    for (size_t i = 0; i < detail; i++)
        FUZZ_ASSERT((unsigned char)e->detail[i] >= 0x20 && e->detail[i] != 0x7f);
    bool json = in->type == REQUEST_JSON && e->pointer[0] == '/' && e->offset < 0;
    if (json && pointer < 100 && strchr(e->pointer, '~') == NULL) /* longer ones may be cut */
        check_pointer(e->pointer, in->body, in->body_len);
}

/* --- what is taken --- */

static void check_header(const struct spec_header *h)
{
    static const char *const refused[] = {
        "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer",
        "Upgrade", "Expect",
    };
    FUZZ_ASSERT(parse_is_token(h->name, strlen(h->name)));
    FUZZ_ASSERT(parse_is_field_value(h->value, strlen(h->value)));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        FUZZ_ASSERT(strcasecmp(h->name, refused[i]) != 0);
    FUZZ_ASSERT(strncasecmp(h->name, "Proxy-", 6) != 0);
}

static void check_authorization(const struct member_opts *o)
{
    static uint8_t text[20000];
    size_t n = strlen(o->authorization), decoded;
    FUZZ_ASSERT(strncmp(o->authorization, "Basic ", 6) == 0 && n < sizeof text);
    FUZZ_ASSERT(parse_base64(o->authorization + 6, n - 6, text, &decoded));
    FUZZ_ASSERT(memchr(text, ':', decoded) != NULL);
    for (size_t i = 0; i < decoded; i++)
        FUZZ_ASSERT(text[i] >= 0x20 && text[i] != 0x7f);
    for (size_t i = 0; i < o->header_count; i++)
        FUZZ_ASSERT(strcasecmp(o->headers[i].name, "Authorization") != 0);
}

static void check_opts(const struct member_opts *o)
{
    if (o->authorization != NULL)
        check_authorization(o);
    FUZZ_ASSERT(o != NULL && parse_is_token(o->method, strlen(o->method)));
    FUZZ_ASSERT(strcasecmp(o->method, "CONNECT") != 0 && strcasecmp(o->method, "TRACE") != 0);
    for (size_t i = 0; i < o->header_count; i++)
        check_header(&o->headers[i]);
    FUZZ_ASSERT(o->max_redirects >= 0 && o->http_version >= 0 && o->http_version <= HTTP_VERSION_2);
    FUZZ_ASSERT(o->timeout_us > 0 && o->timeout_us <= DAY_US);
    FUZZ_ASSERT(o->connect_timeout_us > 0 && o->connect_timeout_us <= DAY_US);
    FUZZ_ASSERT(o->queue_timeout_us >= -1 && o->queue_timeout_us <= DAY_US);
    FUZZ_ASSERT(o->max_response_bytes >= 0);
    FUZZ_ASSERT(o->max_response_bytes <= config->limits.response_bytes);
}

static void check_url(const struct member *m)
{
    FUZZ_ASSERT(m->url != NULL && m->url[m->url_len] == '\0');
    if (m->origin == NULL) {
        FUZZ_ASSERT(m->why != NULL && m->why[0] != '\0');
        return;
    }
    FUZZ_ASSERT(strlen(m->text) == m->text_len && strncmp(m->text, "http", 4) == 0);
    for (uint32_t i = 0; i < m->text_len; i++)
        FUZZ_ASSERT(m->text[i] > 0x20 && m->text[i] < 0x7f);
}

/* As posted, with what no answer shows left out, it is the URL that is fetched. */
static void check_shown(const struct member *m)
{
    struct arena arena;
    struct origins origins;
    struct target t;
    const char *why;
    size_t at = 0, secret = encode_userinfo(m->url, m->url_len, m->origin != NULL, &at);
    size_t n = m->url_len - secret;
    FUZZ_ASSERT((secret > 0) == (m->opts->authorization != NULL));
    char *shown = malloc(n + 1);
    FUZZ_ASSERT(shown != NULL);
    memcpy(shown, m->url, at);
    memcpy(shown + at, m->url + at + secret, m->url_len - at - secret + 1);
    arena_init(&arena);
    origins_init(&origins, &arena);
    FUZZ_ASSERT(target_parse(&origins, shown, n, &t, &why));
    FUZZ_ASSERT(strcmp(t.text, m->text) == 0 && strcmp(t.origin->key, m->origin->key) == 0);
    origins_fini(&origins);
    arena_fini(&arena);
    free(shown);
}

static void check_spec(const struct batch_spec *s, bool userinfo)
{
    FUZZ_ASSERT(s->count >= 1 && s->count <= (size_t)config->limits.requests);
    FUZZ_ASSERT(s->concurrency >= 1 && s->concurrency <= config->limits.in_flight);
    FUZZ_ASSERT(s->concurrency_per_host >= 1);
    FUZZ_ASSERT(s->concurrency_per_host <= config->limits.per_host);
    FUZZ_ASSERT(s->deadline_us > 0 && s->deadline_us <= DAY_US);
    for (size_t i = 0; i < s->count; i++) {
        const struct member *m = &s->members[i];
        check_url(m);
        FUZZ_ASSERT(userinfo || m->opts->authorization == NULL);
        FUZZ_ASSERT(m->origin != NULL || m->opts->authorization == NULL);
        if (m->origin != NULL)
            check_shown(m);
        if (i == 0 || m->opts != m[-1].opts)
            check_opts(m->opts);
        if (m->id == NULL)
            continue;
        FUZZ_ASSERT(strlen(m->id) <= 256 && utf8_valid(m->id, strlen(m->id)));
        for (size_t k = 0; k < i; k++)
            FUZZ_ASSERT(s->members[k].id == NULL || strcmp(s->members[k].id, m->id) != 0);
    }
}

/* --- both ways --- */

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_same_opts(const struct member_opts *a, const struct member_opts *b)
{
    FUZZ_ASSERT(strcmp(a->method, b->method) == 0 && a->header_count == b->header_count);
    for (size_t i = 0; i < a->header_count; i++) {
        FUZZ_ASSERT(same_text(a->headers[i].name, b->headers[i].name));
        FUZZ_ASSERT(same_text(a->headers[i].value, b->headers[i].value));
    }
    FUZZ_ASSERT(same_text(a->authorization, b->authorization));
    FUZZ_ASSERT((a->body == NULL) == (b->body == NULL) && a->body_len == b->body_len);
    FUZZ_ASSERT(a->body == NULL || memcmp(a->body, b->body, a->body_len) == 0);
    FUZZ_ASSERT(a->body_is_json == b->body_is_json && a->fresh_connection == b->fresh_connection);
    FUZZ_ASSERT(a->http_version == b->http_version && a->max_redirects == b->max_redirects);
    FUZZ_ASSERT(a->timeout_us == b->timeout_us && a->connect_timeout_us == b->connect_timeout_us);
    FUZZ_ASSERT(a->queue_timeout_us == b->queue_timeout_us && a->insecure == b->insecure);
    FUZZ_ASSERT(a->max_response_bytes == b->max_response_bytes);
}

static void check_same_member(const struct member *a, const struct member *b)
{
    FUZZ_ASSERT(a->url_len == b->url_len && memcmp(a->url, b->url, a->url_len) == 0);
    FUZZ_ASSERT(same_text(a->id, b->id));
    FUZZ_ASSERT((a->origin == NULL) == (b->origin == NULL) && strcmp(a->text, b->text) == 0);
    FUZZ_ASSERT(a->origin == NULL || strcmp(a->origin->key, b->origin->key) == 0);
    check_same_opts(a->opts, b->opts);
}

static void check_same_spec(const struct batch_spec *a, const struct batch_spec *b)
{
    FUZZ_ASSERT(a->count == b->count && a->include == b->include && a->fail == b->fail);
    FUZZ_ASSERT(a->concurrency == b->concurrency && a->deadline_us == b->deadline_us);
    FUZZ_ASSERT(a->concurrency_per_host == b->concurrency_per_host);
    FUZZ_ASSERT(a->stop_on_error == b->stop_on_error);
    for (size_t i = 0; i < a->count; i++)
        check_same_member(&a->members[i], &b->members[i]);
}

static void check_both(struct request_input *in)
{
    struct request_error e, other_e;
    struct batch_spec *spec = request_parse(in, &e);
    in->by_jansson = true;
    struct batch_spec *other = request_parse(in, &other_e);
    FUZZ_ASSERT((spec == NULL) == (other == NULL));
    if (spec != NULL) {
        check_spec(spec, in->userinfo);
        check_same_spec(spec, other);
    } else {
        check_error(in, &e);
        FUZZ_ASSERT(e.status == other_e.status && e.offset == other_e.offset);
        FUZZ_ASSERT(strcmp(e.pointer, other_e.pointer) == 0);
        FUZZ_ASSERT(strcmp(e.detail, other_e.detail) == 0);
    }
    spec_destroy(spec);
    spec_destroy(other);
}

/* --- the input --- */

/* As http_routes_read does it; what it would refuse is left out here. */
static size_t split_query(char *query, struct request_param *params)
{
    size_t count = 0;
    for (char *at; count < PARAMS_MAX && (at = strsep(&query, "&")) != NULL;) {
        char *equals = strchr(at, '='), *value = equals != NULL ? equals + 1 : at + strlen(at);
        if (equals != NULL)
            *equals = '\0';
        size_t name_len = parse_percent_decode(at, strlen(at));
        size_t value_len = parse_percent_decode(value, strlen(value));
        if (name_len == 0 || name_len == (size_t)-1 || value_len == (size_t)-1)
            continue;
        at[name_len] = value[value_len] = '\0';
        params[count++] = (struct request_param){at, value};
    }
    return count;
}

static enum request_type type_of(unsigned byte)
{
    switch (byte) {
    case 'j':
    case 'J':
        return REQUEST_JSON;
    case 'n':
    case 'N':
        return REQUEST_NDJSON;
    case 'u':
    case 'U':
        return REQUEST_URI_LIST;
    default:
        return REQUEST_GUESS;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request_param params[PARAMS_MAX];
    const char *line;
    size_t n = fuzz_take_until(&data, &size, '\n', &line);
    char *query = fuzz_text(n > 0 ? line + 1 : line, n > 0 ? n - 1 : 0);
    char *body = fuzz_copy(data, size);
    make_config();
    struct request_input in = {
        .body = body,
        .body_len = size,
        .type = type_of(n > 0 ? (unsigned char)line[0] : 0),
        .params = params,
        .param_count = split_query(query, params),
        .config = config,
        .userinfo = n > 0 && strchr("JNUG", line[0]) != NULL && line[0] != '\0',
    };
    check_both(&in);
    free(body);
    free(query);
    return 0;
}

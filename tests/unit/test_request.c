/* SPDX-License-Identifier: MIT
 *
 * request: what each body and query string becomes, told as one line of text a member, and what is
 * refused, with status, pointer, offset and words. Then what is hostile: every byte, JSONTestSuite,
 * bodies that would be large in memory, and memory that runs out at each allocation. arena.c, buf.c
 * and request.c are included, so that theirs can fail; jansson takes all of its from an arena.
 */
#include "request.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "buf.h"
#include "parse.h"
#include "testdata.h"
#include "utf8.h"

static long allocations_left = -1; /* -1 = no end */

static bool allocation_fails(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}

static void *test_request_malloc(size_t n)
{
    return allocation_fails() ? NULL : malloc(n);
}

static void *test_request_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : calloc(count, size);
}

static void *test_request_realloc(void *p, size_t n)
{
    return allocation_fails() ? NULL : realloc(p, n);
}

#define realloc test_request_realloc
#include "buf.c"
#define malloc test_request_malloc
#include "arena.c"
#undef malloc
#undef realloc
#define calloc test_request_calloc
#include "request.c"
#undef calloc

/* --- help ------------------------------------------------------------------------------------ */

static struct config config;
static bool takes_userinfo;

static int setup(void **state)
{
    (void)state;
    allocations_left = -1;
    config = (struct config){0};
    config.limits.requests = 10000;
    config.limits.in_flight = 256;
    config.limits.per_host = 100;
    config.limits.response_bytes = 10 << 20;
    config.fetch.timeout_us = 30000000;
    config.fetch.connect_timeout_us = 5000000;
    config.fetch.deadline_us = 60000000;
    config.fetch.max_redirects = 10;
    config.fetch.http_version = HTTP_VERSION_AUTO;
    return 0;
}

static void tell(struct buf *b, const struct batch_spec *s);

/* Members that follow one of their own origin. */
static size_t shared_origins(const struct batch_spec *s)
{
    size_t n = 0;
    for (size_t i = 1; i < s->count; i++)
        n += s->members[i].origin == s->members[i - 1].origin;
    return n;
}

/* The short way for plain members must not be seen from outside: jansson alone says the same. */
static void check_same(const struct request_input *in, const struct batch_spec *spec,
                       const struct request_error *error)
{
    struct request_input by_jansson = *in;
    struct request_error other_error;
    struct buf told, other_told;
    by_jansson.by_jansson = true;
    struct batch_spec *other = request_parse(&by_jansson, &other_error);
    if (!spec != !other)
        fail_msg("%.*s: %s", (int)in->body_len, in->body,
                 spec ? "taken, but not by jansson" : error->detail);
    buf_init(&told, 0);
    buf_init(&other_told, 0);
    if (spec) {
        tell(&told, spec);
        tell(&other_told, other);
        assert_int_equal(spec->count, other->count);
        assert_string_equal(buf_cstr(&told), buf_cstr(&other_told));
        assert_int_equal(shared_origins(spec), shared_origins(other));
    } else {
        assert_int_equal(error->status, other_error.status);
        assert_int_equal(error->offset, other_error.offset);
        assert_string_equal(error->pointer, other_error.pointer);
        assert_string_equal(error->detail, other_error.detail);
    }
    buf_fini(&told);
    buf_fini(&other_told);
    spec_destroy(other);
}

static struct batch_spec *parse_input(const struct request_input *in, struct request_error *error)
{
    struct batch_spec *spec = request_parse(in, error);
    if (allocations_left < 0)
        check_same(in, spec, error);
    return spec;
}

static struct batch_spec *parse_bytes(const char *body, size_t len, enum request_type type,
                                      struct request_error *error)
{
    /* A block of its own size, so that a byte read past the end is seen. */
    char *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, body, len);
    struct request_input in = {.body = exact,
                               .body_len = len,
                               .type = type,
                               .config = &config,
                               .userinfo = takes_userinfo};
    struct batch_spec *spec = parse_input(&in, error);
    free(exact);
    return spec;
}

/* query: "a=b&c=d", taken as it stands. */
static struct batch_spec *parse_query(const char *body, enum request_type type, const char *query,
                                      struct request_error *error)
{
    char text[400];
    struct request_param params[16];
    struct request_input in = {
        .body = body, .body_len = strlen(body), .type = type, .params = params, .config = &config};
    assert_true(snprintf(text, sizeof text, "%s", query) < (int)sizeof text);
    for (char *p = text; *p;) {
        char *end = p + strcspn(p, "&"), *equals = p + strcspn(p, "=&");
        char *next = *end ? end + 1 : end;
        params[in.param_count].name = p;
        params[in.param_count++].value = *equals == '=' ? equals + 1 : NULL;
        *equals = *end = '\0';
        p = next;
    }
    return parse_input(&in, error);
}

static void tell_number(struct buf *b, const char *name, int64_t value, int64_t usual)
{
    if (value != usual)
        buf_printf(b, " %s=%" PRId64, name, value);
}

static void tell_member(struct buf *b, const struct member *m)
{
    const struct member_opts *o = m->opts;
    assert_int_equal(m->url[m->url_len], '\0');
    buf_printf(b, "\n%s ", o->method);
    buf_add(b, m->url, m->url_len);
    assert_non_null(m->text);
    if (m->origin)
        assert_int_equal(m->text_len, strlen(m->text));
    if (m->id)
        buf_printf(b, " id=%s", m->id);
    tell_number(b, "timeout", o->timeout_us, 30000000);
    tell_number(b, "connect", o->connect_timeout_us, 5000000);
    tell_number(b, "queue", o->queue_timeout_us, -1);
    tell_number(b, "redirects", o->max_redirects, 10);
    tell_number(b, "max", o->max_response_bytes, 10 << 20);
    tell_number(b, "http", o->http_version, HTTP_VERSION_AUTO);
    tell_number(b, "fresh", o->fresh_connection, false);
    tell_number(b, "insecure", o->insecure, false);
    if (o->authorization)
        buf_printf(b, " (%s) %s", o->authorization, m->text);
    for (size_t i = 0; i < o->header_count; i++)
        buf_printf(b, " {%s: %s}", o->headers[i].name, o->headers[i].value);
    if (o->body) {
        buf_add_str(b, o->body_is_json ? " json=" : " body=");
        buf_add(b, o->body, o->body_len);
    }
}

/* What is not as usual: the batch, then a line for each member. */
static void tell(struct buf *b, const struct batch_spec *s)
{
    tell_number(b, "concurrency", s->concurrency, 50);
    tell_number(b, "per_host", s->concurrency_per_host, 100);
    tell_number(b, "deadline", s->deadline_us, 60000000);
    tell_number(b, "stop", s->stop_on_error, false);
    tell_number(b, "fail", s->fail, FAIL_NEVER);
    tell_number(b, "include", s->include, 0);
    for (size_t i = 0; i < s->count; i++)
        tell_member(b, &s->members[i]);
}

/* --- what is taken --------------------------------------------------------------------------- */

struct taken {
    const char *body, *query, *told;
    enum request_type type;
};

#define J(text) "[{\"url\":\"u\"," text "}]"     /* one member with these fields */
#define B(text) "{\"requests\":[\"u\"]," text "}" /* a batch with these fields */
#define D(defaults, text) "{\"requests\":[{\"url\":\"u\"" text "}],\"defaults\":{" defaults "}}"

static const struct taken taken[] = {
    /* the types of body */
    {"[\"http://a/\",\"http://b/\"]", "", "\nGET http://a/\nGET http://b/", REQUEST_JSON},
    {" \r\n\t[ \"u\" ] \n", "", "\nGET u", REQUEST_JSON},
    {"\xEF\xBB\xBF[\"u\"]", "", "\nGET u", REQUEST_JSON},
    {"{\"requests\":[\"u\"]}", "", "\nGET u", REQUEST_JSON},
    {"[\"u\",{\"url\":\"v\",\"id\":\"x\"}]", "", "\nGET u\nGET v id=x", REQUEST_JSON},
    {"\"u\"\n{\"url\":\"v\"}\n", "", "\nGET u\nGET v", REQUEST_NDJSON},
    {"\r\n\"u\"\r\n \t \n\n{\"url\":\"v\"}", "", "\nGET u\nGET v", REQUEST_NDJSON},
    {"http://a/\nhttp://b/\n", "", "\nGET http://a/\nGET http://b/", REQUEST_URI_LIST},
    {"# x\r\n \thttp://a/ \t\r\n\r\n  # y\nb#c", "", "\nGET http://a/\nGET b#c", REQUEST_URI_LIST},
    {"\xEF\xBB\xBF#x\nu", "", "\nGET u", REQUEST_URI_LIST},
    {"[\"u\"]", "", "\nGET [\"u\"]", REQUEST_URI_LIST},
    {"\n [\"u\"]", "", "\nGET u", REQUEST_GUESS},
    {"\xEF\xBB\xBF {\"requests\":[\"u\"]}", "", "\nGET u", REQUEST_GUESS},
    {"\"u\"", "", "\nGET \"u\"", REQUEST_GUESS},
    {"#[\nu", "", "\nGET u", REQUEST_GUESS},
    /* the text of a URL is not judged here */
    {"[\"\",\" x \",\"\\u00e9\\n\"]", "", "\nGET \nGET  x \nGET \xC3\xA9\n", REQUEST_JSON},
    {"\xFF\xFE\n\x01", "", "\nGET \xFF\xFE\nGET \x01", REQUEST_URI_LIST},
    /* batch fields */
    {B("\"concurrency\":7"), "", " concurrency=7\nGET u", REQUEST_JSON},
    {B("\"concurrency\":1000,\"concurrency_per_host\":5000"), "", " concurrency=256\nGET u",
     REQUEST_JSON},
    {B("\"concurrency\":2147483647"), "", " concurrency=256\nGET u", REQUEST_JSON},
    {B("\"concurrency\":5.0"), "", " concurrency=5\nGET u", REQUEST_JSON},
    {B("\"concurrency_per_host\":2"), "", " per_host=2\nGET u", REQUEST_JSON},
    {B("\"deadline_ms\":1"), "", " deadline=1000\nGET u", REQUEST_JSON},
    {B("\"deadline_ms\":86400000"), "", " deadline=86400000000\nGET u", REQUEST_JSON},
    {B("\"stop_on_error\":true,\"fail\":\"any\""), "", " stop=1 fail=1\nGET u", REQUEST_JSON},
    {B("\"fail\":\"all\""), "", " fail=2\nGET u", REQUEST_JSON},
    {B("\"fail\":\"never\",\"stop_on_error\":false,\"defaults\":{}"), "", "\nGET u", REQUEST_JSON},
    {B("\"include\":[]"), "", "\nGET u", REQUEST_JSON},
    {B("\"include\":[\"headers\"]"), "", " include=1\nGET u", REQUEST_JSON},
    {B("\"include\":[\"body\",\"body\"]"), "", " include=2\nGET u", REQUEST_JSON},
    {B("\"include\":[\"headers\",\"body\",\"body_sha256\",\"text_length\",\"redirects\","
       "\"curl\"]"), "", " include=63\nGET u", REQUEST_JSON},
    /* member fields */
    {J("\"method\":\"PuT\""), "", "\nPuT u", REQUEST_JSON},
    {J("\"method\":\"M-SEARCH\""), "", "\nM-SEARCH u", REQUEST_JSON},
    {J("\"timeout_ms\":1"), "", "\nGET u timeout=1000", REQUEST_JSON},
    {J("\"timeout_ms\":1.5"), "", "\nGET u timeout=1500", REQUEST_JSON},
    {J("\"timeout_ms\":2.0006"), "", "\nGET u timeout=2001", REQUEST_JSON},
    {J("\"timeout_ms\":1e3"), "", "\nGET u timeout=1000000", REQUEST_JSON},
    {J("\"timeout_ms\":86400000"), "", "\nGET u timeout=86400000000", REQUEST_JSON},
    {J("\"connect_timeout_ms\":20"), "", "\nGET u connect=20000", REQUEST_JSON},
    {J("\"queue_timeout_ms\":20"), "", "\nGET u queue=20000", REQUEST_JSON},
    {J("\"queue_timeout_ms\":null"), "", "\nGET u", REQUEST_JSON},
    {J("\"max_redirects\":0"), "", "\nGET u redirects=0", REQUEST_JSON},
    {J("\"max_redirects\":100"), "", "\nGET u redirects=100", REQUEST_JSON},
    {J("\"max_response_bytes\":1"), "", "\nGET u max=1", REQUEST_JSON},
    {J("\"max_response_bytes\":10485760"), "", "\nGET u", REQUEST_JSON},
    {J("\"http_version\":\"1.1\""), "", "\nGET u http=1", REQUEST_JSON},
    {J("\"http_version\":\"2\""), "", "\nGET u http=2", REQUEST_JSON},
    {J("\"http_version\":\"auto\""), "", "\nGET u", REQUEST_JSON},
    {J("\"fresh_connection\":true"), "", "\nGET u fresh=1", REQUEST_JSON},
    {J("\"insecure\":true"), "", "\nGET u insecure=1", REQUEST_JSON},
    {J("\"insecure\":false"), "insecure=true", "\nGET u", REQUEST_JSON},
    {D("\"insecure\":true", ""), "", "\nGET u insecure=1", REQUEST_JSON},
    {"u", "insecure=1", "\nGET u insecure=1", REQUEST_URI_LIST},
    {J("\"id\":\"\""), "", "\nGET u id=", REQUEST_JSON},
    {J("\"id\":\"\\u0001\\n \\ud83d\\ude00\""), "", "\nGET u id=\x01\n \xF0\x9F\x98\x80",
     REQUEST_JSON},
    /* bodies */
    {J("\"body\":\"abc\""), "", "\nPOST u body=abc", REQUEST_JSON},
    {J("\"body\":\"\""), "", "\nPOST u body=", REQUEST_JSON},
    {J("\"body\":\"x\",\"method\":\"GET\""), "", "\nGET u body=x", REQUEST_JSON},
    {J("\"body_base64\":\"YWI=\""), "", "\nPOST u body=ab", REQUEST_JSON},
    {J("\"body_base64\":\"\""), "", "\nPOST u body=", REQUEST_JSON},
    {J("\"json\":null"), "", "\nPOST u json=null", REQUEST_JSON},
    {J("\"json\":\"a\\u00e9/\\n\""), "", "\nPOST u json=\"a\xC3\xA9/\\n\"", REQUEST_JSON},
    {J("\"json\": { \"b\" : 1 , \"a\" : [ ] , \"\" : { } , \"A\":true}"), "",
     "\nPOST u json={\"b\":1,\"a\":[],\"\":{},\"A\":true}", REQUEST_JSON},
    {J("\"json\":[0.1,1.5e300,-0.0,1e2,123456789012345.6]"), "",
     "\nPOST u json=[0.1,1.5e300,-0.0,100.0,123456789012346.0]", REQUEST_JSON},
    {J("\"json\":[9223372036854775807,-9223372036854775808]"), "",
     "\nPOST u json=[9223372036854775807,-9223372036854775808]", REQUEST_JSON},
    /* headers */
    {J("\"headers\":{}"), "", "\nGET u", REQUEST_JSON},
    {J("\"headers\":{\"A\":\"1\",\"b\":[\"2\",\"3\"],\"C\":[]}"), "",
     "\nGET u {A: 1} {b: 2} {b: 3}", REQUEST_JSON},
    {J("\"headers\":{\"A\":\"\",\"B\":\" \\t\",\"C\":\" x\\ty\\t \"}"), "",
     "\nGET u {A: } {B: } {C: x\ty}", REQUEST_JSON},
    {J("\"headers\":{\"A\":\"\\u00e9\",\"a\":\"2\"}"), "", "\nGET u {A: \xC3\xA9} {a: 2}",
     REQUEST_JSON},
    {J("\"headers\":{\"Hosts\":\"1\",\"Proxy\":\"2\",\"ATE\":\"3\",\"Accept-Encoding\":\"\"}"), "",
     "\nGET u {Hosts: 1} {Proxy: 2} {ATE: 3} {Accept-Encoding: }", REQUEST_JSON},
    /* defaults, wherever they stand */
    {D("\"timeout_ms\":5", ""), "", "\nGET u timeout=5000", REQUEST_JSON},
    {"{\"defaults\":{\"timeout_ms\":5},\"requests\":[\"u\",{\"url\":\"v\",\"timeout_ms\":6}]}", "",
     "\nGET u timeout=5000\nGET v timeout=6000", REQUEST_JSON},
    {D("\"queue_timeout_ms\":5", ",\"queue_timeout_ms\":null"), "", "\nGET u", REQUEST_JSON},
    {D("\"method\":\"PUT\"", ",\"body\":\"x\""), "", "\nPUT u body=x", REQUEST_JSON},
    {D("\"body\":\"x\"", ""), "", "\nPOST u body=x", REQUEST_JSON},
    {D("\"body\":\"x\"", ",\"json\":[1]"), "", "\nPOST u json=[1]", REQUEST_JSON},
    {D("\"json\":[1]", ",\"body\":\"x\""), "", "\nPOST u body=x", REQUEST_JSON},
    {D("\"json\":[1]", ",\"body_base64\":\"YWI=\""), "", "\nPOST u body=ab", REQUEST_JSON},
    {D("\"json\":[1]", ",\"id\":\"i\""), "", "\nPOST u id=i json=[1]", REQUEST_JSON},
    {D("\"headers\":{\"A\":\"1\",\"B\":\"2\"}", ",\"headers\":{\"b\":\"3\",\"C\":\"4\"}"), "",
     "\nGET u {A: 1} {b: 3} {C: 4}", REQUEST_JSON},
    {D("\"headers\":{\"A\":[\"1\",\"2\"],\"B\":\"2\"}", ",\"headers\":{\"a\":[]}"), "",
     "\nGET u {B: 2}", REQUEST_JSON},
    {D("\"headers\":{\"A\":\"1\"}", ",\"max_redirects\":3"), "", "\nGET u redirects=3 {A: 1}",
     REQUEST_JSON},
    /* the query string */
    {"u", "concurrency=20&timeout_ms=500&include=headers,body",
     " concurrency=20 include=3\nGET u timeout=500000", REQUEST_URI_LIST},
    {"[\"u\"]", "format=xml&format=json", "\nGET u", REQUEST_JSON},
    {"u", "include=", "\nGET u", REQUEST_URI_LIST},
    {"u", "include=,body, curl,", " include=34\nGET u", REQUEST_URI_LIST},
    {"\"u\"", "timeout_ms=1.5&method=HEAD", "\nHEAD u timeout=1500", REQUEST_NDJSON},
    {"u", "stop_on_error=true&fresh_connection=1&fail=all",
     " stop=1 fail=2\nGET u fresh=1", REQUEST_URI_LIST},
    {"u", "stop_on_error=no&http_version=1.1", "\nGET u http=1", REQUEST_URI_LIST},
    {"u", "queue_timeout_ms=null&max_redirects=0&max_response_bytes=9", "\nGET u redirects=0 max=9",
     REQUEST_URI_LIST},
    {"u", "body=a b", "\nPOST u body=a b", REQUEST_URI_LIST},
    {"u", "body_base64=YWI=", "\nPOST u body=ab", REQUEST_URI_LIST},
    {"u", "deadline_ms=1e3&concurrency_per_host=3&connect_timeout_ms=7",
     " per_host=3 deadline=1000000\nGET u connect=7000", REQUEST_URI_LIST},
    /* precedence: member, defaults, query, configuration */
    {B("\"concurrency\":3,\"include\":[\"curl\"]"), "concurrency=4&include=body&deadline_ms=2",
     " concurrency=3 deadline=2000 include=32\nGET u", REQUEST_JSON},
    {D("\"timeout_ms\":2,\"max_redirects\":2", ",\"max_redirects\":1"),
     "timeout_ms=3&max_redirects=3&connect_timeout_ms=3",
     "\nGET u timeout=2000 connect=3000 redirects=1", REQUEST_JSON},
    {D("\"json\":[1]", ""), "body=x", "\nPOST u json=[1]", REQUEST_JSON},
};

static void check_taken(const struct taken *t)
{
    struct request_error error;
    struct buf told;
    struct batch_spec *spec = parse_query(t->body, t->type, t->query, &error);
    if (!spec)
        fail_msg("%s: %s", t->body, error.detail);
    buf_init(&told, 0);
    tell(&told, spec);
    if (strcmp(buf_cstr(&told), t->told) != 0)
        fail_msg("%s ? %s: %s", t->body, t->query, buf_cstr(&told));
    buf_fini(&told);
    spec_destroy(spec);
}

static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        check_taken(&taken[i]);
}

/* --- what is refused ------------------------------------------------------------------------- */

struct refused {
    const char *body, *query, *pointer, *words;
    int64_t offset;
    enum request_type type;
};

#define NO_SYNTAX -1, REQUEST_JSON
#define LATER "is not supported yet by this version"

static const struct refused refused[] = {
    /* empty */
    {"", "", "", "the body is empty", NO_SYNTAX},
    {" \r\n\t", "", "", "the body is empty", NO_SYNTAX},
    {"\xEF\xBB\xBF", "", "", "the body is empty", NO_SYNTAX},
    {"", "", "", "there is no URL in the body", -1, REQUEST_GUESS},
    {"# only\n\n \t\r\n", "", "", "there is no URL in the body", -1, REQUEST_URI_LIST},
    {"\n \n", "", "", "there is no member in the body", -1, REQUEST_NDJSON},
    {"[]", "", "", "there is no member: a batch has 1 to 10000", NO_SYNTAX},
    {"{\"requests\":[]}", "", "/requests", "there is no member", NO_SYNTAX},
    {"{}", "", "", "the object has no \"requests\"", NO_SYNTAX},
    {"{\"concurrency\":1}", "", "", "the object has no \"requests\"", NO_SYNTAX},
    /* syntax: the byte where the wrong token begins */
    {"[", "", "", "syntax error at byte 1: the JSON text ends too early", 1, REQUEST_JSON},
    {"[\"abc", "", "", "syntax error at byte 5: the JSON text ends too early", 5, REQUEST_JSON},
    {"[\"u\",", "", "", "ends too early", 5, REQUEST_JSON},
    {"[\"u\",}", "", "", "syntax error at byte 5: unexpected token, near \"}\"", 5, REQUEST_JSON},
    {"[\"u\" \"v\"]", "", "", "byte 5: ']' expected, near \"\"v\"\"", 5, REQUEST_JSON},
    {"{\"requests\" [\"u\"]}", "", "", "byte 12: ':' expected, near \"[\"", 12, REQUEST_JSON},
    {"{requests:[]}", "", "", "byte 1: string or '}' expected, near \"requests\"", 1,
     REQUEST_JSON},
    {"[tru]", "", "", "byte 1: invalid token, near \"tru\"", 1, REQUEST_JSON},
    {"[01]", "", "", "invalid token, near \"0\"", 1, REQUEST_JSON},
    {"[\"\\x\"]", "", "", "byte 1: invalid escape, near \"\"\\x\"", 1, REQUEST_JSON},
    {"[\"\\ud800\"]", "", "", "byte 1: invalid Unicode", 1, REQUEST_JSON},
    {"[99999999999999999999]", "", "", "byte 1: too big integer, near \"99999999999999999999\"", 1,
     REQUEST_JSON},
    {"[1e999]", "", "", "real number overflow", 1, REQUEST_JSON},
    {"[\"u\"] x", "", "", "byte 6: text after the end of the JSON value", 6, REQUEST_JSON},
    {"{\"url\":\"u\"}\n{\"url\":\"v\"}", "", "", "application/x-ndjson", 12, REQUEST_GUESS},
    {"[\"a\nb\"]", "", "", "byte 3: a control byte in a string", 3, REQUEST_JSON},
    {"[\"\xC3\xA9\",\"\xC3\"]", "", "", "byte 7: this is not UTF-8", 7, REQUEST_JSON},
    {"[\"\xED\xA0\x80\"]", "", "", "byte 2: this is not UTF-8", 2, REQUEST_JSON},
    {"[\xFF]", "", "", "byte 1: this is not UTF-8", 1, REQUEST_JSON},
    {"[\xE2\x80\x9Cu\xE2\x80\x9D]", "", "", "byte 1: a character that may stand in a string only",
     1, REQUEST_JSON},
    {"[\"a\\u0000\"]", "", "", "the escape \\u0000 is not taken, near", 1, REQUEST_JSON},
    {"[{\"a\\u0000\":1}]", "", "", "the escape \\u0000 is not taken", 2, REQUEST_JSON},
    {"[{\"url\":\"u\",\"url\":\"v\"}]", "", "", "twice in one object, near \"\"url\"\"", 12,
     REQUEST_JSON},
    {"\xEF\xBB\xBF[x]", "", "", "syntax error at byte 4", 4, REQUEST_JSON},
    {"\"u\"\n\n [x]\n", "", "/2", "syntax error at byte 7", 7, REQUEST_NDJSON},
    {"\"u\"\n{\"url\":\n\"v\"}", "", "/1", "syntax error at byte 11", 11, REQUEST_NDJSON},
    /* shapes */
    {"\"u\"", "", "", "an object with \"requests\", not the string \"u\"", NO_SYNTAX},
    {"null", "", "", "not null", NO_SYNTAX},
    {"17", "", "", "not 17", NO_SYNTAX},
    {"{\"requests\":\"u\"}", "", "/requests", "\"requests\" must be an array, not the string \"u\"",
     NO_SYNTAX},
    {B("\"defaults\":[]"), "", "/defaults", "\"defaults\" must be an object, not an array",
     NO_SYNTAX},
    {"[\"u\",1.5]", "", "/1", "a URL string or an object with \"url\", not 1.5", NO_SYNTAX},
    {"{\"requests\":[[]]}", "", "/requests/0", "not an array", NO_SYNTAX},
    {"\"u\"\n\n[]", "", "/2", "not an array", -1, REQUEST_NDJSON},
    {"[{}]", "", "/0", "the member has no \"url\"", NO_SYNTAX},
    {"[\"u\",{\"url\":1}]", "", "/1/url", "\"url\" must be a string, not 1", NO_SYNTAX},
    {"\"u\"\n{\"url\":null}", "", "/1/url", "\"url\" must be a string, not null", -1,
     REQUEST_NDJSON},
    /* unknown fields */
    {B("\"concurency\":1"), "", "/concurency",
     "unknown batch field \"concurency\"; did you mean \"concurrency\"?", NO_SYNTAX},
    {B("\"xyz\":1"), "", "/xyz", "unknown batch field \"xyz\"", NO_SYNTAX},
    {B("\"timeout_ms\":1"), "", "/timeout_ms",
     "is a field of a member: it belongs into an element of \"requests\"", NO_SYNTAX},
    {"{\"url\":\"u\"}", "", "/url", "is a field of a member", NO_SYNTAX},
    {J("\"concurrency\":1"), "", "/0/concurrency",
     "is a field of a batch: it belongs beside \"requests\" or into the query", NO_SYNTAX},
    {J("\"timeout\":1"), "", "/0/timeout", "did you mean \"timeout_ms\"?", NO_SYNTAX},
    {J("\"timeoutMs\":1"), "", "/0/timeoutMs", "did you mean \"timeout_ms\"?", NO_SYNTAX},
    {J("\"max-redirects\":1"), "", "/0/max-redirects", "did you mean \"max_redirects\"?",
     NO_SYNTAX},
    {"[{\"uri\":\"u\"}]", "", "/0/uri", "did you mean \"url\"?", NO_SYNTAX},
    {J("\"a/b~c\":1"), "", "/0/a~1b~0c", "unknown member field \"a/b~c\"", NO_SYNTAX},
    {D("\"tiemout_ms\":1", ""), "", "/defaults/tiemout_ms", "did you mean \"timeout_ms\"?",
     NO_SYNTAX},
    {D("\"url\":\"u\"", ""), "", "/defaults/url", "\"url\" has no default", NO_SYNTAX},
    {D("\"id\":\"u\"", ""), "", "/defaults/id", "\"id\" has no default", NO_SYNTAX},
    /* not yet */
    {B("\"rate\":null"), "", "/rate", "\"rate\" " LATER, NO_SYNTAX},
    {B("\"until\":\"all\""), "", "/until", "\"until\" " LATER, NO_SYNTAX},
    {B("\"dedupe\":false"), "", "/dedupe", "\"dedupe\" " LATER, NO_SYNTAX},
    {B("\"not_before\":null"), "", "/not_before", "\"not_before\" " LATER, NO_SYNTAX},
    {J("\"max_retries\":0"), "", "/0/max_retries", "\"max_retries\" " LATER, NO_SYNTAX},
    {J("\"retry_non_idempotent\":0"), "", "/0/retry_non_idempotent", LATER, NO_SYNTAX},
    {J("\"expect\":{}"), "", "/0/expect", "\"expect\" " LATER, NO_SYNTAX},
    {D("\"expect\":{}", ""), "", "/defaults/expect", "\"expect\" " LATER, NO_SYNTAX},
    {B("\"include\":[\"body\",\"tls\"]"), "", "/include/1", "\"include\" of \"tls\" " LATER,
     NO_SYNTAX},
    {"u", "max_retries=1", "?max_retries", "\"max_retries\" " LATER, -1, REQUEST_URI_LIST},
    {"u", "rate=1", "?rate", "\"rate\" " LATER, -1, REQUEST_URI_LIST},
    {"u", "include=attempts", "?include", "\"include\" of \"attempts\" " LATER, -1,
     REQUEST_URI_LIST},
    /* types and ranges of batch fields */
    {B("\"concurrency\":0"), "", "/concurrency",
     "\"concurrency\" must be an integer from 1 to 2147483647, not 0", NO_SYNTAX},
    {B("\"concurrency\":2147483648"), "", "/concurrency", "not 2147483648", NO_SYNTAX},
    {B("\"concurrency\":1.5"), "", "/concurrency", "an integer from 1 to 2147483647, not 1.5",
     NO_SYNTAX},
    {B("\"concurrency\":\"5\""), "", "/concurrency", "not the string \"5\"", NO_SYNTAX},
    {B("\"concurrency\":null"), "", "/concurrency", "not null", NO_SYNTAX},
    {B("\"concurrency_per_host\":-1"), "", "/concurrency_per_host", "not -1", NO_SYNTAX},
    {B("\"deadline_ms\":0.9"), "", "/deadline_ms",
     "\"deadline_ms\" must be a number of milliseconds from 1 to 86400000, not 0.9", NO_SYNTAX},
    {B("\"deadline_ms\":86400001"), "", "/deadline_ms", "not 86400001", NO_SYNTAX},
    {B("\"deadline_ms\":9223372036854775807"), "", "/deadline_ms", "not 9223372036854775807",
     NO_SYNTAX},
    {B("\"deadline_ms\":1e300"), "", "/deadline_ms", "not 1e+300", NO_SYNTAX},
    {B("\"deadline_ms\":null"), "", "/deadline_ms", "86400000, not null", NO_SYNTAX},
    {B("\"stop_on_error\":1"), "", "/stop_on_error",
     "\"stop_on_error\" must be true or false, not 1", NO_SYNTAX},
    {B("\"fail\":\"some\""), "", "/fail",
     "\"fail\" must be one of \"never\", \"any\", \"all\", not the string \"some\"", NO_SYNTAX},
    {B("\"fail\":true"), "", "/fail", "not true", NO_SYNTAX},
    {B("\"include\":\"body\""), "", "/include",
     "\"include\" must be an array, not the string \"body\"", NO_SYNTAX},
    {B("\"include\":[\"bodi\"]"), "", "/include/0",
     "does not know the string \"bodi\"; did you mean \"body\"?", NO_SYNTAX},
    {B("\"include\":[1]"), "", "/include/0", "\"redirects\" and \"curl\", not 1", NO_SYNTAX},
    /* types and ranges of member fields */
    {J("\"timeout_ms\":0"), "", "/0/timeout_ms", "milliseconds from 1 to 86400000, not 0",
     NO_SYNTAX},
    {J("\"timeout_ms\":\"5s\""), "", "/0/timeout_ms", "not the string \"5s\"", NO_SYNTAX},
    {J("\"timeout_ms\":null"), "", "/0/timeout_ms", "86400000, not null", NO_SYNTAX},
    {J("\"connect_timeout_ms\":-1"), "", "/0/connect_timeout_ms", "not -1", NO_SYNTAX},
    {J("\"queue_timeout_ms\":0"), "", "/0/queue_timeout_ms", "86400000, or null, not 0",
     NO_SYNTAX},
    {J("\"queue_timeout_ms\":[]"), "", "/0/queue_timeout_ms", "or null, not an array", NO_SYNTAX},
    {J("\"max_redirects\":-1"), "", "/0/max_redirects", "an integer from 0 to 100, not -1",
     NO_SYNTAX},
    {J("\"max_redirects\":101"), "", "/0/max_redirects", "not 101", NO_SYNTAX},
    {J("\"max_redirects\":1e300"), "", "/0/max_redirects", "not 1e+300", NO_SYNTAX},
    {J("\"max_response_bytes\":0"), "", "/0/max_response_bytes", "from 1 to 10485760, not 0",
     NO_SYNTAX},
    {J("\"max_response_bytes\":10485761"), "", "/0/max_response_bytes",
     "is 10485761, above limits.response_bytes of this daemon, which is 10485760", NO_SYNTAX},
    {J("\"max_response_bytes\":\"1M\""), "", "/0/max_response_bytes", "not the string \"1M\"",
     NO_SYNTAX},
    {J("\"http_version\":2"), "", "/0/http_version", "one of \"auto\", \"1.1\", \"2\", not 2",
     NO_SYNTAX},
    {J("\"http_version\":\"3\""), "", "/0/http_version", "not the string \"3\"", NO_SYNTAX},
    {J("\"insecure\":1"), "", "/0/insecure", "\"insecure\" must be true or false, not 1",
     NO_SYNTAX},
    {J("\"insecure\":null"), "", "/0/insecure", "true or false, not null", NO_SYNTAX},
    {J("\"fresh_connection\":\"true\""), "", "/0/fresh_connection", "true or false, not the string",
     NO_SYNTAX},
    {D("\"timeout_ms\":{}", ""), "", "/defaults/timeout_ms", "not an object", NO_SYNTAX},
    /* ids */
    {J("\"id\":7"), "", "/0/id", "\"id\" must be a string, not 7", NO_SYNTAX},
    {"[{\"url\":\"u\",\"id\":\"a\"},\"u\",{\"url\":\"u\",\"id\":\"a\"}]", "", "/2/id",
     "the id \"a\" is taken by another member", NO_SYNTAX},
    {"[{\"url\":\"u\",\"id\":\"\"},{\"url\":\"u\",\"id\":\"\"}]", "", "/1/id", "the id \"\"",
     NO_SYNTAX},
    {"{\"url\":\"u\",\"id\":\"a\"}\n\n{\"url\":\"u\",\"id\":\"a\"}", "", "/2/id", "is taken", -1,
     REQUEST_NDJSON},
    /* methods */
    {J("\"method\":\"\""), "", "/0/method", "must be a token such as GET", NO_SYNTAX},
    {J("\"method\":\"G T\""), "", "/0/method", "not \"G T\"", NO_SYNTAX},
    {J("\"method\":\"GET\\r\\nX: y\""), "", "/0/method", "not \"GET??X: y\"", NO_SYNTAX},
    {J("\"method\":\"CONNECT\""), "", "/0/method", "the method \"CONNECT\" is refused", NO_SYNTAX},
    {J("\"method\":\"tRaCe\""), "", "/0/method", "the method \"tRaCe\" is refused", NO_SYNTAX},
    {J("\"method\":5"), "", "/0/method", "\"method\" must be a string, not 5", NO_SYNTAX},
    {"u", "method=TRACE", "?method", "is refused", -1, REQUEST_URI_LIST},
    {D("\"method\":\"connect\"", ""), "", "/defaults/method", "is refused", NO_SYNTAX},
    /* headers */
    {J("\"headers\":[]"), "", "/0/headers", "\"headers\" must be an object, not an array",
     NO_SYNTAX},
    {J("\"headers\":{\"A\":1}"), "", "/0/headers/A",
     "the header \"A\" must be a string or an array of strings, not 1", NO_SYNTAX},
    {J("\"headers\":{\"A\":null}"), "", "/0/headers/A", "not null", NO_SYNTAX},
    {J("\"headers\":{\"A\":[\"x\",{}]}"), "", "/0/headers/A/1", "not an object", NO_SYNTAX},
    {J("\"headers\":{\"A\":\"x\\r\\nB: y\"}"), "", "/0/headers/A",
     "the value of the header \"A\" has a control byte", NO_SYNTAX},
    {J("\"headers\":{\"A\":\"x\\n\"}"), "", "/0/headers/A", "control byte", NO_SYNTAX},
    {J("\"headers\":{\"A\":[\"x\",\"\\u007f\"]}"), "", "/0/headers/A/1", "control byte", NO_SYNTAX},
    {J("\"headers\":{\"A b\":\"x\"}"), "", "/0/headers/A b", "\"A b\" is no header name",
     NO_SYNTAX},
    {J("\"headers\":{\"\":\"x\"}"), "", "/0/headers/", "\"\" is no header name", NO_SYNTAX},
    {J("\"headers\":{\"A:\":\"x\"}"), "", "/0/headers/A:", "is no header name", NO_SYNTAX},
    {J("\"headers\":{\"\\u00e9\":\"x\"}"), "", "/0/headers/\xC3\xA9", "is no header name",
     NO_SYNTAX},
    {D("\"headers\":{\"A\":\"\\n\"}", ""), "", "/defaults/headers/A", "control byte", NO_SYNTAX},
    /* bodies */
    {J("\"body\":\"\",\"json\":1"), "", "/0/json",
     "at most one of body, body_base64 and json: \"body\" is given too", NO_SYNTAX},
    {J("\"json\":1,\"body_base64\":\"\""), "", "/0/body_base64", "\"json\" is given too",
     NO_SYNTAX},
    {D("\"json\":1,\"body\":\"\"", ""), "", "/defaults/body", "at most one", NO_SYNTAX},
    {"u", "body=&body_base64=", "?body_base64", "at most one", -1, REQUEST_URI_LIST},
    {J("\"body\":{}"), "", "/0/body", "\"body\" must be a string, not an object", NO_SYNTAX},
    {J("\"body_base64\":\"YWI\""), "", "/0/body_base64", "is not base64", NO_SYNTAX},
    {J("\"body_base64\":\"YW I=\""), "", "/0/body_base64", "is not base64", NO_SYNTAX},
    {J("\"body_base64\":1"), "", "/0/body_base64", "must be a string", NO_SYNTAX},
    /* the query string */
    {"u", "concurency=1", "?concurency",
     "unknown query parameter \"concurency\"; did you mean \"concurrency\"?", -1, REQUEST_URI_LIST},
    {"u", "timeout=1", "?timeout", "did you mean \"timeout_ms\"?", -1, REQUEST_URI_LIST},
    {"u", "formats=1", "?formats", "unknown query parameter \"formats\"", -1, REQUEST_URI_LIST},
    {"u", "x\xFF=1", "?x", "unknown query parameter \"x?\"", -1, REQUEST_URI_LIST},
    {"u", "x\xE2\x82y=1", "?x??y", "unknown query parameter \"x?y\"", -1, REQUEST_URI_LIST},
    {"u", "=1", "?", "unknown query parameter \"\"", -1, REQUEST_URI_LIST},
    {"u", "url=x", "?url", "\"url\" cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "id=x", "?id", "cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "headers=x", "?headers", "cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "json=1", "?json", "cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "requests=x", "?requests", "cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "defaults=x", "?defaults", "cannot be a query parameter", -1, REQUEST_URI_LIST},
    {"u", "fail=any&fail=any", "?fail", "is given twice", -1, REQUEST_URI_LIST},
    {"u", "concurrency=x", "?concurrency", "an integer from 1 to 2147483647, not the string \"x\"",
     -1, REQUEST_URI_LIST},
    {"u", "concurrency", "?concurrency", "not the string \"\"", -1, REQUEST_URI_LIST},
    {"u", "concurrency=0", "?concurrency", "not 0", -1, REQUEST_URI_LIST},
    {"u", "concurrency= 5 x", "?concurrency", "not the string", -1, REQUEST_URI_LIST},
    {"u", "timeout_ms=null", "?timeout_ms", "not null", -1, REQUEST_URI_LIST},
    {"u", "timeout_ms=[1]", "?timeout_ms", "not the string \"[1]\"", -1, REQUEST_URI_LIST},
    {"u", "stop_on_error=", "?stop_on_error", "true or false, not the string \"\"", -1,
     REQUEST_URI_LIST},
    {"u", "include=body,hedaers", "?include", "did you mean \"headers\"?", -1, REQUEST_URI_LIST},
    {"u", "include=+", "?include", "and \"curl\", not the string \"+\"", -1, REQUEST_URI_LIST},
    {"u", "method=\xFF", "?method", "is not UTF-8", -1, REQUEST_URI_LIST},
    {"u", "max_response_bytes=10485761", "?max_response_bytes", "above limits.response_bytes", -1,
     REQUEST_URI_LIST},
};

static void check_error(const struct request_error *e)
{
    assert_true(e->status == 400 || e->status == 413 || e->status == 500);
    assert_true(e->detail[0] != '\0');
    assert_true(strlen(e->detail) < sizeof e->detail);
    assert_true(utf8_valid(e->detail, strlen(e->detail)));
    assert_true(utf8_valid(e->pointer, strlen(e->pointer)));
    for (const char *p = e->detail; *p; p++)
        assert_true((unsigned char)*p >= 0x20 && *p != 0x7F);
}

static void check_refused(const struct refused *c)
{
    struct request_error e;
    struct batch_spec *spec = parse_query(c->body, c->type, c->query, &e);
    if (spec)
        fail_msg("taken: %s ? %s", c->body, c->query);
    check_error(&e);
    if (e.status != 400 || strcmp(e.pointer, c->pointer) != 0 || e.offset != c->offset ||
        !strstr(e.detail, c->words))
        fail_msg("%s ? %s: %d %s %" PRId64 " %s", c->body, c->query, e.status, e.pointer, e.offset,
                 e.detail);
}

#define LOGIN "user:hunter2@"

/* A URL that stands where none belongs, or that is no JSON: its credentials are not said. */
static const struct refused with_login[] = {
    {B("\"fail\":\"http://" LOGIN "h/\""), "", "/fail", "\"http://h/\"", NO_SYNTAX},
    {B("\"include\":[\"//" LOGIN "h\"]"), "", "/include/0", "\"//h\"", NO_SYNTAX},
    {"{\"requests\":\"http://" LOGIN "h/\"}", "", "/requests", "the string \"http://h/\"",
     NO_SYNTAX},
    {"{\"http://" LOGIN "h/\":1}", "", "/http:~1~1h~1", "unknown batch field \"http://h/\"",
     NO_SYNTAX},
    {"{\"" LOGIN "\":1}", "", "/", "unknown batch field \"\"", NO_SYNTAX},
    {"[{\"http://" LOGIN "h\":1}]", "", "/0/http:~1~1h", "unknown member field \"http://h\"",
     NO_SYNTAX},
    {"[{\"url\":\"u\",\"timeout_ms\":\"http://" LOGIN "h/\"}]", "", "/0/timeout_ms",
     "not the string \"http://h/\"", NO_SYNTAX},
    {"[{\"url\":\"u\",\"method\":\"http:\\\\\\\\" LOGIN "h/\"}]", "", "/0/method",
     "\"http:\\\\h/\"", NO_SYNTAX},
    {"[{\"url\":\"u\",\"headers\":{\"http://" LOGIN "h/\":\"a\"}}]", "",
     "/0/headers/http:~1~1h~1", "\"http://h/\" is no header name", NO_SYNTAX},
    {"[{\"url\":\"u\",\"id\":\"http://" LOGIN "h/\"},{\"url\":\"u\",\"id\":\"http://" LOGIN
     "h/\"}]", "", "/1/id", "\"http://h/\"", NO_SYNTAX},
    {"[{\"url\":\"u\",\"id\":\"a@h\"},{\"url\":\"u\",\"id\":\"a@h\"}]", "", "/1/id", "\"a@h\"",
     NO_SYNTAX},
    {"u", "timeout_ms=http://" LOGIN "h/", "?timeout_ms", "the string \"http://h/\"", -1,
     REQUEST_URI_LIST},
    {"u", "http://" LOGIN "h/=1", "?http:~1~1h~1", "parameter \"http://h/\"", -1, REQUEST_URI_LIST},
    /* longer than what is quoted of a text */
    {"{\"http://user:0123456789012345678901234567890123456789012345678901234567890123456789hunter2@"
     "h/\":1}", "", "/http:~1~1h~1", "\"http://h/\"", NO_SYNTAX},
    {"[\"http://" LOGIN "h/\\q\"]", "", "", "near \"\"http\"", 1, REQUEST_JSON},
    {"[\"http:\\/\\/" LOGIN "h/\\q\"]", "", "", "near \"\"http\"", 1, REQUEST_JSON},
    {"[\"\\u002f/u:hunter2\\q\\u0040h/\"]", "", "", "near \"\"\"", 1, REQUEST_JSON},
    {"[\"//u:hunter2\\q@h/\"]", "", "", "near \"\"\"", 1, REQUEST_JSON},
    {"[http://" LOGIN "h/]", "", "", "near \"http\"", 1, REQUEST_JSON},
    {"[\"u\" \"//" LOGIN "h\"]", "", "", "expected, near \"\"\"", 5, REQUEST_JSON},
};

static void test_credentials_are_not_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof with_login / sizeof *with_login; i++) {
        const struct refused *c = &with_login[i];
        struct request_error e;
        check_refused(c);
        assert_null(parse_query(c->body, c->type, c->query, &e));
        assert_null(strstr(e.detail, "hunter2"));
        assert_null(strstr(e.pointer, "hunter2"));
    }
}

/* What include takes is not; each in words, with nothing of the stack in them. */
static void test_refused_includes(void **state)
{
    (void)state;
    static const struct {
        const char *value, *said;
    } cases[] = {{"null", "not null"}, {"true", "not true"}, {"false", "not false"},
                 {"[]", "not an array"}, {"{}", "not an object"}, {"5", "not 5"},
                 {"1.5", "not 1.5"}, {"\"zzz\"", "not the string \"zzz\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request_error e;
        char body[80];
        (void)snprintf(body, sizeof body, "{\"requests\":[],\"include\":[%s]}", cases[i].value);
        assert_null(parse_bytes(body, strlen(body), REQUEST_JSON, &e));
        assert_string_equal(e.pointer, "/include/0");
        size_t n = strlen(e.detail), tail = strlen(cases[i].said);
        assert_true(n > tail);
        assert_string_equal(e.detail + n - tail, cases[i].said);
    }
}

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        check_refused(&refused[i]);
}

static void test_refused_headers(void **state)
{
    (void)state;
    static const char *const names[] = {
        "Host", "host", "CONTENT-LENGTH", "Transfer-Encoding", "connection", "Keep-Alive", "TE",
        "te", "Trailer", "Upgrade", "Expect", "eXPECT", "Proxy-Authorization", "proxy-", "PROXY-x",
        "HTTP2-Settings",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char body[100], pointer[100], words[100];
        (void)snprintf(body, sizeof body, J("\"headers\":{\"%s\":\"x\"}"), names[i]);
        (void)snprintf(pointer, sizeof pointer, "/0/headers/%s", names[i]);
        (void)snprintf(words, sizeof words, "the header \"%s\" is refused", names[i]);
        check_refused(&(struct refused){body, "", pointer, words, NO_SYNTAX});
    }
}

/* --- content types --------------------------------------------------------------------------- */

static void test_content_types(void **state)
{
    (void)state;
    assert_int_equal(request_type(NULL), REQUEST_GUESS);
    assert_int_equal(request_type(""), REQUEST_GUESS);
    assert_int_equal(request_type("application/x-www-form-urlencoded"), REQUEST_GUESS);
    assert_int_equal(request_type("application/json"), REQUEST_JSON);
    assert_int_equal(request_type("Application/JSON; charset=utf-8"), REQUEST_JSON);
    assert_int_equal(request_type(" \tapplication/json \t;x"), REQUEST_JSON);
    assert_int_equal(request_type("application/x-ndjson"), REQUEST_NDJSON);
    assert_int_equal(request_type("text/uri-list"), REQUEST_URI_LIST);
    assert_int_equal(request_type("text/plain;charset=us-ascii"), REQUEST_URI_LIST);
    assert_int_equal(request_type("application/jsonp"), REQUEST_UNSUPPORTED);
    assert_int_equal(request_type("application/jso"), REQUEST_UNSUPPORTED);
    assert_int_equal(request_type("text/html"), REQUEST_UNSUPPORTED);
    assert_int_equal(request_type("application/json, text/plain"), REQUEST_UNSUPPORTED);
}

/* --- options --------------------------------------------------------------------------------- */

static void test_options_are_shared(void **state)
{
    (void)state;
    struct request_error e;
    struct batch_spec *s = parse_query(
        "[\"a\",{\"url\":\"b\",\"id\":\"i\"},{\"url\":\"c\",\"timeout_ms\":30000},"
        "{\"url\":\"d\",\"timeout_ms\":1},{\"url\":\"e\",\"headers\":{\"A\":\"b\"}}]",
        REQUEST_JSON, "max_redirects=3", &e);
    assert_non_null(s);
    assert_int_equal(s->count, 5);
    assert_ptr_equal(s->members[1].opts, s->members[0].opts);
    assert_ptr_equal(s->members[2].opts, s->members[0].opts);
    assert_ptr_not_equal(s->members[3].opts, s->members[0].opts);
    assert_ptr_not_equal(s->members[4].opts, s->members[0].opts);
    assert_int_equal(s->members[3].opts->max_redirects, 3);
    assert_null(s->members[0].id);
    spec_destroy(s);
    spec_destroy(NULL);
}

static void check_userinfo(const char *body, enum request_type type, const char *told)
{
    struct request_error e;
    struct buf b;
    struct request_input in = {.body = body,
                               .body_len = strlen(body),
                               .type = type,
                               .config = &config,
                               .userinfo = true};
    struct batch_spec *s = parse_input(&in, &e);
    buf_init(&b, 0);
    if (s)
        tell(&b, s);
    else
        buf_printf(&b, "%d %s %s", e.status, e.pointer, e.detail);
    if (strncmp(buf_cstr(&b), told, s ? b.len + 1 : strlen(told)) != 0)
        fail_msg("%s: %s", body, buf_cstr(&b));
    buf_fini(&b);
    spec_destroy(s);
}

/* A URL with a user name or password, where the policy takes it, by every kind of body. */
static void test_userinfo(void **state)
{
    (void)state;
    static const char posted[] = "\nGET http://u:p@h/ (Basic dTpw) http://h/";
    check_userinfo("[\"http://u:p@h/\"]", REQUEST_JSON, posted);
    check_userinfo("[{\"url\":\"http:\\/\\/u:p@h/\"}]", REQUEST_JSON, posted);
    check_userinfo("\"http://u:p@h/\"\n", REQUEST_NDJSON, posted);
    check_userinfo("http://u:p@h/\n", REQUEST_URI_LIST, posted);
    check_userinfo("http://u:p@h/", REQUEST_GUESS, posted);
    check_userinfo("{\"url\":\"http://u:p@h/\",\"id\":\"i\"}\n\"http://h/\"\n", REQUEST_NDJSON,
                   "\nGET http://u:p@h/ id=i (Basic dTpw) http://h/\nGET http://h/");
    check_userinfo("[{\"url\":\"http://@H\",\"id\":\"i\",\"body\":\"\"}]", REQUEST_JSON,
                   "\nPOST http://@H id=i (Basic Og==) http://h/ body=");
    check_userinfo("[\"http://a@b@h/\"]", REQUEST_JSON, "\nGET http://a@b@h/");
    check_userinfo("[\"http://u:p@h:0/\"]", REQUEST_JSON, "\nGET http://u:p@h:0/");
    check_userinfo("[\"ftp://u:p@h/\"]", REQUEST_JSON, "\nGET ftp://u:p@h/");
    check_userinfo("[\"a\",{\"url\":\"http://u:p@h/\",\"headers\":{\"AUTHORIZATION\":\"x\"}}]",
                   REQUEST_JSON, "400 /1/url the URL has a user name or password");
    check_userinfo("{\"requests\":[\"http://u:p@h/\"],\"defaults\":{\"headers\":{\"authorization\":"
                   "[\"x\"]}}}",
                   REQUEST_JSON, "400 /requests/0 the URL has a user name or password");
}

/* Members with the same credentials and options share one block; who stands between has none. */
static void test_credentials_are_shared(void **state)
{
    (void)state;
    static const char body[] =
        "http://u:p@a/\nhttp://u:p@b/\nhttp://c/\nhttp://u:p@d/\nhttp://v@e/";
    struct request_error e;
    struct request_input in = {.body = body,
                               .body_len = sizeof body - 1,
                               .type = REQUEST_URI_LIST,
                               .config = &config,
                               .userinfo = true};
    struct batch_spec *s = parse_input(&in, &e);
    assert_non_null(s);
    assert_int_equal(s->count, 5);
    assert_ptr_equal(s->members[0].opts, s->members[1].opts);
    assert_ptr_equal(s->members[0].opts, s->members[3].opts);
    assert_null(s->members[2].opts->authorization);
    assert_string_equal(s->members[4].opts->authorization, "Basic djo=");
    spec_destroy(s);
    in.userinfo = false;
    s = parse_input(&in, &e);
    assert_non_null(s);
    assert_null(s->members[0].origin);
    assert_string_equal(s->members[0].why, "a URL with a user name or password is not taken");
    spec_destroy(s);
}

static void test_configuration(void **state)
{
    (void)state;
    struct request_error e;
    config.fetch.timeout_us = 1;
    config.fetch.connect_timeout_us = 2;
    config.fetch.deadline_us = 3;
    config.fetch.max_redirects = 4;
    config.fetch.http_version = HTTP_VERSION_1_1;
    config.limits.response_bytes = 5;
    config.limits.in_flight = 6;
    config.limits.per_host = 7;
    struct batch_spec *s = parse_query("u", REQUEST_GUESS, "", &e);
    assert_non_null(s);
    const struct member_opts *o = s->members[0].opts;
    assert_int_equal(o->timeout_us, 1);
    assert_int_equal(o->connect_timeout_us, 2);
    assert_int_equal(s->deadline_us, 3);
    assert_int_equal(o->max_redirects, 4);
    assert_int_equal(o->http_version, HTTP_VERSION_1_1);
    assert_int_equal(o->max_response_bytes, 5);
    assert_int_equal(s->concurrency, 6);
    assert_int_equal(s->concurrency_per_host, 7);
    assert_int_equal(o->queue_timeout_us, -1);
    spec_destroy(s);
    assert_null(parse_query(J("\"max_response_bytes\":6"), REQUEST_JSON, "", &e));
    assert_non_null(strstr(e.detail, "is 6, above limits.response_bytes of this daemon, which is "
                                     "5"));
}

static void test_bytes_in_bodies(void **state)
{
    (void)state;
    struct request_error e;
    struct batch_spec *s = parse_query(J("\"body_base64\":\"AP8Kgw==\""), REQUEST_JSON, "", &e);
    assert_non_null(s);
    assert_int_equal(s->members[0].opts->body_len, 4);
    assert_memory_equal(s->members[0].opts->body, "\0\xFF\n\x83", 4);
    assert_false(s->members[0].opts->body_is_json);
    spec_destroy(s);
    s = parse_bytes("http://a/\0b\nu", 13, REQUEST_URI_LIST, &e);
    assert_non_null(s);
    assert_int_equal(s->members[0].url_len, 11);
    assert_memory_equal(s->members[0].url, "http://a/\0b", 12);
    spec_destroy(s);
    assert_null(parse_bytes("[\"u\"\0]", 6, REQUEST_JSON, &e));
    assert_int_equal(e.offset, 4);
    assert_non_null(strstr(e.detail, "a NUL byte"));
    assert_null(parse_bytes("[\"a\0\"]", 6, REQUEST_JSON, &e));
    assert_int_equal(e.offset, 3);
    assert_null(parse_bytes("\0", 1, REQUEST_JSON, &e));
    assert_int_equal(e.offset, 0);
}

/* Every byte at the start, the middle and the end of a method, a header's name and its value. */
static void test_every_byte(void **state)
{
    (void)state;
    static const char *const forms[] = {"method\":\"%sab\"", "method\":\"a%sb\"",
        "method\":\"ab%s\"", "headers\":{\"%sab\":\"\"}", "headers\":{\"ab%s\":\"\"}",
        "headers\":{\"A\":\"%sab\"}", "headers\":{\"A\":\"a%sb\"}", "headers\":{\"A\":\"ab%s\"}"};
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        for (int c = 1; c < 256; c++) {
            char escape[8], form[80], body[120];
            struct request_error e;
            bool blank = c == ' ' || c == '\t', value = f >= 5;
            bool tchar = c < 0x80 && parse_is_token(&(char){(char)c}, 1);
            bool want = value ? blank || (c > 0x20 && c != 0x7F) : tchar;
            (void)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
            (void)snprintf(form, sizeof form, "[{\"url\":\"u\",\"%s}]", forms[f]);
            char *at = strstr(form, "%s");
            (void)snprintf(body, sizeof body, "%.*s%s%s", (int)(at - form), form, escape, at + 2);
            struct batch_spec *s = parse_query(body, REQUEST_JSON, "", &e);
            if (!!s != want)
                fail_msg("%s: %s", body, s ? "taken" : e.detail);
            spec_destroy(s);
        }
    }
}

/* --- limits ---------------------------------------------------------------------------------- */

/* before, count times the unit with commas between, after. */
static void repeat(struct buf *b, const char *before, const char *unit, size_t count,
                   const char *comma, const char *after)
{
    buf_init(b, 0);
    buf_add_str(b, before);
    for (size_t i = 0; i < count; i++) {
        buf_add_str(b, i > 0 ? comma : "");
        buf_add_str(b, unit);
    }
    buf_add_str(b, after);
    assert_false(b->failed);
}

/* Parses and frees the body. Returns the number of members, or minus the status. */
static int parse_buf(struct buf *b, enum request_type type, struct request_error *e)
{
    struct batch_spec *s = parse_bytes(b->data, b->len, type, e);
    int result = s ? (int)s->count : -e->status;
    if (!s)
        check_error(e);
    spec_destroy(s);
    buf_fini(b);
    return result;
}

static void test_most_members(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b;
    repeat(&b, "[", "\"u\"", 10000, ",", "]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 10000);
    repeat(&b, "[", "\"u\"", 10001, ",", "]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_string_equal(e.pointer, "");
    assert_non_null(strstr(e.detail, "limits.requests of this daemon, which is 10000"));
    repeat(&b, "{\"requests\":[", "\"u\"", 10001, ",", "]}");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_string_equal(e.pointer, "/requests");
    repeat(&b, "#\n", "u", 10000, "\n", "");
    assert_int_equal(parse_buf(&b, REQUEST_URI_LIST, &e), 10000);
    repeat(&b, "#\n", "u", 10001, "\n", "");
    assert_int_equal(parse_buf(&b, REQUEST_URI_LIST, &e), -400);
    assert_string_equal(e.pointer, "/10001");
    repeat(&b, "\n", "\"u\"", 10001, "\n", "");
    assert_int_equal(parse_buf(&b, REQUEST_NDJSON, &e), -400);
    assert_string_equal(e.pointer, "/10001");
}

static void test_depth(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b, closing;
    for (size_t depth = 62; depth <= 63; depth++) { /* the array and the member are two */
        repeat(&closing, "", "]", depth, "", "}]");
        repeat(&b, "[{\"url\":\"u\",\"json\":", "[", depth, "", buf_cstr(&closing));
        buf_fini(&closing);
        assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), depth == 62 ? 1 : -400);
    }
    assert_non_null(strstr(e.detail, "nested deeper than 64 levels"));
    assert_int_equal(e.offset, 19 + 62);
    repeat(&b, "", "[", 1000000, "", "");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    repeat(&b, "", "{\"\":", 1000000, "", "");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    repeat(&b, "", "\"[[[[[[[[[[[[[[[[{{{{{{{{{{\\\"[[[[[[[[[\\\\\"", 10, ",", "");
    assert_int_equal(parse_buf(&b, REQUEST_NDJSON, &e), -400);
    assert_null(strstr(e.detail, "nested"));
}

/* What would be many times its size in memory. */
static void test_amplification(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b;
    repeat(&b, "[{\"url\":\"u\",\"json\":[", "[]", 81001, ",", "]}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -413);
    assert_non_null(strstr(e.detail, "more than 81000 arrays and objects"));
    repeat(&b, "", "[{}]", 45000, "\n", "");
    assert_int_equal(parse_buf(&b, REQUEST_NDJSON, &e), -400); /* too many lines come first */
    config.limits.requests = 100000;
    repeat(&b, "[{\"url\":\"u\",\"json\":[", "1", 2500002, ",", "]}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -413);
    assert_non_null(strstr(e.detail, "more than 2500000 values"));
    repeat(&b, "[{\"url\":\"u\",\"json\":[", "{}", 500000, ",", "]}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -413);
    assert_non_null(strstr(e.detail, "KiB that a body of its size may use"));
    repeat(&b, "{\"url\":\"u\",\"json\":[", "{}", 500000, ",", "]}");
    assert_int_equal(parse_buf(&b, REQUEST_NDJSON, &e), -413);
    repeat(&b, "[", "{\"url\":\"http://a/\"}", 100000, ",", "]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 100000);
    config.limits.requests = 10000;
    repeat(&b, "[{\"url\":\"u\",\"json\":[", "1", 300000, ",", "]}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -413); /* 28 bytes for each of its bytes */
    repeat(&b, "[{\"url\":\"u\",\"json\":[", "12345", 300000, ",", "]}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
}

static void test_header_limits(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b;
    repeat(&b, "[{\"url\":\"u\",\"headers\":{\"A\":[", "\"\"", 100, ",", "]}}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
    repeat(&b, "[{\"url\":\"u\",\"headers\":{\"A\":[", "\"\"", 101, ",", "]}}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_string_equal(e.pointer, "/0/headers");
    assert_non_null(strstr(e.detail, "has more than 100 lines"));
    repeat(&b, "{\"requests\":[{\"url\":\"u\",\"headers\":{\"B\":\"\"}}],\"defaults\":{"
               "\"headers\":{\"A\":[", "\"\"", 100, ",", "]}}}");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_string_equal(e.pointer, "/requests/0/headers");
    assert_non_null(strstr(e.detail, "more than 100 lines, those of \"defaults\" included"));
    repeat(&b, "[{\"url\":\"u\",\"headers\":{\"A\":\"", "x", 65535, "", "\"}}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
    repeat(&b, "[{\"url\":\"u\",\"headers\":{\"A\":\"", "x", 65536, "", "\"}}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_non_null(strstr(e.detail, "has 65537 bytes, more than 65536"));
}

static void test_long_texts(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b;
    repeat(&b, "[{\"url\":\"u\",\"id\":\"", "\xC3\xA9", 128, "", "\"}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
    repeat(&b, "[{\"url\":\"u\",\"id\":\"x", "\xC3\xA9", 128, "", "\"}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    assert_non_null(strstr(e.detail, "\"id\" has 257 bytes, more than 256"));
    repeat(&b, "[{\"url\":\"u\",\"method\":\"", "A", 64, "", "\"}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
    repeat(&b, "[{\"url\":\"u\",\"method\":\"", "A", 65, "", "\"}]");
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
    repeat(&b, "[\"", "x", 70000, "", "\"]"); /* a URL of any length */
    assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), 1);
    static const char *const begin[] = {"[{\"", "[{\"x", "[{\"xx", "[{\"xxx"};
    for (size_t i = 0; i < 4; i++) { /* a key that is cut within a character, wherever it begins */
        repeat(&b, begin[i], "\xF0\x9F\x98\x80~", 100, "", "\":1}]");
        assert_int_equal(parse_buf(&b, REQUEST_JSON, &e), -400);
        assert_true(strlen(e.pointer) > 150);
    }
}

static void test_many_ids(void **state)
{
    (void)state;
    struct request_error e;
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "{\"url\":\"u\",\"id\":\"%d\"}\n", i);
    assert_int_equal(parse_buf(&b, REQUEST_NDJSON, &e), 10000);
}

/* --- plain members ---------------------------------------------------------------------------- */

static const struct {
    const char *body;
    bool plain; /* all of the members */
} plain_bodies[] = {
    {"[\"http://a/\"]", true},
    {" [ \"a\" , \"b\" ]\r\n\t", true},
    {"[{\"url\":\"a\"},{\"id\":\"b\",\"url\":\"c\"},\"\"]", true},
    {"[ { \"url\" : \"a\" , \"id\" : \"b\" } ]", true},
    {"[\"\\/\\\"\\\\\\b\\f\\n\\r\\t\\u0041\\u007F\\u001f\\u0026\"]", true},
    {"[\"\xC3\xA4\xF0\x9F\x98\x80\",{\"url\":\"\\/\xE2\x82\xAC\",\"id\":\"\\\"\"}]", true},
    {"{\"requests\":[\"a\"],\"concurrency\":3}", true},
    {"{\"defaults\":{\"body\":\"x\",\"headers\":{\"a\":\"]},[\\\"\"}},\"requests\":[\"a\"]}", true},
    {"{\"include\":[\"body\"] , \"requests\" : [ \"a\" ] , \"fail\" : \"any\"}", true},

    {"[]", false},
    {"[\"a\",]", false},
    {"[,\"a\"]", false},
    {"[\"a\" \"b\"]", false},
    {"[\"a\"]]", false},
    {"[\"a\"] x", false},
    {"[\"a\"", false},
    {"[\"a", false},
    {"[\"a\\\"]", false},
    {"[\"a\\", false},
    {"[\"a\\u004", false},
    {"[\"\\u0000\"]", false},
    {"[\"\\u00e9\"]", false},
    {"[\"\\u004g\"]", false},
    {"[\"\\x\"]", false},
    {"[\"\\ud83d\\ude00\"]", false},
    {"[\"\x01\"]", false},
    {"[\"a\nb\"]", false},
    {"[\"\\n\x1F\"]", false},
    {"[\"\xFF\"]", false},
    {"[\"\xED\xA0\x80\"]", false},
    {"[\"a\",1]", false},
    {"[\"a\",null]", false},
    {"[[\"a\"]]", false},
    {"[{}]", false},
    {"[{\"id\":\"a\"}]", false},
    {"[{\"url\":\"a\",\"url\":\"b\"}]", false},
    {"[{\"url\":\"a\",\"id\":1}]", false},
    {"[{\"url\":\"a\",\"method\":\"GET\"}]", false},
    {"[{\"url\":\"a\",}]", false},
    {"[{\"url\" \"a\"}]", false},
    {"[{\"url\":\"a\"]", false},
    {"[{\"ur\\u006c\":\"a\"}]", false},
    {"[{\"url\":\"a\",\"id\":\"x\"},{\"url\":\"b\",\"id\":\"x\"}]", false},
    {"[{\"url\":\"a\",\"id\":\"x\"},{\"url\":\"b\",\"id\":\"y\",\"method\":\"GET\"}]", false},
    {"{\"requests\":[\"a\"],\"requests\":[\"b\"]}", false},
    {"{\"requests\":[\"a\"],\"re\\u0071uests\":[\"b\"]}", false},
    {"{\"re\\u0071uests\":[\"a\"]}", false},
    {"{\"defaults\":{\"requests\":[\"a\"]}}", false},
    {"{\"defaults\":{\"requests\":[\"a\"]},\"x\":[]}", false},
    {"{\"requests\":[\"a\"]", false},
    {"{\"requests\":[\"a\"]}}", false},
    {"{\"requests\":[\"a\"],}", false},
    {"{\"requests\":{\"a\":[\"b\"]}}", false},
    {"{\"x\" [,\"requests\":[\"a\"]}", false},
    {"{\"defaults\":{\"body\":\"x\\\"},\"requests\":[\"a\"]}", false},
    {"{\"a\":\"\\\\\",\"requests\":[\"a\"]}", true}, /* and then "a" is unknown */
};

/* Which way a body goes is not to be seen in what comes out; so it is asked directly. */
static bool is_plain(const char *body)
{
    struct request_input in = {
        .body = body, .body_len = strlen(body), .type = REQUEST_JSON, .config = &config};
    struct request_error error;
    struct reader r = {.in = &in, .limits = &config.limits, .error = &error};
    r.spec = calloc(1, sizeof *r.spec);
    assert_non_null(r.spec);
    arena_init(&r.spec->arena);
    origins_init(&r.origins, &r.spec->arena);
    request_memory_begin(&r);
    assert_int_equal(setjmp(r.budget.out), 0);
    bool plain = load_plain(&r, body, strlen(body)) != NULL;
    request_memory_end(&r);
    origins_fini(&r.origins);
    buf_fini(&r.text);
    table_fini(&r.ids);
    spec_destroy(r.spec);
    return plain;
}

static void test_plain(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof plain_bodies / sizeof *plain_bodies; i++) {
        const char *body = plain_bodies[i].body;
        struct request_error e;
        if (is_plain(body) != plain_bodies[i].plain)
            fail_msg("%s is %splain", body, plain_bodies[i].plain ? "not " : "");
        spec_destroy(parse_bytes(body, strlen(body), REQUEST_JSON, &e));
        spec_destroy(parse_bytes(body, strlen(body), REQUEST_NDJSON, &e));
    }
}

/* Bodies that are plain and nearly so, with one to three bytes changed, left out or put in. */
static void test_plain_at_random(void **state)
{
    (void)state;
    static const char letters[] = "\"\\{}[]:, urlidab/0\n\xC3\xA4\x01" "1-\t";
    const size_t bodies = sizeof plain_bodies / sizeof *plain_bodies, plain = 9;
    uint64_t random = 88172645463325252;
    size_t accepted = 0;
    for (size_t round = 0; round < 60000; round++) {
        char body[160];
        size_t which = round % (round % 4 ? plain : bodies);
        size_t len = strlen(plain_bodies[which].body);
        memcpy(body, plain_bodies[which].body, len);
        random = random * 6364136223846793005 + 1442695040888963407;
        for (size_t change = 0; change <= (random >> 60) % 3 && len > 1; change++) {
            uint64_t bits = (random >> 20) * (2 * change + 1);
            size_t at = (size_t)(bits >> 16) % len;
            char letter = letters[bits % (sizeof letters - 1)];
            if (bits >> 12 & 1) {
                memmove(body + at + 1, body + at, len++ - at);
                body[at] = letter;
            } else if (bits >> 13 & 1) {
                memmove(body + at, body + at + 1, --len - at);
            } else {
                body[at] = letter;
            }
        }
        struct request_error e;
        enum request_type type = round % 5 ? REQUEST_JSON : REQUEST_NDJSON;
        struct batch_spec *s = parse_bytes(body, len, type, &e);
        accepted += s != NULL;
        spec_destroy(s);
    }
    assert_in_range(accepted, 4000, 40000);
}

/* --- memory that runs out -------------------------------------------------------------------- */

static void check_allocations(const char *body, size_t len, enum request_type type)
{
    struct request_error e;
    struct batch_spec *s = NULL;
    long n = 1;
    for (; !s; n++) {
        allocations_left = n;
        s = parse_bytes(body, len, type, &e);
        allocations_left = -1;
        if (!s) {
            assert_int_equal(e.status, 500);
            assert_string_equal(e.detail, "out of memory");
        }
    }
    assert_true(n > 3);
    spec_destroy(s);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    static const char everything[] =
        "{\"requests\":[\"u\",{\"url\":\"v\",\"id\":\"i\",\"headers\":{\"A\":[\"b\",\"c\"]},"
        "\"body_base64\":\"YWI=\"},{\"url\":\"w\",\"id\":\"j\",\"json\":{\"a\":[1,2.5,\"x\"]}}],"
        "\"defaults\":{\"headers\":{\"A\":\"d\"},\"method\":\"PUT\"},\"include\":[\"body\"]}";
    struct buf b;
    check_allocations(everything, sizeof everything - 1, REQUEST_JSON);
    check_allocations("u\nv", 3, REQUEST_URI_LIST);
    takes_userinfo = true;
    check_allocations("http://u:p@h/\nhttp://h/\nhttp://%41:@h/", 38, REQUEST_URI_LIST);
    check_allocations("[\"http://u:p@h/\"]", 17, REQUEST_JSON);
    takes_userinfo = false;
    repeat(&b, "{\"defaults\":{\"method\":\"PUT\"},\"requests\":[",
           "{\"url\":\"http://a\\/b\"},\"HTTP://B\"", 300, ",", "]}");
    check_allocations(b.data, b.len, REQUEST_JSON);
    buf_fini(&b);
    /* Strings that make jansson's token buffer grow, each time at another allocation. */
    repeat(&b, "[", "\"x\",{\"url\":\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"}", 200,
           ",", ",\"");
    for (int i = 0; i < 300000; i++)
        buf_add_char(&b, 'x');
    buf_add_str(&b, "\"]");
    check_allocations(b.data, b.len, REQUEST_JSON);
    buf_fini(&b);
}

/* The budget ends at each place of a growing token, which would crash jansson 2.14 by itself. */
static void test_budget_ends_in_token(void **state)
{
    (void)state;
    struct request_error e;
    for (size_t count = 8000; count < 12000; count += 61) {
        struct buf b;
        repeat(&b, "[{\"url\":\"u\",\"json\":[", "[]", count, ",", ",\"");
        for (int i = 0; i < 3000; i++)
            buf_add_char(&b, 'x');
        buf_add_str(&b, "\"]}]");
        int result = parse_buf(&b, REQUEST_JSON, &e);
        assert_true(result == 1 || result == -413);
    }
}

/* --- data written by others ------------------------------------------------------------------ */

static bool read_whole(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "rb");
    size_t n;
    buf_init(b, 0);
    if (!f)
        return false;
    do {
        char *p = buf_reserve(b, 65536);
        assert_non_null(p);
        n = fread(p, 1, 65536, f);
        b->len += n;
    } while (n > 0);
    (void)fclose(f);
    return true;
}

/* Well-formed JSON that gatherd refuses on purpose. */
static bool is_exception(const char *name)
{
    static const char *const names[] = {
        "y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json",
        "y_object_escaped_null_in_key.json", "y_string_null_escape.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

/* The value as `json` of a member: must be taken and come out the same. */
static void check_payload(const char *name, const struct buf *text)
{
    struct request_error e;
    struct buf b;
    buf_init(&b, 0);
    BUF_ADD_LITERAL(&b, "[{\"url\":\"u\",\"json\":");
    buf_add(&b, text->data, text->len);
    BUF_ADD_LITERAL(&b, "}]");
    struct batch_spec *s = parse_bytes(b.data, b.len, REQUEST_JSON, &e);
    bool taken_one = s != NULL, want = name[0] == 'y' && !is_exception(name);
    if (name[0] != 'i' && taken_one != want)
        fail_msg("%s as json: %s", name, s ? "taken" : e.detail);
    if (want) {
        const struct member_opts *o = s->members[0].opts;
        json_t *in = json_loadb(text->data, text->len, JSON_DECODE_ANY, NULL);
        json_t *out = json_loadb(o->body, o->body_len, JSON_DECODE_ANY, NULL);
        if (!in || !json_equal(in, out))
            fail_msg("%s as json: %.*s", name, (int)o->body_len, o->body);
        json_decref(in);
        json_decref(out);
    }
    spec_destroy(s);
    buf_fini(&b);
}

static void check_suite_file(const char *name, const struct buf *text)
{
    static const enum request_type types[] = {REQUEST_JSON, REQUEST_NDJSON, REQUEST_GUESS,
                                              REQUEST_URI_LIST};
    struct request_error e;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct batch_spec *s = parse_bytes(text->data, text->len, types[i], &e);
        if (!s)
            check_error(&e);
        if (types[i] == REQUEST_JSON && name[0] == 'n' && s)
            fail_msg("%s is taken", name);
        if (types[i] == REQUEST_JSON && name[0] == 'y' && !s && e.offset >= 0 &&
            !is_exception(name))
            fail_msg("%s: %s", name, e.detail);
        spec_destroy(s);
    }
    check_payload(name, text);
}

static void test_json_test_suite(void **state)
{
    (void)state;
    char folder[TESTDATA_PATH], path[TESTDATA_PATH + NAME_MAX + 2];
    DIR *dir = opendir(testdata_path("jsontestsuite/test_parsing", folder));
    if (!dir) {
        print_message("# JSONTestSuite is not there (GATHERD_TESTDATA)\n");
        skip();
    }
    int files = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct buf text;
        if (!strstr(entry->d_name, ".json"))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        assert_true(read_whole(path, &text));
        check_suite_file(entry->d_name, &text);
        buf_fini(&text);
        files++;
    }
    (void)closedir(dir);
    assert_true(files > 300);
}

/* Naughty strings as url, id and header: what comes out is what went in, or a 400. */
static void check_naughty(const json_t *string)
{
    struct request_error e;
    const char *text = json_string_value(string);
    json_t *member = json_pack("[{s:s,s:s,s:s}]", "url", text, "id", text, "body", text);
    char *body = json_dumps(member, JSON_ENSURE_ASCII);
    assert_non_null(body);
    struct batch_spec *s = parse_query(body, REQUEST_JSON, "", &e);
    if (!s) {
        assert_true(strlen(text) > 256);
        assert_string_equal(e.pointer, "/0/id");
    } else {
        assert_string_equal(s->members[0].url, text);
        assert_string_equal(s->members[0].id, text);
        assert_int_equal(s->members[0].opts->body_len, strlen(text));
        assert_string_equal(s->members[0].opts->body, text);
    }
    spec_destroy(s);
    json_decref(member);
    free(body);
}

static void test_naughty_strings(void **state)
{
    (void)state;
    char path[TESTDATA_PATH];
    json_t *list = json_load_file(testdata_path("blns/blns.json", path), 0, NULL);
    if (!list) {
        print_message("# the list of naughty strings is not there (GATHERD_TESTDATA)\n");
        skip();
    }
    assert_true(json_array_size(list) > 500);
    for (size_t i = 0; i < json_array_size(list); i++)
        check_naughty(json_array_get(list, i));
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_taken, setup),
        cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_refused_includes, setup),
        cmocka_unit_test_setup(test_credentials_are_not_said, setup),
        cmocka_unit_test_setup(test_refused_headers, setup),
        cmocka_unit_test_setup(test_content_types, setup),
        cmocka_unit_test_setup(test_options_are_shared, setup),
        cmocka_unit_test_setup(test_userinfo, setup),
        cmocka_unit_test_setup(test_credentials_are_shared, setup),
        cmocka_unit_test_setup(test_configuration, setup),
        cmocka_unit_test_setup(test_bytes_in_bodies, setup),
        cmocka_unit_test_setup(test_every_byte, setup),
        cmocka_unit_test_setup(test_most_members, setup),
        cmocka_unit_test_setup(test_depth, setup),
        cmocka_unit_test_setup(test_amplification, setup),
        cmocka_unit_test_setup(test_header_limits, setup),
        cmocka_unit_test_setup(test_long_texts, setup),
        cmocka_unit_test_setup(test_many_ids, setup),
        cmocka_unit_test_setup(test_plain, setup),
        cmocka_unit_test_setup(test_plain_at_random, setup),
        cmocka_unit_test_setup(test_out_of_memory, setup),
        cmocka_unit_test_setup(test_budget_ends_in_token, setup),
        cmocka_unit_test_setup(test_json_test_suite, setup),
        cmocka_unit_test_setup(test_naughty_strings, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

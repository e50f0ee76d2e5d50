/* SPDX-License-Identifier: MIT
 *
 * encode_json, encode_ndjson: golden answers of small batches, and properties that hold for any:
 * JSON that another library reads, with every field in the order of the contract; times that add
 * up to the microsecond; no credentials. jansson is the judge; the encoders do not know it.
 */
#include "encode.h"

#include <jansson.h>

#include "encode_fixture.h"
#include "target.h"

static const char *render_member(size_t index)
{
    struct encode_at at = {.index = index};
    buf_clear(&out);
    while (!encode_member_object(&out, &view, &at, NULL))
        ;
    return buf_cstr(&out);
}

static json_t *parse(const char *text, size_t n)
{
    json_error_t error;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (root == NULL)
        fail_msg("%s at byte %d of: %.*s", error.text, error.position, (int)n, text);
    return root;
}

static json_t *parse_member(size_t index)
{
    const char *text = render_member(index);
    return parse(text, strlen(text));
}

static const char done_object[] =
    "{\"index\":0,\"id\":\"first\",\"ok\":true,\"state\":\"done\",\"url\":\"https://a.example\","
    "\"url_effective\":\"https://a.example/\",\"method\":\"GET\",\"scheme\":\"https\","
    "\"status\":200,\"http_version\":\"1.1\",\"content_type\":\"text/html\","
    "\"remote_ip\":\"93.184.216.34\",\"remote_port\":443,\"num_connects\":1,"
    "\"num_redirects\":0,\"num_retries\":0,\"started_at\":\"2026-11-01T12:00:00.000123Z\","
    "\"start_offset_ms\":0.000,\"ttfb_ms\":80.150,\"total_ms\":83.250,"
    "\"timings_ms\":{\"queue\":0.000,\"dns\":1.200,\"connect\":9.800,\"tls\":21.000,"
    "\"send\":0.150,\"wait\":48.000,\"receive\":3.100,\"total\":83.250},"
    "\"size_request\":86,\"size_upload\":0,\"size_header\":301,\"size_download\":6417,"
    "\"size_delivered\":19252,\"truncated\":false,\"speed_download\":77081,"
    "\"retryable\":false,\"retry_after_ms\":null,\"error\":null}";

static const char failed_object[] =
    "{\"index\":1,\"id\":null,\"ok\":false,\"state\":\"failed\",\"url\":\"http://b.example\","
    "\"url_effective\":\"http://b.example/\",\"method\":\"GET\",\"scheme\":\"http\","
    "\"status\":null,\"http_version\":null,\"content_type\":null,"
    "\"remote_ip\":null,\"remote_port\":null,\"num_connects\":0,"
    "\"num_redirects\":2,\"num_retries\":1,\"started_at\":\"2026-11-01T12:00:01.500123Z\","
    "\"start_offset_ms\":1500.000,\"ttfb_ms\":null,\"total_ms\":240.900,"
    "\"timings_ms\":{\"queue\":1500.000,\"dns\":0.900,\"connect\":240.000,\"tls\":null,"
    "\"send\":null,\"wait\":null,\"receive\":null,\"total\":1740.900},"
    "\"size_request\":0,\"size_upload\":0,\"size_header\":0,\"size_download\":0,"
    "\"size_delivered\":0,\"truncated\":false,\"speed_download\":0,"
    "\"retryable\":true,\"retry_after_ms\":2500.000,\"error\":{\"type\":\"connection_refused\","
    "\"phase\":\"connect\",\"message\":\"no\\n\\\"luck\\\"\",\"exitcode\":7,\"os_errno\":111,"
    "\"rule\":null,\"sent\":false}}";

static const char denied_object[] =
    "{\"index\":2,\"id\":null,\"ok\":false,\"state\":\"denied\",\"url\":\"http://10.0.0.7\","
    "\"url_effective\":null,\"method\":\"GET\",\"scheme\":null,"
    "\"status\":null,\"http_version\":null,\"content_type\":null,"
    "\"remote_ip\":null,\"remote_port\":null,\"num_connects\":0,"
    "\"num_redirects\":0,\"num_retries\":0,\"started_at\":null,"
    "\"start_offset_ms\":null,\"ttfb_ms\":null,\"total_ms\":null,"
    "\"timings_ms\":{\"queue\":null,\"dns\":null,\"connect\":null,\"tls\":null,"
    "\"send\":null,\"wait\":null,\"receive\":null,\"total\":0.000},"
    "\"size_request\":null,\"size_upload\":null,\"size_header\":null,\"size_download\":null,"
    "\"size_delivered\":null,\"truncated\":false,\"speed_download\":null,"
    "\"retryable\":false,\"retry_after_ms\":null,"
    "\"error\":{\"type\":\"destination_ip_prohibited\",\"phase\":null,"
    "\"message\":\"the policy does not allow this address\",\"exitcode\":null,\"os_errno\":null,"
    "\"rule\":\"10.0.0.0/8\",\"sent\":false}}";

static const char summary_fields[] =
    "\"schema_version\":1,\"batch_id\":\"b-1\",\"ok\":false,\"complete\":true,"
    "\"started_at\":\"2026-11-01T12:00:00.000123Z\",\"total_ms\":312.407,"
    "\"counts\":{\"requests\":3,\"done\":1,\"ok\":1,\"http_error\":0,\"failed\":1,"
    "\"timed_out\":0,\"denied\":1,\"cancelled\":0,\"retried\":1,\"reused_connections\":0},"
    "\"status_codes\":{\"200\":1},"
    "\"errors\":{\"connection_refused\":1,\"destination_ip_prohibited\":1},"
    "\"sizes\":{\"size_request\":86,\"size_upload\":0,\"size_header\":301,"
    "\"size_download\":6417,\"size_delivered\":19252},"
    "\"latency_ms\":{\"population\":\"done\",\"count\":1,"
    "\"total\":{\"min\":83.250,\"mean\":83.250,\"p50\":83.250,\"p90\":83.250,\"p95\":83.250,"
    "\"p99\":83.250,\"max\":83.250},"
    "\"ttfb\":{\"min\":80.150,\"mean\":80.150,\"p50\":80.150,\"p90\":80.150,\"p95\":80.150,"
    "\"p99\":80.150,\"max\":80.150}},"
    "\"concurrency\":{\"limit\":50,\"peak\":4,\"sequential_ms\":324.150,\"speedup\":1.038},"
    "\"critical_path\":{\"index\":1,\"phase\":\"queue\",\"ms\":1500.000,\"saves_ms\":229.157},"
    "\"daemon\":{\"loop_lag_max_ms\":0.400,\"overhead_ms\":0.900}";

static void test_member_objects(void **state)
{
    (void)state;
    add_three();
    assert_string_equal(render_member(0), done_object);
    assert_string_equal(render_member(1), failed_object);
    assert_string_equal(render_member(2), denied_object);
}

static void test_json_view(void **state)
{
    (void)state;
    struct buf want;
    add_three();
    buf_init(&want, 0);
    buf_printf(&want, "{%s,\n\"results\":[\n%s,\n%s,\n%s\n],\n\"retry\":null}\n", summary_fields,
               done_object, failed_object, denied_object);
    assert_string_equal(render(&encode_json), buf_cstr(&want));
    buf_fini(&want);
}

/* As the front end calls it: members in the order in which they ended, without a summary. */
static void test_ndjson_view(void **state)
{
    (void)state;
    struct buf want;
    add_three();
    assert_null(view.summary);
    encode_ndjson.begin(&out, &view);
    assert_int_equal(out.len, 0);
    add_item(&encode_ndjson, &out, 2);
    add_item(&encode_ndjson, &out, 0);
    add_item(&encode_ndjson, &out, 1);
    assert_true(summary_compute(&summary, &view, &input));
    view.summary = &summary;
    encode_ndjson.end(&out, &view);
    buf_init(&want, 0);
    buf_printf(&want,
               "{\"type\":\"result\",%s\n{\"type\":\"result\",%s\n{\"type\":\"result\",%s\n"
               "{\"type\":\"summary\",%s,\"retry\":null}\n",
               denied_object + 1, done_object + 1, failed_object + 1, summary_fields);
    assert_string_equal(buf_cstr(&out), buf_cstr(&want));
    buf_fini(&want);
}

static void test_summary_nulls(void **state)
{
    (void)state;
    add("nonsense", MEMBER_FAILED)->error.type = ERR_URL_INVALID;
    const char *text = render(&encode_json);
    assert_non_null(strstr(text, "\"status_codes\":{},\"errors\":{\"url_invalid\":1},"));
    assert_non_null(strstr(text, "\"count\":0,\"total\":null,\"ttfb\":null},"));
    assert_non_null(strstr(text, "\"sequential_ms\":0.000,\"speedup\":null},"));
    assert_non_null(strstr(text, "\"critical_path\":null,"));
}

static void test_means_are_rounded(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        set_times(add_done("http://a", 200), (int64_t[]){0, i == 2, -1, -1, -1, 100, -1});
    input.total_us = 256;
    const char *text = render(&encode_json);
    assert_non_null(strstr(text, "\"total\":{\"min\":0.100,\"mean\":0.100,\"p50\":0.100,"));
    assert_non_null(strstr(text, "\"speedup\":1.176}")); /* 301 / 256 = 1.1758 */
    results[1].timings.us[PHASE_DNS] = 1;
    assert_non_null(strstr(render(&encode_json), "\"mean\":0.101,")); /* 100.67 us */
}

static void test_http_versions(void **state)
{
    (void)state;
    static const struct {
        uint8_t version;
        const char *text;
    } cases[] = {{10, "1.0"}, {11, "1.1"}, {20, "2"}, {30, "3"}, {0, NULL}, {12, NULL}};
    struct result *r = add_done("http://a", 200);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r->http_version = cases[i].version;
        json_t *root = parse_member(0);
        const char *text = json_string_value(json_object_get(root, "http_version"));
        if (cases[i].text == NULL)
            assert_null(text);
        else
            assert_string_equal(text, cases[i].text);
        json_decref(root);
    }
}

static void test_speed(void **state)
{
    (void)state;
    struct result *r = add_done("http://a", 200);
    set_times(r, (int64_t[]){100, -1, -1, -1, -1, 3, -1});
    r->sizes.download = 10;
    assert_non_null(strstr(render_member(0), "\"speed_download\":3333333,"));
    r->sizes.download = INT64_MAX;
    assert_non_null(strstr(render_member(0), "\"speed_download\":null,"));
    set_times(r, (int64_t[]){100, -1, -1, -1, -1, 0, -1});
    r->sizes.download = 0;
    assert_non_null(strstr(render_member(0), "\"speed_download\":null,"));
}

static const struct {
    const char *url, *shown;
} urls[] = {
    {"http://a/", "http://a/"},
    {"http://u@a/", "http://a/"},
    {"http://u:p@a/x?y#z", "http://a/x?y#z"},
    {"https://u:p@a", "https://a"},
    {"http://u:p@w@a/", "http://a/"},
    {"http://@a/", "http://a/"},
    {"http://u:p@", "http://"},
    {"http://a/@b", "http://a/@b"},
    {"http://a?u:p@b", "http://a?u:p@b"},
    {"http://a#@b", "http://a#@b"},
    {"http://a\\@b", "http://a\\@b"},
    {"http://a/?to=http://u:p@b/", "http://a/?to=http://u:p@b/"},
    {"http:\\\\u:p@a/", "http:\\\\a/"},
    {"http:/u:p@a/", "http:/a/"},
    {"http:u:p@a/", "http:a/"},
    {"HTTPS:u:p@a/", "HTTPS:a/"},
    {"http:////u:p@a/", "http:////a/"},
    {"http:\t//u:p@a/", "http:\t//a/"},
    {"http:/\t/u:p@a/", "http:/\t/a/"},
    {"http:\\/u:p@a/", "http:\\/a/"},
    {"http%3a//u:p@a/", "http%3a//a/"},
    {"http://a\\b@c", "http://a\\b@c"},
    {"http://u:p@a\\b@c", "http://a\\b@c"},
    {"http://a/web//u@b", "http://a/web//u@b"},
    {" http://u:p@a/", " http://a/"},
    {"<http://u:p@a/>", "<http://a/>"},
    {"x//u:p@a//v:q@b/", "x//b/"},
    {"x@y//u:p@a/", "a/"},
    {"u:p@@a//@b//c", "b//c"},
    {"//u:p@a/", "//a/"},
    {"u:p@a", "a"},
    {"u@a:80/x", "a:80/x"},
    {"@", ""},
    {"//", "//"},
    {":", ":"},
    {"no url at all", "no url at all"},
    {"http://", "http://"},
    {"", ""},
    {"ftp://u:p@a/", "ftp://a/"},
    {"http://\xC3\xBC:p@a/\xFF", "http://a/\xEF\xBF\xBD"},
};

static void test_credentials_are_not_echoed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        add(urls[i].url, MEMBER_FAILED);
    for (size_t i = 0; i < spec.count; i++) {
        json_t *root = parse_member(i);
        assert_string_equal(json_string_value(json_object_get(root, "url")), urls[i].shown);
        json_decref(root);
    }
}

/* Of a URL that was understood only the userinfo is left out, whatever its path looks like. */
static void test_path_of_a_good_url_is_echoed(void **state)
{
    (void)state;
    static struct origin origin;
    add("http://u:p@a/x//y@z", MEMBER_FAILED);
    spec.members[0].origin = &origin;
    json_t *root = parse_member(0);
    assert_string_equal(json_string_value(json_object_get(root, "url")), "http://a/x//y@z");
    json_decref(root);
    spec.members[0].origin = NULL;
}

static struct result_extra *add_extra(void)
{
    struct result_extra *x = result_extra(add_done("http://a", 200));
    assert_non_null(x);
    return x;
}

/* What follows the error, without the closing brace. */
static const char *included(unsigned include)
{
    spec.include = include;
    const char *text = render_member(0);
    const char *start = strstr(text, "\"error\":null");
    assert_non_null(start);
    assert_true(out.len > 0 && out.data[out.len - 1] == '}');
    out.data[out.len - 1] = '\0';
    return start + strlen("\"error\":null");
}

static void test_include_nothing(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    buf_add_str(&x->body, "text");
    x->has_body = x->has_headers = x->has_sha256 = x->has_text_length = x->has_curl = true;
    assert_string_equal(included(0), "");
}

static void test_include_nulls(void **state)
{
    (void)state;
    static const char nulls[] = ",\"headers\":null,\"body\":null,\"body_sha256\":null,"
                                "\"text_length\":null,\"redirects\":[],\"curl\":null";
    add_extra();
    assert_string_equal(included(INCLUDE_ALL), nulls);
    free(results[0].extra);
    results[0].extra = NULL;
    assert_string_equal(included(INCLUDE_ALL), nulls);
}

static void test_include_headers(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->has_headers = true;
    assert_string_equal(included(INCLUDE_HEADERS), ",\"headers\":[]");
    BUF_ADD_LITERAL(&x->headers, "Set-Cookie\0a=\"b\"\0X-Empty\0\0set-cookie\0c\xE9\0");
    assert_string_equal(included(INCLUDE_HEADERS),
                        ",\"headers\":[[\"Set-Cookie\",\"a=\\\"b\\\"\"],[\"X-Empty\",\"\"],"
                        "[\"set-cookie\",\"c\xEF\xBF\xBD\"]]");
    x->headers_cut = true;
    assert_string_equal(included(INCLUDE_HEADERS), ",\"headers\":null");
    assert_non_null(strstr(render_member(0), "\"truncated\":true,"));
    spec.include = INCLUDE_BODY;
    assert_non_null(strstr(render_member(0), "\"truncated\":false,"));
}

/* A list that ends too early is still read within its bounds. */
static void test_include_broken_headers(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->has_headers = true;
    BUF_ADD_LITERAL(&x->headers, "a\0b");
    assert_string_equal(included(INCLUDE_HEADERS), ",\"headers\":[[\"a\",\"b\"]]");
    x->headers.len = 2;
    assert_string_equal(included(INCLUDE_HEADERS), ",\"headers\":[[\"a\",\"\"]]");
    x->headers.len = 1;
    assert_string_equal(included(INCLUDE_HEADERS), ",\"headers\":[[\"a\",\"\"]]");
}

static void test_include_body(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->has_body = true;
    assert_string_equal(included(INCLUDE_BODY), ",\"body\":\"\"");
    BUF_ADD_LITERAL(&x->body, "\xC3\xA4\n\0\"");
    assert_string_equal(included(INCLUDE_BODY), ",\"body\":\"\xC3\xA4\\n\\u0000\\\"\"");
    BUF_ADD_LITERAL(&x->body, "\xFF");
    assert_string_equal(included(INCLUDE_BODY), ",\"body_base64\":\"w6QKACL/\"");
    x->body_cut = true;
    assert_string_equal(included(INCLUDE_BODY), ",\"body\":null");
    assert_non_null(strstr(render_member(0), "\"truncated\":true,"));
}

/* Cut at max_response_bytes, within a character: still text. Rubbish elsewhere: still base64. */
/* A long body comes in pieces of a bounded size, and they are what it would be in one. */
static void test_body_in_pieces(void **state)
{
    (void)state;
    static const char *const fill[] = {"a", "\x01", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xFF"};
    struct result_extra *x = add_extra();
    struct buf want;
    x->has_body = true;
    spec.include = INCLUDE_BODY | INCLUDE_BODY_SHA256;
    for (size_t k = 0; k < sizeof fill / sizeof *fill; k++) {
        for (size_t lead = 0; lead < 5; lead++) {
            buf_clear(&x->body);
            for (size_t i = 0; i < lead; i++)
                buf_add_char(&x->body, 'x');
            for (size_t i = 0; i < 3 * ENCODE_BODY_PIECE; i++)
                buf_add_str(&x->body, fill[k]);
            buf_init(&want, 0);
            if (fill[k][0] == '\xFF')
                buf_add_base64(&want, x->body.data, x->body.len);
            else
                buf_add_json_part(&want, x->body.data, x->body.len);
            struct encode_at at = {.index = 0};
            size_t pieces = 1, before = 0;
            buf_clear(&out);
            for (; !encode_json.item(&out, &view, &at); pieces++, before = out.len)
                assert_in_range(out.len - before, 1, 6 * ENCODE_BODY_PIECE + 2000);
            assert_in_range(pieces, 3, 13);
            assert_non_null(strstr(buf_cstr(&out), buf_cstr(&want)));
            assert_non_null(strstr(buf_cstr(&out), "\",\"body_sha256\":null}"));
            buf_fini(&want);
        }
    }
}

/* Bytes of the URL as it is written, `times` fills in the middle. */
struct long_url {
    const char *before, *after; /* around them, as posted */
    const char *shown;          /* before what is shown of them */
    bool secret;                /* they are part of a userinfo */
};

static void check_long_url(const struct long_url *u, const char *fill, size_t times)
{
    struct buf url, want;
    buf_init(&url, 0);
    buf_init(&want, 0);
    buf_add_str(&url, u->before);
    for (size_t i = 0; i < times; i++)
        buf_add_str(&url, fill);
    size_t from = strlen(u->before), filled = u->secret ? from : url.len;
    buf_add_str(&url, u->after);
    BUF_ADD_LITERAL(&want, ",\"url\":\"");
    buf_add_str(&want, u->shown);
    buf_add_json_part(&want, url.data + from, filled - from);
    buf_add_str(&want, u->secret ? u->after + 1 : u->after);
    BUF_ADD_LITERAL(&want, "\",\"url_effective\":null,");
    members[0].url = buf_cstr(&url);
    members[0].url_len = (uint32_t)url.len;
    struct encode_at at = {.index = 0};
    size_t before = 0;
    buf_clear(&out);
    for (; !encode_ndjson.item(&out, &view, &at); before = out.len)
        assert_in_range(out.len - before, 1, 6 * ENCODE_BODY_PIECE + 2000);
    assert_in_range(out.len - before, 1, 6 * ENCODE_BODY_PIECE + 2000);
    assert_non_null(strstr(buf_cstr(&out), buf_cstr(&want)));
    buf_fini(&url);
    buf_fini(&want);
}

/* So does what is no URL, at whatever length; without the userinfo that it may have. */
static void test_url_in_pieces(void **state)
{
    (void)state;
    static const char *const fill[] = {"a", "\x01", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                                       "\xFF", "\xE2\x82", "\xF0\x9F\x98", "\xE2\x82\xF0", "\x80"};
    static const struct long_url cases[] = {
        {"", "", "", false},          {"x", "/", "x", false},
        {"xy", "?", "xy", false},     {"xyz", "#", "xyz", false},
        {"u:p@", "", "", false},      {"http://u:p@", "", "http://", false},
        {"http://u", "@h", "http://", true},
    };
    add("", MEMBER_DENIED);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t k = 0; k < sizeof fill / sizeof *fill; k++) {
            check_long_url(&cases[i], fill[k], ENCODE_BODY_PIECE / 4 - 2);
            check_long_url(&cases[i], fill[k], 3 * ENCODE_BODY_PIECE);
        }
    }
}

static void test_include_truncated_body(void **state)
{
    (void)state;
    static const struct {
        const char *body, *shown;
    } cases[] = {
        {"a\xC3", ",\"body\":\"a\""},
        {"a\xE2\x82", ",\"body\":\"a\""},
        {"a\xF0\x9F\x98", ",\"body\":\"a\""},
        {"\xF0\x9F\x98", ",\"body\":\"\""},
        {"a\xE2\x82\xAC", ",\"body\":\"a\xE2\x82\xAC\""},
        {"a\x80", ",\"body_base64\":\"YYA=\""},
        {"\xFF\xC3", ",\"body_base64\":\"/8M=\""},
        {"a\xE2\x28", ",\"body_base64\":\"YeIo\""},
    };
    struct result_extra *x = add_extra();
    x->has_body = true;
    results[0].truncated = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_clear(&x->body);
        buf_add_str(&x->body, cases[i].body);
        assert_string_equal(included(INCLUDE_BODY), cases[i].shown);
        assert_non_null(strstr(render_member(0), "\"truncated\":true,"));
    }
    results[0].truncated = false;
    buf_clear(&x->body);
    buf_add_str(&x->body, "a\xC3");
    assert_string_equal(included(INCLUDE_BODY), ",\"body_base64\":\"YcM=\"");
}

static void test_include_digest_and_length(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->has_sha256 = x->has_text_length = true;
    for (size_t i = 0; i < sizeof x->sha256; i++)
        x->sha256[i] = (uint8_t)(i * 8 + 7);
    x->text_length = 0;
    assert_string_equal(included(INCLUDE_BODY_SHA256 | INCLUDE_TEXT_LENGTH),
                        ",\"body_sha256\":\"070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7"
                        "dfe7eff7ff\",\"text_length\":0");
    x->text_length = -1;
    assert_string_equal(included(INCLUDE_TEXT_LENGTH), ",\"text_length\":null");
}

static void test_include_redirects(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->hops = calloc(2, sizeof x->hops[0]);
    assert_non_null(x->hops);
    x->hop_count = 2;
    for (size_t i = 0; i < 2; i++) {
        x->hops[i].url = copy(i == 0 ? "http://a/" : "https://a/");
        x->hops[i].status = i == 0 ? 301 : 308;
        timings_clear(&x->hops[i].timings);
    }
    x->hops[0].timings.us[PHASE_WAIT] = 1001;
    x->hops[0].remote_port = 80;
    assert_true(ip_parse("2001:db8::1", &x->hops[0].remote_ip));
    assert_string_equal(
        included(INCLUDE_REDIRECTS),
        ",\"redirects\":[{\"url\":\"http://a/\",\"status\":301,\"remote_ip\":\"2001:db8::1\","
        "\"remote_port\":80,\"timings_ms\":{\"queue\":null,\"dns\":null,\"connect\":null,"
        "\"tls\":null,\"send\":null,\"wait\":1.001,\"receive\":null,\"total\":1.001}},"
        "{\"url\":\"https://a/\",\"status\":308,\"remote_ip\":null,\"remote_port\":null,"
        "\"timings_ms\":{\"queue\":null,\"dns\":null,\"connect\":null,\"tls\":null,"
        "\"send\":null,\"wait\":null,\"receive\":null,\"total\":0.000}}]");
}

static void test_include_curl(void **state)
{
    (void)state;
    struct result_extra *x = add_extra();
    x->has_curl = true;
    x->curl.namelookup = 0;
    x->curl.connect = 12;
    x->curl.starttransfer = 1234567;
    x->curl.total = 60000000;
    x->curl.num_connects = 1;
    x->curl.local_port = 50123;
    assert_true(ip_parse("192.0.2.1", &x->curl.local_ip));
    assert_string_equal(
        included(INCLUDE_CURL),
        ",\"curl\":{\"time_namelookup\":0.000000,\"time_connect\":0.000012,"
        "\"time_appconnect\":null,\"time_pretransfer\":null,\"time_starttransfer\":1.234567,"
        "\"time_total\":60.000000,\"num_connects\":1,\"local_ip\":\"192.0.2.1\","
        "\"local_port\":50123}");
}

static const char *const member_keys[] = {
    "index", "id", "ok", "state", "url", "url_effective", "method", "scheme", "status",
    "http_version", "content_type", "remote_ip", "remote_port", "num_connects", "num_redirects",
    "num_retries", "started_at", "start_offset_ms", "ttfb_ms", "total_ms", "timings_ms",
    "size_request", "size_upload", "size_header", "size_download", "size_delivered", "truncated",
    "speed_download", "retryable", "retry_after_ms", "error",
};
#define MEMBER_KEYS (sizeof member_keys / sizeof member_keys[0])

static const char *const summary_keys[] = {
    "schema_version", "batch_id", "ok", "complete", "started_at", "total_ms", "counts",
    "status_codes", "errors", "sizes", "latency_ms", "concurrency", "critical_path", "daemon",
};
#define SUMMARY_KEYS (sizeof summary_keys / sizeof summary_keys[0])

/* The first keys of an object, in order; jansson keeps it. Returns the iterator behind them. */
static void *check_keys(json_t *object, const char *const *keys, size_t count)
{
    void *at = json_object_iter(object);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(at);
        assert_string_equal(json_object_iter_key(at), keys[i]);
        at = json_object_iter_next(object, at);
    }
    return at;
}

/* A time in microseconds, null = -1. The number must have been a whole number of them. */
static int64_t get_us(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    assert_non_null(value);
    if (json_is_null(value))
        return TIME_NULL;
    assert_true(json_is_real(value));
    return (int64_t)(json_real_value(value) * 1000.0 + 0.5);
}

static void check_timings(json_t *owner)
{
    json_t *timings = json_object_get(owner, "timings_ms");
    int64_t sum = 0, work = 0;
    for (int p = 0; p < PHASE_COUNT; p++) {
        int64_t us = get_us(timings, phase_name((enum phase)p));
        sum += us > 0 ? us : 0;
        work += us > 0 && p != PHASE_QUEUE ? us : 0;
    }
    assert_int_equal(sum, get_us(timings, "total"));
    assert_int_equal(json_object_size(timings), PHASE_COUNT + 1);
    if (json_object_get(owner, "total_ms") != NULL && get_us(owner, "total_ms") >= 0)
        assert_int_equal(work, get_us(owner, "total_ms"));
}

static void check_included(json_t *member, void *at)
{
    static const char *const keys[] = {"headers",     "body",      "body_sha256",
                                       "text_length", "redirects", "curl"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!(spec.include & 1U << i))
            continue;
        assert_non_null(at);
        if (strcmp(json_object_iter_key(at), "body_base64") != 0)
            assert_string_equal(json_object_iter_key(at), keys[i]);
        else
            assert_string_equal(keys[i], "body");
        at = json_object_iter_next(member, at);
    }
    assert_null(at);
}

static void check_member(json_t *member, size_t index)
{
    const struct result *r = &results[index];
    check_included(member, check_keys(member, member_keys, MEMBER_KEYS));
    check_timings(member);
    assert_int_equal(json_integer_value(json_object_get(member, "index")), index);
    assert_int_equal(get_us(member, "ttfb_ms"), r->ttfb_us);
    assert_int_equal(get_us(member, "total_ms"), result_work_us(r));
    assert_int_equal(json_is_null(json_object_get(member, "size_header")),
                     r->start_us == TIME_NULL);
    assert_int_equal(json_is_null(json_object_get(member, "started_at")), r->start_us == TIME_NULL);
    assert_int_equal(json_is_null(json_object_get(member, "error")), r->error.type == ERR_NONE);
    assert_int_equal(json_is_null(json_object_get(member, "scheme")), r->url_effective == NULL);
    assert_int_equal(json_is_null(json_object_get(member, "remote_ip")), r->remote_ip.family == 0);
}

static void check_json(void)
{
    const char *text = render(&encode_json);
    json_t *root = parse(text, out.len);
    void *at = check_keys(root, summary_keys, SUMMARY_KEYS);
    assert_string_equal(json_object_iter_key(at), "results");
    at = json_object_iter_next(root, at);
    assert_string_equal(json_object_iter_key(at), "retry");
    assert_null(json_object_iter_next(root, at));
    json_t *list = json_object_get(root, "results");
    assert_int_equal(json_array_size(list), spec.count);
    for (size_t i = 0; i < spec.count; i++)
        check_member(json_array_get(list, i), i);
    json_decref(root);
}

static void check_ndjson(void)
{
    const char *line = render(&encode_ndjson);
    size_t lines = 0;
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *object = parse(line, (size_t)(end - line));
        const char *type = json_string_value(json_object_get(object, "type"));
        assert_non_null(type);
        assert_string_equal(type, lines < spec.count ? "result" : "summary");
        json_decref(object);
        lines++;
    }
    assert_int_equal(lines, spec.count + 1);
    assert_string_equal(line, "");
}

static void test_random_batches(void **state)
{
    (void)state;
    random_state = 0xD1B54A32D192ED03;
    for (int round = 0; round < 2000; round++) {
        make_random_batch();
        check_json();
        check_ndjson();
        free_random_batch();
    }
}

/* Every number as wide as it can be, in all places at once: a run asserts that it holds them. */
static void test_widest_fields(void **state)
{
    (void)state;
    struct result *r = add_done("http://a.example", 999);
    members[0].id = "x";
    for (int p = 0; p < PHASE_COUNT; p++)
        r->timings.us[p] = INT64_MAX / PHASE_COUNT;
    r->status = r->num_connects = r->num_redirects = r->num_retries = INT32_MIN;
    r->ok = false;
    r->truncated = true;
    r->remote_port = UINT16_MAX;
    assert_true(ip_parse("2001:db8:1111:2222:3333:4444:255.255.255.255", &r->remote_ip));
    r->ttfb_us = r->retry_after_us = INT64_MAX;
    r->start_us = INT64_MAX - STARTED_WALL_US;
    r->sizes = (struct result_sizes){INT64_MIN, INT64_MIN, INT64_MIN, INT64_MAX, INT64_MIN};
    for (int type = ERR_NONE + 1; type < ERR_COUNT; type++) {
        r->error = (struct result_error){.type = (enum err_type)type,
                                         .phase = PHASE_RECEIVE,
                                         .exitcode = INT32_MIN,
                                         .os_errno = INT32_MIN};
        /* with runs in the buffer and beside it */
        for (size_t cap = 127; cap <= 8191; cap = cap * 2 + 1) {
            json_decref(parse_member(0));
            buf_fini(&out);
            assert_non_null(buf_reserve(&out, cap));
        }
    }
}

/* A summary in which every status and every error was seen, however often. */
static void test_widest_summary(void **state)
{
    (void)state;
    add_done("http://a.example", 200);
    assert_true(summary_compute(&summary, &view, &input));
    summary.status_first = 100;
    summary.status_last = VIEW_STATUS_END - 1;
    for (int i = 100; i < VIEW_STATUS_END; i++)
        summary.status_codes[i] = UINT32_MAX;
    for (int i = 0; i < ERR_COUNT; i++)
        summary.errors[i] = INT64_MIN;
    int64_t *const wide[] = {&summary.total_us, &summary.done, &summary.n_ok, &summary.http_error,
                             &summary.failed, &summary.timed_out, &summary.denied,
                             &summary.cancelled, &summary.retried, &summary.reused,
                             &summary.latency_count, &summary.concurrency_limit,
                             &summary.concurrency_peak, &summary.sequential_us,
                             &summary.critical_us, &summary.critical_saves_us,
                             &summary.loop_lag_max_us, &summary.overhead_us};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        *wide[i] = INT64_MIN;
    summary.critical_index = INT64_MAX;
    summary.sizes = (struct result_sizes){INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};
    summary.latency_total = summary.latency_ttfb = (struct view_stats){
        INT64_MAX, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, 9e18};
    view.summary = &summary;
    buf_add_char(&out, '{');
    encode_summary_fields(&out, &view);
    buf_add_char(&out, '}');
    json_t *root = parse(out.data, out.len);
    assert_int_equal(json_object_size(json_object_get(root, "status_codes")), 900);
    assert_int_equal(json_object_size(json_object_get(root, "errors")), ERR_COUNT - 1);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_member_objects),
        TEST(test_json_view),
        TEST(test_ndjson_view),
        TEST(test_summary_nulls),
        TEST(test_means_are_rounded),
        TEST(test_http_versions),
        TEST(test_speed),
        TEST(test_credentials_are_not_echoed),
        TEST(test_path_of_a_good_url_is_echoed),
        TEST(test_include_nothing),
        TEST(test_include_nulls),
        TEST(test_include_headers),
        TEST(test_include_broken_headers),
        TEST(test_include_body),
        TEST(test_body_in_pieces),
        TEST(test_url_in_pieces),
        TEST(test_include_truncated_body),
        TEST(test_include_digest_and_length),
        TEST(test_include_redirects),
        TEST(test_include_curl),
        TEST(test_random_batches),
        TEST(test_widest_fields),
        TEST(test_widest_summary),
    };
    return cmocka_run_group_tests_name("encode_json", tests, NULL, NULL);
}

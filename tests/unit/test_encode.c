/* SPDX-License-Identifier: MIT
 *
 * encode: the choice of a view by Accept or format, and what holds for all views when memory ends.
 */
#include "encode.h"

#include "encode_fixture.h"

static const struct {
    const char *accept;
    const char *name; /* NULL = 406 */
} accepts[] = {
    {NULL, "json"},
    {"", "json"},
    {" ,\t, ", "json"},
    {"*/*", "json"},
    {"*", "json"},
    {"application/json", "json"},
    {"APPLICATION/Json", "json"},
    {"application/json; charset=utf-8", "json"},
    {"application/x-ndjson", "ndjson"},
    {"text/plain", "text"},
    {"text/plain;charset=utf-8", "text"},
    {"text/*", "text"},
    {"application/*", "json"},
    {"text/plain, application/json", "json"},
    {"text/plain, application/x-ndjson", "ndjson"},
    {"text/plain, */*;q=0.5", "text"},
    {"text/plain, */*", "json"},
    {"application/json;q=0.5, text/plain;q=0.6", "text"},
    {"application/json;q=0.501, text/plain;q=0.5", "json"},
    {"application/json;q=0.5,application/x-ndjson;q=0.501", "ndjson"},
    {"application/json;q=0, */*", "ndjson"},
    {"application/*;q=0, */*", "text"},
    {"*/*, application/*;q=0.0", "text"},
    {"application/*;q=0.1, application/x-ndjson;q=0.2, text/plain;q=0.15", "ndjson"},
    {"application/json;q=0.1, application/*;q=0.9, */*;q=0.2", "ndjson"},
    {"*/*;q=0", NULL},
    {"*/*;q=0.000", NULL},
    {"application/json;q=0", NULL},
    {"image/png", NULL},
    {"text/html", NULL},
    {"application/jsonp", NULL},
    {"application/jso", NULL},
    {"application", NULL},
    {"application/", NULL},
    {"/json", NULL},
    {"application/json/x", NULL},
    {"application/json x", NULL},
    {"*/json", NULL},
    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "json"},
    {"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "json"},
    {"application/json, text/plain, */*", "json"},
    {"rubbish, text/plain", "text"},
    {";q=0, text/plain", "text"},
    {"text/plain ; q = 0.1 , application/json\t;q=0.05", "text"},
    {"text/plain;q=1.000, application/json;q=0.999", "text"},
    {"text/plain;q=7, application/json;q=0.999", "text"},
    {"text/plain;q=7, application/json", "json"},
    {"text/plain;q=0.2, text/plain;a=b;q=0.9, application/json;q=0.5", "text"},
    {"text/plain;q=0.9, text/plain;a=b;q=0.2, application/json;q=0.5", "text"},
    {"text/plain;q=99999999999999999999, application/json;q=0.9", "text"},
    {"text/plain;q=0.99999999999999999999999, application/json;q=0.9", "text"},
    {"text/plain;q=, application/json;q=0.9", "text"},
    {"text/plain;q=., application/json;q=0.9", "text"},
    {"text/plain;q=high, application/json;q=0.9", "text"},
    {"text/plain;quality=0, application/json;q=0.9", "text"},
    {"text/plain;a=\";q=0, \\\"\";q=0.95, application/json;q=0.9", "text"},
    {"text/plain;a=\"application/json", "text"},
    {"text/plain;q=0;q", NULL},
};

static void test_pick_by_accept(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepts / sizeof accepts[0]; i++) {
        const struct encoder *e = encode_pick(accepts[i].accept, NULL);
        const char *name = e != NULL ? e->name : "406";
        if (strcmp(name, accepts[i].name != NULL ? accepts[i].name : "406") != 0)
            fail_msg("Accept: %s gives %s", accepts[i].accept, name);
    }
}

static void test_pick_by_format(void **state)
{
    (void)state;
    assert_ptr_equal(encode_pick(NULL, "json"), &encode_json);
    assert_ptr_equal(encode_pick("text/plain", "ndjson"), &encode_ndjson);
    assert_ptr_equal(encode_pick("image/png", "text"), &encode_text);
    assert_null(encode_pick("application/json", "xml"));
    assert_null(encode_pick(NULL, "JSON"));
    assert_null(encode_pick(NULL, ""));
}

static void test_media_types(void **state)
{
    (void)state;
    static const struct encoder *const all[] = {&encode_json, &encode_ndjson, &encode_text};
    char list[200] = "";
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        int type_len = (int)strcspn(all[i]->media_type, ";");
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%.*s", i > 0 ? ", " : "", type_len,
                              all[i]->media_type);
        assert_ptr_equal(encode_pick(all[i]->media_type, NULL), all[i]);
        assert_ptr_equal(encode_pick(NULL, all[i]->name), all[i]);
    }
    assert_string_equal(encode_media_types(), list);
    assert_true(encode_ndjson.streams);
    assert_false(encode_json.streams || encode_text.streams);
}

/* Wherever memory ends, the encoders stop there: never more than the limit, never a wrong byte. */
static void test_every_limit(void **state)
{
    (void)state;
    static const struct encoder *const all[] = {&encode_json, &encode_ndjson, &encode_text};
    add_three();
    members[1].url = "http://user:p@b.example";
    members[1].url_len = (uint32_t)strlen(members[1].url);
    members[2].url = "http://b.example/0123456789/0123456789/0123456789\x1B";
    members[2].url_len = (uint32_t)strlen(members[2].url);
    for (size_t i = 0; i < 3; i++) {
        render(all[i]);
        size_t whole = out.len;
        for (size_t limit = 1; limit <= whole; limit++) {
            struct buf small;
            buf_init(&small, limit);
            all[i]->begin(&small, &view);
            for (size_t k = 0; k < spec.count; k++)
                add_item(all[i], &small, k);
            all[i]->end(&small, &view);
            assert_in_range(small.len, 0, limit);
            if (limit == whole)
                assert_memory_equal(small.data, out.data, whole);
            else
                assert_true(small.failed);
            buf_fini(&small);
        }
    }
}

/* In what is no URL a delimiter may be one of the password. A port and an @ behind it are none. */
static void test_userinfo_with_delimiters(void **state)
{
    (void)state;
    static const struct {
        const char *text, *left;
    } cases[] = {
        {"https://u:a/bs3cret@h/", "https://h/"},
        {"https://u:a#s3cret@h/", "https://h/"},
        {"https://u:a?s3cret@h/", "https://h/"},
        {"http://u:s3cret\\@h/", "http://h/"},
        {"http://u:1a/s3@cret@h/", "http://h/"},
        {"u:a/s3cret@h", "h"},
        {"//u:a/s3cret@h", "//h"},
        {"x http://u:a/s3cret@h", "x http://h"},
        {"http://u:a/s3cret@h http://v:b/s3cret@g", "http://g"},
        {"http://h/who?mail=a@b c", "http://h/who?mail=a@b c"},
        {"http://h:80/who?mail=a@b c", "http://h:80/who?mail=a@b c"},
        {"http://h:8o/who", "http://h:8o/who"},
        {"http://u:123456/s3cret@h/", "http://h/"},
        {"http://u:4294967297#s3cret@h/", "http://h/"},
        {"http://DOM\\u:s3cret@h/", "http://h/"},
        {"http://DOM\\u@h/", "http://DOM\\u@h/"},
        {"http://[::1]/who?mail=a@b c", "http://[::1]/who?mail=a@b c"},
        {"http://[::1]:80/who?mail=a@b c", "http://[::1]:80/who?mail=a@b c"},
        {"http://[u:a/s3cret@h", "http://h"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i].text;
        char left[80];
        size_t at = 0, n = strlen(text), length = encode_userinfo(text, n, false, &at);
        (void)snprintf(left, sizeof left, "%.*s%s", length > 0 ? (int)at : 0, text,
                       text + (length > 0 ? at + length : 0));
        assert_string_equal(left, cases[i].left);
    }
}

/* What is no URL may be full of them: all is cut to the last, however many there are. */
static void test_many_userinfos(void **state)
{
    static const char *const pieces[] = {"/@", "//a@", "@", "a@b/c//", "http://u:p@h/ "};
    (void)state;
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces * 2; k++) {
        const char *piece = pieces[k / 2];
        size_t at = 0;
        struct buf text;
        buf_init(&text, 0);
        for (int i = 0; i < (k % 2 == 0 ? 3 : 30000); i++)
            buf_add_str(&text, piece);
        buf_add_str(&text, "//u:p@host/path");
        size_t length = encode_userinfo(text.data, text.len, false, &at);
        assert_int_equal(at + length, text.len - strlen("host/path"));
        assert_true(at <= strlen("http://"));
        assert_int_equal(encode_userinfo(text.data, 1, false, &at), text.data[0] == '@');
        buf_fini(&text);
    }
    size_t at = 0;
    assert_int_equal(encode_userinfo("", 0, false, &at), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pick_by_accept),
        TEST(test_userinfo_with_delimiters),
        TEST(test_pick_by_format),
        TEST(test_media_types),
        TEST(test_many_userinfos),
        TEST(test_every_limit),
    };
    return cmocka_run_group_tests_name("encode", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * target: that it says what url says, that members of one origin share it however it is written,
 * that texts are not copied without need, redirects, and memory that runs out.
 */
#include "url_fixture.h"

#include <jansson.h>

#include "testdata.h"

static void check_like_url(struct batch *b, const char *s, size_t n)
{
    struct url u;
    const char *why;
    if (parse_in(b, s, n, &u, &why))
        url_fini(&u);
}

static void test_like_url(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://a",
        "http://a/",
        "http://a/b?c",
        "HTTP://A:80/x",
        "http://a:81/x",
        "https://a/b",
        "https://A:443?q",
        "http://a./b",
        "http://a./c",
        "http://[::1]/",
        "http://[0::1]:81/x/../y",
        "http://[::ffff:1.2.3.4]/",
        "http://127.1/x",
        "http://127.0.0.1/y",
        "http://127%2e1/",
        "http://\xC3\xA4.example/\xC3\xA4",
        "http://xn--4ca.example/b",
        "http://a/b/../c#d",
        "http://a/./x",
        "http://a/?",
        "http://a/x?",
        "http://\xEF\xBC\x91\x32\x37.1/",
        "",
        "http://",
        "http://u@a/",
        "http://a/ b",
        "http://a/\xFF?\x80",
        "ftp://a/",
        "http://a:0/",
        "http://a.1/",
        "http://[::1%25x]/",
        "http://a\\b/",
        "http://a/\\",
        "http://a/b c",
    };
    struct batch f;
    batch_begin(&f);
    for (size_t i = 0; i < COUNT(urls); i++)
        check_like_url(&f, urls[i], strlen(urls[i]));
    check_like_url(&f, "http://a/\0b", 11);
    check_like_url(&f, "http://a\0/b", 11);
    batch_end(&f);
}

static void test_shared(void **state)
{
    (void)state;
    struct batch f;
    batch_begin(&f);
    struct target a = take(&f, "http://a/"), b = take(&f, "HTTP://A:80"),
                  c = take(&f, "http://a?x");
    struct target d = take(&f, "https://a/"), e = take(&f, "http://a:81/"),
                  g = take(&f, "http://ab/");
    assert_ptr_equal(a.origin, b.origin);
    assert_ptr_equal(a.origin, c.origin);
    const struct target others[] = {d, e, g};
    for (size_t i = 0; i < COUNT(others); i++) {
        assert_ptr_not_equal(others[i].origin, a.origin);
        assert_ptr_not_equal(others[i].origin, others[(i + 1) % COUNT(others)].origin);
    }
    assert_ptr_equal(take(&f, "http://a/x").origin, a.origin);
    assert_ptr_equal(take(&f, "http://\xEF\xBD\x81/").origin, a.origin); /* by IDNA */
    assert_int_equal(f.origins.count, 4);
    assert_true(target_same_origin(&a, &b));
    assert_false(target_same_origin(&a, &d));
    batch_end(&f);
}

static void test_not_copied(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool kept;
    } cases[] = {
        {"http://a/", true},      {"http://a/b?c", true},     {"https://a:81/?.", true},
        {"http://[::1]/x", true}, {"http://xn--4ca/x", true}, {"http://a/%20", true},
        {"http://a", false},      {"HTTP://a/", false},       {"http://a/b/../c", false},
        {"http://a/#x", false},
    };
    struct batch f;
    batch_begin(&f);
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(take(&f, cases[i].url).text == cases[i].url, cases[i].kept);
    batch_end(&f);
}

static void test_many_origins(void **state)
{
    (void)state;
    enum { ORIGINS = 3000 };
    static char urls[ORIGINS][40];
    static const struct origin *met[ORIGINS];
    struct batch f;
    batch_begin(&f);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ORIGINS; i++) {
            snprintf(urls[i], sizeof urls[i], "http%s://host-%u:%u/", i % 3 ? "" : "s", i / 2,
                     i % 2 ? 80u : 8080u);
            struct target t = take(&f, urls[i]);
            if (round > 0) {
                assert_ptr_equal(t.origin, met[i]);
                continue;
            }
            met[i] = t.origin;
            assert_int_equal(f.origins.count, i + 1);
            check_like_url(&f, urls[i], strlen(urls[i]));
        }
    }
    assert_int_equal(f.origins.count, ORIGINS);
    batch_end(&f);
}

/* A path that is not plain must not slip by because the origin is known. */
static void test_known_origin(void **state)
{
    (void)state;
    static const char letters[] = "/.%2e?#\\ a\xC3";
    struct batch f;
    batch_begin(&f);
    (void)take(&f, "http://a/");
    (void)take(&f, "http://a:8/");
    for (size_t number = 0; number < 11 * 11 * 11 * 11; number++) {
        char text[16] = "http://a";
        size_t rest = number;
        for (size_t i = 8; i < 12; i++, rest /= 11)
            text[i] = letters[rest % 11];
        check_like_url(&f, text, 12);
    }
    char *text = malloc(URL_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, 'x', URL_BYTES_MAX + 1);
    memcpy(text, "http://a/", 9);
    check_like_url(&f, text, URL_BYTES_MAX);
    check_like_url(&f, text, URL_BYTES_MAX + 1);
    free(text);
    batch_end(&f);
}

/* A redirect's redirect, whose base is gone by then. */
static void test_redirects(void **state)
{
    (void)state;
    struct batch f;
    struct target first, second;
    const char *why;
    batch_begin(&f);
    struct target base = take(&f, "http://a/b/c?d");
    assert_true(target_resolve(&base, "//other/x/y", 11, &first, &why));
    assert_true(target_resolve(&first, "z", 1, &second, &why));
    assert_true(target_same_origin(&first, &second));
    assert_ptr_not_equal(first.origin, second.origin);
    target_fini(&first);
    assert_string_equal(second.text, "http://other/x/z");
    assert_false(target_same_origin(&base, &second));
    target_fini(&second);
    batch_end(&f);
}

/* The hash is for sharding: equal for equal keys in all batches, and spread. */
static void test_hash(void **state)
{
    (void)state;
    size_t shards[4] = {0};
    struct batch f, g;
    batch_begin(&f);
    batch_begin(&g);
    for (unsigned i = 0; i < 400; i++) {
        char url[40];
        snprintf(url, sizeof url, "http://host-%u/", i);
        struct target a = take(&f, url), b = take(&g, url);
        assert_ptr_not_equal(a.origin, b.origin);
        assert_true(a.origin->hash == b.origin->hash);
        assert_true(target_same_origin(&a, &b));
        shards[a.origin->hash % 4]++;
    }
    for (size_t i = 0; i < COUNT(shards); i++)
        assert_in_range(shards[i], 50, 150);
    batch_end(&g);
    batch_end(&f);
}

/* libcurl's Nth allocation fails: refused, nothing leaks, and the next one is fine. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char url[] = "http://\xC3\xA4.example/a/../b";
    struct batch f;
    struct target t;
    const char *why;
    batch_begin(&f);
    for (long n = 0;; n++) {
        assert_in_range(n, 0, 60);
        allocations_left = n;
        bool ok = target_parse(&f.origins, url, strlen(url), &t, &why);
        allocations_left = -1;
        if (ok)
            break;
        assert_non_null(why);
        assert_null(t.origin);
    }
    assert_string_equal(t.text, "http://xn--4ca.example/b");
    batch_end(&f);
}

/* --- the corpus ------------------------------------------------------------------------------ */

static void test_web_platform(void **state)
{
    (void)state;
    size_t i, taken = 0;
    char path[TESTDATA_PATH];
    json_t *vector;
    json_t *root = json_load_file(testdata_path("wpt-url/urltestdata.json", path), JSON_ALLOW_NUL,
                                  NULL);
    if (!root) {
        print_message("# no test data: set GATHERD_TESTDATA\n");
        skip();
    }
    struct batch f;
    batch_begin(&f);
    json_array_foreach(root, i, vector)
    {
        const json_t *input = json_object_get(vector, "input");
        if (!input)
            continue;
        check_like_url(&f, json_string_value(input), json_string_length(input));
        taken++;
    }
    assert_in_range(taken, 100, i);
    batch_end(&f);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_url),     cmocka_unit_test(test_shared),
        cmocka_unit_test(test_not_copied),   cmocka_unit_test(test_many_origins),
        cmocka_unit_test(test_known_origin), cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_web_platform),
    };
    return cmocka_run_group_tests_name("target", tests, set_up, tear_down);
}

/* SPDX-License-Identifier: MIT
 *
 * target: that it says what url says, that members of one origin share it however it is written,
 * that texts are not copied without need, redirects, and memory that runs out.
 */
#include "target.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "url.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- failing memory of libcurl, while `failing` ---------------------------------------------- */

static bool failing;
static long allocations_left;

static bool may_allocate(void)
{
    return !failing || allocations_left-- > 0;
}

static void *limited_malloc(size_t n)
{
    return may_allocate() ? malloc(n) : NULL;
}

static void *limited_calloc(size_t count, size_t n)
{
    return may_allocate() ? calloc(count, n) : NULL;
}

static void *limited_realloc(void *p, size_t n)
{
    return may_allocate() ? realloc(p, n) : NULL;
}

static char *limited_strdup(const char *s)
{
    return may_allocate() ? strdup(s) : NULL;
}

/* --- one batch ------------------------------------------------------------------------------- */

struct fixture {
    struct arena arena;
    struct origins origins;
};

static void begin(struct fixture *f)
{
    arena_init(&f->arena);
    origins_init(&f->origins, &f->arena);
}

static void end(struct fixture *f)
{
    origins_fini(&f->origins);
    arena_fini(&f->arena);
}

static struct target take(struct fixture *f, const char *s)
{
    struct target t;
    const char *why;
    if (!target_parse(&f->origins, s, strlen(s), &t, &why))
        fail_msg("%s is refused: %s", s, why);
    return t;
}

static void check_target(const struct target *t, const struct url *u)
{
    const struct origin *o = t->origin;
    assert_string_equal(t->text, u->text);
    assert_int_equal(t->len, strlen(t->text));
    assert_string_equal(o->key, u->origin);
    assert_int_equal(o->key_len, strlen(o->key));
    assert_string_equal(o->host, u->host);
    assert_int_equal(o->https, u->https);
    assert_int_equal(o->port, u->port);
    assert_memory_equal(&o->ip, &u->ip, sizeof o->ip);
    assert_memory_equal(t->text, o->key, o->text_len);
    assert_int_equal(t->text[o->text_len], '/');
    assert_int_equal(strcspn(t->text + 8, "/"), o->text_len - 8u);
}

/* Both are read by their own ways, and are to be the same; also when the origin is known. */
static void check_like_url(struct fixture *f, const char *s, size_t n)
{
    char *text = malloc(n + 1); /* so that ASan sees who reads on */
    struct url u;
    struct target t;
    const char *why, *url_why;
    assert_non_null(text);
    memcpy(text, s, n);
    text[n] = '\0';
    bool ok = url_parse_by_curl(text, n, &u, &url_why);
    for (int round = 0; round < 2; round++) {
        if (target_parse(&f->origins, text, n, &t, &why) != ok)
            fail_msg("%s: %s", text, ok ? why : "is taken");
        if (ok)
            check_target(&t, &u);
        else
            assert_string_equal(why, url_why);
        if (!ok)
            assert_true(!t.origin && !t.text && t.len == 0);
    }
    if (ok)
        url_fini(&u);
    free(text);
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
    struct fixture f;
    begin(&f);
    for (size_t i = 0; i < COUNT(urls); i++)
        check_like_url(&f, urls[i], strlen(urls[i]));
    check_like_url(&f, "http://a/\0b", 11);
    check_like_url(&f, "http://a\0/b", 11);
    end(&f);
}

static void test_shared(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct target a = take(&f, "http://a/"), b = take(&f, "HTTP://A:80"),
                  c = take(&f, "http://a?x");
    struct target d = take(&f, "https://a/"), e = take(&f, "http://a:81/"),
                  g = take(&f, "http://ab/");
    assert_ptr_equal(a.origin, b.origin);
    assert_ptr_equal(a.origin, c.origin);
    assert_int_equal(a.origin->index, 0);
    assert_int_equal(d.origin->index, 1);
    assert_int_equal(e.origin->index, 2);
    assert_int_equal(g.origin->index, 3);
    assert_ptr_equal(take(&f, "http://a/x").origin, a.origin);
    assert_ptr_equal(take(&f, "http://\xEF\xBD\x81/").origin, a.origin); /* by IDNA */
    assert_int_equal(f.origins.count, 4);
    assert_true(target_same_origin(&a, &b));
    assert_false(target_same_origin(&a, &d));
    end(&f);
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
    struct fixture f;
    begin(&f);
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(take(&f, cases[i].url).text == cases[i].url, cases[i].kept);
    end(&f);
}

static void test_many_origins(void **state)
{
    (void)state;
    enum { ORIGINS = 3000 };
    static char urls[ORIGINS][40];
    struct fixture f;
    begin(&f);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ORIGINS; i++) {
            snprintf(urls[i], sizeof urls[i], "http%s://host-%u:%u/", i % 3 ? "" : "s", i / 2,
                     i % 2 ? 80u : 8080u);
            struct target t = take(&f, urls[i]);
            assert_int_equal(t.origin->index, i);
            if (round == 0)
                check_like_url(&f, urls[i], strlen(urls[i]));
        }
    }
    assert_int_equal(f.origins.count, ORIGINS);
    end(&f);
}

/* A path that is not plain must not slip by because the origin is known. */
static void test_known_origin(void **state)
{
    (void)state;
    static const char letters[] = "/.%2e?#\\ a\xC3";
    struct fixture f;
    begin(&f);
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
    end(&f);
}

static void test_resolve(void **state)
{
    (void)state;
    static const char *const locations[] = {
        "/x",   "x/y",         "?q", "#f",       "//b/c",     "https://c:444/d/../e", " /y ",
        "",     "http://u@a/", "..", "http:///", "/\xC3\xA4", "//[::1]:8/",           "//\xC3\xA4/",
        "/x y",
    };
    struct fixture f;
    begin(&f);
    struct target base = take(&f, "http://a/b/c?d");
    struct url url_base;
    const char *why, *url_why;
    assert_true(url_parse(base.text, base.len, &url_base, &why));
    for (size_t i = 0; i < COUNT(locations); i++) {
        struct target t;
        struct url u;
        bool ok = url_resolve(&url_base, locations[i], strlen(locations[i]), &u, &url_why);
        assert_int_equal(target_resolve(&base, locations[i], strlen(locations[i]), &t, &why), ok);
        if (ok)
            check_target(&t, &u);
        else
            assert_string_equal(why, url_why);
        if (ok) /* a redirect's redirect, whose base is gone by then */
            url_fini(&u);
        target_fini(&t);
        target_fini(&t);
    }
    struct target first, second;
    assert_true(target_resolve(&base, "//other/x/y", 11, &first, &why));
    assert_true(target_resolve(&first, "z", 1, &second, &why));
    assert_true(target_same_origin(&first, &second));
    assert_ptr_not_equal(first.origin, second.origin);
    target_fini(&first);
    assert_string_equal(second.text, "http://other/x/z");
    assert_false(target_same_origin(&base, &second));
    target_fini(&second);
    url_fini(&url_base);
    end(&f);
}

/* The hash is for sharding: equal for equal keys in all batches, and spread. */
static void test_hash(void **state)
{
    (void)state;
    size_t shards[4] = {0};
    struct fixture f, g;
    begin(&f);
    begin(&g);
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
    end(&g);
    end(&f);
}

/* libcurl's Nth allocation fails: refused, nothing leaks, and the next one is fine. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char url[] = "http://\xC3\xA4.example/a/../b";
    struct fixture f;
    struct target t;
    const char *why;
    begin(&f);
    for (long n = 0;; n++) {
        assert_in_range(n, 0, 60);
        failing = true;
        allocations_left = n;
        bool ok = target_parse(&f.origins, url, strlen(url), &t, &why);
        failing = false;
        if (ok)
            break;
        assert_non_null(why);
        assert_null(t.origin);
    }
    assert_string_equal(t.text, "http://xn--4ca.example/b");
    end(&f);
}

/* --- the corpus ------------------------------------------------------------------------------ */

static void test_web_platform(void **state)
{
    (void)state;
    const char *data = getenv("GATHERD_TESTDATA"), *top = getenv("top_srcdir");
    char path[1024];
    size_t i, taken = 0;
    json_t *vector;
    if (data)
        snprintf(path, sizeof path, "%s/wpt-url/urltestdata.json", data);
    else
        snprintf(path, sizeof path, "%s/../shared/testdata/wpt-url/urltestdata.json",
                 top ? top : ".");
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (!root) {
        print_message("# no test data: set GATHERD_TESTDATA\n");
        skip();
    }
    struct fixture f;
    begin(&f);
    json_array_foreach(root, i, vector)
    {
        const json_t *input = json_object_get(vector, "input");
        if (!input)
            continue;
        check_like_url(&f, json_string_value(input), json_string_length(input));
        taken++;
    }
    assert_in_range(taken, 100, i);
    end(&f);
    json_decref(root);
}

static int set_up(void **state)
{
    (void)state;
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return -1;
    return curl_global_init_mem(CURL_GLOBAL_NOTHING, limited_malloc, free, limited_realloc,
                                limited_strdup, limited_calloc) == CURLE_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    curl_global_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_url),     cmocka_unit_test(test_shared),
        cmocka_unit_test(test_not_copied),   cmocka_unit_test(test_many_origins),
        cmocka_unit_test(test_known_origin), cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_web_platform),
    };
    return cmocka_run_group_tests_name("target", tests, set_up, tear_down);
}

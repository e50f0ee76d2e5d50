/* SPDX-License-Identifier: MIT
 *
 * hostname: patterns that are taken and refused, what they match, and which of two says more.
 */
#include "hostname.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LABEL "abcdefghijklmnopqrstuvwxyz-0123456789_abcdefghijklmnopqrstuvwxy"

static bool parse(const char *text, struct hostname_pattern *p)
{
    struct buf why;
    buf_init(&why, 0);
    bool ok = hostname_pattern_parse(text, p, &why);
    assert_int_equal(ok, why.len == 0);
    buf_fini(&why);
    return ok;
}

static void test_matches(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *host;
        bool expected;
    } cases[] = {
        {"a.example", "a.example", true},
        {"A.Example.", "a.example", true},
        {"a.example", "a.example.", true},
        {"a.example", "A.EXAMPLE", true},
        {"a.example", "b.a.example", false},
        {"a.example", "a.example.org", false},
        {"a.example", "aa.example", false},
        {"a.example", "a.exampl", false},
        {"*.example", "a.example", true},
        {"*.example", "a.b.example.", true},
        {"*.example", "example", false},
        {"*.example", ".example", false},
        {"*.example", "aexample", false},
        {"*.example", "a.example.org", false},
        {"*.Example.", "a.EXAMPLE", true},
        {"a.0xg", "a.0xg", true}, /* no number */
        {"0x1.example", "0x1.example", true},
        {"*", "a", true},
        {"*", "10.1.2.3", true},
        {"*", "::1", true},
        {"localhost", "localhost", true},
        {"localhost", "localhost.", true},
        {"xn--bcher-kva.example", "xn--bcher-kva.example", true},
        {"_srv.a-b.example", "_srv.a-b.example", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hostname_pattern p;
        assert_true(parse(cases[i].pattern, &p));
        if (hostname_pattern_matches(&p, cases[i].host) != cases[i].expected)
            fail_msg("%s and %s", cases[i].pattern, cases[i].host);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "127.1",
        "0x7f000001",
        "0X7F.0X1",
        "*.0x1",
        "a.0x",
        "*a",
        "*.",
        "*..a",
        "**",
        "*.*",
        "a.*",
        "a.*.b",
        "a:80",
        "[::1]",
        "::1",
        "10.0.0.1",
        "10.1",
        "0x7f.1",
        "a.1",
        "a.1.",
        "10.0.0.0/8",
        "a%62",
        "b\xC3\xBC"
        "cher.example",
        "a,b",
        "a\tb",
        "http://a",
        "a@b",
        "*.10",
        LABEL "z.example",
        LABEL "." LABEL "." LABEL "." LABEL "." LABEL,
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct hostname_pattern p;
        if (parse(texts[i], &p))
            fail_msg("\"%s\" was taken", texts[i]);
    }
    struct hostname_pattern p;
    assert_true(parse(LABEL ".example", &p));
}

static void test_order(void **state)
{
    (void)state;
    static const char *const best_first[] = {"a.b.example", "example", "*.b.example", "*.example",
                                             "*"};
    for (size_t i = 0; i < COUNT(best_first); i++) {
        for (size_t k = 0; k < COUNT(best_first); k++) {
            struct hostname_pattern a, b;
            assert_true(parse(best_first[i], &a) && parse(best_first[k], &b));
            int order = hostname_pattern_compare(&a, &b);
            assert_int_equal(order < 0, i < k);
            assert_int_equal(order == 0, i == k);
        }
    }
}

static void test_arrow(void **state)
{
    (void)state;
    char pattern[HOSTNAME_MAX + 3];
    assert_string_equal(hostname_split_arrow("*.a \t-> \t10.0.0.0/8 ::1", pattern),
                        "10.0.0.0/8 ::1");
    assert_string_equal(pattern, "*.a");
    assert_string_equal(hostname_split_arrow("a->b->c", pattern), "b->c");
    assert_string_equal(hostname_split_arrow("a ->", pattern), "");
    assert_null(hostname_split_arrow("a", pattern));
    assert_null(hostname_split_arrow("-> a", pattern));
    assert_null(hostname_split_arrow("  -> a", pattern));
    char text[HOSTNAME_MAX + 20];
    memset(text, 'a', sizeof text);
    memcpy(text + sizeof text - 5, "->b", 4);
    assert_null(hostname_split_arrow(text, pattern));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_arrow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * parse: what is accepted, what is refused, the edges of the ranges, *out left alone.
 */
#include "parse.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UNTOUCHED INT64_C(-424242)
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct number {
    const char *text;
    int64_t value;
};

static void test_int(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"0", 0}, {"-0", 0}, {"007", 7}, {"42", 42}, {"-42", -42},
        {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN},
        {"00000000000000000000000000001", 1},
    };
    static const char *const bad[] = {
        "", "-", "--1", "+1", " 1", "1 ", "1.", "1e3", "0x10", "a", "1\n", "-9223372036854775809",
        "9223372036854775808", "18446744073709551616", "99999999999999999999999", "\xD9\xA1",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        int64_t v = UNTOUCHED;
        assert_true(parse_int(good[i].text, INT64_MIN, INT64_MAX, &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t v = UNTOUCHED;
        assert_false(parse_int(bad[i], INT64_MIN, INT64_MAX, &v));
        assert_true(v == UNTOUCHED);
    }
}

static void test_int_range(void **state)
{
    (void)state;
    int64_t v = UNTOUCHED;
    assert_false(parse_int("9", 10, 20, &v));
    assert_false(parse_int("21", 10, 20, &v));
    assert_false(parse_int("-10", 10, 20, &v));
    assert_true(v == UNTOUCHED);
    assert_true(parse_int("10", 10, 20, &v) && v == 10);
    assert_true(parse_int("20", 10, 20, &v) && v == 20);
    assert_true(parse_int("-1", -1, -1, &v) && v == -1);
}

static void test_duration(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"0", 0}, {"1", 1000000}, {"30s", 30000000}, {"500ms", 500000}, {"7us", 7},
        {"1.5s", 1500000}, {"1.5", 1500000}, {"0.000001s", 1}, {"0.0000019s", 1},
        {"1.999us", 1}, {"2m", 120000000}, {"1.25h", INT64_C(4500000000)},
        {"1d", INT64_C(86400000000)}, {"0.00000000001d", 0},
        {"0.333333333333333333333d", INT64_C(28799999999)},
        {"1.00000000000000000000000000000000000000000001s", 1000000},
        {"0.99999999999999999999999999999999999999999999d", INT64_C(86399999999)},
        {"9223372036854775807us", INT64_MAX}, {"9223372036854.775807", INT64_MAX},
        {"106751991d", INT64_C(106751991) * 86400 * 1000000},
    };
    static const char *const bad[] = {
        "", "s", "-1s", "+1s", ".5s", "1.s", "1.", "1 s", " 1s", "1s ", "1S", "1sec", "1min", "1w",
        "1.5.5s", "1,5s", "1e3s", "9223372036854775808us", "9223372036854.775808", "106751992d",
        "9223372036854775807d", "99999999999999999999", "1ms1", "1\xC2\xB5s", "nan", "infinity",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        int64_t v = UNTOUCHED;
        assert_true(parse_duration_us(good[i].text, &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t v = UNTOUCHED;
        assert_false(parse_duration_us(bad[i], &v));
        assert_true(v == UNTOUCHED);
    }
}

static void test_size(void **state)
{
    (void)state;
    static const struct number good[] = {
        {"0", 0}, {"1", 1}, {"512B", 512}, {"1K", 1024}, {"1KB", 1024}, {"1KiB", 1024},
        {"4M", 4194304}, {"4MB", 4194304}, {"4MiB", 4194304}, {"2G", INT64_C(2147483648)},
        {"2GB", INT64_C(2147483648)}, {"2GiB", INT64_C(2147483648)},
        {"9223372036854775807", INT64_MAX}, {"8589934591G", INT64_C(8589934591) << 30},
    };
    static const char *const bad[] = {
        "", "K", "-1", "+1", "1.5M", "1 K", "1k", "1T", "1Ki", "1iB", "1BB", "0x1", " 1", "1K ",
        "9223372036854775808", "8589934592G", "9007199254740992K", "99999999999999999999K",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        int64_t v = UNTOUCHED;
        assert_true(parse_size(good[i].text, &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t v = UNTOUCHED;
        assert_false(parse_size(bad[i], &v));
        assert_true(v == UNTOUCHED);
    }
}

static void test_bool(void **state)
{
    (void)state;
    static const char *const yes[] = {"yes", "true", "on", "1", "YES", "True", "oN"};
    static const char *const no[] = {"no", "false", "off", "0", "NO", "FALSE", "Off"};
    static const char *const bad[] = {"", "y", "n", "ye", "yess", "2", "01", " yes", "yes ", "-1"};
    for (size_t i = 0; i < COUNT(yes); i++) {
        bool v = false;
        assert_true(parse_bool(yes[i], &v) && v);
    }
    for (size_t i = 0; i < COUNT(no); i++) {
        bool v = true;
        assert_true(parse_bool(no[i], &v) && !v);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        bool t = true, f = false;
        assert_false(parse_bool(bad[i], &t));
        assert_false(parse_bool(bad[i], &f));
        assert_true(t && !f);
    }
}

/* RFC 9110, 5.6.2, for every byte at the start, in the middle and at the end. */
static void test_token(void **state)
{
    (void)state;
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    assert_false(parse_is_token("", 0));
    assert_false(parse_is_token("abc", 0));
    assert_true(parse_is_token(allowed, sizeof allowed - 1));
    for (int c = 0; c <= UCHAR_MAX; c++) {
        bool is_allowed = memchr(allowed, c, sizeof allowed - 1) != NULL;
        for (size_t at = 0; at < 3; at++) {
            char text[] = {'a', 'b', 'c'};
            text[at] = (char)c;
            assert_int_equal(parse_is_token(text, 3), is_allowed);
        }
    }
}

static void test_field_value(void **state)
{
    (void)state;
    assert_true(parse_is_field_value("", 0));
    for (int c = 0; c <= UCHAR_MAX; c++) {
        bool is_allowed = c == '\t' || (c >= 0x20 && c != 0x7F);
        for (size_t at = 0; at < 3; at++) {
            char text[] = {'a', 'b', 'c'};
            text[at] = (char)c;
            assert_int_equal(parse_is_field_value(text, 3), is_allowed);
        }
    }
}

static void test_base64(void **state)
{
    (void)state;
    /* RFC 4648, chapter 10 */
    static const char *const good[][2] = {
        {"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9vYg==", "foob"},
        {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {"+/+/", "\xFB\xFF\xBF"},
    };
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zm8", "Zg===", "=", "==", "====", "Z===", "Zg==Zg==", "Zm=v", "Z=g=",
        "Zm9v=", "Zm 9v", "Zm9\n", "Zh==", "Zm9=", "-_-_", "Zm9\xC3", "Zg==\n",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint8_t out[16];
        size_t n = 99;
        assert_true(parse_base64(good[i][0], strlen(good[i][0]), out, &n));
        assert_int_equal(n, strlen(good[i][1]));
        assert_memory_equal(out, good[i][1], n);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t len = strlen(bad[i]), n = 99;
        uint8_t *out = malloc(len / 4 * 3 + 1); /* exact, for the sanitizer's eyes */
        assert_non_null(out);
        assert_false(parse_base64(bad[i], len, out, &n));
        assert_int_equal(n, 99);
        free(out);
    }
    uint8_t out[4];
    size_t n;
    assert_false(parse_base64("Zm9\0", 4, out, &n));
}

static void test_base64_writes_no_more(void **state)
{
    (void)state;
    uint8_t out[6] = {9, 9, 9, 9, 9, 9};
    size_t n;
    assert_true(parse_base64("Zm9vYg==", 8, out, &n));
    assert_int_equal(n, 4);
    assert_int_equal(out[4], 9);
    assert_int_equal(out[5], 9);
}

static void test_word(void **state)
{
    (void)state;
    char text[] = "  one\ttwo three\t \t";
    char *s = text;
    assert_string_equal(parse_word(&s), "one");
    assert_string_equal(parse_word(&s), "two");
    assert_string_equal(parse_word(&s), "three");
    assert_null(parse_word(&s));
    assert_null(parse_word(&s));
    char last[] = "end";
    s = last;
    assert_string_equal(parse_word(&s), "end");
    assert_null(parse_word(&s));
    char lines[] = "a\nb";
    s = lines;
    assert_string_equal(parse_word(&s), "a\nb");
}

static void test_percent_decode(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"", ""}, {"abc", "abc"}, {"a+b", "a b"}, {"a%2Bb", "a+b"}, {"%41%7a%7A", "Azz"},
        {"%c3%BC", "\xC3\xBC"}, {"%25", "%"}, {"%2541", "%41"}, {"%01%fF", "\x01\xFF"},
        {"++", "  "},
    };
    static const char *const bad[] = {
        "%", "%4", "a%", "a%4", "%G1", "%1G", "%%41", "%00", "a%00b", "% 1", "%+1", "%-1", "%0x",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        size_t n = strlen(good[i][0]);
        char *s = malloc(n + 1);
        assert_non_null(s);
        memcpy(s, good[i][0], n);
        size_t len = parse_percent_decode(s, n);
        assert_int_equal(len, strlen(good[i][1]));
        assert_memory_equal(s, good[i][1], len);
        free(s);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t n = strlen(bad[i]);
        char *s = malloc(n); /* no NUL behind it: an escape at the end must not be read past */
        assert_non_null(s);
        memcpy(s, bad[i], n);
        assert_true(parse_percent_decode(s, n) == (size_t)-1);
        free(s);
    }
}

static void test_equal_nocase(void **state)
{
    (void)state;
    assert_true(parse_equal_nocase("", 0, ""));
    assert_true(parse_equal_nocase("Host", 4, "hOST"));
    assert_true(parse_equal_nocase("Host: x", 4, "host"));
    assert_false(parse_equal_nocase("Host", 4, "hos"));
    assert_false(parse_equal_nocase("Hos", 3, "host"));
    assert_false(parse_equal_nocase("Host", 4, ""));
    assert_false(parse_equal_nocase("a\0b", 3, "a"));
    /* Neighbours of the letters, and letters of other alphabets, are not folded. */
    assert_false(parse_equal_nocase("@", 1, "`"));
    assert_false(parse_equal_nocase("[", 1, "{"));
    assert_false(parse_equal_nocase("\xC4", 1, "\xE4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_int_range),
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_bool),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_field_value),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_writes_no_more),
        cmocka_unit_test(test_word),
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_equal_nocase),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * buf: growth, the limit to the byte, sticky failure, and each writer against another maker's word
 * (printf, gmtime_r, jansson, a naive escaper). buf.c is included, so that its realloc can fail.
 */
#include "buf.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "parse.h"
#include "utf8.h"

static bool no_memory;
static int realloc_calls;

static void *test_buf_realloc(void *p, size_t n)
{
    realloc_calls++;
    return no_memory || n > SIZE_MAX / 4 ? NULL : realloc(p, n); /* ASan would abort */
}

#define realloc test_buf_realloc
#include "buf.c"
#undef realloc

static int setup(void **state)
{
    (void)state;
    no_memory = false;
    realloc_calls = 0;
    srand(1);
    return 0;
}

#define ASSERT_TEXT(b, text) assert_string_equal(buf_cstr(b), text)

/* --- the buffer ------------------------------------------------------------------------------ */

static void test_append(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(realloc_calls, 0);
    ASSERT_TEXT(&b, "");
    buf_add_str(&b, "ab");
    buf_add_str(&b, NULL);
    buf_add_str(&b, "");
    buf_add(&b, NULL, 0);
    buf_add_char(&b, 'c');
    BUF_ADD_LITERAL(&b, "de");
    buf_add(&b, "\0f", 2);
    assert_int_equal(b.len, 7);
    assert_memory_equal(b.data, "abcde\0f", 7);
    assert_false(b.failed);
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    ASSERT_TEXT(&b, "");
    assert_int_equal(realloc_calls, 1);
    buf_fini(&b);
    assert_null(b.data);
}

static void test_growth_doubles(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 1000000; i++)
        buf_add_char(&b, (char)i);
    assert_int_equal(b.len, 1000000);
    assert_in_range(realloc_calls, 5, 20);
    for (int i = 0; i < 1000000; i++) {
        if (b.data[i] != (char)i)
            fail_msg("byte %d was lost", i);
    }
    buf_fini(&b);
}

static void test_limit_is_exact(void **state)
{
    (void)state;
    static char text[3000];
    memset(text, 'x', sizeof text);
    for (size_t limit = 1; limit < sizeof text; limit += limit < 300 ? 1 : 97) {
        struct buf b;
        buf_init(&b, limit);
        for (size_t i = 0; i < limit; i++)
            buf_add_char(&b, 'x');
        assert_false(b.failed);
        assert_int_equal(b.len, limit);
        assert_true(b.cap <= limit);
        assert_int_equal(strlen(buf_cstr(&b)), limit);
        buf_add_char(&b, 'y');
        assert_true(b.failed);
        assert_int_equal(b.len, limit);
        buf_fini(&b);
        assert_int_equal(b.limit, limit);
        buf_add(&b, text, limit + 1);
        assert_true(b.failed);
        assert_int_equal(b.len, 0);
        buf_clear(&b);
        buf_add(&b, text, limit);
        assert_false(b.failed);
        buf_fini(&b);
    }
}

static void test_failure_is_sticky(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_add_str(&b, "12345678");
    buf_add_str(&b, "90a");
    assert_true(b.failed);
    /* Each of these would fit. */
    buf_add_char(&b, 'c');
    buf_add_str(&b, "s");
    buf_add_int(&b, 1);
    buf_printf(&b, "%d", 2);
    buf_add_hex(&b, "a", 1);
    buf_add_json(&b, "", 0);
    buf_add_base64(&b, "", 0);
    assert_null(buf_reserve(&b, 1));
    assert_int_equal(b.len, 8);
    assert_true(b.failed);
    ASSERT_TEXT(&b, "12345678");
    buf_clear(&b);
    buf_add_str(&b, "0123456789");
    assert_false(b.failed);
    buf_fini(&b);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    no_memory = true;
    buf_add_char(&b, 'x');
    assert_true(b.failed);
    ASSERT_TEXT(&b, "");
    assert_null(buf_reserve(&b, 0));
    no_memory = false;
    buf_clear(&b);
    buf_add_str(&b, "kept");
    no_memory = true;
    buf_add_json(&b, (char[4000]){0}, 4000);
    assert_true(b.failed);
    ASSERT_TEXT(&b, "kept");
    buf_fini(&b);
}

static void test_sizes_that_overflow(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_char(&b, 'x');
    int before = realloc_calls;
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    assert_null(buf_reserve(&b, SIZE_MAX - 1));
    buf_clear(&b);
    buf_add_hex(&b, "x", SIZE_MAX / 2 + 1);
    assert_true(b.failed);
    buf_clear(&b);
    buf_add_base64(&b, "x", SIZE_MAX - 1);
    assert_true(b.failed);
    buf_clear(&b);
    buf_add_json(&b, "x", SIZE_MAX - 1);
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    assert_in_range(realloc_calls, before, before + 1); /* one of them may ask, none is served */
    buf_fini(&b);
}

static void test_reserve(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_non_null(buf_reserve(&b, 0));
    buf_add_str(&b, "ab");
    char *place = buf_reserve(&b, 998);
    assert_ptr_equal(place, b.data + 2);
    memset(place, 'z', 998);
    assert_int_equal(b.len, 2);
    b.len += 998;
    assert_false(b.failed);
    assert_null(buf_reserve(&b, 1));
    assert_true(b.failed);
    assert_int_equal(b.len, 1000);
    buf_fini(&b);
}

static void test_take(void **state)
{
    (void)state;
    struct buf b;
    size_t len = 99;
    buf_init(&b, 50);
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_add_str(&b, "abc");
    char *data = buf_take(&b, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(data, "abc", 3);
    free(data);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.limit, 50);
    buf_add_str(&b, "x");
    buf_clear(&b);
    assert_null(buf_take(&b, &len)); /* memory but no bytes: nothing to free for the caller */
    assert_int_equal(len, 0);
    buf_fini(&b);
}

/* --- numbers and times ----------------------------------------------------------------------- */

static int64_t random_int(void)
{
    uint64_t v = 0;
    for (int i = 0; i < 5; i++)
        v = v << 15 ^ (uint64_t)rand();
    v >>= rand() % 64;
    return (int64_t)(rand() % 2 ? v : 0 - v);
}

static const int64_t edges[] = {
    0, 1, -1, 9, 10, -10, 99, 100, 999, 1000, 1001, -999, -1000, 999999, 1000000, -1000001,
    INT64_MAX, INT64_MIN, INT64_MAX - 1, INT64_MIN + 1, INT32_MAX, INT32_MIN,
};

static int64_t edge_or_random(size_t i)
{
    size_t count = sizeof edges / sizeof *edges;
    return i < count ? edges[i] : random_int();
}

static void test_int(void **state)
{
    (void)state;
    struct buf b;
    char expected[32];
    buf_init(&b, 0);
    for (size_t i = 0; i < 20000; i++) {
        int64_t v = edge_or_random(i);
        snprintf(expected, sizeof expected, "%" PRId64, v);
        buf_clear(&b);
        buf_add_int(&b, v);
        ASSERT_TEXT(&b, expected);
    }
    buf_fini(&b);
}

static void test_ms_and_seconds(void **state)
{
    (void)state;
    struct buf b;
    char expected[32];
    buf_init(&b, 0);
    for (size_t i = 0; i < 20000; i++) {
        int64_t v = edge_or_random(i);
        uint64_t m = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
        const char *sign = v < 0 ? "-" : "";
        snprintf(expected, sizeof expected, "%s%" PRIu64 ".%03d", sign, m / 1000, (int)(m % 1000));
        buf_clear(&b);
        buf_add_ms(&b, v);
        ASSERT_TEXT(&b, expected);
        snprintf(expected, sizeof expected, "%s%" PRIu64 ".%06d", sign, m / 1000000,
                 (int)(m % 1000000));
        buf_clear(&b);
        buf_add_seconds(&b, v);
        ASSERT_TEXT(&b, expected);
    }
    buf_clear(&b);
    buf_add_ms(&b, 1234567);
    buf_add_char(&b, ' ');
    buf_add_seconds(&b, 1234567);
    ASSERT_TEXT(&b, "1234.567 1.234567");
    buf_fini(&b);
}

static void test_rfc3339(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 50000; i++) {
        int64_t s = random_int() % INT64_C(253402300800);
        if (i % 2)
            s = s % 36525 * 86400 + (i % 4 == 1) * 86399; /* the first and last second of days */
        if (s < INT64_C(-62167219200))
            continue;
        int us = rand() % 1000000;
        time_t t = (time_t)s;
        struct tm tm;
        char expected[64];
        assert_non_null(gmtime_r(&t, &tm));
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 us);
        buf_clear(&b);
        buf_add_rfc3339(&b, s * 1000000 + us);
        ASSERT_TEXT(&b, expected);
    }
    buf_fini(&b);
}

static void test_rfc3339_edges(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {INT64_C(1793534400000123), "2026-11-01T12:00:00.000123Z"},
        {INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
        {INT64_C(4107542400000000) - 1, "2100-02-28T23:59:59.999999Z"},
        {INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z"},
        {INT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z"},
        {INT64_C(253402300800000000), "9999-12-31T23:59:59.999999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999999Z"},
        {INT64_C(-62167219200000000), "0000-01-01T00:00:00.000000Z"},
        {INT64_C(-62162121600000000), "0000-02-29T00:00:00.000000Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000000Z"},
    };
    struct buf b;
    buf_init(&b, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&b);
        buf_add_rfc3339(&b, cases[i].us);
        ASSERT_TEXT(&b, cases[i].text);
    }
    buf_fini(&b);
}

static void test_printf(void **state)
{
    (void)state;
    struct buf b;
    static char expected[5000];
    buf_init(&b, sizeof expected - 1);
    buf_printf(&b, "%s", "");
    assert_false(b.failed);
    /* Every fill of the room that is left, one byte short, exact, and one too many. */
    for (int width = 0; width < 300; width++) {
        struct buf c;
        buf_init(&c, 0);
        for (int before = 120; before < 130; before++) {
            buf_clear(&c);
            for (int i = 0; i < before; i++)
                buf_add_char(&c, '.');
            buf_printf(&c, "%*d|", width, 7);
            int n = snprintf(expected, sizeof expected, "%*d|", width, 7);
            assert_int_equal(c.len, before + n);
            assert_memory_equal(c.data + before, expected, (size_t)n);
        }
        buf_fini(&c);
    }
    buf_printf(&b, "%*d", (int)sizeof expected - 1, 1);
    assert_false(b.failed);
    assert_int_equal(b.len, sizeof expected - 1);
    buf_printf(&b, "%d", 1);
    assert_true(b.failed);
    assert_int_equal(b.len, sizeof expected - 1);
    buf_fini(&b);
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* The obvious way; returns the length, text has room. */
static size_t naive_json(char *text, const char *s, size_t n)
{
    char *to = text;
    *to++ = '"';
    while (n > 0) {
        int length = utf8_sequence(s, n);
        size_t used = (size_t)abs(length);
        const char *from = "\"\\\b\f\n\r\t", *letters = "\"\\bfnrt";
        const char *found = *s ? strchr(from, *s) : NULL;
        if (length < 0) {
            memcpy(to, "\xEF\xBF\xBD", 3);
            to += 3;
        } else if (found) {
            *to++ = '\\';
            *to++ = letters[found - from];
        } else if (used == 1 && (unsigned char)*s < 0x20) {
            to += snprintf(to, 7, "\\u%04x", (unsigned)(unsigned char)*s);
        } else {
            memcpy(to, s, used);
            to += used;
        }
        s += used;
        n -= used;
    }
    *to++ = '"';
    return (size_t)(to - text);
}

static void check_json(const char *s, size_t n)
{
    static char expected[6 * 8192 + 2];
    struct buf b;
    size_t expected_n = naive_json(expected, s, n);
    buf_init(&b, expected_n);
    buf_add_json(&b, s, n);
    assert_false(b.failed);
    assert_int_equal(b.len, expected_n);
    assert_memory_equal(b.data, expected, expected_n);
    buf_fini(&b);
}

static void test_json_every_byte(void **state)
{
    (void)state;
    /* Each byte alone, and at each place of a text that is some words long. */
    for (int c = 0; c < 256; c++) {
        char one[] = {(char)c};
        check_json(one, 1);
        for (size_t n = 2; n < 20; n++) {
            for (size_t at = 0; at < n; at++) {
                char text[20];
                memset(text, 'a', sizeof text);
                text[at] = (char)c;
                check_json(text, n);
            }
        }
    }
}

static void test_json_words(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_json(&b, "", 0);
    buf_add_json_str(&b, "\"\\/\b\f\n\r\t\x01\x1F\x7F");
    buf_add_json_str(&b, NULL);
    buf_add_json(&b, "a\0b", 3);
    buf_add_json_str(&b, "\xE2\x80\xA8\xE2\x80\xA9\xC2\x85");
    buf_add_json_str(&b, "<\xFF\xF0\x9F\x98\xE2\x82\x41\xED\xA0\x80>");
    ASSERT_TEXT(&b, "\"\""
                    "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\""
                    "null"
                    "\"a\\u0000b\""
                    "\"\xE2\x80\xA8\xE2\x80\xA9\xC2\x85\""
                    "\"<\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" "A"
                    "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD>\"");
    buf_fini(&b);
}

/* A mixture that is plain, then rich in what needs care. */
static void fill_random(char *s, size_t n, int kind)
{
    static const char rich[] = "\"\\\n\x01\x80\xBF\xC3\xA4\xE2\x82\xAC\xED\xA0\xF0\x9D\x92\x9C\xFF";
    for (size_t i = 0; i < n; i++) {
        int die = rand() % 100;
        bool plain = die < (kind == 0 ? 99 : kind == 1 ? 50 : 0);
        s[i] = plain ? 'p' : rand() % 2 ? rich[(size_t)rand() % (sizeof rich - 1)] : (char)rand();
    }
}

static void test_json_random(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        size_t n = (size_t)rand() % (i % 10 ? 200 : 8192);
        char *s = malloc(n + 1); /* its own block: a sanitizer sees reads past the end */
        assert_non_null(s);
        fill_random(s, n, i % 3);
        memmove(s + 1, s, n);
        check_json(s + 1, n);
        free(s);
    }
}

static void test_json_limit_is_exact(void **state)
{
    (void)state;
    static char expected[6 * 3000 + 2], s[3000];
    for (int i = 0; i < 300; i++) {
        size_t n = (size_t)rand() % sizeof s;
        fill_random(s, n, i % 3);
        size_t need = naive_json(expected, s, n);
        struct buf b;
        buf_init(&b, need - 1);
        buf_add_json(&b, s, n);
        assert_true(b.failed);
        assert_true(b.len <= need - 1);
        buf_fini(&b);
    }
}

/* Whatever the bytes, jansson reads the string back: U+FFFD stands for what is ill-formed. */
static void test_json_is_valid(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 500; i++) {
        char s[700];
        size_t n = (size_t)rand() % sizeof s;
        fill_random(s, n, i % 3);
        buf_clear(&b);
        buf_add_json(&b, s, n);
        json_t *value = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(value));
        const char *text = json_string_value(value);
        size_t len = json_string_length(value), at = 0;
        for (size_t k = 0; k < n;) {
            int length = utf8_sequence(s + k, n - k);
            const char *piece = length < 0 ? "\xEF\xBF\xBD" : s + k;
            size_t piece_len = length < 0 ? 3 : (size_t)length;
            assert_true(at + piece_len <= len);
            assert_memory_equal(text + at, piece, piece_len);
            at += piece_len;
            k += (size_t)abs(length);
        }
        assert_int_equal(at, len);
        json_decref(value);
    }
    buf_fini(&b);
}

/* --- bytes as text --------------------------------------------------------------------------- */

static void test_base64(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xFB\xFF\xBF", "+/+/"},
    };
    struct buf b;
    buf_init(&b, 0);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        buf_clear(&b);
        buf_add_base64(&b, vectors[i][0], strlen(vectors[i][0]));
        ASSERT_TEXT(&b, vectors[i][1]);
    }
    for (size_t n = 0; n < 300; n++) {
        uint8_t bytes[300], back[303];
        size_t back_len;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)rand();
        buf_fini(&b);
        buf_init(&b, (n + 2) / 3 * 4 > 0 ? (n + 2) / 3 * 4 : 1);
        buf_add_base64(&b, bytes, n);
        assert_false(b.failed);
        assert_true(parse_base64(n > 0 ? b.data : "", b.len, back, &back_len));
        assert_int_equal(back_len, n);
        assert_memory_equal(back, bytes, n);
        buf_add_base64(&b, "x", 1); /* the limit is what the bytes needed */
        assert_true(b.failed);
    }
    buf_fini(&b);
}

static void test_hex(void **state)
{
    (void)state;
    struct buf b;
    char expected[3];
    buf_init(&b, 512);
    buf_add_hex(&b, "", 0);
    assert_int_equal(b.len, 0);
    for (int c = 0; c < 256; c++) {
        unsigned char byte = (unsigned char)c;
        snprintf(expected, sizeof expected, "%02x", (unsigned)c);
        buf_add_hex(&b, &byte, 1);
        assert_memory_equal(b.data + 2 * c, expected, 2);
    }
    assert_false(b.failed);
    buf_add_hex(&b, "x", 1);
    assert_true(b.failed);
    assert_int_equal(b.len, 512);
    buf_fini(&b);
}

/* A fixed array can be lent: with cap == limit nothing is ever allocated (log.c). */
static void test_lent_array(void **state)
{
    (void)state;
    char text[16];
    struct buf b = {.data = text, .cap = sizeof text - 1, .limit = sizeof text - 1};
    buf_printf(&b, "%d", 1234567);
    buf_add_json_str(&b, "abcdef");
    ASSERT_TEXT(&b, "1234567\"abcdef\"");
    assert_false(b.failed);
    buf_printf(&b, "%d", 1);
    assert_true(b.failed);
    ASSERT_TEXT(&b, "1234567\"abcdef\"");
    assert_int_equal(realloc_calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_append, setup),
        cmocka_unit_test_setup(test_growth_doubles, setup),
        cmocka_unit_test_setup(test_limit_is_exact, setup),
        cmocka_unit_test_setup(test_failure_is_sticky, setup),
        cmocka_unit_test_setup(test_no_memory, setup),
        cmocka_unit_test_setup(test_sizes_that_overflow, setup),
        cmocka_unit_test_setup(test_reserve, setup),
        cmocka_unit_test_setup(test_take, setup),
        cmocka_unit_test_setup(test_int, setup),
        cmocka_unit_test_setup(test_ms_and_seconds, setup),
        cmocka_unit_test_setup(test_rfc3339, setup),
        cmocka_unit_test_setup(test_rfc3339_edges, setup),
        cmocka_unit_test_setup(test_printf, setup),
        cmocka_unit_test_setup(test_json_every_byte, setup),
        cmocka_unit_test_setup(test_json_words, setup),
        cmocka_unit_test_setup(test_json_random, setup),
        cmocka_unit_test_setup(test_json_limit_is_exact, setup),
        cmocka_unit_test_setup(test_json_is_valid, setup),
        cmocka_unit_test_setup(test_base64, setup),
        cmocka_unit_test_setup(test_hex, setup),
        cmocka_unit_test_setup(test_lent_array, setup),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}

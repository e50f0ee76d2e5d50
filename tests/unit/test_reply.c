/* SPDX-License-Identifier: MIT
 *
 * reply: which lengths and codings of an upstream's head are taken, and how many fields.
 */
#include "reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool length(struct reply_count *r, const char *value)
{
    return reply_take_length(r, value, strlen(value));
}

static bool length_alone(const char *value)
{
    struct reply_count r;
    reply_begin(&r);
    return length(&r, value);
}

static void test_lengths(void **state)
{
    (void)state;
    static const char *const good[] = {
        "0",     "42",       "00042",   "9223372036854775807",
        "42,42", "42 ,\t42", "030, 30", "00000000000000000000000000042"};
    static const char *const bad[] = {"",
                                      " ",
                                      "-1",
                                      "+2",
                                      "0x20",
                                      "42s",
                                      "4 2",
                                      "42,",
                                      ",42",
                                      "4,2",
                                      "42,43",
                                      "42;42",
                                      "two",
                                      "1e3",
                                      "2.0",
                                      "9223372036854775808",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(length_alone(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(length_alone(bad[i]));
    assert_false(reply_take_length(&(struct reply_count){.length = -1}, "4\0002", 3));
}

static void test_two_lengths(void **state)
{
    (void)state;
    struct reply_count r;
    reply_begin(&r);
    assert_true(length(&r, "42"));
    assert_true(length(&r, "42, 42"));
    assert_int_equal(r.length, 42);
    assert_false(length(&r, "43"));
    assert_false(length(&r, ""));
}

static bool codings(struct reply_count *r, const char *value)
{
    return reply_take_codings(r, true, value, strlen(value));
}

static bool codings_alone(const char *value)
{
    struct reply_count r;
    reply_begin(&r);
    return codings(&r, value);
}

static void test_codings(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "gzip",
                                       "br",
                                       "zstd",
                                       "rot13",
                                       "identity",
                                       "gzip, gzip",
                                       "deflate ,GZIP",
                                       "x-gzip,gzip",
                                       "chunked, gzip",
                                       ",,gzip,,",
                                       "identity, identity, identity, br",
                                       "none,chunked,zstd"};
    static const char *const bad[] = {"gzip, gzip, gzip", "br, gzip",    "gzip,zstd", "zstd,zstd",
                                      "gzip,gzipp",       "deflate, br", "gzi,gzip"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(codings_alone(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(codings_alone(bad[i]));
}

static void test_brotli_is_known(void **state)
{
    (void)state;
    struct reply_count r;
    reply_begin(&r);
    assert_true(codings(&r, "identity, gzip"));
    assert_false(r.brotli);
    reply_begin(&r);
    assert_true(codings(&r, "identity, BR"));
    assert_true(r.brotli);
}

/* Content-Encoding, Transfer-Encoding and lines of their own are all layers. */
static void test_codings_add_up(void **state)
{
    (void)state;
    struct reply_count r;
    reply_begin(&r);
    assert_true(codings(&r, "gzip"));
    assert_true(codings(&r, "chunked"));
    assert_true(codings(&r, "deflate"));
    assert_false(codings(&r, "gzip"));
    reply_begin(&r);
    assert_true(codings(&r, "br"));
    assert_false(codings(&r, "gzip"));
}

static void test_fields(void **state)
{
    (void)state;
    struct reply_count r;
    reply_begin(&r);
    for (int i = 0; i < REPLY_FIELDS_MAX; i++)
        assert_true(reply_take_field(&r));
    assert_false(reply_take_field(&r));
}

static bool has_surplus(const struct reply_count *r, int64_t behind_head, const char *end)
{
    const struct reply_read read = {60 + behind_head, 60, end, strlen(end)};
    assert_true(reply_has_surplus(r, &read, true) == (behind_head > 0));
    return reply_has_surplus(r, &read, false);
}

static void test_a_surplus_behind_a_length(void **state)
{
    (void)state;
    struct reply_count r;
    reply_begin(&r);
    assert_false(has_surplus(&r, 0, "\n\r\n"));
    assert_false(has_surplus(&r, 9, "abcde")); /* the connection's end is the answer's */
    r.length = 0;
    assert_false(has_surplus(&r, 0, "1\r\n\r\n"));
    assert_true(has_surplus(&r, 1, "\r\n\r\nx"));
    r.length = 9;
    assert_false(has_surplus(&r, 0, ""));
    assert_false(has_surplus(&r, 9, "abcde"));
    assert_true(has_surplus(&r, 10, "abcde"));
    reply_begin_head(&r);
    assert_false(has_surplus(&r, 10, "abcde"));
}

static void test_a_surplus_behind_chunks(void **state)
{
    (void)state;
    static const char *const more[] = {"\r\n\r\nx", "1\r\n\r\n", "x\r\n\r\n", "\n\r\n\r\n",
                                       "0\n\r\n",   "\n\r\n\r",  "0\n\n"};
    struct reply_count r;
    reply_begin(&r);
    assert_true(codings(&r, "gzip, Chunked"));
    assert_false(has_surplus(&r, 100, "0\r\n\r\n"));
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        assert_true(has_surplus(&r, 100, more[i]));
    r.length = 0; /* chunks go before it */
    assert_false(has_surplus(&r, 100, "0\r\n\r\n"));
    reply_begin_head(&r);
    assert_false(r.chunked);
}

static void test_a_surplus_behind_trailers(void **state)
{
    (void)state;
    static const char *const good[] = {"a\r\n\r\n", "ab\n\r\n"};
    static const char *const more[] = {"\n\r\n\r\n", "\r\n\r\nx", "\r\n\n\r\n", "bc\r\n",
                                       "0\r\n\r"};
    struct reply_count r;
    reply_begin(&r);
    assert_true(codings(&r, "chunked"));
    r.trailers = true;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_false(has_surplus(&r, 100, good[i]));
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        assert_true(has_surplus(&r, 100, more[i]));
}

/* What libcurl takes for chunks, and where; nothing is known of what was not read through us. */
static void test_what_is_chunked(void **state)
{
    (void)state;
    static const char *const yes[] = {"chunked", "CHUNKED\v", "identity ,\fchunked\r, x"};
    static const char *const no[] = {"chunkedx", "chunke", "\"chunked\"", ""};
    struct reply_count r;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        reply_begin(&r);
        assert_true(codings(&r, yes[i]));
        assert_true(r.chunked);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        reply_begin(&r);
        assert_true(codings(&r, no[i]));
        assert_false(r.chunked);
    }
    reply_begin(&r);
    assert_true(reply_take_codings(&r, false, "chunked", 7)); /* a Content-Encoding */
    assert_false(r.chunked);
    assert_true(codings(&r, "chunked"));
    const struct reply_read nothing = {0};
    assert_false(reply_has_surplus(&r, &nothing, false));
    assert_false(reply_has_surplus(&r, &nothing, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_two_lengths),
        cmocka_unit_test(test_codings),
        cmocka_unit_test(test_codings_add_up),
        cmocka_unit_test(test_brotli_is_known),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_a_surplus_behind_a_length),
        cmocka_unit_test(test_a_surplus_behind_chunks),
        cmocka_unit_test(test_a_surplus_behind_trailers),
        cmocka_unit_test(test_what_is_chunked),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * put: what the writers write is held to printf (test_buf does more of it, through buf's number
 * writers), and that they stay within the bounds of put.h and write nothing behind their end.
 */
#include "put.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char text[64];

static void prepare(void)
{
    memset(text, '#', sizeof text);
}

static void check(const char *end, size_t most, const char *expected)
{
    size_t n = (size_t)(end - text);
    assert_in_range(n, 1, most);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(text, expected, n);
    for (size_t i = n; i < sizeof text; i++)
        assert_int_equal(text[i], '#');
}

static void check_int(int64_t v)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%" PRId64, v);
    prepare();
    check(put_int(text, v), PUT_INT_MAX, expected);
    if (v < 0)
        return;
    prepare();
    check(put_uint(text, (uint64_t)v), PUT_INT_MAX, expected);
}

static void check_fixed(int64_t v)
{
    char expected[32];
    uint64_t m = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    const char *sign = v < 0 ? "-" : "";
    prepare();
    snprintf(expected, sizeof expected, "%s%" PRIu64 ".%03d", sign, m / 1000, (int)(m % 1000));
    check(put_ms(text, v), PUT_MS_MAX, expected);
    prepare();
    snprintf(expected, sizeof expected, "%s%" PRIu64 ".%06d", sign, m / 1000000,
             (int)(m % 1000000));
    check(put_seconds(text, v), PUT_SECONDS_MAX, expected);
}

/* Around each power of ten, where the number of digits changes. */
static void test_numbers(void **state)
{
    (void)state;
    for (int64_t power = INT64_C(1000000000000000000); power > 0; power /= 10) {
        for (int64_t v = power - 12; v <= power + 12; v++) {
            check_int(v);
            check_int(-v);
            check_fixed(v);
            check_fixed(-v);
        }
    }
    for (int64_t v = 0; v < 12000; v++)
        check_int(v);
    check_int(INT64_MAX);
    check_int(INT64_MIN);
    check_fixed(INT64_MAX);
    check_fixed(INT64_MIN);
    prepare();
    check(put_uint(text, UINT64_MAX), PUT_INT_MAX, "18446744073709551615");
}

static void test_times(void **state)
{
    (void)state;
    prepare();
    check(put_rfc3339(text, INT64_C(1793534400000123)), PUT_RFC3339_MAX,
          "2026-11-01T12:00:00.000123Z");
    prepare();
    check(put_rfc3339(text, INT64_MAX), PUT_RFC3339_MAX, "9999-12-31T23:59:59.999999Z");
    prepare();
    check(put_rfc3339(text, INT64_MIN), PUT_RFC3339_MAX, "0000-01-01T00:00:00.000000Z");
}

static void test_pieces(void **state)
{
    (void)state;
    prepare();
    char *to = PUT_LITERAL(text, "a=");
    to = put_char(to, '"');
    to = put_bytes(to, "xyz", 2);
    check(put_pair(to, 7), 7, "a=\"xy07");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests_name("put", tests, NULL, NULL);
}

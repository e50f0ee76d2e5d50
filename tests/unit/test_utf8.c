/* SPDX-License-Identifier: MIT
 *
 * utf8: every code point, every pair of bytes, against a decoder of another make (by value, not by
 * table), and the utf8tests corpus where it is there.
 */
#include "utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "testdata.h"

static size_t put_utf8(char *s, uint32_t c)
{
    if (c < 0x80) {
        s[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        s[i] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)((0xF00 >> n & 0xFF) | c);
    return n;
}

static bool is_scalar(uint32_t c)
{
    return c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);
}

/* The length of the longest prefix of s that begins some well-formed sequence, and whether it is
 * one already; by trying all completions' ranges instead of a table. */
static int reference(const unsigned char *s, size_t n)
{
    size_t want = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC0 || s[0] > 0xF7)
        return -1;
    uint32_t low = s[0] & (0x7FU >> want), high = low;
    size_t good = 0;
    for (size_t i = 1; i <= want; i++) {
        uint32_t shift = 6 * (uint32_t)(want - i);
        uint32_t first = low << shift, last = high << shift | ((UINT32_C(1) << shift) - 1);
        uint32_t least = want == 2 ? 0x80 : want == 3 ? 0x800 : 0x10000;
        bool possible = last >= least && first <= 0x10FFFF && !(first >= 0xD800 && last <= 0xDFFF);
        if (!possible)
            break;
        good = i;
        if (i == want)
            return (int)want;
        if (i >= n || (s[i] & 0xC0) != 0x80)
            break;
        low = high = low << 6 | (s[i] & 0x3F);
    }
    return good > 0 ? -(int)good : -1;
}

static bool all_valid(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        int length = reference(s + i, n - i);
        if (length < 0)
            return false;
        i += (size_t)length;
    }
    return true;
}

static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x200000; c++) {
        char s[4];
        size_t n = put_utf8(s, c);
        int length = utf8_sequence(s, n);
        if (is_scalar(c)) {
            if (length != (int)n || !utf8_valid(s, n))
                fail_msg("U+%04X is well-formed", c);
            if (n > 1 && utf8_sequence(s, n - 1) != -(int)(n - 1))
                fail_msg("U+%04X without its last byte is one subpart", c);
        } else if (length != -1 || utf8_valid(s, n)) {
            fail_msg("%04X is no code point and its first byte is a subpart alone", c);
        }
    }
}

/* All first two bytes, with each class of third and fourth byte, at each length. */
static void test_against_reference(void **state)
{
    (void)state;
    static const unsigned char classes[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                            0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF};
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            for (size_t k = 0; k < sizeof classes * sizeof classes; k++) {
                unsigned char s[4] = {(unsigned char)a, (unsigned char)b,
                                      classes[k / sizeof classes], classes[k % sizeof classes]};
                for (size_t n = 1; n <= 4; n++) {
                    if (utf8_sequence((const char *)s, n) != reference(s, n))
                        fail_msg("%02x %02x %02x %02x, %zu bytes", s[0], s[1], s[2], s[3], n);
                    if (utf8_valid((const char *)s, n) != all_valid(s, n))
                        fail_msg("%02x %02x %02x %02x, %zu bytes as a text", s[0], s[1], s[2], s[3],
                                 n);
                }
            }
        }
    }
}

/* Pairs of bytes across the end of a word, and after sequences that such an end cuts. */
static void test_valid_across_words(void **state)
{
    static const char *const before[] = {"", "\xC3", "\xE2\x82", "\xE0", "\xED", "\xF0\x9F\x98",
                                         "\xF0", "\xF4", "\xF1\x80", "\xC3\xA4"};
    (void)state;
    for (size_t at = 5; at < 12; at++) {
        for (unsigned k = 0; k < sizeof before / sizeof *before * 65536; k++) {
            unsigned char text[24];
            const char *first = before[k / 65536];
            memset(text, 'x', sizeof text);
            memcpy(text + at, first, strlen(first));
            text[at + strlen(first)] = (unsigned char)(k >> 8 & 255);
            text[at + strlen(first) + 1] = (unsigned char)(k & 255);
            if (utf8_valid((const char *)text, sizeof text) != all_valid(text, sizeof text))
                fail_msg("%u at %zu", k, at);
        }
    }
}

static void test_valid(void **state)
{
    (void)state;
    char text[64];
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0b", 3));
    /* One bad or one good sequence at every place of a text longer than a word. */
    for (size_t at = 0; at < 40; at++) {
        memset(text, 'x', sizeof text);
        text[at] = (char)0xFF;
        assert_false(utf8_valid(text, 40));
        memcpy(text + at, "\xE2\x82\xAC", 3);
        assert_true(utf8_valid(text, at + 3));
        assert_true(utf8_valid(text, 50));
        assert_false(utf8_valid(text, at + 2));
        assert_false(utf8_valid(text, at + 1));
        assert_true(utf8_valid(text, at));
    }
}

static void test_prefix(void **state)
{
    (void)state;
    const char text[] = "a\xC3\xA4\xE2\x82\xAC\xF0\x9D\x92\x9Cz"; /* 1 2 3 4 1 bytes */
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    size_t n = sizeof text - 1;
    for (size_t max = 0; max < sizeof expected / sizeof *expected; max++)
        assert_int_equal(utf8_prefix(text, n, max), expected[max]);
    assert_int_equal(utf8_prefix(text, n, SIZE_MAX), n);
    assert_int_equal(utf8_prefix("", 0, 0), 0);
    /* What is no code point may be cut anywhere, but a code point beside it may not. */
    assert_int_equal(utf8_prefix("\x80\x80\x80\x80\x80", 5, 3), 3);
    assert_int_equal(utf8_prefix("\xE2\x82z", 3, 1), 1);
    assert_int_equal(utf8_prefix("\xED\xA0\x80z", 4, 2), 2);
    assert_int_equal(utf8_prefix("\xFF\xC3\xA4", 3, 2), 1);
}

/* --- the corpus ------------------------------------------------------------------------------ */

static void test_corpus(void **state)
{
    (void)state;
    size_t n, expected_n = 0, len = 0;
    char *text = testdata_read("utf8tests/utf8tests.bin", &n);
    char *expected = text ? testdata_read("utf8tests/utf8.replace.ref.txt", &expected_n) : NULL;
    if (!expected) {
        free(text);
        skip();
    }
    char *replaced = malloc(3 * n);
    assert_non_null(replaced);
    for (size_t i = 0; i < n;) {
        int length = utf8_sequence(text + i, n - i);
        size_t used = (size_t)abs(length);
        memcpy(replaced + len, length < 0 ? "\xEF\xBF\xBD" : text + i, length < 0 ? 3 : used);
        len += length < 0 ? 3 : used;
        i += used;
    }
    assert_int_equal(len, expected_n);
    assert_memory_equal(replaced, expected, len);
    assert_false(utf8_valid(text, n));
    assert_true(utf8_valid(expected, expected_n));
    free(replaced);
    free(expected);
    free(text);
}

static size_t count_by_sequence(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t at = 0; at < n; count++) {
        int length = utf8_sequence(s + at, n - at);
        at += (size_t)(length < 0 ? -length : length);
    }
    return count;
}

/* What begins a sequence, goes on with one, or is at the ends of their ranges, four at a time, cut at
 * each place. */
static void test_count(void **state)
{
    (void)state;
    static const char bytes[] =
        "a\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xED\xEE\xF0\xF1\xF4\xF5\xFF";
    const size_t kinds = sizeof bytes - 1;
    for (size_t i = 0; i < kinds * kinds * kinds * kinds; i++) {
        char s[14] = "0123456789aaaa";
        for (size_t at = 0, rest = i; at < 4; at++, rest /= kinds)
            s[10 + at] = bytes[rest % kinds];
        const char *text = s + (i % 2 == 0 ? 0 : 10);
        const size_t n = i % 2 == 0 ? 14 : 4;
        for (size_t cut = n - 4; cut <= n; cut++) {
            unsigned from = 0;
            size_t count = utf8_count(text, cut, &from);
            count += utf8_count(text + cut, n - cut, &from);
            assert_int_equal(count, count_by_sequence(text, n));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_valid_across_words),
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}

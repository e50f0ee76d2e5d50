/* SPDX-License-Identifier: MIT
 *
 * text_length: the figures of Python's len(body.decode(charset, "replace")), fed whole and in
 * pieces of each size; the Content-Type's parameter; byte order marks. text_length.c is included,
 * so that its calloc can fail.
 */
#include "text_length.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "testdata.h"

static bool no_memory;
static unsigned iconv_calls;

static void *test_text_length_calloc(size_t count, size_t size)
{
    return no_memory ? NULL : calloc(count, size);
}

#include <iconv.h>

static size_t test_text_length_iconv(iconv_t cd, char **in, size_t *n, char **out, size_t *room)
{
    iconv_calls++;
    return iconv(cd, in, n, out, room);
}

#define calloc test_text_length_calloc
#define iconv test_text_length_iconv
#include "text_length.c"
#undef iconv
#undef calloc

/* Fed in pieces of `piece` bytes, each a block of its own so that a sanitizer sees its end. */
static int64_t count_in_pieces(const char *type, const char *data, size_t n, size_t piece)
{
    struct text_length *t = text_length_create(type);
    assert_non_null(t);
    for (size_t at = 0; at < n; at += piece) {
        size_t used = n - at < piece ? n - at : piece;
        char *block = malloc(used);
        assert_non_null(block);
        memcpy(block, data + at, used);
        text_length_feed(t, block, used);
        text_length_feed(t, block, 0);
        free(block);
    }
    int64_t count = text_length_finish(t);
    text_length_destroy(t);
    return count;
}

static void check(const char *type, const char *data, size_t n, int64_t expected)
{
    for (size_t piece = 1; piece <= n + 1; piece = piece < 20 ? piece + 1 : piece * 2) {
        int64_t count = count_in_pieces(type, data, n, piece);
        if (count != expected)
            fail_msg("%s: %lld instead of %lld characters, in pieces of %zu",
                     type ? type : "(none)", (long long)count, (long long)expected, piece);
    }
}

#define CHECK(charset, data, expected) \
    check("text/html; charset=" charset, data, sizeof(data) - 1, expected)

static void test_utf8(void **state)
{
    (void)state;
    CHECK("utf-8", "", 0);
    CHECK("utf-8", "abc", 3);
    CHECK("utf-8", "a\0b", 3);
    CHECK("utf-8", "0123456789abcdef0123456789\xC3\xA4\xE2\x82\xAC\xF0\x9D\x92\x9C", 29);
    CHECK("utf-8", "\xE6\xBC\xA2\xE5\xAD\x97\xE6\xBC\xA2\xE5\xAD\x97", 4);
    CHECK("utf-8", "e\xCC\x81", 2); /* code points, not what is seen */
}

static void test_ill_formed_utf8(void **state)
{
    (void)state;
    CHECK("utf-8", "\x80", 1);
    CHECK("utf-8", "\xFF\xFE\xFD", 3);
    CHECK("utf-8", "\xE2\x82", 1); /* cut at the end: one */
    CHECK("utf-8", "\xF0\x9D\x92", 1);
    CHECK("utf-8", "a\xC3", 2);
    CHECK("utf-8", "\xE2\x82" "A", 2);
    CHECK("utf-8", "\xE2\xE2\x82\xAC", 2);
    CHECK("utf-8", "\xF0\x9D\x92\xF0\x9D\x92\x9C", 2);
    CHECK("utf-8", "\xED\xA0\x80", 3); /* a surrogate */
    CHECK("utf-8", "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 9);
    CHECK("utf-8", "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", 9);
    CHECK("utf-8", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 5);
}

static void test_single_byte(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ascii", "us-ascii", "latin-1", "Latin1", "iso-8859-1", "ISO_8859-1:1987", "iso8859-15",
        "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
        "windows-1255", "windows-1256", "windows-1257", "windows-1258", "cp1252", "CP437", "koi8-r",
        "iso-8859-9", "l2", "csisolatin1", "ibm850", "macintosh",
    };
    char all[256], type[80];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(type, sizeof type, "text/plain; charset=%s", names[i]);
        check(type, all, sizeof all, 256);
        check(type, "", 0, 0);
    }
}

static void test_utf16(void **state)
{
    (void)state;
    CHECK("utf-16le", "a\0b\0", 2);
    CHECK("utf-16be", "\0a\0b", 2);
    CHECK("utf-16le", "\x35\xD8\x9C\xDC", 1); /* a pair */
    CHECK("utf-16le", "\x35\xD8" "a\0", 2);   /* a high one alone */
    CHECK("utf-16le", "\x9C\xDC" "a\0", 2);   /* a low one alone */
    CHECK("utf-16le", "a\0b", 2);             /* half a unit */
    CHECK("utf-16le", "\x35\xD8", 1);
    CHECK("utf-16le", "\x35\xD8\x9C", 1);
    CHECK("utf-16le", "\xFF\xFE" "a\0", 2); /* here it is a character, as for Python */
    CHECK("utf-16", "\xFF\xFE" "a\0b\0", 2);
    CHECK("utf-16", "\xFE\xFF\0a\0b", 2);
}

static void test_utf32(void **state)
{
    (void)state;
    CHECK("utf-32le", "a\0\0\0\x9C\xD4\x01\0", 2);
    CHECK("utf-32be", "\0\0\0a\0\x01\xD4\x9C", 2);
    CHECK("utf-32be", "\0\x11\0\0\0\0\0a", 2);  /* past the last code point */
    CHECK("utf-32be", "\0\0\xD8\0\0\0\0a", 2);  /* a surrogate */
    CHECK("utf-32be", "\0\0\0a\0\0\0", 2);
    CHECK("utf-32", "\xFF\xFE\0\0" "a\0\0\0", 1);
}

/* Some systems keep these converters in a package of their own; then the count is -1. */
static void skip_without_converters(void)
{
    iconv_t converter = iconv_open("UTF-32LE", "GBK");
    if (converter == (iconv_t)-1)
        skip();
    iconv_close(converter);
}

static void test_multi_byte(void **state)
{
    (void)state;
    skip_without_converters();
    CHECK("shift_jis", "\x8A\xBF\x8E\x9A" "a\xB1", 4); /* two kanji, a letter, half-width kana */
    CHECK("euc-jp", "\xB4\xC1\xBB\xFA" "a\x8E\xB1", 4);
    CHECK("iso-2022-jp", "a\x1B$B4A;z\x1B(Bb", 4);
    CHECK("gb2312", "\xBA\xBA\xD7\xD6", 2);
    CHECK("gbk", "\xBA\xBA\xD7\xD6" "x", 3);
    CHECK("gb18030", "\xBA\xBA\x94\x32\xBE\x36", 2);
    CHECK("big5", "\xBA\x7E\xA6\x72", 2);
    CHECK("big5-hkscs", "\x88\x62", 2); /* one pair of bytes, two characters */
    CHECK("euc-kr", "\xC7\xD1\xB1\xDB", 2);
    CHECK("cp949", "\x81\x41", 1);
    CHECK("windows-31j", "\x87\x40", 1);
}

static void test_ill_formed_multi_byte(void **state)
{
    (void)state;
    skip_without_converters();
    CHECK("gbk", "\xFF\xFF", 2);
    CHECK("gbk", "\xBA", 1); /* cut at the end */
    CHECK("gbk", "a\xBA\xBA\xD7", 3);
    CHECK("shift_jis", "\x8A", 1);
    CHECK("shift_jis", "\xFD\xFE\xFF", 3);
    CHECK("euc-kr", "\xC7" "a\xC7\xD1", 3);
    CHECK("gb18030", "\x94\x32\xBE", 1);
}

/* iconv's output array is filled many times over. */
/* A body that is no text in its charset costs so many stops of iconv() and not more. */
static void test_many_ill_formed_places(void **state)
{
    (void)state;
    static const struct {
        const char *type, *place;
        size_t len;
    } rows[] = {
        {"text/plain; charset=euc-jp", "\xFF", 1},
        {"text/plain; charset=big5-hkscs", "\xFF", 1},
        {"text/plain; charset=gb18030", "\xFF", 1},
        {"text/plain; charset=utf-16le", "\x00\xDC", 2},
        {"text/plain; charset=utf-32le", "\x00\x00\x11\x00", 4},
    };
    const size_t more = 8 * ILL_FORMED_MAX;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t n = rows[i].len;
        char *data = malloc(more * n);
        assert_non_null(data);
        for (size_t at = 0; at < more; at++)
            memcpy(data + at * n, rows[i].place, n);
        for (size_t piece = 4096; piece <= more * n; piece *= 16) {
            const size_t max = ILL_FORMED_MAX;
            assert_int_equal(count_in_pieces(rows[i].type, data, max * n, piece), max);
            assert_int_equal(count_in_pieces(rows[i].type, data, (max + 1) * n, piece), -1);
            iconv_calls = 0;
            assert_int_equal(count_in_pieces(rows[i].type, data, more * n, piece), -1);
            assert_true(iconv_calls <= max + 100);
        }
        free(data);
    }
    char *bad = malloc(more);
    assert_non_null(bad);
    memset(bad, 0xFF, more);
    assert_int_equal(count_in_pieces("text/plain; charset=utf-8", bad, more, 65536), more);
    free(bad);
}

static void test_long_bodies(void **state)
{
    (void)state;
    skip_without_converters();
    size_t n = 60000;
    char *body = malloc(n);
    assert_non_null(body);
    for (size_t i = 0; i < n; i += 6)
        memcpy(body + i, "\xBA\xBA" "a\xD7\xD6" "b", 6);
    check("text/plain; charset=gbk", body, n, (int64_t)n / 6 * 4);
    check("text/plain; charset=utf-16le", body, n, (int64_t)n / 2);
    check("text/plain; charset=latin-1", body, n, (int64_t)n);
    memset(body, 0xFF, n);
    check("text/plain; charset=gbk", body, n, (int64_t)n);
    check("text/plain; charset=utf-8", body, n, (int64_t)n);
    free(body);
}

/* Two characters from one pair of bytes, where the array has room for one only: iconv keeps the
 * other for the next call, which at the end of a body is the flush. */
static void test_character_kept_by_iconv(void **state)
{
    (void)state;
    char body[2100];
    skip_without_converters();
    memset(body, 'a', sizeof body);
    for (size_t n = 1000; n < 2060; n++) {
        memcpy(body + n, "\x88\x62", 2);
        assert_int_equal(count_in_pieces("a/b; charset=big5-hkscs", body, n + 2, n + 2), n + 2);
        memset(body + n, 'a', 2);
    }
}

#define CHECK_TYPE(type, data, expected) check(type, data, sizeof(data) - 1, expected)

static void test_bom(void **state)
{
    (void)state;
    CHECK_TYPE(NULL, "\xEF\xBB\xBF" "a\xC3\xA4", 2);
    CHECK_TYPE(NULL, "\xFF\xFE" "a\0b\0", 2);
    CHECK_TYPE(NULL, "\xFE\xFF\0a\0b", 2);
    CHECK_TYPE(NULL, "\xFF\xFE\0\0" "a\0\0\0", 1);
    CHECK_TYPE(NULL, "\0\0\xFE\xFF\0\0\0a", 1);
    CHECK_TYPE("text/plain", "\xEF\xBB\xBF", 0);
    CHECK_TYPE("text/plain", "\xFF\xFE", 0);
    CHECK_TYPE("text/plain", "\xEF\xBB\xBF\xEF\xBB\xBF", 1); /* a second one is a character */
    /* The Content-Type's word is stronger, and then the mark is a character. */
    CHECK("utf-8", "\xEF\xBB\xBF" "a", 2);
    CHECK("latin-1", "\xEF\xBB\xBF" "a", 4);
}

static void test_default_is_utf8(void **state)
{
    (void)state;
    static const char *const types[] = {
        NULL, "", "text/html", "text/html;", "application/json", "text/html; charset=",
        "text/html; charset=\"\"", "text/html; level=1", "text/html; xcharset=latin-1",
        "text/html; charset", "charset=latin-1", "text/html; a=\"; charset=latin-1\"",
        "text/html; charset ; a=latin-1", "text/html; a=\"x\" charset=latin-1",
        "text/html; a charset=latin-1", "text/html; charset=; charset=latin-1",
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        check(types[i], "\xC3\xA4 and \xE2\x82\xAC.", 11, 8);
        check(types[i], "\xEF\xBB", 2, 1);
        check(types[i], "\xFFz", 2, 2);
        check(types[i], "", 0, 0);
    }
}

static void test_content_type(void **state)
{
    (void)state;
    static const char *const latin[] = {
        "text/html; charset=latin-1", "text/html;charset=latin-1", "text/html; CHARSET=LATIN-1",
        "text/html; charset=\"latin-1\"", "text/html; charset=\"lat\\in-1\"",
        "text/html; charset='latin-1'", "text/html ; level=1 ; charset=latin-1 ",
        "text/html; charset = latin-1", "text/html;;; charset=latin-1; x=y",
        "text/html; charset=latin-1; charset=utf-8", "text/html; a=\"x;y\"; charset=latin-1",
        "text/html; a=\"\\\"; charset=utf-8\"; charset=latin-1", "text/html; a; charset=latin-1",
        "text/html; charset=\"latin-1", "text/html;\tcharset=latin_1",
    };
    for (size_t i = 0; i < sizeof latin / sizeof *latin; i++)
        check(latin[i], "\xC3\xA4", 2, 2);
}

static void test_unknown_charset(void **state)
{
    (void)state;
    static const char *const types[] = {
        "text/html; charset=x-unknown", "text/html; charset=utf-9", "text/html; charset=none",
        "text/html; charset=-", "text/html; charset=\"\\\"\"", "text/html; charset=utf-8\xC3\xA4",
        "text/html; charset=iso-8859-12", "text/html; charset=windows-9999",
        "text/html; charset=gbk//TRANSLIT", "text/html; charset=utf-16//IGNORE",
        "text/html; charset=../../etc/passwd", "text/html; charset=/tmp/x",
        "text/html; charset=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        check(types[i], "abc", 3, -1);
        check(types[i], "\xEF\xBB\xBF", 3, -1);
        check(types[i], "", 0, -1);
    }
}

static void test_random_pieces(void **state)
{
    (void)state;
    skip_without_converters();
    static const char *const types[] = {
        "a/b", "a/b; charset=utf-8", "a/b; charset=utf-16", "a/b; charset=utf-32be",
        "a/b; charset=gb18030", "a/b; charset=big5-hkscs", "a/b; charset=shift_jis",
        "a/b; charset=euc-jp", "a/b; charset=euc-kr", "a/b; charset=iso-2022-jp",
        "a/b; charset=iso-2022-kr", "a/b; charset=johab", "a/b; charset=cp950",
    };
    srand(3);
    for (size_t i = 0; i < 400 * sizeof types / sizeof *types; i++) {
        char data[120];
        const char *type = types[i % (sizeof types / sizeof *types)];
        size_t n = (size_t)rand() % sizeof data;
        for (size_t k = 0; k < n; k++)
            data[k] = (char)(rand() % 3 ? 0x80 | rand() : rand() % 2 ? rand() : 0x1B);
        int64_t whole = count_in_pieces(type, data, n, n + 1);
        assert_in_range(whole, n > 3 ? 1 : 0, 2 * n);
        check(type, data, n, whole);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    no_memory = true;
    assert_null(text_length_create("text/html; charset=gbk"));
    no_memory = false;
    text_length_destroy(NULL);
    struct text_length *t = text_length_create("text/html; charset=gbk");
    text_length_feed(t, "\xBA", 1);
    text_length_destroy(t); /* a body that was cut is never finished */
}

/* --- the corpus ------------------------------------------------------------------------------ */

static void test_corpus(void **state)
{
    (void)state;
    size_t n, replaced_n = 0;
    char *text = testdata_read("utf8tests/utf8tests.bin", &n);
    char *replaced = text ? testdata_read("utf8tests/utf8.replace.ref.txt", &replaced_n) : NULL;
    if (!replaced) {
        free(text);
        skip();
    }
    int64_t expected = 0; /* the replaced text is well-formed: count what continues nothing */
    for (size_t i = 0; i < replaced_n; i++)
        expected += (replaced[i] & 0xC0) != 0x80;
    check("text/plain; charset=utf-8", text, n, expected);
    free(replaced);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_ill_formed_utf8),
        cmocka_unit_test(test_single_byte),
        cmocka_unit_test(test_utf16),
        cmocka_unit_test(test_utf32),
        cmocka_unit_test(test_multi_byte),
        cmocka_unit_test(test_ill_formed_multi_byte),
        cmocka_unit_test(test_many_ill_formed_places),
        cmocka_unit_test(test_long_bodies),
        cmocka_unit_test(test_character_kept_by_iconv),
        cmocka_unit_test(test_bom),
        cmocka_unit_test(test_default_is_utf8),
        cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_unknown_charset),
        cmocka_unit_test(test_random_pieces),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests_name("text_length", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * text_length - the characters of a body, counted chunk by chunk and never kept. The engine's write
 * callback feeds it on the loop's thread; it owns one small struct and, for some charsets, an iconv
 * descriptor.
 *
 * UTF-8 is counted by hand, a single-byte charset has as many characters as bytes, all else goes
 * through iconv(3) to wide characters, which are UTF-32 and the one form that the C library makes
 * in one step: ten megabytes take 10 to 60 ms, to UTF-32LE 80 to 280. They go to a small array on
 * the stack. A chunk may end within a character: those bytes wait in `carry`, of UTF-8 only a
 * state. What an ill-formed place costs is Python's rule: the maximal subpart in UTF-8, a unit in
 * UTF-16 and UTF-32, a byte in the multi-byte charsets.
 *
 * The charset's name comes from a stranger, so it only selects a row of this table: iconv_open()
 * never sees it (it takes options and loads code by name).
 */
#include "text_length.h"

#include <errno.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "utf8.h"

#define CARRY_MAX 16

/* iconv() stops at each of them, for 60 to 100 ns: ten megabytes would be most of a second. What
 * has more is no text in that charset. */
#define ILL_FORMED_MAX 65536

/* TEXT_SNIFF: no charset was given and the first bytes are not all there. */
enum mode { TEXT_SNIFF, TEXT_UTF8, TEXT_SINGLE, TEXT_ICONV, TEXT_UNKNOWN };

struct text_length {
    enum mode mode;
    int64_t count;
    iconv_t converter; /* TEXT_ICONV */
    size_t unit;       /* TEXT_ICONV: bytes that one U+FFFD stands for */
    unsigned ill_formed; /* TEXT_ICONV: places so far */
    unsigned utf8;       /* TEXT_UTF8: see utf8_count() */
    char carry[CARRY_MAX];
    size_t carry_len;
};

/* --- charsets -------------------------------------------------------------------------------- */

#define NAME_MAX_BYTES 24

struct charset {
    const char *name; /* lower case, letters and digits only */
    const char *iconv_name;
    size_t unit;
};

/* The names under which Python knows them, and windows-31j, ks_c_5601-1987 of the Web. */
static const struct charset charsets[] = {
    {"utf16", "UTF-16", 2},           {"utf16le", "UTF-16LE", 2},
    {"utf16be", "UTF-16BE", 2},       {"u16", "UTF-16", 2},
    {"utf32", "UTF-32", 4},           {"utf32le", "UTF-32LE", 4},
    {"utf32be", "UTF-32BE", 4},       {"u32", "UTF-32", 4},
    {"gb2312", "EUC-CN", 1},          {"gb231280", "EUC-CN", 1},
    {"euccn", "EUC-CN", 1},           {"csiso58gb231280", "EUC-CN", 1},
    {"chinese", "EUC-CN", 1},         {"gbk", "GBK", 1},
    {"cp936", "GBK", 1},              {"ms936", "GBK", 1},
    {"936", "GBK", 1},                {"gb18030", "GB18030", 1},
    {"gb180302000", "GB18030", 1},    {"big5", "BIG5", 1},
    {"csbig5", "BIG5", 1},            {"big5tw", "BIG5", 1},
    {"big5hkscs", "BIG5-HKSCS", 1},   {"hkscs", "BIG5-HKSCS", 1},
    {"cp950", "CP950", 1},            {"ms950", "CP950", 1},
    {"shiftjis", "SHIFT_JIS", 1},     {"sjis", "SHIFT_JIS", 1},
    {"csshiftjis", "SHIFT_JIS", 1},   {"cp932", "CP932", 1},
    {"ms932", "CP932", 1},            {"mskanji", "CP932", 1},
    {"windows31j", "CP932", 1},       {"eucjp", "EUC-JP", 1},
    {"ujis", "EUC-JP", 1},            {"euckr", "EUC-KR", 1},
    {"korean", "EUC-KR", 1},          {"ksc5601", "EUC-KR", 1},
    {"ksc56011987", "EUC-KR", 1},     {"cp949", "CP949", 1},
    {"ms949", "CP949", 1},            {"uhc", "CP949", 1},
    {"johab", "JOHAB", 1},            {"iso2022jp", "ISO-2022-JP", 1},
    {"csiso2022jp", "ISO-2022-JP", 1}, {"iso2022kr", "ISO-2022-KR", 1},
};

static bool is_in(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Whether name is `prefix` and a number of the list. */
static bool is_numbered(const char *name, const char *prefix, const int *numbers, size_t count)
{
    size_t n = strlen(prefix);
    int64_t number;
    if (strncmp(name, prefix, n) != 0 || !parse_int(name + n, 0, INT16_MAX, &number))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (numbers[i] == number)
            return true;
    }
    return false;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is_single_byte(const char *name)
{
    static const char *const names[] = {
        "ascii", "usascii", "us", "646", "iso646us", "ansix341968", "csascii", "latin", "cp819",
        "ibm819", "iso885911987", "iso88598i", "iso88598e", "arabic", "cyrillic", "greek", "hebrew",
        "thai", "koi8r", "koi8u", "koi8t", "cskoi8r", "kz1048", "tis620", "hproman8", "macroman",
        "macintosh", "maccyrillic", "macgreek", "maciceland", "maclatin2", "macturkish",
    };
    static const int parts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16};
    static const int latins[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    static const int pages[] = {
        37, 273, 424, 437, 500, 720, 737, 775, 850, 852, 855, 856, 857, 858, 860, 861, 862, 863,
        864, 865, 866, 869, 874, 875, 1006, 1026, 1125, 1140, 1250, 1251, 1252, 1253, 1254, 1255,
        1256, 1257, 1258,
    };
    return is_in(name, names, COUNT(names)) ||
           is_numbered(name, "iso8859", parts, COUNT(parts)) ||
           is_numbered(name, "latin", latins, COUNT(latins)) ||
           is_numbered(name, "csisolatin", latins, COUNT(latins)) ||
           is_numbered(name, "l", latins, COUNT(latins)) ||
           is_numbered(name, "cp", pages, COUNT(pages)) ||
           is_numbered(name, "ibm", pages, COUNT(pages)) ||
           is_numbered(name, "windows", pages, COUNT(pages));
}

static void use_iconv(struct text_length *t, const char *iconv_name, size_t unit)
{
    t->converter = iconv_open("WCHAR_T", iconv_name);
    t->mode = t->converter == (iconv_t)-1 ? TEXT_UNKNOWN : TEXT_ICONV;
    t->unit = unit;
}

/* name is as in the table. */
static void use_charset(struct text_length *t, const char *name)
{
    static const char *const utf8_names[] = {"utf8", "u8", "utf", "cp65001"};
    t->mode = TEXT_UNKNOWN;
    if (is_in(name, utf8_names, COUNT(utf8_names)))
        t->mode = TEXT_UTF8;
    else if (is_single_byte(name))
        t->mode = TEXT_SINGLE;
    for (size_t i = 0; i < COUNT(charsets) && t->mode == TEXT_UNKNOWN; i++) {
        if (strcmp(name, charsets[i].name) == 0) {
            use_iconv(t, charsets[i].iconv_name, charsets[i].unit);
            return;
        }
    }
}

/* --- Content-Type ---------------------------------------------------------------------------- */

/* The value of a parameter at *s, a token or quoted, as a table name: only its letters and digits,
 * in lower case. Leaves *s behind it. False when that is too long, or not ASCII. */
static bool take_name(const char **s, char name[NAME_MAX_BYTES])
{
    const char *p = *s;
    bool quoted = *p == '"', ok = true;
    size_t n = 0;
    for (p += quoted; *p && *p != (quoted ? '"' : ';'); p++) {
        p += quoted && *p == '\\' && p[1];
        char lower = *p >= 'A' && *p <= 'Z' ? (char)(*p + ('a' - 'A')) : *p;
        if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9')) {
            ok = ok && n < NAME_MAX_BYTES - 1;
            name[ok ? n++ : 0] = lower;
        }
        ok = ok && (signed char)lower >= ' ';
    }
    name[n] = '\0';
    *s = p + (quoted && *p);
    return ok;
}

/* Finds the first charset parameter; false when there is none or it is empty. A name that no
 * charset can have becomes "?". What no ";" separates belongs to the parameter before. */
static bool find_charset(const char *s, char name[NAME_MAX_BYTES])
{
    s += strcspn(s, ";");
    while (*s) {
        s += strspn(s, "; \t");
        size_t n = strcspn(s, "=; \t");
        bool is_charset = parse_equal_nocase(s, n, "charset");
        s += n;
        s += strspn(s, " \t");
        if (*s == '=') {
            s++;
            s += strspn(s, " \t");
            bool empty = !*s || *s == ';' || strncmp(s, "\"\"", 2) == 0;
            if (!take_name(&s, name) || !name[0])
                memcpy(name, "?", 2);
            if (is_charset)
                return !empty;
        }
        s += strcspn(s, ";");
    }
    return false;
}

struct text_length *text_length_create(const char *content_type)
{
    struct text_length *t = calloc(1, sizeof *t);
    char name[NAME_MAX_BYTES];
    if (t && content_type && find_charset(content_type, name))
        use_charset(t, name);
    return t;
}

void text_length_destroy(struct text_length *t)
{
    if (t && t->mode == TEXT_ICONV)
        iconv_close(t->converter);
    free(t);
}

/* --- counting -------------------------------------------------------------------------------- */

static void give_up(struct text_length *t)
{
    iconv_close(t->converter);
    t->mode = TEXT_UNKNOWN;
}

/* Counts what is complete; returns how many bytes at the end may be the start of a character. */
static size_t count_iconv(struct text_length *t, const char *data, size_t n)
{
    char out[4096];
    char *in = (char *)data; /* iconv's prototype lacks a const */
    while (n > 0) {
        char *to = out;
        size_t room = sizeof out, before = n;
        size_t status = iconv(t->converter, &in, &n, &to, &room);
        int error = status == (size_t)-1 ? errno : 0;
        t->count += (to - out) / 4;
        if (error == EINVAL && n < CARRY_MAX)
            break;
        if (error == EILSEQ || error == EINVAL || (error && n == before && room == sizeof out)) {
            size_t skip = n < t->unit ? n : t->unit;
            in += skip;
            n -= skip;
            t->count++;
            if (++t->ill_formed > ILL_FORMED_MAX) {
                give_up(t);
                return 0;
            }
        }
    }
    return n;
}

/* Hands the carried bytes on with as few of the new ones as it takes to end their character;
 * returns how many those were. */
static size_t feed_carry(struct text_length *t, const char *data, size_t n)
{
    size_t used = 0;
    while (t->carry_len > 0 && used < n) {
        t->carry[t->carry_len++] = data[used++];
        size_t len = t->carry_len;
        size_t left = count_iconv(t, t->carry, len);
        memmove(t->carry, t->carry + len - left, left);
        t->carry_len = left;
    }
    return used;
}

static void feed(struct text_length *t, const char *data, size_t n)
{
    if (t->mode == TEXT_SINGLE)
        t->count += (int64_t)n;
    if (t->mode == TEXT_UTF8)
        t->count += (int64_t)utf8_count(data, n, &t->utf8);
    if (t->mode != TEXT_ICONV)
        return;
    size_t used = feed_carry(t, data, n);
    if (used == n || t->mode != TEXT_ICONV)
        return;
    data += used;
    n -= used;
    size_t left = count_iconv(t, data, n);
    memcpy(t->carry, data + n - left, left);
    t->carry_len = left;
}

/* Chooses by the byte order mark at the start; returns the mark's length. */
static size_t use_bom(struct text_length *t, const char *s, size_t n)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *iconv_name; /* NULL: UTF-8 */
        size_t unit;
    } marks[] = {
        {"\xEF\xBB\xBF", 3, NULL, 0},
        {"\xFF\xFE\0\0", 4, "UTF-32LE", 4}, /* before UTF-16LE, which is its start */
        {"\0\0\xFE\xFF", 4, "UTF-32BE", 4},
        {"\xFF\xFE", 2, "UTF-16LE", 2},
        {"\xFE\xFF", 2, "UTF-16BE", 2},
    };
    t->mode = TEXT_UTF8;
    for (size_t i = 0; i < COUNT(marks); i++) {
        if (n < marks[i].len || memcmp(s, marks[i].bytes, marks[i].len) != 0)
            continue;
        if (marks[i].iconv_name)
            use_iconv(t, marks[i].iconv_name, marks[i].unit);
        return marks[i].len;
    }
    return 0;
}

/* Ends TEXT_SNIFF with what was gathered. */
static void sniff(struct text_length *t)
{
    char start[CARRY_MAX];
    size_t n = t->carry_len;
    memcpy(start, t->carry, n);
    t->carry_len = 0;
    size_t mark = use_bom(t, start, n);
    feed(t, start + mark, n - mark);
}

void text_length_feed(struct text_length *t, const char *data, size_t n)
{
    for (; t->mode == TEXT_SNIFF && n > 0; n--) {
        t->carry[t->carry_len++] = *data++;
        if (t->carry_len == 4)
            sniff(t);
    }
    feed(t, data, n);
}

int64_t text_length_finish(struct text_length *t)
{
    if (t->mode == TEXT_SNIFF)
        sniff(t);
    if (t->mode == TEXT_UNKNOWN)
        return -1;
    if (t->mode == TEXT_ICONV) {
        char out[64], *to = out;
        size_t room = sizeof out;
        /* A character for which there was no room, or which an accent could have followed. */
        iconv(t->converter, NULL, NULL, &to, &room);
        t->count += (to - out) / 4;
    }
    t->count += t->carry_len > 0;
    t->carry_len = 0;
    return t->count;
}

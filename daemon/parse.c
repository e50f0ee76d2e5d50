/* SPDX-License-Identifier: MIT
 *
 * parse - values from text: what the configuration, query strings, JSON members and HTTP heads
 * hold. Pure functions, any thread, nothing owned.
 *
 * Nothing here asks the C library what a digit, a letter or a decimal point is: the locale is
 * C.UTF-8 for libcurl's sake, and the answer must not depend on it. Numbers are gathered by
 * add_digit(), which refuses before it would overflow.
 */
#include "parse.h"

#include <string.h>

#include "clock.h"

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* *v = *v * 10 + digit; false when that exceeds max. */
static bool add_digit(uint64_t *v, char digit, uint64_t max)
{
    uint64_t d = (uint64_t)(digit - '0');
    if (*v > max / 10 || *v * 10 > max - d)
        return false;
    *v = *v * 10 + d;
    return true;
}

/* Digits from *s on, at least one; *s is left behind them. */
static bool take_digits(const char **s, uint64_t max, uint64_t *out)
{
    const char *p = *s;
    uint64_t v = 0;
    for (; is_digit(*p); p++) {
        if (!add_digit(&v, *p, max))
            return false;
    }
    if (p == *s)
        return false;
    *s = p;
    *out = v;
    return true;
}

bool parse_int(const char *s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = *s == '-';
    uint64_t magnitude;
    s += negative;
    if (!take_digits(&s, (uint64_t)INT64_MAX + negative, &magnitude) || *s)
        return false;
    int64_t v = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (v < min || v > max)
        return false;
    *out = v;
    return true;
}

/* --- quantities ------------------------------------------------------------------------------ */

struct unit {
    const char *name;
    int64_t factor;
};

static int64_t unit_factor(const struct unit *units, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, name) == 0)
            return units[i].factor;
    }
    return 0;
}

bool parse_duration_us(const char *s, int64_t *out)
{
    static const struct unit units[] = {
        {"", US_PER_S}, {"us", 1}, {"ms", US_PER_MS}, {"s", US_PER_S},
        {"m", 60 * US_PER_S}, {"h", 3600 * US_PER_S}, {"d", 86400 * US_PER_S},
    };
    uint64_t whole;
    if (!take_digits(&s, INT64_MAX, &whole))
        return false;
    const char *fraction = s, *end = s;
    if (*s == '.') {
        for (end = ++fraction; is_digit(*end); end++)
            ;
        if (end == fraction)
            return false;
    }
    int64_t factor = unit_factor(units, sizeof units / sizeof *units, end);
    /* Horner from the last digit: each floor(x / 10) is exact, however many digits there are. */
    int64_t part = 0;
    for (const char *p = end; p > fraction; p--)
        part = (part + (p[-1] - '0') * factor) / 10;
    if (factor == 0 || whole > (uint64_t)((INT64_MAX - part) / factor))
        return false;
    *out = (int64_t)whole * factor + part;
    return true;
}

bool parse_size(const char *s, int64_t *out)
{
    static const struct unit units[] = {
        {"", 1}, {"B", 1},
        {"K", 1 << 10}, {"KB", 1 << 10}, {"KiB", 1 << 10},
        {"M", 1 << 20}, {"MB", 1 << 20}, {"MiB", 1 << 20},
        {"G", 1 << 30}, {"GB", 1 << 30}, {"GiB", 1 << 30},
    };
    uint64_t whole;
    if (!take_digits(&s, INT64_MAX, &whole))
        return false;
    int64_t factor = unit_factor(units, sizeof units / sizeof *units, s);
    if (factor == 0 || whole > (uint64_t)(INT64_MAX / factor))
        return false;
    *out = (int64_t)whole * factor;
    return true;
}

bool parse_bool(const char *s, bool *out)
{
    static const char *const words[][2] = {
        {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"},
    };
    size_t n = strlen(s);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        for (int value = 0; value < 2; value++) {
            if (parse_equal_nocase(s, n, words[i][value])) {
                *out = value;
                return true;
            }
        }
    }
    return false;
}

/* --- HTTP ------------------------------------------------------------------------------------ */

static bool is_token_char(char c)
{
    char lower = to_lower(c);
    return is_digit(c) || (lower >= 'a' && lower <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool parse_is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_token_char(s[i]))
            return false;
    }
    return n > 0;
}

bool parse_is_field_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return false;
    }
    return true;
}

bool parse_equal_nocase(const char *a, size_t a_len, const char *b)
{
    for (size_t i = 0; i < a_len; i++) {
        if (!b[i] || to_lower(a[i]) != to_lower(b[i]))
            return false;
    }
    return !b[a_len];
}

/* --- encodings ------------------------------------------------------------------------------- */

/* The value of a base64 digit, or -1. */
static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One group: `digits` (2-4) digits of it are no padding. False for a foreign byte, or when bits
 * that no byte takes are set (two texts would mean the same bytes). */
static bool base64_group(const char *s, int digits, uint8_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = i < digits ? base64_value(s[i]) : 0;
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
    }
    if (v & (digits == 2 ? 0xFFFFU : digits == 3 ? 0xFFU : 0))
        return false;
    for (int i = 0; i < digits - 1; i++)
        out[i] = (uint8_t)(v >> (16 - 8 * i));
    return true;
}

bool parse_base64(const char *s, size_t n, uint8_t *out, size_t *out_len)
{
    size_t padding = 0;
    if (n % 4 != 0)
        return false;
    while (padding < 2 && padding < n && s[n - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < n; i += 4) {
        int digits = i + 4 == n ? 4 - (int)padding : 4;
        if (!base64_group(s + i, digits, out + i / 4 * 3))
            return false;
    }
    *out_len = n / 4 * 3 - padding;
    return true;
}

static int hex_value(char c)
{
    char lower = to_lower(c);
    if (is_digit(c))
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

size_t parse_percent_decode(char *s, size_t n)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++, len++) {
        s[len] = s[i] == '+' ? ' ' : s[i];
        if (s[i] != '%')
            continue;
        int high = n - i > 2 ? hex_value(s[i + 1]) : -1;
        int low = n - i > 2 ? hex_value(s[i + 2]) : -1;
        if (high < 0 || low < 0 || high + low == 0)
            return (size_t)-1;
        s[len] = (char)(high << 4 | low);
        i += 2;
    }
    return len;
}

char *parse_word(char **s)
{
    char *word = *s + strspn(*s, " \t");
    char *end = word + strcspn(word, " \t");
    *s = *end ? end + 1 : end;
    *end = '\0';
    return end > word ? word : NULL;
}

/* SPDX-License-Identifier: MIT
 *
 * buf - the growing byte buffer and its writers. Everything that gatherd prints goes through here:
 * the encoders' answers, metrics, log lines, header lists. Called from any thread, each with
 * buffers of its own; owns the bytes until buf_take().
 *
 * Memory doubles, and `cap` is one less than what was asked of malloc, so that buf_cstr() always
 * has room for its NUL and never fails at the limit. No function here calls another allocator than
 * realloc, which is only reached through grow(): a caller may therefore lend a fixed array as
 * `data` with cap == limit, and the buffer never touches the heap (log.c does).
 *
 * The answer's cost is buf_add_json(): it looks at eight bytes at a time for those that cannot be
 * copied, and encodes into a block on the stack, where it may write past what is needed; so the
 * limit stays exact. The result is never shorter than the input plus two quotes (an ill-formed
 * subpart has at most three bytes, as U+FFFD has), so one reservation comes first.
 */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "utf8.h"

#define BUF_FIRST_CAP ((size_t)127)

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    buf_init(b, b->limit);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n == 0)
        return;
    b->len -= n;
    if (b->len > 0)
        memmove(b->data, b->data + n, b->len);
}

char *buf_take(struct buf *b, size_t *len)
{
    char *data = b->data;
    *len = b->len;
    if (b->len == 0) {
        free(data);
        data = NULL;
    }
    buf_init(b, b->limit);
    return data;
}

/* Makes cap >= len + n; false and failed when the limit or memory says no. */
static bool grow(struct buf *b, size_t n)
{
    size_t most = b->limit > 0 && b->limit < SIZE_MAX - 1 ? b->limit : SIZE_MAX - 1;
    if (b->failed || b->len > most || n > most - b->len) {
        b->failed = true;
        return false;
    }
    if (b->data && b->len + n <= b->cap)
        return true;
    size_t cap = b->cap > 0 ? b->cap : BUF_FIRST_CAP;
    while (cap < b->len + n)
        cap = cap > most / 2 ? most : cap * 2 + 1;
    if (cap > most)
        cap = most;
    char *data = realloc(b->data, cap + 1);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

/* cap never exceeds the limit, so room within cap is room within the limit. */
static inline bool ensure(struct buf *b, size_t n)
{
    if (b->data && !b->failed && n <= b->cap - b->len)
        return true;
    return grow(b, n);
}

char *buf_reserve(struct buf *b, size_t n)
{
    return ensure(b, n) ? b->data + b->len : NULL;
}

const char *buf_cstr(struct buf *b)
{
    if (!b->data)
        return "";
    b->data[b->len] = '\0';
    return b->data;
}

static inline void add(struct buf *b, const void *data, size_t n)
{
    if (n == 0 || !ensure(b, n))
        return;
    memcpy(b->data + b->len, data, n);
    b->len += n;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
    add(b, data, n);
}

void buf_add_str(struct buf *b, const char *s)
{
    if (s)
        add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
    add(b, &c, 1);
}

/* --- numbers --------------------------------------------------------------------------------- */

/* 20 digits, a sign, a point. */
#define NUMBER_MAX 24

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

/* Writes the digits of v so that they end before `end`, at least `least` of them; returns the
 * first. */
static char *put_digits(char *end, uint64_t v, int least)
{
    for (; v > 0 || least > 0; v /= 10, least--)
        *--end = (char)('0' + v % 10);
    return end;
}

void buf_add_int(struct buf *b, int64_t v)
{
    char text[NUMBER_MAX];
    char *end = text + sizeof text;
    char *p = put_digits(end, magnitude(v), 1);
    if (v < 0)
        *--p = '-';
    add(b, p, (size_t)(end - p));
}

static void add_fixed(struct buf *b, int64_t v, uint64_t unit, int decimals)
{
    char text[NUMBER_MAX];
    char *end = text + sizeof text;
    uint64_t m = magnitude(v);
    char *p = put_digits(end, m % unit, decimals);
    *--p = '.';
    p = put_digits(p, m / unit, 1);
    if (v < 0)
        *--p = '-';
    add(b, p, (size_t)(end - p));
}

void buf_add_ms(struct buf *b, int64_t us)
{
    add_fixed(b, us, US_PER_MS, 3);
}

void buf_add_seconds(struct buf *b, int64_t us)
{
    add_fixed(b, us, US_PER_S, 6);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    size_t room = b->data && !b->failed ? b->cap - b->len : 0;
    va_start(ap, fmt);
    int n = vsnprintf(room > 0 ? b->data + b->len : NULL, room > 0 ? room + 1 : 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    if (n < 0 || !ensure(b, (size_t)n))
        return;
    if ((size_t)n > room || room == 0) {
        va_start(ap, fmt);
        n = vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* How a byte below 0x80 is written: 0 as it is, 'u' as \u00XX, else \ and this letter. */
static const char json_escape[128] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u',  'u', 'b', 't', 'n', 'u',  'f', 'r',  'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u',  'u', 'u', 'u', 'u', 'u',  'u', 'u',  'u', 'u',
    ['"'] = '"', ['\\'] = '\\',
};

#define EVERY_BYTE(c) (UINT64_C(0x0101010101010101) * (c))

/* How many of the eight bytes, from the first on, are copied as they are: up to a control, a quote,
 * a backslash or what is not ASCII. Each such byte gets its high bit set in `found`; a borrow can
 * set wrong ones behind it only, and the first is what counts. */
static inline size_t plain_bytes(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    uint64_t found = (word - EVERY_BYTE(0x20)) | ((word ^ EVERY_BYTE('"')) - EVERY_BYTE(1)) |
                     ((word ^ EVERY_BYTE('\\')) - EVERY_BYTE(1)) | word;
    found &= EVERY_BYTE(0x80);
    return found ? (size_t)__builtin_ctzll(found) / 8 : 8;
}

/* The most bytes that a step of json_block() writes: a word. */
#define JSON_STEP 8

/* Writes what stands for the byte c < 0x80. */
static inline char *put_json_escape(char *to, unsigned char c)
{
    *to++ = '\\';
    *to++ = json_escape[c];
    if (json_escape[c] != 'u')
        return to;
    *to++ = '0';
    *to++ = '0';
    *to++ = "0123456789abcdef"[c >> 4];
    *to++ = "0123456789abcdef"[c & 15];
    return to;
}

/* Writes the first character of s, or what stands for it, to *to; returns how many bytes of s that
 * was. */
static inline size_t put_json_char(char **to, const char *s, size_t n)
{
    unsigned char c = (unsigned char)s[0];
    if (c < 0x80) {
        if (json_escape[c])
            *to = put_json_escape(*to, c);
        else
            *(*to)++ = s[0];
        return 1;
    }
    int length = utf8_sequence(s, n);
    if (length < 0) {
        memcpy(*to, "\xEF\xBF\xBD", 3);
        *to += 3;
        return (size_t)-length;
    }
    if (n >= 4)
        memcpy(*to, s, 4);
    else
        memcpy(*to, s, (size_t)length);
    *to += length;
    return (size_t)length;
}

/* Encodes from *s on until the block is nearly full or s at its end; returns the number of bytes
 * written. A word is stored before it is known how much of it counts: cheaper than to know. */
static size_t json_block(char *block, size_t size, const char **s, const char *end)
{
    char *to = block, *full = block + size - JSON_STEP;
    const char *from = *s;
    while (from < end && to <= full) {
        if (end - from >= 8) {
            uint64_t word;
            memcpy(&word, from, sizeof word);
            memcpy(to, &word, sizeof word);
            size_t plain = plain_bytes(word);
            from += plain;
            to += plain;
            if (plain == 8 || to > full)
                continue;
        }
        do {
            from += put_json_char(&to, from, (size_t)(end - from));
        } while (from < end && (unsigned char)*from >= 0x80 && to <= full);
    }
    *s = from;
    return (size_t)(to - block);
}

void buf_add_json(struct buf *b, const char *s, size_t n)
{
    char block[1024];
    if (n > SIZE_MAX - 2 || !ensure(b, n + 2)) {
        b->failed = true;
        return;
    }
    add(b, "\"", 1);
    for (const char *end = s + n; s < end && !b->failed;) {
        size_t used = json_block(block, sizeof block, &s, end);
        add(b, block, used);
    }
    add(b, "\"", 1);
}

void buf_add_json_str(struct buf *b, const char *s)
{
    if (s)
        buf_add_json(b, s, strlen(s));
    else
        BUF_ADD_LITERAL(b, "null");
}

/* --- bytes as text --------------------------------------------------------------------------- */

void buf_add_base64(struct buf *b, const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = data;
    if (n > SIZE_MAX / 4 * 3 - 3 || !ensure(b, (n + 2) / 3 * 4)) {
        b->failed = true;
        return;
    }
    char *out = b->data + b->len;
    for (; n >= 3; n -= 3, s += 3, out += 4) {
        uint32_t v = (uint32_t)s[0] << 16 | (uint32_t)s[1] << 8 | s[2];
        out[0] = digits[v >> 18];
        out[1] = digits[v >> 12 & 63];
        out[2] = digits[v >> 6 & 63];
        out[3] = digits[v & 63];
    }
    if (n > 0) {
        uint32_t v = (uint32_t)s[0] << 16 | (n == 2 ? (uint32_t)s[1] << 8 : 0);
        out[0] = digits[v >> 18];
        out[1] = digits[v >> 12 & 63];
        out[2] = n == 2 ? digits[v >> 6 & 63] : '=';
        out[3] = '=';
        out += 4;
    }
    b->len = (size_t)(out - b->data);
}

void buf_add_hex(struct buf *b, const void *data, size_t n)
{
    const unsigned char *s = data;
    if (n > SIZE_MAX / 2 || !ensure(b, n * 2)) {
        b->failed = true;
        return;
    }
    for (; n > 0; n--, s++) {
        b->data[b->len++] = "0123456789abcdef"[*s >> 4];
        b->data[b->len++] = "0123456789abcdef"[*s & 15];
    }
}

/* --- time ------------------------------------------------------------------------------------ */

/* The first and last microsecond that RFC 3339 can say: years 0000 to 9999. */
#define RFC3339_MIN_US (INT64_C(-62167219200) * US_PER_S)
#define RFC3339_MAX_US (INT64_C(253402300800) * US_PER_S - 1)

/* Days since 1970-01-01 to the Gregorian date (Howard Hinnant's civil_from_days; gmtime_r() takes
 * a lock). The year of the calculation starts in March, so that the leap day is its last; it counts
 * from 400 years early, so that nothing is negative. */
static void civil_from_days(int64_t days, uint64_t *year, uint64_t *month, uint64_t *day)
{
    uint64_t z = (uint64_t)(days + 719468 + 146097);
    uint64_t era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 - 400 + (*month <= 2);
}

void buf_add_rfc3339(struct buf *b, int64_t wall_us)
{
    int64_t us = wall_us < RFC3339_MIN_US ? RFC3339_MIN_US : wall_us;
    us = us > RFC3339_MAX_US ? RFC3339_MAX_US : us;
    int64_t day_us = 86400 * US_PER_S;
    int64_t days = us / day_us - (us % day_us < 0);
    uint64_t rest = (uint64_t)(us - days * day_us);
    uint64_t s = rest / (uint64_t)US_PER_S;
    uint64_t year, month, day;
    civil_from_days(days, &year, &month, &day);
    char text[] = "0000-00-00T00:00:00.000000Z";
    put_digits(text + 4, year, 4);
    put_digits(text + 7, month, 2);
    put_digits(text + 10, day, 2);
    put_digits(text + 13, s / 3600, 2);
    put_digits(text + 16, s / 60 % 60, 2);
    put_digits(text + 19, s % 60, 2);
    put_digits(text + 26, rest % (uint64_t)US_PER_S, 6);
    add(b, text, sizeof text - 1);
}

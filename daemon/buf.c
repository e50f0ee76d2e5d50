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
 * buf_add_json() looks at eight bytes at a time for those that cannot be copied. The result is
 * never shorter than the input plus two quotes (an ill-formed subpart has at most three bytes, as
 * U+FFFD has), so one reservation comes first, and what stands before the first such byte is copied
 * into it directly: nearly always that is all. The rest is encoded into a block on the stack, where
 * it may write past what is needed; so the limit stays exact.
 */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "put.h"
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

void buf_add_int(struct buf *b, int64_t v)
{
    char text[PUT_INT_MAX];
    add(b, text, (size_t)(put_int(text, v) - text));
}

void buf_add_ms(struct buf *b, int64_t us)
{
    char text[PUT_MS_MAX];
    add(b, text, (size_t)(put_ms(text, us) - text));
}

void buf_add_seconds(struct buf *b, int64_t us)
{
    char text[PUT_SECONDS_MAX];
    add(b, text, (size_t)(put_seconds(text, us) - text));
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

static inline size_t copy_word(char *to, const char *s)
{
    uint64_t word;
    memcpy(&word, s, sizeof word);
    memcpy(to, &word, sizeof word);
    return plain_bytes(word);
}

/* Copies what can be copied as it is, up to the first byte that cannot; returns how many bytes. The
 * last word overlaps the one before. */
static inline size_t copy_plain(char *to, const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        size_t plain = copy_word(to + i, s + i);
        if (plain < 8)
            return i + plain;
    }
    if (i > 0 && i < n)
        return n - 8 + copy_word(to + n - 8, s + n - 8);
    for (; i < n && (unsigned char)s[i] < 0x80 && !json_escape[(unsigned char)s[i]]; i++)
        to[i] = s[i];
    return i;
}

static void add_json_rest(struct buf *b, const char *s, const char *end)
{
    char block[1024];
    while (s < end && !b->failed) {
        size_t used = json_block(block, sizeof block, &s, end);
        add(b, block, used);
    }
}

void buf_add_json(struct buf *b, const char *s, size_t n)
{
    if (n > SIZE_MAX - 2 || !ensure(b, n + 2)) {
        b->failed = true;
        return;
    }
    char *to = b->data + b->len;
    *to = '"';
    size_t plain = n > 0 ? copy_plain(to + 1, s, n) : 0;
    b->len += 1 + plain;
    if (plain < n)
        add_json_rest(b, s + plain, s + n);
    add(b, "\"", 1);
}

void buf_add_json_part(struct buf *b, const char *s, size_t n)
{
    if (n == 0 || !ensure(b, n))
        return;
    size_t plain = copy_plain(b->data + b->len, s, n);
    b->len += plain;
    if (plain < n)
        add_json_rest(b, s + plain, s + n);
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

void buf_add_rfc3339(struct buf *b, int64_t wall_us)
{
    char text[PUT_RFC3339_MAX];
    add(b, text, (size_t)(put_rfc3339(text, wall_us) - text));
}

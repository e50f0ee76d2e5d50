/* SPDX-License-Identifier: MIT
 *
 * put - unchecked writers: each writes at `to` and returns where it ended. For whoever has made
 * room first, by the bounds that stand here; buf's own number writers and the JSON encoder are made
 * of them. Nothing ends in a NUL. Pure, any thread.
 */
#ifndef GATHERD_PUT_H
#define GATHERD_PUT_H

#include <stdint.h>
#include <string.h>

enum {
    PUT_INT_MAX = 20,     /* most bytes of an integer: a sign and 19 digits, or 20 digits */
    PUT_MS_MAX = 21,      /* of put_ms() */
    PUT_SECONDS_MAX = 21, /* of put_seconds() */
    PUT_RFC3339_MAX = 27, /* of put_rfc3339(): always as many */
};

/* "00" to "99". */
extern const char put_pairs[200];

static inline char *put_bytes(char *to, const void *data, size_t n)
{
    memcpy(to, data, n);
    return to + n;
}

#define PUT_LITERAL(to, s) put_bytes((to), "" s, sizeof(s) - 1)

static inline char *put_char(char *to, char c)
{
    *to = c;
    return to + 1;
}

/* Two digits; v < 100. */
static inline char *put_pair(char *to, uint64_t v)
{
    return put_bytes(to, put_pairs + 2 * v, 2);
}

char *put_long(char *to, uint64_t v); /* for put_uint(): v >= 10000 */

/* Decimal. */
static inline char *put_uint(char *to, uint64_t v)
{
    if (v < 10)
        return put_char(to, (char)('0' + v));
    if (v < 100)
        return put_pair(to, v);
    if (v < 1000)
        return put_pair(put_char(to, (char)('0' + v / 100)), v % 100);
    if (v < 10000)
        return put_pair(put_pair(to, v / 100), v % 100);
    return put_long(to, v);
}

static inline char *put_int(char *to, int64_t v)
{
    if (v >= 0)
        return put_uint(to, (uint64_t)v);
    return put_uint(put_char(to, '-'), 0 - (uint64_t)v);
}

/* Microseconds as milliseconds with three decimals, as seconds with six. */
char *put_ms(char *to, int64_t us);
char *put_seconds(char *to, int64_t us);

/* Microseconds since 1970 as RFC 3339 UTC with microseconds; clamped to the years 0000 to 9999. */
char *put_rfc3339(char *to, int64_t wall_us);

#endif

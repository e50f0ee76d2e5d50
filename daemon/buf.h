/* SPDX-License-Identifier: MIT
 *
 * buf - a growing byte buffer with a cap, and the small writers for everything gatherd prints:
 * JSON, text, metrics, log lines.
 *
 * Failure is sticky: when memory or the cap runs out, `failed` is set, the buffer keeps what it
 * had, and every later append does nothing. So writers append without checks and look at
 * `failed` once, at the end. A buffer belongs to one thread.
 */
#ifndef GATHERD_BUF_H
#define GATHERD_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;   /* owned; NULL while nothing was appended; not NUL-terminated, see buf_cstr() */
    size_t len;   /* bytes used */
    size_t cap;   /* bytes allocated */
    size_t limit; /* most bytes allowed; 0 = no limit */
    bool failed;  /* an append was refused: no memory, or over the limit */
};

/* Empty buffer that may grow to `limit` bytes (0: as far as memory goes). Allocates nothing. */
void buf_init(struct buf *b, size_t limit);

/* Frees the bytes; the buffer is as after buf_init() with the same limit. */
void buf_fini(struct buf *b);

/* Forgets the content and the failure, keeps the memory. */
void buf_clear(struct buf *b);

/* Hands the bytes over: the caller frees() the returned pointer (NULL when empty); the buffer is
 * empty afterwards. */
char *buf_take(struct buf *b, size_t *len);

/* Room for n more bytes; returns the place to write them, or NULL (and failed is set). The
 * caller then adds what it wrote to len. */
char *buf_reserve(struct buf *b, size_t n);

/* NUL-terminates and returns the content, "" when that fails. Valid until the next append. */
const char *buf_cstr(struct buf *b);

void buf_add(struct buf *b, const void *data, size_t n);
void buf_add_str(struct buf *b, const char *s); /* NUL-terminated; NULL adds nothing */
void buf_add_char(struct buf *b, char c);
#define BUF_ADD_LITERAL(b, s) buf_add((b), "" s, sizeof(s) - 1)

/* Decimal integer; no allocation beyond the buffer's own. */
void buf_add_int(struct buf *b, int64_t v);

/* Microseconds as milliseconds with exactly three decimals: 1234567 -> "1234.567". */
void buf_add_ms(struct buf *b, int64_t us);

/* Microseconds as seconds with six decimals: 1234567 -> "1.234567". */
void buf_add_seconds(struct buf *b, int64_t us);

/* printf for the slow paths. */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A JSON string with its quotes. Any bytes: ill-formed UTF-8 becomes U+FFFD (one per maximal
 * subpart, as Unicode and WHATWG say), controls are escaped. The result is always valid JSON. */
void buf_add_json(struct buf *b, const char *s, size_t n);
void buf_add_json_str(struct buf *b, const char *s); /* NUL-terminated; NULL writes null */

/* A part of a JSON string, without quotes. Cut on a code point's boundary by the caller. */
void buf_add_json_part(struct buf *b, const char *s, size_t n);

/* Base64 (RFC 4648, padded), and lower-case hex. */
void buf_add_base64(struct buf *b, const void *data, size_t n);
void buf_add_hex(struct buf *b, const void *data, size_t n);

/* A wall-clock time as RFC 3339 UTC with microseconds: 2026-11-01T12:00:00.000123Z. */
void buf_add_rfc3339(struct buf *b, int64_t wall_us);

#endif

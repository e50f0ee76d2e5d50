/* SPDX-License-Identifier: MIT
 *
 * reply - what of an upstream's head is refused although libcurl takes it: framing that RFC 9112
 * calls invalid, more fields than are worth their memory, and content codings that cost more to
 * undo than anybody may spend. Counts over one hop (1xx answers, head, trailers). Pure.
 */
#ifndef GATHERD_REPLY_H
#define GATHERD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libcurl stores each field of a hop, some 80 bytes beside name and value. */
#define REPLY_FIELDS_MAX 1000

/* A Location that is followed; libcurl and the next hop make some ten copies of it. */
#define REPLY_LOCATION_MAX 16384

struct reply_count {
    unsigned fields;    /* header fields and trailers so far */
    unsigned codings;   /* that libcurl will undo, but chunked */
    bool other_codings; /* one of them is not of zlib's */
    bool brotli;        /* one of them is */
    int64_t length;     /* the Content-Length so far; negative = none */
};

void reply_begin(struct reply_count *r);

/* One more field. False when they are too many. */
bool reply_take_field(struct reply_count *r) __attribute__((warn_unused_result));

/* A value of Content-Length: a number below 2^63 in digits, or a list of equal ones (RFC 9112,
 * 6.3), and the same as in an earlier field of the answer. False where it is not: libcurl takes the
 * first or the last of several, reads 42s as 42, and an answer with 2^63 to the end of the
 * connection. */
bool reply_take_length(struct reply_count *r, const char *value, size_t n)
    __attribute__((warn_unused_result));

/* A value of Content-Encoding or Transfer-Encoding. False when there are more than two codings, or
 * two of which one is not gzip or deflate. libcurl stops at five, and what is between two layers is
 * counted nowhere: 278 bytes can be a gigabyte there that is never delivered, in one call of
 * libcurl. */
bool reply_take_codings(struct reply_count *r, const char *value, size_t n)
    __attribute__((warn_unused_result));

#endif

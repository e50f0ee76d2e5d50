/* SPDX-License-Identifier: MIT
 *
 * reply - what of an upstream's head is refused although libcurl takes it: framing that RFC 9112
 * calls invalid, more fields than are worth their memory, and content codings that cost more to
 * undo than anybody may spend. And whether an answer's connection may be kept although libcurl
 * keeps it. Counts over one hop (1xx answers, head, trailers). Pure.
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
    bool chunked;       /* libcurl takes chunks for its body */
    bool trailers;      /* there were some behind them */
};

void reply_begin(struct reply_count *r);

/* A head begins: what the one before, of a 1xx answer, said of a body is not said of this one. */
void reply_begin_head(struct reply_count *r);

/* One more field. False when they are too many. */
bool reply_take_field(struct reply_count *r) __attribute__((warn_unused_result));

/* A value of Content-Length: a number below 2^63 in digits, or a list of equal ones (RFC 9112,
 * 6.3), and the same as in an earlier field of the answer. False where it is not: libcurl takes the
 * first or the last of several, reads 42s as 42, and an answer with 2^63 to the end of the
 * connection. */
bool reply_take_length(struct reply_count *r, const char *value, size_t n)
    __attribute__((warn_unused_result));

/* A value of Content-Encoding or, `transfer`, of Transfer-Encoding. False when there are more than
 * two codings, or two of which one is not gzip or deflate. libcurl stops at five, and what is
 * between two layers is counted nowhere: 278 bytes can be a gigabyte there that is never delivered,
 * in one call of libcurl. */
bool reply_take_codings(struct reply_count *r, bool transfer, const char *value, size_t n)
    __attribute__((warn_unused_result));

/* What was read from an answer's connection so far. */
struct reply_read {
    int64_t bytes;      /* in all; 0 = not known */
    int64_t head_bytes; /* those of heads and trailers */
    const char *end;    /* the last of them, five */
    size_t end_len;
};

/* Whether, where libcurl says that the answer is whole, HTTP/1.1 said more than that: what came in
 * the same read as the end libcurl drops (but for a Content-Length that is not 0), and the rest of
 * it, should it come later, would be the connection's next answer. bodyless: the answer has none
 * whatever its head says. With chunks it is seen by how they end, with the last chunk written as
 * all do ("0" and two line ends), or, where there were trailers, with a line and an empty line: who
 * writes another last chunk has the connection closed, and a surplus that ends so itself is not
 * seen. */
bool reply_has_surplus(const struct reply_count *r, const struct reply_read *read, bool bodyless);

#endif

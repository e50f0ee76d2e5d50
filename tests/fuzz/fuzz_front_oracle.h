/* SPDX-License-Identifier: MIT
 *
 * fuzz_front_oracle - HTTP/1.1 read once more, strictly and slowly (RFC 9112): which requests
 * stand in what a client sent, and whether what it got are well-formed answers. For fuzz_front;
 * calls nothing of daemon/.
 */
#ifndef GATHERD_TESTS_FUZZ_FRONT_ORACLE_H
#define GATHERD_TESTS_FUZZ_FRONT_ORACLE_H

#include <strings.h>

#include "fuzz.h"

struct span {
    const char *at;
    size_t n;
};

/* VAGUE: not as RFC 9112 writes it, in a way that libmicrohttpd does not show us: line ends and
 * extensions between chunks; a NUL at the end of a line, which with one bare LF near it looks as CR
 * LF does; with a bare LF near it, a field that begins with a colon or a NUL, and is no longer than
 * two bytes or goes on with blanks (to it all up to ' ', as a signed char), which it takes for the
 * end of the head; a line before the request that begins with a NUL, which it takes for an empty
 * one. What follows is not compared. */
enum reading { READ_WHOLE, READ_PART, READ_BAD, READ_VAGUE };

struct framing {
    int lengths, codings;
    bool bad_length, chunked, close;
    uint64_t length;
};

#define ORACLE_BODY_MAX 8192

struct oracle_request {
    struct span method, target, version;
    char body[ORACLE_BODY_MAX]; /* chunks put together */
    size_t body_len;
};

/* Cuts a line off; false when its end is not there. *strict: it ends in CR LF and holds no CR or
 * NUL. */
static inline bool take_line(struct span *in, struct span *line, bool *strict)
{
    const char *end = in->n > 0 ? memchr(in->at, '\n', in->n) : NULL;
    if (end == NULL)
        return false;
    *line = (struct span){in->at, (size_t)(end - in->at)};
    in->at = end + 1;
    in->n -= line->n + 1;
    *strict = line->n > 0 && line->at[line->n - 1] == '\r';
    line->n -= *strict;
    if (line->n > 0)
        *strict &= !memchr(line->at, '\r', line->n) && !memchr(line->at, '\0', line->n);
    return true;
}

static inline bool ends_in_nul(struct span line)
{
    return line.n > 0 && line.at[line.n - 1] == '\0';
}

static inline bool span_is(struct span s, const char *text)
{
    return s.n == strlen(text) && strncasecmp(s.at, text, s.n) == 0;
}

static inline bool span_number(struct span s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(s.at[i] - '0');
    }
    return s.n > 0 && s.n <= 18;
}

/* "name: value"; false when there is no name of visible bytes, or the value has controls. */
static inline bool read_field(struct span line, struct span *name, struct span *value)
{
    const char *colon = line.n > 0 ? memchr(line.at, ':', line.n) : NULL;
    if (colon == NULL || colon == line.at)
        return false;
    *name = (struct span){line.at, (size_t)(colon - line.at)};
    *value = (struct span){colon + 1, line.n - name->n - 1};
    while (value->n > 0 && (value->at[0] == ' ' || value->at[0] == '\t')) {
        value->at++;
        value->n--;
    }
    while (value->n > 0 && (value->at[value->n - 1] == ' ' || value->at[value->n - 1] == '\t'))
        value->n--;
    for (size_t i = 0; i < name->n; i++) {
        if (name->at[i] <= ' ' || name->at[i] >= 0x7f)
            return false;
    }
    for (size_t i = 0; i < value->n; i++) {
        if (((unsigned char)value->at[i] < ' ' && value->at[i] != '\t') || value->at[i] == 0x7f)
            return false;
    }
    return true;
}

static inline void note_field(struct framing *f, struct span name, struct span value)
{
    if (span_is(name, "Content-Length")) {
        f->lengths++;
        f->bad_length |= !span_number(value, &f->length);
    } else if (span_is(name, "Transfer-Encoding")) {
        f->codings++;
        f->chunked = span_is(value, "chunked");
    } else if (span_is(name, "Connection")) {
        f->close |= span_is(value, "close");
    }
}

static inline bool seems_empty(struct span line)
{
    if (line.n == 0 || (line.at[0] != ':' && line.at[0] != '\0'))
        return false;
    if (line.n <= 2)
        return true;
    for (size_t i = 1; i < line.n; i++)
        if ((signed char)line.at[i] > ' ')
            return false;
    return true;
}

/* A NUL in the line after one that ends in a bare LF may make up for the CR, and so may a colon. */
static inline enum reading read_after_bare_lf(struct span *in)
{
    struct span line;
    bool strict;
    if (!take_line(in, &line, &strict))
        return READ_BAD;
    return ends_in_nul(line) || seems_empty(line) ? READ_VAGUE : READ_BAD;
}

static inline enum reading read_fields(struct span *in, struct framing *f)
{
    struct span line, name, value;
    bool strict;
    while (take_line(in, &line, &strict)) {
        if (ends_in_nul(line) || (!strict && seems_empty(line)))
            return READ_VAGUE;
        if (!strict)
            return read_after_bare_lf(in);
        if (line.n == 0)
            return READ_WHOLE;
        if (!read_field(line, &name, &value))
            return READ_BAD;
        note_field(f, name, value);
    }
    return READ_PART;
}

static inline bool hex_digit(char c, uint64_t *value)
{
    const char *digits = "0123456789abcdef", *at = c != '\0' ? strchr(digits, c | 0x20) : NULL;
    if (at == NULL || (c < '0' || (c > '9' && c < 'A')))
        return false;
    *value = *value * 16 + (uint64_t)(at - digits);
    return true;
}

/* Appends one chunk. *last: it was the one of no bytes. */
static inline enum reading read_chunk(struct span *in, char *body, size_t *len, size_t max,
                                      bool *last)
{
    struct span line;
    bool strict;
    uint64_t size = 0;
    size_t i = 0;
    if (!take_line(in, &line, &strict))
        return READ_PART;
    while (i < line.n && i < 16 && hex_digit(line.at[i], &size))
        i++;
    if (!strict || i == 0 || i != line.n)
        return READ_VAGUE;
    *last = size == 0;
    if (size == 0)
        return READ_WHOLE;
    if (size > max - *len)
        return READ_VAGUE;
    if (in->n < size + 2)
        return READ_PART;
    memcpy(body + *len, in->at, (size_t)size);
    *len += (size_t)size;
    if (memcmp(in->at + size, "\r\n", 2) != 0)
        return READ_VAGUE;
    in->at += size + 2;
    in->n -= (size_t)size + 2;
    return READ_WHOLE;
}

static inline enum reading read_chunks(struct span *in, char *body, size_t *len, size_t max)
{
    struct framing trailers = {0};
    bool last = false;
    while (!last) {
        enum reading got = read_chunk(in, body, len, max, &last);
        if (got != READ_WHOLE)
            return got;
    }
    enum reading got = read_fields(in, &trailers);
    return got == READ_BAD ? READ_VAGUE : got;
}

static inline enum reading read_body(struct span *in, const struct framing *f,
                                     struct oracle_request *r)
{
    r->body_len = 0;
    if (f->codings > 0)
        return read_chunks(in, r->body, &r->body_len, sizeof r->body);
    if (f->length > in->n)
        return READ_PART;
    if (f->length > sizeof r->body)
        return READ_VAGUE;
    if (f->length > 0)
        memcpy(r->body, in->at, (size_t)f->length);
    r->body_len = (size_t)f->length;
    in->at += f->length;
    in->n -= (size_t)f->length;
    return READ_WHOLE;
}

/* Method, target and version, one blank between them. */
static inline bool read_request_line(struct span line, struct oracle_request *r)
{
    const char *first = line.n > 0 ? memchr(line.at, ' ', line.n) : NULL;
    const char *last = first != NULL ? memrchr(line.at, ' ', line.n) : NULL;
    if (first == NULL || first == last)
        return false;
    r->method = (struct span){line.at, (size_t)(first - line.at)};
    r->target = (struct span){first + 1, (size_t)(last - first) - 1};
    r->version = (struct span){last + 1, (size_t)(line.at + line.n - last) - 1};
    return r->target.n > 0 && (span_is(r->version, "HTTP/1.1") || span_is(r->version, "HTTP/1.0"));
}

/* The next request of a client. */
static inline enum reading oracle_read(struct span *in, struct oracle_request *r)
{
    struct framing f = {0};
    struct span line;
    bool strict;
    do { /* empty lines before a request are passed over (RFC 9112, 2.2) */
        if (!take_line(in, &line, &strict))
            return READ_PART;
    } while (line.n == 0);
    if (ends_in_nul(line) || line.at[0] == '\0')
        return READ_VAGUE;
    if (!strict)
        return read_after_bare_lf(in);
    if (!read_request_line(line, r))
        return READ_BAD;
    enum reading got = read_fields(in, &f);
    if (got != READ_WHOLE)
        return got;
    if (f.lengths + f.codings > 1 || f.bad_length || (f.codings == 1 && !f.chunked))
        return READ_BAD;
    return read_body(in, &f, r);
}

/* "HTTP/1.x NNN reason"; 0 when it is not that. */
static inline int read_status(struct span line)
{
    uint64_t number;
    if (line.n < 13 || memcmp(line.at, "HTTP/1.", 7) != 0 || line.at[8] != ' ' ||
        line.at[12] != ' ' || !span_number((struct span){line.at + 9, 3}, &number))
        return 0;
    return number >= 100 && number <= 599 ? (int)number : 0;
}

/* The body of an answer that has one. *close: only the end of the connection ends it. */
static inline enum reading read_answer_body(struct span *in, struct framing *f, bool *close)
{
    static char body[1 << 20];
    size_t len = 0;
    if (f->codings > 0) {
        enum reading got = read_chunks(in, body, &len, sizeof body);
        return got == READ_VAGUE ? READ_BAD : got;
    }
    if (f->lengths == 0) {
        *close = true;
        f->length = in->n;
    }
    if (f->length > in->n)
        return READ_PART;
    in->at += f->length;
    in->n -= (size_t)f->length;
    return READ_WHOLE;
}

/* The next answer. without_body: it is one to HEAD. *status is 0 where none was begun. */
static inline enum reading oracle_answer(struct span *in, bool without_body, int *status,
                                         bool *close)
{
    struct framing f = {0};
    struct span line;
    bool strict;
    *status = 0;
    if (!take_line(in, &line, &strict))
        return in->n == 0 ? READ_WHOLE : READ_PART;
    *status = strict ? read_status(line) : 0;
    if (*status == 0)
        return READ_BAD;
    enum reading got = read_fields(in, &f);
    *close = f.close;
    if (got != READ_WHOLE)
        return got;
    if (f.lengths + f.codings > 1 || f.bad_length || (f.codings > 0 && !f.chunked))
        return READ_BAD;
    if (without_body || *status < 200 || *status == 204 || *status == 304)
        return READ_WHOLE;
    return read_answer_body(in, &f, close);
}

#endif

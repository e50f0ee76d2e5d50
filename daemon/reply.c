/* SPDX-License-Identifier: MIT
 *
 * reply - see reply.h. Called by transfer in libcurl's header callback, for each field. Pure, any
 * thread.
 *
 * Lists are walked in place. An empty element is an error in a Content-Length and nothing in a list
 * of codings, as RFC 9110, 5.6.1, has it for recipients.
 */
#include "reply.h"

#include <string.h>
#include <strings.h>

void reply_begin(struct reply_count *r)
{
    *r = (struct reply_count){.length = -1};
}

void reply_begin_head(struct reply_count *r)
{
    r->length = -1;
    r->chunked = false;
}

bool reply_take_field(struct reply_count *r)
{
    return ++r->fields <= REPLY_FIELDS_MAX;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct element {
    const char *text;
    size_t len;
};

/* The next element of a list, trimmed; *at moves behind its comma, or to n + 1 at the end. False =
 * no more. */
static bool next_element(const char *value, size_t n, size_t *at, struct element *e)
{
    size_t start = *at, end;
    if (start > n)
        return false;
    for (end = start; end < n && value[end] != ',';)
        end++;
    *at = end + 1;
    while (start < end && is_blank(value[start]))
        start++;
    while (end > start && is_blank(value[end - 1]))
        end--;
    *e = (struct element){value + start, end - start};
    return true;
}

static bool read_length(const struct element *e, int64_t *length)
{
    int64_t v = 0;
    for (size_t i = 0; i < e->len; i++) {
        if (e->text[i] < '0' || e->text[i] > '9')
            return false;
        const int digit = e->text[i] - '0';
        if (v > (INT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *length = v;
    return e->len > 0;
}

bool reply_take_length(struct reply_count *r, const char *value, size_t n)
{
    struct element e;
    size_t at = 0;
    int64_t length;
    while (next_element(value, n, &at, &e)) {
        if (!read_length(&e, &length) || (r->length >= 0 && r->length != length))
            return false;
        r->length = length;
    }
    return true;
}

static bool is_one_of(const struct element *e, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strncasecmp(e->text, *names, e->len) == 0 && (*names)[e->len] == '\0')
            return true;
    return false;
}

/* As libcurl does; other controls than the tab are no blanks to anybody else. */
static void trim_controls(struct element *e)
{
    while (e->len > 0 && (unsigned char)e->text[e->len - 1] <= ' ')
        e->len--;
    for (; e->len > 0 && (unsigned char)e->text[0] <= ' '; e->len--)
        e->text++;
}

bool reply_take_codings(struct reply_count *r, bool transfer, const char *value, size_t n)
{
    static const char *const none[] = {"", "identity", "none", "chunked", NULL};
    static const char *const chunked[] = {"chunked", NULL};
    static const char *const of_zlib[] = {"gzip", "x-gzip", "deflate", NULL};
    static const char *const brotli[] = {"br", NULL};
    struct element e;
    size_t at = 0;
    while (next_element(value, n, &at, &e)) {
        trim_controls(&e);
        r->chunked |= transfer && is_one_of(&e, chunked);
        if (is_one_of(&e, none))
            continue;
        r->codings++;
        r->other_codings |= !is_one_of(&e, of_zlib);
        r->brotli |= is_one_of(&e, brotli);
    }
    return r->codings <= 1 || (r->codings == 2 && !r->other_codings);
}

static bool ends_in(const struct reply_read *read, const char *text)
{
    const size_t n = strlen(text);
    return read->end_len >= n && memcmp(read->end + read->end_len - n, text, n) == 0;
}

/* A line and an empty line; not an empty line too many. */
static bool ends_in_trailers(const struct reply_read *read)
{
    return ends_in(read, "\n\r\n") && !ends_in(read, "\n\n\r\n") && !ends_in(read, "\n\r\n\r\n");
}

bool reply_has_surplus(const struct reply_count *r, const struct reply_read *read, bool bodyless)
{
    if (read->bytes > 0 && r->chunked && !bodyless)
        return r->trailers ? !ends_in_trailers(read) : !ends_in(read, "0\r\n\r\n");
    const int64_t length = bodyless ? 0 : r->length;
    return length >= 0 && read->bytes - read->head_bytes > length;
}

/* SPDX-License-Identifier: MIT
 *
 * request_error - the words of a 400: what was expected, what came, where it stands, and which name
 * was perhaps meant. Called by the other request files when they have found a fault; owns nothing.
 *
 * All text that a client sent passes request_quote() on its way into a message, so that a message
 * is valid UTF-8 without controls and no part of it is long. What may be the credentials of a URL
 * is left out of messages and pointers as it is of answers: a URL may stand anywhere by mistake.
 * Places are chains on the stack of the readers, so a pointer costs nothing until it is wanted.
 */
#include "request_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "encode.h"
#include "utf8.h"

#define QUOTE_BYTES 64 /* of the text that is quoted */
#define WORD_MAX 24    /* longest name that a typing error is looked for in */

/* The length of what may be the credentials of a URL in the text; they start at *at. 0 = none, and
 * *at is n. An @ alone makes no URL: ids may be addresses of mail. */
static size_t find_secret(const char *s, size_t n, size_t *at)
{
    size_t secret = 0;
    if (memchr(s, ':', n) || memmem(s, n, "//", 2))
        secret = encode_userinfo(s, n, false, at);
    if (secret == 0)
        *at = n;
    return secret;
}

/* --- the pointer ------------------------------------------------------------------------------ */

struct pointer {
    char *out;
    size_t len, size; /* size: without the NUL */
};

static void pointer_add(struct pointer *p, const char *s, size_t n)
{
    size_t room = p->size - p->len;
    n = n < room ? n : room;
    memcpy(p->out + p->len, s, n);
    p->len += n;
}

/* RFC 6901: ~ and / of a key are escaped. */
static void pointer_add_key(struct pointer *p, const char *key)
{
    size_t n = strlen(key), at;
    size_t secret = find_secret(key, n, &at);
    for (size_t i = 0; i < n; i++) {
        if (i == at)
            i += secret;
        if (i == n)
            return;
        if (key[i] == '~' || key[i] == '/')
            pointer_add(p, key[i] == '~' ? "~0" : "~1", 2);
        else
            pointer_add(p, key + i, 1);
    }
}

static void pointer_add_place(struct pointer *p, const struct place *at)
{
    char digits[24];
    if (!at)
        return;
    pointer_add_place(p, at->up);
    pointer_add(p, at->query ? "?" : "/", 1);
    if (at->key) {
        pointer_add_key(p, at->key);
        return;
    }
    int n = snprintf(digits, sizeof digits, "%zu", at->index);
    pointer_add(p, digits, (size_t)n);
}

/* A name of the query string may be any bytes, and what is cut may be cut within a character. */
static void keep_valid(char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        int length = utf8_sequence(s + i, n - i);
        if (length < 0 && i + (size_t)-length == n) {
            s[i] = '\0';
            return;
        }
        if (length < 0)
            memset(s + i, '?', (size_t)-length);
        i += (size_t)(length < 0 ? -length : length);
    }
    s[n] = '\0';
}

static void fill_pointer(struct request_error *e, const struct place *at)
{
    struct pointer p = {.out = e->pointer, .size = sizeof e->pointer - 1};
    pointer_add_place(&p, at);
    keep_valid(e->pointer, p.len);
}

bool request_fail(struct reader *r, const struct place *at, const char *fmt, ...)
{
    struct request_error *e = r->error;
    va_list ap;
    *e = (struct request_error){.status = 400, .offset = -1};
    fill_pointer(e, at);
    va_start(ap, fmt);
    (void)vsnprintf(e->detail, sizeof e->detail, fmt, ap);
    va_end(ap);
    keep_valid(e->detail, strlen(e->detail));
    return false;
}

/* --- quoting ---------------------------------------------------------------------------------- */

/* Copies the text without its credentials, or the first `size` bytes of that. Returns how long all
 * of it is. */
static size_t copy_shown(char *out, size_t size, const char *s, size_t n)
{
    size_t at;
    size_t secret = find_secret(s, n, &at);
    size_t before = at < size ? at : size, after = n - at - secret;
    memcpy(out, s, before);
    memcpy(out + before, s + at + secret, after < size - before ? after : size - before);
    return n - secret;
}

const char *request_quote(char out[REQUEST_QUOTE_MAX], const char *text, size_t text_len)
{
    char s[QUOTE_BYTES + 8]; /* utf8_prefix() looks at what follows */
    size_t n = copy_shown(s, sizeof s, text, text_len);
    size_t keep = utf8_prefix(s, n < sizeof s ? n : sizeof s, QUOTE_BYTES), len = 0;
    out[len++] = '"';
    for (size_t i = 0; i < keep;) {
        int length = utf8_sequence(s + i, keep - i);
        size_t step = (size_t)(length < 0 ? -length : length);
        unsigned char c = (unsigned char)s[i];
        bool plain = length > 0 && c >= 0x20 && c != 0x7F;
        memcpy(out + len, plain ? s + i : "?", plain ? step : 1);
        len += plain ? step : 1;
        i += step;
    }
    const char *end = keep < n ? "...\"" : "\"";
    memcpy(out + len, end, strlen(end) + 1);
    return out;
}

const char *request_describe(char out[REQUEST_QUOTE_MAX + 16], const json_t *value)
{
    char quoted[REQUEST_QUOTE_MAX];
    const size_t size = REQUEST_QUOTE_MAX + 16;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    case JSON_INTEGER:
        (void)snprintf(out, size, "%lld", (long long)json_integer_value(value));
        return out;
    case JSON_REAL:
        (void)snprintf(out, size, "%.15g", json_real_value(value));
        return out;
    case JSON_STRING:
        request_quote(quoted, json_string_value(value), json_string_length(value));
        (void)snprintf(out, size, "the string %s", quoted);
        return out;
    }
    return "something else";
}

/* --- did you mean ----------------------------------------------------------------------------- */

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == '-' ? '_' : c;
}

/* Levenshtein distance without regard to case; both texts have at most WORD_MAX bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], b_len = strlen(b);
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_len; j++) {
            size_t change = diagonal + (fold(a[i]) != fold(b[j]));
            size_t indel = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < indel ? change : indel;
        }
    }
    return row[b_len];
}

/* How far a name is from what was typed, 0 = the same; one that only lacks its beginning or its
 * unit is near. (size_t)-1 = not near. */
static size_t badness(const char *name, const char *typed)
{
    size_t typed_len = strlen(typed), d;
    if (typed_len > WORD_MAX || strlen(name) > WORD_MAX)
        return (size_t)-1;
    d = distance(typed, name);
    if (d <= 2 && d * 2 < strlen(name))
        return d;
    return typed_len >= 4 && strstr(name, typed) ? 3 : (size_t)-1;
}

const char *request_nearest(const char *const *words, const char *to)
{
    const char *best = NULL;
    size_t least = (size_t)-1;
    for (; *words; words++) {
        size_t d = badness(*words, to);
        if (d < least) {
            least = d;
            best = *words;
        }
    }
    return best;
}

/* The nearest of a table's fields, when it is nearer than *least. */
static void find_nearest(const struct field_table *table, const struct place *at, size_t *least,
                         const char **best)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct field *f = &table->fields[i];
        bool possible = f->kind != FIELD_LATER && (!at->query || f->query);
        size_t d = possible ? badness(f->name, at->key) : (size_t)-1;
        if (d < *least) {
            *least = d;
            *best = f->name;
        }
    }
}

bool request_fail_unknown(struct reader *r, const struct field_table *table,
                          const struct place *at)
{
    const struct field_table *other =
        table == &request_member_table ? &request_batch_table : &request_member_table;
    char quoted[REQUEST_QUOTE_MAX], hint[WORD_MAX + 24] = "";
    size_t least = (size_t)-1;
    const char *best = NULL;
    request_quote(quoted, at->key, strlen(at->key));
    if (!at->query && request_find_field(other, at->key))
        return request_fail(r, at, "%s is a field of a %s: it belongs %s", quoted, other->of,
                            other->where);
    find_nearest(table, at, &least, &best);
    if (at->query)
        find_nearest(other, at, &least, &best);
    if (best)
        (void)snprintf(hint, sizeof hint, "; did you mean \"%s\"?", best);
    return request_fail(r, at, "unknown %s %s%s",
                        at->query ? "query parameter" : table->field_noun, quoted, hint);
}

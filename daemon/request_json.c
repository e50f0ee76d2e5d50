/* SPDX-License-Identifier: MIT
 *
 * request_json - hostile bytes to a jansson tree. Called by request on its caller's thread; owns
 * the memory of all trees of one request_parse().
 *
 * Three walls. A scan that knows strings and brackets and nothing else refuses ill-formed UTF-8,
 * control bytes, deep nesting and too many values before anything is built. jansson then allocates
 * from an arena with a budget; freeing is a no-op and the arena is dropped whole, which also makes
 * parsing faster. And memory that runs out is never reported to jansson: 2.14 does not look whether
 * its token buffer could grow, loses the closing quote of a string and copies on past the end. The
 * allocator jumps to request_parse() instead, over frames that own nothing but arena memory.
 */
#include "request_internal.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "utf8.h"

#define DEPTH_MAX 64
#define MIB ((size_t)1 << 20)
#define BUDGET_PER_BYTE 24 /* the densest honest body, [{"url":"http://a/"}, ...], takes 17 */
#define NEAR_MAX 20        /* bytes of the wrong token that a message shows */

/* --- memory ----------------------------------------------------------------------------------- */

static _Thread_local struct budget *active;

static void *budget_malloc(size_t n)
{
    struct budget *b = active;
    if (!b)
        return malloc(n);
    b->exhausted = n > b->limit - b->used;
    void *p = b->exhausted ? NULL : arena_alloc(&b->arena, n);
    if (!p)
        longjmp(b->out, 1);
    b->used += n;
    return p;
}

static void budget_free(void *p)
{
    if (!active)
        free(p);
}

/* Before main(), because jansson's hooks belong to the process and threads may follow. */
__attribute__((constructor)) static void install_allocator(void)
{
    json_set_alloc_funcs(budget_malloc, budget_free);
}

void request_memory_begin(struct reader *r)
{
    arena_init(&r->budget.arena);
    r->budget.limit = r->in->body_len < SIZE_MAX / BUDGET_PER_BYTE - MIB
                          ? r->in->body_len * BUDGET_PER_BYTE + MIB
                          : SIZE_MAX;
    active = &r->budget;
}

void request_memory_end(struct reader *r)
{
    active = NULL;
    arena_fini(&r->budget.arena);
}

void request_out_of_memory(struct reader *r)
{
    r->budget.exhausted = false;
    longjmp(r->budget.out, 1);
}

void *request_alloc(struct reader *r, size_t count, size_t size)
{
    void *p = arena_calloc(&r->spec->arena, count, size);
    if (!p)
        request_out_of_memory(r);
    return p;
}

const char *request_copy(struct reader *r, const char *s, size_t n)
{
    const char *p = arena_strndup(&r->spec->arena, s, n);
    if (!p)
        request_out_of_memory(r);
    return p;
}

/* --- scan ------------------------------------------------------------------------------------- */

struct scan {
    struct reader *r;
    const struct place *at;
    const char *text;
    size_t len, base; /* base: of the text in the body */
    size_t depth;
};

static bool fail_at(const struct scan *s, size_t i, const char *what)
{
    (void)request_fail(s->r, s->at, "syntax error at byte %zu: %s", s->base + i, what);
    s->r->error->offset = (int64_t)(s->base + i);
    return false;
}

static bool fail_large(const struct scan *s, const char *what, int64_t max)
{
    (void)request_fail(s->r, NULL,
                       "the body has more than %lld %s: split the batch, or send large payloads as "
                       "`body` instead of `json`",
                       (long long)max, what);
    s->r->error->status = 413;
    return false;
}

/* Counts what each member may use several of; the whole body shares it. */
static bool count_container(struct scan *s, size_t i)
{
    int64_t max = s->r->limits->requests * 8 + 1000;
    if (++s->depth > DEPTH_MAX)
        return fail_at(s, i, "nested deeper than 64 levels");
    return ++s->r->containers <= (size_t)max || fail_large(s, "arrays and objects", max);
}

/* Values cost time, some 2 us each; a body of 4 MiB that is full of honest ones has one in 12
 * bytes. */
static bool count_comma(struct scan *s)
{
    int64_t max = s->r->limits->requests * 24 + 100000;
    return ++s->r->commas <= (size_t)max || fail_large(s, "values", max);
}

/* i is behind the opening quote; returns the index behind the closing one (or the end), 0 when the
 * string is refused. */
static size_t scan_string(const struct scan *s, size_t i)
{
    const char *quote = memchr(s->text + i, '"', s->len - i);
    if (quote && request_is_simple(s->text + i, (size_t)(quote - s->text) - i))
        return (size_t)(quote - s->text) + 1;
    while (i < s->len) {
        unsigned char c = (unsigned char)s->text[i];
        if (c == '"')
            return i + 1;
        if (c < 0x20) {
            (void)fail_at(s, i, "a control byte in a string: write it as an escape such as \\n");
            return 0;
        }
        if (c >= 0x80) {
            int n = utf8_sequence(s->text + i, s->len - i);
            if (n < 0) {
                (void)fail_at(s, i, "this is not UTF-8");
                return 0;
            }
            i += (size_t)n;
            continue;
        }
        bool escape = c == '\\' && i + 1 < s->len;
        i += escape && (s->text[i + 1] == '"' || s->text[i + 1] == '\\') ? 2 : 1;
    }
    return i;
}

/* One byte outside of strings. */
static bool scan_byte(struct scan *s, size_t i)
{
    switch (s->text[i]) {
    case '[':
    case '{':
        return count_container(s, i);
    case ']':
    case '}':
        s->depth -= s->depth > 0;
        return true;
    case ',':
        return count_comma(s);
    case '\0':
        return fail_at(s, i, "a NUL byte: the body must be JSON in UTF-8");
    default:
        if ((unsigned char)s->text[i] < 0x80)
            return true;
        return fail_at(s, i, utf8_sequence(s->text + i, s->len - i) < 0
                                 ? "this is not UTF-8"
                                 : "a character that may stand in a string only");
    }
}

static bool scan_text(struct scan *s)
{
    for (size_t i = 0; i < s->len;) {
        if (s->text[i] != '"') {
            if (!scan_byte(s, i))
                return false;
            i++;
            continue;
        }
        i = scan_string(s, i + 1);
        if (i == 0)
            return false;
    }
    return true;
}

/* --- syntax errors ---------------------------------------------------------------------------- */

/* jansson says where the wrong token ends; this is where it starts. */
static size_t token_start(const char *text, size_t end)
{
    size_t i = 0, start = 0;
    while (i < end) {
        start = i;
        char c = text[i++];
        if (c == '"') {
            while (i < end && text[i] != '"')
                i += text[i] == '\\' && i + 1 < end ? 2 : 1;
            i++;
        } else if (!strchr(" \t\r\n[]{}:,", c)) {
            while (i < end && !strchr(" \t\r\n[]{}:,\"", text[i]))
                i++;
        }
    }
    return start;
}

static const char *syntax_words(const json_error_t *e, char *text, size_t size)
{
    switch (json_error_code(e)) {
    case json_error_premature_end_of_input:
        return "the JSON text ends too early";
    case json_error_end_of_input_expected:
        return "text after the end of the JSON value (one member a line is application/x-ndjson)";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "the escape \\u0000 is not taken";
    case json_error_duplicate_key:
        return "a key that stands twice in one object";
    default:
        break;
    }
    /* The token that jansson quotes may be cut or hold controls: it is quoted anew. */
    const char *near = strstr(e->text, " near ");
    size_t n = near ? (size_t)(near - e->text) : strlen(e->text);
    n = utf8_prefix(e->text, n, size - 1);
    memcpy(text, e->text, n);
    text[n] = '\0';
    return text;
}

/* How much of a token is shown. It is raw, and perhaps not whole: where an @ follows somewhere, of
 * what may be a URL only what stands before its slashes, however they are written. */
static size_t shown_length(const char *token, size_t n, size_t text_left)
{
    n = utf8_prefix(token, n, NEAR_MAX);
    if (!memchr(token, '@', text_left) && !memmem(token, text_left, "\\u0040", 6))
        return n;
    for (size_t i = 0; i < n; i++) {
        bool escape = token[i] == '\\' && i + 1 < n && token[i + 1] == 'u';
        if (token[i] == '/' || token[i] == ':' || escape)
            return i;
    }
    return n;
}

static json_t *fail_syntax(const struct scan *s, const json_error_t *e)
{
    char words[120], near[REQUEST_QUOTE_MAX];
    size_t end = e->position > 0 ? (size_t)e->position : 0;
    if (end >= s->len && json_error_code(e) == json_error_premature_end_of_input) {
        (void)fail_at(s, s->len, syntax_words(e, words, sizeof words));
        return NULL;
    }
    end = end < s->len ? end : s->len;
    size_t start = token_start(s->text, end);
    size_t n = shown_length(s->text + start, end - start, s->len - start);
    (void)request_fail(s->r, s->at, "syntax error at byte %zu: %s, near %s", s->base + start,
                       syntax_words(e, words, sizeof words),
                       request_quote(near, s->text + start, n));
    s->r->error->offset = (int64_t)(s->base + start);
    return NULL;
}

json_t *request_load(struct reader *r, const struct place *at, const char *text, size_t len,
                     size_t base)
{
    struct scan s = {.r = r, .at = at, .text = text, .len = len, .base = base};
    if (!scan_text(&s))
        return NULL;
    json_error_t e;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    return value ? value : fail_syntax(&s, &e);
}

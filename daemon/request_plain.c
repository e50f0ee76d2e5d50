/* SPDX-License-Identifier: MIT
 *
 * request_plain - the members that need no JSON library: strings, and objects of url and id. That
 * is what nearly all of a large batch is made of, and jansson takes 6,000 instructions for a URL,
 * most of them for one byte at a time. Called by request before it would ask jansson; what it makes
 * lies in the spec's arena and in the reader.
 *
 * Nothing is refused here. What is not plain, and be it only one byte of the last member, is handed
 * back as a whole: jansson reads it anew, and its words are those that the client gets. So this
 * reader has to be right about one thing only: that what it takes is JSON, and says what jansson
 * would have read. Strings are taken by the rules of JSON and UTF-8 except \u escapes above 7F and
 * \u0000.
 *
 * Of an object with "requests" the members are cut out: jansson reads what is left, with an empty
 * array in their place, and judges keys, values and syntax of all the rest.
 */
#include "request_internal.h"

#include <string.h>

#include "utf8.h"

struct cursor {
    const char *at, *end;
};

struct span {
    const char *text; /* NULL: not there */
    size_t len;
};

struct element {
    struct span url, id; /* between the quotes */
    bool careful;        /* one of them has escapes or more than ASCII */
};

/* --- bytes ------------------------------------------------------------------------------------ */

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

/* The next byte that says something is this one: goes past it. */
static bool take(struct cursor *c, char byte)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != byte)
        return false;
    c->at++;
    return true;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether a byte is below 0x20, a backslash or above 0x7f. */
static bool has_special(uint64_t word)
{
    uint64_t slash = word ^ EACH('\\');
    uint64_t found = (word - EACH(0x20)) | (slash - EACH(1)) | word;
    return (found & EACH(0x80)) != 0;
}

bool request_is_simple(const char *s, size_t n)
{
    uint64_t word;
    for (; n >= sizeof word; s += sizeof word, n -= sizeof word) {
        memcpy(&word, s, sizeof word);
        if (has_special(word))
            return false;
    }
    word = EACH('x');
    memcpy(&word, s, n);
    return !has_special(word);
}

/* --- strings ---------------------------------------------------------------------------------- */

static unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 99;
}

/* s is behind "\u". The value, 0 when it is none from 1 to 0x7f. */
static char unicode_escape(const char *s, const char *end)
{
    if (end - s < 4 || s[0] != '0' || s[1] != '0' || hex_value(s[2]) > 7 || hex_value(s[3]) > 15)
        return '\0';
    return (char)(16 * hex_value(s[2]) + hex_value(s[3]));
}

/* s is at a backslash. The byte that is meant; *len is how long the escape is, 0 when it is none or
 * one that is left to jansson. */
static char read_escape(const char *s, const char *end, size_t *len)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    char byte = '\0';
    *len = 0;
    if (end - s < 2 || s[1] == '\0')
        return byte;
    const char *name = strchr(names, s[1]);
    if (s[1] == 'u')
        byte = unicode_escape(s + 2, end);
    else if (name)
        byte = bytes[name - names];
    if (byte)
        *len = s[1] == 'u' ? 6 : 2;
    return byte;
}

/* The closing quote of a string with escapes or UTF-8, NULL when it is not taken. */
static const char *find_quote(const char *s, const char *end)
{
    while (s < end && *s != '"') {
        size_t step;
        if (*s == '\\') {
            (void)read_escape(s, end, &step);
        } else {
            int n = (unsigned char)*s < 0x20 ? 0 : utf8_sequence(s, (size_t)(end - s));
            step = n > 0 ? (size_t)n : 0;
        }
        if (step == 0)
            return NULL;
        s += step;
    }
    return s < end ? s : NULL;
}

static bool scan_string(struct cursor *c, struct element *e, struct span *out)
{
    if (!take(c, '"'))
        return false;
    const char *begin = c->at, *quote = memchr(begin, '"', (size_t)(c->end - begin));
    if (!quote)
        return false;
    if (!request_is_simple(begin, (size_t)(quote - begin))) {
        e->careful = true;
        quote = find_quote(begin, c->end);
        if (!quote)
            return false;
    }
    *out = (struct span){begin, (size_t)(quote - begin)};
    c->at = quote + 1;
    return true;
}

/* A copy in the spec, with a NUL behind it. */
static struct span copy_string(struct reader *r, const struct element *e, const struct span *from)
{
    if (!e->careful)
        return (struct span){request_copy(r, from->text, from->len), from->len};
    const char *s = from->text, *end = s + from->len;
    char *out = arena_text(&r->spec->arena, from->len + 1);
    size_t n = 0, step;
    if (!out)
        request_out_of_memory(r);
    while (s < end) {
        step = 1;
        out[n++] = *s == '\\' ? read_escape(s, end, &step) : *s;
        s += step;
    }
    out[n] = '\0';
    return (struct span){out, n};
}

/* --- members ---------------------------------------------------------------------------------- */

/* The value of a key that is next; NULL: another key, or one that was there already. */
static struct span *find_slot(struct cursor *c, struct element *e)
{
    static const char url[] = "url\"", id[] = "id\"";
    struct span *slot = NULL;
    size_t left = (size_t)(c->end - c->at), n = 0;
    if (left >= sizeof url - 1 && memcmp(c->at, url, sizeof url - 1) == 0) {
        slot = &e->url;
        n = sizeof url - 1;
    } else if (left >= sizeof id - 1 && memcmp(c->at, id, sizeof id - 1) == 0) {
        slot = &e->id;
        n = sizeof id - 1;
    }
    c->at += n;
    return slot && !slot->text ? slot : NULL;
}

static bool scan_object(struct cursor *c, struct element *e)
{
    do {
        struct span *slot = take(c, '"') ? find_slot(c, e) : NULL;
        if (!slot || !take(c, ':') || !scan_string(c, e, slot))
            return false;
    } while (take(c, ','));
    return take(c, '}') && e->url.text;
}

static bool scan_element(struct cursor *c, struct element *e)
{
    *e = (struct element){0};
    return take(c, '{') ? scan_object(c, e) : scan_string(c, e, &e->url);
}

static bool make_member(struct reader *r, const struct element *e, struct member *m)
{
    struct span url = copy_string(r, e, &e->url);
    request_set_url(r, m, url.text, url.len);
    if (request_has_userinfo(r, m))
        return false;
    if (e->id.text) {
        struct span id = copy_string(r, e, &e->id);
        if (id.len > REQUEST_ID_BYTES_MAX || !request_take_id(r, id.text))
            return false;
        m->id = id.text;
    }
    return true;
}

bool request_read_plain_line(struct reader *r, const char *text, size_t len, struct member *m)
{
    struct cursor c = {text, text + len};
    struct element e;
    if (!scan_element(&c, &e))
        return false;
    skip_blanks(&c);
    return c.at == c.end && make_member(r, &e, m);
}

/* --- the array -------------------------------------------------------------------------------- */

/* Members are much of a length: those up to c->at tell about how many there will be. */
static void grow_list(struct reader *r, const char *first, const struct cursor *c)
{
    size_t each = (size_t)(c->at - first) / (r->list_count + 1) + 1;
    size_t room = (size_t)(c->end - first) / each + 1;
    size_t least = r->list_count + r->list_count / 2 + 16, most = (size_t)r->limits->requests;
    room = room > least ? room : least;
    room = room < most ? room : most;
    struct member *list = arena_resize(&r->spec->arena, r->list, room * sizeof *list);
    if (!list)
        request_out_of_memory(r);
    r->list = list;
    r->list_room = room;
}

static bool read_members(struct reader *r, struct cursor *c)
{
    if (!take(c, '['))
        return false;
    const char *first = c->at;
    do {
        struct element e;
        if (!scan_element(c, &e) || r->list_count == (size_t)r->limits->requests)
            return false;
        if (r->list_count == r->list_room)
            grow_list(r, first, c);
        struct member *m = &r->list[r->list_count++];
        *m = (struct member){0};
        if (!make_member(r, &e, m))
            return false;
    } while (take(c, ','));
    return take(c, ']');
}

/* Past a value that is none of this file's business, to the comma or bracket behind it. What lies
 * between need not be JSON: jansson will see it. */
static void skip_value(struct cursor *c)
{
    for (size_t depth = 0; c->at < c->end; c->at++) {
        switch (*c->at) {
        case '"':
            for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
                c->at += *c->at == '\\' && c->end - c->at > 1;
            break;
        case '[':
        case '{':
            depth++;
            break;
        case ']':
        case '}':
        case ',':
            if (depth == 0)
                return;
            depth -= *c->at != ',';
            break;
        default:
            break;
        }
        if (c->at == c->end)
            return;
    }
}

/* To the array of the key "requests" of an object. */
static bool find_requests(struct cursor *c)
{
    static const char key[] = "requests";
    if (!take(c, '{'))
        return false;
    do {
        struct element unused;
        struct span name;
        if (!scan_string(c, &unused, &name) || !take(c, ':'))
            return false;
        skip_blanks(c);
        if (name.len == sizeof key - 1 && memcmp(name.text, key, name.len) == 0)
            return true;
        skip_value(c);
    } while (take(c, ','));
    return false;
}

bool request_read_plain(struct reader *r, const char *text, size_t len, size_t *begin, size_t *end)
{
    struct cursor c = {text, text + len};
    skip_blanks(&c);
    if (c.at < c.end && *c.at != '[' && !find_requests(&c))
        return false;
    *begin = (size_t)(c.at - text);
    if (!read_members(r, &c))
        return false;
    *end = (size_t)(c.at - text);
    return true;
}

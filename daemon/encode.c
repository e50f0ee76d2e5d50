/* SPDX-License-Identifier: MIT
 *
 * The choice of a view, and what all views share. The front end asks encode_pick() before a batch
 * is admitted, so that 406 costs no upstream request. Pure, no state but the table.
 *
 * Accept is read as RFC 9110 12.5.1 says: for each view the most specific range that fits gives
 * the weight, the highest weight wins. Two habits of old clients are understood as well: a bare
 * `*` and `q=.2` (Java's HttpURLConnection). What is no media range at all is passed over; an empty
 * header asks for nothing in particular.
 */
#include "encode.h"

#include <string.h>

#include "parse.h"

#define WEIGHT_MAX 1000 /* a q-value of 1 in thousandths */

/* In the order in which ties are decided. */
static const struct encoder *const encoders[] = {&encode_json, &encode_ndjson, &encode_text};

#define ENCODER_COUNT (sizeof(encoders) / sizeof(encoders[0]))

struct media_range {
    const char *type, *subtype; /* into the header */
    size_t type_len, subtype_len;
    int weight; /* 0 to WEIGHT_MAX */
};

/* The end of the element or parameter that starts at s: a `,` (or `;`) outside a quoted string. */
static const char *find_end(const char *s, const char *delimiters)
{
    bool quoted = false;
    for (; *s != '\0'; s++) {
        if (*s == '"')
            quoted = !quoted;
        else if (quoted && *s == '\\' && s[1] != '\0')
            s++;
        else if (!quoted && strchr(delimiters, *s) != NULL)
            break;
    }
    return s;
}

/* The token at *s without the blanks around it; *s moves behind them. 0 = there is none. */
static size_t take_token(const char **s, const char **token)
{
    *s += strspn(*s, " \t");
    *token = *s;
    size_t n = strcspn(*s, " \t,;=/\"");
    *s += n;
    *s += strspn(*s, " \t");
    return parse_is_token(*token, n) ? n : 0;
}

/* A q-value in thousandths. One that is out of its form says nothing: WEIGHT_MAX. */
static int parse_weight(const char *s, size_t n)
{
    int weight = 0;
    int unit = WEIGHT_MAX;
    size_t i = 0;
    if (n == 0 || (n == 1 && s[0] == '.'))
        return WEIGHT_MAX;
    for (; i < n && s[i] >= '0' && s[i] <= '9' && weight < WEIGHT_MAX; i++)
        weight = weight * 10 + (s[i] - '0') * WEIGHT_MAX;
    if (i < n && s[i] == '.') {
        for (i++; i < n && s[i] >= '0' && s[i] <= '9'; i++) {
            unit /= 10;
            weight += (s[i] - '0') * unit;
        }
    }
    return i == n && weight < WEIGHT_MAX ? weight : WEIGHT_MAX;
}

/* Reads the parameters that start at s for the weight; all others are passed over. */
static int find_weight(const char *s)
{
    int weight = WEIGHT_MAX;
    while (*s == ';') {
        const char *end = find_end(++s, ";,");
        const char *name;
        size_t n = take_token(&s, &name);
        if (*s == '=' && parse_equal_nocase(name, n, "q")) {
            const char *value;
            s++;
            n = take_token(&s, &value);
            weight = parse_weight(value, n);
        }
        s = end;
    }
    return weight;
}

/* Takes the next element off *s; false when it is no media range. */
static bool take_range(const char **s, struct media_range *out)
{
    const char *at = *s;
    const char *end = find_end(at, ",");
    *s = *end == ',' ? end + 1 : end;
    out->type_len = take_token(&at, &out->type);
    if (*at == '/') {
        at++;
        out->subtype_len = take_token(&at, &out->subtype);
    } else if (out->type_len == 1 && *out->type == '*') {
        out->subtype = out->type;
        out->subtype_len = 1;
    } else {
        return false;
    }
    out->weight = find_weight(at);
    return out->type_len > 0 && out->subtype_len > 0 && (at == end || *at == ';');
}

static bool is_wildcard(const char *s, size_t n)
{
    return n == 1 && *s == '*';
}

static bool equal_part(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return false;
    for (size_t i = 0; i < a_len; i++) {
        char c = a[i] >= 'A' && a[i] <= 'Z' ? (char)(a[i] - 'A' + 'a') : a[i];
        if (c != b[i])
            return false;
    }
    return true;
}

/* 0 = does not fit, 1 by *, 2 by type/, 3 exactly. media_type is in lower case. */
static int match_range(const struct media_range *range, const char *media_type)
{
    size_t type_len = strcspn(media_type, "/");
    const char *subtype = media_type + type_len + 1;
    if (is_wildcard(range->type, range->type_len))
        return is_wildcard(range->subtype, range->subtype_len) ? 1 : 0;
    if (!equal_part(range->type, range->type_len, media_type, type_len))
        return 0;
    if (is_wildcard(range->subtype, range->subtype_len))
        return 2;
    return equal_part(range->subtype, range->subtype_len, subtype, strcspn(subtype, "; ")) ? 3 : 0;
}

static int weigh(const char *accept, const char *media_type)
{
    struct media_range range;
    int best = 0;
    int weight = 0;
    while (*accept != '\0') {
        int fits = take_range(&accept, &range) ? match_range(&range, media_type) : 0;
        if (fits > best || (fits > 0 && fits == best && range.weight > weight)) {
            best = fits;
            weight = range.weight;
        }
    }
    return weight;
}

static const struct encoder *find_format(const char *format)
{
    for (size_t i = 0; i < ENCODER_COUNT; i++) {
        if (strcmp(encoders[i]->name, format) == 0)
            return encoders[i];
    }
    return NULL;
}

const struct encoder *encode_pick(const char *accept, const char *format)
{
    const struct encoder *best = NULL;
    int best_weight = 0;
    if (format != NULL)
        return find_format(format);
    if (accept == NULL || accept[strspn(accept, " \t,")] == '\0')
        return encoders[0];
    for (size_t i = 0; i < ENCODER_COUNT; i++) {
        int weight = weigh(accept, encoders[i]->media_type);
        if (weight > best_weight) {
            best = encoders[i];
            best_weight = weight;
        }
    }
    return best;
}

const char *encode_media_types(void)
{
    return "application/json, application/x-ndjson, text/plain";
}

#define USERINFOS_MAX 10000 /* that are looked for one by one, 10 to 30 ns each */

static inline bool ends_authority(char c)
{
    return c == '/' || c == '?' || c == '#' || c == '\\';
}

/* Whether host:what_is_no_port, so that what follows the colon may be a password. */
static bool has_no_port(const char *authority, size_t n)
{
    const char *end = authority + n, *bracket = NULL;
    unsigned port = 0;
    if (n > 0 && authority[0] == '[')
        bracket = memchr(authority, ']', n);
    const char *host_end = bracket ? bracket : authority;
    const char *colon = memchr(host_end, ':', (size_t)(end - host_end));
    for (const char *c = colon ? colon + 1 : end; c < end; c++) {
        if (*c < '0' || *c > '9')
            return true;
        port = port * 10 + (unsigned)(*c - '0');
        if (port > UINT16_MAX)
            return true;
    }
    return false;
}

/* The rest of DOMAIN\user:password, up to its @. */
static bool is_windows_login(const char *backslash, const char *at)
{
    return *backslash == '\\' && memchr(backslash, ':', (size_t)(at - backslash)) != NULL;
}

/* The userinfo of an authority that starts at url[from] or behind the slashes there: the bytes up
 * to the last @ before the next delimiter. In an ill-formed URL the delimiter may be one of a
 * password that should have been percent-encoded: up to `last` then, the text's last @ (NULL: the
 * URL is well-formed). */
static size_t authority_userinfo(const char *url, size_t n, size_t from, const char *last,
                                 size_t *at)
{
    size_t length = 0, i;
    while (from < n && (url[from] == '/' || url[from] == '\\' || (unsigned char)url[from] <= ' '))
        from++;
    for (i = from; i < n && !ends_authority(url[i]); i++) {
        if (url[i] == '@')
            length = i + 1 - from;
    }
    if (length == 0 && last > url + i &&
        (has_no_port(url + from, i - from) || is_windows_login(url + i, last)))
        length = (size_t)(last + 1 - url) - from;
    *at = from;
    return length;
}

/* Where the next two slashes are; n = nowhere. A loop, because they are mostly near, and looked
 * for up to a million times. */
static size_t find_slashes(const char *url, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (url[i] == '/' && url[i + 1] == '/')
            return i;
    }
    return n;
}

/* There is an @ somewhere. */
static size_t first_userinfo(const char *url, size_t n, const char *last, size_t *at)
{
    size_t i = 0;
    while (i < n && url[i] != ':' && url[i] != '@' && !ends_authority(url[i]))
        i++;
    if (i + 1 < n && url[i] == ':' &&
        (memchr("/\\\t\n\r ", url[i + 1], 6) != NULL || parse_equal_nocase(url, i, "http") ||
         parse_equal_nocase(url, i, "https")))
        i++;
    else
        i = 0;
    size_t length = authority_userinfo(url, n, i, last, at);
    if (length > 0)
        return length;
    size_t slashes = find_slashes(url, n);
    return slashes < n ? authority_userinfo(url, n, slashes, last, at) : 0;
}

/* What is no URL may have several places that look like a userinfo: all is cut from the first to
 * the last; where there are very many, to the last @. */
size_t encode_userinfo(const char *url, size_t n, bool well_formed, size_t *at)
{
    const char *last = n > 0 ? memrchr(url, '@', n) : NULL;
    if (last == NULL)
        return 0;
    const char *within = well_formed ? NULL : last;
    size_t length = first_userinfo(url, n, within, at), next = 0, more = length;
    for (int n_found = 1; more > 0 && !well_formed && url + *at + length <= last; n_found++) {
        if (n_found == USERINFOS_MAX)
            return (size_t)(last + 1 - url) - *at;
        const size_t from = *at + length;
        more = first_userinfo(url + from, n - from, within, &next);
        if (more > 0)
            length += next + more;
    }
    return length;
}

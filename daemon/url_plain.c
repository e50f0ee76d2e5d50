/* SPDX-License-Identifier: MIT
 *
 * url_plain - the short way through target_parse(). Pure, any thread.
 *
 * url.c promises one parser: what was checked is what is fetched. A second one beside CURLU keeps
 * that promise only if it accepts nothing about which CURLU could think differently, so this one is
 * written from what CURLU leaves alone (lib/urlapi.c of 7.88.1, 8.5.0, 8.14.1, 8.17.0 and of the
 * head in August 2026, read for each byte that is let through):
 *
 * - parseurl() takes the scheme up to "://" and the authority up to the first of / ? #. Login,
 *   escapes, IDNA and zones need @ % a byte above 0x7e or a bracket: not plain.
 * - ipv4_normalize() rewrites a host that is numbers all through, in any base. Here the last label
 *   begins with no digit, where every version gives up, or the host is four plain decimals, which
 *   every version prints as they were. ipv6_parse() prints with inet_ntop(), as ip_format() does.
 * - the port is printed anew from its number: here it has no leading zero.
 * - path and query are copied as they are; junkscan() refuses blanks and controls, urlencode_str()
 *   works with a flag that nobody sets (up to 8.17 it would touch only blanks and bytes above 0x7e;
 *   later also the case of an escape). dedotdotify() looks for segments "." and "..", from 8.13
 *   on also with %2e for a dot: a segment that begins with a dot is plain only when a byte follows
 *   that makes it neither, and %2e is not plain in a path.
 * - 8.8 and later remember that an empty query was there: not plain.
 *
 * CURLOPT_URL ends in the same parseurl(), with CURLU_GUESS_SCHEME, which looks at texts without a
 * scheme, and CURLU_NON_SUPPORT_SCHEME, at foreign ones; nothing is trimmed. So a plain URL may be
 * given to libcurl as text. tests/unit/url_fixture.h holds both ways side by side.
 */
#include "url_plain.h"

#include <string.h>

#include "url.h"

#define HOST_MAX 253
#define LABEL_MAX 63

/* What a byte may be. */
enum {
    UPPER = 1 << 0,
    LABEL = 1 << 1, /* of a host's label */
    QUERY = 1 << 2, /* stands for itself in a query, */
    PATH = 1 << 3,  /* and in a path wherever it stands */
};

#define ALSO (QUERY | PATH)
#define LETTER (LABEL | ALSO)

/* clang-format off */
static const uint8_t classes[256] = {
    ['!'] = ALSO, ['"'] = ALSO, ['$'] = ALSO, ['%'] = QUERY, ['&'] = ALSO, ['\''] = ALSO,
    ['('] = ALSO, [')'] = ALSO, ['*'] = ALSO, ['+'] = ALSO, [','] = ALSO, ['-'] = LETTER,
    ['.'] = QUERY, ['/'] = ALSO,
    ['0'] = LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER,
    [':'] = ALSO, [';'] = ALSO, ['<'] = ALSO, ['='] = ALSO, ['>'] = ALSO, ['?'] = QUERY,
    ['@'] = ALSO,
    ['A'] = LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER,
    LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER,
    LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER,
    LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER,
    LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER, LETTER | UPPER,
    LETTER | UPPER,
    ['['] = ALSO, [']'] = ALSO, ['^'] = ALSO, ['_'] = LETTER, ['`'] = ALSO,
    ['a'] = LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER,
    LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER,
    LETTER, LETTER, LETTER, LETTER, LETTER,
    ['{'] = ALSO, ['|'] = ALSO, ['}'] = ALSO, ['~'] = ALSO,
};
/* clang-format on */

static unsigned class_of(char c)
{
    return classes[(unsigned char)c];
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    return (class_of(c) & UPPER) != 0 ? (char)(c | 0x20) : c;
}

const char *url_plain_default_port(bool https)
{
    return https ? ":443" : ":80";
}

/* --- path and query --------------------------------------------------------------------------- */

/* The first byte from s on that is not of the class; four are looked at together. */
static const char *skip(const char *s, const char *end, unsigned class)
{
    while (end - s >= 4 &&
           (class_of(s[0]) & class_of(s[1]) & class_of(s[2]) & class_of(s[3]) & class))
        s += 4;
    while (s < end && (class_of(*s) & class))
        s++;
    return s;
}

/* What is at s is no PATH byte. Whether a dot or an escape is harmless where it stands. */
static bool path_byte_is_plain(const char *s, const char *end)
{
    if (*s == '.') /* "/.x" is a name; "/.", "/./", "/..", "/.%2e" and "/.?" are not */
        return s[-1] != '/' || (s + 1 < end && s[1] != '/' && (class_of(s[1]) & PATH));
    if (*s == '%')
        return !(end - s > 2 && s[1] == '2' && (s[2] | 0x20) == 'e');
    return false;
}

/* s is at the question mark; there is something behind it. */
static bool query_is_plain(const char *s, const char *end)
{
    return s + 1 < end && skip(s + 1, end, QUERY) == end;
}

bool url_plain_rest(const char *s, size_t n)
{
    const char *end = s + n;

    for (s = skip(s, end, PATH); s < end; s = skip(s + 1, end, PATH)) {
        if (*s == '?')
            return query_is_plain(s, end);
        if (!path_byte_is_plain(s, end))
            return false;
    }
    return true;
}

/* --- scheme, host, port ----------------------------------------------------------------------- */

/* "http://" or "https://" in any case; *at is left behind it. */
static bool scan_scheme(const char *s, size_t n, struct url_plain *p, size_t *at)
{
    static const char text[] = "https";
    size_t i = 0;

    while (i < n && i < 5 && (s[i] | 0x20) == text[i]) {
        p->normal &= (class_of(s[i]) & UPPER) == 0;
        i++;
    }
    p->https = i == 5;
    if (i < 4 || n - i < 3 || memcmp(s + i, "://", 3) != 0)
        return false;
    *at = i + 3;
    return true;
}

/* Four decimals without leading zeros, all of the n bytes. */
static bool scan_v4(const char *s, size_t n, struct ip_addr *out)
{
    size_t i = 0;

    for (int part = 0; part < 4; part++, i++) {
        size_t start = i;
        unsigned value = 0;
        for (; i < n && i < start + 3 && is_digit(s[i]); i++)
            value = 10 * value + (unsigned)(s[i] - '0');
        if (i == start || value > 255 || (s[start] == '0' && i > start + 1))
            return false;
        out->bytes[part] = (uint8_t)value;
        if (part < 3 ? i == n || s[i] != '.' : i != n)
            return false;
    }
    out->family = 4;
    return true;
}

/* A name of one label or several, or an IPv4 address. */
static bool scan_name(const char *s, size_t n, struct url_plain *p, size_t *at)
{
    size_t begin = *at, label = begin, i = begin;
    unsigned seen = 0;

    for (;; i++) {
        if (i < n && (class_of(s[i]) & LABEL)) {
            seen |= class_of(s[i]);
            continue;
        }
        if (i == label || i - label > LABEL_MAX)
            return false;
        if (i == n || s[i] != '.')
            break;
        label = i + 1;
    }
    if (i - begin > HOST_MAX || (is_digit(s[label]) && !scan_v4(s + begin, i - begin, &p->ip)))
        return false;
    p->normal &= (seen & UPPER) == 0;
    p->host_at = (uint16_t)begin;
    p->host_len = (uint16_t)(i - begin);
    *at = i;
    return true;
}

static bool is_of_v6(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || c == ':';
}

/* "[...]" with an IPv6 address as ip_format() writes it; those that end in a dotted quad are left
 * to the parser. */
static bool scan_v6(const char *s, size_t n, struct url_plain *p, size_t *at)
{
    char text[IP_TEXT_MAX], again[IP_TEXT_MAX];
    size_t begin = *at + 1, length = 0;

    for (; begin + length < n && is_of_v6(s[begin + length]); length++) {
        if (length == IP_TEXT_MAX - 1)
            return false;
        text[length] = s[begin + length];
    }
    text[length] = '\0';
    if (begin + length == n || s[begin + length] != ']' || !ip_parse(text, &p->ip) ||
        strcmp(ip_format(&p->ip, again), text) != 0)
        return false;
    p->host_at = (uint16_t)begin;
    p->host_len = (uint16_t)length;
    *at += length + 2;
    return true;
}

static bool scan_port(const char *s, size_t n, struct url_plain *p, size_t *at)
{
    size_t i = *at + 1;
    unsigned value = 0;

    if (*at == n || s[*at] != ':') {
        p->port = p->https ? 443 : 80;
        return true;
    }
    if (i == n || s[i] == '0')
        return false;
    for (; i < n && i < *at + 6 && is_digit(s[i]); i++)
        value = 10 * value + (unsigned)(s[i] - '0');
    if (value == 0 || value > UINT16_MAX)
        return false;
    p->port = (uint16_t)value;
    p->normal &= value != (p->https ? 443 : 80);
    *at = i;
    return true;
}

bool url_plain_scan(const char *s, size_t n, struct url_plain *out)
{
    size_t at;

    *out = (struct url_plain){.normal = true};
    if (n > URL_BYTES_MAX || !scan_scheme(s, n, out, &at) || at == n)
        return false;
    if (!(s[at] == '[' ? scan_v6(s, n, out, &at) : scan_name(s, n, out, &at)) ||
        !scan_port(s, n, out, &at))
        return false;
    out->rest_at = (uint16_t)at;
    if (at < n && s[at] == '/')
        return url_plain_rest(s + at, n - at);
    out->normal = false;
    return at == n || (s[at] == '?' && query_is_plain(s + at, s + n));
}

/* --- the normalised text ---------------------------------------------------------------------- */

size_t url_plain_text(const struct url_plain *p, const char *s, size_t n, char *out,
                      size_t *authority_len)
{
    size_t default_len = strlen(url_plain_default_port(p->https));
    size_t host_end = (size_t)p->host_at + p->host_len + (p->ip.family == 6);
    bool said = p->rest_at > host_end && p->port == (p->https ? 443 : 80);
    size_t at = said ? p->rest_at - default_len : p->rest_at;

    memcpy(out, s, at);
    for (size_t i = 0; i < at && !p->normal; i++)
        out[i] = to_lower(s[i]);
    *authority_len = at;
    if (p->rest_at == n || s[p->rest_at] != '/')
        out[at++] = '/';
    memcpy(out + at, s + p->rest_at, n - p->rest_at);
    at += n - p->rest_at;
    out[at] = '\0';
    return at;
}

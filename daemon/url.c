/* SPDX-License-Identifier: MIT
 *
 * url - would-be URLs become struct url. Called by target for those of a batch's members and of
 * Location headers that are not plain (url_plain.c tells which are: nearly all, and in those
 * nothing is left to decide). Pure, any thread; calls libcurl's URL functions only.
 *
 * The trick is that there is one parser and one copy. The text is first brought into a form about
 * which no two parsers differ: only printable ASCII outside the host, lower-case scheme and
 * authority, no fragment, no userinfo, no zone, exactly two slashes. CURLU parses that, and the
 * host it found is then judged once more (IDNA may turn letters into digits, dots or slashes) and
 * brought into its one spelling. Everything that gatherd knows of a URL is what CURLU said, and
 * target.c makes sure that libcurl will read the same in the text that is made of it here.
 *
 * Per URL one malloc of our own (text and host share a block) beside those of libcurl.
 */
#include "url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "hostname.h"

#define HOST_MAX 253
#define LABEL_MAX 63
#define COPY_ON_STACK 2048

#define HOST_ROOM (HOST_MAX + 2) /* a final dot and a NUL, or an address */
#define ORIGIN_EXTRA (sizeof("https://[]:65535") - 1)

#define WHY_PORT "the port is no number from 1 to 65535"
#define WHY_NO_IPV6 "the host in brackets is no IPv6 address"
#define WHY_NO_HOST "the host is missing"
#define WHY_HOST_LONG "the host is longer than 253 bytes"
#define WHY_HOST_CHARACTER "the host has a character that no host name has"

const char url_no_memory[] = "out of memory";
const char url_has_userinfo[] = "a URL with a user name or password is not taken";

struct scheme {
    const char *prefix;
    size_t length;
    uint16_t port;
    size_t port_length; /* of ":80" */
};

/* The index is struct url's `https`. */
static const struct scheme schemes[] = {{"http://", 7, 80, 3}, {"https://", 8, 443, 4}};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_alpha(char c)
{
    return to_lower(c) >= 'a' && to_lower(c) <= 'z';
}

/* Why these bytes can be no URL, or NULL. */
static const char *refuse_bytes(const char *s, size_t n)
{
    if (n == 0)
        return "the URL is empty";
    if (n > URL_BYTES_MAX)
        return "the URL is longer than 65536 bytes";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= 0x20 || c == 0x7f)
            return "the URL has a blank or control byte: percent-encode it";
        if (c == '\\')
            return "the URL has a backslash: percent-encode it";
    }
    return NULL;
}

static bool starts_with(const char *s, size_t n, const char *prefix, size_t prefix_len)
{
    if (n < prefix_len)
        return false;
    for (size_t i = 0; i < prefix_len; i++) {
        if (to_lower(s[i]) != prefix[i])
            return false;
    }
    return true;
}

static const struct scheme *find_scheme(const char *s, size_t n)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (starts_with(s, n, schemes[i].prefix, schemes[i].length))
            return &schemes[i];
    }
    return NULL;
}

static bool is_any(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* The index of the first byte that is in `set`; n when there is none. */
static size_t find_any(const char *s, size_t n, const char *set)
{
    size_t i = 0;

    while (i < n && !is_any(s[i], set))
        i++;
    return i;
}

static const char *refuse_authority(const char *s, size_t n)
{
    if (n == 0)
        return WHY_NO_HOST;
    if (memchr(s, '@', n))
        return url_has_userinfo;
    if (s[0] == '[' && memchr(s, '%', n))
        return "an IPv6 zone id is not taken";
    return NULL;
}

/* Writes path and query (no fragment) to out, bytes above 0x7f as %XX. An empty query is left out:
 * libcurl 7.88 sends its question mark and 8.8 does not. Returns the length. */
static size_t copy_path(const char *s, size_t n, char *out)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *fragment = memchr(s, '#', n);
    char *o = out;

    if (fragment)
        n = (size_t)(fragment - s);
    if (n > 0 && memchr(s, '?', n) == s + n - 1)
        n--;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80) {
            *o++ = (char)c;
        } else {
            *o++ = '%';
            *o++ = hex[c >> 4];
            *o++ = hex[c & 15];
        }
    }
    return (size_t)(o - out);
}

/* The tame copy that CURLU is given, NUL-terminated, at most 3 * n + 1 bytes. Returns whether the
 * host is plain: ASCII without an escape. */
static bool copy_tame(const char *s, size_t n, const struct scheme *scheme, size_t authority,
                      char *out)
{
    size_t at = scheme->length;
    bool plain = true;

    memcpy(out, scheme->prefix, at);
    for (size_t i = 0; i < authority; i++, at++) {
        out[at] = to_lower(s[at]);
        plain = plain && (unsigned char)s[at] < 0x80 && s[at] != '%';
    }
    at += copy_path(s + at, n - at, out + at);
    out[at] = '\0';
    return plain;
}

static const char *explain_curl(CURLUcode code)
{
    switch (code) {
    case CURLUE_OUT_OF_MEMORY:
        return url_no_memory;
    case CURLUE_BAD_PORT_NUMBER:
        return WHY_PORT;
    case CURLUE_BAD_IPV6:
        return WHY_NO_IPV6;
    case CURLUE_NO_HOST:
        return WHY_NO_HOST;
    case CURLUE_BAD_HOSTNAME:
        return WHY_HOST_CHARACTER;
    default:
        return "the URL is not well-formed";
    }
}

static unsigned digit_value(char c)
{
    if (is_digit(c))
        return (unsigned)(c - '0');
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 99;
}

/* Part of an IPv4 address as inet_aton() reads it: 0x hexadecimal, 0 octal, else decimal. */
static bool parse_v4_part(const char *s, size_t n, uint64_t *out)
{
    unsigned base = 10;
    uint64_t value = 0;

    if (n > 2 && s[0] == '0' && s[1] == 'x') {
        base = 16;
        s += 2;
        n -= 2;
    } else if (n > 1 && s[0] == '0') {
        base = 8;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned digit = digit_value(s[i]);
        if (digit >= base)
            return false;
        value = value * base + digit;
        if (value > UINT32_MAX)
            return false;
    }
    *out = value;
    return n > 0;
}

/* All forms of inet_aton(): a, a.b, a.b.c, a.b.c.d; the last part fills the bytes left over. */
static bool parse_v4_loosely(const char *s, size_t n, struct ip_addr *out)
{
    uint64_t address = 0;
    int parts = 0;

    for (const char *end = s + n;; s++) {
        size_t length = find_any(s, (size_t)(end - s), ".");
        bool last = s + length == end;
        uint64_t part;
        if (++parts > 4 || !parse_v4_part(s, length, &part))
            return false;
        if (last ? part >> (8 * (5 - parts)) : part > 255)
            return false;
        address |= last ? part : part << (8 * (4 - parts));
        if (last)
            break;
        s += length;
    }
    *out = (struct ip_addr){.family = 4};
    for (int i = 0; i < 4; i++)
        out->bytes[i] = (uint8_t)(address >> (8 * (3 - i)));
    return true;
}

static const char *refuse_label(const char *label, size_t n)
{
    if (n == 0)
        return "the host has an empty label";
    if (n > LABEL_MAX)
        return "the host has a label longer than 63 bytes";
    for (size_t i = 0; i < n; i++) {
        if (!is_alpha(label[i]) && !is_digit(label[i]) && label[i] != '-' && label[i] != '_')
            return WHY_HOST_CHARACTER;
    }
    return NULL;
}

/* Judges a lower-case name without its final dot; an IPv4 address in any spelling goes to *ip. */
static const char *refuse_name(const char *s, size_t n, struct ip_addr *ip)
{
    size_t at = 0, length;
    const char *why;

    if (n == 0)
        return WHY_NO_HOST;
    if (n > HOST_MAX)
        return WHY_HOST_LONG;
    for (;; at += length + 1) {
        length = find_any(s + at, n - at, ".");
        why = refuse_label(s + at, length);
        if (why || at + length == n)
            break;
    }
    if (!why && hostname_is_number(s + at, length) && !parse_v4_loosely(s, n, ip))
        why = "the host ends in a number but is no IPv4 address";
    return why;
}

/* Brings the host that CURLU found into its one spelling; an address goes to *ip as well. */
static const char *normalise_host(const char *found, char host[HOST_ROOM], struct ip_addr *ip)
{
    size_t n = strlen(found);
    const char *why;

    if (n >= HOST_ROOM)
        return WHY_HOST_LONG;
    for (size_t i = 0; i <= n; i++)
        host[i] = to_lower(found[i]);
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        if (!ip_parse(host + 1, ip) || ip->family != 6)
            return WHY_NO_IPV6;
    } else {
        why = refuse_name(host, n > 1 && host[n - 1] == '.' ? n - 1 : n, ip);
        if (why)
            return why;
    }
    if (ip->family != 0)
        ip_format(ip, host);
    return NULL;
}

/* Reads the host from the handle. `plain`: it was ASCII without an escape when it was given. */
static const char *read_host(CURLU *handle, bool plain, char host[HOST_ROOM], struct ip_addr *ip)
{
    char *found = NULL;
    CURLUcode code = curl_url_get(handle, CURLUPART_HOST, &found, CURLU_PUNYCODE);
    const char *why;

    /* For a name that IDNA refuses, libcurl up to 8.17 leaves the unconverted copy behind, and up
     * to 8.0 calls it "out of memory". */
    if (code)
        why = plain ? explain_curl(code) : "the host is no valid internationalised name";
    else
        why = normalise_host(found, host, ip);
    curl_free(found);
    return why;
}

static const char *read_port(CURLU *handle, uint16_t *out)
{
    char *text;
    CURLUcode code = curl_url_get(handle, CURLUPART_PORT, &text, CURLU_DEFAULT_PORT);
    unsigned long port;

    if (code)
        return explain_curl(code);
    port = strtoul(text, NULL, 10);
    curl_free(text);
    if (port == 0 || port > UINT16_MAX)
        return WHY_PORT;
    *out = (uint16_t)port;
    return NULL;
}

static char *put(char *at, const char *s, size_t n)
{
    memcpy(at, s, n);
    return at + n;
}

/* Text and host, one after the other in one block that begins with the text. */
static bool write_block(struct url *out, const char *host, const char *path, const char *query)
{
    const struct scheme *scheme = &schemes[out->https];
    const char *open = out->ip.family == 6 ? "[" : "", *close = out->ip.family == 6 ? "]" : "";
    size_t host_size = strlen(host) + 1, path_size = strlen(path), query_size = strlen(query);
    size_t origin_size = host_size + ORIGIN_EXTRA;
    char *at = malloc(origin_size + path_size + query_size + 1 + host_size);

    if (!at)
        return false;
    out->text = at;
    at += snprintf(at, origin_size, "%s%s%s%s:%u", scheme->prefix, open, host, close,
                   (unsigned)out->port);
    if (out->port == scheme->port) /* goes without saying */
        at -= scheme->port_length;
    at = put(at, path, path_size);
    if (query_size > 0)
        at = put(at, "?", 1);
    at = put(at, query, query_size);
    *at++ = '\0';
    out->host = memcpy(at, host, host_size);
    return true;
}

/* Not CURLUPART_URL: libcurl prints it byte by byte, which is most of the cost of a long URL. */
static const char *read_rest(CURLU *handle, const char *host, struct url *out)
{
    char *path = NULL, *query = NULL;
    CURLUcode code = curl_url_get(handle, CURLUPART_PATH, &path, 0);
    const char *why;

    if (!code)
        code = curl_url_get(handle, CURLUPART_QUERY, &query, 0);
    if (code && code != CURLUE_NO_QUERY)
        why = explain_curl(code);
    else
        why = write_block(out, host, path, query ? query : "") ? NULL : url_no_memory;
    curl_free(path);
    curl_free(query);
    return why;
}

static const char *read_tame(const char *tame, bool plain, struct url *out)
{
    char host[HOST_ROOM];
    CURLU *handle = curl_url();
    CURLUcode code = handle ? curl_url_set(handle, CURLUPART_URL, tame, CURLU_DISALLOW_USER)
                            : CURLUE_OUT_OF_MEMORY;
    const char *why = code ? explain_curl(code) : read_host(handle, plain, host, &out->ip);

    if (!why)
        why = read_port(handle, &out->port);
    if (!why)
        why = read_rest(handle, host, out);
    curl_url_cleanup(handle);
    return why;
}

/* `authority` bytes of host and port follow the scheme. */
static const char *parse_parts(const char *s, size_t n, const struct scheme *scheme,
                               size_t authority, struct url *out)
{
    char on_stack[COPY_ON_STACK];
    char *tame = on_stack;
    bool plain;
    const char *why;

    if (3 * n + 1 > sizeof(on_stack))
        tame = malloc(3 * n + 1);
    if (!tame)
        return url_no_memory;
    plain = copy_tame(s, n, scheme, authority, tame);
    out->https = scheme == &schemes[true];
    why = read_tame(tame, plain, out);
    if (tame != on_stack)
        free(tame);
    return why;
}

static const char *parse(const char *s, size_t n, struct url *out)
{
    const struct scheme *scheme;
    size_t authority;
    const char *why = refuse_bytes(s, n);

    if (why)
        return why;
    scheme = find_scheme(s, n);
    if (!scheme)
        return "the URL does not begin with http:// or https://";
    authority = find_any(s + scheme->length, n - scheme->length, "/?#");
    why = refuse_authority(s + scheme->length, authority);
    return why ? why : parse_parts(s, n, scheme, authority, out);
}

bool url_parse(const char *s, size_t n, struct url *out, const char **why)
{
    memset(out, 0, sizeof(*out));
    *why = parse(s, n, out);
    if (*why)
        url_fini(out);
    return *why == NULL;
}

void url_fini(struct url *u)
{
    free(u->text);
    memset(u, 0, sizeof(*u));
}

/* --- user name and password ------------------------------------------------------------------- */

static bool has_control(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    }
    return false;
}

/* Adds user name or password as libcurl decodes it; one that is not there is empty. */
static const char *add_decoded(CURLU *handle, CURLUPart part, struct buf *out)
{
    bool is_user = part == CURLUPART_USER;
    char *text = NULL;
    CURLUcode code = curl_url_get(handle, part, &text, CURLU_URLDECODE);
    const char *why = NULL;

    if (code == CURLUE_OUT_OF_MEMORY)
        why = url_no_memory;
    else if (code == (is_user ? CURLUE_NO_USER : CURLUE_NO_PASSWORD))
        why = NULL;
    else if (code || has_control(text))
        why = "the user name or password has a control byte";
    else if (is_user && strchr(text, ':'))
        why = "the user name has a colon, which Basic credentials cannot say";
    else
        buf_add_str(out, text);
    curl_free(text);
    return why;
}

/* Of "http://USERINFO@h/". */
static const char *split_userinfo(const char *url, struct buf *out)
{
    CURLU *handle = curl_url();
    CURLUcode code = handle ? curl_url_set(handle, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;
    const char *why = NULL;

    if (code)
        why = code == CURLUE_OUT_OF_MEMORY ? url_no_memory
                                           : "the user name or password is not well-formed";
    if (!why)
        why = add_decoded(handle, CURLUPART_USER, out);
    buf_add_char(out, ':');
    if (!why)
        why = add_decoded(handle, CURLUPART_PASSWORD, out);
    curl_url_cleanup(handle);
    return why;
}

/* Only the userinfo itself is shown to libcurl: about where it ends no two may differ. */
static const char *decode_userinfo(const char *s, size_t n, struct buf *out)
{
    struct buf url;
    const char *why;

    if (n > URL_USERINFO_MAX)
        return "the user name and password are longer than 8192 bytes";
    if (memchr(s, '@', n))
        return "the user name or password has an @: percent-encode it";
    buf_init(&url, 0);
    BUF_ADD_LITERAL(&url, "http://");
    buf_add(&url, s, n);
    BUF_ADD_LITERAL(&url, "@h/");
    why = url.failed ? url_no_memory : split_userinfo(buf_cstr(&url), out);
    buf_fini(&url);
    return why ? why : out->failed ? url_no_memory : NULL;
}

bool url_read_userinfo(const char *s, size_t n, struct url_userinfo *out, struct buf *credentials,
                       const char **why)
{
    size_t begin = find_scheme(s, n)->length;
    size_t end = begin + find_any(s + begin, n - begin, "/?#");

    while (s[end - 1] != '@')
        end--;
    *out = (struct url_userinfo){.at = begin, .len = end - begin};
    *why = decode_userinfo(s + begin, end - begin - 1, credentials);
    return *why == NULL;
}

/* The length of a scheme and its colon (RFC 3986, 3.1); 0 when it does not begin with one. */
static size_t scheme_length(const char *s, size_t n)
{
    size_t i = 0;

    if (n == 0 || !is_alpha(s[0]))
        return 0;
    while (i < n && (is_alpha(s[i]) || is_digit(s[i]) || is_any(s[i], "+-.")))
        i++;
    return i < n && s[i] == ':' ? i + 1 : 0;
}

/* How much of the base stands before a relative reference (RFC 3986, 5.2.2 and 5.2.3; dot segments
 * are CURLU's). The base is normalised: it has a path, and no fragment. */
static size_t base_length(const char *base, const char *reference, size_t n)
{
    const char *authority = strchr(base, '/') + 2, *path = strchr(authority, '/');
    const char *end = path + strcspn(path, "?");

    if (n >= 2 && reference[0] == '/' && reference[1] == '/')
        return (size_t)(authority - 2 - base);
    switch (reference[0]) {
    case '/':
        return (size_t)(path - base);
    case '?':
        return (size_t)(end - base);
    case '#':
        return strlen(base);
    default:
        while (end[-1] != '/')
            end--;
        return (size_t)(end - base);
    }
}

char *url_join(const char *base, const char *location, size_t n, size_t *out_n)
{
    size_t kept;
    char *joined;

    while (n > 0 && (location[0] == ' ' || location[0] == '\t')) {
        location++;
        n--;
    }
    while (n > 0 && (location[n - 1] == ' ' || location[n - 1] == '\t'))
        n--;
    kept = n == 0 || scheme_length(location, n) > 0 ? 0 : base_length(base, location, n);
    joined = malloc(kept + n + 1);
    if (!joined)
        return NULL;
    *put(put(joined, base, kept), location, n) = '\0';
    *out_n = kept + n;
    return joined;
}

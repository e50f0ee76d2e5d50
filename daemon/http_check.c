/* SPDX-License-Identifier: MIT
 *
 * http_check - see http_check.h. The checks are called by http_exchange_head, when a request's head
 * has been read and its body has not; http_find() and http_content_length() by it, http_exchange
 * and http_routes, too. Pure, any thread.
 *
 * libmicrohttpd 0.9.75 takes two Content-Length fields, Content-Length beside Transfer-Encoding,
 * folded lines, NUL bytes and bare LF. The last three are visible only in where its strings lie in
 * memory; see check_bytes().
 */
#include "http_check.h"

#include <string.h>
#include <strings.h>

#include "cidr.h"
#include "parse.h"

const struct http_field *http_find(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->count; i++)
        if (parse_equal_nocase(head->fields[i].name, head->fields[i].name_len, name))
            return &head->fields[i];
    return NULL;
}

static size_t count_fields(const struct http_head *head, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < head->count; i++)
        n += parse_equal_nocase(head->fields[i].name, head->fields[i].name_len, name);
    return n;
}

static bool check_fields(const struct http_head *head, struct problem *p)
{
    if (head->count > HTTP_FIELDS_MAX) {
        problem_set(p, 431, "more than %d header fields", HTTP_FIELDS_MAX);
        return false;
    }
    for (size_t i = 0; i < head->count; i++) {
        const struct http_field *f = &head->fields[i];
        if (parse_is_token(f->name, f->name_len) && parse_is_field_value(f->value, f->value_len))
            continue;
        problem_set(p, 400, "header field %zu is malformed: names are tokens, values have no "
                            "control characters", i + 1);
        return false;
    }
    return true;
}

static bool is_digits(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= '0' && s[i] <= '9')
        i++;
    return n > 0 && n <= 18 && i == n;
}

static bool check_framing(const struct http_head *head, struct problem *p)
{
    const struct http_field *length = http_find(head, "Content-Length");
    const struct http_field *coding = http_find(head, "Transfer-Encoding");
    if (count_fields(head, "Content-Length") > 1 || count_fields(head, "Transfer-Encoding") > 1)
        problem_set(p, 400, "Content-Length or Transfer-Encoding stands twice");
    else if (length != NULL && coding != NULL)
        problem_set(p, 400, "both Content-Length and Transfer-Encoding");
    else if (length != NULL && !is_digits(length->value, length->value_len))
        problem_set(p, 400, "Content-Length is no number");
    else if (coding != NULL && !parse_equal_nocase(coding->value, coding->value_len, "chunked"))
        problem_set(p, 501, "Transfer-Encoding other than chunked is not supported");
    else if (coding != NULL && strcmp(head->version, "HTTP/1.1") != 0)
        problem_set(p, 400, "Transfer-Encoding needs HTTP/1.1");
    else
        return true;
    return false;
}

/* RFC 9110, 10.1.1: an expectation that is not met is better told than ignored. */
static bool check_expect(const struct http_head *head, struct problem *p)
{
    const struct http_field *f = http_find(head, "Expect");
    if (f == NULL || (count_fields(head, "Expect") == 1 &&
                      parse_equal_nocase(f->value, f->value_len, "100-continue")))
        return true;
    problem_set(p, 417, "no expectation but 100-continue is met here");
    return false;
}

/* libmicrohttpd takes all between the first blank of the line and the last one for the target, a
 * bare CR in it as well, where the next server may see the end of the line. */
static bool is_target(const char *s)
{
    while ((unsigned char)*s > 0x20 && *s != 0x7f)
        s++;
    return *s == '\0';
}

static bool check_line(const struct http_head *head, struct problem *p)
{
    bool one_one = strcmp(head->version, "HTTP/1.1") == 0;
    size_t hosts = count_fields(head, "Host");
    if (!one_one && strcmp(head->version, "HTTP/1.0") != 0)
        problem_set(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    else if (!parse_is_token(head->method, strlen(head->method)))
        problem_set(p, 400, "the method is no token");
    else if (head->target[0] != '/')
        problem_set(p, 400, "the request target must begin with /");
    else if (!is_target(head->target))
        problem_set(p, 400, "the request target has a blank or a control byte: percent-encode it");
    else if (hosts > 1 || (one_one && hosts == 0))
        problem_set(p, 400, hosts > 1 ? "Host stands twice" : "Host is missing");
    else
        return true;
    return false;
}

static size_t distance(const char *from, const char *to)
{
    return (size_t)((uintptr_t)to - (uintptr_t)from);
}

/* Blanks between colon and value; a value that was moved (a folded line) is out of any range. */
static size_t blanks_before(const struct http_field *f)
{
    return distance(f->name + f->name_len + 1, f->value);
}

/* libmicrohttpd before 1.0 takes NUL bytes, folded lines and bare LF, and shows none of them. But
 * it parses in place: each line must end two bytes (CR, LF) before the next one begins, the last in
 * two zeros, and all lines together must be what was on the wire. What cannot be seen is a NUL at a
 * line's end that makes up for the CR which a bare LF lacks: in memory all four are zeros. */
static bool check_bytes(const struct http_head *head, struct problem *p)
{
    const char *end = head->version + strlen(head->version);
    size_t line = strlen(head->method) + 1 + strlen(head->target) + 1; /* one blank after each */
    size_t sum = line + strlen(head->version) + 2 + 2;
    bool good = distance(head->method, head->version) == line;
    for (size_t i = 0; good && i < head->count; i++) {
        const struct http_field *f = &head->fields[i];
        size_t blanks = blanks_before(f);
        good = distance(end, f->name) == 2 && blanks < head->head_bytes;
        sum += f->name_len + 1 + blanks + f->value_len + 2;
        end = f->value + f->value_len;
    }
    if (!head->in_place || (good && sum == head->head_bytes && end[1] == '\0'))
        return true;
    problem_set(p, 400, "the head has NUL bytes, folded lines or lines that do not end in CR LF");
    return false;
}

bool http_check_shape(const struct http_head *head, struct problem *p)
{
    return check_fields(head, p) && check_line(head, p) && check_framing(head, p) &&
           check_bytes(head, p) && check_expect(head, p);
}

/* Cuts the port off a Host value. Returns the length of the host, brackets included. */
static size_t host_part(const char *host, size_t n)
{
    if (n > 0 && host[0] == '[') {
        const char *close = memchr(host, ']', n);
        return close != NULL ? (size_t)(close - host) + 1 : n;
    }
    const char *colon = memchr(host, ':', n);
    return colon != NULL ? (size_t)(colon - host) : n;
}

static bool is_ip_literal(const char *host, size_t n)
{
    char text[IP_TEXT_MAX];
    struct ip_addr ip;
    bool bracketed = n > 2 && host[0] == '[' && host[n - 1] == ']';
    if (bracketed) {
        host++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    return ip_parse(text, &ip) && (ip.family == 6) == bracketed;
}

static bool port_is_good(const char *rest, size_t n)
{
    return n == 0 || (rest[0] == ':' && n <= 6 && is_digits(rest + 1, n - 1));
}

bool http_check_host(const struct http_head *head, const struct str_list *hosts, struct problem *p)
{
    const struct http_field *f = http_find(head, "Host");
    if (f == NULL)
        return true; /* HTTP/1.0 without Host: nothing to rebind */
    size_t n = host_part(f->value, f->value_len);
    bool good = port_is_good(f->value + n, f->value_len - n);
    bool known = parse_equal_nocase(f->value, n, "localhost") || is_ip_literal(f->value, n);
    for (size_t i = 0; !known && i < hosts->count; i++)
        known = parse_equal_nocase(f->value, n, hosts->items[i]);
    if (good && known)
        return true;
    problem_set(p, 421, "this service does not go by the name in Host; use localhost, an IP "
                        "address, or add the name to `hosts` of the listener");
    return false;
}

static bool is_own_origin(const struct http_head *head, const struct http_field *origin)
{
    static const char scheme[] = "http://";
    const struct http_field *host = http_find(head, "Host");
    size_t n = sizeof scheme - 1;
    return host != NULL && origin->value_len == n + host->value_len &&
           strncasecmp(origin->value, scheme, n) == 0 &&
           strncasecmp(origin->value + n, host->value, host->value_len) == 0;
}

bool http_check_site(const struct http_head *head, struct problem *p)
{
    for (size_t i = 0; i < head->count; i++) {
        const struct http_field *f = &head->fields[i];
        bool bad = false;
        if (parse_equal_nocase(f->name, f->name_len, "Sec-Fetch-Site"))
            bad = !parse_equal_nocase(f->value, f->value_len, "same-origin") &&
                  !parse_equal_nocase(f->value, f->value_len, "none");
        else if (parse_equal_nocase(f->name, f->name_len, "Origin"))
            bad = !is_own_origin(head, f);
        if (!bad)
            continue;
        problem_set(p, 403, "requests that another web site caused are refused (%.*s)",
                    (int)f->name_len, f->name);
        return false;
    }
    return true;
}

int64_t http_content_length(const struct http_head *head)
{
    const struct http_field *f = http_find(head, "Content-Length");
    int64_t n = 0;
    if (f == NULL)
        return -1;
    for (size_t i = 0; i < f->value_len; i++)
        n = n * 10 + (f->value[i] - '0');
    return n;
}

/* SPDX-License-Identifier: MIT
 *
 * http_check - what is judged before a body is read: the shape of the request head (smuggling), the
 * host it was sent to (DNS rebinding), and where it came from (cross-site requests). Pure; knows no
 * libmicrohttpd.
 */
#ifndef GATHERD_HTTP_CHECK_H
#define GATHERD_HTTP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "problem.h"

#define HTTP_FIELDS_MAX 100 /* more header fields than this in a request: 431 */

struct http_field {
    const char *name, *value; /* NUL-terminated; a NUL inside shows in the byte count */
    size_t name_len, value_len;
};

struct http_head {
    const char *method, *target, *version; /* target: raw, as sent */
    const struct http_field *fields;
    size_t count;
    size_t head_bytes; /* of the whole head as it was on the wire */
    bool in_place;     /* method, version, names and values lie where they came in, in one buffer:
                        * what stood between them on the wire can be measured (libmicrohttpd before
                        * 1.0) */
};

/* The first field of that name (any case), or NULL. */
const struct http_field *http_find(const struct http_head *head, const char *name);

/* Whether the head is one that every server on the way reads alike: at most one Content-Length and
 * digits only, Transfer-Encoding at most once, exactly "chunked", not both; one Host on HTTP/1.1;
 * names are tokens; no control bytes in values; no folding, no NUL; target in origin form, without
 * blanks and control bytes; HTTP/1.0 or 1.1; nothing expected but 100-continue. False with *p =
 * 400, 417, 431, 501 or 505. */
bool http_check_shape(const struct http_head *head, struct problem *p);

/* Whether Host names this machine: localhost, any IP literal, or a name of `hosts` (port ignored).
 * Not for Unix sockets. False: 421. */
bool http_check_host(const struct http_head *head, const struct str_list *hosts, struct problem *p);

/* Refuses requests that a foreign web page caused: Sec-Fetch-Site other than same-origin and none,
 * an Origin other than http://HOST of the request. False: 403. */
bool http_check_site(const struct http_head *head, struct problem *p);

/* The declared body length; -1 = chunked or none. The shape must have been checked. */
int64_t http_content_length(const struct http_head *head);

#endif

/* SPDX-License-Identifier: MIT
 *
 * url - one parsed URL: libcurl's CURLU behind the strict rules of gatherd, so that the URL that is
 * checked is, byte for byte, the one that is fetched. Pure; a struct url belongs to one thread.
 */
#ifndef GATHERD_URL_H
#define GATHERD_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "cidr.h"

#define URL_BYTES_MAX 65536 /* longest URL taken; a Location header of 64 KiB is refused */

/* The one reason of a refusal that is not the URL's fault: "out of memory". */
extern const char url_no_memory[];

struct url {
    CURLU *handle;     /* owned; for CURLOPT_CURLU; no fragment, no userinfo. NULL: the URL is plain
                          (see url_plain.h), and text is for CURLOPT_URL */
    char *text;        /* owned; normalised URL without fragment; host and origin share its block */
    char *host;        /* lower case, punycode, IPv6 without brackets; a name keeps a final dot */
    char *origin;      /* "https://host:443", IPv6 bracketed: the key of limits and reuse */
    bool https;
    uint16_t port;
    struct ip_addr ip; /* the host as a literal, family 0 when it is a name */
};

/* Parses n bytes (NUL inside = invalid). Refused, with *why a static sentence: empty; longer than
 * URL_BYTES_MAX; any byte <= 0x20, 0x7f, backslash; scheme other than http and https (a scheme and
 * exactly two slashes are needed); userinfo; a zone id; port 0; host empty, > 253 or a label empty
 * or > 63 bytes, other than letters, digits, '-' and '_' after IDNA; anything CURLU refuses. A host
 * is judged again as an address after IDNA (fullwidth digits become 127.0.0.1); forms such as
 * 0x7f.1, 2130706433, 010.0.0.1 and 127.0.0.1. that libcurl reads as IPv4 become that address; a
 * host whose last label is a number but that is no address is refused. Bytes >= 0x80 of path and
 * query are percent-encoded, dot segments resolved, an empty query dropped.
 * On success *out is filled and must be given to url_fini(). On failure *out is empty and *why says
 * why; url_no_memory is one of the reasons. */
bool url_parse(const char *s, size_t n, struct url *out, const char **why);

/* The same by CURLU alone, without the short way for plain URLs: the handle is never NULL. */
bool url_parse_by_curl(const char *s, size_t n, struct url *out, const char **why);

/* Resolves a Location header against base (RFC 3986; blanks around it are dropped, an empty one is
 * refused), then as url_parse(). */
bool url_resolve(const struct url *base, const char *location, size_t n, struct url *out,
                 const char **why);

/* The first half of that: the would-be URL, malloc'ed, its length in *out_n; base is a normalised
 * text. NULL when memory runs out. */
char *url_join(const char *base, const char *location, size_t n, size_t *out_n);

void url_fini(struct url *u);

/* Same scheme, host and port. */
bool url_same_origin(const struct url *a, const struct url *b);

/* The text of any would-be URL without its userinfo, malloc'ed; never fails on bad URLs, NULL only
 * when memory runs out. What is between "//" and the last "@" before the next "/", "?", "#" or "\"
 * is left out, also when the URL is ill-formed; likewise where no "//" follows the scheme. */
char *url_redact(const char *s, size_t n);

#endif

/* SPDX-License-Identifier: MIT
 *
 * url - one parsed URL: libcurl's CURLU behind the strict rules of gatherd, so that the URL that is
 * checked is, byte for byte, the one that is fetched. Pure functions, any thread; for target, which
 * has a shorter way for most URLs and is what everybody else calls.
 */
#ifndef GATHERD_URL_H
#define GATHERD_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cidr.h"

#define URL_BYTES_MAX 65536 /* longest URL taken; a Location header of 64 KiB is refused */

/* The one reason of a refusal that is not the URL's fault: "out of memory". */
extern const char url_no_memory[];

/* The reason of a refusal for a user name or password; what follows may be wrong, too. */
extern const char url_has_userinfo[];

struct url {
    char *text;        /* owned; normalised URL without fragment; the host shares its block */
    char *host;        /* lower case, punycode, IPv6 without brackets; a name keeps a final dot */
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
void url_fini(struct url *u);

struct url_userinfo {
    size_t at, len; /* where it stands in the URL, the @ included */
};

/* Reads the userinfo of n bytes that url_parse() refused with url_has_userinfo, and appends
 * "user:password" (what is not there is empty), percent-decoded as libcurl does it. Refused, with
 * *why a static sentence: more than URL_USERINFO_MAX bytes; an @ in it; a control byte, or a colon
 * in the user name, after decoding: Basic credentials (RFC 7617) cannot say those. */
#define URL_USERINFO_MAX 8192
bool url_read_userinfo(const char *s, size_t n, struct url_userinfo *out, struct buf *credentials,
                       const char **why) __attribute__((warn_unused_result));

/* The would-be URL that a Location header means against base, a normalised text (RFC 3986; blanks
 * around it are dropped), malloc'ed, its length in *out_n. An empty one is left empty. NULL when
 * memory runs out. */
char *url_join(const char *base, const char *location, size_t n, size_t *out_n);

#endif

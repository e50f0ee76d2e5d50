/* SPDX-License-Identifier: MIT
 *
 * url_plain - the URLs that need no parser: those in which there is nothing to decide. A scan of
 * the bytes finds scheme, host, port and where the path begins, and says no to all that is not
 * plain, good or bad alike. Pure functions, nothing owned, any thread; for target.
 */
#ifndef GATHERD_URL_PLAIN_H
#define GATHERD_URL_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cidr.h"

/* Lengths and places are in the scanned text, which the struct does not hold. */
struct url_plain {
    bool https;
    bool normal;       /* the text is the normalised URL as it stands */
    uint16_t port;
    uint16_t host_at, host_len; /* without brackets; a name is never longer than 253 bytes */
    uint16_t rest_at;  /* of path and query; what is there may be empty or lack the first slash */
    struct ip_addr ip; /* the host as a literal, family 0 when it is a name */
};

/* Whether the n bytes are a plain URL; then fills *out. */
bool url_plain_scan(const char *s, size_t n, struct url_plain *out);

/* Whether the n bytes, of which the first is a slash, are path and query of a plain URL. */
bool url_plain_rest(const char *s, size_t n);

/* Writes the normalised URL and a NUL to out, which has n + 2 bytes. Returns its length;
 * *authority_len is how much of it stands before the path. */
size_t url_plain_text(const struct url_plain *p, const char *s, size_t n, char *out,
                      size_t *authority_len);

/* The port that goes without saying, with its colon. */
const char *url_plain_default_port(bool https);

#endif

/* SPDX-License-Identifier: MIT
 *
 * hostname - patterns for the host of a URL, as `allow_host` and `deny_host` have them: a name
 * ("api.corp.example"), all names below one ("*.corp.example", which is not corp.example itself),
 * or every host ("*"). ASCII only, any case, a final dot is ignored on both sides. Pure, any
 * thread.
 */
#ifndef GATHERD_HOSTNAME_H
#define GATHERD_HOSTNAME_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define HOSTNAME_MAX 253 /* bytes of a name without its final dot */

struct hostname_pattern {
    char text[HOSTNAME_MAX +
              1]; /* lower case; of a wildcard what follows the star: ".corp.example" */
    size_t len;
    bool wildcard;
};

/* Whether a label, in lower case, is digits, or 0x and hexadecimal digits. No top-level name is,
 * but the last part of an IPv4 address is in all its spellings; so the URL standard tells names
 * from addresses. */
bool hostname_is_number(const char *label, size_t n);

/* On failure false, and *why says what is wrong and what would be right. An address is no name. */
bool hostname_pattern_parse(const char *text, struct hostname_pattern *out, struct buf *why)
    __attribute__((warn_unused_result));

/* host: as in struct origin. */
bool hostname_pattern_matches(const struct hostname_pattern *p, const char *host);

/* < 0 when a says more than b: a whole name before a wildcard, longer before shorter. */
int hostname_pattern_compare(const struct hostname_pattern *a, const struct hostname_pattern *b);

/* Cuts "PATTERN -> REST" in two: copies the pattern, and returns where REST begins; NULL when there
 * is no arrow, or no room. */
const char *hostname_split_arrow(const char *text, char pattern[HOSTNAME_MAX + 3]);

#endif

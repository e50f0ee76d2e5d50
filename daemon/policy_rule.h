/* SPDX-License-Identifier: MIT
 *
 * policy_rule - one item of an `allow` or `deny` line: ADDRESS or PREFIX, with :PORT or :LOW-HIGH
 * behind it; IPv6 with a port is bracketed. Pure functions, for policy alone.
 */
#ifndef GATHERD_POLICY_RULE_H
#define GATHERD_POLICY_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cidr.h"
#include "hostname.h"

struct policy_rule {
    struct cidr cidr; /* a v4-mapped prefix became its IPv4 one */
    bool deny;
    bool has_port;
    uint16_t port_low, port_high; /* both ends belong to it; 0 and 65535 without a port */
    const struct hostname_pattern *host; /* it holds for these only; NULL = for all; the owner's */
    size_t order;                 /* of its line; the owner's */
    char *text;                   /* as it was written; the owner's */
};

/* Fills cidr and ports. On failure false, and what is wrong and what would be right in *why. */
bool policy_rule_parse(const char *text, struct policy_rule *out, struct buf *why);

/* PORT or LOW-HIGH, from 1 on. */
bool policy_ports_parse(const char *text, uint16_t *low, uint16_t *high)
    __attribute__((warn_unused_result));

/* In this order the first match decides: longer prefixes, then those with a port, then deny. */
int policy_rule_compare(const void *a, const void *b);

bool policy_rule_matches(const struct policy_rule *r, const struct ip_addr *ip, uint16_t port);

/* Whether the prefix holds any address of ip's family that has its first byte. */
bool policy_touches(const struct cidr *c, const struct ip_addr *ip);

/* Turns a v4-mapped IPv6 address into its IPv4 one; false, and nothing is done, for all others. */
bool policy_unmap(struct ip_addr *ip);

#endif

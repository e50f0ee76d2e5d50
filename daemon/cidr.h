/* SPDX-License-Identifier: MIT
 *
 * cidr - IP addresses and prefixes as plain values: parse, print, match, and find the IPv4 address
 * that an IPv6 address embeds. Pure functions, no resolver.
 */
#ifndef GATHERD_CIDR_H
#define GATHERD_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct ip_addr {
    uint8_t family;    /* 4 or 6; 0 = none */
    uint8_t bytes[16]; /* network order; IPv4 uses the first four */
};

struct cidr {
    struct ip_addr addr; /* host bits are zero */
    uint8_t bits;        /* 0-32 or 0-128 */
};

#define IP_TEXT_MAX 46 /* INET6_ADDRSTRLEN: "ffff:...:255.255.255.255" with its NUL */

/* A literal: dotted quad of four decimal octets (no leading zeros, no octal or hex) or RFC 4291
 * text without brackets or zone. */
bool ip_parse(const char *s, struct ip_addr *out);

/* Canonical text (RFC 5952); text has IP_TEXT_MAX bytes. Returns text; "" for family 0. */
const char *ip_format(const struct ip_addr *ip, char text[IP_TEXT_MAX]);

/* To and from socket addresses. from: false when the family is neither AF_INET nor AF_INET6.
 * to: returns the length. */
bool ip_from_sockaddr(const struct sockaddr *sa, struct ip_addr *out, uint16_t *port);
socklen_t ip_to_sockaddr(const struct ip_addr *ip, uint16_t port, struct sockaddr_storage *out);

bool ip_equal(const struct ip_addr *a, const struct ip_addr *b);

/* 127.0.0.0/8 or ::1; a v4-mapped address is none. */
bool ip_is_loopback(const struct ip_addr *ip);

/* "10.0.0.0/8", "fc00::/7", or a bare address (= /32, /128). Host bits that are set are refused. */
bool cidr_parse(const char *s, struct cidr *out);

/* Whether ip lies in c. An IPv4 prefix never holds an IPv6 address: unwrap first. */
bool cidr_contains(const struct cidr *c, const struct ip_addr *ip);

/* "10.0.0.0/8" into text (IP_TEXT_MAX + 4 bytes). */
const char *cidr_format(const struct cidr *c, char text[IP_TEXT_MAX + 4]);

/* The IPv4 addresses embedded in an IPv6 one: v4-mapped ::ffff/96, v4-compatible ::/96 (but not ::
 * and ::1, which are no IPv4), SIIT ::ffff:0:0/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48 (by
 * each of the layouts of RFC 6052 for a prefix of 48, 56, 64 and 96 bits, as none can be told from
 * the others), 6to4 2002::/16, Teredo 2001::/32 (server and client), ISATAP ...:0:5efe:a.b.c.d and
 * 200:5efe. Returns how many were written. */
#define IP_EMBEDDED_MAX 4
int ip_embedded_v4(const struct ip_addr *ip, struct ip_addr out[IP_EMBEDDED_MAX]);

#endif

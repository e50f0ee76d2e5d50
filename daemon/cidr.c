/* SPDX-License-Identifier: MIT
 *
 * cidr - IP addresses and prefixes as plain values. The policy judges by them, the resolver and the
 * engine carry them, the configuration spells them. Pure: no state, any thread, no allocation.
 *
 * Text goes through inet_pton() and inet_ntop(), which are strict in both directions (no octal, no
 * leading zeros, no zone), so that what is printed is what is matched.
 *
 * The part that needs care is ip_embedded_v4(): an IPv6 address may be a letter addressed to an
 * IPv4 one. Where a form leaves room for several readings (a NAT64 prefix of one's own), all are
 * returned, and who judges must be content with each.
 */
#include "cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

bool ip_parse(const char *s, struct ip_addr *out)
{
    struct ip_addr ip = {0};

    if (inet_pton(AF_INET, s, ip.bytes) == 1)
        ip.family = 4;
    else if (inet_pton(AF_INET6, s, ip.bytes) == 1)
        ip.family = 6;
    else
        return false;
    *out = ip;
    return true;
}

const char *ip_format(const struct ip_addr *ip, char text[IP_TEXT_MAX])
{
    text[0] = '\0';
    if (ip->family == 4)
        inet_ntop(AF_INET, ip->bytes, text, IP_TEXT_MAX);
    else if (ip->family == 6)
        inet_ntop(AF_INET6, ip->bytes, text, IP_TEXT_MAX);
    return text;
}

bool ip_from_sockaddr(const struct sockaddr *sa, struct ip_addr *out, uint16_t *port)
{
    struct ip_addr ip = {0};
    in_port_t wire;

    /* Copied, not cast: the caller's bytes may lie in a struct sockaddr of any alignment. */
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        ip.family = 4;
        memcpy(ip.bytes, &in.sin_addr, 4);
        wire = in.sin_port;
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        ip.family = 6;
        memcpy(ip.bytes, &in6.sin6_addr, 16);
        wire = in6.sin6_port;
    } else {
        return false;
    }
    *out = ip;
    if (port)
        *port = ntohs(wire);
    return true;
}

socklen_t ip_to_sockaddr(const struct ip_addr *ip, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (ip->family == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, ip->bytes, 4);
        memcpy(out, &in, sizeof(in));
        return sizeof(in);
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, ip->bytes, 16);
    memcpy(out, &in6, sizeof(in6));
    return sizeof(in6);
}

static size_t ip_length(const struct ip_addr *ip)
{
    return ip->family == 4 ? 4 : ip->family == 6 ? 16 : 0;
}

bool ip_equal(const struct ip_addr *a, const struct ip_addr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_length(a)) == 0;
}

bool ip_is_loopback(const struct ip_addr *ip)
{
    static const struct ip_addr one = {6, {[15] = 1}};

    return ip->family == 4 ? ip->bytes[0] == 127 : ip_equal(ip, &one);
}

/* The first `bits` bits alone. */
static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    size_t whole = bits / 8;
    unsigned rest = bits % 8;

    /* Most prefixes of a table differ from the address in its first byte. */
    if (whole > 0 && (a[0] != b[0] || memcmp(a, b, whole) != 0))
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool host_bits_are_zero(const struct ip_addr *ip, unsigned bits)
{
    for (unsigned bit = bits; bit < ip_length(ip) * 8; bit++) {
        if (ip->bytes[bit / 8] & (0x80 >> (bit % 8)))
            return false;
    }
    return true;
}

static bool parse_bits(const char *s, unsigned max, uint8_t *out)
{
    unsigned value = 0;
    size_t n = strlen(s);

    if (n == 0 || n > 3 || (n > 1 && s[0] == '0'))
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        value = value * 10 + (unsigned)(*s - '0');
    }
    if (value > max)
        return false;
    *out = (uint8_t)value;
    return true;
}

bool cidr_parse(const char *s, struct cidr *out)
{
    char text[IP_TEXT_MAX];
    const char *slash = strchr(s, '/');
    size_t n = slash ? (size_t)(slash - s) : strlen(s);
    struct cidr c = {0};

    if (n >= sizeof(text))
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    if (!ip_parse(text, &c.addr))
        return false;
    c.bits = (uint8_t)(ip_length(&c.addr) * 8);
    if (slash && !parse_bits(slash + 1, c.bits, &c.bits))
        return false;
    if (!host_bits_are_zero(&c.addr, c.bits))
        return false;
    *out = c;
    return true;
}

bool cidr_contains(const struct cidr *c, const struct ip_addr *ip)
{
    return c->addr.family == ip->family && ip->family != 0 &&
           same_prefix(c->addr.bytes, ip->bytes, c->bits);
}

const char *cidr_format(const struct cidr *c, char text[IP_TEXT_MAX + 4])
{
    char addr[IP_TEXT_MAX];

    snprintf(text, IP_TEXT_MAX + 4, "%s/%u", ip_format(&c->addr, addr), (unsigned)c->bits);
    return text;
}

static void put_v4(struct ip_addr *out, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    *out = (struct ip_addr){.family = 4, .bytes = {a, b, c, d}};
}

/* 64:ff9b:1::/48 is for each network to divide (RFC 8215): its translator's prefix is all of it, or
 * a /56, /64 or /96 within. Where the address is then (RFC 6052) leaves byte 8 out, and what
 * follows the address is ignored, so that no byte tells which one is meant. Only 0.0.0.0/8, which
 * no translator sends to, is not; but for an address that has nothing else. */
static int embedded_in_local_nat64(const uint8_t *b, struct ip_addr out[IP_EMBEDDED_MAX])
{
    static const uint8_t layouts[][4] = {{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}};
    int n = 0;

    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        const uint8_t *at = layouts[i];
        if (b[at[0]] != 0)
            put_v4(&out[n++], b[at[0]], b[at[1]], b[at[2]], b[at[3]]);
    }
    if (b[12] != 0 || n == 0)
        put_v4(&out[n++], b[12], b[13], b[14], b[15]);
    return n;
}

/* Teredo names its server, and the client behind it with all bits turned over (RFC 4380). */
static int embedded_in_teredo(const uint8_t *b, struct ip_addr out[IP_EMBEDDED_MAX])
{
    put_v4(&out[0], b[4], b[5], b[6], b[7]);
    put_v4(&out[1], b[12] ^ 0xff, b[13] ^ 0xff, b[14] ^ 0xff, b[15] ^ 0xff);
    return 2;
}

/* The blocks that carry an IPv4 address in the last four bytes. */
static bool ends_in_v4(const uint8_t *b)
{
    static const uint8_t blocks[][12] = {
        {[10] = 0xff, [11] = 0xff},           /* v4-mapped ::ffff:0:0/96 */
        {[8] = 0xff, [9] = 0xff},             /* SIIT ::ffff:0:0:0/96 */
        {[1] = 0x64, [2] = 0xff, [3] = 0x9b}, /* NAT64 64:ff9b::/96 */
        {0},                                  /* v4-compatible ::/96 */
    };
    static const uint8_t unspecified_or_loopback[15];

    if (memcmp(b, unspecified_or_loopback, 15) == 0 && b[15] <= 1)
        return false;
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        if (memcmp(b, blocks[i], 12) == 0)
            return true;
    }
    return false;
}

static bool is_isatap(const uint8_t *b)
{
    return (b[8] == 0x00 || b[8] == 0x02) && b[9] == 0x00 && b[10] == 0x5e && b[11] == 0xfe;
}

int ip_embedded_v4(const struct ip_addr *ip, struct ip_addr out[IP_EMBEDDED_MAX])
{
    static const uint8_t local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};
    static const uint8_t teredo[4] = {0x20, 0x01, 0x00, 0x00};
    const uint8_t *b = ip->bytes;
    int n = 0;

    if (ip->family != 6)
        return 0;
    if (memcmp(b, local_nat64, sizeof(local_nat64)) == 0)
        return embedded_in_local_nat64(b, out);
    if (memcmp(b, teredo, sizeof(teredo)) == 0)
        return embedded_in_teredo(b, out);
    if (b[0] == 0x20 && b[1] == 0x02)
        put_v4(&out[n++], b[2], b[3], b[4], b[5]);
    if (ends_in_v4(b) || is_isatap(b))
        put_v4(&out[n++], b[12], b[13], b[14], b[15]);
    return n;
}

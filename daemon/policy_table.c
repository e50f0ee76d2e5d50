/* SPDX-License-Identifier: MIT
 *
 * policy_table - the IANA IPv4 and IPv6 special-purpose address registries of 2026-07-18, row by
 * row in their order, so that they can be laid beside the originals
 * (iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry). Read by policy
 * for each address; constant, any thread.
 *
 * "Globally Reachable" True became GLOBAL; False, N/A and empty (deprecated blocks) became SPECIAL,
 * or PRIVATE where `base = private` opens it. Rows of our own stand at the end: the whole of each
 * address space, multicast, and blocks that IPv6 once had. IPv6 is global within 2000::/3 only, for
 * nothing else is handed out; that is why 64:ff9b::/96, True in the registry, is SPECIAL here.
 *
 * The most specific row wins, wherever it stands. All rows are looked at: most are told by the
 * first byte, and 30 such comparisons cost less than a search tree.
 */
#include "policy_table.h"

#include <stddef.h>

#include "policy_rule.h"

#define V4(a, b, c, d, length, class, name) \
    {{{4, {a, b, c, d}}, length}, ADDRESS_##class, name}

#define GROUP(g) (g) >> 8, (g) & 0xff
#define V6(a, b, c, d, e, f, g, h, length, class, name) \
    {{{6, {GROUP(a), GROUP(b), GROUP(c), GROUP(d), GROUP(e), GROUP(f), GROUP(g), GROUP(h)}}, \
      length}, ADDRESS_##class, name}

static const struct address_block table_v4[] = {
    V4(0, 0, 0, 0, 8, SPECIAL, "this network"),
    V4(0, 0, 0, 0, 32, SPECIAL, "this host on this network"),
    V4(10, 0, 0, 0, 8, PRIVATE, "private-use"),
    V4(100, 64, 0, 0, 10, PRIVATE, "shared address space"),
    V4(127, 0, 0, 0, 8, SPECIAL, "loopback"),
    V4(169, 254, 0, 0, 16, SPECIAL, "link local"),
    V4(172, 16, 0, 0, 12, PRIVATE, "private-use"),
    V4(192, 0, 0, 0, 24, SPECIAL, "IETF protocol assignments"),
    V4(192, 0, 0, 0, 29, SPECIAL, "IPv4 service continuity prefix"),
    V4(192, 0, 0, 8, 32, SPECIAL, "IPv4 dummy address"),
    V4(192, 0, 0, 9, 32, GLOBAL, "port control protocol anycast"),
    V4(192, 0, 0, 10, 32, GLOBAL, "traversal using relays around NAT anycast"),
    V4(192, 0, 0, 170, 32, SPECIAL, "NAT64/DNS64 discovery"),
    V4(192, 0, 0, 171, 32, SPECIAL, "NAT64/DNS64 discovery"),
    V4(192, 0, 2, 0, 24, SPECIAL, "documentation (TEST-NET-1)"),
    V4(192, 31, 196, 0, 24, GLOBAL, "AS112-v4"),
    V4(192, 52, 193, 0, 24, GLOBAL, "AMT"),
    V4(192, 88, 99, 0, 24, SPECIAL, "deprecated (6to4 relay anycast)"),
    V4(192, 88, 99, 2, 32, SPECIAL, "6a44-relay anycast address"),
    V4(192, 168, 0, 0, 16, PRIVATE, "private-use"),
    V4(192, 175, 48, 0, 24, GLOBAL, "direct delegation AS112 service"),
    V4(198, 18, 0, 0, 15, SPECIAL, "benchmarking"),
    V4(198, 51, 100, 0, 24, SPECIAL, "documentation (TEST-NET-2)"),
    V4(203, 0, 113, 0, 24, SPECIAL, "documentation (TEST-NET-3)"),
    V4(240, 0, 0, 0, 4, SPECIAL, "reserved"),
    V4(255, 255, 255, 255, 32, SPECIAL, "limited broadcast"),
    V4(224, 0, 0, 0, 4, SPECIAL, "multicast"),
    V4(0, 0, 0, 0, 0, GLOBAL, "global unicast"),
};

static const struct address_block table_v6[] = {
    V6(0, 0, 0, 0, 0, 0, 0, 1, 128, SPECIAL, "loopback address"),
    V6(0, 0, 0, 0, 0, 0, 0, 0, 128, SPECIAL, "unspecified address"),
    V6(0, 0, 0, 0, 0, 0xffff, 0, 0, 96, SPECIAL, "IPv4-mapped address"),
    V6(0x64, 0xff9b, 0, 0, 0, 0, 0, 0, 96, SPECIAL, "IPv4-IPv6 translation"),
    V6(0x64, 0xff9b, 1, 0, 0, 0, 0, 0, 48, SPECIAL, "IPv4-IPv6 translation"),
    V6(0x100, 0, 0, 0, 0, 0, 0, 0, 64, SPECIAL, "discard-only address block"),
    V6(0x100, 0, 0, 1, 0, 0, 0, 0, 64, SPECIAL, "dummy IPv6 prefix"),
    V6(0x2001, 0, 0, 0, 0, 0, 0, 0, 23, SPECIAL, "IETF protocol assignments"),
    V6(0x2001, 0, 0, 0, 0, 0, 0, 0, 32, SPECIAL, "Teredo"),
    V6(0x2001, 1, 0, 0, 0, 0, 0, 1, 128, GLOBAL, "port control protocol anycast"),
    V6(0x2001, 1, 0, 0, 0, 0, 0, 2, 128, GLOBAL, "traversal using relays around NAT anycast"),
    V6(0x2001, 1, 0, 0, 0, 0, 0, 3, 128, GLOBAL, "DNS-SD service registration protocol anycast"),
    V6(0x2001, 2, 0, 0, 0, 0, 0, 0, 48, SPECIAL, "benchmarking"),
    V6(0x2001, 3, 0, 0, 0, 0, 0, 0, 32, GLOBAL, "AMT"),
    V6(0x2001, 4, 0x112, 0, 0, 0, 0, 0, 48, GLOBAL, "AS112-v6"),
    V6(0x2001, 0x10, 0, 0, 0, 0, 0, 0, 28, SPECIAL, "deprecated (previously ORCHID)"),
    V6(0x2001, 0x20, 0, 0, 0, 0, 0, 0, 28, GLOBAL, "ORCHIDv2"),
    V6(0x2001, 0x30, 0, 0, 0, 0, 0, 0, 28, GLOBAL, "drone remote ID protocol entity tags"),
    V6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0, 32, SPECIAL, "documentation"),
    V6(0x2002, 0, 0, 0, 0, 0, 0, 0, 16, SPECIAL, "6to4"),
    V6(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0, 48, GLOBAL, "direct delegation AS112 service"),
    V6(0x3fff, 0, 0, 0, 0, 0, 0, 0, 20, SPECIAL, "documentation"),
    V6(0x5f00, 0, 0, 0, 0, 0, 0, 0, 16, SPECIAL, "segment routing (SRv6) SIDs"),
    V6(0xfc00, 0, 0, 0, 0, 0, 0, 0, 7, PRIVATE, "unique-local"),
    V6(0xfe80, 0, 0, 0, 0, 0, 0, 0, 10, SPECIAL, "link-local unicast"),
    V6(0xfec0, 0, 0, 0, 0, 0, 0, 0, 10, SPECIAL, "site-local (deprecated)"),
    V6(0xff00, 0, 0, 0, 0, 0, 0, 0, 8, SPECIAL, "multicast"),
    V6(0, 0, 0, 0, 0, 0, 0, 0, 96, SPECIAL, "IPv4-compatible (deprecated)"),
    V6(0, 0, 0, 0, 0xffff, 0, 0, 0, 96, SPECIAL, "IPv4-translated (SIIT)"),
    V6(0x2000, 0, 0, 0, 0, 0, 0, 0, 3, GLOBAL, "global unicast"),
    V6(0, 0, 0, 0, 0, 0, 0, 0, 0, SPECIAL, "outside of 2000::/3"),
};

/* They hand out credentials to whoever asks from within; some lie in address space that is public
 * or that a preset opens. As cloud-init and the clouds' own clients have them; of fd00:ec2::/32,
 * where only AWS puts services (::254 instances, ::23 EKS pods), all is taken for one. */
static const struct cidr metadata[] = {
    {{4, {168, 63, 129, 16}}, 32},   /* Azure's wire server */
    {{4, {169, 254, 169, 254}}, 32}, /* nearly all */
    {{4, {169, 254, 169, 252}}, 32}, /* Google GKE, on the node */
    {{4, {169, 254, 170, 2}}, 32},   /* AWS ECS tasks */
    {{4, {169, 254, 170, 23}}, 32},  /* AWS EKS pods */
    {{4, {169, 254, 42, 42}}, 32},   /* Scaleway */
    {{4, {169, 254, 0, 23}}, 32},    /* Tencent */
    {{4, {100, 100, 100, 200}}, 32}, /* Alibaba */
    {{4, {192, 0, 0, 192}}, 32},     /* Oracle Classic */
    {{6, {GROUP(0xfd00), GROUP(0xec2)}}, 32},
    {{6, {GROUP(0xfd20), GROUP(0xce), [14] = GROUP(0x254)}}, 128},                   /* Google */
    {{6, {GROUP(0xfd00), GROUP(0xc1), [12] = GROUP(0xa9fe), GROUP(0xa9fe)}}, 128},   /* Oracle */
    {{6, {GROUP(0xfd00), GROUP(0x100), [12] = GROUP(0x100), GROUP(0x200)}}, 128},    /* Alibaba */
    {{6, {GROUP(0xfd00), GROUP(0x42), [14] = GROUP(0x42)}}, 128},                    /* Scaleway */
    {{6, {GROUP(0xfd00), GROUP(0xa9fe), GROUP(0xa9fe), [14] = GROUP(1)}}, 128},      /* Akamai */
    {{6, {GROUP(0xfe80), [12] = GROUP(0xa9fe), GROUP(0xa9fe)}}, 128},                /* OpenStack */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What most rows differ in already. */
static bool first_byte_fits(const struct cidr *c, const struct ip_addr *ip)
{
    return c->bits < 8 || c->addr.bytes[0] == ip->bytes[0];
}

static const struct address_block *table_of(const struct ip_addr *ip, size_t *count)
{
    *count = ip->family == 4 ? COUNT(table_v4) : COUNT(table_v6);
    return ip->family == 4 ? table_v4 : table_v6;
}

const struct address_block *policy_table_find(const struct ip_addr *ip)
{
    size_t count;
    const struct address_block *table = table_of(ip, &count), *best = NULL;

    for (size_t i = 0; i < count; i++) {
        if (first_byte_fits(&table[i].cidr, ip) && cidr_contains(&table[i].cidr, ip) &&
            (!best || table[i].cidr.bits > best->cidr.bits))
            best = &table[i];
    }
    return best;
}

bool policy_table_is_open(const struct ip_addr *ip)
{
    size_t count;
    const struct address_block *table = table_of(ip, &count);
    unsigned whole = 0; /* length of the most specific block that holds them all */

    for (size_t i = 0; i < count; i++) {
        unsigned bits = table[i].cidr.bits;
        if (bits <= 8 && bits > whole && policy_touches(&table[i].cidr, ip))
            whole = bits;
    }
    for (size_t i = 0; i < count; i++) {
        if (table[i].cidr.bits >= whole && table[i].class != ADDRESS_GLOBAL &&
            policy_touches(&table[i].cidr, ip))
            return false;
    }
    for (size_t i = 0; i < COUNT(metadata); i++) {
        if (policy_touches(&metadata[i], ip))
            return false;
    }
    return true;
}

bool policy_table_is_metadata(const struct ip_addr *ip)
{
    for (size_t i = 0; i < COUNT(metadata); i++) {
        if (first_byte_fits(&metadata[i], ip) && cidr_contains(&metadata[i], ip))
            return true;
    }
    return false;
}

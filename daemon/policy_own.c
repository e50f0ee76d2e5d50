/* SPDX-License-Identifier: MIT
 *
 * policy_own - the addresses at which gatherd itself listens, which no policy lets it dial: a batch
 * that asks for its own daemon could fill it by itself. Told at start and at each reload, asked for
 * each address that is judged. Owned by the policy.
 *
 * A listener on 0.0.0.0 or :: is every address that the machine has. Those of its interfaces are
 * read here. One that it gets later, and those of local prefixes and routes, only the kernel knows:
 * it is asked when such a port is dialled at an address that is not listed (policy_check_self()).
 */
#include "policy_internal.h"

#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>

static bool add_own(struct policy *p, const struct ip_addr *ip, unsigned bits, uint16_t port)
{
    if (p->own_count == p->own_room) {
        size_t room = p->own_room ? 2 * p->own_room : 16;
        struct policy_own *own = realloc(p->own, room * sizeof(*own));
        if (!own)
            return false;
        p->own = own;
        p->own_room = room;
    }
    p->own[p->own_count++] = (struct policy_own){.cidr = {*ip, (uint8_t)bits}, .port = port};
    return true;
}

static bool add_own_address(struct policy *p, struct ip_addr ip, uint16_t port)
{
    policy_unmap(&ip);
    return add_own(p, &ip, ip.family == 4 ? 32 : 128, port);
}

static bool is_unspecified(const struct ip_addr *ip)
{
    static const struct ip_addr zero;

    return memcmp(ip->bytes, zero.bytes, sizeof(zero.bytes)) == 0;
}

/* A wildcard of either family counts for both: whether an IPv6 socket takes IPv4 as well is set
 * per socket, and the address of a listener that does not exist is no loss. */
static bool add_own_wildcard(struct policy *p, uint16_t port)
{
    static const struct ip_addr loopback4 = {4, {127}}, loopback6 = {6, {[15] = 1}};
    static const struct ip_addr everywhere = {0};
    struct ifaddrs *list;
    struct ip_addr ip;
    bool ok = add_own(p, &loopback4, 8, port) && add_own(p, &loopback6, 128, port) &&
              add_own(p, &everywhere, 0, port);

    if (!ok || getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i && ok; i = i->ifa_next) {
        if (i->ifa_addr && ip_from_sockaddr(i->ifa_addr, &ip, NULL))
            ok = add_own_address(p, ip, port);
    }
    freeifaddrs(list);
    return ok;
}

bool policy_own_set(struct policy *p, const struct policy_endpoint *own, size_t count)
{
    p->own_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct ip_addr ip = own[i].addr;
        policy_unmap(&ip);
        if (!(is_unspecified(&ip) ? add_own_wildcard(p, own[i].port)
                                  : add_own_address(p, ip, own[i].port)))
            return false;
    }
    return true;
}

bool policy_is_taken_home(const struct ip_addr *dialled, struct ip_addr *out)
{
    if (dialled->family == 0 || !is_unspecified(dialled))
        return false;
    *out = dialled->family == 4 ? (struct ip_addr){4, {127, 0, 0, 1}}
                                : (struct ip_addr){6, {[15] = 1}};
    return true;
}

bool policy_is_own(const struct policy *p, const struct ip_addr *dialled, uint16_t port)
{
    struct ip_addr ip;

    if (!policy_is_taken_home(dialled, &ip))
        ip = *dialled;
    for (size_t i = 0; i < p->own_count; i++) {
        if (p->own[i].port == port && cidr_contains(&p->own[i].cidr, &ip))
            return true;
    }
    return false;
}

bool policy_check_self(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                       struct verdict *v)
{
    for (size_t i = 0; i < p->own_count; i++) {
        if (p->own[i].port != port || p->own[i].cidr.addr.family != 0)
            continue;
        policy_say_self(v, ip, port);
        return false;
    }
    return true;
}

/* SPDX-License-Identifier: MIT
 *
 * local - see local.h. Asked by transfer_connect before a connection to a port at which gatherd
 * listens on all addresses, which is rare; owns nothing.
 *
 * One question to rtnetlink, RTM_GETROUTE: its answer stands in the socket when send() returns. A
 * trial bind() would say less: it takes no address of a local prefix of IPv6, and every one where
 * ip_nonlocal_bind is set.
 */
#include "local.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

struct question {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attribute;
    uint8_t address[16];
};

struct answer {
    struct nlmsghdr head;
    struct rtmsg route; /* of an error: struct nlmsgerr */
    uint8_t rest[1024];
};

static bool ask(int fd, int family, const uint8_t *address, size_t n, struct answer *out)
{
    struct question q = {
        .head = {.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(n)),
                 .nlmsg_type = RTM_GETROUTE,
                 .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = (uint8_t)family, .rtm_dst_len = (uint8_t)(8 * n)},
        .attribute = {.rta_len = (uint16_t)RTA_LENGTH(n), .rta_type = RTA_DST},
    };

    memcpy(q.address, address, n);
    if (send(fd, &q, q.head.nlmsg_len, 0) != (ssize_t)q.head.nlmsg_len)
        return false;
    ssize_t got = recv(fd, out, sizeof(*out), MSG_DONTWAIT);
    return got >= (ssize_t)NLMSG_LENGTH(sizeof(struct rtmsg));
}

bool local_is_here(const struct ip_addr *ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool v6 = ip->family == 6 && memcmp(ip->bytes, mapped, sizeof(mapped)) != 0;
    const uint8_t *address = ip->family == 6 && !v6 ? ip->bytes + sizeof(mapped) : ip->bytes;
    struct answer a;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        return true;
    bool known = ask(fd, v6 ? AF_INET6 : AF_INET, address, v6 ? 16 : 4, &a);
    close(fd);
    if (!known)
        return true;
    /* An error says that no route leads there. */
    return a.head.nlmsg_type == RTM_NEWROUTE &&
           (a.route.rtm_type == RTN_LOCAL || a.route.rtm_type == RTN_ANYCAST);
}

/* SPDX-License-Identifier: MIT
 *
 * local - see local.h. Asked by transfer_connect before a connection to a port at which gatherd
 * listens on all addresses, which is rare; each engine has one, and it owns a descriptor.
 *
 * One question to rtnetlink, RTM_GETROUTE: its answer stands in the socket when send() returns. A
 * trial bind() would say less: it takes no address of a local prefix of IPv6, and every one where
 * ip_nonlocal_bind is set. Not by recv(): within libcurl's calls that one is bounded, and has no
 * bytes of another socket than the one that is served (curl_uv_recv.h).
 */
#include "local.h"

#include <errno.h>
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
    union {
        struct rtmsg route;
        struct nlmsgerr error;
        uint8_t rest[1024];
    };
};

/* Bound now and not by its first question, to be seen for what it is in /proc/net/netlink. */
void local_init(struct local *l)
{
    const struct sockaddr_nl any = {.nl_family = AF_NETLINK};

    l->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    l->asked = 0;
    if (l->fd >= 0 && bind(l->fd, (const struct sockaddr *)&any, sizeof(any)) != 0)
        local_fini(l);
}

void local_fini(struct local *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

static bool ask(struct local *l, int family, const uint8_t *address, size_t n, struct answer *out)
{
    struct question q = {
        .head = {.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(n)),
                 .nlmsg_type = RTM_GETROUTE,
                 .nlmsg_flags = NLM_F_REQUEST,
                 .nlmsg_seq = ++l->asked},
        .route = {.rtm_family = (uint8_t)family, .rtm_dst_len = (uint8_t)(8 * n)},
        .attribute = {.rta_len = (uint16_t)RTA_LENGTH(n), .rta_type = RTA_DST},
    };

    memcpy(q.address, address, n);
    if (send(l->fd, &q, q.head.nlmsg_len, 0) != (ssize_t)q.head.nlmsg_len)
        return false;
    for (;;) { /* what is older was left by a question that failed */
        ssize_t got = recvfrom(l->fd, out, sizeof(*out), 0, NULL, NULL);
        if (got < (ssize_t)NLMSG_LENGTH(sizeof(struct rtmsg)))
            return false;
        if (out->head.nlmsg_seq == l->asked)
            return true;
    }
}

bool local_is_here(struct local *l, const struct ip_addr *ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool v6 = ip->family == 6 && memcmp(ip->bytes, mapped, sizeof(mapped)) != 0;
    const uint8_t *address = ip->family == 6 && !v6 ? ip->bytes + sizeof(mapped) : ip->bytes;
    struct answer a;

    if (l->fd < 0)
        local_init(l);
    if (l->fd < 0 || !ask(l, v6 ? AF_INET6 : AF_INET, address, v6 ? 16 : 4, &a))
        return true;
    if (a.head.nlmsg_type == NLMSG_ERROR) /* no route leads there, or the kernel could not look */
        return a.error.error == -ENOBUFS || a.error.error == -ENOMEM;
    return a.head.nlmsg_type == RTM_NEWROUTE &&
           (a.route.rtm_type == RTN_LOCAL || a.route.rtm_type == RTN_ANYCAST);
}

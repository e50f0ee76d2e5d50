/* SPDX-License-Identifier: MIT
 *
 * resolve_ares - one c-ares channel on the loop: its sockets, its timer, its answers as plain
 * values. No cache and no bounds: that is resolve's part, the only user.
 *
 * A channel reads resolv.conf once, when it is made, and never again but for a name whose answer is
 * too long for UDP. There is no way to cancel one question: it is answered, or the channel is
 * closed.
 */
#ifndef GATHERD_RESOLVE_ARES_H
#define GATHERD_RESOLVE_ARES_H

#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "resolve.h"

#define RESOLVE_ARES_STREAMS 16 /* names asked for over TCP at a time: a descriptor each */

struct resolve_ares;

/* Embedded by the owner of a look-up; must live until it is answered or the channel closed. */
struct resolve_question {
    struct resolve_ares *channel;
    const char *name;
    struct list node;  /* while it waits to be asked once more */
    uint64_t until_ms; /* loop time: how long it may wait for that over TCP */
    bool asked_again;
    unsigned closed_before; /* the channel's count of closed sockets when it was asked */
};

struct resolve_ares_params {
    uv_loop_t *loop;
    const char *const *servers; /* as in resolve.h; count 0 = resolv_conf */
    size_t server_count;
    const char *resolv_conf; /* path */
    uint16_t port;           /* of servers that name none */

    /* A question's answer, good for ttl_s seconds (1 to 3600). Called from inside c-ares, also from
     * inside resolve_ares_ask(): may only take note, and calls neither ask nor close. */
    void (*answered)(struct resolve_question *question, const struct resolve_answer *answer,
                     int ttl_s);
    void (*closed)(void *arg);
    void *arg;
};

/* Borrows the params' strings until it is closed. NULL and *why (static) when it fails. */
struct resolve_ares *resolve_ares_create(const struct resolve_ares_params *params,
                                         const char **why);

/* Drops what is in flight without answers; `closed` is called when the last handle is closed and
 * the memory is free. */
void resolve_ares_close(struct resolve_ares *c);

/* Borrows the name until it is answered. */
void resolve_ares_ask(struct resolve_ares *c, struct resolve_question *question, const char *name);

/* Addresses as they come, of each family as many as an answer holds. Set both counts to 0 first. */
struct resolve_families {
    size_t v4_count, v6_count;
    struct ip_addr v4[RESOLVE_ADDRESSES_MAX], v6[RESOLVE_ADDRESSES_MAX];
};
void resolve_families_add(struct resolve_families *f, const struct ip_addr *ip);

/* An answer of them in the order that resolve.h tells. */
void resolve_ares_order(struct resolve_ares *c, const struct resolve_families *f,
                        struct resolve_answer *out);

size_t resolve_ares_in_flight(const struct resolve_ares *c);

/* A node for its owner's use; and back. */
struct list *resolve_ares_node(struct resolve_ares *c);
struct resolve_ares *resolve_ares_of_node(struct list *node);

#endif

/* SPDX-License-Identifier: MIT
 *
 * resolve - names to addresses by c-ares on the loop: no threads, real time-outs, TTLs, /etc/hosts.
 *
 * One look-up per name is in flight, whoever waits for it; answers are kept by name for their TTL
 * (clamped to 1 s .. 1 h; "no such name" 5 s; failures 1 s) in a resolve_cache, 10,000 names at
 * most. Resolvers of several loops may share one: a name that two of them want at the same moment
 * is asked for twice, no more.
 *
 * At most `lookups` names are in flight; one that is older than 1 s no longer counts, but 10,000 of
 * a resolver are the end of it. Names beyond wait in order. A waiter may leave at any time; the
 * look-up runs out by itself (c-ares cannot cancel one: 7 s with one silent server, up to 15 s
 * since 1.32). A name whose answer is too long for UDP is asked for over TCP, 16 of them at a time;
 * the others wait for that until they are 7 s old, and TCP takes 2 s, 6 s since 1.32, if it is
 * silent.
 *
 * /etc/hosts comes first, then the servers. It and resolv.conf are looked at at most once a second
 * before a look-up; when one changed, the cache is emptied (once, whoever shares it), new look-ups
 * of every resolver go to a new channel and the old one drains. Servers that are given stand alone:
 * nothing of resolv.conf counts then, nor its search list. Addresses come ordered: IPv6 first where
 * the machine has a global IPv6 source address, else IPv4.
 *
 * Callbacks never run inside resolve_start() or c-ares: answers are put on a list and delivered by
 * resolve_turn(). One thread per resolver; ares_library_init() is the program's, before the first.
 */
#ifndef GATHERD_RESOLVE_H
#define GATHERD_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "cidr.h"
#include "err.h"
#include "list.h"

#define RESOLVE_ADDRESSES_MAX 32 /* kept of one answer; a name with 1,000 A is cut */

struct resolve;
struct resolve_cache;

struct resolve_answer {
    enum err_type error; /* ERR_NONE, ERR_DNS_ERROR, ERR_DNS_TIMEOUT */
    const char *message; /* static text when error: "no such name", "the name servers failed" ... */
    size_t count;        /* > 0 when no error */
    struct ip_addr addresses[RESOLVE_ADDRESSES_MAX];
};

/* A waiter, embedded by the caller, zeroed before first use. `done` gets the answer, valid during
 * the call. */
struct resolve_query {
    struct list node; /* the resolver's */
    struct resolve_name *name;
    void (*done)(struct resolve_query *q, const struct resolve_answer *answer);
};

struct resolve_params {
    uv_loop_t *loop;
    int lookups;                /* names in flight, see above */
    const char *const *servers; /* ADDRESS or ADDRESS:PORT or [v6]:PORT; count 0 = resolv.conf */
    size_t server_count;
    const char *resolv_conf; /* NULL = /etc/resolv.conf; for tests */
    const char *hosts;       /* NULL = /etc/hosts; for tests */
    uint16_t port;           /* of servers that name none; 0 = 53 */

    /* Shared with resolvers of other loops; borrowed until `closed`. NULL = one of its own. */
    struct resolve_cache *cache;

    /* resolve_turn() has work. Called from callbacks of the loop and from inside resolve_start():
     * may only take note. */
    void (*wake)(void *arg);
    void *arg;
};

/* Borrows the strings of params until resolve_close(). NULL and *why (static) when c-ares or a
 * server's text refuses. */
struct resolve *resolve_create(const struct resolve_params *params, const char **why);

/* Ends all look-ups without calling waiters (not from inside a waiter's done); `closed` is called
 * when the last handle is closed and all memory is free. */
void resolve_close(struct resolve *r, void (*closed)(void *arg), void *arg);

/* Asks for a name (lower case, punycode, no trailing check) or an address without brackets. Returns
 * the answer at once when it is an address, localhost, in the cache or in /etc/hosts (valid until
 * the next call into the resolver; the query is not used), or NULL: the query waits and its done is
 * called in a later resolve_turn(). NULL with *failed = true: no memory. */
const struct resolve_answer *resolve_start(struct resolve *r, struct resolve_query *q,
                                           const char *name, bool *failed);

/* The waiter leaves; its done is not called any more. No-op when it does not wait. */
void resolve_cancel(struct resolve_query *q);

/* Delivers finished answers, 64 at most, and has up to 64 names asked for; wakes when there are
 * more. Returns how many waiters had an answer. Called by the turn's end. A waiter's done may start
 * and cancel queries. */
size_t resolve_turn(struct resolve *r);

/* Re-reads resolv.conf (SIGHUP) and empties the cache if it is the resolver's own. Who shares one
 * calls resolve_cache_renew() once instead, and each resolver follows from its next look-up on. */
void resolve_reload(struct resolve *r);

struct resolve_stats {
    int64_t lookups, cache_hits; /* since start; a name of the hosts file is a hit */
    size_t in_flight, waiting;   /* names; waiting: for the bound, not yet asked for */
};
/* Cheap: takes no lock. */
void resolve_get_stats(const struct resolve *r, struct resolve_stats *out);

#endif

/* SPDX-License-Identifier: MIT
 *
 * policy - may this URL, this address, be fetched? Decided by the IANA special-purpose registries,
 * a preset, and the lines of one [policy] section. Immutable once made; pure functions; usable from
 * any thread.
 *
 * Order of judgement of an address and port: (1) gatherd's own listeners, always denied
 * (proxy_loop_detected); (2) allow and deny lines: longest prefix wins, at the same length one with
 * a port beats one without, then deny beats allow; (3) metadata addresses: built-in denials that
 * only an allow line of that very address opens; (4) the registry class under the
 * preset; (5) for what (4) allowed and is not global: whether a redirect may lead there; (6)
 * `ports`, which an allow line with a port goes before. An `allow_host` line is an allow line that
 * holds for hosts of its pattern only. Before all that the host is asked for: `deny_host` and
 * `allow_host`, the more exact pattern wins and deny a tie; then `redirects = none`. An IPv6
 * address that embeds IPv4 addresses is allowed only when each of them is allowed too; deny lines
 * and metadata see the embedded ones as well.
 *
 * With `mode = report` what would be denied is allowed and reported, but for own listeners and
 * metadata addresses, which stay denied, and for hops without a check of certificates.
 */
#ifndef GATHERD_POLICY_H
#define GATHERD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cidr.h"
#include "config.h"
#include "err.h"

struct policy;

struct policy_endpoint {
    struct ip_addr addr; /* 0.0.0.0 and :: stand for every local address */
    uint16_t port;
};

/* What the hops before a redirect were sent to. */
enum policy_from {
    POLICY_FROM_NONE,   /* this is the first hop */
    POLICY_FROM_GLOBAL, /* also when they were of several kinds */
    POLICY_FROM_PRIVATE,
    POLICY_FROM_SPECIAL
};

/* What is asked for. */
struct policy_hop {
    const char *host; /* as in struct origin; NULL = nothing is known but the address */
    uint16_t port;
    enum policy_from from;
    bool insecure; /* without a check of certificates, which `insecure = yes` must allow; on every
                      hop, http ones too */
};

#define POLICY_RULE_MAX 96
#define POLICY_MESSAGE_MAX 384 /* the longest sentence, with the longest name of a section */

struct verdict {
    enum err_type type; /* ERR_NONE = allowed; else DESTINATION_IP_PROHIBITED, HTTP_REQUEST_DENIED
                           or PROXY_LOOP_DETECTED */
    char rule[POLICY_RULE_MAX]; /* what decided. Denied: "public: 10.0.0.0/8 private-use",
                                   "deny 1.2.3.0/24", "metadata 169.254.169.254",
                                   "own-listener 127.0.0.1:4284". Allowed: "" from a check, which
                                   puts nothing into words; "allow 10.0.0.0/8",
                                   "public: global unicast" from an explanation. Lines as they
                                   were written */
    char message[POLICY_MESSAGE_MAX]; /* "" when allowed; else a sentence; where a line could allow
                                         it, names the line, with all addresses that are in the
                                         way: "... `allow = 10.1.2.3:80` in [policy default]
                                         would" */
    bool reported; /* type is ERR_NONE because the policy only reports: rule and message say why it
                      would have been denied */
};

/* Returns the policy (the caller destroys it) or NULL with messages in *errors. */
struct policy *policy_create(const struct config_policy *conf, struct buf *errors);

/* In place of one that a reload took away: denies everything, and says why. NULL: no memory. */
struct policy *policy_create_removed(const char *name);
void policy_destroy(struct policy *p);

/* Tells the policy where gatherd listens; copies. Wildcards are expanded by getifaddrs() here and
 * also stand for 127.0.0.0/8 and ::1. To dial 0.0.0.0 or :: is to dial loopback. Call once, before
 * the first check. False: no memory, or the interfaces cannot be read. */
bool policy_set_own(struct policy *p, const struct policy_endpoint *own, size_t count);

const char *policy_name(const struct policy *p);

/* Whether the URL of a request may have a user name and a password. */
bool policy_takes_userinfo(const struct policy *p);

/* Whether hops may go without a check of certificates at all. */
bool policy_allows_insecure(const struct policy *p);

/* The kind of line, as for the log, by which it opens all that the machine reaches, at least of one
 * family or on some port; NULL = there is none. `base` is not asked. */
const char *policy_opens_all(const struct policy *p);

/* Whether it is one that denies everything, from policy_create_removed(). */
bool policy_is_removed(const struct policy *p);

/* The hop to this address, which is about to be dialled (or was, by a connection about to be
 * reused). The host is judged again, too: the policy may be another one by now. */
bool policy_check_address(const struct policy *p, const struct policy_hop *hop,
                          const struct ip_addr *ip, struct verdict *v);

/* The hop as its URL says; literal: the host as an address, NULL or family 0 when it is a name
 * (then its addresses are checked after look-up); localhost names get no special path. */
bool policy_check_host(const struct policy *p, const struct policy_hop *hop,
                       const struct ip_addr *literal, struct verdict *v);

/* The same, and v->rule says what allowed it, too. */
bool policy_explain_address(const struct policy *p, const struct policy_hop *hop,
                            const struct ip_addr *ip, struct verdict *v);
bool policy_explain_host(const struct policy *p, const struct policy_hop *hop,
                         const struct ip_addr *literal, struct verdict *v);

/* A connection to an address of this machine itself (local_is_here()): false, and *v says so, when
 * gatherd listens at every address on that port. For those that policy_set_own() did not find. */
bool policy_check_self(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                       struct verdict *v);

/* `from` of the hop after one that was sent to this address. */
enum policy_from policy_from(enum policy_from before, const struct ip_addr *ip);

#endif

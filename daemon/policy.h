/* SPDX-License-Identifier: MIT
 *
 * policy - may this URL, this address, be fetched? Decided by the IANA special-purpose registries,
 * a preset, and the allow and deny lines of one [policy] section. Immutable once made; pure
 * functions; usable from any thread.
 *
 * Order of judgement of an address and port: (1) gatherd's own listeners, always denied
 * (proxy_loop_detected); (2) allow and deny lines: longest prefix wins, at the same length one with
 * a port beats one without, then deny beats allow; (3) metadata addresses: built-in /32 and /128
 * denials that only an allow line of that very address opens; (4) the registry class under the
 * preset. An IPv6 address that embeds IPv4 addresses is allowed only when each of them is allowed
 * too; deny lines and metadata see the embedded ones as well.
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

#define POLICY_RULE_MAX 96
#define POLICY_MESSAGE_MAX 256

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
};

/* Returns the policy (the caller destroys it) or NULL with messages in *errors. */
struct policy *policy_create(const struct config_policy *conf, struct buf *errors);
void policy_destroy(struct policy *p);

/* Tells the policy where gatherd listens; copies. Wildcards are expanded by getifaddrs() here and
 * also stand for 127.0.0.0/8 and ::1. To dial 0.0.0.0 or :: is to dial loopback. Call once, before
 * the first check. False: no memory, or the interfaces cannot be read. */
bool policy_set_own(struct policy *p, const struct policy_endpoint *own, size_t count);

const char *policy_name(const struct policy *p);

/* The address that is about to be dialled (or was, by a connection about to be reused). */
bool policy_check_address(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                          struct verdict *v);

/* The parsed URL's host when it is a literal (else allowed here: its addresses are checked after
 * look-up); localhost names get no special path. host: as in struct url. */
bool policy_check_host(const struct policy *p, const char *host, const struct ip_addr *literal,
                       uint16_t port, struct verdict *v);

/* The same, and v->rule says what allowed it, too. */
bool policy_explain_address(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                            struct verdict *v);
bool policy_explain_host(const struct policy *p, const char *host, const struct ip_addr *literal,
                         uint16_t port, struct verdict *v);

#endif

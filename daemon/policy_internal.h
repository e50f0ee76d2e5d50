/* SPDX-License-Identifier: MIT
 *
 * policy_internal - what the parts of policy share: policy.c makes policies and judges,
 * policy_own.c knows gatherd's own listeners, policy_words.c puts a judgement into words. Private
 * to them.
 */
#ifndef GATHERD_POLICY_INTERNAL_H
#define GATHERD_POLICY_INTERNAL_H

#include "hostname.h"
#include "policy.h"
#include "policy_rule.h"
#include "policy_table.h"

/* One of gatherd's own listeners, or a network whose every address leads to it. Family 0: it
 * listens at every address of the machine. */
struct policy_own {
    struct cidr cidr;
    uint16_t port;
};

/* An `allow_host` or `deny_host` line. */
struct policy_host {
    struct hostname_pattern pattern;
    bool deny;
    char *text; /* as it was written; owned */
};

struct policy_ports {
    uint16_t low, high; /* both belong to it */
};

struct policy {
    char *name;
    enum config_base base;
    enum config_redirects redirects;
    bool reports, removed;
    bool insecure, userinfo;
    struct policy_rule *rules; /* in policy_rule_compare()'s order */
    size_t rule_count;
    struct policy_host *hosts;
    size_t host_count;
    struct policy_ports *ports; /* none: every port */
    size_t port_count;
    struct policy_own *own;
    size_t own_count, own_room;
    /* Of IPv4 and of IPv6, by the first byte: only the preset speaks, and it allows them all. */
    bool open[2][256];
};

/* Harder findings have higher values. */
enum policy_judgement { ALLOWED, BY_PORTS, BY_REDIRECT, BY_CLASS, BY_METADATA, BY_DENY, BY_OWN };

struct policy_finding {
    enum policy_judgement judgement;
    bool always;                       /* denied by `mode = report`, too */
    struct ip_addr ip;                 /* the address found upon */
    const struct policy_rule *rule;    /* the line that matched, or NULL */
    const struct address_block *block; /* where no line did, or NULL */
};

/* What is known of one address and those inside it. */
struct policy_findings {
    /* The address itself, what it embeds, and where Linux takes it. */
    struct policy_finding all[1 + IP_EMBEDDED_MAX + 1];
    size_t count;
    const struct policy_finding *worst;
    bool hop_denied; /* whatever its address: no line that allows that would be enough */
};

/* --- policy_own.c --- */

/* In place of what was there; see policy_set_own(). */
bool policy_own_set(struct policy *p, const struct policy_endpoint *own, size_t count);

/* Whether to dial this is to dial a listener. */
bool policy_is_own(const struct policy *p, const struct ip_addr *dialled, uint16_t port);

/* Linux takes a connection to 0.0.0.0 or :: to the loopback address of the family: true with that
 * one in *out. */
bool policy_is_taken_home(const struct ip_addr *dialled, struct ip_addr *out);

/* --- policy_words.c --- */

/* Fill rule and message (and type); *v is clear before. */
void policy_say_allowed(struct verdict *v, const struct policy *p, const struct policy_findings *f);
void policy_say_denied(struct verdict *v, const struct policy *p, const struct policy_hop *hop,
                       const struct policy_findings *f);
void policy_say_name(struct verdict *v, const struct policy *p);
void policy_say_host_denied(struct verdict *v, const struct policy *p, const struct policy_hop *hop,
                            const struct policy_host *line);
void policy_say_redirect_denied(struct verdict *v, const struct policy *p,
                                const struct policy_hop *hop);
void policy_say_port_denied(struct verdict *v, const struct policy *p,
                            const struct policy_hop *hop);
void policy_say_insecure(struct verdict *v, const struct policy *p);
void policy_say_removed(struct verdict *v, const struct policy *p);
void policy_say_self(struct verdict *v, const struct ip_addr *ip, uint16_t port);

#endif

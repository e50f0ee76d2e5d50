/* SPDX-License-Identifier: MIT
 *
 * policy - which addresses may be fetched from. The engine asks before it starts a member, for each
 * address a name has, when libcurl opens a socket and when it is about to send on a kept one; who
 * wants to be told why asks policy_explain_*(). A struct policy is made at start or reload, never
 * changes after
 * policy_set_own(), and may be read by any thread; it owns its lines and its list of listeners.
 *
 * An address is not judged alone: the IPv4 addresses that it embeds are judged with it, each by
 * the same steps, and the hardest finding wins. A v4-mapped address is nothing but its IPv4 one
 * (the kernel dials IPv4), so of its own only deny lines count; with 0.0.0.0 and :: the loopback
 * address is judged that the kernel takes them to. Everything that is not found to be
 * allowed is denied.
 *
 * A host is judged before its address, and again with it, because a job that waited may meet
 * another policy than the one that let it in.
 *
 * It is asked some four times for each fetch, and nearly always allows: then nothing is put into
 * words, and of most public addresses the first byte is enough. Which bytes those are follows from
 * the tables, the lines and the listeners, before the first question.
 */
#include "policy_internal.h"

#include <stdlib.h>
#include <string.h>

#include "parse.h"

#define LINE_MAX_BYTES 256 /* of what stands behind an arrow; a line of the file has fewer */

/* --- from lines ------------------------------------------------------------------------------ */

static bool report_no_memory(struct buf *errors)
{
    BUF_ADD_LITERAL(errors, "out of memory\n");
    return false;
}

static bool report(const struct policy *p, const char *key, const char *text, const char *why,
                   struct buf *errors)
{
    buf_printf(errors, "policy %s: %s = %s: %s\n", p->name, key, text, why);
    return false;
}

/* A line's text is copied for messages; host: the pattern it holds for, NULL = every one. */
static bool add_rule(struct policy *p, const char *item, const char *text, bool deny,
                     const struct policy_host *host, struct buf *errors)
{
    struct policy_rule *r = &p->rules[p->rule_count];
    struct buf why;

    buf_init(&why, 0);
    bool ok = policy_rule_parse(item, r, &why);
    if (!ok)
        report(p, host ? "allow_host" : deny ? "deny" : "allow", text, buf_cstr(&why), errors);
    buf_fini(&why);
    if (!ok)
        return false;
    r->deny = deny;
    r->host = host ? &host->pattern : NULL;
    r->order = p->rule_count;
    r->text = strdup(text);
    if (!r->text)
        return report_no_memory(errors);
    p->rule_count++;
    return true;
}

static struct policy_host *add_host(struct policy *p, const char *pattern, const char *text,
                                    bool deny, struct buf *errors)
{
    struct policy_host *h = &p->hosts[p->host_count];
    struct buf why;

    buf_init(&why, 0);
    bool ok = hostname_pattern_parse(pattern, &h->pattern, &why);
    if (!ok)
        report(p, deny ? "deny_host" : "allow_host", text, buf_cstr(&why), errors);
    buf_fini(&why);
    if (!ok)
        return NULL;
    h->deny = deny;
    h->text = strdup(text);
    if (!h->text) {
        report_no_memory(errors);
        return NULL;
    }
    p->host_count++;
    return h;
}

/* "PATTERN -> RULE ..." */
static bool add_allow_host(struct policy *p, const char *text, struct buf *errors)
{
    char pattern[HOSTNAME_MAX + 3], rules[LINE_MAX_BYTES];
    const char *rest = hostname_split_arrow(text, pattern);
    char *at = rules, *word;

    if (!rest || !*rest || strlen(rest) >= sizeof(rules))
        return report(p, "allow_host", text, "right would be *.corp.example -> 10.0.0.0/8", errors);
    memcpy(rules, rest, strlen(rest) + 1);
    const struct policy_host *host = add_host(p, pattern, text, false, errors);
    bool ok = host != NULL;
    while (ok && (word = parse_word(&at)))
        ok = add_rule(p, word, text, false, host, errors);
    return ok;
}

static bool add_ports(struct policy *p, const char *text, struct buf *errors)
{
    struct policy_ports *ports = &p->ports[p->port_count];

    if (!policy_ports_parse(text, &ports->low, &ports->high))
        return report(p, "ports", text, "right would be a number from 1 to 65535, or LOW-HIGH",
                      errors);
    p->port_count++;
    return true;
}

/* Rules that the lines hold at most: in one of allow_host stand several, with a blank before each.
 * */
static size_t count_rules(const struct config_policy *conf)
{
    size_t n = conf->allow.count + conf->deny.count;

    for (size_t i = 0; i < conf->allow_host.count; i++)
        n += strlen(conf->allow_host.items[i]) / 2 + 1;
    return n;
}

/* Room for all: nothing moves once it is made. */
static bool alloc_all(struct policy *p, const struct config_policy *conf)
{
    p->name = strdup(conf->name);
    p->rules = calloc(count_rules(conf) + 1, sizeof(*p->rules));
    p->hosts = calloc(conf->allow_host.count + conf->deny_host.count + 1, sizeof(*p->hosts));
    p->ports = calloc(conf->ports.count + 1, sizeof(*p->ports));
    return p->name && p->rules && p->hosts && p->ports;
}

/* Whether every line was understood; each that was not is reported. */
static bool add_lines(struct policy *p, const struct config_policy *conf, struct buf *errors)
{
    bool ok = true;

    for (size_t i = 0; i < conf->allow.count; i++)
        ok &= add_rule(p, conf->allow.items[i], conf->allow.items[i], false, NULL, errors);
    for (size_t i = 0; i < conf->deny.count; i++)
        ok &= add_rule(p, conf->deny.items[i], conf->deny.items[i], true, NULL, errors);
    for (size_t i = 0; i < conf->allow_host.count; i++)
        ok &= add_allow_host(p, conf->allow_host.items[i], errors);
    for (size_t i = 0; i < conf->deny_host.count; i++)
        ok &= add_host(p, conf->deny_host.items[i], conf->deny_host.items[i], true, errors) != NULL;
    for (size_t i = 0; i < conf->ports.count; i++)
        ok &= add_ports(p, conf->ports.items[i], errors);
    qsort(p->rules, p->rule_count, sizeof(*p->rules), policy_rule_compare);
    return ok;
}

/* No line and no listener may lie there, whatever its port. */
static bool nothing_touches(const struct policy *p, const struct ip_addr *ip)
{
    for (size_t i = 0; i < p->rule_count; i++) {
        if (policy_touches(&p->rules[i].cidr, ip))
            return false;
    }
    for (size_t i = 0; i < p->own_count; i++) {
        if (policy_touches(&p->own[i].cidr, ip))
            return false;
    }
    return true;
}

static void find_open(struct policy *p)
{
    for (unsigned i = 0; i < 512; i++) {
        struct ip_addr ip = {.family = i < 256 ? 4 : 6, .bytes = {(uint8_t)i}};
        p->open[i / 256][i % 256] = nothing_touches(p, &ip) && policy_table_is_open(&ip);
    }
}

/* An IPv6 address must embed none: that one would have to be judged, too. */
static bool is_open(const struct policy *p, const struct ip_addr *ip)
{
    struct ip_addr inside[IP_EMBEDDED_MAX];

    return ip->family != 0 && p->open[ip->family == 6][ip->bytes[0]] &&
           ip_embedded_v4(ip, inside) == 0;
}

struct policy *policy_create(const struct config_policy *conf, struct buf *errors)
{
    struct policy *p = calloc(1, sizeof(*p));
    bool room = p && alloc_all(p, conf);

    if (!room)
        report_no_memory(errors);
    if (!room || !add_lines(p, conf, errors)) {
        policy_destroy(p);
        return NULL;
    }
    p->base = (enum config_base)conf->base;
    p->redirects = (enum config_redirects)conf->redirects;
    p->reports = conf->mode == POLICY_MODE_REPORT;
    p->insecure = conf->insecure != 0;
    p->userinfo = conf->userinfo != 0;
    find_open(p);
    return p;
}

struct policy *policy_create_removed(const char *name)
{
    struct policy *p = calloc(1, sizeof(*p));

    if (p && (p->name = strdup(name)) == NULL) {
        policy_destroy(p);
        return NULL;
    }
    if (p)
        p->removed = true;
    return p;
}

void policy_destroy(struct policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->rule_count; i++)
        free(p->rules[i].text);
    for (size_t i = 0; i < p->host_count; i++)
        free(p->hosts[i].text);
    free(p->rules);
    free(p->hosts);
    free(p->ports);
    free(p->own);
    free(p->name);
    free(p);
}

const char *policy_name(const struct policy *p)
{
    return p->name;
}

bool policy_takes_userinfo(const struct policy *p)
{
    return p->userinfo;
}

bool policy_allows_insecure(const struct policy *p)
{
    return p->insecure;
}

const char *policy_opens_all(const struct policy *p)
{
    const char *by = NULL;

    if (p->reports)
        return "mode=report";
    for (size_t i = 0; i < p->rule_count; i++) {
        const struct policy_rule *r = &p->rules[i];
        if (r->deny || r->cidr.bits > 0)
            continue;
        if (!r->host)
            return "allow=/0";
        if (r->host->wildcard && r->host->len == 0)
            by = "allow_host=\"* -> /0\"";
    }
    return by;
}

bool policy_is_removed(const struct policy *p)
{
    return p->removed;
}

bool policy_set_own(struct policy *p, const struct policy_endpoint *own, size_t count)
{
    bool ok = policy_own_set(p, own, count);

    find_open(p);
    return ok;
}

/* --- an address ------------------------------------------------------------------------------ */

static bool rule_fits_host(const struct policy_rule *r, const struct policy_hop *hop)
{
    return !r->host || (hop->host && hostname_pattern_matches(r->host, hop->host));
}

static const struct policy_rule *find_rule(const struct policy *p, const struct policy_hop *hop,
                                           const struct ip_addr *ip)
{
    for (size_t i = 0; i < p->rule_count; i++) {
        const struct policy_rule *r = &p->rules[i];
        if (r->cidr.addr.family == ip->family && policy_rule_matches(r, ip, hop->port) &&
            rule_fits_host(r, hop))
            return r;
    }
    return NULL;
}

static bool port_is_listed(const struct policy *p, uint16_t port)
{
    for (size_t i = 0; i < p->port_count; i++) {
        if (port >= p->ports[i].low && port <= p->ports[i].high)
            return true;
    }
    return p->port_count == 0;
}

static bool base_allows(enum config_base base, enum address_class class)
{
    switch (base) {
    case POLICY_BASE_UNSAFE_ANY:
        return true;
    case POLICY_BASE_PRIVATE:
        return class == ADDRESS_GLOBAL || class == ADDRESS_PRIVATE;
    case POLICY_BASE_PUBLIC:
    default:
        return class == ADDRESS_GLOBAL;
    }
}

static enum policy_from from_of_class(enum address_class class)
{
    return class == ADDRESS_GLOBAL    ? POLICY_FROM_GLOBAL
           : class == ADDRESS_PRIVATE ? POLICY_FROM_PRIVATE
                                      : POLICY_FROM_SPECIAL;
}

/* To a global address every redirect may lead: whoever was asked could reach it as well. */
static bool widens(const struct policy *p, const struct policy_hop *hop, enum address_class class)
{
    return p->redirects == REDIRECTS_SAME_CLASS && hop->from != POLICY_FROM_NONE &&
           class != ADDRESS_GLOBAL && hop->from != from_of_class(class);
}

static bool is_single_address(const struct cidr *c)
{
    return c->bits == (c->addr.family == 4 ? 32 : 128);
}

/* Metadata that no line of that very address opens. */
static bool is_metadata(const struct ip_addr *ip, const struct policy_rule *rule)
{
    return policy_table_is_metadata(ip) && !(rule && !rule->deny && is_single_address(&rule->cidr));
}

static enum policy_judgement judge_by_class(const struct policy *p, const struct policy_hop *hop,
                                            struct policy_finding *f)
{
    f->block = policy_table_find(&f->ip);
    if (!f->block || !base_allows(p->base, f->block->class))
        return BY_CLASS;
    return widens(p, hop, f->block->class) ? BY_REDIRECT : ALLOWED;
}

static struct policy_finding judge(const struct policy *p, const struct policy_hop *hop,
                                   const struct ip_addr *ip)
{
    struct policy_finding f = {.ip = *ip, .rule = find_rule(p, hop, ip)};
    struct ip_addr v4 = *ip;
    bool own = policy_is_own(p, ip, hop->port), metadata = is_metadata(ip, f.rule);

    f.always = own || metadata || ip->family == 0;
    if (own)
        f.judgement = BY_OWN;
    else if (f.rule && f.rule->deny)
        f.judgement = BY_DENY;
    else if (policy_unmap(&v4))
        return f; /* for what its IPv4 address is */
    else if (metadata)
        f.judgement = BY_METADATA;
    else if (!f.rule)
        f.judgement = judge_by_class(p, hop, &f);
    if (f.judgement == ALLOWED && !(f.rule && f.rule->has_port) && !port_is_listed(p, hop->port))
        f.judgement = BY_PORTS;
    return f;
}

/* All that is dialled with the address: what it embeds, and where an unspecified one leads. */
static size_t list_all(const struct ip_addr *ip, struct ip_addr out[1 + IP_EMBEDDED_MAX + 1])
{
    out[0] = *ip;
    size_t count = 1 + (size_t)ip_embedded_v4(ip, out + 1);
    struct ip_addr dialled = *ip;
    policy_unmap(&dialled);
    return count + policy_is_taken_home(&dialled, &out[count]);
}

/* False when mode = report must not let it pass. */
static bool judge_all(const struct policy *p, const struct policy_hop *hop,
                      const struct ip_addr *ip, struct policy_findings *out)
{
    struct ip_addr all[1 + IP_EMBEDDED_MAX + 1];
    bool soft = true;

    out->count = list_all(ip, all);
    out->worst = &out->all[0];
    for (size_t i = 0; i < out->count; i++) {
        out->all[i] = judge(p, hop, &all[i]);
        soft &= !out->all[i].always;
        if (out->all[i].judgement > out->worst->judgement)
            out->worst = &out->all[i];
    }
    return soft;
}

enum policy_from policy_from(enum policy_from before, const struct ip_addr *ip)
{
    struct ip_addr embedded[IP_EMBEDDED_MAX];
    const struct address_block *block = policy_table_find(ip);
    size_t inside = (size_t)ip_embedded_v4(ip, embedded);
    struct ip_addr v4 = *ip;
    enum policy_from from = block ? from_of_class(block->class) : POLICY_FROM_GLOBAL;

    for (size_t i = 0; i < inside; i++) {
        enum policy_from inner = from_of_class(policy_table_find(&embedded[i])->class);
        from = policy_unmap(&v4) || inner == from ? inner : POLICY_FROM_GLOBAL;
    }
    return before == POLICY_FROM_NONE || before == from ? from : POLICY_FROM_GLOBAL;
}

/* --- a host ---------------------------------------------------------------------------------- */

/* The line that denies the host: the most exact of those that match, deny before allow. */
static const struct policy_host *find_denied_host(const struct policy *p,
                                                  const struct policy_hop *hop)
{
    const struct policy_host *best = NULL;

    for (size_t i = 0; i < p->host_count && hop->host; i++) {
        const struct policy_host *h = &p->hosts[i];
        if (!hostname_pattern_matches(&h->pattern, hop->host))
            continue;
        int order = best ? hostname_pattern_compare(&h->pattern, &best->pattern) : -1;
        if (order < 0 || (order == 0 && h->deny))
            best = h;
    }
    return best && best->deny ? best : NULL;
}

/* Whether a line with this port holds for an address that the name may have. */
static bool port_is_named(const struct policy *p, const struct policy_hop *hop)
{
    for (size_t i = 0; i < p->rule_count; i++) {
        const struct policy_rule *r = &p->rules[i];
        if (r->has_port && !r->deny && hop->port >= r->port_low && hop->port <= r->port_high &&
            rule_fits_host(r, hop))
            return true;
    }
    return false;
}

/* What is said of a hop whatever its address; false: denied. */
static bool check_hop(const struct policy *p, const struct policy_hop *hop, struct verdict *v)
{
    const struct policy_host *denied = p->host_count > 0 ? find_denied_host(p, hop) : NULL;

    if (denied)
        policy_say_host_denied(v, p, hop, denied);
    else if (p->redirects == REDIRECTS_NONE && hop->from != POLICY_FROM_NONE)
        policy_say_redirect_denied(v, p, hop);
    return v->type == ERR_NONE;
}

/* --- verdicts -------------------------------------------------------------------------------- */

static void clear(struct verdict *v)
{
    v->type = ERR_NONE;
    v->reported = false;
    v->rule[0] = v->message[0] = '\0';
}

/* What mode = report does not let pass: whom nothing is known of is not to be asked by mistake. */
static bool denies_outright(const struct policy *p, const struct policy_hop *hop, struct verdict *v)
{
    if (p->removed)
        policy_say_removed(v, p);
    else if (hop->insecure && !p->insecure)
        policy_say_insecure(v, p);
    return v->type != ERR_NONE;
}

/* What has been denied, but by mode = report. */
static bool finish(const struct policy *p, struct verdict *v)
{
    if (v->type != ERR_NONE && p->reports) {
        v->type = ERR_NONE;
        v->reported = true;
    }
    return v->type == ERR_NONE;
}

static bool check_address(const struct policy *p, const struct policy_hop *hop,
                          const struct ip_addr *ip, bool explain, struct verdict *v)
{
    struct policy_findings f;
    bool soft = judge_all(p, hop, ip, &f);

    clear(v);
    if (denies_outright(p, hop, v))
        return false;
    const bool hop_denied = !check_hop(p, hop, v);
    if (soft && hop_denied)
        return finish(p, v);
    clear(v); /* a hard denial is said in its own words */
    f.hop_denied = hop_denied && !p->reports;
    if (f.worst->judgement != ALLOWED)
        policy_say_denied(v, p, hop, &f);
    else if (explain)
        policy_say_allowed(v, p, &f);
    return soft ? finish(p, v) : v->type == ERR_NONE;
}

bool policy_check_address(const struct policy *p, const struct policy_hop *hop,
                          const struct ip_addr *ip, struct verdict *v)
{
    clear(v);
    if (denies_outright(p, hop, v))
        return false;
    if (is_open(p, ip) && port_is_listed(p, hop->port) && check_hop(p, hop, v))
        return true;
    return check_address(p, hop, ip, false, v);
}

bool policy_explain_address(const struct policy *p, const struct policy_hop *hop,
                            const struct ip_addr *ip, struct verdict *v)
{
    return check_address(p, hop, ip, true, v);
}

/* The host as a literal, also where nobody parsed it: a name that is an address must not get by. */
static bool find_literal(const struct policy_hop *hop, const struct ip_addr *literal,
                         struct ip_addr *out)
{
    if (literal && literal->family != 0) {
        *out = *literal;
        return true;
    }
    return hop->host && ip_parse(hop->host, out);
}

static bool check_name(const struct policy *p, const struct policy_hop *hop, struct verdict *v)
{
    clear(v);
    if (denies_outright(p, hop, v))
        return false;
    if (check_hop(p, hop, v) && !port_is_listed(p, hop->port) && !port_is_named(p, hop))
        policy_say_port_denied(v, p, hop);
    return finish(p, v);
}

bool policy_check_host(const struct policy *p, const struct policy_hop *hop,
                       const struct ip_addr *literal, struct verdict *v)
{
    struct ip_addr ip;

    return find_literal(hop, literal, &ip) ? policy_check_address(p, hop, &ip, v)
                                           : check_name(p, hop, v);
}

bool policy_explain_host(const struct policy *p, const struct policy_hop *hop,
                         const struct ip_addr *literal, struct verdict *v)
{
    struct ip_addr ip;

    if (find_literal(hop, literal, &ip))
        return policy_explain_address(p, hop, &ip, v);
    bool allowed = check_name(p, hop, v);
    if (allowed && !v->reported)
        policy_say_name(v, p);
    return allowed;
}

/* SPDX-License-Identifier: MIT
 *
 * policy - which addresses may be fetched from. The engine asks before it starts a member, for each
 * address a name has, when libcurl opens a socket and when it is about to send on a kept one;
 * --explain asks to tell. A struct policy is made at start or reload, never changes after
 * policy_set_own(), and may be read by any thread; it owns its lines and its list of listeners.
 *
 * An address is not judged alone: the IPv4 addresses that it embeds are judged with it, each by
 * the same steps, and the hardest finding wins. A v4-mapped address is nothing but its IPv4 one
 * (the kernel dials IPv4), so of its own only deny lines count. Everything that is not found to be
 * allowed is denied.
 *
 * A denial's message is made from the same findings: the `allow` line it names holds every address
 * that stood in the way, so that adding that line is enough.
 *
 * It is asked some four times for each fetch, and nearly always allows: then nothing is put into
 * words, and of most public addresses the first byte is enough. Which bytes those are follows from
 * the tables, the lines and the listeners, before the first question.
 */
#include "policy.h"

#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy_table.h"
#include "policy_rule.h"

#define TARGET_MAX (IP_TEXT_MAX + 8) /* brackets, a colon and five digits */

/* One of gatherd's own listeners, or a network whose every address leads to it. */
struct own {
    struct cidr cidr;
    uint16_t port;
};

struct policy {
    char *name;
    enum config_base base;
    struct policy_rule *rules; /* in policy_rule_compare()'s order */
    size_t rule_count;
    struct own *own;
    size_t own_count, own_room;
    /* Of IPv4 and of IPv6, by the first byte: only the preset speaks, and it allows them all. */
    bool open[2][256];
};

/* Harder findings have higher values. */
enum judgement { ALLOWED, BY_CLASS, BY_METADATA, BY_DENY, BY_OWN };

struct finding {
    enum judgement judgement;
    struct ip_addr ip;                 /* the address found upon */
    const struct policy_rule *rule;    /* the line that matched, or NULL */
    const struct address_block *block; /* where no line did, or NULL */
};

/* What is known of one address and those inside it. */
struct findings {
    struct finding all[3]; /* the address itself, then what it embeds */
    size_t count;
    const struct finding *worst;
};

static const char *base_name(enum config_base base)
{
    switch (base) {
    case POLICY_BASE_PRIVATE:
        return "private";
    case POLICY_BASE_UNSAFE_ANY:
        return "unsafe-any";
    case POLICY_BASE_PUBLIC:
    default:
        return "public";
    }
}

static void add_rule(struct policy *p, const char *text, bool deny, struct buf *errors)
{
    struct policy_rule *r = &p->rules[p->rule_count];
    struct buf why;

    buf_init(&why, 0);
    if (policy_rule_parse(text, r, &why)) {
        r->deny = deny;
        r->order = p->rule_count;
        r->text = strdup(text);
        if (r->text)
            p->rule_count++;
        else
            BUF_ADD_LITERAL(errors, "out of memory\n");
    } else {
        buf_printf(errors, "policy %s: %s = %s: %s\n", p->name, deny ? "deny" : "allow", text,
                   buf_cstr(&why));
    }
    buf_fini(&why);
}

/* Whether every line became a rule. */
static bool add_rules(struct policy *p, const struct config_policy *conf, struct buf *errors)
{
    size_t wanted = conf->allow.count + conf->deny.count;

    p->rules = calloc(wanted + 1, sizeof(*p->rules));
    p->name = strdup(conf->name);
    if (!p->rules || !p->name) {
        BUF_ADD_LITERAL(errors, "out of memory\n");
        return false;
    }
    for (size_t i = 0; i < conf->allow.count; i++)
        add_rule(p, conf->allow.items[i], false, errors);
    for (size_t i = 0; i < conf->deny.count; i++)
        add_rule(p, conf->deny.items[i], true, errors);
    qsort(p->rules, p->rule_count, sizeof(*p->rules), policy_rule_compare);
    return p->rule_count == wanted;
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
    struct ip_addr inside[2];

    return ip->family != 0 && p->open[ip->family == 6][ip->bytes[0]] &&
           ip_embedded_v4(ip, inside) == 0;
}

struct policy *policy_create(const struct config_policy *conf, struct buf *errors)
{
    struct policy *p = calloc(1, sizeof(*p));

    if (!p) {
        BUF_ADD_LITERAL(errors, "out of memory\n");
        return NULL;
    }
    p->base = (enum config_base)conf->base;
    if (!add_rules(p, conf, errors)) {
        policy_destroy(p);
        return NULL;
    }
    find_open(p);
    return p;
}

void policy_destroy(struct policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->rule_count; i++)
        free(p->rules[i].text);
    free(p->rules);
    free(p->own);
    free(p->name);
    free(p);
}

const char *policy_name(const struct policy *p)
{
    return p->name;
}

static bool add_own(struct policy *p, const struct ip_addr *ip, unsigned bits, uint16_t port)
{
    if (p->own_count == p->own_room) {
        size_t room = p->own_room ? 2 * p->own_room : 16;
        struct own *own = realloc(p->own, room * sizeof(*own));
        if (!own)
            return false;
        p->own = own;
        p->own_room = room;
    }
    p->own[p->own_count++] = (struct own){.cidr = {*ip, (uint8_t)bits}, .port = port};
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
    struct ifaddrs *list;
    struct ip_addr ip;
    bool ok = add_own(p, &loopback4, 8, port) && add_own(p, &loopback6, 128, port);

    if (!ok || getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i && ok; i = i->ifa_next) {
        if (i->ifa_addr && ip_from_sockaddr(i->ifa_addr, &ip, NULL))
            ok = add_own_address(p, ip, port);
    }
    freeifaddrs(list);
    return ok;
}

static bool add_all_own(struct policy *p, const struct policy_endpoint *own, size_t count)
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

bool policy_set_own(struct policy *p, const struct policy_endpoint *own, size_t count)
{
    bool ok = add_all_own(p, own, count);

    find_open(p);
    return ok;
}

/* Linux takes a connection to 0.0.0.0 or :: to the loopback address of the family. */
static bool is_own(const struct policy *p, const struct ip_addr *dialled, uint16_t port)
{
    struct ip_addr ip = *dialled;

    if (is_unspecified(&ip))
        ip = ip.family == 4 ? (struct ip_addr){4, {127, 0, 0, 1}} : (struct ip_addr){6, {[15] = 1}};
    for (size_t i = 0; i < p->own_count; i++) {
        if (p->own[i].port == port && cidr_contains(&p->own[i].cidr, &ip))
            return true;
    }
    return false;
}

static const struct policy_rule *find_rule(const struct policy *p, const struct ip_addr *ip,
                                           uint16_t port)
{
    for (size_t i = 0; i < p->rule_count; i++) {
        if (p->rules[i].cidr.addr.family == ip->family &&
            policy_rule_matches(&p->rules[i], ip, port))
            return &p->rules[i];
    }
    return NULL;
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

static bool is_single_address(const struct cidr *c)
{
    return c->bits == (c->addr.family == 4 ? 32 : 128);
}

static struct finding judge(const struct policy *p, const struct ip_addr *ip, uint16_t port)
{
    struct finding f = {.ip = *ip, .rule = find_rule(p, ip, port)};
    struct ip_addr v4 = *ip;

    if (is_own(p, ip, port))
        f.judgement = BY_OWN;
    else if (f.rule && f.rule->deny)
        f.judgement = BY_DENY;
    else if (policy_unmap(&v4))
        f.judgement = ALLOWED;
    else if (policy_table_is_metadata(ip) && !(f.rule && is_single_address(&f.rule->cidr)))
        f.judgement = BY_METADATA;
    else if (!f.rule) {
        f.block = policy_table_find(ip);
        if (!f.block || !base_allows(p->base, f.block->class))
            f.judgement = BY_CLASS;
    }
    return f;
}

static void judge_all(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                      struct findings *out)
{
    struct ip_addr embedded[2];
    size_t inside = (size_t)ip_embedded_v4(ip, embedded);

    out->count = 1 + inside;
    out->all[0] = judge(p, ip, port);
    out->worst = &out->all[0];
    for (size_t i = 0; i < inside; i++) {
        out->all[i + 1] = judge(p, &embedded[i], port);
        if (out->all[i + 1].judgement > out->worst->judgement)
            out->worst = &out->all[i + 1];
    }
}

/* Appends to the message; what does not fit is cut off. */
static void say(struct verdict *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct verdict *v, const char *format, ...)
{
    size_t n = strlen(v->message);
    va_list ap;

    va_start(ap, format);
    vsnprintf(v->message + n, sizeof(v->message) - n, format, ap);
    va_end(ap);
}

/* "10.1.2.3:80" or "[fc00::1]:80". */
static const char *format_target(const struct ip_addr *ip, uint16_t port, char text[TARGET_MAX])
{
    char addr[IP_TEXT_MAX];
    bool v6 = ip->family == 6;

    snprintf(text, TARGET_MAX, "%s%s%s:%u", v6 ? "[" : "", ip_format(ip, addr), v6 ? "]" : "",
             (unsigned)port);
    return text;
}

/* Whether an earlier finding is about the same address. */
static bool is_repeated(const struct findings *f, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (ip_equal(&f->all[k].ip, &f->all[i].ip))
            return true;
    }
    return false;
}

/* "`allow = 10.1.2.3:80` in [policy default] would": every address that stood in the way. */
static void say_what_would(struct verdict *v, const struct policy *p, const struct findings *f,
                           uint16_t port)
{
    char target[TARGET_MAX];

    say(v, "; `allow =");
    for (size_t i = 0; i < f->count; i++) {
        if (f->all[i].judgement != ALLOWED && !is_repeated(f, i))
            say(v, " %s", format_target(&f->all[i].ip, port, target));
    }
    say(v, "` in [policy %s] would", p->name);
}

/* "10.1.2.3", or "64:ff9b::a01:203 embeds 10.1.2.3; that" when another address was found upon. */
static void say_who(struct verdict *v, const struct findings *f)
{
    char outer[IP_TEXT_MAX], inner[IP_TEXT_MAX];

    say(v, "%s", ip_format(&f->all[0].ip, outer));
    if (f->worst != &f->all[0])
        say(v, " embeds %s; that", ip_format(&f->worst->ip, inner));
}

static void deny_own(struct verdict *v, const struct findings *f, uint16_t port)
{
    char target[TARGET_MAX];

    v->type = ERR_PROXY_LOOP_DETECTED;
    snprintf(v->rule, sizeof(v->rule), "own-listener %s",
             format_target(&f->worst->ip, port, target));
    say_who(v, f);
    say(v, " is where gatherd itself listens on port %u", (unsigned)port);
}

static void deny_by_line(struct verdict *v, const struct policy *p, const struct findings *f)
{
    snprintf(v->rule, sizeof(v->rule), "deny %s", f->worst->rule->text);
    say_who(v, f);
    say(v, " is denied by `deny = %s` in [policy %s]", f->worst->rule->text, p->name);
}

static void deny_metadata(struct verdict *v, const struct policy *p, const struct findings *f,
                          uint16_t port)
{
    char text[IP_TEXT_MAX];

    snprintf(v->rule, sizeof(v->rule), "metadata %s", ip_format(&f->worst->ip, text));
    say_who(v, f);
    say(v, " is a cloud's metadata address, which no prefix opens");
    say_what_would(v, p, f, port);
}

static void deny_by_class(struct verdict *v, const struct policy *p, const struct findings *f,
                          uint16_t port)
{
    const struct address_block *block = f->worst->block;
    char text[IP_TEXT_MAX + 4];

    if (!block) { /* no address at all */
        snprintf(v->rule, sizeof(v->rule), "%s: no address", base_name(p->base));
        say(v, "there is no address to judge");
        return;
    }
    cidr_format(&block->cidr, text);
    snprintf(v->rule, sizeof(v->rule), "%s: %s %s", base_name(p->base), text, block->name);
    say_who(v, f);
    say(v, " is %s (%s), which `base = %s` does not allow", block->name, text, base_name(p->base));
    say_what_would(v, p, f, port);
}

/* A v4-mapped address is allowed for what its IPv4 address is. */
static void allow(struct verdict *v, const struct policy *p, const struct findings *f)
{
    struct ip_addr ip = f->all[0].ip;
    const struct finding *why = policy_unmap(&ip) ? &f->all[1] : &f->all[0];

    if (why->rule)
        snprintf(v->rule, sizeof(v->rule), "allow %s", why->rule->text);
    else
        snprintf(v->rule, sizeof(v->rule), "%s: %s", base_name(p->base), why->block->name);
}

static void deny(struct verdict *v, const struct policy *p, const struct findings *f, uint16_t port)
{
    v->type = ERR_DESTINATION_IP_PROHIBITED;
    switch (f->worst->judgement) {
    case BY_OWN:
        deny_own(v, f, port);
        break;
    case BY_DENY:
        deny_by_line(v, p, f);
        break;
    case BY_METADATA:
        deny_metadata(v, p, f, port);
        break;
    case BY_CLASS:
    case ALLOWED: /* is not denied */
        deny_by_class(v, p, f, port);
        break;
    }
}

static void clear(struct verdict *v)
{
    v->type = ERR_NONE;
    v->rule[0] = v->message[0] = '\0';
}

bool policy_explain_address(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                            struct verdict *v)
{
    struct findings f;

    judge_all(p, ip, port, &f);
    clear(v);
    if (f.worst->judgement == ALLOWED)
        allow(v, p, &f);
    else
        deny(v, p, &f, port);
    return v->type == ERR_NONE;
}

bool policy_check_address(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                          struct verdict *v)
{
    struct findings f;

    clear(v);
    if (is_open(p, ip))
        return true;
    judge_all(p, ip, port, &f);
    if (f.worst->judgement != ALLOWED)
        deny(v, p, &f, port);
    return v->type == ERR_NONE;
}

/* The host as a literal, also where nobody parsed it: a name that is an address must not get by. */
static bool find_literal(const char *host, const struct ip_addr *literal, struct ip_addr *out)
{
    if (!literal || literal->family == 0)
        return ip_parse(host, out);
    *out = *literal;
    return true;
}

bool policy_check_host(const struct policy *p, const char *host, const struct ip_addr *literal,
                       uint16_t port, struct verdict *v)
{
    struct ip_addr ip;

    if (find_literal(host, literal, &ip))
        return policy_check_address(p, &ip, port, v);
    clear(v);
    return true;
}

bool policy_explain_host(const struct policy *p, const char *host, const struct ip_addr *literal,
                         uint16_t port, struct verdict *v)
{
    struct ip_addr ip;

    if (find_literal(host, literal, &ip))
        return policy_explain_address(p, &ip, port, v);
    clear(v);
    snprintf(v->rule, sizeof(v->rule), "%s: a name, judged by its addresses", base_name(p->base));
    return true;
}

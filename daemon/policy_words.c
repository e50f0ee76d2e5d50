/* SPDX-License-Identifier: MIT
 *
 * policy_words - what a policy says: the rule and the sentence of a denial, and the line that would
 * allow what was asked for. Called by policy.c when something is denied or explained, so seldom.
 *
 * The message is made from the same findings as the judgement: the `allow` line that it names holds
 * every address that stood in the way, and has the port, which goes before `ports`; so that adding
 * that line is enough. Where no line helps, none is named.
 */
#include "policy_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TARGET_MAX (IP_TEXT_MAX + 8) /* brackets, a colon and five digits */

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
static bool is_repeated(const struct policy_findings *f, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (ip_equal(&f->all[k].ip, &f->all[i].ip))
            return true;
    }
    return false;
}

/* "`allow = 10.1.2.3:80` in [policy default] would": every address that stood in the way. Nothing
 * where that would not be enough. */
static void say_what_would(struct verdict *v, const struct policy *p,
                           const struct policy_findings *f, uint16_t port)
{
    char target[TARGET_MAX];

    if (f->hop_denied)
        return;
    say(v, "; `allow =");
    for (size_t i = 0; i < f->count; i++) {
        if (f->all[i].judgement != ALLOWED && !is_repeated(f, i))
            say(v, " %s", format_target(&f->all[i].ip, port, target));
    }
    say(v, "` in [policy %s] would", p->name);
}

/* "10.1.2.3", or when another address was found upon "64:ff9b::a01:203 embeds 10.1.2.3; that" and
 * "0.0.0.0 leads to 127.0.0.1; that". */
static void say_who(struct verdict *v, const struct policy_findings *f)
{
    char outer[IP_TEXT_MAX], inner[IP_TEXT_MAX];
    struct ip_addr dialled = f->all[0].ip, home;

    policy_unmap(&dialled);
    bool leads = policy_is_taken_home(&dialled, &home) && ip_equal(&home, &f->worst->ip);
    say(v, "%s", ip_format(&f->all[0].ip, outer));
    if (f->worst != &f->all[0])
        say(v, " %s %s; that", leads ? "leads to" : "embeds", ip_format(&f->worst->ip, inner));
}

static void deny_own(struct verdict *v, const struct policy_findings *f, uint16_t port)
{
    char target[TARGET_MAX];

    v->type = ERR_PROXY_LOOP_DETECTED;
    snprintf(v->rule, sizeof(v->rule), "own-listener %s",
             format_target(&f->worst->ip, port, target));
    say_who(v, f);
    say(v, " is where gatherd itself listens on port %u", (unsigned)port);
}

static void deny_by_line(struct verdict *v, const struct policy *p, const struct policy_findings *f)
{
    snprintf(v->rule, sizeof(v->rule), "deny %s", f->worst->rule->text);
    say_who(v, f);
    say(v, " is denied by `deny = %s` in [policy %s]", f->worst->rule->text, p->name);
}

static void deny_metadata(struct verdict *v, const struct policy *p,
                          const struct policy_findings *f, uint16_t port)
{
    char text[IP_TEXT_MAX];

    snprintf(v->rule, sizeof(v->rule), "metadata %s", ip_format(&f->worst->ip, text));
    say_who(v, f);
    say(v, " is a cloud's metadata address, which no prefix opens");
    say_what_would(v, p, f, port);
}

static void deny_by_class(struct verdict *v, const struct policy *p,
                          const struct policy_findings *f, uint16_t port)
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
void policy_say_allowed(struct verdict *v, const struct policy *p, const struct policy_findings *f)
{
    struct ip_addr ip = f->all[0].ip;
    const struct policy_finding *why = policy_unmap(&ip) ? &f->all[1] : &f->all[0];

    if (why->rule)
        snprintf(v->rule, sizeof(v->rule), "%s %s", why->rule->host ? "allow_host" : "allow",
                 why->rule->text);
    else
        snprintf(v->rule, sizeof(v->rule), "%s: %s", base_name(p->base), why->block->name);
}

static void deny_by_redirect(struct verdict *v, const struct policy *p,
                             const struct policy_hop *hop, const struct policy_findings *f)
{
    const struct address_block *block = f->worst->block;
    char text[IP_TEXT_MAX + 4];

    cidr_format(&block->cidr, text);
    snprintf(v->rule, sizeof(v->rule), "redirects = same-class: %s %s", text, block->name);
    say_who(v, f);
    say(v, " is %s (%s); a redirect from another kind of address may not lead there", block->name,
        text);
    say_what_would(v, p, f, hop->port);
}

/* "ports = 80 8000-8099"; with an ellipsis for those that there is no room for. */
static void say_ports(struct verdict *v, const struct policy *p)
{
    static const char ellipsis[] = " ...";
    size_t n = (size_t)snprintf(v->rule, sizeof(v->rule), "ports =");

    for (size_t i = 0; i < p->port_count; i++) {
        const unsigned low = p->ports[i].low, high = p->ports[i].high;
        char one[sizeof " 65535-65535"];
        const int length = high > low ? snprintf(one, sizeof(one), " %u-%u", low, high)
                                      : snprintf(one, sizeof(one), " %u", low);
        if (n + (size_t)length + sizeof(ellipsis) > sizeof(v->rule)) {
            memcpy(v->rule + n, ellipsis, sizeof(ellipsis));
            break;
        }
        memcpy(v->rule + n, one, (size_t)length + 1);
        n += (size_t)length;
    }
}

static void deny_by_ports(struct verdict *v, const struct policy *p, const struct policy_hop *hop,
                          const struct policy_findings *f)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    say_ports(v, p);
    say(v, "port %u is none of `ports`", (unsigned)hop->port);
    say_what_would(v, p, f, hop->port);
}

void policy_say_denied(struct verdict *v, const struct policy *p, const struct policy_hop *hop,
                       const struct policy_findings *f)
{
    v->type = ERR_DESTINATION_IP_PROHIBITED;
    switch (f->worst->judgement) {
    case BY_OWN:
        deny_own(v, f, hop->port);
        break;
    case BY_DENY:
        deny_by_line(v, p, f);
        break;
    case BY_METADATA:
        deny_metadata(v, p, f, hop->port);
        break;
    case BY_REDIRECT:
        deny_by_redirect(v, p, hop, f);
        break;
    case BY_PORTS:
        deny_by_ports(v, p, hop, f);
        break;
    case BY_CLASS:
    case ALLOWED: /* is not denied */
        deny_by_class(v, p, f, hop->port);
        break;
    }
}

/* --- what is known before there is an address --- */

void policy_say_name(struct verdict *v, const struct policy *p)
{
    snprintf(v->rule, sizeof(v->rule), "%s: a name, judged by its addresses", base_name(p->base));
}

void policy_say_host_denied(struct verdict *v, const struct policy *p, const struct policy_hop *hop,
                            const struct policy_host *line)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    snprintf(v->rule, sizeof(v->rule), "deny_host %s", line->text);
    say(v, "%.64s is denied by `deny_host = %s` in [policy %s]", hop->host, line->text, p->name);
}

void policy_say_redirect_denied(struct verdict *v, const struct policy *p,
                                const struct policy_hop *hop)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    snprintf(v->rule, sizeof(v->rule), "redirects = none");
    say(v,
        "a redirect led to %.64s; `redirects = same-class` in [policy %s] would judge it by its "
        "address, and max_redirects 0 shows the answer that led there",
        hop->host ? hop->host : "an address", p->name);
}

void policy_say_port_denied(struct verdict *v, const struct policy *p, const struct policy_hop *hop)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    say_ports(v, p);
    say(v, "port %u is none of `ports`; `ports = %u` in [policy %s] would allow it",
        (unsigned)hop->port, (unsigned)hop->port, p->name);
}

void policy_say_insecure(struct verdict *v, const struct policy *p)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    snprintf(v->rule, sizeof(v->rule), "insecure = no");
    say(v,
        "insecure: true asks for no check of certificates; `insecure = yes` in [policy %s] would "
        "allow it",
        p->name);
}

void policy_say_removed(struct verdict *v, const struct policy *p)
{
    v->type = ERR_HTTP_REQUEST_DENIED;
    snprintf(v->rule, sizeof(v->rule), "removed policy %s", p->name);
    say(v,
        "a reload has taken [policy %s] away, under which this batch was begun: what had not been "
        "sent by then is denied",
        p->name);
}

void policy_say_self(struct verdict *v, const struct ip_addr *ip, uint16_t port)
{
    char text[TARGET_MAX], addr[IP_TEXT_MAX];

    v->type = ERR_PROXY_LOOP_DETECTED;
    v->reported = false;
    snprintf(v->rule, sizeof(v->rule), "own-listener %s", format_target(ip, port, text));
    snprintf(v->message, sizeof(v->message),
             "%s is an address of this machine, and gatherd listens on port %u of all of them",
             ip_format(ip, addr), (unsigned)port);
}

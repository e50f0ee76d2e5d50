/* SPDX-License-Identifier: MIT
 *
 * policy_rule - one item of an `allow` or `deny` line, read once at start or reload and compared
 * with every address that is judged. policy owns the rules, sorts them and asks. Pure, any thread.
 *
 * Reading is strict, because a line that is read as something else than was meant opens or leaves
 * open what it should not: host bits, names, half a bracket and a port behind bare IPv6 are errors,
 * each with the spelling that would be right. One trap remains: "::1:80" is an address.
 */
#include "policy_rule.h"

#include <string.h>

#include "parse.h"

#define RULE_TEXT_MAX (IP_TEXT_MAX + 4) /* an address, a slash and three digits */

/* The parts of an item, cut but not yet understood. */
struct cut {
    char target[RULE_TEXT_MAX]; /* address or prefix without brackets */
    const char *ports;          /* in the item, behind the colon; NULL = none */
    bool bracketed;
};

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool policy_unmap(struct ip_addr *ip)
{
    struct ip_addr v4 = {.family = 4};

    if (ip->family != 6 || memcmp(ip->bytes, mapped_prefix, sizeof(mapped_prefix)) != 0)
        return false;
    memcpy(v4.bytes, ip->bytes + 12, 4);
    *ip = v4;
    return true;
}

static bool cut_item(const char *text, struct cut *out)
{
    const char *begin = text, *end, *rest;
    const char *colon = strchr(text, ':');
    size_t n;

    out->bracketed = text[0] == '[';
    if (out->bracketed) {
        begin = text + 1;
        end = strchr(begin, ']');
        if (!end)
            return false;
        rest = end + 1;
    } else if (colon && strchr(colon + 1, ':') == NULL) {
        rest = end = colon;
    } else {
        rest = end = text + strlen(text);
    }
    n = (size_t)(end - begin);
    if (n >= sizeof(out->target) || (*rest != '\0' && *rest != ':'))
        return false;
    memcpy(out->target, begin, n);
    out->target[n] = '\0';
    out->ports = *rest == ':' ? rest + 1 : NULL;
    return true;
}

bool policy_ports_parse(const char *text, uint16_t *low_out, uint16_t *high_out)
{
    char low_text[6]; /* five digits, with leading zeros, as the configuration has it */
    size_t n = strcspn(text, "-");
    int64_t low, high;

    if (n >= sizeof(low_text) || (text[n] == '-' && strlen(text + n + 1) >= sizeof(low_text)))
        return false;
    memcpy(low_text, text, n);
    low_text[n] = '\0';
    if (!parse_int(low_text, 1, UINT16_MAX, &low))
        return false;
    high = low;
    if (text[n] == '-' && !parse_int(text + n + 1, low, UINT16_MAX, &high))
        return false;
    *low_out = (uint16_t)low;
    *high_out = (uint16_t)high;
    return true;
}

/* Says what "10.0.0.1/8" should have been, when that is what is wrong. */
static bool explain_host_bits(const char *target, struct buf *why)
{
    char text[RULE_TEXT_MAX], addr_text[IP_TEXT_MAX];
    const char *slash = strchr(target, '/');
    size_t n = slash ? (size_t)(slash - target) : 0;
    struct cidr c = {0};
    int64_t bits;

    if (n == 0 || n >= sizeof(addr_text))
        return false;
    memcpy(addr_text, target, n);
    addr_text[n] = '\0';
    if (!ip_parse(addr_text, &c.addr) ||
        !parse_int(slash + 1, 0, c.addr.family == 4 ? 32 : 128, &bits))
        return false;
    c.bits = (uint8_t)bits;
    for (unsigned bit = c.bits; bit < 128; bit++)
        c.addr.bytes[bit / 8] &= (uint8_t) ~(0x80 >> (bit % 8));
    buf_printf(why, "%s has bits set behind the prefix; the prefix is %s, the address alone %s",
               target, cidr_format(&c, text), addr_text);
    return true;
}

/* Why the target was no address or prefix. */
static void explain_target(const char *text, const struct cut *cut, struct buf *why)
{
    if (explain_host_bits(cut->target, why))
        return;
    if (!cut->bracketed && strchr(cut->target, ':') && strchr(cut->target, '/'))
        buf_printf(why, "no IPv6 prefix; with a port it is bracketed, as in [fc00::/7]:443");
    else if (strpbrk(text, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ"))
        buf_printf(why, "no IP address or prefix; a name cannot be used here, its addresses can");
    else
        buf_printf(why, "no IP address or prefix; right would be 10.0.0.0/8, 10.1.2.3:80 or "
                        "[fc00::/7]:443-444");
}

bool policy_rule_parse(const char *text, struct policy_rule *out, struct buf *why)
{
    struct cut cut = {0};

    out->host = NULL;
    out->has_port = false;
    out->port_low = 0;
    out->port_high = UINT16_MAX;
    if (!cut_item(text, &cut) || !cidr_parse(cut.target, &out->cidr)) {
        explain_target(text, &cut, why);
        return false;
    }
    if (cut.bracketed && out->cidr.addr.family != 6) {
        buf_printf(why, "only IPv6 is bracketed; right would be %s%s%s", cut.target,
                   cut.ports ? ":" : "", cut.ports ? cut.ports : "");
        return false;
    }
    out->has_port = cut.ports != NULL;
    if (cut.ports && !policy_ports_parse(cut.ports, &out->port_low, &out->port_high)) {
        buf_printf(why, "\"%s\" is no port; right would be a number from 1 to 65535, or LOW-HIGH",
                   cut.ports);
        return false;
    }
    if (out->cidr.bits >= 96 && policy_unmap(&out->cidr.addr))
        out->cidr.bits = (uint8_t)(out->cidr.bits - 96);
    return true;
}

int policy_rule_compare(const void *a, const void *b)
{
    const struct policy_rule *x = a, *y = b;

    if (x->cidr.bits != y->cidr.bits)
        return x->cidr.bits > y->cidr.bits ? -1 : 1;
    if (x->has_port != y->has_port)
        return x->has_port ? -1 : 1;
    if (x->deny != y->deny)
        return x->deny ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

bool policy_rule_matches(const struct policy_rule *r, const struct ip_addr *ip, uint16_t port)
{
    return port >= r->port_low && port <= r->port_high && cidr_contains(&r->cidr, ip);
}

bool policy_touches(const struct cidr *c, const struct ip_addr *ip)
{
    unsigned bits = c->bits < 8 ? c->bits : 8;

    return c->addr.family == ip->family && (c->addr.bytes[0] ^ ip->bytes[0]) >> (8 - bits) == 0;
}

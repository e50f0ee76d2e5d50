/* SPDX-License-Identifier: MIT
 *
 * fuzz_oracle - what a policy has to say of an address, found out once more from the registries'
 * text by other means: inet_pton() and one bit after the other. It calls nothing of daemon/, and
 * is as slow as it is plain. fuzz_cidr and fuzz_url_policy hold the daemon's word against it.
 */
#ifndef GATHERD_TESTS_FUZZ_ORACLE_H
#define GATHERD_TESTS_FUZZ_ORACLE_H

#include <arpa/inet.h>

#include "fuzz.h"

enum oracle_class { ORACLE_GLOBAL, ORACLE_PRIVATE, ORACLE_SPECIAL };
enum oracle_base { ORACLE_BASE_PUBLIC, ORACLE_BASE_PRIVATE, ORACLE_BASE_ANY };

struct oracle_ip {
    int bytes; /* 4 or 16; 0 = none */
    uint8_t b[16];
};

struct oracle_prefix {
    struct oracle_ip ip;
    int bits;
};

static inline bool oracle_ip(const char *text, struct oracle_ip *out)
{
    struct in_addr v4;
    struct in6_addr v6;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &v4) == 1) {
        out->bytes = 4;
        memcpy(out->b, &v4, 4);
    } else if (inet_pton(AF_INET6, text, &v6) == 1) {
        out->bytes = 16;
        memcpy(out->b, &v6, 16);
    }
    return out->bytes > 0;
}

static inline bool oracle_bit(const struct oracle_ip *ip, int bit)
{
    return (ip->b[bit / 8] >> (7 - bit % 8)) & 1;
}

static inline bool oracle_holds(const struct oracle_prefix *p, const struct oracle_ip *ip)
{
    if (p->ip.bytes != ip->bytes)
        return false;
    for (int i = 0; i < p->bits; i++) {
        if (oracle_bit(&p->ip, i) != oracle_bit(ip, i))
            return false;
    }
    return true;
}

static inline bool oracle_equal(const struct oracle_ip *a, const struct oracle_ip *b)
{
    return a->bytes == b->bytes && memcmp(a->b, b->b, (size_t)a->bytes) == 0;
}

/* "10.0.0.0/8", or an address; digits alone behind the slash, no leading zero, no host bits. */
static inline bool oracle_prefix(const char *text, struct oracle_prefix *out)
{
    char address[64], *end;
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof address)
        return false;
    memcpy(address, text, n);
    address[n] = '\0';
    if (!oracle_ip(address, &out->ip))
        return false;
    out->bits = out->ip.bytes * 8;
    if (slash != NULL) {
        if (slash[1] < '0' || slash[1] > '9' || (slash[1] == '0' && slash[2] != '\0'))
            return false;
        long bits = strtol(slash + 1, &end, 10);
        if (*end != '\0' || bits > out->bits)
            return false;
        out->bits = (int)bits;
    }
    for (int i = out->bits; i < out->ip.bytes * 8; i++) {
        if (oracle_bit(&out->ip, i))
            return false;
    }
    return true;
}

/* The registries' rows that are not what lies around them. Outside of 2000::/3 nothing is global.
 */
static const struct {
    const char *prefix;
    enum oracle_class class;
} oracle_rows[] = {
    {"0.0.0.0/0", ORACLE_GLOBAL},        {"0.0.0.0/8", ORACLE_SPECIAL},
    {"10.0.0.0/8", ORACLE_PRIVATE},      {"100.64.0.0/10", ORACLE_PRIVATE},
    {"127.0.0.0/8", ORACLE_SPECIAL},     {"169.254.0.0/16", ORACLE_SPECIAL},
    {"172.16.0.0/12", ORACLE_PRIVATE},   {"192.0.0.0/24", ORACLE_SPECIAL},
    {"192.0.0.9/32", ORACLE_GLOBAL},     {"192.0.0.10/32", ORACLE_GLOBAL},
    {"192.0.2.0/24", ORACLE_SPECIAL},    {"192.88.99.0/24", ORACLE_SPECIAL},
    {"192.168.0.0/16", ORACLE_PRIVATE},  {"198.18.0.0/15", ORACLE_SPECIAL},
    {"198.51.100.0/24", ORACLE_SPECIAL}, {"203.0.113.0/24", ORACLE_SPECIAL},
    {"224.0.0.0/4", ORACLE_SPECIAL},     {"240.0.0.0/4", ORACLE_SPECIAL},
    {"::/0", ORACLE_SPECIAL},            {"2000::/3", ORACLE_GLOBAL},
    {"2001::/23", ORACLE_SPECIAL},       {"2001:1::1/128", ORACLE_GLOBAL},
    {"2001:1::2/128", ORACLE_GLOBAL},    {"2001:1::3/128", ORACLE_GLOBAL},
    {"2001:3::/32", ORACLE_GLOBAL},      {"2001:4:112::/48", ORACLE_GLOBAL},
    {"2001:20::/28", ORACLE_GLOBAL},     {"2001:30::/28", ORACLE_GLOBAL},
    {"2001:db8::/32", ORACLE_SPECIAL},   {"2002::/16", ORACLE_SPECIAL},
    {"3fff::/20", ORACLE_SPECIAL},       {"fc00::/7", ORACLE_PRIVATE},
};

#define ORACLE_ROWS (sizeof oracle_rows / sizeof *oracle_rows)

static inline enum oracle_class oracle_class(const struct oracle_ip *ip)
{
    static struct oracle_prefix prefixes[ORACLE_ROWS];
    enum oracle_class class = ORACLE_SPECIAL;
    int best = -1;
    if (prefixes[0].ip.bytes == 0) {
        for (size_t i = 0; i < ORACLE_ROWS; i++)
            FUZZ_ASSERT(oracle_prefix(oracle_rows[i].prefix, &prefixes[i]));
    }
    for (size_t i = 0; i < ORACLE_ROWS; i++) {
        if (prefixes[i].bits > best && oracle_holds(&prefixes[i], ip)) {
            best = prefixes[i].bits;
            class = oracle_rows[i].class;
        }
    }
    return class;
}

static inline bool oracle_is_metadata(const struct oracle_ip *ip)
{
    static const char *const all[] = {
        "168.63.129.16",      "169.254.169.254",   "169.254.169.252", "169.254.170.2",
        "169.254.170.23",     "169.254.42.42",     "169.254.0.23",    "100.100.100.200",
        "192.0.0.192",        "fd00:ec2::/32",     "fd20:ce::254",    "fd00:42::42",
        "fd00:c1::a9fe:a9fe", "fd00:100::100:200", "fd00:a9fe:a9fe::1",
        "fe80::a9fe:a9fe",
    };
    struct oracle_prefix one;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (oracle_prefix(all[i], &one) && oracle_holds(&one, ip))
            return true;
    }
    return false;
}

/* An IPv6 prefix. */
static inline bool oracle_is_in(const struct oracle_ip *ip, const char *prefix)
{
    struct oracle_prefix p;
    if (ip->bytes != 16)
        return false;
    FUZZ_ASSERT(oracle_prefix(prefix, &p));
    return oracle_holds(&p, ip);
}

static inline bool oracle_is_mapped(const struct oracle_ip *ip)
{
    return oracle_is_in(ip, "::ffff:0:0/96");
}

/* Whether any of the bytes from `from` to before `to` is not 0. */
static inline bool oracle_any(const struct oracle_ip *ip, int from, int to)
{
    bool any = false;
    for (int i = from; i < to; i++)
        any |= ip->b[i] != 0;
    return any;
}

static inline struct oracle_ip oracle_v4(const struct oracle_ip *ip, int a, int b, int c, int d,
                                         uint8_t turn)
{
    const uint8_t *s = ip->b;
    return (struct oracle_ip){4, {s[a] ^ turn, s[b] ^ turn, s[c] ^ turn, s[d] ^ turn}};
}

/* NAT64 of one's own: the 32 bits behind a prefix of 48, 56, 64 or 96, bits 64 to 71 skipped; none
 * of 0.0.0.0/8, if there is another. */
static inline int oracle_inside_local(const struct oracle_ip *ip, struct oracle_ip out[4])
{
    static const int prefixes[] = {48, 56, 64, 96};
    int n = 0;
    for (int i = 0; i < 4; i++) {
        struct oracle_ip v4 = {.bytes = 4};
        int from = prefixes[i];
        for (int bit = 0; bit < 32; bit++, from++) {
            if (from == 64)
                from = 72;
            v4.b[bit / 8] = (uint8_t)(v4.b[bit / 8] << 1 | oracle_bit(ip, from));
        }
        if (v4.b[0] > 0 || (i == 3 && n == 0))
            out[n++] = v4;
    }
    return n;
}

/* The IPv4 addresses inside an IPv6 one, at most four. */
static inline int oracle_inside(const struct oracle_ip *ip, struct oracle_ip out[4])
{
    int n = 0;
    bool isatap = ip->bytes == 16 && (ip->b[8] & 0xfd) == 0 && ip->b[9] == 0 && ip->b[10] == 0x5e &&
                  ip->b[11] == 0xfe;
    if (ip->bytes != 16 || oracle_is_in(ip, "::/127"))
        return 0;
    if (oracle_is_in(ip, "64:ff9b:1::/48"))
        return oracle_inside_local(ip, out);
    if (oracle_is_in(ip, "2001::/32")) {
        out[n++] = oracle_v4(ip, 4, 5, 6, 7, 0);
        out[n++] = oracle_v4(ip, 12, 13, 14, 15, 0xff);
        return n;
    }
    if (oracle_is_in(ip, "2002::/16"))
        out[n++] = oracle_v4(ip, 2, 3, 4, 5, 0);
    if (isatap || oracle_is_mapped(ip) || oracle_is_in(ip, "::/96") ||
        oracle_is_in(ip, "::ffff:0:0:0/96") || oracle_is_in(ip, "64:ff9b::/96"))
        out[n++] = oracle_v4(ip, 12, 13, 14, 15, 0);
    return n;
}

/* --- a whole policy --- */

#define ORACLE_RULES 16

struct oracle_rule {
    struct oracle_prefix prefix;
    bool deny, has_port;
    long low, high;
};

struct oracle_own {
    struct oracle_ip ip;
    long port;
};

struct oracle_policy {
    enum oracle_base base;
    struct oracle_rule rules[ORACLE_RULES];
    int rule_count;
    struct oracle_own own[ORACLE_RULES]; /* addresses, no wildcards */
    int own_count;
};

enum oracle_word { ORACLE_ALLOWED, ORACLE_DENIED, ORACLE_LOOP };

/* A v4-mapped prefix is the IPv4 one. */
static inline void oracle_unmap(struct oracle_prefix *p)
{
    if (p->bits >= 96 && oracle_is_mapped(&p->ip)) {
        p->ip = oracle_v4(&p->ip, 12, 13, 14, 15, 0);
        p->bits -= 96;
    }
}

static inline bool oracle_decimal(const char *s, size_t n, long *out)
{
    long value = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        value = value * 10 + (s[i] - '0');
    }
    *out = value;
    return value >= 1 && value <= 65535;
}

/* PORT or LOW-HIGH. */
static inline bool oracle_ports(const char *text, struct oracle_rule *r)
{
    size_t n = strcspn(text, "-");
    const char *high = text + n + 1;
    r->has_port = true;
    if (!oracle_decimal(text, n, &r->low))
        return false;
    r->high = r->low;
    return text[n] == '\0' ||
           (oracle_decimal(high, strlen(high), &r->high) && r->high >= r->low);
}

/* Where the prefix ends: at a bracket, at the only colon, or with the text. *ports: NULL = none. */
static inline const char *oracle_item_end(const char *text, const char **ports)
{
    const char *colon = strchr(text, ':'), *end = text + strlen(text);
    *ports = NULL;
    if (text[0] == '[') {
        end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return NULL;
        *ports = end[1] == ':' ? end + 2 : NULL;
    } else if (colon != NULL && colon == strrchr(text, ':')) {
        end = colon;
        *ports = colon + 1;
    }
    return end;
}

/* An item of allow or deny: PREFIX, PREFIX:PORT, PREFIX:LOW-HIGH; IPv6 in brackets when there is a
 * port, and where one likes. */
static inline bool oracle_rule(const char *text, bool deny, struct oracle_rule *r)
{
    char target[80];
    const char *ports, *end = oracle_item_end(text, &ports);
    bool bracketed = text[0] == '[';
    text += bracketed;
    *r = (struct oracle_rule){.deny = deny, .low = 0, .high = 65535};
    if (end == NULL || (size_t)(end - text) >= sizeof target)
        return false;
    memcpy(target, text, (size_t)(end - text));
    target[end - text] = '\0';
    if (!oracle_prefix(target, &r->prefix) || (bracketed && r->prefix.ip.bytes != 16))
        return false;
    oracle_unmap(&r->prefix);
    return ports == NULL || oracle_ports(ports, r);
}

/* Longest prefix, then with a port, then deny. */
static inline bool oracle_is_better(const struct oracle_rule *a, const struct oracle_rule *b)
{
    if (a->prefix.bits != b->prefix.bits)
        return a->prefix.bits > b->prefix.bits;
    if (a->has_port != b->has_port)
        return a->has_port;
    return a->deny && !b->deny;
}

/* Linux dials loopback where it is to dial 0.0.0.0 or ::. */
static inline bool oracle_is_home(const struct oracle_ip *ip, struct oracle_ip *out)
{
    if (oracle_any(ip, 0, 16))
        return false;
    FUZZ_ASSERT(oracle_ip(ip->bytes == 4 ? "127.0.0.1" : "::1", out));
    return true;
}

static inline enum oracle_word oracle_judge_one(const struct oracle_policy *p,
                                                const struct oracle_ip *ip, long port)
{
    const struct oracle_rule *rule = NULL;
    struct oracle_ip dialled = *ip;
    oracle_is_home(ip, &dialled);
    for (int i = 0; i < p->own_count; i++) {
        if (p->own[i].port == port && oracle_equal(&p->own[i].ip, &dialled))
            return ORACLE_LOOP;
    }
    for (int i = 0; i < p->rule_count; i++) {
        const struct oracle_rule *r = &p->rules[i];
        if (port >= r->low && port <= r->high && oracle_holds(&r->prefix, ip) &&
            (rule == NULL || oracle_is_better(r, rule)))
            rule = r;
    }
    if (rule != NULL && rule->deny)
        return ORACLE_DENIED;
    if (oracle_is_mapped(ip))
        return ORACLE_ALLOWED; /* it is judged as what is inside */
    if (oracle_is_metadata(ip))
        return rule != NULL && rule->prefix.bits == ip->bytes * 8 ? ORACLE_ALLOWED : ORACLE_DENIED;
    enum oracle_class class = oracle_class(ip);
    bool open = rule != NULL || p->base == ORACLE_BASE_ANY || class == ORACLE_GLOBAL ||
                (p->base == ORACLE_BASE_PRIVATE && class == ORACLE_PRIVATE);
    return open ? ORACLE_ALLOWED : ORACLE_DENIED;
}

static inline enum oracle_word oracle_judge(const struct oracle_policy *p,
                                            const struct oracle_ip *ip, long port)
{
    struct oracle_ip inside[4];
    enum oracle_word worst = oracle_judge_one(p, ip, port);
    int n = oracle_inside(ip, inside);
    for (int i = 0; i < n; i++) {
        enum oracle_word word = oracle_judge_one(p, &inside[i], port);
        worst = word > worst ? word : worst;
    }
    struct oracle_ip dialled = oracle_is_mapped(ip) ? inside[0] : *ip;
    if (oracle_is_home(&dialled, &dialled)) {
        enum oracle_word word = oracle_judge_one(p, &dialled, port);
        worst = word > worst ? word : worst;
    }
    return worst;
}

#endif

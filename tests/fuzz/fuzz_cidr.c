/* SPDX-License-Identifier: MIT
 *
 * fuzz_cidr - addresses, prefixes and the lists of a policy, against inet_pton() and a comparison
 * of bits (fuzz_oracle.h).
 *
 * The input is text up to the first NUL, a line each of
 *
 *     base public|private|any
 *     allow ITEM, deny ITEM     as in [policy]
 *     own ADDRESS PORT          a listener of gatherd itself
 *     anything                  is tried as an address and as a prefix
 *
 * and behind the NUL addresses to be judged, 19 bytes each: family (odd: IPv4), port, 16 bytes.
 *
 * Promised: what is read is what inet_pton() reads, and printing it gives the same again; a prefix
 * holds what has its bits; a line is taken when the grammar says so; each verdict is the oracle's;
 * check and explain agree; and the `allow` line that a denial names opens that address.
 */
#include "fuzz.h"

#include "buf.h"
#include "cidr.h"
#include "fuzz_oracle.h"
#include "policy.h"
#include "utf8.h"

#define ADDRESSES_MAX 16
#define ADDRESS_BYTES 19

struct lists {
    struct config_policy conf;
    char *allow[ORACLE_RULES], *deny[ORACLE_RULES];
    struct policy_endpoint own[ORACLE_RULES];
    struct oracle_policy oracle;
    bool good; /* as the oracle has it */
};

/* --- text --- */

static struct oracle_ip to_oracle(const struct ip_addr *ip)
{
    struct oracle_ip out = {ip->family == 4 ? 4 : ip->family == 6 ? 16 : 0, {0}};
    memcpy(out.b, ip->bytes, sizeof out.b);
    return out;
}

static void check_address(const char *text)
{
    struct ip_addr ip, again;
    struct oracle_ip expected;
    char printed[IP_TEXT_MAX];
    bool ok = ip_parse(text, &ip);
    FUZZ_ASSERT(ok == oracle_ip(text, &expected));
    if (!ok)
        return;
    struct oracle_ip got = to_oracle(&ip);
    FUZZ_ASSERT(oracle_equal(&got, &expected));
    FUZZ_ASSERT(ip_parse(ip_format(&ip, printed), &again) && ip_equal(&ip, &again));
}

static void check_prefix(const char *text)
{
    struct cidr c, again;
    struct oracle_prefix expected;
    char printed[IP_TEXT_MAX + 4];
    bool ok = cidr_parse(text, &c);
    FUZZ_ASSERT(ok == oracle_prefix(text, &expected));
    if (!ok)
        return;
    struct oracle_ip got = to_oracle(&c.addr);
    FUZZ_ASSERT(oracle_equal(&got, &expected.ip) && c.bits == expected.bits);
    FUZZ_ASSERT(cidr_contains(&c, &c.addr));
    FUZZ_ASSERT(cidr_parse(cidr_format(&c, printed), &again));
    FUZZ_ASSERT(ip_equal(&c.addr, &again.addr) && c.bits == again.bits);
    if (c.bits == 0)
        return;
    struct ip_addr other = c.addr; /* its last bit that counts, turned over */
    other.bytes[(c.bits - 1) / 8] ^= (uint8_t)(0x80 >> ((c.bits - 1) % 8));
    FUZZ_ASSERT(!cidr_contains(&c, &other));
}

/* --- the lists --- */

static bool starts(const char *line, const char *word, const char **rest)
{
    size_t n = strlen(word);
    *rest = line + n;
    return strncmp(line, word, n) == 0;
}

static void add_item(struct lists *l, struct str_list *list, const char *item, bool deny)
{
    struct oracle_policy *o = &l->oracle;
    if (o->rule_count == ORACLE_RULES || !l->good)
        return;
    list->items[list->count++] = fuzz_text(item, strlen(item));
    l->good = oracle_rule(item, deny, &o->rules[o->rule_count]);
    o->rule_count++;
}

static void add_own(struct lists *l, char *text)
{
    struct oracle_policy *o = &l->oracle;
    struct ip_addr ip;
    char *blank = strchr(text, ' ');
    long port;
    if (blank == NULL || o->own_count == ORACLE_RULES)
        return;
    *blank = '\0';
    if (!ip_parse(text, &ip) || !oracle_decimal(blank + 1, strlen(blank + 1), &port))
        return;
    struct oracle_prefix p = {to_oracle(&ip), 8 * to_oracle(&ip).bytes};
    oracle_unmap(&p);
    if (!oracle_any(&p.ip, 0, 16))
        return; /* a wildcard is every address of this machine: not of this test */
    o->own[o->own_count] = (struct oracle_own){p.ip, port};
    l->own[o->own_count++] = (struct policy_endpoint){ip, (uint16_t)port};
}

static void set_base(struct lists *l, const char *word)
{
    l->oracle.base = *word == 'a'                    ? ORACLE_BASE_ANY
                     : strcmp(word, "private") == 0 ? ORACLE_BASE_PRIVATE
                                                    : ORACLE_BASE_PUBLIC;
    l->conf.base = l->oracle.base == ORACLE_BASE_ANY       ? POLICY_BASE_UNSAFE_ANY
                   : l->oracle.base == ORACLE_BASE_PRIVATE ? POLICY_BASE_PRIVATE
                                                           : POLICY_BASE_PUBLIC;
}

static void read_line(struct lists *l, char *line)
{
    const char *rest;
    if (starts(line, "allow ", &rest))
        add_item(l, &l->conf.allow, rest, false);
    else if (starts(line, "deny ", &rest))
        add_item(l, &l->conf.deny, rest, true);
    else if (starts(line, "base ", &rest))
        set_base(l, rest);
    else if (starts(line, "own ", &rest))
        add_own(l, line + 4);
    check_address(line);
    check_prefix(line);
}

static void read_lines(struct lists *l, char *text)
{
    static char name[] = "p";
    *l = (struct lists){.conf = {.name = name}, .good = true};
    l->conf.allow.items = l->allow;
    l->conf.deny.items = l->deny;
    for (char *line; (line = strsep(&text, "\n")) != NULL;)
        read_line(l, line);
}

static void free_lists(struct lists *l)
{
    for (size_t i = 0; i < l->conf.allow.count; i++)
        free(l->allow[i]);
    for (size_t i = 0; i < l->conf.deny.count; i++)
        free(l->deny[i]);
}

/* --- verdicts --- */

static bool ask(const struct policy *p, const struct ip_addr *ip, uint16_t port, struct verdict *v)
{
    const struct policy_hop hop = {.port = port};
    return policy_check_address(p, &hop, ip, v);
}

static bool explain(const struct policy *p, const struct ip_addr *ip, uint16_t port,
                    struct verdict *v)
{
    const struct policy_hop hop = {.port = port};
    return policy_explain_address(p, &hop, ip, v);
}

/* The line stands between "`allow = " and "`"; it may name several items. False: the message has
 * none, or was cut. */
static bool read_hint(const char *message, struct config_policy *conf, char *copy, size_t size)
{
    const char *begin = strstr(message, "`allow = "), *end;
    if (begin == NULL || (end = strchr(begin + 9, '`')) == NULL)
        return false;
    snprintf(copy, size, "%.*s", (int)(end - begin - 9), begin + 9);
    for (char *word; (word = strsep(&copy, " ")) != NULL;)
        conf->allow.items[conf->allow.count++] = word;
    return true;
}

/* With the line that a denial names the address is allowed. */
static void check_hint(const struct lists *l, const struct ip_addr *ip, uint16_t port,
                       const struct verdict *v)
{
    char *items[2 * ORACLE_RULES], copy[POLICY_MESSAGE_MAX];
    struct config_policy conf = l->conf;
    struct verdict after;
    struct buf errors;
    conf.allow.items = items;
    memcpy(items, l->allow, sizeof l->allow);
    if (!read_hint(v->message, &conf, copy, sizeof copy))
        return;
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    FUZZ_ASSERT(p != NULL && policy_set_own(p, l->own, (size_t)l->oracle.own_count));
    FUZZ_ASSERT(ask(p, ip, port, &after));
    policy_destroy(p);
    buf_fini(&errors);
}

/* Whether it was denied. */
static bool check_verdict(const struct lists *l, const struct policy *p, const struct ip_addr *ip,
                          uint16_t port, struct verdict *v)
{
    static const enum err_type types[] = {ERR_NONE, ERR_DESTINATION_IP_PROHIBITED,
                                          ERR_PROXY_LOOP_DETECTED};
    struct oracle_ip address = to_oracle(ip);
    struct verdict explained;
    enum oracle_word word = oracle_judge(&l->oracle, &address, port);
    bool allowed = ask(p, ip, port, v);
    FUZZ_ASSERT(v->type == types[word]);
    FUZZ_ASSERT(allowed == (v->type == ERR_NONE));
    FUZZ_ASSERT(explain(p, ip, port, &explained) == allowed);
    FUZZ_ASSERT(explained.type == v->type && explained.rule[0] != '\0');
    FUZZ_ASSERT(allowed == (v->message[0] == '\0'));
    FUZZ_ASSERT(utf8_valid(v->message, strlen(v->message)));
    return !allowed;
}

static void check_embedded(const struct ip_addr *ip)
{
    struct oracle_ip address = to_oracle(ip), expected[4];
    struct ip_addr got[IP_EMBEDDED_MAX];
    int n = ip_embedded_v4(ip, got);
    FUZZ_ASSERT(n == oracle_inside(&address, expected));
    for (int i = 0; i < n; i++) {
        struct oracle_ip one = to_oracle(&got[i]);
        FUZZ_ASSERT(oracle_equal(&one, &expected[i]));
    }
}

static void judge(const struct lists *l, const struct policy *p, const uint8_t *data, size_t size)
{
    bool hinted = false; /* making a policy takes as long as many verdicts: once an input */
    for (int i = 0; size >= ADDRESS_BYTES && i < ADDRESSES_MAX; i++) {
        struct verdict v;
        struct ip_addr ip = {.family = data[0] % 2 ? 4 : 6};
        uint16_t port = (uint16_t)(data[1] << 8 | data[2]);
        memcpy(ip.bytes, data + 3, ip.family == 4 ? 4 : 16);
        check_embedded(&ip);
        if (check_verdict(l, p, &ip, port, &v) && port != 0 && !hinted) {
            check_hint(l, &ip, port, &v);
            hinted = true;
        }
        data += ADDRESS_BYTES;
        size -= ADDRESS_BYTES;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *begin;
    size_t n = fuzz_take_until(&data, &size, '\0', &begin);
    char *text = fuzz_text(begin, n);
    struct lists l;
    struct buf errors;
    read_lines(&l, text);
    buf_init(&errors, 0);
    struct policy *p = policy_create(&l.conf, &errors);
    FUZZ_ASSERT((p != NULL) == l.good);
    FUZZ_ASSERT((p != NULL) == (errors.len == 0));
    if (p != NULL) {
        if (l.oracle.own_count > 0) /* it takes as long as making the policy */
            FUZZ_ASSERT(policy_set_own(p, l.own, (size_t)l.oracle.own_count));
        judge(&l, p, data, size);
    }
    policy_destroy(p);
    buf_fini(&errors);
    free_lists(&l);
    free(text);
    return 0;
}

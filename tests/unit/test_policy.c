/* SPDX-License-Identifier: MIT
 *
 * policy: the registry block by block, what IPv6 hides, presets, lines and their order, metadata,
 * own listeners, the messages (the line that a denial names must really open), and the corpora.
 */
#include "policy.h"

#include <ifaddrs.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "target.h"
#include "testdata.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WORDS_MAX 16

/* --- helpers --------------------------------------------------------------------------------- */

/* Cuts a copy of text at blanks; items point into *copy. */
static void split(const char *text, char *copy, size_t size, char **items, struct str_list *out)
{
    snprintf(copy, size, "%s", text);
    *out = (struct str_list){.items = items};
    for (char *save = NULL, *word = strtok_r(copy, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        assert_in_range(out->count, 0, WORDS_MAX - 1);
        items[out->count++] = word;
    }
}

/* Lines are separated by blanks here; NULL with the messages in `errors` (which may be NULL). */
static struct policy *make(enum config_base base, const char *allow, const char *deny,
                           struct buf *errors)
{
    char name[] = "default", allow_copy[1024], deny_copy[1024];
    char *allow_items[WORDS_MAX], *deny_items[WORDS_MAX];
    struct config_policy conf = {.name = name, .base = base};
    struct buf own;

    split(allow, allow_copy, sizeof allow_copy, allow_items, &conf.allow);
    split(deny, deny_copy, sizeof deny_copy, deny_items, &conf.deny);
    buf_init(&own, 0);
    struct policy *p = policy_create(&conf, errors ? errors : &own);
    if (!p && !errors)
        fail_msg("%s", buf_cstr(&own));
    buf_fini(&own);
    return p;
}

static struct ip_addr ip(const char *text)
{
    struct ip_addr out;

    if (!ip_parse(text, &out))
        fail_msg("%s is no address", text);
    return out;
}

static bool check_ip(const struct policy *p, const struct ip_addr *addr, uint16_t port,
                     struct verdict *v)
{
    const struct policy_hop hop = {.port = port};

    return policy_check_address(p, &hop, addr, v);
}

static bool explain_ip(const struct policy *p, const struct ip_addr *addr, uint16_t port,
                       struct verdict *v)
{
    const struct policy_hop hop = {.port = port};

    return policy_explain_address(p, &hop, addr, v);
}

static bool check_host(const struct policy *p, const char *host, const struct ip_addr *literal,
                       uint16_t port, struct verdict *v)
{
    const struct policy_hop hop = {.host = host, .port = port};

    return policy_check_host(p, &hop, literal, v);
}

static bool check(const struct policy *p, const char *text, uint16_t port, struct verdict *v)
{
    struct ip_addr addr = ip(text);

    memset(v, 0xAA, sizeof *v);
    bool allowed = check_ip(p, &addr, port, v);
    assert_int_equal(allowed, v->type == ERR_NONE);
    assert_int_equal(allowed, v->rule[0] == '\0');
    memset(v, 0xAA, sizeof *v);
    assert_int_equal(explain_ip(p, &addr, port, v), allowed);
    assert_int_equal(allowed, v->type == ERR_NONE);
    assert_non_null(memchr(v->rule, '\0', sizeof v->rule));
    assert_non_null(memchr(v->message, '\0', sizeof v->message));
    assert_true(v->rule[0] != '\0');
    assert_int_equal(allowed, v->message[0] == '\0');
    return allowed;
}

static void assert_allowed(const struct policy *p, const char *text, uint16_t port)
{
    struct verdict v;

    if (!check(p, text, port, &v))
        fail_msg("%s port %u was denied: %s", text, (unsigned)port, v.message);
}

static void assert_denied(const struct policy *p, const char *text, uint16_t port, const char *rule)
{
    struct verdict v;

    if (check(p, text, port, &v))
        fail_msg("%s port %u was allowed by \"%s\"", text, (unsigned)port, v.rule);
    if (strncmp(v.rule, rule, strlen(rule)) != 0)
        fail_msg("%s port %u was denied by \"%s\", not \"%s\"", text, (unsigned)port, v.rule, rule);
}

/* --- the registry ---------------------------------------------------------------------------- */

/* First and last address of each block that is not public. */
static const char *const special[][3] = {
    {"0.0.0.0", "0.0.0.0", "0.0.0.0/32"},
    {"0.0.0.1", "0.255.255.255", "0.0.0.0/8"},
    {"10.0.0.0", "10.255.255.255", "10.0.0.0/8 private-use"},
    {"100.64.0.0", "100.127.255.255", "100.64.0.0/10 shared address space"},
    {"127.0.0.0", "127.255.255.255", "127.0.0.0/8 loopback"},
    {"169.254.0.0", "169.254.255.255", "169.254.0.0/16 link local"},
    {"172.16.0.0", "172.31.255.255", "172.16.0.0/12 private-use"},
    {"192.0.0.0", "192.0.0.7", "192.0.0.0/29"},
    {"192.0.0.8", "192.0.0.8", "192.0.0.8/32"},
    {"192.0.0.11", "192.0.0.169", "192.0.0.0/24"},
    {"192.0.0.170", "192.0.0.170", "192.0.0.170/32"},
    {"192.0.0.171", "192.0.0.171", "192.0.0.171/32"},
    {"192.0.0.172", "192.0.0.255", "192.0.0.0/24"},
    {"192.0.2.0", "192.0.2.255", "192.0.2.0/24"},
    {"192.88.99.0", "192.88.99.255", "192.88.99.0/24"},
    {"192.88.99.2", "192.88.99.2", "192.88.99.2/32"},
    {"192.168.0.0", "192.168.255.255", "192.168.0.0/16"},
    {"198.18.0.0", "198.19.255.255", "198.18.0.0/15"},
    {"198.51.100.0", "198.51.100.255", "198.51.100.0/24"},
    {"203.0.113.0", "203.0.113.255", "203.0.113.0/24"},
    {"224.0.0.0", "239.255.255.255", "224.0.0.0/4 multicast"},
    {"240.0.0.0", "255.255.255.254", "240.0.0.0/4"},
    {"255.255.255.255", "255.255.255.255", "255.255.255.255/32"},
    {"::", "::", "::/128"},
    {"::1", "::1", "::1/128"},
    {"::2", "::ffff:ffff", "::/96"},
    {"::1:0:0", "::fffe:ffff:ffff", "::/0"},
    {"::ffff:0:0:0", "::ffff:0:ffff:ffff", "::ffff:0:0:0/96"},
    {"64:ff9b::", "64:ff9b::ffff:ffff", "64:ff9b::/96"},
    {"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:1::/48"},
    {"100::", "100::ffff:ffff:ffff:ffff", "100::/64"},
    {"100:0:0:1::", "100::1:ffff:ffff:ffff:ffff", "100:0:0:1::/64"},
    {"100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
    {"2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "2001::/32 Teredo"},
    {"2001:1::", "2001:1::", "2001::/23"},
    {"2001:1::4", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", "2001::/23"},
    {"2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "2001:2::/48"},
    {"2001:2:1::", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff", "2001::/23"},
    {"2001:4::", "2001:4:111:ffff:ffff:ffff:ffff:ffff", "2001::/23"},
    {"2001:4:113::", "2001:f:ffff:ffff:ffff:ffff:ffff:ffff", "2001::/23"},
    {"2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:10::/28"},
    {"2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001::/23"},
    {"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::/32"},
    {"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::/16 6to4"},
    {"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::/20"},
    {"4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
    {"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f00::/16"},
    {"5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
    {"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fc00::/7 unique-local"},
    {"fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
    {"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::/10"},
    {"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::/10"},
    {"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::/8 multicast"},
};

/* First and last address of what lies between them. */
static const char *const global[][2] = {
    {"1.0.0.0", "9.255.255.255"},
    {"11.0.0.0", "100.63.255.255"},
    {"100.128.0.0", "126.255.255.255"},
    {"128.0.0.0", "169.253.255.255"},
    {"169.255.0.0", "172.15.255.255"},
    {"172.32.0.0", "191.255.255.255"},
    {"192.0.0.9", "192.0.0.10"},
    {"192.0.1.0", "192.0.1.255"},
    {"192.0.3.0", "192.88.98.255"},
    {"192.31.196.0", "192.31.196.255"},
    {"192.52.193.0", "192.52.193.255"},
    {"192.88.100.0", "192.167.255.255"},
    {"192.169.0.0", "198.17.255.255"},
    {"192.175.48.0", "192.175.48.255"},
    {"198.20.0.0", "198.51.99.255"},
    {"198.51.101.0", "203.0.112.255"},
    {"203.0.114.0", "223.255.255.255"},
    {"2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2001:1::1", "2001:1::3"},
    {"2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff"},
    {"2001:20::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2003::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"},
    {"3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
};

static void test_registry(void **state)
{
    (void)state;
    struct policy *p = make(POLICY_BASE_PUBLIC, "", "", NULL);

    for (size_t i = 0; i < COUNT(special); i++) {
        char rule[POLICY_RULE_MAX];
        snprintf(rule, sizeof rule, "public: %s", special[i][2]);
        assert_denied(p, special[i][0], 80, rule);
        /* The very last ones of some blocks are rows or embed something of their own. */
        struct verdict v;
        assert_false(check(p, special[i][1], 80, &v));
        assert_int_equal(v.type, ERR_DESTINATION_IP_PROHIBITED);
    }
    for (size_t i = 0; i < COUNT(global); i++) {
        assert_allowed(p, global[i][0], 80);
        assert_allowed(p, global[i][1], 65535);
    }
    policy_destroy(p);
}

/* All of IPv4 in steps: between the named edges nothing changes. */
static void test_all_of_ipv4(void **state)
{
    (void)state;
    struct policy *p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    size_t allowed[2] = {0, 0};

    for (uint64_t i = 0; i <= UINT32_MAX; i += 65521) {
        struct ip_addr addr = {4, {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8),
                                   (uint8_t)i}};
        struct verdict v;
        bool expected = true;
        for (size_t k = 0; k < COUNT(special) && expected; k++) {
            struct ip_addr first = ip(special[k][0]), last = ip(special[k][1]);
            expected = first.family != 4 || memcmp(addr.bytes, first.bytes, 4) < 0 ||
                       memcmp(addr.bytes, last.bytes, 4) > 0;
        }
        assert_int_equal(check_ip(p, &addr, 443, &v), expected);
        allowed[expected]++;
    }
    assert_in_range(allowed[0], 8000, 12000);
    assert_in_range(allowed[1], 50000, 60000);
    policy_destroy(p);
}

/* IPv4 in each IPv6 dress: what stands before and behind its two halves. */
static void test_embedded(void **state)
{
    (void)state;
    static const char *const hidden[][2] = {
        {"::ffff:", ""},         {"::", ""},
        {"::ffff:0:", ""},       {"64:ff9b::", ""},
        {"64:ff9b:1::", ""},     {"2002:", "::1"},
        {"fe80::5efe:", ""},     {"2606:4700::5efe:", ""},
        {"2001:0:", "::1"},      {"2606:4700::200:5efe:", ""},
    };
    static const char *const bad[] = {"127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0",
                                      "168.63.129.16", "224.0.0.1", "255.255.255.255"};
    /* With the outer block open only the IPv4 address is left to object. */
    struct policy *closed = make(POLICY_BASE_PUBLIC, "", "", NULL);
    struct policy *open = make(POLICY_BASE_PUBLIC, "::/0", "", NULL);
    struct verdict v;

    for (size_t i = 0; i < COUNT(hidden); i++) {
        char text[80];
        for (size_t k = 0; k < COUNT(bad); k++) {
            struct ip_addr v4 = ip(bad[k]);
            /* With no IPv4 inside they are other addresses. */
            if (strcmp(bad[k], "0.0.0.0") == 0 && strcmp(hidden[i][0], "::") == 0)
                continue;
            snprintf(text, sizeof text, "%s%x:%x%s", hidden[i][0],
                     (unsigned)(v4.bytes[0] << 8 | v4.bytes[1]),
                     (unsigned)(v4.bytes[2] << 8 | v4.bytes[3]), hidden[i][1]);
            assert_false(check(closed, text, 80, &v));
            if (check(open, text, 80, &v))
                fail_msg("%s was allowed by \"%s\"", text, v.rule);
            assert_non_null(strstr(v.message, bad[k]));
        }
    }
    /* A public one inside is allowed where the outer address is: mapped and ISATAP always. */
    assert_allowed(closed, "::ffff:8.8.8.8", 80);
    assert_allowed(closed, "2606:4700::5efe:808:808", 80);
    assert_denied(closed, "64:ff9b::808:808", 80, "public: 64:ff9b::/96");
    assert_denied(closed, "2002:808:808::1", 80, "public: 2002::/16");
    assert_allowed(open, "64:ff9b::808:808", 80);
    assert_allowed(open, "2002:808:808::1", 80);
    /* Teredo: server 8.8.8.8, client 127.0.0.1 and 8.8.4.4 turned over. */
    assert_denied(open, "2001:0:808:808::80ff:fffe", 80, "public: 127.0.0.0/8");
    assert_allowed(open, "2001:0:808:808::f7f7:fbfb", 80);
    policy_destroy(open);
    policy_destroy(closed);
}

static void test_presets(void **state)
{
    (void)state;
    static const char *const own_sites[] = {"10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1",
                                            "fd12:3456::1", "::ffff:10.1.2.3"};
    static const char *const never[] = {"127.0.0.1", "169.254.1.1", "0.0.0.0", "::1", "fe80::1",
                                        "192.0.2.1", "224.0.0.1", "64:ff9b::a00:1", "fec0::1"};
    struct policy *public = make(POLICY_BASE_PUBLIC, "", "", NULL);
    struct policy *private = make(POLICY_BASE_PRIVATE, "", "", NULL);
    struct policy *any = make(POLICY_BASE_UNSAFE_ANY, "", "10.0.0.0/8", NULL);
    struct verdict v;

    for (size_t i = 0; i < COUNT(own_sites); i++) {
        assert_denied(public, own_sites[i], 80, "public: ");
        assert_allowed(private, own_sites[i], 80);
    }
    for (size_t i = 0; i < COUNT(never); i++) {
        assert_denied(public, never[i], 80, "public: ");
        assert_denied(private, never[i], 80, "private: ");
    }
    assert_allowed(private, "8.8.8.8", 80);
    assert_allowed(any, "127.0.0.1", 80);
    assert_allowed(any, "fe80::1", 80);
    assert_allowed(any, "192.168.1.1", 80);
    assert_denied(any, "10.1.2.3", 80, "deny 10.0.0.0/8");
    assert_denied(any, "64:ff9b::a01:203", 80, "deny 10.0.0.0/8");
    assert_denied(any, "169.254.169.254", 80, "metadata 169.254.169.254");
    assert_true(check(private, "10.1.2.3", 80, &v));
    assert_string_equal(v.rule, "private: private-use");
    assert_true(check(any, "127.0.0.1", 80, &v));
    assert_string_equal(v.rule, "unsafe-any: loopback");
    assert_true(check(public, "::ffff:8.8.8.8", 80, &v));
    assert_string_equal(v.rule, "public: global unicast");
    struct ip_addr none = {0};
    assert_false(check_ip(any, &none, 80, &v));
    assert_int_equal(v.type, ERR_DESTINATION_IP_PROHIBITED);
    policy_destroy(any);
    policy_destroy(private);
    policy_destroy(public);
}

/* --- lines ----------------------------------------------------------------------------------- */

static void test_lines(void **state)
{
    (void)state;
    static const struct {
        const char *allow, *deny, *address;
        uint16_t port;
        bool allowed;
        const char *rule;
    } cases[] = {
        {"127.0.0.1", "", "127.0.0.1", 80, true, "allow 127.0.0.1"},
        {"127.0.0.1", "", "127.0.0.2", 80, false, "public: 127.0.0.0/8"},
        {"127.0.0.1", "", "::ffff:127.0.0.1", 80, true, "allow 127.0.0.1"},
        {"::ffff:127.0.0.1", "", "127.0.0.1", 80, true, "allow ::ffff:127.0.0.1"},
        {"::ffff:10.0.0.0/104", "", "10.9.9.9", 80, true, "allow ::ffff:10.0.0.0/104"},
        {"::1", "", "::1", 80, true, "allow ::1"},
        {":: ::1", "", "::", 80, true, "allow ::"},
        /* Linux takes it to the loopback address */
        {"::", "", "::", 80, false, "public: ::1/128 "},
        {"::/0", "::1", "::", 80, false, "deny ::1"},
        {"0.0.0.0", "", "0.0.0.0", 80, false, "public: 127.0.0.0/8 "},
        {"0.0.0.0/0", "127.0.0.0/8", "0.0.0.0", 80, false, "deny 127.0.0.0/8"},
        {"0.0.0.0/0 ::/0", "127.0.0.0/8", "::ffff:0.0.0.0", 80, false, "deny 127.0.0.0/8"},
        {"0.0.0.0/0", "127.0.0.0/8:81", "0.0.0.0", 80, true, "allow 0.0.0.0/0"},
        {"[::1]", "", "::1", 80, true, "allow [::1]"},
        {"127.0.0.1:8080", "", "127.0.0.1", 8080, true, "allow 127.0.0.1:8080"},
        {"127.0.0.1:8080", "", "127.0.0.1", 8081, false, "public: "},
        {"127.0.0.1:8080-8082", "", "127.0.0.1", 8079, false, "public: "},
        {"127.0.0.1:8080-8082", "", "127.0.0.1", 8080, true, "allow "},
        {"127.0.0.1:8080-8082", "", "127.0.0.1", 8082, true, "allow "},
        {"127.0.0.1:8080-8082", "", "127.0.0.1", 8083, false, "public: "},
        {"127.0.0.1:1-65535", "", "127.0.0.1", 65535, true, "allow "},
        {"[fc00::/7]:443", "", "fd00::1", 443, true, "allow [fc00::/7]:443"},
        {"[fc00::/7]:443", "", "fd00::1", 80, false, "public: fc00::/7"},
        {"[::1]:80-90", "", "::1", 90, true, "allow "},
        {"10.0.0.0/8", "", "10.255.0.1", 80, true, "allow 10.0.0.0/8"},
        {"10.0.0.0/8", "", "11.0.0.1", 80, true, "public: "},
        {"0.0.0.0/0", "", "127.0.0.1", 80, true, "allow 0.0.0.0/0"},
        {"0.0.0.0/0", "", "::1", 80, false, "public: "},
        {"0.0.0.0/0", "", "::ffff:127.0.0.1", 80, true, "allow 0.0.0.0/0"},
        {"::/0", "", "127.0.0.1", 80, false, "public: "},
        {"::/0", "", "::ffff:127.0.0.1", 80, false, "public: "},
        /* the longest prefix wins */
        {"10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", 80, true, "allow "},
        {"10.1.0.0/16", "10.0.0.0/8", "10.2.2.3", 80, false, "deny 10.0.0.0/8"},
        {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", 80, false, "deny 10.1.0.0/16"},
        {"10.0.0.0/8", "10.1.0.0/16", "10.2.2.3", 80, true, "allow "},
        {"10.0.0.0/8 10.1.2.0/24", "10.1.0.0/16", "10.1.2.3", 80, true, "allow 10.1.2.0/24"},
        /* then one with a port, then deny */
        {"10.0.0.0/8", "10.0.0.0/8", "10.1.2.3", 80, false, "deny "},
        {"10.0.0.0/8:80", "10.0.0.0/8", "10.1.2.3", 80, true, "allow 10.0.0.0/8:80"},
        {"10.0.0.0/8:80", "10.0.0.0/8", "10.1.2.3", 81, false, "deny "},
        {"10.0.0.0/8", "10.0.0.0/8:80", "10.1.2.3", 80, false, "deny 10.0.0.0/8:80"},
        {"10.0.0.0/8", "10.0.0.0/8:80", "10.1.2.3", 81, true, "allow "},
        {"10.0.0.0/8:80", "10.0.0.0/8:80", "10.1.2.3", 80, false, "deny "},
        {"10.0.0.0/8:1-90", "10.0.0.0/8:80-99", "10.1.2.3", 85, false, "deny "},
        {"10.1.0.0/16", "10.0.0.0/8:80", "10.1.2.3", 80, true, "allow "},
        /* deny closes what is public, in every dress */
        {"", "8.8.8.0/24", "8.8.8.8", 80, false, "deny 8.8.8.0/24"},
        {"", "8.8.8.0/24", "8.8.9.8", 80, true, "public: "},
        {"", "8.8.8.0/24", "::ffff:8.8.8.8", 80, false, "deny 8.8.8.0/24"},
        {"", "::ffff:8.8.8.0/120", "8.8.8.8", 80, false, "deny ::ffff:8.8.8.0/120"},
        {"", "8.8.8.0/24", "2606:4700::5efe:808:808", 80, false, "deny 8.8.8.0/24"},
        {"::/0", "8.8.8.0/24", "64:ff9b::808:808", 80, false, "deny 8.8.8.0/24"},
        {"", "::/0", "2606:4700::1", 80, false, "deny ::/0"},
        {"", "::/0", "::ffff:8.8.8.8", 80, false, "deny ::/0"},
        {"", "::/0", "8.8.8.8", 80, true, "public: "},
        {"", "0.0.0.0/0", "8.8.8.8", 80, false, "deny 0.0.0.0/0"},
        /* IPv6 that embeds IPv4 needs both */
        {"64:ff9b::/96", "", "64:ff9b::808:808", 80, true, "allow 64:ff9b::/96"},
        {"64:ff9b::/96", "", "64:ff9b::a00:1", 80, false, "public: 10.0.0.0/8"},
        {"64:ff9b::/96 10.0.0.0/8", "", "64:ff9b::a00:1", 80, true, "allow 64:ff9b::/96"},
        {"10.0.0.0/8", "", "64:ff9b::a00:1", 80, false, "public: 64:ff9b::/96"},
        {"64:ff9b:1::/48", "", "64:ff9b:1::808:808", 80, true, "allow 64:ff9b:1::/48"},
        {"64:ff9b:1::/48", "", "64:ff9b:1:808:8:800::", 80, true, "allow 64:ff9b:1::/48"},
        {"64:ff9b:1::/48", "", "64:ff9b:1:a00:0:100:808:808", 80, false, "public: 10.0.0.0/8"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy *p = make(POLICY_BASE_PUBLIC, cases[i].allow, cases[i].deny, NULL);
        struct verdict v;
        bool allowed = check(p, cases[i].address, cases[i].port, &v);
        if (allowed != cases[i].allowed ||
            strncmp(v.rule, cases[i].rule, strlen(cases[i].rule)) != 0)
            fail_msg("allow = %s, deny = %s: %s port %u: %s by \"%s\"", cases[i].allow,
                     cases[i].deny, cases[i].address, (unsigned)cases[i].port,
                     allowed ? "allowed" : "denied", v.rule);
        policy_destroy(p);
    }
}

/* Both functions agree on addresses of every first byte, at the ends and in between, whatever lines
 * and listeners there are. */
static void check_first_bytes(const struct policy *p)
{
    uint64_t random = 0x9E3779B97F4A7C15;

    for (unsigned i = 0; i < 512 * 24; i++) {
        struct ip_addr addr = {.family = i & 1 ? 6 : 4, .bytes = {(uint8_t)(i / 48)}};
        struct verdict v, explained;
        uint16_t port = i % 3 ? 80 : 4284;
        for (int k = 1; k < (addr.family == 4 ? 4 : 16); k++) {
            random = random * 6364136223846793005 + 1442695040888963407;
            addr.bytes[k] = i % 48 < 2 ? 0 : i % 48 < 4 ? 255 : (uint8_t)(random >> 40);
        }
        if (i % 7 == 0 && addr.family == 6) /* ISATAP, of 10.0.0.0/8 */
            memcpy(addr.bytes + 8, "\0\0\x5e\xfe\x0a", 5);
        bool allowed = check_ip(p, &addr, port, &v);
        assert_int_equal(explain_ip(p, &addr, port, &explained), allowed);
        assert_int_equal(v.type, explained.type);
        if (!allowed)
            assert_string_equal(v.message, explained.message);
    }
}

static void test_first_bytes(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"", ""},
        {"127.0.0.0/8 10.0.0.0/8", "8.8.8.8 9.9.9.0/24:80"},
        {"0.0.0.0/0", ""},
        {"::/0", "2a00::/12"},
        {"", "64.0.0.0/3"},
        {"", "::/0"},
        {"", "0.0.0.0/0:80"},
        {"1.2.3.4:80", "[2600::/7]:443"},
    };
    static const struct policy_endpoint own[] = {
        {{4, {93, 184, 216, 34}}, 4284},
        {{6, {0x2a, 0x01, [15] = 7}}, 80},
    };
    static const enum config_base bases[] = {POLICY_BASE_PUBLIC, POLICY_BASE_PRIVATE,
                                             POLICY_BASE_UNSAFE_ANY};
    for (size_t i = 0; i < COUNT(lines); i++) {
        for (size_t k = 0; k < COUNT(bases); k++) {
            struct policy *p = make(bases[k], lines[i][0], lines[i][1], NULL);
            struct verdict v;
            check_first_bytes(p);
            assert_true(policy_set_own(p, own, COUNT(own)));
            check_first_bytes(p);
            assert_false(check(p, "93.184.216.34", 4284, &v));
            assert_false(check(p, "2a01::7", 80, &v));
            policy_destroy(p);
        }
    }
}

/* The order in which lines are written does not matter. */
static void test_order_of_lines(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "10.0.0.0/8 10.1.0.0/16:80 10.1.0.0/16 10.1.2.3",
        "10.1.2.3 10.1.0.0/16 10.1.0.0/16:80 10.0.0.0/8",
        "10.1.0.0/16 10.0.0.0/8 10.1.2.3 10.1.0.0/16:80",
        "10.1.0.0/16:80 10.1.2.3 10.0.0.0/8 10.1.0.0/16",
    };
    for (size_t i = 0; i < COUNT(orders); i++) {
        struct policy *p = make(POLICY_BASE_PUBLIC, orders[i], "", NULL);
        struct verdict v;
        assert_true(check(p, "10.1.2.3", 80, &v));
        assert_string_equal(v.rule, "allow 10.1.2.3");
        assert_true(check(p, "10.1.2.4", 80, &v));
        assert_string_equal(v.rule, "allow 10.1.0.0/16:80");
        assert_true(check(p, "10.1.2.4", 81, &v));
        assert_string_equal(v.rule, "allow 10.1.0.0/16");
        assert_true(check(p, "10.2.2.4", 81, &v));
        assert_string_equal(v.rule, "allow 10.0.0.0/8");
        policy_destroy(p);
    }
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"10.0.0.1/8", "the prefix is 10.0.0.0/8, the address alone 10.0.0.1"},
        {"10.0.0.1/8:80", "the prefix is 10.0.0.0/8, the address alone 10.0.0.1"},
        {"fd00::/7", "the prefix is fc00::/7, the address alone fd00::"},
        {"[fd00::/7]:80", "the prefix is fc00::/7, the address alone fd00::"},
        {"fc00::/7:443", "[fc00::/7]:443"},
        {"fc00::/7:443-444", "[fc00::/7]:443"},
        {"[fc00::]/7", "[fc00::/7]:443-444"},
        {"[fc00::/7", "[fc00::/7]:443-444"},
        {"[fc00::/7]443", "[fc00::/7]:443-444"},
        {"[]", "10.0.0.0/8"},
        {"[]:80", "10.0.0.0/8"},
        {"[10.0.0.0/8]:80", "right would be 10.0.0.0/8:80"},
        {"[10.0.0.1]", "right would be 10.0.0.1"},
        {"10.0.0.0/33", "no IP address or prefix"},
        {"10.0.0.0/", "no IP address or prefix"},
        {"10.0.0", "no IP address or prefix"},
        {"010.0.0.1", "no IP address or prefix"},
        {"0x7f.1", "a name cannot be used here"},
        {"10.0.0.0-10.0.0.9", "no IP address or prefix"},
        {"10.0.0.*", "no IP address or prefix"},
        {"example.com", "a name cannot be used here"},
        {"localhost:80", "a name cannot be used here"},
        {"http://10.0.0.1/", "a name cannot be used here"},
        {"fe80::1%eth0", "a name cannot be used here"},
        {"10.0.0.1:", "\"\" is no port"},
        {"10.0.0.1:0", "\"0\" is no port"},
        {"10.0.0.1:65536", "\"65536\" is no port"},
        {"10.0.0.1:80-000081", "\"80-000081\" is no port"},
        {"10.0.0.1:80-", "is no port"},
        {"10.0.0.1:-80", "is no port"},
        {"10.0.0.1:90-80", "is no port"},
        {"10.0.0.1:80-90-99", "is no port"},
        {"10.0.0.1:80,81", "is no port"},
        {"10.0.0.1:http", "is no port"},
        {"10.0.0.1:+80", "is no port"},
        {"10.0.0.1:000080", "is no port"},
        {"[::1]:", "is no port"},
        {"[::1]:80:81", "is no port"},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/128", "no IP"},
        {"*", "no IP address or prefix"},
        {":80", "no IP address or prefix"},
        {":", "no IP address or prefix"},
        {"/8", "no IP address or prefix"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int deny = 0; deny < 2; deny++) {
            struct buf errors;
            char start[200];
            buf_init(&errors, 0);
            if (make(POLICY_BASE_PUBLIC, deny ? "" : cases[i][0], deny ? cases[i][0] : "", &errors))
                fail_msg("%s was taken", cases[i][0]);
            snprintf(start, sizeof start, "policy default: %s = %s: ", deny ? "deny" : "allow",
                     cases[i][0]);
            const char *text = buf_cstr(&errors);
            if (strncmp(text, start, strlen(start)) != 0 || !strstr(text, cases[i][1]))
                fail_msg("%s: %s", cases[i][0], text);
            assert_ptr_equal(strchr(text, '\n'), text + errors.len - 1);
            buf_fini(&errors);
        }
    }

    /* All of them are told, not the first alone. */
    struct buf errors;
    size_t lines = 0;
    buf_init(&errors, 0);
    assert_null(make(POLICY_BASE_PUBLIC, "10.0.0.1/8 ::1 x", "y 10.0.0.0/8", &errors));
    for (const char *s = buf_cstr(&errors); (s = strchr(s, '\n')) != NULL; s++)
        lines++;
    assert_int_equal(lines, 3);
    buf_fini(&errors);
    policy_destroy(NULL);
}

/* --- metadata -------------------------------------------------------------------------------- */

static const char *const metadata[] = {
    "168.63.129.16",      "169.254.169.254",   "169.254.169.252", "169.254.170.2",
    "169.254.170.23",     "169.254.42.42",     "169.254.0.23",    "100.100.100.200",
    "192.0.0.192",        "fd00:ec2::254",     "fd00:ec2::23",    "fd00:ec2:ffff::1",
    "fd20:ce::254",       "fd00:42::42",       "fd00:c1::a9fe:a9fe",
    "fd00:100::100:200",  "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe",
};

static void test_metadata(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(metadata); i++) {
        char rule[POLICY_RULE_MAX], bare[80], with_port[80];
        bool v6 = strchr(metadata[i], ':') != NULL;
        snprintf(rule, sizeof rule, "metadata %s", metadata[i]);
        snprintf(with_port, sizeof with_port, v6 ? "[%s]:80" : "%s:80", metadata[i]);
        snprintf(bare, sizeof bare, "%s", metadata[i]);

        const char *const closed[] = {"", "0.0.0.0/0 ::/0", "169.254.0.0/16 100.64.0.0/10",
                                      "fd00::/8 fe80::/10",
                                      "168.63.129.16/31 fd00:ec2::/32 fd20:ce::254/127",
                                      "168.63.129.17 169.254.169.253 [::]:80"};
        for (size_t k = 0; k < COUNT(closed); k++) {
            for (int base = POLICY_BASE_PUBLIC; base <= POLICY_BASE_UNSAFE_ANY; base++) {
                struct policy *p = make((enum config_base)base, closed[k], "", NULL);
                assert_denied(p, metadata[i], 80, rule);
                policy_destroy(p);
            }
        }

        struct policy *p = make(POLICY_BASE_PUBLIC, bare, "", NULL);
        assert_allowed(p, metadata[i], 80);
        assert_allowed(p, metadata[i], 443);
        policy_destroy(p);
        p = make(POLICY_BASE_PUBLIC, with_port, "", NULL);
        assert_allowed(p, metadata[i], 80);
        assert_denied(p, metadata[i], 81, rule);
        policy_destroy(p);
        p = make(POLICY_BASE_PUBLIC, bare, bare, NULL);
        assert_denied(p, metadata[i], 80, "deny ");
        policy_destroy(p);
    }

    struct policy *p = make(POLICY_BASE_PRIVATE, "169.254.0.0/16 fe80::/10", "", NULL);
    static const char *const beside[] = {"169.254.169.251", "169.254.170.24", "169.254.42.43",
                                         "169.254.0.22",    "fd00:ec1::254",  "fd00:ec3::",
                                         "fd00:42::43",     "fd00:c1::1",     "fe80::a9fe:a9ff"};
    for (size_t i = 0; i < COUNT(beside); i++)
        assert_allowed(p, beside[i], 80);
    policy_destroy(p);
    p = make(POLICY_BASE_PUBLIC, "64:ff9b:1::/48", "", NULL);
    assert_denied(p, "64:ff9b:1:a9fe:a9:fe00::", 80, "metadata 169.254.169.254");
    assert_denied(p, "64:ff9b:1:8a9:fe:a9fe::", 80, "metadata 169.254.169.254");
    assert_denied(p, "64:ff9b:1:0:a9:fea9:fe00:0", 80, "metadata 169.254.169.254");
    assert_denied(p, "64:ff9b:1::a9fe:a9fe", 80, "metadata 169.254.169.254");
    assert_denied(p, "64:ff9b:1:808:a:0:100:1", 80, "public: 10.0.0.0/8");
    assert_allowed(p, "64:ff9b:1:808:8:800::", 80);
    assert_allowed(p, "64:ff9b:1:8:8:808::", 80);
    assert_allowed(p, "64:ff9b:1:0:8:808:800:0", 80);
    assert_allowed(p, "64:ff9b:1::808:808", 80);
    policy_destroy(p);
    p = make(POLICY_BASE_UNSAFE_ANY, "64:ff9b::/96", "", NULL);
    assert_denied(p, "64:ff9b::a9fe:a9fe", 80, "metadata 169.254.169.254");
    assert_denied(p, "::ffff:169.254.169.254", 80, "metadata 169.254.169.254");
    assert_denied(p, "2002:a83f:8110::1", 80, "metadata 168.63.129.16");
    policy_destroy(p);
}

/* --- own listeners --------------------------------------------------------------------------- */

static void assert_own(const struct policy *p, const char *text, uint16_t port)
{
    struct verdict v;

    if (check(p, text, port, &v))
        fail_msg("%s port %u was allowed by \"%s\"", text, (unsigned)port, v.rule);
    assert_int_equal(v.type, ERR_PROXY_LOOP_DETECTED);
    assert_int_equal(strncmp(v.rule, "own-listener ", 13), 0);
    assert_null(strstr(v.message, "allow")); /* no line would */
}

static void test_own(void **state)
{
    (void)state;
    const struct policy_endpoint own[] = {
        {ip("127.0.0.1"), 4284},
        {ip("::1"), 4285},
        {ip("8.8.8.8"), 80},
    };
    struct policy *p = make(POLICY_BASE_UNSAFE_ANY, "127.0.0.1:4284 0.0.0.0/0 ::/0", "", NULL);
    struct verdict v;

    assert_allowed(p, "127.0.0.1", 4284);
    assert_true(policy_set_own(p, own, COUNT(own)));
    assert_own(p, "127.0.0.1", 4284);
    assert_own(p, "::ffff:127.0.0.1", 4284);
    assert_own(p, "0.0.0.0", 4284); /* Linux dials loopback */
    assert_own(p, "::ffff:0.0.0.0", 4284);
    assert_own(p, "::1", 4285);
    assert_own(p, "::", 4285);
    assert_own(p, "8.8.8.8", 80);
    assert_own(p, "::ffff:8.8.8.8", 80);
    assert_own(p, "64:ff9b::808:808", 80);
    assert_allowed(p, "127.0.0.1", 4285);
    assert_allowed(p, "127.0.0.2", 4284);
    assert_allowed(p, "::1", 4284);
    assert_allowed(p, "0.0.0.0", 80);
    assert_allowed(p, "8.8.8.8", 81);
    check(p, "127.0.0.1", 4284, &v);
    assert_string_equal(v.rule, "own-listener 127.0.0.1:4284");
    check(p, "::1", 4285, &v);
    assert_string_equal(v.rule, "own-listener [::1]:4285");
    policy_destroy(p);
}

static void test_own_wildcard(void **state)
{
    (void)state;
    static const char *const wildcards[] = {"0.0.0.0", "::", "::ffff:0.0.0.0"};

    for (size_t i = 0; i < COUNT(wildcards); i++) {
        struct policy_endpoint own = {ip(wildcards[i]), 4284};
        struct policy *p = make(POLICY_BASE_UNSAFE_ANY, "127.0.0.0/8 ::1", "", NULL);
        struct ifaddrs *list;
        size_t seen = 0;
        assert_true(policy_set_own(p, &own, 1));
        assert_own(p, "127.0.0.1", 4284);
        assert_own(p, "127.255.255.254", 4284);
        assert_own(p, "::1", 4284);
        assert_own(p, "0.0.0.0", 4284);
        assert_own(p, "::", 4284);
        assert_allowed(p, "127.0.0.1", 4285);
        assert_allowed(p, "8.8.8.8", 4284);
        assert_int_equal(getifaddrs(&list), 0);
        for (struct ifaddrs *a = list; a; a = a->ifa_next) {
            struct ip_addr local;
            char text[IP_TEXT_MAX];
            if (!a->ifa_addr || !ip_from_sockaddr(a->ifa_addr, &local, NULL))
                continue;
            assert_own(p, ip_format(&local, text), 4284);
            assert_allowed(p, text, 4283);
            seen++;
        }
        freeifaddrs(list);
        assert_in_range(seen, 1, 10000);
        policy_destroy(p);
    }
}

/* --- messages -------------------------------------------------------------------------------- */

/* The text between "`allow = " and "`" of a message; false when it names no line. */
static bool named_line(const char *message, char *out, size_t size)
{
    const char *begin = strstr(message, "`allow = "), *end = begin ? strchr(begin + 9, '`') : NULL;

    if (!end)
        return false;
    snprintf(out, size, "%.*s", (int)(end - begin - 9), begin + 9);
    return true;
}

/* The line that a denial names opens that address and port; without any word of it, it does not. */
static void check_named_line(const char *address, uint16_t port)
{
    struct policy *p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    struct verdict v;
    char line[POLICY_MESSAGE_MAX], shorter[POLICY_MESSAGE_MAX];

    if (check(p, address, port, &v)) {
        policy_destroy(p);
        return;
    }
    policy_destroy(p);
    if (!named_line(v.message, line, sizeof line))
        fail_msg("%s: no line in \"%s\"", address, v.message);
    assert_non_null(strstr(v.message, "` in [policy default] would"));
    p = make(POLICY_BASE_PUBLIC, line, "", NULL);
    assert_allowed(p, address, port);
    struct verdict other;
    assert_false(check(p, address, (uint16_t)(port ^ 1), &other));
    policy_destroy(p);
    char *last = strrchr(line, ' ');
    if (last) {
        snprintf(shorter, sizeof shorter, "%.*s", (int)(last - line), line);
        const char *const parts[] = {shorter, strchr(line, ' ') + 1};
        for (size_t i = 0; i < COUNT(parts); i++) {
            p = make(POLICY_BASE_PUBLIC, parts[i], "", NULL);
            if (check(p, address, port, &other))
                fail_msg("%s: \"%s\" was named, but \"%s\" is enough", address, line, parts[i]);
            policy_destroy(p);
        }
    }
}

static void test_named_lines(void **state)
{
    (void)state;
    static const char *const longest[] = {
        "64:ff9b:1:c0a8:ff:ff00:c0a8:ffff", "64:ff9b:1:ffff:00ff:ff99:c058:63ff",
        "2001:0:c0a8:ffff:ffff:ffff:3f57:1", "::ffff:192.168.255.255",
        "2002:c0a8:ffff:1:0:5efe:c058:63ff",
        "2606:4700:4700:ffff:200:5efe:c058:63ff",
    };
    for (size_t i = 0; i < COUNT(special); i++) {
        check_named_line(special[i][0], 80);
        check_named_line(special[i][1], 65534);
    }
    for (size_t i = 0; i < COUNT(metadata); i++)
        check_named_line(metadata[i], 80);
    for (size_t i = 0; i < COUNT(longest); i++)
        check_named_line(longest[i], 65534);
}

static void test_messages(void **state)
{
    (void)state;
    struct policy *p = make(POLICY_BASE_PUBLIC, "64:ff9b::/96", "8.8.8.0/24", NULL);
    struct policy_endpoint own = {ip("127.0.0.1"), 4284};
    struct verdict v;
    char line[POLICY_MESSAGE_MAX];

    assert_true(policy_set_own(p, &own, 1));
    assert_string_equal(policy_name(p), "default");
    check(p, "10.1.2.3", 80, &v);
    assert_int_equal(v.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_string_equal(v.rule, "public: 10.0.0.0/8 private-use");
    assert_string_equal(v.message,
                        "10.1.2.3 is private-use (10.0.0.0/8), which `base = public` does not "
                        "allow; `allow = 10.1.2.3:80` in [policy default] would");
    check(p, "64:ff9b::a01:203", 80, &v);
    assert_string_equal(v.message,
                        "64:ff9b::a01:203 embeds 10.1.2.3; that is private-use (10.0.0.0/8), which "
                        "`base = public` does not allow; `allow = 10.1.2.3:80` in [policy default] "
                        "would");
    check(p, "fd00:ec2::254", 80, &v);
    assert_string_equal(v.rule, "metadata fd00:ec2::254");
    assert_non_null(strstr(v.message, "`allow = [fd00:ec2::254]:80` in [policy default] would"));
    check(p, "8.8.8.8", 80, &v);
    assert_string_equal(v.rule, "deny 8.8.8.0/24");
    assert_false(named_line(v.message, line, sizeof line));
    assert_non_null(strstr(v.message, "`deny = 8.8.8.0/24` in [policy default]"));
    check(p, "127.0.0.1", 4284, &v);
    assert_int_equal(v.type, ERR_PROXY_LOOP_DETECTED);
    assert_false(named_line(v.message, line, sizeof line));
    policy_destroy(p);
}

/* One that a reload took away denies addresses and names alike, whichever way it is asked. */
static void test_removed(void **state)
{
    (void)state;
    static const char *const hosts[] = {"8.8.8.8", "2606:4700::1", "127.0.0.1", "a.example"};
    struct policy *p = policy_create_removed("lax");

    assert_non_null(p);
    assert_string_equal(policy_name(p), "lax");
    assert_true(policy_is_removed(p));
    for (size_t i = 0; i < COUNT(hosts); i++) {
        const struct policy_hop hop = {.host = hosts[i], .port = 80};
        const struct ip_addr public = ip("8.8.8.8");
        struct verdict v;
        for (int way = 0; way < 4; way++) {
            bool allowed = way == 0   ? policy_check_host(p, &hop, NULL, &v)
                           : way == 1 ? policy_check_address(p, &hop, &public, &v)
                           : way == 2 ? policy_explain_host(p, &hop, NULL, &v)
                                      : policy_explain_address(p, &hop, &public, &v);
            assert_false(allowed);
            assert_false(v.reported);
            assert_int_equal(v.type, ERR_HTTP_REQUEST_DENIED);
            assert_string_equal(v.rule, "removed policy lax");
            assert_non_null(strstr(v.message, "[policy lax]"));
        }
    }
    policy_destroy(p);
}

/* However it is written: NULL for what does not open all of a family. */
static const struct opening {
    const char *key, *line, *by;
} openings[] = {
    {"allow", "0.0.0.0/0", "allow=/0"},
    {"allow", "::/0", "allow=/0"},
    {"allow", "0.0.0.0/0:80", "allow=/0"},
    {"allow", "[::/0]:443", "allow=/0"},
    {"allow", "::ffff:0:0/96", "allow=/0"},
    {"allow", "::ffff:0.0.0.0/96", "allow=/0"},
    {"allow", "0:0:0:0:0:FFFF::/96", "allow=/0"},
    {"allow", "[::ffff:0:0/96]:1-65535", "allow=/0"},
    {"allow", "0.0.0.0/1", NULL},
    {"allow", "::/96", NULL},
    {"allow", "::ffff:0:0/97", NULL},
    {"allow", "::ffff:0:0:0/96", NULL},
    {"allow", "0.0.0.0", NULL},
    {"deny", "0.0.0.0/0", NULL},
    {"allow_host", "* -> 0.0.0.0/0 ::/0", "allow_host=\"* -> /0\""},
    {"allow_host", "*->10.0.0.1 [::/0]:443\t10.0.0.2", "allow_host=\"* -> /0\""},
    {"allow_host", "* -> ::ffff:0:0/96", "allow_host=\"* -> /0\""},
    {"allow_host", "* -> 10.0.0.0/8 [::ffff:0:0/96]:80", "allow_host=\"* -> /0\""},
    {"allow_host", "* -> 10.0.0.0/8 0.0.0.0/1", NULL},
    {"allow_host", "*.corp.example -> 0.0.0.0/0", NULL},
    {"allow_host", "corp.example -> ::/0", NULL},
};

static void test_opens_all(void **state)
{
    (void)state;
    for (size_t i = 0; i <= COUNT(openings); i++) {
        const struct opening *o = i < COUNT(openings) ? &openings[i] : NULL;
        char line[64], *items[] = {line}, name[] = "x";
        struct str_list list = {items, 1};
        struct config_policy conf = {.name = name, .base = POLICY_BASE_PUBLIC};
        struct buf errors;
        buf_init(&errors, 0);
        snprintf(line, sizeof line, "%s", o ? o->line : "");
        if (!o)
            conf.mode = POLICY_MODE_REPORT;
        else
            *(strcmp(o->key, "allow") == 0  ? &conf.allow
              : strcmp(o->key, "deny") == 0 ? &conf.deny
                                            : &conf.allow_host) = list;
        struct policy *p = policy_create(&conf, &errors);
        const char *want = o ? o->by : "mode=report", *by = p ? policy_opens_all(p) : NULL;
        if (!p || (want ? !by || strcmp(by, want) != 0 : by != NULL))
            fail_msg("%s opens by %s %s", line, by ? by : "nothing", buf_cstr(&errors));
        policy_destroy(p);
        buf_fini(&errors);
    }
}

/* With the longest name that a section may have the sentence is whole. */
static void test_whole_messages(void **state)
{
    (void)state;
    static const char *const longest[] = {
        "64:ff9b:1:c0a8:ff:ff00:c0a8:ffff", "64:ff9b:1:c0a8:ffa9:fea9:fea9:feff",
        "64:ff9b:1:a9fe:ff:a9fe:a9fe:a9fe", "2001:0:c0a8:ffff:ffff:ffff:3f57:1",
        "2002:a83f:8110:ffff:200:5efe:6464:64c8",
    };
    char name[CONFIG_NAME_MAX + 1], end[CONFIG_NAME_MAX + 24];
    struct config_policy conf = {.name = name, .base = POLICY_BASE_UNSAFE_ANY};
    struct buf errors;

    memset(name, 'n', CONFIG_NAME_MAX);
    name[CONFIG_NAME_MAX] = '\0';
    snprintf(end, sizeof end, "` in [policy %s] would", name);
    buf_init(&errors, 0);
    for (int base = POLICY_BASE_PUBLIC; base <= POLICY_BASE_UNSAFE_ANY; base++) {
        conf.base = base;
        struct policy *p = policy_create(&conf, &errors);
        assert_non_null(p);
        for (size_t i = 0; i < COUNT(longest); i++) {
            const struct policy_hop hop = {.port = 65535, .from = POLICY_FROM_GLOBAL};
            struct ip_addr address = ip(longest[i]);
            struct verdict v;
            if (policy_check_address(p, &hop, &address, &v))
                continue;
            size_t n = strlen(v.message), tail = strlen(end);
            if (n < tail || strcmp(v.message + n - tail, end) != 0)
                fail_msg("cut: %s", v.message);
        }
        policy_destroy(p);
    }
    buf_fini(&errors);
}

/* A name of any length and the longest addresses: cut at the end, never beyond. */
static void test_long_names(void **state)
{
    (void)state;
    char name[600], item[] = "2001:0:c0a8:ffff::/64";
    char *items[] = {item};
    struct config_policy conf = {.name = name, .deny = {.items = items, .count = 1}};
    struct buf errors;
    struct verdict v;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    assert_non_null(p);
    assert_string_equal(policy_name(p), name);
    assert_false(check(p, "64:ff9b:1:c0a8:ff:ff00:c0a8:ffff", 65535, &v));
    assert_int_equal(strlen(v.message), POLICY_MESSAGE_MAX - 1);
    assert_false(check(p, "2001:0:c0a8:ffff:ffff:ffff:3f57:1", 65535, &v));
    assert_false(check(p, "2001:0:c0a8:ffff:0:1:3f57:1", 65535, &v));
    policy_destroy(p);
    buf_fini(&errors);
}

static void test_host(void **state)
{
    (void)state;
    struct policy *p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    struct ip_addr none = {0}, loopback = ip("127.0.0.1"), global_v6 = ip("2606:4700::1");
    struct verdict v;

    assert_true(check_host(p, "example.com", &none, 80, &v));
    assert_int_equal(v.type, ERR_NONE);
    assert_string_equal(v.message, "");
    assert_true(check_host(p, "localhost", &none, 80, &v)); /* its addresses will not */
    assert_true(check_host(p, "example.com", NULL, 80, &v));
    assert_true(check_host(p, "2606:4700::1", &global_v6, 80, &v));
    assert_false(check_host(p, "127.0.0.1", &loopback, 80, &v));
    assert_int_equal(v.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_string_equal(v.rule, "public: 127.0.0.0/8 loopback");
    assert_false(check_host(p, "127.0.0.1", &none, 80, &v));
    assert_false(check_host(p, "::1", NULL, 80, &v));
    policy_destroy(p);
}

/* --- the corpora ----------------------------------------------------------------------------- */

static void test_address_vectors(void **state)
{
    (void)state;
    FILE *f = testdata_open("iana/address_vectors.tsv");
    struct policy *p;
    char line[512];
    size_t denied = 0, allowed = 0;

    if (!f)
        skip();
    p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    while (fgets(line, sizeof line, f)) {
        char *save, *address = strtok_r(line, "\t\n", &save);
        char *expect = strtok_r(NULL, "\t\n", &save);
        struct verdict v;
        if (line[0] == '#')
            continue;
        assert_non_null(expect);
        bool expected = strcmp(expect, "allow") == 0;
        if (check(p, address, 80, &v) != expected)
            fail_msg("%s should be: %s (rule \"%s\")", address, expect, v.rule);
        if (!expected)
            check_named_line(address, 8080);
        expected ? allowed++ : denied++;
    }
    assert_int_equal(denied, 290);
    assert_int_equal(allowed, 98);
    policy_destroy(p);
    fclose(f);
}

/* \xNN to bytes, in place. */
static size_t unescape(char *s)
{
    char *out = s;

    for (const char *in = s; *in; in++) {
        unsigned byte;
        if (in[0] == '\\' && in[1] == 'x' && sscanf(in + 2, "%2x", &byte) == 1) {
            *out++ = (char)byte;
            in += 3;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return (size_t)(out - s);
}

/* Whether "a|80,b|80" names the address. */
static bool dialled_has(const char *dialled, const struct ip_addr *addr)
{
    char copy[512];
    char *save = NULL;

    snprintf(copy, sizeof copy, "%s", dialled);
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        struct ip_addr one;
        *strchr(word, '|') = '\0';
        if (ip_parse(word, &one) && ip_equal(&one, addr))
            return true;
    }
    return false;
}

/* One vector: what libcurl dialled is what we judge, or nothing is dialled at all. */
static void check_url_vector(const struct policy *p, const char *dialled, const char *text,
                             const struct origin *o)
{
    struct verdict v;
    bool allowed = check_host(p, o->host, &o->ip, o->port, &v);

    if (o->ip.family != 0) {
        if (strcmp(dialled, "-") != 0 && !dialled_has(dialled, &o->ip))
            fail_msg("%s is %s for us, but libcurl dialled %s", text, o->host, dialled);
        struct ip_addr inside[IP_EMBEDDED_MAX];
        if (allowed != check_ip(p, &o->ip, o->port, &v))
            fail_msg("%s: host and address are judged differently", text);
        if (allowed && ip_embedded_v4(&o->ip, inside) > 0)
            assert_true(check_ip(p, &inside[0], o->port, &v));
    } else if (strcmp(dialled, "-") != 0 && strcmp(o->host, "localhost") != 0) {
        fail_msg("%s is the name %s for us, but libcurl dialled %s", text, o->host, dialled);
    }
}

/* Whether the URL is taken. */
static bool take_url_vector(const struct policy *p, const char *dialled, const char *text, size_t n)
{
    struct arena arena;
    struct origins origins;
    struct target t;
    const char *why;

    arena_init(&arena);
    origins_init(&origins, &arena);
    bool taken = target_parse(&origins, text, n, &t, &why);
    if (taken)
        check_url_vector(p, dialled, text, t.origin);
    origins_fini(&origins);
    arena_fini(&arena);
    return taken;
}

static void test_url_vectors(void **state)
{
    (void)state;
    FILE *f = testdata_open("ssrf_url_vectors.tsv");
    struct policy *p;
    static char line[20000];
    size_t taken = 0, refused = 0, named = 0;

    if (!f)
        skip();
    p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    while (fgets(line, sizeof line, f)) {
        char *field[6] = {line};
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#')
            continue;
        for (int i = 1; i < 6; i++) {
            field[i] = strchr(field[i - 1], '\t');
            assert_non_null(field[i]);
            *field[i]++ = '\0';
        }
        /* A user name is refused; what stands behind it is judged all the same. */
        char *host = strstr(field[5], "://"), *at = host ? strchr(host, '@') : NULL;
        char *end = host ? host + 3 + strcspn(host + 3, "/?#") : NULL, bare[4096];
        bool is_taken = take_url_vector(p, field[4], field[5], unescape(field[5]));
        is_taken ? taken++ : refused++;
        if (at && at < end && strcmp(field[4], "-") != 0) {
            assert_false(is_taken);
            snprintf(bare, sizeof bare, "http://%s", at + 1);
            named += take_url_vector(p, field[4], bare, strlen(bare));
        }
    }
    assert_int_equal(taken + refused, 1146);
    assert_in_range(taken, 140, 170);
    assert_in_range(named, 50, 300);
    policy_destroy(p);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    return setlocale(LC_CTYPE, "C.UTF-8") ? 0 : -1;
}

/* --- ports, hosts, redirects, report --------------------------------------------------------- */

struct lines {
    enum config_base base;
    const char *allow, *deny, *ports, *deny_host;
    const char *allow_host[3]; /* one a line */
    enum config_redirects redirects;
    enum config_policy_mode mode;
    bool insecure;
};

static struct policy *make_of(const struct lines *l)
{
    char name[] = "default", copies[4][1024], line_copies[3][256];
    char *items[4][WORDS_MAX], *line_items[3];
    struct config_policy conf = {
        .name = name,
        .base = l->base,
        .redirects = l->redirects,
        .mode = l->mode,
        .insecure = l->insecure,
    };
    struct buf errors;

    split(l->allow ? l->allow : "", copies[0], sizeof copies[0], items[0], &conf.allow);
    split(l->deny ? l->deny : "", copies[1], sizeof copies[1], items[1], &conf.deny);
    split(l->ports ? l->ports : "", copies[2], sizeof copies[2], items[2], &conf.ports);
    split(l->deny_host ? l->deny_host : "", copies[3], sizeof copies[3], items[3], &conf.deny_host);
    conf.allow_host.items = line_items;
    for (size_t i = 0; i < 3 && l->allow_host[i]; i++) {
        snprintf(line_copies[i], sizeof line_copies[i], "%s", l->allow_host[i]);
        line_items[conf.allow_host.count++] = line_copies[i];
    }
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    if (!p)
        fail_msg("%s", buf_cstr(&errors));
    buf_fini(&errors);
    return p;
}

/* The hop to host at address, "ok" or the beginning of the rule that denies it. */
static void expect(const struct policy *p, const char *host, const char *address, uint16_t port,
                   enum policy_from from, const char *expected)
{
    const struct policy_hop hop = {.host = host, .port = port, .from = from};
    const struct ip_addr addr = ip(address);
    struct verdict v, explained;
    bool ok = policy_check_host(p, &hop, NULL, &v) && policy_check_address(p, &hop, &addr, &v);

    if (strncmp(ok ? "ok" : v.rule, expected, strlen(expected)) != 0)
        fail_msg("%s at %s port %u: \"%s\", not \"%s\" (%s)", host, address, (unsigned)port,
                 ok ? "ok" : v.rule, expected, v.message);
    if (!ok)
        assert_true(v.message[0] != '\0' && v.rule[0] != '\0' && !v.reported);
    bool address_ok = policy_check_address(p, &hop, &addr, &v);
    assert_int_equal(policy_explain_address(p, &hop, &addr, &explained), address_ok);
}

static void test_ports(void **state)
{
    (void)state;
    struct policy *p = make_of(&(struct lines){.ports = "80 443 8000-8002",
                                               .allow = "10.0.0.0/8 10.1.1.1:22 127.0.0.1:81-83"});
    static const uint16_t good[] = {80, 443, 8000, 8001, 8002},
                          bad[] = {1, 22, 79, 81, 442, 7999, 8003, 65535};

    for (size_t i = 0; i < COUNT(good); i++) {
        expect(p, "a.example", "93.184.215.14", good[i], POLICY_FROM_NONE, "ok");
        expect(p, "10.2.2.2", "10.2.2.2", good[i], POLICY_FROM_NONE, "ok");
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        expect(p, "93.184.215.14", "93.184.215.14", bad[i], POLICY_FROM_NONE,
               "ports = 80 443 8000-8002");
        expect(p, "10.2.2.2", "10.2.2.2", bad[i], POLICY_FROM_NONE, "ports = ");
        expect(p, "a.example", "93.184.215.14", bad[i], POLICY_FROM_NONE, "ports = ");
        expect(p, "::ffff:93.184.215.14", "::ffff:93.184.215.14", bad[i], POLICY_FROM_NONE,
               "ports = ");
    }
    expect(p, "10.1.1.1", "10.1.1.1", 22, POLICY_FROM_NONE, "ok"); /* a line with that port */
    expect(p, "inside.example", "10.1.1.1", 22, POLICY_FROM_NONE, "ok");
    expect(p, "127.0.0.1", "127.0.0.1", 82, POLICY_FROM_NONE, "ok");
    expect(p, "127.0.0.1", "127.0.0.1", 80, POLICY_FROM_NONE, "public: 127.0.0.0/8");
    policy_destroy(p);
    /* More than the rule has room for: no number is cut. */
    p = make_of(&(struct lines){
        .ports = "10001 10002 10003 10004 10005 10006 10007 10008 10009 20000-20009 30000-30009 "
                 "40000-40009 50000-50009 60001"});
    expect(p, "93.184.215.14", "93.184.215.14", 80, POLICY_FROM_NONE,
           "ports = 10001 10002 10003 10004 10005 10006 10007 10008 10009 20000-20009 "
           "30000-30009 ...");
    policy_destroy(p);
}

static void test_allow_host(void **state)
{
    (void)state;
    struct policy *p =
        make_of(&(struct lines){.deny = "10.9.0.0/16",
                                .allow_host = {"*.corp.example -> 10.0.0.0/8 [fd00::/8]:443",
                                               "DB.corp.example. -> 192.168.7.7:5432",
                                               "meta.corp.example -> 169.254.169.254 10.9.1.1"}});
    expect(p, "a.corp.example", "10.1.2.3", 80, POLICY_FROM_NONE, "ok");
    expect(p, "a.b.corp.example.", "10.1.2.3", 80, POLICY_FROM_NONE, "ok");
    expect(p, "a.corp.example", "10.9.2.3", 80, POLICY_FROM_NONE, "deny 10.9.0.0/16");
    expect(p, "meta.corp.example", "10.9.1.1", 80, POLICY_FROM_NONE, "ok");
    expect(p, "corp.example", "10.1.2.3", 80, POLICY_FROM_NONE, "public: 10.0.0.0/8");
    expect(p, "a.corp.example.evil.example", "10.1.2.3", 80, POLICY_FROM_NONE,
           "public: 10.0.0.0/8");
    expect(p, "10.1.2.3", "10.1.2.3", 80, POLICY_FROM_NONE, "public: 10.0.0.0/8");
    expect(p, "a.corp.example", "192.168.1.1", 80, POLICY_FROM_NONE, "public: 192.168.0.0/16");
    expect(p, "a.corp.example", "127.0.0.1", 80, POLICY_FROM_NONE, "public: 127.0.0.0/8");
    expect(p, "a.corp.example", "fd00::1", 443, POLICY_FROM_NONE, "ok");
    expect(p, "a.corp.example", "fd00::1", 80, POLICY_FROM_NONE, "public: fc00::/7");
    expect(p, "a.corp.example", "93.184.215.14", 80, POLICY_FROM_NONE, "ok");
    expect(p, "db.corp.example", "192.168.7.7", 5432, POLICY_FROM_NONE, "ok");
    expect(p, "db.corp.example", "192.168.7.7", 80, POLICY_FROM_NONE, "public: 192.168.0.0/16");
    expect(p, "meta.corp.example", "169.254.169.254", 80, POLICY_FROM_NONE,
           "ok"); /* that very address */
    expect(p, "a.corp.example", "169.254.169.254", 80, POLICY_FROM_NONE, "metadata");
    expect(p, "a.corp.example", "64:ff9b::10.1.2.3", 80, POLICY_FROM_NONE, "public: 64:ff9b::/96");
    expect(p, "a.corp.example", "::ffff:10.1.2.3", 80, POLICY_FROM_NONE, "ok");
    const struct policy_hop nameless = {.port = 80};
    const struct ip_addr inside = ip("10.1.2.3");
    struct verdict v;
    assert_false(policy_check_address(p, &nameless, &inside, &v));
    const struct policy_hop named = {.host = "a.corp.example", .port = 80};
    assert_true(policy_explain_address(p, &named, &inside, &v));
    assert_string_equal(v.rule, "allow_host *.corp.example -> 10.0.0.0/8 [fd00::/8]:443");
    policy_destroy(p);
}

static void test_deny_host(void **state)
{
    (void)state;
    struct policy *p = make_of(&(struct lines){
        .deny_host = "*.evil.example evil.example one.corp.example",
        .allow_host = {"good.evil.example -> 10.0.0.0/8", "one.corp.example -> 10.0.0.0/8"}});

    expect(p, "evil.example", "93.184.215.14", 80, POLICY_FROM_NONE, "deny_host evil.example");
    expect(p, "evil.example.", "93.184.215.14", 80, POLICY_FROM_NONE, "deny_host evil.example");
    expect(p, "a.b.evil.example", "93.184.215.14", 80, POLICY_FROM_NONE,
           "deny_host *.evil.example");
    expect(p, "notevil.example", "93.184.215.14", 80, POLICY_FROM_NONE, "ok");
    expect(p, "good.evil.example", "10.1.1.1", 80, POLICY_FROM_NONE, "ok"); /* says more */
    expect(p, "one.corp.example", "10.1.1.1", 80, POLICY_FROM_NONE,
           "deny_host one.corp"); /* a tie */
    policy_destroy(p);
    p = make_of(&(struct lines){.deny_host = "*", .allow_host = {"*.corp.example -> 10.0.0.0/8"}});
    expect(p, "example.org", "93.184.215.14", 80, POLICY_FROM_NONE, "deny_host *");
    expect(p, "93.184.215.14", "93.184.215.14", 80, POLICY_FROM_NONE, "deny_host *");
    expect(p, "a.corp.example", "10.0.0.1", 80, POLICY_FROM_NONE, "ok");
    policy_destroy(p);
}

/* No line for the address would be enough, so none is named. */
static void test_lines_that_would_not_do(void **state)
{
    (void)state;
    struct policy *p = make_of(&(struct lines){.deny_host = "*"});
    struct policy_hop hop = {.host = "a", .port = 80};
    struct ip_addr address = ip("169.254.169.254");
    struct verdict v;
    assert_false(policy_check_address(p, &hop, &address, &v));
    assert_null(strstr(v.message, "would"));
    policy_destroy(p);
    p = make_of(&(struct lines){.redirects = REDIRECTS_NONE});
    assert_false(policy_check_address(p, &hop, &address, &v));
    assert_non_null(strstr(v.message, "would"));
    hop.from = POLICY_FROM_GLOBAL;
    assert_false(policy_check_address(p, &hop, &address, &v));
    assert_null(strstr(v.message, "would"));
    policy_destroy(p);
}

static void test_redirects(void **state)
{
    (void)state;
    static const char *const names[] = {"93.184.215.14", "10.0.0.1", "127.0.0.1"};
    static const enum policy_from froms[] = {POLICY_FROM_NONE, POLICY_FROM_GLOBAL,
                                             POLICY_FROM_PRIVATE, POLICY_FROM_SPECIAL};
    struct lines l = {.base = POLICY_BASE_UNSAFE_ANY, .allow = "10.0.0.9"};
    struct policy *p = make_of(&l);

    for (size_t f = 0; f < COUNT(froms); f++) {
        for (size_t to = 0; to < COUNT(names); to++) {
            bool ok = f == 0 || to == 0 || f == to + 1;
            expect(p, names[to], names[to], 80, froms[f], ok ? "ok" : "redirects = same-class");
        }
        expect(p, "x.example", "10.0.0.9", 80, froms[f], "ok"); /* an allow line names it */
    }
    expect(p, "169.254.169.254", "169.254.169.254", 80, POLICY_FROM_SPECIAL, "metadata");
    expect(p, "64:ff9b::a00:1", "64:ff9b::a00:1", 80, POLICY_FROM_GLOBAL, "redirects = same-class");
    policy_destroy(p);
    l.redirects = REDIRECTS_ANY;
    p = make_of(&l);
    for (size_t f = 0; f < COUNT(froms); f++)
        for (size_t to = 0; to < COUNT(names); to++)
            expect(p, names[to], names[to], 80, froms[f], "ok");
    policy_destroy(p);
    l.redirects = REDIRECTS_NONE;
    p = make_of(&l);
    for (size_t f = 0; f < COUNT(froms); f++)
        expect(p, "example.org", "93.184.215.14", 80, froms[f], f == 0 ? "ok" : "redirects = none");
    policy_destroy(p);
}

static enum policy_from from(enum policy_from before, const char *text)
{
    const struct ip_addr addr = ip(text);

    return policy_from(before, &addr);
}

static void test_from(void **state)
{
    (void)state;
    assert_int_equal(from(POLICY_FROM_NONE, "93.184.215.14"), POLICY_FROM_GLOBAL);
    assert_int_equal(from(POLICY_FROM_NONE, "2606:4700::1"), POLICY_FROM_GLOBAL);
    assert_int_equal(from(POLICY_FROM_NONE, "10.0.0.1"), POLICY_FROM_PRIVATE);
    assert_int_equal(from(POLICY_FROM_NONE, "fd00::1"), POLICY_FROM_PRIVATE);
    assert_int_equal(from(POLICY_FROM_NONE, "127.0.0.1"), POLICY_FROM_SPECIAL);
    assert_int_equal(from(POLICY_FROM_NONE, "::ffff:10.0.0.1"), POLICY_FROM_PRIVATE);
    assert_int_equal(from(POLICY_FROM_NONE, "::ffff:127.0.0.1"), POLICY_FROM_SPECIAL);
    assert_int_equal(from(POLICY_FROM_NONE, "::ffff:8.8.8.8"), POLICY_FROM_GLOBAL);
    assert_int_equal(from(POLICY_FROM_NONE, "64:ff9b::8.8.8.8"),
                     POLICY_FROM_GLOBAL); /* who answers is outside */
    assert_int_equal(from(POLICY_FROM_NONE, "2002:808:808::1"), POLICY_FROM_GLOBAL);
    assert_int_equal(from(POLICY_FROM_PRIVATE, "10.0.0.1"), POLICY_FROM_PRIVATE);
    assert_int_equal(from(POLICY_FROM_GLOBAL, "10.0.0.1"),
                     POLICY_FROM_GLOBAL); /* once outside ... */
    assert_int_equal(from(POLICY_FROM_PRIVATE, "127.0.0.1"), POLICY_FROM_GLOBAL);
    assert_int_equal(from(POLICY_FROM_PRIVATE, "8.8.8.8"), POLICY_FROM_GLOBAL);
}

/* What would be denied passes and is told, but own listeners and metadata. */
static void test_report(void **state)
{
    (void)state;
    struct policy *p = make_of(&(struct lines){.mode = POLICY_MODE_REPORT,
                                               .ports = "80 81",
                                               .deny = "93.0.0.0/8 169.254.0.0/16 fd00:ec2::254",
                                               .deny_host = "*.evil.example",
                                               .redirects = REDIRECTS_NONE});
    static const struct {
        const char *host, *address;
        uint16_t port;
        enum policy_from from;
        const char *rule; /* NULL: nothing to report */
    } cases[] = {
        {"a.example", "8.8.8.8", 80, POLICY_FROM_NONE, NULL},
        {"a.example", "10.0.0.1", 80, POLICY_FROM_NONE, "public: 10.0.0.0/8"},
        {"a.example", "127.0.0.1", 80, POLICY_FROM_NONE, "public: 127.0.0.0/8"},
        {"a.example", "93.1.1.1", 80, POLICY_FROM_NONE, "deny 93.0.0.0/8"},
        {"a.example", "8.8.8.8", 82, POLICY_FROM_NONE, "ports = 80 81"},
        {"a.evil.example", "8.8.8.8", 80, POLICY_FROM_NONE, "deny_host *.evil.example"},
        {"a.example", "8.8.8.8", 80, POLICY_FROM_GLOBAL, "redirects = none"},
    };
    const struct policy_endpoint own = {ip("127.0.0.1"), 81};
    struct verdict v;

    assert_true(policy_set_own(p, &own, 1));
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct policy_hop hop = {
            .host = cases[i].host, .port = cases[i].port, .from = cases[i].from};
        const struct ip_addr addr = ip(cases[i].address);
        assert_true(policy_check_host(p, &hop, NULL, &v));
        assert_true(policy_check_address(p, &hop, &addr, &v));
        assert_int_equal(v.reported, cases[i].rule != NULL);
        if (cases[i].rule)
            assert_int_equal(strncmp(v.rule, cases[i].rule, strlen(cases[i].rule)), 0);
        assert_int_equal(v.message[0] != '\0', v.reported);
    }
    static const char *const never[] = {"127.0.0.1",
                                        "0.0.0.0",
                                        "::ffff:127.0.0.1",
                                        "169.254.169.254",
                                        "::ffff:169.254.169.254",
                                        "64:ff9b::169.254.169.254",
                                        "fd00:ec2::254",
                                        "100.100.100.200"};
    for (size_t i = 0; i < COUNT(never); i++) {
        const struct policy_hop hop = {.host = never[i], .port = 81};
        const struct ip_addr addr = ip(never[i]), none = {0};
        if (policy_check_host(p, &hop, &addr, &v) || policy_check_address(p, &hop, &addr, &v) ||
            v.reported)
            fail_msg("%s is let pass", never[i]);
        assert_false(policy_check_address(p, &hop, &none, &v)); /* no address at all */
    }
    policy_destroy(p);
}

static void test_self(void **state)
{
    (void)state;
    struct policy *p = make(POLICY_BASE_PUBLIC, "", "", NULL);
    const struct policy_endpoint own[] = {{ip("127.0.0.1"), 81}, {ip("0.0.0.0"), 82}};
    const struct ip_addr late = ip("198.51.101.7");
    struct verdict v = {.type = ERR_NONE};

    assert_true(policy_set_own(p, own, COUNT(own)));
    assert_true(policy_check_self(p, &late, 81, &v));
    assert_true(policy_check_self(p, &late, 83, &v));
    assert_false(policy_check_self(p, &late, 82, &v));
    assert_int_equal(v.type, ERR_PROXY_LOOP_DETECTED);
    assert_string_equal(v.rule, "own-listener 198.51.101.7:82");
    policy_destroy(p);
}

static bool passes(const struct policy *p, const char *host, const char *address, bool insecure,
                   struct verdict *v)
{
    const struct policy_hop hop = {.host = host, .port = 443, .insecure = insecure};
    const struct ip_addr addr = ip(address);
    struct verdict explained;
    bool ok = policy_check_address(p, &hop, &addr, v);

    assert_int_equal(policy_check_host(p, &hop, &addr, v), ok);
    assert_int_equal(policy_explain_address(p, &hop, &addr, &explained), ok);
    assert_int_equal(policy_explain_host(p, &hop, &addr, &explained), ok);
    assert_string_equal(explained.message, v->message);
    return ok;
}

/* Without a check of certificates: only with the line, also by name, also in mode = report; and the
 * line opens nothing else. */
static void test_insecure(void **state)
{
    (void)state;
    struct policy *no = make_of(&(struct lines){.mode = POLICY_MODE_ENFORCE});
    struct policy *report = make_of(&(struct lines){.mode = POLICY_MODE_REPORT});
    struct policy *yes = make_of(&(struct lines){.insecure = true, .deny_host = "evil.example"});
    const struct policy_hop by_name = {.host = "a.example", .port = 443, .insecure = true};
    struct verdict v;

    assert_false(policy_allows_insecure(no) || policy_allows_insecure(report));
    assert_true(policy_allows_insecure(yes));
    for (int i = 0; i < 2; i++) {
        const struct policy *p = i == 0 ? no : report;
        assert_true(passes(p, "a.example", "9.9.9.9", false, &v));
        assert_false(passes(p, "a.example", "9.9.9.9", true, &v) || v.reported);
        assert_int_equal(v.type, ERR_HTTP_REQUEST_DENIED);
        assert_string_equal(v.rule, "insecure = no");
        assert_non_null(strstr(v.message, "`insecure = yes` in [policy default]"));
        assert_false(policy_check_host(p, &by_name, NULL, &v) || v.reported);
        assert_string_equal(v.rule, "insecure = no");
    }
    assert_true(passes(yes, "a.example", "9.9.9.9", true, &v));
    assert_true(policy_check_host(yes, &by_name, NULL, &v));
    assert_false(passes(yes, "a.example", "10.0.0.1", true, &v));
    assert_int_equal(v.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_false(passes(yes, "evil.example", "9.9.9.9", true, &v));
    policy_destroy(no);
    policy_destroy(report);
    policy_destroy(yes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_all_of_ipv4),
        cmocka_unit_test(test_embedded),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_first_bytes),
        cmocka_unit_test(test_order_of_lines),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_whole_messages),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_opens_all),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_own_wildcard),
        cmocka_unit_test(test_named_lines),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_allow_host),
        cmocka_unit_test(test_deny_host),
        cmocka_unit_test(test_lines_that_would_not_do),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_from),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_insecure),
        cmocka_unit_test(test_address_vectors),
        cmocka_unit_test(test_url_vectors),
    };
    return cmocka_run_group_tests_name("policy", tests, set_up, NULL);
}

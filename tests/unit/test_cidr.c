/* SPDX-License-Identifier: MIT
 *
 * cidr: strict reading, canonical writing, socket addresses, prefixes bit by bit against a slow
 * reference, and each form in which IPv6 carries IPv4.
 */
#include "cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct ip_addr ip(const char *text)
{
    struct ip_addr out;

    if (!ip_parse(text, &out))
        fail_msg("%s is no address", text);
    return out;
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
        int family;
    } good[] = {
        {"0.0.0.0", "0.0.0.0", 4},
        {"255.255.255.255", "255.255.255.255", 4},
        {"10.1.2.3", "10.1.2.3", 4},
        {"::", "::", 6},
        {"::1", "::1", 6},
        {"0:0:0:0:0:0:0:1", "::1", 6},
        {"2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1", 6},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1", 6},
        {"2001:0db8::0001", "2001:db8::1", 6},
        {"::ffff:7f00:1", "::ffff:127.0.0.1", 6},
        {"::ffff:127.0.0.1", "::ffff:127.0.0.1", 6},
        {"64:ff9b::10.0.0.1", "64:ff9b::a00:1", 6},
        {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0", 6},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        char text[IP_TEXT_MAX];
        struct ip_addr parsed = ip(good[i].text);
        assert_int_equal(parsed.family, good[i].family);
        assert_string_equal(ip_format(&parsed, text), good[i].canonical);
        assert_ptr_equal(ip_format(&parsed, text), text);
        struct ip_addr again = ip(text);
        assert_true(ip_equal(&parsed, &again));
    }
    struct ip_addr none = {0};
    char text[IP_TEXT_MAX] = "x";
    assert_string_equal(ip_format(&none, text), "");
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "1", "127.1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4 ", " 1.2.3.4",
        "01.2.3.4", "1.2.3.04", "010.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "1.2.3.-4",
        "1.2.3.+4", "1..2.3", "1.2.3.", ".1.2.3", "1.2.3.4\n", "1.2.3.4/32", "localhost", "[::1]",
        "::1%lo", "fe80::1%25eth0", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "12345::", "::g", "::1.2.3", "::1.2.3.4.5", "::ffff:1.2.3.256", "::ffff:01.2.3.4",
        "1.2.3.4::", "\xEF\xBC\x91.2.3.4",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct ip_addr out = {.family = 99};
        if (ip_parse(bad[i], &out))
            fail_msg("\"%s\" was taken for an address", bad[i]);
        assert_int_equal(out.family, 99);
    }
}

static void test_sockaddr(void **state)
{
    (void)state;
    static const char *const texts[] = {"1.2.3.4", "::1", "2001:db8::ffff", "::ffff:1.2.3.4"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct ip_addr before = ip(texts[i]), after;
        struct sockaddr_storage ss;
        uint16_t port = 0;
        socklen_t length;
        memset(&ss, 0xAA, sizeof ss);
        length = ip_to_sockaddr(&before, 4284, &ss);
        assert_int_equal(length, before.family == 4 ? sizeof(struct sockaddr_in)
                                                    : sizeof(struct sockaddr_in6));
        assert_int_equal(ss.ss_family, before.family == 4 ? AF_INET : AF_INET6);
        assert_true(ip_from_sockaddr((struct sockaddr *)&ss, &after, &port));
        assert_true(ip_equal(&before, &after));
        assert_int_equal(port, 4284);
        assert_true(ip_from_sockaddr((struct sockaddr *)&ss, &after, NULL));
    }

    /* What the kernel sees: network order, and no scope or flow left from before. */
    struct ip_addr v6 = ip("::1");
    struct sockaddr_storage ss;
    struct sockaddr_in6 in6;
    memset(&ss, 0xAA, sizeof ss);
    ip_to_sockaddr(&v6, 80, &ss);
    memcpy(&in6, &ss, sizeof in6);
    assert_int_equal(in6.sin6_port, htons(80));
    assert_int_equal(in6.sin6_scope_id, 0);
    assert_int_equal(in6.sin6_flowinfo, 0);

    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct ip_addr out;
    assert_false(ip_from_sockaddr((struct sockaddr *)&un, &out, NULL));
}

static void test_equal(void **state)
{
    (void)state;
    struct ip_addr a = ip("1.2.3.4"), b = ip("1.2.3.4"), c = ip("1.2.3.5"), d = ip("102:304::");
    struct ip_addr e = ip("::1"), f = ip("::2");

    b.bytes[15] = 9; /* behind the end of an IPv4 address */
    assert_true(ip_equal(&a, &b));
    assert_false(ip_equal(&a, &c));
    assert_false(ip_equal(&a, &d));
    assert_false(ip_equal(&e, &f));
    assert_true(ip_equal(&e, &e));
}

static void test_prefixes(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"10.0.0.0/8", "10.0.0.0/8"},   {"10.1.2.3", "10.1.2.3/32"},
        {"0.0.0.0/0", "0.0.0.0/0"},     {"255.255.255.255/32", "255.255.255.255/32"},
        {"128.0.0.0/1", "128.0.0.0/1"}, {"FC00::/7", "fc00::/7"},
        {"::/0", "::/0"},               {"::1", "::1/128"},
        {"::ffff:10.0.0.0/104", "::ffff:10.0.0.0/104"},
    };
    static const char *const bad[] = {
        "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/256", "10.0.0.0/08", "10.0.0.0/+8",
        "10.0.0.0/-1", "10.0.0.0/ 8", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.0/1e1", "10/8",
        "10.0.0.1/8", "10.0.0.0/255.0.0.0", "192.168.1.0/23", "128.0.0.0/0", "::/129", "::1/127",
        "fe00::/6x", "fd00::/7", "[fc00::]/7", "host/8", "::1%lo/128",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/8",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        char text[IP_TEXT_MAX + 4];
        struct cidr c;
        if (!cidr_parse(good[i][0], &c))
            fail_msg("%s was refused", good[i][0]);
        assert_string_equal(cidr_format(&c, text), good[i][1]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct cidr c = {.bits = 77};
        if (cidr_parse(bad[i], &c))
            fail_msg("\"%s\" was taken for a prefix", bad[i]);
        assert_int_equal(c.bits, 77);
    }
}

static void test_longest_text(void **state)
{
    (void)state;
    struct cidr c;
    char text[IP_TEXT_MAX + 4];

    assert_true(cidr_parse("abcd:abcd:abcd:abcd:abcd:abcd:255.255.255.255/128", &c));
    assert_string_equal(cidr_format(&c, text), "abcd:abcd:abcd:abcd:abcd:abcd:ffff:ffff/128");
}

static bool bit_of(const struct ip_addr *a, unsigned bit)
{
    return (a->bytes[bit / 8] >> (7 - bit % 8)) & 1;
}

/* For each length, the address itself and the address with one bit turned over, for each bit. */
static void check_every_length(const char *text)
{
    struct ip_addr whole = ip(text);
    unsigned max = whole.family == 4 ? 32 : 128;

    for (unsigned bits = 0; bits <= max; bits++) {
        struct cidr c = {whole, (uint8_t)bits};
        for (unsigned bit = bits; bit < max; bit++)
            c.addr.bytes[bit / 8] &= (uint8_t) ~(1 << (7 - bit % 8));
        assert_true(cidr_contains(&c, &whole));
        for (unsigned bit = 0; bit < max; bit++) {
            struct ip_addr other = whole;
            other.bytes[bit / 8] ^= (uint8_t)(1 << (7 - bit % 8));
            assert_int_not_equal(bit_of(&other, bit), bit_of(&whole, bit));
            assert_int_equal(cidr_contains(&c, &other), bit >= bits);
        }
    }
}

static void test_contains(void **state)
{
    (void)state;
    check_every_length("172.21.85.170");
    check_every_length("2001:db8:a5a5:5a5a:ffff:0:1234:8001");

    struct cidr all4, all6, mapped;
    struct ip_addr v4 = ip("10.0.0.1"), v6 = ip("::ffff:10.0.0.1"), none = {0};
    assert_true(cidr_parse("0.0.0.0/0", &all4));
    assert_true(cidr_parse("::/0", &all6));
    assert_true(cidr_parse("::ffff:10.0.0.0/104", &mapped));
    assert_true(cidr_contains(&all4, &v4));
    assert_false(cidr_contains(&all4, &v6)); /* unwrap first */
    assert_false(cidr_contains(&all6, &v4));
    assert_true(cidr_contains(&mapped, &v6));
    assert_false(cidr_contains(&mapped, &v4));
    assert_false(cidr_contains(&all4, &none));
    assert_false(cidr_contains(&all6, &none));
    struct cidr empty = {0};
    assert_false(cidr_contains(&empty, &none));
}

static void test_embedded(void **state)
{
    (void)state;
    static const struct {
        const char *text, *inside[1 + IP_EMBEDDED_MAX];
    } cases[] = {
        {"10.0.0.1", {NULL}},
        {"::", {NULL}},
        {"::1", {NULL}},
        {"::2", {"0.0.0.2"}},
        {"::ff", {"0.0.0.255"}},
        {"::7f00:1", {"127.0.0.1"}},                           /* v4-compatible */
        {"::1:7f00:1", {NULL}},
        {"::ffff:7f00:1", {"127.0.0.1"}},                      /* v4-mapped */
        {"::ffff:0.0.0.0", {"0.0.0.0"}},
        {"::fffe:7f00:1", {NULL}},
        {"1::ffff:7f00:1", {NULL}},
        {"::ffff:0:7f00:1", {"127.0.0.1"}},                    /* SIIT */
        {"::ffff:1:7f00:1", {NULL}},
        {"64:ff9b::7f00:1", {"127.0.0.1"}},                    /* NAT64, well known */
        {"64:ff9b::", {"0.0.0.0"}},
        {"64:ff9b::1:7f00:1", {NULL}},
        {"64:ff9b:2::7f00:1", {NULL}},
        {"64:ff9b:1:7f00:0:100::", {"127.0.0.1"}},             /* NAT64, local, /48 */
        {"64:ff9b:1:7f00:0:1ab::", {"127.0.0.1"}},             /* ... its suffix is ignored */
        {"64:ff9b:1::7f00:1", {"127.0.0.1"}},                  /* ... /96 */
        {"64:ff9b:1:7f00:0:100:808:808", {"127.0.0.1", "8.8.8.8"}},
        {"64:ff9b:1:808:8:800:7f00:1", {"8.8.8.8", "8.8.8.0", "8.8.0.127", "127.0.0.1"}},
        {"64:ff9b:1:7f:0:1::", {"127.0.0.1"}},                 /* ... /56 */
        {"64:ff9b:1:8a9:fe:a9fe::", {"8.169.254.169", "169.254.169.254", "254.169.254.0"}},
        {"64:ff9b:1:0:7f:0:100:0", {"127.0.0.1", "1.0.0.0"}},  /* ... /64 */
        {"64:ff9b:1:0:ff7f:0:100:0", {"127.0.0.1", "1.0.0.0"}}, /* ... byte 8 is left out */
        {"64:ff9b:1:808:a:0:100:1", {"8.8.10.0", "8.10.0.0", "10.0.0.1", "1.0.0.1"}},
        {"64:ff9b:1::9", {"0.0.0.9"}},
        {"64:ff9b:1::", {"0.0.0.0"}},
        {"2002:7f00:1::", {"127.0.0.1"}},                      /* 6to4 */
        {"2002:7f00:1::5efe:a00:1", {"127.0.0.1", "10.0.0.1"}}, /* ... with ISATAP inside */
        {"2003:7f00:1::", {NULL}},
        {"2001:0:102:304::80ff:fffe", {"1.2.3.4", "127.0.0.1"}}, /* Teredo */
        {"2001::", {"0.0.0.0", "255.255.255.255"}},
        {"2001:1::80ff:fffe", {NULL}},
        {"2606:4700::5efe:7f00:1", {"127.0.0.1"}},             /* ISATAP */
        {"2606:4700::200:5efe:7f00:1", {"127.0.0.1"}},
        {"fe80::5efe:a00:1", {"10.0.0.1"}},
        {"2606:4700::100:5efe:7f00:1", {NULL}},
        {"2606:4700::5eff:7f00:1", {NULL}},
        {"2606:4700::1:5efe:7f00:1", {NULL}},
        {"2606:4700:4700::1111", {NULL}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct ip_addr outer = ip(cases[i].text), inside[IP_EMBEDDED_MAX];
        int expected = 0, n = ip_embedded_v4(&outer, inside);
        while (cases[i].inside[expected])
            expected++;
        if (n != expected)
            fail_msg("%s embeds %d addresses, not %d", cases[i].text, expected, n);
        for (int k = 0; k < n; k++) {
            char text[IP_TEXT_MAX];
            assert_int_equal(inside[k].family, 4);
            assert_string_equal(ip_format(&inside[k], text), cases[i].inside[k]);
        }
    }
}

static void test_loopback(void **state)
{
    (void)state;
    static const char *const yes[] = {"127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"};
    static const char *const no[] = {"126.255.255.255", "128.0.0.0", "0.0.0.0", "::", "::2", "1::1",
                                     "::ffff:127.0.0.1", "127::1", "10.0.0.1"};
    struct ip_addr ip;

    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        assert_true(ip_parse(yes[i], &ip));
        assert_true(ip_is_loopback(&ip));
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        assert_true(ip_parse(no[i], &ip));
        assert_false(ip_is_loopback(&ip));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_addresses),    cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_sockaddr),     cmocka_unit_test(test_equal),
        cmocka_unit_test(test_prefixes),     cmocka_unit_test(test_longest_text),
        cmocka_unit_test(test_contains),     cmocka_unit_test(test_embedded),
    };
    return cmocka_run_group_tests_name("cidr", tests, NULL, NULL);
}

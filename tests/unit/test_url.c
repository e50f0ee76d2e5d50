/* SPDX-License-Identifier: MIT
 *
 * url: what is taken and in which spelling, what is refused and why, and relative references (CURLU
 * and the web platform's vectors judge). All is read through url_fixture.h, so each of these URLs
 * also goes the way that the daemon's go, through target.
 */
#include "url_fixture.h"

#include <jansson.h>

#include "testdata.h"

/* A text that is read once more stays as it is. */
static void check_fixed_point(const struct url *u)
{
    char origin[ORIGIN_MAX], again_origin[ORIGIN_MAX];
    struct url again;
    const char *why;

    if (!parse(u->text, &again, &why))
        fail_msg("%s: %s", u->text, why);
    assert_string_equal(again.text, u->text);
    assert_string_equal(origin_of(&again, again_origin), origin_of(u, origin));
    assert_true(ip_equal(&again.ip, &u->ip));
    url_fini(&again);
}

static void test_taken(void **state)
{
    (void)state;
    static const struct {
        const char *url, *text, *host, *origin;
    } cases[] = {
        {"http://a", "http://a/", "a", "http://a:80"},
        {"HTTPS://Www.Example.COM", "https://www.example.com/", "www.example.com",
         "https://www.example.com:443"},
        {"http://a:80/", "http://a/", "a", "http://a:80"},
        {"http://a:443/", "http://a:443/", "a", "http://a:443"},
        {"https://a:443/", "https://a/", "a", "https://a:443"},
        {"https://a:80/", "https://a:80/", "a", "https://a:80"},
        {"http://a:/x", "http://a/x", "a", "http://a:80"},
        {"http://a:00081/x", "http://a:81/x", "a", "http://a:81"},
        {"http://a:65535", "http://a:65535/", "a", "http://a:65535"},
        {"http://a/b/../c/./d?e=/../f", "http://a/c/d?e=/../f", "a", "http://a:80"},
        {"http://a?q", "http://a/?q", "a", "http://a:80"},
        {"http://a/p?", "http://a/p", "a", "http://a:80"},
        {"http://a/p?#f", "http://a/p", "a", "http://a:80"},
        {"http://a/p??", "http://a/p??", "a", "http://a:80"},
        {"http://a#@b/", "http://a/", "a", "http://a:80"},
        {"http://a?@b/", "http://a/?@b/", "a", "http://a:80"},
        {"http://a/@b:c@d/", "http://a/@b:c@d/", "a", "http://a:80"},
        {"http://a/http://b/#http://c/", "http://a/http://b/", "a", "http://a:80"},
        {"http://a/%2F%zz%00?%", "http://a/%2F%zz%00?%", "a", "http://a:80"},
        {"http://a/\xC3\xA4\xFF?\x80#\xC3", "http://a/%C3%A4%FF?%80", "a", "http://a:80"},
        {"http://a_b-c.d/", "http://a_b-c.d/", "a_b-c.d", "http://a_b-c.d:80"},
        {"http://%41b/", "http://ab/", "ab", "http://ab:80"},
        {"http://name./", "http://name./", "name.", "http://name.:80"},
        {"http://1e100.net/", "http://1e100.net/", "1e100.net", "http://1e100.net:80"},
        {"http://127.0.0.1.nip.io/", "http://127.0.0.1.nip.io/", "127.0.0.1.nip.io",
         "http://127.0.0.1.nip.io:80"},
        {"http://b\xC3\xBC" "cher.example/", "http://xn--bcher-kva.example/",
         "xn--bcher-kva.example", "http://xn--bcher-kva.example:80"},
        {"http://B%C3%9Ccher.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example",
         "http://xn--bcher-kva.example:80"},
        {"http://[2001:DB8:0:0::1]:8080/x", "http://[2001:db8::1]:8080/x", "2001:db8::1",
         "http://[2001:db8::1]:8080"},
        {"https://[::]", "https://[::]/", "::", "https://[::]:443"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct url u;
        const char *why = "";
        char origin[ORIGIN_MAX];
        if (!parse(cases[i].url, &u, &why))
            fail_msg("%s was refused: %s", cases[i].url, why);
        assert_null(why);
        assert_string_equal(u.text, cases[i].text);
        assert_string_equal(u.host, cases[i].host);
        assert_string_equal(origin_of(&u, origin), cases[i].origin);
        check_fixed_point(&u);
        url_fini(&u);
        assert_null(u.text);
        assert_null(u.host);
    }
}

/* Each way to write an address that libcurl, getaddrinfo() or a browser would dial. */
static void test_addresses(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"http://127.0.0.1/", "127.0.0.1"},
        {"http://127.1/", "127.0.0.1"},
        {"http://127.0.1/", "127.0.0.1"},
        {"http://2130706433/", "127.0.0.1"},
        {"http://017700000001/", "127.0.0.1"},
        {"http://0x7f000001/", "127.0.0.1"},
        {"http://0X7F.0x0.00.0000001/", "127.0.0.1"},
        {"http://0000000000000000000177.1/", "127.0.0.1"},
        {"http://0x00000000000000000007f.1/", "127.0.0.1"},
        {"http://127.0.0.1./", "127.0.0.1"},
        {"http://0x7f.1.:8080/", "127.0.0.1"},
        {"http://127%2e0%2E0%2e1/", "127.0.0.1"},
        {"http://%30x7f%2e1/", "127.0.0.1"},
        {"http://%31%32%37.1/", "127.0.0.1"},
        {"http://\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.0.0.1/", "127.0.0.1"}, /* fullwidth 127 */
        {"http://127\xE3\x80\x82" "0\xE3\x80\x82" "0\xE3\x80\x82" "1/", "127.0.0.1"}, /* 。 */
        {"http://\xE2\x93\xAA\xE2\x93\xA7\xE2\x91\xA6\xE2\x93\x95\xEF\xBD\xA1\xE2\x91\xA0/",
         "127.0.0.1"}, /* circled 0x7f.1 */
        {"http://127.0.0.1\xEF\xBC\x8E/", "127.0.0.1"}, /* fullwidth dot at the end */
        {"http://0/", "0.0.0.0"},
        {"http://010.0.0.1/", "8.0.0.1"},
        {"http://1.16777215/", "1.255.255.255"},
        {"http://1.2.65535/", "1.2.255.255"},
        {"http://4294967295/", "255.255.255.255"},
        {"http://[::1]/", "::1"},
        {"http://[0:0:0:0:0:0:0:1]/", "::1"},
        {"http://[::FFFF:127.0.0.1]/", "::ffff:127.0.0.1"},
        {"http://[::ffff:7f00:1]/", "::ffff:127.0.0.1"},
        {"http://[64:ff9b::127.0.0.1]/", "64:ff9b::7f00:1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct url u;
        const char *why;
        char text[IP_TEXT_MAX];
        if (!parse(cases[i][0], &u, &why))
            fail_msg("%s was refused: %s", cases[i][0], why);
        assert_string_equal(ip_format(&u.ip, text), cases[i][1]);
        check_fixed_point(&u);
        url_fini(&u);
    }
}

static void check_refused(const char *s, size_t n, const char *reason)
{
    struct url u;
    const char *why = NULL;

    memset(&u, 0xAA, sizeof u);
    if (parse_n(s, n, &u, &why))
        fail_msg("%s was taken as %s", s, u.text);
    if (why == NULL || strstr(why, reason) == NULL)
        fail_msg("%s was refused because \"%s\", not for \"%s\"", s, why, reason);
    assert_null(u.text);
    assert_null(u.host);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "empty"},
        {"a", "http://"},
        {"a.example/x", "http://"},
        {"//a/", "http://"},
        {"http", "http://"},
        {"http:", "http://"},
        {"http:a", "http://"},
        {"http:/a", "http://"},
        {"htt p://a", "blank"},
        {"ftp://a/", "http://"},
        {"file:///etc/passwd", "http://"},
        {"gopher://a/", "http://"},
        {"javascript:alert(1)", "http://"},
        {"xhttp://a/", "http://"},
        {"http+x://a/", "http://"},
        {"httpss://a/", "http://"},
        {"http://", "host is missing"},
        {"http:///a", "host is missing"},
        {"http:////a", "host is missing"},
        {"http://?q", "host is missing"},
        {"http://#f", "host is missing"},
        {"http://:80/", "host is missing"},
        {"http://./", "empty label"},
        {"http://../", "empty label"},
        {"http://a..b/", "empty label"},
        {"http://.a/", "empty label"},
        {"http://a../", "empty label"},
        {"http://a:0/", "port"},
        {"http://a:00/", "port"},
        {"http://a:65536/", "port"},
        {"http://a:99999999999999999999/", "port"},
        {"http://a:-1/", "port"},
        {"http://a:+1/", "port"},
        {"http://a:8o/", "port"},
        {"http://a:80:80/", "port"},
        {"http://[::1]80/", "port"},
        {"http://user@a/", "user name"},
        {"http://user:pw@a/", "user name"},
        {"http://@a/", "user name"},
        {"http://a@/", "user name"},
        {"http://a@b@c/", "user name"},
        {"http://127.0.0.1:80@a/", "user name"},
        {"http://a%40b/", "character"},
        {"http://a%2fb/", "character"},
        {"http://a%3a80/", "character"},
        {"http://a%25b/", "character"},
        {"http://a%2525b/", "character"},
        {"http://a%23b/", "character"},
        {"http://a%5cb/", "character"},
        {"http://a%20b/", "character"},
        {"http://a%00b/", "character"},
        {"http://a%0d%0ab/", "character"},
        {"http://a%5bb%5d/", "character"},
        {"http://%5b::1%5d/", ""},
        {"http://a%/", "character"},
        {"http://a!b/", "character"},
        {"http://a~b/", "character"},
        {"http://a|b/", "character"},
        {"http://${x}/", "character"},
        {"http://a,b/", "character"},
        {"http://\xFF/", "internationalised"},
        {"http://a\xC0\xAF" "b/", "internationalised"},
        {"http://%ff/", "internationalised"},
        {"http://[fe80::1%25eth0]/", "zone"},
        {"http://[fe80::1%eth0]/", "zone"},
        {"http://[::%31]/", "zone"},
        {"http://[]/", "IPv6"},
        {"http://[:]/", "IPv6"},
        {"http://[::1/", "IPv6"},
        {"http://[::g]/", "IPv6"},
        {"http://[1.2.3.4]/", "IPv6"},
        {"http://[::1.2.3]/", "IPv6"},
        {"http://[v1.x]/", "IPv6"},
        {"http://::1/", "port"},
        {"http://256.256.256.256/", "no IPv4"},
        {"http://1.2.3.4.5/", "no IPv4"},
        {"http://1.2.3.256/", "no IPv4"},
        {"http://1.2.65536/", "no IPv4"},
        {"http://1.16777216/", "no IPv4"},
        {"http://4294967296/", "no IPv4"},
        {"http://18446744073709551617/", "no IPv4"},
        {"http://0x100000001/", "no IPv4"},
        {"http://08.0.0.1/", "no IPv4"},
        {"http://0x.1/", "no IPv4"},
        {"http://0x/", "no IPv4"},
        {"http://name.1/", "no IPv4"},
        {"http://name.0x7f/", "no IPv4"},
        {"http://name.0x7f./", "no IPv4"},
        {"http://0x7f.name.09/", "no IPv4"},
        {"http://\xE2\x91\xA8.\xE2\x91\xA8.\xE2\x91\xA8.\xE2\x91\xA8.\xE2\x91\xA8/", "no IPv4"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        check_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    check_refused("http://a/\0b", 11, "control");
    check_refused("\0", 1, "control");
}

/* Each byte at the start, within host and path, in query and fragment, and at the end. */
static void test_every_byte(void **state)
{
    (void)state;
    static const char *const forms[][2] = {
        {"", "http://a/"}, {"http://a", "b/"}, {"http://a/", "b"}, {"http://a/?", "b"},
        {"http://a/#", "b"}, {"http://a/", ""}, {"http://a", ""}, {"http", "://a/"},
    };
    for (size_t i = 0; i < COUNT(forms); i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            char text[64];
            size_t before = strlen(forms[i][0]), after = strlen(forms[i][1]);
            struct url u;
            const char *why;
            memcpy(text, forms[i][0], before);
            text[before] = (char)byte;
            memcpy(text + before + 1, forms[i][1], after);
            bool taken = parse_n(text, before + 1 + after, &u, &why);
            if (byte <= 0x20 || byte == 0x7f || byte == '\\')
                assert_false(taken);
            if (forms[i][0][0] == '\0' || (i == 7 && byte != 's' && byte != 'S'))
                assert_false(taken);
            if (taken) {
                    check_fixed_point(&u);
                url_fini(&u);
            }
        }
    }
}

static void append(char *out, size_t size, const char *piece, size_t times)
{
    size_t n = strlen(out);

    for (size_t i = 0; i < times; i++)
        n += (size_t)snprintf(out + n, size - n, "%s", piece);
}

/* A host of `labels` labels of `length` letters; whether it is taken. */
static bool takes_host(size_t labels, size_t length, const char *end)
{
    char text[1024] = "http://";
    struct url u;
    const char *why;

    for (size_t i = 0; i < labels; i++) {
        append(text, sizeof text, ".", i > 0);
        append(text, sizeof text, "a", length);
    }
    append(text, sizeof text, end, 1);
    if (!parse(text, &u, &why))
        return false;
    url_fini(&u);
    return true;
}

#define LETTERS_61 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeefffffffffff"

static void test_lengths(void **state)
{
    (void)state;
    assert_true(takes_host(1, 63, "/"));
    assert_false(takes_host(1, 64, "/"));
    assert_false(takes_host(2, 64, ".a/"));
    assert_true(takes_host(3, 63, "." LETTERS_61 "/"));
    assert_true(takes_host(3, 63, "." LETTERS_61 "./"));
    assert_false(takes_host(3, 63, "." LETTERS_61 "f/"));
    assert_false(takes_host(4, 63, "/"));
    assert_false(takes_host(9, 63, "/"));

    char *text = malloc(URL_BYTES_MAX + 2);
    struct url u;
    const char *why;
    assert_non_null(text);
    memcpy(text, "http://a/", 9);
    for (int high = 0; high < 2; high++) {
        memset(text + 9, high ? 0xE4 : 'x', URL_BYTES_MAX + 1 - 9);
        assert_true(parse_n(text, URL_BYTES_MAX, &u, &why));
        assert_int_equal(strlen(u.text), 9 + (URL_BYTES_MAX - 9) * (high ? 3 : 1));
        url_fini(&u);
        text[URL_BYTES_MAX + 1] = '\0';
        check_refused(text, URL_BYTES_MAX + 1, "longer");
    }
    /* Around the size of the copy that lives on the stack. */
    memset(text + 9, 'x', 3000);
    for (size_t n = 650; n < 2100; n++) {
        assert_true(parse_n(text, n, &u, &why));
        assert_int_equal(strlen(u.text), n);
        url_fini(&u);
    }
    free(text);
}

/* --- references ------------------------------------------------------------------------------ */

/* RFC 3986, 5.4, with what RFC calls abnormal; then what Location headers bring. */
static void test_resolve(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"http://a/b/c/d;p?q", "g", "http://a/b/c/g"},
        {"http://a/b/c/d;p?q", "./g", "http://a/b/c/g"},
        {"http://a/b/c/d;p?q", "g/", "http://a/b/c/g/"},
        {"http://a/b/c/d;p?q", "/g", "http://a/g"},
        {"http://a/b/c/d;p?q", "//g", "http://g/"},
        {"http://a/b/c/d;p?q", "?y", "http://a/b/c/d;p?y"},
        {"http://a/b/c/d;p?q", "g?y", "http://a/b/c/g?y"},
        {"http://a/b/c/d;p?q", "#s", "http://a/b/c/d;p?q"},
        {"http://a/b/c/d;p?q", "g#s", "http://a/b/c/g"},
        {"http://a/b/c/d;p?q", "g?y#s", "http://a/b/c/g?y"},
        {"http://a/b/c/d;p?q", ";x", "http://a/b/c/;x"},
        {"http://a/b/c/d;p?q", "g;x", "http://a/b/c/g;x"},
        {"http://a/b/c/d;p?q", ".", "http://a/b/c/"},
        {"http://a/b/c/d;p?q", "./", "http://a/b/c/"},
        {"http://a/b/c/d;p?q", "..", "http://a/b/"},
        {"http://a/b/c/d;p?q", "../", "http://a/b/"},
        {"http://a/b/c/d;p?q", "../g", "http://a/b/g"},
        {"http://a/b/c/d;p?q", "../..", "http://a/"},
        {"http://a/b/c/d;p?q", "../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "../../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "../../../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "/./g", "http://a/g"},
        {"http://a/b/c/d;p?q", "/../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "g.", "http://a/b/c/g."},
        {"http://a/b/c/d;p?q", "..g", "http://a/b/c/..g"},
        {"http://a/b/c/d;p?q", "./g/.", "http://a/b/c/g/"},
        {"http://a/b/c/d;p?q", "g/../h", "http://a/b/c/h"},
        {"http://a/b/c/d;p?q", "g;x=1/../y", "http://a/b/c/y"},
        {"http://a/b/c/d;p?q", "g?y/../x", "http://a/b/c/g?y/../x"},
        {"http://a/b/c/d;p?q/r/s", "g", "http://a/b/c/g"},
        {"http://a", "g", "http://a/g"},
        {"http://a", "?y", "http://a/?y"},
        {"http://a?q", "g", "http://a/g"},
        {"https://a:8443/b", "/g", "https://a:8443/g"},
        {"https://a/b", "//b:81/g", "https://b:81/g"},
        {"https://a/b", "http://b/g", "http://b/g"},
        {"http://a/b", "HTTPS://B/g", "https://b/g"},
        {"http://[::1]:8080/b?c", "/g", "http://[::1]:8080/g"},
        {"http://[::1]:8080/b?c", "g", "http://[::1]:8080/g"},
        {"http://a/b", " \t/g \t ", "http://a/g"},
        {"http://a/b", "/\xC3\xA4?\xE4", "http://a/%C3%A4?%E4"},
        {"http://a/b", "\xC3\xA4", "http://a/%C3%A4"},
        {"http://a/b", "//b\xC3\xBC" "cher.example/", "http://xn--bcher-kva.example/"},
        {"http://a/b", "1:2", "http://a/1:2"},
        {"http://a/b", "./x:y", "http://a/x:y"},
        {"http://a/b", ":80", "http://a/:80"},
        {"http://a/b", "@c/", "http://a/@c/"},
        {"http://a/b", "/@c/", "http://a/@c/"},
        {"http://a/b", "//0x7f.1/", "http://127.0.0.1/"},
        {"http://a/b/c?d", "//[::1]:8/", "http://[::1]:8/"},
        {"http://a/b/c?d", "https://c:444/d/../e", "https://c:444/e"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct url u;
        const char *why;
        if (!resolve(cases[i][0], cases[i][1], &u, &why))
            fail_msg("%s was refused: %s", cases[i][1], why);
        assert_string_equal(u.text, cases[i][2]);
        url_fini(&u);
    }
}

static void test_resolve_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "empty"},
        {" \t", "empty"},
        {"///b/", "host is missing"},
        {"//", "host is missing"},
        {"//u:p@b/", "user name"},
        {"http://u:p@b/", "user name"},
        {"http:b", "http://"},
        {"http:/b", "http://"},
        {"http:///b", "host is missing"},
        {"mailto:a@b", "http://"},
        {"file:///etc/passwd", "http://"},
        {"gopher://b/", "http://"},
        {"b:80", "http://"},
        {"/\\b/", "backslash"},
        {"\\\\b/", "backslash"},
        {"/x y", "blank"},
        {"/x\r\nSet-Cookie: a=b", "blank"},
        {"/x\x7f", "blank"},
        {"\n/x", "blank"},
        {"//[fe80::1%25lo]/", "zone"},
        {"//a:0/", "port"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct url u;
        const char *why = NULL;
        if (resolve("http://a/b", cases[i][0], &u, &why))
            fail_msg("%s was taken as %s", cases[i][0], u.text);
        if (!strstr(why, cases[i][1]))
            fail_msg("%s was refused because \"%s\"", cases[i][0], why);
    }

    /* 64 KiB, and what does not fit only once the base stands before it. */
    char *location = malloc(URL_BYTES_MAX + 2);
    struct url u;
    const char *why;
    assert_non_null(location);
    memset(location, 'x', URL_BYTES_MAX + 1);
    assert_false(resolve_n("http://a/b/", location, URL_BYTES_MAX + 1, &u, &why));
    assert_non_null(strstr(why, "longer"));
    assert_false(resolve_n("http://a/b/", location, URL_BYTES_MAX - 10, &u, &why));
    assert_non_null(strstr(why, "longer"));
    assert_true(resolve_n("http://a/b/", location, URL_BYTES_MAX - 11, &u, &why));
    assert_int_equal(strlen(u.text), URL_BYTES_MAX);
    url_fini(&u);
    free(location);
}

/* libcurl's own resolution, where it is known to follow the RFC, as the second opinion. */
static void test_resolve_like_curl(void **state)
{
    (void)state;
    static const char *const bases[] = {
        "http://a", "http://a/b", "http://a/b/", "http://a/b/c/d", "http://a/b/c?q=/x/y",
        "https://a:444/b//c", "http://[::1]:81/x/y/z",
    };
    static const char *const pieces[] = {"g", ".", "..", "/", "?y", "//", "x;p", "a=b", "../"};
    unsigned seed = 20;
    size_t taken = 0;

    for (int round = 0; round < 3000; round++) {
        char location[64] = "";
        struct url u;
        const char *why;
        seed = seed * 1103515245 + 12345;
        for (unsigned i = 0; i <= (seed >> 8) % 4; i++)
            append(location, sizeof location, pieces[(seed >> (12 + 4 * i)) % COUNT(pieces)], 1);
        const char *base = bases[(seed >> 20) % COUNT(bases)];
        CURLU *judge = as_given(base);
        char *expected = NULL;
        bool curl_ok = !curl_url_set(judge, CURLUPART_URL, location, 0);
        if (curl_ok)
            expected = part_of(judge, CURLUPART_URL, CURLU_NO_DEFAULT_PORT);
        /* "//" alone is an empty host for us; CURLU shortens runs of slashes and "..?" its way. */
        if (resolve(base, location, &u, &why)) {
            if (curl_ok && strstr(location, "..") == NULL && strstr(location, "//") == NULL) {
                assert_string_equal(u.text, expected);
                taken++;
            }
            url_fini(&u);
        }
        curl_free(expected);
        curl_url_cleanup(judge);
    }
    assert_in_range(taken, 500, 3000);
}

static void test_same_origin(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"http://a/x", "http://A:80/y?z", true},
        {"https://a/", "https://a:443/", true},
        {"http://a/", "https://a/", false},
        {"http://a:443/", "https://a/", false},
        {"http://a/", "http://a:81/", false},
        {"http://a/", "http://b/", false},
        {"http://a.example/", "http://example/", false},
        {"http://127.0.0.1/", "http://0x7f.1/", true},
        {"http://[::1]/", "http://[0::1]:80/", true},
        {"http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct batch one, two;
        batch_begin(&one);
        batch_begin(&two);
        struct target a = take(&one, cases[i].a), b = take(&one, cases[i].b);
        struct target c = take(&two, cases[i].b);
        assert_int_equal(target_same_origin(&a, &b), cases[i].same);
        assert_int_equal(target_same_origin(&a, &c), cases[i].same);
        assert_int_equal(target_same_origin(&c, &a), cases[i].same);
        batch_end(&two);
        batch_end(&one);
    }
}

/* --- failing memory -------------------------------------------------------------------------- */

/* libcurl's Nth allocation fails, for each N: nothing leaks, nothing half-made is handed out. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "http://a.example:81/b/../c?d#e", "http://127%2e1/x", "http://[0::1]/",
        "http://\xC3\xA4.example/",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct url u;
        const char *why;
        long n = 0;
        for (;; n++) {
            allocations_left = n;
            bool ok = url_parse(texts[i], strlen(texts[i]), &u, &why);
            allocations_left = -1;
            if (ok)
                break;
            assert_non_null(why);
            assert_null(u.text);
        }
        assert_in_range(n, 4, 30);
        check_given(&u);
        url_fini(&u);
    }
}

/* --- the corpus ------------------------------------------------------------------------------ */

static json_t *read_vectors(const char *name)
{
    json_error_t error;
    FILE *f = testdata_open(name);
    if (!f)
        return NULL;
    json_t *root = json_loadf(f, JSON_ALLOW_NUL, &error);
    fclose(f);
    assert_non_null(root);
    return root;
}

static const char *member(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Takes the vector's input against its base. */
static bool take_vector(json_t *vector, struct url *u)
{
    json_t *input = json_object_get(vector, "input");
    const char *s = json_string_value(input), *base_text = member(vector, "base"), *why;
    size_t n = json_string_length(input);
    struct url base;

    if (!base_text)
        return parse_n(s, n, u, &why);
    if (!parse(base_text, &base, &why))
        return false;
    url_fini(&base);
    return resolve_n(base_text, s, n, u, &why);
}

/* We may refuse what browsers take, but never take it to another place. */
static void test_web_platform(void **state)
{
    (void)state;
    json_t *root = read_vectors("wpt-url/urltestdata.json"), *vector;
    size_t i, taken = 0;

    if (!root)
        skip();
    json_array_foreach(root, i, vector) {
        struct url u;
        if (!json_is_object(vector) || !take_vector(vector, &u))
            continue;
        taken++;
        if (!member(vector, "href"))
            fail_msg("%s is no URL but was taken as %s", member(vector, "input"), u.text);
        const char *host = member(vector, "hostname"), *port = member(vector, "port");
        char expected[1100];
        struct ip_addr ip;
        /* The standard writes all of IPv6 in hexadecimal. */
        snprintf(expected, sizeof expected, "%s", host);
        if (host[0] == '[') {
            snprintf(expected, sizeof expected, "%.*s", (int)strlen(host) - 2, host + 1);
            assert_true(ip_parse(expected, &ip));
            assert_true(ip_equal(&ip, &u.ip));
        } else {
            assert_string_equal(u.host, expected);
        }
        assert_string_equal(member(vector, "protocol"), u.https ? "https:" : "http:");
        assert_int_equal(u.port, *port ? strtol(port, NULL, 10) : u.https ? 443 : 80);
        check_fixed_point(&u);
        url_fini(&u);
    }
    assert_in_range(taken, 150, i);
    json_decref(root);
}

/* Names by IDNA: those that libidn2 and the vectors both take are the same name. */
static void test_web_platform_names(void **state)
{
    (void)state;
    json_t *root = read_vectors("wpt-url/toascii.json"), *vector;
    size_t i, taken = 0, other = 0;

    if (!root)
        skip();
    json_array_foreach(root, i, vector) {
        char text[4096];
        struct url u;
        const char *why;
        if (!json_is_object(vector))
            continue;
        snprintf(text, sizeof text, "http://%s/x", member(vector, "input"));
        if (!parse(text, &u, &why))
            continue;
        taken++;
        check_fixed_point(&u);
        /* libidn2 2.3 still has the capital sharp S as two letters. */
        const char *expected = member(vector, "output");
        bool sharp_s = strstr(member(vector, "input"), "\xE1\xBA\x9E") != NULL;
        if (expected && !sharp_s && strcmp(u.host, expected) != 0) {
            printf("# %s: %s, the vectors say %s\n", member(vector, "input"), u.host,
                   expected);
            other++;
        }
        url_fini(&u);
    }
    assert_in_range(taken, 10, i);
    assert_int_equal(other, 0);
    json_decref(root);
}

/* --- user name and password ------------------------------------------------------------------ */

/* What url_parse() refuses with url_has_userinfo becomes the credentials, or a word of why not. */
static void test_userinfo(void **state)
{
    (void)state;
    static const struct {
        const char *url, *credentials, *rest, *why;
    } cases[] = {
        {"http://u:p@h/", "u:p", "http://h/", NULL},
        {"HTTPS://u:p@h:1?q", "u:p", "HTTPS://h:1?q", NULL},
        {"http://u@h", "u:", "http://h", NULL},
        {"http://@h", ":", "http://h", NULL},
        {"http://:@h", ":", "http://h", NULL},
        {"http://:p@h", ":p", "http://h", NULL},
        {"http://u:p:q@h/@x", "u:p:q", "http://h/@x", NULL},
        {"http://u:p@h#a@b", "u:p", "http://h#a@b", NULL},
        {"http://u%20+:%40%2F@h/", "u +:@/", "http://h/", NULL},
        {"http://u:%zz%2@h/", "u:%zz%2", "http://h/", NULL},
        {"http://\xC3\xBC:%C3%BC@h/", "\xC3\xBC:\xC3\xBC", "http://h/", NULL},
        {"http://u[:]p@[::1]/", "u[:]p", "http://[::1]/", NULL},
        {"http://u;a=b:p@h/", "u;a=b:p", "http://h/", NULL},
        {"http://u:p@", "u:p", "http://", NULL},
        {"http://a@b@h/", NULL, NULL, "an @"},
        {"http://a:b@c:d@h/", NULL, NULL, "an @"},
        {"http://u%3ap:q@h/", NULL, NULL, "colon"},
        {"http://u%00:p@h/", NULL, NULL, "control"},
        {"http://u:p%0A@h/", NULL, NULL, "control"},
        {"http://u:p%7F@h/", NULL, NULL, "control"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *s = cases[i].url, *why;
        struct url_userinfo u;
        struct url parsed;
        struct buf credentials, rest;
        buf_init(&credentials, 0);
        buf_init(&rest, 0);
        assert_false(url_parse(s, strlen(s), &parsed, &why));
        assert_ptr_equal(why, url_has_userinfo);
        bool ok = url_read_userinfo(s, strlen(s), &u, &credentials, &why);
        assert_int_equal(ok, cases[i].why == NULL);
        buf_add(&rest, s, u.at);
        buf_add_str(&rest, s + u.at + u.len);
        if (ok) {
            assert_string_equal(buf_cstr(&credentials), cases[i].credentials);
            assert_string_equal(buf_cstr(&rest), cases[i].rest);
        } else {
            assert_non_null(strstr(why, cases[i].why));
        }
        buf_fini(&credentials);
        buf_fini(&rest);
    }
}

/* The longest is taken, and one byte more is not. */
static void test_long_userinfo(void **state)
{
    (void)state;
    static char text[URL_USERINFO_MAX + 20];
    for (size_t n = URL_USERINFO_MAX; n <= URL_USERINFO_MAX + 1; n++) {
        struct url_userinfo u;
        struct buf credentials;
        const char *why;
        memset(text, 'u', sizeof text);
        memcpy(text, "http://", 7);
        memcpy(text + 7 + n, "@h/", 4);
        buf_init(&credentials, 0);
        bool ok = url_read_userinfo(text, strlen(text), &u, &credentials, &why);
        assert_int_equal(ok, n == URL_USERINFO_MAX);
        assert_int_equal(credentials.len, ok ? n + 1 : 0);
        buf_fini(&credentials);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_resolve_refused),
        cmocka_unit_test(test_resolve_like_curl),
        cmocka_unit_test(test_same_origin),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_userinfo),
        cmocka_unit_test(test_long_userinfo),
        cmocka_unit_test(test_web_platform),
        cmocka_unit_test(test_web_platform_names),
    };
    return cmocka_run_group_tests_name("url", tests, set_up, tear_down);
}

/* SPDX-License-Identifier: MIT
 *
 * url_plain: that the short way says, of every URL that it takes, what CURLU says; by hand, byte by
 * byte, exhaustively over the letters that matter, and at random.
 */
#include "url_plain.h"

#include "url_fixture.h"

#define TEXT_MAX 512

static void check_found(const char *s, size_t n, const struct url_plain *p, const struct url *u)
{
    char *text = malloc(n + 2);
    size_t authority;
    assert_non_null(text);
    size_t len = url_plain_text(p, s, n, text, &authority);
    if (strcmp(text, u->text) != 0)
        fail_msg("%.*s: %s, by CURLU %s", (int)n, s, text, u->text);
    assert_int_equal(len, strlen(text));
    assert_int_equal(authority, 8 + strcspn(text + 8, "/"));
    assert_int_equal(p->host_len, strlen(u->host));
    assert_memory_equal(text + p->host_at, u->host, p->host_len);
    assert_int_equal(p->https, u->https);
    assert_int_equal(p->port, u->port);
    assert_memory_equal(&p->ip, &u->ip, sizeof p->ip);
    assert_int_equal(p->normal, len == n && memcmp(text, s, n) == 0);
    free(text);
}

/* Whether it is plain; when it is, both ways agree. */
static bool check(const char *s, size_t n)
{
    struct url_plain plain;
    struct url u;
    const char *why;

    if (!url_plain_scan(s, n, &plain))
        return false;
    if (!parse_n(s, n, &u, &why))
        fail_msg("%.*s is plain, but refused: %s", (int)n, s, why);
    check_found(s, n, &plain, &u);
    url_fini(&u);
    return true;
}

static void test_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool plain;
    } cases[] = {
        {"http://a", true},
        {"http://a/", true},
        {"HTTP://A/B", true},
        {"https://a:443/b?c=d", true},
        {"https://a:80", true},
        {"http://a?b", true},
        {"http://a/?b?c/../d%2e", true},
        {"http://1.2.3.4:8080/x", true},
        {"http://255.255.255.255/", true},
        {"http://[::1]:81/", true},
        {"http://[2606:4700::1111]/", true},
        {"http://a-b_c.example/.well-known/x/..x/.%2fx/...", false},
        {"http://a-b_c.example/.well-known/x", true},
        {"http://a/x./y../z...?.", true},
        {"http://a/%20%zz%", true},
        {"http://a/@:b//c", true},
        {"http://xn--4ca.example/", true},
        {"http://1a.b/", true},

        {"", false},
        {"http", false},
        {"http:", false},
        {"http://", false},
        {"http:/a", false},
        {"http:a", false},
        {"http:///a", false},
        {"httpss://a", false},
        {"ftp://a/", false},
        {" http://a", false},
        {"http://a ", false},
        {"http://a:", false},
        {"http://a:0/", false},
        {"http://a:080/", false},
        {"http://a:65536/", false},
        {"http://a:123456/", false},
        {"http://a:8x/", false},
        {"http://a:+8/", false},
        {"http://.a/", false},
        {"http://a./", false},
        {"http://a..b/", false},
        {"http://u@a/", false},
        {"http://a@b/", false},
        {"http://a\\b/", false},
        {"http://a/\\b", false},
        {"http://a#f", false},
        {"http://a/#f", false},
        {"http://a/?", false},
        {"http://a?", false},
        {"http://a/.", false},
        {"http://a/./b", false},
        {"http://a/b/..", false},
        {"http://a/b/..?c", false},
        {"http://a/b/.?c", false},
        {"http://a/%2e/b", false},
        {"http://a/.%2E/b", false},
        {"http://a/x%2ey", false},
        {"http://%61/", false},
        {"http://\xC3\xA4/", false},
        {"http://a/\xC3\xA4", false},
        {"http://127.1/", false},
        {"http://2130706433/", false},
        {"http://0x7f.1/", false},
        {"http://0177.0.0.1/", false},
        {"http://127.0.0.01/", false},
        {"http://127.0.0.256/", false},
        {"http://127.0.0.1./", false},
        {"http://127.0.0.1.2/", false},
        {"http://a.1/", false},
        {"http://a.0x1/", false},
        {"http://[::1/", false},
        {"http://::1/", false},
        {"http://[0::1]/", false},
        {"http://[::FFFF]/", false},
        {"http://[::ffff:1.2.3.4]/", false},
        {"http://[::1%25lo]/", false},
        {"http://[::1]x/", false},
        {"http://[1.2.3.4]/", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (check(cases[i].url, strlen(cases[i].url)) != cases[i].plain)
            fail_msg("%s", cases[i].url);
    }
}

/* Every byte in every place of some URLs, instead of one that is there and between two. */
static void test_every_byte(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://ab.cd:82/e/f?g=h",
        "https://1.2.3.4/a.b",
        "http://[::1]/?a",
        "HTTP://a",
    };
    size_t taken = 0;

    for (size_t i = 0; i < COUNT(urls); i++) {
        size_t n = strlen(urls[i]);
        for (size_t at = 0; at <= n; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char text[64];
                memcpy(text, urls[i], at);
                text[at] = (char)byte;
                memcpy(text + at + 1, urls[i] + at, n - at);
                taken += check(text, n + 1);
                memcpy(text, urls[i], n);
                text[at] = (char)byte;
                taken += check(text, at == n ? n + 1 : n);
            }
        }
    }
    assert_in_range(taken, 3000, 30000);
}

/* All texts of up to `max` letters, between a head and a tail. */
static size_t check_all(const char *head, const char *letters, size_t max, const char *tail)
{
    size_t base = strlen(letters), head_len = strlen(head), tail_len = strlen(tail);
    size_t taken = 0, total = 1;

    for (size_t n = 0; n <= max; n++, total *= base) {
        for (size_t number = 0; number < total; number++) {
            char text[64];
            size_t rest = number;
            memcpy(text, head, head_len);
            for (size_t i = 0; i < n; i++, rest /= base)
                text[head_len + i] = letters[rest % base];
            memcpy(text + head_len + n, tail, tail_len);
            taken += check(text, head_len + n + tail_len);
        }
    }
    return taken;
}

static void test_all_paths(void **state)
{
    (void)state;
    assert_in_range(check_all("http://a/", "/.%2eE?a", 5, ""), 5000, 40000);
    assert_in_range(check_all("http://a", "/.?#x", 5, ""), 100, 4000);
    assert_in_range(check_all("http://a/b", "/.%2e", 6, "/c?d"), 2000, 20000);
}

static void test_all_hosts(void **state)
{
    (void)state;
    assert_in_range(check_all("http://", "017.xa", 6, "/"), 5000, 60000);
    assert_in_range(check_all("http://1.2.", "0259.", 4, ""), 20, 700);
    assert_in_range(check_all("http://a", ":0169/@", 5, ""), 1000, 20000);
    assert_in_range(check_all("http://[", ":01fF", 5, "]/"), 50, 4000);
}

/* --- at random -------------------------------------------------------------------------------- */

static uint64_t state_of_random;

static size_t below(size_t n)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return (size_t)(state_of_random >> 20) % n;
}

/* The first of each are plain; `plain` counts them. */
struct pieces {
    const char *const *of;
    size_t count, plain;
};

static const char *const schemes[] = {
    "http://", "https://", "HTTP://", "Https://", /**/ "http:/", "http:///", "ftp://",
};
static const char *const parts[] = {
    "a",   "example",    "www", "Example", "com",      "api-2", "x_y",  "-",      "xn--4ca", /**/
    "127", "0",          "1",   "255",     "256",      "010",   "0x7f", "0xa9fe", "7f",
    "1e3", "2130706433", "",    "%61",     "\xC3\xA4", "a@b",   "0X1f", "00",     "08",
};
static const char *const addresses[] = {
    "127.0.0.1",      "10.1.2.3",
    "1.2.3.4",        "169.254.169.254",
    "0.0.0.0",        "[::1]",
    "[fe80::1]",      "[2001:db8::1:0:0:1]",
    "[1::]",          "127.0.0.1.nip.io", /**/
    "127.1",          "0x7f000001",
    "[::FFFF:1]",     "[::ffff:1.2.3.4]",
    "[fe80::1%25lo]", "[::1",
    "1.2.3.4.",       "1.2.3.4.5",
};
static const char *const ports[] = {
    "",       ":80", ":443", ":8080", ":1",  ":65535", /**/
    ":65536", ":0",  ":080", ":",     ":8a", ":99999", ":100000",
};
static const char *const paths[] = {
    "/",        "/",    "a",  "index.html", "b-c_d~e", "%20",       "%2F", "%zz", "@",  ":",
    "//",       ";v=1", "+",  "!$&'()*,=",  "[]",      "{}|^`\"<>", "A",   "%00", "x.", /**/
    ".",        "..",   "./", "../",        ".x",      "...",       "%2e", "%2E", "%",  "\\",
    "\xC3\xBC", " ",    "\t", "\x7f",
};
static const char *const queries[] = {
    "a=b", "&",    "x",  "%2e", "..", "/../", "@", "?", "%20", "+", "\"", /**/
    "#",   "\xFF", "\\", " ",
};

#define PIECES(array, plain) \
    (const struct pieces) \
    { \
        (array), COUNT(array), plain \
    }

static void append(char *text, size_t *n, const char *piece)
{
    size_t length = strlen(piece);

    assert_true(*n + length < TEXT_MAX);
    memcpy(text + *n, piece, length);
    *n += length;
}

/* One piece in eight may be any. */
static void append_one(char *text, size_t *n, struct pieces p)
{
    append(text, n, p.of[below(below(8) == 0 ? p.count : p.plain)]);
}

static void append_host(char *text, size_t *n)
{
    if (below(3) == 0) {
        append_one(text, n, PIECES(addresses, 10));
        return;
    }
    for (size_t i = below(4) + 1; i > 0; i--) {
        append_one(text, n, PIECES(parts, 9));
        if (i > 1 || below(40) == 0)
            append(text, n, ".");
    }
}

/* A few pieces are put together, and sometimes a byte is changed. */
static size_t make_url(char text[TEXT_MAX])
{
    size_t n = 0;

    append_one(text, &n, PIECES(schemes, 4));
    append_host(text, &n);
    append_one(text, &n, PIECES(ports, 6));
    if (below(8) > 0)
        append(text, &n, "/");
    for (size_t i = below(6); i > 0; i--)
        append_one(text, &n, PIECES(paths, 19));
    if (below(3) == 0)
        append(text, &n, "?");
    for (size_t i = below(2) * below(5); i > 0; i--)
        append_one(text, &n, PIECES(queries, 11));
    if (below(8) == 0)
        text[below(n)] = (char)below(256);
    return n;
}

static void test_random(void **state)
{
    (void)state;
    static const uint64_t seeds[] = {0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 1};
    const size_t rounds = 60000;

    for (size_t i = 0; i < COUNT(seeds); i++) {
        size_t taken = 0;
        state_of_random = seeds[i];
        for (size_t round = 0; round < rounds; round++) {
            char text[TEXT_MAX];
            taken += check(text, make_url(text));
        }
        assert_in_range(taken, rounds / 4, rounds * 3 / 4);
    }
}

/* Lengths of labels, names and the whole. */
static void test_lengths(void **state)
{
    (void)state;
    char *text = malloc(URL_BYTES_MAX + 2);

    assert_non_null(text);
    for (size_t label = 62; label <= 65; label++) {
        for (size_t count = 1; count <= 5; count++) {
            size_t n = (size_t)snprintf(text, 16, "http://");
            for (size_t i = 0; i < count; i++) {
                memset(text + n, 'a', label);
                n += label;
                text[n++] = i + 1 < count ? '.' : '/';
            }
            assert_int_equal(check(text, n), label <= 63 && n - 8 <= 253);
        }
    }
    memcpy(text, "http://a/", 9);
    memset(text + 9, 'b', URL_BYTES_MAX + 1 - 9);
    assert_true(check(text, URL_BYTES_MAX));
    assert_false(check(text, URL_BYTES_MAX + 1));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),   cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_all_paths), cmocka_unit_test(test_all_hosts),
        cmocka_unit_test(test_random),    cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests_name("url_plain", tests, set_up, tear_down);
}

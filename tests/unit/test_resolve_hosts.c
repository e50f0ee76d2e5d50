/* SPDX-License-Identifier: MIT
 *
 * test_resolve_hosts - a hosts file as people write them, its changes, and files that are none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "resolve_hosts.h"

#define MAX 8

struct test {
    char path[32];
    struct resolve_hosts *hosts;
};

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void set(struct test *t, const char *text)
{
    write_file(t->path, text, strlen(text));
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    snprintf(t->path, sizeof t->path, "test_hosts.XXXXXX");
    int fd = mkstemp(t->path);
    assert_true(fd >= 0);
    close(fd);
    t->hosts = resolve_hosts_create(t->path);
    assert_non_null(t->hosts);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;
    resolve_hosts_destroy(t->hosts);
    resolve_hosts_destroy(NULL);
    unlink(t->path);
    free(t);
    return 0;
}

/* What a name has, as "address address". */
static const char *found(const struct test *t, const char *name)
{
    static char text[MAX * IP_TEXT_MAX];
    char ip[IP_TEXT_MAX];
    struct ip_addr ips[MAX];
    size_t n = resolve_hosts_find(t->hosts, name, ips, MAX), len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i > 0 ? " " : "",
                                ip_format(&ips[i], ip));
    return text;
}

static void test_lines(void **state)
{
    struct test *t = *state;
    set(t, "# a comment\n"
           "127.0.0.1\tlocalhost\n"
           "  192.0.2.1   one.test one  uno.TEST\t# and a comment, two.test\r\n"
           "\n"
           "2001:DB8::1 one.test\n"
           "192.0.2.2 two.test two.test\n"
           "192.0.2.3 one.test#three.test\n"
           "fe80::1%lo0 zone.test\n"
           "192.0.2 short.test\n"
           "010.0.0.1 octal.test\n"
           "192.0.2.4\n"
           "192.0.2.5 hidden.onion hidden.onion. shown.test onion\n"
           "192.0.2.6 last.test");
    assert_true(resolve_hosts_check(t->hosts));
    assert_false(resolve_hosts_check(t->hosts));
    static const char *const cases[][2] = {
        {"localhost", "127.0.0.1"},
        {"one.test", "192.0.2.1 2001:db8::1 192.0.2.3"},
        {"one", "192.0.2.1"},
        {"uno.test", "192.0.2.1"},
        {"two.test", "192.0.2.2 192.0.2.2"},
        {"three.test", ""},
        {"zone.test", ""},
        {"short.test", ""},
        {"octal.test", ""},
        {"hidden.onion", ""},
        {"hidden.onion.", ""},
        {"shown.test", "192.0.2.5"},
        {"onion", "192.0.2.5"},
        {"last.test", "192.0.2.6"},
        {"last.tes", ""},
        {"last.test.", ""},
        {"192.0.2.6", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(found(t, cases[i][0]), cases[i][1]);
}

static void test_changes(void **state)
{
    struct test *t = *state;
    assert_string_equal(found(t, "one.test"), ""); /* before the first look */
    assert_true(resolve_hosts_check(t->hosts));    /* an empty file */
    assert_string_equal(found(t, "one.test"), "");
    set(t, "192.0.2.1 one.test\n");
    assert_true(resolve_hosts_check(t->hosts));
    assert_string_equal(found(t, "one.test"), "192.0.2.1");
    set(t, "192.0.2.22 two.test\n");
    assert_true(resolve_hosts_check(t->hosts));
    assert_string_equal(found(t, "one.test"), "");
    assert_string_equal(found(t, "two.test"), "192.0.2.22");
    unlink(t->path);
    assert_true(resolve_hosts_check(t->hosts));
    assert_false(resolve_hosts_check(t->hosts));
    assert_string_equal(found(t, "two.test"), "");
}

/* No descriptor is to be had when the change is seen: the old names stay until the new ones can be
 * read. */
static void test_no_descriptor(void **state)
{
    struct test *t = *state;
    struct rlimit limit, none;
    set(t, "192.0.2.1 one.test\n");
    assert_true(resolve_hosts_check(t->hosts));
    set(t, "192.0.2.22 one.test\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool first = resolve_hosts_check(t->hosts), second = resolve_hosts_check(t->hosts);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_false(first || second);
    assert_string_equal(found(t, "one.test"), "192.0.2.1");
    assert_true(resolve_hosts_check(t->hosts));
    assert_string_equal(found(t, "one.test"), "192.0.2.22");
}

static void test_no_file(void **state)
{
    struct resolve_hosts *h = resolve_hosts_create("/nonexistent/hosts");
    struct resolve_hosts *dir = resolve_hosts_create("/");
    struct ip_addr ip;
    (void)state;
    assert_false(resolve_hosts_check(h));
    assert_int_equal(resolve_hosts_find(h, "localhost", &ip, 1), 0);
    assert_true(resolve_hosts_check(dir));
    assert_int_equal(resolve_hosts_find(dir, "localhost", &ip, 1), 0);
    resolve_hosts_destroy(h);
    resolve_hosts_destroy(dir);
}

static void test_more_than_asked_for(void **state)
{
    struct test *t = *state;
    char text[2048];
    struct ip_addr ips[MAX];
    size_t len = 0;
    for (int i = 0; i < 40; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "192.0.2.%d many.test\n", i);
    set(t, text);
    resolve_hosts_check(t->hosts);
    assert_int_equal(resolve_hosts_find(t->hosts, "many.test", ips, MAX), MAX);
    assert_int_equal(ips[MAX - 1].bytes[3], MAX - 1);
}

/* Any bytes are a hosts file of some kind. */
static void test_garbage(void **state)
{
    struct test *t = *state;
    static char bytes[65536];
    unsigned random = 7;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * 1103515245U + 12345U;
            bytes[i] = " \n\t#.1:aZ\xff\0%"[(random >> 16) % 12];
        }
        write_file(t->path, bytes, sizeof bytes - (size_t)round);
        assert_true(resolve_hosts_check(t->hosts));
        found(t, "a");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lines),
        TEST(test_changes),
        TEST(test_no_descriptor),
        cmocka_unit_test(test_no_file),
        TEST(test_garbage),
        TEST(test_more_than_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

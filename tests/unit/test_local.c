/* SPDX-License-Identifier: MIT
 *
 * local: what every machine has is here, what no machine has is not, and whatever an interface has.
 */
#include "local.h"

#include <ifaddrs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "curl_uv_recv.h"

static struct local local;

static bool is_here(const char *text)
{
    struct ip_addr ip;

    assert_true(ip_parse(text, &ip));
    return local_is_here(&local, &ip);
}

static void test_here(void **state)
{
    (void)state;
    static const char *const here[] = {"127.0.0.1", "127.0.0.2", "127.255.255.254",
                                       "::ffff:127.0.0.2"};
    static const char *const away[] = {"8.8.8.8", "192.0.2.1", "::ffff:8.8.8.8", "2001:db8::1",
                                       "2606:4700:4700::1111"};

    for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++)
        assert_true(is_here(here[i]));
    for (size_t i = 0; i < sizeof(away) / sizeof(away[0]); i++)
        assert_false(is_here(away[i]));
}

static void test_interfaces(void **state)
{
    (void)state;
    struct ifaddrs *list;
    struct ip_addr ip;

    assert_int_equal(getifaddrs(&list), 0);
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        char text[IP_TEXT_MAX];
        if (!i->ifa_addr || !ip_from_sockaddr(i->ifa_addr, &ip, NULL))
            continue;
        if (strncmp(ip_format(&ip, text), "fe80:", 5) == 0)
            continue; /* which interface is meant, the address does not say */
        assert_true(local_is_here(&local, &ip));
    }
    freeifaddrs(list);
}

/* So it is asked in a callback of libcurl, whose reads are bounded: by then it may read nothing, of
 * this socket or of another. */
static void test_while_reads_are_bounded(void **state)
{
    (void)state;
    static const struct curl_uv_recv_told told = {.arg = NULL};

    curl_uv_recv_begin(-1, 1, 1, &told);
    bool all = is_here("192.0.2.1");
    curl_uv_recv_end();
    curl_uv_recv_begin(local.fd + 1, 1, 1, &told);
    bool other = is_here("192.0.2.1") || !is_here("127.0.0.1");
    curl_uv_recv_end();
    assert_false(all || other);
}

/* None is needed for a question. Without the one that is kept the answer is yes, until there is one
 * again. */
static void test_no_descriptor(void **state)
{
    (void)state;
    struct rlimit before, none;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool kept = is_here("8.8.8.8");
    local_fini(&local);
    bool lost = is_here("8.8.8.8");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_false(kept);
    assert_true(lost);
    assert_false(is_here("8.8.8.8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_interfaces),
        cmocka_unit_test(test_while_reads_are_bounded),
        cmocka_unit_test(test_no_descriptor),
    };
    local_init(&local);
    int failed = cmocka_run_group_tests_name("local", tests, NULL, NULL);
    local_fini(&local);
    return failed;
}

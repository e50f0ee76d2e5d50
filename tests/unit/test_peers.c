/* SPDX-License-Identifier: MIT
 *
 * peers: users by name and number, groups, and those that do not exist.
 */
#include "peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char name[] = "unix";

static struct peers *make(char **items, size_t count, struct buf *errors)
{
    const struct config_listener l = {.name = name, .peers = {items, count}};
    return peers_create(&l, errors);
}

static void test_users(void **state)
{
    (void)state;
    char root[] = "root", number[] = "4242", most[] = "4294967294";
    char *items[] = {root, number, most};
    struct buf errors;
    buf_init(&errors, 0);
    struct peers *p = make(items, 3, &errors);
    assert_non_null(p);
    assert_true(peers_has(p, 0) && peers_has(p, 4242) && peers_has(p, 4294967294U));
    assert_false(peers_has(p, 1) || peers_has(p, (uid_t)-1));
    peers_destroy(p);
    p = make(items, 0, &errors);
    assert_non_null(p);
    assert_false(peers_has(p, 0));
    peers_destroy(p);
    assert_int_equal(errors.len, 0);
}

static void test_unknown(void **state)
{
    (void)state;
    char unknown[] = "no-such-user", nobody[] = "4294967295", negative[] = "-1";
    char *items[] = {unknown, nobody, negative};
    struct buf errors;
    buf_init(&errors, 0);
    assert_null(make(items, 3, &errors));
    assert_string_equal(
        buf_cstr(&errors),
        "listener.unix.peers: there is no user no-such-user; a name of /etc/passwd, or a "
        "number\n"
        "listener.unix.peers: there is no user 4294967295; a name of /etc/passwd, or a "
        "number\n"
        "listener.unix.peers: there is no user -1; a name of /etc/passwd, or a number\n");
    buf_fini(&errors);
    peers_destroy(NULL);
}

static void test_groups(void **state)
{
    (void)state;
    gid_t gid = 77;
    assert_true(peers_find_group("root", &gid));
    assert_int_equal(gid, 0);
    assert_true(peers_find_group("123", &gid));
    assert_int_equal(gid, 123);
    assert_false(peers_find_group("no-such-group", &gid));
    assert_false(peers_find_group("", &gid));
    assert_int_equal(gid, 123);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

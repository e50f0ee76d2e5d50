/* SPDX-License-Identifier: MIT
 *
 * descriptors: what is lowered fits into what there is, and nothing is lowered without need.
 */
#include "descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"

static struct config *load(const char *const *options, size_t count)
{
    struct buf errors;
    buf_init(&errors, 0);
    struct config *c = config_load(NULL, options, count, &errors);
    assert_string_equal(buf_cstr(&errors), "");
    buf_fini(&errors);
    assert_non_null(c);
    return c;
}

#define LOAD(...)                                             \
    load((const char *const[]){__VA_ARGS__},                  \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_enough(void **state)
{
    (void)state;
    struct config *c = LOAD("daemon.loops=2");
    int64_t wanted = descriptors_wanted(c, 0);
    assert_true(wanted > 2 * 2 * 4096 + 256 + 512); /* two addresses, two a client */
    assert_false(descriptors_fit(c, wanted, 0));
    assert_int_equal(c->limits.clients, 4096);
    assert_false(c->fetch.few_descriptors);
    config_destroy(c);
}

/* The sum of all that may be open, counted another way than the module does. */
static int64_t used_at_most(const struct config *c, int64_t addresses)
{
    int64_t each = c->policies[0].insecure ? 5 : 3;
    int64_t multis = each * c->daemon.loops * (int64_t)c->policy_count;
    int64_t idle = c->fetch.idle_connections / c->daemon.loops * multis;
    return 3 + 4 + 2 + 2 * addresses + 7 * c->daemon.loops + 2 * multis +
           2 * addresses * c->limits.clients + c->limits.in_flight + idle;
}

/* What is not lowered fits as well: each multi has its idle connections. */
static void test_what_is_wanted_is_enough(void **state)
{
    (void)state;
    struct config *c = LOAD("daemon.loops=3", "policy.default.insecure=yes", "policy.b.insecure=no",
                            "listener.b.policy=b", "listener.b.bind=127.0.0.1:1",
                            "fetch.idle_connections=400");
    int64_t multis = 3 * (5 + 3);
    assert_true(descriptors_wanted(c, 0) >= 3 * 2 * 4096 + 256 + multis * 134 + multis * 2);
    config_destroy(c);
}

/* A reload: what is in use is left alone, and the rest fits beside it. */
static void test_fits_while_it_runs(void **state)
{
    (void)state;
    for (int64_t clients = 1; clients < 3000; clients += 119) {
        struct config *c = LOAD("daemon.loops=2", "listener.default.bind=127.0.0.1:1",
                                "limits.in_flight=20000", "limits.queued=20000");
        c->limits.clients = clients;
        int64_t available = 2 * clients + 400;
        assert_true(descriptors_fit(c, available, 1));
        assert_int_equal(c->limits.clients, clients);
        assert_int_equal(c->daemon.loops, 2);
        assert_true(used_at_most(c, 1) <= available);
        assert_true(c->limits.in_flight > 150 && c->limits.in_flight < 400);
        config_destroy(c);
    }
}

#define ONE "listener.default.bind=127.0.0.1:1"
#define TWO "listener.default.bind=127.0.0.1:1 [::1]:1"
#define FOUR "listener.default.bind=127.0.0.1:1 127.0.0.1:2 127.0.0.1:3 127.0.0.1:4"

/* For a reload: with the clients and loops of what was started. */
static struct config *load_like(const struct config *started, const char *bind, const char *flight)
{
    struct config *c = LOAD("daemon.loops=2", "limits.queued=20000", flight, bind);
    if (started != NULL) {
        c->limits.clients = started->limits.clients;
        c->daemon.loops = started->daemon.loops;
    }
    return c;
}

/* With the same addresses in it, with more and with fewer: they take effect after a restart. */
static void test_reload_is_fitted_as_the_start_was(void **state)
{
    (void)state;
    static const char *const flights[] = {"limits.in_flight=256", "limits.in_flight=20000"};
    static const char *const binds[] = {ONE, TWO, FOUR};
    for (int64_t available = 200; available < 70000; available += 1 + available / 50) {
        for (int turn = 0; turn < 12; turn++) {
            int64_t open = 1 + turn / 6;
            const char *flight = flights[turn / 3 % 2];
            struct config *start = load_like(NULL, binds[open - 1], flight);
            descriptors_fit(start, available, 0);
            struct config *next = load_like(start, binds[turn % 3], flight);
            descriptors_fit(next, available, open);
            assert_int_equal(next->limits.in_flight, start->limits.in_flight);
            assert_int_equal(next->fetch.idle_connections, start->fetch.idle_connections);
            assert_int_equal(next->limits.clients, start->limits.clients);
            config_destroy(next);
            config_destroy(start);
        }
    }
}

static void test_fits(void **state)
{
    (void)state;
    for (int64_t available = 64; available < 17000; available += 61) {
        struct config *c = LOAD("daemon.loops=2", "listener.default.bind=127.0.0.1:1 [::1]:1",
                                available % 2 == 0 ? "policy.default.insecure=yes"
                                                   : "policy.default.insecure=no");
        assert_true(descriptors_fit(c, available, 0));
        assert_true(used_at_most(c, 2) <= available);
        assert_true(c->fetch.few_descriptors);
        assert_true(c->limits.clients >= 1 && c->limits.clients <= 4096);
        assert_true(c->limits.in_flight >= 1 && c->limits.in_flight <= 256);
        config_destroy(c);
    }
}

static void test_never_below_one(void **state)
{
    (void)state;
    struct config *c = LOAD("daemon.loops=8");
    assert_true(descriptors_fit(c, 20, 0));
    assert_int_equal(c->limits.clients, 1);
    assert_int_equal(c->limits.in_flight, 1);
    assert_int_equal(c->fetch.idle_connections, 8);
    assert_int_equal(c->daemon.loops, 8); /* a number is not gatherd's to change */
    config_destroy(c);
}

/* The least is what lowering can reach, but for idle connections, which give way. */
static void test_least(void **state)
{
    (void)state;
    for (int insecure = 0; insecure < 2; insecure++) {
        struct config *c = LOAD("daemon.loops=8", "listener.default.bind=127.0.0.1:1 [::1]:1",
                                insecure ? "policy.default.insecure=yes" : "limits.in_flight=300");
        int64_t least = descriptors_least(c, 0), more = insecure ? 2 * 2 * 8 : 0;
        assert_true(least < descriptors_wanted(c, 0));
        assert_int_equal(least, 12 + 8 + 2 * 2 + 8 * (7 + 3 * 2) + more + 2 * 2 + 1);
        assert_int_equal(descriptors_least(c, 3), least + 2 + 2);
        assert_true(descriptors_fit(c, least, 0));
        assert_int_equal(descriptors_least(c, 0), least);
        config_destroy(c);
    }
    assert_true(descriptors_limit() > 0);
}

static void test_loops_auto(void **state)
{
    (void)state;
    struct config *c = LOAD("limits.clients=10");
    assert_true(descriptors_fit(c, 30, 0));
    assert_int_equal(c->daemon.loops == CONFIG_AUTO ? 1 : c->daemon.loops, 1);
    config_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enough),
        cmocka_unit_test(test_what_is_wanted_is_enough),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_fits_while_it_runs),
        cmocka_unit_test(test_reload_is_fitted_as_the_start_was),
        cmocka_unit_test(test_never_below_one),
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_loops_auto),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

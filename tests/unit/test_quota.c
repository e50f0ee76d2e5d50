/* SPDX-License-Identifier: MIT
 *
 * quota: batches, members and the rate of an identity, on a clock of the test's own; identities do
 * not feel each other, and the table forgets.
 */
#include "quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"

/* members: 0 = not known yet. */
static enum quota_verdict check(struct quotas *all, const char *who, size_t members,
                                const struct config_limits *l, int64_t now)
{
    bool ok;
    struct quota_answer a = quota_check(all, who, l, now);
    if (a.verdict != QUOTA_OK || members == 0)
        return a.verdict;
    struct quota *q = quota_take(all, who, l, now, &ok);
    a = quota_check_members(q, members, l, now);
    quota_give_back(all, q, 0);
    return a.verdict;
}

static struct quota *take(struct quotas *all, const char *who, size_t members,
                          const struct config_limits *l, int64_t now)
{
    bool ok;
    struct quota *q = quota_take(all, who, l, now, &ok);
    assert_true(ok);
    quota_take_members(q, members, l, now);
    return q;
}

static void test_none(void **state)
{
    (void)state;
    struct config_limits l = {0};
    struct quotas *all = quotas_create();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(check(all, "a", 1000000, &l, 0), QUOTA_OK);
        assert_null(take(all, "a", 1000000, &l, 0));
    }
    assert_int_equal(quotas_known(all), 0);
    quota_give_back(all, NULL, 5);
    quotas_destroy(all);
    quotas_destroy(NULL);
}

static void test_batches(void **state)
{
    (void)state;
    struct config_limits l = {.per_client_batches = 2};
    struct quotas *all = quotas_create();
    struct quota *first = take(all, "a", 10, &l, 0);
    assert_int_equal(check(all, "a", 10, &l, 0), QUOTA_OK);
    struct quota *second = take(all, "a", 10, &l, 0);
    assert_ptr_equal(first, second);
    assert_int_equal(check(all, "a", 10, &l, 0), QUOTA_BATCHES);
    /* those that count are not in their own way */
    assert_int_equal(quota_check_members(second, 10, &l, 0).verdict, QUOTA_OK);
    assert_int_equal(check(all, "a", 0, &l, INT64_MAX), QUOTA_BATCHES); /* time does not help */
    assert_int_equal(check(all, "b", 10, &l, 0), QUOTA_OK);
    l.per_client_batches = 3; /* a reload */
    assert_int_equal(check(all, "a", 10, &l, 0), QUOTA_OK);
    l.per_client_batches = 2;
    quota_give_back(all, first, 10);
    assert_int_equal(check(all, "a", 10, &l, 0), QUOTA_OK);
    quota_give_back(all, second, 10);
    assert_int_equal(quotas_known(all), 0);
    quotas_destroy(all);
}

static void test_members(void **state)
{
    (void)state;
    struct config_limits l = {.per_client_members = 10};
    struct quotas *all = quotas_create();
    struct quota *q = take(all, "a", 7, &l, 0);
    assert_int_equal(check(all, "a", 3, &l, 0), QUOTA_OK);
    struct quota_answer a = quota_check_members(q, 5, &l, 0);
    assert_int_equal(a.verdict, QUOTA_MEMBERS);
    assert_int_equal(a.excess, 2);
    assert_int_equal(check(all, "a", 0, &l, 0), QUOTA_OK); /* before the body: one would fit */
    struct quota *more = take(all, "a", 3, &l, 0);
    assert_int_equal(check(all, "a", 0, &l, 0), QUOTA_MEMBERS);
    quota_give_back(all, q, 7);
    assert_int_equal(check(all, "a", 7, &l, 0), QUOTA_OK);
    assert_int_equal(check(all, "a", 8, &l, 0), QUOTA_MEMBERS);
    quota_give_back(all, more, 3);
    quotas_destroy(all);
}

/* In each second of a minute as many as the rate says, whatever the sizes; a large batch goes into
 * debt. */
static void test_rate(void **state)
{
    (void)state;
    struct config_limits l = {.per_client_rate = 10};
    struct quotas *all = quotas_create();
    size_t sum = 0;
    for (int64_t ms = 0; ms < 60000; ms++) {
        size_t n = 1 + (size_t)(ms % 7);
        if (check(all, "a", n, &l, ms * US_PER_MS) != QUOTA_OK)
            continue;
        quota_give_back(all, take(all, "a", n, &l, ms * US_PER_MS), n);
        sum += n;
    }
    assert_in_range(sum, 600, 600 + 10 + 7);
    int64_t now = 120 * US_PER_S;
    quota_give_back(all, take(all, "a", 100, &l, now), 100);
    struct quota_answer a = quota_check(all, "a", &l, now);
    assert_int_equal(a.verdict, QUOTA_RATE);
    assert_in_range(a.wait_us, 9100 * US_PER_MS - 10, 9100 * US_PER_MS + 10);
    assert_int_equal(check(all, "a", 1, &l, now + a.wait_us - 100), QUOTA_RATE);
    assert_int_equal(check(all, "a", 1, &l, now + a.wait_us + 100), QUOTA_OK);
    assert_int_equal(check(all, "b", 1, &l, now), QUOTA_OK);
    quotas_destroy(all);
}

static void test_rate_a_minute(void **state)
{
    (void)state;
    struct config_limits l = {.per_client_rate = -2};
    struct quotas *all = quotas_create();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(check(all, "a", 1, &l, 0), QUOTA_OK);
        quota_give_back(all, take(all, "a", 1, &l, 0), 1);
    }
    struct quota_answer a = quota_check(all, "a", &l, US_PER_S);
    assert_int_equal(a.verdict, QUOTA_RATE);
    assert_int_equal(check(all, "a", 1, &l, 29 * US_PER_S), QUOTA_RATE);
    assert_int_equal(check(all, "a", 1, &l, 30 * US_PER_S), QUOTA_OK);
    l.per_client_rate = 0; /* a reload: what was owed is forgiven */
    assert_int_equal(check(all, "a", 1000, &l, US_PER_S), QUOTA_OK);
    quotas_destroy(all);
}

/* 100,000 identities that come once: those whose bucket is full again are forgotten. */
static void test_table_is_bounded(void **state)
{
    (void)state;
    struct config_limits l = {.per_client_rate = 10, .per_client_batches = 5};
    struct quotas *all = quotas_create();
    struct quota *held = take(all, "held", 3, &l, 0);
    size_t most = 0;
    for (int64_t i = 0; i < 100000; i++) {
        char who[32];
        snprintf(who, sizeof who, "2001:db8::%llx", (long long)i);
        quota_give_back(all, take(all, who, 1, &l, i * US_PER_MS), 1);
        most = quotas_known(all) > most ? quotas_known(all) : most;
    }
    assert_in_range(most, 100,
                    500); /* a member is back after 100 ms, so 100 are owed for at a time */
    assert_int_equal(check(all, "held", 0, &l, 0), QUOTA_OK);
    quota_give_back(all, held, 3);
    quotas_destroy(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),          cmocka_unit_test(test_batches),
        cmocka_unit_test(test_members),       cmocka_unit_test(test_rate),
        cmocka_unit_test(test_rate_a_minute), cmocka_unit_test(test_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * lag: the longest turn since a moment, against a look at all turns. Exact while the stack has
 * room; never too small when it has not.
 */
#include "lag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#define TURNS 4000

struct history {
    size_t count;
    int64_t end_us[TURNS], turn_us[TURNS];
};

static void note(struct lag *l, struct history *h, int64_t end_us, int64_t turn_us)
{
    lag_note(l, end_us, turn_us);
    h->end_us[h->count] = end_us;
    h->turn_us[h->count++] = turn_us;
}

static int64_t longest_since(const struct history *h, int64_t since_us)
{
    int64_t longest = 0;
    for (size_t i = h->count; i-- > 0 && h->end_us[i] >= since_us;)
        if (h->turn_us[i] > longest)
            longest = h->turn_us[i];
    return longest;
}

static void test_empty(void **state)
{
    (void)state;
    const struct lag l = {0};
    assert_int_equal(lag_max_since(&l, INT64_MIN), 0);
    assert_int_equal(lag_max_since(&l, 0), 0);
}

static void test_script(void **state)
{
    (void)state;
    struct lag l = {0};
    lag_note(&l, 100, 50);
    lag_note(&l, 200, 20);
    lag_note(&l, 300, 5);
    assert_int_equal(lag_max_since(&l, 0), 50);
    assert_int_equal(lag_max_since(&l, 100), 50); /* at the moment counts */
    assert_int_equal(lag_max_since(&l, 101), 20);
    assert_int_equal(lag_max_since(&l, 300), 5);
    assert_int_equal(lag_max_since(&l, 301), 0);
    lag_note(&l, 400, 30);
    assert_int_equal(l.count, 2); /* nobody asks for the shorter, older ones any more */
    assert_int_equal(lag_max_since(&l, 101), 30);
    lag_note(&l, 500, 30);
    assert_int_equal(l.count, 2);
    assert_int_equal(lag_max_since(&l, 401), 30);
    lag_note(&l, 600, 70);
    assert_int_equal(l.count, 1);
    assert_int_equal(lag_max_since(&l, 0), 70);
}

static void test_exact_while_there_is_room(void **state)
{
    (void)state;
    static struct history h;
    struct lag l = {0};
    int64_t now = 0;
    srand(1);
    h.count = 0;
    for (int i = 0; i < TURNS; i++) {
        now += rand() % 50;
        note(&l, &h, now, rand() % 1000);
        assert_true(l.count < LAG_TURNS_MAX);
        int64_t since = rand() % (now + 10);
        assert_int_equal(lag_max_since(&l, since), longest_since(&h, since));
    }
}

/* Turns that only get shorter fill the stack. */
static void test_never_too_small(void **state)
{
    (void)state;
    static struct history h;
    struct lag l = {0};
    int64_t now = 0;
    bool full = false;
    srand(2);
    h.count = 0;
    for (int i = 0; i < TURNS; i++) {
        now += 1 + rand() % 50;
        note(&l, &h, now, rand() % 500 == 0 ? 3 * TURNS : 2 * TURNS - i);
        full |= l.count == LAG_TURNS_MAX;
        int64_t since = rand() % (now + 10);
        assert_true(lag_max_since(&l, since) >= longest_since(&h, since));
        assert_int_equal(lag_max_since(&l, 0), longest_since(&h, 0));
        assert_int_equal(lag_max_since(&l, now + 1), 0);
    }
    assert_true(full);
    /* The older turns are still told apart. */
    int64_t first_kept = l.end_us[1];
    assert_int_equal(lag_max_since(&l, first_kept), longest_since(&h, first_kept));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_script),
        cmocka_unit_test(test_exact_while_there_is_room),
        cmocka_unit_test(test_never_too_small),
    };
    return cmocka_run_group_tests_name("lag", tests, NULL, NULL);
}

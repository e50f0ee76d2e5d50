/* SPDX-License-Identifier: MIT
 *
 * memory: when giving memory back is worth while, and that what is free among what is in use does
 * go back, which free() alone does not do.
 */
#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "build.h"

#define MIB (INT64_C(1) << 20)

static void test_growth(void **state)
{
    (void)state;
    struct memory m = {10 * MIB, 0};
    assert_false(memory_is_slack(&m, 25 * MIB, 0));
    assert_true(memory_is_slack(&m, 26 * MIB, 0)); /* 16 MiB more */
    m.resident_bytes = 400 * MIB;
    assert_false(memory_is_slack(&m, 499 * MIB, 0));
    assert_true(memory_is_slack(&m, 500 * MIB, 0)); /* a quarter more */
}

static void test_growth_is_from_the_lowest(void **state)
{
    (void)state;
    struct memory m = {400 * MIB, 0};
    assert_false(memory_is_slack(&m, 40 * MIB, 0));
    assert_true(memory_is_slack(&m, 56 * MIB, 0));
}

static void test_clients(void **state)
{
    (void)state;
    struct memory m = {10 * MIB, 0};
    assert_false(memory_is_slack(&m, 10 * MIB, 1000));
    assert_false(memory_is_slack(&m, 10 * MIB, 501));
    assert_true(memory_is_slack(&m, 10 * MIB, 500)); /* half of the most there were */
    m = (struct memory){10 * MIB, 0};
    assert_false(memory_is_slack(&m, 10 * MIB, 255));
    assert_false(memory_is_slack(&m, 10 * MIB, 0)); /* too few to matter */
    assert_false(memory_is_slack(&m, 10 * MIB, 256));
    assert_true(memory_is_slack(&m, 10 * MIB, 0));
}

/* 64 MiB in blocks, with a small one that stays behind each. */
static void test_giving_back(void **state)
{
    (void)state;
    enum { COUNT = 4096, BLOCK = 16384 };
    static char *blocks[COUNT], *pins[COUNT];
    struct memory m = {0};
    memory_setup();
    int64_t at_first = memory_resident();
    assert_true(at_first > 0);
    memory_give_back(&m, 0, false); /* notes where it stands */
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(BLOCK);
        pins[i] = malloc(64);
        assert_true(blocks[i] != NULL && pins[i] != NULL);
        memset(blocks[i], i, BLOCK);
    }
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    memory_give_back(&m, 0, false);
    int64_t left = memory_resident() - at_first;
    for (int i = 0; i < COUNT; i++)
        free(pins[i]);
    if (strcmp(GATHERD_SANITIZERS, "no") != 0 || getenv("LD_PRELOAD") != NULL)
        skip(); /* another allocator, valgrind's too, keeps what it likes */
    assert_true(left < 24 * MIB);
    assert_true(m.resident_bytes < at_first + 24 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_is_from_the_lowest),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_giving_back),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}

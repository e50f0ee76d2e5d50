/* SPDX-License-Identifier: MIT
 *
 * test_table - the hash table: find, remove, growing and shrinking, and that its hash is keyed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "list.h"
#include "table.h"

#define COUNT 50000

struct number {
    struct table_node node;
    uint32_t value;
    int seen;
};

static struct number *number_of(const struct table_node *node)
{
    return LIST_CONTAINER(node, struct number, node);
}

static bool same(const struct table_node *node, const void *key)
{
    return number_of(node)->value == *(const uint32_t *)key;
}

static void add(struct table *t, struct number *n, uint32_t value)
{
    n->value = value;
    table_insert(t, &n->node, table_hash(t, &value, sizeof value));
}

static struct table_node *find(const struct table *t, uint32_t value)
{
    return table_find(t, table_hash(t, &value, sizeof value), same, &value);
}

static void test_find_and_remove(void **state)
{
    (void)state;
    struct table t;
    struct number *numbers = calloc(COUNT, sizeof *numbers);
    assert_true(table_init(&t));
    assert_null(find(&t, 0));
    for (uint32_t i = 0; i < COUNT; i++)
        add(&t, &numbers[i], i);
    assert_int_equal(t.count, COUNT);
    assert_in_range(t.size, COUNT, 4 * COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ptr_equal(find(&t, i), &numbers[i].node);
    assert_null(find(&t, COUNT));
    for (uint32_t i = 0; i < COUNT; i += 2)
        table_remove(&t, &numbers[i].node);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ptr_equal(find(&t, i), i % 2 ? &numbers[i].node : NULL);
    for (uint32_t i = 1; i < COUNT; i += 2)
        table_remove(&t, &numbers[i].node);
    assert_int_equal(t.count, 0);
    assert_in_range(t.size, 1, 64);
    table_fini(&t);
    table_fini(&t);
    free(numbers);
}

/* Different elements of one hash are told apart by `same`. */
static void test_equal_hashes(void **state)
{
    (void)state;
    struct table t;
    struct number numbers[20] = {0};
    assert_true(table_init(&t));
    for (uint32_t i = 0; i < 20; i++) {
        numbers[i].value = i;
        table_insert(&t, &numbers[i].node, 7);
    }
    for (uint32_t i = 0; i < 20; i++)
        assert_ptr_equal(table_find(&t, 7, same, &i), &numbers[i].node);
    table_remove(&t, &numbers[3].node);
    assert_null(table_find(&t, 7, same, &(uint32_t){3}));
    assert_ptr_equal(table_find(&t, 7, same, &(uint32_t){4}), &numbers[4].node);
    table_fini(&t);
}

static void visit(struct table_node *node, void *arg)
{
    number_of(node)->seen++;
    ++*(int *)arg;
}

static void visit_free(struct table_node *node, void *arg)
{
    (void)arg;
    free(number_of(node));
}

static void test_each(void **state)
{
    (void)state;
    struct table t;
    struct number *numbers[100];
    int visits = 0;
    assert_true(table_init(&t));
    for (uint32_t i = 0; i < 100; i++) {
        numbers[i] = calloc(1, sizeof *numbers[i]);
        add(&t, numbers[i], i);
    }
    table_each(&t, visit, &visits);
    assert_int_equal(visits, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(numbers[i]->seen, 1);
    table_each(&t, visit_free, NULL);
    table_fini(&t);
}

/* SipHash-1-3; under a key of zeros CPython 3.11 (PYTHONHASHSEED=0) finds the same values. */
static void test_hash(void **state)
{
    (void)state;
    struct table t, other;
    uint8_t bytes[64];
    assert_true(table_init(&t) && table_init(&other));
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_true(table_hash(&t, bytes, 9) == table_hash(&t, bytes, 9));
    assert_true(table_hash(&t, bytes, 9) != table_hash(&t, bytes, 10));
    assert_true(table_hash(&t, bytes, 9) != table_hash(&other, bytes, 9));
    t.key[0] = t.key[1] = 0;
    assert_true(table_hash(&t, bytes, 0) == 0xd1fba762150c532cU);
    assert_true(table_hash(&t, bytes, 1) == 0x68a914128e01e473U);
    assert_true(table_hash(&t, bytes, 8) == 0xead411e67ebe2eeaU);
    assert_true(table_hash(&t, bytes, 15) == 0xf30eb725bb91c9eaU);
    assert_true(table_hash(&t, bytes, 63) == 0x385d3e39e5f37359U);
    table_fini(&t);
    table_fini(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_and_remove),
        cmocka_unit_test(test_equal_hashes),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * heap: the order, the places, removal from anywhere, no memory. heap.c is included, so that its
 * realloc can be made to fail.
 */
#include "heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool no_memory;

static void *test_heap_realloc(void *p, size_t n)
{
    return no_memory ? NULL : realloc(p, n);
}

#define realloc test_heap_realloc
#include "heap.c"
#undef realloc

/* Each node knows its place, and no child is before its parent. */
static void check(const struct heap *h)
{
    for (size_t i = 0; i < h->count; i++) {
        assert_int_equal(h->nodes[i]->place, i + 1);
        if (i > 0)
            assert_true(h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
    }
}

static void test_empty(void **state)
{
    (void)state;
    struct heap h = {0};
    struct heap_node node = {.key = 7};
    assert_null(heap_min(&h));
    heap_remove(&h, &node);
    assert_int_equal(node.key, 7);
    assert_int_equal(h.count, 0);
    heap_fini(&h);
}

static void test_sorts(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static struct heap_node nodes[COUNT];
    struct heap h = {0};
    int64_t last = INT64_MIN;
    srand(1);
    for (int i = 0; i < COUNT; i++) {
        nodes[i] = (struct heap_node){0};
        assert_true(heap_set(&h, &nodes[i], rand() % 500 - 250));
    }
    assert_true(heap_set(&h, &nodes[0], INT64_MIN));
    assert_true(heap_set(&h, &nodes[1], INT64_MAX));
    assert_int_equal(h.count, COUNT);
    check(&h);
    for (int i = 0; i < COUNT; i++) {
        struct heap_node *node = heap_min(&h);
        assert_true(node->key >= last);
        last = node->key;
        heap_remove(&h, node);
        assert_int_equal(node->place, 0);
    }
    assert_true(last == INT64_MAX);
    assert_null(heap_min(&h));
    heap_fini(&h);
}

/* Pushes, moves and removals at random, against the smallest key found by looking at all. */
static void test_random_operations(void **state)
{
    (void)state;
    enum { COUNT = 60 };
    struct heap_node nodes[COUNT] = {{0}};
    struct heap h = {0};
    srand(2);
    for (int step = 0; step < 20000; step++) {
        struct heap_node *node = &nodes[rand() % COUNT];
        if (rand() % 3 == 0)
            heap_remove(&h, node);
        else
            assert_true(heap_set(&h, node, rand() % 100));
        size_t in = 0;
        int64_t least = INT64_MAX;
        for (int i = 0; i < COUNT; i++) {
            in += nodes[i].place > 0;
            if (nodes[i].place > 0 && nodes[i].key < least)
                least = nodes[i].key;
        }
        assert_int_equal(h.count, in);
        if (in > 0)
            assert_int_equal(heap_min(&h)->key, least);
        else
            assert_null(heap_min(&h));
        check(&h);
    }
    heap_fini(&h);
}

static void test_no_memory(void **state)
{
    (void)state;
    static struct heap_node nodes[HEAP_FIRST_CAP + 1];
    struct heap h = {0};
    no_memory = true;
    assert_false(heap_set(&h, &nodes[0], 1));
    assert_int_equal(nodes[0].place, 0);
    no_memory = false;
    for (size_t i = 0; i < HEAP_FIRST_CAP; i++)
        assert_true(heap_set(&h, &nodes[i], (int64_t)(100 - i)));
    no_memory = true;
    assert_false(heap_set(&h, &nodes[HEAP_FIRST_CAP], 0));
    assert_int_equal(nodes[HEAP_FIRST_CAP].place, 0);
    assert_int_equal(h.count, HEAP_FIRST_CAP);
    /* What is in can always be moved. */
    assert_true(heap_set(&h, &nodes[0], -5));
    assert_ptr_equal(heap_min(&h), &nodes[0]);
    check(&h);
    no_memory = false;
    heap_fini(&h);
}

static void test_fini_lets_nodes_go(void **state)
{
    (void)state;
    struct heap h = {0};
    struct heap_node node = {0};
    assert_true(heap_set(&h, &node, 1));
    heap_fini(&h);
    assert_int_equal(node.place, 0);
    assert_null(heap_min(&h));
    assert_true(heap_set(&h, &node, 2));
    assert_ptr_equal(heap_min(&h), &node);
    heap_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_sorts),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_fini_lets_nodes_go),
    };
    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}

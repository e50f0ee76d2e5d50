/* SPDX-License-Identifier: MIT
 *
 * list: order, membership, removal while iterating.
 */
#include "list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    int number;
    struct list node;
};

/* The numbers on the list as decimal digits; both directions must agree. */
static int digits(const struct list *head)
{
    int forward = 0, backward = 0, weight = 1;
    for (const struct list *it = head->next; it != head; it = it->next)
        forward = forward * 10 + LIST_CONTAINER(it, struct item, node)->number;
    for (const struct list *it = head->prev; it != head; it = it->prev, weight *= 10)
        backward += LIST_CONTAINER(it, struct item, node)->number * weight;
    assert_int_equal(forward, backward);
    return forward;
}

static void items_init(struct item *items, int count)
{
    for (int i = 0; i < count; i++) {
        items[i].number = i + 1;
        list_init(&items[i].node);
    }
}

static void test_append_prepend_pop(void **state)
{
    (void)state;
    struct list head;
    struct item items[3];
    list_init(&head);
    items_init(items, 3);
    assert_true(list_empty(&head));
    assert_null(list_pop(&head));
    list_append(&head, &items[1].node);
    list_append(&head, &items[2].node);
    list_prepend(&head, &items[0].node);
    assert_false(list_empty(&head));
    assert_int_equal(digits(&head), 123);
    assert_ptr_equal(list_pop(&head), &items[0].node);
    assert_false(list_linked(&items[0].node));
    assert_true(list_linked(&items[1].node));
    assert_int_equal(digits(&head), 23);
    assert_ptr_equal(list_pop(&head), &items[1].node);
    assert_ptr_equal(list_pop(&head), &items[2].node);
    assert_null(list_pop(&head));
}

static void test_remove_twice(void **state)
{
    (void)state;
    struct list head;
    struct item items[3];
    list_init(&head);
    items_init(items, 3);
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].node);
    list_remove(&items[1].node);
    list_remove(&items[1].node);
    assert_int_equal(digits(&head), 13);
    list_append(&head, &items[1].node);
    assert_int_equal(digits(&head), 132);
}

static void test_splice(void **state)
{
    (void)state;
    struct list a, b;
    struct item items[4];
    list_init(&a);
    list_init(&b);
    items_init(items, 4);
    list_splice(&a, &b);
    assert_true(list_empty(&a));
    list_append(&b, &items[0].node);
    list_append(&b, &items[1].node);
    list_splice(&a, &b);
    assert_int_equal(digits(&a), 12);
    assert_true(list_empty(&b));
    list_append(&b, &items[2].node);
    list_append(&b, &items[3].node);
    list_splice(&a, &b);
    assert_int_equal(digits(&a), 1234);
    list_splice(&a, &b);
    assert_int_equal(digits(&a), 1234);
}

static void test_foreach_frees(void **state)
{
    (void)state;
    struct list head, *it, *next;
    int sum = 0;
    list_init(&head);
    for (int i = 1; i <= 5; i++) {
        struct item *item = malloc(sizeof *item);
        assert_non_null(item);
        item->number = i;
        list_append(&head, &item->node);
    }
    LIST_FOREACH_SAFE(it, next, &head) {
        struct item *item = LIST_CONTAINER(it, struct item, node);
        sum += item->number;
        if (item->number == 3)
            continue;
        list_remove(it);
        free(item);
    }
    assert_int_equal(sum, 15);
    assert_int_equal(digits(&head), 3);
    free(LIST_CONTAINER(list_pop(&head), struct item, node));
    LIST_FOREACH_SAFE(it, next, &head)
        fail_msg("an empty list has no elements");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_prepend_pop),
        cmocka_unit_test(test_remove_twice),
        cmocka_unit_test(test_splice),
        cmocka_unit_test(test_foreach_frees),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * arena: alignment, growth, large requests, texts, accounting, no memory. arena.c is included, so
 * that each of its mallocs is seen and can fail.
 */
#include "arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static size_t malloc_calls, malloc_last, malloc_live;
static bool no_memory;

static void *test_arena_malloc(size_t n)
{
    if (no_memory)
        return NULL;
    malloc_calls++;
    malloc_last = n;
    malloc_live++;
    return malloc(n);
}

static void test_arena_free(void *p)
{
    malloc_live -= p != NULL;
    free(p);
}

static void *test_arena_realloc(void *p, size_t n)
{
    return no_memory ? NULL : realloc(p, n);
}

#define malloc test_arena_malloc
#define realloc test_arena_realloc
#define free test_arena_free
#include "arena.c"
#undef malloc
#undef realloc
#undef free

static int setup(void **state)
{
    (void)state;
    malloc_calls = malloc_last = malloc_live = 0;
    no_memory = false;
    return 0;
}

static void test_alignment_and_content(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static unsigned char *blocks[COUNT];
    struct arena a;
    arena_init(&a);
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = arena_alloc(&a, i % 97);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        memset(blocks[i], (int)(i % 251), i % 97);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < i % 97; k++)
            assert_int_equal(blocks[i][k], i % 251);
        if (i > 0)
            assert_ptr_not_equal(blocks[i], blocks[i - 1]);
    }
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

static void test_chunks_double(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    assert_int_equal(malloc_calls, 0);
    size_t expected = 4096;
    for (size_t call = 1; call <= 9; call++) {
        while (malloc_calls < call)
            assert_non_null(arena_alloc(&a, 64));
        assert_int_equal(malloc_last, expected);
        expected = expected < 262144 ? expected * 2 : 262144;
    }
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

static void test_large_request_has_its_own_chunk(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    char *small = arena_alloc(&a, 16);
    char *large = arena_alloc(&a, 1000000);
    assert_non_null(small);
    assert_non_null(large);
    memset(large, 1, 1000000);
    assert_int_equal(malloc_calls, 2);
    assert_in_range(malloc_last, 1000000, 1000200);
    /* The first chunk goes on where it was, and the next one is not huge. */
    char *next = arena_alloc(&a, 16);
    assert_ptr_equal(next, small + 16);
    while (malloc_calls < 3)
        assert_non_null(arena_alloc(&a, 64));
    assert_int_equal(malloc_last, 8192);
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

static void test_large_request_first(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    assert_non_null(arena_alloc(&a, 300000));
    assert_non_null(arena_alloc(&a, 16));
    assert_int_equal(malloc_last, 4096);
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

/* Texts come from the other end of the chunk and are packed. */
static void test_texts(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    void *first = arena_alloc(&a, 16);
    char *one = arena_strdup(&a, "one"), *two = arena_strdup(&a, "two"), *none = arena_text(&a, 0);
    void *second = arena_alloc(&a, 16);
    assert_ptr_equal(two + 4, one);
    assert_ptr_equal(none, two);
    assert_ptr_equal((char *)first + 16, second);
    assert_int_equal(malloc_calls, 1);
    for (size_t round = 0; round < 4000; round++) {
        char *text = arena_text(&a, 13);
        uint64_t *number = arena_alloc(&a, 8);
        assert_non_null(text);
        assert_non_null(number);
        assert_int_equal((uintptr_t)number % _Alignof(max_align_t), 0);
        memset(text, 'x', 13);
        *number = round;
    }
    assert_non_null(arena_text(&a, 500000));
    assert_string_equal(one, "one");
    assert_string_equal(two, "two");
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

static void test_reserve(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    arena_reserve(&a, 100); /* the first chunk will have that anyway */
    assert_int_equal(malloc_calls, 0);
    arena_reserve(&a, 50000);
    assert_int_equal(malloc_calls, 1);
    assert_in_range(malloc_last, 50000, 50100);
    arena_reserve(&a, 40000);
    for (int i = 0; i < 500; i++)
        assert_non_null(arena_text(&a, 100));
    assert_int_equal(malloc_calls, 1);
    assert_non_null(arena_text(&a, 1));
    assert_int_equal(malloc_last, 4096);
    no_memory = true;
    arena_reserve(&a, 1000000);
    arena_reserve(&a, SIZE_MAX);
    no_memory = false;
    assert_non_null(arena_text(&a, 1));
    assert_int_equal(malloc_calls, 2);
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

static void test_resize(void **state)
{
    (void)state;
    struct arena a, b;
    arena_init(&a);
    uint32_t *list = NULL;
    size_t room = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        if (i == room) {
            room = 2 * room + 16;
            list = arena_resize(&a, list, room * sizeof *list);
            assert_non_null(list);
            assert_int_equal((uintptr_t)list % _Alignof(max_align_t), 0);
        }
        list[i] = i;
        if (i % 100 == 0) /* between other chunks, small and large */
            assert_non_null(arena_alloc(&a, i % 1000 == 0 ? 5000 : 40));
    }
    no_memory = true;
    assert_null(arena_resize(&a, list, 1000000));
    assert_null(arena_resize(&a, NULL, 1));
    no_memory = false;
    assert_null(arena_resize(&a, list, SIZE_MAX));
    size_t live = malloc_live;
    list = arena_resize(&a, list, 20000 * sizeof *list);
    assert_int_equal(malloc_live, live);
    for (uint32_t i = 0; i < 20000; i++)
        assert_int_equal(list[i], i);

    arena_init(&b);
    char *text = arena_strdup(&b, "text");
    arena_join(&a, &b);
    assert_null(b.chunks);
    assert_string_equal(text, "text");
    arena_join(&b, &a);
    arena_fini(&a);
    arena_fini(&b);
    assert_int_equal(malloc_live, 0);
}

static void test_calloc_zeroes(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    for (int round = 0; round < 2; round++) {
        for (size_t size = 1; size < 3000; size += 131) {
            unsigned char *p = arena_calloc(&a, 2, size);
            assert_non_null(p);
            for (size_t i = 0; i < 2 * size; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xAA, 2 * size);
        }
        arena_fini(&a);
    }
    assert_non_null(arena_calloc(&a, 0, 8));
    assert_non_null(arena_calloc(&a, 8, 0));
    arena_fini(&a);
}

static void test_sizes_that_overflow(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    assert_null(arena_calloc(&a, SIZE_MAX / 2 + 2, 2));
    assert_null(arena_calloc(&a, SIZE_MAX, SIZE_MAX));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    assert_int_equal(malloc_calls, 0);
    arena_fini(&a);
}

static void test_strings(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    const char source[] = "abc";
    char *copy = arena_strdup(&a, source);
    assert_string_equal(copy, "abc");
    assert_ptr_not_equal(copy, source);
    assert_string_equal(arena_strndup(&a, source, 2), "ab");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    assert_memory_equal(arena_strndup(&a, "a\0b", 3), "a\0b", 4);
    arena_fini(&a);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    no_memory = true;
    assert_null(arena_alloc(&a, 1));
    assert_null(arena_calloc(&a, 1, 1));
    assert_null(arena_strdup(&a, "x"));
    no_memory = false;
    char *first = arena_strdup(&a, "first");
    no_memory = true;
    assert_null(arena_alloc(&a, 100000));
    assert_string_equal(first, "first");
    assert_non_null(arena_alloc(&a, 64)); /* there is room left in the chunk */
    arena_fini(&a);
    assert_int_equal(malloc_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_alignment_and_content, setup),
        cmocka_unit_test_setup(test_chunks_double, setup),
        cmocka_unit_test_setup(test_large_request_has_its_own_chunk, setup),
        cmocka_unit_test_setup(test_large_request_first, setup),
        cmocka_unit_test_setup(test_texts, setup),
        cmocka_unit_test_setup(test_reserve, setup),
        cmocka_unit_test_setup(test_resize, setup),
        cmocka_unit_test_setup(test_calloc_zeroes, setup),
        cmocka_unit_test_setup(test_sizes_that_overflow, setup),
        cmocka_unit_test_setup(test_strings, setup),
        cmocka_unit_test_setup(test_no_memory, setup),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}

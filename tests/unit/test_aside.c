/* SPDX-License-Identifier: MIT
 *
 * test_aside - work is done once, on another thread, and told of on the loop; a close waits for it.
 */
#include "aside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "../lib/process.h"

enum { ROUNDS = 300 };

static struct {
    uv_loop_t loop;
    struct aside aside;
    uv_sem_t go; /* what the work waits for */
    uv_thread_t loop_thread;
    int value, worked, done, closed, rounds;
    bool was_other;
} w;

static void open_loop(void)
{
    w.value = w.worked = w.done = w.closed = w.rounds = 0;
    w.loop_thread = uv_thread_self();
    assert_int_equal(uv_sem_init(&w.go, 0), 0);
    assert_int_equal(uv_loop_init(&w.loop), 0);
    assert_int_equal(aside_init(&w.aside, &w.loop), 0);
}

static void on_closed(void *arg)
{
    assert_ptr_equal(arg, &w);
    w.closed++;
}

static void close_loop(void)
{
    aside_close(&w.aside, on_closed, &w);
    assert_int_equal(w.closed, 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(w.closed, 1);
    assert_int_equal(uv_loop_close(&w.loop), 0);
    uv_sem_destroy(&w.go);
}

static void on_work(void *arg)
{
    uv_thread_t self = uv_thread_self();
    assert_ptr_equal(arg, &w);
    w.was_other = !uv_thread_equal(&self, &w.loop_thread);
    uv_sem_wait(&w.go);
    w.value += 7;
    w.worked++;
}

static void on_done(void *arg)
{
    uv_thread_t self = uv_thread_self();
    assert_ptr_equal(arg, &w);
    assert_true(uv_thread_equal(&self, &w.loop_thread));
    assert_false(aside_busy(&w.aside));
    w.done++;
}

static void test_work_is_done_aside(void **state)
{
    (void)state;
    open_loop();
    assert_false(aside_busy(&w.aside));
    aside_run(&w.aside, on_work, on_done, &w);
    for (int i = 0; i < 10; i++)
        uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_true(aside_busy(&w.aside)); /* and the loop went on */
    assert_int_equal(w.done, 0);
    uv_sem_post(&w.go);
    uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.done, 1);
    assert_int_equal(w.worked, 1);
    assert_int_equal(w.value, 7);
    assert_true(w.was_other);
    close_loop();
}

static void on_done_again(void *arg)
{
    on_done(arg);
    if (++w.rounds == ROUNDS)
        return;
    uv_sem_post(&w.go);
    aside_run(&w.aside, on_work, on_done_again, &w);
}

static void test_one_after_the_other(void **state)
{
    (void)state;
    open_loop();
    close_loop(); /* libuv's first loop opens what is never closed */
    size_t before = open_descriptors();
    open_loop();
    uv_sem_post(&w.go);
    aside_run(&w.aside, on_work, on_done_again, &w);
    while (w.done < ROUNDS)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.value, 7 * ROUNDS);
    close_loop();
    check_descriptors(before);
}

static void test_a_close_waits(void **state)
{
    (void)state;
    open_loop();
    aside_run(&w.aside, on_work, on_done, &w);
    aside_close(&w.aside, on_closed, &w);
    for (int i = 0; i < 10; i++)
        uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(w.closed, 0);
    uv_sem_post(&w.go);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(w.done, 1);
    assert_int_equal(w.closed, 1);
    assert_int_equal(uv_loop_close(&w.loop), 0);
    uv_sem_destroy(&w.go);
}

static void test_without_a_thread(void **state)
{
    struct rlimit before, none;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_STACK, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)1 << 47; /* libuv gives each thread so much, and there is less */
    if (before.rlim_max < none.rlim_cur)
        skip();
    open_loop();
    assert_int_equal(setrlimit(RLIMIT_STACK, &none), 0);
    uv_sem_post(&w.go);
    aside_run(&w.aside, on_work, on_done, &w);
    assert_int_equal(setrlimit(RLIMIT_STACK, &before), 0);
    assert_int_equal(w.worked, 1);
    assert_false(w.was_other);
    assert_int_equal(w.done, 0); /* never from inside */
    uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.done, 1);
    close_loop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_is_done_aside),
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_a_close_waits),
        cmocka_unit_test(test_without_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

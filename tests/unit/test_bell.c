/* SPDX-License-Identifier: MIT
 *
 * test_bell - a loop is woken by another thread, as often as it is wanted and no oftener, and
 * nothing is left open.
 */
#include "bell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "../lib/process.h"

enum { ROUNDS = 20000 };

static struct {
    uv_loop_t loop;
    struct bell bell, back;
    int rung, closed;
    atomic_int asked; /* rounds of the other thread */
    atomic_int answered, stale;
} w;

static void on_rung(void *arg)
{
    assert_ptr_equal(arg, &w);
    w.rung++;
}

static void on_closed(void *arg)
{
    assert_ptr_equal(arg, &w);
    w.closed++;
}

static void open_loop(void (*rung)(void *arg))
{
    w.rung = w.closed = 0;
    assert_int_equal(uv_loop_init(&w.loop), 0);
    assert_int_equal(bell_init(&w.bell, &w.loop, rung, &w), 0);
}

static void close_loop(void)
{
    assert_false(bell_closing(&w.bell));
    bell_close(&w.bell, on_closed);
    assert_true(bell_closing(&w.bell));
    assert_int_equal(w.closed, 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(w.closed, 1);
    assert_int_equal(uv_loop_close(&w.loop), 0);
}

static void test_many_rings_are_one_call(void **state)
{
    (void)state;
    open_loop(on_rung); /* libuv's first loop opens what is never closed */
    close_loop();
    size_t before = open_descriptors();
    open_loop(on_rung);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(w.rung, 0);
    for (int i = 0; i < 1000; i++)
        bell_ring(&w.bell);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(w.rung, 1);
    bell_ring(&w.bell);
    uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.rung, 2);
    close_loop();
    check_descriptors(before);
}

static void test_a_ring_is_unheard_after_close(void **state)
{
    (void)state;
    open_loop(on_rung);
    bell_ring(&w.bell);
    close_loop();
    assert_int_equal(w.rung, 0);
}

static void test_no_descriptor(void **state)
{
    (void)state;
    struct rlimit old, none;
    struct bell bell;
    assert_int_equal(uv_loop_init(&w.loop), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = bell_init(&bell, &w.loop, on_rung, &w);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(rc, UV_EMFILE);
    assert_int_equal(uv_loop_close(&w.loop), 0);
}

/* Ping-pong: a ring that is lost stops it. */
static void on_asked(void *arg)
{
    (void)arg;
    atomic_store(&w.answered, atomic_load(&w.asked));
    bell_ring(&w.back);
}

static void on_answered(void *arg)
{
    uv_loop_t *loop = arg;
    if (atomic_load(&w.answered) != atomic_load(&w.asked))
        atomic_fetch_add(&w.stale, 1); /* no assert in this thread */
    if (atomic_load(&w.asked) == ROUNDS) {
        uv_stop(loop);
        return;
    }
    atomic_fetch_add(&w.asked, 1);
    bell_ring(&w.bell);
}

static void run_other(void *arg)
{
    uv_loop_t *loop = arg;
    bell_ring(&w.back);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void on_other_closed(void *arg)
{
    (void)arg;
}

static void test_no_ring_is_lost_between_threads(void **state)
{
    (void)state;
    uv_loop_t other;
    uv_thread_t thread;
    atomic_store(&w.asked, 0);
    atomic_store(&w.answered, 0);
    open_loop(on_asked);
    assert_int_equal(uv_loop_init(&other), 0);
    assert_int_equal(bell_init(&w.back, &other, on_answered, &other), 0);
    assert_int_equal(uv_thread_create(&thread, run_other, &other), 0);
    while (atomic_load(&w.answered) < ROUNDS)
        uv_run(&w.loop, UV_RUN_ONCE);
    uv_thread_join(&thread);
    assert_int_equal(atomic_load(&w.stale), 0);
    bell_close(&w.back, on_other_closed);
    uv_run(&other, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&other), 0);
    close_loop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_rings_are_one_call),
        cmocka_unit_test(test_a_ring_is_unheard_after_close),
        cmocka_unit_test(test_no_descriptor),
        cmocka_unit_test(test_no_ring_is_lost_between_threads),
    };
    return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}

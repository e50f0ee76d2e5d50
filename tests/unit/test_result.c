/* SPDX-License-Identifier: MIT
 *
 * result: null is not zero, sums, ownership (a leak shows under a sanitizer or valgrind), what may
 * be retried. result.c is included, so that its calloc can be made to fail.
 */
#include "result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool no_memory;

static void *test_result_calloc(size_t count, size_t size)
{
    return no_memory ? NULL : calloc(count, size);
}

#define calloc test_result_calloc
#include "result.c"
#undef calloc

static void check_fresh(const struct result *r)
{
    assert_int_equal(r->state, MEMBER_PENDING);
    assert_int_equal(r->error.type, ERR_NONE);
    assert_true(r->start_us == TIME_NULL && r->end_us == TIME_NULL);
    assert_true(r->ttfb_us == TIME_NULL && r->retry_after_us == TIME_NULL);
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_true(r->timings.us[p] == TIME_NULL);
    assert_int_equal(timings_total(&r->timings), 0);
    assert_true(result_work_us(r) == TIME_NULL);
    assert_int_equal(r->status, 0);
    assert_int_equal(r->sizes.download, 0);
    assert_null(r->extra);
    assert_null(r->error.message);
    assert_null(r->error.rule);
    assert_null(r->url_effective);
    assert_null(r->content_type);
}

static void test_init(void **state)
{
    (void)state;
    struct result r;
    memset(&r, 0x5A, sizeof r);
    result_init(&r);
    check_fresh(&r);
}

/* Its strings are somebody else's; all else stays. */
static void test_drop_frees_the_extra_part(void **state)
{
    (void)state;
    struct result r;
    result_init(&r);
    r.state = MEMBER_FAILED;
    r.start_us = 5;
    r.error.type = ERR_DNS_ERROR;
    r.error.message = "m";
    r.error.rule = "r";
    r.url_effective = "u";
    r.content_type = "c";
    timings_add(&r.timings, PHASE_DNS, 3);
    struct result_extra *x = result_extra(&r);
    assert_non_null(x);
    buf_add_str(&x->headers, "h");
    buf_add_str(&x->body, "b");
    x->hops = calloc(3, sizeof *x->hops);
    assert_non_null(x->hops);
    x->hop_count = 3;
    x->hops[0].url = strdup("http://a/");
    x->hops[2].url = strdup("http://b/"); /* one without a URL is fine */
    result_drop_extra(&r);
    assert_null(r.extra);
    assert_string_equal(r.error.message, "m");
    assert_string_equal(r.content_type, "c");
    assert_int_equal(r.timings.us[PHASE_DNS], 3);
    result_drop_extra(&r);
    assert_null(r.extra);
}

static void test_extra(void **state)
{
    (void)state;
    struct result r;
    result_init(&r);
    no_memory = true;
    assert_null(result_extra(&r));
    assert_null(r.extra);
    no_memory = false;
    struct result_extra *x = result_extra(&r);
    assert_non_null(x);
    assert_ptr_equal(x, r.extra);
    assert_ptr_equal(result_extra(&r), x);
    assert_true(x->curl.namelookup == TIME_NULL && x->curl.connect == TIME_NULL);
    assert_true(x->curl.appconnect == TIME_NULL && x->curl.pretransfer == TIME_NULL);
    assert_true(x->curl.starttransfer == TIME_NULL && x->curl.total == TIME_NULL);
    assert_false(x->has_body || x->has_headers || x->has_sha256 || x->has_text_length);
    result_drop_extra(&r);
}

static void test_timings(void **state)
{
    (void)state;
    struct timings t;
    timings_clear(&t);
    assert_int_equal(timings_total(&t), 0);
    timings_add(&t, PHASE_WAIT, 0);
    assert_int_equal(t.us[PHASE_WAIT], 0); /* measured, so no longer null */
    timings_add(&t, PHASE_WAIT, 5);
    timings_add(&t, PHASE_WAIT, 7);
    assert_int_equal(t.us[PHASE_WAIT], 12);
    assert_true(t.us[PHASE_TLS] == TIME_NULL);
    timings_add(&t, PHASE_QUEUE, 100);
    timings_add(&t, PHASE_RECEIVE, INT64_C(5000000000));
    assert_true(timings_total(&t) == INT64_C(5000000112));
}

static void test_work(void **state)
{
    (void)state;
    struct result r;
    result_init(&r);
    timings_add(&r.timings, PHASE_QUEUE, 50);
    assert_true(result_work_us(&r) == TIME_NULL); /* waited, was never dispatched */
    r.start_us = 1000;
    assert_int_equal(result_work_us(&r), 0);
    int64_t sum = 0;
    for (int p = PHASE_DNS; p < PHASE_COUNT; p++) {
        timings_add(&r.timings, (enum phase)p, 1 << p);
        sum += 1 << p;
    }
    assert_int_equal(result_work_us(&r), sum);
    assert_int_equal(timings_total(&r.timings), sum + 50);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const phases[] = {"queue", "dns", "connect", "tls", "send", "wait",
                                         "receive"};
    static const char *const states[] = {"pending", "done", "failed", "denied", "cancelled"};
    assert_int_equal(PHASE_COUNT, sizeof phases / sizeof *phases);
    assert_int_equal(MEMBER_STATE_COUNT, sizeof states / sizeof *states);
    for (int i = 0; i < PHASE_COUNT; i++)
        assert_string_equal(phase_name((enum phase)i), phases[i]);
    for (int i = 0; i < MEMBER_STATE_COUNT; i++)
        assert_string_equal(member_state_name((enum member_state)i), states[i]);
}

static void test_retryable_statuses(void **state)
{
    (void)state;
    struct result r;
    int count = 0;
    result_init(&r);
    r.state = MEMBER_DONE;
    for (r.status = 0; r.status < 1000; r.status++)
        count += result_retryable(&r);
    assert_int_equal(count, 6);
    static const int statuses[] = {408, 429, 500, 502, 503, 504};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        r.status = statuses[i];
        for (int ok = 0; ok < 2; ok++) {
            r.ok = ok; /* "expect": {"status": "503"} makes it ok, and retryable all the same */
            assert_true(result_retryable(&r));
        }
    }
    r.status = 200;
    r.error.type = ERR_EXPECTATION_FAILED;
    assert_false(result_retryable(&r));
}

static void test_retryable_errors(void **state)
{
    (void)state;
    struct result r;
    result_init(&r);
    for (int type = 0; type < ERR_COUNT; type++) {
        r.error.type = (enum err_type)type;
        r.status = 503; /* a head came, then it died: the error decides */
        r.state = MEMBER_FAILED;
        assert_int_equal(result_retryable(&r), err_retryable(r.error.type));
        r.state = MEMBER_CANCELLED;
        assert_int_equal(result_retryable(&r), err_retryable(r.error.type));
        r.state = MEMBER_DENIED;
        assert_false(result_retryable(&r));
        r.state = MEMBER_PENDING;
        assert_false(result_retryable(&r));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_drop_frees_the_extra_part),
        cmocka_unit_test(test_extra),
        cmocka_unit_test(test_timings),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_retryable_statuses),
        cmocka_unit_test(test_retryable_errors),
    };
    return cmocka_run_group_tests_name("result", tests, NULL, NULL);
}

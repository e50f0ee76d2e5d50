/* SPDX-License-Identifier: MIT
 *
 * summary: every figure against hand-made cases, and all of them against a naive oracle that
 * follows the definitions word by word, in quadratic time, over random batches. The results lie in
 * larger structs, as those of a batch do.
 */
#include "summary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MEMBERS_MAX 300
#define STARTED_US INT64_C(5000000)

struct slot {
    char before[24];
    struct result result;
    char after[8];
};

static struct slot slots[MEMBERS_MAX];
static struct batch_spec spec;
static struct batch_view view;
static struct view_summary got;
static struct summary_input input;

static bool allocation_fails;

/* Takes the place of libc's, which summary.c asks for its sort array. */
void *reallocarray(void *p, size_t count, size_t size)
{
    return allocation_fails ? NULL : realloc(p, count * size);
}

static int setup(void **state)
{
    (void)state;
    allocation_fails = false;
    memset(slots, 0, sizeof slots);
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        result_init(&slots[i].result);
    memset(&spec, 0, sizeof spec);
    input = (struct summary_input){.total_us = 1000, .complete = true};
    view = (struct batch_view){.id = "b",
                               .started_us = STARTED_US,
                               .spec = &spec,
                               .results = &slots[0].result,
                               .stride = sizeof slots[0]};
    return 0;
}

static void compute(void)
{
    /* What is not written would be seen. */
    memset(&got, 0x5A, sizeof got);
    assert_true(summary_compute(&got, &view, &input));
}

/* The next member: it ended end_us after the batch's start; dispatched unless work_us is null. */
static struct result *add(enum member_state state, int64_t queue_us, int64_t work_us,
                          int64_t end_us)
{
    struct result *r = &slots[spec.count++].result;
    r->state = state;
    r->ok = state == MEMBER_DONE;
    r->status = state == MEMBER_DONE ? 200 : 0;
    r->timings.us[PHASE_QUEUE] = queue_us;
    if (work_us != TIME_NULL) {
        r->start_us = STARTED_US + end_us - work_us;
        r->timings.us[PHASE_WAIT] = work_us;
    }
    r->end_us = STARTED_US + end_us;
    return r;
}

static void test_counts(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 10, 10)->reused = true;
    struct result *r = add(MEMBER_DONE, 0, 10, 10);
    r->status = 404;
    r->ok = false;
    r->num_retries = 3;
    r = add(MEMBER_FAILED, 0, 10, 10);
    r->error.type = ERR_CONNECTION_TIMEOUT;
    r->status = 200; /* the head came, the body did not */
    add(MEMBER_FAILED, 0, 10, 10)->error.type = ERR_CONNECTION_REFUSED;
    add(MEMBER_DENIED, TIME_NULL, TIME_NULL, 0)->error.type = ERR_HTTP_REQUEST_DENIED;
    add(MEMBER_CANCELLED, 10, TIME_NULL, 10)->error.type = ERR_DEADLINE_EXCEEDED;
    add(MEMBER_CANCELLED, 5, 5, 10)->error.type = ERR_DEADLINE_EXCEEDED;
    compute();
    assert_int_equal(got.done, 2);
    assert_int_equal(got.n_ok, 1);
    assert_int_equal(got.http_error, 1);
    assert_int_equal(got.failed, 2);
    assert_int_equal(got.timed_out, 1);
    assert_int_equal(got.denied, 1);
    assert_int_equal(got.cancelled, 2);
    assert_int_equal(got.retried, 1);
    assert_int_equal(got.reused, 1);
    assert_false(got.ok);
    assert_int_equal(got.status_codes[200], 1);
    assert_int_equal(got.status_codes[404], 1);
    assert_int_equal(got.errors[ERR_NONE], 0);
    assert_int_equal(got.errors[ERR_CONNECTION_TIMEOUT], 1);
    assert_int_equal(got.errors[ERR_CONNECTION_REFUSED], 1);
    assert_int_equal(got.errors[ERR_HTTP_REQUEST_DENIED], 1);
    assert_int_equal(got.errors[ERR_DEADLINE_EXCEEDED], 2);
}

/* Any three digits are a status; nothing else writes outside the table. */
static void test_odd_statuses(void **state)
{
    (void)state;
    static const int statuses[] = {0, -1, 1, 99, 100, 399, 400, 599, 600, 999, 1000, INT32_MAX};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        add(MEMBER_DONE, 0, 1, 1)->status = statuses[i];
    compute();
    int64_t sum = 0;
    for (size_t i = 0; i < VIEW_STATUS_END; i++)
        sum += got.status_codes[i];
    assert_int_equal(sum, 6);
    assert_int_equal(got.status_codes[100], 1);
    assert_int_equal(got.status_codes[999], 1);
    assert_int_equal(got.http_error, 6);
}

static void test_given_values(void **state)
{
    (void)state;
    input = (struct summary_input){.total_us = 1,
                                   .concurrency_limit = 2,
                                   .concurrency_peak = 3,
                                   .loop_lag_max_us = 4,
                                   .overhead_us = 5,
                                   .complete = false};
    add(MEMBER_DONE, 0, 1, 1);
    compute();
    assert_true(got.ok);
    assert_false(got.complete);
    assert_int_equal(got.total_us, 1);
    assert_int_equal(got.concurrency_limit, 2);
    assert_int_equal(got.concurrency_peak, 3);
    assert_int_equal(got.loop_lag_max_us, 4);
    assert_int_equal(got.overhead_us, 5);
    input.complete = true;
    compute();
    assert_true(got.complete);
}

static void test_sizes(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 1, 1)->sizes = (struct result_sizes){1, 20, 300, 4000, 50000};
    add(MEMBER_FAILED, 0, 1, 1)->sizes = (struct result_sizes){2, 30, 400, 5000, 60000};
    compute();
    assert_int_equal(got.sizes.request, 3);
    assert_int_equal(got.sizes.upload, 50);
    assert_int_equal(got.sizes.header, 700);
    assert_int_equal(got.sizes.download, 9000);
    assert_int_equal(got.sizes.delivered, 110000);
}

static void assert_null_stats(const struct view_stats *s)
{
    assert_int_equal(s->min, TIME_NULL);
    assert_int_equal(s->p50, TIME_NULL);
    assert_int_equal(s->p90, TIME_NULL);
    assert_int_equal(s->p95, TIME_NULL);
    assert_int_equal(s->p99, TIME_NULL);
    assert_int_equal(s->max, TIME_NULL);
    assert_true(s->mean < 0.0);
}

/* 1 ... 100 in some order: the p-th percentile by nearest rank is p. */
static void test_percentiles_of_a_hundred(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        int64_t us = i * 37 % 100 + 1;
        add(MEMBER_DONE, 7, us, us)->ttfb_us = us / 2;
    }
    compute();
    assert_int_equal(got.latency_count, 100);
    assert_int_equal(got.latency_total.min, 1);
    assert_int_equal(got.latency_total.p50, 50);
    assert_int_equal(got.latency_total.p90, 90);
    assert_int_equal(got.latency_total.p95, 95);
    assert_int_equal(got.latency_total.p99, 99);
    assert_int_equal(got.latency_total.max, 100);
    assert_true(got.latency_total.mean == 50.5);
    assert_int_equal(got.latency_ttfb.min, 0);
    assert_int_equal(got.latency_ttfb.max, 50);
}

/* As many as are sorted by their bytes, with times of one byte up to six. */
static void test_percentiles_of_many(void **state)
{
    (void)state;
    static const int64_t units[] = {1, 50, 1 << 12, INT64_C(1) << 24, INT64_C(1) << 38};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        spec.count = 0;
        for (int64_t i = 0; i < MEMBERS_MAX; i++) {
            int64_t us = (i * 37 % MEMBERS_MAX + 1) * units[u];
            add(MEMBER_DONE, 0, us, us)->ttfb_us = units[u];
        }
        compute();
        const struct view_stats *s = &got.latency_total;
        assert_int_equal(s->min, units[u]);
        assert_int_equal(s->p50, (MEMBERS_MAX * 50 + 99) / 100 * units[u]);
        assert_int_equal(s->p90, (MEMBERS_MAX * 90 + 99) / 100 * units[u]);
        assert_int_equal(s->p95, (MEMBERS_MAX * 95 + 99) / 100 * units[u]);
        assert_int_equal(s->p99, (MEMBERS_MAX * 99 + 99) / 100 * units[u]);
        assert_int_equal(s->max, MEMBERS_MAX * units[u]);
        assert_true(got.latency_ttfb.min == units[u] && got.latency_ttfb.max == units[u]);
    }
}

static void test_percentiles_of_one(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 42, 42);
    compute();
    const struct view_stats *s = &got.latency_total;
    assert_true(s->min == 42 && s->p50 == 42 && s->p90 == 42);
    assert_true(s->p95 == 42 && s->p99 == 42 && s->max == 42 && s->mean == 42.0);
    assert_null_stats(&got.latency_ttfb);
}

static void test_no_member_done(void **state)
{
    (void)state;
    add(MEMBER_FAILED, 0, 42, 42)->ttfb_us = 3;
    add(MEMBER_CANCELLED, 0, 42, 42)->ttfb_us = 3;
    compute();
    assert_int_equal(got.latency_count, 0);
    assert_null_stats(&got.latency_total);
    assert_null_stats(&got.latency_ttfb);
    assert_int_equal(got.sequential_us, 84);
}

static void test_speedup(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 300, 300);
    add(MEMBER_DONE, 100, 300, 400);
    add(MEMBER_CANCELLED, 400, TIME_NULL, 400);
    input.total_us = 400;
    compute();
    assert_int_equal(got.sequential_us, 600);
    assert_true(got.speedup == 1.5);
    input.total_us = 0;
    compute();
    assert_true(got.speedup == 0.0);
}

static void test_critical_of_one(void **state)
{
    (void)state;
    struct result *r = add(MEMBER_DONE, 5, 80, 95);
    r->timings.us[PHASE_CONNECT] = 10;
    input.total_us = 100;
    compute();
    assert_int_equal(got.critical_index, 0);
    assert_int_equal(got.critical_phase, PHASE_WAIT);
    assert_int_equal(got.critical_us, 80);
    assert_int_equal(got.critical_saves_us, 100);
}

static void test_critical_of_many(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 50, 50);
    add(MEMBER_DONE, 60, 30, 90); /* the critical one: it waited for a slot */
    add(MEMBER_DONE, 0, 70, 70);
    add(MEMBER_DONE, 60, 30, 90); /* as late, but not the first */
    input.total_us = 100;
    compute();
    assert_int_equal(got.critical_index, 1);
    assert_int_equal(got.critical_phase, PHASE_QUEUE);
    assert_int_equal(got.critical_us, 60);
    assert_int_equal(got.critical_saves_us, 10);
    slots[3].result.end_us = STARTED_US + 20;
    compute();
    assert_int_equal(got.critical_saves_us, 30);
    slots[1].result.timings.us[PHASE_RECEIVE] = 60; /* as long, but not the first */
    compute();
    assert_int_equal(got.critical_phase, PHASE_QUEUE);
}

/* Members that were never dispatched are not what a batch waited for, but they may end last. */
static void test_critical_leaves_out_the_undispatched(void **state)
{
    (void)state;
    add(MEMBER_DENIED, TIME_NULL, TIME_NULL, 60);
    add(MEMBER_CANCELLED, 90, TIME_NULL, 90);
    compute();
    assert_int_equal(got.critical_index, -1);
    add(MEMBER_DONE, 0, 40, 40);
    input.total_us = 100;
    compute();
    assert_int_equal(got.critical_index, 2);
    assert_int_equal(got.critical_saves_us, 10);
}

static void test_critical_may_have_failed_in_the_queue(void **state)
{
    (void)state;
    add(MEMBER_FAILED, 80, TIME_NULL, 80)->error.type = ERR_QUEUE_TIMEOUT;
    add(MEMBER_DONE, 0, 40, 40);
    input.total_us = 81;
    compute();
    assert_int_equal(got.critical_index, 0);
    assert_int_equal(got.critical_phase, PHASE_QUEUE);
    assert_int_equal(got.critical_us, 80);
    assert_int_equal(got.critical_saves_us, 41);
}

static void test_critical_null(void **state)
{
    (void)state;
    add(MEMBER_FAILED, TIME_NULL, TIME_NULL, 0)->error.type = ERR_URL_INVALID;
    compute();
    assert_int_equal(got.critical_index, -1);
    slots[0].result.end_us = TIME_NULL;
    compute();
    assert_int_equal(got.critical_index, -1);
    slots[0].result.end_us = STARTED_US + 1; /* no phase at all, but it ended after the start */
    compute();
    assert_int_equal(got.critical_index, 0);
    assert_int_equal(got.critical_us, 0);
}

static void test_savings_are_never_negative(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 120, 120);
    add(MEMBER_DONE, 0, 110, 110);
    input.total_us = 100;
    compute();
    assert_int_equal(got.critical_saves_us, 0);
}

static void test_pending_counts_nowhere(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 1, 1);
    add(MEMBER_PENDING, TIME_NULL, TIME_NULL, 0)->end_us = TIME_NULL;
    compute();
    assert_int_equal(got.done + got.failed + got.denied + got.cancelled, 1);
    assert_false(got.ok);
}

static void test_memory_failure(void **state)
{
    (void)state;
    add(MEMBER_DONE, 0, 70, 70)->ttfb_us = 3;
    input.total_us = 80;
    allocation_fails = true;
    memset(&got, 0x5A, sizeof got);
    assert_false(summary_compute(&got, &view, &input));
    assert_null_stats(&got.latency_total);
    assert_null_stats(&got.latency_ttfb);
    assert_int_equal(got.latency_count, 1);
    assert_int_equal(got.critical_index, 0);
    assert_int_equal(got.critical_saves_us, 80);
    assert_int_equal(got.sequential_us, 70);
}

/* The oracle from here on: each figure by its definition, from the view alone. */

static uint64_t random_state;

static uint64_t next_random(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static const struct result *member(size_t i)
{
    return &slots[i].result;
}

static int64_t work_of(const struct result *r)
{
    return result_work_us(r);
}

static int64_t ttfb_of(const struct result *r)
{
    return r->ttfb_us;
}

/* The smallest measured value that at least percent % of the values do not exceed. */
static int64_t oracle_percentile(int64_t (*value)(const struct result *), size_t percent)
{
    int64_t best = TIME_NULL;
    for (size_t i = 0; i < spec.count; i++) {
        int64_t candidate = value(member(i));
        size_t n = 0, below = 0;
        if (member(i)->state != MEMBER_DONE || candidate < 0)
            continue;
        for (size_t k = 0; k < spec.count; k++) {
            if (member(k)->state != MEMBER_DONE || value(member(k)) < 0)
                continue;
            n++;
            below += value(member(k)) <= candidate;
        }
        if (below * 100 >= percent * n && (best == TIME_NULL || candidate < best))
            best = candidate;
    }
    return best;
}

static void check_stats(const struct view_stats *s, int64_t (*value)(const struct result *))
{
    double sum = 0.0;
    size_t n = 0;
    for (size_t i = 0; i < spec.count; i++) {
        if (member(i)->state == MEMBER_DONE && value(member(i)) >= 0) {
            sum += (double)value(member(i));
            n++;
        }
    }
    assert_int_equal(s->min, oracle_percentile(value, 0));
    assert_int_equal(s->p50, oracle_percentile(value, 50));
    assert_int_equal(s->p90, oracle_percentile(value, 90));
    assert_int_equal(s->p95, oracle_percentile(value, 95));
    assert_int_equal(s->p99, oracle_percentile(value, 99));
    assert_int_equal(s->max, oracle_percentile(value, 100));
    assert_true(n == 0 ? s->mean < 0.0 : s->mean == sum / (double)n);
}

static int64_t count_state(enum member_state state)
{
    int64_t n = 0;
    for (size_t i = 0; i < spec.count; i++)
        n += member(i)->state == state;
    return n;
}

static bool may_be_critical(size_t i)
{
    return (member(i)->start_us != TIME_NULL || member(i)->state == MEMBER_FAILED) &&
           member(i)->end_us > STARTED_US;
}

/* What the definition says of the critical member, each property by itself. */
static void check_critical(void)
{
    bool any = false;
    for (size_t i = 0; i < spec.count; i++)
        any = any || may_be_critical(i);
    assert_int_equal(got.critical_index >= 0, any);
    if (!any)
        return;
    size_t index = (size_t)got.critical_index;
    int64_t others = 0;
    assert_true(may_be_critical(index));
    for (size_t i = 0; i < spec.count; i++) {
        if (may_be_critical(i) && i != index)
            assert_true(i < index ? member(i)->end_us < member(index)->end_us
                                  : member(i)->end_us <= member(index)->end_us);
        if (i != index && member(i)->end_us - STARTED_US > others)
            others = member(i)->end_us - STARTED_US;
    }
    int64_t saves = got.total_us - others;
    assert_int_equal(got.critical_saves_us, saves > 0 ? saves : 0);
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_true(member(index)->timings.us[p] <= got.critical_us);
    int64_t longest = member(index)->timings.us[got.critical_phase];
    assert_int_equal(got.critical_us, longest > 0 ? longest : 0);
}

static void check_sums(void)
{
    int64_t statuses = 0, errors = 0, sequential = 0, with_error = 0;
    for (size_t i = 0; i < VIEW_STATUS_END; i++)
        statuses += got.status_codes[i];
    for (size_t i = 0; i < ERR_COUNT; i++)
        errors += got.errors[i];
    for (size_t i = 0; i < spec.count; i++) {
        with_error += member(i)->error.type != ERR_NONE;
        for (int p = PHASE_DNS; p < PHASE_COUNT && member(i)->start_us != TIME_NULL; p++)
            sequential += member(i)->timings.us[p] > 0 ? member(i)->timings.us[p] : 0;
    }
    assert_int_equal(got.done, count_state(MEMBER_DONE));
    assert_int_equal(got.failed, count_state(MEMBER_FAILED));
    assert_int_equal(got.denied, count_state(MEMBER_DENIED));
    assert_int_equal(got.cancelled, count_state(MEMBER_CANCELLED));
    assert_int_equal(got.done + got.failed + got.denied + got.cancelled, spec.count);
    assert_int_equal(statuses, got.done);
    assert_int_equal(errors, with_error);
    assert_int_equal(got.sequential_us, sequential);
    assert_int_equal(got.latency_count, got.done);
    assert_int_equal(got.ok, got.n_ok == (int64_t)spec.count);
}

static void random_member(struct result *r)
{
    static const enum member_state states[] = {MEMBER_DONE, MEMBER_DONE, MEMBER_DONE,
                                               MEMBER_FAILED, MEMBER_DENIED, MEMBER_CANCELLED};
    uint64_t spread = next_random(2) ? 5 : 100000; /* many ties, or few */
    result_init(r);
    r->state = states[next_random(6)];
    if (r->state == MEMBER_DONE || (r->state != MEMBER_DENIED && next_random(2)))
        r->start_us = STARTED_US + (int64_t)next_random(spread);
    for (int p = 0; p < PHASE_COUNT; p++) {
        if (next_random(3) && (p == PHASE_QUEUE || r->start_us != TIME_NULL))
            r->timings.us[p] = (int64_t)next_random(spread);
    }
    r->end_us = STARTED_US + (int64_t)next_random(spread);
    if (r->state == MEMBER_DONE && next_random(4))
        r->ttfb_us = (int64_t)next_random(spread);
    r->status = r->state == MEMBER_DONE ? 100 + (int)next_random(900) : 0;
    r->ok = r->state == MEMBER_DONE && next_random(8) > 0;
    if (!r->ok)
        r->error.type = (enum err_type)next_random(ERR_COUNT);
}

static void test_random_batches(void **state)
{
    (void)state;
    random_state = 0x9E3779B97F4A7C15;
    for (int round = 0; round < 600; round++) {
        /* Sizes 1, 2, 3 ... as well as large ones. */
        spec.count = round % 2 ? 1 + (size_t)round / 2 % 25 : 1 + next_random(MEMBERS_MAX);
        for (size_t i = 0; i < spec.count; i++)
            random_member(&slots[i].result);
        input.total_us = (int64_t)next_random(120000);
        compute();
        check_sums();
        check_stats(&got.latency_total, work_of);
        check_stats(&got.latency_ttfb, ttfb_of);
        check_critical();
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_counts),
        TEST(test_odd_statuses),
        TEST(test_given_values),
        TEST(test_sizes),
        TEST(test_percentiles_of_a_hundred),
        TEST(test_percentiles_of_many),
        TEST(test_percentiles_of_one),
        TEST(test_no_member_done),
        TEST(test_speedup),
        TEST(test_critical_of_one),
        TEST(test_critical_of_many),
        TEST(test_critical_leaves_out_the_undispatched),
        TEST(test_critical_may_have_failed_in_the_queue),
        TEST(test_critical_null),
        TEST(test_savings_are_never_negative),
        TEST(test_pending_counts_nowhere),
        TEST(test_memory_failure),
        TEST(test_random_batches),
    };
    return cmocka_run_group_tests_name("summary", tests, NULL, NULL);
}

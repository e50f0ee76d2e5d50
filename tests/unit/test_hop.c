/* SPDX-License-Identifier: MIT
 *
 * hop: marks to phases, by script and by chance. Whatever the marks say, the phases tile the time
 * from dispatch to end.
 */
#include "hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define START INT64_C(1000000)

/* The mark that ends a phase; NULL = none does. */
static int64_t *mark_of(struct hop_marks *m, enum phase p)
{
    switch (p) {
    case PHASE_DNS:
        return &m->dns_end;
    case PHASE_CONNECT:
        return &m->connect_end;
    case PHASE_TLS:
        return &m->tls_end;
    case PHASE_SEND:
        return &m->send_end;
    case PHASE_WAIT:
        return &m->first_byte;
    default:
        return NULL;
    }
}

static struct hop_marks marks(int64_t end)
{
    struct hop_marks m;
    hop_marks_clear(&m);
    m.dispatched = START;
    m.end = end;
    return m;
}

static struct timings phases(const struct hop_marks *m, enum phase last)
{
    struct timings t;
    timings_clear(&t);
    hop_timings(m, last, &t);
    return t;
}

static void check(const struct timings *t, const int64_t expected[PHASE_COUNT])
{
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_int_equal(t->us[p], expected[p]);
}

static void test_clear(void **state)
{
    (void)state;
    struct hop_marks m = {1, 2, 3, 4, 5, 6, 7};
    hop_marks_clear(&m);
    assert_int_equal(m.dispatched, TIME_NULL);
    assert_int_equal(m.end, TIME_NULL);
    for (enum phase p = PHASE_DNS; p < PHASE_RECEIVE; p++)
        assert_int_equal(*mark_of(&m, p), TIME_NULL);
}

static void test_whole_hop(void **state)
{
    (void)state;
    struct hop_marks m = marks(START + 2100);
    m.dns_end = START + 100;
    m.connect_end = START + 300;
    m.tls_end = START + 600;
    m.send_end = START + 1000;
    m.first_byte = START + 1500;
    struct timings t = phases(&m, PHASE_RECEIVE);
    check(&t, (const int64_t[]){-1, 100, 200, 300, 400, 500, 600});
}

/* A reused connection, the name in the cache: what did not happen is null, not 0. */
static void test_reused_connection(void **state)
{
    (void)state;
    struct hop_marks m = marks(START + 60);
    m.send_end = START + 10;
    m.first_byte = START + 30;
    struct timings t = phases(&m, PHASE_RECEIVE);
    check(&t, (const int64_t[]){-1, -1, -1, -1, 10, 20, 30});
}

/* The phase in which it died has the time up to the end; later marks are not believed. */
static void test_died_early(void **state)
{
    (void)state;
    struct hop_marks m = marks(START + 500);
    struct timings t = phases(&m, PHASE_DNS);
    check(&t, (const int64_t[]){-1, 500, -1, -1, -1, -1, -1});
    m.dns_end = START + 200;
    m.first_byte = START + 300;
    t = phases(&m, PHASE_CONNECT);
    check(&t, (const int64_t[]){-1, 200, 300, -1, -1, -1, -1});
    m.end = START;
    t = phases(&m, PHASE_TLS);
    check(&t, (const int64_t[]){-1, 0, -1, 0, -1, -1, -1});
}

static void test_marks_out_of_order(void **state)
{
    (void)state;
    struct hop_marks m = marks(START + 100);
    m.dns_end = START - 50;      /* before the start */
    m.connect_end = START + 70;
    m.tls_end = START + 40;      /* before the one before it */
    m.send_end = START + 900;    /* after the end */
    m.first_byte = START + 80;
    struct timings t = phases(&m, PHASE_RECEIVE);
    check(&t, (const int64_t[]){-1, 0, 70, 0, 30, 0, 0});
}

static void test_hops_add_up(void **state)
{
    (void)state;
    struct hop_marks m = marks(START + 100);
    struct timings t;
    timings_clear(&t);
    timings_add(&t, PHASE_QUEUE, 7);
    hop_timings(&m, PHASE_CONNECT, &t);
    m.dns_end = START + 30;
    hop_timings(&m, PHASE_CONNECT, &t);
    check(&t, (const int64_t[]){7, 30, 170, -1, -1, -1, -1});
    assert_int_equal(timings_total(&t), 207);
}

static int64_t random_time(void)
{
    return START + rand() % 3000 - 1000;
}

static void check_random(const struct hop_marks *given, enum phase last)
{
    struct hop_marks m = *given;
    struct timings t = phases(&m, last);
    int64_t latest = m.dispatched;
    assert_int_equal(timings_total(&t), m.end - m.dispatched);
    assert_int_equal(t.us[PHASE_QUEUE], TIME_NULL);
    assert_true(t.us[last] >= 0);
    for (enum phase p = PHASE_DNS; p < PHASE_COUNT; p++) {
        bool happened = p == last || (p < last && *mark_of(&m, p) != TIME_NULL);
        assert_true(happened ? t.us[p] >= 0 : t.us[p] == TIME_NULL);
        if (p == last || !happened)
            continue;
        /* A phase ends at its mark, unless that is before what is past or after the end. */
        int64_t mark = *mark_of(&m, p) < m.end ? *mark_of(&m, p) : m.end;
        int64_t next = mark > latest ? mark : latest;
        assert_int_equal(t.us[p], next - latest);
        latest = next;
    }
    assert_int_equal(t.us[last], m.end - latest);
}

static void test_property(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 200000; round++) {
        struct hop_marks m = marks(START + rand() % 2000);
        for (enum phase p = PHASE_DNS; p < PHASE_RECEIVE; p++)
            if (rand() % 3 != 0)
                *mark_of(&m, p) = random_time();
        check_random(&m, (enum phase)(PHASE_DNS + rand() % (PHASE_COUNT - PHASE_DNS)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_whole_hop),
        cmocka_unit_test(test_reused_connection),
        cmocka_unit_test(test_died_early),
        cmocka_unit_test(test_marks_out_of_order),
        cmocka_unit_test(test_hops_add_up),
        cmocka_unit_test(test_property),
    };
    return cmocka_run_group_tests_name("hop", tests, NULL, NULL);
}

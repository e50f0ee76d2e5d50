/* SPDX-License-Identifier: MIT
 *
 * encode_fixture - a batch to be encoded, for the tests of all views: members by hand, or random
 * ones with hostile bytes in every string. State is in statics: one batch at a time, setup() and
 * teardown() around each test.
 */
#ifndef GATHERD_TESTS_ENCODE_FIXTURE_H
#define GATHERD_TESTS_ENCODE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "encode.h"
#include "summary.h"

#define MEMBERS_MAX 10000
#define STARTED_US INT64_C(7000000)
#define STARTED_WALL_US INT64_C(1793534400000123) /* 2026-11-01T12:00:00.000123Z */

static struct member members[MEMBERS_MAX];
static struct result results[MEMBERS_MAX];
static struct member_opts opts;
static struct batch_spec spec;
static struct view_summary summary;
static struct batch_view view;
static struct summary_input input;
static struct buf out;

static inline int setup(void **state)
{
    (void)state;
    opts = (struct member_opts){.method = "GET"};
    memset(&spec, 0, sizeof spec);
    spec.members = members;
    input = (struct summary_input){.total_us = 312407,
                                   .concurrency_limit = 50,
                                   .concurrency_peak = 4,
                                   .loop_lag_max_us = 400,
                                   .overhead_us = 900,
                                   .complete = true};
    view = (struct batch_view){.id = "b-1",
                               .started_us = STARTED_US,
                               .started_wall_us = STARTED_WALL_US,
                               .spec = &spec,
                               .results = results,
                               .stride = sizeof results[0]};
    buf_init(&out, 0);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < spec.count; i++)
        result_drop_extra(&results[i]);
    buf_fini(&out);
    return 0;
}

static inline char *copy(const char *s)
{
    char *text = strdup(s);
    assert_non_null(text);
    return text;
}

/* A member that never got anywhere. */
static inline struct result *add(const char *url, enum member_state state)
{
    struct result *r = &results[spec.count];
    members[spec.count] =
        (struct member){.url = url, .url_len = (uint32_t)strlen(url), .opts = &opts};
    spec.count++;
    result_init(r);
    r->state = state;
    r->end_us = STARTED_US;
    return r;
}

/* What add() made had these phases one after the other from the batch's start on. */
static inline void set_times(struct result *r, const int64_t us[PHASE_COUNT])
{
    for (int p = 0; p < PHASE_COUNT; p++)
        r->timings.us[p] = us[p];
    r->start_us = STARTED_US + (us[PHASE_QUEUE] > 0 ? us[PHASE_QUEUE] : 0);
    r->end_us = STARTED_US + timings_total(&r->timings);
}

static inline struct result *add_done(const char *url, int status)
{
    struct result *r = add(url, MEMBER_DONE);
    set_times(r, (int64_t[]){0, 1200, 9800, 21000, 150, 48000, 3100});
    r->ok = status < 400;
    r->status = status;
    r->http_version = 11;
    r->https = true;
    r->ttfb_us = 80150;
    r->num_connects = 1;
    r->remote_port = 443;
    assert_true(ip_parse("93.184.216.34", &r->remote_ip));
    r->sizes = (struct result_sizes){86, 0, 301, 6417, 19252};
    r->url_effective = "https://a.example/";
    r->content_type = "text/html";
    return r;
}

/* All pieces of a member. */
static inline void add_item(const struct encoder *e, struct buf *to, size_t index)
{
    struct encode_at at = {.index = index};
    while (!e->item(to, &view, &at))
        ;
}

static inline const char *render(const struct encoder *e)
{
    assert_true(summary_compute(&summary, &view, &input));
    view.summary = &summary;
    buf_clear(&out);
    e->begin(&out, &view);
    for (size_t i = 0; i < spec.count; i++)
        add_item(e, &out, i);
    e->end(&out, &view);
    assert_false(out.failed);
    assert_int_equal(strlen(buf_cstr(&out)), out.len);
    return buf_cstr(&out);
}

static inline void add_three(void)
{
    add_done("https://a.example", 200);
    members[0].id = "first";
    struct result *r = add("http://b.example", MEMBER_FAILED);
    set_times(r, (int64_t[]){1500000, 900, 240000, -1, -1, -1, -1});
    r->url_effective = "http://b.example/";
    r->num_redirects = 2;
    r->num_retries = 1;
    r->retry_after_us = 2500000;
    r->error.type = ERR_CONNECTION_REFUSED;
    r->error.phase = PHASE_CONNECT;
    r->error.exitcode = 7;
    r->error.os_errno = 111;
    r->error.message = "no\n\"luck\"";
    r = add("http://10.0.0.7", MEMBER_DENIED);
    r->error.type = ERR_DESTINATION_IP_PROHIBITED;
    r->error.rule = "10.0.0.0/8";
}

#define INCLUDE_ALL \
    (INCLUDE_HEADERS | INCLUDE_BODY | INCLUDE_BODY_SHA256 | INCLUDE_TEXT_LENGTH | \
     INCLUDE_REDIRECTS | INCLUDE_CURL)

static uint64_t random_state;

static inline uint64_t next_random(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* Bytes of all kinds but NUL, in a string that the test frees; plenty of half sequences. */
static inline char *random_text(size_t *n)
{
    static const char spice[] =
        "\"\\/@:?#\x1B\x7F\r\n\t\xC3\xE2\x82\xAC\xF0\x9F\x98\x80\xFF\xED\xA0";
    *n = (size_t)next_random(60);
    char *s = malloc(*n + 1);
    assert_non_null(s);
    for (size_t i = 0; i < *n; i++)
        s[i] = next_random(2) ? spice[next_random(sizeof spice - 1)] : (char)(1 + next_random(255));
    s[*n] = '\0';
    return s;
}

static inline char *maybe_text(void)
{
    size_t n;
    return next_random(3) ? random_text(&n) : NULL;
}

static inline int64_t maybe_us(void)
{
    return next_random(3) ? (int64_t)next_random(UINT64_C(1) << (1 + next_random(40))) : TIME_NULL;
}

static inline void random_ip(struct ip_addr *ip)
{
    static const uint8_t families[] = {0, 4, 6};
    ip->family = families[next_random(3)];
    for (size_t i = 0; i < sizeof ip->bytes; i++)
        ip->bytes[i] = (uint8_t)next_random(256);
}

static inline void random_extra(struct result_extra *x)
{
    size_t n;
    char *text = random_text(&n);
    buf_add(&x->body, text, n);
    buf_add(&x->headers, text, n);
    for (size_t i = 0; i < x->headers.len; i++)
        x->headers.data[i] = next_random(4) ? x->headers.data[i] : '\0';
    free(text);
    x->has_headers = next_random(4) > 0;
    x->headers_cut = next_random(4) == 0;
    x->has_body = next_random(4) > 0;
    x->body_cut = next_random(4) == 0;
    x->has_sha256 = next_random(2);
    x->has_text_length = next_random(2);
    x->text_length = (int64_t)next_random(3) - 1;
    x->has_curl = next_random(2);
    x->curl.connect = maybe_us();
    random_ip(&x->curl.local_ip);
    x->hop_count = next_random(3);
    x->hops = calloc(x->hop_count + 1, sizeof x->hops[0]);
    assert_non_null(x->hops);
    for (size_t i = 0; i < x->hop_count; i++) {
        x->hops[i].url = maybe_text();
        x->hops[i].status = (int)next_random(1000);
        random_ip(&x->hops[i].remote_ip);
        for (int p = 0; p < PHASE_COUNT; p++)
            x->hops[i].timings.us[p] = maybe_us();
    }
}

static inline void random_result(struct result *r)
{
    r->state = (enum member_state)(1 + next_random(MEMBER_STATE_COUNT - 1));
    r->ok = next_random(2);
    r->truncated = next_random(4) == 0;
    r->https = next_random(2);
    r->http_version = (uint8_t)next_random(40);
    r->remote_port = (uint16_t)next_random(65536);
    r->status = (int)next_random(1000);
    random_ip(&r->remote_ip);
    if (next_random(2))
        r->start_us = STARTED_US + (int64_t)next_random(1000000);
    for (int p = 0; p < PHASE_COUNT; p++)
        r->timings.us[p] = r->start_us != TIME_NULL || p == PHASE_QUEUE ? maybe_us() : TIME_NULL;
    r->end_us = STARTED_US + (int64_t)next_random(INT64_C(1) << 41);
    r->ttfb_us = maybe_us();
    r->retry_after_us = maybe_us();
    r->sizes.download = (int64_t)next_random(UINT64_C(1) << (1 + next_random(50)));
    r->error.type = (enum err_type)next_random(ERR_COUNT);
    r->error.phase = (enum phase)next_random(PHASE_COUNT);
    r->error.exitcode = (int)next_random(100);
    r->error.message = maybe_text();
    r->error.rule = maybe_text();
    r->url_effective = maybe_text();
    r->content_type = maybe_text();
    if (next_random(2) && result_extra(r) != NULL)
        random_extra(r->extra);
}

/* The view's strings and the results' are borrowed: free_random_batch() frees them. */
static inline void make_random_batch(void)
{
    size_t n, count = 1 + next_random(12);
    for (size_t i = 0; i < count; i++) {
        struct result *r = add(random_text(&n), MEMBER_DONE);
        members[i].id = maybe_text();
        random_result(r);
    }
    spec.include = (unsigned)next_random(INCLUDE_ALL + 1);
    input.total_us = (int64_t)next_random(UINT64_C(1) << (1 + next_random(42)));
    input.complete = next_random(2);
    view.id = random_text(&n);
}

static inline void free_text(const char *text)
{
    free((char *)(uintptr_t)text);
}

static inline void free_random_batch(void)
{
    for (size_t i = 0; i < spec.count; i++) {
        struct result *r = &results[i];
        free_text(members[i].url);
        free_text(members[i].id);
        free_text(r->error.message);
        free_text(r->error.rule);
        free_text(r->url_effective);
        free_text(r->content_type);
        result_drop_extra(r);
    }
    free_text(view.id);
    spec.count = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif

/* SPDX-License-Identifier: MIT
 *
 * Adds up a batch. Pure: spec and results in, struct view_summary out, so that every figure of an
 * answer can be tested without a network, and so that no encoder ever computes one. Called by the
 * batch on its loop; 10,000 members take some 0.6 ms, most of it the two sorts.
 *
 * Percentiles are nearest rank: every figure printed is one that was measured. The order of the
 * sums does not matter, for all are integers; only mean and speedup are divided, once, at the end.
 */
#include "summary.h"

#include <stdlib.h>
#include <string.h>

static const struct view_stats stats_null = {
    .min = TIME_NULL,
    .p50 = TIME_NULL,
    .p90 = TIME_NULL,
    .p95 = TIME_NULL,
    .p99 = TIME_NULL,
    .max = TIME_NULL,
    .mean = (double)TIME_NULL,
};

static void count_status(struct view_summary *s, int status)
{
    if (status < 100 || status >= VIEW_STATUS_END)
        return;
    if (s->status_last == 0 || status < s->status_first)
        s->status_first = status;
    if (status > s->status_last)
        s->status_last = status;
    s->status_codes[status]++;
}

static void count_state(struct view_summary *s, const struct result *r)
{
    switch (r->state) {
    case MEMBER_DONE:
        s->done++;
        s->http_error += r->status >= 400;
        count_status(s, r->status);
        break;
    case MEMBER_FAILED:
        s->failed++;
        s->timed_out += err_is_timeout(r->error.type);
        break;
    case MEMBER_DENIED:
        s->denied++;
        break;
    case MEMBER_CANCELLED:
        s->cancelled++;
        break;
    case MEMBER_PENDING:
    case MEMBER_STATE_COUNT:
        break;
    }
}

static void add_sizes(struct result_sizes *sum, const struct result_sizes *one)
{
    sum->request += one->request;
    sum->upload += one->upload;
    sum->header += one->header;
    sum->download += one->download;
    sum->delivered += one->delivered;
}

static void add_member(struct view_summary *s, const struct result *r)
{
    int64_t work_us = result_work_us(r);
    count_state(s, r);
    s->n_ok += r->ok;
    s->ok = s->ok && r->ok;
    s->retried += r->num_retries > 0;
    s->reused += r->reused;
    if (r->error.type != ERR_NONE)
        s->errors[r->error.type]++;
    add_sizes(&s->sizes, &r->sizes);
    if (work_us > 0)
        s->sequential_us += work_us;
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest value that at least `percent` of all are not above. */
static int64_t nearest_rank(const int64_t *sorted, size_t n, unsigned percent)
{
    return sorted[(n * percent + 99) / 100 - 1];
}

static void compute_stats(struct view_stats *s, int64_t *values, size_t n)
{
    int64_t sum = 0;
    if (n == 0) {
        *s = stats_null;
        return;
    }
    qsort(values, n, sizeof *values, compare_us);
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    s->min = values[0];
    s->p50 = nearest_rank(values, n, 50);
    s->p90 = nearest_rank(values, n, 90);
    s->p95 = nearest_rank(values, n, 95);
    s->p99 = nearest_rank(values, n, 99);
    s->max = values[n - 1];
    s->mean = (double)sum / (double)n;
}

/* Collects one time of each done member, leaving out nulls; returns how many there are. */
static size_t collect(int64_t *values, const struct batch_view *v,
                      int64_t (*time_of)(const struct result *))
{
    size_t n = 0;
    for (size_t i = 0; i < v->spec->count; i++) {
        const struct result *r = view_result(v, i);
        int64_t us = r->state == MEMBER_DONE ? time_of(r) : TIME_NULL;
        if (us >= 0)
            values[n++] = us;
    }
    return n;
}

static int64_t ttfb_us(const struct result *r)
{
    return r->ttfb_us;
}

static bool compute_latency(struct view_summary *s, const struct batch_view *v)
{
    s->latency_count = s->done;
    s->latency_total = stats_null;
    s->latency_ttfb = stats_null;
    if (s->done == 0)
        return true;
    int64_t *values = reallocarray(NULL, (size_t)s->done, sizeof *values);
    if (values == NULL)
        return false;
    compute_stats(&s->latency_total, values, collect(values, v, result_work_us));
    compute_stats(&s->latency_ttfb, values, collect(values, v, ttfb_us));
    free(values);
    return true;
}

/* When a member ended, from the batch's start. */
static int64_t end_offset_us(const struct batch_view *v, const struct result *r)
{
    return r->end_us > v->started_us ? r->end_us - v->started_us : 0;
}

static enum phase longest_phase(const struct timings *t)
{
    enum phase longest = PHASE_QUEUE;
    for (enum phase p = PHASE_QUEUE; p < PHASE_COUNT; p++) {
        if (t->us[p] > t->us[longest])
            longest = p;
    }
    return longest;
}

/* The index of the member that ended last, -1 = none. */
static int64_t find_critical(const struct batch_view *v)
{
    int64_t latest = 0;
    int64_t index = -1;
    for (size_t i = 0; i < v->spec->count; i++) {
        const struct result *r = view_result(v, i);
        if (r->start_us == TIME_NULL && r->state != MEMBER_FAILED)
            continue;
        if (end_offset_us(v, r) > latest) {
            latest = end_offset_us(v, r);
            index = (int64_t)i;
        }
    }
    return index;
}

static void compute_critical(struct view_summary *s, const struct batch_view *v)
{
    int64_t others = 0;
    s->critical_index = find_critical(v);
    if (s->critical_index < 0)
        return;
    const struct timings *t = &view_result(v, (size_t)s->critical_index)->timings;
    s->critical_phase = longest_phase(t);
    s->critical_us = t->us[s->critical_phase] > 0 ? t->us[s->critical_phase] : 0;
    for (size_t i = 0; i < v->spec->count; i++) {
        int64_t end = end_offset_us(v, view_result(v, i));
        if ((int64_t)i != s->critical_index && end > others)
            others = end;
    }
    /* A member's end is stamped by its own event and may lie a little after the batch's. */
    s->critical_saves_us = others < s->total_us ? s->total_us - others : 0;
}

bool summary_compute(struct view_summary *out, const struct batch_view *v,
                     const struct summary_input *in)
{
    memset(out, 0, sizeof *out);
    out->ok = true;
    out->complete = in->complete;
    out->total_us = in->total_us;
    out->concurrency_limit = in->concurrency_limit;
    out->concurrency_peak = in->concurrency_peak;
    out->loop_lag_max_us = in->loop_lag_max_us;
    out->overhead_us = in->overhead_us;
    for (size_t i = 0; i < v->spec->count; i++)
        add_member(out, view_result(v, i));
    if (in->total_us > 0)
        out->speedup = (double)out->sequential_us / (double)in->total_us;
    compute_critical(out, v);
    return compute_latency(out, v);
}

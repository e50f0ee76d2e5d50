/* SPDX-License-Identifier: MIT
 *
 * Adds up a batch. Pure: spec and results in, struct view_summary out, so that every figure of an
 * answer can be tested without a network, and so that no encoder ever computes one. Called by the
 * batch on its loop, at once for all members, so it must not take long: the results are read once,
 * in order, and asked of memory some members ahead, because they lie far apart; percentiles are
 * found by a radix sort, one pass for each byte that the longest time has. 100,000 members take
 * some 5 ms.
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

static void add_member(struct view_summary *s, const struct result *r, int64_t work_us)
{
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

/* --- latency --------------------------------------------------------------------------------- */

enum {
    RADIX_FROM = 256,   /* fewer values are left to qsort() */
    PREFETCH_AHEAD = 6, /* members */
    CACHE_LINE = 64,
};

struct times { /* of the members done, each in an array with room for all members */
    int64_t *total, *ttfb, *spare;
    size_t total_count, ttfb_count;
};

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts by the byte at `shift`, from one array into the other; equal ones stay in order. */
static void sort_by_byte(const int64_t *from, int64_t *to, size_t n, unsigned shift)
{
    size_t next[256] = {0};
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        next[(uint64_t)from[i] >> shift & 255]++;
    for (size_t i = 0; i < 256; i++) {
        size_t count = next[i];
        next[i] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        to[next[(uint64_t)from[i] >> shift & 255]++] = from[i];
}

/* Sorts values >= 0 of which the largest is max; either array is returned, the other is rubbish. */
static const int64_t *sort_us(int64_t *values, int64_t *spare, size_t n, int64_t max)
{
    if (n < RADIX_FROM) {
        qsort(values, n, sizeof *values, compare_us);
        return values;
    }
    for (unsigned shift = 0; shift < 64 && max >> shift != 0; shift += 8) {
        int64_t *sorted = spare;
        sort_by_byte(values, sorted, n, shift);
        spare = values;
        values = sorted;
    }
    return values;
}

/* The smallest value that at least `percent` of all are not above. */
static int64_t nearest_rank(const int64_t *sorted, size_t n, unsigned percent)
{
    return sorted[(n * percent + 99) / 100 - 1];
}

static void compute_stats(struct view_stats *s, int64_t *values, int64_t *spare, size_t n)
{
    int64_t sum = 0, max = 0;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        sum += values[i];
        max = values[i] > max ? values[i] : max;
    }
    const int64_t *sorted = sort_us(values, spare, n, max);
    s->min = sorted[0];
    s->p50 = nearest_rank(sorted, n, 50);
    s->p90 = nearest_rank(sorted, n, 90);
    s->p95 = nearest_rank(sorted, n, 95);
    s->p99 = nearest_rank(sorted, n, 99);
    s->max = max;
    s->mean = (double)sum / (double)n;
}

static bool times_init(struct times *t, size_t count)
{
    int64_t *all = count <= SIZE_MAX / 3 ? reallocarray(NULL, 3 * count, sizeof *all) : NULL;
    *t = (struct times){0};
    if (all != NULL)
        *t = (struct times){.total = all, .ttfb = all + count, .spare = all + 2 * count};
    return all != NULL;
}

static void times_add(struct times *t, const struct result *r, int64_t work_us)
{
    if (t->total == NULL || r->state != MEMBER_DONE)
        return;
    if (work_us >= 0)
        t->total[t->total_count++] = work_us;
    if (r->ttfb_us >= 0)
        t->ttfb[t->ttfb_count++] = r->ttfb_us;
}

/* --- the critical path ----------------------------------------------------------------------- */

struct ends { /* from the batch's start, us */
    int64_t latest, second; /* of all members */
    size_t latest_index;
    int64_t critical; /* of those that were dispatched or failed */
    int64_t critical_index; /* -1 = none */
};

static void ends_add(struct ends *e, const struct batch_view *v, const struct result *r,
                     size_t index)
{
    int64_t end = r->end_us > v->started_us ? r->end_us - v->started_us : 0;
    if (end > e->latest) {
        e->second = e->latest;
        e->latest = end;
        e->latest_index = index;
    } else if (end > e->second) {
        e->second = end;
    }
    if (end > e->critical && (r->start_us != TIME_NULL || r->state == MEMBER_FAILED)) {
        e->critical = end;
        e->critical_index = (int64_t)index;
    }
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

static void compute_critical(struct view_summary *s, const struct batch_view *v,
                             const struct ends *e)
{
    s->critical_index = e->critical_index;
    if (e->critical_index < 0)
        return;
    const struct timings *t = &view_result(v, (size_t)e->critical_index)->timings;
    s->critical_phase = longest_phase(t);
    s->critical_us = t->us[s->critical_phase] > 0 ? t->us[s->critical_phase] : 0;
    int64_t others = (size_t)e->critical_index == e->latest_index ? e->second : e->latest;
    /* A member's end is stamped by its own event and may lie a little after the batch's. */
    s->critical_saves_us = others < s->total_us ? s->total_us - others : 0;
}

/* --- all ------------------------------------------------------------------------------------- */

static void prefetch_result(const struct batch_view *v, size_t index)
{
    if (index >= v->spec->count)
        return;
    const char *at = (const char *)view_result(v, index);
    for (size_t i = 0; i < sizeof(struct result); i += CACHE_LINE)
        __builtin_prefetch(at + i);
}

bool summary_compute(struct view_summary *out, const struct batch_view *v,
                     const struct summary_input *in)
{
    struct times times;
    struct ends ends = {.critical_index = -1};
    memset(out, 0, sizeof *out);
    out->ok = true;
    out->complete = in->complete;
    out->total_us = in->total_us;
    out->concurrency_limit = in->concurrency_limit;
    out->concurrency_peak = in->concurrency_peak;
    out->loop_lag_max_us = in->loop_lag_max_us;
    out->overhead_us = in->overhead_us;
    out->latency_total = out->latency_ttfb = stats_null;
    bool enough = times_init(&times, v->spec->count);
    for (size_t i = 0; i < v->spec->count; i++) {
        const struct result *r = view_result(v, i);
        int64_t work_us = result_work_us(r);
        prefetch_result(v, i + PREFETCH_AHEAD);
        add_member(out, r, work_us);
        times_add(&times, r, work_us);
        ends_add(&ends, v, r, i);
    }
    if (in->total_us > 0)
        out->speedup = (double)out->sequential_us / (double)in->total_us;
    out->latency_count = out->done;
    compute_critical(out, v, &ends);
    compute_stats(&out->latency_total, times.total, times.spare, times.total_count);
    compute_stats(&out->latency_ttfb, times.ttfb, times.spare, times.ttfb_count);
    free(times.total);
    return enough;
}

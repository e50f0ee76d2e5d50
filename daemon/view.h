/* SPDX-License-Identifier: MIT
 *
 * view - what an encoder may see of a batch: the spec, one result a member, and the summary. All
 * borrowed, all read-only, valid during the encoder's call.
 */
#ifndef GATHERD_VIEW_H
#define GATHERD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "result.h"
#include "spec.h"

struct view_stats { /* nearest-rank percentiles, us; all TIME_NULL when there is no value */
    int64_t min, p50, p90, p95, p99, max;
    double mean;
};

#define VIEW_STATUS_END 1000 /* three digits: sites do send 999 */

struct view_summary { /* complete when the batch has ended; see gatherd-api(7) for each figure */
    bool ok;       /* every member is ok */
    bool complete; /* nothing was cut by deadline, client, stop_on_error or shutdown */
    int64_t total_us;
    int64_t done, n_ok, http_error, failed, timed_out, denied, cancelled, retried, reused;
    uint32_t status_codes[VIEW_STATUS_END]; /* members done, by status from 100 up ... */
    int status_first, status_last; /* ... and the range of those that are not 0 */
    int64_t errors[ERR_COUNT];
    struct result_sizes sizes;
    int64_t latency_count; /* members of state done */
    struct view_stats latency_total, latency_ttfb;
    int64_t concurrency_limit, concurrency_peak;
    int64_t sequential_us; /* sum of the members' work times */
    double speedup;        /* sequential / total; 0 = null */
    int64_t critical_index; /* -1 = null */
    enum phase critical_phase;
    int64_t critical_us, critical_saves_us;
    int64_t loop_lag_max_us, overhead_us;
};

struct batch_view {
    const char *id;
    int64_t started_us;      /* monotonic */
    int64_t started_wall_us; /* since 1970, for printing */
    const struct batch_spec *spec;
    const void *results;     /* the first struct result ... */
    size_t stride;           /* ... and the distance to the next, bytes */
    const struct view_summary *summary; /* NULL while the batch runs (NDJSON items) */
};

static inline const struct result *view_result(const struct batch_view *v, size_t i)
{
    return (const struct result *)(const void *)((const char *)v->results + i * v->stride);
}

#endif

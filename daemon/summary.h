/* SPDX-License-Identifier: MIT
 *
 * summary - what a batch amounts to: counts, sums, percentiles, the critical path. One pass over
 * the results and two sorts, no clock, no I/O: the batch calls it once, when its last member ended.
 *
 * - counts: a PENDING member counts nowhere. `http_error` is done with a status from 400 up,
 *   `timed_out` a failed member whose error is a time-out, `retried` and `reused` are members.
 *   status_codes holds done members only, so that its numbers add up to `done`; errors holds every
 *   member that has an error, whatever its state.
 * - latency: over the members in state done; total is work time. A statistic without any value has
 *   -1 (null) everywhere.
 * - critical path: of the members that were dispatched or failed, the one that ended last (of two
 *   at once the first), the longest of its phases (of two as long the earlier), and what the batch
 *   would gain: the total minus the end of the latest other member, of any state. Null when
 *   nothing ended after the start.
 */
#ifndef GATHERD_SUMMARY_H
#define GATHERD_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "view.h"

struct summary_input {
    int64_t total_us; /* the whole batch, from its start to now */
    int64_t concurrency_limit, concurrency_peak;
    int64_t loop_lag_max_us, overhead_us;
    bool complete; /* nothing was cut */
};

/* Fills *out from v->spec and v->results; v->summary is not read. False when memory for the sort
 * (24 bytes a member) ran out: then the latency statistics are null and all else is right. */
bool summary_compute(struct view_summary *out, const struct batch_view *v,
                     const struct summary_input *in) __attribute__((warn_unused_result));

#endif

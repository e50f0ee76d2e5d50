/* SPDX-License-Identifier: MIT
 *
 * hop - the timing sum of one hop: marks on the monotonic clock to phases that tile the time from
 * dispatch to end, to the microsecond, whatever happened. Pure.
 *
 * A phase ends at its mark; the next one starts there. Marks are clamped so that they never run
 * backwards nor past the end, so no phase is negative and nothing is counted twice. A phase without
 * a mark did not happen (null); the time from the last mark to the end belongs to the phase in
 * which the hop ended. That is why the sum cannot fail to add up.
 */
#ifndef GATHERD_HOP_H
#define GATHERD_HOP_H

#include <stdbool.h>
#include <stdint.h>

#include "result.h"

struct hop_marks { /* us of the monotonic clock; TIME_NULL = has not happened */
    int64_t dispatched;
    int64_t dns_end;     /* a look-up ended; a cache hit leaves it null */
    int64_t connect_end; /* TCP connected; null on a reused connection */
    int64_t tls_end;
    int64_t send_end;    /* the request's last byte handed to the kernel */
    int64_t first_byte;  /* of the answer */
    int64_t end;         /* the hop ended, well or not */
};

void hop_marks_clear(struct hop_marks *m);

/* Adds the hop's phases to t. last = the phase in which it ended. Needs dispatched and end. */
void hop_timings(const struct hop_marks *m, enum phase last, struct timings *t);

#endif

/* SPDX-License-Identifier: MIT
 *
 * hop - see hop.h. Called by the engine when a hop ends or is looked at by a deadline. Pure, any
 * thread. The trick is the cursor: it only moves forward, each phase is what it moved.
 */
#include "hop.h"

#include <assert.h>

void hop_marks_clear(struct hop_marks *m)
{
    m->dispatched = m->dns_end = m->connect_end = m->tls_end = TIME_NULL;
    m->send_end = m->first_byte = m->end = TIME_NULL;
}

static int64_t clamp(int64_t v, int64_t lowest, int64_t highest)
{
    return v < lowest ? lowest : v > highest ? highest : v;
}

void hop_timings(const struct hop_marks *m, enum phase last, struct timings *t)
{
    const int64_t ends[PHASE_COUNT] = {
        [PHASE_QUEUE] = TIME_NULL,         [PHASE_DNS] = m->dns_end,
        [PHASE_CONNECT] = m->connect_end,  [PHASE_TLS] = m->tls_end,
        [PHASE_SEND] = m->send_end,        [PHASE_WAIT] = m->first_byte,
        [PHASE_RECEIVE] = TIME_NULL,
    };
    assert(m->dispatched != TIME_NULL && m->end >= m->dispatched);
    assert(last > PHASE_QUEUE && last < PHASE_COUNT);
    int64_t cursor = m->dispatched;
    for (enum phase p = PHASE_DNS; p < last; p++) {
        if (ends[p] == TIME_NULL)
            continue;
        int64_t mark = clamp(ends[p], cursor, m->end);
        timings_add(t, p, mark - cursor);
        cursor = mark;
    }
    timings_add(t, last, m->end - cursor);
}

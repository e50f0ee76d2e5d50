/* SPDX-License-Identifier: MIT
 *
 * clock - the two clocks: durations are CLOCK_MONOTONIC in int64 microseconds, the wall clock
 * is read once per batch and only to be printed. Thread safe.
 */
#ifndef GATHERD_CLOCK_H
#define GATHERD_CLOCK_H

#include <stdint.h>
#include <time.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

/* Now, in microseconds of CLOCK_MONOTONIC (vDSO: some 25 ns, no system call). */
static inline int64_t clock_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

/* Now, in microseconds since 1970-01-01 UTC. For printing only. */
static inline int64_t clock_wall_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * clock - the two clocks: durations are CLOCK_MONOTONIC in int64 microseconds, the wall clock
 * is read once per batch and only to be printed. Thread safe.
 */
#ifndef GATHERD_CLOCK_H
#define GATHERD_CLOCK_H

#include <stdint.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

/* Now, in microseconds of CLOCK_MONOTONIC (vDSO: some 25 ns, no system call). A function of its own
 * file, so that a test can bring its own clock. */
int64_t clock_us(void);

/* Now, in microseconds since 1970-01-01 UTC. For printing only. */
int64_t clock_wall_us(void);

#endif

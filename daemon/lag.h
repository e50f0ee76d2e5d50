/* SPDX-License-Identifier: MIT
 *
 * lag - the longest turn of the loop since a given moment, for a batch's loop_lag_max_ms: the
 * instrument reports its own error. A stack of turns with falling durations answers in O(log n) and
 * is pushed to in O(1) amortised. Belongs to one loop.
 */
#ifndef GATHERD_LAG_H
#define GATHERD_LAG_H

#include <stddef.h>
#include <stdint.h>

#define LAG_TURNS_MAX 128

struct lag {
    size_t count;
    int64_t end_us[LAG_TURNS_MAX];  /* rising */
    int64_t turn_us[LAG_TURNS_MAX]; /* falling */
};

/* A turn ended at end_us after turn_us of work. When the stack is full its shortest entry takes
 * over the newer time, so that an answer can only be too large. */
static inline void lag_note(struct lag *l, int64_t end_us, int64_t turn_us)
{
    while (l->count > 0 && l->turn_us[l->count - 1] <= turn_us)
        l->count--;
    if (l->count == LAG_TURNS_MAX) {
        l->end_us[l->count - 1] = end_us;
        return;
    }
    l->end_us[l->count] = end_us;
    l->turn_us[l->count++] = turn_us;
}

/* The longest turn that ended at or after since_us; 0 = none. */
static inline int64_t lag_max_since(const struct lag *l, int64_t since_us)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->end_us[mid] < since_us)
            low = mid + 1;
        else
            high = mid;
    }
    return low < l->count ? l->turn_us[low] : 0;
}

#endif

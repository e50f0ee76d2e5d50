/* SPDX-License-Identifier: MIT
 *
 * held - a count of bytes that several threads charge against one limit. Only the sum matters, and
 * nothing is read by its means, so no order is asked for.
 */
#ifndef GATHERD_HELD_H
#define GATHERD_HELD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* n bytes are held no more; n may be what several charges came to, in either direction. */
static inline void held_let_go(atomic_llong *held, long long n)
{
    atomic_fetch_sub_explicit(held, n, memory_order_relaxed);
}

/* Charges n more; false, and nothing is charged, when the sum would be over the limit. */
static inline bool held_take(atomic_llong *held, size_t n, long long limit)
{
    const long long more = (long long)n;
    if (atomic_fetch_add_explicit(held, more, memory_order_relaxed) + more <= limit)
        return true;
    held_let_go(held, more);
    return false;
}

#endif

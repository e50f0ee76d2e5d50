/* SPDX-License-Identifier: MIT
 *
 * turn - the order of one loop's turn: callbacks take note, and all that acts is done last before
 * the loop sleeps. Each loop (thread) has one.
 *
 *   timers, poll   callbacks only note what happened (lists, flags) and call turn_wake().
 *   prepare        `act` is called, again while it says that one part made work for another, a few
 *   times
 *                  at most. What is left then keeps an idle handle running, so that poll
 *                  does not sleep. A turn without a wake does nothing: an idle loop is asleep.
 *
 * Lines that log_hold() holds are written at the end of each turn, so that what is answered in it
 * goes first.
 *
 * It also measures: how long turns take, for a batch's loop_lag_max_ms and for /metrics.
 */
#ifndef GATHERD_TURN_H
#define GATHERD_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

struct metrics;

struct turn_params {
    uv_loop_t *loop;
    /* Does what is to be done now; true while work is left that should not wait for an event. */
    bool (*act)(void *arg);
    /* A turn that did something has ended at now_us after busy_us of work; called before it
     * sleeps. */
    void (*ended)(void *arg, int64_t now_us, int64_t busy_us);
    void *arg;
    struct metrics *metrics; /* borrowed; of this loop */
};

struct turn {
    struct turn_params params;
    uv_prepare_t prepare;
    uv_idle_t idle;
    int64_t woke_us; /* first wake of this turn; 0 = none */
    bool dirty;
    bool stopped;
};

void turn_init(struct turn *t, const struct turn_params *params);

/* There is something to do in this turn's end. From callbacks of the loop, on its thread; cheap. */
void turn_wake(struct turn *t);

/* How long the turn has taken by now_us; 0 = there is none. */
int64_t turn_so_far_us(const struct turn *t, int64_t now_us);

/* `act` is not called any more. Closes its two handles; the struct must stay until the loop has run
 * them out. No-op the second time. */
void turn_close(struct turn *t);

#endif

/* SPDX-License-Identifier: MIT
 *
 * turn - see turn.h. Used by gatherd for the loop of the front and by shard for each fetch loop.
 *
 * Acting in a prepare handle is what makes the last word of a turn come before the loop sleeps: in
 * a check handle it would come after, and what it started would wait for the next event.
 */
#include "turn.h"

#include <stddef.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"

#define TURN_ROUNDS_MAX 4
#define TURN_ROUNDS_US \
    2000 /* after that no further round begins: who waits for an event comes first */

void turn_wake(struct turn *t)
{
    t->dirty = true;
    if (t->woke_us == 0)
        t->woke_us = clock_us();
}

int64_t turn_so_far_us(const struct turn *t, int64_t now_us)
{
    return t->woke_us > 0 ? now_us - t->woke_us : 0;
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active is all that is wanted: poll does not sleep */
}

static bool run_round(struct turn *t)
{
    t->dirty = false;
    bool again = t->params.act(t->params.arg);
    return (again || t->dirty) && !t->stopped;
}

static void account(struct turn *t)
{
    int64_t now = clock_us();
    int64_t busy = now - t->woke_us;
    t->woke_us = 0;
    metrics_observe_turn(t->params.metrics, busy);
    t->params.ended(t->params.arg, now, busy);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct turn *t = prepare->data;
    bool idling = uv_is_active((uv_handle_t *)&t->idle);
    log_flush(); /* what callbacks said */
    if (t->stopped || (!t->dirty && !idling))
        return;
    turn_wake(t); /* an idle turn begins here */
    bool again = true;
    for (int round = 0; round < TURN_ROUNDS_MAX && again; round++) {
        again = run_round(t);
        if (again && clock_us() - t->woke_us > TURN_ROUNDS_US)
            break;
    }
    log_flush();
    account(t);
    if ((again || t->dirty) && !t->stopped)
        uv_idle_start(&t->idle, on_idle);
    else
        uv_idle_stop(&t->idle);
}

void turn_init(struct turn *t, const struct turn_params *params)
{
    *t = (struct turn){.params = *params};
    uv_prepare_init(params->loop, &t->prepare);
    uv_idle_init(params->loop, &t->idle);
    t->prepare.data = t->idle.data = t;
    uv_prepare_start(&t->prepare, on_prepare);
}

void turn_close(struct turn *t)
{
    t->stopped = true;
    uv_idle_stop(&t->idle);
    if (uv_is_closing((uv_handle_t *)&t->prepare))
        return;
    uv_close((uv_handle_t *)&t->prepare, NULL);
    uv_close((uv_handle_t *)&t->idle, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * result - the plain value in which the engine says how a member ended. Made by the engine, moved
 * by value to the batch, read by the encoders, freed with the batch; one thread at a time. Owns
 * `extra`, what only some batches ask for, and nothing else.
 *
 * "Null" is TIME_NULL everywhere, so a fresh result is not all zeros: always start with
 * result_init().
 */
#include "result.h"

#include <assert.h>
#include <stdlib.h>

const char *phase_name(enum phase phase)
{
    static const char *const names[PHASE_COUNT] = {
        [PHASE_QUEUE] = "queue", [PHASE_DNS] = "dns",   [PHASE_CONNECT] = "connect",
        [PHASE_TLS] = "tls",     [PHASE_SEND] = "send", [PHASE_WAIT] = "wait",
        [PHASE_RECEIVE] = "receive",
    };
    assert(phase < PHASE_COUNT);
    return names[phase];
}

const char *member_state_name(enum member_state state)
{
    static const char *const names[MEMBER_STATE_COUNT] = {
        [MEMBER_PENDING] = "pending", [MEMBER_DONE] = "done", [MEMBER_FAILED] = "failed",
        [MEMBER_DENIED] = "denied", [MEMBER_CANCELLED] = "cancelled",
    };
    assert(state < MEMBER_STATE_COUNT);
    return names[state];
}

void timings_clear(struct timings *t)
{
    for (int p = 0; p < PHASE_COUNT; p++)
        t->us[p] = TIME_NULL;
}

void timings_add(struct timings *t, enum phase p, int64_t us)
{
    assert(us >= 0);
    t->us[p] = t->us[p] == TIME_NULL ? us : t->us[p] + us;
}

static int64_t sum_from(const struct timings *t, enum phase first)
{
    int64_t sum = 0;
    for (int p = (int)first; p < PHASE_COUNT; p++)
        sum += t->us[p] == TIME_NULL ? 0 : t->us[p];
    return sum;
}

int64_t timings_total(const struct timings *t)
{
    return sum_from(t, PHASE_QUEUE);
}

void result_init(struct result *r)
{
    *r = (struct result){
        .start_us = TIME_NULL,
        .end_us = TIME_NULL,
        .ttfb_us = TIME_NULL,
        .retry_after_us = TIME_NULL,
    };
    timings_clear(&r->timings);
}

void result_drop_extra(struct result *r)
{
    struct result_extra *x = r->extra;
    if (!x)
        return;
    r->extra = NULL;
    buf_fini(&x->headers);
    buf_fini(&x->body);
    for (size_t i = 0; i < x->hop_count; i++)
        free(x->hops[i].url);
    free(x->hops);
    free(x);
}

struct result_extra *result_extra(struct result *r)
{
    if (r->extra)
        return r->extra;
    r->extra = calloc(1, sizeof *r->extra);
    if (!r->extra)
        return NULL;
    struct result_curl *c = &r->extra->curl;
    c->namelookup = c->connect = c->appconnect = TIME_NULL;
    c->pretransfer = c->starttransfer = c->total = TIME_NULL;
    r->extra->text_length = -1;
    return r->extra;
}

int64_t result_work_us(const struct result *r)
{
    return r->start_us == TIME_NULL ? TIME_NULL : sum_from(&r->timings, PHASE_QUEUE + 1);
}

static bool status_retryable(int status)
{
    switch (status) {
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return true;
    default:
        return false;
    }
}

bool result_retryable(const struct result *r)
{
    switch (r->state) {
    case MEMBER_DONE:
        return status_retryable(r->status);
    case MEMBER_FAILED:
    case MEMBER_CANCELLED:
        return err_retryable(r->error.type);
    default:
        return false;
    }
}

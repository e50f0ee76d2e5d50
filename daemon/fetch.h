/* SPDX-License-Identifier: MIT
 *
 * fetch - the engine: jobs in, results out. It owns the queue (sched), the names (resolve), and one
 * libcurl multi for each policy (pool); redirects are followed here, hop by hop, each hop through the
 * same policy and the same queue.
 *
 * Asynchronous in both directions: fetch_submit() and fetch_cancel() only put things on lists, and
 * `done` is called from fetch_turn(), never from inside another call. Nothing above this header
 * knows libcurl; a job that lives on another loop needs no other interface than this one.
 *
 * A job belongs to the engine from fetch_submit() to `done`. One thread.
 */
#ifndef GATHERD_FETCH_H
#define GATHERD_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "config.h"
#include "heap.h"
#include "list.h"
#include "metrics.h"
#include "policy.h"
#include "result.h"
#include "sched.h"
#include "spec.h"

struct fetch;
struct fetch_pool;
struct transfer;
struct url;

enum fetch_state {
    FETCH_IDLE,    /* not the engine's */
    FETCH_QUEUED,  /* waits for slots */
    FETCH_ACTIVE,  /* holds slots; looks up its name or is in libcurl */
    FETCH_CLOSING, /* its result is final; its transfer waits to be taken out */
    FETCH_ENDED    /* its result is final; waits for `done` */
};

struct fetch_job {
    /* set by the caller, borrowed until done */
    const struct member *member;
    struct fetch_pool *pool;
    struct sched_batch *batch;
    unsigned include; /* enum include bits */
    const char *traceparent; /* passed on with a span id of each hop's own; NULL = none */
    int64_t queued_us; /* where the first queue phase starts: the batch's start */

    /* final once result.state is not MEMBER_PENDING; the caller frees it with fetch_result_free() */
    struct result result;

    /* the engine's */
    enum fetch_state state;
    struct list node;
    struct sched_entry entry;
    struct heap_node deadline;
    struct url *url;        /* of the next hop; NULL = parse member->url again at dispatch */
    struct transfer *transfer;
    const char *method;     /* of the next hop */
    bool without_body, left_origin; /* after a redirect */
    int64_t waiting_since_us;
    int64_t dispatched_us;  /* the running hop */
    int64_t work_us;        /* of the finished hops */
};

struct fetch_params {
    uv_loop_t *loop;
    const struct config_fetch *config;  /* borrowed until closed */
    const struct config_limits *limits; /* borrowed until closed */
    struct metrics *metrics;            /* borrowed until closed */
    void (*wake)(void *wake_arg); /* fetch_turn() has work; called from callbacks of the loop */
    void *wake_arg;
    void (*done)(struct fetch_job *job); /* the job is the caller's again */
};

/* NULL with *why (static text) when something refuses. */
struct fetch *fetch_create(const struct fetch_params *params, const char **why);

/* Every job must be done. `closed` is called by the loop when all handles are closed and the memory
 * is free. */
void fetch_close(struct fetch *f, void (*closed)(void *arg), void *arg);

/* A pool: connections and TLS sessions that belong to one policy (borrowed until closed). Freed with the
 * engine. NULL when memory runs out. */
struct fetch_pool *fetch_pool_open(struct fetch *f, const struct policy *policy);

/* A reload: from now on these are asked; running transfers go on. Limits of the queue change at once,
 * lookups and dns_servers only with a restart. The old ones may be freed when this returns. */
void fetch_reload(struct fetch *f, const struct config_fetch *config,
                  const struct config_limits *limits);

/* Another policy for the pool, from the next check on: also kept-alive connections are judged by it
 * before they are used again. The old one may be freed when this returns. */
void fetch_pool_set_policy(struct fetch_pool *p, const struct policy *policy);

/* A batch joins the queue; see sched_batch_join(). */
struct sched_batch *fetch_join(struct fetch *f, const char *identity, struct slots *slots,
                               int limit_per_host);

/* Takes a job with its first part filled and the rest zeroed. A bad URL or a denial shows as a
 * result, in a later turn, like everything else. */
void fetch_submit(struct fetch *f, struct fetch_job *job);

/* Makes the result of an unfinished job final at once: state cancelled, the given error type (ERR_CANCELLED,
 * ERR_DEADLINE_EXCEEDED), phase, bytes and times so far. What it holds is released in slices;
 * `done` comes when that is over. A job whose result is final already is left alone. */
void fetch_cancel(struct fetch *f, struct fetch_job *job, enum err_type why, int64_t now_us);

/* The engine's part of a turn's end: names, finished transfers, deadlines, closings, `done` calls,
 * launches; bounded. Returns true while work is left that should not wait for an event. */
bool fetch_turn(struct fetch *f);

/* Frees what a result owns and gives its held bytes back to limits.answer_bytes. */
void fetch_result_free(struct fetch *f, struct result *r);

/* The same for its bodies, headers and hops only. */
void fetch_content_free(struct fetch *f, struct result *r);

/* Gauges into the metrics. */
void fetch_gauge(struct fetch *f);

size_t fetch_waiting(const struct fetch *f);
size_t fetch_active(const struct fetch *f);

/* Finished members a second, over the last seconds; > 0. For Retry-After. */
double fetch_rate(const struct fetch *f);

#endif

/* SPDX-License-Identifier: MIT
 *
 * shard - the fetch loops: N engines, each on a thread and a loop of its own, behind one interface
 * for the thread of the front. With loops = 0 there is one engine, on the front's own loop, and all
 * below holds as well.
 *
 * A job goes to the engine that its origin hashes to, so that an origin's limit, its connections
 * and its TLS sessions are one engine's; a redirect to another origin moves it. What is shared is
 * exact too: the daemon's and the batch's slots (slots.h), the names (resolve_cache.h), the bytes
 * held for answers.
 *
 * Mail goes both ways in lists under a mutex, spliced once a turn; only an empty receiver is woken.
 * All functions here are for the front's thread. A job and its result belong to the engines from
 * shard_submit() to `done`; a group may be used until shard_group_release().
 */
#ifndef GATHERD_SHARD_H
#define GATHERD_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "config.h"
#include "fetch.h"
#include "metrics.h"
#include "policy.h"

struct shard;
struct shard_pool;
struct turn;

struct shard_params {
    uv_loop_t *loop;                    /* of the front */
    struct turn *turn;                  /* of the front: woken when mail comes */
    const struct config *config;        /* borrowed until the next reload or closed */
    struct metrics *metrics;            /* borrowed; the front's, used by the engine of loops = 0 */
    void (*done)(struct fetch_job *job); /* the job is the caller's again; from shard_turn() */
    void (*rested)(void *arg); /* an engine has freed what it kept for later; from shard_turn() */
    void *arg;
};

/* Starts the threads. NULL with *why (static text) when something refuses. */
struct shard *shard_create(const struct shard_params *params, const char **why);

/* Every job must be done. Ends the engines and their threads; `closed` is called by the front's
 * loop when all is gone. */
void shard_close(struct shard *s, void (*closed)(void *arg), void *arg);

/* A pool: connections that belong to one policy (borrowed until another is set or closed), in every
 * engine. Freed with the shard. NULL when memory runs out. Waits for the engines. */
struct shard_pool *shard_pool_open(struct shard *s, const struct policy *policy);

/* The one it has now; borrowed until another is set. */
const struct policy *shard_pool_policy(const struct shard_pool *p);

/* Another policy for the pool (renew: with other rules, see fetch_pool_set_policy()), and a reload:
 * when they return, no engine uses the old objects any more.
 * Both wait for each engine to end its turn, some milliseconds. */
void shard_pool_set_policy(struct shard_pool *p, const struct policy *policy, bool renew);
void shard_reload(struct shard *s, const struct config *config);

/* --- batches --- */

struct shard_group_params {
    const char *identity;    /* borrowed until the group is released */
    const char *traceparent; /* borrowed until every job is done; NULL = none */
    struct shard_pool *pool;
    int limit, limit_per_host;
    unsigned include;
    bool stop_on_error;
    int64_t queued_us; /* where every job's first queue phase starts */
    int64_t cut_us;    /* when the fetch loops cancel what is unfinished (deadline_exceeded) */
    void *owner;       /* fetch_job.group->owner */
};

/* A batch joins. NULL when memory runs out. */
struct fetch_group *shard_group_create(struct shard *s, const struct shard_group_params *params);

/* The caller has no job of it any more. */
void shard_group_release(struct fetch_group *group);

/* Hands over a job, its first part filled and the rest zeroed. It is on its way when shard_flush()
 * or the next shard_turn() has run. */
void shard_submit(struct shard *s, struct fetch_job *job);

/* Every job of the group that is not done becomes `cancelled`, with this error type and with what
 * is known so far; `done` follows for each as always. */
void shard_group_cancel(struct shard *s, struct fetch_group *group, enum err_type why);

/* Starts nothing of the group while paused. */
void shard_group_pause(struct shard *s, struct fetch_group *group, bool paused);

/* --- the turn --- */

/* Takes what the engines sent and calls `done`, at most some thousand times; with loops = 0 also
 * runs the engine. True while work is left. */
bool shard_turn(struct shard *s);

/* Sends what shard_submit() and the group calls left for the engines. Last in the front's turn. */
void shard_flush(struct shard *s);

/* --- results --- */

/* Frees what a result owns, its bodies, headers and hops, and gives the bytes back to
 * limits.answer_bytes. Its other fields stay. */
void shard_content_free(struct shard *s, struct result *r);

/* --- figures --- */

size_t shard_active(const struct shard *s);  /* members that hold a slot */
size_t shard_waiting(const struct shard *s); /* members submitted that hold none */

/* How long the fetch loop that is silent for longest has not turned since it was asked to (by this
 * call, which asks those that have), 0 = all turn. Not once the shard is being closed. */
int64_t shard_silent_us(struct shard *s);

/* Finished members a second, over the last seconds; > 0. For Retry-After. */
double shard_rate(const struct shard *s);

/* The longest turn of any fetch loop that ended at or after since_us; 0 = none. */
int64_t shard_lag_max_since(struct shard *s, int64_t since_us);

/* Adds the engines' counters and gauges to *out (which has the front's). */
void shard_metrics(struct shard *s, struct metrics *out);

#endif

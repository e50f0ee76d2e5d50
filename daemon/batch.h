/* SPDX-License-Identifier: MIT
 *
 * batch - a batch's life: members become jobs, results come back, the deadline is kept, the summary
 * is made. Knows neither HTTP nor libcurl.
 *
 *     SUBMITTING -> RUNNING -> ENDED -> (released and its last job done) freed
 *
 * Members are submitted in slices, so that a batch of 100,000 does not hold up the loop; what
 * happens first wins: all members final, the deadline, stop_on_error, or batch_cancel(). At the
 * deadline (10 ms before it, and 2 ms more for every 1,000 members) the fetch loops are told; each
 * takes the states of what is unfinished and hands it back, and with the last of it the batch ends.
 * Transfers are taken down after that. One thread.
 */
#ifndef GATHERD_BATCH_H
#define GATHERD_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "lag.h"
#include "shard.h"
#include "spec.h"
#include "view.h"

struct batches; /* the runner: all batches of one loop */
struct batch;

struct batches_params {
    uv_loop_t *loop;
    struct shard *shard;      /* borrowed until closed */
    struct metrics *metrics;  /* borrowed */
    const struct lag *lag;    /* borrowed */
    void (*wake)(void *arg);  /* batches_turn() has work */
    void *arg;
};

struct batches *batches_create(const struct batches_params *params);

/* No batch may be left. `closed` is called by the loop when the memory is free. */
void batches_close(struct batches *all, void (*closed)(void *arg), void *arg);

struct batch_params {
    struct batch_spec *spec;   /* taken, also on failure */
    const char *identity;      /* copied; whom the scheduler is fair to */
    struct shard_pool *pool;   /* borrowed */
    int64_t parse_us;          /* what reading the request cost; part of overhead_ms */
    /* Called from batches_turn() and shard_turn(), never from inside batch_start() or
     * batch_cancel(). */
    void (*on_item)(void *arg, size_t index); /* a member's result is final; NULL = not wanted */
    void (*on_end)(void *arg);                /* the summary is there; once; not after release */
    void *arg;
};

/* Returns the batch; the caller releases it. NULL when memory runs out. */
struct batch *batch_start(struct batches *all, const struct batch_params *params);

/* Ends it early: unfinished members become `cancelled`. on_end follows in a later turn. */
void batch_cancel(struct batch *b);

/* The caller has no more use for it: no callback any more. A batch that still runs is cancelled. */
void batch_release(struct batch *b);

/* Launches nothing while paused (the client does not read). */
void batch_pause(struct batch *b, bool paused);

/* A member's bodies and headers were sent: frees them. Its other fields stay. */
void batch_drop_content(struct batch *b, size_t index);

const struct batch_view *batch_view(const struct batch *b);
const char *batch_id(const struct batch *b);

/* The runner's part of a turn's end; true while work is left. */
bool batches_turn(struct batches *all);

/* For shard_params.done. */
void batches_job_done(struct fetch_job *job);

size_t batches_running(const struct batches *all); /* not yet ended */
size_t batches_alive(const struct batches *all);   /* not yet freed */

/* Members that were accepted and have not been handed to the queue yet; part of what is queued. */
size_t batches_unsubmitted(const struct batches *all);

/* Members whose results are final, of batches that are not released: nobody has read all of their
 * answer yet. */
size_t batches_unread(const struct batches *all);

/* Cancels all that run (second SIGTERM, drain timeout). */
void batches_cancel_all(struct batches *all);

#endif

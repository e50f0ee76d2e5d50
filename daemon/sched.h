/* SPDX-License-Identifier: MIT
 *
 * sched - who may start now: gatherd's own queue. Pure: no clock, no curl, no I/O.
 *
 * Entries wait in lanes; a lane is the FIFO of one batch for one origin (scheme://host:port). An
 * entry may start when the daemon, its batch, its batch's share of the origin, and the origin have
 * a free slot; it takes all of them together and gives them back together. A waiting entry, also
 * one between two hops, holds nothing.
 *
 * Fairness: round robin over identities, then over the identity's batches, then over the batch's
 * lanes, so that a batch of 10,000 cannot starve one of 2. A lane that finds its origin full waits
 * at the origin: identities take turns there too, and the lanes of one identity are a FIFO. A freed
 * slot is promised to the first of them; no newcomer overtakes it. Every operation is O(1)
 * (amortised), whatever is queued, but for one: a slot for which batches wait that are at their
 * own limit costs a step for each of those.
 */
#ifndef GATHERD_SCHED_H
#define GATHERD_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

struct sched;
struct sched_lane;
struct sched_batch;

enum sched_state { ENTRY_IDLE, ENTRY_WAITING, ENTRY_RUNNING };

/* Embedded by the owner (a job); zeroed before first use. */
struct sched_entry {
    struct list node;
    struct sched_lane *lane; /* while waiting or running */
    enum sched_state state;
};

struct sched_limits {
    int daemon;   /* entries running at once */
    int origin;   /* per origin, over all batches */
};

/* NULL when memory runs out. destroy: nothing may be waiting or running. */
struct sched *sched_create(const struct sched_limits *limits);
void sched_destroy(struct sched *s);
void sched_set_limits(struct sched *s, const struct sched_limits *limits);

/* A batch joins under an identity (any string; equal strings share one turn in the round robin).
 * limit >= 1: entries running at once; limit_per_origin >= 1. NULL when memory runs out.
 * leave: no entry of it may be waiting or running; frees it. */
struct sched_batch *sched_batch_join(struct sched *s, const char *identity, int limit,
                                     int limit_per_origin);
void sched_batch_leave(struct sched_batch *b);

/* While paused nothing of the batch is started; what runs goes on. */
void sched_batch_pause(struct sched_batch *b, bool paused);

/* Queues an idle entry for origin (copied; "scheme://host:port"). front: before what the batch has
 * waiting for that origin (a redirect's next hop). False when memory runs out. */
bool sched_push(struct sched_batch *b, const char *origin, struct sched_entry *e, bool front)
    __attribute__((warn_unused_result));

/* The next entry that may start now, its slots taken (state RUNNING); NULL when none may. */
struct sched_entry *sched_next(struct sched *s);

/* Whether sched_next() would return an entry; a cheap upper bound (may say true once too often,
 * never false wrongly). */
bool sched_ready(const struct sched *s);

/* A running entry ends: gives its slots back. A waiting entry leaves the queue. An idle one: no-op.
 * The entry is idle afterwards. */
void sched_release(struct sched_entry *e);

/* Gauges. */
size_t sched_waiting(const struct sched *s);
size_t sched_running(const struct sched *s);
size_t sched_batch_running(const struct sched_batch *b);
size_t sched_batch_peak(const struct sched_batch *b); /* most running at once since join */

/* Of the entry's origin, e waiting or running: entries waiting for it in all batches, and running.
 * The engine closes a connection after use when nobody else wants the origin. */
size_t sched_origin_waiting(const struct sched_entry *e);
size_t sched_origin_running(const struct sched_entry *e);

#endif

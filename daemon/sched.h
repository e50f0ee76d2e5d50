/* SPDX-License-Identifier: MIT
 *
 * sched - who may start now: gatherd's own queue. Pure: no clock, no curl, no I/O.
 *
 * One for each fetch loop; all calls with it and with what joined it are made on that loop's
 * thread. An origin lives on one loop, a batch may join on several: the daemon's slots and each
 * batch's are shared by the loops (slots.h), all other limits are the loop's own.
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
struct slots;

enum sched_state { ENTRY_IDLE, ENTRY_WAITING, ENTRY_RUNNING };

/* Embedded by the owner (a job); zeroed before first use. */
struct sched_entry {
    struct list node;
    struct sched_lane *lane; /* while waiting or running */
    enum sched_state state;
};

/* daemon: entries running at once on all loops; borrowed until destroy. loop: which taker of it and
 * of every batch's slots this is. wake_others: the loops (a bit for each) whose sched_wake() is to
 * be called soon, because slots are free that they wait for; called from within any function below
 * and must call none of them (bell_ring() is what it is for). Not called with one loop; may be
 * NULL then. */
struct sched_params {
    struct slots *daemon;
    int loop;
    int limit_origin; /* entries running at once per origin, over all batches; >= 1 */
    void (*wake_others)(void *arg, uint64_t loops);
    void *arg;
};

/* NULL when memory runs out. destroy: nothing may be waiting or running, no batch joined; the other
 * loops may go on. */
struct sched *sched_create(const struct sched_params *params);
void sched_destroy(struct sched *s);

/* To be called on every loop after slots_set_limit() of the daemon's slots, too. */
void sched_set_limit_origin(struct sched *s, int limit);

/* Another loop's wake_others() named this one: looks again at what it was refused. sched_ready()
 * tells whether there is something to start. Cheap when called for nothing. */
void sched_wake(struct sched *s);

/* A batch joins under an identity (any string; equal strings share one turn in the round robin).
 * slots: entries of it running at once on all loops; borrowed until it left on all of them. Made
 * for one taker they serve a batch that is on one loop only, and cost less.
 * limit_per_origin >= 1. Once for each loop. NULL when memory runs out.
 * leave: no entry of it may be waiting or running on this loop; frees it, not the slots. */
struct sched_batch *sched_batch_join(struct sched *s, const char *identity, struct slots *slots,
                                     int limit_per_origin);
void sched_batch_leave(struct sched_batch *b);

/* While paused nothing of the batch is started on this loop; what runs goes on. */
void sched_batch_pause(struct sched_batch *b, bool paused);

/* Queues an idle entry for origin (copied; "scheme://host:port"). front: before what the batch has
 * waiting for that origin (a redirect's next hop). False when memory runs out. */
bool sched_push(struct sched_batch *b, const char *origin, struct sched_entry *e, bool front)
    __attribute__((warn_unused_result));

/* The next entry that may start now, its slots taken (state RUNNING); NULL when none may. */
struct sched_entry *sched_next(struct sched *s);

/* Whether sched_next() would return an entry; a cheap upper bound (may say true once too often,
 * never false wrongly). While it is true sched_next() has to be called soon: slots are kept from
 * other loops for it. Of the engine soon is within a tenth of a second, where it is short of
 * descriptors. */
bool sched_ready(const struct sched *s);

/* A running entry ends: gives its slots back. A waiting entry leaves the queue. An idle one: no-op.
 * The entry is idle afterwards. */
void sched_release(struct sched_entry *e);

/* The slots of from, which is running, pass to to, which is idle: from is idle afterwards and to is
 * running. */
void sched_move(struct sched_entry *from, struct sched_entry *to);

/* Gauges, of this loop. */
size_t sched_running(const struct sched *s);
size_t sched_batch_running(const struct sched_batch *b);

/* Entries waiting for the origin of e, which waits or runs, in all batches. The engine closes a
 * connection after use when nobody else wants the origin. */
size_t sched_origin_waiting(const struct sched_entry *e);

#endif

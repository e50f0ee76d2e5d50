/* SPDX-License-Identifier: MIT
 *
 * sched_internal - what the two halves of the scheduler share: sched.c decides who starts;
 * sched_lane.c finds, makes and frees what has a name (identities, origins, lanes). Private to
 * them.
 */
#ifndef GATHERD_SCHED_INTERNAL_H
#define GATHERD_SCHED_INTERNAL_H

#include "sched.h"
#include "slots.h"
#include "table.h"

#define OWNER(ptr, type, member) LIST_CONTAINER(ptr, struct type, member)

enum { SCHED_RECENT = 16 }; /* lanes a batch finds without the tables; a power of two */

struct sched {
    struct table origins, identities; /* by name */
    struct table lanes, queues;       /* by pair: batch and origin, identity and origin */
    struct list runnable;             /* identities */
    struct list lenders;              /* batches */
    struct slots_taker slots;         /* the daemon's */
    struct slots_inbox inbox;
    bool starved; /* refused a slot of the daemon, and not told of one since */
    size_t limit_origin;
    size_t running;
    void (*wake_others)(void *arg, uint64_t loops);
    void *arg;
};

struct sched_identity {
    struct table_node in_table;
    struct list node;     /* on sched.runnable */
    struct list runnable; /* batches */
    size_t batches;
    char name[];
};

struct sched_batch {
    struct sched *sched;
    struct sched_identity *identity;
    struct list node;     /* on identity.runnable */
    struct list runnable; /* lanes */
    struct list promised; /* lanes */
    struct list lends;    /* on sched.lenders */
    struct slots_taker slots;
    size_t limit_per_origin;
    size_t waiting, active;
    bool paused;
    bool starved; /* refused one of its slots, and not told of one since */
    struct sched_lane *recent[SCHED_RECENT]; /* in pairs, where its mix puts it */
};

struct sched_origin {
    struct table_node in_table;
    struct list blocked; /* queues that have lanes */
    size_t active, promised, waiting;
    size_t queues; /* of any identity; it lives while there is one */
    size_t len;
    char name[];
};

struct sched_queue {
    struct table_node in_table;
    struct sched_identity *identity;
    struct sched_origin *origin;
    struct list node;  /* on origin.blocked */
    struct list lanes; /* blocked */
    size_t refs;       /* lanes, wherever they are */
};

enum lane_state { LANE_EMPTY, LANE_RUNNABLE, LANE_PARKED, LANE_BLOCKED };

struct sched_lane {
    struct table_node in_table;
    struct sched_batch *batch;
    struct sched_queue *queue;
    struct list entries;
    struct list node;     /* on batch.runnable or queue.lanes */
    struct list promised; /* on batch.promised */
    enum lane_state state;
    uint64_t mix; /* of its origin's name: says where in batch.recent it may be */
    size_t active;
};

/* False when memory runs out. fini: works after a failed init. */
bool sched_tables_init(struct sched *s) __attribute__((warn_unused_result));
void sched_tables_fini(struct sched *s);

/* Finds or makes; NULL when memory runs out. put: one batch fewer, the last frees it. */
struct sched_identity *sched_identity_get(struct sched *s, const char *name);
void sched_identity_put(struct sched *s, struct sched_identity *identity);

/* Finds or makes the batch's lane for the origin; NULL when memory runs out. drop: frees it, which
 * is empty, and what only it kept alive. */
struct sched_lane *sched_lane_get(struct sched_batch *b, const char *origin);
void sched_lane_drop(struct sched_lane *lane);

#endif

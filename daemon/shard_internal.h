/* SPDX-License-Identifier: MIT
 *
 * shard_internal - what the two halves of shard share: shard.c is the front's thread, shard_lane.c
 * one fetch loop: its engine, its mail, its thread. Private to them.
 */
#ifndef GATHERD_SHARD_INTERNAL_H
#define GATHERD_SHARD_INTERNAL_H

#include <pthread.h>

#include "bell.h"
#include "lag.h"
#include "shard.h"
#include "turn.h"

struct lane;

struct call {
    void (*fn)(struct lane *lane, void *arg);
    void *arg;
    bool done;
};

struct lane {
    struct shard *shard;
    unsigned index;
    struct fetch *engine;
    struct list outgoing; /* front's thread: jobs to be sent */
    struct list arrived;  /* lane's thread: jobs to be submitted */
    struct list done;     /* lane's thread: jobs to be handed back */

    pthread_mutex_t lock;
    pthread_cond_t called;
    struct list jobs;       /* under lock: for this lane */
    struct list groups;     /* under lock: parts with a cancel or a pause */
    bool signalled;         /* under lock: it will look at both again from the start */
    struct call *call;      /* under lock */
    struct lag lag;         /* under lock */
    atomic_bool slots_came; /* fetch_wake() is wanted */
    atomic_bool starved;    /* fetch_make_room() is */
    atomic_bool asked;      /* whether it still turns; its next turn says so */
    int64_t asked_us;       /* front's thread: when that was */

    /* of a lane with a thread */
    uv_loop_t loop;
    struct bell bell;
    struct turn turn;
    struct metrics metrics;
    uv_thread_t thread;
    bool running;
    bool engine_closed, ending; /* lane's thread: with both its loop runs out */
};

struct shard_pool {
    struct shard *shard;
    int id;
    const struct policy *policy;
    bool renew, ok; /* what a call to the engines asks and answers */
};

struct shard {
    struct shard_params params;
    struct slots *slots; /* the daemon's */
    struct resolve_cache *names;
    atomic_llong answer_held;
    unsigned lane_count;
    bool threads;
    struct lane *lanes;
    struct shard_pool pools[CONFIG_NAMED_MAX];
    int pool_count;
    struct bell bell; /* of the front: mail came, or a lane ended */
    pthread_mutex_t lock;
    struct list finished;                         /* under lock: jobs that lanes are done with */
    struct list arrived;                          /* front's thread: those taken from there */
    atomic_bool rested;                           /* a lane has closed the last of what was idle */
    atomic_uint ended;                            /* lanes that have ended */
    size_t outstanding;                           /* jobs submitted, not yet done */
    int64_t done_count, rate_done, rate_since_us; /* throughput, for Retry-After */
    double rate;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- shard_lane.c: for the front's thread, but for lane_act() --- */

/* lane_start() makes loop, engine and thread; false with *why, and nothing is left of them. fini:
 * the thread has ended, or never was. */
void lane_init(struct lane *lane, struct shard *s, unsigned index);
bool lane_start(struct lane *lane, const char **why);
void lane_fini(struct lane *lane);

/* The engine alone, on the front's loop (loops = 0). */
bool lane_create_engine(struct lane *lane, uv_loop_t *loop, struct metrics *metrics,
                        const char **why);

/* Whose engine an origin is; NULL is anybody's. Any thread. */
struct lane *lane_of(struct shard *s, const struct origin *origin);

/* Mail: a list of jobs (emptied; from any lane, too), or a cancel (ERR_NONE = none) and whether it
 * is paused for the lane's part of a group. */
void lane_send_jobs(struct lane *lane, struct list *jobs);
void lane_send_flags(struct lane *lane, struct fetch_group *group, enum err_type cancel,
                     bool paused);

/* How long ago the lane was asked whether it turns and has not said so, 0 = it has. If so, asks
 * again. */
int64_t lane_ask(struct lane *lane, int64_t now_us);

/* Runs fn on the lane's thread and waits for it. */
void lane_call(struct lane *lane, void (*fn)(struct lane *lane, void *arg), void *arg);

/* One round of the lane's turn; arg is the lane. On its thread; the front's with loops = 0. */
bool lane_act(void *arg);

/* For lane_call(), in this order, the second when all lanes had the first: closes the engine; lets
 * the loop run out. shard->ended counts the lanes that are through. */
void lane_begin_close(struct lane *lane, void *arg);
void lane_end(struct lane *lane, void *arg);

#endif

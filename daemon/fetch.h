/* SPDX-License-Identifier: MIT
 *
 * fetch - the engine of one loop: jobs in, results out. It owns the queue (sched), the names
 * (resolve), and for each policy (pool) its libcurl multis; redirects are followed here, hop by
 * hop, each hop through the same policy and the same queue.
 *
 * Asynchronous in both directions: what is submitted or cancelled goes on lists, and `done` is
 * called from fetch_turn(), never from inside another call. Nothing above this header knows
 * libcurl. Several engines share the slots of the daemon and of each batch, the names, and the
 * bytes held for answers; all else is an engine's own, and belongs to its thread. shard.h stands
 * before them.
 *
 * A job belongs to one engine at a time, from fetch_submit() to `done` or until it leaves for
 * another.
 */
#ifndef GATHERD_FETCH_H
#define GATHERD_FETCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "arena.h"
#include "config.h"
#include "heap.h"
#include "list.h"
#include "metrics.h"
#include "policy.h"
#include "resolve_cache.h"
#include "result.h"
#include "sched.h"
#include "slots.h"
#include "spec.h"
#include "target.h"

struct fetch;
struct transfer;

enum fetch_state {
    FETCH_IDLE,   /* no engine's: the caller's, or on its way */
    FETCH_QUEUED, /* waits for slots */
    FETCH_ACTIVE, /* holds slots; looks up its name or is in libcurl */
    FETCH_ENDED   /* its result is final; waits for `done` */
};

#define FETCH_TYPES_KEPT 4

/* What waits for an engine to be told of a group; whoever stands before the engines (shard) keeps
 * it under a lock of its own. */
struct fetch_mail {
    struct list node;
    struct fetch_group *group;
    enum err_type cancel; /* ERR_NONE = no */
    bool paused;
};

/* What one engine knows of a group; but for mail the engine's alone. */
struct fetch_part {
    struct sched_batch *sched; /* NULL while the engine has no job of it */
    struct list jobs;          /* QUEUED and ACTIVE ones here */
    struct list cancelling;    /* on the engine's list while jobs are being cancelled */
    struct heap_node cut;      /* on the engine's heap while it has jobs of it */
    struct fetch_group *group;
    enum err_type cancelled;   /* ERR_NONE, or why every job that is here or comes is cancelled */
    bool paused;
    struct arena memory;       /* strings of results; goes with the group */
    atomic_llong *text_held;   /* limits.answer_bytes' count, once long texts are charged to it */
    long long text_bytes;      /* of this part; below 0 when another part's text was freed */
    struct {
        const char *text;
        size_t len;
    } types[FETCH_TYPES_KEPT]; /* content types met, so that equal ones are one string */
    unsigned type_count;
    struct fetch_mail mail;
};

/* A batch as the engines see it. Read-only for them but for slots and refs, which are atomic, and
 * parts[i], which is engine i's. */
struct fetch_group {
    struct slots *slots;     /* members of it that may run at once; owned */
    const char *identity;    /* whom the scheduler is fair to */
    const char *traceparent; /* passed on with a span id of each hop's own; NULL = none */
    int limit_per_host;
    int pool;                /* of fetch_pool_open() */
    unsigned include;        /* enum include bits */
    int64_t queued_us;       /* where the first queue phase of each job starts */
    int64_t cut_us;          /* when the rest is cancelled (deadline_exceeded); at first never */
    bool stop_on_error;      /* the first result that is not ok sets `stopped` */
    atomic_bool stopped;     /* starts nothing any more, in no engine; the owner cancels the rest */
    void *owner;             /* the caller's */
    atomic_uint refs;        /* the caller, each part that has a sched, and mail on its way */
    unsigned engines;
    struct fetch_part parts[];
};

/* A group for that many engines, with one reference; the rest of it is filled by the caller, its
 * strings stay the caller's. NULL when memory runs out. The last fetch_group_unref() frees it; any
 * thread. */
struct fetch_group *fetch_group_create(unsigned engines, int limit);
void fetch_group_ref(struct fetch_group *group);
void fetch_group_unref(struct fetch_group *group);

struct fetch_job {
    /* set by the caller, borrowed until done */
    const struct member *member;
    struct fetch_group *group;

    /* final once it is done; its strings live as long as the group and the member, what it owns
     * beside them the caller frees */
    struct result result;

    /* the engine's */
    struct list node;
    enum fetch_state state;
    bool without_body, left_origin; /* after a redirect */
    bool fresh;                     /* the next hop takes no open connection */
    enum policy_from from;          /* what its hops so far were sent to */
    struct sched_entry entry;
    struct heap_node deadline;
    struct target *next;        /* of the next hop, after a redirect; NULL = the member's own */
    struct transfer *transfer;
    const char *method;         /* of the next hop */
    int64_t waiting_since_us;
    int64_t starved_since_us;   /* when this hop first had no descriptor; 0 = it had one */
    int64_t dispatched_us;      /* the running hop */
    int64_t work_us;            /* of the finished hops */
};

struct fetch_params {
    uv_loop_t *loop;
    unsigned index, engines;            /* which of the engines that share slots: its taker */
    const struct config_fetch *config;  /* borrowed until the next reload or closed */
    const struct config_limits *limits; /* the same */
    struct metrics *metrics;            /* borrowed until closed; of this loop */
    struct slots *slots;                /* the daemon's; shared */
    struct resolve_cache *names;        /* shared */
    atomic_llong *answer_held;          /* bytes held for answers, see limits.answer_bytes; shared;
                                         * until the last group is gone */

    void *arg;
    void (*wake)(void *arg); /* fetch_turn() has work; called from callbacks of the loop */
    void (*done)(void *arg, struct fetch_job *job); /* the job is the caller's again */
    /* The next hop goes to this origin: takes the job (state IDLE, for fetch_submit() of another
     * engine) and returns true, or false: it stays here. */
    bool (*moves)(void *arg, struct fetch_job *job, const struct origin *origin);
    void (*rested)(void *arg); /* the last idle connection is closed, and what was kept is freed */
    void (*starved)(void *arg); /* no descriptor for a connection: fetch_make_room(), everywhere */
    void (*wake_others)(void *arg, uint64_t engines); /* slots came free that these wait for */
};

/* NULL with *why (static text) when something refuses. */
struct fetch *fetch_create(const struct fetch_params *params, const char **why);

/* No job may be here. `closed` is called by the loop when all handles are closed and the memory is
 * free. */
void fetch_close(struct fetch *f, void (*closed)(void *arg), void *arg);

/* Opens pool number `id`, at most CONFIG_NAMED_MAX of them, in order from 0: connections and TLS
 * sessions that belong to one policy (borrowed until another is set or closed). False when memory
 * runs out. */
bool fetch_pool_open(struct fetch *f, int id, const struct policy *policy)
    __attribute__((warn_unused_result));

/* Another policy for the pool, from the next check on, which kept-alive connections meet as well.
 * The old one may be freed when this returns. renew: its rules are others, so no connection that
 * was made under the old ones is used again; what runs on one goes on, and the connection is closed
 * with it. A policy that is removed has none, nor what they are made with, until another is set. */
void fetch_pool_set_policy(struct fetch *f, int id, const struct policy *policy, bool renew);

/* A reload: from now on these are asked; running transfers go on. The limit of an origin changes at
 * once, lookups and dns_servers only with a restart. The old ones may be freed when this
 * returns. */
void fetch_reload(struct fetch *f, const struct config_fetch *config,
                  const struct config_limits *limits);

/* Takes a job: a new one with its first part filled and the rest zeroed, or one that moved here. A
 * bad URL or a denial shows as a result, in a later turn, like everything else. */
void fetch_submit(struct fetch *f, struct fetch_job *job);

/* Makes every job of the group that is here, and that will come, final as cancelled, with this
 * error type and phase, bytes and times so far: some thousand a turn. What their transfers hold is
 * released in slices after that. */
void fetch_cancel(struct fetch *f, struct fetch_group *group, enum err_type why);

/* Starts nothing of the group here while paused; what runs goes on. */
void fetch_pause(struct fetch *f, struct fetch_group *group, bool paused);

/* Slots came free that this engine waited for. */
void fetch_wake(struct fetch *f);

/* Descriptors have run out: what is idle here is closed, and for a while each start first closes
 * what has become so. */
void fetch_make_room(struct fetch *f);

/* The engine's part of a turn's end: names, finished transfers, deadlines, cancels, closings,
 * `done` calls, launches; bounded. Returns true while work is left that should not wait for an
 * event. */
bool fetch_turn(struct fetch *f);

/* Gauges and counters that are kept elsewhere, into the engine's metrics. */
void fetch_gauge(struct fetch *f);

/* Frees what a result owns, its bodies, headers and hops; the bytes they held are given back to
 * *held. Any thread. */
void fetch_content_free(struct result *r, atomic_llong *held);

#endif

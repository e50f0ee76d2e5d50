/* SPDX-License-Identifier: MIT
 *
 * fetch_internal - what the parts of the engine share: fetch.c has the jobs' states, the queue,
 * deadlines and the turn; fetch_group.c what the jobs of a batch have in common; fetch_text.c the
 * texts that are kept; fetch_pool.c the pools of transfers; fetch_hop.c one hop, from its slots to
 * its end. Private to them.
 */
#ifndef GATHERD_FETCH_INTERNAL_H
#define GATHERD_FETCH_INTERNAL_H

#include "curl_uv.h"
#include "fetch.h"
#include "local.h"
#include "resolve.h"
#include "transfer.h"
#include "upstream.h"

struct fetch_pool {
    struct transfer_env env;
    struct list idle; /* struct transfer */
    struct list retired; /* struct retired: multis that only run what they have */
    size_t idle_count;
    size_t unused; /* the fewest that were idle since the last sweep: nobody missed those */
    bool open;
    bool trust_spoilt; /* a trusted certificate was half read; see tls_trust.h */
    int64_t trust_renewed_us; /* when it was last read again for that; 0 = never */
};

struct fetch {
    struct fetch_params params;
    struct sched *sched;
    struct resolve *resolve;
    struct fetch_pool pools[CONFIG_NAMED_MAX];
    struct list ended;      /* struct fetch_job */
    struct list cancelling; /* struct fetch_part */
    struct list closing;    /* struct transfer: of jobs that were cut, still with their slots */
    struct list named;      /* struct transfer: looked up, but this turn has launched enough */
    struct heap deadlines; /* of jobs */
    struct heap cuts;      /* of groups' parts */
    struct upstreams upstreams;
    struct local local;
    uv_timer_t timer, sweep_timer;
    int64_t timer_at_us; /* TIME_NULL = not armed */
    int launch_spent;    /* of the turn's budget */
    int64_t held_until_us; /* for want of descriptors nothing starts until then; 0 = it may */
    int64_t starved_us;    /* when they were last wanted; 0 = never */
    size_t open_parts; /* parts of the engine not yet closed */
    size_t retired_closing;            /* retired multis that were closed and are not gone */
    void (*retired_closed)(void *arg); /* told of each when the engine is closed, too */
    void (*closed)(void *arg);
    void *closed_arg;
};

#define FETCH_LAUNCH_BUDGET 64 /* of a turn, see fetch_dispatch() */

/* --- fetch.c --- */

/* The mover: from whatever state to ENDED. The result is final; slots, transfer and target are
 * given up. */
void fetch_end_job(struct fetch *f, struct fetch_job *job);

/* Nothing starts for a moment, in which what is idle is closed, or others end. starved: because no
 * descriptor was left. */
void fetch_hold_starts(struct fetch *f, bool starved);
bool fetch_is_held(const struct fetch *f);

/* When the next sweep of idle connections is due, judged anew. */
void fetch_rearm_sweep(struct fetch *f);

/* Whether none was left in the last second. */
bool fetch_is_starved(const struct fetch *f);

/* Joins the queue under the next hop's origin; front: before what the batch has waiting there.
 * False when memory runs out. */
bool fetch_queue_job(struct fetch *f, struct fetch_job *job, bool front)
    __attribute__((warn_unused_result));

/* Hands a job without slots to the engine of its next hop; false when that is this one. */
bool fetch_move_job(struct fetch *f, struct fetch_job *job);

/* Where the job's next hop goes. */
struct target fetch_target(const struct fetch_job *job);

/* Closes the account of a job that waits: what passed since it joined the queue is queue. */
void fetch_account_wait(struct fetch_job *job, int64_t now_us);
/* message: static or kept; NULL = the type's own */
void fetch_fail_waiting(struct fetch *f, struct fetch_job *job, enum err_type type,
                        const char *message);

void fetch_set_error(struct result *r, enum err_type type, enum phase phase);
void fetch_set_denial(struct fetch *f, struct fetch_job *job, const struct verdict *v,
                      enum phase phase);

/* --- fetch_group.c --- */

/* What this engine has of the group. */
struct fetch_part *fetch_part_of(const struct fetch *f, struct fetch_group *group);

/* Gives it a place in the queue, if it has none; false when memory runs out. */
bool fetch_join_part(struct fetch *f, struct fetch_group *group)
    __attribute__((warn_unused_result));

/* Takes it away if nothing of the group is here any more, transfers that are being closed included.
 * The group may be gone then. */
void fetch_leave_part(struct fetch *f, struct fetch_group *group);

/* --- fetch_text.c --- */

/* Copies of a text that live as long as the job's group; NULL for NULL, "" or want of memory. type:
 * a content type, of which equal ones share a copy; a long one is NULL, too, when it does not fit
 * into limits.answer_bytes. */
const char *fetch_keep_text(struct fetch *f, struct fetch_job *job, const char *text);
const char *fetch_keep_type(struct fetch *f, struct fetch_job *job, const char *text);

/* Charges bytes to limits.answer_bytes, for the caller to give back; false when they do not fit. */
bool fetch_hold(struct fetch *f, size_t n) __attribute__((warn_unused_result));

/* Charges a text of an upstream to limits.answer_bytes, as long as the job's group lives or until
 * it is let go; short ones cost nothing. False when it does not fit. */
bool fetch_hold_text(struct fetch *f, struct fetch_job *job, size_t len)
    __attribute__((warn_unused_result));
void fetch_let_text_go(struct fetch *f, struct fetch_job *job, size_t len);

/* --- fetch_pool.c --- */

/* An idle transfer of the pool, or a new one; NULL when memory runs out. Back with whatever it
 * holds. */
struct transfer *fetch_take_transfer(struct fetch_pool *p);
void fetch_give_back_transfer(struct fetch_pool *p, struct transfer *t);
struct fetch_pool *fetch_pool_of(struct fetch *f, const struct fetch_job *job);

/* Whether the kind, which the policy allows, has its multi: one for which a reload found no memory
 * is made now. */
bool fetch_has_multi(struct fetch *f, struct fetch_pool *p, int kind)
    __attribute__((warn_unused_result));

/* Runs every multi of every pool; true while one has something left to do now. */
bool fetch_run_pools(struct fetch *f);
void fetch_reload_pools(struct fetch *f);

/* Closes connections that were idle too long and frees transfers that nobody used since the last
 * sweep; true while there is more to be swept. */
bool fetch_sweep_pools(struct fetch *f);

/* Whether connections of before a reload are still open, beside transfers of then. */
bool fetch_has_retired(const struct fetch *f);

/* Closes all; closed is called with the engine once for each multi, also for those that were being
 * closed already. Returns how many there are. */
size_t fetch_close_pools(struct fetch *f, void (*closed)(void *arg));

/* --- fetch_hop.c --- */

/* A job got its slots: its clock starts. Returns what the launch costs of a turn's budget. */
int fetch_dispatch(struct fetch *f, struct fetch_job *job);

/* Launches a job whose name was looked up in an earlier turn. Returns what it costs. */
int fetch_launch_named(struct fetch *f, struct fetch_job *job);

/* An active job that is not launched waits in the queue again. */
void fetch_put_back(struct fetch *f, struct fetch_job *job);

/* For curl_uv_turn(): the hop's end, the next hop or the job's end. arg is the engine. */
void fetch_transfer_done(void *arg, CURL *easy, CURLcode code);

/* Takes the running hop's time and sizes into the result; returns the phase it is in. Once a
 * hop. */
enum phase fetch_account_hop(struct fetch *f, struct fetch_job *job, int64_t now_us);
void fetch_finish_failed(struct fetch *f, struct fetch_job *job, enum err_type type,
                         enum phase phase, const char *message); /* as in fetch_fail_waiting() */

/* The next or running hop as the policy is asked for it; borrows from the job's target. */
struct policy_hop fetch_policy_hop(const struct fetch_job *job);

/* When timeout_ms and connect_timeout_ms of the running hop pass; the earlier that applies is put
 * on the engine's heap (false: no memory). */
int64_t fetch_timeout_at(const struct fetch_job *job);
int64_t fetch_connect_timeout_at(const struct fetch_job *job);
bool fetch_set_deadline(struct fetch *f, struct fetch_job *job);

#endif

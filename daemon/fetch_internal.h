/* SPDX-License-Identifier: MIT
 *
 * fetch_internal - what the two halves of the engine share: fetch.c has the jobs' states, the queue,
 * deadlines and the turn; fetch_hop.c has one hop, from its slots to its end. Private to them.
 */
#ifndef GATHERD_FETCH_INTERNAL_H
#define GATHERD_FETCH_INTERNAL_H

#include "curl_uv.h"
#include "fetch.h"
#include "resolve.h"
#include "transfer.h"
#include "url.h"

struct fetch_pool {
    struct list node;
    struct fetch *engine;
    struct transfer_env env;
    struct list idle; /* struct transfer */
    size_t idle_count;
};

struct fetch {
    struct fetch_params params;
    struct slots *slots; /* limits.in_flight */
    struct sched *sched;
    struct resolve *resolve;
    struct list pools;
    struct list closing, ended; /* struct fetch_job */
    struct heap deadlines;
    uv_timer_t timer, sweep_timer;
    int64_t timer_at_us; /* TIME_NULL = not armed */
    int64_t answer_held;
    size_t urls_kept;
    int64_t finished, rate_finished, rate_since_us; /* throughput, for Retry-After */
    double rate;
    size_t open_parts; /* parts of the engine not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- fetch.c --- */

/* An idle transfer of the pool, or a new one; NULL when memory runs out. Back with whatever it holds. */
struct transfer *fetch_take_transfer(struct fetch_pool *p);
void fetch_give_back_transfer(struct fetch_pool *p, struct transfer *t);

/* The mover: from whatever state to ENDED. The result is final; slots, transfer and URL are given up. */
void fetch_end_job(struct fetch *f, struct fetch_job *job);

/* Joins the queue under the URL's origin; takes the parsed URL while there is room for it. front: before
 * what the batch has waiting there. False when memory runs out. */
bool fetch_queue_job(struct fetch *f, struct fetch_job *job, struct url *url, bool front);
void fetch_drop_url(struct fetch *f, struct fetch_job *job);
void fetch_note_url(struct fetch_job *job, const struct url *url); /* url_effective, scheme */

/* Closes the account of a job that waits: what passed since it joined the queue is queue. */
void fetch_account_wait(struct fetch_job *job, int64_t now_us);
void fetch_fail_waiting(struct fetch *f, struct fetch_job *job, enum err_type type,
                        const char *message);

void fetch_set_error(struct result *r, enum err_type type, enum phase phase);
void fetch_set_message(struct result *r, const char *text); /* copied; NULL or "" = the type's own */
void fetch_set_denial(struct result *r, const struct verdict *v, enum phase phase);

/* --- fetch_hop.c --- */

/* A job got its slots: its clock starts. Returns what the launch costs of a turn's budget. */
int fetch_dispatch(struct fetch *f, struct fetch_job *job);

/* For curl_uv_turn(): the hop's end, the next hop or the job's end. arg is the engine. */
void fetch_transfer_done(void *arg, CURL *easy, CURLcode code);

/* Takes the running hop's time and sizes into the result; returns the phase it is in. Once a hop. */
enum phase fetch_account_hop(struct fetch *f, struct fetch_job *job, int64_t now_us);
void fetch_finish_failed(struct fetch *f, struct fetch_job *job, enum err_type type,
                         enum phase phase, const char *message);

/* When timeout_ms and connect_timeout_ms of the running hop pass; the earlier that applies is put on the
 * engine's heap (false: no memory). */
int64_t fetch_timeout_at(const struct fetch_job *job);
int64_t fetch_connect_timeout_at(const struct fetch_job *job);
bool fetch_set_deadline(struct fetch *f, struct fetch_job *job);

#endif

/* SPDX-License-Identifier: MIT
 *
 * http_routes_internal - what the parts of the routes share: http_routes.c has the table, the
 * front's calls, the small routes and the life of it all; http_routes_batch.c has POST /v1/batch;
 * http_routes_read.c makes a spec of its body. Private to them.
 */
#ifndef GATHERD_HTTP_ROUTES_INTERNAL_H
#define GATHERD_HTTP_ROUTES_INTERNAL_H

#include "aside.h"
#include "encode.h"
#include "http_routes.h"
#include "list.h"
#include "problem.h"
#include "quota.h"
#include "request.h"

#define REQUEST_ID_MAX 128

struct routes {
    struct routes_params params;
    struct front *front; /* NULL: not yet, or no longer */
    struct quotas *quotas;
    struct list streams; /* calls whose answer is being streamed */
    struct list unread;  /* bodies that wait to be read aside: a queue for each identity */
    uv_timer_t ping_timer;
    struct aside aside;  /* where long bodies are read, one at a time */
    struct reading *reading; /* the one; NULL = none */
    uint64_t read_at_ms; /* uv_now() of the turn in which bodies were read on the loop, */
    int64_t read_us;     /* and how long they took in it */
    size_t open_handles;
    bool draining;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* What an exchange is about. All from `encoder` on is of a batch only. */
struct call {
    struct list node; /* routes->streams, or a queue of ->unread */
    struct routes *routes;
    struct exchange *exchange;
    const struct route *route;
    char request_id[REQUEST_ID_MAX + 1];
    char traceparent[56]; /* "" = none, or none that is well-formed */
    const struct encoder *encoder;
    enum request_type type;
    struct batch *batch;
    struct quota *quota; /* what its identity has of it; NULL = none, or given back */
    size_t quota_members;
    struct encode_at at; /* the member that is being written */
    uint32_t *ready; /* streaming: the members that have ended, in that order */
    size_t ready_count, ready_taken;
    size_t unread_bytes; /* of those not yet written, about */
    bool paused, ping;
    bool ended; /* the batch has */
    int64_t last_write_us;
    enum fail_mode fail;
};

/* --- http_routes.c --- */

/* The call is answered. Takes what the answer holds. */
void routes_answer(struct call *c, struct answer *a);
void routes_answer_problem(struct call *c, const struct problem *p);

/* Members that wait: for their loop, for a slot, or for their batch to hand them over. */
size_t routes_members_queued(const struct routes *r);

/* --- http_routes_batch.c --- */

/* The route's two steps: before the body (a problem is answered at once), and when it is in. */
void routes_batch_on_head(struct call *c);
void routes_batch_on_request(struct call *c);

/* The body is read: a spec, which is taken, or NULL with the problem. Of overhead_ms all since
 * begin_us (clock_us()) is parsing. */
void routes_batch_on_spec(struct call *c, struct batch_spec *spec, struct problem *p,
                          int64_t begin_us);

/* The answer of a call that comes too late: 503. */
void routes_batch_refuse_draining(struct call *c);

/* Gives up the call's batch, if it has one, and what it has of a quota. */
void routes_batch_release(struct call *c);

/* --- http_routes_read.c --- */

/* Reads the body and the query, now or in a while, and calls routes_batch_on_spec(). */
void routes_read(struct call *c);

/* The call ends, or is answered without its body: whatever is being read for it is read for nobody,
 * and stays charged until that has ended. */
void routes_read_leave(struct call *c);

/* The draining begins: the body that is being read, and those that wait for it, are refused. */
void routes_read_drain(struct routes *r);

#endif

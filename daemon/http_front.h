/* SPDX-License-Identifier: MIT
 *
 * http_front - HTTP/1.1 for clients: libmicrohttpd with its epoll descriptor on the uv loop. It
 * accepts, checks heads, keeps deadlines, collects bodies, suspends while an answer is made,
 * notices clients that leave, and sends. What a request means is the handler's business
 * (http_routes).
 *
 * libmicrohttpd's callbacks run only inside front_turn(), by MHD_run(); everything else marks and
 * wakes. One thread.
 */
#ifndef GATHERD_HTTP_FRONT_H
#define GATHERD_HTTP_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "buf.h"
#include "config.h"
#include "http_check.h"
#include "metrics.h"
#include "peers.h"
#include "policy.h"
#include "problem.h"
#include "tokens.h"

struct front;
struct exchange; /* one request and its answer */

#define FRONT_HEADERS_MAX 4

/* How a streamed answer is asked for more. */
enum fill {
    FILL_MORE, /* appended something to out (or nothing: asked again at once is wrong, use WAIT) */
    FILL_WAIT, /* nothing now; front_wake() will come */
    FILL_END   /* appended the last of it, possibly nothing */
};

struct answer {
    int status;
    const char *content_type; /* static */
    struct {
        const char *name; /* static */
        char value[136];
    } headers[FRONT_HEADERS_MAX];
    size_t header_count;
    bool close;       /* end the connection after it */
    struct buf body;  /* taken */
    /* A body made as the client takes it: asked whenever the last piece was handed to the kernel.
     * NULL = body is all. Stops being called at on_finished. Not for HEAD: libmicrohttpd 0.9.75
     * would send the last chunk of a body that is none. */
    enum fill (*fill)(void *arg, struct buf *out);
    void *arg;
};

void answer_header(struct answer *a, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A problem as JSON, with the fields that go with its status; the connection is closed after it. */
struct answer answer_of_problem(const struct problem *p);

struct front_handler {
    void *arg;
    /* The head is in and in order; the body is not read yet. May answer (errors: the connection is
     * closed after it, what follows on it is not trusted). */
    void (*on_head)(void *arg, struct exchange *ex);
    /* The body is in. Must answer, now or later. */
    void (*on_request)(void *arg, struct exchange *ex);
    /* The client left before it was answered: on_finished follows in a later turn. */
    void (*on_gone)(void *arg, struct exchange *ex);
    /* The exchange is over, whatever came of it; its pointers die with the call. Only after
     * on_head. */
    void (*on_finished)(void *arg, struct exchange *ex);
};

struct front_params {
    uv_loop_t *loop;
    const struct config_limits *limits; /* borrowed */
    struct metrics *metrics;            /* borrowed */
    struct front_handler handler;
    void (*wake)(void *arg); /* front_turn() has work */
    void *arg;
};

struct front *front_create(const struct front_params *params);

/* Who may ask at a listener, and what exchange_listener_data() returns there; borrowed. */
struct front_access {
    const struct tokens *tokens; /* NULL = no token is asked for */
    const struct peers *peers;   /* NULL = every user, on a Unix socket */
    void *data;                  /* at a reload NULL: as it was */
};

/* Opens the addresses of one listener; conf is borrowed. Logs `listening address=...` for each.
 * Returns 0, or EX_UNAVAILABLE/EX_OSERR with the reason logged. */
int front_listen(struct front *f, const struct config_listener *conf,
                 const struct front_access *access);

/* A reload: what a listener of that name is told by, from the next request on. The addresses, the
 * mode and limits.clients stay; limits.head_bytes is only ever lowered. The old objects may be
 * freed when this returns. */
void front_reload(struct front *f, const struct config_limits *limits);
void front_reload_listener(struct front *f, const struct config_listener *conf,
                           const struct front_access *access);

/* The limits.head_bytes that is in force: the least of all since the start. */
int64_t front_head_bytes(const struct front *f);

/* From how far away the open addresses of a listener of that name can be reached: what was bound at
 * the start, whatever the configuration of now says. */
enum front_reach {
    REACH_NONE, /* none is open */
    REACH_UNIX,
    REACH_MACHINE, /* loopback addresses */
    REACH_NETWORK
};
enum front_reach front_reach(const struct front *f, const char *name);

/* The name of an address that is open for the listener of conf's name, and that `bind` of conf does
 * not name; NULL = there is none. */
const char *front_left_open(const struct front *f, const struct config_listener *conf);

/* How many addresses are open, of all listeners. */
size_t front_addresses(const struct front *f);

/* Where it listens, for policies: fills at most max, returns how many. */
size_t front_endpoints(const struct front *f, struct policy_endpoint *out, size_t max);

/* The front's part of a turn's end; true while work is left. */
bool front_turn(struct front *f);

/* Ends it: stops listening, drops every connection; `closed` is called by the loop when the memory
 * is free. on_finished is called for all that was open. */
void front_close(struct front *f, void (*closed)(void *arg), void *arg);

/* Answers from now on end their connection (drain). */
void front_drain(struct front *f);

size_t front_clients(const struct front *f);
size_t front_exchanges(const struct front *f); /* requests in work */
size_t front_request_bytes(const struct front *f); /* bodies of requests in work, bytes */
void front_uncharge(struct front *f, size_t bytes); /* of exchange_leave_charge() */

/* An engine has freed what it kept for later: memory is given back in a moment, when no request is
 * in work. */
void front_engines_rest(struct front *f);

/* --- an exchange, for the handler --- */

/* Takes a->body; one that failed for want of memory is a 500 instead. Once per exchange; from
 * on_head, on_request or later. */
void front_answer(struct exchange *ex, struct answer *a);

/* The streamed answer has more. */
void front_wake(struct exchange *ex);

const struct http_head *exchange_head(const struct exchange *ex); /* during on_head, on_request */
const char *exchange_path(const struct exchange *ex);  /* raw, without query */
const char *exchange_query(const struct exchange *ex); /* raw, after '?', or "" */
const char *exchange_body(const struct exchange *ex, size_t *n);
/* TOKEN, uid:N, ip:ADDRESS or ip:loopback */
const char *exchange_identity(const struct exchange *ex);
void *exchange_listener_data(const struct exchange *ex);
/* Whether who asks may do so by the rules of now: those that the head was judged by may have gone
 * in a reload since. False with *p. exchange_identity() stays what it was. */
bool exchange_may_still_ask(struct exchange *ex, struct problem *p);
void exchange_drop_body(struct exchange *ex); /* frees it early */

/* The body is the caller's from now on; it counts as held until the exchange is over. */
void exchange_take_body(struct exchange *ex, struct buf *body);

/* During on_finished, or before an answer, for a body that was taken and lives on: so many bytes
 * stay counted, until the caller says front_uncharge(). */
size_t exchange_leave_charge(struct exchange *ex);

void exchange_set_data(struct exchange *ex, void *data);
void *exchange_data(const struct exchange *ex);

#endif

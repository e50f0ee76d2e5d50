/* SPDX-License-Identifier: MIT
 *
 * http_internal - what the parts of the front share: http_front.c has sockets, timers and the turn;
 * http_clients.c the connections and their deadlines; http_exchange.c one request, from its first
 * line to the end of its answer. Private to them.
 */
#ifndef GATHERD_HTTP_INTERNAL_H
#define GATHERD_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "heap.h"
#include "http_front.h"
#include "http_listen.h"
#include "list.h"
#include "memory.h"

struct server { /* one listening socket */
    struct front *front;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    struct http_socket socket;
    const struct config_listener *conf;
    const struct tokens *tokens;
    const struct peers *peers;
    unsigned rules;    /* how often conf, tokens, peers and data were set: each reload does */
    size_t pool_bytes; /* what libmicrohttpd has for each connection */
    void *data;
    char listener[64]; /* its name; the configuration it stands in may be replaced */
    bool open;
    unsigned idle_runs; /* in a row that asked for another one at once, and moved nothing */
    unsigned spin;      /* a number for the runs in a row that asked for another one at once */
    int64_t idle_looks_from_us; /* not before */
    bool busy_waits; /* libmicrohttpd has no connection and no descriptor for one */
};

struct client { /* one connection */
    struct front *front;
    struct server *server;
    struct list node;
    int64_t deadline_us;    /* INT64_MAX = none */
    int64_t waits_since_us; /* when it was set */
    struct heap_node wake;  /* in front->deadlines, with a key of at most deadline_us */
    struct MHD_Connection *connection;
    int64_t taken_bytes; /* of its answer, when last looked at since then; NOT_SEEN = not yet */
    int fd;
    char address[48]; /* IP_TEXT_MAX, or uid:N */
    uid_t uid;        /* of the process at the other end of a Unix socket; -1 = not known */
    size_t requests; /* begun on it */
    struct exchange *exchange; /* the request being worked on */
};

struct watch { /* of a suspended exchange's client */
    uv_poll_t poll;
    struct exchange *exchange; /* NULL = the exchange has gone on without it */
    struct front *front;
    int fd;
};

struct exchange {
    struct list node;    /* front->suspended, ->watched, ->resuming, ->parked or none */
    struct front *front;
    struct client *client;
    struct MHD_Connection *connection;
    char *target; /* raw */
    char *query;  /* in target */
    struct http_head head;
    struct buf body;
    int64_t body_bytes; /* as announced; -1 = chunked, or none */
    bool chunked;
    unsigned idle_looks, parkings; /* since something of the body came; see http_clients.c */
    unsigned looked_in_spin;       /* server->spin of the last look */
    int64_t read_bytes;            /* of http_socket_read() at the last look */
    bool had_unread;               /* and whether it found something */
    size_t charged; /* of the body, to front->request_bytes */
    char identity[72]; /* a token's name has 64 bytes at most, an address fewer */
    unsigned rules;    /* server->rules that its head was judged by */
    int body_refused; /* 413 or 503: the body is not kept; what is left of it is swallowed */
    bool head_seen, told_handler, asked_handler, answered, queued, gone;
    bool cramped; /* its head leaves no room for an answer's, which is sent past libmicrohttpd */
    bool suspended, lingers; /* while it waits for its answer, or for more of it */
    bool parked; /* suspended in libmicrohttpd in the midst of its body */
    int64_t waits_since_us;
    struct watch *watch;
    struct answer answer;
    size_t unread_from; /* of answer.body, when streaming */
    bool stream_ended;
    void *data;
};

struct front {
    struct front_params params;
    struct server servers[CONFIG_ADDRESSES_MAX];
    size_t server_count;
    struct list clients;
    struct list suspended; /* exchanges without a watch, in order of time */
    struct list watched;   /* and with one */
    struct list resuming;
    struct list parked;
    size_t client_count, exchange_count, lingering;
    int64_t head_bytes; /* limits.head_bytes: of the start, or lower since */
    size_t request_bytes; /* bodies of exchanges; a batch keeps about as much until they end */
    size_t suspended_count; /* as libmicrohttpd has it: resuming and parked ones are in it */
    int64_t resumes_from_us;  /* none before */
    struct heap deadlines;
    int64_t now_us;   /* the clock of this turn, for everything that MHD_run() calls */
    int64_t armed_us; /* what deadline_timer was started for */
    uv_timer_t deadline_timer, watch_timer, idle_timer, resume_timer;
    struct memory memory;
    bool engines_rest; /* since memory was last given back */
    bool dirty, draining;
    bool moved; /* by this MHD_run(): something that another one may carry on */
    size_t open_handles; /* uv handles not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- http_front.c --- */

void front_wake_loop(struct front *f);     /* MHD_run() is wanted in this turn's end */
void front_handle_closed(struct front *f); /* a uv handle counted in open_handles is gone */
void front_freed(struct front *f); /* memory became free: in a while, when idle, it is given back */

/* --- http_clients.c --- */

/* libmicrohttpd took a connection, or is done with one: *context is what client_of() returns. */
void client_open(struct server *s, struct MHD_Connection *connection, void **context);
void client_close(struct server *s, struct client *c); /* NULL: nothing */
struct client *client_of(struct MHD_Connection *connection); /* NULL: it was not accounted for */

/* The connection is shut down when after_us have passed and nobody set another deadline or cleared
 * it. */
void client_set_deadline(struct client *c, int64_t after_us);
void client_clear_deadline(struct client *c);

/* Wakes the clients whose time has come. True while more are due than one turn does. */
bool clients_run_deadlines(struct front *f);

/* To be called after each run of libmicrohttpd that asks for another one at once: clients of whose
 * chunked body it has read nothing for 40 ms of that are cut, when more is there, or else parked
 * until more comes. By a Unix socket, where what is read is not told from what comes, they are
 * parked for 100 ms instead of cut, and for longer each time, up to 1.6 s. */
void clients_look_at_idle(struct server *s);

/* All are tried again; needs a run of libmicrohttpd, or its end, to take effect. */
void clients_unpark(struct front *f);

/* --- http_exchange_head.c --- */

/* Fills ex->head; fields: room for HTTP_FIELDS_MAX + 1, used as long as ex->head is. */
void exchange_collect_head(struct exchange *ex, struct http_field *fields, const char *method,
                           const char *version);

/* Whether a request with this head is taken, before its body is read; sets who asks, how long its
 * body is, and ex->cramped. False with *p. */
bool exchange_check_head(struct exchange *ex, struct problem *p);

/* Whether n more bytes of bodies may be held, of all clients together; else 503, and a count. */
bool front_has_memory(const struct front *f, size_t n);
void exchange_refuse_memory(const struct exchange *ex, struct problem *p);

/* --- http_exchange.c --- */

/* libmicrohttpd's callbacks for a request; arg is the struct server. */
void *exchange_on_request_line(void *arg, const char *target, struct MHD_Connection *connection);
enum MHD_Result exchange_on_access(void *arg, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *upload,
                                   size_t *upload_size, void **con_cls);
/* It ends here, whatever became of it; its handler is told, if it knew of it. */
void exchange_finish(struct exchange *ex);
void exchange_on_completed(void *arg, struct MHD_Connection *connection, void **con_cls,
                           enum MHD_RequestTerminationCode why);

/* An answer of that status goes out, ours or libmicrohttpd's own. */
void front_count_answer(struct front *f, int status);

/* Its answer, or more of it, is there, or its client has left: a suspended exchange goes on
 * front->resuming, one that lingers is seen to by the next MHD_run(); any other is left alone. */
void exchange_resume(struct exchange *ex);

/* Watches the client of an exchange that is suspended; false: no descriptor, or no memory. A timer
 * of the front begins one for hang-ups, of exchanges suspended for 30 ms. */
bool exchange_start_watch(struct exchange *ex, int events, uv_poll_cb on_event);

/* Ends the watch, if there is one. */
void exchange_stop_watch(struct exchange *ex);

#endif
